//! I5: no zone is more than one step behind another.

use super::stepping::weighted;
use super::{Invariant, Key};
use crate::simulate::world::{World, ZONES};
use crate::simulate::zone::{Meaning, Place};

impl World {
    /// I5: a zone took a step of a shift; no other is further back than one step.
    pub(super) fn check_in_step(&mut self, z: Place, key: &Key, meaning: &Meaning) {
        let now = self.now;
        if self.checks.history_lost {
            return;
        }
        let position = (meaning.split.clone(), meaning.generation);
        let split = super::of_split(&meaning.split);
        if meaning.pinned.is_some() {
            return;
        }
        let Some(position) = self.checks.positions.get(&position).cloned() else {
            return;
        };
        // Another commit that leads to the shares that this zone was told before: it takes no step by it.
        let before = [position.from.get(&z), position.told.get(&z)];
        let mut before = before.into_iter().flatten();
        if before.any(|before| weighted(before) == weighted(&meaning.routes)) {
            return;
        }
        for (other, zone) in self.zones.iter().enumerate() {
            let tampered = self.checks.tampered.contains(&(other, key.clone()));
            let well = zone
                .well_since(&meaning.split)
                .is_some_and(|since| since + 30_000 <= now);
            let known = self.coordinator.fleet.of(&zone.name).next().is_some();
            if other == z || self.pinned_in(other, split) || zone.agents > 1 || tampered || !well || !known {
                continue;
            }
            let Some(beside) = position.beside.get(&other) else {
                continue;
            };
            let behind = zone.envoys.iter().find_map(|envoy| {
                let runs = envoy.runs.get(key)?;
                let old = runs.meaning.whole
                    && runs.meaning.pinned.is_none()
                    && runs.meaning.generation < meaning.generation
                    && !envoy.disturbed.contains(key);
                let item = |digest: &String| beside.iter().any(|item| item.digest == *digest);
                let shares = weighted(&runs.meaning.routes);
                // Items that give the same are no steps from one to the other: whoever has the shares is where they are, whatever
                // else was told meanwhile. That is what is proven, and what counts.
                let same = beside.iter().any(|item| weighted(&item.routes) == shares);
                // So it is where a share is elsewhere by both.
                let stored = zone.store.get(key);
                let same = same
                    || stored.is_some_and(|stored| {
                        item(&stored.meaning.digest) && weighted(&stored.meaning.routes) == shares
                    });
                // A zone that runs what the plan before told it is in step, though it is told more by now.
                let told = position.told.get(&other);
                let same = same || told.is_some_and(|told| weighted(told) == shares);
                (old && !same && !item(&runs.meaning.digest)).then_some(runs.meaning.generation)
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
}
