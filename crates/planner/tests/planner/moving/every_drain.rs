//! Every order of facts in a small world in which backends are drained, breadth first.

use weir_planner::{Drain, drain};

use super::every_order::{check_step, place, toggle};
use super::*;

type Weights = BTreeMap<BackendName, u32>;

fn drained(world: &World) -> BTreeMap<BackendName, Drain> {
    world.orders.drains.get(&checkout()).cloned().unwrap_or_default()
}

/// The largest share of a backend that any zone is told.
fn most(world: &World, backend: &BackendName) -> u32 {
    let items = ZONES.iter().filter_map(|name| world.item(&zone(name)));
    let shares = items.map(|item| weights(&item).get(backend).copied().unwrap_or(0));
    shares.max().unwrap_or(0)
}

/// Whoever is drained and was told nothing anywhere may have been stopped: as long as it is drained nobody is told to send
/// there, and nobody's share falls to it.
fn check_drains(before: &World, world: &World) -> Result<(), String> {
    let was = drained(before);
    for name in drained(world).keys().filter(|name| was.contains_key(*name)) {
        let gone = |world: &World| {
            ZONES.iter().all(|zone_name| {
                let item = world.item(&zone(zone_name)).unwrap();
                let mut refuges = item.fallback.values().flat_map(|fallback| &fallback.to);
                !weights(&item).contains_key(name) && refuges.all(|to| to.backend != *name)
            })
        };
        if gone(before) && !gone(world) {
            return Err(format!(
                "{name} is drained and was told nothing, and is told something"
            ));
        }
    }
    Ok(())
}

/// When every fault is over it rests where the drains lead, or says why not; and when these are over as well, where Git
/// declares it.
fn check_end(mut world: World, target: &Weights, trail: &[String]) {
    world.cut.clear();
    world.dead.clear();
    world.fallen.clear();
    for ended in [false, true] {
        if ended {
            world.orders.drains.clear();
        }
        let mut stands = None;
        for _ in 0..40 {
            let before = world.clone();
            stands = world.look().1;
            check_drains(&before, &world).unwrap();
            world.all_follow();
            world.pass(61);
        }
        let phase = stands.as_ref().map(|stands| stands.phase);
        let split = &world.declaration.splits[&checkout()];
        let there = match drain::without(split, (&drained(&world), &world.declaration.zones)) {
            Ok(there) => there.routes.last().unwrap().weights.clone(),
            Err(_) => {
                assert_eq!(phase, Some(Phase::Held), "{trail:?}");
                continue;
            }
        };
        if world.quarantined() {
            assert_eq!(phase, Some(Phase::Quarantined), "{trail:?}");
            return;
        }
        if !ended && phase == Some(Phase::Held) {
            continue; // stopped
        }
        assert_eq!(world.leg(), None, "{trail:?}: {}", world.told(stands.as_ref()));
        let there = there.into_iter().map(|(name, weight)| (name, weight.get()));
        let there: Weights = there.filter(|(_, weight)| *weight > 0).collect();
        for name in ZONES {
            let told = world.told(stands.as_ref());
            assert_eq!(
                world.weights(&zone(name)),
                there,
                "{trail:?}, zone {name}: {told}"
            );
        }
        if ended {
            assert_eq!((phase, &there), (None, target));
        }
    }
}

/// Every order of: all follow, or all but one zone; that one is cut off or comes back; a backend dies with its share
/// elsewhere there; time passes; somebody commits, reverts, aborts, drains or ends that.
#[test]
fn every_order_of_drains_in_a_small_world() {
    const DEPTH: usize = 4;
    let targets: [&[(&str, u32)]; 3] = [
        &[("eks", 20), ("vm", 80)],
        &[("eks", 80), ("vm", 20)],
        &[("lab", 50), ("vm", 50)],
    ];
    let whole = |target: usize| -> Weights {
        let target = targets[target].iter();
        target.map(|(name, w)| (backend(name), w * 100)).collect()
    };
    let declare = |target: usize| {
        declared(targets[target], |split| {
            let fallback = weir_model::Fallback {
                to: vec![backend("eks")],
                after: SignedDuration::from_secs(1),
                recover: SignedDuration::from_secs(60),
            };
            split.fallback = BTreeMap::from([(backend("vm"), fallback)]);
        })
    };
    let mut seen = BTreeSet::new();
    let mut todo = VecDeque::from([(World::new(declare(0)), 0_usize, Vec::<String>::new())]);
    let (mut states, mut plans) = (0, 0);
    while let Some((world, target, trail)) = todo.pop_front() {
        let names: Vec<BackendName> = drained(&world).into_keys().collect();
        let key = (
            target,
            place(&world),
            names,
            world.cut.clone(),
            world.fallen.clone(),
        );
        if !seen.insert(key) {
            continue;
        }
        states += 1;
        check_end(world.clone(), &whole(target), &trail);
        if trail.len() == DEPTH {
            continue;
        }
        let mut nexts: Vec<(World, usize, String)> = Vec::new();
        let mut push = |target: usize, what: String, change: &dyn Fn(&mut World)| {
            let mut next = world.clone();
            change(&mut next);
            nexts.push((next, target, what));
        };
        let par = zone("par");
        push(target, "all follow".to_owned(), &|world| world.all_follow());
        push(target, "all but par follow".to_owned(), &|world| {
            for name in ["ams", "fra"] {
                world.follow(&zone(name));
            }
        });
        push(target, "cut par".to_owned(), &|world| {
            toggle(&mut world.cut, &par);
        });
        push(target, "vm is down in par".to_owned(), &|world| {
            if world.fallen.remove(&par).is_none() {
                world.fallen.insert(par.clone(), BTreeSet::from([backend("vm")]));
            }
        });
        push(target, "31 s".to_owned(), &|world| world.pass(31));
        for other in (0..3).filter(|other| *other != target) {
            for reverts in [false, true] {
                push(other, format!("commit {other}, reverts {reverts}"), &|world| {
                    world.commit(declare(other));
                    world.reverts = reverts;
                });
            }
        }
        push(target, "abort".to_owned(), &|world| {
            world.orders.aborts.insert(checkout(), "aborted".to_owned());
        });
        for name in ["vm", "eks"] {
            let mut drains = drained(&world);
            if drains.remove(&backend(name)).is_none() {
                let drain = Drain {
                    to: None,
                    why: "drained".to_owned(),
                };
                drains.insert(backend(name), drain);
            }
            // As the coordinator judges orders.
            let split = &world.declaration.splits[&checkout()];
            if !world.quarantined() && drain::without(split, (&drains, &world.declaration.zones)).is_ok() {
                push(target, format!("drain or undrain {name}"), &|world| {
                    world.orders.drains = BTreeMap::from([(checkout(), drains.clone())]);
                });
            }
        }
        for (mut next, target, what) in nexts {
            let before = next.clone();
            if next.look().0 {
                plans += 1;
            }
            let checked = check_step(&before, &next, 5_000);
            if let Err(why) = checked.and_then(|()| check_drains(&before, &next)) {
                panic!("{trail:?}, {what}: {why}; {:?}", next.leg());
            }
            for name in drained(&next)
                .keys()
                .filter(|name| drained(&world).contains_key(*name))
            {
                assert!(
                    next.reverts || most(&next, name) <= most(&before, name),
                    "{trail:?}, {what}: {name} gains though it is drained"
                );
            }
            next.orders.aborts.clear();
            next.reverts = false;
            let mut trail = trail.clone();
            trail.push(what);
            todo.push_back((next, target, trail));
        }
    }
    assert!(states > 1_500 && plans > 1_000, "{states} states, {plans} plans");
}
