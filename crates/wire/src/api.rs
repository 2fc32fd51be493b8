//! The shapes of the HTTP API (`/v1/...`): made by the coordinator, read by `weir`, the sandbox and anybody's scripts.
//!
//! JSON, camelCase. Weights are per cent with at most two decimals. Times are RFC 3339 UTC. Fields are only ever added.

mod records;
mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_model::BasisPoints;
use weir_planner::{Evidence, Phase};

pub use records::{CommitList, CommitRecord, Event, PlanDocument, SourceStatus};
pub use whole::{over_zones, proves};

/// A weight in per cent as a JSON number: `90`, `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub BasisPoints);

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bp = self.0.get();
        if bp.is_multiple_of(100) {
            to.serialize_u32(bp / 100)
        } else {
            to.serialize_f64(f64::from(bp) / 100.0)
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(from)?;
        BasisPoints::from_percent_text(&number.to_string())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Weights by route, then backend.
pub type RouteWeights = BTreeMap<String, BTreeMap<String, Percent>>;

/// How a split, a zone, or a split in a zone stands. Ordered from best to worst: a whole shows its worst part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Read back from the live configuration after the change, exact, by evidence `live` or `sampled`, and recent.
    Converged,
    /// Nobody calls the service there: what was told is written in the zone's own control plane, and the zone says, lately, that
    /// no proxy of it calls the service. Nothing is left to be done, and nothing proves a share.
    Idle,
    /// The plan is on its way: sent, taken or applied, not yet proven.
    Progressing,
    /// Refused by the zone for a stated reason, and nothing moved; or the split as a whole stays where it is: held, frozen or
    /// quarantined.
    Held,
    /// Somebody else's policy outranks ours.
    Overridden,
    /// A backend is down, and its share goes elsewhere by the declared fallback.
    Fallback,
    /// Live differs from the plan.
    Different,
    /// The last attempt failed; the next activation tries again.
    Failed,
    /// Not heard from lately; what is shown is old.
    Stale,
    /// Never heard.
    Unknown,
}

/// `GET /v1/splits`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitList {
    /// The newest plan's generation, 0 if none.
    pub generation: u64,
    /// Commits in force, by source.
    pub commits: BTreeMap<String, String>,
    /// Set when a newer commit was refused or Git cannot be read: what, in one sentence.
    pub notice: Option<String>,
    /// What holds every change but reverts and aborts now, in words: freezes that are ordered or declared, whether anything
    /// waits for them or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<String>,
    /// What agents say of their zones that no proof says and a person should know.
    #[serde(default)]
    pub notes: Vec<AgentNote>,
    /// The splits, by name.
    pub splits: Vec<SplitStatus>,
}

/// What one agent says of its zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentNote {
    /// Zone.
    pub zone: String,
    /// Agent.
    pub agent: String,
    /// In words, with what to do where there is something to do.
    pub note: String,
}

/// `GET /v1/splits/{name}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitStatus {
    /// Name.
    pub name: String,
    /// Service that callers use.
    pub service: String,
    /// Port.
    pub port: u16,
    /// http, http2, grpc, tcp.
    pub protocol: String,
    /// What Git declares, whether zones were told it yet or not.
    #[schema(value_type = Object)]
    pub declared: RouteWeights,
    /// Commit that last changed it.
    pub commit: String,
    /// Generation in which it last changed.
    pub generation: u64,
    /// The worst of its zones, but for those that are detached; `converged` also where nobody calls it in some of them, if
    /// others prove it. Never better than `held` or `progressing` while it is not where Git declares it, whatever zones prove of
    /// what they were told, nor while it gives weight to a backend whose own zone is detached.
    pub standing: Standing,
    /// Why the split as a whole is not converged, with what differs from Git; none if only its zones have reasons.
    #[serde(default)]
    pub reason: Option<String>,
    /// When this generation was made.
    pub since: String,
    /// Where it is on its way; none at rest.
    #[serde(default)]
    pub transition: Option<Transition>,
    /// Its zones, by name.
    pub zones: Vec<SplitInZone>,
}

/// Where a split that is not at rest is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// `held`, `frozen`, `shift`, `bake`, `verify`, `settle`, `return`, `quarantined`.
    #[schema(value_type = String)]
    pub phase: Phase,
    /// The bite that was taken last; 0 before the first.
    pub bite: u32,
    /// Of how many.
    pub bites: u32,
    /// The wave that moved last in this bite; none before the first, and where all move at once.
    pub wave: Option<u32>,
    /// The waves, in the order in which they move.
    pub waves: Vec<u32>,
    /// What it waits for; empty if for nothing but the next look.
    pub waits: Vec<TransitionWait>,
    /// What happens next, in words.
    pub next: String,
    /// Since when it is here.
    pub since: Option<String>,
    /// When time alone may change this.
    pub until: Option<String>,
}

/// One thing that a transition waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionWait {
    /// In which zone, if it is one zone's.
    pub zone: Option<String>,
    /// What for, and what to do about it.
    pub why: String,
    /// Since when, as far as the coordinator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Body of `POST /v1/splits/{name}/abort|freeze|resume` and `POST /v1/freeze|resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderRequest {
    /// Why, for whoever reads the history: 1 to 500 characters.
    pub reason: String,
}

/// Body of `POST /v1/splits/{name}/backends/{backend}/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    /// Why, for whoever reads the history: 1 to 500 characters.
    pub reason: String,
    /// The backend that takes the share; without it the first of the declared fallback, else the others by their own shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderAnswer {
    /// Whether it was carried out.
    pub done: bool,
    /// In one sentence.
    pub message: String,
}

/// `GET /v1/splits/{name}/history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitHistory {
    /// The split.
    pub name: String,
    /// Its steps, newest first: each a plan that changed it.
    pub steps: Vec<SplitStep>,
    /// What happened to it since the oldest of these steps, newest first: events `order.*` (those for all splits as well),
    /// `zone.fallback`, `zone.pinned`, `zone.unpinned`, `backend.*`, `transition.held`, `transition.frozen` and `transition.unjudged`.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What there is and is not told here, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One plan that changed a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitStep {
    /// Generation of the plan.
    pub generation: u64,
    /// When it was made.
    pub created: String,
    /// Which step: `bite 1 of 2, wave 1`, `return: why`, `rests`, ...
    pub step: String,
    /// The weights that each zone was told.
    #[schema(value_type = Object)]
    pub told: BTreeMap<String, RouteWeights>,
    /// The commit that the told weights come from.
    pub commit: String,
    /// Who wrote that commit, `Name <mail>`; none if it is not in the ledger any more.
    pub author: Option<String>,
    /// Who committed it, in the same way; none also where that was not recorded.
    #[serde(default)]
    pub committer: Option<String>,
    /// `none`, or `present`: there is a signature, which nobody verified. None where that was not recorded.
    #[serde(default)]
    pub signature: Option<String>,
    /// Its first line.
    pub subject: Option<String>,
    /// When all agents of each zone that this step changed had it. A zone that was overtaken by the next step before is missing;
    /// times are those at which the coordinator heard of it.
    #[serde(default)]
    pub received: BTreeMap<String, String>,
    /// When all of them had written it, likewise.
    #[serde(default)]
    pub applied: BTreeMap<String, String>,
    /// When all of them had read it back from live proxies, exactly, whatever other splits of the zone do.
    pub proven: BTreeMap<String, String>,
    /// When all of them had written it and said that nobody calls the service there, so that there was nothing to read back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub idle: BTreeMap<String, String>,
}

/// One split in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitInZone {
    /// Zone.
    pub zone: String,
    /// How it stands.
    pub standing: Standing,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// Generation of the item that the zone's agents drive; 0 if none.
    pub generation: u64,
    /// `live`, `sampled`, `acknowledged`, `unknown`.
    #[schema(value_type = String)]
    pub evidence: Evidence,
    /// When the proof was read; none if there is none.
    pub proven_at: Option<String>,
    /// Proxies looked at.
    pub seen: u32,
    /// Proxies known.
    pub of: u32,
    /// What the plan in force tells this zone: on the way from one declaration to the next not what Git declares.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub told: RouteWeights,
    /// Weights read back; none if unknown.
    #[schema(value_type = Option<Object>)]
    pub weights: Option<RouteWeights>,
    /// Requests counted since `counted_since`, by backend.
    pub counted: BTreeMap<String, u64>,
    /// Of those, failed.
    pub failed: BTreeMap<String, u64>,
    /// Since when that is: the first proof of what the zone runs; when counting began, if that was later or nothing is proven yet.
    pub counted_since: Option<String>,
    /// What the zone's callers had open when it was last read: requests under way, for tcp connections. What of that is still
    /// open 30 s after a step of this zone is closed by it. None where nobody counts.
    #[serde(default)]
    pub open: Option<u64>,
    /// Other people's policies on the same service, each in words.
    pub second_writers: Vec<String>,
    /// What holds nothing up and should be known all the same, each in words with what to do.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Backends that are down there and keep their share, by name: the zone runs what it was told, and requests fail. A zone of
    /// which this is not empty is not well, however it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingBackend>,
    /// The split's doors at the zone's gateways, by name.
    #[serde(default)]
    pub doors: Vec<DoorInZone>,
    /// When the zone's newest report on this was made.
    pub heard_at: Option<String>,
    /// Where Git says that the zone is detached, in words; none if it is not. Nobody waits for such a zone, and the split stands
    /// as the others do: what is shown is what is last known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<String>,
}

/// A backend that is down in a zone, and whose share nobody takes over there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingBackend {
    /// The backend.
    pub backend: String,
    /// The share that it keeps, of the route that gives it most.
    #[schema(value_type = f64)]
    pub share: Percent,
    /// What was seen of it, and why its share stays.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

/// A split's door at one gateway of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoorInZone {
    /// The gateway.
    pub gateway: String,
    /// How it stands. The zone stands no better than its doors.
    pub standing: Standing,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// Whether the gateway carries the weights itself; else it sends into the mesh, which does.
    pub carries: bool,
    /// `live` where the gateway itself was read, else `unknown`.
    #[schema(value_type = String)]
    pub evidence: Evidence,
    /// When it was read; none if it was not.
    pub proven_at: Option<String>,
    /// Nodes of the gateway that were read.
    pub seen: u32,
    /// Nodes that the agent knows.
    pub of: u32,
    /// Weights read back, by what the gateway really gives to each target; none if unknown, or where the mesh has them.
    #[schema(value_type = Option<Object>)]
    pub weights: Option<RouteWeights>,
    /// What really left the gateway, by its own log; none where nobody chose that it is counted. The weights above are the
    /// proof all the same.
    #[serde(default)]
    pub counting: Option<DoorCounted>,
}

/// Requests of a split that left one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoorCounted {
    /// Requests since `since`, by the backend that the weights picked.
    pub counted: BTreeMap<String, u64>,
    /// Of those, failed.
    pub failed: BTreeMap<String, u64>,
    /// Requests to an address of which cannot be said whose it is; in none of the above.
    pub unplaced: u64,
    /// Since when: the first proof of what the gateway runs. None if nothing is counted.
    pub since: Option<String>,
    /// Why nothing is counted, if so.
    pub reason: Option<String>,
}

/// `GET /v1/zones`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneList {
    /// By name.
    pub zones: Vec<ZoneStatus>,
}

/// One zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneStatus {
    /// Name.
    pub name: String,
    /// eks, eks-d, kubernetes, vm.
    pub platform: String,
    /// Name in Kuma.
    pub kuma_zone: String,
    /// The worst of its splits, or stale/unknown; `idle` only where nobody calls any of them.
    pub standing: Standing,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// Generation that the zone holds.
    pub generation: u64,
    /// Version of its Kuma; none if it does not answer.
    pub kuma: Option<String>,
    /// What its Kuma keeps its objects in: `memory`, `postgres`, `kubernetes`; none if it did not say. With `memory` a restart
    /// loses them.
    #[serde(default)]
    pub store: Option<String>,
    /// Its agents, by name.
    pub agents: Vec<AgentStatus>,
    /// Where Git says that it is detached, in words; none if it is not. Nobody waits for such a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<String>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Name.
    pub name: String,
    /// Whether a session is open now.
    pub connected: bool,
    /// When last heard.
    pub heard_at: Option<String>,
    /// Version of its program.
    pub version: String,
    /// Generation of the plan that it holds.
    pub generation: u64,
    /// When its certificate ends.
    pub certificate_expires: Option<String>,
    /// What it says of its zone that no proof says and a person should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Every error of the API, with the HTTP status to match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What happened.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}
