//! The Admin API and the status listener: which path is what, and what every answer has in its head.

mod body;
mod config;
mod health;
mod reads;
mod status;
mod writes;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::json;

use self::body::Params;
use super::VERSION;
use super::kinds::{Foreign, Kind};
use super::node::Node;
use super::refusal::{self, Answer, Body, Refused};

/// Which of the two listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// `admin_listen`.
    Admin,
    /// `status_listen`.
    Status,
}

/// A request, read.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    /// Path segments, decoded.
    path: Vec<String>,
    query: Vec<(String, String)>,
    content_type: Option<String>,
    body: Bytes,
}

impl Asked {
    /// This question, with a body of a type or without.
    pub(super) fn new(method: &Method, target: &str, body: Option<(&str, &[u8])>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts = path.split('/').filter(|part| !part.is_empty());
        Self {
            method: method.clone(),
            path: parts.map(body::decoded).collect(),
            query: body::pairs(query),
            content_type: body.map(|(kind, _)| kind.to_owned()),
            body: body.map_or_else(Bytes::new, |(_, bytes)| Bytes::copy_from_slice(bytes)),
        }
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    fn params(&self) -> Result<Params, Refused> {
        Params::read(self.content_type.as_deref(), &self.body)
    }

    fn reads(&self) -> bool {
        self.method == Method::GET
    }
}

/// Answers a request that came to this worker.
pub(super) async fn serve(
    node: Arc<Node>,
    worker: usize,
    listener: Listener,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    node.requests.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let origin = header("origin");
    let (if_match, only_head) = (header("if-match"), head.method == Method::HEAD);
    let answer = match Limited::new(body, node.options.admin_body_limit).collect().await {
        Err(_) => Answer::page(413, "413 Request Entity Too Large"),
        Ok(body) => {
            let method = if only_head { &Method::GET } else { &head.method };
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            let mut asked = Asked::new(method, target, None);
            (asked.content_type, asked.body) = (header("content-type"), body.to_bytes());
            answer(&node, worker, listener, &asked)
                .await
                .unwrap_or_else(|refused| refused)
        }
    };
    // There are no versions, hence no match; nginx finds that out when all is done, and only where all went well.
    let answer = match if_match {
        Some(wanted) if answer.status == 200 && wanted != "*" => Answer::page(412, "412 Precondition Failed"),
        _ => answer,
    };
    Ok(respond(&answer, listener, origin.as_deref(), started))
}

fn respond(
    answer: &Answer,
    listener: Listener,
    origin: Option<&str>,
    started: Instant,
) -> Response<Full<Bytes>> {
    let (kind, bytes) = match &answer.body {
        Body::Empty => (None, String::new()),
        Body::Json(value) => (Some("application/json; charset=utf-8"), value.to_string()),
        Body::Page(title) => {
            let page = format!(
                "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
            );
            (Some("text/html; charset=UTF-8"), page)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason: Option<&'static [u8]> = match answer.status {
        405 => Some(b"Not Allowed"),
        413 => Some(b"Request Entity Too Large"),
        _ => None,
    };
    if let Some(reason) = reason.and_then(|reason| hyper::ext::ReasonPhrase::try_from(reason).ok()) {
        response.extensions_mut().insert(reason);
    }
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(kind) = kind {
        set("content-type", kind);
    }
    set("connection", "keep-alive");
    set("access-control-allow-origin", origin.unwrap_or("*"));
    if listener == Listener::Admin {
        set("access-control-allow-credentials", "true");
    }
    set("x-kong-admin-latency", &started.elapsed().as_millis().to_string());
    set("server", &format!("kong/{VERSION}"));
    for (name, value) in &answer.headers {
        set(name, value);
    }
    response
}

/// Answers a question that came to the first worker.
pub(super) async fn answered(node: &Arc<Node>, listener: Listener, asked: &Asked) -> Answer {
    answer(node, 0, listener, asked)
        .await
        .unwrap_or_else(|refused| refused)
}

async fn answer(
    node: &Arc<Node>,
    worker: usize,
    listener: Listener,
    asked: &Asked,
) -> Result<Answer, Refused> {
    let parts: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    if listener == Listener::Status {
        return match parts.as_slice() {
            ["status"] => only_get(asked).map(|()| status::status(node)),
            ["status", "ready"] => only_get(asked).map(|()| status::ready(node)),
            _ => Err(refusal::not_found()),
        };
    }
    if asked.method == Method::OPTIONS {
        return Ok(options());
    }
    body::check_type(asked, parts.as_slice() == ["config"])?;
    match parts.as_slice() {
        [] => only_get(asked).map(|()| status::root(node)),
        ["status"] => only_get(asked).map(|()| status::status(node)),
        ["config"] => config::answer(node, asked).await,
        ["clustering", "data-planes"] => only_get(asked).map(|()| {
            let message = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster";
            Answer::message(400, message)
        }),
        ["schemas", kind, "validate"] => writes::validate(asked, kind),
        other => {
            if !node.is_reachable() {
                return Err(Answer::message(500, "An unexpected error occurred"));
            }
            entities(node, worker, asked, other).await
        }
    }
}

fn only_get(asked: &Asked) -> Result<(), Refused> {
    if asked.reads() {
        Ok(())
    } else {
        Err(refusal::method_not_allowed())
    }
}

fn options() -> Answer {
    let methods = "GET, HEAD, OPTIONS, PATCH, POST, PUT, DELETE".to_owned();
    Answer::empty(204)
        .with("allow", methods.clone())
        .with("access-control-allow-methods", methods)
        .with("access-control-allow-headers", "Content-Type".to_owned())
}

/// What belongs to an entity: its kind, and the reference that leads up.
fn child(parent: &'static Kind, path: &str) -> Option<(&'static Kind, &'static Foreign)> {
    parent.children().find(|(kind, _)| kind.path.1 == path)
}

async fn entities(node: &Arc<Node>, worker: usize, asked: &Asked, path: &[&str]) -> Result<Answer, Refused> {
    match path {
        // Switched off, as it is in a Kong that nobody told otherwise.
        ["filter-chains", ..] => Ok(Answer::message(
            400,
            "this endpoint is only available when wasm is enabled",
        )),
        // Nobody can make one here.
        ["hmac-auths" | "oauth2"] => {
            only_get(asked)?;
            Ok(Answer::json(200, json!({"data": [], "next": null})))
        }
        ["tags"] => only_get(asked).and_then(|()| reads::tags(node, None)),
        ["tags", tag] => only_get(asked).and_then(|()| reads::tags(node, Some(tag))),
        ["upstreams", upstream, "health"] => {
            only_get(asked)?;
            health::upstream(node, worker, asked, upstream)
        }
        ["upstreams", upstream, "targets", "all"] => {
            only_get(asked)?;
            reads::all_targets(node, asked, upstream)
        }
        [
            "upstreams",
            upstream,
            "targets",
            target,
            state @ ("healthy" | "unhealthy"),
        ] => health::mark(node, worker, asked, (upstream, target, None), *state == "healthy"),
        [
            "upstreams",
            upstream,
            "targets",
            target,
            address,
            state @ ("healthy" | "unhealthy"),
        ] => health::mark(
            node,
            worker,
            asked,
            (upstream, target, Some(address)),
            *state == "healthy",
        ),
        // Targets are nowhere but in their upstream.
        ["targets", ..] => Err(refusal::not_found()),
        ["routes", route, "service"] => {
            only_get(asked)?;
            reads::service_of(node, route)
        }
        [kind] => {
            let kind = Kind::at(kind).ok_or_else(refusal::not_found)?;
            match asked.method {
                Method::GET => reads::list(node, asked, kind),
                Method::POST => writes::create(node, asked, kind, None),
                _ => Err(refusal::method_not_allowed()),
            }
        }
        [kind, key] => {
            let kind = Kind::at(kind).ok_or_else(refusal::not_found)?;
            match asked.method {
                Method::GET => reads::single(node, kind, key),
                _ => writes::single(node, asked, kind, key),
            }
        }
        [kind, key, below] => {
            let kind = Kind::at(kind).ok_or_else(refusal::not_found)?;
            let (below, foreign) = child(kind, below).ok_or_else(refusal::not_found)?;
            match asked.method {
                Method::GET => reads::list_below(node, asked, (kind, key), below, foreign),
                Method::POST => writes::create(node, asked, below, Some((kind, key, foreign))),
                _ => Err(refusal::method_not_allowed()),
            }
        }
        [kind, key, below, inner] => {
            let kind = Kind::at(kind).ok_or_else(refusal::not_found)?;
            let (below, foreign) = child(kind, below).ok_or_else(refusal::not_found)?;
            match asked.method {
                Method::GET => reads::single_below(node, (kind, key), below, foreign, inner),
                _ => writes::single_below(node, asked, (kind, key), below, foreign, inner),
            }
        }
        _ => Err(refusal::not_found()),
    }
}
