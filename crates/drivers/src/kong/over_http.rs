//! How questions come to a node of Kong over HTTP, and answers back: bounded, and no redirect is followed.
//!
//! Each question goes over a connection of its own: a kept one would always be answered by the same of Kong's workers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response};

use crate::kong::admin::{AdminConfig, Answer, Carry, Listener, Question};
use crate::kong::refusal::{self, Failure};
use crate::kubernetes::meaning::walk;
use crate::kuma::chain;
use crate::{DriverError, Fault};

/// The largest answer that is read. A document is never read back whole, and lists come in pages.
const LARGEST: usize = 16 << 20;

/// One node, as it is reached over HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    /// What requests to the Admin API begin with.
    base: String,
    /// What they begin with that ask for its status.
    status: Option<String>,
    /// For people.
    url: String,
    header: Option<(HeaderName, PathBuf)>,
}

impl Http {
    /// Checks the configuration; nothing is dialled. `base` and `status` are checked addresses.
    pub(crate) fn new(
        config: AdminConfig,
        dial: Option<(&str, IpAddr)>,
        (base, url): (String, String),
        status: Option<String>,
    ) -> Result<Self, DriverError> {
        let setup = |why: String, help: &str| {
            DriverError::new("Kong's Admin API", why, Fault::Setup, help.to_owned())
        };
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
        if let Some((host, ip)) = dial {
            // The port is the address's own.
            client = client.resolve(host, SocketAddr::new(ip, 0));
        }
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
            base,
            status,
            url,
            header: header.transpose()?,
        })
    }

    async fn bring(&self, question: Question) -> Result<Answer, Failure> {
        let base = match question.listener {
            Listener::Admin => self.base.as_str(),
            Listener::Status => self.status.as_deref().unwrap_or_default(),
        };
        let url = format!("{base}/{}", question.path);
        let mut request = self.client.request(question.method, url);
        // The status listener has no secrets, and is told none.
        if question.listener == Listener::Admin
            && let Some((name, file)) = &self.header
        {
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
        if let Some((kind, body)) = question.body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        // A document that was loaded comes back whole, with every default: nobody needs it.
        self.send(request, question.path.starts_with("config")).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, loads: bool) -> Result<Answer, Failure> {
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
        let body = match status {
            StatusCode::CREATED if loads => Vec::new(),
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

impl Carry for Http {
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        self.bring(question).boxed()
    }
}
