//! Drains: who is drained gets nothing again in a zone that has given him nothing, until that is ended; what is drained is not
//! shown as what Git declares; and it comes to pass.

use std::collections::BTreeMap;

use weir_coordinator::ledger::{Answer, Order, OrderKind};
use weir_model::SplitName;
use weir_planner::{Orders, Outlook, Phase, SplitPlan};

use super::{DrainNote, Invariant, asked, of_split};
use crate::simulate::human::{BACKENDS, Declared};
use crate::simulate::world::{SPLITS, World, ZONES};
use crate::simulate::zone::{Key, Place, Shares, Stored, key_of};

/// Who is drained of a split, and to whom if that was said.
pub(super) type Drains = BTreeMap<Place, Option<Place>>;

fn place_of(backend: &weir_model::BackendName) -> Option<Place> {
    BACKENDS.iter().position(|name| *name == backend.as_str())
}

/// The drains of a split that a plan was made by.
pub(super) fn drains_of(orders: &Orders, split: &SplitName) -> Drains {
    let all = orders.drains.get(split).into_iter().flatten();
    all.filter_map(|(backend, drain)| Some((place_of(backend)?, drain.to.as_ref().and_then(place_of))))
        .collect()
}

/// The shares that remain of what is declared; none where nobody can take them, and nothing may move.
pub(super) fn remaining(declared: &Declared, drains: &Drains) -> Option<Shares> {
    let mut routes = declared.routes.clone();
    let stays = |place: &Place| declared.backends.contains(place) && !drains.contains_key(place);
    let mut drained: Vec<Place> = drains.keys().copied().collect();
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
            let takers: Vec<(Place, u32)> = match (drains[place], refuges.find(|to| stays(to))) {
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

    /// What was planned while somebody is drained, and not before.
    pub(super) fn note_without(&mut self, was: Option<&SplitPlan>, is: &SplitPlan, drains: &Drains) {
        for (zone, item) in &is.items {
            let before = was.and_then(|was| was.items.get(zone));
            if before.is_some_and(|before| before.digest == item.digest) {
                continue;
            }
            let half = item.digest.to_string()[..32].to_owned();
            let split = of_split(item.split.as_str());
            let all = drains.keys().map(|place| (split, *place, half.clone()));
            self.checks.without.extend(all);
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
        let of = |name: &&str| rows.waits_about(split, name);
        self.checks.drains.keys().any(|(n, _)| SPLITS[*n] == split) || BACKENDS.iter().any(|name| of(&name))
    }

    /// Where a zone runs what was planned by a drain, it has given up who is drained.
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
            for (z, zone) in self.zones.iter().enumerate() {
                let Some(item) = planned.items.get(&zone.name).filter(|_| note.proven[z].is_none()) else {
                    continue;
                };
                let gives = asked(item)
                    .iter()
                    .any(|route| route.get(place).is_some_and(|share| *share > 0));
                // What was planned before may give him the share of somebody who dies.
                let half = item.digest.to_string()[..32].to_owned();
                let without = self.checks.without.contains(&(*split, *place, half));
                let mut refuges = item.fallback.values().flat_map(|fallback| &fallback.to);
                let refuge = !without && refuges.any(|to| place_of(&to.backend) == Some(*place));
                let told = zone.store.get(&key_of(item)).is_some_and(|stored| {
                    stored.meaning.digest == item.digest.to_string()[..32]
                        && stored.meaning.generation == item.generation.0
                        && stored.meaning.pinned.is_none()
                });
                if !gives && !refuge && told && zone.runs_exactly(item) {
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
            if pinned || ends || behind {
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
        for name in c.converged(&plan, now) {
            let split = of_split(name.as_str());
            let declared = tree.splits.get(&split).map(|declared| declared.routes.clone());
            let items = plan
                .splits
                .get(&name)
                .into_iter()
                .flat_map(|split| split.items.values());
            let other = items
                .map(|item| asked(item))
                .find(|asked| declared.as_ref() != Some(asked));
            self.checks.hold(Invariant::I9, now, other.is_none(), || {
                format!("{name} is shown as converged and told {other:?}, and Git declares {declared:?}")
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
                since.is_some_and(|for_so_long| for_so_long.as_secs() < 40)
            };
            let says = stands.iter().any(|stands| {
                matches!(stands.phase, Phase::Held | Phase::Quarantined)
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
                self.checks.hold(Invariant::I11, now, gets.is_none(), || {
                    format!(
                        "{} of {} is drained for a time in which all works, and still gets {} in {} ({stands:?})",
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
