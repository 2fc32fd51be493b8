//! The double of an API server as a process: TLS, who asks, where to, and the answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use axum::body::Body;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::super::rest::decode;
use super::kinds::{Target, Type};
use super::listing;
use super::refusal::{self, Refusal};
use super::rights::Tokens;
use super::store::{Key, Store};
use super::writing::Write;

/// How to start one.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens, by HTTPS.
    pub listen: SocketAddr,
    /// Where its certificate, its key and its token file are, as a real one gets them.
    pub identity: PathBuf,
    /// Base address of whom it asks before it lets anything of Kuma's be written; none if nobody.
    pub webhooks: Option<String>,
}

/// The server.
pub(super) struct Server {
    store: Mutex<Store>,
    news: watch::Sender<u64>,
    tokens: Tokens,
    pub(super) webhooks: Option<String>,
    pub(super) client: reqwest::Client,
}

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty());
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        };
        Self(pairs.map(pair).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Runs one for ever.
///
/// # Errors
/// If its identity cannot be read or its address cannot be bound.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let file = |name: &str| options.identity.join(name);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file("server.crt"))
        .context("the certificate cannot be read")?
        .collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).context("the key cannot be read")?;
    let tokens = std::fs::read_to_string(file("tokens.csv")).context("the token file cannot be read")?;
    // Somebody may have installed one already: then that one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates?, key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let server = Arc::new(Server {
        store: Mutex::new(Store::new()),
        news: watch::Sender::new(0),
        tokens: Tokens::read(&tokens),
        webhooks: options.webhooks,
        client: crate::http_client(),
    });
    tracing::info!(listen = %options.listen, "the double of an API server listens");
    loop {
        let (stream, _) = listener.accept().await?;
        let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
        tokio::spawn(async move {
            // Whoever does not speak TLS, or does not trust us, is gone.
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.serve(request).await) }
            });
            // Whoever asked hung up.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(code: u16, kind: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    answer
}

fn json_answer(code: u16, body: &Value) -> Response<Body> {
    answer(code, "application/json", Body::from(body.to_string()))
}

fn refused(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Status(code, status) => json_answer(code, &status),
        Refusal::NoSuchPath => answer(
            404,
            "text/plain; charset=utf-8",
            Body::from("404 page not found\n"),
        ),
    }
}

impl Server {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings at every change.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(super) fn tell(&self) {
        self.news.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Now, in whole seconds.
    pub(super) fn now(&self) -> String {
        let now = Timestamp::now().as_second();
        Timestamp::from_second(now).map_or_else(|_| String::new(), |t| t.to_string())
    }

    /// Where a target's object is, and its name.
    pub(super) fn key(&self, target: &Target, known: &'static Type) -> (Key, String) {
        let name = target.name.clone().unwrap_or_default();
        let namespace = target.namespace.clone().unwrap_or_default();
        ((known, namespace, name.clone()), name)
    }

    /// A namespace.
    pub(super) fn namespace(&self, name: &str) -> Option<Value> {
        let store = self.store();
        let known = super::kinds::TYPES.iter().find(|t| t.kind == "Namespace")?;
        store.get(&(known, String::new(), name.to_owned())).cloned()
    }

    async fn serve(self: Arc<Self>, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return refused(refusal::bad_request("the body did not come"));
        };
        match self.answer(&head, &body.to_bytes()).await {
            Ok(answer) => answer,
            Err(refusal) => refused(refusal),
        }
    }

    async fn answer(
        self: Arc<Self>,
        head: &http::request::Parts,
        body: &[u8],
    ) -> Result<Response<Body>, Refusal> {
        let header = |name: http::HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok());
        let path = head.uri.path();
        let query = Query::read(head.uri.query().unwrap_or_default());
        let who = self
            .tokens
            .who(header(AUTHORIZATION))
            .ok_or_else(refusal::unauthorized)?;
        let Some(target) = Target::read(path) else {
            let verb = head.method.as_str().to_lowercase();
            if !who.may_look(path) {
                return Err(refusal::forbidden_path(path, &who.name, &verb));
            }
            return about(path).ok_or(Refusal::NoSuchPath);
        };
        let watches = query.get("watch").is_some_and(|w| w == "true" || w == "1");
        let verb = match (&head.method, &target.name) {
            (&Method::GET, Some(_)) => "get",
            (&Method::GET, None) if watches => "watch",
            (&Method::GET, None) => "list",
            (&Method::PATCH, _) => "patch",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::DELETE, Some(_)) => "delete",
            (&Method::DELETE, None) => "deletecollection",
            _ => return Err(refusal::not_allowed()),
        };
        if !who.may(&self.store(), verb, &target) {
            return Err(refusal::forbidden(&target, &who.name, verb));
        }
        let known = target.known().ok_or(Refusal::NoSuchPath)?;
        let write = Write {
            server: &self,
            target: &target,
            known,
            who: &who,
            query: &query,
            agent: header(USER_AGENT)
                .and_then(|a| a.split('/').next())
                .filter(|a| !a.is_empty())
                .unwrap_or("unknown"),
        };
        let content = header(CONTENT_TYPE).unwrap_or_default();
        let content = content.split(';').next().unwrap_or_default().trim();
        let written = match (verb, content) {
            ("get", _) => listing::one(&self, &target, known).map(|object| (200, object)),
            ("list", _) => listing::list(&self, &target, known, &query).map(|list| (200, list)),
            ("watch", _) => {
                let lines = listing::watch(Arc::clone(&self), &target, known, &query);
                return Ok(answer(200, "application/json", Body::from_stream(lines)));
            }
            // Of a status alone there is the patch by which a controller writes it.
            (_, content)
                if target.is_status() && (verb, content) != ("patch", "application/merge-patch+json") =>
            {
                Err(refusal::not_allowed())
            }
            ("patch", "application/apply-patch+yaml") if target.name.is_some() => write.apply(body).await,
            ("patch", "application/merge-patch+json") if target.name.is_some() => write.merge(body).await,
            ("patch", _) if target.name.is_some() => Err(refusal::unknown_format()),
            ("create", _) if target.name.is_none() => write.create(body).await,
            ("update", _) if target.name.is_some() => write.put(body).await,
            ("delete", _) => write.delete(body).await,
            _ => Err(refusal::not_allowed()),
        };
        written.map(|(code, body)| json_answer(code, &body))
    }
}

/// What is asked of the server itself.
fn about(path: &str) -> Option<Response<Body>> {
    match path {
        "/readyz" | "/healthz" | "/livez" => Some(answer(200, "text/plain; charset=utf-8", Body::from("ok"))),
        "/version" => Some(json_answer(
            200,
            &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "compiler": "double"}),
        )),
        _ => listing::discovery(path).map(|found| json_answer(200, &found)),
    }
}
