//! What is asked about one HTTPRoute, in order: what a driver and an ingress controller do to it, each to its own part.

use super::*;

pub(in super::super) const EVERYWHERE: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const CART: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/weir-cart";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// As Weir applies them: whatever has a default is said.
fn cart(weight: u32) -> Value {
    let backend = |name: &str, weight: u32| json!({"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight});
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {
            "name": "weir-cart", "namespace": "shop",
            "labels": {"weir.dev/split": "cart"},
            "annotations": {"konghq.com/strip-path": "false"},
        },
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "edge", "name": "kong"}],
            "hostnames": ["shop.example.com"],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/cart"}}],
                "backendRefs": [backend("old", 60_000 - weight), backend("new", weight)],
            }],
        },
    })
}

/// The controller's word on a generation.
fn said(generation: u32, programmed: &str) -> Value {
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": kind, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({"status": {"parents": [{
        "controllerName": "konghq.com/kic-gateway-controller",
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "edge", "name": "kong"},
        "conditions": [condition("Accepted", "True"), condition("Programmed", programmed)],
    }]}})
}

/// The script.
pub(in super::super) fn script() -> Vec<Ask> {
    let mut all = Script::default();
    let ours = format!("{CART}?fieldManager=weir&fieldValidation=Strict&force=false");
    let status = format!("{CART}/status");
    let controllers = format!("{status}?fieldManager=kic");
    all.get("a route that is not there", "agent", CART);
    all.apply(
        "a version that no route has: made",
        "agent",
        &ours,
        guarded(cart(600), None, Some("1")),
    );
    all.get(
        "the list from which is watched",
        "agent",
        &format!("{EVERYWHERE}?limit=500"),
    );
    all.merge(
        "what the controller says is no new generation",
        "admin",
        &controllers,
        said(1, "True"),
    );
    all.apply(
        "equal, beside what the controller says",
        "agent",
        &ours,
        cart(600),
    );
    all.apply(
        "changed: a new generation, and the word is of the old one",
        "agent",
        &ours,
        guarded(cart(1_200), Some("$uid"), Some("$version")),
    );
    all.merge("of the new one", "admin", &controllers, said(2, "Unknown"));
    all.merge("and again", "admin", &controllers, said(2, "True"));
    all.merge(
        "an annotation is no new generation",
        "admin",
        &format!("{CART}?fieldManager=kubectl-annotate"),
        json!({"metadata": {"annotations": {"konghq.com/protocols": "https"}}}),
    );
    all.merge(
        "nobody writes a status by the object",
        "admin",
        &format!("{CART}?fieldManager=kubectl-edit"),
        json!({"status": {"parents": []}}),
    );
    all.merge(
        "nor the object by its status",
        "admin",
        &controllers,
        json!({"spec": {"hostnames": ["other.example.com"]}, "metadata": {"labels": {"x": "y"}}}),
    );
    all.merge(
        "a status without a right to it",
        "agent",
        &format!("{status}?fieldManager=weir"),
        said(2, "False"),
    );
    all.get("a status", "admin", &status);
    all.get("read", "agent", CART);
    all.apply(
        "another manager takes the rules by force",
        "admin",
        &format!("{CART}?fieldManager=argocd&force=true"),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "weir-cart"},
            "spec": {"rules": cart(30_000)["spec"]["rules"]},
        }),
    );
    all.apply("and they are not ours any more", "agent", &ours, cart(1_800));
    all.ask(
        "removed with both guards",
        "agent",
        Method::DELETE,
        CART,
        JSON,
        Some(json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": "$uid", "resourceVersion": "$version"},
        })),
    );
    all.get(
        "everything since the list",
        "agent",
        &format!("{EVERYWHERE}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion=$then"),
    );
    all.apply(
        "endpoints",
        "admin",
        &format!("{SLICES}/new-1?fieldManager=site"),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "new-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "new"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}],
        }),
    );
    all.get("endpoints, read", "agent", SLICES);
    all.0
}
