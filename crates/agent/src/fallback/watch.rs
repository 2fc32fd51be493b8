//! What is seen of backends, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_model::{BackendName, SplitName, sabotaged};
use weir_planner::{Counts, Destination, Item, KeptShare, ServiceFact, ServiceState, ZonePlan};

use super::resolves;
use super::stamps::Stamps;
use crate::activation::Moment;
use crate::take::Memory;

/// One bad request is nothing: so many have to fail, and at least half of all.
const FAILURES: u64 = 5;
/// Failures so long ago say nothing of now.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Without a fallback nothing is done in seconds, and what passes is not told.
const LOUD: SignedDuration = SignedDuration::from_secs(5);

/// What is seen of backends, since when. In memory alone: after a restart everything has to be seen again.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    splits: BTreeMap<SplitName, BTreeMap<BackendName, Seen>>,
    /// When counters of a split's callers last came, by the clock that they are stamped with and by ours.
    heard: BTreeMap<SplitName, (Option<Timestamp>, Instant)>,
    /// How long ago that was which is remembered of shares elsewhere.
    pub(super) stamps: Stamps,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// Counters as they were read last.
    last: Option<Read>,
    /// Requests since they began to fail.
    failing: Option<Failing>,
    /// Since when Kuma calls it unavailable.
    unavailable: Option<Instant>,
    /// Where its MeshService was when it was last there.
    place: Option<Destination>,
    /// Since when that is not there any more, which it was, or must have been.
    vanished: Option<Moment>,
    /// Since when all that is asked of a backend before it gets weight is so.
    well: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    at: Instant,
    since: Timestamp,
    sent: u64,
    down: u64,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    last: Instant,
    sent: u64,
    down: u64,
}

impl Watch {
    /// Takes counters that were just read; one for each item, in their order.
    pub fn count(&mut self, items: &[Arc<Item>], counts: &[Option<Counts>], now: Instant) {
        self.splits
            .retain(|split, _| items.iter().any(|item| item.split == *split));
        self.heard
            .retain(|split, _| items.iter().any(|item| item.split == *split));
        for (item, counts) in items.iter().zip(counts) {
            let at = counts.as_ref().map(|counts| counts.at);
            let heard = self.heard.entry(item.split.clone()).or_insert((at, now));
            if heard.0 != at {
                *heard = (at, now);
            }
            let Some(counts) = counts else { continue };
            let seen = self.splits.entry(item.split.clone()).or_default();
            seen.retain(|backend, _| item.destinations.contains_key(backend));
            for backend in item.destinations.keys() {
                let of =
                    |counts: &BTreeMap<BackendName, u64>| counts.get(backend).copied().unwrap_or_default();
                let read = Read {
                    at: now,
                    since: counts.since,
                    sent: of(&counts.requests),
                    down: of(&counts.down),
                };
                seen.entry(backend.clone()).or_default().count(read);
            }
        }
    }

    /// Takes what the zone's control plane says. What is not there and never was has not vanished: a backend that is declared
    /// before it runs. What has weight in force was there, whoever saw it.
    pub fn see(&mut self, items: &[Arc<Item>], services: &[ServiceFact], memory: &Memory, at: Moment) {
        let (now, _) = at;
        // Few are, of thousands that there may be.
        let unavailable: BTreeSet<_> = services
            .iter()
            .filter(|fact| fact.state == ServiceState::Unavailable)
            .map(|fact| (&fact.service, &fact.kuma_zone, &fact.namespace))
            .collect();
        let there: BTreeSet<_> = services
            .iter()
            .map(|fact| (&fact.service, &fact.kuma_zone, &fact.namespace))
            .collect();
        for item in items {
            let in_force = memory.applied.get(&item.split);
            let weighted = |backend: &BackendName, to: &Destination| {
                in_force.is_some_and(|item| {
                    item.destinations.get(backend) == Some(to) && item.weighted().contains(&backend)
                })
            };
            let seen = self.splits.entry(item.split.clone()).or_default();
            for (backend, to) in &item.destinations {
                let seen = seen.entry(backend.clone()).or_default();
                let unavailable = unavailable.contains(&(&to.service, &to.kuma_zone, &to.namespace));
                seen.unavailable = unavailable.then(|| seen.unavailable.unwrap_or(now));
                if there.contains(&(&to.service, &to.kuma_zone, &to.namespace)) {
                    (seen.place, seen.vanished) = (Some(to.clone()), None);
                } else if seen.place.as_ref() == Some(to) || weighted(backend, to) {
                    seen.vanished.get_or_insert(at);
                } else {
                    (seen.place, seen.vanished) = (None, None);
                }
                // Nobody asks that of a backend that never leaves.
                let well = item.fallback.contains_key(backend) && resolves(item, backend, services);
                seen.well = well.then(|| seen.well.unwrap_or(now));
            }
        }
    }

    pub(super) fn forget<'a>(&mut self, split: &SplitName, backends: impl Iterator<Item = &'a BackendName>) {
        let Some(seen) = self.splits.get_mut(split) else {
            return;
        };
        for backend in backends {
            if let Some(seen) = seen.get_mut(backend) {
                seen.failing = None;
            }
        }
    }

    /// Why a backend is down for at least so long, if it is.
    pub(super) fn down(
        &self,
        split: &SplitName,
        backend: &BackendName,
        after: SignedDuration,
        now: Instant,
    ) -> Option<String> {
        let seen = self.splits.get(split)?.get(backend)?;
        let long =
            |since: Instant| SignedDuration::try_from(now.duration_since(since)).is_ok_and(|is| is >= after);
        if let Some(failing) = seen.failing
            && failing.down >= if sabotaged("one-failure") { 1 } else { FAILURES }
            && now.duration_since(failing.last) < FORGOTTEN
            && long(failing.since)
        {
            return Some(format!(
                "{} of {} requests to it within {:.1} s found nobody there",
                failing.down,
                failing.sent,
                now.duration_since(failing.since).as_secs_f64()
            ));
        }
        if let Some((_, stamp)) = seen.vanished.filter(|(since, _)| long(*since)) {
            return Some(format!(
                "its MeshService vanished from this zone's control plane at {stamp:.0}"
            ));
        }
        let since = seen.unavailable.filter(|since| long(*since))?;
        Some(format!(
            "its MeshService is Unavailable for {:.0} s",
            now.duration_since(since).as_secs_f64()
        ))
    }

    /// Since when the MeshService of a backend is gone that was there; none if it is there, or never was.
    fn gone(&self, split: &SplitName, backend: &BackendName) -> Option<Timestamp> {
        let seen = self.splits.get(split)?.get(backend)?;
        seen.vanished.map(|(_, stamp)| stamp)
    }

    /// The backends of an item whose MeshService vanished.
    pub fn vanished(&self, split: &SplitName) -> BTreeSet<BackendName> {
        let all = self.splits.get(split).into_iter().flatten();
        all.filter(|(_, seen)| seen.vanished.is_some())
            .map(|(backend, _)| backend.clone())
            .collect()
    }

    pub(super) fn well(
        &self,
        split: &SplitName,
        backend: &BackendName,
        for_so_long: SignedDuration,
        now: Instant,
    ) -> bool {
        let seen = self.splits.get(split).and_then(|split| split.get(backend));
        let since = seen.and_then(|seen| seen.well);
        since.is_some_and(|since| {
            SignedDuration::try_from(now.duration_since(since)).is_ok_and(|is| is >= for_so_long)
        })
    }

    /// What people should know of backends that are down and whose share stays where it is.
    pub fn alarms(&self, plan: &ZonePlan, memory: &Memory, now: Instant) -> Vec<String> {
        let mut alarms = Vec::new();
        for item in plan.items.values() {
            if !item.fallback.is_empty()
                && let Some((_, heard)) = self.heard.get(&item.split)
                && now.duration_since(*heard) >= FORGOTTEN
            {
                alarms.push(format!(
                    "split {} declares a fallback, and for {} s no requests of its callers were counted here: only a \
                     MeshService that is Unavailable moves a share. That is as it should be if no caller is on this host and \
                     other agents count; if not, see what else is noted of proxies, and kuma.envoyAdmin, or \
                     kuma.kubernetes.metrics in a cluster",
                    item.split,
                    now.duration_since(*heard).as_secs()
                ));
            }
            for (backend, to) in &item.destinations {
                let gone = self.gone(&item.split, backend);
                alarms.extend(gone.map(|since| without(item, memory, (backend, to), since)));
            }
            let kept = self.kept(item, memory, now);
            alarms.extend(kept.iter().map(|(backend, KeptShare { share, why, help })| {
                format!(
                    "backend {backend} of split {} is down, and keeps its share of {share} %: {why}. {help}",
                    item.split
                )
            }));
        }
        alarms
    }

    /// Backends that are down and whose share stays where it is: by split, of those that have any.
    pub fn failing(
        &self,
        plan: &ZonePlan,
        memory: &Memory,
        now: Instant,
    ) -> BTreeMap<SplitName, BTreeMap<BackendName, KeptShare>> {
        let all = plan.items.values();
        all.map(|item| (item.split.clone(), self.kept(item, memory, now)))
            .filter(|(_, kept)| !kept.is_empty())
            .collect()
    }

    /// Those of one split. What counts is what is in force: a plan that leaves the dead and cannot be applied leaves nobody.
    /// Whose MeshService vanished keeps nothing, for Kuma gives it away.
    fn kept(&self, item: &Arc<Item>, memory: &Memory, now: Instant) -> BTreeMap<BackendName, KeptShare> {
        let split = &item.split;
        let item = memory.applied.get(split).unwrap_or(item);
        let driven = super::driven(item, memory);
        let away = memory.fallen.get(split).map(|fallen| &fallen.down);
        let stays = |backend: &&BackendName| {
            self.gone(split, backend).is_none() && away.is_none_or(|away| !away.contains_key(*backend))
        };
        let mut kept = BTreeMap::new();
        for backend in driven.weighted().into_iter().filter(stays) {
            let fallback = item.fallback.get(backend);
            let after = fallback.map_or(LOUD, |fallback| fallback.after.max(LOUD));
            let Some(seen) = self.down(split, backend, after, now) else {
                continue;
            };
            let (what, help) = keeps(item, memory, backend);
            let shares = driven
                .routes
                .iter()
                .filter_map(|route| route.weights.get(backend));
            let share = KeptShare {
                share: shares.max().copied().unwrap_or_default(),
                why: format!("{seen}; {what}"),
                help,
            };
            kept.insert(backend.clone(), share);
        }
        kept
    }
}

/// Why nobody takes the share of a backend that is down, and what to do.
fn keeps(item: &Item, memory: &Memory, backend: &BackendName) -> (&'static str, String) {
    let split = &item.split;
    if memory.is_pinned(item) {
        let help = format!(
            "Pin other weights on that host (`weir-agent pin`), or end the pin there (`weir-agent unpin --split {split}`): then what \
             Git declares holds"
        );
        return ("the split is pinned here", help);
    }
    let away = format!(
        "Take its weight away in Git (a `git revert` goes everywhere at once), or with `weir drain {split} {backend} --reason WHY`, or on a host \
         of this zone with `weir-agent pin`"
    );
    match item.fallback.contains_key(backend) {
        true => (
            "no backend of its fallback is up, resolves and has the capacity",
            away,
        ),
        false => (
            "no fallback is declared for it",
            format!("{away}; with a `fallback` in the split its zones do that by themselves"),
        ),
    }
}

/// What it means that a MeshService is gone, and what to do.
fn without(
    item: &Item,
    memory: &Memory,
    (backend, to): (&BackendName, &Destination),
    since: Timestamp,
) -> String {
    let fallen = memory.fallen.get(&item.split);
    let away = fallen.and_then(|fallen| fallen.down.get(backend));
    let is_pinned = memory.is_pinned(memory.applied.get(&item.split).map_or(item, Arc::as_ref));
    let share = match away {
        _ if !item.weighted().contains(&backend) => {
            "it has no share here; if it went for good, take it out of the split".to_owned()
        }
        Some(away) if !is_pinned => format!("by the declared fallback its share goes to {}", away.to),
        _ => "Kuma drops its share without a word and gives it to the other backends, whatever is declared"
            .to_owned(),
    };
    format!(
        "the MeshService of backend {backend} of split {} ({} of Kuma zone {}) vanished from this zone's control plane at \
         {since:.0}: {share}. A control plane that came back with an empty store has its services again within seconds; if this \
         stays, look there whether the service still runs, and whether Kuma's global control plane knows that zone",
        item.split, to.service, to.kuma_zone
    )
}

impl Seen {
    fn count(&mut self, read: Read) {
        let before = self.last.replace(read);
        let Some(before) = before.filter(|before| before.since == read.since) else {
            self.failing = None;
            return;
        };
        let sent = read.sent.saturating_sub(before.sent);
        let down = read.down.saturating_sub(before.down);
        if sent == 0 && down == 0 {
            // Nobody asked, so nothing is known of this time; and what was known grows old.
            let old = |failing: &Failing| read.at.duration_since(failing.last) >= FORGOTTEN;
            self.failing = self.failing.filter(|failing| !old(failing));
            return;
        }
        if down.saturating_mul(2) < sent.max(1) {
            self.failing = None;
            return;
        }
        let failing = self.failing.get_or_insert(Failing {
            since: before.at,
            last: read.at,
            sent: 0,
            down: 0,
        });
        failing.last = read.at;
        failing.sent = failing.sent.saturating_add(sent);
        failing.down = failing.down.saturating_add(down);
    }
}
