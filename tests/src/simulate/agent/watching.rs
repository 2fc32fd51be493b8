//! Between two activations, and how long that is: an agent reads its callers' counters, and looks at once if a share has to go elsewhere.

use super::*;
use crate::simulate::zone::Sums;
use weir_agent::decide;
use weir_agent::fallback;
use weir_planner::{Counts, Item};

/// How often it reads them.
const WATCH: Ms = 250;
/// What failed so long ago counts no more; until then something may still come of it.
const OVER: Ms = 33_000;

/// Counters as they were when the process began to count.
pub(crate) type Base = (Ms, Sums);

impl World {
    /// How long until the next activation.
    pub(super) fn wait(&self, a: usize, began: Ms) -> Ms {
        let agent = &self.agents[a];
        let wait = match agent.unsettled {
            _ if agent.away && self.zones[agent.zone].door == Door::Closed => CALM,
            _ if agent.away => SOON,
            true if self.now.saturating_sub(agent.changed) < HASTE => QUICK,
            true => SOON,
            false => CALM,
        };
        (began + wait).saturating_sub(self.now).max(1)
    }

    /// What an agent's driver counts for these items.
    pub(super) fn count(&mut self, a: usize, items: &[Arc<Item>]) -> Vec<Option<Counts>> {
        let now = self.now;
        let agent = &mut self.agents[a];
        let zone = &mut self.zones[agent.zone];
        let mut sums = zone.counted(agent.number);
        let (since, base) = agent.base.get_or_insert_with(|| (now, sums.clone()));
        for (to, sum) in &mut sums {
            let before = base.get(to).copied().unwrap_or_default();
            *sum = sum.since(before);
        }
        let all = items.iter().map(|item| Some(zone.counts(item, &sums, *since)));
        all.collect()
    }

    /// Something is down in a zone, or comes back: whoever watches there sees what was until now, and goes on watching.
    pub(crate) fn watch_closely(&mut self, z: Place) {
        for a in 0..self.agents.len() {
            if self.agents[a].zone == z {
                self.begin_to_watch(a);
            }
        }
    }

    /// Where nothing is down reading counters tells nothing, and is left out.
    pub(super) fn begin_to_watch(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        agent.calm = None;
        if !agent.up || agent.watching {
            return;
        }
        agent.watching = true;
        let epoch = agent.epoch;
        if agent.running.is_none() {
            self.take_counters(a);
        }
        let first = self.dice.between(1, WATCH + 1);
        self.at(first, Event::Watch(a, epoch));
    }

    fn take_counters(&mut self, a: usize) {
        let agent = &self.agents[a];
        let Some(plan) = agent.plan.clone() else { return };
        let items = decide::items(&agent.memory.pins.over(&plan));
        if items.iter().all(|item| item.fallback.is_empty()) {
            return;
        }
        let counts = self.count(a, &items);
        let at = self.begin + Duration::from_millis(self.now);
        self.agents[a].noticed.watch.count(&items, &counts, at);
    }

    /// Reads counters, as the loop does.
    pub(crate) fn watched(&mut self, a: usize, epoch: u32) {
        let now = self.now;
        if self.agents[a].epoch != epoch || !self.agents[a].up {
            return;
        }
        if !self.zones[self.agents[a].zone].troubled(OVER) {
            self.agents[a].watching = false;
            return;
        }
        let soon = if self.zones[self.agents[a].zone].troubled(WATCH) {
            WATCH
        } else {
            SOON
        };
        self.at(soon, Event::Watch(a, epoch));
        if self.agents[a].running.is_some() {
            return;
        }
        self.take_counters(a);
        let agent = &mut self.agents[a];
        let Some(plan) = &agent.plan else { return };
        let at = self.begin + Duration::from_millis(now);
        let lately = agent.fell.is_some_and(|fell| now - fell < SOON);
        if lately || agent.away || !fallback::is_due(plan, &agent.memory, &agent.noticed.watch, at) {
            return;
        }
        agent.fell = Some(now);
        self.activate(a);
    }
}
