//! What the double of an API server is held against: exchanges as an agent, an administrator and a second writer have them,
//! asked of both alike, in normal form. `tests/recorded/kubernetes.json` holds a real one's answers (`record-kubernetes`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_sandbox::cluster::{ApiServer, User};
use weir_sandbox::real::cluster_zone::{self, AGENT_NAMESPACE, AGENT_RIGHTS};

use super::driven::service;
use super::{SHOP, SYSTEM};

/// Content type of server-side apply.
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
const ROUTES: &str = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes";
const CART: &str = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes/weir-cart";
const EVERYWHERE: &str = "/apis/kuma.io/v1alpha1/meshhttproutes";

/// One exchange as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// What it shows.
    pub what: String,
    /// Who asks: `agent`, `admin`, `nobody`, `stranger`.
    pub who: String,
    /// Method and path; `$uid` and `$version` are of the object as it was last seen, `$then` of the list that was kept.
    pub request: String,
    /// What is sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<Value>,
    /// What is answered, in normal form: status, content type, body.
    pub response: Value,
}

/// One question.
struct Ask {
    what: &'static str,
    who: &'static str,
    method: Method,
    path: String,
    kind: &'static str,
    body: Option<Value>,
}

/// Users that a server is started with to be asked.
pub fn users() -> Vec<User> {
    vec![cluster_zone::agent(), User::named("nobody")]
}

/// Where the recording is.
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/kubernetes.json")
}

/// The recording.
///
/// # Errors
/// If it cannot be read.
pub fn recorded() -> anyhow::Result<Vec<Exchange>> {
    let text = std::fs::read_to_string(file()).with_context(|| file().display().to_string())?;
    Ok(serde_json::from_str(&text)?)
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

/// The script: what a driver, a person and another controller do to one policy, and who may not.
fn script() -> Vec<Ask> {
    let mut all = Vec::new();
    let mut ask = |what, who, method: Method, path: &str, kind, body| {
        all.push(Ask {
            what,
            who,
            method,
            path: path.to_owned(),
            kind,
            body,
        });
    };
    let of = |manager: &str, more: &str| format!("{CART}?fieldManager={manager}{more}");
    let ours = of("weir", "&fieldValidation=Strict&force=false");
    let gone = "00000000-0000-0000-0000-000000000000";
    let get = Method::GET;
    ask("ready", "admin", get.clone(), "/readyz", "", None);
    ask(
        "a token that nobody has",
        "stranger",
        get.clone(),
        ROUTES,
        "",
        None,
    );
    ask(
        "somebody without rights lists",
        "nobody",
        get.clone(),
        ROUTES,
        "",
        None,
    );
    ask("and reads one", "nobody", get.clone(), CART, "", None);
    ask(
        "and lists everywhere",
        "nobody",
        get.clone(),
        EVERYWHERE,
        "",
        None,
    );
    ask(
        "a type that is not there, with all rights",
        "admin",
        get.clone(),
        "/apis/example.com/v1/namespaces/shop/things",
        "",
        None,
    );
    ask(
        "the same, without rights to it",
        "agent",
        get.clone(),
        "/apis/example.com/v1/namespaces/shop/things",
        "",
        None,
    );
    ask("an empty list", "agent", get.clone(), ROUTES, "", None);
    ask(
        "an object that is not there",
        "agent",
        get.clone(),
        CART,
        "",
        None,
    );
    ask(
        "removing what is not there",
        "agent",
        Method::DELETE,
        CART,
        "",
        None,
    );
    ask(
        "apply without a manager",
        "agent",
        Method::PATCH,
        CART,
        APPLY,
        Some(cart(30)),
    );
    ask(
        "apply as plain JSON",
        "agent",
        Method::PATCH,
        &ours,
        JSON,
        Some(cart(30)),
    );
    ask(
        "apply of another name",
        "agent",
        Method::PATCH,
        &format!("{ROUTES}/weir-other?fieldManager=weir"),
        APPLY,
        Some(cart(30)),
    );
    ask(
        "apply without a kind",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(with(cart(30), |o| {
            o.as_object_mut().map(|o| o.remove("kind"));
        })),
    );
    ask(
        "apply with managed fields",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(with(cart(30), |o| {
            o["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
        })),
    );
    ask(
        "an unknown field",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(with(cart(30), |o| o["spec"]["wieght"] = json!(3))),
    );
    ask(
        "a field of another type",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(with(cart(30), |o| o["spec"]["to"] = json!("all"))),
    );
    ask(
        "apply in a namespace that is not there",
        "admin",
        Method::PATCH,
        "/apis/kuma.io/v1alpha1/namespaces/nowhere/meshhttproutes/weir-cart?fieldManager=weir",
        APPLY,
        Some(with(cart(30), |o| o["metadata"]["namespace"] = json!("nowhere"))),
    );
    ask(
        "apply where there is no right",
        "agent",
        Method::PATCH,
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshhttproutes/weir-cart?fieldManager=weir",
        APPLY,
        Some(with(cart(30), |o| o["metadata"]["namespace"] = json!("shop"))),
    );
    ask(
        "a right to change, and none to make",
        "nobody",
        Method::PATCH,
        &of("weir", ""),
        APPLY,
        Some(cart(30)),
    );
    ask(
        "with the uid of an object that is gone",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(guarded(cart(30), Some(gone), None)),
    );
    ask(
        "a rehearsal",
        "agent",
        Method::PATCH,
        &of("weir", "&dryRun=All"),
        APPLY,
        Some(cart(30)),
    );
    ask(
        "a version that no object has: made",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(guarded(cart(30), None, Some("1"))),
    );
    ask(
        "equal: nothing happens",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(cart(30)),
    );
    ask(
        "the list from which is watched",
        "agent",
        get.clone(),
        &format!("{ROUTES}?limit=500"),
        "",
        None,
    );
    ask(
        "changed, with both guards",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(guarded(cart(40), Some("$uid"), Some("$version"))),
    );
    ask(
        "a version that was",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(guarded(cart(50), None, Some("1"))),
    );
    ask(
        "another uid",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(guarded(cart(50), Some(gone), None)),
    );
    ask(
        "a right to change, and the object is there",
        "nobody",
        Method::PATCH,
        &of("someone", ""),
        APPLY,
        Some(
            json!({"apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute", "metadata": {"name": "weir-cart", "labels": {"someone": "x"}}}),
        ),
    );
    ask(
        "another manager applies",
        "admin",
        Method::PATCH,
        &of("argocd", ""),
        APPLY,
        Some(cart(60)),
    );
    ask(
        "a person changes a weight",
        "admin",
        Method::PATCH,
        &of("kubectl-edit", ""),
        MERGE,
        Some(json!({"spec": {"to": cart(60)["spec"]["to"]}})),
    );
    ask(
        "what the person wrote is not ours",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(cart(40)),
    );
    ask(
        "not even in a rehearsal",
        "agent",
        Method::PATCH,
        &of("weir", "&dryRun=All"),
        APPLY,
        Some(cart(40)),
    );
    ask(
        "what is there already is shared",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(cart(60)),
    );
    ask(
        "taken back by force",
        "agent",
        Method::PATCH,
        &of("weir", "&force=true"),
        APPLY,
        Some(guarded(cart(40), Some("$uid"), Some("$version"))),
    );
    ask(
        "another manager by force",
        "admin",
        Method::PATCH,
        &of("argocd", "&force=true"),
        APPLY,
        Some(with(cart(60), |o| {
            o["metadata"]["labels"]["weir.dev/split"] = json!("other");
        })),
    );
    ask(
        "two fields of one manager",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(cart(40)),
    );
    ask(
        "by force from two",
        "agent",
        Method::PATCH,
        &of("weir", "&force=true"),
        APPLY,
        Some(cart(40)),
    );
    ask(
        "a label by hand",
        "admin",
        Method::PATCH,
        &of("kubectl-label", ""),
        MERGE,
        Some(json!({"metadata": {"labels": {"team": "pay"}}})),
    );
    ask(
        "equal, beside a label by hand",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(cart(40)),
    );
    ask(
        "without the annotation",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(with(cart(40), |o| {
            o["metadata"].as_object_mut().map(|m| m.remove("annotations"));
        })),
    );
    ask(
        "our label taken off by hand",
        "admin",
        Method::PATCH,
        &of("kubectl-label", ""),
        MERGE,
        Some(json!({"metadata": {"labels": {"weir.dev/split": null}}})),
    );
    ask(
        "and put on again",
        "agent",
        Method::PATCH,
        &ours,
        APPLY,
        Some(cart(40)),
    );
    ask("read", "agent", get.clone(), CART, "", None);
    ask(
        "by label",
        "agent",
        get.clone(),
        &format!("{ROUTES}?labelSelector=weir.dev%2Fsplit%3Dcart"),
        "",
        None,
    );
    ask(
        "by a label that none has",
        "agent",
        get.clone(),
        &format!("{ROUTES}?labelSelector=weir.dev%2Fsplit%3Dother"),
        "",
        None,
    );
    ask(
        "made twice",
        "admin",
        Method::POST,
        &format!("{ROUTES}?fieldManager=kubectl"),
        JSON,
        Some(cart(40)),
    );
    ask(
        "a second one, made by POST",
        "admin",
        Method::POST,
        &format!("{ROUTES}?fieldManager=kubectl"),
        JSON,
        Some(with(cart(50), |o| {
            o["metadata"]["name"] = json!("second");
        })),
    );
    ask(
        "ours by PUT is nobody's any more that changed",
        "admin",
        Method::PUT,
        &of("kubectl-replace", ""),
        JSON,
        Some(guarded(cart(20), Some("$uid"), Some("$version"))),
    );
    ask(
        "PUT of a version that was",
        "admin",
        Method::PUT,
        &of("kubectl-replace", ""),
        JSON,
        Some(guarded(cart(10), None, Some("1"))),
    );
    ask(
        "removed if of another uid",
        "agent",
        Method::DELETE,
        CART,
        JSON,
        Some(json!({"preconditions": {"uid": gone}})),
    );
    ask(
        "removed if of another version",
        "agent",
        Method::DELETE,
        CART,
        JSON,
        Some(json!({"preconditions": {"resourceVersion": "1"}})),
    );
    ask(
        "removed in a rehearsal",
        "agent",
        Method::DELETE,
        &format!("{CART}?dryRun=All"),
        "",
        None,
    );
    ask(
        "removed with both guards",
        "agent",
        Method::DELETE,
        CART,
        JSON,
        Some(
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "$uid", "resourceVersion": "$version"}}),
        ),
    );
    ask(
        "removed where there is no right",
        "agent",
        Method::DELETE,
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshservices/checkout",
        "",
        None,
    );
    ask("made anew", "agent", Method::PATCH, &ours, APPLY, Some(cart(30)));
    ask(
        "everything since the list",
        "agent",
        get.clone(),
        &format!("{ROUTES}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion=$then"),
        "",
        None,
    );
    ask(
        "the same, by label: what lost it is gone",
        "agent",
        get.clone(),
        &format!(
            "{ROUTES}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion=$then&labelSelector=weir.dev%2Fsplit"
        ),
        "",
        None,
    );
    ask(
        "a watch of the future",
        "agent",
        get.clone(),
        &format!("{ROUTES}?watch=true&timeoutSeconds=1&resourceVersion=999999"),
        "",
        None,
    );
    ask(
        "a watch without a right",
        "nobody",
        get.clone(),
        &format!("{EVERYWHERE}?watch=true&timeoutSeconds=1&resourceVersion=$then"),
        "",
        None,
    );
    ask(
        "services everywhere, the first page",
        "agent",
        get.clone(),
        "/apis/kuma.io/v1alpha1/meshservices?limit=2",
        "",
        None,
    );
    ask(
        "and the rest",
        "agent",
        get.clone(),
        "/apis/kuma.io/v1alpha1/meshservices?limit=2&continue=$continue",
        "",
        None,
    );
    ask(
        "a page of nowhere",
        "agent",
        get.clone(),
        "/apis/kuma.io/v1alpha1/meshservices?limit=2&continue=xyz",
        "",
        None,
    );
    ask(
        "a service",
        "agent",
        get.clone(),
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshservices/checkout",
        "",
        None,
    );
    ask(
        "namespaces by their label",
        "agent",
        get.clone(),
        "/api/v1/namespaces?labelSelector=kuma.io%2Fsidecar-injection",
        "",
        None,
    );
    ask("a namespace", "agent", get, "/api/v1/namespaces/shop", "", None);
    all
}

/// Puts a server in order, asks everything and ends.
///
/// # Errors
/// If nobody answers, or the server cannot be put in order.
pub async fn exchange(
    admin: &ApiServer,
    agent: &ApiServer,
    nobody: &ApiServer,
) -> anyhow::Result<Vec<Exchange>> {
    let types = admin.types().await?;
    for (name, injection) in [(SYSTEM, "false"), (SHOP, "enabled"), (AGENT_NAMESPACE, "false")] {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kuma.io/sidecar-injection": injection}},
        });
        admin.apply(&types, "set-up", &namespace).await?;
    }
    let mut rights = weir_sandbox::cluster::documents(AGENT_RIGHTS)?;
    rights.extend(weir_sandbox::cluster::documents(HALF_A_RIGHT)?);
    rights.extend(weir_sandbox::cluster::documents(ONE_BY_ONE)?);
    for object in &rights {
        admin.apply(&types, "set-up", object).await?;
    }
    for (name, namespace, zone) in [
        ("checkout", SHOP, "use1"),
        ("checkout-fra", SYSTEM, "fra"),
        ("checkout-ams", SYSTEM, "ams"),
    ] {
        admin
            .apply(&types, "set-up", &service(name, namespace, zone))
            .await?;
    }
    // A real one takes in new roles a moment after they are written.
    let begin = std::time::Instant::now();
    while !agent
        .exchange(Method::GET, ROUTES, "", None)
        .await?
        .status
        .is_success()
    {
        anyhow::ensure!(begin.elapsed().as_secs() < 30, "the agent never gets its rights");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut normal = Normal::default();
    let mut kept = Kept::default();
    let mut all = Vec::new();
    for ask in script() {
        let api = match ask.who {
            "agent" => agent.clone(),
            "nobody" => nobody.clone(),
            "stranger" => agent.with_token("nobodys"),
            _ => admin.clone(),
        };
        let path = kept.fill(&ask.path);
        let body = match &ask.body {
            Some(body) => Some(serde_json::from_str(&kept.fill(&body.to_string()))?),
            None => None,
        };
        let answer = api
            .exchange(ask.method.clone(), &path, ask.kind, body.as_ref())
            .await
            .context(ask.what)?;
        let text = answer.text();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        // When a bookmark comes is the server's business.
        let lines: Vec<Value> = lines.filter(|l| l["type"] != "BOOKMARK").collect();
        let told = match (answer.json(), ask.path.contains("watch=")) {
            (Ok(value), false) => value,
            (_, true) if answer.status.is_success() => lines.into(),
            (Ok(value), true) => value,
            (Err(_), _) => text.into(),
        };
        kept.take(&ask, &told);
        all.push(Exchange {
            what: ask.what.to_owned(),
            who: ask.who.to_owned(),
            request: format!("{} {}", ask.method, ask.path),
            body: ask.body,
            response: json!({
                "status": answer.status.as_u16(), "type": answer.content_type, "body": normal.of(told),
            }),
        });
    }
    Ok(all)
}

/// More than an agent has or needs: what a server answers to who reads one object is told by reading one.
const ONE_BY_ONE: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: one-by-one}
rules:
  - {apiGroups: [kuma.io], resources: [meshservices], verbs: [get]}
  - {apiGroups: [''], resources: [namespaces], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: one-by-one}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: one-by-one}
subjects: [{kind: ServiceAccount, name: weir-agent, namespace: weir-system}]
";

/// May change policies, and make none.
const HALF_A_RIGHT: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: half, namespace: kuma-system}
rules:
  - {apiGroups: [kuma.io], resources: [meshhttproutes], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: half, namespace: kuma-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: half}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: nobody}]
";

/// What later questions take from earlier answers.
#[derive(Default)]
struct Kept {
    uid: String,
    version: String,
    then: String,
    more: String,
}

impl Kept {
    fn fill(&self, text: &str) -> String {
        text.replace("$uid", &self.uid)
            .replace("$version", &self.version)
            .replace("$then", &self.then)
            .replace("$continue", &self.more)
    }

    fn take(&mut self, ask: &Ask, told: &Value) {
        let metadata = &told["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        if metadata["name"] == "weir-cart" && !ask.path.contains("dryRun") {
            (self.uid, self.version) = (text("uid"), text("resourceVersion"));
        }
        if ask.path.ends_with("limit=500") {
            self.then = text("resourceVersion");
        }
        if ask.path.ends_with("meshservices?limit=2") {
            self.more = text("continue");
        }
    }
}

/// Takes away what differs from run to run: the same uid, version or token is the same word each time.
#[derive(Default)]
struct Normal {
    words: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Normal {
    fn word(&mut self, kind: &'static str, text: &str) -> Value {
        // What the script itself sent, and what says that there is none.
        if text.is_empty() || text == "1" || text.starts_with("00000000-") {
            return text.into();
        }
        let counts = &mut self.counts;
        let word = self.words.entry(text.to_owned()).or_insert_with(|| {
            let count = counts.entry(kind).or_default();
            *count += 1;
            format!("{kind}-{count}")
        });
        word.clone().into()
    }

    fn of(&mut self, value: Value) -> Value {
        match value {
            Value::Array(all) => all.into_iter().map(|v| self.of(v)).collect(),
            Value::Object(mut fields) => {
                let is_list = fields.get("items").is_some_and(Value::is_array);
                // A real store counts what others write meanwhile: leases, events.
                if let Some(metadata) = fields.get_mut("metadata").filter(|_| is_list) {
                    metadata["resourceVersion"] = "".into();
                }
                fields
                    .into_iter()
                    .map(|(key, value)| {
                        let text = value.as_str().map(str::to_owned);
                        let value = match (key.as_str(), text) {
                            ("uid", Some(text)) => self.word("uid", &text),
                            ("resourceVersion", Some(text)) => self.word("version", &text),
                            ("continue", Some(text)) => self.word("continue", &text),
                            ("creationTimestamp" | "time", Some(_)) => "then".into(),
                            ("message", Some(text)) => self.sentence(&text).into(),
                            _ => self.of(value),
                        };
                        (key, value)
                    })
                    .collect()
            }
            other => other,
        }
    }

    /// Words that were given a name are called by it in sentences too.
    fn sentence(&self, text: &str) -> String {
        let known = |word: &str| {
            let bare = word.trim_matches(|c| "().,".contains(c));
            match self.words.get(bare) {
                Some(name) if !bare.is_empty() => word.replace(bare, name),
                _ => word.to_owned(),
            }
        };
        let words: Vec<String> = text.split(' ').map(known).collect();
        words.join(" ")
    }
}
