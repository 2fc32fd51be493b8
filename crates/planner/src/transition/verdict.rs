//! What counted traffic says of a step: failures of the backends that gained, and how long they take to answer, against those
//! of the whole split before.

mod pace;
mod usual;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{BackendName, BasisPoints, Split};

use super::between;
use crate::course::Items;
use crate::facts::Counts;
use crate::latency::Latency;
use crate::plan::Destination;
use pace::{Pace, slow_from};
use usual::{Earlier, SINCE_PROOF, Usual, fails, mends};

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

/// The backends that have more weight somewhere than what was in their place when this leg began. Where routes take other requests
/// than before, whoever has weight in one of them may have got requests that he never had.
pub(super) fn gaining(from: &Items, now: &Items) -> BTreeSet<BackendName> {
    let mut gaining = BTreeSet::new();
    for (zone, item) in now {
        let was = from.get(zone);
        let place = |name| item.destinations.get(name).map(Destination::in_kuma);
        // The requests of a route that went come by the others now.
        let gone = was.is_some_and(|was| {
            let mut routes = was.routes.iter();
            routes.any(|route| between::same_route(item, route).is_none())
        });
        for route in &item.routes {
            let same = was
                .filter(|_| !gone)
                .and_then(|was| between::same_route(was, route));
            for (name, weight) in &route.weights {
                // By place: a backend that keeps its name and moves gets requests that it never had.
                let before = was.zip(same).and_then(|(was, same)| {
                    let same_place = same.weights.keys().find(|old| {
                        let there = was.destinations.get(*old).map(Destination::in_kuma);
                        there.is_some() && there == place(name)
                    });
                    same_place.and_then(|old| same.weights.get(old).copied())
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
    /// Of each backend that gained, where there are several: since the step, and of that since its proof.
    each: BTreeMap<BackendName, [Grown; 2]>,
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
    let base_of = |counter: &String, counts: &Counts| {
        let base = before.get(counter).filter(|base| base.since == counts.since);
        (base.is_some() || counts.since >= taken).then_some(base)
    };
    let earlier = Earlier::of(before, enough, || {
        let comparable = now
            .iter()
            .filter_map(|(counter, counts)| Some((counts, base_of(counter, counts)?)));
        let beside = comparable.map(|(counts, base)| {
            let others = counts
                .requests
                .keys()
                .filter(|backend| !gaining.contains(*backend));
            Grown::of_all(counts, base, others)
        });
        beside.fold(Grown::default(), |sum, one| sum.plus(&one))
    });
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
        let Some(base) = base_of(counter, counts) else {
            continue;
        };
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
        for backend in gaining.iter().filter(|_| gaining.len() > 1) {
            let here = Grown::of(counts, base, backend);
            let fresh = since.map(|since| Grown::of(counts, Some(since), backend).capped(&here));
            let each = zone.each.entry(backend.clone()).or_default();
            *each = [each[0].plus(&here), each[1].plus(&fresh.unwrap_or_default())];
        }
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
    let mut each: BTreeMap<&BackendName, ([Grown; 2], [f64; 2])> = BTreeMap::new();
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
        for (backend, [here, fresh]) in &zone.each {
            let (grown, mixed) = each.entry(backend).or_default();
            *grown = [grown[0].plus(here), grown[1].plus(fresh)];
            *mixed = [mixed[0] + usual.expects(here), mixed[1] + usual.expects(fresh)];
        }
    }
    // A backend that gets little fails without a trace among those that get much.
    for (backend, ([here, fresh], mixed)) in &each {
        let usual = [Usual::mixed(mixed[0], here), Usual::mixed(mixed[1], fresh)];
        if let Some(why) = fails([here, fresh], &usual, enough) {
            return Traffic::Bad(format!("backend {backend}: {why}"));
        }
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
    if let Some(why) = why.filter(|_| !mends(&earlier.all, &total)) {
        return Traffic::Bad(format!("all zones together: {why}"));
    }
    let few = each.iter().find(|(_, ([_, fresh], _))| fresh.requests < enough);
    if let Some((backend, ([_, fresh], _))) = few {
        return Traffic::Little(format!(
            "insufficient data: {} of {enough} requests to {backend}, which gained weight, {SINCE_PROOF}",
            fresh.requests
        ));
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
