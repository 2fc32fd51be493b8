//! Lists and overviews, page by page.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Answer, Request, invalid, problem};
use crate::double::store::{Kind, Object, Store, ZONE};
use crate::double::validate::fault;
use crate::double::{ENVOY_VERSION, KUMA_VERSION};

pub(super) fn list(store: &Store, request: &Request, kind: Kind, mesh: Option<&str>, query: &str) -> Answer {
    if request.method != "GET" {
        return Answer::Text(405, "405: Method Not Allowed".into());
    }
    if let Some(mesh) = mesh
        && !store.has_mesh(mesh)
    {
        return problem(404, "Failed to retrieve Mesh", "Not found", &[]);
    }
    let title = "Could not retrieve resources";
    let (mut size, mut offset, mut name) = (100_usize, 0_usize, String::new());
    let mut wanted = Map::new();
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key), decode(value));
        match key.as_str() {
            "size" => {
                let wrong = |reason: &str| problem(400, title, "Invalid page size", &[fault("size", reason)]);
                size = match value.parse() {
                    Err(_) => return wrong("invalid format"),
                    Ok(0) => return wrong("must be greater than 0"),
                    Ok(n) if n > 1000 => {
                        return wrong(&format!("invalid page size of {n}. Maximum page size is 1000"));
                    }
                    Ok(n) => n,
                };
                continue;
            }
            "offset" => {
                let Ok(n) = value.parse() else {
                    let detail =
                        format!("invalid: invalid offset: strconv.Atoi: parsing \"{value}\": invalid syntax");
                    return problem(400, title, &detail, &[]);
                };
                offset = n;
                continue;
            }
            "name" => name.clone_from(&value),
            other => match other.strip_prefix("filter[").and_then(|k| k.strip_suffix(']')) {
                Some(label) if label.starts_with("labels.") => {
                    wanted.insert(label["labels.".len()..].to_owned(), value.clone().into());
                }
                Some(_) => {
                    let field = format!("/meshes/{{mesh}}/{}.{key}", kind.plural());
                    return invalid(title, &[fault(field, "filters are only supported on labels")]);
                }
                None => {}
            },
        }
        kept.push((key, value));
    }
    let found: Vec<&Object> = store
        .all(kind)
        .filter(|o| mesh.is_none_or(|m| o.mesh == m))
        .filter(|o| o.name.contains(&name) && o.has_labels(&wanted))
        .collect();
    let items: Vec<Value> = found
        .iter()
        .skip(offset)
        .take(size)
        .map(|o| o.document())
        .collect();
    let next = (offset + items.len() < found.len() && !items.is_empty()).then(|| {
        kept.push(("offset".into(), (offset + items.len()).to_string()));
        kept.push(("size".into(), size.to_string()));
        kept.sort();
        let pairs: Vec<String> = kept
            .iter()
            .map(|(k, v)| format!("{}={}", encode(k), encode(v)))
            .collect();
        let path = request
            .target
            .split_once('?')
            .map_or(request.target.as_str(), |(p, _)| p);
        format!("http://{}{path}?{}", request.host, pairs.join("&"))
    });
    Answer::Json(200, json!({"total": found.len(), "items": items, "next": next}))
}

/// Takes percent-encoding away.
pub(in crate::double) fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = (byte == b'%').then(|| {
            [bytes.next(), bytes.next()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        });
        match hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(&h).ok()?, 16).ok()) {
            Some(decoded) => out.push(decoded),
            None => out.push(if byte == b'+' { b' ' } else { byte }),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

pub(super) fn overviews(store: &Store, mesh: &str, name: Option<&str>, now: Timestamp) -> Answer {
    if !store.has_mesh(mesh) {
        return problem(404, "Failed to retrieve Mesh", "Not found", &[]);
    }
    let show = |object: &Object| {
        let Value::Object(mut out) = object.document() else {
            return Value::Null;
        };
        out.insert("type".into(), "DataplaneOverview".into());
        let networking = out.remove("networking").unwrap_or_default();
        out.insert("dataplane".into(), json!({"networking": networking}));
        out.insert("dataplaneInsight".into(), insight(object, now));
        Value::Object(out)
    };
    let dataplanes: Vec<&Object> = store.all(Kind::Dataplane).filter(|d| d.mesh == mesh).collect();
    match name {
        None => {
            let items: Vec<Value> = dataplanes.iter().map(|d| show(d)).collect();
            Answer::Json(200, json!({"total": items.len(), "items": items, "next": null}))
        }
        Some(name) => match dataplanes.into_iter().find(|d| d.name == name) {
            Some(found) => Answer::Json(200, show(found)),
            None => problem(404, "Could not retrieve a resource", "Not found", &[]),
        },
    }
}

/// What the control plane knows of a proxy's session; kept by `control_plane` in the object's status.
fn insight(dataplane: &Object, now: Timestamp) -> Value {
    let session = dataplane.status.clone().unwrap_or_default();
    let answered = |key: &str| {
        let count = session[key].as_u64().unwrap_or_default().to_string();
        json!({"responsesSent": count, "responsesAcknowledged": count})
    };
    let mut subscription = json!({
        "id": format!("double-{}", dataplane.name),
        "controlPlaneInstanceId": format!("double-{}", dataplane.label(ZONE).unwrap_or_default()),
        "connectTime": dataplane.created.to_string(),
        "status": {
            "lastUpdateTime": session["lastUpdateTime"].as_str().map_or_else(|| now.to_string(), str::to_owned),
            "total": answered("sent"), "cds": answered("cds"), "eds": {}, "lds": answered("lds"), "rds": {},
        },
        "version": {
            "kumaDp": {"version": KUMA_VERSION, "kumaCpCompatible": true},
            "envoy": {"version": ENVOY_VERSION, "kumaDpCompatible": true},
        },
    });
    if let Some(gone) = session["disconnectTime"].as_str() {
        subscription["disconnectTime"] = gone.into();
    }
    json!({"subscriptions": [subscription]})
}
