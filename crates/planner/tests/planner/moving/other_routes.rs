//! Commits that change which requests a route takes, beside weights or alone.

use super::*;
use weir_model::{PathMatch, RouteName};

/// One more route before the default one.
pub(super) fn with_route(split: &mut Split, name: &str, path: &str, weights: &[(&str, u32)]) {
    let mut route = split.routes[0].clone();
    route.name = RouteName::new(name).unwrap();
    route.matches.path = Some(PathMatch::Prefix(path.to_owned()));
    let weights = weights.iter();
    let whole = |weight: u32| BasisPoints::new(weight * 100).unwrap();
    route.weights = weights
        .map(|(name, weight)| (backend(name), whole(*weight)))
        .collect();
    split.routes.insert(0, route);
}

fn most_ten(split: &mut Split) {
    split.transition.max_step = BasisPoints::new(1_000).ok();
}

/// What `eks` gets of the default route in `fra`, each time that it changes.
fn bites(world: &mut World) -> Vec<u32> {
    let mut seen = vec![];
    for _ in 0..40 {
        world.look();
        world.all_follow();
        world.pass(61);
        let share = world.weights(&zone("fra")).get(&backend("eks")).copied();
        if seen.last() != Some(&share.unwrap_or(0)) {
            seen.push(share.unwrap_or(0));
        }
    }
    seen
}

/// A route that comes, goes or is called otherwise is no leave to move the rest at once.
#[test]
fn the_rest_goes_in_its_bites_whatever_else_changes() {
    let plain = |weights: &[(&str, u32)]| declared(weights, most_ten);
    let beta = |weights: &[(&str, u32)], name: &str| {
        declared(weights, |split| {
            most_ten(split);
            with_route(split, name, "/beta", &[("eks", 100)]);
        })
    };
    let (vm, eks) = ([("vm", 100)], [("vm", 70), ("eks", 30)]);
    for (from, to) in [
        (plain(&vm), beta(&eks, "beta")),
        (beta(&vm, "beta"), plain(&eks)),
        (beta(&vm, "beta"), beta(&eks, "testers")),
    ] {
        let mut world = World::new(from);
        world.commit(to);
        assert_eq!(bites(&mut world), [1_000, 2_000, 3_000]);
        assert_eq!(world.leg(), None, "{}", world.told(None));
    }
}

/// Weights stay, and other requests get to them: that is a step, and it is judged.
#[test]
fn requests_that_come_by_another_match_are_judged() {
    let routed = |path: &str| {
        declared(&[("vm", 100)], |split| {
            with_route(split, "beta", path, &[("eks", 100)]);
        })
    };
    for (path, gone) in [("/b", false), ("/beta/2", false), ("", true)] {
        let mut world = World::new(routed("/beta"));
        world.count("fra/a", "vm", 10_000, 0);
        world.count("fra/a", "eks", 1_000, 0);
        world.commit(if gone { plain(&[("vm", 100)]) } else { routed(path) });
        for _ in 0..2 {
            world.look();
            world.all_follow();
        }
        let (_, stands) = world.look();
        assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Verify), "{path}");
        let gains = if gone { "vm" } else { "eks" };
        world.count("fra/a", gains, 300, 100);
        world.look();
        assert!(matches!(world.leg(), Some(Leg::Return { .. })), "{path}");
    }
}
