//! The next step of a shift.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use weir_model::{Insufficient, ZoneName};

use super::gates::Gate;
use super::verdict::{self, Traffic};
use super::{Make, Next, REMEMBERED, Turn, between, later, wait};
use crate::course::{Course, Items, Leg, Motion};
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Item, SplitPlan};
use crate::senses::Reach;

/// How long a proven step waits to be told how long answers took, beyond the time that it has for enough of them. What an Envoy's histograms tell in
/// the first 8 s may be of before the step; they are flushed every 5 s, asked every 2 s and reported every 5 s.
const LATE: SignedDuration = SignedDuration::from_secs(30);

/// A step that may be taken.
pub(super) struct Step {
    pub(super) bite: u32,
    pub(super) wave: u32,
    pub(super) items: Items,
}

impl Turn<'_> {
    /// Another look at a shift.
    pub(super) fn go_on(
        &self,
        course: &Course,
        motion: &Motion,
        (bites, bite, wave): (u32, u32, u32),
        make: &mut Make<'_>,
    ) -> Next {
        let items = &self.before.items;
        let waves = self.waves(&motion.from);
        // Who has not been told this bite follows from the items, whatever waves were called when it began.
        let here = self.at(&motion.from, (bite, bites));
        let behind = |zone: &ZoneName| {
            let (is, should) = (items.get(zone), here.get(zone));
            is.zip(should)
                .is_some_and(|(is, should)| between::shifts(is, should))
        };
        let next_wave = here
            .keys()
            .filter(|zone| behind(zone))
            .map(|zone| self.wave(zone))
            .min();
        let what_next = self.what_next(bite, bites, next_wave);
        let outlook = |phase, waits, next: String, until| Outlook {
            declared: BTreeMap::new(),
            phase,
            bite,
            bites,
            wave: Some(wave).filter(|wave| *wave != u32::MAX),
            waves: waves.clone(),
            waits,
            next,
            since: Some(motion.since),
            until,
            drained: false,
        };
        let stay = |phase, waits, next: String, until| (None, Some(outlook(phase, waits, next, until)));
        let traffic = self.traffic(motion);
        if let Traffic::Bad(why) = &traffic {
            return self.go_back(course, &format!("traffic got worse: {why}"), make);
        }

        let (next_bite, next_wave) = if let Some(next) = next_wave {
            // Somebody was drained since the first wave, and gets more where that went: then nobody follows it there.
            if self.gives_drained_more(&here)
                && let Some(shared) = self.shared(course, "a backend was drained", make)
            {
                return shared;
            }
            if let Gate::Waits(waits) =
                self.reached_run(items, |zone| !behind(zone), |zone| self.wanted.get(zone))
            {
                return stay(Phase::Shift, waits, what_next, None);
            }
            (bite, next)
        } else {
            let last = bite >= bites;
            let gate = if last {
                self.all_run(items)
            } else {
                self.in_step(items)
            };
            let since = match gate {
                Gate::Waits(waits) => return stay(self.phase_of(&waits), waits, what_next, None),
                Gate::Open { since } => since.max(motion.since),
            };
            if let Traffic::Little(why) = &traffic {
                let why = why.clone();
                let verify = &self.split.transition.verify;
                let until = later(since, verify.within);
                if self.now < until {
                    return stay(Phase::Verify, vec![wait(why)], what_next, Some(until));
                }
                if verify.insufficient == Insufficient::Hold {
                    let why = format!(
                        "{why}, and `insufficient: hold` is declared; send more requests, or commit `proceed`"
                    );
                    return stay(Phase::Held, vec![wait(why)], what_next, None);
                }
            }
            if let Traffic::Late(why) = traffic {
                // Who has told nothing by then tells nothing.
                let within = self.split.transition.verify.within;
                let until = later(since, within.saturating_add(LATE));
                if self.now < until {
                    return stay(Phase::Verify, vec![wait(why)], what_next, Some(until));
                }
            }
            let Some(first) = waves.first().copied().filter(|_| !last) else {
                return (Some(self.rest(course, make)), None);
            };
            let until = later(since, self.split.transition.bake);
            if self.now < until {
                return stay(Phase::Bake, Vec::new(), what_next, Some(until));
            }
            (bite + 1, first)
        };
        if let Some((why, until)) = self.frozen_for(&[next_wave]) {
            return stay(Phase::Frozen, vec![wait(why)], what_next, until);
        }
        match self.step(&motion.from, (next_bite, bites), next_wave, make) {
            Err(waits) => {
                let next = "the next step is taken when every zone can follow".to_owned();
                stay(Phase::Held, waits, next, None)
            }
            Ok(Step { bite, wave, items }) => {
                let next = self.moved(course, items, Leg::Shift { bites, bite, wave }, motion.to);
                let (items, mut course) = (next.items, next.course.unwrap_or_default());
                if let Some(to) = &mut course.motion {
                    to.from.clone_from(&motion.from);
                }
                let follows = waves.iter().copied().find(|next| *next > wave);
                let next = self.what_next(bite, bites, follows);
                let mut outlook = outlook(Phase::Shift, Vec::new(), next, None);
                outlook.bite = bite;
                outlook.wave = Some(wave);
                outlook.since = Some(self.now);
                (Some(self.plan(items, course)), Some(outlook))
            }
        }
    }

    /// Why traffic said nothing of the step from which this goes on, if so: too few requests, which is no verdict, or nobody told
    /// how long answers took. Both are passed only where that is declared, or in time.
    pub(crate) fn unjudged(&self, next: &SplitPlan) -> Option<String> {
        let motion = self.before.course.as_ref()?.motion.as_ref()?;
        let Leg::Shift { bites, bite, .. } = motion.leg else {
            return None;
        };
        let course = next.course.as_ref();
        let goes_on = match course.and_then(|course| course.motion.as_ref()) {
            Some(next) => {
                next.to == motion.to && matches!(next.leg, Leg::Shift { bite: further, .. } if further > bite)
            }
            None => {
                bite >= bites && motion.to == self.shape && course.is_none_or(|is| is.quarantine.is_none())
            }
        };
        if !goes_on {
            return None;
        }
        match self.traffic(motion) {
            Traffic::Little(why) => Some(format!(
                "bite {bite} of {bites} was passed without a verdict, as `insufficient: proceed` says: {why}"
            )),
            Traffic::Late(why) => Some(format!(
                "bite {bite} of {bites} was passed without a verdict on how long answers take: {why}"
            )),
            Traffic::Good | Traffic::Bad(_) => None,
        }
    }

    /// What counted traffic says of the position.
    pub(super) fn traffic(&self, motion: &Motion) -> Traffic {
        let gaining = verdict::gaining(&motion.from, &self.before.items);
        if gaining.is_empty() {
            return Traffic::Good;
        }
        let counts = self.transit.senses.counts(&self.split.name);
        // How long answers take is each route's own matter, and counted of all together. Who is drained goes, at whatever price.
        let even = !self.drained && verdict::moves_evenly(&motion.from, &self.before.items);
        let before = (&motion.counted, motion.since);
        let proven = self.transit.senses.counts_at_proof(&self.split.name);
        verdict::judge(before, (&counts, &proven), &gaining, (self.split, even))
    }

    /// Whether zones that can be reached are waited for, or only others.
    pub(super) fn phase_of(&self, waits: &[Wait]) -> Phase {
        let reach = |wait: &Wait| wait.zone.as_ref().map(|zone| self.transit.senses.reach(zone));
        let there = |wait: &Wait| matches!(reach(wait), Some(Reach::Reachable | Reach::Unsure(_)));
        if waits.iter().any(there) {
            Phase::Shift
        } else {
            Phase::Settle
        }
    }

    /// Whether any zone is to give somebody who is drained more than it gives him now.
    fn gives_drained_more(&self, there: &BTreeMap<ZoneName, Cow<'_, Item>>) -> bool {
        let Some(drains) = self.drains() else { return false };
        there.iter().any(|(zone, item)| {
            let has = self.before.items.get(zone);
            has.is_some_and(|has| {
                let mut drained = drains.keys();
                drained.any(|drained| between::gives_more(has, item, drained))
            })
        })
    }

    /// What every zone that had something when the leg began would have at this bite.
    fn at(&self, from: &Items, (bite, bites): (u32, u32)) -> BTreeMap<ZoneName, Cow<'_, Item>> {
        let drained = self.drains();
        let begun: Vec<&Item> = from
            .iter()
            .filter_map(|(zone, from)| {
                let has = self.before.items.get(zone)?;
                between::shifts(from, has).then_some(&**has)
            })
            .collect();
        let zones = self.wanted.iter().filter_map(|(zone, wanted)| {
            let from = from.get(zone)?;
            let item = between::between(from, wanted, bite, bites);
            let has = self.before.items.get(zone).filter(|_| bite < bites);
            let item = match has {
                Some(has) => {
                    let drained = drained.into_iter().flat_map(BTreeMap::keys);
                    between::keeping(item, (from, has, wanted), &begun, drained)
                }
                None => item,
            };
            Some((zone.clone(), item))
        });
        zones.collect()
    }

    /// The items with `wave` at `bite`. Before the first wave of a bite every zone must be able to follow, before a later one
    /// its own zones.
    ///
    /// Where no zone at all can, because of what only loses weight, and nothing keeps anybody back, all zones go at once as
    /// far as all of them can: to leave what is dead in small steps would be to send requests there on purpose. Where some
    /// zones can, what one of them does not see may be a blink, and it is waited for.
    pub(super) fn step(
        &self,
        from: &Items,
        (bite, bites): (u32, u32),
        wave: u32,
        make: &mut Make<'_>,
    ) -> Result<Step, Vec<Wait>> {
        let waves = self.waves(from);
        let here = self.at(from, (bite, bites));
        let first = waves.first().is_none_or(|first| *first >= wave);
        let asked = here
            .values()
            .map(AsRef::as_ref)
            .filter(|item: &&Item| first || self.wave(&item.zone) == wave);
        let (waits, _) = self.unready(asked);
        if waits.is_empty() {
            let told = here.into_iter().filter(|(zone, _)| self.wave(zone) == wave);
            return Ok(Step {
                bite,
                wave,
                items: self.with(told, make),
            });
        }
        let (_, none_can) = self.unready(here.values().map(AsRef::as_ref));
        if none_can && self.frozen_for(&waves).is_none() {
            for bite in bite + 1..=bites {
                let there = self.at(from, (bite, bites));
                if self.unready(there.values().map(AsRef::as_ref)).0.is_empty() {
                    return Ok(Step {
                        bite,
                        wave: waves.last().copied().unwrap_or(wave),
                        items: self.with(there.into_iter(), make),
                    });
                }
            }
        }
        Err(waits)
    }

    /// The items before, with these instead.
    fn with<'a>(&self, told: impl Iterator<Item = (ZoneName, Cow<'a, Item>)>, make: &mut Make<'_>) -> Items {
        let mut items = self.before.items.clone();
        items.retain(|zone, _| self.wanted.contains_key(zone));
        items.extend(told.map(|(zone, item)| (zone, make(item.into_owned()))));
        items
    }

    /// All of it proven everywhere: it rests.
    fn rest(&self, course: &Course, make: &mut Make<'_>) -> SplitPlan {
        // Weights are there already; with zones that came meanwhile, and what no caller sees.
        let declared = self
            .wanted
            .iter()
            .map(|(zone, wanted)| (zone.clone(), Cow::Borrowed(wanted)));
        let items = self.with(declared, make);
        let mut previous = course.previous.clone();
        let rested = Self::shape_of(self.origin(course)).filter(|_| !course.drained);
        if let Some(rested) = rested.filter(|rested| *rested != self.shape) {
            previous.retain(|shape| *shape != rested && *shape != self.shape);
            previous.push(rested);
            let surplus = previous.len().saturating_sub(REMEMBERED);
            previous.drain(..surplus);
        }
        let rests = Course {
            previous,
            drained: self.drained,
            ..Course::default()
        };
        self.plan(items, rests)
    }
}
