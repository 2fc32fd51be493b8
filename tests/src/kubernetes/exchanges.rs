//! What the double of an API server is held against: exchanges as an agent, an administrator and a second writer have them,
//! asked of both alike, in normal form. `tests/recorded/kubernetes.json` holds a real one's answers about Kuma's policies, and
//! `tests/recorded/kubernetes-http-routes.json` about an HTTPRoute of the real Gateway API (`record-kubernetes`).

mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_sandbox::cluster::{ApiServer, User};
use weir_sandbox::real::cluster_zone::{self, AGENT_NAMESPACE, AGENT_RIGHTS, AGENT_RIGHTS_KIC};

use script::{Ask, ROUTES, http_routes, script};

use super::driven::service;
use super::{SHOP, SYSTEM};

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

/// Users that a server is started with to be asked.
pub fn users() -> Vec<User> {
    vec![cluster_zone::agent(), User::named("nobody")]
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A policy of Kuma's.
    Policies,
    /// An HTTPRoute of Gateway API's.
    HttpRoutes,
}

impl About {
    /// Where the recording is.
    pub fn file(self) -> PathBuf {
        let name = match self {
            Self::Policies => "kubernetes.json",
            Self::HttpRoutes => "kubernetes-http-routes.json",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded").join(name)
    }

    /// The recording.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn recorded(self) -> anyhow::Result<Vec<Exchange>> {
        let file = self.file();
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// What an agent may always list, if it has its rights.
    fn listed(self) -> &'static str {
        match self {
            Self::Policies => ROUTES,
            Self::HttpRoutes => http_routes::EVERYWHERE,
        }
    }

    fn script(self) -> Vec<Ask> {
        match self {
            Self::Policies => script(),
            Self::HttpRoutes => http_routes::script(),
        }
    }
}

/// Puts a server in order, asks everything and ends.
///
/// # Errors
/// If nobody answers, or the server cannot be put in order.
pub async fn exchange(
    about: About,
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
    if about == About::HttpRoutes {
        rights.extend(weir_sandbox::cluster::documents(AGENT_RIGHTS_KIC)?);
    }
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
        .exchange(Method::GET, about.listed(), "", None)
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
    for ask in about.script() {
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
