//! What counted traffic says of a step: failures of the backends that gained, against those of the whole split before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{BackendName, BasisPoints, Verify};

use crate::course::Items;
use crate::facts::Counts;
use crate::plan::Destination;

/// A share of failures must be above the earlier one by more than this to be bad, in parts of a million: 1 %.
const MARGIN: f64 = 0.01;
/// How sure that must be: three standard deviations, one false alarm in some seven hundred verdicts at the margin itself.
const SIGMAS: f64 = 3.0;

/// What traffic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Enough of it, and no more failures than before.
    Good,
    /// Too little to say anything: how many requests of how many.
    Little { seen: u64, of: u64 },
    /// More failures than before; the evidence.
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

/// Judges the requests since the step was `taken`: all counters together, and each alone that has enough. A counter that is
/// new here and began before the step says nothing of it.
pub(super) fn judge(
    (before, taken): (&BTreeMap<String, Counts>, Timestamp),
    now: &BTreeMap<String, Counts>,
    gaining: &BTreeSet<BackendName>,
    verify: &Verify,
) -> Traffic {
    let earlier = before.values().fold((0, 0), |sum: (u64, u64), counts| {
        let all = |counts: &BTreeMap<BackendName, u64>| counts.values().sum::<u64>();
        (sum.0 + all(&counts.requests), sum.1 + all(&counts.failed))
    });
    let mut total = (0_u64, 0_u64);
    for (counter, counts) in now {
        let base = before.get(counter).filter(|base| base.since == counts.since);
        if base.is_none() && counts.since < taken {
            continue;
        }
        let grown = |now: &BTreeMap<BackendName, u64>, base: Option<&BTreeMap<BackendName, u64>>| -> u64 {
            let of = |name: &BackendName| now.get(name).copied().unwrap_or(0);
            let was = |name: &BackendName| base.and_then(|base| base.get(name).copied()).unwrap_or(0);
            gaining
                .iter()
                .map(|name| of(name).saturating_sub(was(name)))
                .sum()
        };
        let here = (
            grown(&counts.requests, base.map(|base| &base.requests)),
            grown(&counts.failed, base.map(|base| &base.failed)),
        );
        total = (total.0 + here.0, total.1 + here.1);
        if here.0 >= verify.requests.max(1)
            && let Some(why) = worse(here, earlier)
        {
            return Traffic::Bad(format!("{counter}: {why}"));
        }
    }
    if total.0 < verify.requests {
        return Traffic::Little {
            seen: total.0,
            of: verify.requests,
        };
    }
    match worse(total, earlier) {
        Some(why) => Traffic::Bad(format!("all zones together: {why}")),
        None => Traffic::Good,
    }
}

/// Whether `is` (requests, failed) is surely worse than `was` by more than the margin.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn worse(is: (u64, u64), was: (u64, u64)) -> Option<String> {
    let (n, failed) = (is.0 as f64, is.1.min(is.0) as f64);
    if n == 0.0 || failed == 0.0 {
        return None;
    }
    let share = failed / n;
    let before = if was.0 == 0 {
        0.0
    } else {
        was.1.min(was.0) as f64 / was.0 as f64
    };
    // the lower end of Wilson's interval: holds for few requests and for shares near 0 as well
    let square = SIGMAS * SIGMAS;
    let centre = share + square / (2.0 * n);
    let spread = SIGMAS * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    let least = (centre - spread) / (1.0 + square / n);
    (least > before + MARGIN).then(|| {
        format!(
            "{} of {} requests to what gained weight failed since the step, {:.2} %; before it {} of {} of the whole split, \
             {:.2} %",
            is.1,
            is.0,
            share * 100.0,
            was.1,
            was.0,
            before * 100.0
        )
    })
}
