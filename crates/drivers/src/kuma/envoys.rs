//! The Envoys on this host: finding their admin interfaces and asking them. Nothing here goes through a control plane,
//! so it may be done as often as wanted (`kuma.md` R2).

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::glob;
use crate::{DriverError, Fault};

/// The largest answer that is read: the listeners of a proxy that calls thousands of services.
const LARGEST: usize = 64 << 20;

/// Where to look: a glob of unix sockets, or a URL.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Glob(String),
    Url { text: String, authority: String },
}

/// One admin interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Admin {
    Socket(PathBuf),
    Address(String),
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// Why an admin interface could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mute {
    /// Nobody is there: a socket that a dead Envoy left, an address without a listener. Not a proxy.
    Dead,
    /// Somebody is there, or may be: counts as a proxy that was not seen.
    Unreadable(String),
}

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, DriverError> {
        let refuse = |why: &str| {
            DriverError::new(
                format!("kuma.envoyAdmin `{text}`"),
                why.to_owned(),
                Fault::Setup,
                "give a path of unix sockets, `*` and `?` allowed (/tmp/kuma-*/kuma-envoy-admin.sock), \
                   or an address such as http://127.0.0.1:9901",
            )
        };
        if !text.contains("://") {
            return if text.is_empty() {
                Err(refuse("it is empty"))
            } else {
                Ok(Self::Glob(text.to_owned()))
            };
        }
        let uri: Uri = text.parse().map_err(|_| refuse("it is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(refuse("an Envoy's admin interface speaks http:// only"));
        }
        let authority = uri.authority().ok_or_else(|| refuse("it has no host"))?;
        let authority = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        Ok(Self::Url {
            text: text.to_owned(),
            authority,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glob(text) | Self::Url { text, .. } => f.write_str(text),
        }
    }
}

/// All admin interfaces that the places name now, each once. Blocks for a few directory reads.
pub(crate) fn find(places: &[Place]) -> BTreeSet<Admin> {
    let mut found = BTreeSet::new();
    for place in places {
        match place {
            // Two globs, or a link, may lead to one socket: it is one Envoy.
            Place::Glob(pattern) => found.extend(
                glob::find(pattern)
                    .into_iter()
                    .map(|path| Admin::Socket(path.canonicalize().unwrap_or(path))),
            ),
            Place::Url { authority, .. } => {
                found.insert(Admin::Address(authority.clone()));
            }
        }
    }
    found
}

impl Admin {
    /// `GET path_and_query`, as JSON.
    pub(crate) async fn get(&self, path_and_query: &str, timeout: Duration) -> Result<Value, Mute> {
        match tokio::time::timeout(timeout, self.ask(path_and_query)).await {
            Ok(answer) => answer,
            Err(_) => Err(Mute::Unreadable(format!(
                "{self} did not answer in {} ms",
                timeout.as_millis()
            ))),
        }
    }

    async fn ask(&self, path_and_query: &str) -> Result<Value, Mute> {
        let deny = |e: &dyn fmt::Display| Mute::Unreadable(format!("{self}: {e}"));
        match self {
            Self::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => exchange(stream, path_and_query).await.map_err(|e| deny(&e)),
                Err(e) => Err(no_connection(self, &e)),
            },
            Self::Address(authority) => match TcpStream::connect(authority).await {
                Ok(stream) => exchange(stream, path_and_query).await.map_err(|e| deny(&e)),
                Err(e) => Err(no_connection(self, &e)),
            },
        }
    }
}

fn no_connection(admin: &Admin, error: &io::Error) -> Mute {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Mute::Dead,
        io::ErrorKind::PermissionDenied => Mute::Unreadable(format!(
            "{admin}: permission denied (run the agent as the user of kuma-dp, whose socket is its own)"
        )),
        _ => Mute::Unreadable(format!("{admin}: {error}")),
    }
}

async fn exchange<S>(stream: S, path_and_query: &str) -> Result<Value, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    // The connection's own errors come back through the request too.
    let driver = tokio::spawn(async move { drop(connection.await) });
    let answer = async {
        let request = Request::get(path_and_query)
            .header(http::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST)
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        if status != StatusCode::OK {
            let said: String = String::from_utf8_lossy(&body).trim().chars().take(120).collect();
            return Err(format!("answered {status}: {said}"));
        }
        serde_json::from_slice(&body).map_err(|e| format!("answered no JSON: {e}"))
    }
    .await;
    drop(sender);
    driver.abort();
    answer
}
