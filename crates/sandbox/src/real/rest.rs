//! HTTP to control planes, outbounds and admin sockets, and waiting for what they say.
//!
//! One connection a request: whatever answers is the process that is there now, not the one before a restart.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longer than any answer that was ever seen; a part that hangs is reported, not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a fact may take to come true. A start with mTLS takes 12 s on two cores.
const AWAIT: Duration = Duration::from_secs(120);

/// A base address: `http://127.0.0.1:5681`, or the path of a unix socket.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    socket: Option<PathBuf>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// `content-type`, if there was one.
    pub content_type: Option<String>,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Api {
    /// Speaks HTTP/1.1 to `http://host:port`.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            socket: None,
        }
    }

    /// Speaks HTTP/1.1 to a unix socket.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self {
            base: "http://localhost".to_owned(),
            socket: Some(path.into()),
        }
    }

    /// `http://127.0.0.1:5681`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One exchange, whatever its status.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        self.send(method, path, body.map(|_| "application/json"), bytes)
            .await
    }

    /// One exchange with a body of any type.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let what = format!("{method} {}{path}", self.base);
        let host = match &self.socket {
            Some(_) => "localhost",
            None => self.base.trim_start_matches("http://"),
        };
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        if let Some(kind) = content_type {
            request = request.header("content-type", kind);
        }
        let request = request.body(Full::new(body.into()))?;
        let answer = async {
            match &self.socket {
                Some(socket) => send(UnixStream::connect(socket).await?, request).await,
                None => send(TcpStream::connect(host).await?, request).await,
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .with_context(|| format!("{what}: no answer within {} s", PATIENCE.as_secs()))?
            .with_context(|| what)
    }

    /// The JSON of a GET that must succeed.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.exchange(Method::GET, path, None).await?;
        anyhow::ensure!(
            answer.status.is_success(),
            "GET {}{path}: {} {}",
            self.base,
            answer.status,
            answer.text()
        );
        answer.json()
    }

    /// A PUT that must succeed.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.exchange(Method::PUT, path, Some(body)).await?;
        anyhow::ensure!(
            answer.status.is_success(),
            "PUT {}{path}: {} {}",
            self.base,
            answer.status,
            answer.text()
        );
        Ok(())
    }

    /// The status of a GET.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn status(&self, path: &str) -> anyhow::Result<StatusCode> {
        Ok(self.exchange(Method::GET, path, None).await?.status)
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let content_type = response.headers().get("content-type");
    let content_type = content_type.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().await?.to_bytes();
    driven.abort();
    Ok(Answer {
        status,
        content_type,
        body,
    })
}

/// What is waited for, in words, since when and how long: `loop { if fact { break } wait.again(failure).await? }`.
#[derive(Debug)]
pub struct Awaited {
    what: String,
    begun: Instant,
    patience: Duration,
}

impl Awaited {
    /// In words that finish "waited in vain until ...".
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            begun: Instant::now(),
            patience: AWAIT,
        }
    }

    /// Not there yet: returns when it is time to look again. The failure of the last look, if it failed, is told when
    /// time runs out.
    ///
    /// # Errors
    /// If it did not become true in time.
    pub async fn again(&mut self, failure: Option<anyhow::Error>) -> anyhow::Result<()> {
        if self.begun.elapsed() > self.patience {
            let message = format!(
                "waited in vain, {} s, until {}",
                self.patience.as_secs(),
                self.what
            );
            return Err(match failure {
                Some(error) => error.context(message),
                None => anyhow::anyhow!(message),
            });
        }
        // Between two looks, so that looking does not eat the processor that the fact needs.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }
}
