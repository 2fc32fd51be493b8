//! What should be: declaration + provenance + facts + parent plan + now in, an immutable [`Plan`] out (or nothing to do).
//!
//! Pure: same input, same bytes, on every machine. A plan leaves no choice to whoever executes it.
//!
//! `planning` makes plans, `retire` decides what stays behind the anchor, `canonical` defines the bytes under every id,
//! `lint` checks plans without trusting any of them, `diff` and `explain` tell what changes and why.
//!
//! # What ends
//!
//! **A backend is taken out of a split.** If it had weight, it stays a destination that only the anchor names
//! ([`Item::retiring`]), so that no caller's Envoy drops its cluster while requests still go there. It leaves with a
//! later change of that split which replaces the listener anyway, made at least [`DRAIN`] after the plan in force, when
//! every zone that takes part has proven that it sends nothing there: one that is cut off keeps it everywhere. (Where nobody
//! is asked, as in [`plan()`], it is time alone.)
//!
//! **A split is removed from Git.** Its items vanish from the plan, and agents remove the policies, which nobody plans
//! any more. Callers then get what Kuma does with no policy at all: a MeshService goes to itself, a MeshMultiZoneService
//! to the caller's own zone while it has healthy endpoints there. That may be another backend than the one that had the
//! weight. Agents take a policy back to its anchor alone before they remove it, so that no cluster goes while a route leads
//! to it. tcp has no anchor: its clusters go in the same change that takes the routes, and new connections may fail for
//! some 60 ms (`kuma.md` R1). So give the whole weight to the backend that Kuma would choose first, and remove such a split
//! when every zone has proven it. `explain` says this for each split that goes.
//!
//! **A zone is removed.** No plan has items for it any more and its agents are told nothing: what they hold stays in
//! force there (I6) until somebody stops them and removes their policies. Backends in that zone must leave their splits
//! first; a declaration that still names them is refused.

pub mod canonical;
pub mod course;
pub mod diff;
mod doors;
pub mod drain;
pub mod explain;
pub mod facts;
mod freezes;
pub mod latency;
pub mod lint;
pub mod outlook;
pub mod plan;
pub mod planning;
pub mod precedence;
mod programmed;
pub mod prune;
pub mod ready;
pub mod refusal;
mod retire;
pub mod senses;
pub mod transition;
mod words;

pub use canonical::{anchor, gateway_digest, item_digest, plan_id};
pub use course::{Course, Leg, Motion, Quarantine};
pub use diff::{PlanDiff, diff};
pub use drain::Drain;
pub use explain::{Explanation, explain};
pub use facts::{
    Contested, CountScope, Counts, Coverage, DoorCounting, DoorFact, Evidence, Fallen, Fault, ItemFact,
    ItemState, KeptShare, Pin, Proof, ProvenWeights, SecondWriter, ServiceFact, ServiceState, Verdict, Way,
    ZoneFacts,
};
pub use freezes::freezes;
pub use latency::Latency;
pub use lint::{Finding, Rule, lint, lint_made, lint_step};
pub use outlook::{Outlook, Phase, Wait};
pub use plan::{
    Destination, Digest, Fallback, GatewayPlan, GatewayRef, Generation, InKuma, Item, ItemRef, ItemRoute,
    Plan, PlanId, Refuge, SplitPlan, Splits, ZonePlan,
};
pub use planning::{DRAIN, Inputs, Look, Planned, Work, plan, plan_with_work, step};
pub use refusal::{Flaw, Refusal};
pub use senses::{Reach, Runs, Senses};
pub use transition::{Orders, Transit};
