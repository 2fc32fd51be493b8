//! An API server in this process: a store with lists, watches, server-side apply's guards and preconditions of deletes, as
//! measured on a real one; and answers as told in place of any of it.
//!
//! It checks no schema, merges no fields and asks no webhooks: that is for the real one, in `tests/tests`.

mod answers;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body as Answer;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use weir_drivers::{Cluster as Access, KubernetesConfig, KumaKubernetes, KumaRest, Metrics, Sampled};
use weir_model::DnsLabel;

use crate::plan;
use answers::{list_of, ok, path_of, status};

pub(crate) const KUMA: &str = "/apis/kuma.io/v1alpha1";
pub(crate) const SERVICES: &str = "/apis/kuma.io/v1alpha1/meshservices";
pub(crate) const HTTP: &str = "/apis/kuma.io/v1alpha1/meshhttproutes";
pub(crate) const TCP: &str = "/apis/kuma.io/v1alpha1/meshtcproutes";
pub(crate) const INGRESSES: &str = "/apis/kuma.io/v1alpha1/zoneingresses";
pub(crate) const ADDRESSES: &str = "/apis/kuma.io/v1alpha1/meshzoneaddresses";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const OURS: &str = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes/weir-checkout";

/// What comes back instead.
#[derive(Clone)]
pub(crate) enum Instead {
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection breaks in the middle.
    Cut,
    Hang,
}

pub(crate) fn body(code: u16, value: &Value) -> Instead {
    let bytes = match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    };
    Instead::Status(code, Vec::new(), bytes)
}

/// A call as it was made.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    instead: BTreeMap<(String, String), Vec<Instead>>,
    asked: Vec<Asked>,
    open: BTreeMap<String, Vec<mpsc::UnboundedSender<Bytes>>>,
    /// Watches get what is told, and no events of the store.
    mute: bool,
    page: usize,
}

#[derive(Clone)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
    dir: Arc<TempDir>,
}

impl Cluster {
    /// Namespaces as Kuma's chart makes them, and nothing else.
    pub(crate) fn new() -> Self {
        let cluster = Self {
            state: Arc::new(Mutex::new(State {
                version: 1000,
                page: usize::MAX,
                ..State::default()
            })),
            dir: Arc::new(tempfile::tempdir().unwrap()),
        };
        for (name, injection) in [("kuma-system", "false"), ("shop", "enabled")] {
            cluster.put(json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kuma.io/sidecar-injection": injection}},
            }));
        }
        cluster
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn config(&self) -> KubernetesConfig {
        KubernetesConfig {
            federation: plan::federation(),
            cluster: Access::InCluster,
            system_namespace: DnsLabel::new("kuma-system").unwrap(),
            take_back: false,
            rest: None,
            envoy_admin: Vec::new(),
            metrics: None,
            sampled: Sampled {
                calls_per_hour: 60,
                per_change: 3,
            },
            spent: self.dir.path().join("sampled.json"),
            timeout: Duration::from_secs(5),
        }
    }

    pub(crate) fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    pub(crate) fn driver(&self) -> KumaKubernetes {
        KumaKubernetes::over(self.config(), self.client()).unwrap()
    }

    pub(crate) fn driver_that_takes_back(&self) -> KumaKubernetes {
        let config = KubernetesConfig {
            take_back: true,
            ..self.config()
        };
        KumaKubernetes::over(config, self.client()).unwrap()
    }

    pub(crate) fn driver_with_rest(&self, api: &str, metrics: Option<Metrics>) -> KumaKubernetes {
        let config = KubernetesConfig {
            rest: Some(KumaRest {
                api: api.to_owned(),
                token_file: None,
            }),
            metrics,
            ..self.config()
        };
        KumaKubernetes::over(config, self.client()).unwrap()
    }

    /// From now on this is the answer, until [`Self::heal`].
    pub(crate) fn on(&self, method: &str, path: &str, instead: Instead) {
        self.state()
            .instead
            .insert((method.to_owned(), path.to_owned()), vec![instead]);
    }

    /// The next answers are these, then the store's again.
    pub(crate) fn once(&self, method: &str, path: &str, mut instead: Vec<Instead>) {
        instead.reverse();
        instead.insert(0, Instead::Status(0, Vec::new(), Vec::new()));
        self.state()
            .instead
            .insert((method.to_owned(), path.to_owned()), instead);
    }

    pub(crate) fn heal(&self) {
        self.state().instead.clear();
    }

    pub(crate) fn asked(&self, method: &str, path: &str) -> Vec<Asked> {
        let state = self.state();
        let all = state.asked.iter();
        all.filter(|asked| asked.method == method && asked.path == path && !asked.query.contains("watch="))
            .cloned()
            .collect()
    }

    pub(crate) fn everything(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Everything that was written or removed, or tried to be.
    pub(crate) fn writes(&self) -> Vec<Asked> {
        let state = self.state();
        state
            .asked
            .iter()
            .filter(|asked| asked.method != "GET")
            .cloned()
            .collect()
    }

    pub(crate) fn watches(&self, path: &str) -> Vec<Asked> {
        let state = self.state();
        let all = state.asked.iter();
        all.filter(|asked| asked.path == path && asked.query.contains("watch="))
            .cloned()
            .collect()
    }

    pub(crate) fn page(&self, size: usize) {
        self.state().page = size;
    }

    /// Watches stay open and say nothing, whatever happens.
    pub(crate) fn mute(&self, yes: bool) {
        self.state().mute = yes;
    }

    /// A line on every open watch of a list.
    pub(crate) fn say(&self, list: &str, line: &str) {
        let mut state = self.state();
        for watch in state.open.entry(list.to_owned()).or_default() {
            drop(watch.send(Bytes::from(format!("{line}\n"))));
        }
    }

    /// All watches end, as when the server is killed.
    pub(crate) fn cut_watches(&self) {
        self.state().open.clear();
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub(crate) fn store(&self) -> BTreeMap<String, Value> {
        self.state().objects.clone()
    }

    /// Somebody writes an object.
    pub(crate) fn put(&self, object: Value) -> String {
        self.state().put(object)
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().remove(path);
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, sent) = request.into_parts();
        let sent = sent.collect().await.unwrap().to_bytes();
        let asked = Asked {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            content: parts
                .headers
                .get("content-type")
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default(),
            body: serde_json::from_slice(&sent).unwrap_or(Value::Null),
        };
        let instead = {
            let mut state = self.state();
            state.asked.push(asked.clone());
            let method = match asked.query.contains("watch=") {
                true => "WATCH".to_owned(),
                false => asked.method.clone(),
            };
            let key = (method, asked.path.clone());
            match state.instead.get_mut(&key) {
                None => None,
                Some(only) if only.len() == 1 => match only.first().cloned() {
                    Some(Instead::Status(0, ..)) => {
                        state.instead.remove(&key);
                        None
                    }
                    other => other,
                },
                Some(several) => several.pop(),
            }
        };
        match instead {
            Some(Instead::Status(code, headers, bytes)) => {
                let mut answer = Response::builder().status(code);
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
                answer.body(Answer::from(bytes)).unwrap()
            }
            Some(Instead::Cut) => {
                let pieces = [Ok(Bytes::from("{\"kind\":\"")), Err("gone")];
                Response::new(Answer::from_stream(futures::stream::iter(pieces)))
            }
            Some(Instead::Hang) => std::future::pending().await,
            None => self.state().answer(&asked),
        }
    }
}

impl State {
    fn put(&mut self, mut object: Value) -> String {
        let path = path_of(&object);
        self.version += 1;
        let before = self.objects.get(&path);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = match before {
                Some(before) => before["metadata"]["uid"].clone(),
                None => json!(format!("uid-{}", self.version)),
            };
        }
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(&list_of(&path), kind, &object);
        self.objects.insert(path.clone(), object);
        path
    }

    fn remove(&mut self, path: &str) {
        if let Some(mut object) = self.objects.remove(path) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(&list_of(path), "DELETED", &object);
        }
    }

    fn tell(&mut self, list: &str, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        if !self.mute {
            for watch in self.open.entry(list.to_owned()).or_default() {
                drop(watch.send(line.clone()));
            }
        }
    }

    fn answer(&mut self, asked: &Asked) -> Response<Answer> {
        let path = asked.path.as_str();
        if path == "/version" {
            return ok(
                200,
                &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3"}),
            );
        }
        let is_list = [SERVICES, HTTP, TCP, INGRESSES, ADDRESSES, NAMESPACES].contains(&path);
        match (asked.method.as_str(), is_list) {
            ("GET", true) if asked.query.contains("watch=") => self.watch(asked),
            ("GET", true) => self.list(path, &asked.query),
            ("GET", false) => match self.objects.get(path) {
                Some(object) => ok(200, object),
                None => status(404, "NotFound", &format!("{path} not found"), path),
            },
            ("PATCH", false) => self.apply(path, asked),
            ("DELETE", false) => self.delete(path, asked),
            _ => status(405, "MethodNotAllowed", "not allowed", path),
        }
    }

    fn list(&self, path: &str, query: &str) -> Response<Answer> {
        let kind = match path {
            SERVICES => "MeshServiceList",
            HTTP => "MeshHTTPRouteList",
            TCP => "MeshTCPRouteList",
            INGRESSES => "ZoneIngressList",
            ADDRESSES => "MeshZoneAddressList",
            _ => "NamespaceList",
        };
        let from: usize = query
            .split('&')
            .find_map(|part| part.strip_prefix("continue="))
            .map_or(0, |text| text.parse().unwrap());
        let all: Vec<_> = self
            .objects
            .iter()
            .filter(|(at, _)| list_of(at) == path)
            .collect();
        let page: Vec<_> = all
            .iter()
            .skip(from)
            .take(self.page)
            .map(|(_, object)| object)
            .collect();
        let next = from.saturating_add(self.page);
        let more = if next < all.len() {
            next.to_string()
        } else {
            String::new()
        };
        ok(
            200,
            &json!({"kind": kind, "metadata": {"resourceVersion": self.version.to_string(), "continue": more}, "items": page}),
        )
    }

    fn watch(&mut self, asked: &Asked) -> Response<Answer> {
        let (tell, told) = mpsc::unbounded_channel();
        self.open.entry(asked.path.clone()).or_default().push(tell);
        let seconds: u64 = asked
            .query
            .split('&')
            .find_map(|part| part.strip_prefix("timeoutSeconds="))
            .unwrap()
            .parse()
            .unwrap();
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let last = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": self.version.to_string()}}});
        let mute = self.mute;
        // As a real one: it ends after the time that was asked for, with a last bookmark; about to stop, it hangs.
        let lines = futures::stream::unfold(Some(told), move |told| {
            let last = last.clone();
            async move {
                let mut told = told?;
                tokio::select! {
                    line = told.recv() => line.map(|line| (Ok::<_, Infallible>(line), Some(told))),
                    () = tokio::time::sleep_until(end), if !mute => Some((Ok(Bytes::from(format!("{last}\n"))), None)),
                }
            }
        });
        Response::new(Answer::from_stream(lines))
    }

    fn apply(&mut self, path: &str, asked: &Asked) -> Response<Answer> {
        let mut wanted = asked.body.clone();
        let name = wanted["metadata"]["name"].as_str().unwrap().to_owned();
        let guard = |key: &str| wanted["metadata"][key].as_str().map(str::to_owned);
        let (uid, version) = (guard("uid"), guard("resourceVersion"));
        let live = self.objects.get(path);
        match live {
            None if uid.is_some() => {
                return status(
                    409,
                    "Conflict",
                    "uid mismatch: no existing object was found",
                    &name,
                );
            }
            Some(live) if version.is_some() && live["metadata"]["resourceVersion"] != json!(version) => {
                return status(409, "Conflict", "the object has been modified", &name);
            }
            _ => {}
        }
        let code = if live.is_some() { 200 } else { 201 };
        if let Some(live) = live {
            wanted["metadata"]["uid"] = live["metadata"]["uid"].clone();
        }
        // What Kuma's webhooks add, and who wrote it.
        wanted["metadata"]["labels"]["kuma.io/zone"] = json!("use1");
        wanted["metadata"]["annotations"]["kuma.io/display-name"] = json!(name);
        wanted["metadata"]["managedFields"] = plan::managed("weir", "Apply", "2026-11-23T15:00:00Z");
        let path = self.put(wanted);
        ok(code, &self.objects[&path])
    }

    fn delete(&mut self, path: &str, asked: &Asked) -> Response<Answer> {
        let Some(live) = self.objects.get(path) else {
            return status(404, "NotFound", "not found", path);
        };
        for guard in ["uid", "resourceVersion"] {
            let wanted = &asked.body["preconditions"][guard];
            if !wanted.is_null() && *wanted != live["metadata"][guard] {
                return status(409, "Conflict", "the precondition does not match", path);
            }
        }
        self.remove(path);
        ok(200, &json!({"kind": "Status", "status": "Success"}))
    }
}
