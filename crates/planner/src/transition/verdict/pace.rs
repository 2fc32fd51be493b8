//! How long answers take: what part of them is slow, and whether surely more than by the same callers before.

use std::collections::BTreeSet;

use weir_model::{BackendName, Protocol, Split, sabotaged};

use super::Grown;
use super::usual::{at_least, at_most, share};
use crate::facts::Counts;
use crate::latency::{BOUNDS, Latency};

/// A share of slow answers must be above the earlier one by more than this to be bad: 10 %. The first ones of a backend that was
/// just started are slow, and a hundred requests are few.
const SLOWER: f64 = 0.10;

/// The number of the bound beyond which an answer is slow; none where that is not judged. A stream takes as long as somebody looks
/// at it.
pub(super) fn slow_from(split: &Split) -> Option<usize> {
    let limit = split.transition.verify.latency?;
    let limit = u64::try_from(limit.as_micros()).ok()?;
    let judged = !split.streaming && split.protocol != Protocol::Tcp;
    BOUNDS.iter().position(|bound| *bound >= limit).filter(|_| judged)
}

/// Slow answers of all: of what gained, with how many were to be expected by the same callers before, and of the others beside it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    is: (u64, u64),
    others: (u64, u64),
    /// How many slow ones there would be had nothing changed: the most, as sure as [`SIGMAS`]. Of others, how many they were.
    was: f64,
    others_were: f64,
}

impl Pace {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    pub(super) fn of(
        limit: usize,
        (was, is): (&Latency, &Latency),
        [base, since, now]: [&Counts; 3],
        gaining: &BTreeSet<BackendName>,
    ) -> Self {
        let slow = |of: &Latency| (of.longer_than(limit), of.answers());
        let mut pace = Self {
            is: slow(is),
            was: at_most(slow(was)) * is.answers() as f64,
            ..Self::default()
        };
        for backend in now.latency.keys().filter(|backend| !gaining.contains(*backend)) {
            let before = Grown::of(base, None, backend).latency;
            let after = Grown::of(now, Some(since), backend).latency;
            if before.answers() > 0 {
                pace.others = sum(pace.others, slow(&after));
                pace.others_were += share(slow(&before)) * after.answers() as f64;
            }
        }
        pace
    }

    pub(super) fn plus(self, other: &Self) -> Self {
        Self {
            is: sum(self.is, other.is),
            others: sum(self.others, other.others),
            was: self.was + other.was,
            others_were: self.others_were + other.others_were,
        }
    }

    /// Whether answers are surely slower than they were, and have become it by more than those of the others at the same time: what
    /// slows everybody down is hardly the step's doing.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    pub(super) fn slower(&self, enough: u64, limit: usize) -> Option<String> {
        if self.is.1 < enough {
            return None;
        }
        if sabotaged("one-slow-answer") && self.is.0 > 0 {
            return Some("one answer of what gained weight take longer than others".to_owned());
        }
        let more = at_least(self.is) - self.was / self.is.1 as f64;
        let beside = match self.others.1 {
            0 => 0.0,
            others => share(self.others) - self.others_were / others as f64,
        };
        if more <= SLOWER + beside.max(0.0) {
            return None;
        }
        let told = |(slow, all): (u64, u64)| format!("{slow} of {all}, {:.2} %", share((slow, all)) * 100.0);
        let others = match self.others.1 {
            0 => String::new(),
            _ => format!("; of the others beside it {}", told(self.others)),
        };
        Some(format!(
            "answers of what gained weight take longer than {} ms: {}, since the step; by the same callers before it at most \
             {:.2} %{others}",
            BOUNDS.get(limit)? / 1_000,
            told(self.is),
            self.was / self.is.1 as f64 * 100.0,
        ))
    }
}

fn sum(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}
