//! A declaration that is not the one that the split plan was made from.

use std::collections::BTreeMap;

use weir_model::ZoneName;

use super::gates::Gate;
use super::onward::Step;
use super::verdict::Traffic;
use super::{Make, Next, Turn, between, returning, wait};
use crate::course::{Course, Items, Leg, Motion};
use crate::outlook::{Outlook, Phase};
use crate::plan::{Item, SplitPlan};
use crate::planning::waiting;
use crate::retire;

impl Turn<'_> {
    /// The first step towards it, or what that waits for.
    pub(super) fn begin(&self, course: &Course, make: &mut Make<'_>) -> Next {
        let before = self.before;
        let mut moving = self
            .wanted
            .iter()
            .filter_map(|(zone, wanted)| Some((before.items.get(zone)?, wanted)));
        if !moving.any(|(was, is)| between::shifts(was, is)) {
            return self.no_shift(course, make);
        }
        if let Some(why) = self.goes_back(course) {
            let finals = self.finals(make);
            let mut next = self.moved(course, finals, Leg::Return { why: why.to_owned() }, self.shape);
            if let Some(next) = &mut next.course {
                next.left = self.leaves(course);
                if let Some(at) = course.previous.iter().position(|shape| *shape == self.shape) {
                    next.previous.truncate(at);
                }
            }
            next.root = crate::canonical::split_root(&next);
            return (Some(next), Some(returning(why, Vec::new())));
        }
        if let Some(shared) = self.shared(course, "another commit or order came", make) {
            return shared;
        }
        let bites = self
            .wanted
            .iter()
            .filter_map(|(zone, wanted)| {
                let from = before.items.get(zone)?;
                Some(between::bites(from, wanted, self.split.transition.max_step))
            })
            .max()
            .unwrap_or(1);
        let waves = self.waves(&before.items);
        let outlook = |phase, waits, next: &str| Outlook {
            declared: BTreeMap::new(),
            phase,
            bite: 0,
            bites,
            wave: None,
            waves: waves.clone(),
            waits,
            next: next.to_owned(),
            since: None,
            until: None,
            drained: false,
        };
        let Some(first) = waves.first().copied() else {
            return (Some(self.at_once(course, self.finals(make))), None);
        };
        if let Gate::Waits(waits) = self.in_step(&before.items) {
            let next = "the first step is taken when every zone runs what it was last told";
            // For proof it waits a second; for who cannot be reached, until somebody does something about it.
            let phase = match self.phase_of(&waits) {
                Phase::Settle => Phase::Held,
                phase => phase,
            };
            return (None, Some(outlook(phase, waits, next)));
        }
        if let Some((why, until)) = self.frozen_for(&[first]) {
            let next = "the first step is taken after that";
            let mut frozen = outlook(Phase::Frozen, vec![wait(why)], next);
            frozen.until = until;
            return (None, Some(frozen));
        }
        match self.step(&before.items, (1, bites), first, make) {
            Err(waits) => {
                let next = "nothing has moved; the first step is taken when every zone can follow";
                (None, Some(outlook(Phase::Held, waits, next)))
            }
            Ok(Step { bite, wave, items }) => {
                let next = self.moved(course, items, Leg::Shift { bites, bite, wave }, self.shape);
                let follows = waves.iter().copied().find(|next| *next > wave);
                let mut outlook = outlook(Phase::Shift, Vec::new(), &self.what_next(bite, bites, follows));
                outlook.bite = bite;
                outlook.wave = Some(wave);
                outlook.since = Some(self.now);
                (Some(next), Some(outlook))
            }
        }
    }

    /// What is declared, everywhere.
    fn finals(&self, make: &mut Make<'_>) -> Items {
        let wanted = self.wanted.iter();
        wanted
            .map(|(zone, wanted)| (zone.clone(), make(wanted.clone())))
            .collect()
    }

    /// The position as it is, by another declaration that goes to the same: zones that came, fallbacks and the like are taken up
    /// when it rests.
    pub(super) fn goes_on_by(&self, course: &Course) -> SplitPlan {
        let mut items = self.before.items.clone();
        items.retain(|zone, _| self.wanted.contains_key(zone));
        self.plan(items, course.clone())
    }

    /// No share changes, so there is nothing to be careful about. But what callers' listeners, or gateways, are told anew is not
    /// told in a freeze.
    fn no_shift(&self, course: &Course, make: &mut Make<'_>) -> Next {
        let told_anew = |zone: &ZoneName, wanted: &Item| {
            let was = self.before.items.get(zone);
            was.is_some_and(|was| {
                // What retires stays with it.
                let after = retire::keeping_all(wanted.clone(), was);
                between::moves(was, &after) || was.doors != wanted.doors
            })
        };
        let anew = self
            .wanted
            .iter()
            .filter(|(zone, wanted)| told_anew(zone, wanted));
        let waves: Vec<u32> = anew.map(|(zone, _)| self.wave(zone)).collect();
        // What it does to traffic that it came to this is for a verdict, whatever may not be told.
        let shift = course.motion.as_ref();
        let shift = shift.filter(|motion| matches!(motion.leg, Leg::Shift { .. }));
        if let Some(Traffic::Bad(why)) = shift.map(|motion| self.traffic(motion)) {
            return self.go_back(course, &format!("traffic got worse: {why}"), make);
        }
        if !waves.is_empty()
            && !self.reverts
            && let Some((why, until)) = self.frozen_for(&waves)
        {
            let next = "it is told to callers and gateways after that; no share changes by it";
            return (None, Some(waiting::at_the_door(&why, until, next)));
        }
        (Some(self.at_once(course, self.finals(make))), None)
    }

    /// No share changes, so there is nothing to be careful about: what stands ready for requests, names of ports, zones, ...
    fn at_once(&self, course: &Course, items: Items) -> SplitPlan {
        let mut next = course.clone();
        if course.motion.is_none() {
            next.drained = self.drained;
        }
        if let Some(quarantine) = next.quarantine.take() {
            next.left = Some(quarantine.shape);
        }
        next.motion = course.motion.as_ref().map(|motion| Motion {
            origin: motion.origin.clone(),
            to: self.shape,
            stopped: None,
            // in mid-way, and that is what is declared now: it rests here as soon as every zone proves it, and is judged by what was
            // before it came to this
            ..match &motion.leg {
                Leg::Return { why } => Motion {
                    from: items.clone(),
                    leg: Leg::Return { why: why.clone() },
                    since: self.now,
                    counted: self.transit.senses.counts(&self.split.name),
                    ..motion.clone()
                },
                Leg::Shift { .. } => Motion {
                    leg: Leg::Shift {
                        bites: 1,
                        bite: 1,
                        wave: u32::MAX,
                    },
                    ..motion.clone()
                },
            }
        });
        self.plan(items, next)
    }
}
