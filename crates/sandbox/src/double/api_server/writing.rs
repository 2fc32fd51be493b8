//! Writes at the double of an API server: apply, merge patch, POST, PUT, DELETE, in a real one's order of refusing: shape,
//! conflicts, webhooks that change, guards, webhooks that judge.

use std::time::Duration;

use serde_json::{Value, json};

use super::fields::{self, Writer};
use super::kinds::{Target, Type};
use super::refusal::{self, Refusal};
use super::rights::Somebody;
use super::server::{Query, Server};
use super::store::Key;

/// How often a write begins anew because somebody else was faster.
const TRIES: usize = 5;
/// How long a webhook may take, as Kuma registers its own.
const WEBHOOK: Duration = Duration::from_secs(10);
/// The label without which no webhook of Kuma's sees a namespace.
const INJECTION: &str = "kuma.io/sidecar-injection";

/// What is written, and by whom.
pub(super) struct Write<'a> {
    pub(super) server: &'a Server,
    pub(super) target: &'a Target,
    pub(super) known: &'static Type,
    pub(super) who: &'a Somebody,
    pub(super) query: &'a Query,
    /// What the client calls itself, for a write that names no manager.
    pub(super) agent: &'a str,
}

/// What an object must still be when it is written.
#[derive(Default)]
struct Guards {
    version: Option<String>,
    uid: Option<String>,
}

impl Guards {
    fn of(object: &Value) -> Self {
        let text = |key: &str| {
            object["metadata"][key]
                .as_str()
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
        };
        Self {
            version: text("resourceVersion"),
            uid: text("uid"),
        }
    }
}

type Written = Result<(u16, Value), Refusal>;

impl Write<'_> {
    fn is_dry(&self) -> bool {
        self.query.get("dryRun") == Some("All")
    }

    /// Server-side apply.
    pub(super) async fn apply(&self, body: &[u8]) -> Written {
        let Some(manager) = self.query.get("fieldManager").filter(|m| !m.is_empty()) else {
            return Err(refusal::no_manager());
        };
        let force = self.query.get("force") == Some("true");
        let text = String::from_utf8_lossy(body);
        let wanted = serde_json::from_slice(body).or_else(|_| serde_saphyr::from_str(&text));
        let mut wanted: Value = wanted.map_err(|e: serde_saphyr::Error| {
            refusal::bad_request(format!("error decoding YAML: error converting YAML to JSON: {e}"))
        })?;
        let (key, name) = self.server.key(self.target, self.known);
        if !wanted["metadata"]["managedFields"].is_null() {
            return Err(refusal::bad_request("metadata.managedFields must be nil"));
        }
        self.is_of_this_place(&wanted, &name)?;
        if let Some(why) = self.known.untyped(&wanted) {
            return Err(refusal::untyped(self.target, self.known, &name, &why));
        }
        self.known.default(&mut wanted);
        self.without_status(&mut wanted);
        let guards = Guards::of(&wanted);
        for _ in 0..TRIES {
            let live = self.server.store().get(&key).cloned();
            if live.is_none() {
                if !self.who.may(&self.server.store(), "create", self.target) {
                    return Err(refusal::forbidden(self.target, &self.who.name, "create"));
                }
                if let Some(uid) = &guards.uid {
                    return Err(refusal::no_such_uid(self.target, &name, uid));
                }
                self.namespace_is_there()?;
            }
            let now = self.server.now();
            let writer = Writer {
                manager,
                now: &now,
                subresource: None,
            };
            let object = fields::apply(live.as_ref(), &wanted, writer, force)
                .map_err(|all| refusal::conflicts(&all))?;
            // Of an object that is not there any version is as good as none.
            let guards = Guards {
                version: guards.version.clone().filter(|_| live.is_some()),
                uid: guards.uid.clone(),
            };
            if let Some(done) = self.finish(&key, live, object, &guards).await? {
                return Ok(done);
            }
        }
        Err(refusal::modified(self.target, &name))
    }

    /// A merge patch of what is there.
    pub(super) async fn merge(&self, body: &[u8]) -> Written {
        let patch: Value = serde_json::from_slice(body).map_err(|e| refusal::bad_request(e.to_string()))?;
        let (key, name) = self.server.key(self.target, self.known);
        for _ in 0..TRIES {
            let live = self.server.store().get(&key).cloned();
            let Some(live) = live else {
                return Err(refusal::not_found(self.target, &name));
            };
            let mut object = live.clone();
            fields::merge(&mut object, &patch);
            let guards = Guards::of(&patch);
            if let Some(done) = self.replace(&key, live, object, &guards).await? {
                return Ok(done);
            }
        }
        Err(refusal::modified(self.target, &name))
    }

    /// PUT of what is there.
    pub(super) async fn put(&self, body: &[u8]) -> Written {
        let object: Value = serde_json::from_slice(body).map_err(|e| refusal::bad_request(e.to_string()))?;
        let (key, name) = self.server.key(self.target, self.known);
        self.is_of_this_place(&object, &name)?;
        let guards = Guards::of(&object);
        for _ in 0..TRIES {
            let live = self.server.store().get(&key).cloned();
            let Some(live) = live else {
                return Err(refusal::not_found(self.target, &name));
            };
            if let Some(done) = self.replace(&key, live, object.clone(), &guards).await? {
                return Ok(done);
            }
        }
        Err(refusal::modified(self.target, &name))
    }

    async fn replace(
        &self,
        key: &Key,
        live: Value,
        mut object: Value,
        guards: &Guards,
    ) -> Result<Option<(u16, Value)>, Refusal> {
        let own = [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "name",
            "namespace",
        ];
        for name in own {
            if !live["metadata"][name].is_null() {
                object["metadata"][name] = live["metadata"][name].clone();
            }
        }
        for name in ["apiVersion", "kind"] {
            object[name] = live[name].clone();
        }
        // Who writes the object does not write what is said of it, and the other way round.
        if self.target.is_status() {
            let status = object["status"].take();
            object = live.clone();
            object["status"] = status;
        } else if self.known.has_status() {
            self.without_status(&mut object);
            if let Some(status) = live.get("status") {
                object["status"] = status.clone();
            }
        }
        let now = self.server.now();
        fields::update(Some(&live), &mut object, self.updater(&now));
        self.finish(key, Some(live), object, guards).await
    }

    /// What is said of an object is not written with it.
    fn without_status(&self, object: &mut Value) {
        if self.known.has_status()
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
    }

    fn updater<'w>(&'w self, now: &'w str) -> Writer<'w> {
        let manager = self.query.get("fieldManager").unwrap_or(self.agent);
        Writer {
            manager,
            now,
            subresource: self.target.subresource.as_deref(),
        }
    }

    /// POST of a new object.
    pub(super) async fn create(&self, body: &[u8]) -> Written {
        let mut object: Value =
            serde_json::from_slice(body).map_err(|e| refusal::bad_request(e.to_string()))?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(refusal::bad_request("name or generateName is required"));
        }
        self.is_of_this_place(&object, &name)?;
        let target = Target {
            name: Some(name.clone()),
            ..self.target.clone()
        };
        let (key, _) = self.server.key(&target, self.known);
        self.namespace_is_there()?;
        if self.server.store().get(&key).is_some() {
            return Err(refusal::exists(self.target, &name));
        }
        let now = self.server.now();
        self.without_status(&mut object);
        fields::update(None, &mut object, self.updater(&now));
        match self.finish(&key, None, object, &Guards::default()).await? {
            Some(done) => Ok(done),
            None => Err(refusal::exists(self.target, &name)),
        }
    }

    /// DELETE, if the object is still what it is expected to be.
    pub(super) async fn delete(&self, body: &[u8]) -> Written {
        let options: Value = serde_json::from_slice(body).unwrap_or_default();
        let (key, name) = self.server.key(self.target, self.known);
        let live = self.server.store().get(&key).cloned();
        let Some(live) = live else {
            return Err(refusal::not_found(self.target, &name));
        };
        for (key, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let wanted = options["preconditions"][key].as_str();
            let is = live["metadata"][key].as_str().unwrap_or_default();
            if let Some(wanted) = wanted.filter(|w| *w != is) {
                return Err(refusal::precondition(self.target, self.known, word, wanted, is));
            }
        }
        if self.is_guarded() {
            self.webhook(Phase::Judge, "DELETE", &Value::Null, Some(&live))
                .await?;
        }
        // Where options are sent, those of the address are not looked at.
        let rehearsal = match options["dryRun"].as_array() {
            Some(stages) => stages.iter().any(|s| s == "All"),
            None => body.is_empty() && self.is_dry(),
        };
        if !rehearsal {
            let mut store = self.server.store();
            store.remove(&key);
            if self.known.kind == "Namespace" {
                let inside: Vec<Key> = super::kinds::TYPES
                    .iter()
                    .flat_map(|t| {
                        store
                            .all(t, Some(&name))
                            .map(|(key, _)| key.clone())
                            .collect::<Vec<_>>()
                    })
                    .collect();
                for key in inside {
                    store.remove(&key);
                }
            }
            drop(store);
            self.server.tell();
        }
        let mut details = json!({"name": name, "kind": self.target.resource, "uid": live["metadata"]["uid"]});
        if !self.target.group.is_empty() {
            details["group"] = self.target.group.clone().into();
        }
        let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok((200, done))
    }

    /// The rest of every write; none if somebody else was faster.
    async fn finish(
        &self,
        key: &Key,
        live: Option<Value>,
        mut object: Value,
        guards: &Guards,
    ) -> Result<Option<(u16, Value)>, Refusal> {
        let (_, namespace, name) = key;
        let metadata = |object: &mut Value, name: &str, value: Value| object["metadata"][name] = value;
        metadata(&mut object, "name", name.clone().into());
        if self.known.namespaced {
            metadata(&mut object, "namespace", namespace.clone().into());
        }
        if live.is_none() {
            metadata(&mut object, "uid", crate::random_id().into());
            metadata(&mut object, "creationTimestamp", self.server.now().into());
            if let Some(fields) = object["metadata"].as_object_mut() {
                fields.remove("resourceVersion");
            }
        }
        self.known.default(&mut object);
        own_fields(self.known, name, &mut object);
        let operation = if live.is_some() { "UPDATE" } else { "CREATE" };
        if self.is_guarded() {
            object = self
                .webhook(Phase::Change, operation, &object, live.as_ref())
                .await?;
        }
        if let Some(live) = &live {
            let is = |key: &str| live["metadata"][key].as_str().unwrap_or_default().to_owned();
            if guards
                .version
                .as_ref()
                .is_some_and(|v| *v != is("resourceVersion"))
            {
                return Err(refusal::modified(self.target, name));
            }
            if let Some(uid) = guards.uid.as_ref().filter(|uid| **uid != is("uid")) {
                return Err(refusal::immutable_uid(self.target, self.known, name, uid));
            }
        }
        if self.known.counts_generations() {
            let generation = match &live {
                None => 1,
                Some(live) => {
                    let before = live["metadata"]["generation"].as_u64().unwrap_or_default();
                    before + u64::from(!self.target.is_status() && !same_beside_metadata(live, &object))
                }
            };
            metadata(&mut object, "generation", generation.into());
        }
        if self.is_guarded() {
            self.webhook(Phase::Judge, operation, &object, live.as_ref())
                .await?;
        }
        if live.as_ref() == Some(&object) {
            return Ok(Some((200, object)));
        }
        let code = if live.is_some() { 200 } else { 201 };
        if self.is_dry() {
            return Ok(Some((code, object)));
        }
        let version = |object: Option<&Value>| object.map(|o| o["metadata"]["resourceVersion"].clone());
        let mut store = self.server.store();
        if version(store.get(key)) != version(live.as_ref()) {
            return Ok(None);
        }
        let stored = store.put(key.clone(), object);
        drop(store);
        self.server.tell();
        Ok(Some((code, stored)))
    }

    fn is_of_this_place(&self, object: &Value, name: &str) -> Result<(), Refusal> {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version != self.known.api_version() || kind != self.known.kind {
            return Err(refusal::bad_request(format!(
                "invalid object type: {version}, Kind={kind}"
            )));
        }
        let given = object["metadata"]["name"].as_str().unwrap_or_default();
        if !given.is_empty() && given != name {
            return Err(refusal::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        let given = object["metadata"]["namespace"].as_str();
        if given.is_some_and(|g| self.target.namespace.as_deref() != Some(g)) {
            return Err(refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    fn namespace_is_there(&self) -> Result<(), Refusal> {
        match &self.target.namespace {
            Some(namespace) if self.server.namespace(namespace).is_none() => {
                Err(refusal::no_namespace(namespace))
            }
            _ => Ok(()),
        }
    }

    fn is_guarded(&self) -> bool {
        if self.server.webhooks.is_none() || !self.known.is_kumas() {
            return false;
        }
        match &self.target.namespace {
            None => true,
            Some(namespace) => self
                .server
                .namespace(namespace)
                .is_some_and(|n| n["metadata"]["labels"].get(INJECTION).is_some()),
        }
    }

    /// Asks a webhook; the object as it is then.
    async fn webhook(
        &self,
        phase: Phase,
        operation: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let Some(base) = &self.server.webhooks else {
            return Ok(object.clone());
        };
        let (name, path) = phase.words();
        let url = format!("{base}{path}?timeout=10s");
        let review = json!({
            "operation": operation, "user": self.who.name, "object": object, "oldObject": old,
        });
        let asked = async {
            let answer = self.server.client.post(&url).json(&review).send().await?;
            answer.error_for_status()?.json::<Value>().await
        };
        let answer = match tokio::time::timeout(WEBHOOK, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let why = if error.is_connect() {
                    let host = base.trim_start_matches("http://");
                    format!("dial tcp {host}: connect: connection refused")
                } else {
                    error.to_string()
                };
                return Err(refusal::webhook_away(name, &url, &why));
            }
            Err(_) => return Err(refusal::webhook_away(name, &url, "context deadline exceeded")),
        };
        if let Some(denied) = answer.get("denied") {
            let name = denied["webhook"].as_str().unwrap_or(name);
            return Err(refusal::denied(name, denied));
        }
        Ok(answer.get("object").cloned().unwrap_or_else(|| object.clone()))
    }
}

/// When a webhook is asked.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Before the object is what will be stored.
    Change,
    /// After that.
    Judge,
}

impl Phase {
    /// Name and path of Kuma's own.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Change => (
                "mesh.defaulter.kuma-admission.kuma.io",
                "/default-kuma-io-v1alpha1-mesh",
            ),
            Self::Judge => ("validator.kuma-admission.kuma.io", "/validate-kuma-io-v1alpha1"),
        }
    }
}

/// What Kubernetes puts into its own types.
fn own_fields(known: &Type, name: &str, object: &mut Value) {
    if known.kind == "Namespace" {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
        object["spec"]["finalizers"] = json!(["kubernetes"]);
        object["status"]["phase"] = json!("Active");
    }
}

fn same_beside_metadata(a: &Value, b: &Value) -> bool {
    let rest = |of: &Value| {
        let mut of = of.clone();
        if let Some(fields) = of.as_object_mut() {
            fields.remove("metadata");
        }
        of
    };
    rest(a) == rest(b)
}
