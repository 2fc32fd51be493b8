//! Applications that end or get slow, and services that are not as they should be.

use super::*;

impl World {
    /// An application ends behind its Envoy. Kuma may notice, in some zones or in all, or not at all.
    pub(crate) fn end_an_application(&mut self) {
        let split = self.dice.index(SPLITS.len());
        let of = self.dice.index(self.zones.len());
        let long = match self.dice.below(5) {
            0 => self.dice.between(300, 3_000),
            1..4 => self.dice.between(3_000, 40_000),
            _ => self.dice.between(40_000, 120_000),
        };
        let seen = self.dice.below(3);
        self.tell(|| format!("the application of {} in {} ends", SPLITS[split], ZONES[of]));
        for viewer in 0..self.zones.len() {
            self.zones[viewer].application(split, of, true);
            if seen == 0 || (seen == 1 && self.dice.chance(50)) {
                let speaks = protocol_of(SPLITS[split]);
                if self.zones[viewer].sees(SPLITS[split], of, Some((ServiceState::Unavailable, speaks))) {
                    self.envoys_look(viewer);
                }
                let back = long + self.dice.below(3_000);
                self.at(back, Event::Ends(Fault::Service(viewer, split, of)));
            }
            self.note_trouble(viewer, split);
            self.watch_closely(viewer);
        }
        self.at(long, Event::Ends(Fault::Application(split, of)));
    }

    /// An application answers, and slowly.
    pub(crate) fn slow_an_application(&mut self) {
        let split = self.dice.index(SPLITS.len());
        let of = self.dice.index(self.zones.len());
        let long = match self.dice.below(3) {
            0 => self.dice.between(1_000, 10_000),
            _ => self.dice.between(10_000, 90_000),
        };
        self.tell(|| format!("the application of {} in {} gets slow", SPLITS[split], ZONES[of]));
        for zone in &mut self.zones {
            zone.answers_slowly(split, of, true);
        }
        self.checks.slow.insert((split, of), None);
        self.at(long, Event::Ends(Fault::Sluggish(split, of)));
    }

    pub(super) fn harm_service(&mut self, long: u64) {
        let split = self.dice.index(SPLITS.len());
        let of = self.dice.index(self.zones.len());
        let kind = self.dice.below(6);
        let all = self.dice.chance(60);
        let only = self.dice.index(self.zones.len());
        self.tell(|| {
            let whose = if all { "all zones" } else { ZONES[only] };
            let what = match kind {
                0 => "speaks TCP",
                1 | 2 => "is not available",
                _ => "vanishes",
            };
            format!("{} of {} {what}, as {whose} see it", SPLITS[split], ZONES[of])
        });
        for viewer in 0..self.zones.len() {
            if all || viewer == only {
                let state = match kind {
                    0 => Some((ServiceState::Available, Protocol::Tcp)),
                    1 | 2 => Some((ServiceState::Unavailable, Protocol::Http)),
                    _ => None,
                };
                if self.zones[viewer].sees(SPLITS[split], of, state) {
                    self.envoys_look(viewer);
                    self.note_trouble(viewer, split);
                    if matches!(state, None | Some((ServiceState::Unavailable, _))) {
                        self.watch_closely(viewer);
                    }
                }
                let back = long + self.dice.below(3_000);
                self.at(back, Event::Ends(Fault::Service(viewer, split, of)));
            }
        }
    }

    pub(crate) fn service_as_it_should_be(&mut self, viewer: Place, split: usize, of: Place) {
        let speaks = if split + 1 == SPLITS.len() {
            Protocol::Tcp
        } else {
            Protocol::Http
        };
        if self.zones[viewer].sees(SPLITS[split], of, Some((ServiceState::Available, speaks))) {
            self.envoys_look(viewer);
            self.note_trouble(viewer, split);
        }
    }
}
