//! A thin client for one node's Admin API: what is asked, what an answer says, and every failure sorted by what it means. How
//! questions travel is in `over_http`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::Value;

use crate::DriverError;
use crate::kong::over_http::Http;
use crate::kong::refusal::{self, Failure};

/// Kong's largest page.
const PAGE: usize = 1000;
/// The most entities of one kind: above it something is wrong with the answers and not with the Kong.
const MOST: usize = 200_000;

/// How to reach one node's Admin API; checked by [`Admin::new`].
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// `http://` on this host only, or `https://`.
    pub url: String,
    /// Where `/status/ready` is (`status_listen`): the Admin API does not have it. None: readiness is not asked for.
    pub status: Option<String>,
    /// File with the only authorities that are trusted for `https://`, PEM; none for those of the host.
    pub ca: Option<PathBuf>,
    /// A header that protects the Admin API.
    pub header: Option<Secret>,
    /// How long one call may take; a document of 10,000 routes takes Kong 2 s.
    pub timeout: Duration,
}

/// A header with a secret in a file.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name: `apikey`, `Authorization`.
    pub name: String,
    /// The file with its value, read at each call.
    pub file: PathBuf,
}

/// One node's Admin API.
#[derive(Debug)]
pub struct Admin {
    carrier: Box<dyn Carry>,
    /// For people, and to tell nodes apart: the address, with the IP address where that is one of several of its name.
    url: String,
    /// Where `/status/ready` is; none: readiness is not asked for.
    status: Option<String>,
}

/// Which of a node's listeners is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// That of the Admin API.
    Admin,
    /// That of its status.
    Status,
}

/// What a node is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Where.
    pub listener: Listener,
    /// How.
    pub method: Method,
    /// What for: path and query, without a slash at the beginning.
    pub path: String,
    /// What goes along: its type, and its bytes.
    pub body: Option<(String, Vec<u8>)>,
}

/// How questions come to a node and answers back: over HTTP in every program; a simulation carries them itself. A failure is
/// for what brings no answer.
pub trait Carry: std::fmt::Debug + Send + Sync {
    /// Brings one question there, and its answer back.
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>>;
}

/// An answer: its status, what type it says it is, and its body.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `Content-Type`, lower case.
    pub kind: String,
    /// `Location` or `Retry-After`, whichever belongs to the status.
    pub hint: Option<String>,
    /// What it says. What was loaded need not come back.
    pub body: Vec<u8>,
}

impl Answer {
    /// How long it asks to be left alone; none if it says a date, for clocks differ.
    pub(crate) fn again(&self) -> Option<Duration> {
        // Kong's own limit says 9.87 of the ten seconds that are left of it.
        let seconds: f64 = self.hint.as_deref()?.trim().parse().ok()?;
        let again = Duration::try_from_secs_f64(seconds).ok()?;
        (!self.status.is_redirection()).then_some(again)
    }

    /// The body, if it is what an Admin API answers.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        if !self.kind.starts_with("application/json") {
            return Err(refusal::no_kong(&format!(
                "the answer is {} and no JSON",
                if self.kind.is_empty() {
                    "of no type"
                } else {
                    &self.kind
                }
            )));
        }
        serde_json::from_slice(&self.body)
            .map_err(|e| refusal::unknown(&format!("the answer is no JSON: {e}")))
    }
}

/// Whether it says of what was asked for that nobody can have it here: `this endpoint is only available when wasm is enabled`.
fn is_off(answer: &Answer) -> bool {
    let said = answer.json().ok();
    let said = said.as_ref().and_then(|said| said.get("message")?.as_str());
    said.is_some_and(|said| said.starts_with("this endpoint is only available when "))
}

impl Admin {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: AdminConfig) -> Result<Self, DriverError> {
        Self::dialling(config, None)
    }

    /// The same, where the host of the configured addresses is at this one: one of several behind the name, by which it still is
    /// called and known in TLS.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub(crate) fn at(config: AdminConfig, host: &str, ip: IpAddr) -> Result<Self, DriverError> {
        Self::dialling(config, Some((host, ip)))
    }

    fn dialling(config: AdminConfig, dial: Option<(&str, IpAddr)>) -> Result<Self, DriverError> {
        let base = checked(&config.url, "Admin API")?;
        let status = config
            .status
            .as_deref()
            .map(|url| checked(url, "status listener"));
        let status = status.transpose()?;
        let url = match dial {
            Some((_, ip)) => format!("{base} ({ip})"),
            None => base.clone(),
        };
        Ok(Self {
            carrier: Box::new(Http::new(config, dial, (base, url.clone()), status.clone())?),
            url,
            status,
        })
    }

    /// A node whose questions somebody else carries, by this name; with a status listener or without.
    pub fn carried(name: &str, has_status: bool, carrier: Box<dyn Carry>) -> Self {
        Self {
            carrier,
            url: name.to_owned(),
            status: has_status.then(|| name.to_owned()),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET path`; none if there is no such thing.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, DriverError> {
        let wrap = |failure: Failure| failure.at(&format!("GET {}/{path}", self.url));
        let answer = self.call(Method::GET, path, None).await.map_err(wrap)?;
        match answer.status {
            StatusCode::OK => answer.json().map(Some).map_err(wrap),
            // A page of something else that stands there is no answer.
            StatusCode::NOT_FOUND => answer.json().map(|_| None).map_err(wrap),
            // A kind that this Kong has, and switched off: there are no filter chains without WebAssembly.
            StatusCode::BAD_REQUEST if is_off(&answer) => Ok(None),
            _ => Err(wrap(refusal::of(&answer))),
        }
    }

    /// All of a list; none if there is no such kind.
    pub(crate) async fn list(&self, path: &str) -> Result<Option<Vec<Value>>, DriverError> {
        let mut all: Vec<Value> = Vec::new();
        let mut offset = String::new();
        loop {
            let and = if path.contains('?') { '&' } else { '?' };
            let page = format!("{path}{and}size={PAGE}{offset}");
            let wrap = |why: &str| refusal::unknown(why).at(&format!("GET {}/{page}", self.url));
            let Some(mut answer) = self.get(&page).await? else {
                return Ok(None);
            };
            match answer.get_mut("data").map(Value::take) {
                Some(Value::Array(found)) => all.extend(found),
                // An empty list of Kong's may be an object.
                Some(Value::Object(none)) if none.is_empty() => {}
                _ => return Err(wrap("the answer has no list of entities")),
            }
            if all.len() > MOST {
                return Err(wrap(&format!("more than {MOST} entities")));
            }
            if answer.get("next").is_none_or(Value::is_null) {
                return Ok(Some(all));
            }
            let next = answer.get("offset").and_then(Value::as_str);
            let next = next.ok_or_else(|| wrap("there is a next page, and no word of where it begins"))?;
            let next = format!("&offset={}", escaped(next));
            if next == offset {
                return Err(wrap("the next page is this page"));
            }
            offset = next;
        }
    }

    /// Writes one entity: POST, PATCH or DELETE.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), DriverError> {
        let what = format!("{method} {}/{path}", self.url);
        let goes = method == Method::DELETE;
        // Who is made has the id that it is made with; who is changed is called by it.
        let id = match body.and_then(|body| body["id"].as_str()) {
            Some(id) => id.to_owned(),
            None => path.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        let body = body.map(|body| ("application/json".to_owned(), body.to_string().into_bytes()));
        let answer = self
            .call(method, path, body)
            .await
            .map_err(|failure| failure.at(&what))?;
        match answer.status {
            StatusCode::NO_CONTENT if goes => Ok(()),
            // It gives back what it has now: whatever else says yes to everything is none.
            StatusCode::OK | StatusCode::CREATED if !goes => {
                match answer.json().map_err(|failure| failure.at(&what))? {
                    entity if entity["id"] == *id => Ok(()),
                    _ => Err(refusal::no_kong("the answer is not the entity that was written").at(&what)),
                }
            }
            status if status.is_success() => {
                Err(refusal::no_kong("the answer is not what Kong says to a write").at(&what))
            }
            _ => Err(refusal::of_entity(&answer).at(&what)),
        }
    }

    /// Why it is not ready to serve; none if it is, or if nobody can be asked.
    pub(crate) async fn unready(&self) -> Result<Option<String>, DriverError> {
        let Some(status) = &self.status else {
            return Ok(None);
        };
        let url = format!("{status}/status/ready");
        let wrap = |failure: Failure| failure.at(&format!("GET {url}"));
        let question = Question {
            listener: Listener::Status,
            method: Method::GET,
            path: "status/ready".to_owned(),
            body: None,
        };
        let answer = self.carrier.carry(question).await.map_err(wrap)?;
        let message = |answer: &Answer| {
            let said = answer.json()?;
            let said = said.get("message").and_then(Value::as_str);
            Ok(said.unwrap_or("it does not say why").to_owned())
        };
        match answer.status {
            StatusCode::OK => message(&answer).map(|_| None).map_err(wrap),
            StatusCode::SERVICE_UNAVAILABLE => message(&answer).map(Some).map_err(wrap),
            _ => Err(wrap(refusal::of(&answer))),
        }
    }

    /// `POST /config` with these bytes as form field `config`, to the byte. `boundary` is not in them. What it has already it takes
    /// `anew` only if it is told to: else it says that nothing changed, whatever its workers run.
    pub(crate) async fn post_config(
        &self,
        config: &[u8],
        boundary: &str,
        anew: bool,
    ) -> Result<Answer, Failure> {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"config\"; filename=\"config.json\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let body = [
            head.as_bytes(),
            config,
            format!("\r\n--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        let kind = format!("multipart/form-data; boundary={boundary}");
        let path = match anew {
            true => "config?flatten_errors=1",
            false => "config?check_hash=1&flatten_errors=1",
        };
        self.call(Method::POST, path, Some((kind, body))).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Answer, Failure> {
        let question = Question {
            listener: Listener::Admin,
            method,
            path: path.to_owned(),
            body,
        };
        self.carrier.carry(question).await
    }
}

/// An address without a slash at its end.
fn checked(text: &str, of: &str) -> Result<String, DriverError> {
    let setup = |shown: &str, why: &str| {
        DriverError::new(
            format!("Kong's {of} at {shown}"),
            why.to_owned(),
            crate::Fault::Setup,
            "write its address, such as http://127.0.0.1:8001 on this host or https://kong.internal:8444",
        )
    };
    let url = Url::parse(text).map_err(|_| setup(text, "its address is not a URL"))?;
    let host = url.host_str().unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() {
        let why = "its address holds a user or a password, which would stand in logs and reports";
        return Err(setup(&format!("{}://…@{host}", url.scheme()), why));
    }
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() || url.query().is_some() {
        return Err(setup(
            text,
            "its address is not http://host[:port] or https://host[:port]",
        ));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let here = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() == "http" && !here {
        return Err(setup(
            text,
            "it is on another host and not encrypted: whoever listens could change all traffic",
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The host of a checked address, if it is a name.
pub(crate) fn host_name(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.domain().map(str::to_owned)
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut escaped = String::new();
    for byte in text.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
