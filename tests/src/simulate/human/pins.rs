//! Somebody at an agent's host pins a split, or ends that: what `weir-agent pin` and `unpin` do, on the host's simulated disk.

use weir_agent::pin::{self, By, Pins, Weights};
use weir_agent::sealed;
use weir_agent::take::Memory;
use weir_model::{BackendName, BasisPoints, DnsLabel};

use super::*;
use crate::simulate::agent::Disk;
use crate::simulate::zone::{Answer, Call};

/// The pins in force on a host: those of the file, or those that its agent remembers; none if neither is known.
pub(crate) fn known(disk: &Disk) -> Pins {
    let last = &disk.memory.pins;
    pin::read(Ok(disk.pins.clone()), last).unwrap_or_else(|_| last.clone())
}

impl World {
    /// Somebody breaks the glass, or mends it.
    pub(crate) fn somebody_at_a_host(&mut self) {
        let a = self.dice.index(self.agents.len());
        if self.dice.chance(45) {
            self.pin(a);
        } else {
            let all: Vec<(usize, usize)> = self.checks.pins.keys().copied().collect();
            if let Some((a, split)) = all.get(self.dice.index(all.len().max(1))).copied() {
                self.unpin(a, split);
            }
        }
    }

    fn pin(&mut self, a: usize) {
        let now = self.now;
        let agent = &self.agents[a];
        let (z, disk) = (agent.zone, &agent.disk);
        let Some(plan) = disk.plan.clone().filter(|plan| !plan.items.is_empty()) else {
            return;
        };
        let mut pins = known(disk);
        let memory: Memory = disk.memory.clone();
        let name = agent.name.clone();
        let splits: Vec<SplitName> = plan.items.keys().cloned().collect();
        let split = splits[self.dice.index(splits.len())].clone();
        // Any backends of what is in force, in any shares.
        let base = pins
            .of(&split)
            .map(|before| &before.item)
            .or_else(|| memory.own(&split))
            .unwrap_or(&plan.items[&split]);
        let backends: Vec<BackendName> = base.destinations.keys().cloned().collect();
        let first = u32::try_from(self.dice.below(101)).unwrap_or_default() * 100;
        let at = self.dice.index(backends.len());
        let other = self.dice.index(backends.len());
        let mut weights = Weights::new();
        let shares = [
            (other, 10_000 - first),
            (at, if at == other { 10_000 } else { first }),
        ];
        for (backend, share) in shares {
            if let Ok(share) = BasisPoints::new(share) {
                weights.insert(backends[backend].clone(), share);
            }
        }
        let Ok(agent) = DnsLabel::new(name.as_str()) else {
            return;
        };
        let by = By {
            agent,
            who: "ada".to_owned(),
            host: name.clone(),
            reason: "glass".to_owned(),
            at: stamp(now),
        };
        let Ok(pinned) = pins.pin(&plan, &memory, &split, None, &weights, by).cloned() else {
            return;
        };
        // Whom nobody answers pins unseen.
        if let Answer::Observed(Ok(observed)) = self.zones[z].answer(&Call::Observe, &mut self.dice, now)
            && pins.objection(&pinned, &memory, &observed).is_some()
        {
            return;
        }
        let shown = pin::shares(&weights);
        if !self.keep_pins(a, &pins) {
            return;
        }
        self.story.tell(now, || {
            format!("somebody pins {split} on the host of {name}: {shown}")
        });
        self.note_pin(a, &pinned);
    }

    /// Ends a pin where it was made.
    pub(crate) fn unpin(&mut self, a: usize, split: usize) {
        let now = self.now;
        let Ok(name) = SplitName::new(SPLITS[split]) else {
            return;
        };
        let mut pins = known(&self.agents[a].disk);
        if pins.unpin(&name).is_none() || !self.keep_pins(a, &pins) {
            return;
        }
        let agent = self.agents[a].name.clone();
        self.story.tell(now, || {
            format!("somebody ends the pin of {name} on the host of {agent}")
        });
        self.note_unpin(a, split);
    }

    /// Faults are over, and so is the emergency: all pins are ended, also those of hosts that forgot them.
    pub(crate) fn end_all_pins(&mut self) {
        let all: Vec<(usize, usize)> = self.checks.pins.keys().copied().collect();
        for (a, split) in all {
            self.unpin(a, split);
        }
        for z in 0..self.zones.len() {
            let labels: Vec<(usize, String)> = self.zones[z]
                .store
                .values()
                .filter_map(|stored| {
                    let split = SPLITS.iter().position(|name| *name == stored.meaning.split)?;
                    Some((split, stored.meaning.pinned.clone()?))
                })
                .collect();
            for (split, label) in labels {
                for a in 0..self.agents.len() {
                    if self.agents[a].zone == z {
                        self.take_for_ended(a, split, &label);
                    }
                }
            }
        }
    }

    /// `unpin --gone`, where that is needed.
    fn take_for_ended(&mut self, a: usize, split: usize, label: &str) {
        let Ok(name) = SplitName::new(SPLITS[split]) else {
            return;
        };
        let before = known(&self.agents[a].disk);
        let mut pins = before.clone();
        pins.end(&name, label.to_owned());
        if pins != before && self.keep_pins(a, &pins) {
            let now = self.now;
            self.checks.ended.insert((a, split, label.to_owned()), now);
        }
    }

    fn keep_pins(&mut self, a: usize, pins: &Pins) -> bool {
        let Ok(bytes) = sealed::seal(pin::KIND, pins) else {
            return false;
        };
        if self.agents[a].disk.full {
            return false;
        }
        self.agents[a].disk.pins = Some(bytes);
        // An agent that runs looks at it every second.
        let soon = self.dice.between(1, 1_001);
        self.at(soon, Event::PinsLooked(a));
        true
    }
}
