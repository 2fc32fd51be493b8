//! A control plane of the double as a process: REST for everybody, and below `/_double/` what stands for KDS and xDS.
//!
//! Times are those measured on real Kuma: a change is seen by the configuration cache within a second and by each proxy
//! within another; zones and global talk once a second; services are generated every two.

mod proxies;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::proxies::{GONE, Session};
pub use self::proxies::{Hello, Told};
use self::services::generate;
use super::in_cluster::InCluster;
use super::kept::Kept;
use super::rest::{Answer, Request, answer};
use super::store::{Kind, Mode, Object, Store};

/// How long global may take to answer a zone that has other things to do.
const GLOBAL: Duration = Duration::from_secs(2);
/// How to start one.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the REST API listens.
    pub listen: SocketAddr,
    /// The zone, and the API of its global control plane; none for the global one itself.
    pub zone: Option<(String, String)>,
    /// Lets it into the cluster that the zone is; none for VMs.
    pub kubeconfig: Option<PathBuf>,
    /// What it holds is in there, and outlives it; none for memory, or the cluster.
    pub store: Option<PathBuf>,
    /// Where the zone's ingress is, whose proxy is there whenever this is; none if the zone has none.
    pub ingress: Option<SocketAddr>,
}

struct ControlPlane {
    store: Kept,
    /// What proxies are computed from: the store, up to a second old.
    view: watch::Sender<Arc<Store>>,
    sessions: Mutex<BTreeMap<(String, String), Session>>,
    /// Connections to admin interfaces that nobody closes, as in Kuma 2.14.
    leaked: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// Where the zone is a cluster.
    cluster: Option<Cluster>,
}

struct Cluster {
    way: InCluster,
    /// Meshes that were there when it was last read, with their uids; none before it was read and global told where the
    /// services of other zones are: until then no proxy is told anything.
    meshes: Mutex<Option<BTreeMap<String, String>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a control plane for ever.
///
/// # Errors
/// If its address cannot be bound.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let (mode, cluster) = match (&options.zone, &options.kubeconfig) {
        (None, _) => (Mode::Global, None),
        (Some((zone, _)), None) => (Mode::Zone(zone.clone()), None),
        (Some((zone, _)), Some(file)) => {
            let cluster = Cluster {
                way: InCluster::new(file, zone)?,
                meshes: Mutex::default(),
            };
            (Mode::Cluster(zone.clone()), Some(cluster))
        }
    };
    let store = Kept::open(mode, options.store)?;
    if let Some((zone, _)) = &options.zone
        && store.lock().get(Kind::Zone, "", zone).is_none()
    {
        let here = Object::new(Kind::Zone, "", zone, Timestamp::now());
        store.lock().insert(here);
    }
    if let (Some((zone, _)), Some(address), None) = (&options.zone, options.ingress, &cluster) {
        let document = ingress(&format!("ingress-{zone}"), address, Timestamp::now());
        let mut store = store.lock();
        if store.get(Kind::ZoneIngress, "", &document.name).is_none() {
            store.insert(document);
        }
    }
    let first = Arc::new(store.lock().clone());
    let plane = Arc::new(ControlPlane {
        view: watch::Sender::new(first),
        store,
        sessions: Mutex::default(),
        leaked: Mutex::default(),
        cluster,
    });
    tracing::info!(listen = %options.listen, zone = ?options.zone, "the double of a control plane listens");
    let sync = options
        .zone
        .map(|(zone, global)| format!("{global}/_double/sync/{zone}"));
    match sync {
        Some(url) if plane.cluster.is_some() => {
            tokio::spawn(live_in_cluster(Arc::clone(&plane), url, options.ingress));
        }
        sync => {
            tokio::spawn(refresh(Arc::clone(&plane)));
            if let Some(url) = sync {
                tokio::spawn(generate(Arc::clone(&plane)));
                tokio::spawn(talk(Arc::clone(&plane), url));
            }
        }
    }
    loop {
        let (stream, _) = listener.accept().await?;
        let plane = Arc::clone(&plane);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let plane = Arc::clone(&plane);
                async move { plane.serve(request).await }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            // A connection that ends early is the caller's business, or ours on purpose (`Answer::Close`).
            let _ = server
                .timer(hyper_util::rt::TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn refresh(plane: Arc<ControlPlane>) {
    let mut ticks = every(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let now = Arc::new(plane.store.lock().clone());
        plane.view.send_replace(now);
    }
}

/// The life of a control plane in a cluster: one thing after the other, so that none sees half of another.
async fn live_in_cluster(plane: Arc<ControlPlane>, url: String, ingress: Option<SocketAddr>) {
    let Some(cluster) = &plane.cluster else { return };
    let client = crate::http_client();
    let begin = Instant::now();
    let mut ticks = every(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let before = plane.store.lock().clone();
        let turn = async {
            let mut read = cluster.way.read(&before).await?;
            // First: what global is told of this zone's services says also where they are.
            let alive = plane.alive();
            let names: BTreeSet<String> = alive.keys().map(|(_, name)| name.clone()).collect();
            let just_started = begin.elapsed() < GONE;
            cluster.way.services(&mut read, &names, just_started).await?;
            if let Some(address) = ingress {
                cluster.way.ingress(&mut read, address).await?;
            }
            let asked = client.post(&url).json(&read.store.upward()).timeout(GLOBAL);
            let told = async {
                asked
                    .send()
                    .await?
                    .error_for_status()?
                    .json::<Vec<Object>>()
                    .await
            };
            let heard = match told.await {
                Ok(objects) => {
                    cluster.way.take(&mut read, objects).await?;
                    true
                }
                // Global is away: the zone keeps what it has.
                Err(error) => {
                    tracing::debug!(%error, "global does not answer");
                    false
                }
            };
            let now = Timestamp::now();
            let dataplanes: Vec<Object> = read.store.all(Kind::Dataplane).cloned().collect();
            for mut dataplane in dataplanes {
                let key = (dataplane.mesh.clone(), dataplane.name.clone());
                dataplane.status = alive.get(&key).map(|sent| session_status(*sent, now));
                read.store.insert(dataplane);
            }
            anyhow::Ok((read, heard))
        };
        match turn.await {
            Ok((read, heard)) => {
                let mut meshes = locked(&cluster.meshes);
                if heard || meshes.is_some() {
                    *meshes = Some(read.meshes);
                }
                plane.store.lock().clone_from(&read.store);
                plane.view.send_replace(Arc::new(read.store));
            }
            Err(error) => tracing::warn!("the cluster: {error:#}"),
        }
    }
}

/// A ZoneIngress as its proxy brings it.
pub(super) fn ingress(name: &str, address: SocketAddr, now: Timestamp) -> Object {
    let mut object = Object::new(Kind::ZoneIngress, "", name, now);
    let (ip, port) = (address.ip().to_string(), address.port());
    object.body.insert(
        "networking".into(),
        json!({"address": ip, "port": port, "advertisedAddress": ip, "advertisedPort": port}),
    );
    object
}

fn session_status(sent: u64, now: Timestamp) -> Value {
    json!({"sent": sent, "cds": sent, "lds": sent, "lastUpdateTime": now.to_string()})
}

async fn talk(plane: Arc<ControlPlane>, url: String) {
    let client = crate::http_client();
    let mut ticks = every(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let told = plane.store.lock().upward();
        let answer = async {
            let response = client.post(&url).json(&told).send().await?.error_for_status()?;
            response.json::<Vec<Object>>().await
        };
        match answer.await {
            Ok(objects) => plane.store.lock().take_downward(objects, Timestamp::now()),
            // Global is away: the zone keeps what it has.
            Err(error) => tracing::debug!(%error, "global does not answer"),
        }
    }
}

type Reply = http::Response<Full<Bytes>>;

fn reply(status: u16, kind: &str, body: impl Into<Bytes>) -> Reply {
    let mut reply = http::Response::new(Full::new(body.into()));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(kind) = kind.parse() {
        reply.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    reply
}

fn json_reply(status: u16, body: &impl Serialize) -> Reply {
    reply(
        status,
        "application/json",
        serde_json::to_vec(body).unwrap_or_default(),
    )
}

fn show(answer: Answer) -> Option<Reply> {
    match answer {
        Answer::Json(status, body) => Some(json_reply(status, &body)),
        Answer::Text(status, text) => Some(reply(status, "text/plain; charset=utf-8", text)),
        Answer::Close => None,
    }
}

impl ControlPlane {
    /// What it says as a webhook.
    fn review(&self, what: &str, body: &[u8]) -> anyhow::Result<Reply> {
        let review: Value = serde_json::from_slice(body)?;
        let Some(cluster) = &self.cluster else {
            return Ok(json_reply(404, &json!({})));
        };
        let meshes = locked(&cluster.meshes).clone().unwrap_or_default();
        let reviewer = cluster.way.reviewer(meshes);
        let answer = if what.starts_with("default") {
            reviewer.change(&review)
        } else {
            reviewer.judge(&review)
        };
        Ok(json_reply(200, &answer))
    }

    async fn serve(&self, request: http::Request<Incoming>) -> Result<Reply, anyhow::Error> {
        let (head, body) = request.into_parts();
        let header = |name: http::HeaderName| {
            let value = head.headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let asked = Request {
            method: head.method.to_string(),
            target: head
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            host: header(http::header::HOST),
            content_type: header(http::header::CONTENT_TYPE),
            body: body.collect().await?.to_bytes().to_vec(),
        };
        let path = head.uri.path().to_owned();
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        match parts.as_slice() {
            ["_double", "sync", zone] => Ok(self.sync(zone, &asked.body)?),
            ["_double", "dataplane"] => Ok(self.hello(&asked.body)?),
            [what @ ("default-kuma-io-v1alpha1-mesh" | "validate-kuma-io-v1alpha1")] => {
                Ok(self.review(what, &asked.body)?)
            }
            ["_double", "xds", mesh, name] => {
                let version = head
                    .uri
                    .query()
                    .unwrap_or_default()
                    .trim_start_matches("version=");
                Ok(self.xds(mesh, name, version).await)
            }
            [
                "meshes",
                mesh,
                "dataplanes",
                name,
                what @ ("xds" | "stats" | "clusters"),
            ] if head.method == Method::GET => Ok(self
                .admin(mesh, name, what, head.uri.query().unwrap_or_default())
                .await),
            _ => {
                let answer = answer(&mut self.store.lock(), &asked, Timestamp::now());
                show(answer).ok_or_else(|| anyhow::anyhow!("the connection is dropped, as Kuma drops it"))
            }
        }
    }

    fn sync(&self, zone: &str, body: &[u8]) -> anyhow::Result<Reply> {
        let told: Vec<Object> = serde_json::from_slice(body)?;
        let now = Timestamp::now();
        let mut store = self.store.lock();
        if store.get(Kind::Zone, "", zone).is_none() {
            store.insert(Object::new(Kind::Zone, "", zone, now));
        }
        store.take_upward(zone, told, now);
        Ok(json_reply(200, &store.downward(zone)))
    }
}
