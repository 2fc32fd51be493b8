//! Gateways: a zone's Kong, and the door of a split at it.
//!
//! These types are what is declared and what travels in plans. How an agent reaches an Admin API is local to the agent
//! and never here. Changed with `read/gateway.rs`, `check/gateway.rs` and, for what is hashed, the planner's canonical
//! bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::Entities;
use crate::declaration::{Place, SourceName};
use crate::names::{BackendName, DnsLabel, GatewayName, ZoneName};
use crate::weight::BasisPoints;

/// How a Kong is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Without a database: its one configuration document is posted to its Admin API.
    AdminDbless,
    /// With PostgreSQL, entity by entity through its Admin API.
    AdminDb,
    /// In Kubernetes, by HTTPRoutes that Kong Ingress Controller reads.
    Kic,
}

impl Channel {
    /// As it is declared.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminDbless => "admin-dbless",
            Self::AdminDb => "admin-db",
            Self::Kic => "kic",
        }
    }

    /// So far, in basis points, may a share that Kong gives be from the declared one. Weir writes exact weights; an ingress
    /// controller divides them by endpoints and rounds. Never more than a tenth of a percentage point, and of a small share half of it.
    pub fn tolerance(self, declared: BasisPoints) -> u32 {
        match self {
            Self::AdminDbless | Self::AdminDb => 0,
            Self::Kic => {
                let smaller = declared.get().min(10_000 - declared.get());
                (smaller / 2).min(10)
            }
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One gateway of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// `name`, unique in its zone; zones may have gateways of one name.
    pub name: GatewayName,
    /// `channel`.
    pub channel: Channel,
    /// `inMesh`: it is a delegated gateway, and its requests go through the mesh; default false.
    pub in_mesh: bool,
    /// `base`: the document that the site keeps itself; of a database-less Kong alone.
    pub base: Option<Base>,
    /// Where the entities of that base stand in its file.
    pub entities: Arc<Entities>,
    /// `parentRef`: what routes are attached to; of a Kong in Kubernetes alone, which has one.
    pub parent: Option<ParentRef>,
    /// Where it is declared.
    pub place: Place,
}

/// A Kong document that the site keeps in Git, next to its declaration. Weir adds to it and takes nothing away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Base {
    /// The source that it comes from: that of its zone.
    pub source: SourceName,
    /// Its path inside the source.
    pub file: String,
    /// The same document as JSON: an object, keys ascending, no spaces.
    pub document: Arc<str>,
}

/// The Gateway, of Gateway API, that HTTPRoutes are attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// `namespace`.
    pub namespace: DnsLabel,
    /// `name`.
    pub name: DnsLabel,
    /// `sectionName`: one listener of it; none: all that take the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<DnsLabel>,
}

impl fmt::Display for ParentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        match &self.section {
            Some(section) => write!(f, "/{section}"),
            None => Ok(()),
        }
    }
}

/// A Service of a cluster, as an address names it: `shop.store.svc:80`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterService {
    /// Its namespace.
    pub namespace: DnsLabel,
    /// Its name.
    pub name: DnsLabel,
    /// One of its ports, by number.
    pub port: u16,
}

impl fmt::Display for ClusterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.svc:{}", self.name, self.namespace, self.port)
    }
}

/// One entry of a split's `gateways`: at which gateways, and the door there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtGateway {
    /// `gateway`.
    pub gateway: GatewayName,
    /// The zones whose gateway of this name it is: `zones`, or all that have one.
    pub zones: BTreeSet<ZoneName>,
    /// What stands there.
    pub door: Door,
    /// Where it is declared.
    pub place: Place,
}

/// How requests from outside come to a split at one gateway, and how that gateway reaches the backends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Door {
    /// Which requests.
    pub entry: Entry,
    /// Where to.
    pub via: Via,
}

/// Which requests a door takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// Those that routes of our own match.
    Routes(Routing),
    /// Those of this service of the gateway's base (`service`): its `host` becomes ours, all else stays theirs.
    Service(String),
    /// Those of this HTTPRoute (`httpRoute`), in the namespace of the backends: the `backendRefs` of its one rule become ours, all
    /// else stays theirs.
    HttpRoute(String),
}

/// What Kong matches a request by, in Kong's own terms: all of it, and of each list one. At least one list is not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// `hosts`, lower case; one `*` as the leftmost or rightmost label.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
    /// `paths`: prefixes, each with `/` first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<String>,
    /// `methods`, upper case.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// `headers`: names, lower case, to the values of which one is enough.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, BTreeSet<String>>,
    /// `snis`: names that a TLS client asks for, lower case, of which it asks for one; only with `https_only`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub snis: BTreeSet<String>,
    /// `httpsOnly`: to plain HTTP the answer is `https_redirect`; default false.
    pub https_only: bool,
    /// `httpsRedirect`: another than the default only with `https_only`.
    #[serde(default, skip_serializing_if = "Redirect::is_default")]
    pub https_redirect: Redirect,
    /// `stripPath`: the backend does not see the matched prefix; default true, as in Kong.
    pub strip_path: bool,
    /// `preserveHost`: the backend sees the client's `Host`; default false, as in Kong.
    pub preserve_host: bool,
}

/// What Kong answers to plain HTTP where a route takes HTTPS alone: `https_redirect_status_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "u16", into = "u16")]
pub enum Redirect {
    /// 426, and no place to go to: Kong's default.
    #[default]
    UpgradeRequired,
    /// 301.
    MovedPermanently,
    /// 302.
    Found,
    /// 307.
    Temporary,
    /// 308.
    Permanent,
}

impl Redirect {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MovedPermanently,
        Self::Found,
        Self::Temporary,
        Self::Permanent,
        Self::UpgradeRequired,
    ];

    /// The status.
    pub fn code(self) -> u16 {
        match self {
            Self::UpgradeRequired => 426,
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::Temporary => 307,
            Self::Permanent => 308,
        }
    }

    /// The one of a status; none if Kong knows no such one.
    pub fn of_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// Whether it is what Kong answers where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<u16> for Redirect {
    type Error = String;
    fn try_from(code: u16) -> Result<Self, String> {
        Self::of_code(code).ok_or_else(|| format!("{code} is no status that Kong answers plain HTTP with"))
    }
}

impl From<Redirect> for u16 {
    fn from(redirect: Redirect) -> Self {
        redirect.code()
    }
}

/// How a gateway reaches the backends: whose weights they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Via {
    /// `mesh`: the gateway is in the mesh, which carries the weights; this is where its sidecar listens for the service.
    Mesh(Address),
    /// `backends`: Kong carries the weights over these addresses, at least one for each backend of the split.
    Addresses(BTreeMap<BackendName, BTreeSet<Address>>),
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// An IP address or a DNS name.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// IPv4, or IPv6 without its brackets.
    Ip(IpAddr),
    /// A DNS name, lower case, without a dot at its end. How many addresses it has is found out by the agent.
    Name(String),
}

/// Why a string is not an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// No `:port` at its end.
    NoPort,
    /// The port is not 1 to 65535.
    Port,
    /// The host is neither an IP address nor a DNS name.
    Host,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPort => "an address ends in `:` and its port",
            Self::Port => "a port is a number from 1 to 65535",
            Self::Host => "before the port stands an IP address (IPv6 in brackets) or a DNS name",
        })
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Reads `10.0.0.5:8080`, `[2001:db8::5]:8080` or `shop.example.com:80`.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = digits.then(|| port.parse().ok()).flatten().unwrap_or(0);
        if port == 0 {
            return Err(AddressError::Port);
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inside = rest.strip_suffix(']').ok_or(AddressError::Host)?;
                Host::Ip(IpAddr::V6(inside.parse().map_err(|_| AddressError::Host)?))
            }
            None => match host.parse() {
                Ok(ip) => Host::Ip(IpAddr::V4(ip)),
                Err(_) => Host::Name(dns_name(host).ok_or(AddressError::Host)?),
            },
        };
        Ok(Self { host, port })
    }

    /// The Service that this is the address of, if its name has the form `service.namespace.svc`.
    pub fn cluster_service(&self) -> Option<ClusterService> {
        let Host::Name(host) = &self.host else { return None };
        let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
        Some(ClusterService {
            namespace: DnsLabel::new(namespace).ok()?,
            name: DnsLabel::new(name).ok()?,
            port: self.port,
        })
    }
}

/// A DNS name in its lower-case form, if it is one: labels of letters, digits and `-` (`_` as in SRV names is none of a
/// host), 253 characters at most, and not all of digits, which Kong would read as an address.
pub(crate) fn dns_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_number = text.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
    let sound = text.len() <= 253 && text.split('.').all(label) && !last_is_a_number;
    sound.then(|| text.to_ascii_lowercase())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::new(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}
