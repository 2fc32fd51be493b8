//! What should be: declaration + provenance + facts + parent plan + now in, an immutable [`Plan`] out (or nothing to do).
//!
//! Pure: same input, same bytes, on every machine. A plan leaves no choice to whoever executes it.

pub mod canonical;
pub mod diff;
pub mod explain;
pub mod facts;
pub mod lint;
pub mod plan;
pub mod planning;
pub mod precedence;
pub mod refusal;
mod retire;
mod words;

pub use canonical::{anchor, item_digest, plan_id};
pub use diff::{PlanDiff, diff};
pub use explain::{Explanation, explain};
pub use facts::{
    Counts, Coverage, Evidence, ItemFact, ItemState, Proof, ProvenWeights, SecondWriter, ServiceFact,
    ServiceState, Verdict, ZoneFacts,
};
pub use lint::{Finding, Rule, lint, lint_made};
pub use plan::{
    Destination, Digest, Generation, Item, ItemRef, ItemRoute, Plan, PlanId, SplitPlan, ZonePlan,
};
pub use planning::{DRAIN, Inputs, Planned, Work, plan, plan_with_work};
pub use refusal::{Flaw, Refusal};
