//! One split's way from what it rests on to what is declared: a pure state machine, and every step of it is a plan.
//!
//! There is nothing to resume: where a split stands is in its [`SplitPlan::course`], and the next step follows from that,
//! the declaration, what the zones tell and the time.
//!
//! | from | goes on when | to |
//! |---|---|---|
//! | rest | what is declared gives callers other shares; every zone runs what it was last told; every zone that can be reached resolves what gets weight | the first wave of the first bite |
//! | a wave | every zone that has moved and can be reached proves it; the zones of the next wave resolve what gets weight | the next wave |
//! | the last wave of a bite | *every* zone proves it, for `bake`; traffic is judged | the next bite, or rest |
//! | anywhere | what is declared is what it rested on, or rested on before; a bad verdict; an abort | all zones at once, with no wave and no verdict |
//!
//! A zone that cannot be reached keeps its last good plan; the others go on within the bite, and wait before the next, so
//! that two zones are never more than one bite apart (I5). A zone of which no agent was ever heard runs nothing of ours and
//! is not waited for; nor is one that is detached.

mod between;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{Frozen, Insufficient, Split, SplitName, Zone, ZoneName, sabotaged};

use crate::canonical;
use crate::course::{Course, Items, Leg, Motion, Quarantine};
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Digest, Item, SplitPlan};
use crate::senses::{Reach, Runs, Senses};
use verdict::Traffic;

/// A split remembers so many of the places on which it rested: a revert may go back over several commits.
const REMEMBERED: usize = 16;

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
}

/// What a transition goes by besides the declaration.
#[derive(Clone, Copy)]
pub struct Transit<'a> {
    /// The zones.
    pub senses: &'a dyn Senses,
    /// What people ordered.
    pub orders: &'a Orders,
    /// The newest commits take the last ones back: all that they change goes back at once (I8).
    pub reverts: bool,
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
    /// What is declared, for each zone.
    pub(crate) wanted: BTreeMap<ZoneName, Item>,
    pub(crate) before: &'a SplitPlan,
    pub(crate) zones: &'a BTreeMap<ZoneName, Zone>,
    pub(crate) transit: Transit<'a>,
    /// Why nothing of the federation moves now, and until when.
    pub(crate) frozen: Option<(String, Option<Timestamp>)>,
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
        && quarantine.inputs == turn.digest
        && !resumed
    {
        return match &course.motion {
            Some(motion) => turn.watch_return(&course, motion),
            None => (None, Some(quarantined(quarantine))),
        };
    }
    let news = turn.digest != turn.before.digest || resumed;
    let shifting = matches!(&course.motion, Some(motion) if matches!(motion.leg, Leg::Shift { .. }));
    if let Some(why) = orders.aborts.get(name)
        && (news || shifting)
        && !sabotaged("ignore-aborts")
    {
        return turn.go_back(&course, why, make);
    }
    if news {
        return turn.begin(&course, make);
    }
    match &course.motion {
        Some(motion) => match &motion.leg {
            Leg::Shift { bites, bite, wave } => turn.go_on(&course, motion, (*bites, *bite, *wave), make),
            Leg::Return { .. } => turn.watch_return(&course, motion),
        },
        None => (None, None),
    }
}

/// A step that may be taken.
struct Step {
    bite: u32,
    wave: u32,
    items: Items,
}

/// Whether what was found lets a transition go on.
enum Gate {
    Open {
        /// Since when all that is waited for is so.
        since: Timestamp,
    },
    Waits(Vec<Wait>),
}

impl Turn<'_> {
    /// A declaration that is not the one that the split plan was made from.
    fn begin(&self, course: &Course, make: &mut Make<'_>) -> Next {
        let before = self.before;
        let finals = self.all(make, |_, wanted| wanted.clone());
        let mut moving = finals
            .iter()
            .filter_map(|(zone, item)| Some((before.items.get(zone)?, item)));
        let rested = course.settled.unwrap_or(before.digest);
        if !moving.any(|(was, is)| between::shifts(was, is)) {
            return self.at_once(course, finals);
        }
        let back = rested == self.digest || course.previous.contains(&self.digest);
        if (back || self.transit.reverts) && !sabotaged("revert-in-waves") {
            let why = if back {
                "what is declared is what it rested on before"
            } else {
                "the commit takes back the one before it"
            };
            let mut next = self.moved(course, finals, Leg::Return { why: why.to_owned() });
            if let Some(next) = &mut next.course {
                next.quarantine = None;
                next.previous = course.previous.clone();
                if let Some(at) = course.previous.iter().position(|digest| *digest == self.digest) {
                    next.previous.truncate(at);
                }
            }
            return self.sealed(next, returning(why, Vec::new()));
        }
        if let Some(shared) = self.shared(course, make) {
            return shared;
        }
        let bites = finals
            .iter()
            .filter_map(|(zone, item)| {
                let from = before.items.get(zone)?;
                Some(between::bites(from, item, self.split.transition.max_step))
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
        };
        if let Gate::Waits(waits) = self.in_step(&before.items) {
            let next = "the first step is taken when every zone runs what it was last told";
            return (None, Some(outlook(Phase::Shift, waits, next)));
        }
        let Some(first) = waves.first().copied() else {
            return self.at_once(course, finals);
        };
        if let Some((why, until)) = self.frozen_for(first) {
            let mut frozen = outlook(
                Phase::Frozen,
                vec![wait(why)],
                "the first step is taken after that",
            );
            frozen.until = until;
            return (None, Some(frozen));
        }
        match self.step(&before.items, (1, bites), first, &waves, make) {
            Err(waits) => {
                let next = "nothing has moved; the first step is taken when every zone can follow";
                (None, Some(outlook(Phase::Held, waits, next)))
            }
            Ok(Step { bite, wave, items }) => {
                let next = self.moved(course, items, Leg::Shift { bites, bite, wave });
                let mut outlook = outlook(
                    Phase::Shift,
                    Vec::new(),
                    &self.what_next(bite, bites, wave, &waves),
                );
                outlook.bite = bite;
                outlook.wave = Some(wave);
                outlook.since = Some(self.now);
                self.sealed(next, outlook)
            }
        }
    }

    /// Another commit while the waves of a bite are under way: zones are one bite apart, and one more step of some would make
    /// it two (I5). So first all go where the later waves still are, which every zone has proven before. None if all
    /// are told the same already.
    fn shared(&self, course: &Course, make: &mut Make<'_>) -> Option<Next> {
        let motion = course.motion.as_ref()?;
        let Leg::Shift { wave, .. } = &motion.leg else {
            return None;
        };
        let items = &self.before.items;
        let mut later = items.iter().filter(|(zone, _)| self.wave(zone) > *wave);
        let (_, behind) = later.next()?;
        if !items.values().any(|item| between::shifts(item, behind)) {
            return None;
        }
        let why = "another commit came while zones were apart: all go where the later waves still are, and on from there";
        let known = self.wanted.iter().filter(|(zone, _)| items.contains_key(*zone));
        let items = known
            .map(|(zone, wanted)| {
                let item = make(Item {
                    destinations: behind.destinations.clone(),
                    retiring: behind.retiring.clone(),
                    routes: behind.routes.clone(),
                    commit: behind.commit.clone(),
                    ..wanted.clone()
                });
                (zone.clone(), item)
            })
            .collect();
        let mut next = self.moved(course, items, Leg::Return { why: why.to_owned() });
        // of no declaration: whatever is declared is news after this
        next.digest = Digest([0; 32]);
        Some(self.sealed(next, returning(why, Vec::new())))
    }

    /// No share changes, so there is nothing to be careful about: what stands ready for requests, names of ports, ...
    fn at_once(&self, course: &Course, items: Items) -> Next {
        let before = self.before;
        let mut next = course.clone();
        next.quarantine = None;
        next.motion = course.motion.as_ref().map(|motion| Motion {
            origin: motion.origin.clone(),
            from: items.clone(),
            // in mid-way, and that is what is declared now: it rests here as soon as every zone proves it
            leg: match &motion.leg {
                Leg::Return { why } => Leg::Return { why: why.clone() },
                Leg::Shift { .. } => Leg::Shift {
                    bites: 1,
                    bite: 1,
                    wave: u32::MAX,
                },
            },
            since: self.now,
            counted: self.transit.senses.counts(&self.split.name),
        });
        match &next.motion {
            Some(_) => next.settled = Some(course.settled.unwrap_or(before.digest)),
            None => next.settled = None,
        }
        let plan = SplitPlan {
            digest: self.digest,
            root: Digest([0; 32]),
            items,
            course: Some(next).filter(|next| !next.is_plain()),
        };
        (Some(seal(plan)), None)
    }

    /// Another look at a shift.
    fn go_on(
        &self,
        course: &Course,
        motion: &Motion,
        (bites, bite, wave): (u32, u32, u32),
        make: &mut Make<'_>,
    ) -> Next {
        let items = &self.before.items;
        let waves = self.waves(&motion.from);
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
        };
        let stay = |phase, waits, next: String, until| (None, Some(outlook(phase, waits, next, until)));
        let what_next = self.what_next(bite, bites, wave, &waves);
        let verify = &self.split.transition.verify;
        let counts = self.transit.senses.counts(&self.split.name);
        let gaining = verdict::gaining(&motion.from, items);
        let traffic = if gaining.is_empty() {
            Traffic::Good
        } else {
            verdict::judge(&motion.counted, &counts, &gaining, verify)
        };
        if let Traffic::Bad(why) = &traffic {
            return self.go_back(course, &format!("traffic got worse: {why}"), make);
        }

        let next_wave = waves.iter().copied().find(|next| *next > wave);
        let (next_bite, next_wave) = match (next_wave, waves.first()) {
            (Some(next), _) => {
                if let Gate::Waits(waits) = self.moved_so_far(items, wave) {
                    return stay(Phase::Shift, waits, what_next, None);
                }
                (bite, next)
            }
            (None, first) => {
                let since = match self.in_step(items) {
                    Gate::Waits(waits) => {
                        let reachable = |wait: &Wait| {
                            let zone = wait.zone.as_ref();
                            zone.is_some_and(|zone| self.transit.senses.reach(zone) == Reach::Reachable)
                        };
                        let phase = if waits.iter().any(reachable) {
                            Phase::Shift
                        } else {
                            Phase::Settle
                        };
                        return stay(phase, waits, what_next, None);
                    }
                    Gate::Open { since } => since.max(motion.since),
                };
                if let Traffic::Little { seen, of } = traffic {
                    let until = later(since, verify.within);
                    let why =
                        format!("insufficient data: {seen} of {of} requests to what gained weight so far");
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
                let Some(first) = first.copied().filter(|_| bite < bites) else {
                    return self.rest(course, make);
                };
                let until = later(since, self.split.transition.bake);
                if self.now < until {
                    return stay(Phase::Bake, Vec::new(), what_next, Some(until));
                }
                (bite + 1, first)
            }
        };
        if let Some((why, until)) = self.frozen_for(next_wave) {
            return stay(Phase::Frozen, vec![wait(why)], what_next, until);
        }
        let moving: Vec<u32> = if next_bite == bite {
            vec![next_wave]
        } else {
            waves.clone()
        };
        match self.step(&motion.from, (next_bite, bites), next_wave, &moving, make) {
            Err(waits) => {
                let next = "the next step is taken when every zone can follow".to_owned();
                stay(Phase::Held, waits, next, None)
            }
            Ok(Step { bite, wave, items }) => {
                let mut next = self.moved(course, items, Leg::Shift { bites, bite, wave });
                if let Some(to) = next.course.as_mut().and_then(|course| course.motion.as_mut()) {
                    to.from = motion.from.clone();
                }
                let mut outlook = outlook(
                    Phase::Shift,
                    Vec::new(),
                    self.what_next(bite, bites, wave, &waves),
                    None,
                );
                outlook.bite = bite;
                outlook.wave = Some(wave);
                outlook.since = Some(self.now);
                self.sealed(next, outlook)
            }
        }
    }

    /// The items with `wave` at `bite`; every zone of the `prepared` waves must be able to follow. Where one cannot, because
    /// of a backend that only loses weight, all zones go at once as far as all of them can: to leave what is dead in small
    /// steps would be to send requests there on purpose.
    fn step(
        &self,
        from: &Items,
        (bite, bites): (u32, u32),
        wave: u32,
        prepared: &[u32],
        make: &mut Make<'_>,
    ) -> Result<Step, Vec<Wait>> {
        let waves = self.waves(from);
        let mut first = None;
        for at in bite..=bites {
            let leaves = at > bite;
            let waits = self.unready(from, (at, bites), if leaves { &waves } else { prepared });
            if !waits.is_empty() {
                first.get_or_insert(waits);
                continue;
            }
            let mut items = self.before.items.clone();
            items.retain(|zone, _| self.wanted.contains_key(zone));
            for (zone, wanted) in &self.wanted {
                if let Some(from) = from.get(zone)
                    && (leaves || self.wave(zone) == wave)
                {
                    items.insert(zone.clone(), make(between::between(from, wanted, at, bites)));
                }
            }
            return Ok(Step {
                bite: at,
                wave: if leaves {
                    waves.last().copied().unwrap_or(wave)
                } else {
                    wave
                },
                items,
            });
        }
        Err(first.unwrap_or_default())
    }

    /// The zones that cannot follow to this bite, by their own control planes (I3).
    fn unready(&self, from: &Items, (bite, bites): (u32, u32), waves: &[u32]) -> Vec<Wait> {
        let mut waits = Vec::new();
        for (zone, wanted) in &self.wanted {
            let Some(from) = from.get(zone) else { continue };
            let counts = waves.contains(&self.wave(zone)) && !self.detached(zone);
            if !counts || self.transit.senses.reach(zone) != Reach::Reachable {
                continue;
            }
            let item = between::between(from, wanted, bite, bites);
            if let Err(why) = self.transit.senses.resolves(&item) {
                waits.push(Wait {
                    zone: Some(zone.clone()),
                    why,
                });
            }
        }
        waits
    }

    /// All of it proven everywhere, or not to be had: it rests.
    fn rest(&self, course: &Course, make: &mut Make<'_>) -> Next {
        let mut items = self.before.items.clone();
        items.retain(|zone, _| self.wanted.contains_key(zone));
        for (zone, wanted) in &self.wanted {
            // a zone that came while this was under way
            if !items.contains_key(zone) {
                items.insert(zone.clone(), make(wanted.clone()));
            }
        }
        let mut previous = course.previous.clone();
        if let Some(rested) = course.settled.filter(|rested| *rested != self.digest) {
            previous.retain(|digest| *digest != rested && *digest != self.digest);
            previous.push(rested);
            let surplus = previous.len().saturating_sub(REMEMBERED);
            previous.drain(..surplus);
        }
        let rests = Course {
            settled: None,
            previous,
            motion: None,
            quarantine: None,
        };
        let plan = SplitPlan {
            digest: self.digest,
            root: Digest([0; 32]),
            items,
            course: Some(rests).filter(|rests| !rests.is_plain()),
        };
        (Some(seal(plan)), None)
    }

    /// Back to where the split last rested, everywhere at once; what is declared is not gone towards any more.
    fn go_back(&self, course: &Course, why: &str, make: &mut Make<'_>) -> Next {
        let origin = course
            .motion
            .as_ref()
            .map_or(&self.before.items, |motion| &motion.origin);
        let items: Items = self
            .wanted
            .keys()
            .filter_map(|zone| {
                let item = origin.get(zone).or_else(|| self.before.items.get(zone))?;
                Some((zone.clone(), make(Item::clone(item))))
            })
            .collect();
        let quarantine = Quarantine {
            inputs: self.digest,
            why: why.to_owned(),
            at: self.now,
        };
        let mut next = self.moved(course, items, Leg::Return { why: why.to_owned() });
        if let Some(next) = &mut next.course {
            next.quarantine = Some(quarantine.clone());
            if course.motion.is_none() {
                next.motion = None; // nothing had moved
            }
        }
        let outlook = if course.motion.is_none() {
            quarantined(&quarantine)
        } else {
            returning(why, Vec::new())
        };
        self.sealed(next, outlook)
    }

    /// Another look at a way back: it ends when every zone proves it.
    fn watch_return(&self, course: &Course, motion: &Motion) -> Next {
        let why = match &motion.leg {
            Leg::Return { why } => why.as_str(),
            Leg::Shift { .. } => "what is declared is quarantined",
        };
        if let Gate::Waits(waits) = self.in_step(&self.before.items) {
            let mut outlook = returning(why, waits);
            outlook.since = Some(motion.since);
            return (None, Some(outlook));
        }
        let mut next = course.clone();
        next.motion = None;
        if course.quarantine.is_none() {
            next.settled = None;
        }
        let outlook = next.quarantine.as_ref().map(quarantined);
        let plan = SplitPlan {
            digest: self.before.digest,
            root: Digest([0; 32]),
            items: self.before.items.clone(),
            course: Some(next).filter(|next| !next.is_plain()),
        };
        (Some(seal(plan)), outlook)
    }

    /// The split plan of a position.
    fn moved(&self, course: &Course, items: Items, leg: Leg) -> SplitPlan {
        let before = self.before;
        let origin = match &course.motion {
            Some(motion) => motion.origin.clone(),
            None => before.items.clone(),
        };
        let motion = Motion {
            origin,
            from: before.items.clone(),
            leg,
            since: self.now,
            counted: self.transit.senses.counts(&self.split.name),
        };
        SplitPlan {
            digest: self.digest,
            root: Digest([0; 32]),
            items,
            course: Some(Course {
                settled: Some(course.settled.unwrap_or(before.digest)),
                previous: course.previous.clone(),
                motion: Some(motion),
                quarantine: None,
            }),
        }
    }

    fn sealed(&self, plan: SplitPlan, outlook: Outlook) -> Next {
        (Some(seal(plan)), Some(outlook))
    }

    /// Whether every zone runs what it was last told, those that cannot be reached included: only then are zones no more
    /// than one bite apart after the next (I5).
    ///
    /// A zone that cannot resolve what it was told will not run it, however long one waits: it does not keep the others from
    /// going where it can follow.
    fn in_step(&self, items: &Items) -> Gate {
        if sabotaged("skip-proof") {
            return Gate::Open {
                since: Timestamp::MIN,
            };
        }
        self.gate(items, |zone, item| match self.transit.senses.reach(zone) {
            Reach::Nobody => None,
            Reach::Reachable if self.transit.senses.resolves(item).is_err() => None,
            Reach::Reachable => Some(None),
            Reach::Unreachable(why) => Some(Some(why)),
        })
    }

    /// Whether every zone that has moved in this bite and can be reached runs it.
    fn moved_so_far(&self, items: &Items, wave: u32) -> Gate {
        self.gate(items, |zone, _| {
            let reachable = self.transit.senses.reach(zone) == Reach::Reachable;
            (self.wave(zone) <= wave && reachable).then_some(None)
        })
    }

    /// `waited` says whether a zone is waited for, and with what excuse.
    fn gate(&self, items: &Items, waited: impl Fn(&ZoneName, &Item) -> Option<Option<String>>) -> Gate {
        let mut since = Timestamp::MIN;
        let mut waits = Vec::new();
        for (zone, item) in items {
            if self.detached(zone) || !self.wanted.contains_key(zone) {
                continue;
            }
            let Some(excuse) = waited(zone, item) else {
                continue;
            };
            match self.transit.senses.runs(item) {
                Runs::Proven { since: at } => since = since.max(at),
                Runs::Not(why) => waits.push(Wait {
                    zone: Some(zone.clone()),
                    why: match excuse {
                        None => why,
                        Some(away) => format!(
                            "{away}; it keeps its last good plan, and the others go no further than one step beyond it. Bring \
                             it back, or declare `state: detached` on the zone"
                        ),
                    },
                }),
            }
        }
        if waits.is_empty() {
            Gate::Open { since }
        } else {
            Gate::Waits(waits)
        }
    }

    /// Every zone's item, made from what `of` makes of the declared one.
    fn all(&self, make: &mut Make<'_>, of: impl Fn(&ZoneName, &Item) -> Item) -> Items {
        let wanted = self.wanted.iter();
        wanted
            .map(|(zone, wanted)| (zone.clone(), make(of(zone, wanted))))
            .collect()
    }

    fn wave(&self, zone: &ZoneName) -> u32 {
        self.zones.get(zone).map_or(1, |zone| zone.wave)
    }

    fn detached(&self, zone: &ZoneName) -> bool {
        self.zones.get(zone).is_some_and(|zone| zone.detached)
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

    /// Why the zones of this wave may not be moved now, and until when.
    fn frozen_for(&self, wave: u32) -> Option<(String, Option<Timestamp>)> {
        if let Some(frozen) = &self.frozen {
            return Some(frozen.clone());
        }
        let name = &self.split.name;
        if let Some(why) = self.transit.orders.frozen.get(name) {
            return Some((format!("split {name} is frozen: {why}"), None));
        }
        if let Some(found) = frozen(&format!("split {name}"), self.split.freeze.at(self.now)) {
            return Some(found);
        }
        let mut zones = self.zones.values();
        zones.find_map(|zone| {
            let moves = zone.wave == wave && self.wanted.contains_key(&zone.name);
            frozen(&format!("zone {}", zone.name), zone.freeze.at(self.now)).filter(|_| moves)
        })
    }

    fn what_next(&self, bite: u32, bites: u32, wave: u32, waves: &[u32]) -> String {
        match waves.iter().find(|next| **next > wave) {
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

fn seal(mut plan: SplitPlan) -> SplitPlan {
    plan.root = canonical::split_root(&plan);
    plan
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn wait(why: String) -> Wait {
    Wait { zone: None, why }
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
    }
}
