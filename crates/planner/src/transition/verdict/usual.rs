//! What part of the requests fails usually, and whether surely more do now.

use std::collections::BTreeMap;

use super::Grown;
use crate::facts::Counts;

/// A share of failures must be above the earlier one by more than this to be bad, in parts of a million: 1 %.
const MARGIN: f64 = 0.01;
/// How sure that must be: three standard deviations, one false alarm in some seven hundred verdicts at the margin itself.
const SIGMAS: f64 = 3.0;

/// Of which requests something is said.
const SINCE_STEP: &str = "since the step";
pub(super) const SINCE_PROOF: &str = "since the step was proven";

/// What came of the whole split before the step. Where that is too little to compare with, as when all agents have begun to count
/// anew, what fails at the backends beside it is no news either.
pub(super) struct Earlier {
    pub(super) all: Grown,
    whose: &'static str,
}

impl Earlier {
    pub(super) fn of(before: &BTreeMap<String, Counts>, enough: u64, beside: impl FnOnce() -> Grown) -> Self {
        let earlier = before.values().map(Grown::whole);
        let earlier = earlier.fold(Grown::default(), |sum, one| sum.plus(&one));
        if earlier.requests < enough {
            let beside = beside();
            let more = |of: &Grown| share((of.failed, of.requests));
            if beside.requests >= enough && more(&beside) > more(&earlier) {
                return Self {
                    all: beside,
                    whose: "the backends beside it, since the step",
                };
            }
        }
        Self {
            all: earlier,
            whose: "the whole split",
        }
    }
}

/// What part of the requests failed before the step. Where more failed before than elsewhere, that is no news: callers are
/// compared with themselves then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    share: f64,
    /// Failed, of all, and whose they were; none for a mixture.
    of: Option<((u64, u64), &'static str)>,
}

impl Usual {
    pub(super) fn of(Earlier { all, whose }: &Earlier, own: &Grown, enough: u64) -> Self {
        let (all, own) = ((all.failed, all.requests), (own.failed, own.requests));
        if own.1 >= enough && share(own) > share(all) {
            return Self {
                share: share(own),
                of: Some((own, "the same callers")),
            };
        }
        Self {
            share: share(all),
            of: Some((all, whose)),
        }
    }

    /// How many of these would have failed.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    pub(super) fn expects(&self, of: &Grown) -> f64 {
        self.share * of.requests as f64
    }

    /// Of all zones, each as it was.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    pub(super) fn mixed(failed: f64, of: &Grown) -> Self {
        Self {
            share: failed / of.requests.max(1) as f64,
            of: None,
        }
    }

    fn told(&self) -> String {
        let percent = self.share * 100.0;
        match self.of {
            Some(((failed, requests), whose)) => {
                format!("before it {failed} of {requests} of {whose}, {percent:.2} %")
            }
            None => format!("before it {percent:.2} % where they come from"),
        }
    }
}

/// Whether more requests fail than before, of those since the step or of those since its proof, if there are enough.
pub(super) fn fails([step, proof]: [&Grown; 2], usual: &[Usual; 2], enough: u64) -> Option<String> {
    let both = [(step, &usual[0], SINCE_STEP), (proof, &usual[1], SINCE_PROOF)];
    let mut both = both.into_iter().filter(|(grown, ..)| grown.requests >= enough);
    both.find_map(|(grown, usual, when)| worse(grown, usual, when))
}

/// Whether fewer requests fail than before: to leave what fails, for something slower, is no loss.
pub(super) fn mends(was: &Grown, is: &Grown) -> bool {
    share((was.failed, was.requests)) > share((is.failed, is.requests)) + MARGIN
}

/// Whether surely more of these failed than usual, by more than the margin.
fn worse(is: &Grown, usual: &Usual, when: &str) -> Option<String> {
    let is = (is.failed, is.requests);
    if is.0 == 0 {
        return None;
    }
    (at_least(is) > usual.share + MARGIN).then(|| {
        format!(
            "{} of {} requests to what gained weight failed {when}, {:.2} %; {}",
            is.0,
            is.1,
            share(is) * 100.0,
            usual.told()
        )
    })
}

/// What part of all.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
pub(super) fn share((part, all): (u64, u64)) -> f64 {
    if all == 0 {
        0.0
    } else {
        part.min(all) as f64 / all as f64
    }
}

/// The least that the share behind this sample is, as sure as [`SIGMAS`].
pub(super) fn at_least(of: (u64, u64)) -> f64 {
    interval(of).0
}

/// The most that it is.
pub(super) fn at_most(of: (u64, u64)) -> f64 {
    interval(of).1
}

/// Wilson's interval, which holds for few requests and for shares near 0 as well. Of none nothing is known.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn interval(of: (u64, u64)) -> (f64, f64) {
    if of.1 == 0 {
        return (0.0, 1.0);
    }
    let (share, n) = (share(of), of.1 as f64);
    let square = SIGMAS * SIGMAS;
    let centre = share + square / (2.0 * n);
    let spread = SIGMAS * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    let all = 1.0 + square / n;
    ((centre - spread) / all, (centre + spread) / all)
}
