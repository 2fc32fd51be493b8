//! What counted traffic says of a step: failures of the backends that gained, and how long they take to answer, against those
//! of the whole split before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{BackendName, BasisPoints, Protocol, Split, sabotaged};

use crate::course::Items;
use crate::facts::Counts;
use crate::latency::{BOUNDS, Latency};
use crate::plan::Destination;

/// A share of failures must be above the earlier one by more than this to be bad, in parts of a million: 1 %.
const MARGIN: f64 = 0.01;
/// How sure that must be: three standard deviations, one false alarm in some seven hundred verdicts at the margin itself.
const SIGMAS: f64 = 3.0;
/// A share of slow answers must be above the earlier one by more than this to be bad: 10 %. The first ones of a backend that was
/// just started are slow, and a hundred requests are few.
const SLOWER: f64 = 0.10;

/// Of which requests something is said.
const SINCE_STEP: &str = "since the step";
const SINCE_PROOF: &str = "since the step was proven";

/// What traffic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Enough of it, and no more failures than before.
    Good,
    /// Too little to say anything; what is missing.
    Little(String),
    /// Requests enough, but how long they took is not told yet; histograms lag behind. What is missing.
    Late(String),
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

/// Whether all routes of an item move alike: else what gains in one of them is compared with what others get.
pub(super) fn moves_evenly(from: &Items, now: &Items) -> bool {
    now.iter().all(|(zone, item)| {
        let alike = |item: &crate::plan::Item| {
            let first = item.routes.first().map(|route| &route.weights);
            item.routes.iter().all(|route| Some(&route.weights) == first)
        };
        alike(item) && from.get(zone).is_none_or(|from| alike(from))
    })
}

/// What came of some backends since the step.
#[derive(Debug, Clone, Copy, Default)]
struct Grown {
    requests: u64,
    failed: u64,
    latency: Latency,
}

impl Grown {
    fn of(counts: &Counts, base: Option<&Counts>, backend: &BackendName) -> Self {
        let grown = |what: fn(&Counts) -> &BTreeMap<BackendName, u64>| {
            let of = |counts: &Counts| what(counts).get(backend).copied().unwrap_or(0);
            of(counts).saturating_sub(base.map_or(0, of))
        };
        let latency = |counts: &Counts| counts.latency.get(backend).copied().unwrap_or_default();
        Self {
            requests: grown(|counts| &counts.requests),
            failed: grown(|counts| &counts.failed),
            latency: latency(counts).since(&base.map(latency).unwrap_or_default()),
        }
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failed: self.failed.saturating_add(other.failed),
            latency: self.latency.plus(&other.latency),
        }
    }

    /// No more requests, nor failures, than these.
    fn capped(self, other: &Self) -> Self {
        Self {
            requests: self.requests.min(other.requests),
            failed: self.failed.min(other.failed),
            ..self
        }
    }

    fn of_all<'a>(
        counts: &Counts,
        base: Option<&Counts>,
        backends: impl IntoIterator<Item = &'a BackendName>,
    ) -> Self {
        let each = backends
            .into_iter()
            .map(|backend| Self::of(counts, base, backend));
        each.fold(Self::default(), |sum, one| sum.plus(&one))
    }

    /// Of all backends of a counter, since it began.
    fn whole(counts: &Counts) -> Self {
        Self::of_all(counts, None, counts.requests.keys())
    }
}

/// What all counters of one zone say together: of an agent alone there may be too little.
#[derive(Default)]
struct InZone {
    /// To what gained, since the step, and of that since its proof.
    here: Grown,
    fresh: Grown,
    /// Of the whole split, before the step.
    own: Grown,
    /// Of the counters whose answers can be compared: of the whole split before the step, and to what gained since its proof.
    was: Grown,
    timed: Grown,
    pace: Pace,
}

/// Judges the requests since the step was `taken`: all counters together, those of each zone, and each alone that has enough, for
/// failures and for how long answers take. A counter that is new here and began before the step says nothing of it. Failures show at once; but only what came since the step was `proven`
/// was sent by its weights, and is enough or not, and timed. `even`: whether all routes move alike.
pub(super) fn judge(
    (before, taken): (&BTreeMap<String, Counts>, Timestamp),
    (now, proven): (&BTreeMap<String, Counts>, &BTreeMap<String, Counts>),
    gaining: &BTreeSet<BackendName>,
    (split, even): (&Split, bool),
) -> Traffic {
    let enough = split.transition.verify.requests.max(1);
    let earlier = before.values().map(Grown::whole);
    let earlier = earlier.fold(Grown::default(), |sum, one| sum.plus(&one));
    let limit = slow_from(split).filter(|_| even);
    let (mut total, mut carried, mut timed, mut paces) = (
        Grown::default(),
        Grown::default(),
        Grown::default(),
        Pace::default(),
    );
    let mut comparable = false;
    let mut zones: BTreeMap<&str, InZone> = BTreeMap::new();
    for (counter, counts) in now {
        let base = before.get(counter).filter(|base| base.since == counts.since);
        if base.is_none() && counts.since < taken {
            continue;
        }
        let here = Grown::of_all(counts, base, gaining);
        total = total.plus(&here);
        let since = proven.get(counter).filter(|then| then.since == counts.since);
        // Where a zone proved its item before this step was taken, what it counted until then is of the step before.
        let fresh = since.map(|since| Grown::of_all(counts, Some(since), gaining).capped(&here));
        let fresh = fresh.unwrap_or_default();
        carried = carried.plus(&fresh);
        let own = base.map(Grown::whole).unwrap_or_default();
        if let Some(why) = fails([&here, &fresh], &[Usual::of(&earlier, &own, enough); 2], enough) {
            return Traffic::Bad(format!("{counter}: {why}"));
        }
        let zone = zones.entry(zone_of(counter)).or_default();
        zone.here = zone.here.plus(&here);
        zone.fresh = zone.fresh.plus(&fresh);
        zone.own = zone.own.plus(&own);
        // Only like is compared with like: the same callers, before and after.
        let (Some(limit), Some(base)) = (limit, base) else {
            continue;
        };
        let was = Grown::whole(base);
        if was.latency.answers() < enough {
            continue;
        }
        // A zone that had proven its item before this step did not move with it: what was slow there is of the steps before.
        if since.is_some_and(|since| Grown::whole(since).requests < was.requests) {
            continue;
        }
        comparable = true;
        let Some(since) = since else {
            continue;
        };
        let here = Grown::of_all(counts, Some(since), gaining);
        timed = timed.plus(&here);
        let pace = Pace::of(
            limit,
            (&was.latency, &here.latency),
            [base, since, counts],
            gaining,
        );
        paces = paces.plus(&pace);
        zone.pace = zone.pace.plus(&pace);
        zone.was = zone.was.plus(&was);
        zone.timed = zone.timed.plus(&here);
        if let Some(why) = pace.slower(enough, limit).filter(|_| !mends(&was, &here)) {
            return Traffic::Bad(format!("{counter}: {why}"));
        }
    }
    let mut mixed = [0.0; 2];
    for (name, zone) in &zones {
        let usual = Usual::of(&earlier, &zone.own, enough);
        let failing = fails([&zone.here, &zone.fresh], &[usual; 2], enough);
        let slower = || limit.and_then(|limit| zone.pace.slower(enough, limit));
        let slower = || slower().filter(|_| !mends(&zone.was, &zone.timed));
        if let Some(why) = failing.or_else(slower) {
            return Traffic::Bad(format!("zone {name}: {why}"));
        }
        mixed = [
            mixed[0] + usual.expects(&zone.here),
            mixed[1] + usual.expects(&zone.fresh),
        ];
    }
    let usual = [Usual::mixed(mixed[0], &total), Usual::mixed(mixed[1], &carried)];
    if let Some(why) = fails([&total, &carried], &usual, enough) {
        return Traffic::Bad(format!("all zones together: {why}"));
    }
    let too_few = |seen: u64| {
        Traffic::Little(format!(
            "insufficient data: {seen} of {enough} requests to what gained weight {SINCE_PROOF}"
        ))
    };
    if carried.requests < enough {
        return too_few(carried.requests);
    }
    let why = limit.and_then(|limit| paces.slower(enough, limit));
    if let Some(why) = why.filter(|_| !mends(&earlier, &total)) {
        return Traffic::Bad(format!("all zones together: {why}"));
    }
    if comparable && timed.requests < enough {
        return too_few(timed.requests);
    }
    let known = timed.latency.answers();
    if comparable && known < enough {
        return Traffic::Late(format!(
            "how long answers took is known of {known} of {enough} from what gained weight so far"
        ));
    }
    Traffic::Good
}

/// The zone of a counter, which is named `zone/agent`.
fn zone_of(counter: &str) -> &str {
    counter.split_once('/').map_or(counter, |(zone, _)| zone)
}

/// What part of the requests failed before the step. Where more failed before than elsewhere, that is no news: callers are
/// compared with themselves then.
#[derive(Debug, Clone, Copy)]
struct Usual {
    share: f64,
    /// Failed, of all, and whose they were; none for a mixture.
    of: Option<((u64, u64), &'static str)>,
}

impl Usual {
    fn of(all: &Grown, own: &Grown, enough: u64) -> Self {
        let (all, own) = ((all.failed, all.requests), (own.failed, own.requests));
        if own.1 >= enough && share(own) > share(all) {
            return Self {
                share: share(own),
                of: Some((own, "the same callers")),
            };
        }
        Self {
            share: share(all),
            of: Some((all, "the whole split")),
        }
    }

    /// How many of these would have failed.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    fn expects(&self, of: &Grown) -> f64 {
        self.share * of.requests as f64
    }

    /// Of all zones, each as it was.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    fn mixed(failed: f64, of: &Grown) -> Self {
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
fn fails([step, proof]: [&Grown; 2], usual: &[Usual; 2], enough: u64) -> Option<String> {
    let both = [(step, &usual[0], SINCE_STEP), (proof, &usual[1], SINCE_PROOF)];
    let mut both = both.into_iter().filter(|(grown, ..)| grown.requests >= enough);
    both.find_map(|(grown, usual, when)| worse(grown, usual, when))
}

/// Whether fewer requests fail than before: to leave what fails, for something slower, is no loss.
fn mends(was: &Grown, is: &Grown) -> bool {
    share((was.failed, was.requests)) > share((is.failed, is.requests)) + MARGIN
}

/// The number of the bound beyond which an answer is slow; none where that is not judged. A stream takes as long as somebody looks
/// at it.
fn slow_from(split: &Split) -> Option<usize> {
    let limit = split.transition.verify.latency?;
    let limit = u64::try_from(limit.as_micros()).ok()?;
    let judged = !split.streaming && split.protocol != Protocol::Tcp;
    BOUNDS.iter().position(|bound| *bound >= limit).filter(|_| judged)
}

/// Slow answers of all: of what gained, with how many were to be expected by the same callers before, and of the others beside it.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    is: (u64, u64),
    others: (u64, u64),
    /// How many slow ones there would be had nothing changed: the most, as sure as [`SIGMAS`]. Of others, how many they were.
    was: f64,
    others_were: f64,
}

impl Pace {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    fn of(
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

    fn plus(self, other: &Self) -> Self {
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
    fn slower(&self, enough: u64, limit: usize) -> Option<String> {
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

/// What part of all.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn share((part, all): (u64, u64)) -> f64 {
    if all == 0 {
        0.0
    } else {
        part.min(all) as f64 / all as f64
    }
}

/// The least that the share behind this sample is, as sure as [`SIGMAS`].
fn at_least(of: (u64, u64)) -> f64 {
    interval(of).0
}

/// The most that it is.
fn at_most(of: (u64, u64)) -> f64 {
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
