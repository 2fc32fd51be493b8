//! Answer by answer against a real Kong 3.9.3. What may differ is listed with its reason, and must still differ.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use weir_sandbox::kong::{Database, Kong, Options};
use weir_tests::recorded::differences::{Allowed, Held};

use super::asking::{Answer, Ask};

/// A difference that the double is allowed: recording, place in the answer, why.
const ALLOWED: &[Allowed] = &[
    (
        "dbless-status",
        "/body/configuration_hash",
        "md5 of the bytes of c9010.json, which are not kept: the test sends a document of the same entities",
    ),
    (
        "dbless-post-304",
        "/headers/content-length",
        "the double's HTTP server writes no length where there can be no body; it says nothing",
    ),
];

/// In the order in which they were asked, with the time that it was then.
const ASKED: &[(&str, i64)] = &[
    ("dbless-post-201", 1_795_439_104_801),
    ("dbless-post-304", 1_795_439_104_900),
    ("dbless-404", 1_795_439_105_000),
    ("dbless-bad-ctype", 1_795_439_105_000),
    ("dbless-bhealth", 1_795_439_105_000),
    ("dbless-delete", 1_795_439_105_000),
    ("dbless-get-config", 1_795_439_105_000),
    ("dbless-health", 1_795_439_105_000),
    ("dbless-patch-target", 1_795_439_105_000),
    ("dbless-post-400-empty", 1_795_439_105_000),
    ("dbless-post-400-flat", 1_795_439_105_000),
    ("dbless-post-400-garbage", 1_795_439_105_000),
    ("dbless-post-400-nested", 1_795_439_105_000),
    ("dbless-post-target", 1_795_439_105_000),
    ("dbless-put-405", 1_795_439_105_000),
    ("dbless-status", 1_795_439_105_000),
    ("dbless-status-ready", 1_795_439_105_000),
    ("dbless-targets", 1_795_439_105_000),
    ("dbless-upstream", 1_795_439_105_000),
    ("pg-up-put", 1_795_439_105_500),
    ("pg-t-post", 1_795_439_105_607),
    ("pg-t-post-409", 1_795_439_105_630),
    ("pg-t-patch", 1_795_439_105_671),
    ("pg-t-patch-400", 1_795_439_105_700),
    ("pg-t-default-port", 1_795_439_105_789),
    ("pg-t-del", 1_795_439_105_800),
    ("pg-t-del-404", 1_795_439_105_810),
    ("pg-up-del", 1_795_439_105_820),
    ("pg-up-del2", 1_795_439_105_830),
    ("pg-size", 1_795_439_105_840),
    ("pg-size-bad", 1_795_439_105_850),
    ("pg-tags-bad", 1_795_439_105_860),
    ("pg-svc-del-inuse", 1_795_439_105_870),
    ("pg-root-405", 1_795_439_106_000),
    ("pg-clustering", 1_795_439_106_000),
    ("pg-status", 1_795_439_106_000),
];

/// What c9010.json held.
fn stand_in() -> Value {
    json!({
        "_format_version": "3.0",
        "services": [{
            "name": "shop", "host": "shop.split", "tags": ["fed"],
            "routes": [{"name": "shop", "paths": ["/shop"], "tags": ["fed"]}],
        }],
        "upstreams": [{
            "name": "shop.split", "slots": 1000, "tags": ["fed"],
            "targets": [
                {"target": "127.0.0.1:19001", "weight": 90, "tags": ["fed"]},
                {"target": "127.0.0.1:19002", "weight": 10, "tags": ["fed"]},
            ],
        }],
    })
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/kong-3.9.3")
}

/// One recording: the question with its port, and the answer.
fn read(name: &str) -> (u16, Ask, Answer) {
    let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    let (question, rest) = text.split_once('\n').unwrap();
    let rest = rest.replace("\r\n", "\n");
    let (head, body) = rest.split_once("\n\n").unwrap();
    let mut answer = Answer::head(head);
    answer.body = body.trim_end_matches('\n').to_owned();
    let (port, ask) = question_of(question);
    (port, ask, answer)
}

fn question_of(line: &str) -> (u16, Ask) {
    let mut ask = Ask::new("GET", "");
    let mut port = 0;
    for part in line.strip_prefix("# curl").unwrap().split(" -") {
        let (flag, value) = part.split_once(' ').unwrap_or((part, ""));
        let url = match flag {
            "H" => {
                let (name, value) = value.split_once(": ").unwrap();
                ask = ask.header(name, value);
                continue;
            }
            "d" => {
                ask.body = Some(value.into());
                continue;
            }
            "F" => {
                let (name, value) = value.split_once('=').unwrap();
                let content = match value.strip_prefix('@') {
                    None => value.as_bytes().to_vec(),
                    Some("bad.json") => std::fs::read(folder().join("bad.json")).unwrap(),
                    Some("../trial/c9010.json") => stand_in().to_string().into_bytes(),
                    Some(other) => panic!("{other} is not kept"),
                };
                ask = ask.form(name, &content);
                continue;
            }
            "X" => {
                let (method, url) = value.split_once(' ').unwrap();
                method.clone_into(&mut ask.method);
                url
            }
            _ => value,
        };
        if let Some((address, path)) = url.split_once('/') {
            port = address.rsplit_once(':').unwrap().1.parse().unwrap();
            ask.path = format!("/{path}");
        }
    }
    (port, ask)
}

/// An answer without what differs from run to run.
fn normal(name: &str, answer: &Answer) -> Value {
    let mut headers = answer.headers.clone();
    for name in ["date", "x-kong-admin-latency"] {
        if let Some(value) = headers.get_mut(name) {
            "<any>".clone_into(value);
        }
    }
    let mut body = match serde_json::from_str::<Value>(&answer.body) {
        Ok(body) => body,
        Err(_) => answer.body.replace("\r\n", "\n").trim_end().into(),
    };
    if name.ends_with("-status") {
        // Its length is that of its numbers.
        headers.remove("content-length");
        status(&mut body);
    }
    if let Some(text) = body["config"].as_str() {
        body["config"] = yaml(text);
    }
    walk(&mut body);
    json!({"status": answer.status, "reason": answer.reason, "headers": headers, "body": body})
}

fn status(body: &mut Value) {
    for value in body["server"].as_object_mut().unwrap().values_mut() {
        *value = "<count>".into();
    }
    for worker in body["memory"]["workers_lua_vms"].as_array_mut().unwrap() {
        worker["pid"] = "<pid>".into();
        worker["http_allocated_gc"] = "<size>".into();
    }
    for memory in body["memory"]["lua_shared_dicts"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        memory["allocated_slabs"] = "<size>".into();
    }
}

/// The YAML of an export: for each entity its lines, each with the keys above it. Keys come in any order.
fn yaml(text: &str) -> Value {
    let mut kinds: Vec<(String, Vec<BTreeSet<String>>)> = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut line = String::new();
    for given in text.lines().chain(["end"]) {
        let element = given.trim_start().starts_with("- ") && !given.starts_with("- ");
        if element {
            line.push_str(given.trim_start());
            continue;
        }
        if let Some(entity) = kinds.last_mut().and_then(|(_, entities)| entities.last_mut()) {
            entity.insert(std::mem::take(&mut line));
        }
        let depth = given.len() - given.trim_start_matches(['-', ' ']).len();
        let bare = &given[depth..];
        if depth == 0 {
            kinds.push((bare.to_owned(), Vec::new()));
            above.clear();
            continue;
        }
        if given.starts_with("- ") {
            kinds.last_mut().unwrap().1.push(BTreeSet::new());
        }
        above.retain(|(outer, _)| *outer < depth);
        let path: Vec<&str> = above.iter().map(|(_, key)| key.as_str()).collect();
        line = format!("{} {bare}", path.join(" "));
        above.push((depth, bare.to_owned()));
    }
    json!(kinds)
}

/// Ids that were drawn by chance.
fn walk(value: &mut Value) {
    match value {
        Value::Object(all) => {
            *all = std::mem::take(all)
                .into_iter()
                .map(|(name, mut value)| {
                    if name == "node_id" {
                        value = "<node>".into();
                    }
                    walk(&mut value);
                    (without_chance(&name), value)
                })
                .collect();
        }
        Value::Array(all) => all.iter_mut().for_each(walk),
        Value::String(text) => *text = without_chance(text),
        _ => {}
    }
}

fn without_chance(text: &str) -> String {
    let mut out = text.to_owned();
    let mut from = 0;
    while let Some(candidate) = out.get(from..from + 36) {
        let dashes = [8, 13, 18, 23].iter().all(|at| candidate.as_bytes()[*at] == b'-');
        if dashes && candidate.as_bytes()[14] == b'4' {
            out.replace_range(from..from + 36, "<id>");
        }
        from += 1;
    }
    out
}

/// The other Kong of the recordings: one with a database and something in it.
async fn with_database(now: &Arc<AtomicI64>) -> Kong {
    let options = Options {
        now: Some(Arc::clone(now)),
        ..Options::default()
    };
    let kong = Kong::on(&Database::new(), options).await.unwrap();
    let put = async |path: &str, body: Value| {
        let answer = Ask::new("PUT", path).json(&body).to(kong.admin()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    now.store(1_795_437_481_000, Ordering::Relaxed);
    put(
        "/upstreams/0464a83c-642c-43f3-b22c-d53f71668111",
        json!({"name": "shop.split", "slots": 3333, "tags": ["fed"]}),
    )
    .await;
    put(
        "/upstreams/f464a83c-642c-43f3-b22c-d53f71668111",
        json!({"name": "other.split"}),
    )
    .await;
    put("/services/shop", json!({"host": "shop.split"})).await;
    put("/services/shop/routes/shop", json!({"paths": ["/shop"]})).await;
    kong
}

#[tokio::test(flavor = "multi_thread")]
async fn the_double_answers_as_kong_was_recorded_to() {
    let names: BTreeSet<&str> = ASKED.iter().map(|(name, _)| *name).collect();
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let recorded: BTreeSet<String> = files
        .filter_map(|file| Some(file.strip_suffix(".txt")?.to_owned()))
        .collect();
    assert_eq!(
        recorded.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        names,
        "each recording is asked, once"
    );

    let now = Arc::new(AtomicI64::new(0));
    let options = Options {
        now: Some(Arc::clone(&now)),
        propagation: std::time::Duration::ZERO,
        ..Options::default()
    };
    let alone = Kong::without_database(options).await.unwrap();
    let based = with_database(&now).await;
    let mut held = Held::by(ALLOWED, |of, name| of == name);
    for (name, time) in ASKED {
        let (port, ask, kong) = read(name);
        let address = match port {
            18001 => alone.admin(),
            18007 => alone.status(),
            18101 => based.admin(),
            other => panic!("{name}: who is {other}?"),
        };
        now.store(*time, Ordering::Relaxed);
        let double = ask.to(address).await;
        held.compare(name, &normal(name, &kong), &normal(name, &double));
    }
    held.differs_as_allowed();
}
