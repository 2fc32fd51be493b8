//! Where a split is on its way from one set of weights to the next. It stands in the plan itself: whoever holds the plan
//! knows all that there is to know, and nothing has to be resumed.
//!
//! Made by [`crate::transition`]; carried by the ledger. Agents never see it: each step is a plan, and a plan leaves no
//! choice to whoever executes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_model::ZoneName;

use crate::facts::Counts;
use crate::plan::{Digest, Item};

/// Items by zone.
pub type Items = BTreeMap<ZoneName, Arc<Item>>;

/// What a split plan remembers besides its items. A split that was declared once and never changed has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// The shapes ([`crate::canonical::shape`]) on which the split rested before, oldest first, every zone having proven them:
    /// a commit that goes back to one of these is a revert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Digest>,
    /// The shape that the split was last brought back from, until it rests on something new: a commit that goes there again
    /// is no revert, though it takes one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Digest>,
    /// What the split last rested on is where a drain led, and not what Git declared: to go there later is no revert.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// The transition; none at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub motion: Option<Motion>,
    /// What is declared and not to be gone towards, until a commit changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// A transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Motion {
    /// What each zone had when the split last rested: where an abort or a failed verdict goes.
    pub origin: Items,
    /// What each zone had when this leg began. Another commit in mid-way begins another leg.
    pub from: Items,
    /// The shape of where this leg goes.
    pub to: Digest,
    /// Which way.
    pub leg: Leg,
    /// When this position was taken.
    pub since: Timestamp,
    /// What had been counted just before this position was taken, by counter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counted: BTreeMap<String, Counts>,
    /// What is not gone towards any further, though there is no way back: after a bad verdict or an abort, where somebody is
    /// drained who would get more by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Quarantine>,
}

/// One way, by one commit or by one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "leg")]
pub enum Leg {
    /// To what is declared, step by step.
    Shift {
        /// How many bites it takes; at least 1.
        bites: u32,
        /// The bite that zones up to `wave` run, 1 to `bites`; the zones of later waves run the one before.
        bite: u32,
        /// The wave that moved last.
        wave: u32,
    },
    /// Back, or away: everywhere at once, with no analysis (I8).
    Return {
        /// Why, in words.
        why: String,
    },
}

/// Why a split is not where the declaration says, and stays there until a commit changes the split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// The shape that is not gone towards.
    pub shape: Digest,
    /// Why: a failed verdict with its evidence, or who aborted it.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

impl Course {
    /// Of a split that came into force where a drain leads.
    pub(crate) fn of_drain() -> Self {
        Self {
            drained: true,
            ..Self::default()
        }
    }

    /// Whether nothing need be kept of it.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
