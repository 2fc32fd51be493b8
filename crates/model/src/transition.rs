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
    /// `latency`: an answer that takes longer is slow, and many more slow ones than before are a bad verdict; one of
    /// [`LATENCIES`]. Not judged by default: how slow is too slow nobody can know but whoever declares it.
    pub latency: Option<SignedDuration>,
}

/// What `latency` may be: the bounds of Envoy's histograms, of which alone can be told how many answers took longer.
pub const LATENCIES: [(&str, SignedDuration); 15] = [
    ("5ms", SignedDuration::from_millis(5)),
    ("10ms", SignedDuration::from_millis(10)),
    ("25ms", SignedDuration::from_millis(25)),
    ("50ms", SignedDuration::from_millis(50)),
    ("100ms", SignedDuration::from_millis(100)),
    ("250ms", SignedDuration::from_millis(250)),
    ("500ms", SignedDuration::from_millis(500)),
    ("1s", SignedDuration::from_secs(1)),
    ("2500ms", SignedDuration::from_millis(2_500)),
    ("5s", SignedDuration::from_secs(5)),
    ("10s", SignedDuration::from_secs(10)),
    ("30s", SignedDuration::from_secs(30)),
    ("1m", SignedDuration::from_mins(1)),
    ("5m", SignedDuration::from_mins(5)),
    ("10m", SignedDuration::from_mins(10)),
];

impl Default for Verify {
    fn default() -> Self {
        Self {
            requests: 100,
            within: SignedDuration::from_secs(30),
            insufficient: Insufficient::default(),
            latency: None,
        }
    }
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
