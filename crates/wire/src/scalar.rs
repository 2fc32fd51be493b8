//! Names, hashes, times and words as they cross the wire.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use weir_model::{DnsLabel, Protocol, SourceCommit};
use weir_planner::{Evidence, Fault, ServiceState, Way};

use crate::WireError;
use crate::v1;

/// Reads a name or anything else that knows how to read itself.
pub(crate) fn read<T: FromStr<Err: fmt::Display>>(field: &str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|e| WireError::new(field, e))
}

pub(crate) fn label(field: &str, text: &str) -> Result<Option<DnsLabel>, WireError> {
    if text.is_empty() {
        return Ok(None);
    }
    read(field, text).map(Some)
}

pub(crate) fn hash(field: &str, bytes: &[u8]) -> Result<[u8; 32], WireError> {
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| WireError::new(field, format!("a digest has 32 bytes, this one has {length}")))
}

pub(crate) fn port(field: &str, number: u32) -> Result<u16, WireError> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| WireError::new(field, format!("{number} is not a port (1 to 65535)")))
}

pub(crate) fn time_out(at: Timestamp) -> v1::Time {
    v1::Time {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

pub(crate) fn time(field: &str, at: Option<v1::Time>) -> Result<Timestamp, WireError> {
    let at = at.ok_or_else(|| WireError::new(field, "no time is given"))?;
    Timestamp::new(at.seconds, at.nanos)
        .map_err(|_| WireError::new(field, "it is no time that a calendar knows"))
}

pub(crate) fn protocol_out(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    }
}

pub(crate) fn protocol(field: &str, text: &str) -> Result<Protocol, WireError> {
    Ok(match text {
        "http" => Protocol::Http,
        "http2" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "tcp" => Protocol::Tcp,
        other => return Err(unknown(field, other, "protocol (http, http2, grpc, tcp)")),
    })
}

pub(crate) fn evidence_out(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Live => "live",
        Evidence::Sampled => "sampled",
        Evidence::Acknowledged => "acknowledged",
        Evidence::Unknown => "unknown",
    }
}

/// A class that a newer agent knows and we do not is no evidence to us.
pub(crate) fn evidence(text: &str) -> Evidence {
    match text {
        "live" => Evidence::Live,
        "sampled" => Evidence::Sampled,
        "acknowledged" => Evidence::Acknowledged,
        _ => Evidence::Unknown,
    }
}

pub(crate) fn fault_out(fault: Fault) -> &'static str {
    match fault {
        Fault::Away => "away",
        Fault::NotYet => "not-yet",
        Fault::MeshGone => "mesh-gone",
        Fault::Refused => "refused",
        Fault::Setup => "setup",
        Fault::Unknown => "unknown",
    }
}

/// None where nothing is wrong. What a newer agent finds wrong is wrong, whatever it is.
pub(crate) fn fault(text: &str) -> Option<Fault> {
    Some(match text {
        "" => return None,
        "away" => Fault::Away,
        "not-yet" => Fault::NotYet,
        "mesh-gone" => Fault::MeshGone,
        "refused" => Fault::Refused,
        "setup" => Fault::Setup,
        _ => Fault::Unknown,
    })
}

pub(crate) fn service_state_out(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Available => "available",
        ServiceState::Unavailable => "unavailable",
        ServiceState::Unknown => "unknown",
    }
}

pub(crate) fn service_state(text: &str) -> ServiceState {
    match text {
        "available" => ServiceState::Available,
        "unavailable" => ServiceState::Unavailable,
        _ => ServiceState::Unknown,
    }
}

pub(crate) fn way_out(way: Way) -> &'static str {
    match way {
        Way::Unknown => "",
        Way::Open => "open",
        Way::NoIngress => "no-ingress",
        Way::NotAdvertised => "not-advertised",
    }
}

/// A word that is new to us holds nothing up, nor does none.
pub(crate) fn way(text: &str) -> Way {
    match text {
        "open" => Way::Open,
        "no-ingress" => Way::NoIngress,
        "not-advertised" => Way::NotAdvertised,
        _ => Way::Unknown,
    }
}

pub(crate) fn commits_out(commits: &[SourceCommit]) -> Vec<v1::SourceCommit> {
    let out = |c: &SourceCommit| v1::SourceCommit {
        source: c.source.0.clone(),
        commit: c.commit.0.clone(),
    };
    commits.iter().map(out).collect()
}

pub(crate) fn unknown(field: &str, text: &str, kind: &str) -> WireError {
    let text: String = text.chars().take(40).flat_map(char::escape_default).collect();
    WireError::new(field, format!("`{text}` is not a {kind} that this version knows"))
}
