//! The plan: an immutable value with an id, a parent and a generation that only rises.
//!
//! One [`Item`] for each split and zone says what that zone's callers must run for that split. Items are shared with
//! the parent plan where nothing changed, so that the cost of planning follows the change and not the fleet.
//! The agent protocol (`weir-wire`), the agent's last good plan on disk and the ledger all carry these types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use weir_model::{
    BackendName, Base, BasisPoints, Channel, CommitId, DnsLabel, Door, FederationName, GatewayName, Match,
    MeshName, ParentRef, PortName, Protocol, RouteName, ServiceName, SourceCommit, SplitName, ZoneName,
};

/// A plan's number, from 1, only ever rising (I7). 0 stands for "none yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

use crate::course::Course;
use crate::facts::ProvenWeights;

macro_rules! hash32 {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first 12 hex digits, for people.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = blake3::HexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                blake3::Hash::from_hex(text).map(|h| Self(*h.as_bytes()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = blake3::HexError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(hash: $name) -> Self {
                hash.to_string()
            }
        }
    )*};
}

hash32! {
    /// A plan's id: BLAKE3 over its canonical bytes.
    PlanId;
    /// BLAKE3 over the canonical bytes of what an item makes a zone run: everything but its generation and commit.
    /// Two items with the same digest render to the same policy `spec`.
    Digest;
}

/// A plan's splits by name. A copy shares all of it with the original until one of them is changed, and then all but that.
pub type Splits = imbl::OrdMap<SplitName, Arc<SplitPlan>>;

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose plan.
    pub federation: FederationName,
    /// The mesh whose services are split.
    pub mesh: MeshName,
    /// BLAKE3 over the canonical bytes of everything else here.
    pub id: PlanId,
    /// The plan that this one was made from; none for the first.
    pub parent: Option<PlanId>,
    /// Above the parent's, and above every generation that any agent reported.
    pub generation: Generation,
    /// The accepted commits, one for each source, sorted by source (I1).
    pub commits: Vec<SourceCommit>,
    /// When it was made, as given to the planner.
    pub created: Timestamp,
    /// Zones that take part, with their names in Kuma.
    pub zones: BTreeMap<ZoneName, DnsLabel>,
    /// Gateways of those zones that have any. Shared with the parent where nothing changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<ZoneName, BTreeMap<GatewayName, Arc<GatewayPlan>>>,
    /// The splits. Shared with the parent where nothing changed.
    pub splits: Splits,
}

/// One split's part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPlan {
    /// BLAKE3 over all that these items were derived from; equal digests need no planning.
    pub digest: Digest,
    /// BLAKE3 over `digest` and each item's digest, generation and commit: what the plan's id is made of.
    pub root: Digest,
    /// One item for each zone of the federation: every zone may have callers. A zone that came while a transition was under
    /// way gets its own when that has ended.
    pub items: BTreeMap<ZoneName, Arc<Item>>,
    /// Where it is on its way; none for a split that rests and never moved. For the coordinator alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub course: Option<Course>,
}

/// What one zone's callers must run for one split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The split.
    pub split: SplitName,
    /// The zone whose callers this is for.
    pub zone: ZoneName,
    /// That zone's name in Kuma.
    pub kuma_zone: DnsLabel,
    /// The mesh.
    pub mesh: MeshName,
    /// The name that callers use.
    pub service: ServiceName,
    /// The port that callers use.
    pub port: u16,
    /// The names that this port has where it has one: Kuma asks for a named port by its name alone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub port_names: BTreeSet<PortName>,
    /// What the port speaks.
    pub protocol: Protocol,
    /// Where each backend is. Holds every declared backend, and those of `retiring`.
    pub destinations: BTreeMap<BackendName, Destination>,
    /// Backends that are declared no more but had weight in the parent's item: no route names them, the anchor still
    /// does, so that their cluster outlives the change (I4). They go with a later change of this split. A backend that
    /// keeps its name but moves is here under a name made up from its own. Empty for tcp, which has no anchor.
    pub retiring: BTreeSet<BackendName>,
    /// In the order of precedence (the most specific first, ties as written); the last matches everything.
    pub routes: Vec<ItemRoute>,
    /// The value of the header that no request has (`kuma.md` R1). Depends on federation and split name alone: it never
    /// changes, because a changed rule is a changed listener (R9). Unused for tcp.
    pub anchor: String,
    /// Where a backend's share goes while it is down: the zone's agents act on it alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallback: BTreeMap<BackendName, Fallback>,
    /// The split's door at each gateway of the zone that has one. Where it reaches backends by addresses, Kong carries this
    /// item's weights; where through the mesh, the mesh does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub doors: BTreeMap<GatewayName, Door>,
    /// The generation of the plan in which this item last changed.
    pub generation: Generation,
    /// The commit that last changed it, of the source in which the split is declared.
    pub commit: CommitId,
    /// Over all of the above but `generation` and `commit`.
    pub digest: Digest,
}

/// One gateway of a zone: what is the same for all splits that have a door there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayPlan {
    /// How it is configured.
    pub channel: Channel,
    /// Whether it is in the mesh.
    pub in_mesh: bool,
    /// What the site keeps there itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What routes are attached to, in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// The generation of the plan in which this last changed.
    pub generation: Generation,
    /// Over all of the above but `generation`.
    pub digest: Digest,
}

/// Where the share of one backend goes while it is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Backends of the same split, in the order in which they are tried.
    pub to: Vec<Refuge>,
    /// For how long it must have been down.
    pub after: SignedDuration,
    /// For how long it must have been well again before its share comes back.
    pub recover: SignedDuration,
}

/// A backend that takes another one's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuge {
    /// Its name.
    pub backend: BackendName,
    /// More of any route's requests than this it does not get.
    pub capacity: Option<BasisPoints>,
}

/// Exactly one MeshService: zone pinned, never ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination {
    /// The backend's zone.
    pub zone: ZoneName,
    /// That zone's name in Kuma (label `kuma.io/zone`).
    pub kuma_zone: DnsLabel,
    /// Namespace in a cluster (label `k8s.kuma.io/namespace`); none on VMs.
    pub namespace: Option<DnsLabel>,
    /// Label `kuma.io/display-name`.
    pub service: ServiceName,
    /// Port.
    pub port: u16,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRoute {
    /// Its name in the split.
    pub name: RouteName,
    /// What it takes.
    pub matches: Match,
    /// Sum is exactly 100 per cent. An explicit 0 is a weight, not an absence.
    pub weights: BTreeMap<BackendName, BasisPoints>,
}

/// An item by name and content: what an agent says it has, and what it is told to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemRef {
    /// The split.
    pub split: SplitName,
    /// The generation in which the item last changed.
    pub generation: Generation,
    /// Its content.
    pub digest: Digest,
}

/// A gateway by name and content, in the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GatewayRef {
    /// The gateway.
    pub gateway: GatewayName,
    /// The generation in which it last changed.
    pub generation: Generation,
    /// Its content.
    pub digest: Digest,
}

/// One zone's part of a plan: what an agent holds, keeps on disk, and drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZonePlan {
    /// Whose plan.
    pub federation: FederationName,
    /// The zone.
    pub zone: ZoneName,
    /// Its name in Kuma.
    pub kuma_zone: DnsLabel,
    /// The mesh.
    pub mesh: MeshName,
    /// The whole plan's id.
    pub plan: PlanId,
    /// The whole plan's generation.
    pub generation: Generation,
    /// The whole plan's commits.
    pub commits: Vec<SourceCommit>,
    /// The zone's gateways.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<GatewayName, Arc<GatewayPlan>>,
    /// Items by split.
    pub items: BTreeMap<SplitName, Arc<Item>>,
}

/// What Kuma tells MeshServices apart by: name of the zone in Kuma, namespace, display name, port.
pub type InKuma<'a> = (&'a DnsLabel, Option<&'a DnsLabel>, &'a ServiceName, u16);

impl GatewayPlan {
    /// Under its name: name, generation and content.
    pub fn reference(&self, gateway: &GatewayName) -> GatewayRef {
        GatewayRef {
            gateway: gateway.clone(),
            generation: self.generation,
            digest: self.digest,
        }
    }
}

impl Destination {
    /// Which MeshService it is to Kuma, which knows nothing of our names for zones.
    pub fn in_kuma(&self) -> InKuma<'_> {
        (&self.kuma_zone, self.namespace.as_ref(), &self.service, self.port)
    }
}

impl Item {
    /// Name, generation and content.
    pub fn reference(&self) -> ItemRef {
        ItemRef {
            split: self.split.clone(),
            generation: self.generation,
            digest: self.digest,
        }
    }

    /// The weights of its routes.
    pub fn weights(&self) -> ProvenWeights {
        let routes = self.routes.iter();
        routes
            .map(|route| (route.name.clone(), route.weights.clone()))
            .collect()
    }

    /// Backends to which any route gives weight above 0: what must resolve before this item may be applied (I3).
    pub fn weighted(&self) -> BTreeSet<&BackendName> {
        let named = self.routes.iter().flat_map(|r| r.weights.iter());
        named
            .filter(|(_, w)| **w > BasisPoints::ZERO)
            .map(|(b, _)| b)
            .collect()
    }
}

impl SplitPlan {
    /// What a zone had when the split set out on the way that it is on; none if it is on none, or the zone came later.
    pub fn set_out(&self, zone: &ZoneName) -> Option<&Item> {
        let motion = self.course.as_ref()?.motion.as_ref()?;
        motion.from.get(zone).map(Arc::as_ref)
    }
}

impl Plan {
    /// The part of one zone; none if the zone takes no part.
    pub fn zone_plan(&self, zone: &ZoneName) -> Option<ZonePlan> {
        let kuma_zone = self.zones.get(zone)?.clone();
        let items = self
            .splits
            .iter()
            .filter_map(|(name, split)| Some((name.clone(), Arc::clone(split.items.get(zone)?))))
            .collect();
        Some(ZonePlan {
            federation: self.federation.clone(),
            zone: zone.clone(),
            kuma_zone,
            mesh: self.mesh.clone(),
            plan: self.id,
            generation: self.generation,
            commits: self.commits.clone(),
            gateways: self.gateways.get(zone).cloned().unwrap_or_default(),
            items,
        })
    }
}
