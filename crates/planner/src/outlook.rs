//! Where a transition stands, for people: what it waits for, and what happens next. Made with each look at it, kept nowhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_model::ZoneName;

use crate::facts::ProvenWeights;

/// What a split that is not at rest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Some zone does not resolve what the next step gives weight to. Nothing of that step has moved.
    Held,
    /// Somebody froze it, or a window is closed.
    Frozen,
    /// A wave was told, and has not proven it yet.
    Shift,
    /// Proven, and left alone for a while before the next bite.
    Bake,
    /// All zones run it; traffic is being judged.
    Verify,
    /// All is where it should be but for zones that cannot be reached.
    Settle,
    /// On its way back, everywhere at once.
    Return,
    /// Back, and what is declared is not gone towards until a commit changes it.
    Quarantined,
    /// At rest, but not where Git declares it: a backend is drained.
    Drained,
}

impl Phase {
    /// The phase in a word, as it is written and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Frozen => "frozen",
            Self::Shift => "shift",
            Self::Bake => "bake",
            Self::Verify => "verify",
            Self::Settle => "settle",
            Self::Return => "return",
            Self::Quarantined => "quarantined",
            Self::Drained => "drained",
        }
    }
}

/// Where a transition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// What is declared, and not everywhere yet: weights by route, then backend.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub declared: ProvenWeights,
    /// What it does.
    pub phase: Phase,
    /// The bite that was taken last; 0 before the first.
    pub bite: u32,
    /// Of how many.
    pub bites: u32,
    /// The wave that moved last in this bite; none before the first.
    pub wave: Option<u32>,
    /// The waves, in the order in which they move.
    pub waves: Vec<u32>,
    /// What it waits for; empty if for nothing but the next look.
    pub waits: Vec<Wait>,
    /// What happens next, and when if that is known.
    pub next: String,
    /// Since when it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When time alone may change this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// A drain takes something from what Git declares, be it only a refuge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wait {
    /// In which zone, if it is one zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// What for, and what to do about it.
    pub why: String,
}
