//! What is asked, in order: what a driver, a person and another controller do to one policy, and who may not.

pub(super) mod http_routes;

use http::Method;
use serde_json::{Value, json};

use crate::kubernetes::SYSTEM;

/// Content type of server-side apply.
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
pub(super) const ROUTES: &str = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes";
const CART: &str = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes/weir-cart";
const EVERYWHERE: &str = "/apis/kuma.io/v1alpha1/meshhttproutes";

/// One question.
pub(super) struct Ask {
    pub(super) what: &'static str,
    pub(super) who: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) kind: &'static str,
    pub(super) body: Option<Value>,
}

fn cart(weight: u32) -> Value {
    let reference = |zone: &str, weight: u32| {
        json!({
            "kind": "MeshService", "labels": {"kuma.io/display-name": "cart", "kuma.io/zone": zone}, "port": 8080,
            "weight": weight,
        })
    };
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
        "metadata": {
            "name": "weir-cart", "namespace": SYSTEM,
            "labels": {"kuma.io/mesh": "default", "kuma.io/origin": "zone", "weir.dev/split": "cart"},
            "annotations": {"weir.dev/generation": "7"},
        },
        "spec": {
            "targetRef": {"kind": "Mesh"},
            "to": [{
                "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": "cart"}},
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "default": {"backendRefs": [reference("fra", 100 - weight), reference("use1", weight)]},
                }],
            }],
        },
    })
}

/// The same with something changed.
fn with(mut object: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut object);
    object
}

fn guarded(object: Value, uid: Option<&str>, version: Option<&str>) -> Value {
    with(object, |o| {
        if let Some(uid) = uid {
            o["metadata"]["uid"] = uid.into();
        }
        if let Some(version) = version {
            o["metadata"]["resourceVersion"] = version.into();
        }
    })
}

/// Questions in their order.
#[derive(Default)]
struct Script(Vec<Ask>);

impl Script {
    fn ask(
        &mut self,
        what: &'static str,
        who: &'static str,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Option<Value>,
    ) {
        self.0.push(Ask {
            what,
            who,
            method,
            path: path.to_owned(),
            kind,
            body,
        });
    }

    fn get(&mut self, what: &'static str, who: &'static str, path: &str) {
        self.ask(what, who, Method::GET, path, "", None);
    }

    fn apply(&mut self, what: &'static str, who: &'static str, path: &str, object: Value) {
        self.ask(what, who, Method::PATCH, path, APPLY, Some(object));
    }

    fn merge(&mut self, what: &'static str, who: &'static str, path: &str, patch: Value) {
        self.ask(what, who, Method::PATCH, path, MERGE, Some(patch));
    }
}

/// The script: what a driver, a person and another controller do to one policy, and who may not.
pub(super) fn script() -> Vec<Ask> {
    let mut all = Script::default();
    let of = |manager: &str, more: &str| format!("{CART}?fieldManager={manager}{more}");
    let ours = of("weir", "&fieldValidation=Strict&force=false");
    let gone = "00000000-0000-0000-0000-000000000000";
    all.get("ready", "admin", "/readyz");
    all.get("a token that nobody has", "stranger", ROUTES);
    all.get("somebody without rights lists", "nobody", ROUTES);
    all.get("and reads one", "nobody", CART);
    all.get("and lists everywhere", "nobody", EVERYWHERE);
    all.get(
        "a type that is not there, with all rights",
        "admin",
        "/apis/example.com/v1/namespaces/shop/things",
    );
    all.get(
        "the same, without rights to it",
        "agent",
        "/apis/example.com/v1/namespaces/shop/things",
    );
    all.get("an empty list", "agent", ROUTES);
    all.get("an object that is not there", "agent", CART);
    all.ask(
        "removing what is not there",
        "agent",
        Method::DELETE,
        CART,
        "",
        None,
    );
    all.apply("apply without a manager", "agent", CART, cart(30));
    all.ask(
        "apply as plain JSON",
        "agent",
        Method::PATCH,
        &ours,
        JSON,
        Some(cart(30)),
    );
    all.apply(
        "apply of another name",
        "agent",
        &format!("{ROUTES}/weir-other?fieldManager=weir"),
        cart(30),
    );
    all.apply(
        "apply without a kind",
        "agent",
        &ours,
        with(cart(30), |o| {
            o.as_object_mut().map(|o| o.remove("kind"));
        }),
    );
    all.apply(
        "apply with managed fields",
        "agent",
        &ours,
        with(cart(30), |o| {
            o["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
        }),
    );
    all.apply(
        "an unknown field",
        "agent",
        &ours,
        with(cart(30), |o| o["spec"]["wieght"] = json!(3)),
    );
    all.apply(
        "a field of another type",
        "agent",
        &ours,
        with(cart(30), |o| o["spec"]["to"] = json!("all")),
    );
    all.apply(
        "apply in a namespace that is not there",
        "admin",
        "/apis/kuma.io/v1alpha1/namespaces/nowhere/meshhttproutes/weir-cart?fieldManager=weir",
        with(cart(30), |o| o["metadata"]["namespace"] = json!("nowhere")),
    );
    all.apply(
        "apply where there is no right",
        "agent",
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshhttproutes/weir-cart?fieldManager=weir",
        with(cart(30), |o| o["metadata"]["namespace"] = json!("shop")),
    );
    all.apply(
        "a right to change, and none to make",
        "nobody",
        &of("weir", ""),
        cart(30),
    );
    all.apply(
        "with the uid of an object that is gone",
        "agent",
        &ours,
        guarded(cart(30), Some(gone), None),
    );
    all.apply("a rehearsal", "agent", &of("weir", "&dryRun=All"), cart(30));
    all.apply(
        "a version that no object has: made",
        "agent",
        &ours,
        guarded(cart(30), None, Some("1")),
    );
    all.apply("equal: nothing happens", "agent", &ours, cart(30));
    all.get(
        "the list from which is watched",
        "agent",
        &format!("{ROUTES}?limit=500"),
    );
    all.apply(
        "changed, with both guards",
        "agent",
        &ours,
        guarded(cart(40), Some("$uid"), Some("$version")),
    );
    all.apply(
        "a version that was",
        "agent",
        &ours,
        guarded(cart(50), None, Some("1")),
    );
    all.apply("another uid", "agent", &ours, guarded(cart(50), Some(gone), None));
    all.apply("a right to change, and the object is there", "nobody", &of("someone", ""), json!({"apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute", "metadata": {"name": "weir-cart", "labels": {"someone": "x"}}}));
    all.apply("another manager applies", "admin", &of("argocd", ""), cart(60));
    all.merge(
        "a person changes a weight",
        "admin",
        &of("kubectl-edit", ""),
        json!({"spec": {"to": cart(60)["spec"]["to"]}}),
    );
    all.apply("what the person wrote is not ours", "agent", &ours, cart(40));
    all.apply(
        "not even in a rehearsal",
        "agent",
        &of("weir", "&dryRun=All"),
        cart(40),
    );
    all.apply("what is there already is shared", "agent", &ours, cart(60));
    all.apply(
        "taken back by force",
        "agent",
        &of("weir", "&force=true"),
        guarded(cart(40), Some("$uid"), Some("$version")),
    );
    all.apply(
        "another manager by force",
        "admin",
        &of("argocd", "&force=true"),
        with(cart(60), |o| {
            o["metadata"]["labels"]["weir.dev/split"] = json!("other");
        }),
    );
    all.apply("two fields of one manager", "agent", &ours, cart(40));
    all.apply("by force from two", "agent", &of("weir", "&force=true"), cart(40));
    all.merge(
        "a label by hand",
        "admin",
        &of("kubectl-label", ""),
        json!({"metadata": {"labels": {"team": "pay"}}}),
    );
    all.apply("equal, beside a label by hand", "agent", &ours, cart(40));
    all.apply(
        "without the annotation",
        "agent",
        &ours,
        with(cart(40), |o| {
            o["metadata"].as_object_mut().map(|m| m.remove("annotations"));
        }),
    );
    all.merge(
        "our label taken off by hand",
        "admin",
        &of("kubectl-label", ""),
        json!({"metadata": {"labels": {"weir.dev/split": null}}}),
    );
    all.apply("and put on again", "agent", &ours, cart(40));
    all.get("read", "agent", CART);
    all.get(
        "by label",
        "agent",
        &format!("{ROUTES}?labelSelector=weir.dev%2Fsplit%3Dcart"),
    );
    all.get(
        "by a label that none has",
        "agent",
        &format!("{ROUTES}?labelSelector=weir.dev%2Fsplit%3Dother"),
    );
    all.ask(
        "made twice",
        "admin",
        Method::POST,
        &format!("{ROUTES}?fieldManager=kubectl"),
        JSON,
        Some(cart(40)),
    );
    all.ask(
        "a second one, made by POST",
        "admin",
        Method::POST,
        &format!("{ROUTES}?fieldManager=kubectl"),
        JSON,
        Some(with(cart(50), |o| {
            o["metadata"]["name"] = json!("second");
        })),
    );
    all.ask(
        "ours by PUT is nobody's any more that changed",
        "admin",
        Method::PUT,
        &of("kubectl-replace", ""),
        JSON,
        Some(guarded(cart(20), Some("$uid"), Some("$version"))),
    );
    all.ask(
        "PUT of a version that was",
        "admin",
        Method::PUT,
        &of("kubectl-replace", ""),
        JSON,
        Some(guarded(cart(10), None, Some("1"))),
    );
    all.ask(
        "removed if of another uid",
        "agent",
        Method::DELETE,
        CART,
        JSON,
        Some(json!({"preconditions": {"uid": gone}})),
    );
    all.ask(
        "removed if of another version",
        "agent",
        Method::DELETE,
        CART,
        JSON,
        Some(json!({"preconditions": {"resourceVersion": "1"}})),
    );
    all.ask(
        "removed in a rehearsal",
        "agent",
        Method::DELETE,
        &format!("{CART}?dryRun=All"),
        "",
        None,
    );
    all.ask("removed with both guards", "agent", Method::DELETE, CART, JSON, Some(
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "$uid", "resourceVersion": "$version"}}),
        ));
    all.ask(
        "removed where there is no right",
        "agent",
        Method::DELETE,
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshservices/checkout",
        "",
        None,
    );
    all.apply("made anew", "agent", &ours, cart(30));
    all.get(
        "everything since the list",
        "agent",
        &format!("{ROUTES}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion=$then"),
    );
    all.get("the same, by label: what lost it is gone", "agent", &format!(
            "{ROUTES}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion=$then&labelSelector=weir.dev%2Fsplit"
        ));
    all.get(
        "a watch of the future",
        "agent",
        &format!("{ROUTES}?watch=true&timeoutSeconds=1&resourceVersion=999999"),
    );
    all.get(
        "a watch without a right",
        "nobody",
        &format!("{EVERYWHERE}?watch=true&timeoutSeconds=1&resourceVersion=$then"),
    );
    all.get(
        "services everywhere, the first page",
        "agent",
        "/apis/kuma.io/v1alpha1/meshservices?limit=2",
    );
    all.get(
        "and the rest",
        "agent",
        "/apis/kuma.io/v1alpha1/meshservices?limit=2&continue=$continue",
    );
    all.get(
        "a page of nowhere",
        "agent",
        "/apis/kuma.io/v1alpha1/meshservices?limit=2&continue=xyz",
    );
    all.get(
        "a service",
        "agent",
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshservices/checkout",
    );
    all.get(
        "namespaces by their label",
        "agent",
        "/api/v1/namespaces?labelSelector=kuma.io%2Fsidecar-injection",
    );
    all.get("a namespace", "agent", "/api/v1/namespaces/shop");
    all.0
}
