//! A control plane that answers as told, and Envoys that do.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use weir_drivers::{DriverError, KumaConfig, KumaUniversal, Sampled};
use weir_model::BackendName;
use weir_planner::Item;

use crate::checkout::{self, Backend};
pub(crate) use crate::checkout::{federation, mesh};

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Body(u16, String),
    Slow(Duration),
    /// The connection ends in the middle of the body.
    Cut,
}

pub(crate) fn body(status: u16, value: &Value) -> Answer {
    Answer::Body(status, value.to_string())
}

/// An answer of real Kuma or Envoy.
pub(crate) fn recorded(name: &str) -> Answer {
    let path = format!("{}/tests/recorded/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let status = u16::try_from(file["status"].as_u64().unwrap()).unwrap();
    Answer::Body(status, serde_json::to_string_pretty(&file["body"]).unwrap())
}

impl Answer {
    async fn respond(self) -> Response {
        match self {
            Self::Body(status, text) => Response::builder().status(status).body(Body::from(text)).unwrap(),
            Self::Slow(wait) => {
                tokio::time::sleep(wait).await;
                Response::new(Body::empty())
            }
            Self::Cut => {
                let pieces = [Ok(Bytes::from("{\"ite")), Err("gone")];
                Response::new(Body::from_stream(futures::stream::iter(pieces)))
            }
        }
    }
}

#[derive(Default)]
struct Script {
    answers: BTreeMap<(String, String), Answer>,
    pages: BTreeMap<String, (Vec<Value>, usize, usize)>,
    store: BTreeMap<String, Value>,
    instead: BTreeMap<String, Value>,
    asked: Vec<(String, String)>,
}

/// A scripted control plane; what is not scripted is a store of objects.
pub(crate) struct Stage {
    api: String,
    script: Arc<Mutex<Script>>,
    dir: TempDir,
    server: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let stage = Self {
            api,
            script,
            dir: tempfile::tempdir().unwrap(),
            server,
        };
        stage.on("GET", "/", recorded("root"));
        let nothing = json!({"total": 0, "items": [], "next": null});
        for list in [
            "meshservices",
            "meshhttproutes",
            "meshtcproutes",
            "dataplanes/_overview",
        ] {
            stage.on("GET", &format!("/meshes/default/{list}"), body(200, &nothing));
        }
        stage
    }

    /// A driver whose control plane is not there.
    pub(crate) fn nobody() -> KumaUniversal {
        driver("http://127.0.0.1:9", &tempfile::tempdir().unwrap(), 60, 3)
    }

    pub(crate) fn driver(&self) -> KumaUniversal {
        driver(&self.api, &self.dir, 60, 3)
    }

    pub(crate) fn driver_with_budget(&self, calls_per_hour: u32, per_change: u32) -> KumaUniversal {
        driver(&self.api, &self.dir, calls_per_hour, per_change)
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// From now on, this is the answer.
    pub(crate) fn on(&self, method: &str, path: &str, answer: Answer) {
        self.script()
            .answers
            .insert((method.to_owned(), path.to_owned()), answer);
    }

    /// A list that is served so many at a time, and claims a total.
    pub(crate) fn pages(&self, path: &str, all: &[Value], size: usize, total: usize) {
        self.script().answers.remove(&("GET".to_owned(), path.to_owned()));
        self.script()
            .pages
            .insert(path.to_owned(), (all.to_vec(), size, total));
    }

    pub(crate) fn store(&self, path: &str, value: &Value) {
        self.script().store.insert(path.to_owned(), value.clone());
    }

    pub(crate) fn stored(&self, path: &str) -> Option<Value> {
        self.script().store.get(path).cloned()
    }

    pub(crate) fn stores_instead(&self, path: &str, value: &Value) {
        self.script().instead.insert(path.to_owned(), value.clone());
    }

    /// The methods that were used on a path, in order.
    pub(crate) fn asked(&self, path: &str) -> Vec<String> {
        let script = self.script();
        let asked = script.asked.iter().filter(|(_, at)| at == path);
        asked.map(|(method, _)| method.clone()).collect()
    }

    /// A socket file that an Envoy left behind.
    pub(crate) fn dead_socket(&self, name: &str) {
        drop(StdUnixListener::bind(self.dir.path().join(format!("{name}.sock"))).unwrap());
    }
}

/// A driver for this address; nothing is dialled.
pub(crate) fn at(api: &str) -> Result<KumaUniversal, DriverError> {
    made(api, &tempfile::tempdir().unwrap(), 60, 3)
}

fn driver(api: &str, dir: &TempDir, calls_per_hour: u32, per_change: u32) -> KumaUniversal {
    made(api, dir, calls_per_hour, per_change).unwrap()
}

fn made(
    api: &str,
    dir: &TempDir,
    calls_per_hour: u32,
    per_change: u32,
) -> Result<KumaUniversal, DriverError> {
    // Another test of this program may have been first.
    let _first = rustls::crypto::aws_lc_rs::default_provider().install_default();
    KumaUniversal::new(KumaConfig {
        federation: federation(),
        api: api.to_owned(),
        token_file: None,
        envoy_admin: vec![
            format!("{}/*.sock", dir.path().display()),
            format!("{}/a.s*", dir.path().display()),
        ],
        sampled: Sampled {
            calls_per_hour,
            per_change,
        },
        spent: dir.path().join("sampled.json"),
        timeout: Duration::from_secs(2),
    })
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let sent = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let answer = {
        let mut script = script.lock().unwrap();
        script.asked.push((method.clone(), path.clone()));
        let scripted = script.answers.get(&(method.clone(), path.clone())).cloned();
        match scripted {
            Some(answer) => answer,
            None => from_store(&mut script, &method, &path, &query, &sent),
        }
    };
    answer.respond().await
}

fn from_store(script: &mut Script, method: &str, path: &str, query: &str, sent: &Bytes) -> Answer {
    if let Some((all, size, total)) = script.pages.get(path) {
        let offset: usize = query
            .split('&')
            .find_map(|part| part.strip_prefix("offset="))
            .map_or(0, |text| text.parse().unwrap());
        let page: Vec<_> = all.iter().skip(offset).take(*size).collect();
        let next =
            (offset + size < all.len()).then(|| format!("http://elsewhere{path}?offset={}", offset + size));
        return body(200, &json!({"total": total, "items": page, "next": next}));
    }
    match method {
        "GET" => match script.store.get(path) {
            Some(value) => body(200, value),
            None => recorded("missing-object"),
        },
        "PUT" => {
            let value = script
                .instead
                .get(path)
                .cloned()
                .unwrap_or_else(|| serde_json::from_slice(sent).unwrap());
            script.store.insert(path.to_owned(), value);
            body(200, &json!({}))
        }
        "DELETE" => match script.store.remove(path) {
            Some(_) => body(200, &json!({})),
            None => recorded("missing-object"),
        },
        other => Answer::Body(405, format!("{other} is not allowed")),
    }
}

/// An Envoy's admin interface on a unix socket.
pub(crate) struct Envoy {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    socket: std::path::PathBuf,
    server: JoinHandle<()>,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.server.abort();
        drop(std::fs::remove_file(&self.socket));
    }
}

impl Envoy {
    pub(crate) async fn start(stage: &Stage, name: &str) -> Self {
        let socket = stage.dir.path().join(format!("{name}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let answers: Arc<Mutex<BTreeMap<String, Answer>>> = Arc::default();
        let known = Arc::clone(&answers);
        let app = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path().to_owned();
            let answer = known.lock().unwrap().get(&path).cloned();
            answer.unwrap_or(Answer::Body(404, String::new())).respond().await
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            answers,
            socket,
            server,
        }
    }

    pub(crate) fn listeners(&self, answer: Answer) {
        self.answers
            .lock()
            .unwrap()
            .insert("/config_dump".to_owned(), answer);
    }

    pub(crate) fn stats(&self, answer: Answer) {
        self.answers.lock().unwrap().insert("/stats".to_owned(), answer);
    }
}

/// The two backends.
const BACKENDS: [Backend; 2] = [("vm", "fra", None), ("cloud", "ams", None)];

pub(crate) fn names() -> [BackendName; 2] {
    BACKENDS.map(|(name, ..)| BackendName::new(name).unwrap())
}

/// The split `checkout` in zone fra.
pub(crate) fn item(weights: [u32; 2], generation: u64) -> Item {
    checkout::item("fra", BACKENDS, weights, generation)
}
