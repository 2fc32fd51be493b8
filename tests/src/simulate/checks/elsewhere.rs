//! Shares that are elsewhere: by the item's own table, from who really was down, to who resolves and has room, and not to and
//! fro.

use std::collections::{BTreeMap, BTreeSet};

use weir_planner::Item;

use super::{Away, Gone, Invariant, asked, of_split};
use crate::simulate::Ms;
use crate::simulate::world::{World, ZONES};
use crate::simulate::zone::{Key, Place, Shares, Stored};

/// Who goes away was down within this time: what was seen is acted upon within half a minute, and where nothing could be
/// written meanwhile, later.
const LATELY: Ms = 120_000;

fn place_of(item: &Item, backend: &weir_model::BackendName) -> Option<Place> {
    let to = item.destinations.get(backend)?;
    ZONES.iter().position(|name| *name == to.kuma_zone.as_str())
}

/// By place: where its share may go.
fn table(item: &Item) -> BTreeMap<Place, Vec<Place>> {
    let mut table = BTreeMap::new();
    for (from, fallback) in &item.fallback {
        let to = fallback.to.iter();
        let to: Vec<Place> = to.filter_map(|to| place_of(item, &to.backend)).collect();
        if let Some(from) = place_of(item, from) {
            table.insert(from, to);
        }
    }
    table
}

fn end(away: &Away, from: Place) -> Place {
    let mut at = from;
    for _ in 0..=away.len() {
        match away.get(&at) {
            Some(to) => at = *to,
            None => break,
        }
    }
    at
}

/// Shares, with those of who is away where they go.
fn moved(asked: &Shares, away: &Away) -> Shares {
    let route = |route: &BTreeMap<Place, u32>| {
        let mut is: BTreeMap<Place, u32> = route.keys().map(|place| (*place, 0)).collect();
        for (place, share) in route {
            *is.entry(end(away, *place)).or_default() += share;
        }
        is
    };
    asked.iter().map(route).collect()
}

fn same(one: &Shares, other: &Shares) -> bool {
    let bare = |shares: &Shares| -> Shares {
        let route = |route: &BTreeMap<Place, u32>| {
            let all = route.iter().filter(|(_, share)| **share > 0);
            all.map(|(place, share)| (*place, *share)).collect()
        };
        shares.iter().map(route).collect()
    };
    bare(one) == bare(other)
}

/// Whether a place has no more of any route than it had.
fn no_more(place: Place, had: &Shares, has: &Shares) -> bool {
    let of = |route: &BTreeMap<Place, u32>| route.get(&place).copied().unwrap_or_default();
    had.len() == has.len() && had.iter().zip(has).all(|(had, has)| of(has) <= of(had))
}

/// Whether all whose share goes elsewhere have one: of their own, or what comes to them from who is away himself. Who fell when he had
/// a share, and has none of his own by a later item, passes on what he is given.
fn passes(way: &Away, weighted: &BTreeSet<Place>) -> bool {
    let mut reached = weighted.clone();
    for from in weighted {
        let mut at = *from;
        for _ in 0..way.len() {
            let Some(to) = way.get(&at) else { break };
            at = *to;
            reached.insert(at);
        }
    }
    way.keys().all(|from| reached.contains(from))
}

/// Every way in which an item's table leads from what it asks for to these shares.
pub(super) fn ways(item: &Item, routes: &Shares) -> Vec<Away> {
    let asked = asked(item);
    let weighted: BTreeSet<Place> = asked
        .iter()
        .flat_map(|route| route.iter().filter(|(_, share)| **share > 0))
        .map(|(place, _)| *place)
        .collect();
    let mut all = vec![Away::new()];
    for (from, to) in table(item) {
        let without = all.clone();
        for way in without {
            all.extend(to.iter().map(|to| {
                let mut way = way.clone();
                way.insert(from, *to);
                way
            }));
        }
    }
    all.retain(|way| passes(way, &weighted) && same(&moved(&asked, way), routes));
    all
}

impl World {
    /// Something that may move a share: from now on it may go anew.
    pub(crate) fn note_trouble(&mut self, z: Place, split: usize) {
        self.checks
            .gone
            .retain(|(of, what, _), _| (*of, *what) != (z, split));
    }

    /// Somebody removed a policy, and with it what that told of shares that are elsewhere: another agent of the zone that has not
    /// read it yet puts the policy back without. One that drives its zone alone knows what it wrote.
    pub(crate) fn note_removed(&mut self, z: Place, key: &Key) {
        if self.zones[z].agents > 1 {
            self.note_trouble(z, of_split(key.1.strip_prefix("weir-").unwrap_or_default()));
        }
    }

    /// A write failed: what an agent decided and nobody was told stands against what others write.
    pub(crate) fn note_refused(&mut self, z: Place, step: &weir_render::Step) {
        self.note_trouble(
            z,
            of_split(step.object().2.strip_prefix("weir-").unwrap_or_default()),
        );
    }

    /// An agent starts, and knows of what was before what its disk and the policies tell.
    pub(crate) fn note_start(&mut self, a: usize) {
        let z = self.agents[a].zone;
        self.checks.gone.retain(|(of, _, _), _| *of != z);
    }

    /// I1, I2, I3: whose share an agent sends elsewhere.
    pub(super) fn check_elsewhere(&mut self, a: usize, key: &Key, stored: &Stored) {
        let meaning = &stored.meaning;
        let now = self.now;
        let z = self.agents[a].zone;
        let given = (z, meaning.digest.clone(), meaning.generation);
        let item = self
            .checks
            .planned
            .get(&given)
            .and_then(|all| all.first())
            .cloned();
        let Some(item) = item.filter(|_| meaning.pinned.is_none()) else {
            return;
        };
        let split = of_split(&meaning.split);
        let name = self.agents[a].name.clone();
        let ways = ways(&item, &meaning.routes);
        let before = self
            .checks
            .away
            .get(&(z, key.clone()))
            .cloned()
            .unwrap_or_default();
        let Some((began, resolved, saw)) = self.agents[a].running.as_ref().map(|running| {
            let resolved = std::sync::Arc::clone(&running.resolved);
            (running.began, resolved, running.seen.contains_key(key))
        }) else {
            return;
        };
        // Several may lead there: what was is the likeliest, and then what is sound.
        let likely = |way: &&Away| {
            let news = way.iter().filter(|(from, to)| before.0.get(from) != Some(to));
            let badness = |(from, to): (&Place, &Place)| {
                let down = self.zones[z].was_down(split, *from, LATELY);
                let ready = resolved.contains(&(item.service.to_string(), *to, item.protocol));
                1 + 10 * u32::from(!ready) + 100 * u32::from(!down)
            };
            news.map(badness).sum::<u32>()
        };
        let Some(way) = ways.iter().min_by_key(likely).cloned() else {
            return;
        };
        let service = item.service.to_string();
        for (from, to) in &way {
            // Who looked before the last change cannot know of it: Kuma has no compare-and-set.
            if before.0.get(from) == Some(to) || before.1 >= began {
                continue;
            }
            let (place, from_name, to_name) = (ZONES[z], ZONES[*from], ZONES[*to]);
            let down = self.zones[z].was_down(split, *from, LATELY);
            self.checks.hold(Invariant::I1, now, down, || {
                format!("agent {name} sends the share of {from_name} of {} in {place} to {to_name}, and {from_name} is well", key.1)
            });
            // Who has as much by what the zone's control plane took last, by whatever item, is given nothing: a plan that moves the
            // share back to where it fell from, or whose policy was of a pin, leaves it where it is.
            let last = self.checks.last.get(&(z, key.clone()));
            let had = last.is_some_and(|last| no_more(*to, &last[0].routes, &meaning.routes));
            let ready = had
                || self.zones[z].resolves(&service, *to, item.protocol)
                || resolved.contains(&(service.clone(), *to, item.protocol));
            self.checks.hold(Invariant::I3, now, ready, || {
                format!("agent {name} sends the share of {from_name} of {} in {place} to {to_name}, which does not resolve there", key.1)
            });
            let most = item.fallback.iter().find_map(|(backend, fallback)| {
                (place_of(&item, backend) == Some(*from)).then_some(())?;
                let mut all = fallback.to.iter();
                all.find(|refuge| place_of(&item, &refuge.backend) == Some(*to))?
                    .capacity
            });
            if let Some(most) = most
                && end(&way, *from) == *to
            {
                let asked = asked(&item);
                let over = asked.iter().zip(&meaning.routes).find_map(|(asked, is)| {
                    let has = is.get(to).copied().unwrap_or_default();
                    (asked.get(from).is_some_and(|share| *share > 0) && has > most.get()).then_some(has)
                });
                self.checks.hold(Invariant::I2, now, over.is_none(), || {
                    format!(
                        "agent {name} gives {to_name} of {} in {place} {}, and it can take {most} %",
                        key.1,
                        over.unwrap_or_default()
                    )
                });
            }
            if before.0.contains_key(from) {
                continue;
            }
            // Where the policy is gone, an agent puts back what it remembers, until it hears who knows better. That is no fall.
            let fallen = self.agents[a].memory.fallen.get(&item.split);
            let remembers = fallen.is_some_and(|fallen| {
                let mut down = fallen.down.keys();
                down.any(|backend| place_of(&item, backend) == Some(*from))
            });
            if !saw && remembers {
                continue;
            }
            let recover = item.fallback.iter().find_map(|(backend, fallback)| {
                (place_of(&item, backend) == Some(*from)).then_some(fallback.recover)
            });
            let recover = recover.map_or(0, |is| u64::try_from(is.as_millis()).unwrap_or_default());
            self.checks.fallen += 1;
            let earlier = self.checks.gone.get(&(z, split, *from)).copied();
            let times = earlier.map_or(0, |gone| gone.times);
            let last = earlier.map_or(now, |gone| gone.last);
            // The first may have been decided long before it could be written.
            let outage = self.zones[z].outages.get(&(split, *from));
            let first = outage.map_or(now, |outage| outage.since);
            let gone = Gone {
                last: if earlier.is_some() { now } else { first },
                times: times + 1,
            };
            self.checks.gone.insert((z, split, *from), gone);
            if times > 0 {
                let wait = recover << (times - 1).min(16);
                self.checks.hold(Invariant::I1, now, now - last + 1_000 >= wait, || {
                    format!(
                        "the share of {from_name} of {} in {place} goes away for the {}th time {} ms after the last, with \
                         nothing in between, where it has to be well for {wait} ms",
                        key.1,
                        times + 1,
                        now - last
                    )
                });
            }
        }
        // What was undone by somebody who did not know of it may be done anew.
        if before.1 >= began {
            self.note_trouble(z, split);
        }
        if before.0 != way {
            self.checks.away.insert((z, key.clone()), (way, now));
        }
    }
}
