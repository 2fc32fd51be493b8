//! Every way back: to where a split rested, by a commit, by an abort, by a verdict; and to where all zones are alike.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{BackendName, ZoneName, sabotaged};

use super::gates::Gate;
use super::verdict::Traffic;
use super::{Make, NOBODYS, Next, Turn, between, quarantined, returning, wait};
use crate::canonical;
use crate::course::{Course, Items, Leg, Motion, Quarantine};
use crate::drain::{self, Drain};
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Digest, Item, SplitPlan};
use crate::senses::Reach;
use crate::words;

impl Turn<'_> {
    /// Why what is declared is a way back, if it is one. What the split was last brought back from is none, though the commit
    /// takes back the one before it: to try again what failed is a shift like any other.
    pub(super) fn goes_back(&self, course: &Course) -> Option<&'static str> {
        if sabotaged("revert-in-waves") {
            return None;
        }
        // By what callers get: a backend that came meanwhile and is declared with weight 0 is no other way.
        let origin = self.origin(course);
        let mut zones = self.wanted.iter();
        let as_rested = zones.all(|(zone, wanted)| {
            let rested = origin.get(zone).or_else(|| origin.values().next());
            rested.is_some_and(|rested| !between::shifts(rested, wanted))
        });
        // Where a drain leads it may have rested once, too; that makes no revert of it.
        let before = course.previous.contains(&self.shape) && self.drains().is_none();
        if as_rested || before {
            return Some("what is declared is what it rested on before");
        }
        let again = course.left == Some(self.shape);
        (self.reverts && !again).then_some("the commit takes back the one before it")
    }

    /// What is turned away from by going elsewhere now.
    pub(super) fn leaves(&self, course: &Course) -> Option<Digest> {
        let quarantine = course.quarantine.as_ref().map(|quarantine| quarantine.shape);
        let motion = course.motion.as_ref().map(|motion| motion.to);
        quarantine
            .or(motion)
            .or_else(|| Self::shape_of(&self.before.items))
    }

    /// Another commit while the waves of a bite are under way: zones are one bite apart, and one more step of some would make
    /// it two (I5). So first all go where the later waves still are, which every zone has proven before; or, where that would
    /// give something to who is drained or to who is not there any more, the later waves follow first; or, where each of the two would
    /// of some route, all take of each route what gives him no more. A freeze holds all of it. None if all are told the same already.
    /// `came` is what people are told of why: what came while zones were apart.
    pub(super) fn shared(&self, course: &Course, came: &str, make: &mut Make<'_>) -> Option<Next> {
        let motion = course.motion.as_ref()?;
        let Leg::Shift { .. } = &motion.leg else {
            return None;
        };
        let items = &self.before.items;
        // Who was told last in this bite has the newest item, whatever waves are called by now.
        let behind = items.values().min_by_key(|item| item.generation)?;
        if !items.values().any(|item| between::shifts(item, behind)) {
            return None;
        }
        let barred = self.takes_nothing();
        let gives_more = |to: &Item| {
            let mut items = items.values();
            items.any(|item| barred.keys().any(|barred| between::gives_more(item, to, barred)))
        };
        let mut back = Cow::Borrowed(&**behind);
        if let Some(ahead) = self.ahead_by_a_drain(behind, &barred) {
            if !gives_more(ahead) {
                let why = format!(
                    "{came} while zones were apart, and a backend is drained or its zone is detached: the later waves follow the ones \
                     before, and all go on from there"
                );
                return Some(self.catch_up(course, motion, (ahead, &why), make));
            }
            // Neither way leads past all of them. Of each route's requests one of the two may: he has less of one route by the one, and
            // of another by the other. Or one is drained, another in a detached zone: then none of them has anything.
            let least = between::least(behind, ahead, barred.keys()).filter(|least| !gives_more(least));
            let without = || drain::without_in(behind, self.split, (&barred, &self.declaration.zones));
            match least.map_or_else(without, Ok) {
                Ok(other) => back = Cow::Owned(other),
                Err(bar) => return Some((None, Some(held(vec![wait(bar)])))),
            }
        }
        let there = items.keys().filter(|zone| self.wanted.contains_key(*zone));
        let there = there.map(|zone| {
            let mut item = self.for_zone(zone, &back);
            if let (Cow::Owned(_), Some(wanted)) = (&back, self.wanted.get(zone)) {
                item.commit.clone_from(&wanted.commit); // the earlier one says nothing of the kind
            }
            item
        });
        let there: Vec<Item> = there.collect();
        let moves = |item: &&Item| {
            items
                .get(&item.zone)
                .is_some_and(|was| between::shifts(was, item))
        };
        // To go back to who is not there any more, for any zone, would be to send requests there on purpose. Where somebody sees him it
        // may be a blink.
        let (waits, none_can) = self.unready(there.iter());
        if none_can && !waits.is_empty() {
            let ahead = items.values().max_by_key(|item| item.generation)?;
            let zones = items.keys().filter(|zone| self.wanted.contains_key(*zone));
            let follow: Vec<Item> = zones.map(|zone| self.for_zone(zone, ahead)).collect();
            let behind = follow.iter().filter(moves);
            if self.unready(behind).0.is_empty() && !gives_more(ahead) {
                let why = format!(
                    "{came} while zones were apart, and nobody can go back: the later waves follow the ones before, and all go on from there"
                );
                return Some(self.catch_up(course, motion, (ahead, &why), make));
            }
        }
        let waves: Vec<u32> = there
            .iter()
            .filter(moves)
            .map(|item| self.wave(&item.zone))
            .collect();
        // What fails goes back, as it would without the commit.
        if let Some((why, until)) = self.frozen_for(&waves)
            && !matches!(self.traffic(motion), Traffic::Bad(_))
        {
            let mut stands = returning(&format!("{came} while zones were apart"), vec![wait(why)]);
            stands.phase = Phase::Frozen;
            stands.until = until;
            return Some((None, Some(stands)));
        }
        let why = match back {
            Cow::Borrowed(_) => {
                format!(
                    "{came} while zones were apart: all go where the later waves still are, and on from there"
                )
            }
            Cow::Owned(_) => format!(
                "{came} while zones were apart, and a backend is drained or its zone is detached: all go where neither the ones nor the \
                 others give it more, and on from there"
            ),
        };
        let items = there.into_iter().map(|item| (item.zone.clone(), make(item)));
        let items = items.collect();
        let next = self.moved(course, items, Leg::Return { why: why.clone() }, motion.to);
        let course = next.course.unwrap_or_default();
        Some((
            Some(self.nobodys_plan(next.items, course)),
            Some(returning(&why, Vec::new())),
        ))
    }

    /// What the zones have that moved first, where to go back to what the others have would give more to who takes nothing.
    fn ahead_by_a_drain(&self, behind: &Item, barred: &BTreeMap<BackendName, Drain>) -> Option<&Item> {
        if sabotaged("go-back-past-drains") {
            return None;
        }
        let gives_more = |than: &Item| {
            let mut drained = barred.keys();
            drained.any(|drained| between::gives_more(than, behind, drained))
        };
        let ahead = self.before.items.values().filter(|item| gives_more(item));
        ahead.max_by_key(|item| item.generation).map(Arc::as_ref)
    }

    /// Where zones are apart and the first of them give a backend that is drained, or gone, nothing any more, or less: they do not go
    /// back, the others follow them, as they would have done.
    fn catch_up(
        &self,
        course: &Course,
        motion: &Motion,
        (ahead, why): (&Item, &str),
        make: &mut Make<'_>,
    ) -> Next {
        let items = &self.before.items;
        let behind = |zone: &ZoneName| {
            let item = items.get(zone);
            item.is_some_and(|item| between::shifts(item, ahead))
        };
        let there: Vec<Item> = items
            .keys()
            .filter(|zone| self.wanted.contains_key(*zone))
            .map(|zone| self.for_zone(zone, ahead))
            .collect();
        let stay = |phase, waits, until| {
            let mut stands = returning(why, waits);
            stands.phase = phase;
            stands.next = "the later waves follow the ones before, and all go on from there".to_owned();
            stands.until = until;
            (None, Some(stands))
        };
        if let Gate::Waits(waits) = self.reached_run(items, |zone| !behind(zone), |_| Some(ahead)) {
            return stay(Phase::Shift, waits, None);
        }
        let waves: Vec<u32> = items
            .keys()
            .filter(|zone| behind(zone))
            .map(|zone| self.wave(zone))
            .collect();
        if let Some((why, until)) = self.frozen_for(&waves) {
            return stay(Phase::Frozen, vec![wait(why)], until);
        }
        let (waits, _) = self.unready(there.iter().filter(|item| behind(&item.zone)));
        if !waits.is_empty() {
            return stay(Phase::Held, waits, None);
        }
        let items = there.into_iter().map(|item| (item.zone.clone(), make(item)));
        let next = self.moved(
            course,
            items.collect(),
            Leg::Return { why: why.to_owned() },
            motion.to,
        );
        let course = next.course.unwrap_or_default();
        (
            Some(self.nobodys_plan(next.items, course)),
            Some(returning(why, Vec::new())),
        )
    }

    /// Drains of this split.
    pub(super) fn drains(&self) -> Option<&BTreeMap<BackendName, Drain>> {
        self.transit.orders.drains.get(&self.split.name)
    }

    /// Who is to take nothing, whatever it rested on: backends that are drained, and those in zones that are detached or declared no
    /// more, which may be gone though Kuma still lists them.
    fn takes_nothing(&self) -> BTreeMap<BackendName, Drain> {
        let mut barred = self.drains().cloned().unwrap_or_default();
        let course = self.before.course.as_ref();
        let origin = course.and_then(|course| course.motion.as_ref());
        let origin = origin.into_iter().flat_map(|motion| motion.origin.values());
        for item in self.before.items.values().chain(origin) {
            for (name, to) in &item.destinations {
                let is = match self.declaration.zones.get(&to.zone) {
                    Some(zone) if zone.detached => "detached",
                    Some(_) => continue,
                    None => "declared no more",
                };
                barred.entry(name.clone()).or_insert_with(|| Drain {
                    to: None,
                    why: format!("its zone {} is {is}", to.zone),
                });
            }
        }
        barred
    }

    /// Where a verdict or an abort leads: to what the split rested on. Where that gives more to who takes nothing than zones are
    /// told to, he may have been stopped, and it is that without him.
    ///
    /// # Errors
    /// Why there is no such way: nobody can take his share, or it would be somebody who gained since, and may be what is wrong.
    fn way_back<'a>(&'a self, course: &'a Course) -> Result<Cow<'a, Items>, String> {
        let origin = self.origin(course);
        let barred = self.takes_nothing();
        if sabotaged("return-to-drained") {
            return Ok(Cow::Borrowed(origin));
        }
        let told = |zone: &ZoneName| self.before.items.get(zone);
        let there = || origin.iter().filter(|(zone, _)| self.wanted.contains_key(*zone));
        let gains = |drained: &&BackendName| {
            let mut items = there();
            items.any(|(zone, was)| told(zone).is_none_or(|told| between::gives_more(told, was, drained)))
        };
        let Some(drained) = barred.keys().find(gains) else {
            return Ok(Cow::Borrowed(origin));
        };
        let why = match self.drains().is_some_and(|drains| drains.contains_key(drained)) {
            true => "is drained",
            false => barred.get(drained).map_or("", |barred| barred.why.as_str()),
        };
        let mut back = Items::new();
        for (zone, was) in there() {
            let mut item = drain::without_in(was, self.split, (&barred, &self.declaration.zones))?;
            if let Some(wanted) = self.wanted.get(zone) {
                item.commit.clone_from(&wanted.commit); // the earlier one says nothing of the kind
            }
            let mut names = item.destinations.keys();
            let keeps = names.find(|name| {
                told(zone).is_some_and(|told| {
                    between::gives_more(was, told, name) && !between::gives_less(told, &item, name)
                })
            });
            if let Some(keeps) = keeps {
                return Err(format!(
                    "backend {drained} would get more by that, and {why}, and without it {keeps} would keep what it gained"
                ));
            }
            back.insert(zone.clone(), Arc::new(item));
        }
        Ok(Cow::Owned(back))
    }

    /// Whether a drain has something to take that is not taken yet.
    fn drain_waits(&self) -> bool {
        let drained = self.drains().into_iter().flat_map(BTreeMap::keys);
        drained.into_iter().any(|drained| {
            let mut items = self.before.items.iter();
            items.any(|(zone, told)| {
                let wanted = self.wanted.get(zone);
                wanted.is_some_and(|wanted| between::gives_more(wanted, told, drained))
            })
        })
    }

    /// Back to where the split last rested, everywhere at once; what is declared is not gone towards any more. Where that is
    /// barred it stops where it is.
    pub(super) fn go_back(&self, course: &Course, why: &str, make: &mut Make<'_>) -> Next {
        if course.motion.is_none() && self.drain_waits() {
            // To quarantine it would be to keep it from being ended.
            let bar = "nothing of it has moved that could go back; `weir undrain` ends the drain";
            return (None, Some(held(vec![wait(why.to_owned()), wait(bar.to_owned())])));
        }
        let quarantine = Quarantine {
            shape: self.shape,
            why: why.to_owned(),
            at: self.now,
        };
        let back = match self.way_back(course) {
            Ok(back) => back,
            Err(bar) => {
                let bar = wait(format!("it does not go back to where it rested: {bar}"));
                let stands = held(vec![wait(why.to_owned()), bar]);
                return (self.stopped(course, quarantine), Some(stands));
            }
        };
        let items = self.in_all_zones(&back, make);
        let to = Self::shape_of(&back).unwrap_or(self.shape);
        let next = self.moved(course, items, Leg::Return { why: why.to_owned() }, to);
        let (items, mut next) = (next.items, next.course.unwrap_or_default());
        next.left = Some(self.shape);
        next.drained |= matches!(back, Cow::Owned(_));
        next.quarantine = Some(quarantine.clone());
        let outlook = if course.motion.is_some() {
            returning(why, Vec::new())
        } else {
            next.motion = None; // nothing had moved
            quarantined(&quarantine)
        };
        (Some(self.plan(items, next)), Some(outlook))
    }

    /// Where it is, and no further; none if it is stopped on its way there already.
    fn stopped(&self, course: &Course, what: Quarantine) -> Option<SplitPlan> {
        let motion = course.motion.as_ref()?;
        let stopped = motion.stopped.as_ref().map(|stopped| stopped.shape);
        if stopped == Some(what.shape) {
            return None;
        }
        let mut next = course.clone();
        next.motion = Some(Motion {
            stopped: Some(what),
            ..motion.clone()
        });
        let mut plan = SplitPlan {
            course: Some(next),
            ..self.before.clone()
        };
        plan.root = canonical::split_root(&plan);
        Some(plan)
    }

    /// Another look at a way back: it ends when every zone proves it.
    pub(super) fn watch_return(&self, course: &Course, motion: &Motion, make: &mut Make<'_>) -> Next {
        let why = match &motion.leg {
            Leg::Return { why } => why.as_str(),
            Leg::Shift { .. } => "what is declared is quarantined",
        };
        if let Gate::Waits(waits) = self.all_run(&self.before.items) {
            return (None, Some(self.on_its_way_back(motion, why, waits)));
        }
        let mut next = course.clone();
        next.motion = None;
        if next.quarantine.is_none() {
            next.drained = self.drained;
        }
        let outlook = next.quarantine.as_ref().map(quarantined);
        let items = self.in_all_zones(&self.before.items, make);
        (Some(self.plan(items, next)), outlook)
    }

    /// Who is waited for on a way back. A zone that does not resolve what it goes back to stays whole where it is: that is the
    /// nearest to where it goes that gives nothing to what does not resolve. Anything between the two would be weights that
    /// nobody committed (I1), and of one route nobody can have more before somebody else has less. All other zones go back.
    ///
    /// Where only such zones are left, the split is held.
    fn on_its_way_back(&self, motion: &Motion, why: &str, waits: Vec<Wait>) -> Outlook {
        let mut all = true;
        let told = waits.into_iter().map(|wait| {
            let zone = wait.zone.as_ref();
            let item = zone.and_then(|zone| self.before.items.get(zone));
            let Some((item, unresolved)) = item.and_then(|item| Some((item, self.stuck(item)?))) else {
                all = false;
                return wait;
            };
            let stays = self.transit.senses.shares(item);
            let stays = stays.or_else(|| Some(motion.from.get(&item.zone)?.weights()));
            let stays = match stays {
                Some(weights) => format!("it stays at {}", words::weights(&weights)),
                None => "it stays where it is".to_owned(),
            };
            let from = motion.from.get(&item.zone);
            let stays = match from.map(|from| self.transit.senses.resolves(from, None)) {
                Some(Err(why)) => format!("{stays}, though {why}"),
                _ => format!("{stays}, the nearest weights to these that give nothing to what it does not resolve"),
            };
            Wait {
                why: format!(
                    "it does not go back to {}: {unresolved}; {stays}, and goes by itself as soon as that does",
                    words::weights(&item.weights())
                ),
                ..wait
            }
        });
        let waits = told.collect();
        let mut outlook = returning(why, waits);
        if all {
            outlook.phase = Phase::Held;
            outlook.next = format!(
                "every zone that resolves it is back, because {why}; the others go as soon as they do, by themselves"
            );
        }
        outlook.since = Some(motion.since);
        outlook
    }

    /// Why a zone holds what it is told to go back to, if that is because it does not resolve it.
    fn stuck(&self, item: &Item) -> Option<String> {
        match self.transit.senses.reach(&item.zone) {
            Reach::Reachable | Reach::Partly(_) if self.transit.senses.holds(item) => {
                // It holds by what it runs, which need not be what it was told before.
                self.transit.senses.resolves(item, None).err()
            }
            _ => None,
        }
    }

    /// A split that stays back, where zones came or went: what it rests on, for the zones that there are now.
    pub(super) fn in_new_zones(&self, course: &Course, make: &mut Make<'_>) -> Option<SplitPlan> {
        (self.digest != self.before.digest).then(|| {
            let items = self.in_all_zones(&self.before.items, make);
            self.plan(items, course.clone())
        })
    }

    /// A quarantine that was ended, where the way there has to wait.
    pub(super) fn released(&self, course: &Course) -> SplitPlan {
        let mut next = course.clone();
        next.quarantine = None;
        self.nobodys_plan(self.before.items.clone(), next)
    }

    /// These items, and what they say for every zone that has none of them.
    fn in_all_zones(&self, items: &Items, make: &mut Make<'_>) -> Items {
        let zones = self.wanted.keys();
        zones
            .filter_map(|zone| {
                let item = items.get(zone).or_else(|| items.values().next())?;
                Some((zone.clone(), make(self.for_zone(zone, item))))
            })
            .collect()
    }
}

/// A split whose quarantine was ended, where nothing of it may move; none if it was in none.
pub(crate) fn unquarantined(before: &SplitPlan) -> Option<SplitPlan> {
    let mut plan = before.clone();
    plan.course.as_mut()?.quarantine.take()?;
    plan.course = plan.course.filter(|course| !course.is_plain());
    plan.digest = NOBODYS;
    plan.root = canonical::split_root(&plan);
    Some(plan)
}

/// What has no way back.
fn held(waits: Vec<Wait>) -> Outlook {
    let mut stands = returning("", waits);
    stands.phase = Phase::Held;
    stands.next =
        "all stays as it is until `weir undrain` ends the drain, or the zone is attached again, or a commit says what else is wanted"
            .to_owned();
    stands
}
