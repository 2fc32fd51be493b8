//! The coordinator's one port: TLS, then gRPC or HTTP by what the caller asks for, with the caller's [`Peer`] on each
//! request. Every wait for a stranger has an end, and every number of strangers a bound.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::{Buf as _, Bytes};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::crowd::{Crowd, Place};
use crate::identity::{Peer, PeerCertificate};
use crate::tls::ServerTls;

/// What the port serves.
#[derive(Clone)]
pub struct App {
    /// Requests whose content type is `application/grpc`.
    pub grpc: Router,
    /// Everything else.
    pub http: Router,
}

/// Bounds on what callers may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From accepting to the first byte of HTTP, TLS included; also how long the head of an HTTP/1 request may take.
    pub handshake: Duration,
    /// Connections that are not that far yet.
    pub handshaking: usize,
    /// Connections without a certificate.
    pub anonymous: usize,
    /// Those of one address (of IPv6, one /64 network) that have shown no certificate, handshakes included: one caller
    /// alone cannot take all the places of the others.
    pub per_address: usize,
    /// Connections with one.
    pub agents: usize,
    /// HTTP/2 ping on a silent connection.
    pub ping: Duration,
    /// How long its answer may take before the connection is given up.
    pub pong: Duration,
    /// Streams at a time on one HTTP/2 connection.
    pub streams: u32,
    /// How long connections may take to finish after the stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshaking: 512,
            anonymous: 1024,
            per_address: 128,
            agents: 8192,
            ping: Duration::from_secs(5),
            pong: Duration::from_secs(5),
            streams: 128,
            drain: Duration::from_secs(5),
        }
    }
}

struct Shared {
    acceptor: TlsAcceptor,
    app: App,
    limits: Limits,
    anonymous: Arc<Semaphore>,
    agents: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves until stopped, then lets connections finish for [`Limits::drain`] and drops the rest.
pub async fn serve(listener: TcpListener, tls: ServerTls, app: App, limits: Limits, stop: CancellationToken) {
    let shared = Arc::new(Shared {
        acceptor: TlsAcceptor::from(tls.config()),
        app,
        limits,
        anonymous: Arc::new(Semaphore::new(limits.anonymous)),
        agents: Arc::new(Semaphore::new(limits.agents)),
        stop: stop.clone(),
    });
    let handshaking = Arc::new(Semaphore::new(limits.handshaking));
    let crowd = Crowd::new(limits.per_address);
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: what stands goes on, and ends give some back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = crowd.enter(address.ip()) else {
            tracing::warn!(%address, limit = limits.per_address, "too many connections from this address: refused");
            continue;
        };
        let Ok(permit) = Arc::clone(&handshaking).try_acquire_owned() else {
            tracing::warn!(%address, limit = limits.handshaking, "too many handshakes at a time: connection refused");
            continue;
        };
        let shared = Arc::clone(&shared);
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                ended = connection(&shared, tcp, address, (permit, place)) => if let Err(why) = ended {
                    tracing::debug!(%address, why, "connection ended");
                }
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection(
    shared: &Shared,
    tcp: TcpStream,
    address: SocketAddr,
    (handshaking, place): (OwnedSemaphorePermit, Place),
) -> Result<(), String> {
    let limits = shared.limits;
    let (mut tls, first, h2) = tokio::time::timeout(limits.handshake, begin(shared, tcp))
        .await
        .map_err(|_| format!("nothing was asked within {} ms", limits.handshake.as_millis()))?
        .map_err(|e| format!("handshake: {e}"))?;
    let certificate = match tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
    {
        None => None,
        Some(leaf) => Some(PeerCertificate::read(leaf).map_err(|e| e.to_string())?),
    };
    let room = if certificate.is_some() {
        &shared.agents
    } else {
        &shared.anonymous
    };
    let Ok(_room) = Arc::clone(room).try_acquire_owned() else {
        tracing::warn!(%address, agent = certificate.is_some(), "too many connections: refused");
        // The peer is told that this was deliberate; whether it hears is its own affair.
        drop(tokio::io::AsyncWriteExt::shutdown(&mut tls).await);
        return Err("too many connections".to_owned());
    };
    drop(handshaking);
    // Whoever has shown a certificate is known; all others keep their place to their end.
    let _place = certificate.is_none().then_some(place);
    let peer = Peer { address, certificate };
    let app = shared.app.clone();
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let router = if is_grpc(&request) {
            app.grpc.clone()
        } else {
            app.http.clone()
        };
        router.oneshot(request)
    });
    let io = TokioIo::new(Begun { first, rest: tls });
    let stopped = shared.stop.cancelled();
    if h2 {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.ping)
            .keep_alive_timeout(limits.pong)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(16 << 10);
        let mut serving = std::pin::pin!(http2.serve_connection(io, answer));
        tokio::select! {
            ended = serving.as_mut() => return ended.map_err(|e| e.to_string()),
            () = stopped => serving.as_mut().graceful_shutdown(),
        }
        serving.await.map_err(|e| e.to_string())
    } else {
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.handshake)
            .max_buf_size(64 << 10);
        let mut serving = std::pin::pin!(http1.serve_connection(io, answer));
        tokio::select! {
            ended = serving.as_mut() => return ended.map_err(|e| e.to_string()),
            () = stopped => serving.as_mut().graceful_shutdown(),
        }
        serving.await.map_err(|e| e.to_string())
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The handshake and the first bytes after it: a caller that goes silent in between is cut off by the same clock.
async fn begin(shared: &Shared, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Bytes, bool)> {
    tcp.set_nodelay(true)?;
    let mut tls = shared.acceptor.accept(tcp).await?;
    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    // HTTP/2 begins with 24 bytes that are always the same; of HTTP/1 any first byte will do.
    let mut first = vec![0; if h2 { 24 } else { 1 }];
    tls.read_exact(&mut first).await?;
    Ok((tls, Bytes::from(first), h2))
}

/// A stream of which the first bytes have been read.
struct Begun {
    first: Bytes,
    rest: TlsStream<TcpStream>,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_read(cx, into);
        }
        let count = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }
}
