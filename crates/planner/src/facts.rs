//! Facts: what agents saw, as values. *Unknown* is a state of its own; silence is never read as agreement (I9).
//!
//! Made by drivers and agents, carried by `weir-wire`, kept in the ledger, read by the planner and by people.

mod door;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_model::{
    BackendName, BasisPoints, DnsLabel, GatewayName, PortName, Protocol, RouteName, ServiceName, SplitName,
    ZoneName,
};

pub use door::{DoorCounting, DoorFact};

use crate::latency::Latency;
use crate::plan::{Digest, Generation, Item, ItemRef};

/// The class of evidence behind a share, best first. Every share shown anywhere carries its class, age and coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The Envoys' own configuration, read by an agent on their host.
    Live,
    /// Live, read through the zone's control plane: a stated few of many.
    Sampled,
    /// The control plane computed it, and the proxies took something newer.
    Acknowledged,
    /// None.
    Unknown,
}

/// How many of the zone's proxies that call the service were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Coverage {
    /// Looked at.
    pub seen: u32,
    /// Known to exist, as far as the agent can tell.
    pub of: u32,
}

/// Weights read back, by route then backend. A backend with weight 0 may be missing (Envoy drops it).
pub type ProvenWeights = BTreeMap<RouteName, BTreeMap<BackendName, BasisPoints>>;

/// What the proof says about one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "detail")]
pub enum Verdict {
    /// Every proxy that was looked at runs exactly the planned weights on every route.
    Exact,
    /// At least one does not; what was found first, in words.
    Different(String),
    /// Could not be read; why.
    Unknown(String),
}

/// The live configuration read back (I9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What it says.
    pub verdict: Verdict,
    /// How it was obtained.
    pub evidence: Evidence,
    /// When it was read.
    pub at: Timestamp,
    /// Of how many.
    pub coverage: Coverage,
    /// What the proxies run, if they agree.
    pub weights: Option<ProvenWeights>,
    /// Of a gateway: backends of which it takes targets for unhealthy, where that alone is different: these get less than they were
    /// given, or nothing. Empty where nothing is different, or anything else is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unhealthy: BTreeSet<BackendName>,
}

impl Proof {
    /// Nobody calls the service there, by this class of evidence: there is nothing to prove, and whoever comes gets what
    /// the control plane holds.
    pub fn nobody_calls(&self) -> bool {
        matches!(self.verdict, Verdict::Unknown(_))
            && self.evidence != Evidence::Unknown
            && self.coverage == Coverage::default()
    }
}

/// A policy that Weir did not write and that touches the same service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecondWriter {
    /// `MeshHTTPRoute` or `MeshTCPRoute`.
    pub kind: String,
    /// Its name, with namespace in a cluster (`shop/canary`).
    pub object: String,
    /// `kuma.io/origin`: `global` or `zone`; the field manager in a cluster.
    pub origin: String,
    /// Whether it outranks ours, so that our weights do not hold.
    pub overrides: bool,
}

/// Requests since the agent began to count this item, per backend. Monotone within `since`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// When counting began; a new value means that counts began again at 0.
    pub since: Timestamp,
    /// When read.
    pub at: Timestamp,
    /// Requests sent to each backend (connections for tcp).
    pub requests: BTreeMap<BackendName, u64>,
    /// Of those, answered 5xx or not at all.
    pub failed: BTreeMap<BackendName, u64>,
    /// Of those, the ones that say that the backend is down: answered 503, or no connection.
    #[serde(default)]
    pub down: BTreeMap<BackendName, u64>,
    /// How long the answers took, of those backends of which that is known: by Envoy's own histograms, which lag behind the
    /// other counters for up to 5 s. Never of tcp, and of no request that found no connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<BackendName, Latency>,
    /// What was open when it was read: requests under way, for tcp connections. A change of the policy replaces the listener,
    /// and what is still open on the old one when it has drained is closed (`kuma.md` R9). None where nobody tells.
    #[serde(default)]
    pub open: Option<u64>,
    /// Whose callers' requests these are.
    pub scope: CountScope,
}

/// Whose callers an agent counts. What two agents of one zone counted may be added up only if no caller is in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum CountScope {
    /// Those of the agent's own host: no other agent counts them.
    #[default]
    Host,
    /// Those of the whole zone, by their metrics endpoints: each such agent counts the same ones.
    Zone,
}

/// Where an item stands in its zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum ItemState {
    /// Received, nothing done yet.
    Pending,
    /// Refused for a stated reason (a weighted backend does not resolve, ...): nothing moved.
    Held(String),
    /// Written to the control plane; no proof yet.
    Applied,
    /// Proof says exact.
    Proven,
    /// A policy of somebody else outranks ours.
    Overridden(String),
    /// The last attempt failed; the next activation tries again.
    Failed(String),
}

/// One item as its zone sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFact {
    /// The split.
    pub split: SplitName,
    /// Generation of the item that the agent drives.
    pub generation: Generation,
    /// Content of the item that the agent drives.
    pub digest: Digest,
    /// Where it stands.
    #[serde(flatten)]
    pub state: ItemState,
    /// The newest proof; none before the first.
    pub proof: Option<Proof>,
    /// Everyone else's policy on the same service.
    pub second_writers: Vec<SecondWriter>,
    /// Counted traffic, where it can be counted.
    pub counts: Option<Counts>,
    /// Who pinned it on the agent's host: then generation and digest are those of the pinned item, and not of the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Shares that are elsewhere while their backends are down: then the zone does not run what the item says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallen>,
    /// The item's doors, of those gateways that this agent drives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub doors: BTreeMap<GatewayName, DoorFact>,
    /// Somebody else writes the item's policy again and again; none while nobody does, or the agent puts it back still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<Contested>,
    /// Backends whose MeshService this zone's control plane had, and has not any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub vanished: BTreeSet<BackendName>,
    /// Backends that are down by what this agent saw, and that have their share all the same: nobody takes it. The zone runs what
    /// the item says, and requests fail.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<BackendName, KeptShare>,
}

impl ItemFact {
    /// That it stands so, and no more.
    pub fn new(item: ItemRef, state: ItemState) -> Self {
        Self {
            split: item.split,
            generation: item.generation,
            digest: item.digest,
            state,
            proof: None,
            second_writers: Vec::new(),
            counts: None,
            pin: None,
            fallback: None,
            doors: BTreeMap::new(),
            contested: None,
            vanished: BTreeSet::new(),
            failing: BTreeMap::new(),
        }
    }
}

/// The share of a backend that is down, where nobody takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptShare {
    /// What it has, of the route that gives it most.
    pub share: BasisPoints,
    /// What was seen of it, and why its share stays, in words; figures in it change with each look.
    pub why: String,
    /// What a person can do about it, in words.
    pub help: String,
}

/// A policy of ours that somebody else writes over, or removes, each time that it is put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contested {
    /// The policy: `MeshHTTPRoute weir-checkout`.
    pub object: String,
    /// How often the agent put it back since `since`.
    pub rewrites: u32,
    /// When it first put it back.
    pub since: Timestamp,
}

impl ItemFact {
    /// Every proof in it, for whoever looks past what changes each time that it is read: the mesh's, and those of doors.
    pub fn proofs_mut(&mut self) -> impl Iterator<Item = &mut Proof> {
        let doors = self.doors.values_mut().filter_map(|door| door.proof.as_mut());
        self.proof.iter_mut().chain(doors)
    }

    /// The backends that are down in the zone, if that is all that keeps the zone from what the item says: their shares are
    /// elsewhere by the item's own fallback, or a gateway takes them for unhealthy. Nobody if the zone runs it as it says, or has
    /// nobody who calls. None if something else keeps it, or nobody knows what does.
    pub fn down(&self) -> Option<BTreeSet<BackendName>> {
        let fallen = self.fallback.iter().flat_map(|fallen| &fallen.down);
        let mut down: BTreeSet<BackendName> = fallen.cloned().collect();
        for door in self.doors.values() {
            down.extend(door.unhealthy()?.iter().cloned());
        }
        let proof = self.proof.as_ref();
        let nobody = proof.is_some_and(Proof::nobody_calls);
        let read = proof.is_some_and(|proof| {
            proof.verdict == Verdict::Exact && matches!(proof.evidence, Evidence::Live | Evidence::Sampled)
        });
        let runs = match self.state {
            ItemState::Proven => true,
            // The mesh has it; what is short is a door.
            ItemState::Applied => nobody || (read && !down.is_empty()),
            ItemState::Pending | ItemState::Held(_) | ItemState::Overridden(_) | ItemState::Failed(_) => {
                false
            }
        };
        (runs && self.pin.is_none()).then_some(down)
    }
}

/// Backends whose share goes elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallen {
    /// Since when.
    pub since: Timestamp,
    /// Which backends are down.
    #[serde(default)]
    pub down: BTreeSet<BackendName>,
    /// Which, where to, and why, in words.
    pub why: String,
}

/// A break-glass choice of weights that somebody made on an agent's host, and that holds there until it is ended there: the
/// recorded exception of I1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Since when.
    pub since: Timestamp,
    /// The user of the host who did it.
    pub who: String,
    /// The host.
    pub host: String,
    /// Why, in that user's words.
    pub reason: String,
    /// The weights, by route: of pinned routes alone.
    pub weights: ProvenWeights,
}

/// Whose fault it is that a call to a control plane, or to a gateway, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Cannot be reached, or answers 5xx: waiting helps.
    Away,
    /// Starting up or racing (409): the next activation will do.
    NotYet,
    /// The control plane does not have the mesh, and no zone may make one. For a moment so while it starts with an empty store;
    /// for as long as nobody makes it on the global control plane where that lost its own (`kuma.md` R11).
    MeshGone,
    /// Refuses what we wrote: waiting does not help.
    Refused,
    /// Our configuration (address, token, CA).
    Setup,
    /// An answer that we do not understand: a bug or a version that we do not know.
    Unknown,
}

impl Fault {
    /// Whether the same call may succeed later with nobody doing anything.
    pub fn passes(self) -> bool {
        match self {
            Self::Away | Self::NotYet | Self::MeshGone => true,
            Self::Refused | Self::Setup | Self::Unknown => false,
        }
    }
}

/// `spec.state` of a MeshService.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// At least one healthy dataplane, says Kuma. Not proof that requests succeed (`kuma.md` R10).
    Available,
    /// None.
    Unavailable,
    /// The field is absent or new to us.
    Unknown,
}

/// Whether a zone's callers get to what another zone runs, by what their own control plane knows of that zone's ingresses:
/// of these it makes the endpoints that their Envoys are given, so with none of them every request is answered 503.
///
/// Whether an ingress that is known lives is not in it: Kuma tells no other zone (`kuma.md` R10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Not asked, not allowed to know, or said by an agent of before this: nothing is held for it.
    #[default]
    Unknown,
    /// It is in this zone, or its zone has an ingress with an advertised address.
    Open,
    /// No ingress of its zone is known.
    NoIngress,
    /// Ingresses of its zone are known, of which none advertises an address.
    NotAdvertised,
}

/// One MeshService as one zone's own control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceFact {
    /// Display name.
    pub service: ServiceName,
    /// Zone label, in Kuma's terms.
    pub kuma_zone: DnsLabel,
    /// Namespace label, if in a cluster.
    pub namespace: Option<DnsLabel>,
    /// Ports and what they speak; none where the protocol cannot be split.
    pub ports: BTreeMap<u16, Option<Protocol>>,
    /// Names of those ports that have one. A port that is named by its own number has none.
    #[serde(default)]
    pub port_names: BTreeMap<u16, String>,
    /// State.
    pub state: ServiceState,
    /// Whether callers of the zone get there.
    #[serde(default)]
    pub way: Way,
}

impl ServiceFact {
    /// The name that the item's port has here, if the item does not know it: then callers that address this MeshService
    /// are not split, for Kuma asks for a named port by its name alone.
    pub fn unknown_port_name(&self, item: &Item) -> Option<&str> {
        let name = self.port_names.get(&item.port)?;
        let known = item.port_names.iter().any(|known| known.as_str() == name);
        (self.service == item.service && !known).then_some(name)
    }

    /// Who is not split for want of a name, and what to do about it; none if the item knows the name, or there is none.
    pub fn unsplit(&self, item: &Item) -> Option<String> {
        let name = self.unknown_port_name(item)?;
        let what = format!(
            "callers by MeshService get no split: port {} of MeshService {} of {}{} is called {name}",
            item.port,
            self.service,
            self.place(),
            if self.namespace.is_some() { "," } else { "" },
        );
        let mut names: Vec<String> = item.port_names.iter().map(ToString::to_string).collect();
        names.push(name.to_owned());
        Some(if PortName::new(name).is_ok() {
            format!(
                "{what}; add `portNames: [{}]` to split {}",
                names.join(", "),
                item.split
            )
        } else {
            format!("{what}; give the port a name that a Kubernetes Service could have")
        })
    }

    /// Whether callers of this MeshService are split although no backend of the item is it: the split is for all that
    /// have the service's name, in whatever zone and namespace, and this one has it too, with the item's port.
    pub fn is_taken_along(&self, item: &Item) -> bool {
        let is_backend = item.destinations.values().any(|to| {
            (&to.service, &to.kuma_zone, &to.namespace) == (&self.service, &self.kuma_zone, &self.namespace)
        });
        // A MeshHTTPRoute is for listeners that speak HTTP; a MeshTCPRoute is for all that no MeshHTTPRoute is for.
        let http = |protocol: Protocol| match protocol {
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => true,
            Protocol::Tcp => false,
        };
        let speaks = self.ports.get(&item.port);
        let reached = speaks.is_some_and(|speaks| !http(item.protocol) || speaks.is_some_and(http));
        self.service == item.service && reached && !is_backend && self.unknown_port_name(item).is_none()
    }

    /// Whose callers are taken along, and what to do about it; none if nobody's are.
    pub fn taken_along(&self, item: &Item) -> Option<String> {
        self.is_taken_along(item).then(|| {
            format!(
                "this split takes along callers of MeshService {} of {}, which has the split's service name and port and is \
                 no backend of it; right where that service moved away, else give it another name; to say that it is meant, \
                 declare it as a backend, with weight 0 if it shall get nothing",
                self.service,
                self.place()
            )
        })
    }

    fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("Kuma zone {}, namespace {namespace}", self.kuma_zone),
            None => format!("Kuma zone {}", self.kuma_zone),
        }
    }

    /// A port of this MeshService that Kuma would take for the item's, with its name: another port that is called by the
    /// item's number or by one of its names.
    pub fn other_port_of_that_name(&self, item: &Item) -> Option<(u16, &str)> {
        let ours = |name: &str| {
            name == item.port.to_string() || item.port_names.iter().any(|known| known.as_str() == name)
        };
        let others = self.port_names.iter().filter(|(port, _)| **port != item.port);
        let mut others = others.map(|(port, name)| (*port, name.as_str()));
        others.find(|(_, name)| self.service == item.service && ours(name))
    }
}

/// All that one agent saw in one activation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFacts {
    /// The zone.
    pub zone: ZoneName,
    /// When.
    pub at: Timestamp,
    /// The highest plan generation that this agent ever took.
    pub highest: Generation,
    /// Version of the zone's Kuma, as it says itself; none if it does not answer.
    pub kuma: Option<String>,
    /// Why the control plane could not be read, if so, and what to do about it: then `services` says nothing.
    pub unreadable: Option<String>,
    /// Whose fault it is that the control plane cannot be read, or that nothing can be written there; none while both can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What the control plane keeps its objects in, as it says itself: `memory`, `postgres`, `kubernetes`. None if it did
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// MeshServices that the zone's items name.
    pub services: Vec<ServiceFact>,
    /// Items.
    pub items: Vec<ItemFact>,
}
