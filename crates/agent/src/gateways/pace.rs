//! How long a gateway is left alone after a turn. Pure: the time and chance come in as values.
//!
//! A node that fails is left alone by itself ([`Resting`](super::resting::Resting)), and the others of its gateway are looked at as
//! always. Where there is nobody but an API server to ask, the turns themselves are fewer and fewer. What is wanted newly is tried
//! at once all the same: it may be a revert.

use std::time::Duration;

use tokio::time::Instant;
use weir_link::Backoff;

use super::Turned;

/// Right after something changed: whoever committed waits.
const QUICK: Duration = Duration::from_millis(150);
/// After so long without proof, haste helps nobody.
const HASTE: Duration = Duration::from_secs(10);
/// While something is not as it should be.
const SOON: Duration = Duration::from_secs(1);
/// When all is proven; and one that fails is looked at as seldom as that at most, so that it is noticed as soon when it comes back.
const CALM: Duration = Duration::from_secs(5);
/// The longest that a node is believed that asks to be left alone, for what stands before it may ask for a day: well below the
/// time after which what was read is not known any more.
pub(super) const ASKED: Duration = Duration::from_secs(20);

pub(super) const FAILING: Backoff = Backoff {
    first: QUICK,
    most: CALM,
};

/// The pace of one gateway.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Since when the same is wanted.
    changed: Instant,
    was: Option<String>,
    /// Turns one after the other in which a node failed.
    failures: u32,
}

impl Pace {
    /// Of one that was never looked at.
    pub fn new(now: Instant) -> Self {
        Self {
            changed: now,
            was: None,
            failures: 0,
        }
    }

    /// Something else is wanted from now on.
    pub fn wanted(&mut self, now: Instant) {
        self.changed = now;
        self.failures = 0;
    }

    /// How long to wait after this turn, if nothing else is wanted meanwhile. `chance` is drawn evenly from all numbers.
    pub fn after(&mut self, turned: Turned, now: Instant, chance: u64) -> Duration {
        if turned.wants != self.was {
            self.wanted(now);
            self.was = turned.wants;
        }
        let wait = match turned.settled {
            true => CALM,
            false if now.duration_since(self.changed) < HASTE => QUICK,
            false => SOON,
        };
        let wait = turned.due.map_or(wait, |due| wait.min(due));
        let Some(asked) = turned.failed else {
            self.failures = 0;
            return wait;
        };
        let least = FAILING.ceiling(self.failures) / 2;
        let backoff = least + FAILING.wait(self.failures, chance) / 2;
        self.failures = self.failures.saturating_add(1);
        wait.max(backoff).max(asked.min(ASKED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(asked: u64) -> Turned {
        Turned {
            settled: false,
            wants: None,
            failed: Some(Duration::from_secs(asked)),
            due: None,
        }
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often_and_never_rarer_than_what_is_well() {
        for chance in [0, u64::MAX / 3, u64::MAX] {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            let waits: Vec<Duration> = std::iter::repeat_with(|| {
                let wait = pace.after(failed(0), now, chance);
                now += wait;
                wait
            })
            .take(40)
            .collect();
            assert_eq!(waits[0], QUICK);
            assert!(waits.is_sorted(), "{waits:?}");
            let last = waits[39];
            assert!(CALM / 2 <= last && last <= CALM, "{last:?}");
            // It went well once: then from the beginning.
            let well = Turned {
                failed: None,
                ..failed(0)
            };
            assert_eq!(pace.after(well, now, chance), SOON);
            assert_eq!(pace.after(failed(0), now, chance), SOON);
            pace.wanted(now);
            assert_eq!(pace.after(failed(0), now, chance), QUICK);
        }
    }

    #[test]
    fn one_that_asks_is_left_alone_for_so_long_and_not_for_a_day() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for (asked, waits) in [(2, 2), (20, 20), (86_400, 20)] {
            let wait = pace.after(failed(asked), now, u64::MAX);
            assert_eq!(wait, Duration::from_secs(waits));
        }
    }
}
