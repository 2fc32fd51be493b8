//! What is worth a row of the ledger, and what is the same as before. Values only; changed by whoever changes what is recorded.

use jiff::{SignedDuration, Timestamp};
use weir_model::ZoneName;
use weir_planner::ItemFact;

use crate::fleet::Agent;
use crate::ledger::AgentRow;

/// `heard_at` alone is written no more often than this.
const HEARD: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn agent_row(zone: &ZoneName, name: &str, agent: &Agent) -> AgentRow {
    AgentRow {
        zone: zone.clone(),
        name: name.to_owned(),
        version: agent.version.clone(),
        generation: agent.generation,
        highest: agent.highest,
        kuma: agent.kuma.clone(),
        heard_at: agent.heard_at,
        certificate_expires: agent.certificate_expires,
    }
}

pub(super) fn worth_writing(before: &AgentRow, row: &AgentRow, now: Timestamp) -> bool {
    let timeless = |row: &AgentRow| AgentRow {
        heard_at: None,
        ..row.clone()
    };
    timeless(before) != timeless(row)
        || (before.heard_at != row.heard_at
            && before.heard_at.is_none_or(|at| now.duration_since(at) > HEARD))
}

/// A fact without what changes at each report: times, counts, and words with figures in them.
pub(super) fn material(fact: &ItemFact) -> ItemFact {
    let mut fact = fact.clone();
    fact.counts = None;
    for kept in fact.failing.values_mut() {
        kept.why.clear();
    }
    for door in fact.doors.values_mut() {
        door.counting = None;
    }
    for proof in fact.proofs_mut() {
        proof.at = Timestamp::UNIX_EPOCH;
        proof.coverage = weir_planner::Coverage::default();
    }
    fact
}
