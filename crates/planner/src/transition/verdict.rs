//! What counted traffic says of a step: failures of the backends that gained, and how long they take to answer, against those
//! of the whole split before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{BackendName, BasisPoints, Slower, Split};

use crate::course::Items;
use crate::facts::Counts;
use crate::latency::{BOUNDS, Latency};
use crate::plan::Destination;

/// A share of failures must be above the earlier one by more than this to be bad, in parts of a million: 1 %.
const MARGIN: f64 = 0.01;
/// How sure that must be: three standard deviations, one false alarm in some seven hundred verdicts at the margin itself.
const SIGMAS: f64 = 3.0;
/// An answer is slow when it took longer than twice what 19 of 20 took at the most before the step, and longer than this, in
/// microseconds: below it nobody waits.
const SLOW: u64 = 50_000;
/// A share of slow answers must be above the earlier one by more than this to be bad, in parts of one: 5 %.
const SLOWER: f64 = 0.05;

/// What traffic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Enough of it, and no more failures than before.
    Good,
    /// Too little to say anything; what is missing.
    Little(String),
    /// More failures than before, or slower answers; the evidence.
    Bad(String),
}

/// The backends that have more weight somewhere than what was in their place when this leg began.
pub(super) fn gaining(from: &Items, now: &Items) -> BTreeSet<BackendName> {
    let mut gaining = BTreeSet::new();
    for (zone, item) in now {
        let was = from.get(zone);
        let place = |name| item.destinations.get(name).map(Destination::in_kuma);
        for (at, route) in item.routes.iter().enumerate() {
            for (name, weight) in &route.weights {
                // By place: a backend that keeps its name and moves gets requests that it never had.
                let before = was.and_then(|was| {
                    let route = was.routes.get(at)?;
                    let same_place = route.weights.keys().find(|old| {
                        let there = was.destinations.get(*old).map(Destination::in_kuma);
                        there.is_some() && there == place(name)
                    });
                    same_place.and_then(|old| route.weights.get(old).copied())
                });
                if *weight > before.unwrap_or(BasisPoints::ZERO) {
                    gaining.insert(name.clone());
                }
            }
        }
    }
    gaining
}

/// What came of some backends since the step.
#[derive(Debug, Clone, Copy, Default)]
struct Grown {
    requests: u64,
    failed: u64,
    latency: Latency,
}

impl Grown {
    fn of<'a>(
        counts: &Counts,
        base: Option<&Counts>,
        backends: impl Iterator<Item = &'a BackendName>,
    ) -> Self {
        let grown = |what: fn(&Counts) -> &BTreeMap<BackendName, u64>, name: &BackendName| {
            let of = |counts: &Counts| what(counts).get(name).copied().unwrap_or(0);
            of(counts).saturating_sub(base.map_or(0, of))
        };
        let mut sum = Self::default();
        for name in backends {
            let latency = |counts: &Counts| counts.latency.get(name).copied().unwrap_or_default();
            sum = sum.plus(&Self {
                requests: grown(|counts| &counts.requests, name),
                failed: grown(|counts| &counts.failed, name),
                latency: latency(counts).since(&base.map(latency).unwrap_or_default()),
            });
        }
        sum
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failed: self.failed.saturating_add(other.failed),
            latency: self.latency.plus(&other.latency),
        }
    }
}

/// Judges the requests since the step was `taken`: all counters together, and each alone that has enough. A counter that is
/// new here and began before the step says nothing of it.
pub(super) fn judge(
    (before, taken): (&BTreeMap<String, Counts>, Timestamp),
    now: &BTreeMap<String, Counts>,
    gaining: &BTreeSet<BackendName>,
    split: &Split,
) -> Traffic {
    let enough = split.transition.verify.requests.max(1);
    let earlier = before.values().fold(Grown::default(), |sum, counts| {
        sum.plus(&Grown::of(counts, None, counts.requests.keys()))
    });
    // A stream takes as long as somebody looks at it.
    let judged = split.transition.verify.latency == Slower::Judge && !split.streaming;
    let comparable = judged && earlier.latency.answers() >= enough;
    let (mut total, mut others, mut timed) = (Grown::default(), Latency::default(), Grown::default());
    for (counter, counts) in now {
        let base = before.get(counter).filter(|base| base.since == counts.since);
        if base.is_none() && counts.since < taken {
            continue;
        }
        let here = Grown::of(counts, base, gaining.iter());
        let others_here = counts.requests.keys().filter(|name| !gaining.contains(*name));
        let others_here = Grown::of(counts, base, others_here).latency;
        total = total.plus(&here);
        others = others.plus(&others_here);
        if !counts.latency.is_empty() {
            timed = timed.plus(&here);
        }
        let why = (here.requests >= enough)
            .then(|| worse((here.requests, here.failed), (earlier.requests, earlier.failed)))
            .flatten();
        let why = why.or_else(|| {
            let all = (&here.latency, &earlier.latency, &others_here);
            comparable.then(|| slower(all, enough)).flatten()
        });
        if let Some(why) = why {
            return Traffic::Bad(format!("{counter}: {why}"));
        }
    }
    let little = |seen: u64, what: &str| {
        Traffic::Little(format!(
            "insufficient data: {seen} of {enough} {what} what gained weight so far"
        ))
    };
    if total.requests < enough {
        return little(total.requests, "requests to");
    }
    let why = worse((total.requests, total.failed), (earlier.requests, earlier.failed));
    let why = why.or_else(|| {
        let all = (&total.latency, &earlier.latency, &others);
        comparable.then(|| slower(all, enough)).flatten()
    });
    if let Some(why) = why {
        return Traffic::Bad(format!("all zones together: {why}"));
    }
    // Histograms come some seconds after the requests in them; who failed may have none.
    let known = timed.latency.answers().saturating_add(timed.failed);
    if comparable && timed.requests >= enough && known < enough {
        return little(known, "times of answers from");
    }
    Traffic::Good
}

/// Whether answers since the step are surely slower than those before it, and than those of the other backends at the same time,
/// where there are enough of these: what slows everybody down is not the step's doing.
fn slower((is, was, others): (&Latency, &Latency, &Latency), enough: u64) -> Option<String> {
    if is.answers() < enough {
        return None;
    }
    let usual = (0..BOUNDS.len()).find(|at| was.longer_than(*at) <= was.answers() / 20)?;
    let least = BOUNDS.get(usual)?.saturating_mul(2).max(SLOW);
    let slow = (0..BOUNDS.len()).find(|at| BOUNDS.get(*at).is_some_and(|bound| *bound >= least))?;
    let part = |of: &Latency| (of.longer_than(slow), of.answers());
    let least = at_least(part(is));
    if least <= share(part(was)) + SLOWER {
        return None;
    }
    if others.answers() >= enough && least <= share(part(others)) + SLOWER {
        return None;
    }
    let told = |(slow, all): (u64, u64)| format!("{slow} of {all}, {:.2} %", share((slow, all)) * 100.0);
    let beside = if others.answers() > 0 {
        format!(", beside it {} of the others", told(part(others)))
    } else {
        String::new()
    };
    Some(format!(
        "answers of what gained weight take longer than {} ms: {}, since the step; before it {} of the whole split{beside}",
        BOUNDS.get(slow)? / 1_000,
        told(part(is)),
        told(part(was)),
    ))
}

/// What part of all.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn share((part, all): (u64, u64)) -> f64 {
    if all == 0 {
        0.0
    } else {
        part.min(all) as f64 / all as f64
    }
}

/// The least that the share behind this sample is, as sure as [`SIGMAS`]: the lower end of Wilson's interval, which holds for few
/// requests and for shares near 0 as well.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn at_least(of: (u64, u64)) -> f64 {
    let (share, n) = (share(of), of.1 as f64);
    let square = SIGMAS * SIGMAS;
    let centre = share + square / (2.0 * n);
    let spread = SIGMAS * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    (centre - spread) / (1.0 + square / n)
}

/// Whether `is` (requests, failed) is surely worse than `was` by more than the margin.
fn worse(is: (u64, u64), was: (u64, u64)) -> Option<String> {
    let (is, was) = ((is.1, is.0), (was.1, was.0));
    if is.0 == 0 || is.1 == 0 {
        return None;
    }
    (at_least(is) > share(was) + MARGIN).then(|| {
        format!(
            "{} of {} requests to what gained weight failed since the step, {:.2} %; before it {} of {} of the whole split, \
             {:.2} %",
            is.0,
            is.1,
            share(is) * 100.0,
            was.0,
            was.1,
            share(was) * 100.0
        )
    })
}
