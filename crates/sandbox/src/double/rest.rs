//! The REST answers of a control plane, as recorded: pure functions from a store and a request to an answer.
//!
//! Changed when a recording says otherwise. What needs the network (`/xds`, `/stats`) is in `control_plane`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::store::{DISPLAY_NAME, Kind, Mode, ORIGIN, Object, Store, ZONE};
use super::validate::{Fault, fault, spec, type_name};

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path with query.
    pub target: String,
    /// `Host`.
    pub host: String,
    /// `Content-Type`.
    pub content_type: String,
    /// Body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// JSON with a status.
    Json(u16, Value),
    /// Text with a status: what the router says.
    Text(u16, String),
    /// The connection is dropped without a word.
    Close,
}

const ELSEWHERE: &str = "On zone control plane you can only modify zone resources with 'kumactl apply' or via the HTTP \
                         API. You can still use 'kumactl' or the HTTP API to modify the rest of the resource on the \
                         global control plane.\n";
const NOT_ON_GLOBAL: &str = "On global control plane you can not modify dataplane resources with 'kumactl apply' or via \
                             the HTTP API. You can still use 'kumactl' or the HTTP API to modify them on the zone \
                             control plane.\n";

/// An error in Kuma's form.
pub fn problem(status: u16, title: &str, detail: &str, faults: &[Fault]) -> Answer {
    let mut body = json!({
        "type": "/std-errors", "status": status, "title": title, "detail": detail, "details": detail,
    });
    if !faults.is_empty() {
        let all = |key: &str| {
            let one = |f: &Fault| json!({"field": f.field, key: f.reason});
            faults.iter().map(one).collect::<Vec<_>>()
        };
        body["invalid_parameters"] = all("reason").into();
        body["causes"] = all("message").into();
    }
    Answer::Json(status, body)
}

fn invalid(title: &str, faults: &[Fault]) -> Answer {
    problem(400, title, "Resource is not valid", faults)
}

fn page_not_found() -> Answer {
    Answer::Text(404, "404: Page Not Found".into())
}

/// Answers everything that a store alone can answer.
pub fn answer(store: &mut Store, request: &Request, now: Timestamp) -> Answer {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((request.target.as_str(), ""));
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let get = request.method == "GET";
    match parts.as_slice() {
        [] if get => Answer::Json(200, root(store)),
        ["config"] if get => Answer::Json(200, configuration(store)),
        ["who-am-i"] if get => {
            let admin = json!({"name": "mesh-system:admin", "groups": ["mesh-system:authenticated", "mesh-system:admin"]});
            Answer::Json(200, admin)
        }
        ["meshes" | "zones"] | ["meshes" | "zones", _] => {
            let kind = if parts[0] == "meshes" {
                Kind::Mesh
            } else {
                Kind::Zone
            };
            match parts.get(1) {
                Some(name) => single(store, request, kind, "", name, now),
                None => list(store, request, kind, None, query),
            }
        }
        // Legacy routes: nobody here has any.
        ["meshes", mesh, "traffic-routes"] if get && store.has_mesh(mesh) => {
            Answer::Json(200, json!({"total": 0, "items": [], "next": null}))
        }
        ["meshes", mesh, plural] => match Kind::by_plural(plural).filter(|k| k.in_mesh()) {
            Some(kind) => list(store, request, kind, Some(mesh), query),
            None => page_not_found(),
        },
        ["meshes", mesh, "dataplanes", "_overview"] if get => overviews(store, mesh, None, now),
        ["meshes", mesh, "dataplanes", name, "_overview"] if get => overviews(store, mesh, Some(name), now),
        ["meshes", mesh, plural, name] => match Kind::by_plural(plural).filter(|k| k.in_mesh()) {
            Some(kind) => single(store, request, kind, mesh, name, now),
            None => page_not_found(),
        },
        [plural] => match Kind::by_plural(plural).filter(|k| k.in_mesh()) {
            Some(kind) => list(store, request, kind, None, query),
            None => page_not_found(),
        },
        _ => page_not_found(),
    }
}

fn root(store: &Store) -> Value {
    let zone = match &store.mode {
        Mode::Global => "global",
        Mode::Zone(zone) | Mode::Cluster(zone) => zone,
    };
    json!({
        "clusterId": "00000000-0000-4000-8000-000000000000", "gui": "", "hostname": "double",
        "instanceId": format!("double-{zone}"), "product": "Kuma", "version": super::KUMA_VERSION,
    })
}

fn configuration(store: &Store) -> Value {
    let is_cluster = matches!(store.mode, Mode::Cluster(_));
    json!({
        "mode": if store.mode == Mode::Global { "global" } else { "zone" },
        "environment": if is_cluster { "kubernetes" } else { "universal" },
        "store": {"type": if is_cluster { "kubernetes" } else { "memory" }},
        "multizone": {"zone": {"name": store.zone(), "globalAddress": "grpcs://127.0.0.1:5685"}},
        "meshService": {"generationInterval": "2s", "deletionGracePeriod": "1h0m0s"},
        "apiServer": {"readOnly": is_cluster},
    })
}

fn single(
    store: &mut Store,
    request: &Request,
    kind: Kind,
    mesh: &str,
    name: &str,
    now: Timestamp,
) -> Answer {
    match request.method.as_str() {
        "GET" => {
            if kind.in_mesh() && !store.has_mesh(mesh) {
                return problem(404, "Failed to retrieve Mesh", "Not found", &[]);
            }
            match store.get(kind, mesh, name) {
                Some(object) => Answer::Json(200, object.document()),
                None if kind.in_mesh() && matches!(store.mode, Mode::Cluster(_)) && !name.contains('.') => {
                    let detail = format!(
                        "invalid: name \"{name}\" must include namespace after the dot, ex. \"name.namespace\""
                    );
                    problem(400, "Could not retrieve a resource", &detail, &[])
                }
                None => problem(404, "Could not retrieve a resource", "Not found", &[]),
            }
        }
        "PUT" => put(store, request, kind, mesh, name, now),
        "DELETE" => delete(store, kind, mesh, name),
        "HEAD" => Answer::Text(405, String::new()),
        _ => Answer::Text(405, "405: Method Not Allowed".into()),
    }
}

/// Who may write objects of this kind here; none if they may be written.
fn not_here(store: &Store, kind: Kind) -> Option<Answer> {
    let refused = |detail: &str| Some(problem(405, "Method not allowed", detail, &[]));
    match (&store.mode, kind) {
        (Mode::Zone(_), Kind::Mesh | Kind::MeshMultiZoneService) => refused(ELSEWHERE),
        // There the API server takes what is written.
        (Mode::Cluster(_), _) => refused(ELSEWHERE),
        (Mode::Global, Kind::Dataplane | Kind::MeshService) => refused(NOT_ON_GLOBAL),
        _ => None,
    }
}

fn wanted_origin(store: &Store) -> &'static str {
    if store.mode == Mode::Global {
        "global"
    } else {
        "zone"
    }
}

fn delete(store: &mut Store, kind: Kind, mesh: &str, name: &str) -> Answer {
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

fn put(store: &mut Store, request: &Request, kind: Kind, mesh: &str, name: &str, now: Timestamp) -> Answer {
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
    } else if object.kind != Kind::Zone && !object.kind.is_policy() {
        labels.insert(ORIGIN.into(), "global".into());
    }
}

fn labels(given: &Value) -> Vec<(String, String)> {
    let all = given["labels"].as_object().into_iter().flatten();
    all.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

fn shape(given: &Value, kind: Kind) -> Vec<Fault> {
    let mut faults = Vec::new();
    let required: &[&str] = if kind.in_mesh() && kind != Kind::Dataplane {
        &["type", "name", "spec"]
    } else {
        &["type", "name"]
    };
    for key in required {
        match given.get(*key) {
            None => faults.push(fault("", format!(".{key} in body is required"))),
            Some(Value::Null) => {
                let wanted = if *key == "spec" { "object" } else { "string" };
                faults.push(fault(
                    "",
                    format!("{key} in body must be of type {wanted}: \"null\""),
                ));
            }
            Some(_) => {}
        }
    }
    if given.get("type").is_some_and(|t| *t != kind.name()) {
        let reason = format!("type in body should be one of [{}]", kind.name());
        faults.push(fault("", reason));
    }
    for (key, value) in given["labels"].as_object().into_iter().flatten() {
        if !value.is_string() {
            let reason = format!(
                "labels.{key} in body must be of type string: \"{}\"",
                type_name(value)
            );
            faults.push(fault("", reason));
        }
    }
    faults
}

fn meaning(store: &Store, given: &Value, kind: Kind, mesh: &str, name: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let same = |key: &str, url: &str| given[key].as_str().is_none_or(|body| body == url);
    for (key, url) in [("name", name), ("mesh", mesh)] {
        if !same(key, url) {
            faults.push(fault(
                key,
                format!("{key} from the URL has to be the same as in body"),
            ));
        }
    }
    if !faults.is_empty() {
        origin(store, &labels(given), kind, &mut faults);
        return faults;
    }
    let own = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let word =
        |part: &str| part.starts_with(own) && part.ends_with(own) && part.chars().all(|c| own(c) || c == '-');
    if let Mode::Zone(zone) = &store.mode
        && zone.len() + 1 + name.len() >= 253
    {
        faults.push(fault("name", "the length of the name must be shorter"));
    }
    if name.len() > 253 {
        faults.push(fault("name", "value length must less or equal 253"));
    } else if !name.split('.').all(word) {
        let reason = "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                      characters, '-' or '.', and must start and end with an alphanumeric character";
        faults.push(fault("name", reason));
    }
    let labels = labels(given);
    for (key, value) in &labels {
        let at = format!("labels[\"{key}\"]");
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.ends_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(inner)
        };
        let key_name = key.rsplit('/').next().unwrap_or(key);
        if !fits(key_name) {
            let reason = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                          with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                          validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
            faults.push(fault(&at, reason));
        }
        if value.len() > 63 {
            faults.push(fault(at, "must be no more than 63 bytes"));
        } else if !value.is_empty() && !fits(value) {
            let reason = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                          '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value', \
                          \x20or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
            faults.push(fault(at, reason));
        }
    }
    let label = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    origin(store, &labels, kind, &mut faults);
    if let (Mode::Zone(zone), Some(given)) = (&store.mode, label(ZONE))
        && given != zone
    {
        let reason = format!("{ZONE} label should have {zone} value");
        faults.push(fault(format!("labels[\"{ZONE}\"]"), reason));
    }
    if label("kuma.io/mesh").is_some_and(|m| m != mesh) {
        let reason = "kuma.io/mesh label must not differ from mesh set on resource";
        faults.push(fault("labels[\"kuma.io/mesh\"]", reason));
    }
    faults
}

/// What is wrong with the label that says where an object was written.
fn origin(store: &Store, labels: &[(String, String)], kind: Kind, faults: &mut Vec<Fault>) {
    let origin = labels
        .iter()
        .find(|(key, _)| key == ORIGIN)
        .map(|(_, value)| value.as_str());
    let at = format!("labels[\"{ORIGIN}\"]");
    if let Some(origin) = origin.filter(|o| !matches!(*o, "zone" | "global")) {
        faults.push(fault(&at, format!("unknown resource origin \"{origin}\"")));
    }
    let wanted = wanted_origin(store);
    if kind.is_policy() && origin != Some(wanted) && (wanted == "zone" || origin.is_some()) {
        faults.push(fault(&at, format!("the origin label must be set to '{wanted}'")));
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

fn list(store: &Store, request: &Request, kind: Kind, mesh: Option<&str>, query: &str) -> Answer {
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
pub(super) fn decode(text: &str) -> String {
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

fn overviews(store: &Store, mesh: &str, name: Option<&str>, now: Timestamp) -> Answer {
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
            "kumaDp": {"version": super::KUMA_VERSION, "kumaCpCompatible": true},
            "envoy": {"version": super::ENVOY_VERSION, "kumaDpCompatible": true},
        },
    });
    if let Some(gone) = session["disconnectTime"].as_str() {
        subscription["disconnectTime"] = gone.into();
    }
    json!({"subscriptions": [subscription]})
}
