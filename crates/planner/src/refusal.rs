//! Why no plan was made. Nothing moves then: the parent plan stays in force.
//!
//! Most of these are diagnostics of `weir-model` long before they come here. They are looked at again for each split that
//! is planned, because a plan is executed without a second look.

use thiserror::Error;
use weir_model::{
    BackendName, Code, DnsLabel, FederationName, MeshName, RouteName, ServiceName, SourceName, SplitName,
    ZoneName, codes,
};

use crate::plan::Generation;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No `Federation`.
    #[error("nothing declares the Federation: add one document of `kind: Federation`")]
    NoFederation,
    /// The name stands in every certificate and on every object of ours.
    #[error(
        "the Federation was renamed from `{was}` to `{is}`: its name marks every object that Weir owns, and under another \
         name they would be nobody's. Take the old name back, or begin anew with an empty ledger after removing the splits"
    )]
    FederationRenamed {
        /// In the parent plan.
        was: FederationName,
        /// Now.
        is: FederationName,
    },
    /// Agents look in one mesh, the plan's: what stands in the old one would drive traffic there for ever, and nobody
    /// would see it.
    #[error(
        "the mesh of the Federation was changed from `{was}` to `{is}` while there are {splits} splits: their policies would \
         stay behind in `{was}`, where nobody would see or remove them. Nothing moves. Take `{was}` back; or remove all \
         splits first (`prune: allow`), wait until every zone has proven that, then change the mesh, then declare the splits again"
    )]
    MeshChanged {
        /// In the parent plan.
        was: MeshName,
        /// Now.
        is: MeshName,
        /// How many splits the parent plan has; at least 1.
        splits: usize,
    },
    /// More goes than one commit may take away.
    #[error("{}", crate::prune::told(source_name.as_ref(), gone, *of))]
    Prunes {
        /// The source whose splits they are; none for all sources together.
        source_name: Option<SourceName>,
        /// The splits that would go; at least 1.
        gone: Vec<SplitName>,
        /// How many there are.
        of: usize,
    },
    /// Two commits for one source.
    #[error("two commits are given for the source `{0}`: a plan is made of exactly one of each source")]
    TwoCommits(SourceName),
    /// A split from a source without commit: nothing that runs it could be traced (I1).
    #[error("split `{split}` comes from the source `{origin}`, of which no commit is given")]
    NoCommit {
        /// The split.
        split: SplitName,
        /// Its source.
        origin: SourceName,
    },
    /// An agent reported the last possible generation.
    #[error(
        "an agent reports generation {0}, and no generation is above that: its stored plan is damaged or not ours. Remove \
         the agent's data directory and let it join again"
    )]
    NoGenerationLeft(Generation),
    /// Two zones of one name in Kuma.
    #[error(
        "zones `{first}` and `{second}` are both `{kuma_zone}` in Kuma: each needs a `kumaZone` of its own"
    )]
    SameKumaZone {
        /// The name in Kuma.
        kuma_zone: DnsLabel,
        /// One.
        first: ZoneName,
        /// The other.
        second: ZoneName,
    },
    /// Two splits for one service and port.
    #[error(
        "splits `{first}` and `{second}` are both for `{service}` port {port}: only one can hold, remove the other"
    )]
    SameService {
        /// The service.
        service: ServiceName,
        /// The port.
        port: u16,
        /// One.
        first: SplitName,
        /// The other.
        second: SplitName,
    },
    /// Something in a split that no zone could run as declared.
    #[error("split `{split}`: {flaw}")]
    Flaw {
        /// The split.
        split: SplitName,
        /// What.
        flaw: Flaw,
    },
}

impl Refusal {
    /// The code that it has as a diagnostic.
    pub fn code(&self) -> Code {
        match self {
            Self::Prunes { .. } => codes::PRUNES,
            _ => codes::NOT_PLANNABLE,
        }
    }
}

/// What is wrong with one split.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    /// A backend in a zone that is not declared.
    #[error("backend `{backend}` is in zone `{zone}`, which is not declared")]
    UnknownZone {
        /// The backend.
        backend: BackendName,
        /// The zone.
        zone: ZoneName,
    },
    /// Two backends at one place: Kuma would add their weights up.
    #[error("backends `{first}` and `{second}` are the same service in the same place: declare it once")]
    SameDestination {
        /// One.
        first: BackendName,
        /// The other.
        second: BackendName,
    },
    /// A weight for a backend that is not declared.
    #[error("route `{route}` gives weight to `{backend}`, which is not among the backends")]
    UnknownBackend {
        /// The route.
        route: RouteName,
        /// The backend.
        backend: BackendName,
    },
    /// Not 100 per cent.
    #[error(
        "the weights of route `{route}` sum to {basis_points} basis points: they must sum to exactly 10000"
    )]
    Sum {
        /// The route.
        route: RouteName,
        /// The sum.
        basis_points: u64,
    },
    /// Two routes of one name.
    #[error("two routes are named `{0}`")]
    SameRoute(RouteName),
    /// The last route in the order of precedence does not take everything.
    #[error("no route takes the requests that no other takes: the last route must have no match")]
    NoDefault,
    /// A route that nothing reaches.
    #[error("route `{0}` can never match: a route without a match comes before it")]
    Unreachable(RouteName),
    /// Two routes that take the same requests: Kuma would make one of them, with the weights of either.
    #[error("route `{again}` has the same match as route `{first}`")]
    SameMatch {
        /// The earlier.
        first: RouteName,
        /// The later.
        again: RouteName,
    },
    /// Matches on tcp.
    #[error("route `{0}` has a match, but tcp connections carry nothing to match on")]
    MatchOnTcp(RouteName),
}
