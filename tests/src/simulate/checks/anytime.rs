//! What holds at every instant: at each write, at each change in an Envoy, at each plan that is taken, and of whatever is
//! shown.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_planner::{Generation, Item, ZonePlan};
use weir_render::{Kind, Step};

use super::elsewhere::ways;
use super::{DRAIN, FRESH, Invariant, SILENCE, Version, asked, of_split};
use crate::simulate::Ms;
use crate::simulate::human::BACKENDS;
use crate::simulate::world::{World, ZONES, stamp};
use crate::simulate::zone::{Key, Meaning, Place, Runs, Shares, Stored, key_of, wanted};

impl World {
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
            if self.checks.delivered.insert((place, half, item.generation.0)) {
                self.note_trouble(place, of_split(item.split.as_str()));
            }
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
            // A pin is for when what is newest is wrong.
            let free = stored.meaning.pinned.is_some();
            self.checks.hold(
                Invariant::I7,
                now,
                free || was.is_none_or(|was| is >= was),
                || {
                    format!(
                        "agent {name} writes generation {is} of {object_name} in {} over generation {}",
                        ZONES[z],
                        was.unwrap_or_default()
                    )
                },
            );
            if before.is_none()
                && let Some((by, when)) = self.checks.removed.remove(&(z, key.clone()))
                // An agent beside others that missed a plan, and holds its split, puts back what itself had last.
                && (self.zones[z].agents == 1 || self.holds_newest(a, step))
                // Who looked before that cannot know: Kuma has no compare-and-set.
                && self.agents[a].running.as_ref().is_some_and(|running| running.began > when)
                && by > self.checks.lost_plans
                && !free
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
        self.check_pins(a, step, &key, (before, stored.as_ref()));
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
                // What is pinned carries no word: whoever pinned it alone may write it.
                let others = self.zones[z].store.values().any(|other| {
                    other.ours.is_some() && other.meaning.whole && other.meaning.pinned.is_none()
                });
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
        let Some(stored) = stored else { return };
        let version = Version {
            digest: digest.to_owned(),
            routes: stored.meaning.routes.clone(),
        };
        // What was in force is put back as it was. An agent that ended between its write and its memory of it puts back
        // what was there before.
        let again = self
            .checks
            .last
            .get(&(z, key.clone()))
            .is_some_and(|last| last.contains(&version))
            || (self.zones[z].agents > 1 && self.checks.had.contains(&(a, key.clone(), digest.to_owned())));
        self.check_elsewhere(a, key, stored);
        self.check_drains(a, key, stored);
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
            // What this item gave before it may go on giving; shares that go elsewhere are looked at by themselves.
            let given = self.checks.gave.get(&(z, key.clone(), digest.to_owned()));
            let gains = |route: usize, place: Place, share: u32| {
                let had = given.and_then(|given| given.get(&(route, place)));
                had.is_none_or(|had| share > *had) && share > 0
            };
            let routes = stored.meaning.routes.iter().enumerate();
            let places: BTreeSet<Place> = routes
                .flat_map(|(n, route)| route.iter().map(move |(place, share)| (n, *place, *share)))
                .filter(|(n, place, share)| gains(*n, *place, *share))
                .map(|(_, place, _)| place)
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
        let gave = (z, key.clone(), digest.to_owned());
        let gave = self.checks.gave.entry(gave).or_default();
        for (n, route) in version.routes.iter().enumerate() {
            for (place, share) in route {
                let most = gave.entry((n, *place)).or_default();
                *most = (*most).max(*share);
            }
        }
        let last = self.checks.last.entry((z, key.clone())).or_default();
        if last[0] != version {
            last.swap(0, 1);
            last[0] = version;
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
            let known = before.is_none_or(|before| before.meaning.generation > self.checks.lost_plans);
            let lost = lost(before, after, now).filter(|_| known && self.follows(z, before, after));
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
            // A share that goes elsewhere takes no cluster along.
            || before.meaning.digest == after.meaning.digest
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
        let asked = asked(&item);
        let exact = (meaning.routes == asked || !ways(&item, &meaning.routes).is_empty())
            && (declared.as_ref() == Some(&asked) || self.checks.steps.contains(&planned))
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
        let mut broken = None;
        self.coordinator.sight(&plan, now, |zone, item, wrong| {
            if let Some(place) = ZONES.iter().position(|name| *name == zone.as_str()) {
                shown.push((place, Arc::new(item.clone())));
            }
            broken = broken.take().or(wrong);
        });
        let holds = broken.is_none();
        self.checks.hold(Invariant::I9, now, holds, || {
            format!("its own check: {}", broken.unwrap_or_default())
        });
        for (z, item) in shown {
            self.check_shown_pins(z, of_split(item.split.as_str()));
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
                let fresh = age.is_some_and(|age| (-60_000..=SILENCE).contains(&age))
                    // A clock that was set, and a ledger from before: what it holds may look as if it were from now.
                    || (self.checks.history_lost && c.clock(now) != stamp(now));
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
                    let ms = proof.at.duration_since(stamp(0)).as_millis();
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
