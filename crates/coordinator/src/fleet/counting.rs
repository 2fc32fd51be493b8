//! Traffic since a zone first proved what it runs: what was counted before that tells of other weights. Pure; changed when
//! people are to be shown other traffic than that.
//!
//! Verdicts go by it: only what came since the proof was sent by the weights that are judged. After a restart of the coordinator
//! or of an agent the counting begins anew, and so does the waiting for enough.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use weir_model::{BackendName, SplitName};
use weir_planner::{Counts, Digest, ItemFact, Verdict};

/// The 5 s between two flushes of an Envoy's histograms, and the 2 s between two questions for them.
const LATE: SignedDuration = SignedDuration::from_secs(8);

/// Where an agent's counts stood when it first proved what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    of: (Digest, BTreeSet<BackendName>),
    counts: Counts,
}

/// The item, and who is down: both decide about shares.
fn runs(fact: &ItemFact) -> (Digest, BTreeSet<BackendName>) {
    let down = fact.fallback.as_ref().map(|fallen| fallen.down.clone());
    (fact.digest, down.unwrap_or_default())
}

impl Mark {
    fn now(fact: &ItemFact) -> Option<Self> {
        let exact = fact
            .proof
            .as_ref()
            .is_some_and(|proof| proof.verdict == Verdict::Exact);
        let counts = fact.counts.clone().filter(|_| exact)?;
        Some(Self {
            of: runs(fact),
            counts,
        })
    }
}

impl Mark {
    /// What an Envoy's histograms tell when the mark is made was flushed before it, and asked before that: for a while what they
    /// tell next is of before the mark as well.
    fn with_late(&self, now: &Counts) -> Self {
        let mut mark = self.clone();
        if now.at.duration_since(mark.counts.at) < LATE {
            mark.counts.latency.clone_from(&now.latency);
        }
        mark
    }

    /// What had been counted when the agent first proved this item, and how long answers had taken that were given before that.
    pub fn of(&self, item: Digest) -> Option<&Counts> {
        (self.of.0 == item).then_some(&self.counts)
    }
}

/// The marks of one agent after it said this. Until there is proof of what it runs now, the mark of before stands; where nothing
/// of before is known, as after a restart of either side, counting begins with what is said.
pub fn marks(
    before: Option<&BTreeMap<SplitName, Mark>>,
    items: &BTreeMap<SplitName, ItemFact>,
) -> BTreeMap<SplitName, Mark> {
    let of = |(split, fact): (&SplitName, &ItemFact)| {
        let counts = fact.counts.as_ref()?;
        let before = before.and_then(|marks| marks.get(split));
        // An agent that began to count anew has another `since`.
        let before = before.filter(|mark| mark.counts.since == counts.since);
        let mark = match before {
            Some(mark) if mark.of == runs(fact) => Some(mark.with_late(counts)),
            before => Mark::now(fact).or_else(|| before.cloned()),
        };
        Some((split.clone(), mark?))
    };
    items.iter().filter_map(of).collect()
}

/// What came since the mark, if it is one of the same counting.
pub fn since(mark: Option<&Mark>, counts: &Counts) -> Counts {
    let Some(mark) = mark.filter(|mark| mark.counts.since == counts.since) else {
        return counts.clone();
    };
    let minus = |now: &BTreeMap<BackendName, u64>, then: &BTreeMap<BackendName, u64>| {
        now.iter()
            .map(|(backend, n)| {
                let before = then.get(backend).copied().unwrap_or(0);
                (backend.clone(), n.saturating_sub(before))
            })
            .collect()
    };
    Counts {
        since: mark.counts.at,
        at: counts.at,
        requests: minus(&counts.requests, &mark.counts.requests),
        failed: minus(&counts.failed, &mark.counts.failed),
        down: minus(&counts.down, &mark.counts.down),
        latency: BTreeMap::new(),
        open: counts.open,
        scope: counts.scope,
    }
}
