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
