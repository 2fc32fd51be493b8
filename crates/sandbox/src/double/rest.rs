//! The REST answers of a control plane, as recorded: pure functions from a store and a request to an answer.
//!
//! Changed when a recording says otherwise. What needs the network (`/xds`, `/stats`) is in `control_plane`.

mod checks;
mod lists;
mod writing;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) use self::lists::decode;
use self::lists::{list, overviews};
use self::writing::{delete, put};
use super::store::{Kind, Mode, Store};
use super::validate::Fault;

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
        ["meshes" | "zones" | "zoneingresses"] | ["meshes" | "zones" | "zoneingresses", _] => {
            let kind = match parts[0] {
                "meshes" => Kind::Mesh,
                "zones" => Kind::Zone,
                _ => Kind::ZoneIngress,
            };
            match parts.get(1) {
                Some(name) => single(store, request, kind, "", name, now),
                None => list(store, request, kind, None, query),
            }
        }
        // Legacy routes, and proxies of zones that a mesh has for itself: nobody here has any.
        ["meshes", mesh, "traffic-routes" | "meshzoneaddresses"] if get && store.has_mesh(mesh) => {
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
        "instanceId": format!("double-{zone}-{:04x}", store.process), "product": "Kuma", "version": super::KUMA_VERSION,
    })
}

fn configuration(store: &Store) -> Value {
    let is_cluster = matches!(store.mode, Mode::Cluster(_));
    let kept = match (is_cluster, store.lasting) {
        (true, _) => "kubernetes",
        (false, true) => "postgres",
        (false, false) => "memory",
    };
    json!({
        "mode": if store.mode == Mode::Global { "global" } else { "zone" },
        "environment": if is_cluster { "kubernetes" } else { "universal" },
        "store": {"type": kept},
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
