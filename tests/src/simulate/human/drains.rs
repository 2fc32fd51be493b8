//! Somebody who is about to stop a backend drains it first, and ends that later: in the middle of what others do.

use weir_model::BackendName;

use super::*;

impl World {
    /// Somebody orders something about a backend.
    pub(crate) fn operator(&mut self) {
        if self.quiet {
            return;
        }
        let standing = self.coordinator.ledger.orders.drains();
        if self.dice.chance(55) || standing.is_empty() {
            let declared = &self.repository.commits[self.repository.branch].tree.splits;
            let splits: Vec<usize> = declared.keys().copied().collect();
            let Some(split) = splits.get(self.dice.index(splits.len().max(1))).copied() else {
                return;
            };
            let places: Vec<Place> = declared[&split].backends.iter().copied().collect();
            let place = places[self.dice.index(places.len())];
            let to = self
                .dice
                .chance(25)
                .then(|| places[self.dice.index(places.len())]);
            self.drain(split, place, to);
            return;
        }
        let (split, backend) = standing[self.dice.index(standing.len())].clone();
        // Where it is quarantined that comes first, for who knows it.
        if self.quarantined(&split) && self.dice.chance(50) {
            self.forget_revert();
            self.give(OrderKind::Resume, split.clone());
        }
        self.undrain(split, backend);
    }

    fn drain(&mut self, split: usize, place: Place, to: Option<Place>) {
        let backend = |place: Place| BackendName::new(BACKENDS[place]);
        let (Ok(split), Ok(drained)) = (SplitName::new(SPLITS[split]), backend(place)) else {
            return;
        };
        let to = to.and_then(|to| backend(to).ok());
        self.forget_revert_of(&split);
        self.give(OrderKind::Drain { backend: drained, to }, split);
    }

    fn undrain(&mut self, split: SplitName, backend: BackendName) {
        self.forget_revert_of(&split);
        self.give(OrderKind::Undrain { backend }, split);
    }

    fn quarantined(&self, split: &SplitName) -> bool {
        let plan = self.coordinator.ledger.plan.as_ref();
        let course = plan.and_then(|plan| plan.splits.get(split)?.course.as_ref());
        course.is_some_and(|course| course.quarantine.is_some())
    }

    /// Whatever was stopped runs again, and all drains are ended.
    pub(crate) fn drains_end(&mut self) {
        self.check_drained();
        for (split, backend) in self.coordinator.ledger.orders.drains() {
            if self
                .coordinator
                .ledger
                .orders
                .waits_about(split.as_str(), backend.as_str())
            {
                continue;
            }
            if self.quarantined(&split) {
                self.give(OrderKind::Resume, split.clone());
            }
            self.undrain(split, backend);
        }
        // What was refused, and what was on its way, comes to it later.
        self.at(10_000, Event::DrainsEnd);
    }
}
