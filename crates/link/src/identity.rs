//! Names that a certificate proves. Changed only together with what the coordinator's certificate authority writes.
//!
//! An agent is `spiffe://<federation>/zone/<zone>/agent/<agent>`, the coordinator `spiffe://<federation>/coordinator`;
//! the name stands in the certificate as its only URI. Nothing that a peer *says* about itself counts.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// One agent of one zone of one federation. Each part is an RFC 1035 label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    federation: String,
    zone: String,
    agent: String,
}

/// Why something is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A part is not an RFC 1035 label.
    #[error(
        "{part} `{text}` is not a name: up to 63 of a-z, 0-9 and `-`, beginning with a letter, not ending in `-`"
    )]
    Label {
        /// Which part.
        part: &'static str,
        /// What it was.
        text: String,
    },
    /// A URI of another form.
    #[error("`{0}` is not the name of an agent (spiffe://<federation>/zone/<zone>/agent/<agent>)")]
    Uri(String),
    /// Not a certificate, or one that does not have exactly one URI.
    #[error("the certificate names nobody: {0}")]
    Certificate(String),
}

fn label(part: &'static str, text: &str) -> Result<String, IdentityError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(allowed);
    if good {
        Ok(text.to_owned())
    } else {
        // What a stranger sent is shown, but not at any length.
        let text = text.chars().take(80).flat_map(char::escape_default).collect();
        Err(IdentityError::Label { part, text })
    }
}

impl Identity {
    /// Checks and joins the parts.
    ///
    /// # Errors
    /// The first part that is not an RFC 1035 label.
    pub fn new(federation: &str, zone: &str, agent: &str) -> Result<Self, IdentityError> {
        Ok(Self {
            federation: label("federation", federation)?,
            zone: label("zone", zone)?,
            agent: label("agent", agent)?,
        })
    }

    /// The federation.
    pub fn federation(&self) -> &str {
        &self.federation
    }

    /// The zone that this agent speaks for, and no other.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The agent's own name, unique in its zone.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!(
            "spiffe://{}/zone/{}/agent/{}",
            self.federation, self.zone, self.agent
        )
    }

    /// The identity that a certificate carries.
    ///
    /// # Errors
    /// If it is no certificate or carries no agent's name.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        certificate_facts(der)?.uri.parse()
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let refuse = || IdentityError::Uri(uri.chars().take(240).flat_map(char::escape_default).collect());
        let path = uri.strip_prefix("spiffe://").ok_or_else(refuse)?;
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            [federation, "zone", zone, "agent", agent] => Self::new(federation, zone, agent),
            _ => Err(refuse()),
        }
    }
}

/// As people read it: `shop/fra/fra-1`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.federation, self.zone, self.agent)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a federation's coordinator, as it stands in its certificate.
///
/// # Errors
/// If the federation's name is not an RFC 1035 label.
pub fn coordinator_uri(federation: &str) -> Result<String, IdentityError> {
    Ok(format!(
        "spiffe://{}/coordinator",
        label("federation", federation)?
    ))
}

/// Who is at the other end of a connection: every request carries it as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// Its certificate, verified; none for callers that bring a token instead.
    pub certificate: Option<PeerCertificate>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub identity: Identity,
    /// When it ends.
    pub expires: Timestamp,
}

impl PeerCertificate {
    /// Reads a certificate that TLS has verified.
    ///
    /// # Errors
    /// If it carries no agent's name.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let facts = certificate_facts(der)?;
        Ok(Self {
            identity: facts.uri.parse()?,
            expires: facts.not_after,
        })
    }
}

/// What matters of a certificate.
pub(crate) struct CertificateFacts {
    pub(crate) uri: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

pub(crate) fn certificate_facts(der: &[u8]) -> Result<CertificateFacts, IdentityError> {
    let broken = |what: &str| IdentityError::Certificate(what.to_owned());
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| broken("it is not an X.509 certificate"))?;
    if !rest.is_empty() {
        return Err(broken("bytes follow the certificate"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| broken("its alternative names cannot be read"))?
        .ok_or_else(|| broken("it has no alternative name"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.to_owned(),
        (None, _) => return Err(broken("it has no URI")),
        (Some(_), Some(_)) => return Err(broken("it has more than one URI")),
    };
    let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| broken("its dates are out of range"));
    Ok(CertificateFacts {
        uri,
        not_before: at(certificate.validity().not_before.timestamp())?,
        not_after: at(certificate.validity().not_after.timestamp())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri() {
        let identity = Identity::new("shop", "fra", "fra-1").unwrap();
        assert_eq!(identity.uri(), "spiffe://shop/zone/fra/agent/fra-1");
        assert_eq!(identity.uri().parse::<Identity>().unwrap(), identity);
    }

    #[test]
    fn nothing_else_is_an_identity() {
        for uri in [
            "",
            "spiffe://shop/coordinator",
            "https://shop/zone/fra/agent/a",
            "spiffe://shop/zone/fra/agent/a/",
            "spiffe://shop/zone/fra/agent/a/b",
            "spiffe://shop/zone/fra%2f/agent/a",
            "spiffe://Shop/zone/fra/agent/a",
            "spiffe:///zone/fra/agent/a",
            "spiffe://shop/zone/../agent/a",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri} was taken");
        }
    }
}
