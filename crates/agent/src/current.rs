//! What the agent is doing now, as its loop tells its session and its status socket.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_planner::{DoorCounting, ZoneFacts, ZonePlan};
use weir_wire::{AgentReport, Term};

/// More notes than this are for `weir-agent status` alone: a host with a thousand dead sockets is told once.
const NOTES: usize = 20;

/// The newest state of the loop.
#[derive(Debug, Clone)]
pub struct Current {
    /// The plan that is held.
    pub plan: Option<Arc<ZonePlan>>,
    /// What the last activation saw.
    pub facts: ZoneFacts,
    /// What a person should know and no proof says.
    pub notes: Vec<String>,
    /// Why the last plan that was offered was not taken, if so.
    pub refused: Option<String>,
    /// The highest term of a coordinator that was followed.
    pub term: Term,
}

/// How the link to the coordinator stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkState {
    /// Since when a session is open; none if none is.
    pub connected: Option<Timestamp>,
    /// Why the last session or try ended; none before the first.
    pub last_error: Option<String>,
}

impl Current {
    /// What goes to the coordinator.
    pub fn report(&self) -> AgentReport {
        AgentReport {
            facts: self.facts.clone(),
            plan: self.plan.as_ref().map(|plan| plan.plan),
            generation: self.plan.as_ref().map(|plan| plan.generation).unwrap_or_default(),
            refused: self.refused.clone(),
            notes: self.notes.iter().take(NOTES).cloned().collect(),
        }
    }

    /// Whether something changed that is worth saying at once, and not only at the next regular report.
    pub fn differs(&self, before: &Self) -> bool {
        fn bare(facts: &ZoneFacts) -> ZoneFacts {
            let mut facts = facts.clone();
            facts.at = Timestamp::UNIX_EPOCH;
            for item in &mut facts.items {
                item.counts = None;
                for counting in item.doors.values_mut().filter_map(|door| door.counting.as_mut()) {
                    // That it is counted, and not how much.
                    if matches!(counting, DoorCounting::Counted { .. }) {
                        *counting = DoorCounting::Not(String::new());
                    }
                }
                for proof in item.proofs_mut() {
                    proof.at = Timestamp::UNIX_EPOCH;
                }
            }
            facts
        }
        self.refused != before.refused
            || self.notes != before.notes
            || self.plan.as_ref().map(|p| p.plan) != before.plan.as_ref().map(|p| p.plan)
            || bare(&self.facts) != bare(&before.facts)
    }
}
