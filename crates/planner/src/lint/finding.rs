//! What the linter of plans says: the rules, and a breach of one.

use std::fmt;

use serde::Serialize;
use weir_model::{SplitName, ZoneName};

/// The rule that a plan breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// I1: what an item says comes from a commit of this plan, or stands unchanged in the parent.
    Provenance,
    /// I2: the weights of each route sum to exactly 10000, and each is for a destination.
    Exactness,
    /// I4: what had weight in the parent is still a destination; nothing but the anchor names what retires.
    Drain,
    /// I5: a transition is at a position that there is, and says from where it came.
    InStep,
    /// I7: generations only rise, and exactly what changed has the new one.
    Monotone,
    /// I10: every name on an object is made of ours.
    Ours,
    /// One item for each split and zone, in its own place.
    Complete,
    /// Every zone and backend that is named is there.
    Reference,
    /// One split for a service and port, and one layer for its weights at a gateway.
    OneWriter,
    /// Routes stand in the order of precedence, all reachable, the last takes everything.
    Precedence,
    /// Digests, roots and the id are those of the content.
    Digest,
    /// What did not change is the parent's own value, not a copy.
    Shared,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Provenance => "I1 provenance",
            Self::Exactness => "I2 exactness",
            Self::Drain => "I4 drain before break",
            Self::InStep => "I5 in step",
            Self::Monotone => "I7 monotone",
            Self::Ours => "I10 only ours",
            Self::Complete => "complete",
            Self::Reference => "reference",
            Self::OneWriter => "one writer",
            Self::Precedence => "precedence",
            Self::Digest => "digest",
            Self::Shared => "shared",
        })
    }
}

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// In which split; none for the plan as a whole.
    pub split: Option<SplitName>,
    /// In which zone's item; none for the split as a whole.
    pub zone: Option<ZoneName>,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule)?;
        match (&self.split, &self.zone) {
            (Some(split), Some(zone)) => write!(f, "split {split} in zone {zone}: ")?,
            (Some(split), None) => write!(f, "split {split}: ")?,
            (None, Some(zone)) => write!(f, "zone {zone}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.what)
    }
}
