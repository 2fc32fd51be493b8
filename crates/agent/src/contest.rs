//! Who writes over our policies, and how often they are put back. Pure: what is there, what was written and time come in.
//!
//! Two controllers that fight over a weight are worse than one that is wrong: each change replaces listeners, and closes what
//! is open on them (`kuma.md` R9). So a policy that somebody else keeps writing over, or removing, is put back a few times,
//! named each time, and then left as it is, loudly, and tried again later, less and less often. What this agent itself wants
//! changed is no part of that: a plan, a revert, a pin or a fallback is written at once, whoever fights (I8).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_drivers::{DriverError, Observed, Outcome};
use weir_model::{MeshName, SplitName};
use weir_planner::{Contested, ZonePlan};
use weir_render::{Kind, Object, Step};

use crate::activation::Moment;
use crate::decide::Decision;

/// So often a policy is put back within [`WINDOW`].
const MOST: usize = 5;
/// What was put back longer ago is no part of a fight; and so long nobody has to write before a fight is over.
const WINDOW: Duration = Duration::from_secs(600);
/// Between two tries of a policy that is fought over lies at most so much.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is gone altogether is put back at least so often: without it callers have no split at all.
const LONGEST_GONE: Duration = Duration::from_secs(60);

/// What a policy is known by.
type Key = (Kind, MeshName, String);

/// What an agent remembers of the policies that it wrote, in memory alone: one that restarts puts them back a few times more.
#[derive(Debug, Clone, Default)]
pub struct Contests {
    known: BTreeMap<Key, Known>,
    /// The process of the control plane that was seen last, if it says.
    instance: Option<String>,
}

#[derive(Debug, Clone)]
struct Known {
    split: SplitName,
    /// As this agent last wrote it.
    ours: Object,
    place: Place,
    /// When it was put back, of late.
    rewrites: Vec<Moment>,
    fight: Option<Fight>,
}

/// Where a policy that was written is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    There,
    /// It went while its control plane was seen all the time: somebody removed it.
    Removed,
    /// It may have gone with a store, a mesh or a restart: nobody's doing.
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Fight {
    /// When the policy was first put back, by the host's clock.
    since: Timestamp,
    /// How often it was put back since.
    rewrites: u32,
    /// When it was last seen not to be as it should.
    seen: Instant,
    /// When it is put back next.
    next: Moment,
    /// How long after that it is put back again.
    wait: Duration,
}

/// What a step puts in place.
fn put(step: &Step) -> Option<&Object> {
    match step {
        Step::Put { object, .. } | Step::Introduce { object, .. } => Some(object),
        Step::Withdraw { .. } | Step::Delete { .. } => None,
    }
}

fn split(step: &Step) -> Option<&SplitName> {
    match step {
        Step::Put { split, .. } | Step::Introduce { split, .. } => Some(split),
        Step::Withdraw { .. } | Step::Delete { .. } => None,
    }
}

fn key(object: &Object) -> Key {
    (object.kind, object.mesh.clone(), object.name.clone())
}

fn later((now, stamp): Moment, by: Duration) -> Moment {
    let by_stamp = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    (now + by, stamp.saturating_add(by_stamp).unwrap_or(stamp))
}

impl Contests {
    /// The zone cannot be seen: what is not there once it can be again went with a store, a mesh or a restart.
    pub fn interrupted(&mut self) {
        for known in self.known.values_mut() {
            known.place = Place::Lost;
        }
    }

    /// Takes out of a decision what somebody else keeps undoing: it is held, with why. For each look at the zone, before
    /// anything is written.
    pub fn hold(&mut self, plan: &ZonePlan, decision: &mut Decision, observed: &Observed, at: Moment) {
        let now = at.0;
        self.known
            .retain(|_, known| plan.items.contains_key(&known.split));
        if observed.instance != self.instance {
            self.instance.clone_from(&observed.instance);
            self.interrupted();
        }
        for (key, known) in &mut self.known {
            let mut live = observed.ours.iter().map(|(object, _)| object);
            known.place = match known.place {
                _ if live.any(|is| (is.kind, &is.mesh, &is.name) == (key.0, &key.1, &key.2)) => Place::There,
                Place::There => Place::Removed,
                gone => gone,
            };
            known.rewrites.retain(|(at, _)| now.duration_since(*at) < WINDOW);
            if known
                .fight
                .is_some_and(|fight| now.duration_since(fight.seen) >= WINDOW)
            {
                tracing::info!(object = key.2, "nobody else writes it any more");
                known.fight = None;
            }
        }
        let mut held = Vec::new();
        decision.steps.retain(|step| {
            let why = put(step).and_then(|object| self.why_not(object, at));
            held.extend(split(step).cloned().zip(why.clone()));
            why.is_none()
        });
        for (split, why) in held {
            decision.introduced.remove(&split);
            decision.fought_over.insert(split.clone());
            decision.held.insert(split, why);
        }
    }

    /// Why an object is not put back now, if so.
    fn why_not(&mut self, object: &Object, at: Moment) -> Option<String> {
        let known = self.known.get_mut(&key(object))?;
        // Another content is this agent's own will; and what went with a store is missed by everybody.
        if known.ours != *object || known.place == Place::Lost {
            return None;
        }
        let (now, _) = at;
        let fight = match &mut known.fight {
            Some(fight) => fight,
            None if known.rewrites.len() < MOST => return None,
            fight => {
                let since = known.rewrites.first().map_or(at.1, |(_, stamp)| *stamp);
                let fight = fight.insert(Fight {
                    since,
                    rewrites: u32::try_from(known.rewrites.len()).unwrap_or(u32::MAX),
                    seen: now,
                    next: later(at, WINDOW),
                    wait: WINDOW.saturating_mul(2),
                });
                tracing::error!("{}", told(object, fight));
                fight
            }
        };
        fight.seen = now;
        if known.place == Place::Removed && now + LONGEST_GONE < fight.next.0 {
            fight.next = later(at, LONGEST_GONE);
        }
        (now < fight.next.0).then(|| told(object, fight))
    }

    /// What became of a step.
    pub fn note(&mut self, step: &Step, outcome: &Result<Outcome, DriverError>, at: Moment) {
        let (Some(object), Some(split), Ok(Outcome::Done { .. })) = (put(step), split(step), outcome) else {
            return;
        };
        let known = self.known.entry(key(object)).or_insert_with(|| Known {
            split: split.clone(),
            ours: object.clone(),
            place: Place::Lost,
            rewrites: Vec::new(),
            fight: None,
        });
        let again = known.ours == *object && known.place != Place::Lost;
        (known.split, known.ours) = (split.clone(), object.clone());
        let removed = std::mem::replace(&mut known.place, Place::There) == Place::Removed;
        if !again {
            return;
        }
        known.rewrites.push(at);
        if let Some(fight) = &mut known.fight {
            fight.rewrites = fight.rewrites.saturating_add(1);
            fight.next = later(at, fight.wait);
            fight.wait = LONGEST.min(fight.wait.saturating_mul(2));
        }
        tracing::warn!(
            kind = object.kind.name(),
            name = object.name,
            times = known.rewrites.len(),
            "somebody else {} it, and it was put back",
            if removed { "removed" } else { "wrote over" }
        );
    }

    /// Who fights over a split's policy, if somebody does.
    pub fn of(&self, split: &SplitName) -> Option<Contested> {
        let mut known = self.known.values().filter(|known| known.split == *split);
        known.find_map(|known| {
            let fight = known.fight?;
            Some(Contested {
                object: format!("{} {}", known.ours.kind.name(), known.ours.name),
                rewrites: fight.rewrites,
                since: fight.since,
            })
        })
    }

    /// What people should know of it.
    pub fn alarms(&self) -> Vec<String> {
        let all = self.known.values();
        all.filter_map(|known| Some(told(&known.ours, known.fight.as_ref()?)))
            .collect()
    }
}

fn told(object: &Object, fight: &Fight) -> String {
    format!(
        "{} {} is written over or removed by somebody else again and again: it was put back {} times since {:.0}. Two that \
         fight over a weight are worse than one that is wrong, so it is left as it is, and tried again at {:.0}; a new plan is \
         written at once. Find who writes it (another controller that applies or prunes policies, a script, a person: Kuma \
         does not say who) and stop that",
        object.kind.name(),
        object.name,
        fight.rewrites,
        fight.since,
        fight.next.1,
    )
}
