//! A Kong that runs: its three listeners, its connections, its restarts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::{self, Listener};
use super::database::Database;
use super::node::{LoadFailure, Node, Options, Source};
use super::proxy::Caller;
use crate::ports::listener;

/// A Kong on loopback, until it is dropped.
#[derive(Debug)]
pub struct Kong {
    node: Arc<Node>,
    admin: SocketAddr,
    status: SocketAddr,
    proxy: SocketAddr,
    serving: Serving,
}

#[derive(Debug, Default)]
struct Serving {
    over: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Kong {
    fn drop(&mut self) {
        self.serving.over.cancel();
    }
}

/// What is done with a connection.
#[derive(Debug, Clone, Copy)]
enum Door {
    Api(Listener),
    Proxy,
}

impl Kong {
    /// Starts one without a database.
    ///
    /// # Errors
    /// If there is no free port, or a declared document that is none.
    pub async fn without_database(options: Options) -> anyhow::Result<Self> {
        Self::start(Source::Document, options).await
    }

    /// Starts a node on a database.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn on(database: &Database, options: Options) -> anyhow::Result<Self> {
        Self::start(Source::Database(database.clone()), options).await
    }

    async fn start(source: Source, options: Options) -> anyhow::Result<Self> {
        let sockets = [listener()?, listener()?, listener()?];
        let [admin, status, proxy] = [0, 1, 2].map(|at| sockets[at].local_addr());
        let mut kong = Self {
            node: Arc::new(Node::new(source, options)),
            admin: admin?,
            status: status?,
            proxy: proxy?,
            serving: Serving::default(),
        };
        let sockets = sockets.into_iter().map(TcpListener::from_std);
        kong.serve(sockets.collect::<Result<_, _>>()?)?;
        Ok(kong)
    }

    /// By these sockets: Admin API, status, proxy.
    fn serve(&mut self, sockets: Vec<TcpListener>) -> anyhow::Result<()> {
        self.node.begin()?;
        self.serving = Serving::default();
        let doors = [
            Door::Api(Listener::Admin),
            Door::Api(Listener::Status),
            Door::Proxy,
        ];
        let sockets: Vec<_> = sockets.into_iter().zip(doors).collect();
        let Serving { over, tasks } = &self.serving;
        for (socket, door) in sockets {
            tasks.spawn(accept(
                Arc::clone(&self.node),
                socket,
                door,
                over.clone(),
                tasks.clone(),
            ));
        }
        tasks.spawn(Arc::clone(&self.node).keep(over.clone()));
        Ok(())
    }

    /// Stops serving: all connections are closed, and nobody listens when this returns.
    pub async fn stop(&mut self) {
        self.serving.over.cancel();
        self.serving.tasks.close();
        self.serving.tasks.wait().await;
    }

    /// Restarts on the same ports: goes back to the declared document if there is one, else keeps what was loaded last.
    ///
    /// # Errors
    /// If the declared document is none any more, or a port was taken meanwhile. It does not serve then.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        for worker in &self.node.workers {
            worker.reset();
        }
        let mut sockets = Vec::new();
        for address in [self.admin, self.status, self.proxy] {
            let socket = TcpListener::bind(address).await;
            sockets.push(socket.with_context(|| format!("cannot listen on {address}"))?);
        }
        self.serve(sockets)
    }

    /// Where the Admin API listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where `/status` and `/status/ready` are.
    pub fn status(&self) -> SocketAddr {
        self.status
    }

    /// Where the proxy listens.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Requests that really left, by target, for an upstream (or for the host of a service that has none).
    pub fn sent(&self, upstream: &str) -> BTreeMap<String, u64> {
        self.node
            .counted
            .counts()
            .sent
            .get(upstream)
            .cloned()
            .unwrap_or_default()
    }

    /// What each worker gives of an upstream, by target; nothing of one that does not have it.
    pub fn gives(&self, upstream: &str) -> Vec<BTreeMap<String, u64>> {
        let of = |worker: &super::worker::Worker| {
            let running = worker.running();
            let balancer = running.balancers.get(upstream);
            balancer.map(|balancer| balancer.gives()).unwrap_or_default()
        };
        self.node.workers.iter().map(of).collect()
    }

    /// Connections that were not taken, by target.
    pub fn refused(&self, upstream: &str) -> BTreeMap<String, u64> {
        self.node
            .counted
            .counts()
            .refused
            .get(upstream)
            .cloned()
            .unwrap_or_default()
    }

    /// Answers of Kong's own, by status.
    pub fn own_answers(&self) -> BTreeMap<u16, u64> {
        self.node.counted.counts().own.clone()
    }

    /// Begins to count anew.
    pub fn forget_counts(&self) {
        *self.node.counted.counts() = Default::default();
    }

    /// Lets this worker fail when it is next built anew: a document counts as loaded all the same, and a target as written.
    pub fn fail_next_build(&self, worker: usize) {
        self.node.fail_next_build(worker);
    }

    /// Lets the next document that is well be refused so. Several are refused one after the other.
    pub fn refuse_next_load(&self, failure: LoadFailure) {
        let mut failures = self
            .node
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.push_back(failure);
    }
}

async fn accept(
    node: Arc<Node>,
    socket: TcpListener,
    door: Door,
    over: CancellationToken,
    tasks: TaskTracker,
) {
    let port = socket.local_addr().map_or(0, |address| address.port());
    for turn in 0_usize.. {
        let accepted = tokio::select! {
            () = over.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            // Out of descriptors or the peer is gone already: the next accept may do.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let worker = turn % node.workers.len();
        let (node, over) = (Arc::clone(&node), over.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = connection(node, worker, door, stream, from, port) => {}
            }
        });
    }
}

async fn connection(
    node: Arc<Node>,
    worker: usize,
    door: Door,
    stream: TcpStream,
    from: SocketAddr,
    port: u16,
) {
    let stream = TokioIo::new(stream);
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).title_case_headers(true);
    // Whoever asked hung up: there is nothing to report.
    match door {
        Door::Api(listener) => {
            let service = hyper::service::service_fn(move |request| {
                admin::serve(Arc::clone(&node), worker, listener, request)
            });
            let _ = server.serve_connection(stream, service).await;
        }
        Door::Proxy => {
            let caller = Arc::new(Caller::new(node, worker, from.ip(), port));
            let service = hyper::service::service_fn(move |request| {
                let caller = Arc::clone(&caller);
                async move {
                    Ok::<_, Infallible>(caller.serve(request).await.unwrap_or_else(|never| match never {}))
                }
            });
            let _ = server.serve_connection(stream, service).await;
        }
    }
}
