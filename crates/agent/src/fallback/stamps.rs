//! How long ago something was that is remembered by the host's clock, though that clock may be set meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_model::SplitName;

use super::Fallbacks;
use crate::activation::Moment;

/// Stamps that are remembered of shares elsewhere, and when that was by the clock that only rises. A stamp outlives the process
/// and tells people when; how long a share waits does not hang on it, or a clock that is set ahead would bring all back at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamps(BTreeMap<Timestamp, Instant>);

impl Stamps {
    /// How long ago that was. Of what this process learns of now its clock says it, and nothing is yet to come.
    pub(super) fn ago(&self, then: Timestamp, (now, stamp): Moment) -> SignedDuration {
        match self.0.get(&then) {
            Some(then) => SignedDuration::try_from(now.duration_since(*then)).unwrap_or(SignedDuration::MAX),
            None => stamp.duration_since(then).max(SignedDuration::ZERO),
        }
    }

    /// Puts a stamp that is ahead of the clock, for that was set back or wrong before, to now: people are told nothing that is yet
    /// to come. What is known of how long ago it was stays.
    pub(super) fn not_ahead(&mut self, then: &mut Timestamp, (now, stamp): Moment) {
        if *then <= stamp {
            return;
        }
        let was = self.0.get(then).copied().unwrap_or(now);
        let is = self.0.entry(stamp).or_insert(was);
        *is = was.max(*is);
        *then = stamp;
    }

    /// Keeps those of what is remembered from now on, and no others.
    pub(super) fn keep(&mut self, all: &BTreeMap<SplitName, Fallbacks>, at: Moment) {
        let stamps = all.values().flat_map(|fallen| {
            let down = fallen.down.values().flat_map(|down| [down.since, down.moved]);
            down.chain(fallen.falls.values().map(|falls| falls.last))
        });
        let kept = stamps.filter_map(|then| {
            let ago = Duration::try_from(self.ago(then, at)).ok()?;
            Some((then, at.0.checked_sub(ago)?))
        });
        self.0 = kept.collect();
    }
}
