//! What an agent saw of an item at one gateway of its zone. Values only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weir_model::BackendName;

use super::{Counts, Proof, Verdict};

/// How one gateway of the zone stands to an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorFact {
    /// Why the gateway is not told what the item says; none if it is, or runs it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What the gateway itself says that it runs: live, and of all its nodes that this agent knows. None before the first.
    pub proof: Option<Proof>,
    /// Backends all of whose targets its health checks take for dead, with why: more weight for them would reach nobody. Asked of a
    /// gateway that runs what the item says, and of no other; it counts for as long as that does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dead: BTreeMap<BackendName, String>,
    /// What really left the gateway; none where nobody chose that it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<DoorCounting>,
}

/// Requests of a split that left a gateway, counted by the gateway's own log of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoorCounting {
    /// Counted since the gateway first proved what it runs now.
    Counted {
        /// By the backend that the weights picked, whoever answered in the end.
        counts: Counts,
        /// Those that went to an address of which cannot be said whose it is: in no backend's number.
        unplaced: u64,
    },
    /// Not, though somebody chose it: why, in words.
    Not(String),
}

impl DoorFact {
    /// Whether the gateway was read and runs exactly what the item says.
    pub fn is_exact(&self) -> bool {
        let proof = self.proof.as_ref();
        self.held.is_none() && proof.is_some_and(|proof| proof.verdict == Verdict::Exact)
    }

    /// The backends that the gateway takes for unhealthy, if that alone keeps it from what the item says; nobody if it runs exactly
    /// that. None if something else keeps it, or nobody knows what does.
    pub fn unhealthy(&self) -> Option<&BTreeSet<BackendName>> {
        let proof = self.proof.as_ref().filter(|_| self.held.is_none())?;
        let known = match proof.verdict {
            Verdict::Exact => true,
            Verdict::Different(_) => !proof.unhealthy.is_empty(),
            Verdict::Unknown(_) => false,
        };
        known.then_some(&proof.unhealthy)
    }
}
