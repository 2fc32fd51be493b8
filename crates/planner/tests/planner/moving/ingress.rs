//! Zones that can be reached from elsewhere, or not: by what a zone's own control plane knows of their ingresses.

use super::*;

fn shares(world: &World) -> Vec<String> {
    let zones = ZONES.iter();
    zones
        .map(|name| {
            format!(
                "{name} {:?}",
                world.weights(&zone(name)).values().collect::<Vec<_>>()
            )
        })
        .collect()
}

#[test]
fn a_zone_without_an_ingress_holds_what_would_be_sent_there() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.cut_off.insert(zone("ams"));
    world.commit(plain(&[("vm", 50), ("eks", 50)]));
    look(&mut world, &mut story, "half to eks of ams, which has no ingress");
    world.all_follow();
    world.pass(600);
    look(&mut world, &mut story, "ten minutes later");
    world.cut_off.clear();
    look(
        &mut world,
        &mut story,
        "the ingress is known everywhere: it goes on by itself",
    );
    world.all_follow();
    world.pass(61);
    look(&mut world, &mut story, "and wave 2");
    world.all_follow();
    world.pass(61);
    look(&mut world, &mut story, "at rest");
    insta::assert_snapshot!(story);
}

/// The cure is to send less there, and it passes: in bites, by a revert, by an abort, by the agent as well.
#[test]
fn what_cannot_be_reached_is_left_whatever_is_known() {
    for back in [
        &[("vm", 100)][..],
        &[("vm", 80), ("eks", 20)],
        &[("vm", 20), ("lab", 80)],
    ] {
        for reverts in [false, true] {
            let mut world = World::new(plain(back));
            world.commit(plain(&[("eks", 90), ("vm", 10)]));
            settle(&mut world);
            let before = shares(&world);
            world.cut_off.insert(zone("ams"));
            world.reverts = reverts;
            world.commit(plain(back));
            if reverts {
                world.look();
                world.all_follow();
                assert_eq!(
                    world.weights(&zone("fra")),
                    weights(&world.item(&zone("fra")).unwrap()),
                    "at once"
                );
            }
            settle(&mut world);
            assert_ne!(shares(&world), before);
            let wanted: BTreeMap<BackendName, u32> = back
                .iter()
                .map(|(name, percent)| (backend(name), percent * 100))
                .collect();
            for name in ZONES {
                assert_eq!(world.weights(&zone(name)), wanted, "{name}: {}", world.told(None));
            }
        }
    }
}

/// A revert towards what cannot be reached is held where it cannot, and goes where it can; it goes on by itself.
#[test]
fn a_revert_gives_nothing_more_to_what_cannot_be_reached() {
    let mut world = World::new(plain(&[("eks", 100)]));
    world.commit(plain(&[("vm", 100)]));
    settle(&mut world);
    world.cut_off.insert(zone("ams"));
    world.reverts = true;
    world.commit(plain(&[("eks", 100)]));
    world.look();
    world.all_follow();
    let (vm, eks) = (
        [(backend("vm"), 10_000)].into(),
        [(backend("eks"), 10_000)].into(),
    );
    let runs = |world: &World| ZONES.map(|name| world.weights(&zone(name)));
    // In ams itself eks is at home: no ingress is between.
    assert_eq!(runs(&world), [BTreeMap::clone(&eks), BTreeMap::clone(&vm), vm]);
    world.cut_off.clear();
    world.all_follow();
    assert_eq!(runs(&world), [eks.clone(), eks.clone(), eks]);
}
