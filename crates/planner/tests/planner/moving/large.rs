//! Large worlds, in random order: up to twelve zones in six waves and five backends, with bites, refuges, zones that are detached,
//! cut off, blind or without an ingress, freezes, drains, reverts and aborts in mid-way. What the small worlds check for every
//! order, on paths of some forty events.

mod land;

use proptest::prelude::*;
use weir_model::Fallback;
use weir_planner::{Drain, Item, canonical, drain};

use super::every_order::toggle;
use super::*;
use land::{Event, Land, event, land};

fn declared_weights(declaration: &Declaration) -> BTreeMap<BackendName, u32> {
    let weights = &declaration.splits[&checkout()].routes[0].weights;
    let weights = weights.iter().map(|(name, weight)| (name.clone(), weight.get()));
    weights.filter(|(_, weight)| *weight > 0).collect()
}

/// One life.
struct Life {
    land: Land,
    world: World,
    /// What was declared before, newest last.
    declared: Vec<Declaration>,
    /// Zones that were detached since the split last rested: it went on without them. Once attached they are waited for before
    /// the next bite, and the waves of the one that was begun go on.
    aside: BTreeSet<ZoneName>,
    /// The event takes back a commit that changed weights.
    takes_back: bool,
}

impl Life {
    fn new(land: Land) -> Self {
        let first = land.declare(&land.weights, |_| {});
        Self {
            world: World::new(first.clone()),
            declared: vec![first],
            aside: BTreeSet::new(),
            takes_back: false,
            land,
        }
    }

    fn items(&self) -> BTreeMap<ZoneName, Arc<Item>> {
        let zones = self.world.declaration.zones.keys();
        zones
            .filter_map(|zone| Some((zone.clone(), self.world.item(zone)?)))
            .collect()
    }

    fn drained(&self) -> BTreeMap<BackendName, Drain> {
        self.world
            .orders
            .drains
            .get(&checkout())
            .cloned()
            .unwrap_or_default()
    }

    /// Lets it happen; false if there is no such thing now.
    fn happens(&mut self, event: &Event) -> bool {
        let Self {
            land,
            world,
            declared,
            takes_back,
            ..
        } = self;
        *takes_back = false;
        match event {
            Event::Follow(bits) => {
                for at in (0..land.waves.len()).filter(|at| bits & (1 << at) != 0) {
                    world.follow(&land.zone(at));
                }
            }
            Event::Cut(at) => toggle(&mut world.cut, &land.zone(*at)),
            Event::Dark(at) => toggle(&mut world.dark, &land.zone(*at)),
            Event::Dead(at) => toggle(&mut world.dead, &land.backend(*at)),
            Event::NoIngress(at) => toggle(&mut world.cut_off, &land.zone(*at)),
            Event::Blind(at, to) => {
                if world.blind.remove(&land.zone(*at)).is_none() {
                    world.blind.insert(land.zone(*at), land.backend(*to));
                }
            }
            Event::Fallen(at, to) => {
                if world.fallen.remove(&land.zone(*at)).is_none() {
                    world
                        .fallen
                        .insert(land.zone(*at), BTreeSet::from([land.backend(*to)]));
                }
            }
            Event::Pass(seconds) => world.pass(*seconds),
            Event::Commit {
                weights,
                refuge,
                freeze,
                detached,
            } => {
                let next = land.declare(weights, |declaration| {
                    let homes: BTreeSet<ZoneName> = land.homes.iter().map(|home| land.zone(*home)).collect();
                    if let Some(zone) = detached
                        .map(|at| land.zone(at))
                        .filter(|zone| !homes.contains(zone))
                    {
                        declaration.zones.get_mut(&zone).unwrap().detached = true;
                    }
                    Land::change(declaration, |split| {
                        if *freeze {
                            split.freeze = Freeze::Always;
                        }
                        let pair = refuge.map(|(from, to)| (land.backend(from), land.backend(to)));
                        if let Some((from, to)) = pair.filter(|(from, to)| from != to) {
                            let fallback = Fallback {
                                to: vec![to],
                                after: SignedDuration::from_secs(1),
                                recover: SignedDuration::from_secs(60),
                            };
                            split.fallback = BTreeMap::from([(from, fallback)]);
                        }
                    });
                });
                declared.push(next.clone());
                world.commit(next);
            }
            Event::Revert => {
                let [.., before, _] = &declared[..] else {
                    return false;
                };
                let before = before.clone();
                let gone = declared.pop();
                *takes_back = gone.is_some_and(|gone| declared_weights(&gone) != declared_weights(&before));
                world.reverts = true;
                world.commit(before);
            }
            Event::Abort => {
                world.orders.aborts.insert(checkout(), "aborted".to_owned());
            }
            Event::Resume => {
                world.orders.resumes.insert(checkout());
            }
            Event::Freeze => {
                if world.orders.frozen.remove(&checkout()).is_none() {
                    world.orders.frozen.insert(checkout(), "frozen".to_owned());
                }
            }
            Event::Drain(at) => {
                // As the coordinator judges orders.
                let mut drains = world.orders.drains.get(&checkout()).cloned().unwrap_or_default();
                let name = land.backend(*at);
                if drains.remove(&name).is_none() {
                    let why = "drained".to_owned();
                    drains.insert(name, Drain { to: None, why });
                }
                let split = &world.declaration.splits[&checkout()];
                if world.quarantined() || drain::without(split, (&drains, &world.declaration.zones)).is_err()
                {
                    return false;
                }
                world.orders.drains = BTreeMap::from([(checkout(), drains)]);
            }
        }
        true
    }

    /// One event and one look, with all that must hold of it.
    fn step(&mut self, event: &Event) {
        if !self.happens(event) {
            return;
        }
        if self.world.leg().is_none() {
            self.aside.clear();
        }
        let zones = self.world.declaration.zones.values();
        let detached = zones.filter(|zone| zone.detached).map(|zone| zone.name.clone());
        self.aside.extend(detached.collect::<Vec<_>>());
        let (before, was) = (self.world.clone(), self.items());
        let (new, stands) = self.world.look();
        let is = self.items();
        if new {
            self.ready_before_weight(&before, &was, &is);
            self.in_step(&before, &was, &is);
            drain_before_break(&was, &is);
            if self.takes_back || before.orders.aborts.contains_key(&checkout()) {
                self.at_once(&before, &was, &is);
            }
        }
        self.held_where_it_is_safe(stands.as_ref());
        self.world.reverts = false;
        self.world.orders.aborts.clear();
        self.world.orders.resumes.clear();
    }

    fn shifts(&self) -> bool {
        matches!(self.world.leg(), Some(Leg::Shift { .. }))
    }

    fn takes_part(&self, zone: &ZoneName) -> bool {
        !self.world.declaration.zones[zone].detached
    }

    /// I3: a step tells no zone that can be asked anything that it does not resolve.
    fn ready_before_weight(&self, before: &World, was: &Items, is: &Items) {
        if !self.shifts() {
            return;
        }
        for (zone, told) in is {
            let had = was.get(zone);
            let same = had.is_some_and(|had| weights(had) == weights(told));
            let asked = !before.cut.contains(zone) && !before.dark.contains(zone);
            if !same && asked && self.takes_part(zone) {
                let verdict = weir_planner::Senses::resolves(before, told, had.map(Arc::as_ref));
                assert_eq!(verdict, Ok(()), "{}", self.world.told(None));
            }
        }
    }

    /// I5: who is told something is not told to be further than one bite from what anybody runs. Who cannot do what he was told is not waited for, and
    /// to leave what is dead is no such step.
    fn in_step(&self, before: &World, was: &Items, is: &Items) {
        let (Some(most), true) = (self.land.max_step.map(|percent| percent * 100), self.shifts()) else {
            return;
        };
        let unresolved = |zone: &ZoneName, item: &Item| {
            !before.dark.contains(zone) && weir_planner::Senses::resolves(before, item, None).is_err()
        };
        let mut running = before.runs.iter();
        if running.any(|(zone, (item, _))| unresolved(zone, item)) {
            return;
        }
        for (zone, (runs, _)) in before.runs.iter().filter(|(zone, _)| !self.aside.contains(*zone)) {
            if was.get(zone).is_some_and(|told| unresolved(zone, told)) {
                continue;
            }
            let runs = weights(runs);
            let news = is
                .iter()
                .filter(|(zone, told)| was.get(*zone).is_none_or(|had| weights(had) != weights(told)));
            for told in news
                .filter(|(zone, _)| self.takes_part(zone))
                .map(|(_, told)| weights(told))
            {
                for name in told.keys().chain(runs.keys()) {
                    let (a, b) = (told.get(name).unwrap_or(&0), runs.get(name).unwrap_or(&0));
                    assert!(
                        a.abs_diff(*b) <= most + 1,
                        "a zone is told {told:?} while {zone} runs {runs:?}\n{}",
                        self.world.told(None)
                    );
                }
            }
        }
    }

    /// I8: a revert and an abort are told to all zones in one plan, whatever is cut off, dead or frozen.
    fn at_once(&self, before: &World, was: &Items, is: &Items) {
        if !self.drained().is_empty() || before.quarantined() {
            return;
        }
        let course = |world: &World| world.plan.as_ref().unwrap().splits[&checkout()].course.clone();
        let there: Option<BTreeMap<BackendName, u32>> = if before.orders.aborts.contains_key(&checkout()) {
            let motion = course(before).and_then(|course| course.motion);
            let shifts = matches!(before.leg(), Some(Leg::Shift { .. }));
            motion
                .filter(|_| shifts)
                .and_then(|motion| Some(weights(motion.origin.values().next()?)))
        } else {
            // What it was last brought back from is no way back; and who took back no weights leads where it went.
            let mut declared = Item::clone(is.values().next().unwrap());
            let split = &self.world.declaration.splits[&checkout()];
            declared.routes[0].weights.clone_from(&split.routes[0].weights);
            let shape = canonical::shape(&declared);
            let course = course(before);
            let motion = course.as_ref().and_then(|course| course.motion.as_ref());
            let same = motion.is_some_and(|motion| motion.to == shape);
            let again = course.as_ref().and_then(|course| course.left) == Some(shape);
            (!same && !again).then(|| declared_weights(&self.world.declaration))
        };
        let Some(there) = there else { return };
        if was.values().all(|told| weights(told) == there) {
            return;
        }
        for (zone, told) in is {
            assert_eq!(weights(told), there, "{zone}: {}", self.world.told(None));
        }
    }

    /// A way back is held where only zones are left that do not resolve it, which are named with what they run. Those run what they
    /// ran, whole.
    fn held_where_it_is_safe(&self, stands: Option<&weir_planner::Outlook>) {
        let Some(stands) = stands.filter(|_| matches!(self.world.leg(), Some(Leg::Return { .. }))) else {
            return;
        };
        for wait in &stands.waits {
            let Some(at) = &wait.zone else { continue };
            let safe = wait.why.contains("it stays at ");
            if safe {
                let told = self.world.item(at).unwrap();
                assert!(
                    weir_planner::Senses::resolves(&self.world, &told, None).is_err(),
                    "{}",
                    wait.why
                );
                assert_ne!(self.world.runs[at].0.reference(), told.reference());
                for (name, weight) in self.world.weights(at) {
                    let share = format!("{name} {} %", BasisPoints::new(weight).unwrap());
                    assert!(wait.why.contains(&share), "{share}: {}", wait.why);
                }
            }
            // Somewhere else it is waited for something else.
            let held_back =
                stands.phase == Phase::Held && stands.next.starts_with("every zone that resolves it is back");
            assert!(safe || !held_back, "{stands:?}");
        }
    }

    /// I11: when all faults are over it rests on what is declared, or stays back and says so.
    fn ends(mut self) {
        let world = &mut self.world;
        (world.cut, world.dark, world.dead) = Default::default();
        (world.blind, world.cut_off, world.fallen) = Default::default();
        (world.orders.frozen, world.orders.drains) = Default::default();
        let mut last = world.declaration.clone();
        for zone in last.zones.values_mut() {
            zone.detached = false;
        }
        Land::change(&mut last, |split| split.freeze = Freeze::Never);
        world.commit(last);
        let mut idle = 0;
        for _ in 0..400 {
            let before = self.world.runs.clone();
            self.step(&Event::Follow(u16::MAX));
            self.world.pass(61);
            // Nothing came of it, nor of the look before.
            let moved = before != self.world.runs || self.world.leg().is_some();
            idle = if moved { 0 } else { idle + 1 };
            if idle < 2 {
                continue;
            }
            let there = declared_weights(&self.world.declaration);
            let stands = self.world.look().1;
            if self.world.quarantined() {
                assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Quarantined));
                return;
            }
            assert_eq!(stands, None, "{}", self.world.told(None));
            for zone in self.world.declaration.zones.keys() {
                assert_eq!(self.world.weights(zone), there, "{zone}");
            }
            return;
        }
        panic!(
            "it never comes to rest: {}",
            self.world.told(self.world.clone().look().1.as_ref())
        );
    }
}

type Items = BTreeMap<ZoneName, Arc<Item>>;

/// I4: who had weight in an item stays a destination of the next one, in the same place.
fn drain_before_break(was: &Items, is: &Items) {
    for (zone, told) in is {
        let Some(had) = was.get(zone) else { continue };
        for name in had.weighted() {
            assert_eq!(
                told.destinations.get(name),
                had.destinations.get(name),
                "{zone}: {name}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_facts_in_a_large_world(land in land(), events in prop::collection::vec(event(), 1..40)) {
        let mut life = Life::new(land);
        for event in &events {
            life.step(event);
        }
        life.ends();
    }
}
