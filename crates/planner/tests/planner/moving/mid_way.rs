//! Another commit while zones are apart: a freeze holds it, and nobody goes back to the dead.

use super::*;

/// Zones are apart, another commit comes, and somebody has frozen all splits: nobody goes back then, which is no revert.
#[test]
fn a_freeze_holds_another_commit_in_mid_way() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.look();
    world.all_follow();
    let told = |world: &World| ZONES.map(|name| weights(&world.item(&zone(name)).unwrap()));
    let apart = told(&world);
    assert_ne!(apart[0], apart[1], "wave 2 has not moved");
    world.orders.all_frozen = Some("\"black friday\", says ada".to_owned());
    world.commit(plain(&[("lab", 30), ("vm", 70)]));
    let (made, stands) = world.look();
    let stands = stands.unwrap();
    assert!(!made && stands.phase == Phase::Frozen, "{stands:?}");
    assert!(stands.waits[0].why.contains("black friday"), "{stands:?}");
    assert_eq!(told(&world), apart);
    world.orders.all_frozen = None;
    settle(&mut world);
    assert_eq!(
        world.weights(&zone("par")),
        [(backend("lab"), 3_000), (backend("vm"), 7_000)].into()
    );
}

/// The first wave has left who is dead by now when another commit comes: it does not go back there, the later wave follows it.
#[test]
fn nobody_goes_back_to_who_died_in_mid_way() {
    let at_once = |split: &mut Split| split.transition.max_step = None;
    let mut world = World::new(declared(&[("eks", 100)], at_once));
    world.commit(declared(&[("vm", 100)], at_once));
    world.look();
    world.all_follow();
    world.pass(61);
    let eks = |world: &World| -> Vec<u32> {
        let weights = ZONES.map(|name| weights(&world.item(&zone(name)).unwrap()));
        weights
            .iter()
            .map(|of| of.get(&backend("eks")).copied().unwrap_or_default())
            .collect()
    };
    assert_eq!(eks(&world), [10_000, 0, 0], "ams is wave 2");
    world.dead.insert(backend("eks"));
    world.commit(declared(&[("vm", 60), ("lab", 40)], at_once));
    for _ in 0..8 {
        world.look();
        assert_eq!(eks(&world)[1..], [0, 0], "{}", world.told(None));
        world.all_follow();
        world.pass(61);
    }
    assert_eq!(world.leg(), None, "{}", world.told(None));
    assert_eq!(
        world.weights(&zone("ams")),
        [(backend("lab"), 4_000), (backend("vm"), 6_000)].into()
    );
}
