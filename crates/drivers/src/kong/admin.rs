//! A thin client for one node's Admin API: bounded answers, no redirects, and every failure sorted by what it means.
//!
//! Each question goes over a connection of its own: a kept one would always be answered by the same of Kong's workers.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Response, Url};
use serde_json::Value;

use crate::kong::refusal::{self, Failure};
use crate::kubernetes::meaning::walk;
use crate::kuma::chain;
use crate::{DriverError, Fault};

/// The largest answer that is read. A document is never read back whole, and lists come in pages.
const LARGEST: usize = 16 << 20;
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
    client: Client,
    url: String,
    status: Option<String>,
    header: Option<(HeaderName, PathBuf)>,
}

/// An answer: its status, what type it says it is, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    /// `Location` or `Retry-After`, whichever belongs to the status.
    pub(crate) hint: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
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

impl Admin {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: AdminConfig) -> Result<Self, DriverError> {
        let setup = |why: String, help: &str| DriverError {
            what: "Kong's Admin API".to_owned(),
            why,
            fault: Fault::Setup,
            help: help.to_owned(),
        };
        let url = checked(&config.url, "Admin API")?;
        let status = config
            .status
            .as_deref()
            .map(|url| checked(url, "status listener"));
        let status = status.transpose()?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let why = "no TLS provider is installed in this program".to_owned();
            return Err(setup(why, "please report it"));
        }
        let mut client = Client::builder()
            .connect_timeout(Duration::from_secs(2).min(config.timeout))
            .timeout(config.timeout)
            // The node is on this host or named in full: no proxy of the environment, no detour.
            .no_proxy()
            .redirect(Policy::none())
            .http1_only()
            .pool_max_idle_per_host(0);
        if let Some(file) = &config.ca {
            let help = "put the certificates of the authority there, PEM";
            let said = |e: &dyn std::fmt::Display| setup(format!("{}: {e}", file.display()), help);
            let pem = std::fs::read(file).map_err(|e| said(&e))?;
            let trusted = Certificate::from_pem_bundle(&pem).map_err(|e| said(&e))?;
            if trusted.is_empty() {
                return Err(said(&"there is no certificate in it"));
            }
            client = client.tls_certs_only(trusted);
        }
        let header = config.header.map(|secret| {
            let name = HeaderName::try_from(&secret.name);
            let name = name.map_err(|_| {
                setup(
                    format!("`{}` is no name of a header", secret.name),
                    "write `apikey` or so",
                )
            });
            Ok((name?, secret.file))
        });
        Ok(Self {
            client: client.build().map_err(|e| setup(chain(&e), "please report it"))?,
            url,
            status,
            header: header.transpose()?,
        })
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
        let body = body.map(|body| ("application/json".to_owned(), body.to_string().into_bytes()));
        let answer = self
            .call(method, path, body)
            .await
            .map_err(|failure| failure.at(&what))?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED if !answer.kind.starts_with("application/json") => {
                Err(refusal::no_kong("the answer is no JSON").at(&what))
            }
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
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
        let answer = self.send(self.client.get(&url)).await.map_err(wrap)?;
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

    /// `POST /config` with these bytes as form field `config`, to the byte. `boundary` is not in them.
    pub(crate) async fn post_config(&self, config: &[u8], boundary: &str) -> Result<Answer, Failure> {
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
        self.call(
            Method::POST,
            "config?check_hash=1&flatten_errors=1",
            Some((kind, body)),
        )
        .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Answer, Failure> {
        let mut request = self.client.request(method, format!("{}/{path}", self.url));
        if let Some((name, file)) = &self.header {
            let help = "put the value of the header there, one line, readable for the agent alone";
            let setup = |why: String| Failure::new(Fault::Setup, format!("{}: {why}", file.display()), help);
            let secret = tokio::fs::read_to_string(file)
                .await
                .map_err(|e| setup(e.to_string()))?;
            let value = HeaderValue::try_from(secret.trim());
            let mut value = value.map_err(|_| setup("it holds what no header may hold".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        self.send(request).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let answer = request.send().await.map_err(|e| self.away(&e))?;
        let status = answer.status();
        let text = |name: HeaderName| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let hint = if status.is_redirection() {
            text(LOCATION)
        } else {
            text(RETRY_AFTER)
        };
        let kind = text(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        // What was loaded comes back whole, with every default: nobody needs it.
        let body = match status {
            StatusCode::CREATED => Vec::new(),
            _ => self.read(answer).await?,
        };
        Ok(Answer {
            status,
            kind,
            hint,
            body,
        })
    }

    async fn read(&self, mut answer: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.away(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(refusal::unknown(&format!(
                    "an answer of more than {LARGEST} bytes"
                )));
            }
        }
        Ok(body)
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let mut certificate = None;
        walk(error, &mut |part| {
            if let Some(rustls::Error::InvalidCertificate(why)) = part.downcast_ref() {
                certificate.get_or_insert_with(|| why.to_string());
            }
        });
        if let Some(why) = certificate {
            return Failure::new(
                Fault::Setup,
                format!("the certificate of {} is not trusted: {why}", self.url),
                "name the authority that made it in the gateway's CA file; if that is the one, somebody sits between",
            );
        }
        let why = if error.is_timeout() {
            format!("no answer in time from {}", self.url)
        } else {
            chain(error)
        };
        let help = format!(
            "is this Kong running, and its Admin API listening at {}? Traffic stays as it is",
            self.url
        );
        Failure::new(Fault::Away, why, help)
    }
}

/// An address without a slash at its end.
fn checked(text: &str, of: &str) -> Result<String, DriverError> {
    let setup = |shown: &str, why: &str| DriverError {
        what: format!("Kong's {of} at {shown}"),
        why: why.to_owned(),
        fault: Fault::Setup,
        help: "write its address, such as http://127.0.0.1:8001 on this host or https://kong.internal:8444"
            .to_owned(),
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
