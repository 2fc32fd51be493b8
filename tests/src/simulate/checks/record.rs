//! The record by which is judged: what was accepted, planned and declared, and the way of each split. It is made when the
//! coordinator has recorded something, and of nothing that anybody reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_coordinator::decide::Heads;
use weir_model::{CommitId, ZoneName};
use weir_planner::course::Items;
use weir_planner::{Item, Leg, Plan, SplitPlan};

use super::{Invariant, Position, asked, of_split};
use crate::simulate::world::{World, ZONES};
use crate::simulate::zone::{Place, Shares, key_of, wanted};

impl World {
    /// The coordinator has recorded what it decided.
    pub(crate) fn record_accepted(&mut self, heads: &Heads, plan: Option<&Plan>) {
        let now = self.now;
        for head in heads.values() {
            let sound = self
                .repository
                .tree_of(&head.commit)
                .is_some_and(|tree| !tree.broken);
            let commit = head.commit.clone();
            self.checks.hold(Invariant::I1, now, sound, || {
                format!("commit {} is accepted, and cannot be read", commit.short())
            });
            self.checks.accepted.insert(head.commit.clone());
        }
        let Some(plan) = plan else { return };
        let parent = self.coordinator.plan.clone();
        let mut policies = BTreeSet::new();
        for (name, split) in &plan.splits {
            self.record_course(name.as_str(), split, plan.generation.0);
            let moves = split
                .course
                .as_ref()
                .is_some_and(|course| course.motion.is_some());
            for (zone, item) in &split.items {
                let Some(place) = ZONES.iter().position(|name| *name == zone.as_str()) else {
                    continue;
                };
                let half = item.digest.to_string()[..32].to_owned();
                let key = (place, half, item.generation.0);
                let declares = self.declares(&item.commit, item.split.as_str());
                if moves || declares != Some(&asked(item)) {
                    self.checks.steps.insert(key.clone());
                }
                let earlier = parent
                    .as_ref()
                    .and_then(|parent| parent.splits.get(&item.split)?.items.get(zone));
                let earlier = earlier.map(|item| item.digest.to_string()[..32].to_owned());
                let followed = (earlier.unwrap_or_default(), now);
                self.checks.before.entry(key.clone()).or_insert(followed);
                let same = self.checks.planned.entry(key).or_default();
                // Two histories may have it of two commits.
                if same.iter().all(|other| other.commit != item.commit) {
                    same.push(Arc::clone(item));
                }
                policies.insert((place, key_of(item)));
            }
        }
        self.checks
            .plans
            .entry(plan.generation.0)
            .or_default()
            .push(policies);
    }

    fn declares(&self, commit: &CommitId, split: &str) -> Option<&Shares> {
        let tree = self.repository.tree_of(commit)?;
        tree.splits.get(&of_split(split)).map(|declared| &declared.routes)
    }

    /// I2, I5: a split's place on its way, as a plan has it.
    fn record_course(&mut self, name: &str, split: &SplitPlan, generation: u64) {
        let now = self.now;
        let place_of = |zone: &ZoneName| ZONES.iter().position(|name| *name == zone.as_str());
        let half = |item: &Item| item.digest.to_string()[..32].to_owned();
        let Some(motion) = split.course.as_ref().and_then(|course| course.motion.as_ref()) else {
            let all = split.items.iter();
            let rested = all.filter_map(|(zone, item)| Some((place_of(zone)?, wanted(item))));
            self.checks.rested.insert(name.to_owned(), rested.collect());
            return;
        };
        let Leg::Shift { bite, wave, .. } = &motion.leg else {
            self.checks.legs.remove(name);
            return;
        };
        let of = |items: &Items| -> BTreeMap<Place, String> {
            let all = items.iter();
            all.filter_map(|(zone, item)| Some((place_of(zone)?, half(item))))
                .collect()
        };
        let from = of(&motion.from);
        let leg = self.checks.legs.entry(name.to_owned()).or_default();
        if leg.0 != from {
            *leg = (from.clone(), Vec::new());
            leg.1
                .extend(from.into_iter().map(|(place, item)| (0, place, item)));
        }
        // No share changes: every zone was told these before.
        if *wave == u32::MAX {
            self.checks.legs.remove(name);
            return;
        }
        // What is dead is left by all zones at once, as far as all of them can: that is no step among others.
        let tree = split
            .items
            .values()
            .next()
            .and_then(|item| self.repository.tree_of(&item.commit));
        let waves = tree.is_some_and(|tree| tree.waves);
        let is = of(&split.items);
        let moved = is.iter().filter(|(place, item)| {
            let mut before = leg.1.iter().rev();
            before
                .find(|(_, of, _)| of == *place)
                .is_some_and(|(_, _, was)| was != *item)
        });
        let moved: BTreeSet<Place> = moved
            .map(|(place, _)| if waves { *place } else { usize::from(*place > 0) })
            .collect();
        if moved.len() > 1 {
            leg.1.clear();
            leg.1
                .extend(is.into_iter().map(|(place, item)| (*bite, place, item)));
            return;
        }
        let items = is.into_iter();
        leg.1.extend(items.map(|(place, item)| (*bite, place, item)));
        // What a zone may run meanwhile: this bite, or the one before it.
        let mut beside: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
        for (of, place, item) in &leg.1 {
            if of + 1 >= *bite {
                beside.entry(*place).or_default().insert(item.clone());
            }
        }
        self.checks
            .positions
            .entry((name.to_owned(), generation))
            .or_insert(Position { beside });
        // Each weight is between where it comes from and where it goes to.
        for (zone, item) in &split.items {
            let (Some(from), Some(to)) = (motion.from.get(zone), self.declares(&item.commit, name)) else {
                continue;
            };
            let (from, is) = (asked(from), asked(item));
            let to = to.clone();
            if from.len() != is.len() || to.len() != is.len() {
                continue;
            }
            let between = is.iter().zip(from.iter().zip(&to)).all(|(is, (from, to))| {
                let sums = is.values().sum::<u32>() == 10_000;
                let share = |of: &BTreeMap<Place, u32>, place| of.get(place).copied().unwrap_or_default();
                sums && is.iter().all(|(place, weight)| {
                    let (a, b) = (share(from, place), share(to, place));
                    // TCP goes to nothing by way of the smallest weight.
                    (a.min(b)..=a.max(b).max(1)).contains(weight) || weight + 1 == a.min(b)
                })
            });
            self.checks.hold(Invariant::I2, now, between, || {
                format!("plan {generation} gives {name} in {zone} {is:?}, on the way from {from:?} to {to:?}")
            });
        }
    }

    /// Planning went wrong.
    pub(crate) fn unsound(&mut self, why: &str) {
        let now = self.now;
        self.checks.hold(Invariant::I1, now, false, || {
            format!("no plan can be made: {why}")
        });
    }
}
