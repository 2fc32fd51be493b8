//! The proxy: a request comes to a worker, takes a route, and goes to the target that is next.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::VERSION;
use super::access_log::{Told, Try};
use super::balancer::Peer;
use super::hashing;
use super::node::Node;
use super::router::{self, Asked, Taken};
use super::worker::Running;
use crate::random_id;

type Body = Either<Full<Bytes>, Incoming>;

/// What belongs to one connection of a caller: where it came from, and the connections that were opened for it.
pub(super) struct Caller {
    node: Arc<Node>,
    worker: usize,
    from: IpAddr,
    port: u16,
    open: Mutex<BTreeMap<SocketAddr, SendRequest<Full<Bytes>>>>,
}

/// Why a target gave no answer.
enum Failure {
    /// It took no connection, or hung up before it had the request: somebody else may get it.
    NotSent,
    /// It had the request: somebody else may get it if that does no harm.
    Sent,
    /// It did not answer in time.
    TooLate,
}

impl Failure {
    /// What nginx says of it.
    fn status(&self) -> u16 {
        match self {
            Self::TooLate => 504,
            Self::NotSent | Self::Sent => 502,
        }
    }
}

/// What a request is sent with.
struct Sending {
    head: Parts,
    body: Bytes,
    path: String,
    retries: u64,
    connect: Duration,
    read: Duration,
}

impl Caller {
    pub(super) fn new(node: Arc<Node>, worker: usize, from: IpAddr, port: u16) -> Self {
        Self {
            node,
            worker,
            from,
            port,
            open: Mutex::default(),
        }
    }

    /// Answers a request.
    pub(super) async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        self.node.requests.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let id = random_id().replace('-', "");
        let (head, body) = request.into_parts();
        let mut told = Told::default();
        let mut answer = match self.answer(head, body, &id, (started, &mut told)).await {
            Ok(answer) => answer,
            Err((status, message)) => self.own(status, message, &id, started),
        };
        set(answer.headers_mut(), "x-kong-request-id", &id);
        if told.plugin.is_some() {
            let queues = &self.node.workers[self.worker].queues;
            let status = answer.status().as_u16();
            queues.log(&told, status, as_json(answer.headers()), started.elapsed());
        }
        Ok(answer)
    }

    /// An answer of Kong's own.
    fn own(&self, status: u16, message: &str, id: &str, started: Instant) -> Response<Body> {
        self.node.counted.own(status);
        // Raw, as Kong's template has it.
        let body = format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{id}\"\n}}");
        let mut answer = Response::new(Either::Left(Full::new(body.into())));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        set(headers, "content-type", "application/json; charset=utf-8");
        set(headers, "connection", "keep-alive");
        set(
            headers,
            "x-kong-response-latency",
            &started.elapsed().as_millis().to_string(),
        );
        set(headers, "server", &format!("kong/{VERSION}"));
        if status == 426 {
            set(headers, "connection", "Upgrade");
            set(headers, "upgrade", "TLS/1.2, HTTP/1.1");
        }
        answer
    }

    /// The same place by HTTPS.
    fn elsewhere(&self, head: &Parts, code: u64) -> Response<Body> {
        let code = u16::try_from(code).unwrap_or_default();
        self.node.counted.own(code);
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let uri = head.uri.path_and_query().map_or("/", |uri| uri.as_str());
        let mut answer = Response::new(Either::Left(Full::new(Bytes::new())));
        *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::UPGRADE_REQUIRED);
        set(answer.headers_mut(), "location", &format!("https://{host}{uri}"));
        set(answer.headers_mut(), "server", &format!("kong/{VERSION}"));
        answer
    }

    async fn answer(
        &self,
        head: Parts,
        body: Incoming,
        id: &str,
        (started, told): (Instant, &mut Told),
    ) -> Result<Response<Body>, (u16, &'static str)> {
        let running = self.node.workers[self.worker].running();
        let path = router::path_of(&head);
        let asked = Asked::new(&head, &path, self.port);
        let taken = running
            .router
            .route(&asked)
            .ok_or((404, "no Route matched with those values"))?;
        let plain = taken.route["protocols"]
            .as_array()
            .is_some_and(|all| all.iter().any(|p| p == "http"));
        if !plain {
            return match taken.route["https_redirect_status_code"].as_u64() {
                Some(code @ (301 | 302 | 307 | 308)) => Ok(self.elsewhere(&head, code)),
                _ => Err((426, "Please use HTTPS protocol")),
            };
        }
        told.plugin = running.logs.of(taken.route, taken.service).cloned();
        if told.plugin.is_some() {
            self.tell(told, (&head, id), &taken);
        }
        let service = taken.service.ok_or((503, "no Service found with those values"))?;
        let mut upstream = router::upstream_path(&taken, &path);
        if let Some(query) = head.uri.query() {
            upstream = format!("{upstream}?{query}");
        }
        let (name, keep_host) = (
            text(service, "host").to_owned(),
            taken.route["preserve_host"] == true,
        );
        let millis = |field: &str| Duration::from_millis(service[field].as_u64().unwrap_or(60_000));
        let mut sending = Sending {
            path: upstream,
            retries: service["retries"].as_u64().unwrap_or(5),
            connect: millis("connect_timeout"),
            read: millis("read_timeout"),
            body: Bytes::new(),
            head: self.upstream_head(&head, &taken, &path, id),
        };
        let port = service["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(80);
        let key = running
            .balancers
            .get(&name)
            .and_then(|b| hashing::key(&b.upstream, &head, self.from));
        // Bodies are read whole before anything is sent, so that they can be sent again.
        let collected = body.collect().await.map_err(|_| (400, "Bad request"))?;
        sending.body = collected.to_bytes();
        let (answer, peer) = self
            .forward(
                &running,
                (&name, port),
                key.as_ref(),
                keep_host,
                (&mut sending, told),
            )
            .await?;
        told.upstream_status.push(answer.status().as_u16());
        tracing::trace!(upstream = %name, target = %peer.target, "forwarded");
        let (mut parts, body) = answer.into_parts();
        strip(&mut parts.headers);
        let spent = started.elapsed().as_millis().to_string();
        set(&mut parts.headers, "x-kong-upstream-latency", &spent);
        set(&mut parts.headers, "x-kong-proxy-latency", "0");
        set(&mut parts.headers, "via", &format!("1.1 kong/{VERSION}"));
        if let Some(cookie) = key.and_then(|key| key.cookie) {
            let cookie = HeaderValue::try_from(cookie).ok();
            cookie.map(|cookie| parts.headers.append(header::SET_COOKIE, cookie));
        }
        Ok(Response::from_parts(parts, Either::Right(body)))
    }

    /// What is known of a request as soon as its route is.
    fn tell(&self, told: &mut Told, (head, id): (&Parts, &str), taken: &Taken<'_>) {
        told.route = taken.route.clone();
        told.service = taken.service.cloned().unwrap_or_default();
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let uri = head.uri.path_and_query().map_or("/", |uri| uri.as_str());
        told.request = serde_json::json!({
            "id": id,
            "method": head.method.as_str(),
            "uri": uri,
            "url": format!("http://{}{uri}", host.unwrap_or_default()),
            "headers": as_json(&head.headers),
            "size": 0,
        });
        told.from = self.from.to_string();
        // The machine's: an access log has no other.
        told.started_at = jiff::Timestamp::now().as_millisecond();
    }

    fn upstream_head(&self, head: &Parts, taken: &Taken<'_>, path: &str, id: &str) -> Parts {
        let mut parts = head.clone();
        strip(&mut parts.headers);
        let host = head
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let from = self.from.to_string();
        let before = head.headers.get("x-forwarded-for").and_then(|v| v.to_str().ok());
        let chain = before.map_or_else(|| from.clone(), |before| format!("{before}, {from}"));
        let headers = &mut parts.headers;
        set(headers, "x-forwarded-for", &chain);
        set(headers, "x-real-ip", &from);
        set(headers, "x-forwarded-proto", "http");
        set(
            headers,
            "x-forwarded-host",
            host.rsplit_once(':').map_or(host, |(host, _)| host),
        );
        set(headers, "x-forwarded-port", &self.port.to_string());
        set(headers, "x-forwarded-path", head.uri.path());
        if taken.route["strip_path"] == true
            && let Some(prefix) = path.get(..taken.matched).filter(|prefix| !prefix.is_empty())
        {
            set(headers, "x-forwarded-prefix", prefix);
        }
        set(headers, "via", &format!("1.1 kong/{VERSION}"));
        set(headers, "x-kong-request-id", id);
        headers.remove(header::CONTENT_LENGTH);
        parts
    }

    async fn forward(
        &self,
        running: &Running,
        (name, port): (&str, u16),
        key: Option<&hashing::Key>,
        keep_host: bool,
        (sending, told): (&mut Sending, &mut Told),
    ) -> Result<(Response<Incoming>, Peer), (u16, &'static str)> {
        let original = sending.head.headers.get(header::HOST).cloned();
        let mut tried = Vec::new();
        let mut last = Failure::NotSent;
        told.upstream_uri.clone_from(&sending.path);
        for _ in 0..=sending.retries {
            if let Some(before) = told.tries.last_mut() {
                before.failed = Some(last.status());
            }
            let peer = self.peer(running, name, port, key, &tried)?;
            told.tries.push(Try {
                ip: peer.address.ip().to_string(),
                port: peer.address.port(),
                failed: None,
            });
            let host = match original.as_ref().filter(|_| keep_host) {
                Some(original) => original.clone(),
                None => host_header(&peer),
            };
            sending.head.headers.insert(header::HOST, host);
            match self.send(name, &peer, sending).await {
                Ok(answer) => return Ok((answer, peer)),
                Err(failure) => last = failure,
            }
            told.upstream_status.push(last.status());
            let harmless = !matches!(sending.head.method, Method::POST | Method::PATCH);
            if !matches!(last, Failure::NotSent) && !harmless {
                break;
            }
            tried.push(peer.address);
        }
        Err(match last {
            Failure::TooLate => (504, "The upstream server is timing out"),
            _ => (502, "An invalid response was received from the upstream server"),
        })
    }

    fn peer(
        &self,
        running: &Running,
        name: &str,
        port: u16,
        key: Option<&hashing::Key>,
        tried: &[SocketAddr],
    ) -> Result<Peer, (u16, &'static str)> {
        let names = self.node.options.names.as_ref();
        if let Some(balancer) = running.balancers.get(name) {
            let peer = match key {
                Some(key) => balancer.by_key(&key.value, tried, names),
                None => balancer.next(names),
            };
            return peer.ok_or((503, "failure to get a peer from the ring-balancer"));
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let ip = bare
            .parse()
            .ok()
            .or_else(|| names.addresses(name).into_iter().next());
        let ip = ip.ok_or((503, "name resolution failed"))?;
        Ok(Peer {
            address: SocketAddr::new(ip, port),
            host: name.to_owned(),
            target: format!("{name}:{port}"),
        })
    }

    async fn send(&self, name: &str, peer: &Peer, sending: &Sending) -> Result<Response<Incoming>, Failure> {
        let kept = self.open.lock().await.remove(&peer.address);
        if let Some(mut kept) = kept
            && kept.ready().await.is_ok()
        {
            match self.send_on(kept, name, peer, sending).await {
                // Closed since it was last used: that is nobody's failure.
                Err(Failure::NotSent) => {}
                other => return other,
            }
        }
        let connect = TcpStream::connect(peer.address);
        let Ok(Ok(stream)) = tokio::time::timeout(sending.connect, connect).await else {
            self.node.counted.refused(name, &peer.target);
            return Err(Failure::NotSent);
        };
        let _ = stream.set_nodelay(true);
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failure::NotSent)?;
        // Whoever closes first ends it; there is nothing to report.
        tokio::spawn(async move { drop(connection.await) });
        self.send_on(sender, name, peer, sending).await
    }

    async fn send_on(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        name: &str,
        peer: &Peer,
        sending: &Sending,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(sending.body.clone()));
        *request.method_mut() = sending.head.method.clone();
        *request.uri_mut() = sending.path.parse().map_err(|_| Failure::Sent)?;
        *request.headers_mut() = sending.head.headers.clone();
        match tokio::time::timeout(sending.read, sender.send_request(request)).await {
            Ok(Ok(answer)) => {
                self.node.counted.sent(name, &peer.target);
                self.open.lock().await.insert(peer.address, sender);
                Ok(answer)
            }
            Ok(Err(error)) if error.is_canceled() => Err(Failure::NotSent),
            Ok(Err(_)) => {
                self.node.counted.sent(name, &peer.target);
                Err(Failure::Sent)
            }
            Err(_) => {
                self.node.counted.sent(name, &peer.target);
                Err(Failure::TooLate)
            }
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The port is left out only where it is the one of the protocol.
fn host_header(peer: &Peer) -> HeaderValue {
    let port = peer.address.port();
    let value = if port == 80 {
        peer.host.clone()
    } else {
        format!("{}:{port}", peer.host)
    };
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

fn as_json(headers: &HeaderMap) -> Value {
    let one = |(name, value): (&HeaderName, &HeaderValue)| {
        let secret = matches!(name.as_str(), "authorization" | "proxy-authorization");
        let value = if secret {
            "REDACTED"
        } else {
            value.to_str().unwrap_or_default()
        };
        (name.to_string(), Value::from(value))
    };
    Value::Object(headers.iter().map(one).collect())
}

/// Takes away what concerns one connection only.
fn strip(headers: &mut HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
