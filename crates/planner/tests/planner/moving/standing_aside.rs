//! Zones that stand aside: detached ones, and frozen ones.

use super::*;
use weir_planner::drain;

/// `ams`, which is a wave of its own, is as told here.
fn with_ams(weights: &[(&str, u32)], change: impl FnOnce(&mut weir_model::Zone)) -> Declaration {
    let mut declaration = plain(weights);
    change(declaration.zones.get_mut(&zone("ams")).unwrap());
    declaration
}

/// Looks again and again, everybody following who can.
fn go_on(world: &mut World) -> BTreeMap<BackendName, u32> {
    for _ in 0..12 {
        world.look();
        world.all_follow();
        world.pass(61);
    }
    world.weights(&zone("fra"))
}

fn all_to(name: &str) -> BTreeMap<BackendName, u32> {
    [(backend(name), 10_000)].into()
}

#[test]
fn a_detached_zone_is_waited_for_by_nobody() {
    let detached = |zone: &mut weir_model::Zone| zone.detached = true;
    for (detaches, reaches) in [(false, false), (true, true)] {
        let mut world = World::new(plain(&[("vm", 100)]));
        world.cut.insert(zone("ams"));
        let change = |of: &mut weir_model::Zone| {
            if detaches {
                detached(of);
            }
        };
        world.commit(with_ams(&[("lab", 100)], change));
        assert_eq!(
            go_on(&mut world) == all_to("lab"),
            reaches,
            "{}",
            world.told(None)
        );
        assert_eq!(world.leg().is_none(), reaches);
        // It keeps what it has, and follows when it is back.
        assert_eq!(world.weights(&zone("ams")), all_to("vm"));
        world.cut.clear();
        go_on(&mut world);
        assert_eq!(world.weights(&zone("ams")), all_to("lab"));
    }
    // One that is attached again is waited for, before anything else moves.
    let mut world = World::new(plain(&[("vm", 100)]));
    world.cut.insert(zone("ams"));
    world.commit(with_ams(&[("lab", 100)], detached));
    assert_eq!(go_on(&mut world), all_to("lab"));
    world.commit(plain(&[("vm", 50), ("lab", 50)]));
    assert_eq!(go_on(&mut world), all_to("lab"), "{}", world.told(None));
}

#[test]
fn a_drain_gives_nothing_to_who_is_in_a_detached_zone() {
    let declaration = with_ams(&[("vm", 100)], |zone| zone.detached = true);
    let to = |to: &str| {
        let drain = weir_planner::Drain {
            to: Some(backend(to)),
            why: "\"the host is rebuilt\", says ada".to_owned(),
        };
        let drains = BTreeMap::from([(backend("vm"), drain)]);
        drain::without(&declaration.splits[&checkout()], (&drains, &declaration.zones))
    };
    assert!(to("lab").is_ok());
    let refused = to("eks").unwrap_err();
    assert!(refused.contains("its zone ams is detached"), "{refused}");
}

#[test]
fn a_frozen_zone_keeps_its_wave_and_lets_reverts_pass() {
    let freeze = |zone: &mut weir_model::Zone| zone.freeze = Freeze::Always;
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(with_ams(&[("vm", 50), ("lab", 50)], freeze));
    go_on(&mut world);
    let half: BTreeMap<_, _> = [(backend("vm"), 5_000), (backend("lab"), 5_000)].into();
    assert_eq!(world.weights(&zone("fra")), half, "the wave before it moves");
    assert_eq!(world.weights(&zone("ams")), all_to("vm"));
    let (_, stands) = world.look();
    assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Frozen));
    world.reverts = true;
    world.commit(with_ams(&[("vm", 100)], freeze));
    assert_eq!(go_on(&mut world), all_to("vm"));
    assert_eq!(world.leg(), None);
}

#[test]
fn a_frozen_federation_moves_nothing_but_reverts() {
    let frozen = |weights: &[(&str, u32)]| {
        let mut declaration = plain(weights);
        declaration.federation.as_mut().unwrap().freeze = Freeze::Always;
        declaration
    };
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("lab", 100)]));
    world.look();
    world.all_follow();
    world.commit(frozen(&[("lab", 100)]));
    let there = world.weights(&zone("fra"));
    assert_eq!(go_on(&mut world), there, "what is under way stays where it is");
    world.reverts = true;
    world.commit(frozen(&[("vm", 100)]));
    assert_eq!(go_on(&mut world), all_to("vm"));
}

/// A step to `vm`, away from `eks`, whose zone is detached by the same commit.
fn leaving_ams() -> World {
    let mut world = World::new(plain(&[("eks", 80), ("lab", 20)]));
    world.count("fra/a", "eks", 8_000, 0);
    world.count("fra/a", "lab", 2_000, 0);
    world.commit(with_ams(&[("vm", 80), ("lab", 20)], |zone| zone.detached = true));
    world.look();
    world.all_follow();
    assert!(world.weights(&zone("fra")).contains_key(&backend("vm")));
    world
}

/// Kuma may go on listing what is in a detached zone: neither a bad verdict nor an abort gives it anything back.
#[test]
fn nothing_goes_back_to_who_is_in_a_detached_zone() {
    for aborted in [false, true] {
        let mut world = leaving_ams();
        let had = world.weights(&zone("fra"))[&backend("eks")];
        if aborted {
            let orders = &mut world.orders.aborts;
            orders.insert(checkout(), "\"it is slow\", says ada".to_owned());
        } else {
            world.count("fra/a", "vm", 1_000, 900);
        }
        let (_, stands) = world.look();
        world.orders.aborts.clear();
        for _ in 0..5 {
            world.all_follow();
            world.look();
            let has = world.weights(&zone("fra")).get(&backend("eks")).copied();
            assert!(has.unwrap_or(0) <= had, "{}", world.told(None));
        }
        let waits = format!("{:?}", stands.map(|stands| stands.waits));
        let goes = world.weights(&zone("fra")) == all_to("lab");
        assert!(goes || waits.contains("its zone ams is detached"), "{waits}");
    }
}

/// Zones are apart, one backend is in a detached zone and the one that took its place is drained: neither where the ones are nor
/// where the others are leads past both.
#[test]
fn between_one_who_is_drained_and_one_who_is_away_neither_gets_more() {
    let mut world = World::new(plain(&[("eks", 85), ("lab", 15)]));
    let mut declaration = plain(&[("eks", 85), ("vm", 15)]);
    declaration.zones.get_mut(&zone("par")).unwrap().detached = true;
    world.commit(declaration);
    world.look();
    world.all_follow();
    assert_eq!(world.weights(&zone("fra")).get(&backend("vm")), Some(&1_500));
    assert_eq!(world.weights(&zone("ams")).get(&backend("lab")), Some(&1_500));
    let drain = weir_planner::Drain {
        to: None,
        why: "\"new kernel\", says ada".to_owned(),
    };
    let drains = BTreeMap::from([(backend("vm"), drain)]);
    world.orders.drains.insert(checkout(), drains);
    let share = |world: &World, of: &str, to: &str| {
        let item = world.item(&zone(of)).unwrap();
        let weight = item.routes[0].weights.get(&backend(to)).copied();
        weight.unwrap_or_default().get()
    };
    for _ in 0..6 {
        let had = ZONES.map(|zone| ["vm", "lab"].map(|name| share(&world, zone, name)));
        world.look();
        let has = ZONES.map(|zone| ["vm", "lab"].map(|name| share(&world, zone, name)));
        let more = had
            .iter()
            .flatten()
            .zip(has.iter().flatten())
            .any(|(had, has)| has > had);
        assert!(!more, "{had:?} {has:?}: {}", world.told(None));
        world.all_follow();
        world.pass(61);
    }
    assert_eq!(world.leg(), None);
    assert_eq!(go_on(&mut world), all_to("eks"));
}

/// Zones are apart, and a backend whose zone is detached has less of one route where the first ones are, and less of another where the
/// later ones still are: of each route all take what gives him no more, and nobody is pushed from there to who cannot take it.
#[test]
fn of_each_route_what_gives_less_to_who_is_away() {
    use super::other_routes::with_route;
    let routes = |default: &[(&str, u32)], beta: &[(&str, u32)]| {
        declared(default, |split| {
            if !beta.is_empty() {
                with_route(split, "beta", "/beta", beta);
            }
        })
    };
    let share = |world: &World, of: &str, route: &str, name: &str| {
        let item = world.item(&zone(of)).unwrap();
        let mut all = item.routes.iter();
        let by = all.find(|by| by.name.as_str() == route).or(item.routes.last());
        let weight = by.unwrap().weights.get(&backend(name)).copied();
        weight.unwrap_or_default().get()
    };
    for (rested, towards, most_to_lab) in [
        // He has all of one route, so that without him nobody would have it.
        (
            routes(&[("eks", 100)], &[("vm", 100)]),
            routes(&[("eks", 50), ("vm", 50)], &[("vm", 50), ("eks", 50)]),
            5_000,
        ),
        // The first ones have a route that the others do not know.
        (
            routes(&[("vm", 75), ("lab", 25)], &[]),
            routes(&[("vm", 85), ("lab", 15)], &[("vm", 60), ("eks", 40)]),
            5_000,
        ),
    ] {
        let mut world = World::new(rested);
        world.commit(towards);
        world.look();
        world.all_follow();
        let apart = |route| share(&world, "ams", route, "vm").cmp(&share(&world, "par", route, "vm"));
        assert!(
            apart("default").is_lt() && apart("beta").is_gt(),
            "{}",
            world.told(None)
        );
        let mut declaration = routes(&[("eks", 50), ("lab", 50)], &[("eks", 100)]);
        declaration.zones.get_mut(&zone("fra")).unwrap().detached = true;
        world.commit(declaration);
        let all = |world: &World, name: &str| {
            ZONES.map(|zone| ["default", "beta"].map(|route| share(world, zone, route, name)))
        };
        for _ in 0..20 {
            let had = all(&world, "vm");
            world.look();
            let has = all(&world, "vm");
            let mut both = had.iter().flatten().zip(has.iter().flatten());
            assert!(
                both.all(|(had, has)| has <= had),
                "{had:?} {has:?}: {}",
                world.told(None)
            );
            let lab = all(&world, "lab");
            let mut lab = lab.iter().flatten();
            assert!(lab.all(|share| *share <= most_to_lab), "{}", world.told(None));
            world.all_follow();
            world.pass(61);
        }
        assert_eq!(world.leg(), None, "{}", world.told(None));
        let ends = [("eks", [5_000, 10_000]), ("lab", [5_000, 0])];
        for (name, shares) in ends {
            assert_eq!(all(&world, name), [shares; 3], "{}", world.told(None));
        }
    }
}

/// What a freeze holds besides shifts: what comes, what goes, and what tells listeners or gateways something new.
#[test]
fn a_freeze_holds_whatever_callers_would_be_told() {
    let freeze = |zone: &mut weir_model::Zone| zone.freeze = Freeze::Always;
    let names = |split: &mut Split| {
        split.port_names = [weir_model::PortName::new("http").unwrap()].into();
    };
    let tcp = |split: &mut Split| split.protocol = Protocol::Tcp;
    let frozen = |change: &dyn Fn(&mut Split)| {
        let mut declaration = declared(&[("vm", 100)], |split| change(split));
        freeze(declaration.zones.get_mut(&zone("ams")).unwrap());
        declaration
    };
    for change in [&names as &dyn Fn(&mut Split), &tcp] {
        let mut world = World::new(plain(&[("vm", 100)]));
        world.commit(frozen(change));
        let (new, stands) = world.look();
        assert!(!new);
        assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Frozen));
        world.commit(declared(&[("vm", 100)], |split| change(split)));
        assert!(world.look().0, "after it, it comes");
    }
    // A split that is new, and one that goes, do so in every zone at once.
    let mut empty = frozen(&|_| {});
    empty.splits.clear();
    let other = split("search", &["a@fra", "b@par"], &[("a", 100)]);
    let mut both = frozen(&|_| {});
    both.splits.insert(other.name.clone(), Arc::new(other.clone()));
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(both);
    let (new, stands) = world.look_at(&other.name);
    assert!(!new);
    assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Frozen));
    world.commit(empty);
    let (new, stands) = world.look();
    assert!(!new);
    assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Frozen));
    world.reverts = true;
    assert!(world.look().0, "a revert passes");
}

/// Several freezes, one after the other: it opens when none of them holds any more.
#[test]
fn the_next_opening_is_when_no_freeze_holds() {
    use weir_model::{TimeOfDay, Window, WindowZone};
    let window = |from: u16, to: u16| {
        let hour = |hour: u16| TimeOfDay::from_minutes(60 * hour).unwrap();
        Freeze::Windows(vec![Window {
            days: weir_model::Day::ALL.into(),
            from: hour(from),
            to: hour(to),
            time_zone: WindowZone::UTC,
        }])
    };
    let mut declaration = declared(&[("lab", 100)], |split| split.freeze = window(6, 20));
    declaration.federation.as_mut().unwrap().freeze = window(0, 6);
    declaration.zones.get_mut(&zone("fra")).unwrap().freeze = window(3, 12);
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(declaration);
    let (new, stands) = world.look();
    let stands = stands.unwrap();
    assert!(!new);
    assert_eq!(stands.until, "2026-01-01T20:00:00Z".parse().ok());
    assert_eq!(
        stands.waits[0].why,
        "the federation is frozen until 2026-01-01T06:00:00Z, and others follow it until 2026-01-01T20:00:00Z"
    );
    world.pass(20 * 3_600);
    assert!(world.look().0);
}

/// What callers are told anew waits for the end of a freeze; that traffic got worse does not.
#[test]
fn a_freeze_keeps_no_verdict_from_what_came_before_it() {
    let whole = |change: &dyn Fn(&mut Split)| {
        declared(&[("vm", 50), ("lab", 50)], |split| {
            split.transition.max_step = None;
            change(split);
        })
    };
    for frozen in [true, false] {
        let mut world = World::new(plain(&[("vm", 100)]));
        world.count("fra/a", "vm", 10_000, 0);
        world.commit(whole(&|_| {}));
        for _ in 0..2 {
            world.look();
            world.all_follow();
        }
        let mut named = whole(&|split| {
            split.port_names = [weir_model::PortName::new("http").unwrap()].into();
        });
        if frozen {
            named.federation.as_mut().unwrap().freeze = Freeze::Always;
        }
        world.commit(named);
        assert_eq!(world.look().0, !frozen, "a name of a port");
        world.all_follow();
        world.count("fra/a", "lab", 500, 250);
        world.look();
        assert!(
            matches!(world.leg(), Some(Leg::Return { .. })),
            "{:?}",
            world.leg()
        );
    }
}
