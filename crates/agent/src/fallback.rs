//! Where a backend's share goes while it is down. Pure: counters, states and time come in, what is down comes out.
//!
//! What is down is known from the callers' own Envoys: requests that were answered 503 or got no connection. A MeshService's
//! state alone is blind (`kuma.md` R10, R11), but what it says is believed as well. A zone's agents act alone, coordinator
//! or not. Several of one zone drive the same policy, so what one of them decided stands on the policy's label, with when;
//! the newest word counts for all, and they render the same from it.
//!
//! An item keeps its digest and its generation: it is the same item, with a share elsewhere for now.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use weir_model::{BackendName, BasisPoints, SplitName};
use weir_planner::{Counts, Generation, Item, ServiceFact, ServiceState, ZonePlan};
use weir_render::{FALLEN, Object};

use crate::decide::SPLIT;
use crate::take::Memory;

/// One bad request is nothing: so many have to fail, and at least half of all.
const FAILURES: u64 = 5;
/// A backend that fails each time that it comes back is tried again after twice as long each time, up to this.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
/// As many stand on a label.
const MOST: usize = 3;
/// Hexadecimal digits of a backend's name on a label.
const DIGITS: usize = 6;
/// A word from so far ahead of our clock is nobody's.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// Without a fallback nothing is done in seconds, and what passes is not told.
const LOUD: SignedDuration = SignedDuration::from_secs(5);

/// What is down of one split, and since when that is so decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallbacks {
    /// When this was decided. Of several agents' words the newest counts.
    pub at: Timestamp,
    /// The backends that are down.
    pub down: BTreeMap<BackendName, Down>,
    /// How often each went down lately.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub falls: BTreeMap<BackendName, Falls>,
}

/// A backend that is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Down {
    /// Who has its share.
    pub to: BackendName,
    /// Since when.
    pub since: Timestamp,
    /// What was seen.
    pub why: String,
}

/// How often a backend went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Falls {
    /// So often, each time soon after it had come back.
    pub count: u32,
    /// When it last went or came back.
    pub last: Timestamp,
}

/// What is seen of backends, since when. In memory alone: after a restart everything has to be seen again.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    splits: BTreeMap<SplitName, BTreeMap<BackendName, Seen>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// Counters as they were read last.
    last: Option<Read>,
    /// Requests since they began to fail.
    failing: Option<Failing>,
    /// Since when Kuma calls it unavailable.
    unavailable: Option<Instant>,
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
    sent: u64,
    down: u64,
}

impl Watch {
    /// Takes counters that were just read; one for each item, in their order.
    pub fn count(&mut self, items: &[Arc<Item>], counts: &[Option<Counts>], now: Instant) {
        self.splits
            .retain(|split, _| items.iter().any(|item| item.split == *split));
        for (item, counts) in items.iter().zip(counts) {
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

    /// Takes what the zone's control plane says.
    pub fn see(&mut self, items: &[Arc<Item>], services: &[ServiceFact], now: Instant) {
        for item in items {
            let seen = self.splits.entry(item.split.clone()).or_default();
            for (backend, to) in &item.destinations {
                let seen = seen.entry(backend.clone()).or_default();
                let unavailable = services.iter().any(|fact| {
                    (&fact.service, &fact.kuma_zone, &fact.namespace)
                        == (&to.service, &to.kuma_zone, &to.namespace)
                        && fact.state == ServiceState::Unavailable
                });
                seen.unavailable = unavailable.then(|| seen.unavailable.unwrap_or(now));
                seen.well = resolves(item, backend, services).then(|| seen.well.unwrap_or(now));
            }
        }
    }

    fn forget<'a>(&mut self, split: &SplitName, backends: impl Iterator<Item = &'a BackendName>) {
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
    fn down(
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
            && failing.down >= FAILURES
            && long(failing.since)
        {
            return Some(format!(
                "{} of {} requests to it within {:.1} s found nobody there",
                failing.down,
                failing.sent,
                now.duration_since(failing.since).as_secs_f64()
            ));
        }
        let since = seen.unavailable.filter(|since| long(*since))?;
        Some(format!(
            "its MeshService is Unavailable for {:.0} s",
            now.duration_since(since).as_secs_f64()
        ))
    }

    fn well(
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
            for backend in item.weighted() {
                let is_away = memory
                    .fallen
                    .get(&item.split)
                    .is_some_and(|fallen| fallen.down.contains_key(backend));
                let after = item
                    .fallback
                    .get(backend)
                    .map_or(LOUD, |fallback| fallback.after.max(LOUD));
                let Some(why) = self.down(&item.split, backend, after, now).filter(|_| !is_away) else {
                    continue;
                };
                let what = if memory.pins.of(&item.split).is_some() {
                    "the split is pinned here"
                } else if item.fallback.contains_key(backend) {
                    "no backend of its fallback is up, resolves and has the capacity"
                } else {
                    "no fallback is declared for it"
                };
                alarms.push(format!(
                    "backend {backend} of split {} is down, and keeps its share: {why}; {what}. Change its weight in Git, or \
                     `weir-agent pin` it here",
                    item.split
                ));
            }
        }
        alarms
    }
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
            // Nobody asked, so nothing is known of this time.
            return;
        }
        if down * 2 < sent.max(1) {
            self.failing = None;
            return;
        }
        let failing = self.failing.get_or_insert(Failing {
            since: before.at,
            sent: 0,
            down: 0,
        });
        failing.sent += sent;
        failing.down += down;
    }
}

/// Whether the zone resolves a backend as it must before weight is given (I3).
fn resolves(item: &Item, backend: &BackendName, services: &[ServiceFact]) -> bool {
    let mut alone = item.clone();
    for route in &mut alone.routes {
        route.weights = BTreeMap::from([(backend.clone(), BasisPoints::WHOLE)]);
    }
    weir_render::backends_ready(&alone, services).is_ok()
}

/// What is decided of each split, if that changes: by what other agents' labels say, and by what is watched.
pub fn look(
    plan: &ZonePlan,
    memory: &Memory,
    (ours, services): (&[(Object, Generation)], &[ServiceFact]),
    watch: &mut Watch,
    (now, stamp): (Instant, Timestamp),
) -> BTreeMap<SplitName, Fallbacks> {
    let mut all = BTreeMap::new();
    for item in plan.items.values() {
        if item.fallback.is_empty() {
            continue;
        }
        let mut known = memory.fallen.get(&item.split).cloned();
        if let Some(word) = word(item, ours, stamp)
            && known.as_ref().is_none_or(|known| known.at < word.at)
        {
            known = Some(adopted(known, word));
        }
        // What failed until the share was away everywhere, and what was known when it went, is no evidence any more when it
        // comes back.
        if let Some(known) = &known {
            watch.forget(&item.split, known.down.keys());
        }
        if memory.pins.of(&item.split).is_none()
            && let Some(next) = next(item, known.as_ref(), services, watch, (now, stamp))
        {
            known = Some(next);
        }
        all.extend(known.map(|known| (item.split.clone(), known)));
    }
    all
}

/// Whether a look is due: something went down.
pub fn is_due(plan: &ZonePlan, memory: &Memory, watch: &Watch, now: Instant) -> bool {
    plan.items.values().any(|item| {
        let known = memory.fallen.get(&item.split);
        let pinned = memory.pins.of(&item.split).is_some();
        item.fallback.iter().any(|(backend, fallback)| {
            let is_away = known.is_some_and(|known| known.down.contains_key(backend));
            !pinned
                && !is_away
                && item.weighted().contains(&backend)
                && watch.down(&item.split, backend, fallback.after, now).is_some()
        })
    })
}

/// The next word of this agent, if it has one to say.
fn next(
    item: &Item,
    known: Option<&Fallbacks>,
    services: &[ServiceFact],
    watch: &Watch,
    (now, stamp): (Instant, Timestamp),
) -> Option<Fallbacks> {
    let mut next = known.cloned().unwrap_or(Fallbacks {
        at: Timestamp::UNIX_EPOCH,
        down: BTreeMap::new(),
        falls: BTreeMap::new(),
    });
    next.down.retain(|backend, _| item.fallback.contains_key(backend));
    // Who has been well for long enough comes back.
    let back: Vec<BackendName> = next
        .down
        .iter()
        .filter(|(backend, down)| {
            let falls = next.falls.get(*backend).map_or(1, |falls| falls.count);
            let recover = item
                .fallback
                .get(*backend)
                .map_or(LONGEST, |fallback| fallback.recover);
            let doubled = recover.saturating_mul(1 << falls.saturating_sub(1).min(20));
            let wait = doubled.min(LONGEST.max(recover));
            stamp.duration_since(down.since) >= wait && watch.well(&item.split, backend, wait, now)
        })
        .map(|(backend, _)| backend.clone())
        .collect();
    for backend in back {
        next.down.remove(&backend);
        if let Some(falls) = next.falls.get_mut(&backend) {
            falls.last = stamp;
        }
    }
    for (backend, fallback) in &item.fallback {
        if next.down.contains_key(backend) || !item.weighted().contains(&backend) || next.down.len() >= MOST {
            continue;
        }
        let Some(why) = watch.down(&item.split, backend, fallback.after, now) else {
            continue;
        };
        let count = next
            .falls
            .get(backend)
            .filter(|falls| stamp.duration_since(falls.last) < LONGEST)
            .map_or(0, |falls| falls.count);
        next.falls.insert(
            backend.clone(),
            Falls {
                count: count.saturating_add(1),
                last: stamp,
            },
        );
        let down = Down {
            to: backend.clone(),
            since: stamp,
            why,
        };
        next.down.insert(backend.clone(), down);
    }
    // Who takes over follows from who is down: the first of each list that is up, resolves and has room.
    let names: Vec<BackendName> = next.down.keys().cloned().collect();
    for name in names {
        let refuge = refuge(item, &next, &name, services, watch, now);
        match (refuge, next.down.get_mut(&name)) {
            (Some(refuge), Some(down)) => down.to = refuge,
            // Nobody takes it: it keeps its share, and the alarm says so. Who went there before stays there.
            (None, Some(down)) if down.to == name => {
                next.down.remove(&name);
                next.falls.remove(&name);
            }
            _ => {}
        }
    }
    let shares = |of: &Fallbacks| -> Vec<_> {
        let down = of.down.iter();
        down.map(|(name, down)| (name.clone(), down.to.clone())).collect()
    };
    let before = known.map(shares).unwrap_or_default();
    if shares(&next) == before {
        return None;
    }
    next.at = stamp.max(
        next.at
            .saturating_add(SignedDuration::from_millis(1))
            .unwrap_or(stamp),
    );
    Some(next)
}

/// Who takes a backend's share: for as long as he can, who has it.
fn refuge(
    item: &Item,
    fallen: &Fallbacks,
    backend: &BackendName,
    services: &[ServiceFact],
    watch: &Watch,
    now: Instant,
) -> Option<BackendName> {
    let list = &item.fallback.get(backend)?.to;
    let mut without = fallen.clone();
    without.down.remove(backend);
    let before = over(item, &without);
    let takes = |to: &&weir_planner::Refuge| {
        let up = !fallen.down.contains_key(&to.backend)
            && item.destinations.contains_key(&to.backend)
            && watch
                .down(&item.split, &to.backend, SignedDuration::ZERO, now)
                .is_none()
            && resolves(item, &to.backend, services);
        let room = to.capacity.is_none_or(|capacity| {
            before.routes.iter().all(|route| {
                let of = |name| route.weights.get(name).map_or(0, |weight| weight.get());
                of(backend) == 0 || of(backend) + of(&to.backend) <= capacity.get()
            })
        });
        up && room
    };
    let has = fallen.down.get(backend).map(|down| &down.to);
    let stays = list.iter().find(|to| Some(&to.backend) == has).filter(takes);
    stays
        .or_else(|| list.iter().find(takes))
        .map(|to| to.backend.clone())
}

/// The item with shares elsewhere. Its digest and its generation stay.
pub fn over(item: &Item, fallen: &Fallbacks) -> Item {
    let mut item = item.clone();
    for route in &mut item.routes {
        let away: Vec<(BackendName, BackendName)> = route
            .weights
            .iter()
            .filter(|(_, weight)| **weight > BasisPoints::ZERO)
            .filter_map(|(name, _)| Some((name.clone(), fallen.down.get(name)?.to.clone())))
            .filter(|(name, to)| {
                name != to && item.fallback.contains_key(name) && item.destinations.contains_key(to)
            })
            .collect();
        for (name, to) in away {
            let share = route
                .weights
                .insert(name, BasisPoints::ZERO)
                .unwrap_or(BasisPoints::ZERO);
            let has = route.weights.get(&to).copied().unwrap_or(BasisPoints::ZERO);
            let both = BasisPoints::new(share.get() + has.get()).unwrap_or(BasisPoints::WHOLE);
            route.weights.insert(to, both);
        }
    }
    item
}

/// What of an item is driven now: with shares elsewhere, unless it is pinned.
pub fn driven(item: &Arc<Item>, memory: &Memory) -> Arc<Item> {
    match memory.fallen.get(&item.split) {
        Some(fallen) if memory.pins.of(&item.split).is_none() && !item.fallback.is_empty() => {
            let over = over(item, fallen);
            if over == **item {
                Arc::clone(item)
            } else {
                Arc::new(over)
            }
        }
        _ => Arc::clone(item),
    }
}

/// What people are told of an item whose shares are elsewhere; none if they are where the item says.
pub fn told(item: &Item, memory: &Memory) -> Option<weir_planner::Fallen> {
    let fallen = memory.fallen.get(&item.split)?;
    if memory.pins.of(&item.split).is_some() || item.fallback.is_empty() || over(item, fallen) == *item {
        return None;
    }
    let each = fallen
        .down
        .iter()
        .filter(|(name, _)| item.weighted().contains(name));
    let each: Vec<String> = each
        .map(|(name, down)| {
            format!(
                "the share of {name} goes to {} since {:.0}: {}",
                down.to, down.since, down.why
            )
        })
        .collect();
    let since = fallen
        .down
        .values()
        .map(|down| down.since)
        .min()
        .unwrap_or(fallen.at);
    Some(weir_planner::Fallen {
        since,
        why: each.join("; "),
    })
}

/// The label of a split's objects; none if nothing of it was ever down.
pub(crate) fn label(item: &Item, memory: &Memory) -> Option<String> {
    let fallen = memory.fallen.get(&item.split)?;
    if item.fallback.is_empty() {
        return None;
    }
    let pairs: Vec<String> = fallen
        .down
        .iter()
        .take(MOST)
        .map(|(name, down)| format!("{}{}", short(name), short(&down.to)))
        .collect();
    let pairs = if pairs.is_empty() {
        "up".to_owned()
    } else {
        pairs.join("-")
    };
    Some(format!("{pairs}.{}", fallen.at.as_millisecond().max(0)))
}

/// Puts it on objects.
pub(crate) fn mark(objects: &mut [Object], item: &Item, memory: &Memory) {
    if let Some(label) = label(item, memory) {
        for object in objects {
            object.labels.insert(FALLEN.to_owned(), label.clone());
        }
    }
}

fn short(name: &BackendName) -> String {
    let mut hex = blake3::hash(name.as_str().as_bytes()).to_hex().to_string();
    hex.truncate(DIGITS);
    hex
}

/// What a label says: when, and who has whose share.
struct Word {
    at: Timestamp,
    away: Vec<(BackendName, BackendName)>,
}

/// The newest word on the split's live objects.
fn word(item: &Item, ours: &[(Object, Generation)], stamp: Timestamp) -> Option<Word> {
    let of_split =
        |object: &Object| object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str());
    let words = ours
        .iter()
        .filter(|(object, _)| of_split(object))
        .filter_map(|(object, _)| read(item, object.labels.get(FALLEN)?));
    words
        .filter(|word| word.at.duration_since(stamp) <= AHEAD)
        .max_by_key(|word| word.at)
}

fn read(item: &Item, label: &str) -> Option<Word> {
    let (pairs, at) = label.rsplit_once('.')?;
    let at = Timestamp::from_millisecond(at.parse().ok()?).ok()?;
    let named = |hex: &str| {
        let mut same = item.destinations.keys().filter(|name| short(name) == hex);
        same.next().filter(|_| same.next().is_none()).cloned()
    };
    let away = match pairs {
        "up" => Vec::new(),
        pairs => pairs
            .split('-')
            .map(|pair| {
                let from = pair.get(..DIGITS).and_then(named)?;
                let to = pair.get(DIGITS..).and_then(named)?;
                Some((from, to))
            })
            .collect::<Option<Vec<_>>>()?,
    };
    Some(Word { at, away })
}

/// Another agent's newer word in the place of what was known.
fn adopted(known: Option<Fallbacks>, word: Word) -> Fallbacks {
    let (before, mut falls) = known.map_or_else(Default::default, |known| (known.down, known.falls));
    let mut down = BTreeMap::new();
    for (name, to) in word.away {
        let is = before.get(&name).cloned().unwrap_or(Down {
            to: to.clone(),
            since: word.at,
            why: "another agent of this zone found nobody there".to_owned(),
        });
        falls.entry(name.clone()).or_insert(Falls {
            count: 1,
            last: word.at,
        });
        down.insert(name, Down { to, ..is });
    }
    Fallbacks {
        at: word.at,
        down,
        falls,
    }
}
