//! Transitions as stories that a reviewer reads.

use super::*;

#[test]
fn from_vm_to_eks_in_two_bites_and_two_waves() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    let bake = |split: &mut Split| split.transition.bake = SignedDuration::from_secs(60);
    world.commit(declared(&[("eks", 100)], bake));
    world.dead.insert(backend("eks"));
    look(
        &mut world,
        &mut story,
        "100 % to eks is committed while eks is not up anywhere",
    );
    world.dead.clear();
    world.pass(5);
    look(&mut world, &mut story, "eks is up");
    world.follow(&zone("fra"));
    look(&mut world, &mut story, "fra proves it, par does not yet");
    world.follow(&zone("par"));
    look(&mut world, &mut story, "par as well");
    world.follow(&zone("ams"));
    look(&mut world, &mut story, "ams, the second wave, proves it");
    world.pass(31);
    look(&mut world, &mut story, "31 s without requests");
    world.pass(30);
    look(&mut world, &mut story, "the bake is over");
    world.cut.insert(zone("par"));
    world.follow(&zone("fra"));
    world.pass(1);
    look(&mut world, &mut story, "par is cut off, fra proves it");
    world.follow(&zone("ams"));
    world.pass(1);
    look(&mut world, &mut story, "ams proves it");
    world.cut.clear();
    world.follow(&zone("par"));
    world.count("fra/a", "eks", 5_000, 2);
    look(
        &mut world,
        &mut story,
        "par is back and proves it; 5000 requests, 2 failed",
    );
    insta::assert_snapshot!(story);
}

#[test]
fn a_revert_wins_in_mid_way() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.commit(plain(&[("eks", 100)]));
    look(&mut world, &mut story, "100 % to eks is committed");
    world.follow(&zone("fra"));
    world.cut.insert(zone("par"));
    world.dead.insert(backend("eks"));
    look(
        &mut world,
        &mut story,
        "eks dies, fra runs half, par was cut off before",
    );
    world.commit(plain(&[("vm", 100)]));
    look(&mut world, &mut story, "git revert");
    world.follow(&zone("fra"));
    world.follow(&zone("ams"));
    look(&mut world, &mut story, "fra and ams prove it");
    world.cut.clear();
    world.follow(&zone("par"));
    look(&mut world, &mut story, "par is back");
    insta::assert_snapshot!(story);
}

#[test]
fn a_bad_verdict_and_an_abort_go_back_and_stay_back() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.count("fra/a", "vm", 100_000, 100);
    world.commit(plain(&[("vm", 50), ("eks", 50)]));
    look(&mut world, &mut story, "50 % to eks is committed");
    world.all_follow();
    world.count("fra/a", "eks", 900, 180);
    world.count("fra/a", "vm", 900, 1);
    look(
        &mut world,
        &mut story,
        "wave 1 proves it, 180 of 900 requests to eks fail",
    );
    world.all_follow();
    look(&mut world, &mut story, "all zones prove that they are back");
    look(&mut world, &mut story, "nothing new is committed");
    world.commit(plain(&[("vm", 80), ("eks", 20)]));
    world.counts.clear();
    look(&mut world, &mut story, "20 % is committed");
    world.all_follow();
    world
        .orders
        .aborts
        .insert(checkout(), "it was aborted: \"too slow\", says ada".to_owned());
    look(&mut world, &mut story, "abort");
    world.orders.aborts.clear();
    world.all_follow();
    look(&mut world, &mut story, "all zones prove that they are back");
    world.orders.resumes.insert(checkout());
    look(&mut world, &mut story, "resume");
    insta::assert_snapshot!(story);
}

#[test]
fn what_is_frozen_waits_but_for_reverts() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.commit(declared(&[("eks", 100)], |split| split.freeze = Freeze::Always));
    look(
        &mut world,
        &mut story,
        "100 % to eks and `freeze: true` are committed",
    );
    world.commit(plain(&[("eks", 100)]));
    look(&mut world, &mut story, "without the freeze");
    world.all_follow();
    world.orders.all_frozen = Some("\"black friday\", says ada".to_owned());
    look(&mut world, &mut story, "an order freezes all splits");
    world.commit(plain(&[("vm", 100)]));
    look(&mut world, &mut story, "git revert");
    insta::assert_snapshot!(story);
}

#[test]
fn tcp_takes_the_smallest_weight_first() {
    let tcp = |split: &mut Split| {
        split.protocol = Protocol::Tcp;
        split.transition.max_step = None;
    };
    let mut world = World::new(declared(&[("vm", 100)], tcp));
    world.commit(declared(&[("eks", 100)], tcp));
    let mut seen = Vec::new();
    for _ in 0..20 {
        world.look();
        world.all_follow();
        world.pass(31);
        let now = world.weights(&zone("fra"));
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    let of = |weights: &[(&str, u32)]| -> BTreeMap<BackendName, u32> {
        weights.iter().map(|(name, w)| (backend(name), *w)).collect()
    };
    assert_eq!(seen, [of(&[("vm", 1), ("eks", 9_999)]), of(&[("eks", 10_000)])]);
}

#[test]
fn what_is_dead_is_left_at_once() {
    let step = |split: &mut Split| split.transition.max_step = BasisPoints::new(500).ok();
    let mut world = World::new(declared(&[("vm", 100)], step));
    world.dead.insert(backend("vm"));
    world.commit(declared(&[("eks", 100)], step));
    assert!(world.look().0);
    for name in ZONES {
        let planned = weights(&world.item(&zone(name)).unwrap());
        assert_eq!(planned, [(backend("eks"), 10_000)].into(), "zone {name}");
    }
}

#[test]
fn a_revert_that_cannot_resolve_is_held_at_the_nearest_safe_weights() {
    let mut world = World::new(plain(&[("lab", 80), ("vm", 20)]));
    let mut story = String::new();
    world.commit(plain(&[("eks", 70), ("vm", 30)]));
    settle(&mut world);
    look(
        &mut world,
        &mut story,
        "at rest on what is taken back now, where fra does not see lab any more",
    );
    world.blind.insert(zone("fra"), backend("lab"));
    world.cut.insert(zone("par"));
    world.reverts = true;
    world.commit(plain(&[("lab", 80), ("vm", 20)]));
    look(&mut world, &mut story, "git revert");
    world.all_follow();
    world.pass(2);
    look(
        &mut world,
        &mut story,
        "ams goes back; par is cut off: not only fra is waited for",
    );
    world.cut.clear();
    world.all_follow();
    world.pass(5);
    look(&mut world, &mut story, "par is back, and goes");
    world.pass(600);
    look(&mut world, &mut story, "ten minutes later");
    world.blind.clear();
    world.all_follow();
    look(&mut world, &mut story, "fra sees lab again");
    insta::assert_snapshot!(story);
}
