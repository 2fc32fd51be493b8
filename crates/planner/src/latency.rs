//! How long answers took, as Envoy counts it: how many took no longer than each of some bounds.
//!
//! A value and its sums. Read by drivers, carried by `weir-wire`, judged in `transition::verdict::slower`. Changed when Envoy's own bounds
//! change.

use serde::{Deserialize, Serialize};

/// Envoy's bounds, in microseconds: those of its documentation, and of a real 1.38.3. Whoever sets others in
/// `stats_config.histogram_bucket_settings` is told no latency.
pub const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// How many answers took how long: for each of [`BOUNDS`], how many took no longer than it, and longer than the one before. What
/// took longer than the last is in the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub struct Latency(pub [u64; BOUNDS.len()]);

/// Missing ones are 0, and what is beyond the last is in it: a plan that another version wrote can still be read.
impl From<Vec<u64>> for Latency {
    fn from(all: Vec<u64>) -> Self {
        let mut latency = Self::default();
        let last = BOUNDS.len() - 1;
        for (at, n) in all.into_iter().enumerate() {
            if let Some(sum) = latency.0.get_mut(at.min(last)) {
                *sum = sum.saturating_add(n);
            }
        }
        latency
    }
}

/// Without the zeros at its end; but one, so that it is not taken for nothing.
impl From<Latency> for Vec<u64> {
    fn from(latency: Latency) -> Self {
        let used = latency.0.iter().rposition(|n| *n > 0).unwrap_or(0);
        latency.0.iter().take(used + 1).copied().collect()
    }
}

impl Latency {
    /// All of them.
    pub fn answers(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// How many took longer than the bound with this number.
    pub fn longer_than(&self, bound: usize) -> u64 {
        let longer = self.0.get(bound + 1..).unwrap_or_default();
        longer.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (sum, n) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(n);
        }
        self
    }

    /// What came since `before`; all of it, if it began anew, so that any of it went down.
    #[must_use]
    pub fn since(self, before: &Self) -> Self {
        if self.0.iter().zip(before.0).any(|(now, then)| *now < then) {
            return self;
        }
        let mut grown = self;
        for (n, then) in grown.0.iter_mut().zip(before.0) {
            *n -= then;
        }
        grown
    }
}
