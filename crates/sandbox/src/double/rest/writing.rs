//! Writes and removals: who may, what is refused as which fault, and what is kept.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::checks::{labels, meaning, shape, wanted_origin};
use super::{Answer, Request, invalid, problem};
use crate::double::store::{DISPLAY_NAME, Kind, Mode, ORIGIN, Object, Store, ZONE};
use crate::double::validate::{Fault, fault, spec, type_name};

const ELSEWHERE: &str = "On zone control plane you can only modify zone resources with 'kumactl apply' or via the HTTP \
                         API. You can still use 'kumactl' or the HTTP API to modify the rest of the resource on the \
                         global control plane.\n";
const NOT_ON_GLOBAL: &str = "On global control plane you can not modify dataplane resources with 'kumactl apply' or via \
                             the HTTP API. You can still use 'kumactl' or the HTTP API to modify them on the zone \
                             control plane.\n";

/// Who may write objects of this kind here; none if they may be written.
fn not_here(store: &Store, kind: Kind) -> Option<Answer> {
    let refused = |detail: &str| Some(problem(405, "Method not allowed", detail, &[]));
    match (&store.mode, kind) {
        (Mode::Zone(_), Kind::Mesh | Kind::MeshMultiZoneService) => refused(ELSEWHERE),
        // There the API server takes what is written.
        (Mode::Cluster(_), _) => refused(ELSEWHERE),
        (Mode::Global, Kind::Dataplane | Kind::MeshService | Kind::ZoneIngress) => refused(NOT_ON_GLOBAL),
        _ => None,
    }
}

pub(super) fn delete(store: &mut Store, kind: Kind, mesh: &str, name: &str) -> Answer {
    if let Some(refused) = not_here(store, kind) {
        return refused;
    }
    if kind.in_mesh() && !store.has_mesh(mesh) {
        return problem(404, "Failed to retrieve Mesh", "Not found", &[]);
    }
    let title = "Could not delete a resource";
    let Some(object) = store.get(kind, mesh, name) else {
        return problem(404, title, "Not found", &[]);
    };
    let wanted = wanted_origin(store);
    if kind.is_policy() && object.label(ORIGIN).unwrap_or(wanted) != wanted {
        let reason = format!("the origin label must be set to '{wanted}'");
        return invalid(title, &[fault("[\"kuma.io/origin\"]", reason)]);
    }
    store.remove(kind, mesh, name);
    Answer::Json(200, json!({}))
}

pub(super) fn put(
    store: &mut Store,
    request: &Request,
    kind: Kind,
    mesh: &str,
    name: &str,
    now: Timestamp,
) -> Answer {
    if !request.content_type.starts_with("application/json") {
        return Answer::Text(415, "415: Unsupported Media Type".into());
    }
    if let Some(refused) = not_here(store, kind) {
        return refused;
    }
    if kind.in_mesh() && !store.has_mesh(mesh) {
        return problem(404, "Failed to retrieve Mesh", "Not found", &[]);
    }
    let given = match parse(&request.body) {
        Ok(Value::Null) => return Answer::Close,
        Ok(Value::Object(given)) => Value::Object(given),
        Ok(other) => {
            let why = format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                type_name(&other)
            );
            return not_an_object(kind, &why);
        }
        Err(why) => return not_an_object(kind, &why),
    };
    let process = "Could not process a resource";
    let mut faults = Vec::new();
    let mut kept = Map::new();
    let mut warnings = Vec::new();
    if kind.in_mesh() && kind != Kind::Dataplane {
        let checked = match kind {
            Kind::MeshHTTPRoute | Kind::MeshTCPRoute if given["spec"].is_object() => {
                spec(kind, &given["spec"])
            }
            _ => Ok((given["spec"].clone(), Vec::new())),
        };
        match checked {
            Ok((spec, said)) => {
                kept.insert("spec".into(), spec);
                warnings = said;
            }
            Err(more) => faults.extend(more),
        }
    } else {
        let meta = [
            "type",
            "mesh",
            "name",
            "labels",
            "creationTime",
            "modificationTime",
            "kri",
        ];
        let fields = given.as_object().into_iter().flatten();
        kept.extend(
            fields
                .filter(|(k, _)| !meta.contains(&k.as_str()))
                .map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    faults.extend(shape(&given, kind));
    if faults.is_empty() {
        faults = meaning(store, &given, kind, mesh, name);
    }
    if !faults.is_empty() {
        return invalid(process, &faults);
    }
    let labels = labels(&given);
    let before = store.get(kind, mesh, name);
    if let Some(before) = before {
        let frozen = [ORIGIN, ZONE, DISPLAY_NAME];
        let changed = |key: &&str| {
            let at = format!("labels[\"{key}\"]");
            let was = before.label(key)?;
            match labels.iter().find(|(k, _)| k == key) {
                Some((_, is)) if is == was => None,
                Some((_, is)) => Some(fault(
                    at,
                    format!("is immutable, cannot be changed from \"{was}\" to \"{is}\""),
                )),
                // The zone is computed again.
                None if *key == ZONE || *key == ORIGIN => None,
                None => Some(fault(
                    at,
                    format!("is immutable, cannot be removed (was \"{was}\")"),
                )),
            }
        };
        let faults: Vec<Fault> = frozen.iter().filter_map(changed).collect();
        if !faults.is_empty() {
            return invalid("Could not update a resource", &faults);
        }
    }
    let (status, created) = before.map_or((201, now), |b| (200, b.created));
    let mut object = Object::new(kind, mesh, name, now);
    object.created = created;
    object.body = kept;
    object.labels.extend(labels);
    compute_labels(store, &mut object);
    store.insert(object);
    let body = if warnings.is_empty() {
        json!({})
    } else {
        json!({"warnings": warnings})
    };
    Answer::Json(status, body)
}

fn compute_labels(store: &Store, object: &mut Object) {
    let labels = &mut object.labels;
    if object.kind.in_mesh() {
        labels.insert("kuma.io/mesh".into(), object.mesh.clone());
    }
    if let (Mode::Zone(zone), true) = (&store.mode, object.kind.in_mesh()) {
        labels.insert(ZONE.into(), zone.clone());
        labels
            .entry("kuma.io/env".into())
            .or_insert_with(|| "universal".into());
        labels.entry(ORIGIN.into()).or_insert_with(|| "zone".into());
    } else if let (Mode::Zone(zone), Kind::ZoneIngress) = (&store.mode, object.kind) {
        for (key, value) in [
            ("kuma.io/env", "universal"),
            (ORIGIN, "zone"),
            ("kuma.io/proxy-type", "zoneingress"),
            (ZONE, zone),
        ] {
            labels.insert(key.into(), value.into());
        }
    } else if object.kind != Kind::Zone && !object.kind.is_policy() {
        labels.insert(ORIGIN.into(), "global".into());
    }
}

fn not_an_object(kind: Kind, why: &str) -> Answer {
    let detail = format!("invalid {} object: {why:?}", kind.name());
    problem(400, "Bad Request", &detail, &[])
}

/// Parses JSON; an error is worded as Kuma words it.
fn parse(body: &[u8]) -> Result<Value, String> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let first = values.next();
    let rest = String::from_utf8_lossy(&body[values.byte_offset()..]).into_owned();
    match first {
        None => Err("unexpected end of JSON input".into()),
        Some(Err(error)) if error.is_eof() => Err("unexpected end of JSON input".into()),
        Some(Err(_)) => Err(wrong_character(String::from_utf8_lossy(body).trim_start())),
        Some(Ok(value)) => match rest.trim_start().chars().next() {
            None => Ok(value),
            Some(c) => Err(format!("invalid character '{c}' after top-level value")),
        },
    }
}

fn wrong_character(text: &str) -> String {
    for literal in ["true", "false", "null"] {
        let same = text
            .chars()
            .zip(literal.chars())
            .take_while(|(a, b)| a == b)
            .count();
        if let (true, Some(found), Some(wanted)) =
            (same > 0, text.chars().nth(same), literal.chars().nth(same))
        {
            return format!("invalid character '{found}' in literal {literal} (expecting '{wanted}')");
        }
    }
    let first = text.chars().next().unwrap_or(' ');
    format!("invalid character '{first}' looking for beginning of value")
}
