//! The client of the API: asks and orders, checks who answers, and turns every failure into words.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use rustls::CertificateError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_link::PersonToken;
use weir_wire::api::Problem;

use crate::clock::Clock;
use crate::trouble::{Kind, Trouble};

const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which a connection counts as lost: three of the coordinator's heartbeats.
const SILENCE: Duration = Duration::from_secs(30);

/// What was to be done, for whoever is not let in.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    verb: &'static str,
    flag: &'static str,
}

const READING: Wanted = Wanted {
    verb: "read",
    flag: "--viewer",
};
const ORDERING: Wanted = Wanted {
    verb: "order",
    flag: "--operator",
};

/// A coordinator that can be asked.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    ca: Option<PathBuf>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As it came: what `--json` prints.
    pub value: serde_json::Value,
    /// When, by the coordinator's clock.
    pub clock: Clock,
}

impl Answer {
    /// The answer as one of the API's shapes.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        T::deserialize(&self.value).map_err(|error| {
            Trouble::new(
                Kind::Refused,
                "the answer is not understood",
                "the coordinator may be of another version: compare `weir --version` with the coordinator's",
            )
            .because(error.to_string())
        })
    }
}

impl Client {
    pub(crate) fn new(
        base: Url,
        token: Option<PersonToken>,
        ca: Option<(&Path, Vec<reqwest::Certificate>)>,
    ) -> Result<Self, Trouble> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // Whoever redirects is not the coordinator, and the token is not theirs.
            .redirect(reqwest::redirect::Policy::none());
        let file = ca.as_ref().map(|(file, _)| file.to_path_buf());
        if let Some((_, certificates)) = ca {
            http = http.tls_certs_only(certificates);
        }
        if matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| {
            Trouble::new(
                Kind::Asked,
                "TLS cannot be set up",
                "give --ca the file ca/ca.pem below the coordinator's data directory",
            )
            .because(causes(&error))
        })?;
        let token = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        let mut token = token.transpose().map_err(|error| {
            Trouble::new(Kind::Asked, "the token cannot be sent", "copy it again").because(error.to_string())
        })?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        Ok(Self {
            http,
            base,
            token,
            ca: file,
        })
    }

    /// Asks for a path of the API, such as `v1/splits`.
    ///
    /// # Errors
    /// In words, whatever went wrong.
    pub async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        let response = self.send(path, None, "application/json").await?;
        self.answer(response).await
    }

    /// Orders something by a path of the API, such as `v1/freeze`.
    ///
    /// # Errors
    /// In words, whatever went wrong, a refusal included.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, Trouble> {
        let mut request = self
            .http
            .post(self.at(path))
            .header(ACCEPT, "application/json")
            .json(body);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let response = request.send().await.map_err(|error| self.trouble(&error))?;
        if response.status().is_success() {
            return self.answer(response).await;
        }
        Err(self.refusal(response, ORDERING).await)
    }

    async fn answer(&self, response: Response) -> Result<Answer, Trouble> {
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let clock = Clock::of(date);
        let body = response.bytes().await.map_err(|error| self.trouble(&error))?;
        let value = serde_json::from_slice(&body).map_err(|_| self.stranger())?;
        Ok(Answer { value, clock })
    }

    /// Opens a stream of events, after the given one.
    ///
    /// # Errors
    /// In words, whatever went wrong.
    pub async fn stream(&self, path: &str, after: Option<u64>) -> Result<Response, Trouble> {
        let response = self.send(path, after, "text/event-stream").await?;
        let kind = response.headers().get("content-type");
        match kind.and_then(|kind| kind.to_str().ok()) {
            Some(kind) if kind.starts_with("text/event-stream") => Ok(response),
            _ => Err(self.stranger()),
        }
    }

    async fn send(&self, path: &str, after: Option<u64>, accept: &'static str) -> Result<Response, Trouble> {
        let mut request = self.http.get(self.at(path)).header(ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.map_err(|error| self.trouble(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response, READING).await)
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    /// What an answer says that is no answer to the question.
    async fn refusal(&self, response: Response, wanted: Wanted) -> Trouble {
        let status = response.status();
        let problem: Option<Problem> = match response.bytes().await {
            Ok(body) => serde_json::from_slice(&body).ok(),
            Err(_) => None,
        };
        let Some(problem) = problem else {
            return self.stranger().because(format!("it answered {status}"));
        };
        let kind = match status.is_server_error() {
            true => Kind::Silent,
            false => Kind::Refused,
        };
        if status == StatusCode::UNAUTHORIZED {
            let Wanted { verb, flag } = wanted;
            let what = format!("the coordinator at {} does not let you {verb}", self.address());
            let make = format!("`weir-coordinator token create --config F {flag} NAME`");
            let help = match self.token {
                Some(_) => format!("have a new token made by {make}, and give its file as --token-file"),
                None => format!("give --token-file FILE or set WEIR_TOKEN; {make} makes a token"),
            };
            return Trouble::new(Kind::Refused, what, help).because(problem.message);
        }
        Trouble {
            kind,
            what: format!("the coordinator at {} answered {status}", self.address()),
            why: Some(problem.message),
            help: problem.help,
        }
    }

    /// The address as people write it.
    fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn stranger(&self) -> Trouble {
        Trouble::new(
            Kind::Refused,
            format!("what answers at {} is not a Weir coordinator", self.address()),
            "see that host and port are the coordinator's, and that no proxy answers in its place",
        )
    }

    /// Why nothing was answered.
    pub(crate) fn trouble(&self, error: &reqwest::Error) -> Trouble {
        let base = self.address();
        match certificate(error) {
            Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                let untrusted = Trouble::new(
                    Kind::Refused,
                    format!("what answers at {base} is not trusted, nothing was sent"),
                    "give --ca the file ca/ca.pem of this coordinator's data directory; it is no secret",
                );
                match &self.ca {
                    Some(file) => untrusted.because(format!(
                        "its certificate was not issued by the authority in {}",
                        file.display()
                    )),
                    None => untrusted.because("its certificate was not issued by an authority that this system knows"),
                }
            }
            Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                Trouble::new(
                    Kind::Refused,
                    format!("what answers at {base} is not trusted, nothing was sent"),
                    "use a name that the coordinator's configuration lists under `names`, or add this one there",
                )
                .because("its certificate is for other names")
            }
            Some(other) => Trouble::new(
                Kind::Refused,
                format!("what answers at {base} is not trusted, nothing was sent"),
                "compare the clocks of both machines; the coordinator's log says more",
            )
            .because(format!("its certificate is refused: {other}")),
            None if error.is_timeout() => Trouble::new(
                Kind::Silent,
                format!("the coordinator at {base} does not answer in time"),
                "see that host and port are right, and that no firewall drops the connection; traffic stays as it is \
                 meanwhile",
            ),
            None => Trouble::new(
                Kind::Silent,
                format!("the coordinator at {base} cannot be reached"),
                "see that it runs, and that host and port are right; traffic stays as it is meanwhile",
            )
            .because(causes(error)),
        }
    }
}

/// What the check of the certificate found, if that is what failed.
fn certificate(error: &reqwest::Error) -> Option<&CertificateError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(what)) = error.downcast_ref() {
            return Some(what);
        }
        // What an I/O error holds is not its source but itself.
        cause = match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// The innermost cause: what is around it repeats the address.
fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
