//! The declaration: `Federation`, `Zone` and `Split` after parsing and resolving.
//!
//! These are checked values: whoever holds a [`Declaration`] without error diagnostics may rely on every rule in
//! `docs/errors` (weights sum to 100, references resolve, the last route has no match, ...).
//! Changed with the declaration language, together with `docs/errors` and the JSON Schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Span;
use crate::freeze::Freeze;
use crate::gateway::{AtGateway, Gateway};
use crate::names::{
    BackendName, DnsLabel, FederationName, GatewayName, MeshName, PortName, RouteName, ServiceName,
    SplitName, ZoneName,
};
use crate::transition::{Fallback, Transition};
use crate::weight::BasisPoints;

/// The name of a Git source in the coordinator's configuration (or `local` for files given by hand).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceName(pub String);

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A commit, 40 (or 64) lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub String);

impl CommitId {
    /// The first 12 digits, for people: enough in any repository.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One source at one commit: the provenance (I1) of everything derived from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceCommit {
    /// Which Git source.
    pub source: SourceName,
    /// At which commit.
    pub commit: CommitId,
}

/// One file as it came from Git or disk. The text is raw bytes: not being UTF-8 is a diagnostic, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The source that it belongs to.
    pub source: SourceName,
    /// Path inside the source, `/`-separated.
    pub path: String,
    /// Content.
    pub bytes: Arc<[u8]>,
}

/// Where a declared thing stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The source that it belongs to.
    pub source: SourceName,
    /// Path inside the source.
    pub file: String,
    /// Where in the file.
    pub span: Span,
}

/// Everything that is declared, from all sources together. Its splits are shared, so that cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declaration {
    /// Exactly one in a declaration without errors.
    pub federation: Option<Federation>,
    /// By name.
    pub zones: BTreeMap<ZoneName, Zone>,
    /// By name.
    pub splits: BTreeMap<SplitName, Arc<Split>>,
}

/// The federation's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    /// `metadata.name`.
    pub name: FederationName,
    /// `spec.mesh`, the Kuma mesh whose services are split; default `default`.
    pub mesh: MeshName,
    /// `spec.prune`; default [`Prune::Refuse`].
    pub prune: Prune,
    /// `spec.freeze`, of all splits; default [`Freeze::Never`].
    pub freeze: Freeze,
    /// Where it is declared.
    pub place: Place,
}

/// Whether one commit may take away all splits, or most of several. An empty directory is a declaration as well, and
/// seldom what somebody meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Prune {
    /// Such a commit is refused.
    #[default]
    Refuse,
    /// It is taken like any other.
    Allow,
}

/// What a zone runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Amazon EKS.
    Eks,
    /// EKS Distro.
    EksD,
    /// Any other Kubernetes.
    Kubernetes,
    /// VM hosts: Kuma Universal.
    Vm,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// `metadata.name`.
    pub name: ZoneName,
    /// `spec.platform`.
    pub platform: Platform,
    /// `spec.kumaZone`, the zone's name in Kuma; default: the zone's own name.
    pub kuma_zone: DnsLabel,
    /// `spec.wave`: zones of a lower wave shift first, those of one wave together; default 1.
    pub wave: u32,
    /// `spec.state` is `detached`: nobody waits for the zone, and its backends have no weight above 0 anywhere.
    pub detached: bool,
    /// `spec.freeze`, of every split whose weights the zone runs; default [`Freeze::Never`].
    pub freeze: Freeze,
    /// `spec.gateways`, by name.
    pub gateways: BTreeMap<GatewayName, Gateway>,
    /// Where it is declared.
    pub place: Place,
}

/// The protocol of a split's port: what the mesh can split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1: weights are per request.
    Http,
    /// HTTP/2: weights are per request.
    Http2,
    /// gRPC: weights are per request (call).
    Grpc,
    /// TCP: weights are per connection; no matches.
    Tcp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        })
    }
}

/// The declared shares of one service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// `metadata.name`.
    pub name: SplitName,
    /// `spec.service`.
    pub service: ServiceName,
    /// `spec.port`, 1 to 65535.
    pub port: u16,
    /// `spec.portNames`: the names that this port has where it has one. Kuma asks for a named port by its name alone.
    pub port_names: BTreeSet<PortName>,
    /// `spec.protocol`.
    pub protocol: Protocol,
    /// `spec.backends`, at least one.
    pub backends: BTreeMap<BackendName, Backend>,
    /// `spec.routes` in the order of their precedence *as written*; the last has no match.
    pub routes: Vec<Route>,
    /// `spec.transition`, over that of the Federation.
    pub transition: Transition,
    /// `spec.streaming`: its requests are long-lived, so that each step closes some; default false.
    pub streaming: bool,
    /// `spec.freeze`; default [`Freeze::Never`].
    pub freeze: Freeze,
    /// `spec.fallback`: by the backend that is down.
    pub fallback: BTreeMap<BackendName, Fallback>,
    /// `spec.gateways`: no two of them at one gateway of one zone.
    pub gateways: Vec<AtGateway>,
    /// Where it is declared.
    pub place: Place,
}

/// One version of the service in one zone: a Kuma MeshService named like the service in that zone, same port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// `zone`: a declared zone.
    pub zone: ZoneName,
    /// `namespace`: required where the zone is a cluster, refused where it is VMs.
    pub namespace: Option<DnsLabel>,
    /// `capacity`: the share of the service's requests that it is built for. No default route gives it more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<BasisPoints>,
}

/// A match and its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `name`.
    pub name: RouteName,
    /// `match`; the default route's is [`Match::ANY`].
    pub matches: Match,
    /// `weights`: sum is exactly [`BasisPoints::WHOLE`]. A backend that is not named gets nothing here.
    pub weights: BTreeMap<BackendName, BasisPoints>,
    /// Where it is declared.
    pub place: Place,
}

/// What a request must have for a route to take it: all of it (AND).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Match {
    /// Path; absent = any, which is the same as prefix `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// HTTP method, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Header matches, sorted by name; names lower case, each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Query parameter matches, sorted by name; each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
}

impl Match {
    /// Matches every request.
    pub const ANY: Self = Self {
        path: None,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    };

    /// Whether it matches every request (an explicit prefix `/` included).
    pub fn is_any(&self) -> bool {
        let any_path = match &self.path {
            None => true,
            Some(PathMatch::Prefix(p)) => p == "/",
            Some(_) => false,
        };
        any_path && self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }
}

/// A path match, externally tagged in YAML: `{prefix: /x}`, `{exact: /x}`, `{regex: ...}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// A `/`-separated prefix, without a trailing slash but for `/` itself.
    Prefix(String),
    /// A regular expression over the whole path (RE2 syntax). Refused in declarations (`WEIR0511`): Kuma tries it
    /// after every prefix, and the route without a match is one. It can still be met in objects of others.
    Regex(String),
}

/// How a header or query value is matched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueMatch {
    /// The whole value.
    Exact(String),
    /// A regular expression over the whole value (RE2 syntax).
    Regex(String),
}

/// One header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// One query parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueryMatch {
    /// As written.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}
