//! Every order of facts in a small world, breadth first.

use super::*;

/// What a transition may depend on.
type Key = (
    u64,
    Vec<String>,
    [BTreeSet<ZoneName>; 2],
    BTreeSet<BackendName>,
    String,
    bool,
);

fn key(world: &World, target: u64) -> Key {
    let (zones, course) = place(world);
    let long = world
        .runs
        .values()
        .all(|(_, since)| world.now.duration_since(*since).as_secs() > 30);
    (
        target,
        zones,
        [world.cut.clone(), world.dark.clone()],
        world.dead.clone(),
        course,
        long,
    )
}

/// Where every zone and the split are.
pub(super) fn place(world: &World) -> (Vec<String>, String) {
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
        format!("{:?} {origin:?} {from:?} {:?}", motion.leg, motion.stopped)
    });
    let rested = course.map(|course| {
        let previous = course.previous.clone();
        (course.left, previous, course.drained, course.quarantine.is_some())
    });
    (zones.collect(), format!("{place:?} {rested:?} {}", split.digest))
}

/// I5 when a step forward is told: nobody is told to be further than one bite from what anybody runs. Leaving what is dead
/// is no such step.
pub(super) fn check_step(before: &World, world: &World, max_step: u32) -> Result<(), String> {
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
    world.dark.clear();
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
    // Something retires there from the start, as in every split that a backend was taken out of.
    let mut first = World::new(retiring(targets[0]));
    first.commit(plain(targets[0]));
    first.look();
    first.all_follow();
    first.look();
    first.pass(61);
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
        push(target, "dark fra".to_owned(), &|world| {
            toggle(&mut world.dark, &zone("fra"));
        });
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

pub(super) fn toggle<T: Ord + Clone>(set: &mut BTreeSet<T>, value: &T) {
    if !set.remove(value) {
        set.insert(value.clone());
    }
}
