//! Drains: who is drained and was told nothing anywhere gets nothing again until that is ended, neither as a share nor as a
//! refuge; what is drained is not shown as what Git declares; and it comes to pass.

use std::collections::BTreeMap;

use weir_coordinator::ledger::{Answer, Order, OrderKind};
use weir_model::SplitName;
use weir_planner::{Item, Orders, Outlook, Phase, SplitPlan};

use super::{DrainNote, Invariant, asked, of_split};
use crate::simulate::human::{BACKENDS, Declared};
use crate::simulate::world::{SPLITS, World, ZONES};
use crate::simulate::zone::{Key, Place, Shares, Stored, key_of};

/// Who is drained of a split, and to whom if that was said.
pub(super) type Drains = BTreeMap<Place, Option<Place>>;

fn place_of(backend: &weir_model::BackendName) -> Option<Place> {
    BACKENDS.iter().position(|name| *name == backend.as_str())
}

/// The most that an item gives a backend in any route.
fn share_in(item: &Item, place: Place) -> u32 {
    let all = asked(item);
    let shares = all.iter().filter_map(|route| route.get(&place).copied());
    shares.max().unwrap_or_default()
}

/// What a backend had and has of the requests of each route, where what one of the two has no route for goes by its last one.
fn shares_of(was: Option<&Item>, is: &Item, place: Place) -> Vec<(u32, u32)> {
    let share = |of: &Item, name: &weir_model::RouteName| {
        let at = of.routes.iter().position(|route| route.name == *name);
        let all = asked(of);
        let by = at.and_then(|at| all.get(at)).or(all.last());
        by.and_then(|route| route.get(&place).copied())
            .unwrap_or_default()
    };
    let routes = was.into_iter().chain([is]).flat_map(|item| &item.routes);
    routes
        .map(|route| {
            (
                was.map_or(0, |was| share(was, &route.name)),
                share(is, &route.name),
            )
        })
        .collect()
}

/// Whose share may go to a backend by an item.
fn refuge_of(item: &Item, place: Place) -> Vec<Place> {
    let all = item.fallback.iter().filter(|(_, fallback)| {
        let mut to = fallback.to.iter();
        to.any(|to| place_of(&to.backend) == Some(place))
    });
    all.filter_map(|(from, _)| place_of(from)).collect()
}

/// Whether no zone is told to send anything to a backend.
pub(super) fn is_free(plan: &SplitPlan, place: Place) -> bool {
    plan.items.values().all(|item| share_in(item, place) == 0)
}

/// The drains of a split that a plan was made by.
pub(super) fn drains_of(orders: &Orders, split: &SplitName) -> Drains {
    let all = orders.drains.get(split).into_iter().flatten();
    all.filter_map(|(backend, drain)| Some((place_of(backend)?, drain.to.as_ref().and_then(place_of))))
        .collect()
}

/// The shares that remain of what is declared, where of all who are drained these give theirs; none where nobody can take them,
/// and nothing may move.
pub(super) fn remaining(declared: &Declared, (drains, give): (&Drains, &Drains)) -> Option<Shares> {
    let mut routes = declared.routes.clone();
    let stays = |place: &Place| {
        declared.backends.contains(place) && declared.away != Some(*place) && !drains.contains_key(place)
    };
    let mut drained: Vec<Place> = give.keys().copied().collect();
    drained.sort_by_key(|place| BACKENDS[*place]);
    for route in &mut routes {
        for place in &drained {
            let share = route.get(place).copied().unwrap_or_default();
            if share == 0 {
                continue;
            }
            let mut refuges = declared
                .fallback
                .get(place)
                .into_iter()
                .flat_map(|outlet| &outlet.to);
            let takers: Vec<(Place, u32)> = match (give[place], refuges.find(|to| stays(to))) {
                (Some(to), _) if !stays(&to) => return None,
                (Some(to), _) | (None, Some(&to)) => vec![(to, 1)],
                (None, None) => {
                    let others = route.iter().filter(|(to, share)| **share > 0 && stays(to));
                    others.map(|(to, share)| (*to, *share)).collect()
                }
            };
            let all: u32 = takers.iter().map(|(_, part)| part).sum();
            if all == 0 {
                return None;
            }
            // Whole parts first; what is left over goes where most was cut off.
            let mut parts: Vec<(Place, u32, u32)> = takers
                .iter()
                .map(|(to, part)| (*to, share * part / all, share * part % all))
                .collect();
            parts.sort_by_key(|(to, _, cut)| (u32::MAX - cut, BACKENDS[*to]));
            let mut left = share - parts.iter().map(|(_, whole, _)| whole).sum::<u32>();
            route.insert(*place, 0);
            for (to, whole, _) in parts {
                let one = left.min(1);
                left -= one;
                *route.entry(to).or_default() += whole + one;
            }
        }
    }
    let (default, was) = (routes.last()?, declared.routes.last()?);
    let room = |(place, share): (&Place, &u32)| {
        let most = declared.capacity.get(place);
        most.is_none_or(|most| share <= most || was.get(place) == Some(share))
    };
    default.iter().all(room).then_some(routes)
}

impl World {
    /// An order was answered.
    pub(crate) fn note_answer(&mut self, order: &Order, answer: &Answer) {
        let (Some(split), Some(place)) = (&order.split, order.kind.backend().and_then(place_of)) else {
            return;
        };
        if !answer.done {
            return;
        }
        let of = (of_split(split.as_str()), place);
        match order.kind {
            OrderKind::Drain { .. } => {
                let note = DrainNote {
                    since: self.now,
                    proven: vec![None; self.zones.len()],
                };
                self.checks.drains.insert(of, note);
                self.checks.drained += 1;
            }
            _ => {
                self.checks.drains.remove(&of);
            }
        }
    }

    /// I1: what a plan tells of who is drained, beside what the one before it told. Once no zone is told to send him anything, no
    /// zone is again; no zone gets him as a refuge that had not; no verdict and no abort gives him more than he has in any zone;
    /// nor does any step or other commit, in mid-way or not.
    ///
    /// Three things may, while some zone is still told to send him something (docs/guarantees.md): the revert of the newest
    /// commit, which takes a drain along only where it has no way to go any more; and where a commit comes while zones are apart,
    /// the waves that meet others where somebody else who is drained has less, or he himself in another route.
    pub(super) fn check_told(&mut self, was: Option<&SplitPlan>, is: &SplitPlan, reverts: bool) {
        let now = self.now;
        let Some(name) = is.items.values().next().map(|item| item.split.clone()) else {
            return;
        };
        let split = of_split(name.as_str());
        let rows = &self.coordinator.ledger.orders;
        let drained: Vec<Place> = rows
            .drains()
            .iter()
            // Who is about to end it ends it in this look.
            .filter(|(of, backend)| *of == name && !rows.waits_about(of.as_str(), backend.as_str()))
            .filter_map(|(_, backend)| place_of(backend))
            .collect();
        let course = is.course.as_ref();
        let back = course.is_some_and(|course| course.motion.is_some() && course.quarantine.is_some());
        let items = |of: Option<&SplitPlan>| {
            of.into_iter()
                .flat_map(|of| of.items.values().cloned())
                .collect::<Vec<_>>()
        };
        let (was, is) = (items(was), items(Some(is)));
        for &place in &drained {
            let free = was
                .iter()
                .all(|item| share_in(item, place) == 0 && refuge_of(item, place).is_empty());
            let found = is.iter().find_map(|item| {
                let earlier = was.iter().find(|was| was.zone == item.zone);
                let new = refuge_of(item, place)
                    .into_iter()
                    .find(|from| earlier.is_none_or(|was| !refuge_of(was, place).contains(from)));
                if let Some(from) = new {
                    return Some((
                        item.zone.clone(),
                        format!("is the refuge of {} now", BACKENDS[from]),
                    ));
                }
                let changes = |place: Place| shares_of(earlier.map(|was| &**was), item, place);
                let more = changes(place).into_iter().find(|(had, has)| had < has)?.1;
                let meets = earlier.is_some()
                    && drained
                        .iter()
                        .any(|other| changes(*other).iter().any(|(had, has)| has < had));
                (free || back || !(reverts || meets))
                    .then(|| (item.zone.clone(), format!("gets {more}, more than before")))
            });
            self.checks.hold(Invariant::I1, now, found.is_none(), || {
                let what = found.map(|(zone, what)| format!("it {what} in {zone}"));
                format!(
                    "{} of {} is drained (nobody was told to send it anything until now: {free}), and by the next plan {}",
                    BACKENDS[place],
                    SPLITS[split],
                    what.unwrap_or_default()
                )
            });
        }
    }

    /// The ledger is another one: what is drained is what it says, and nobody knows any more who proved what.
    pub(crate) fn recount_drains(&mut self) {
        let notes = self.coordinator.ledger.orders.drains().into_iter();
        let notes = notes.filter_map(|(split, backend)| {
            let note = DrainNote {
                since: self.now,
                proven: vec![None; self.zones.len()],
            };
            Some(((of_split(split.as_str()), place_of(&backend)?), note))
        });
        self.checks.drains = notes.collect();
    }

    /// Whether somebody who is drained, or is about to be, has anything to do with a split.
    pub(super) fn drains_touch(&self, split: &str) -> bool {
        let rows = &self.coordinator.ledger.orders;
        let waits = BACKENDS.iter().any(|name| rows.waits_about(split, name));
        waits || self.checks.drains.keys().any(|(n, _)| SPLITS[*n] == split)
    }

    /// Where no zone is told to send anything to who is drained, those that run that have given him up.
    pub(crate) fn note_drained(&mut self) {
        if self.checks.drains.is_empty() {
            return;
        }
        let now = self.now;
        let Some(plan) = self.coordinator.ledger.plan.clone() else {
            return;
        };
        let mut drains = std::mem::take(&mut self.checks.drains);
        for ((split, place), note) in &mut drains {
            let planned = plan
                .splits
                .iter()
                .find(|(name, _)| name.as_str() == SPLITS[*split]);
            let Some((_, planned)) = planned else { continue };
            // Where some zone is told to send him something still, a revert may give him back what it says.
            let mut items = planned.items.values();
            let free = items.all(|item| share_in(item, *place) == 0 && refuge_of(item, *place).is_empty());
            for (z, zone) in self.zones.iter().enumerate() {
                let Some(item) = planned.items.get(&zone.name).filter(|_| note.proven[z].is_none()) else {
                    continue;
                };
                let told = zone.store.get(&key_of(item)).is_some_and(|stored| {
                    stored.meaning.digest == item.digest.to_string()[..32]
                        && stored.meaning.generation == item.generation.0
                        && stored.meaning.pinned.is_none()
                });
                if free && told && zone.runs_exactly(item) {
                    note.proven[z] = Some((now, item.generation.0));
                }
            }
        }
        self.checks.drains = drains;
    }

    /// I1: an agent wrote a policy; nobody who is drained gets anything again by it.
    pub(super) fn check_drains(&mut self, a: usize, key: &Key, stored: &Stored) {
        let now = self.now;
        let z = self.agents[a].zone;
        let split = of_split(key.1.strip_prefix("weir-").unwrap_or_default());
        let meaning = &stored.meaning;
        let held: Vec<(Place, u64, u64)> = self
            .checks
            .drains
            .iter()
            .filter(|((of, _), _)| *of == split)
            .filter_map(|((_, place), note)| {
                let (at, generation) = note.proven[z]?;
                Some((*place, at, generation))
            })
            .collect();
        for (place, at, generation) in held {
            // What is pinned is somebody's at that host.
            let pinned = meaning.pinned.is_some();
            // Whoever is about to end it may see that before the answer.
            let ends = self
                .coordinator
                .ledger
                .orders
                .waits_about(SPLITS[split], BACKENDS[place]);
            // One of several that missed a plan puts back what itself had last (docs/architecture.md, I7).
            let behind = self.zones[z].agents > 1 && meaning.generation < generation;
            // What was planned after the ledger was copied that is in force now knows of no drain of this one: he was drained after
            // that, or the drain was ended and that is forgotten (docs/guarantees.md, a lost ledger).
            let planned = (z, meaning.digest.clone(), meaning.generation);
            let lost = self.checks.lost.contains(&planned);
            if pinned || ends || behind || lost {
                continue;
            }
            let gives = meaning
                .routes
                .iter()
                .find_map(|route| route.get(&place).copied().filter(|share| *share > 0));
            let name = self.agents[a].name.clone();
            self.checks.hold(Invariant::I1, now, gives.is_none(), || {
                format!(
                    "agent {name} gives {} of {} to {} again in {}, who is drained and got nothing there since {at} ms",
                    gives.unwrap_or_default(),
                    key.1,
                    BACKENDS[place],
                    ZONES[z]
                )
            });
        }
    }

    /// I9: a split that is shown as converged is what Git declares, and nobody of it is drained.
    pub(crate) fn check_declared(&mut self) {
        let now = self.now;
        let c = &self.coordinator;
        let Some(plan) = c.plan.clone().filter(|_| c.up) else {
            return;
        };
        let commit = c.ledger.commits.values().next();
        let Some(tree) = commit.and_then(|commit| self.repository.tree_of(commit)).cloned() else {
            return;
        };
        let (shown, own) = c.converged(&plan, now);
        for (invariant, broken) in [Invariant::I9, Invariant::I11].into_iter().zip(own) {
            let holds = broken.is_none();
            self.checks.hold(invariant, now, holds, || {
                format!("its own check: {}", broken.unwrap_or_default())
            });
        }
        let done = c
            .outlook
            .iter()
            .filter(|(_, stands)| stands.phase == Phase::Drained);
        let done: Vec<SplitName> = done.map(|(name, _)| name.clone()).collect();
        let drains = c.ledger.orders.drains();
        let items = |name: &SplitName| {
            plan.splits
                .get(name)
                .into_iter()
                .flat_map(|split| split.items.values())
        };
        for name in shown {
            let declared = tree.splits.get(&of_split(name.as_str()));
            let routes = declared.map(|declared| &declared.routes);
            let other = items(&name)
                .map(|item| asked(item))
                .find(|asked| routes != Some(asked));
            self.checks.hold(Invariant::I9, now, other.is_none(), || {
                format!("{name} is shown as converged and told {other:?}, and Git declares {routes:?}")
            });
            // A drain that takes nothing from what Git declares makes no difference to show.
            let takes = drains
                .iter()
                .filter(|(of, _)| *of == name)
                .find_map(|(_, backend)| {
                    let place = place_of(backend)?;
                    let declared = declared?;
                    let mut shares = declared.routes.iter().filter_map(|route| route.get(&place));
                    let mut refuges = declared.fallback.values().flat_map(|outlet| &outlet.to);
                    // What is in a detached zone is nobody's refuge.
                    let refuge = declared.away != Some(place) && refuges.any(|to| *to == place);
                    (shares.any(|share| *share > 0) || refuge).then_some(place)
                });
            self.checks.hold(Invariant::I9, now, takes.is_none(), || {
                format!(
                    "{name} is shown as converged, and {} is drained",
                    BACKENDS[takes.unwrap_or_default()]
                )
            });
        }
        for name in done {
            let kept = drains
                .iter()
                .filter(|(of, _)| *of == name)
                .find_map(|(_, backend)| {
                    let place = place_of(backend)?;
                    items(&name).find(|item| share_in(item, place) > 0 || !refuge_of(item, place).is_empty())
                });
            self.checks.hold(Invariant::I9, now, kept.is_none(), || {
                format!("{name} is shown as drained, and by the plan somebody's share may still go there: {kept:?}")
            });
        }
    }

    /// I11: all works for a while, and what is drained gets nothing, or is on its way there, or it is said why.
    pub(crate) fn check_drained(&mut self) {
        let now = self.now;
        let all: Vec<((usize, Place), u64)> = self
            .checks
            .drains
            .iter()
            .map(|(of, note)| (*of, note.since))
            .collect();
        let over = self.quiet_since.unwrap_or(now);
        for ((split, place), since) in all {
            let stands = self.coordinator.outlook.iter();
            let stands = stands.filter(|(name, _)| name.as_str() == SPLITS[split]);
            let stands: Vec<_> = stands.map(|(_, stands)| stands.clone()).collect();
            let moves = |stands: &Outlook| {
                let since = stands
                    .since
                    .map(|at| self.coordinator.clock(now).duration_since(at));
                // It goes on by a clock that was set.
                let until = stands
                    .until
                    .map(|at| at.duration_since(self.coordinator.clock(now)));
                since.is_some_and(|for_so_long| for_so_long.as_secs() < 40)
                    || until.is_some_and(|left| left.as_secs() > 30)
            };
            // That he may be a refuge in use is no reason where all shares are where they belong.
            let used = |wait: &weir_planner::Wait| wait.why.contains("its refuge there");
            let away = self.checks.away.iter();
            let mut away = away
                .filter(|((_, key), _)| of_split(key.1.strip_prefix("weir-").unwrap_or_default()) == split);
            let elsewhere = away.any(|(_, (away, _))| !away.is_empty());
            let says = stands.iter().any(|stands| {
                let held = matches!(stands.phase, Phase::Held | Phase::Quarantined);
                held && (elsewhere
                    || !stands
                        .waits
                        .iter()
                        .all(|wait| used(wait) || wait.why.contains("is drained: ")))
                    || stands
                        .waits
                        .iter()
                        .any(|wait| wait.why.contains("takes along callers"))
                    || moves(stands)
            });
            let plan = self.coordinator.plan.clone();
            if since.max(over) + 140_000 > now || says || self.checks.history_lost {
                continue;
            }
            let planned = plan.iter().flat_map(|plan| &plan.splits);
            let planned = planned.filter(|(name, _)| name.as_str() == SPLITS[split]);
            let items: Vec<_> = planned.flat_map(|(_, split)| split.items.values()).collect();
            for (z, zone) in self.zones.iter().enumerate() {
                let Some(item) = items.iter().find(|item| item.zone == zone.name) else {
                    continue;
                };
                let gets = zone
                    .truth(&key_of(item))
                    .and_then(|routes| routes.iter().find_map(|route| route.get(&place).copied()));
                let refuge = refuge_of(item, place);
                self.checks.hold(Invariant::I11, now, gets.is_none() && refuge.is_empty(), || {
                    format!(
                        "{} of {} is drained for a time in which all works, and still gets {} in {}, and is the refuge of {refuge:?} \
                         ({stands:?})",
                        BACKENDS[place],
                        SPLITS[split],
                        gets.unwrap_or_default(),
                        ZONES[z]
                    )
                });
            }
        }
    }
}
