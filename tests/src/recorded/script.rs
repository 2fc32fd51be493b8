//! What is asked of Kuma, in order: what the product relies on, and what it must be able to read when it goes wrong.
//!
//! Names make the order and the file. A question may wait for its answer: then the last answer is the one that counts.

mod across;
mod writes;

use std::fmt;

use serde_json::{Value, json};

use super::normal::Cut;

/// Where it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// REST of the global control plane.
    Global,
    /// REST of zone fra's.
    Zone,
    /// The admin socket of the Envoy of the caller in fra.
    Admin,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Zone => "zone fra",
            Self::Admin => "admin socket of caller-fra",
        })
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Value),
    /// A text of this content type.
    Text(&'static str, &'static str),
}

/// One question.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The name of the recording: number and words.
    pub name: String,
    /// What it shows.
    pub what: &'static str,
    /// Where.
    pub place: Place,
    /// Method.
    pub method: &'static str,
    /// Path with query.
    pub path: String,
    /// Body.
    pub body: Body,
    /// What is kept of the answer.
    pub cut: Cut,
    /// Asked again until the answer in its normal form is so.
    pub awaited: Option<fn(&Value) -> bool>,
    /// Whether Kuma drops the connection here.
    pub hangs_up: bool,
}

/// A list that grows.
struct Script(Vec<Ask>);

const HTTP: &str = "/meshes/default/meshhttproutes";
const TCP: &str = "/meshes/default/meshtcproutes";
/// The zone's policy on global, and global's in the zone: Kuma's own hash.
const OURS_ON_GLOBAL: &str = "weir-checkout-48765b544d5z2877";
/// The counters that the agents read.
const STATS: &str = "/stats?format=json&usedonly&filter=\
    (%5Eserver%5C.uptime$%7C%5C.upstream_(rq_completed%7Crq_total%7Crq_5xx%7Ccx_total%7Ccx_connect_fail)$)";

impl Script {
    fn ask(
        &mut self,
        name: &str,
        what: &'static str,
        place: Place,
        method: &'static str,
        path: &str,
        body: Body,
    ) -> &mut Ask {
        let at = self.0.len();
        self.0.push(Ask {
            name: format!("{at:03}-{name}"),
            what,
            place,
            method,
            path: path.to_owned(),
            body,
            cut: Cut::None,
            awaited: None,
            hangs_up: false,
        });
        &mut self.0[at]
    }

    fn get(&mut self, name: &str, what: &'static str, path: &str) -> &mut Ask {
        self.ask(name, what, Place::Zone, "GET", path, Body::None)
    }

    fn put(&mut self, name: &str, what: &'static str, path: &str, body: Value) -> &mut Ask {
        self.ask(name, what, Place::Zone, "PUT", path, Body::Json(body))
    }

    /// A policy that is put under the name that it carries.
    fn policy(&mut self, name: &str, what: &'static str, policy: Value) {
        let path = format!("{HTTP}/{}", policy["name"].as_str().unwrap_or("rec"));
        self.put(name, what, &path, policy);
    }
}

fn backend(zone: &str, weight: Value) -> Value {
    let labels = json!({"kuma.io/display-name": "checkout", "kuma.io/zone": zone});
    json!({"kind": "MeshService", "labels": labels, "port": 8080, "weight": weight})
}

fn root() -> Value {
    json!({"path": {"type": "PathPrefix", "value": "/"}})
}

/// The split as Weir writes it: both targets, the section, the anchor.
fn split(fra: u32, ams: u32) -> Value {
    let mut anchor = root();
    anchor["headers"] =
        json!([{"type": "Exact", "name": "x-weir-anchor", "value": "05342e72ec1d808130d22712f4733435"}]);
    let rules = json!([
        {"matches": [root()], "default": {"backendRefs": [backend("fra", fra.into()), backend("ams", ams.into())]}},
        {"matches": [anchor], "default": {"backendRefs": [backend("fra", 1.into()), backend("ams", 1.into())]}},
    ]);
    let to = |kind: &str| {
        let target =
            json!({"kind": kind, "labels": {"kuma.io/display-name": "checkout"}, "sectionName": "8080"});
        json!({"targetRef": target, "rules": rules})
    };
    json!({
        "type": "MeshHTTPRoute", "mesh": "default", "name": "weir-checkout",
        "labels": {"kuma.io/origin": "zone", "weir.dev/split": "checkout", "weir.dev/generation": "7"},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [to("MeshService"), to("MeshMultiZoneService")]},
    })
}

/// A policy that selects nothing, with one rule that a case spoils.
fn rec(spoil: impl FnOnce(&mut Value)) -> Value {
    let mut policy = json!({
        "type": "MeshHTTPRoute", "mesh": "default", "name": "rec", "labels": {"kuma.io/origin": "zone"},
        "spec": {
            "targetRef": {"kind": "Dataplane", "labels": {"rec": "none"}},
            "to": [{
                "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": "rec-nowhere"}},
                "rules": [{"matches": [root()], "default": {"backendRefs": [backend("fra", 1.into())]}}],
            }],
        },
    });
    spoil(&mut policy);
    policy
}

fn succeeded(response: &Value) -> bool {
    response["status"] == 200
}

/// Every service has its certificates, which takes some seconds.
fn ready(response: &Value) -> bool {
    succeeded(response) && !response.to_string().contains("NotReady")
}

/// Every proxy's session has been counted, which takes up to 10 s.
fn counted(response: &Value) -> bool {
    let all = response["body"]["items"].as_array();
    let counted = |item: &Value| item.to_string().matches("responsesAcknowledged").count() >= 3;
    all.is_some_and(|items| items.iter().all(counted))
}

/// A weight of 9000 is in what was answered.
fn shifted(response: &Value) -> bool {
    response.to_string().contains("\"weight\":9000")
}

/// Everything that is asked.
pub fn script() -> Vec<Ask> {
    let mut script = Script(Vec::new());
    reads(&mut script);
    writes::refused(&mut script);
    writes::accepted(&mut script);
    elsewhere(&mut script);
    split_and_proof(&mut script);
    across::across_zones(&mut script);
    script.0
}

fn reads(s: &mut Script) {
    let services = "/meshes/default/meshservices";
    s.get("root", "what answers here", "/").cut = Cut::Fields(&["product", "version"]);
    s.get("mesh", "a mesh", "/meshes/default").cut = Cut::Fields(&["type", "name", "meshServices", "mtls"]);
    s.get(
        "meshservices",
        "services of all zones as this zone sees them",
        services,
    )
    .awaited = Some(ready);
    for (name, what, query) in [
        (
            "by-name",
            "a filter",
            "filter[labels.kuma.io/display-name]=checkout",
        ),
        (
            "by-name-and-zone",
            "two filters",
            "filter[labels.kuma.io/display-name]=checkout&filter[labels.kuma.io/zone]=ams",
        ),
        (
            "by-nobody",
            "a filter that nothing fits",
            "filter[labels.kuma.io/display-name]=nobody",
        ),
        ("page", "a page and where the next is", "size=1"),
        ("page-2", "the last page", "size=1&offset=1"),
        ("page-past", "past the end", "offset=999"),
        ("page-0", "no page of nothing", "size=0"),
        ("page-large", "no page so large", "size=2000"),
        ("page-word", "no number", "offset=abc"),
        (
            "filter-unknown",
            "only labels can be filtered by",
            "filter[spec.state]=Available",
        ),
    ] {
        s.get(
            &format!("meshservices-{name}"),
            what,
            &format!("{services}?{query}"),
        );
    }
    s.get(
        "meshservice-local",
        "a service of this zone",
        &format!("{services}/checkout"),
    );
    s.get(
        "meshservice-remote",
        "a service of another zone, by its hashed name",
        &format!("{services}/checkout-8wb8z5764xx4x42z"),
    );
    s.get(
        "meshservice-unknown",
        "no such service",
        &format!("{services}/nobody"),
    );
    s.get(
        "meshmultizoneservices",
        "services across zones",
        "/meshes/default/meshmultizoneservices",
    );
    s.get("routes-none", "no policy yet", HTTP);
    s.get("tcp-routes-none", "no policy yet", TCP);
    s.get(
        "traffic-routes",
        "legacy routes",
        "/meshes/default/traffic-routes",
    );
    s.get("route-unknown", "no such policy", &format!("{HTTP}/nobody"));
    s.get("mesh-unknown", "no such mesh", "/meshes/nowhere/meshhttproutes");
    s.get("path-unknown", "no such path", "/meshes/default/nothings");
    s.get("dataplanes", "proxies", "/meshes/default/dataplanes");
    s.get("dataplane", "a proxy", "/meshes/default/dataplanes/caller-fra");
    let overviews = s.get(
        "overviews",
        "proxies and their sessions",
        "/meshes/default/dataplanes/_overview",
    );
    overviews.cut = Cut::Overview;
    overviews.awaited = Some(counted);
    s.get(
        "overview",
        "a proxy and its sessions",
        "/meshes/default/dataplanes/caller-fra/_overview",
    )
    .cut = Cut::Overview;
    s.get(
        "overview-unknown",
        "no such proxy",
        "/meshes/default/dataplanes/nobody/_overview",
    );
    s.get(
        "xds-unknown",
        "no such proxy",
        "/meshes/default/dataplanes/nobody/xds",
    );
}

/// What may not be written where.
fn elsewhere(s: &mut Script) {
    let mesh = json!({"type": "Mesh", "name": "default"});
    s.put("zone-put-mesh", "a mesh is global's", "/meshes/default", mesh);
    let everywhere = json!({
        "type": "MeshMultiZoneService", "mesh": "default", "name": "rec",
        "spec": {"selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": [{"port": 1, "appProtocol": "http"}]},
    });
    s.put(
        "zone-put-mzsvc",
        "a service across zones is global's",
        "/meshes/default/meshmultizoneservices/rec",
        everywhere,
    );
    let service = json!({
        "type": "MeshService", "mesh": "default", "name": "rec",
        "spec": {"selector": {"dataplaneTags": {"a": "b"}}, "ports": [{"port": 1, "targetPort": 1, "appProtocol": "http"}]},
    });
    let path = "/meshes/default/meshservices/rec";
    s.ask(
        "global-put-meshservice",
        "a service is its zone's",
        Place::Global,
        "PUT",
        path,
        Body::Json(service),
    );
    let dataplane = json!({
        "type": "Dataplane", "mesh": "default", "name": "rec",
        "networking": {"address": "127.0.0.1", "inbound": [{"port": 1, "tags": {"kuma.io/service": "rec"}}]},
    });
    let path = "/meshes/default/dataplanes/rec";
    s.ask(
        "global-put-dataplane",
        "a proxy is its zone's",
        Place::Global,
        "PUT",
        path,
        Body::Json(dataplane),
    );
    let path = format!("{HTTP}/rec");
    s.ask(
        "global-put-origin-zone",
        "global writes none of a zone's",
        Place::Global,
        "PUT",
        &path,
        Body::Json(rec(|_| {})),
    );
}

/// Our own policy: written, in the Envoy, read back by every way that the agents have.
fn split_and_proof(s: &mut Script) {
    let path = format!("{HTTP}/weir-checkout");
    s.ask(
        "listeners-before",
        "without a policy: where the caller addressed it to",
        Place::Admin,
        "GET",
        "/config_dump?resource=dynamic_listeners",
        Body::None,
    )
    .cut = Cut::Listeners;
    s.put("split-put", "our policy, 90/10", &path, split(9_000, 1_000));
    s.get("split-get", "read back", &path);
    s.put(
        "split-put-again",
        "the very same again",
        &path,
        split(9_000, 1_000),
    );
    s.get("routes-one", "in the list", HTTP);
    let live = s.ask(
        "listeners-90",
        "what Envoy runs",
        Place::Admin,
        "GET",
        "/config_dump?resource=dynamic_listeners",
        Body::None,
    );
    live.cut = Cut::Listeners;
    live.awaited = Some(shifted);
    s.get(
        "xds-90",
        "the same through the control plane",
        "/meshes/default/dataplanes/caller-fra/xds",
    )
    .cut = Cut::Listeners;
    s.get(
        "computed-90",
        "what the control plane would send",
        "/meshes/default/dataplanes/caller-fra/_config",
    )
    .cut = Cut::Computed;
    s.ask("stats", "counters", Place::Admin, "GET", STATS, Body::None)
        .cut = Cut::Counters;
    s.put("split-put-moved", "everything to ams", &path, split(0, 10_000));
    let live = s.ask(
        "listeners-0",
        "weight 0 is left out, the anchor keeps both",
        Place::Admin,
        "GET",
        "/config_dump?resource=dynamic_listeners",
        Body::None,
    );
    live.cut = Cut::Listeners;
    live.awaited = Some(|response| !shifted(response));
}
