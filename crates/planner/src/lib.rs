//! What should be: declaration + provenance + facts + parent plan + now in, an immutable [`Plan`] out (or nothing to do).
//!
//! Pure: same input, same bytes, on every machine. A plan leaves no choice to whoever executes it.

pub mod facts;
pub mod plan;

pub use facts::{
    Counts, Coverage, Evidence, ItemFact, ItemState, Proof, ProvenWeights, SecondWriter, ServiceFact,
    ServiceState, Verdict, ZoneFacts,
};
pub use plan::{
    Destination, Digest, Generation, Item, ItemRef, ItemRoute, Plan, PlanId, SplitPlan, ZonePlan,
};
