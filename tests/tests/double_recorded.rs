//! The double held against recorded answers of the real thing: `tests/recorded/*.json`, one exchange a file, made by the
//! recorder (`weir-sandbox record`, needs real Kuma). `WEIR_RECORDED` names further directories, separated by `:`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_sandbox::double::rest::{Answer, Request, answer};
use weir_sandbox::double::store::{Kind, Mode, Object, Store};

/// A store with the mesh, and nothing else.
fn fresh(mode: Mode) -> Store {
    let mut store = Store::new(mode);
    store.insert(Object::new(Kind::Mesh, "", "default", Timestamp::UNIX_EPOCH));
    store
}

fn exchanges() -> BTreeMap<String, Value> {
    let mut places = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded")];
    if let Some(more) = std::env::var_os("WEIR_RECORDED") {
        places.extend(std::env::split_paths(&more));
    }
    let files = places
        .iter()
        .filter_map(|p| std::fs::read_dir(p).ok())
        .flatten()
        .flatten();
    files
        .filter(|file| file.path().extension().is_some_and(|e| e == "json"))
        .map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let name = file.path().file_stem().unwrap().to_string_lossy().into_owned();
            (name.clone(), serde_json::from_str(&text).expect(&name))
        })
        .collect()
}

fn bytes(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        other => serde_json::to_vec(other).unwrap(),
    }
}

fn request(recorded: &Value) -> Request {
    let header = |name: &str, default: &str| match recorded["headers"].get(name) {
        Some(Value::Null) => String::new(),
        Some(value) => value.as_str().unwrap().to_owned(),
        None => default.to_owned(),
    };
    Request {
        method: recorded["method"].as_str().unwrap().to_owned(),
        target: recorded["path"].as_str().unwrap().to_owned(),
        host: header("Host", "localhost:5681"),
        content_type: header("Content-Type", "application/json"),
        body: bytes(&recorded["body"]),
    }
}

fn said(answer: Answer) -> (Value, Value) {
    match answer {
        Answer::Json(status, body) => (status.into(), body),
        Answer::Text(status, text) => (status.into(), text.into()),
        Answer::Close => (Value::Null, Value::Null),
    }
}

/// Every PUT of a policy, good or bad, gets the answer that Kuma gave: status and body, word for word.
#[test]
fn every_recorded_put_is_answered_as_kuma_did() {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (name, exchange) in exchanges() {
        let asked = request(&exchange["request"]);
        let policy = asked.target.contains("/meshhttproutes/") || asked.target.contains("/meshtcproutes/");
        let zone = exchange["where"] == "zone-universal";
        // These need what was in the store then; the test below has their stories.
        let needs = [
            "race",
            "synced",
            "store-down",
            "displayname",
            "if-",
            "update",
            "identical",
            "roundtrip",
        ];
        let cut = exchange["request"]["body"].get("_trimmed").is_some()
            || exchange["request"]["body"]
                .as_str()
                .is_some_and(|b| b.starts_with('(') || b.contains("…"));
        if asked.method != "PUT" || !policy || !zone || cut || needs.iter().any(|n| name.contains(n)) {
            continue;
        }
        let mut store = fresh(Mode::Zone("fra".into()));
        if exchange["response"]["status"] == 200 {
            // It existed: make it exist.
            let first = Request { ..asked.clone() };
            answer(&mut store, &first, Timestamp::UNIX_EPOCH);
        }
        let got = said(answer(&mut store, &asked, Timestamp::UNIX_EPOCH));
        let response = &exchange["response"];
        let wanted = (response["status"].clone(), response["body"].clone());
        compared += 1;
        if got != wanted {
            wrong.push(format!(
                "{name}:\n  kuma:   {} {}\n  double: {} {}",
                wanted.0, wanted.1, got.0, got.1
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {compared} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What was put is read back as Kuma reads it back: defaults filled in, unknown fields gone, labels computed.
#[test]
fn every_recorded_policy_is_read_back_as_kuma_did() {
    let all = exchanges();
    let mut compared = 0;
    for (name, exchange) in &all {
        let Some(rest) = name
            .strip_prefix("zone-get-mesh")
            .and_then(|n| n.strip_suffix("-200"))
        else {
            continue;
        };
        let put = all.get(&format!("zone-put-mesh{rest}-201"));
        let put = put.or_else(|| {
            all.get(&format!(
                "zone-put-mesh{}-201",
                rest.replace("-created", "-create")
            ))
        });
        let Some(put) = put else { continue };
        let mut store = fresh(Mode::Zone("fra".into()));
        answer(&mut store, &request(&put["request"]), Timestamp::UNIX_EPOCH);
        let (status, mut got) = said(answer(
            &mut store,
            &request(&exchange["request"]),
            Timestamp::UNIX_EPOCH,
        ));
        let mut wanted = exchange["response"]["body"].clone();
        for document in [&mut got, &mut wanted] {
            document["creationTime"] = Value::Null;
            document["modificationTime"] = Value::Null;
        }
        assert_eq!((status, got), (json!(200), wanted), "{name}");
        compared += 1;
    }
    let recorded = all.keys().any(|n| n.starts_with("zone-put-"));
    assert!(
        compared > 0 || !recorded,
        "recordings of PUTs without any read back"
    );
}
