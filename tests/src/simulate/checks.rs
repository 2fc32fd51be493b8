//! The invariants I1 to I11, as code of their own. Each is checked by what simulated control planes and Envoys really hold
//! and by this module's own record of what was declared, accepted and planned; nothing that Weir reports is believed, but
//! where the invariant is about what it reports.
//!
//! *Anytime* checks run at every write, at every change in an Envoy, at every plan that is taken and whatever is shown;
//! *eventually* checks run once a second, and at the end of the quiet time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use weir_coordinator::decide::Heads;
use weir_model::{CommitId, Protocol, SplitName, ZoneName};
use weir_planner::course::Items;
use weir_planner::{Generation, Item, ItemState, Leg, Plan, SplitPlan, ZonePlan};
use weir_render::{Kind, Step};

use super::Ms;
use super::human::{BACKENDS, Declared};
use super::world::{SPLITS, World, ZONES};
use super::zone::{Door, Key, Meaning, Place, Runs, Shares, Stored, key_of, wanted};

/// For so long connections stay on replaced routes (`kuma.md` R9).
const DRAIN: Ms = 30_000;
/// A revert is in force so long after everything that it needs works: an agent may wait 20 s before it calls again.
const FAST: Ms = 50_000;
/// Silence of an agent after which nothing of its zone is converged any more.
const SILENCE: i128 = 15_000;
/// What is shown as converged was true within this time: the silence that is allowed, the longest look, and the longest
/// that a message is on its way before its session ends.
const FRESH: Ms = 15_000 + 30_000 + 30_000;

/// One of the invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Provenance.
    I1,
    /// Exactness.
    I2,
    /// Ready before weight.
    I3,
    /// Drain before break.
    I4,
    /// In step.
    I5,
    /// Fail static.
    I6,
    /// Monotone.
    I7,
    /// Revert wins.
    I8,
    /// Honest status.
    I9,
    /// Only ours.
    I10,
    /// Convergence.
    I11,
}

impl Invariant {
    /// All, in their order.
    pub const ALL: [Self; 11] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// When.
    pub at: Ms,
    /// What was found.
    pub what: String,
}

/// A revert that is to be in force soon.
#[derive(Debug)]
struct Revert {
    /// The commit that takes the last one back; none for an abort.
    commit: Option<CommitId>,
    /// Since when all that it needs works, by zone.
    good: Vec<Option<Ms>>,
    /// Zones in which it was seen to be in force.
    done: Vec<bool>,
    /// The splits that it changes, with what they are to run then.
    splits: BTreeMap<usize, Declared>,
}

/// A place that a split takes on its way: what may run beside it in other zones (I5).
#[derive(Debug, Clone)]
struct Position {
    /// By zone: what this plan has, and what the one before it had.
    beside: BTreeMap<Place, BTreeSet<String>>,
}

/// The record by which is judged.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) counts: [u64; Invariant::ALL.len()],
    pub(crate) violation: Option<Violation>,
    /// Every item of every plan that was recorded, by zone, first half of its digest, and generation.
    planned: BTreeMap<(Place, String, u64), Vec<Arc<Item>>>,
    /// Every plan that was recorded: its generation, and the policies that each zone has by it.
    plans: BTreeMap<u64, Vec<BTreeSet<(Place, Key)>>>,
    accepted: BTreeSet<CommitId>,
    /// What agents of a zone were given.
    delivered: BTreeSet<(Place, String, u64)>,
    /// The items whose weights a zone's control plane took last and before that, by digest.
    last: BTreeMap<(Place, Key), [String; 2]>,
    /// What one agent wrote, or saw to be in force. An agent whose zone another one drives further puts back what itself
    /// had last.
    had: BTreeSet<(usize, Key, String)>,
    /// What was removed, by which plan and when, where something of ours stayed.
    removed: BTreeMap<(Place, Key), (u64, Ms)>,
    /// For each planned item, the one before it and when it was planned.
    before: BTreeMap<(Place, String, u64), (String, Ms)>,
    /// What all Envoys of a zone ran of a policy, since when.
    truth: BTreeMap<(Place, Key), Vec<(Ms, Option<Shares>)>>,
    revert: Option<Revert>,
    /// A ledger was lost: who told whom what on the way is not known any more, and nobody promises I5 after it.
    pub(crate) history_lost: bool,
    /// By split and generation, for steps of a shift.
    positions: BTreeMap<(String, u64), Position>,
    /// By split: where the shift that is under way began, and the items of each of its steps with their bite.
    legs: BTreeMap<String, (BTreeMap<Place, String>, Vec<(u32, Place, String)>)>,
    /// Items of a split that was under way: their weights need not be the declared ones.
    steps: BTreeSet<(Place, String, u64)>,
    /// What each split ran in each zone when it last rested.
    rested: BTreeMap<String, BTreeMap<Place, Shares>>,
    /// Policies of strangers, as those wrote them.
    pub(crate) strangers: BTreeMap<(Place, Key), serde_json::Value>,
    /// Policies that somebody wrote over.
    pub(crate) tampered: BTreeSet<(Place, Key)>,
}

impl Checks {
    fn hold(&mut self, invariant: Invariant, at: Ms, holds: bool, what: impl FnOnce() -> String) {
        self.counts[invariant as usize] += 1;
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation {
                invariant,
                at,
                what: what(),
            });
        }
    }

    /// A policy is gone by somebody's hand, and with it what it told of removals.
    pub(crate) fn word_lost(&mut self, zone: Place) {
        self.removed.retain(|(of, _), _| *of != zone);
    }

    pub(crate) fn store_lost(&mut self, zone: Place) {
        self.removed.retain(|(of, _), _| *of != zone);
        self.tampered.retain(|(of, _)| *of != zone);
    }
}

/// The routes that an item asks for, zeros included.
fn asked(item: &Item) -> Shares {
    let place = |backend: &weir_model::BackendName| {
        let to = item.destinations.get(backend)?;
        ZONES.iter().position(|name| *name == to.kuma_zone.as_str())
    };
    let route = |route: &weir_planner::ItemRoute| {
        let shares = route.weights.iter();
        shares
            .filter_map(|(backend, weight)| Some((place(backend)?, weight.get())))
            .collect()
    };
    item.routes.iter().map(route).collect()
}

fn of_split(split: &str) -> usize {
    SPLITS
        .iter()
        .position(|name| *name == split)
        .unwrap_or(SPLITS.len())
}

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

    /// I5: a zone took a step of a shift; no other is further back than one step.
    fn check_in_step(&mut self, z: Place, key: &Key, meaning: &Meaning) {
        let now = self.now;
        if self.checks.history_lost {
            return;
        }
        let position = (meaning.split.clone(), meaning.generation);
        let Some(position) = self.checks.positions.get(&position).cloned() else {
            return;
        };
        for other in 0..self.zones.len() {
            let zone = &self.zones[other];
            let tampered = self.checks.tampered.contains(&(other, key.clone()));
            let well = zone
                .well_since(&meaning.split)
                .is_some_and(|since| since + 30_000 <= now);
            let known = self.coordinator.fleet.of(&zone.name).next().is_some();
            if other == z || zone.agents > 1 || tampered || !well || !known {
                continue;
            }
            let Some(beside) = position.beside.get(&other) else {
                continue;
            };
            let behind = zone.envoys.iter().find_map(|envoy| {
                let runs = envoy.runs.get(key)?;
                let old = runs.meaning.whole
                    && runs.meaning.generation < meaning.generation
                    && !envoy.disturbed.contains(key);
                (old && !beside.contains(&runs.meaning.digest)).then_some(runs.meaning.generation)
            });
            let (ahead, back) = (ZONES[z], ZONES[other]);
            self.checks.hold(Invariant::I5, now, behind.is_none(), || {
                format!(
                    "{ahead} takes the step {} of {}, while {back} still runs {}, more than one step behind",
                    meaning.generation,
                    meaning.split,
                    behind.unwrap_or_default()
                )
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

    /// I7: an agent took a plan.
    pub(crate) fn check_taken(&mut self, a: usize, before: Generation, plan: &ZonePlan) {
        let now = self.now;
        let name = self.agents[a].name.clone();
        let is = plan.generation;
        self.checks.hold(Invariant::I7, now, is >= before, || {
            format!("agent {name} took plan {is} after plan {before}")
        });
        let place = self.agents[a].zone;
        for item in plan.items.values() {
            let half = item.digest.to_string()[..32].to_owned();
            self.checks.delivered.insert((place, half, item.generation.0));
        }
    }

    /// I3, I6, I7, I10: an agent wrote or removed something.
    pub(crate) fn check_write(&mut self, a: usize, step: &Step, before: Option<&Stored>) {
        let now = self.now;
        let z = self.agents[a].zone;
        let name = self.agents[a].name.clone();
        let (kind, _, object_name) = step.object();
        let key: Key = (kind, object_name.to_owned());
        self.checks.hold(
            Invariant::I10,
            now,
            before.is_none_or(|before| before.ours.is_some()),
            || {
                format!(
                    "agent {name} writes over {object_name} in {}, which is not Weir's",
                    ZONES[z]
                )
            },
        );
        let stored = self.zones[z].store.get(&key).cloned();
        if let Some(stored) = &stored {
            let (is, was) = (stored.meaning.generation, before.map(|b| b.meaning.generation));
            self.checks
                .hold(Invariant::I7, now, was.is_none_or(|was| is >= was), || {
                    format!(
                        "agent {name} writes generation {is} of {object_name} in {} over generation {}",
                        ZONES[z],
                        was.unwrap_or_default()
                    )
                });
            if before.is_none()
                && let Some((by, when)) = self.checks.removed.remove(&(z, key.clone()))
                // An agent beside others that missed a plan, and holds its split, puts back what itself had last.
                && (self.zones[z].agents == 1 || self.holds_newest(a, step))
                // Who looked before that cannot know: Kuma has no compare-and-set.
                && self.agents[a].running.as_ref().is_some_and(|running| running.began > when)
            {
                self.checks.hold(Invariant::I7, now, is >= by, || {
                    format!(
                        "agent {name} brings {object_name} of generation {is} back in {}, which plan {by} removed",
                        ZONES[z]
                    )
                });
            }
            // A stranger's hand is off it again.
            if stored.meaning.whole {
                self.checks.tampered.remove(&(z, key.clone()));
            }
        }
        match step {
            Step::Put { digest, .. } => self.check_put(a, &key, &digest.to_string()[..32], stored.as_ref()),
            Step::Withdraw { generation, .. } => {
                let so = self.taken_away(z, &key, generation.0);
                self.checks.hold(Invariant::I6, now, so, || {
                    format!(
                        "agent {name} withdraws {object_name} in {}, which plan {generation} has not taken away",
                        ZONES[z]
                    )
                });
            }
            Step::Delete { .. } => {
                let plan = self.agents[a].generation();
                let so = self.taken_away(z, &key, plan.0);
                self.checks.hold(Invariant::I6, now, so, || {
                    format!(
                        "agent {name} removes {object_name} in {}, which plan {plan} has not taken away",
                        ZONES[z]
                    )
                });
                let others = self.zones[z]
                    .store
                    .values()
                    .any(|other| other.ours.is_some() && other.meaning.whole);
                if others {
                    self.checks.removed.insert((z, key), (plan.0, now));
                } else {
                    // Nothing is left that could tell of it.
                    self.checks.removed.retain(|(of, _), _| *of != z);
                }
            }
            Step::Introduce { .. } => {}
        }
    }

    /// Whether a step is of the very item that the agent's plan has.
    fn holds_newest(&self, a: usize, step: &Step) -> bool {
        let Step::Put {
            split, generation, ..
        } = step
        else {
            return true;
        };
        let plan = self.agents[a].plan.as_ref();
        let item = plan.and_then(|plan| plan.items.get(split));
        item.is_some_and(|item| item.generation == *generation)
    }

    fn taken_away(&self, z: Place, key: &Key, generation: u64) -> bool {
        self.checks
            .plans
            .get(&generation)
            .is_some_and(|plans| plans.iter().any(|policies| !policies.contains(&(z, key.clone()))))
    }

    fn check_put(&mut self, a: usize, key: &Key, digest: &str, stored: Option<&Stored>) {
        let now = self.now;
        let z = self.agents[a].zone;
        let name = self.agents[a].name.clone();
        let generation = stored.map_or(0, |stored| stored.meaning.generation);
        let given = (z, digest.to_owned(), generation);
        let known = self.checks.delivered.contains(&given);
        self.checks.hold(Invariant::I6, now, known, || {
            format!(
                "agent {name} writes {} of generation {generation}, which nobody gave it",
                key.1
            )
        });
        // What was in force is put back as it was. An agent that ended between its write and its memory of it puts back
        // what was there before.
        let again = self
            .checks
            .last
            .get(&(z, key.clone()))
            .is_some_and(|last| last.iter().any(|last| last == digest))
            || (self.zones[z].agents > 1 && self.checks.had.contains(&(a, key.clone(), digest.to_owned())));
        if !again
            && let Some(item) = self
                .checks
                .planned
                .get(&given)
                .and_then(|all| all.first())
                .cloned()
        {
            let resolved = self.agents[a]
                .running
                .as_ref()
                .map(|running| Arc::clone(&running.resolved));
            let service = item.service.to_string();
            let protocol = item.protocol;
            let places: BTreeSet<Place> = wanted(&item)
                .iter()
                .flat_map(|route| route.keys().copied())
                .collect();
            for place in places {
                let ready = self.zones[z].resolves(&service, place, protocol)
                    || resolved
                        .as_ref()
                        .is_some_and(|all| all.contains(&(service.clone(), place, protocol)));
                self.checks.hold(Invariant::I3, now, ready, || {
                    format!(
                        "agent {name} gives weight to {service} of {} in {}, where that does not resolve",
                        ZONES[place], ZONES[z]
                    )
                });
            }
        }
        let last = self.checks.last.entry((z, key.clone())).or_default();
        if last[0] != digest {
            last.swap(0, 1);
            last[0] = digest.to_owned();
        }
        self.checks.had.insert((a, key.clone(), digest.to_owned()));
    }

    /// I1, I2, I4: an Envoy runs something else than before.
    pub(crate) fn check_followed(
        &mut self,
        z: Place,
        key: &Key,
        before: Option<&Runs>,
        after: Option<&Runs>,
        disturbed: bool,
    ) {
        let now = self.now;
        let tampered = self.checks.tampered.contains(&(z, key.clone()));
        if let Some(runs) = after
            && runs.meaning.whole
            && !tampered
        {
            self.check_provenance(z, key, &runs.meaning);
            self.check_in_step(z, key, &runs.meaning);
        }
        if !disturbed && !tampered && key.0 == Kind::MeshHttpRoute && self.zones[z].agents == 1 {
            let lost = lost(before, after, now).filter(|_| self.follows(z, before, after));
            self.checks.hold(Invariant::I4, now, lost.is_none(), || {
                format!(
                    "requests are lost in {}: {} {}",
                    ZONES[z],
                    key.1,
                    lost.unwrap_or_default()
                )
            });
        }
        self.note_truth(z, key);
    }

    /// What is planned is planned for who has followed the plan before, for as long as connections drain. A zone that was
    /// away for longer goes over several plans at once (docs/architecture.md, I4).
    fn follows(&self, z: Place, before: Option<&Runs>, after: Option<&Runs>) -> bool {
        let (Some(before), Some(after)) = (before, after) else {
            return true;
        };
        if !before.meaning.whole || !after.meaning.whole {
            return true;
        }
        let planned = (z, after.meaning.digest.clone(), after.meaning.generation);
        self.checks
            .before
            .get(&planned)
            .is_some_and(|(earlier, made)| *earlier == before.meaning.digest && before.since + DRAIN <= *made)
    }

    /// What an agent saw to be in force when it was done.
    pub(crate) fn note_in_force(&mut self, a: usize) {
        let z = self.agents[a].zone;
        if self.zones[z].agents < 2 {
            return;
        }
        let whole = self.zones[z]
            .store
            .iter()
            .filter(|(_, stored)| stored.meaning.whole);
        for (key, stored) in whole {
            self.checks
                .had
                .insert((a, key.clone(), stored.meaning.digest.clone()));
        }
    }

    fn check_provenance(&mut self, z: Place, key: &Key, meaning: &Meaning) {
        let now = self.now;
        let planned = (z, meaning.digest.clone(), meaning.generation);
        let all = self.checks.planned.get(&planned);
        let item = all
            .and_then(|all| all.iter().find(|item| item.commit.to_string() == meaning.commit))
            .cloned();
        let sound = item
            .as_ref()
            .is_some_and(|item| self.checks.accepted.contains(&item.commit));
        let place = ZONES[z];
        self.checks.hold(Invariant::I1, now, sound, || {
            format!(
                "{place} runs {} of generation {} and commit {}, which no recorded plan has",
                key.1, meaning.generation, meaning.commit
            )
        });
        let Some(item) = item else { return };
        let declared = self
            .repository
            .tree_of(&item.commit)
            .and_then(|tree| tree.splits.get(&of_split(&meaning.split)))
            .map(|declared| declared.routes.clone());
        let exact = meaning.routes == asked(&item)
            && (declared.as_ref() == Some(&meaning.routes) || self.checks.steps.contains(&planned))
            && meaning
                .routes
                .iter()
                .all(|route| route.values().sum::<u32>() == 10_000);
        self.checks.hold(Invariant::I2, now, exact, || {
            format!(
                "{place} runs {:?} of {}, commit {} declares {declared:?}",
                meaning.routes, key.1, meaning.commit
            )
        });
    }

    /// Remembers what a zone runs from now on.
    pub(crate) fn note_truth(&mut self, z: Place, key: &Key) {
        let now = self.now;
        let zone = &self.zones[z];
        let split = key.1.strip_prefix("weir-").unwrap_or_default();
        let overridden = zone
            .rival
            .as_ref()
            .is_some_and(|rival| rival.outranks && rival.split == split);
        let is = zone.truth(key).filter(|_| !overridden).cloned();
        let history = self.checks.truth.entry((z, key.clone())).or_default();
        if history.last().is_none_or(|(_, was)| *was != is) {
            history.push((now, is));
        }
    }

    /// I9: what is shown as converged was so, lately, when somebody looked.
    pub(crate) fn check_shown(&mut self) {
        let now = self.now;
        if !self.coordinator.up {
            return;
        }
        let Some(plan) = self.coordinator.plan.clone() else {
            return;
        };
        let mut shown: Vec<(Place, Arc<Item>)> = Vec::new();
        self.coordinator.sight(&plan, now, |zone, item| {
            if let Some(place) = ZONES.iter().position(|name| *name == zone.as_str()) {
                shown.push((place, Arc::new(item.clone())));
            }
        });
        for (z, item) in shown {
            let key = key_of(&item);
            let want = wanted(&item);
            let history = self.checks.truth.get(&(z, key.clone()));
            // From `from` on: whether it was ever so since then.
            let from = now.saturating_sub(FRESH);
            let so = history.is_some_and(|history| {
                history.iter().enumerate().any(|(n, (since, is))| {
                    let until = history.get(n + 1).map_or(Ms::MAX, |(next, _)| *next);
                    is.as_ref() == Some(&want) && until >= from && *since <= now
                })
            });
            let place = ZONES[z];
            self.checks.hold(Invariant::I9, now, so, || {
                format!(
                    "{} of generation {} is shown as converged in {place}, which has not run it for {} s",
                    item.split,
                    item.generation,
                    FRESH / 1000
                )
            });
            // And each agent's own word: true at the instant of its proof.
            let agents: Vec<usize> = (0..self.agents.len())
                .filter(|a| self.agents[*a].zone == z)
                .collect();
            for a in agents {
                let name = &self.agents[a].name;
                let zone = &self.zones[z].name;
                let Some(agent) = self.coordinator.fleet.agent(zone, name) else {
                    continue;
                };
                // Silence is shown as what it is, as far as its own clock can tell.
                let c = &self.coordinator;
                let heard = c.heard.get(&a).copied();
                let age = heard.map(|(_, at)| c.clock(now).duration_since(at).as_millis());
                let fresh = age.is_some_and(|age| (-60_000..=SILENCE).contains(&age));
                let (heard, who) = (heard.map_or(0, |(at, _)| at), name.clone());
                self.checks.hold(Invariant::I9, now, fresh, || {
                    format!(
                        "{} is shown as converged in {}, where {who} was last heard {} s ago",
                        item.split,
                        ZONES[z],
                        (now - heard) / 1000
                    )
                });
                let fact = agent.items.get(&item.split);
                let proof = fact.and_then(|fact| fact.proof.as_ref());
                let at = proof.map(|proof| {
                    let ms = proof.at.duration_since(super::world::stamp(0)).as_millis();
                    u64::try_from(ms).unwrap_or_default()
                });
                let so = at.is_some_and(|at| self.was(z, &key, at, &want));
                let (name, place) = (name.clone(), ZONES[z]);
                self.checks.hold(Invariant::I9, now, so, || {
                    format!(
                        "{} of generation {} is shown as converged in {place} by the word of {name}, whose proof of {at:?} \
                         ms was not so",
                        item.split, item.generation
                    )
                });
            }
        }
    }

    fn was(&self, z: Place, key: &Key, at: Ms, want: &Shares) -> bool {
        self.checks.truth.get(&(z, key.clone())).is_some_and(|history| {
            history.iter().enumerate().any(|(n, (since, is))| {
                let until = history.get(n + 1).map_or(Ms::MAX, |(next, _)| *next);
                is.as_ref() == Some(want) && *since <= at && at <= until
            })
        })
    }

    /// I5, I10: after every event.
    pub(crate) fn anytime(&mut self) {
        let now = self.now;
        let strangers: Vec<(Place, Key)> = self.checks.strangers.keys().cloned().collect();
        for (z, key) in strangers {
            let so = self.checks.strangers.get(&(z, key.clone()))
                == self.zones[z].store.get(&key).map(|stored| &stored.document);
            let place = ZONES[z];
            self.checks.hold(Invariant::I10, now, so, || {
                format!("{} in {place} is a stranger's, and was changed", key.1)
            });
        }
    }

    /// Somebody took the last commit back. It is a revert to the coordinator if that commit is in force, and what it goes back
    /// to was so directly before.
    pub(crate) fn note_revert(&mut self, commit: usize) {
        let commits = &self.repository.commits;
        let Some(reverted) = commits[commit].parent else {
            return;
        };
        let trees = (
            commits[reverted].head.tree.clone(),
            commits[commit].head.tree.clone(),
        );
        let is = &commits[commit].tree;
        let was = &commits[reverted].tree;
        let changed = is
            .splits
            .iter()
            .filter(|(n, declared)| was.splits.get(n) != Some(declared));
        // What is still on its way by an earlier commit was not moved by this one, and goes on as it was.
        let reverted = commits[reverted].head.commit.clone();
        let plan = self.coordinator.ledger.plan.as_ref();
        let earlier = |n: &usize| {
            let splits = plan.iter().flat_map(|plan| &plan.splits);
            let mut of = splits.filter(|(name, _)| name.as_str() == SPLITS[*n]);
            of.any(|(_, split)| {
                let course = split.course.as_ref();
                course.is_some_and(|course| course.motion.is_some())
                    && split.items.values().all(|item| item.commit != reverted)
            })
        };
        let changed = changed.filter(|(n, _)| !earlier(n));
        let splits: BTreeMap<usize, Declared> = changed.map(|(n, of)| (*n, of.clone())).collect();
        let commit = commits[commit].head.commit.clone();
        self.checks.revert = (trees == *self.coordinator.ledger.trees()).then(|| Revert {
            commit: Some(commit),
            good: vec![None; self.zones.len()],
            done: vec![false; self.zones.len()],
            splits,
        });
    }

    /// Somebody aborts a split: it goes back to where it rested.
    pub(crate) fn note_abort(&mut self, split: &SplitName) {
        let plan = self.coordinator.ledger.plan.as_ref();
        let course = plan.and_then(|plan| plan.splits.get(split)?.course.clone());
        let shifts = course
            .and_then(|course| course.motion)
            .is_some_and(|motion| matches!(motion.leg, Leg::Shift { .. }));
        let Some(rested) = self.checks.rested.get(split.as_str()).filter(|_| shifts) else {
            return;
        };
        // The same everywhere, or there is nothing simple to say.
        let mut all = rested.values();
        let Some(first) = all.next().filter(|first| all.all(|other| other == *first)) else {
            return;
        };
        let n = of_split(split.as_str());
        let declared = Declared {
            protocol: super::human::protocol_of(split.as_str()),
            backends: (0..self.zones.len()).collect(),
            routes: first.clone(),
            steps: (100, 0),
        };
        self.checks.revert = Some(Revert {
            commit: None,
            good: vec![None; self.zones.len()],
            done: vec![false; self.zones.len()],
            splits: BTreeMap::from([(n, declared)]),
        });
    }

    pub(crate) fn forget_revert(&mut self) {
        self.checks.revert = None;
    }

    /// Whether everything works that a zone needs to follow.
    fn works(&self, z: Place) -> bool {
        let zone = &self.zones[z];
        let c = &self.coordinator;
        let mine = |a: &usize| self.agents[*a].zone == z;
        let agents: Vec<usize> = (0..self.agents.len()).filter(mine).collect();
        c.up && c.git
            && !c.full
            && zone.door == Door::Open
            && zone.flaky == 0
            && zone.rival.is_none()
            && !self.checks.strangers.keys().any(|(of, _)| *of == z)
            && !self.checks.tampered.iter().any(|(of, _)| *of == z)
            && zone.envoys.iter().all(|envoy| !envoy.stuck)
            && agents.iter().all(|a| {
                let (agent, link) = (&self.agents[*a], &self.links[*a]);
                agent.up && !agent.disk.full && !link.up_cut && !link.down_cut && link.slow == 0
            })
    }

    /// I8: once a second.
    pub(crate) fn eventually(&mut self) {
        let now = self.now;
        let Some(revert) = &self.checks.revert else {
            return;
        };
        let commit = revert.commit.clone();
        let splits = revert.splits.clone();
        // It has to be heard of before it can win.
        let heard = match &commit {
            Some(commit) => self.coordinator.ledger.commits.values().any(|of| of == commit),
            None => self.coordinator.ledger.orders.aborts.is_empty(),
        };
        for z in 0..self.zones.len() {
            let resolves = splits.iter().all(|(n, declared)| {
                let weighted = declared.routes.iter().flat_map(|route| {
                    route
                        .iter()
                        .filter(|(_, weight)| **weight > 0)
                        .map(|(place, _)| *place)
                });
                let mut weighted = weighted;
                weighted.all(|place| self.zones[z].resolves(SPLITS[*n], place, declared.protocol))
            });
            let good = heard && self.works(z) && resolves;
            let since = self.checks.revert.as_mut().and_then(|revert| {
                let slot = revert.good.get_mut(z)?;
                *slot = if good { slot.or(Some(now)) } else { None };
                *slot
            });
            let Some(since) = since else { continue };
            let late = now - since >= FAST;
            let mut missing = None;
            for (n, declared) in &splits {
                // Where the service runs and is no backend, a first policy is held.
                if declared.backends.len() < self.zones.len() {
                    continue;
                }
                let kind = if declared.protocol == Protocol::Tcp {
                    Kind::MeshTcpRoute
                } else {
                    Kind::MeshHttpRoute
                };
                let key = (kind, format!("weir-{}", SPLITS[*n]));
                let want: Shares = declared
                    .routes
                    .iter()
                    .map(|route| {
                        let all = route.iter().filter(|(_, weight)| **weight > 0);
                        all.map(|(place, weight)| (*place, *weight)).collect()
                    })
                    .collect();
                let runs = self.zones[z].truth(&key);
                if runs != Some(&want) {
                    missing = Some(format!("runs {runs:?} of {}, not {want:?}", key.1));
                }
            }
            let done = self.checks.revert.as_ref().is_some_and(|revert| revert.done[z]);
            if done || (missing.is_some() && !late) {
                continue;
            }
            if let Some(revert) = &mut self.checks.revert {
                revert.done[z] = true;
            }
            let place = ZONES[z];
            self.checks.hold(Invariant::I8, now, missing.is_none(), || {
                format!(
                    "{place}, {} s after all works that {} needs, {}",
                    (now - since) / 1000,
                    commit.as_ref().map_or_else(
                        || "the abort".to_owned(),
                        |commit| format!("the revert {}", commit.short())
                    ),
                    missing.unwrap_or_default()
                )
            });
        }
    }

    /// I11: what is still missing, when all faults are over; none if all is as declared and shown so.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let c = &self.coordinator;
        let newest = self.repository.newest();
        let tree = &self.repository.commits[self.repository.branch].tree;
        let in_force = c.ledger.commits.values().next();
        let Some(plan) = &c.plan else {
            // Its ledger is lost and what is in Git cannot be read: it says so, and all stays as it is.
            return (!tree.broken).then(|| "there is no plan".to_owned());
        };
        let may_be_refused = tree.broken || {
            let has = |n: &usize| plan.splits.keys().any(|name| name.as_str() == SPLITS[*n]);
            !tree.splits.keys().any(has)
        };
        if in_force != Some(&newest.commit) && !may_be_refused {
            return Some(format!("commit {} is not in force", newest.commit.short()));
        }
        // What is in force is what was declared there, whoever made the plan.
        let declared = in_force.and_then(|commit| self.repository.tree_of(commit));
        let Some(declared) = declared else {
            return Some("nothing is in force".to_owned());
        };
        let names: BTreeSet<&str> = declared.splits.keys().map(|n| SPLITS[*n]).collect();
        let planned: BTreeSet<&str> = plan.splits.keys().map(|name| name.as_str()).collect();
        if names != planned {
            return Some(format!(
                "plan {} has {planned:?}, declared are {names:?}",
                plan.generation
            ));
        }
        for agent in &self.agents {
            if agent.generation() != plan.generation {
                return Some(format!(
                    "agent {} holds plan {}, not {} ({:?})",
                    agent.name,
                    agent.generation(),
                    plan.generation,
                    agent.refused
                ));
            }
        }
        let quarantined: BTreeSet<&SplitName> = plan
            .splits
            .iter()
            .filter(|(_, split)| {
                let course = split.course.as_ref();
                course.is_some_and(|course| course.quarantine.is_some())
            })
            .map(|(name, _)| name)
            .collect();
        // It says exactly why not: whose callers it would take along, or when it goes on by a clock that was set.
        let stands = |split: &SplitName| c.outlook.get(split);
        let says = |split: &SplitName| {
            stands(split).is_some_and(|stands| {
                let clock = c.clock(self.now);
                let by_the_clock = stands
                    .until
                    .is_some_and(|until| until.duration_since(clock).as_secs() > 30);
                by_the_clock
                    || stands
                        .waits
                        .iter()
                        .any(|wait| wait.why.contains("takes along callers"))
            })
        };
        let under_way = |split: &&SplitName| !quarantined.contains(split) && !says(split);
        if let Some(split) = c.outlook.keys().find(under_way) {
            return Some(format!("{split} is still under way: {:?}", stands(split)));
        }
        let mut converged = BTreeSet::new();
        c.sight(plan, self.now, |zone, item| {
            converged.insert((zone.clone(), item.split.clone()));
        });
        for zone in &self.zones {
            for split in plan.splits.values() {
                let Some(item) = split.items.get(&zone.name) else {
                    continue;
                };
                if says(&item.split) {
                    continue;
                }
                let want = declared.splits.get(&of_split(item.split.as_str()));
                if want.map(|want| &want.routes) != Some(&asked(item))
                    && !quarantined.contains(&item.split)
                    && !says(&item.split)
                {
                    return Some(format!("{} of {} is not as declared", item.split, zone.name));
                }
                let key = key_of(item);
                // Its service runs where it has no backend: then it may be held, for it would take callers along.
                let takes_along = item.destinations.len() < self.zones.len()
                    || want.is_some_and(|want| want.backends.len() < self.zones.len());
                if zone.store.get(&key).is_some_and(|stored| stored.ours.is_none())
                    || (takes_along && zone.truth(&key).is_none())
                {
                    // A stranger has its name, or it would take callers along: it must say so.
                    let says = self
                        .agents
                        .iter()
                        .filter(|agent| agent.zone == zone.place)
                        .all(|agent| {
                            let facts = agent.facts.iter().flat_map(|facts| &facts.items);
                            let mut ours = facts.filter(|fact| fact.split == item.split);
                            ours.all(|fact| matches!(fact.state, ItemState::Held(_)))
                        });
                    if says {
                        continue;
                    }
                    return Some(format!(
                        "{} of {} does not say that it is held",
                        item.split, zone.name
                    ));
                }
                if !zone.runs_exactly(item) {
                    let state = self
                        .agents
                        .iter()
                        .filter(|agent| agent.zone == zone.place)
                        .filter_map(|agent| agent.facts.as_ref())
                        .flat_map(|facts| &facts.items)
                        .find(|fact| fact.split == item.split)
                        .map(|fact| format!("{:?}", fact.state));
                    return Some(format!(
                        "{} does not run {}: {}",
                        zone.name,
                        item.split,
                        state.unwrap_or_default()
                    ));
                }
                if !converged.contains(&(zone.name.clone(), item.split.clone())) {
                    return Some(format!(
                        "{} of {} is not shown as converged",
                        item.split, zone.name
                    ));
                }
            }
            let orphan = zone
                .store
                .iter()
                .filter(|(_, stored)| stored.ours.is_some())
                .find(|(_, stored)| !names.contains(stored.meaning.split.as_str()));
            if let Some((key, _)) = orphan {
                return Some(format!("{} is still in {}", key.1, zone.name));
            }
        }
        None
    }

    pub(crate) fn check_settled(&mut self, missing: Option<String>) {
        let now = self.now;
        self.checks.hold(Invariant::I11, now, missing.is_none(), || {
            format!("all faults are over, and {}", missing.unwrap_or_default())
        });
    }
}

/// What is lost when an Envoy goes from one to the other: Kuma takes clusters before the routes that use them, and gives
/// routes before their clusters.
fn lost(before: Option<&Runs>, after: Option<&Runs>, now: Ms) -> Option<String> {
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => after
            .meaning
            .whole
            .then(|| "comes with its weights, without its anchor before".to_owned()),
        (Some(before), None) if before.meaning.whole => Some("goes with its weights".to_owned()),
        (Some(before), None) => {
            let age = now - before.since;
            (age < DRAIN).then(|| format!("goes {age} ms after its weights, while connections drain"))
        }
        (Some(before), Some(after)) => {
            let gone = before.meaning.names.difference(&after.meaning.names);
            let mut gone = gone.filter_map(|place| {
                let last = before.last.get(place)?;
                let sends = before.shares.iter().any(|route| route.contains_key(place));
                let backend = BACKENDS[*place];
                if sends {
                    Some(format!("drops the cluster of {backend} with its weight"))
                } else if now - last < DRAIN {
                    Some(format!(
                        "drops the cluster of {backend} {} ms after its weight",
                        now - last
                    ))
                } else {
                    None
                }
            });
            gone.next()
        }
    }
}
