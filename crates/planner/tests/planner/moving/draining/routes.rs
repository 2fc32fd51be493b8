//! Drains beside commits that take a route away.

use super::*;
use crate::moving::other_routes::with_route;

/// Who is drained has some way to go in the default route, and nothing of another one that a commit takes away: the requests of that
/// one come by the default route only when he has nothing there either. It is so however little he has; and where he had no less of
/// it, or nobody is drained, it goes with the first bite.
#[test]
fn a_route_that_goes_gives_no_more_to_who_is_drained() {
    let beta = |of_default: &[(&str, u32)], of_beta: &'static [(&'static str, u32)]| {
        declared(of_default, |split| with_route(split, "beta", "/beta", of_beta))
    };
    let of_beta = |item: &weir_planner::Item| {
        let mut routes = item.routes.iter();
        let route = routes.find(|route| route.name.as_str() == "beta");
        let by = route.or(item.routes.last()).unwrap();
        by.weights.get(&backend("vm")).map_or(0, |weight| weight.get())
    };
    let mut world = World::new(beta(&[("eks", 20), ("vm", 80)], &[("eks", 100)]));
    order(&mut world, &[("vm", None)]);
    world.commit(plain(&[("eks", 30), ("vm", 70)]));
    let mut seen = vec![];
    for _ in 0..40 {
        for name in ZONES {
            assert_eq!(
                of_beta(&world.item(&zone(name)).unwrap()),
                0,
                "{name}: {}",
                world.told(None)
            );
        }
        let item = world.item(&zone("fra")).unwrap();
        let of_default = weights(&item).get(&backend("vm")).copied().unwrap_or(0);
        let is = (item.routes.len(), of_default);
        if seen.last() != Some(&is) {
            seen.push(is);
        }
        world.look();
        world.all_follow();
        world.pass(61);
    }
    assert_eq!(world.leg(), None, "{}", world.told(None));
    assert_eq!(seen, [(2, 8_000), (2, 4_000), (1, 0)]);
    // The end of the drain in mid-way changes nothing of where it goes, and brings no step back.
    let mut world = World::new(beta(&[("eks", 20), ("vm", 80)], &[("eks", 100)]));
    order(&mut world, &[("vm", None)]);
    world.commit(plain(&[("eks", 100)]));
    world.look();
    assert_eq!(world.item(&zone("fra")).unwrap().routes.len(), 2);
    world.all_follow();
    world.orders.drains.clear();
    settle(&mut world);
    assert_eq!(world.item(&zone("fra")).unwrap().routes.len(), 1);
    // Nobody is drained, or who is had all of it.
    let nobody: &[(&str, Option<&str>)] = &[];
    for drains in [nobody, &[("vm", None)]] {
        let mut world = World::new(beta(&[("eks", 20), ("vm", 80)], &[("vm", 100)]));
        order(&mut world, drains);
        world.commit(plain(&[("eks", 100)]));
        world.look();
        assert_eq!(world.item(&zone("fra")).unwrap().routes.len(), 1, "{drains:?}");
    }
}

/// How many basis points of a route's requests a zone gives to a backend: of its own route, or of what takes them without it.
fn of_beta(item: &weir_planner::Item, of: &str) -> u32 {
    let mut routes = item.routes.iter();
    let route = routes.find(|route| route.name.as_str() == "beta");
    let by = route.or(item.routes.last()).unwrap();
    by.weights.get(&backend(of)).map_or(0, |weight| weight.get())
}

/// A drain that begins or ends between two waves of a bite parts no zones: what goes with the first bite in one goes with it in all,
/// and what stays until the last one stays everywhere (I5). Nor does who is drained by then get more of anything than he has.
#[test]
fn a_drain_between_two_waves_parts_no_zones() {
    let declared = |of_default: &[(&str, u32)]| {
        declared(of_default, |split| {
            with_route(split, "beta", "/beta", &[("eks", 100)]);
        })
    };
    for ends in [true, false] {
        let mut world = World::new(declared(&[("eks", 20), ("vm", 80)]));
        let drains: &[(&str, Option<&str>)] = &[("vm", None)];
        if ends {
            order(&mut world, drains);
        }
        world.commit(plain(&[("eks", 100)]));
        world.look();
        let first = ZONES.map(|name| world.item(&zone(name)).unwrap().routes.len());
        world.all_follow();
        match ends {
            true => world.orders.drains.clear(),
            false => order(&mut world, drains),
        }
        let mut proven = ZONES.map(|name| world.item(&zone(name)).unwrap());
        for _ in 0..40 {
            world.look();
            let now = ZONES.map(|name| world.item(&zone(name)).unwrap());
            // Whoever is a step further than others of what they proved last is no more than that.
            let told: BTreeSet<u32> = now.iter().map(|item| of_beta(item, "vm")).collect();
            assert!(told.len() <= 2, "{told:?} {}", world.told(None));
            let bite = |item: &weir_planner::Item| (weights(item), item.routes.len());
            let bites: BTreeSet<_> = now.iter().map(|item| bite(item)).collect();
            assert!(bites.len() <= 2, "{first:?} {bites:?} {}", world.told(None));
            if let [one, other] = &bites.iter().collect::<Vec<_>>()[..] {
                assert!(one.1 == other.1 || one.0 != other.0, "{first:?} {bites:?}");
            }
            if !ends {
                for (was, is) in proven.iter().zip(&now) {
                    let (was, is) = (of_beta(was, "vm"), of_beta(is, "vm"));
                    assert!(is <= was, "{was} {is} {}", world.told(None));
                }
            }
            world.all_follow();
            world.pass(61);
            proven = now;
        }
        assert_eq!(world.leg(), None, "{}", world.told(None));
        for name in ZONES {
            let item = world.item(&zone(name)).unwrap();
            assert_eq!((item.routes.len(), of_beta(&item, "eks")), (1, 10_000), "{name}");
        }
    }
}
