//! One split's way from what it rests on to what is declared: a pure state machine, and every step of it is a plan.
//!
//! There is nothing to resume: where a split stands is in its [`SplitPlan::course`], and the next step follows from that,
//! the declaration, what the zones tell and the time.
//!
//! | from | goes on when | to |
//! |---|---|---|
//! | rest | what is declared gives callers other shares; every zone runs what it was last told; every zone that can be reached resolves what gets weight, and no gateway of it takes for dead who gets more | the first wave of the first bite |
//! | a wave | every zone that has moved and can be reached proves it; the zones of the next wave resolve what gets weight | the next wave |
//! | the last wave of a bite | *every* zone proves it, for `bake`; traffic is judged | the next bite, or rest |
//! | anywhere | what is declared is what it rested on, or rested on before; a bad verdict; an abort | all zones at once, with no wave and no verdict; after a verdict or an abort with no more for who is drained, or nowhere if that cannot be |
//! | anywhere between waves | another commit | where the later waves still are (or, for a drain, where the first ones are), then on from there |
//!
//! A zone that cannot be reached keeps its last good plan; the others go on within the bite, and wait before the next, so
//! that two zones are never more than one bite apart (I5). Nor is a zone waited for that runs all but what is down there, if that gets
//! no more: to wait would be to hold up the cure. A zone of which no agent was ever heard runs nothing of ours and
//! is not waited for; nor is one that is detached.
//!
//! `begin` is a declaration that is new, `onward` the next step of a shift, `back` every way back, `gates` what is waited for;
//! `between` makes the weights in between, `verdict` judges traffic.

mod back;
mod begin;
mod between;
mod gates;
mod onward;
mod verdict;

pub(crate) use back::unquarantined;
pub(crate) use between::{gives_more, shifts};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{BackendName, Declaration, Frozen, Split, SplitName, ZoneName, sabotaged};

use crate::canonical;

use crate::course::{Course, Items, Leg, Motion, Quarantine};
use crate::drain::Drain;
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Digest, Item, SplitPlan};
use crate::senses::Senses;

/// A split remembers so many of the places on which it rested: a revert may go back over several commits.
const REMEMBERED: usize = 16;

/// The inputs of no declaration: whatever is declared is news to a split plan that was made from these.
const NOBODYS: Digest = Digest([0; 32]);

/// What people ordered, beside Git.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// Transitions to break off, and why (with who says so).
    pub aborts: BTreeMap<SplitName, String>,
    /// Splits whose quarantine ends: what is declared is gone towards again.
    pub resumes: BTreeSet<SplitName>,
    /// Splits that stay where they are but for reverts and aborts, and why.
    pub frozen: BTreeMap<SplitName, String>,
    /// All of them, and why.
    pub all_frozen: Option<String>,
    /// Backends that are to take nothing, whatever is declared.
    pub drains: BTreeMap<SplitName, BTreeMap<BackendName, Drain>>,
}

impl Orders {
    /// Why all splits stay, if that is ordered.
    pub(crate) fn all_frozen_told(&self) -> Option<String> {
        let why = self.all_frozen.as_ref()?;
        Some(format!("all splits are frozen: {why}"))
    }

    /// Why one split stays, if that is ordered of it.
    pub(crate) fn frozen_told(&self, split: &SplitName) -> Option<String> {
        let why = self.frozen.get(split)?;
        Some(format!("split {split} is frozen: {why}"))
    }
}

/// What a transition goes by besides the declaration.
#[derive(Clone, Copy)]
pub struct Transit<'a> {
    /// The zones.
    pub senses: &'a dyn Senses,
    /// What people ordered.
    pub orders: &'a Orders,
    /// What was declared until now, where the newest commits take the last ones back: every split that they change goes back
    /// at once (I8). What else waits goes on waiting.
    pub reverts: Option<&'a Declaration>,
    /// The declaration is the one that the parent was made from: only these splits are looked at. None looks at all.
    pub only: Option<&'a BTreeSet<SplitName>>,
}

/// Makes a zone's item from what it should say: kept as it is if it says that already.
pub(crate) type Make<'a> = dyn FnMut(Item) -> Arc<Item> + 'a;

/// One look at one split.
pub(crate) struct Turn<'a> {
    pub(crate) split: &'a Split,
    /// Of the inputs.
    pub(crate) digest: Digest,
    /// Of what callers would see of it, whatever zones there are ([`canonical::shape`]).
    pub(crate) shape: Digest,
    /// What is declared, for each zone.
    pub(crate) wanted: BTreeMap<ZoneName, Item>,
    pub(crate) before: &'a SplitPlan,
    /// Where it goes a drain leads, and not Git alone.
    pub(crate) drained: bool,
    /// The newest commit takes back the last one that changed this split.
    pub(crate) reverts: bool,
    pub(crate) transit: Transit<'a>,
    pub(crate) declaration: &'a Declaration,
    pub(crate) now: Timestamp,
}

/// What came of it: a new split plan if there is a step to take, and where the split stands then.
pub(crate) type Next = (Option<SplitPlan>, Option<Outlook>);

/// Looks at a split that is in motion, or whose declaration changed.
pub(crate) fn advance(turn: &Turn<'_>, make: &mut Make<'_>) -> Next {
    let name = &turn.split.name;
    let orders = turn.transit.orders;
    let course = turn.before.course.clone().unwrap_or_default();
    let resumed = orders.resumes.contains(name) && course.quarantine.is_some();
    if let Some(quarantine) = &course.quarantine
        && quarantine.shape == turn.shape
        && !resumed
    {
        return match &course.motion {
            Some(motion) => turn.watch_return(&course, motion, make),
            None => (turn.in_new_zones(&course, make), Some(quarantined(quarantine))),
        };
    }
    if let Some(stopped) = course.motion.as_ref().and_then(|motion| motion.stopped.as_ref())
        && stopped.shape == turn.shape
        && !sabotaged("go-on-when-stopped")
    {
        let (next, stands) = turn.go_back(&course, &stopped.why, make);
        // What it is stopped by may be a drain, which is ended only where no quarantine stands: not of an earlier commit either.
        let next = next.or_else(|| resumed.then(|| turn.released(&course)));
        return (next, stands);
    }
    let news = turn.digest != turn.before.digest || resumed;
    let shifting = matches!(&course.motion, Some(motion) if matches!(motion.leg, Leg::Shift { .. }));
    if let Some(why) = orders.aborts.get(name)
        && (news || shifting)
        && !sabotaged("ignore-aborts")
    {
        return turn.go_back(&course, why, make);
    }
    if news
        && !resumed
        && let Some(motion) = &course.motion
        && matches!(motion.leg, Leg::Shift { .. })
        && motion.to == turn.shape
    {
        // It goes where it went: what else changed begins no step anew, and takes no bake and no verdict away.
        return (Some(turn.goes_on_by(&course)), None);
    }
    if news {
        let (next, stands) = turn.begin(&course, make);
        // That it was resumed must outlast this look, though the first step has to wait.
        let next = next.or_else(|| resumed.then(|| turn.released(&course)));
        return (next, stands);
    }
    match &course.motion {
        Some(motion) => match &motion.leg {
            Leg::Shift { bites, bite, wave } => turn.go_on(&course, motion, (*bites, *bite, *wave), make),
            Leg::Return { .. } => turn.watch_return(&course, motion, make),
        },
        None => (None, None),
    }
}

impl Turn<'_> {
    /// What the split last rested on, zone by zone.
    fn origin<'a>(&'a self, course: &'a Course) -> &'a Items {
        course
            .motion
            .as_ref()
            .map_or(&self.before.items, |motion| &motion.origin)
    }

    /// What callers see of these items; the same in every zone of a split that rests.
    fn shape_of(items: &Items) -> Option<Digest> {
        items.values().next().map(|item| canonical::shape(item))
    }

    /// What another item says, for this zone. What retires there is left out: what has to stay comes with the zone's own
    /// item before.
    fn for_zone(&self, zone: &ZoneName, item: &Item) -> Item {
        let mut item = item.clone();
        let retiring = std::mem::take(&mut item.retiring);
        item.destinations.retain(|name, _| !retiring.contains(name));
        if let Some(wanted) = self.wanted.get(zone) {
            item.zone.clone_from(&wanted.zone);
            item.kuma_zone.clone_from(&wanted.kuma_zone);
            // Where a dead backend's share goes is for the newest commit to say, wherever the weights stand.
            item.fallback.clone_from(&wanted.fallback);
            let there = &item.destinations;
            for fallback in item.fallback.values_mut() {
                fallback.to.retain(|to| there.contains_key(&to.backend));
            }
            item.fallback
                .retain(|from, fallback| there.contains_key(from) && !fallback.to.is_empty());
            // So do doors.
            let before = std::mem::take(&mut item.doors);
            crate::doors::give(&mut item, &wanted.doors, &before);
        }
        item
    }

    /// The split plan of a position on the way to what has this shape.
    fn moved(&self, course: &Course, items: Items, leg: Leg, to: Digest) -> SplitPlan {
        let motion = Motion {
            origin: self.origin(course).clone(),
            from: self.before.items.clone(),
            to,
            leg,
            since: self.now,
            counted: self.transit.senses.counts(&self.split.name),
            stopped: None,
        };
        let course = Course {
            previous: course.previous.clone(),
            left: course.left,
            drained: course.drained,
            motion: Some(motion),
            quarantine: None,
        };
        self.plan(items, course)
    }

    /// The split plan with these items and this course.
    fn plan(&self, items: Items, course: Course) -> SplitPlan {
        let mut plan = SplitPlan {
            digest: self.digest,
            root: Digest([0; 32]),
            items,
            course: Some(course).filter(|course| !course.is_plain()),
        };
        plan.root = canonical::split_root(&plan);
        plan
    }

    /// [`Self::plan`], made from no declaration.
    fn nobodys_plan(&self, items: Items, course: Course) -> SplitPlan {
        let mut plan = self.plan(items, course);
        plan.digest = NOBODYS;
        plan.root = canonical::split_root(&plan);
        plan
    }

    fn wave(&self, zone: &ZoneName) -> u32 {
        self.declaration.zones.get(zone).map_or(1, |zone| zone.wave)
    }

    fn detached(&self, zone: &ZoneName) -> bool {
        self.declaration.zones.get(zone).is_some_and(|zone| zone.detached)
    }

    /// The waves of the zones whose callers see something of it.
    fn waves(&self, from: &Items) -> Vec<u32> {
        let moving = self.wanted.iter().filter(|(zone, wanted)| {
            let from = from.get(*zone);
            from.is_some_and(|from| between::moves(from, wanted))
        });
        let waves: BTreeSet<u32> = moving.map(|(zone, _)| self.wave(zone)).collect();
        waves.into_iter().collect()
    }

    fn what_next(&self, bite: u32, bites: u32, next_wave: Option<u32>) -> String {
        match next_wave {
            Some(next) => format!("wave {next} follows when the zones so far prove theirs"),
            None if bite < bites => {
                let bake = self.split.transition.bake;
                if bake.is_zero() {
                    format!(
                        "bite {} of {bites} follows when every zone proves this one",
                        bite + 1
                    )
                } else {
                    format!(
                        "bite {} of {bites} follows {bake:#} after every zone has proven this one",
                        bite + 1
                    )
                }
            }
            None => "it rests when every zone proves it and traffic has been judged".to_owned(),
        }
    }
}

/// Why something declared as frozen does not move at this time.
pub(crate) fn frozen(what: &str, at: Frozen) -> Option<(String, Option<Timestamp>)> {
    match at {
        Frozen::No => None,
        Frozen::Until(until) => Some((format!("{what} is frozen until {until}"), Some(until))),
        Frozen::Indefinitely => Some((
            format!("{what} is frozen: `freeze` is declared; reverts and aborts pass"),
            None,
        )),
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn wait(why: String) -> Wait {
    Wait { zone: None, why }
}

/// What is told of a look that only took up another declaration of where a transition goes.
pub(crate) fn under_way(motion: &Motion) -> Outlook {
    let stands = match &motion.leg {
        Leg::Return { why } => returning(why, Vec::new()),
        Leg::Shift { bites, bite, wave } => Outlook {
            phase: Phase::Shift,
            bite: *bite,
            bites: *bites,
            wave: Some(*wave).filter(|wave| *wave != u32::MAX),
            next: "it goes on where it went".to_owned(),
            ..returning("", Vec::new())
        },
    };
    Outlook {
        since: Some(motion.since),
        ..stands
    }
}

fn returning(why: &str, waits: Vec<Wait>) -> Outlook {
    Outlook {
        declared: BTreeMap::new(),
        phase: Phase::Return,
        bite: 0,
        bites: 0,
        wave: None,
        waves: Vec::new(),
        waits,
        next: format!("everywhere at once, because {why}; it rests when every zone proves it"),
        since: None,
        until: None,
        drained: false,
    }
}

fn quarantined(quarantine: &Quarantine) -> Outlook {
    Outlook {
        declared: BTreeMap::new(),
        phase: Phase::Quarantined,
        bite: 0,
        bites: 0,
        wave: None,
        waves: Vec::new(),
        waits: vec![wait(quarantine.why.clone())],
        next: "what is declared is not gone towards until a commit changes this split, or it is resumed"
            .to_owned(),
        since: Some(quarantine.at),
        until: None,
        drained: false,
    }
}
