//! How a change of weights travels, as it is declared: steps, waiting, verifying, and where a backend's share goes
//! while it is down.
//!
//! Values only: what is done by them is the planner's. Changed with the declaration language.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::names::BackendName;
use crate::weight::BasisPoints;

/// How a split's weights move from one commit to the next. `spec.transition` of the Split, and where a field is not
/// given that of the Federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Transition {
    /// `maxStep`: by how much a weight may change in one step, in basis points above 0. `None` is one step for the
    /// whole change; a declared 100 is the same and `None` as well.
    pub max_step: Option<BasisPoints>,
    /// `bake`: how long a proven step rests before the next begins; default 0, at most 7 days.
    pub bake: SignedDuration,
    /// `verify`.
    pub verify: Verify,
}

/// What has to be seen of each step before it counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verify {
    /// `requests`: how many must have been counted for a verdict, for each step; default 100, at least 1.
    pub requests: u64,
    /// `within`: how long to wait for that many; default 30 s, 1 s to 24 hours.
    pub within: SignedDuration,
    /// `insufficient`: what to do when there were fewer; default [`Insufficient::Proceed`].
    pub insufficient: Insufficient,
    /// `latency`: whether answers that got slower are a bad verdict; default [`Slower::Judge`].
    pub latency: Slower,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            requests: 100,
            within: SignedDuration::from_secs(30),
            insufficient: Insufficient::default(),
            latency: Slower::default(),
        }
    }
}

/// What follows from answers that take longer than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Slower {
    /// It is a bad verdict, as failures are.
    #[default]
    Judge,
    /// Nothing: what gains weight is known to be slower, or further away.
    Ignore,
}

/// What follows from too few requests. It is a verdict of its own, never a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Insufficient {
    /// The next step begins, and the step is shown as not verified.
    #[default]
    Proceed,
    /// The transition stays where it is until there were enough, or a person decides.
    Hold,
}

/// Where a backend's share goes while the backend is down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fallback {
    /// `to`: backends of the same split in the order in which they are tried, at least one, each once, never the
    /// backend itself. Those of a detached zone are left out.
    pub to: Vec<BackendName>,
    /// `after`: for how long it must have been down; default 1 s, 1 s to 1 hour.
    pub after: SignedDuration,
    /// `recover`: for how long it must have been well again before its share comes back; default 60 s, 10 s to 24
    /// hours.
    pub recover: SignedDuration,
}

impl Fallback {
    /// `after` where it is not given.
    pub const AFTER: SignedDuration = SignedDuration::from_secs(1);
    /// `recover` where it is not given.
    pub const RECOVER: SignedDuration = SignedDuration::from_secs(60);
}
