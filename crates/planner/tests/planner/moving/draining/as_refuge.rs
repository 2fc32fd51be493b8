//! Drained refuges: taken away from nobody whose share may be with them, and in the way of nothing else.

use super::*;

/// A share that is with its refuge does not fall back to the dead when the refuge is drained.
#[test]
fn a_refuge_in_use_is_not_taken_away() {
    let mut world = World::new(declared(&[("lab", 0), ("vm", 100)], refuges(&["eks"], 60)));
    world.fallen.insert(zone("par"), BTreeSet::from([backend("vm")]));
    order(&mut world, &[("eks", None)]);
    let (new, stands) = world.look();
    let stands = stands.unwrap();
    assert!(new && stands.phase == Phase::Held, "{stands:?}");
    assert!(
        stands.waits[0].why.starts_with("backend vm is down in zone par"),
        "{stands:?}"
    );
    assert_eq!(told_refuges(&world, "par"), [backend("eks")]);
    assert!(told_refuges(&world, "fra").is_empty(), "there it is free");
    let mut undrained = world.clone();
    world.all_follow();
    let (new, stands) = world.look();
    assert!(!new && stands.unwrap().phase == Phase::Held);
    world.fallen.clear();
    world.look();
    world.all_follow();
    assert!(told_refuges(&world, "par").is_empty(), "now it is drained");
    // Ended before that, it is a refuge everywhere again.
    undrained.orders.drains.clear();
    undrained.look();
    assert_eq!(told_refuges(&undrained, "fra"), [backend("eks")]);
}

/// Nor where nobody sees whether it is: a zone that is cut off, that cannot be read, or that has not proven what it was told.
#[test]
fn a_refuge_stays_where_its_use_is_not_seen() {
    for unseen in ["cut", "dark", "unproven"] {
        let mut world = World::new(declared(&[("lab", 0), ("vm", 100)], refuges(&["eks"], 60)));
        let par = zone("par");
        match unseen {
            "cut" => _ = world.cut.insert(par.clone()),
            "dark" => _ = world.dark.insert(par.clone()),
            _ => {
                world.commit(declared(&[("lab", 0), ("vm", 100)], refuges(&["eks"], 30)));
                assert!(world.look().0);
                for name in ["ams", "fra"] {
                    world.follow(&zone(name));
                }
            }
        }
        order(&mut world, &[("eks", None)]);
        for n in 0..3 {
            let (new, stands) = world.look();
            let stands = stands.unwrap();
            assert!(
                new == (n == 0) && stands.phase == Phase::Held,
                "{unseen}: {stands:?}"
            );
            let why = &stands.waits[0].why;
            assert!(
                why.starts_with("in zone par the share of backend vm may be with eks"),
                "{unseen}: {stands:?}"
            );
            world.pass(61);
        }
        assert_eq!(told_refuges(&world, "par"), [backend("eks")]);
        world.cut.clear();
        world.dark.clear();
        world.all_follow();
        let (new, stands) = world.look();
        assert!(new && stands.unwrap().phase == Phase::Drained, "{unseen}");
        assert!(
            told_refuges(&world, "par").is_empty(),
            "{unseen}: now it is drained"
        );
    }
}

/// The weights of who is drained go all the same, as far as zones can be apart: with the refuge where its use is not seen.
#[test]
fn a_refuge_in_use_holds_up_no_weights() {
    let mut world = World::new(declared(&[("eks", 20), ("vm", 80)], refuges(&["eks", "lab"], 60)));
    world.cut.insert(zone("par"));
    order(&mut world, &[("eks", None)]);
    let (new, stands) = world.look();
    assert!(new && stands.unwrap().phase == Phase::Shift);
    let lab = [backend("lab")];
    let both = [backend("eks"), backend("lab")];
    assert_eq!(
        weights(&world.item(&zone("par")).unwrap()),
        [(backend("vm"), 10_000)].into()
    );
    assert_eq!(told_refuges(&world, "par")[..], both);
    assert_eq!(told_refuges(&world, "fra")[..], lab);
    world.cut.clear();
    settle(&mut world);
    for name in ZONES {
        assert_eq!(told_refuges(&world, name)[..], lab, "{name}");
    }
    let (_, stands) = world.look();
    assert_eq!(stands.unwrap().phase, Phase::Drained);
}

/// What is down beside a drain, and has nothing of who is drained, is no reason to stop anything.
#[test]
fn a_drain_of_nobodys_refuge_is_in_nobodys_way() {
    let weighted = [("lab", 20), ("vm", 80)];
    let mut world = World::new(declared(&weighted, refuges(&["eks"], 60)));
    order(&mut world, &[("lab", Some("vm"))]);
    settle(&mut world);
    world.fallen.insert(zone("par"), BTreeSet::from([backend("vm")]));
    world.commit(declared(&weighted, refuges(&["eks"], 30)));
    assert!(world.look().0);
    let item = world.item(&zone("par")).unwrap();
    assert_eq!(
        item.fallback[&backend("vm")].recover,
        SignedDuration::from_secs(30)
    );
}

/// A refuge in use stops no abort and no verdict of what is under way.
#[test]
fn a_refuge_in_use_is_in_the_way_of_no_abort() {
    let start = declared(&[("lab", 0), ("vm", 100)], refuges(&["eks"], 60));
    let mut world = World::new(start);
    world.commit(declared(&[("lab", 100), ("vm", 0)], refuges(&["eks"], 60)));
    world.look();
    world.all_follow();
    world.fallen.insert(zone("par"), BTreeSet::from([backend("vm")]));
    order(&mut world, &[("eks", None)]);
    let abort = "it was aborted".to_owned();
    world.orders.aborts.insert(checkout(), abort);
    assert!(world.look().0);
    world.orders.aborts.clear();
    assert!(world.quarantined());
    let item = world.item(&zone("par")).unwrap();
    assert_eq!(weights(&item), [(backend("vm"), 10_000)].into());
    assert_eq!(told_refuges(&world, "par"), [backend("eks")]);
}
