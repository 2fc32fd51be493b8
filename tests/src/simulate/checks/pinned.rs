//! Pins: what is pinned on a host holds there until it is ended there, and is in a zone by nobody else's hand.

use weir_agent::pin::Pinned;
use weir_render::Step;

use super::doors::is_exact;
use super::{FRESH, Invariant, PinNote, asked, of_split};
use crate::simulate::gateway::EDGE;
use crate::simulate::human::pins::known;
use crate::simulate::world::{SPLITS, World, ZONES};
use crate::simulate::zone::{Key, Place, Stored, key_of, wanted};

impl World {
    /// Somebody pinned a split, and was told that it is.
    pub(crate) fn note_pin(&mut self, a: usize, pinned: &Pinned) {
        let (now, z) = (self.now, self.agents[a].zone);
        let item = &pinned.item;
        let split = of_split(item.split.as_str());
        if let Some(before) = self.checks.pins.remove(&(a, split)) {
            self.checks.ended.insert((a, split, before.label), now);
        }
        // What is pinned may be run there, of whatever generation it is.
        let half = item.digest.to_string()[..32].to_owned();
        let given = (z, half.clone(), item.generation.0);
        self.checks.delivered.insert(given.clone());
        let same = self.checks.planned.entry(given.clone()).or_default();
        if same.iter().all(|other| other.commit != item.commit) {
            same.push(std::sync::Arc::clone(item));
        }
        self.checks.steps.insert(given);
        let note = PinNote {
            label: pinned.label.clone(),
            item: std::sync::Arc::clone(item),
            since: now,
        };
        self.checks.pins.insert((a, split), note);
        self.checks.pinned += 1;
        self.note_trouble(z, split);
    }

    /// Somebody ended a pin.
    pub(crate) fn note_unpin(&mut self, a: usize, split: usize) {
        let now = self.now;
        if let Some(before) = self.checks.pins.remove(&(a, split)) {
            self.checks.ended.insert((a, split, before.label), now);
        }
        self.note_trouble(self.agents[a].zone, split);
    }

    /// What is pinned on a host whose disk was damaged: what one of its files still says.
    pub(crate) fn recount_pins(&mut self, a: usize) {
        let now = self.now;
        let pins = known(&self.agents[a].disk);
        for (split, of) in SPLITS.iter().enumerate() {
            let still = pins.in_force().find(|(name, _)| name.as_str() == *of);
            let label = still.map(|(_, pinned)| pinned.label.clone());
            let before = self.checks.pins.get(&(a, split)).map(|note| note.label.clone());
            if label == before {
                continue;
            }
            self.checks.pins.remove(&(a, split));
            if let Some((_, pinned)) = still {
                self.checks.ended.remove(&(a, split, pinned.label.clone()));
                let note = PinNote {
                    label: pinned.label.clone(),
                    item: std::sync::Arc::clone(&pinned.item),
                    since: now,
                };
                self.checks.pins.insert((a, split), note);
            }
        }
    }

    /// I1, I6: an agent wrote or removed a policy that it, or another one of its zone, has pinned.
    pub(super) fn check_pins(
        &mut self,
        a: usize,
        step: &Step,
        key: &Key,
        (before, stored): (Option<&Stored>, Option<&Stored>),
    ) {
        let now = self.now;
        let Some(began) = self.agents[a].running.as_ref().map(|running| running.began) else {
            return;
        };
        let z = self.agents[a].zone;
        let split = of_split(key.1.strip_prefix("weir-").unwrap_or_default());
        let name = self.agents[a].name.clone();
        let label = stored.and_then(|stored| stored.meaning.pinned.clone());
        let own = self.checks.pins.get(&(a, split)).cloned();
        if let Some(note) = own.clone().filter(|note| note.since < began) {
            let same = label.as_ref() == Some(&note.label)
                && (matches!(step, Step::Introduce { .. })
                    || stored.is_some_and(|stored| stored.meaning.routes == asked(&note.item)));
            // What does not resolve is held, and what was there before is put back should it be lost.
            let held = matches!(step, Step::Put { .. }) && !self.resolves_for(a, &note);
            self.checks.hold(Invariant::I6, now, same || held, || {
                format!(
                    "agent {name} writes or removes {} in {}, which is pinned on its host as {}",
                    key.1, ZONES[z], note.label
                )
            });
        }
        if let Some(other) = before.and_then(|before| before.meaning.pinned.clone())
            && own.as_ref().is_none_or(|note| note.label != other)
            && !self.checks.ended.contains_key(&(a, split, other.clone()))
            && self
                .checks
                .pinned_at
                .get(&(z, key.clone()))
                .is_none_or(|written| *written < began)
        {
            self.checks.hold(Invariant::I6, now, false, || {
                format!(
                    "agent {name} writes over {} in {}, which is pinned as {other}",
                    key.1, ZONES[z]
                )
            });
        }
        let Some(label) = label else { return };
        self.checks.pinned_at.insert((z, key.clone()), now);
        // After its end it is put back for as long as what follows is held.
        let ended = self.checks.ended.get(&(a, split, label.clone())).copied();
        let again = before.is_some_and(|before| before.meaning.pinned.as_ref() == Some(&label))
            || self.agents[a].memory.pinned.values().any(|was| *was == label);
        let sound =
            own.is_some_and(|note| note.label == label) || ended.is_some_and(|ended| again || ended >= began);
        self.checks.hold(Invariant::I1, now, sound, || {
            format!(
                "agent {name} writes {} in {} as pinned by {label}, which nobody did there",
                key.1, ZONES[z]
            )
        });
    }

    /// Whether all that a pin gives weight to resolved when an agent looked, and does now.
    fn resolves_for(&self, a: usize, note: &PinNote) -> bool {
        let item = &note.item;
        let service = item.service.to_string();
        let routes = wanted(item);
        let mut places = routes.iter().flat_map(|route| route.keys().copied());
        places.all(|place| {
            let looked = self.agents[a].running.as_ref();
            let then = looked.is_some_and(|running| {
                running
                    .resolved
                    .contains(&(service.clone(), place, item.protocol))
            });
            then && self.zones[self.agents[a].zone].resolves(&service, place, item.protocol)
        })
    }

    /// Whether a split is pinned in a zone, or has a policy there that carries a pin.
    pub(crate) fn pinned_in(&self, z: Place, split: usize) -> bool {
        let noted = self.checks.pins.keys();
        let mut noted = noted.filter(|(a, of)| self.agents[*a].zone == z && *of == split);
        let carries =
            |stored: &Stored| stored.meaning.pinned.is_some() && of_split(&stored.meaning.split) == split;
        noted.next().is_some() || self.zones[z].store.values().any(carries)
    }

    /// I9: what is pinned for longer than any word is on its way is not shown as converged.
    pub(super) fn check_shown_pins(&mut self, z: Place, split: usize) {
        let now = self.now;
        // Of an agent that a lost ledger knew and nobody heard since nothing is known.
        let known = |a: usize| {
            let fleet = &self.coordinator.fleet;
            let agent = fleet.agent(&self.zones[z].name, &self.agents[a].name);
            agent.is_some() || !self.checks.history_lost
        };
        let pinned = self.checks.pins.iter().find(|((a, of), note)| {
            self.agents[*a].zone == z && *of == split && note.since + FRESH < now && known(*a)
        });
        // Who was not up since has not said it: then its zone is stale.
        let label = pinned.map(|(_, note)| note.label.clone());
        self.checks.hold(Invariant::I9, now, label.is_none(), || {
            format!(
                "{} is shown as converged in {}, where it is pinned by {}",
                SPLITS[split],
                ZONES[z],
                label.unwrap_or_default()
            )
        });
    }

    /// I6: the zone's gateway gives what is pinned in its mesh.
    fn check_pinned_at_gate(&mut self, z: Place, note: &PinNote) {
        let now = self.now;
        let item = &note.item;
        let door = weir_model::GatewayName::new(EDGE).is_ok_and(|edge| item.doors.contains_key(&edge));
        let shown = self.zones[z].store.get(&key_of(item));
        let shown = shown.is_some_and(|stored| stored.meaning.pinned.as_ref() == Some(&note.label));
        let Some(g) = self
            .gates
            .iter()
            .position(|gate| gate.zone == z)
            .filter(|_| door && shown)
        else {
            return;
        };
        let gate = &self.gates[g];
        if !self.gate_works(g) || !gate.sick.is_empty() || gate.troubled + 59_000 > now {
            return;
        }
        let planned = (self.agents.iter().filter(|agent| agent.zone == z)).all(|agent| {
            agent
                .plan
                .as_ref()
                .is_some_and(|plan| plan.items.contains_key(&item.split))
        });
        let wrong = gate.nodes.iter().find(|node| !is_exact(&node.truth, item));
        let wrong = wrong.map(|node| format!("{:?}", node.truth.of(of_split(item.split.as_str()))));
        self.checks.hold(Invariant::I6, now, wrong.is_none() || !planned, || {
            format!(
                "{} is pinned in {} by {} for a minute in which all works, and its gateway gives {wrong:?}",
                item.split, ZONES[z], note.label
            )
        });
    }

    /// I6: all works for a while, and what is pinned is in force.
    pub(crate) fn check_pinned(&mut self) {
        let now = self.now;
        let all: Vec<(usize, PinNote)> = self
            .checks
            .pins
            .iter()
            .map(|((a, _), note)| (*a, note.clone()))
            .collect();
        for (a, note) in all {
            let z = self.agents[a].zone;
            let key = key_of(&note.item);
            // Another agent's pin may be there, or a policy of somebody else, or its callers would be taken along.
            let other = self.zones[z].store.get(&key).is_none_or(|stored| {
                stored.ours.is_none() || stored.meaning.pinned.as_ref() != Some(&note.label)
            });
            let alone = self.zones[z].agents == 1;
            let takes_along = note.item.destinations.len() < self.zones.len();
            let stranger = self.checks.strangers.contains_key(&(z, key.clone()));
            if self
                .quiet_since
                .is_none_or(|since| since.max(note.since) + 59_000 > now)
                || takes_along
                || stranger
                || (other && !alone)
            {
                continue;
            }
            if self.agents[a].plan.is_none() || self.checks.history_lost {
                continue;
            }
            self.check_pinned_at_gate(z, &note);
            let runs = self.zones[z].truth(&key);
            let (holds, is) = (runs == Some(&wanted(&note.item)), format!("{runs:?}"));
            self.checks.hold(Invariant::I6, now, holds, || {
                format!(
                    "{} is pinned in {} by {} for a minute in which all works, and runs {is}",
                    key.1, ZONES[z], note.label
                )
            });
        }
    }
}
