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
