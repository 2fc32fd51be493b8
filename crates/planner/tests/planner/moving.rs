//! Transitions: stories that a reviewer reads, and every order of facts in a small world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::SignedDuration;
use weir_model::{BackendName, BasisPoints, Declaration, Freeze, Protocol, Split, Transition, ZoneName};
use weir_planner::{Leg, Phase};

use crate::declared::{split, with};
use crate::world::{World, backend, checkout, weights, zone};

const ZONES: [&str; 3] = ["ams", "fra", "par"];

/// `checkout` with backends in three zones; `ams` is a wave of its own.
fn declared(weights: &[(&str, u32)], change: impl FnOnce(&mut Split)) -> Declaration {
    let mut split = split("checkout", &["eks@ams", "lab@par", "vm@fra"], weights);
    split.transition = Transition {
        max_step: Some(BasisPoints::new(5_000).unwrap()),
        ..Transition::default()
    };
    change(&mut split);
    let mut declaration = with(&ZONES, [split]);
    declaration.zones.get_mut(&zone("ams")).unwrap().wave = 2;
    declaration
}

fn plain(weights: &[(&str, u32)]) -> Declaration {
    declared(weights, |_| {})
}

/// Looks, and writes down what it came to.
fn look(world: &mut World, story: &mut String, what: &str) {
    let (_, stands) = world.look();
    if !what.is_empty() {
        story.push_str(&format!("-- {what}\n"));
    }
    story.push_str(&world.told(stands.as_ref()));
}

#[test]
fn from_vm_to_eks_in_two_bites_and_two_waves() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    let bake = |split: &mut Split| split.transition.bake = SignedDuration::from_secs(60);
    world.commit(declared(&[("eks", 100)], bake));
    world.dead.insert(backend("eks"));
    look(
        &mut world,
        &mut story,
        "100 % to eks is committed while eks is not up anywhere",
    );
    world.dead.clear();
    world.pass(5);
    look(&mut world, &mut story, "eks is up");
    world.follow(&zone("fra"));
    look(&mut world, &mut story, "fra proves it, par does not yet");
    world.follow(&zone("par"));
    look(&mut world, &mut story, "par as well");
    world.follow(&zone("ams"));
    look(&mut world, &mut story, "ams, the second wave, proves it");
    world.pass(31);
    look(&mut world, &mut story, "31 s without requests");
    world.pass(30);
    look(&mut world, &mut story, "the bake is over");
    world.cut.insert(zone("par"));
    world.follow(&zone("fra"));
    world.pass(1);
    look(&mut world, &mut story, "par is cut off, fra proves it");
    world.follow(&zone("ams"));
    world.pass(1);
    look(&mut world, &mut story, "ams proves it");
    world.cut.clear();
    world.follow(&zone("par"));
    world.count("fra/a", "eks", 5_000, 2);
    look(
        &mut world,
        &mut story,
        "par is back and proves it; 5000 requests, 2 failed",
    );
    insta::assert_snapshot!(story);
}

#[test]
fn a_revert_wins_in_mid_way() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.commit(plain(&[("eks", 100)]));
    look(&mut world, &mut story, "100 % to eks is committed");
    world.follow(&zone("fra"));
    world.cut.insert(zone("par"));
    world.dead.insert(backend("eks"));
    look(
        &mut world,
        &mut story,
        "eks dies, fra runs half, par was cut off before",
    );
    world.commit(plain(&[("vm", 100)]));
    look(&mut world, &mut story, "git revert");
    world.follow(&zone("fra"));
    world.follow(&zone("ams"));
    look(&mut world, &mut story, "fra and ams prove it");
    world.cut.clear();
    world.follow(&zone("par"));
    look(&mut world, &mut story, "par is back");
    insta::assert_snapshot!(story);
}

#[test]
fn a_bad_verdict_and_an_abort_go_back_and_stay_back() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.count("fra/a", "vm", 100_000, 100);
    world.commit(plain(&[("vm", 50), ("eks", 50)]));
    look(&mut world, &mut story, "50 % to eks is committed");
    world.all_follow();
    world.count("fra/a", "eks", 900, 180);
    world.count("fra/a", "vm", 900, 1);
    look(
        &mut world,
        &mut story,
        "wave 1 proves it, 180 of 900 requests to eks fail",
    );
    world.all_follow();
    look(&mut world, &mut story, "all zones prove that they are back");
    look(&mut world, &mut story, "nothing new is committed");
    world.commit(plain(&[("vm", 80), ("eks", 20)]));
    world.counts.clear();
    look(&mut world, &mut story, "20 % is committed");
    world.all_follow();
    world
        .orders
        .aborts
        .insert(checkout(), "it was aborted: \"too slow\", says ada".to_owned());
    look(&mut world, &mut story, "abort");
    world.orders.aborts.clear();
    world.all_follow();
    look(&mut world, &mut story, "all zones prove that they are back");
    world.orders.resumes.insert(checkout());
    look(&mut world, &mut story, "resume");
    insta::assert_snapshot!(story);
}

#[test]
fn what_is_frozen_waits_but_for_reverts() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.commit(declared(&[("eks", 100)], |split| split.freeze = Freeze::Always));
    look(
        &mut world,
        &mut story,
        "100 % to eks and `freeze: true` are committed",
    );
    world.commit(plain(&[("eks", 100)]));
    look(&mut world, &mut story, "without the freeze");
    world.all_follow();
    world.orders.all_frozen = Some("\"black friday\", says ada".to_owned());
    look(&mut world, &mut story, "an order freezes all splits");
    world.commit(plain(&[("vm", 100)]));
    look(&mut world, &mut story, "git revert");
    insta::assert_snapshot!(story);
}

#[test]
fn tcp_takes_the_smallest_weight_first() {
    let tcp = |split: &mut Split| {
        split.protocol = Protocol::Tcp;
        split.transition.max_step = None;
    };
    let mut world = World::new(declared(&[("vm", 100)], tcp));
    world.commit(declared(&[("eks", 100)], tcp));
    let mut seen = Vec::new();
    for _ in 0..20 {
        world.look();
        world.all_follow();
        world.pass(31);
        let now = world.weights(&zone("fra"));
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    let of = |weights: &[(&str, u32)]| -> BTreeMap<BackendName, u32> {
        weights.iter().map(|(name, w)| (backend(name), *w)).collect()
    };
    assert_eq!(seen, [of(&[("vm", 1), ("eks", 9_999)]), of(&[("eks", 10_000)])]);
}

#[test]
fn what_is_dead_is_left_at_once() {
    let step = |split: &mut Split| split.transition.max_step = BasisPoints::new(500).ok();
    let mut world = World::new(declared(&[("vm", 100)], step));
    world.dead.insert(backend("vm"));
    world.commit(declared(&[("eks", 100)], step));
    assert!(world.look().0);
    for name in ZONES {
        let planned = weights(&world.item(&zone(name)).unwrap());
        assert_eq!(planned, [(backend("eks"), 10_000)].into(), "zone {name}");
    }
}

/// What a transition may depend on.
type Key = (
    u64,
    Vec<String>,
    BTreeSet<ZoneName>,
    BTreeSet<BackendName>,
    String,
    bool,
);

fn key(world: &World, target: u64) -> Key {
    let zones = world.declaration.zones.keys().map(|zone| {
        let item = world.item(zone).map(|item| weights(&item));
        let current = world.item(zone).zip(world.runs.get(zone));
        let current = current.is_some_and(|(item, (runs, _))| item.reference() == runs.reference());
        format!("{:?} {item:?} {current}", world.weights(zone))
    });
    let split = world.plan.as_ref().unwrap().splits.get(&checkout()).unwrap();
    let course = split.course.as_ref();
    let motion = course.and_then(|course| course.motion.as_ref());
    let place = motion.map(|motion| {
        let origin: Vec<_> = motion.origin.values().map(|item| weights(item)).collect();
        let from: Vec<_> = motion.from.values().map(|item| weights(item)).collect();
        format!("{:?} {origin:?} {from:?}", motion.leg)
    });
    let rested = course.map(|course| {
        (
            course.settled,
            course.previous.clone(),
            course.quarantine.is_some(),
        )
    });
    let long = world
        .runs
        .values()
        .all(|(_, since)| world.now.duration_since(*since).as_secs() > 30);
    (
        target,
        zones.collect(),
        world.cut.clone(),
        world.dead.clone(),
        format!("{place:?} {rested:?} {}", split.digest),
        long,
    )
}

/// I5 when a step forward is told: nobody is told to be further than one bite from what anybody runs. Leaving what is dead
/// is no such step.
fn check_step(before: &World, world: &World, max_step: u32) -> Result<(), String> {
    let Some(Leg::Shift { .. }) = world.leg() else {
        return Ok(());
    };
    let planned: Vec<BTreeMap<BackendName, u32>> = ZONES
        .iter()
        .filter_map(|name| world.item(&zone(name)).map(|item| weights(&item)))
        .collect();
    let leaves_dead = ZONES.iter().any(|name| {
        let was = before.weights(&zone(name));
        was.keys().any(|name| world.dead.contains(name))
    });
    if leaves_dead {
        return Ok(());
    }
    for told in &planned {
        for name in ZONES {
            let runs = before.weights(&zone(name));
            for backend in told.keys().chain(runs.keys()) {
                let (a, b) = (told.get(backend).unwrap_or(&0), runs.get(backend).unwrap_or(&0));
                if a.abs_diff(*b) > max_step {
                    return Err(format!("a zone is told {told:?} while {name} runs {runs:?}"));
                }
            }
        }
    }
    Ok(())
}

/// When every fault is over, the split comes to rest on what is declared, or stays back and says so.
fn check_end(mut world: World, target: &BTreeMap<BackendName, u32>) {
    world.cut.clear();
    world.dead.clear();
    let mut quiet = 0;
    for _ in 0..40 {
        let (moved, stands) = world.look();
        let before = world.runs.clone();
        world.all_follow();
        world.pass(61);
        let idle = !moved && before == world.runs;
        quiet = if idle { quiet + 1 } else { 0 };
        if quiet >= 2 {
            if world.quarantined() {
                assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Quarantined));
            } else {
                assert_eq!(stands, None);
                for name in ZONES {
                    assert_eq!(world.weights(&zone(name)), *target, "zone {name}");
                }
            }
            assert_eq!(world.leg(), None);
            return;
        }
    }
    panic!("it never comes to rest: {}", world.told(None));
}

/// Every order of: a zone follows, is cut off or comes back, a backend dies or comes back, time passes, somebody commits or
/// aborts. To a depth of events, every state once.
#[test]
fn every_order_of_facts_in_a_small_world() {
    const DEPTH: usize = 5;
    const MOST: u32 = 5_000;
    let targets: [&[(&str, u32)]; 3] = [&[("vm", 100)], &[("eks", 100)], &[("lab", 50), ("vm", 50)]];
    let whole = |target: u64| -> BTreeMap<BackendName, u32> {
        let target = targets[usize::try_from(target).unwrap()];
        target.iter().map(|(name, w)| (backend(name), w * 100)).collect()
    };
    let mut first = World::new(plain(targets[0]));
    first.commit(plain(targets[1]));
    let mut seen = BTreeSet::new();
    let mut todo = VecDeque::from([(first, 1_u64, Vec::<String>::new())]);
    let (mut states, mut plans) = (0, 0);
    while let Some((world, target, trail)) = todo.pop_front() {
        if !seen.insert(key(&world, target)) {
            continue;
        }
        states += 1;
        check_end(world.clone(), &whole(target));
        if trail.len() == DEPTH {
            continue;
        }
        let mut nexts: Vec<(World, u64, String)> = Vec::new();
        let mut push = |target: u64, what: String, change: &dyn Fn(&mut World)| {
            let mut next = world.clone();
            change(&mut next);
            nexts.push((next, target, what));
        };
        for name in ZONES {
            let zone = zone(name);
            push(target, format!("{zone} follows"), &|world| {
                world.follow(&zone);
            });
            push(target, format!("cut {zone}"), &|world| {
                toggle(&mut world.cut, &zone);
            });
        }
        for name in ["eks", "vm"] {
            push(target, format!("dead {name}"), &|world| {
                toggle(&mut world.dead, &backend(name));
            });
        }
        push(target, "31 s".to_owned(), &|world| world.pass(31));
        for other in (0..3).filter(|other| *other != target) {
            push(other, format!("commit {other}"), &|world| {
                world.commit(plain(targets[usize::try_from(other).unwrap()]));
            });
        }
        push(target, "abort".to_owned(), &|world| {
            world.orders.aborts.insert(checkout(), "aborted".to_owned());
        });
        for (mut next, target, what) in nexts {
            let before = next.clone();
            if next.look().0 {
                plans += 1;
                if let Err(why) = check_step(&before, &next, MOST) {
                    panic!("{trail:?}, {what}: {why}; {:?}", next.leg());
                }
            }
            next.orders.aborts.clear();
            let mut trail = trail.clone();
            trail.push(what);
            todo.push_back((next, target, trail));
        }
    }
    assert!(states > 2_000 && plans > 1_000, "{states} states, {plans} plans");
}

fn toggle<T: Ord + Clone>(set: &mut BTreeSet<T>, value: &T) {
    if !set.remove(value) {
        set.insert(value.clone());
    }
}

/// A zone that joins while a split is under way gets its item when that has ended.
#[test]
fn a_zone_that_comes_in_mid_way_waits() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.look();
    world.all_follow();
    let mut more = plain(&[("eks", 100)]);
    let mut ber = more.zones[&zone("fra")].clone();
    ber.name = zone("ber");
    ber.kuma_zone = weir_model::DnsLabel::new("ber").unwrap();
    more.zones.insert(zone("ber"), ber);
    world.commit(more);
    for _ in 0..20 {
        world.look();
        world.all_follow();
        world.pass(31);
    }
    assert_eq!(world.leg(), None);
    let plan = Arc::clone(world.plan.as_ref().unwrap());
    assert_eq!(plan.splits[&checkout()].items.len(), 4);
    assert_eq!(world.weights(&zone("ber")), [(backend("eks"), 10_000)].into());
}
