//! The small weighted proxy where Envoy would stand: it runs a [`ProxyConfig`], request by request.
//!
//! Ugly on purpose where Envoy under Kuma is: a cluster that goes is gone before the routes that use it are replaced
//! ([`GAP`]), a replaced listener's connections are closed after the drain time, a listener without routes is no listener.

mod message;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use message::{local_reply, message, with_close};

use super::routes::{Asked, Cluster, Listener, ListenerKind, ProxyConfig, Weighted, pick};
use super::times::Times;

/// How long requests still go to a cluster that is gone: measured between 50 and 70 ms on the real thing.
pub const GAP: Duration = Duration::from_millis(60);

/// Kuma's own retry: this often, on connections that fail, this far apart.
const RETRIES: (u32, Duration) = (5, Duration::from_millis(25));

/// A proxy.
#[derive(Debug)]
pub struct Proxy {
    state: RwLock<State>,
    drain: Duration,
    random: AtomicU64,
}

/// What a proxy runs now.
#[derive(Debug)]
pub struct State {
    /// When the proxy started.
    pub started: Instant,
    /// The version that the control plane gave it.
    pub version: String,
    /// Listeners by name.
    pub listeners: BTreeMap<String, Slot>,
    /// Clusters by name.
    pub clusters: BTreeMap<String, Arc<Running>>,
}

/// One listener's place: what it runs, and what it ran and is still draining.
#[derive(Debug)]
pub struct Slot {
    /// What new requests get.
    pub active: Arc<Incarnation>,
    /// What was replaced last, until its connections are closed.
    pub draining: Option<(Arc<Incarnation>, Instant)>,
    /// Counters of its requests.
    pub counters: Arc<Counters>,
    closed: CancellationToken,
}

/// One version of one listener.
#[derive(Debug)]
pub struct Incarnation {
    /// What it does.
    pub listener: Listener,
    /// The version that brought it.
    pub version: String,
    /// When.
    pub since: Timestamp,
    /// Its connections are to be closed.
    over: CancellationToken,
}

/// One cluster with its counters. They go when the cluster goes, as Envoy's do.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub cluster: Cluster,
    /// When it was added or changed.
    pub since: Timestamp,
    /// Requests and connections to it.
    pub counters: Arc<Counters>,
    turn: AtomicU64,
}

/// Counters of a cluster or a listener.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "Envoy's own names")]
pub struct Counters {
    pub rq_total: AtomicU64,
    pub rq_2xx: AtomicU64,
    pub rq_4xx: AtomicU64,
    pub rq_5xx: AtomicU64,
    pub rq_503: AtomicU64,
    pub rq_other: AtomicU64,
    pub cx_total: AtomicU64,
    pub cx_connect_fail: AtomicU64,
    pub no_cluster: AtomicU64,
    /// A gauge: requests under way, and connections of a TCP proxy. Pooled connections of HTTP are not told apart.
    pub active: AtomicU64,
    /// How long answers took that a backend gave.
    pub rq_time: Times,
}

/// One that is under way, until it is dropped.
struct Active(Arc<Counters>);

impl Active {
    fn of(counters: &Arc<Counters>) -> Self {
        add(&counters.active);
        Self(Arc::clone(counters))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    fn count(&self, status: u16) {
        if status == 503 {
            add(&self.rq_503);
        }
        let class = match status {
            200..=299 => &self.rq_2xx,
            400..=499 => &self.rq_4xx,
            500..=599 => &self.rq_5xx,
            _ => &self.rq_other,
        };
        add(class);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Proxy {
    /// A proxy that runs nothing yet.
    pub fn new(drain: Duration) -> Arc<Self> {
        let seed = Timestamp::now().as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 32);
        Arc::new(Self {
            state: RwLock::new(State {
                started: Instant::now(),
                version: String::new(),
                listeners: BTreeMap::new(),
                clusters: BTreeMap::new(),
            }),
            drain,
            random: AtomicU64::new(seed),
        })
    }

    /// What it runs now.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// splitmix64: good enough for shares, and each proxy has its own.
    fn random(&self) -> u64 {
        let mut z = self
            .random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 1
    }

    /// Takes up a configuration: clusters first, the gap if one went, then listeners.
    ///
    /// # Errors
    /// If a listener's address cannot be bound.
    pub async fn apply(self: &Arc<Self>, version: &str, config: ProxyConfig) -> io::Result<()> {
        let now = Timestamp::now();
        let mut gone = false;
        {
            let mut state = self.change();
            version.clone_into(&mut state.version);
            state.clusters.retain(|name, _| {
                let stays = config.clusters.contains_key(name);
                gone |= !stays;
                stays
            });
            for (name, cluster) in config.clusters {
                let before = state.clusters.get(&name);
                if before.is_some_and(|b| b.cluster == cluster) {
                    continue;
                }
                let counters = before.map(|b| Arc::clone(&b.counters)).unwrap_or_default();
                let running = Running {
                    cluster,
                    since: now,
                    counters,
                    turn: AtomicU64::new(0),
                };
                state.clusters.insert(name, Arc::new(running));
            }
        }
        if gone {
            tokio::time::sleep(GAP).await;
        }
        let mut wanted = config.listeners;
        {
            let mut state = self.change();
            let names: Vec<String> = state.listeners.keys().cloned().collect();
            for name in names {
                let Some(slot) = state.listeners.get_mut(&name) else {
                    continue;
                };
                match wanted.remove(&name) {
                    Some(listener) if listener.address == slot.active.listener.address => {
                        if listener != slot.active.listener {
                            self.replace(slot, Incarnation::new(listener, version));
                        }
                    }
                    other => {
                        slot.closed.cancel();
                        close_later(&slot.active, self.drain);
                        state.listeners.remove(&name);
                        if let Some(moved) = other {
                            wanted.insert(name, moved);
                        }
                    }
                }
            }
        }
        for (name, listener) in wanted {
            let socket = TcpListener::bind(listener.address).await?;
            let slot = Slot {
                active: Arc::new(Incarnation::new(listener, version)),
                draining: None,
                counters: Arc::default(),
                closed: CancellationToken::new(),
            };
            let closed = slot.closed.clone();
            self.change().listeners.insert(name.clone(), slot);
            tokio::spawn(accept(Arc::clone(self), name, socket, closed));
        }
        Ok(())
    }

    fn replace(&self, slot: &mut Slot, next: Incarnation) {
        let old = std::mem::replace(&mut slot.active, Arc::new(next));
        close_later(&old, self.drain);
        slot.draining = Some((old, Instant::now() + self.drain));
    }
}

impl Incarnation {
    fn new(listener: Listener, version: &str) -> Self {
        Self {
            listener,
            version: version.to_owned(),
            since: Timestamp::now(),
            over: CancellationToken::new(),
        }
    }
}

/// Kuma's price of a change (R9): all that is still open on the old listener is closed after the drain time.
fn close_later(old: &Arc<Incarnation>, drain: Duration) {
    let over = old.over.clone();
    tokio::spawn(async move {
        tokio::time::sleep(drain).await;
        over.cancel();
    });
}

async fn accept(proxy: Arc<Proxy>, name: String, socket: TcpListener, closed: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = closed.cancelled() => return,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors or the peer is gone already: the next accept may do.
                Err(_) => { tokio::time::sleep(Duration::from_millis(10)).await; continue }
            },
        };
        let incarnation = proxy.state().listeners.get(&name).map(|s| Arc::clone(&s.active));
        let Some(incarnation) = incarnation else { return };
        let _ = stream.set_nodelay(true);
        let proxy = Arc::clone(&proxy);
        let name = name.clone();
        tokio::spawn(async move {
            let over = incarnation.over.clone();
            tokio::select! {
                () = over.cancelled() => {}
                () = connection(&proxy, &name, incarnation, stream) => {}
            }
        });
    }
}

async fn connection(proxy: &Arc<Proxy>, name: &str, incarnation: Arc<Incarnation>, mut stream: TcpStream) {
    let to = match &incarnation.listener.kind {
        ListenerKind::Http { .. } => return requests(proxy, name, incarnation, stream).await,
        ListenerKind::Inbound { app, .. } => Some((*app, None)),
        ListenerKind::Tcp { clusters, .. } => endpoint(proxy, clusters).map(|(running, to)| {
            add(&running.counters.cx_total);
            (to, Some(Active::of(&running.counters)))
        }),
    };
    let Some((to, _active)) = to else { return };
    if let Ok(mut upstream) = TcpStream::connect(to).await {
        let _ = upstream.set_nodelay(true);
        // Whoever closes first ends both; there is nothing to report.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    }
}

fn endpoint(proxy: &Proxy, clusters: &[Weighted]) -> Option<(Arc<Running>, SocketAddr)> {
    let chosen = pick(clusters, proxy.random())?;
    let running = proxy.state().clusters.get(&chosen.name).cloned()?;
    let to = running.next()?;
    Some((running, to))
}

impl Running {
    fn next(&self) -> Option<SocketAddr> {
        let group = self.cluster.endpoints.iter().find(|g| !g.is_empty())?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        group.get(usize::try_from(turn).ok()? % group.len()).copied()
    }
}

async fn requests(proxy: &Arc<Proxy>, name: &str, born: Arc<Incarnation>, mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(1024);
    let mut upstreams: BTreeMap<SocketAddr, TcpStream> = BTreeMap::new();
    while let Ok(Some(request)) = message(&mut stream, &mut buffer).await {
        let (active, counters) = match proxy.state().listeners.get(name) {
            Some(slot) => (Arc::clone(&slot.active), Arc::clone(&slot.counters)),
            // The listener is gone; what is open on it drains with its last routes.
            None => (Arc::clone(&born), Arc::default()),
        };
        let length = request.head + request.length;
        add(&counters.rq_total);
        // As with Envoy, the last answer on a connection that was open when its listener was replaced is still given by
        // the routes of old, however late the request comes: until the drain time ends.
        let drained = !Arc::ptr_eq(&active, &born);
        let answer = forward(
            proxy,
            &born,
            &counters,
            &buffer[..length],
            request.head,
            &mut upstreams,
        )
        .await;
        let (status, mut bytes) = answer;
        counters.count(status);
        if drained {
            // As Envoy does while a listener drains: this answer is the last on this connection.
            bytes = with_close(&bytes);
        }
        if stream.write_all(&bytes).await.is_err() || drained || request.close {
            return;
        }
        buffer.drain(..length);
    }
}

async fn forward(
    proxy: &Arc<Proxy>,
    active: &Incarnation,
    counters: &Counters,
    request: &[u8],
    head: usize,
    upstreams: &mut BTreeMap<SocketAddr, TcpStream>,
) -> (u16, Vec<u8>) {
    let ListenerKind::Http { routes, .. } = &active.listener.kind else {
        return local_reply(404, "");
    };
    let text = String::from_utf8_lossy(&request[..head]);
    let (first, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
    let mut words = first.split(' ');
    let asked = Asked {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers,
    };
    let Some(route) = routes.iter().find(|r| r.matches.takes(&asked)) else {
        return local_reply(404, "");
    };
    let chosen = pick(&route.clusters, proxy.random());
    let running = chosen.and_then(|c| proxy.state().clusters.get(&c.name).cloned());
    let Some(running) = running else {
        add(&counters.no_cluster);
        return local_reply(503, "");
    };
    add(&running.counters.rq_total);
    let _active = Active::of(&running.counters);
    let answer = upstream(&running, request, upstreams).await;
    running.counters.count(answer.0);
    answer
}

async fn upstream(
    running: &Running,
    request: &[u8],
    upstreams: &mut BTreeMap<SocketAddr, TcpStream>,
) -> (u16, Vec<u8>) {
    for attempt in 0..=RETRIES.0 {
        let Some(to) = running.next() else {
            return local_reply(503, "no healthy upstream");
        };
        let mut stream = match upstreams.remove(&to) {
            Some(open) => open,
            None => match TcpStream::connect(to).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    add(&running.counters.cx_total);
                    stream
                }
                Err(_) => {
                    add(&running.counters.cx_connect_fail);
                    tokio::time::sleep(RETRIES.1 * (attempt + 1)).await;
                    continue;
                }
            },
        };
        let mut buffer = Vec::with_capacity(512);
        let asked = Instant::now();
        if stream.write_all(request).await.is_err() {
            continue;
        }
        if let Ok(Some(response)) = message(&mut stream, &mut buffer).await {
            let status = buffer
                .get(9..12)
                .and_then(|s| std::str::from_utf8(s).ok()?.parse().ok());
            buffer.truncate(response.head + response.length);
            running.counters.rq_time.took(asked.elapsed());
            if !response.close {
                upstreams.insert(to, stream);
            }
            return (status.unwrap_or(502), buffer);
        }
    }
    let body =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    local_reply(503, body)
}
