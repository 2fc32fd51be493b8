//! One call to the API server: who asks, how long, what came back. Whatever it means is for `meaning`.
//!
//! After a 429 nothing is sent until the server's own time is over; calls meanwhile fail with that reason.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::StreamExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::time::Instant;

use super::credential::Credential;
use super::meaning::{self, Refusal};
use crate::DriverError;

/// The largest answer that is read. A page of 500 objects is some megabytes; a single object at most 1.5 MB.
const LARGEST: usize = 64 << 20;
/// The longest line of a watch: one object and its event.
const LONGEST: usize = 8 << 20;

/// Content type of server-side apply. JSON is YAML.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
/// Content type of a patch of some fields.
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// Content type of everything else.
pub(crate) const JSON: &str = "application/json";

/// An API server, and who we are to it.
pub(crate) struct ApiServer {
    client: Client,
    credential: Credential,
    server: String,
    rest: Mutex<Option<(Instant, DriverError)>>,
}

impl ApiServer {
    pub(crate) fn new(client: Client, credential: Credential, server: String) -> Self {
        Self {
            client,
            credential,
            server,
            rest: Mutex::new(None),
        }
    }

    /// Its address, for people.
    pub(crate) fn name(&self) -> &str {
        &self.server
    }

    /// Sends a request and reads the answer; a refusal comes back as such, for the caller to look at.
    ///
    /// # Errors
    /// If no answer came that can be read.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        content: Option<(&'static str, &Value)>,
        limit: Duration,
    ) -> Result<Result<Value, Refusal>, DriverError> {
        let what = format!("{method} {path}");
        let token = self.token().await?;
        let within = async {
            let answer = match self.send(&what, method, path, content, token).await? {
                Ok(body) => body,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let body = self.read(&what, answer).await?;
            serde_json::from_slice(&body).map(Ok).map_err(|error| {
                let start: String = String::from_utf8_lossy(&body).chars().take(60).collect();
                meaning::strange(
                    &what,
                    &self.server,
                    &format!("the answer is not JSON ({error}): `{start}`"),
                )
            })
        };
        match tokio::time::timeout(limit, within).await {
            Ok(answer) => answer,
            Err(_) => Err(meaning::too_late(&what, &self.server, limit)),
        }
    }

    /// The same, where every refusal is an error.
    pub(crate) async fn get(&self, path: &str, limit: Duration) -> Result<Value, DriverError> {
        let answer = self.ask(Method::GET, path, None, limit).await?;
        answer.map_err(|refusal| refusal.meaning(&format!("GET {path}"), &self.server))
    }

    /// Begins a watch; lines come as they come, and the caller says how long is too long.
    pub(crate) async fn watch(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<Result<Lines, Refusal>, DriverError> {
        let what = format!("GET {path}");
        let token = self.token().await?;
        match tokio::time::timeout(limit, self.send(&what, Method::GET, path, None, token)).await {
            Ok(Ok(Ok(body))) => Ok(Ok(Lines::of(body))),
            Ok(Ok(Err(refusal))) => Ok(Err(refusal)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(meaning::too_late(&what, &self.server, limit)),
        }
    }

    /// Who we are. Not within the limit of a request: a program that makes tokens has a longer one, and what is wrong with
    /// it is not the API server's.
    async fn token(&self) -> Result<Option<String>, DriverError> {
        if let Some(error) = self.resting() {
            return Err(error);
        }
        self.credential.token().await
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content: Option<(&'static str, &Value)>,
        token: Option<String>,
    ) -> Result<Result<Body, Refusal>, DriverError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(ACCEPT, JSON)
            .header(USER_AGENT, concat!("weir-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                meaning::strange(
                    what,
                    &self.server,
                    "the agent's token has characters that no token has",
                )
            })?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let body = match content {
            Some((kind, value)) => {
                request = request.header(CONTENT_TYPE, kind);
                Body::from(value.to_string().into_bytes())
            }
            None => Body::empty(),
        };
        let request = request
            .body(body)
            .map_err(|error| meaning::strange(what, &self.server, &error.to_string()))?;
        let answer = self
            .client
            .send(request)
            .await
            .map_err(|error| meaning::no_answer(what, &self.server, &error))?;
        let (parts, body) = answer.into_parts();
        if parts.status.is_success() {
            return Ok(Ok(body));
        }
        let refusal = Refusal {
            code: parts.status.as_u16(),
            retry_after: parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok()),
            body: self.read(what, body).await?,
        };
        if refusal.code == 401 {
            self.credential.refused().await;
        }
        if let Some(wait) = refusal.wait() {
            let error = refusal.meaning(what, &self.server);
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now() + wait, error));
        }
        Ok(Err(refusal))
    }

    fn resting(&self) -> Option<DriverError> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rest {
            Some((until, error)) if Instant::now() < *until => Some(error.clone()),
            _ => {
                *rest = None;
                None
            }
        }
    }

    async fn read(&self, what: &str, mut body: Body) -> Result<Vec<u8>, DriverError> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| meaning::no_answer(what, &self.server, &error))?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
            if bytes.len() > LARGEST {
                let why = format!("an answer of more than {LARGEST} bytes");
                return Err(meaning::strange(what, &self.server, &why));
            }
        }
        Ok(bytes)
    }
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>,
    held: BytesMut,
    ended: bool,
}

impl Lines {
    fn of(body: Body) -> Self {
        let stream = body
            .into_data_stream()
            .map(|part| part.map_err(|error| meaning::chain(&error)));
        Self {
            body: Box::pin(stream),
            held: BytesMut::new(),
            ended: false,
        }
    }

    /// The next line that is not empty; none at the end. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// If the stream broke, or a line is longer than any object.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            if let Some(at) = self.held.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(at + 1).freeze().slice(..at);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.held.len() > LONGEST {
                return Err(format!("a line of more than {LONGEST} bytes"));
            }
            if self.ended {
                let rest = self.held.split().freeze();
                return Ok((!rest.iter().all(u8::is_ascii_whitespace)).then_some(rest));
            }
            match self.body.next().await {
                Some(Ok(part)) => self.held.extend_from_slice(&part),
                Some(Err(why)) => return Err(why),
                None => self.ended = true,
            }
        }
    }
}
