//! The agent's way to its coordinator: one dial at a time, always with the newest certificate, and errors that a person
//! can act on. Waiting between dials is the caller's (`Backoff`): there is no retry in here.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::credentials::Credentials;
use crate::explained::Explained;
use crate::tls::{self, Fingerprint};

const CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why the coordinator could not be reached, for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The configured address is none.
    #[error(
        "`{address}` is not a coordinator's address: {why}; it looks like https://coordinator.example.com:8443"
    )]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection.
    #[error("cannot reach the coordinator at {at}: {why}")]
    Unreachable {
        /// Where.
        at: String,
        /// What the system says.
        why: String,
    },
    /// A connection, but no TLS.
    #[error("no secure connection to the coordinator at {at}: {why}")]
    Insecure {
        /// Where.
        at: String,
        /// What went wrong, and what to do.
        why: String,
    },
    /// Our own certificate is over.
    #[error(
        "the certificate of {who} ended at {at}: if the clock of this machine is right, join again with a new token \
         (`weir-coordinator token create --zone {zone}`, then `weir-agent join`)"
    )]
    Expired {
        /// Whose.
        who: String,
        /// Its zone.
        zone: String,
        /// When.
        at: Timestamp,
    },
    /// TLS could not be set up on our side.
    #[error(transparent)]
    Setup(#[from] tls::TlsError),
    /// HTTP/2 could not be begun.
    #[error("the coordinator at {at} does not speak HTTP/2: {why}")]
    Protocol {
        /// Where.
        at: String,
        /// What the library says.
        why: String,
    },
}

/// Dials the coordinator. Cheap to clone; all clones share the credentials, which can be replaced at any time: the next
/// dial uses them, connections that stand are not touched.
#[derive(Clone)]
pub struct Connector(Arc<Inner>, Pings);

/// How a coordinator that fell silent is noticed: HTTP/2 pings on every connection, busy or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// How often.
    pub every: Duration,
    /// How long the answer may take before the connection is given up.
    pub answer: Duration,
}

impl Default for Pings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            answer: Duration::from_secs(5),
        }
    }
}

struct Inner {
    at: Address,
    now: ArcSwap<Now>,
}

struct Now {
    credentials: Option<Arc<Credentials>>,
    tls: Arc<ClientConfig>,
}

#[derive(Debug, Clone)]
struct Address {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a connector to {}", self.0.at)
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, DialError> {
        let refuse = |why: &str| DialError::Address {
            address: text.to_owned(),
            why: why.to_owned(),
        };
        let uri: Uri = text
            .trim_end_matches('/')
            .parse()
            .map_err(|_| refuse("it is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(refuse("it does not begin with https://"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(refuse("nothing may follow the host and port"));
        }
        let authority = uri.authority().ok_or_else(|| refuse("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("it has no place for a user"));
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(bare).map_err(|_| refuse("its host is neither a name nor an IP address"))?;
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(443),
            name,
        })
    }
}

impl Connector {
    /// For an agent that has joined.
    ///
    /// # Errors
    /// If the address is none, or the credentials cannot be used.
    pub fn new(coordinator: &str, credentials: Credentials) -> Result<Self, DialError> {
        let tls = Arc::new(tls::joined(&credentials)?);
        Self::with(coordinator, Some(Arc::new(credentials)), tls)
    }

    /// For an agent that is joining: without a certificate, trusting only the certificate authority of its token.
    ///
    /// # Errors
    /// If the address is none.
    pub fn joining(coordinator: &str, authority: Fingerprint) -> Result<Self, DialError> {
        Self::with(coordinator, None, Arc::new(tls::joining(authority)?))
    }

    fn with(
        coordinator: &str,
        credentials: Option<Arc<Credentials>>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, DialError> {
        let inner = Inner {
            at: Address::parse(coordinator)?,
            now: ArcSwap::from_pointee(Now { credentials, tls }),
        };
        Ok(Self(Arc::new(inner), Pings::default()))
    }

    /// The same, noticing a silent coordinator sooner or later than within 10 seconds.
    #[must_use]
    pub fn with_pings(self, pings: Pings) -> Self {
        Self(self.0, pings)
    }

    /// The credentials of the next dial; none while joining.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.0.now.load().credentials.clone()
    }

    /// From the next dial on, uses these credentials.
    ///
    /// # Errors
    /// If they cannot be used; then the old ones stay.
    pub fn replace(&self, credentials: Credentials) -> Result<(), DialError> {
        let tls = Arc::new(tls::joined(&credentials)?);
        self.0.now.store(Arc::new(Now {
            credentials: Some(Arc::new(credentials)),
            tls,
        }));
        Ok(())
    }

    /// Dials now, and answers when TLS stands. A peer that falls silent is noticed (see [`Pings`]).
    ///
    /// The coordinator looks at the agent's certificate only after that: what it has against it shows in the first call
    /// (see [`explain`]).
    ///
    /// # Errors
    /// Where it failed, for people.
    pub async fn channel(&self) -> Result<Channel, DialError> {
        let here = self.clone();
        let dial = tower::service_fn(move |_: Uri| {
            let here = here.clone();
            async move { here.dial().await.map(Explained).map(TokioIo::new) }
        });
        // The scheme is that of what runs inside our own TLS.
        let inside = format!("http://{}", self.0.at);
        let endpoint = Endpoint::from_shared(inside)
            .map_err(|e| DialError::Address {
                address: self.0.at.to_string(),
                why: e.to_string(),
            })?
            .http2_keep_alive_interval(self.1.every)
            .keep_alive_timeout(self.1.answer)
            .keep_alive_while_idle(true);
        endpoint
            .connect_with_connector(dial)
            .await
            .map_err(|e| match find::<DialError>(&e) {
                Some(dial) => dial.clone(),
                None => DialError::Protocol {
                    at: self.0.at.to_string(),
                    why: chain(&e),
                },
            })
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let now = self.0.now.load_full();
        let at = &self.0.at;
        if let Some(c) = &now.credentials
            && c.expires() <= Timestamp::now()
        {
            return Err(DialError::Expired {
                who: c.identity().to_string(),
                zone: c.identity().zone().to_owned(),
                at: c.expires(),
            });
        }
        let unreachable = |why: String| DialError::Unreachable {
            at: at.to_string(),
            why,
        };
        let insecure = |why: String| DialError::Insecure {
            at: at.to_string(),
            why,
        };
        let bare = at.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = tokio::time::timeout(CONNECT, TcpStream::connect((bare, at.port)))
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", CONNECT.as_secs())))?
            .map_err(|e| unreachable(e.to_string()))?;
        tcp.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let tls = TlsConnector::from(Arc::clone(&now.tls)).connect(at.name.clone(), tcp);
        tokio::time::timeout(HANDSHAKE, tls)
            .await
            .map_err(|_| {
                insecure(format!(
                    "the TLS handshake took longer than {} s",
                    HANDSHAKE.as_secs()
                ))
            })?
            .map_err(|e| insecure(explain(&e)))
    }
}

/// The first error of a type in a chain of errors. Looks into `io::Error`, which hides what it wraps.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inside = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

/// A whole chain of errors in one line, without saying anything twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// What went wrong on the way to the coordinator, for people: of a dial, a call (`tonic::Status`), or TLS itself.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    if let Some(dial) = find::<DialError>(error) {
        return dial.to_string();
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return explain_tls(tls);
    }
    let text = match error.downcast_ref::<tonic::Status>() {
        Some(status) if status.source().is_none() => return status.message().to_owned(),
        Some(status) => status.source().map(chain).unwrap_or_default(),
        None => chain(error),
    };
    // What the libraries put before it tells a person nothing.
    let mut rest = text.as_str();
    for prefix in ["transport error: ", "connection error: "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.to_owned()
}

pub(crate) fn explain_tls(error: &rustls::Error) -> String {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(C::Other(ours)) => ours.to_string(),
        rustls::Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => {
            "its certificate is of another certificate authority than the one that this agent joined: \
             check the address; if the coordinator was set up anew, join again with a new token"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            "its certificate has expired: check the clocks of both machines".to_owned()
        }
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "its certificate is not valid yet: check the clocks of both machines".to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS: is this the coordinator's port?".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the coordinator says that this agent's certificate has expired: check the clocks of both machines, \
             or join again with a new token"
                .to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::DecryptError,
        ) => "the coordinator does not know this agent's certificate: another coordinator issued it; \
              join again with a new token"
            .to_owned(),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the other side does not speak TLS 1.3".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_dialled() {
        assert_eq!(
            Address::parse("https://c.example.com:8443/").unwrap().to_string(),
            "c.example.com:8443"
        );
        assert_eq!(Address::parse("https://[::1]").unwrap().to_string(), "[::1]:443");
        for wrong in [
            "",
            "c.example.com",
            "http://c:1",
            "https://c:1/x",
            "https://u@c:1",
            "https://:1",
            "https://a_b c",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong} was taken");
        }
    }
}
