//! Who was given what is wanted and gives something else: a Kong says what it has before its workers take that up, one that fails to
//! is only in its log, and with a database a node may never hear of what was written. Nothing of it is there to be written then, so
//! that it is said again: first after a while, for workers take up what is new within seconds, and ever more rarely, for whatever
//! they fail at they may fail at again, and all that they run is built anew each time. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So long it may be on its way.
const FIRST: Duration = Duration::from_secs(30);
/// It is said again after twice as long each time, and never more rarely.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// Since when somebody is behind, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behind {
    since: Instant,
    last: Instant,
    next: Instant,
    wait: Duration,
    said: u32,
    /// It was so at the last look, and nothing was said since.
    stands: bool,
}

impl Behind {
    /// From now on.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            last: now,
            next: now + FIRST,
            wait: FIRST,
            said: 0,
            stands: true,
        }
    }

    /// It still is.
    pub(crate) fn is_still(&mut self, now: Instant) {
        (self.last, self.stands) = (now, true);
    }

    /// The last look did not say so, nor that all is well.
    pub(crate) fn is_unclear(&mut self) {
        self.stands = false;
    }

    /// Whether it was not seen so for so long that nothing follows from it any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.last) > LONGEST
    }

    /// Whether it is time to say it again: only if it was so at the last look, which was after it was said last.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.stands && now >= self.next
    }

    /// It is said again; how often by now.
    pub(crate) fn again(&mut self, now: Instant) -> u32 {
        self.said = self.said.saturating_add(1);
        self.wait = (self.wait * 2).min(LONGEST);
        self.next = now + self.wait;
        self.stands = false;
        self.said
    }

    /// For people: since when, and what is done. `what` is what is said again, as in `the document is posted`.
    pub(crate) fn words(&self, now: Instant, what: &str) -> String {
        let since = now.duration_since(self.since).as_secs();
        let next = self.next.saturating_duration_since(now).as_secs();
        let done = match self.said {
            0 => format!("{what} again in {next} s if it stays so"),
            times => format!(
                "{what} again, {times} times so far and next in {next} s; if that does not help, Kong's log says why a worker does not \
                 take it up, and a restart makes new ones"
            ),
        };
        format!("it has what is wanted and gives something else, since {since} s: {done}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_again_ever_more_rarely_and_never_without_a_look() {
        let start = Instant::now();
        let seconds = |n: u64| start + Duration::from_secs(n);
        let mut behind = Behind::new(start);
        let mut said = Vec::new();
        for n in 1..=4_000 {
            let now = seconds(n);
            behind.is_still(now);
            if behind.is_due(now) {
                behind.again(now);
                said.push(n);
            }
        }
        assert_eq!(said[..6], [30, 90, 210, 450, 930, 1_530]);
        let apart = said.windows(2).skip(4).all(|pair| pair[1] - pair[0] == 600);
        assert!(apart && said.len() == 10, "{said:?}");
        // What was not seen so when it was last looked at is not said again, and is forgotten after a while.
        behind.is_unclear();
        assert!(!behind.is_due(seconds(9_000)));
        assert!(behind.is_over(seconds(9_000)) && !behind.is_over(seconds(4_001)));
        let words = Behind::new(start).words(seconds(10), "the document is posted");
        assert!(
            words.contains("since 10 s: the document is posted again in 20 s"),
            "{words}"
        );
    }
}
