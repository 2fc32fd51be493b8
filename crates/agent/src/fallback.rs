//! Where a backend's share goes while it is down. Pure: counters, states and time come in, what is down comes out.
//!
//! What is down is known from the callers' own Envoys: requests that were answered 503 or got no connection. A MeshService's
//! state alone is blind (`kuma.md` R10, R11), but what it says is believed as well. A zone's agents act alone, coordinator
//! or not. Several of one zone drive the same policy, so what one of them decided stands on the policy's label, with when;
//! the newest word counts for all, and they render the same from it.
//!
//! An item keeps its digest and its generation: it is the same item, with a share elsewhere for now.

mod label;
mod refuge;
mod stamps;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use weir_model::{BackendName, BasisPoints, SplitName, sabotaged};
use weir_planner::{Generation, Item, ServiceFact, ZonePlan};
use weir_render::Object;

use crate::activation::Moment;
use crate::decide::applied;
use crate::take::Memory;
use label::{Word, word};
use refuge::{end, overflows, passing, refuge, resolves, still_resolves, takes_by_table};

pub(crate) use label::mark;
pub use watch::Watch;

/// A backend that fails each time that it comes back is tried again after twice as long each time, up to this.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
/// Who has another one's share is not left for a third within this.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// As many stand on a label.
const MOST: usize = 3;

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
    /// Since when that one has it.
    pub moved: Timestamp,
    /// What was seen.
    pub why: String,
    /// Whether this is known to have been in force: its zone's policy said so when it was last read, or was so written. What
    /// an agent of before this kept says nothing of it, and begins nothing (I3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
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

impl Fallbacks {
    /// Who has whose share.
    fn shares(&self) -> Vec<(BackendName, BackendName)> {
        let down = self.down.iter();
        down.map(|(name, down)| (name.clone(), down.to.clone())).collect()
    }

    /// The split's policy was written as this says.
    pub fn were_written(&mut self) {
        for down in self.down.values_mut() {
            down.written = true;
        }
    }
}

/// The items that are in force, or come into force now: of a split whose new item cannot be applied yet, the one before. One that
/// another agent of the zone applied is in force, also where it could not be applied now: what stands on its label is said of it.
pub fn stands(
    plan: &ZonePlan,
    memory: &Memory,
    (ours, services): (&[(Object, Generation)], &[ServiceFact]),
) -> Vec<Arc<Item>> {
    let stands = |item: &Arc<Item>| match memory.applied.get(&item.split) {
        Some(before)
            if !applied(item, memory, ours)
                && weir_render::backends_ready(item, Some(before), services).is_err() =>
        {
            Arc::clone(before)
        }
        _ => Arc::clone(item),
    };
    plan.items.values().map(stands).collect()
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
    for item in &stands(plan, memory, (ours, services)) {
        if item.fallback.is_empty() {
            continue;
        }
        let mut known = memory.fallen.get(&item.split).cloned();
        let word = word(item, ours, stamp);
        let live = word.as_ref().map(|word| word.away.clone()).unwrap_or_default();
        let live = label::is_there(item, ours).then_some(live.as_slice());
        if let Some(word) = word
            && known
                .as_ref()
                .is_none_or(|known| (known.at, known.shares()) < (word.at, word.away.clone()))
        {
            known = Some(adopted(item, known, word, watch, (now, stamp)));
        }
        // What failed until the share was away everywhere, and what was known when it went, is no evidence any more when it
        // comes back.
        if let Some(known) = &mut known {
            watch.forget(&item.split, known.down.keys());
            for down in known.down.values_mut() {
                for then in [&mut down.since, &mut down.moved] {
                    watch.stamps.not_ahead(then, (now, stamp));
                }
            }
            // Where the policy went with a lost store, what it last said is remembered.
            if let Some(live) = live {
                for (name, down) in &mut known.down {
                    down.written = live.iter().any(|(away, to)| (away, to) == (name, &down.to));
                }
            }
        }
        if !memory.is_pinned(item)
            && let Some(next) = next(item, known.as_ref(), services, watch, (now, stamp))
        {
            known = Some(next);
        }
        all.extend(known.map(|known| (item.split.clone(), known)));
    }
    watch.stamps.keep(&all, (now, stamp));
    all
}

/// Whether a look is due: something went down.
pub fn is_due(plan: &ZonePlan, memory: &Memory, watch: &Watch, now: Instant) -> bool {
    plan.items.values().any(|item| {
        let known = memory.fallen.get(&item.split);
        let pinned = memory.is_pinned(memory.applied.get(&item.split).unwrap_or(item));
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
    for (backend, down) in &mut next.down {
        // A table that was changed: who has the share by the old one is asked for anew.
        if !takes_by_table(item, backend, &down.to) {
            (down.to, down.written) = (backend.clone(), false);
        }
    }
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
            let wait = match sabotaged("come-back-at-once") {
                true => SignedDuration::ZERO,
                false => wait,
            };
            watch.stamps.ago(down.since, (now, stamp)) >= wait
                && watch.well(&item.split, backend, wait, now)
                && !sabotaged("never-come-back")
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
        fell(&mut next.falls, backend, watch, (now, stamp));
        let down = Down {
            to: backend.clone(),
            since: stamp,
            moved: stamp,
            why,
            written: false,
        };
        next.down.insert(backend.clone(), down);
    }
    // Who takes over follows from who is down: the first of each list that is up, resolves and has room.
    let names: Vec<BackendName> = next.down.keys().cloned().collect();
    for name in names {
        let refuge = refuge(item, &next, &name, services, watch, (now, stamp));
        let full = overflows(item, &next, &name);
        let Some(down) = next.down.get_mut(&name) else {
            continue;
        };
        let alone = down.to == name;
        match refuge {
            Some(refuge) if refuge != down.to => {
                (down.to, down.moved, down.written) = (refuge, stamp, false);
            }
            Some(_) => {}
            // Nobody takes it: it keeps its share, and the alarm says so.
            None if alone => {
                next.down.remove(&name);
                next.falls.remove(&name);
            }
            // Who went there before stays there, unless he is down himself or has not the room for what a commit gives by now,
            // and the one that fell is not.
            None => {
                let after = item.fallback.get(&name);
                let after = after.map_or(LONGEST, |fallback| fallback.after);
                let dead = watch.down(&item.split, &down.to, after, now).is_some()
                    || !still_resolves(item, &down.to, services);
                // What was decided and never written begins nothing any more (I3), nor does it give anybody more than he can
                // take by an item that came since (I2). Where the policy went with a lost store, what it said is put back, and
                // not changed to somebody who does not resolve either.
                let never = !down.written && (full || !resolves(item, &down.to, services));
                if never || ((dead || full) && watch.well(&item.split, &name, SignedDuration::ZERO, now)) {
                    next.down.remove(&name);
                }
            }
        }
    }
    if next.shares() == known.map(Fallbacks::shares).unwrap_or_default() {
        return None;
    }
    // As exact as it stands on a label: of two words of one instant all agents must hold to the same.
    let stamp = Timestamp::from_millisecond(stamp.as_millisecond()).unwrap_or(stamp);
    let later = next.at.saturating_add(SignedDuration::from_millis(1));
    next.at = later.map_or(stamp, |later| later.max(stamp));
    Some(next)
}

/// The item with shares elsewhere. Its digest and its generation stay.
pub fn over(item: &Item, fallen: &Fallbacks) -> Item {
    let mut item = item.clone();
    for at in 0..item.routes.len() {
        let away: Vec<(BackendName, BackendName, BasisPoints)> = item.routes[at]
            .weights
            .iter()
            .filter(|(_, weight)| **weight > BasisPoints::ZERO)
            .map(|(name, weight)| (name.clone(), end(&item, fallen, name), *weight))
            .filter(|(name, to, _)| name != to && item.destinations.contains_key(to))
            .collect();
        let weights = &mut item.routes[at].weights;
        for (name, _, _) in &away {
            weights.insert(name.clone(), BasisPoints::ZERO);
        }
        for (_, to, share) in away {
            let has = weights.get(&to).copied().unwrap_or(BasisPoints::ZERO);
            let both = BasisPoints::new(share.get() + has.get()).unwrap_or(BasisPoints::WHOLE);
            weights.insert(to, both);
        }
    }
    item
}

/// What of an item is driven now: with shares elsewhere, unless it is pinned.
pub fn driven(item: &Arc<Item>, memory: &Memory) -> Arc<Item> {
    match memory.fallen.get(&item.split) {
        Some(fallen) if !memory.is_pinned(item) && !item.fallback.is_empty() => {
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
    if memory.is_pinned(item) || item.fallback.is_empty() || over(item, fallen) == *item {
        return None;
    }
    // Who has no share of his own by now and passes on another one's is named as well: a drain must know whose refuge is in use.
    let passing = passing(item, fallen);
    let each = || fallen.down.iter().filter(|(name, _)| passing.contains(name));
    let words: Vec<String> = each()
        .map(|(name, down)| {
            format!(
                "the share of {name} goes to {} since {:.0}: {}",
                down.to, down.since, down.why
            )
        })
        .collect();
    Some(weir_planner::Fallen {
        since: each().map(|(_, down)| down.since).min().unwrap_or(fallen.at),
        down: each().map(|(name, _)| name.clone()).collect(),
        why: words.join("; "),
    })
}

/// Another agent's newer word in the place of what was known. A fall counts whoever found it, or the one of two agents that
/// sees no failures would bring the share back as if it had never been away. How long ago that was is not taken from another
/// host's clock: one that is behind would bring it back at once.
fn adopted(item: &Item, known: Option<Fallbacks>, word: Word, watch: &Watch, at: Moment) -> Fallbacks {
    let (_, stamp) = at;
    let same = known.as_ref().is_some_and(|known| known.shares() == word.away);
    let (before, mut falls) = known.map_or_else(Default::default, |known| (known.down, known.falls));
    for name in before
        .keys()
        .filter(|name| !word.away.iter().any(|(away, _)| away == *name))
    {
        if let Some(falls) = falls.get_mut(name) {
            falls.last = stamp;
        }
    }
    let mut down = BTreeMap::new();
    for (name, to) in word.away {
        let is = match before.get(&name) {
            // It may have come back and gone again while this agent did not look: it has to be well for as long as if it had
            // gone just now. The same word again, of two agents that found the same, comes sooner than it could come back.
            Some(is) if is.to == to => {
                let recover = item
                    .fallback
                    .get(&name)
                    .map_or(LONGEST, |fallback| fallback.recover);
                if same && watch.stamps.ago(is.since, at) >= recover {
                    fell(&mut falls, &name, watch, at);
                }
                Down {
                    since: stamp,
                    written: true,
                    ..is.clone()
                }
            }
            Some(is) => Down {
                to,
                moved: stamp,
                written: true,
                ..is.clone()
            },
            None => {
                fell(&mut falls, &name, watch, at);
                Down {
                    to,
                    since: stamp,
                    moved: stamp,
                    why: "another agent of this zone found nobody there".to_owned(),
                    written: true,
                }
            }
        };
        down.insert(name, is);
    }
    Fallbacks {
        at: word.at,
        down,
        falls,
    }
}

/// Counts a fall: one more, if it came back lately, or the first.
fn fell(falls: &mut BTreeMap<BackendName, Falls>, name: &BackendName, watch: &Watch, at: Moment) {
    let lately = falls
        .get(name)
        .filter(|falls| watch.stamps.ago(falls.last, at) < LONGEST);
    let count = lately.map_or(0, |falls| falls.count).saturating_add(1);
    falls.insert(name.clone(), Falls { count, last: at.1 });
}
