//! Values of the configuration that are more than their text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

/// A name or address under which agents and people reach the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum HostName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl TryFrom<String> for HostName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(format!("`{text}` is neither a DNS name nor an IP address"))
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.pad(name),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// The longest period: the life of the certificate authority. Beyond some thousand years times could not be added up.
pub(super) const MOST: Duration = Duration::from_secs(3650 * 86_400);

/// A period such as `15s`, `2m`, `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Period(pub(super) Duration);

impl TryFrom<String> for Period {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        period(&text).map(Self)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub(super) SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            |_| format!("`{text}` is not an IP address with a port, such as 0.0.0.0:8443 or [::]:8443");
        text.parse().map(Self).map_err(wrong)
    }
}

/// Reads a period as people write it: `500ms`, `15s`, `2m`, `24h`, `90d`.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn period(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a period: write a number and a unit, such as 15s, 2m, 24h or 90d");
    // Days are calendar units for jiff; here a day is always 24 hours.
    if let Some(days) = text.strip_suffix('d').and_then(|n| n.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}
