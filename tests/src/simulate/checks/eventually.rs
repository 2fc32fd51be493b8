//! What holds once all that it needs works: reverts and aborts, fast; and in the end, everything.

use std::collections::{BTreeMap, BTreeSet};

use weir_coordinator::ledger::OrderKind;
use weir_model::{Protocol, SplitName};
use weir_planner::{ItemState, Leg};
use weir_render::Kind;

use super::gates::FAST_AT_GATES;
use super::{FAST, Invariant, Revert, asked, of_split};
use crate::simulate::human::{Declared, protocol_of};
use crate::simulate::world::{SPLITS, World, ZONES};
use crate::simulate::zone::{Door, Place, Shares, key_of};

impl World {
    /// Somebody took the last commit back. It is a revert to the coordinator if that commit is in force, and what it goes back
    /// to was so directly before. The revert of a revert goes on to what was turned away from: a change like any other.
    pub(crate) fn note_revert(&mut self, commit: usize) {
        let commits = &self.repository.commits;
        let Some(reverted) = commits[commit].parent else {
            return;
        };
        let chain = std::iter::successors(Some(reverted), |at| commits[*at].parent);
        let back = chain.take_while(|at| commits[*at].head.subject == "reverts");
        if back.count() % 2 == 1 {
            self.forget_revert();
            return;
        }
        let commits = &self.repository.commits;
        let trees = (
            commits[reverted].head.tree.clone(),
            commits[commit].head.tree.clone(),
        );
        let is = &commits[commit].tree;
        let was = &commits[reverted].tree;
        // A door that opens or closes beside a shift that goes where it went takes that nowhere.
        let alike = |was: &Declared, is: &Declared| was.routes == is.routes && was.backends == is.backends;
        let changed = is
            .splits
            .iter()
            .filter(|(n, declared)| was.splits.get(n).is_none_or(|was| !alike(was, declared)));
        // What is still on its way by an earlier commit was not moved by this one, and goes on as it was; and what was turned
        // away from is gone towards step by step, though it is the revert of the way back.
        let reverted = commits[reverted].head.commit.clone();
        let plan = self.coordinator.ledger.plan.as_ref();
        let earlier = |n: &usize| {
            let splits = plan.iter().flat_map(|plan| &plan.splits);
            let mut of = splits.filter(|(name, _)| name.as_str() == SPLITS[*n]);
            of.any(|(_, split)| {
                let Some(course) = &split.course else {
                    return false;
                };
                let on_its_way =
                    course.motion.is_some() && split.items.values().all(|item| item.commit != reverted);
                on_its_way || course.left.is_some()
            })
        };
        // Beside a drain it goes elsewhere.
        let changed = changed.filter(|(n, _)| !earlier(n) && !self.drains_touch(SPLITS[**n]));
        let splits: BTreeMap<usize, Declared> = changed.map(|(n, of)| (*n, of.clone())).collect();
        let commit = commits[commit].head.commit.clone();
        self.checks.revert = (trees == *self.coordinator.ledger.trees()).then(|| Revert {
            commit: Some(commit),
            good: vec![None; self.zones.len()],
            done: vec![false; self.zones.len()],
            good_at_gates: vec![None; self.zones.len()],
            done_at_gates: vec![false; self.zones.len()],
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
        // Nor does it go back to who is in a detached zone.
        if self.drains_touch(split.as_str()) || !self.detached().is_empty() {
            return;
        }
        // A commit that the coordinator has not read yet may lead on.
        let newest = &self.repository.newest().commit;
        if self.coordinator.ledger.commits.values().next() != Some(newest) {
            return;
        }
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
            protocol: protocol_of(split.as_str()),
            backends: (0..self.zones.len()).collect(),
            routes: first.clone(),
            steps: (100, 0),
            fallback: BTreeMap::new(),
            capacity: BTreeMap::new(),
            door: self.door_of(n),
            latency: false,
            away: None,
            frozen: false,
        };
        self.checks.revert = Some(Revert {
            commit: None,
            good: vec![None; self.zones.len()],
            done: vec![false; self.zones.len()],
            good_at_gates: vec![None; self.zones.len()],
            done_at_gates: vec![false; self.zones.len()],
            splits: BTreeMap::from([(n, declared)]),
        });
    }

    pub(crate) fn forget_revert(&mut self) {
        self.checks.revert = None;
    }

    /// An order about a backend: where the split goes by it is another matter.
    pub(crate) fn forget_revert_of(&mut self, split: &SplitName) {
        if let Some(revert) = &mut self.checks.revert {
            revert.splits.remove(&of_split(split.as_str()));
        }
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
            None => {
                let waiting = &self.coordinator.ledger.orders.waiting;
                waiting.iter().all(|order| order.kind != OrderKind::Abort)
            }
        };
        for (z, place) in ZONES.iter().enumerate().take(self.zones.len()) {
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
            let free = splits.keys().all(|n| {
                let kind = weir_kind(protocol_of(SPLITS[*n]));
                let away = self.checks.away.get(&(z, (kind, format!("weir-{}", SPLITS[*n]))));
                !self.pinned_in(z, *n)
                    && away.is_none_or(|(away, _)| away.is_empty())
                    && (0..self.zones.len()).all(|of| !self.zones[z].was_down(*n, of, 3_000))
            });
            let good = heard && self.works(z) && resolves && free;
            self.revert_at_gates(z, good, &splits);
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
                let kind = weir_kind(declared.protocol);
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

    /// The door that the commit in force gives a split: an abort changes none.
    fn door_of(&self, split: usize) -> u8 {
        let commit = self.coordinator.ledger.commits.values().next();
        let tree = commit.and_then(|commit| self.repository.tree_of(commit));
        let declared = tree.and_then(|tree| tree.splits.get(&split));
        declared.map_or(0, |declared| declared.door)
    }

    /// I8 at a zone's gateways.
    fn revert_at_gates(&mut self, z: Place, good: bool, splits: &BTreeMap<usize, Declared>) {
        let now = self.now;
        let mut gates = (0..self.gates.len()).filter(|g| self.gates[*g].zone == z);
        let works = gates.all(|g| self.gate_works(g));
        let slots = self.checks.revert.as_mut();
        let since = slots.and_then(|revert| {
            let slot = revert.good_at_gates.get_mut(z)?;
            *slot = (good && works).then(|| slot.unwrap_or(now));
            slot.filter(|_| !revert.done_at_gates[z])
        });
        let Some(since) = since else { return };
        let missing = self.missing_at_gates(z, splits);
        if missing.is_some() && now - since < FAST_AT_GATES {
            return;
        }
        if let Some(revert) = &mut self.checks.revert {
            revert.done_at_gates[z] = true;
        }
        self.checks.hold(Invariant::I8, now, missing.is_none(), || {
            let seconds = (now - since) / 1000;
            format!(
                "{}, {seconds} s after all works that a revert needs, {}",
                ZONES[z],
                missing.unwrap_or_default()
            )
        });
    }

    /// I11: what is still missing, when all faults are over; none if all is as declared and shown so.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let c = &self.coordinator;
        if !self.checks.pins.is_empty() {
            return Some("pins are not ended".to_owned());
        }
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
        let orders = &c.ledger.orders;
        if !orders.drains().is_empty() || !orders.waiting.is_empty() {
            return Some(format!("orders are not ended: {orders:?}"));
        }
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
        // What it rested on was in a zone that is detached now: whoever attaches that, or commits, ends it.
        let detached = !self.detached().is_empty();
        let barred = |why: &str| detached && why.contains("it does not go back to where it rested");
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
                        .any(|wait| wait.why.contains("takes along callers") || barred(&wait.why))
            })
        };
        let under_way = |split: &&SplitName| !quarantined.contains(split) && !says(split);
        if let Some(split) = c.outlook.keys().find(under_way) {
            return Some(format!("{split} is still under way: {:?}", stands(split)));
        }
        let mut converged = BTreeSet::new();
        c.sight(plan, self.now, |zone, item, _| {
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
        let items: Vec<&weir_planner::Item> = plan
            .splits
            .values()
            .flat_map(|split| split.items.values())
            .map(std::convert::AsRef::as_ref)
            .collect();
        self.unsettled_at_gates(&items, says)
    }

    pub(crate) fn check_settled(&mut self, missing: Option<String>) {
        let now = self.now;
        self.checks.hold(Invariant::I11, now, missing.is_none(), || {
            format!("all faults are over, and {}", missing.unwrap_or_default())
        });
    }
}

/// The kind of policy that a split of this protocol has.
fn weir_kind(protocol: Protocol) -> Kind {
    match protocol {
        Protocol::Tcp => Kind::MeshTcpRoute,
        _ => Kind::MeshHttpRoute,
    }
}
