//! The record by which is judged: what was accepted, planned and declared, and the way of each split. It is made when the
//! coordinator has recorded something, and of nothing that anybody reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_coordinator::decide::Heads;
use weir_coordinator::selfcheck::steps::{self, Step};
use weir_coordinator::selfcheck::{self, Checked};
use weir_coordinator::standing::Sight;
use weir_model::{CommitId, ZoneName};
use weir_planner::canonical::shape;
use weir_planner::course::Items;
use weir_planner::{Item, Leg, Orders, Plan, SplitPlan};

use super::drained::{Drains, drains_of, is_free, remaining};
use super::{Invariant, Position, Version, asked, of_split};
use crate::simulate::coordinator::STALE;
use crate::simulate::world::{World, ZONES};
use crate::simulate::zone::{Place, Shares, key_of, wanted};

impl World {
    /// The coordinator has recorded what it decided; `reverts` where its newest commit takes back the one before it.
    pub(crate) fn record_accepted(
        &mut self,
        heads: &Heads,
        (plan, reverts): (Option<&Plan>, bool),
        orders: &Orders,
    ) {
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
        if let Some(parent) = &parent {
            let fleet = &self.coordinator.fleet;
            let own = [
                (
                    Invariant::I5,
                    selfcheck::in_step(parent, plan, fleet, &self.detached()),
                ),
                (Invariant::I7, selfcheck::generation(parent, plan)),
            ];
            let detached = self.detached();
            let step = Step {
                sight: Sight {
                    plan: parent,
                    created: &BTreeMap::new(),
                    fleet,
                    stale: STALE,
                    now: plan.created,
                },
                next: plan,
                detached: &detached,
            };
            let moves = steps::OF_TWO_PLANS.map(|(what, check)| {
                let invariant = match what {
                    Checked::I3 => Invariant::I3,
                    Checked::I4 => Invariant::I4,
                    _ => Invariant::I8,
                };
                (invariant, check(step))
            });
            for (invariant, broken) in own.into_iter().chain(moves) {
                let holds = broken.is_none();
                self.checks.hold(invariant, now, holds, || {
                    format!("its own check: {}", broken.unwrap_or_default())
                });
            }
        }
        let mut policies = BTreeSet::new();
        let trees = heads
            .values()
            .filter_map(|head| self.repository.tree_of(&head.commit));
        let splits = trees.flat_map(|tree| &tree.splits);
        let frozen: BTreeSet<usize> = splits
            .filter(|(_, declared)| declared.frozen)
            .map(|(n, _)| *n)
            .collect();
        for (name, split) in &plan.splits {
            let drains = drains_of(orders, name);
            let was = parent.as_ref().and_then(|parent| parent.splits.get(name));
            let was = was.map(Arc::as_ref);
            // A revert takes no drain along that has some way to go.
            let mut along = drains.clone();
            along.retain(|place, _| !reverts || was.is_none_or(|was| is_free(was, *place)));
            self.record_course(name.as_str(), split, plan.generation.0, [&drains, &along]);
            let give = if reverts && self.changed(heads, name.as_str()) {
                &along
            } else {
                &drains
            };
            self.check_rests(heads, was, split, (&drains, give));
            self.check_told(was, split, reverts);
            self.check_stopped(was, split);
            self.check_step((parent.as_deref(), was), split, (orders, reverts), &frozen);
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
                // What is planned again is known again.
                self.checks.lost.remove(&key);
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

    /// The ledger is another one: of what was planned after it was copied it knows nothing.
    pub(crate) fn note_lost(&mut self) {
        let plan = self.coordinator.ledger.plan.as_ref();
        let known = plan.map_or(0, |plan| plan.generation.0);
        let later = self.checks.planned.keys();
        let later = later.filter(|(_, _, generation)| *generation > known);
        self.checks.lost.extend(later.cloned());
    }

    /// The zones that nobody waits for, by the commits in force.
    pub(super) fn detached(&self) -> BTreeSet<ZoneName> {
        let trees = self.coordinator.ledger.commits.values();
        let trees = trees.filter_map(|commit| self.repository.tree_of(commit));
        trees
            .filter_map(|tree| ZoneName::new(ZONES[tree.detached?]).ok())
            .collect()
    }

    fn declares(&self, commit: &CommitId, split: &str) -> Option<&Shares> {
        let tree = self.repository.tree_of(commit)?;
        tree.splits.get(&of_split(split)).map(|declared| &declared.routes)
    }

    /// I8: what was stopped for there is no way back takes no further step, and does not rest, before something else is wanted.
    ///
    /// It was stopped on its way to something: to what was declared without who was drained then. What it set out for may be
    /// another place, where a drain began on the way; when that drain is ended, it goes on to there, or rests there.
    fn check_stopped(&mut self, was: Option<&SplitPlan>, is: &SplitPlan) {
        let motion = |of: &SplitPlan| of.course.as_ref().and_then(|course| course.motion.clone());
        let Some(was) = was.and_then(motion).filter(|was| was.stopped.is_some()) else {
            return;
        };
        let stopped_for = |to| was.stopped.as_ref().is_some_and(|stopped| stopped.shape == to);
        let goes_on = match motion(is) {
            Some(is) => is.stopped.is_none() && stopped_for(is.to) && matches!(is.leg, Leg::Shift { .. }),
            // It rests by what it has, which need not be what its motion said that it went to.
            None => stopped_for(was.to) || is.items.values().any(|item| stopped_for(shape(item))),
        };
        let name = is.items.values().next().map(|item| item.split.to_string());
        let now = self.now;
        self.checks.hold(Invariant::I8, now, !goes_on, || {
            format!(
                "{} was stopped and goes on: {:?}",
                name.unwrap_or_default(),
                motion(is).map(|is| is.leg)
            )
        });
    }

    /// Whether the commits that are accepted now declare something else of a split than those in force until now: where they are
    /// a revert, it is one of the splits that they take back.
    fn changed(&self, heads: &Heads, split: &str) -> bool {
        let declared = |of: &Heads| {
            let trees = of
                .values()
                .filter_map(|head| self.repository.tree_of(&head.commit));
            let mut declared = trees.filter_map(|tree| tree.splits.get(&of_split(split)));
            declared.next().cloned()
        };
        declared(&self.coordinator.heads) != declared(heads)
    }

    /// I2: what came to rest, and what is new, is what is declared but for who is drained. By a revert a drain that has some way to
    /// go gives back what is declared, and goes its way after it (docs/guarantees.md): `give` are those that take their shares.
    fn check_rests(
        &mut self,
        heads: &Heads,
        was: Option<&SplitPlan>,
        is: &SplitPlan,
        (drains, give): (&Drains, &Drains),
    ) {
        let now = self.now;
        let course = |of: &SplitPlan| of.course.clone().unwrap_or_default();
        let shifted = was.is_none_or(|was| {
            let motion = course(was).motion;
            motion.is_some_and(|motion| matches!(motion.leg, Leg::Shift { .. }))
        });
        let (Some(item), true) = (is.items.values().next(), shifted) else {
            return;
        };
        let rests = course(is).motion.is_none() && course(is).quarantine.is_none();
        let trees = heads
            .values()
            .filter_map(|head| self.repository.tree_of(&head.commit));
        let mut declared = trees.filter_map(|tree| tree.splits.get(&of_split(item.split.as_str())));
        let Some(wanted) = declared
            .next()
            .and_then(|declared| remaining(declared, (drains, give)))
        else {
            return;
        };
        let other = is
            .items
            .values()
            .map(|item| asked(item))
            .find(|asked| *asked != wanted);
        let name = &item.split;
        self.checks.hold(Invariant::I2, now, !rests || other.is_none(), || {
            format!("{name} rests with {other:?}, and {wanted:?} is what is declared without who is drained ({give:?})")
        });
    }

    /// I2, I5: a split's place on its way, as a plan has it.
    fn record_course(
        &mut self,
        name: &str,
        split: &SplitPlan,
        generation: u64,
        [drains, along]: [&Drains; 2],
    ) {
        let now = self.now;
        let place_of = |zone: &ZoneName| ZONES.iter().position(|name| *name == zone.as_str());
        let detached: BTreeSet<Place> = self.detached().iter().filter_map(place_of).collect();
        // Where a leg goes was decided when it began, by the drains of that time; agents may be told of it anew later.
        let motion = split.course.as_ref().and_then(|course| course.motion.as_ref());
        let goes = motion.map(|motion| (name.to_owned(), motion.to.to_string()));
        let before = self.coordinator.plan.as_ref();
        let before = before.and_then(|plan| {
            let mut splits = plan.splits.iter();
            splits.find(|(of, _)| of.as_str() == name)
        });
        let told = before.into_iter().flat_map(|(_, split)| &split.items);
        let told = told.filter_map(|(zone, item)| Some((place_of(zone)?, asked(item))));
        let told: BTreeMap<Place, Shares> = told.collect();
        let parent = before.map(|(_, split)| split);
        let before = before.and_then(|(_, split)| split.course.as_ref()?.motion.as_ref());
        // Told anew under another number what it was told before, at the same place of the same way: that was looked at then, and by
        // what is drained now it need not lead anywhere.
        let same = before == motion;
        let anew = |zone: &ZoneName, item: &Item| {
            let was = parent.filter(|_| same).and_then(|parent| parent.items.get(zone));
            was.is_some_and(|was| was.digest == item.digest && was.commit == item.commit)
        };
        let began = before.map(|motion| motion.to) != motion.map(|motion| motion.to);
        let began_by = goes.map(|goes| {
            let by = self.checks.by.entry(goes).or_insert_with(|| drains.clone());
            if began {
                by.clone_from(drains);
            }
            by.clone()
        });
        let began_by = began_by.unwrap_or_default();
        let half = |item: &Item| item.digest.to_string()[..32].to_owned();
        let Some(motion) = split.course.as_ref().and_then(|course| course.motion.as_ref()) else {
            let all = split.items.iter();
            let rested = all.filter_map(|(zone, item)| Some((place_of(zone)?, wanted(item))));
            self.checks.rested.insert(name.to_owned(), rested.collect());
            // The next shift may set out from the very items from which the last one did.
            self.checks.legs.remove(name);
            return;
        };
        let Leg::Shift { bite, wave, .. } = &motion.leg else {
            self.checks.legs.remove(name);
            return;
        };
        let of = |items: &Items| -> BTreeMap<Place, Version> {
            let version = |item: &Item| Version {
                digest: half(item),
                routes: asked(item),
            };
            let all = items.iter();
            all.filter_map(|(zone, item)| Some((place_of(zone)?, version(item))))
                .collect()
        };
        let set_out = of(&motion.from);
        let digests = set_out.iter().map(|(place, item)| (*place, item.digest.clone()));
        let from: BTreeMap<Place, String> = digests.collect();
        let leg = self.checks.legs.entry(name.to_owned()).or_default();
        if leg.0 != from {
            let began = set_out.iter().map(|(place, item)| (0, *place, item.clone()));
            *leg = (from, began.collect());
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
        let is = of(&split.items);
        let moved = is.iter().filter(|(place, item)| {
            let mut before = leg.1.iter().rev();
            before
                .find(|(_, of, _)| of == *place)
                .is_some_and(|(_, _, was)| was.digest != item.digest)
        });
        let moved: BTreeSet<Place> = moved
            .map(|(place, _)| tree.map_or(0, |tree| tree.wave(*place)))
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
        let mut beside: BTreeMap<Place, Vec<Version>> = BTreeMap::new();
        for (of, place, item) in &leg.1 {
            // Nobody waits for a zone that is detached, by the commits in force.
            if of + 1 >= *bite && !detached.contains(place) {
                beside.entry(*place).or_default().push(item.clone());
            }
        }
        let set_out = set_out.into_iter().map(|(place, item)| (place, item.routes));
        let position = Position {
            beside,
            from: set_out.collect(),
            told,
        };
        self.checks
            .positions
            .entry((name.to_owned(), generation))
            .or_insert(position);
        // Each weight is between where it comes from and where it goes to.
        let made = split
            .items
            .iter()
            .filter(|(zone, item)| item.generation.0 == generation && !anew(zone, item));
        for (zone, item) in made {
            let tree = self.repository.tree_of(&item.commit);
            let declared = tree.and_then(|tree| tree.splits.get(&of_split(name)));
            let to = |by| declared.and_then(|declared| remaining(declared, by));
            // Another commit that goes to the same goes on with the leg, by what is drained now.
            let by = [(&began_by, &began_by), (drains, drains), (drains, along)];
            let to: Vec<Shares> = by.into_iter().filter_map(to).collect();
            let Some(from) = motion.from.get(zone).filter(|_| !to.is_empty()) else {
                continue;
            };
            let (from, is) = (asked(from), asked(item));
            if from.len() != is.len() || to.iter().any(|to| to.len() != is.len()) {
                continue;
            }
            let between = to.iter().any(|to| between(&from, &is, to));
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

/// Whether each weight is between where it comes from and where it goes to.
fn between(from: &Shares, is: &Shares, to: &Shares) -> bool {
    is.iter().zip(from.iter().zip(to)).all(|(is, (from, to))| {
        let sums = is.values().sum::<u32>() == 10_000;
        let share = |of: &BTreeMap<Place, u32>, place| of.get(place).copied().unwrap_or_default();
        sums && is.iter().all(|(place, weight)| {
            let (a, b) = (share(from, place), share(to, place));
            // TCP goes to nothing by way of the smallest weight.
            (a.min(b)..=a.max(b).max(1)).contains(weight) || weight + 1 == a.min(b)
        })
    })
}
