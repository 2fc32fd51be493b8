//! What may come between: lost histories, other names, zones that come, go dark or blink, one change back after another.

use super::*;

/// What retires in the items of before is none of the way back's business.
#[test]
fn a_way_back_leads_past_what_retires() {
    let mut world = World::new(retiring(&[("vm", 100)]));
    world.commit(plain(&[("vm", 100)]));
    settle(&mut world);
    world.commit(plain(&[("eks", 100)]));
    assert!(world.look().0);
    world.all_follow();
    world.orders.aborts.insert(checkout(), "aborted".to_owned());
    assert!(world.look().0);
    world.orders.aborts.clear();
    settle(&mut world);
    assert!(world.quarantined());
    assert_eq!(world.weights(&zone("fra")), [(backend("vm"), 10_000)].into());
}

/// To try again what was taken back is a shift like any other, though the commit takes one back.
#[test]
fn the_revert_of_a_revert_goes_step_by_step() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    settle(&mut world);
    world.reverts = true;
    world.commit(plain(&[("vm", 100)]));
    world.look();
    assert!(matches!(world.leg(), Some(Leg::Return { .. })));
    settle(&mut world);
    world.commit(plain(&[("eks", 100)]));
    world.look();
    assert_eq!(
        world.leg(),
        Some(Leg::Shift {
            bites: 2,
            bite: 1,
            wave: 1
        })
    );

    // The same after a verdict or an abort.
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.look();
    world.orders.aborts.insert(checkout(), "aborted".to_owned());
    world.look();
    world.orders.aborts.clear();
    settle(&mut world);
    world.reverts = true;
    world.commit(plain(&[("vm", 100)]));
    settle(&mut world);
    world.commit(plain(&[("eks", 100)]));
    world.look();
    assert!(
        matches!(world.leg(), Some(Leg::Shift { bite: 1, .. })),
        "{:?}",
        world.leg()
    );
}

/// What waits is not carried past a freeze by the revert of another commit.
#[test]
fn a_revert_takes_nothing_along_that_it_does_not_change() {
    let with_search = |checkout: &[(&str, u32)], search: &[(&str, u32)]| {
        let mut declaration = plain(checkout);
        let other = split("search", &["a@fra", "b@par"], search);
        declaration.splits.insert(other.name.clone(), Arc::new(other));
        declaration
    };
    let mut world = World::new(with_search(&[("vm", 100)], &[("a", 100)]));
    world.orders.frozen.insert(checkout(), "night".to_owned());
    world.commit(with_search(&[("eks", 100)], &[("a", 100)]));
    world.commit(with_search(&[("eks", 100)], &[("b", 100)]));
    assert!(world.look().0);
    world.reverts = true;
    world.commit(with_search(&[("eks", 100)], &[("a", 100)]));
    let (new, stands) = world.look();
    assert!(new, "the other split goes back");
    assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Frozen));
    assert_eq!(world.leg(), None);
}

/// Agents know plans that the ledger has lost, while a commit waits.
#[test]
fn what_waits_outlives_a_lost_history() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.highest = 9;
    let (made, stands) = world.look();
    assert!(made);
    let declared = stands.expect("it is not at rest").declared;
    assert_eq!(
        declared.values().next().unwrap().get(&backend("eks")),
        Some(&BasisPoints::WHOLE)
    );
    settle(&mut world);
    assert_eq!(world.weights(&zone("fra")), [(backend("eks"), 10_000)].into());
}

#[test]
fn what_was_resumed_stays_resumed_while_it_waits() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.orders.aborts.insert(checkout(), "aborted".to_owned());
    world.look();
    world.orders.aborts.clear();
    assert!(world.quarantined());
    world.dead.insert(backend("eks"));
    world.orders.resumes.insert(checkout());
    let (_, stands) = world.look();
    world.orders.resumes.clear();
    assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Held));
    let (_, stands) = world.look();
    assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Held));
    world.dead.clear();
    settle(&mut world);
    assert_eq!(world.weights(&zone("fra")), [(backend("eks"), 10_000)].into());
}

#[test]
fn a_new_zone_ends_no_quarantine_and_hides_no_way_back() {
    let with_ber = |weights: &[(&str, u32)]| {
        let mut more = plain(weights);
        let mut ber = more.zones[&zone("fra")].clone();
        ber.name = zone("ber");
        ber.kuma_zone = weir_model::DnsLabel::new("ber").unwrap();
        more.zones.insert(zone("ber"), ber);
        more
    };
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.orders.aborts.insert(checkout(), "aborted".to_owned());
    world.look();
    world.orders.aborts.clear();
    world.commit(with_ber(&[("eks", 100)]));
    settle(&mut world);
    assert!(world.quarantined());
    for name in ["ber", "fra"] {
        assert_eq!(
            world.weights(&zone(name)),
            [(backend("vm"), 10_000)].into(),
            "{name}"
        );
    }

    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    settle(&mut world);
    world.commit(with_ber(&[("eks", 100)]));
    settle(&mut world);
    world.commit(with_ber(&[("vm", 100)]));
    world.look();
    assert!(
        matches!(world.leg(), Some(Leg::Return { .. })),
        "{:?}",
        world.leg()
    );
}

/// Who cannot be asked is no reason to call it done.
#[test]
fn nothing_rests_without_a_zone_that_cannot_be_read() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("vm", 50), ("eks", 50)]));
    world.look();
    world.all_follow();
    world.look();
    world.dark.insert(zone("ams"));
    for _ in 0..10 {
        world.all_follow();
        world.pass(61);
        let (_, stands) = world.look();
        assert_eq!(stands.map(|stands| stands.phase), Some(Phase::Shift));
    }
    world.dark.clear();
    settle(&mut world);
}

/// One zone that does not see a backend for a moment moves nobody; where no zone sees it, it is left.
#[test]
fn a_blink_of_one_zone_moves_nobody() {
    let step = |split: &mut Split| split.transition.max_step = BasisPoints::new(500).ok();
    let mut world = World::new(declared(&[("vm", 100)], step));
    world.blind.insert(zone("par"), backend("vm"));
    world.commit(declared(&[("eks", 100)], step));
    let (made, stands) = world.look();
    assert_eq!(
        (made, stands.map(|stands| stands.phase)),
        (false, Some(Phase::Held))
    );
}

/// A MeshService that vanishes from one zone in mid-way is an event of all: no zone gives its backend more, whoever sees it.
#[test]
fn what_vanishes_from_one_zone_gets_no_more_weight_anywhere() {
    let step = |split: &mut Split| split.transition.max_step = BasisPoints::new(2_500).ok();
    let given = |world: &World| {
        let of = |name: &&str| {
            let item = world.item(&zone(name)).unwrap();
            weights(&item).get(&backend("eks")).copied().unwrap_or_default()
        };
        ZONES.iter().map(of).collect::<Vec<_>>()
    };
    let mut world = World::new(declared(&[("vm", 100)], step));
    world.commit(declared(&[("eks", 100)], step));
    while given(&world).iter().any(|share| *share < 2_500) {
        world.look();
        world.all_follow();
        world.pass(61);
    }
    let before = given(&world);
    assert!(before.iter().any(|share| *share < 10_000), "{before:?}");
    world.blind.insert(zone("ams"), backend("eks"));
    let mut stands = None;
    for _ in 0..10 {
        stands = world.look().1;
        assert_eq!(given(&world), before);
        world.all_follow();
        world.pass(61);
    }
    let stands = stands.expect("it is on its way");
    assert!(
        stands
            .waits
            .iter()
            .any(|wait| wait.why.contains("eks is not ready for zone ams")),
        "{stands:?}"
    );
    world.blind.clear();
    settle(&mut world);
    assert_eq!(given(&world), [10_000; 3]);
}

/// A name and its weight at once: there is nothing in between, and nothing stops for it.
#[test]
fn a_backend_with_a_new_name_and_another_weight_goes_in_one_bite() {
    for protocol in [Protocol::Http, Protocol::Tcp] {
        let kind = |split: &mut Split| split.protocol = protocol;
        let mut world = World::new(declared(&[("vm", 100)], kind));
        let renamed = declared(&[("eks", 100)], |split| {
            kind(split);
            let vm = split.backends.remove(&backend("vm")).unwrap();
            split.backends.insert(backend("hosts"), vm);
        });
        world.commit(renamed);
        settle(&mut world);
        assert_eq!(world.weights(&zone("fra")), [(backend("eks"), 10_000)].into());
    }
}

/// A zone goes together with the backend that still has weight, in bites: there is no step that keeps it. That split waits and
/// says so, and the others go on.
#[test]
fn what_has_no_order_stays_and_holds_up_nobody() {
    let other = |weights: &[(&str, u32)]| split("search", &["a@fra", "b@par"], weights);
    let with_other = |mut declaration: Declaration, weights: &[(&str, u32)]| {
        let other = other(weights);
        declaration.splits.insert(other.name.clone(), Arc::new(other));
        declaration
    };
    let start = with_other(plain(&[("eks", 100)]), &[("a", 100)]);
    let mut world = World::new(start);
    let mut less = with_other(plain(&[("vm", 100)]), &[("b", 100)]);
    less.zones.remove(&zone("ams"));
    let mut checkout_split = Split::clone(&less.splits[&checkout()]);
    checkout_split.backends.remove(&backend("eks"));
    less.splits.insert(checkout(), Arc::new(checkout_split));
    world.commit(less);
    let (made, stands) = world.look();
    assert!(made);
    let stands = stands.expect("checkout waits");
    assert_eq!(stands.phase, Phase::Held);
    assert!(stands.waits[0].why.contains("would break a rule"), "{stands:?}");
    let plan = Arc::clone(world.plan.as_ref().unwrap());
    let search = weir_model::SplitName::new("search").unwrap();
    let moved = weights(&plan.splits[&search].items[&zone("fra")]);
    assert_eq!(moved, [(backend("b"), 10_000)].into());
}

/// A name is nothing that callers see, weights are: with another name they may not go everywhere at once either.
#[test]
fn a_split_with_another_name_and_other_weights_waits() {
    let till = weir_model::SplitName::new("till").unwrap();
    let named = |weights: &[(&str, u32)]| {
        let mut declaration = plain(weights);
        let mut split = Split::clone(&declaration.splits.remove(&checkout()).unwrap());
        split.name = till.clone();
        declaration.splits.insert(till.clone(), Arc::new(split));
        declaration
    };
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(named(&[("eks", 100)]));
    let (made, stands) = world.look_at(&till);
    assert!(!made);
    let stands = stands.expect("it waits");
    assert_eq!(stands.phase, Phase::Held);
    assert!(
        stands.waits[0].why.contains("split checkout stays as it is"),
        "{stands:?}"
    );
    // A freeze of the new name takes nothing from under callers either.
    world.orders.frozen.insert(till.clone(), "night".to_owned());
    world.commit(named(&[("vm", 100)]));
    assert!(!world.look().0);
    assert!(world.plan.as_ref().unwrap().splits.contains_key(&checkout()));
    // The name alone goes at once.
    world.orders.frozen.clear();
    world.commit(named(&[("vm", 100)]));
    assert!(world.look().0);
    let names: Vec<_> = world.plan.as_ref().unwrap().splits.keys().collect();
    assert_eq!(names, [&till]);
}

/// What waves are called may change while they are under way.
#[test]
fn a_zone_whose_wave_changes_in_mid_way_is_not_left_behind() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.look();
    world.all_follow();
    let mut first = plain(&[("eks", 100)]);
    first.zones.get_mut(&zone("ams")).unwrap().wave = 1;
    world.commit(first);
    settle(&mut world);
    for name in ZONES {
        assert_eq!(
            world.weights(&zone(name)),
            [(backend("eks"), 10_000)].into(),
            "{name}"
        );
    }
}

/// A zone that joins while a split is under way gets its item when that has ended.
#[test]
fn a_zone_that_comes_in_mid_way_waits() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    world.look();
    world.all_follow();
    let mut more = plain(&[("eks", 100)]);
    let mut ber = more.zones[&zone("fra")].clone();
    ber.name = zone("ber");
    ber.kuma_zone = weir_model::DnsLabel::new("ber").unwrap();
    more.zones.insert(zone("ber"), ber);
    world.commit(more);
    for _ in 0..20 {
        world.look();
        world.all_follow();
        world.pass(31);
    }
    assert_eq!(world.leg(), None);
    let plan = Arc::clone(world.plan.as_ref().unwrap());
    assert_eq!(plan.splits[&checkout()].items.len(), 4);
    assert_eq!(world.weights(&zone("ber")), [(backend("eks"), 10_000)].into());
}

/// A commit that leaves the weights where they go, as a new zone or a fallback does, takes no bake and no verdict away.
#[test]
fn what_does_not_touch_the_weights_begins_no_step_anew() {
    let slow = |split: &mut Split| {
        split.transition.bake = SignedDuration::from_secs(3_600);
    };
    let mut world = World::new(declared(&[("vm", 100)], slow));
    world.commit(declared(&[("eks", 100)], slow));
    // Both waves of the first bite; then it bakes.
    for _ in 0..4 {
        world.look();
        world.all_follow();
        world.pass(31);
    }
    let half = world.weights(&zone("fra"));
    assert_eq!(half, [(backend("eks"), 5_000), (backend("vm"), 5_000)].into());
    let (_, stands) = world.look();
    assert_eq!(stands.unwrap().phase, Phase::Bake);
    let with_fallback = |split: &mut Split| {
        slow(split);
        let fallback = weir_model::Fallback {
            to: vec![backend("vm")],
            after: weir_model::Fallback::AFTER,
            recover: weir_model::Fallback::RECOVER,
        };
        split.fallback = [(backend("eks"), fallback)].into();
    };
    world.commit(declared(&[("eks", 100)], with_fallback));
    for _ in 0..4 {
        world.look();
        world.all_follow();
        world.pass(1);
        assert_eq!(world.weights(&zone("fra")), half, "it still bakes");
    }
    world.pass(3_600);
    settle(&mut world);
    assert_eq!(world.weights(&zone("fra")), [(backend("eks"), 10_000)].into());
    let item = world.item(&zone("fra")).unwrap();
    assert!(
        item.fallback.contains_key(&backend("eks")),
        "it came with the rest"
    );
}

/// Who commits that a dead backend gets nothing any more is not made to wait until it lives.
#[test]
fn what_is_down_may_be_left() {
    let mut world = World::new(plain(&[("eks", 80), ("vm", 20)]));
    let down = BTreeSet::from([backend("eks")]);
    world.fallen = ZONES.map(|name| (zone(name), down.clone())).into();
    world.commit(plain(&[("eks", 90), ("vm", 10)]));
    let (made, stands) = world.look();
    assert!(!made, "it gets no more while it is down");
    assert!(stands.unwrap().waits[0].why.contains("elsewhere"));
    world.commit(plain(&[("eks", 0), ("vm", 100)]));
    settle(&mut world);
    assert_eq!(world.weights(&zone("par")), [(backend("vm"), 10_000)].into());
}

/// Whoever takes the share away and leaves the backend declared says the same as a revert: by what callers get.
#[test]
fn what_gives_callers_what_they_had_is_a_way_back_whatever_else_is_declared() {
    let without = |weights: &[(&str, u32)]| {
        declared(weights, |split| {
            split.backends.remove(&backend("eks"));
            split.transition.max_step = None;
        })
    };
    let mut world = World::new(without(&[("vm", 100)]));
    world.commit(declared(&[("vm", 50), ("eks", 50)], |_| {}));
    world.look();
    world.all_follow();
    assert!(matches!(world.leg(), Some(Leg::Shift { .. })));
    let mut zero = declared(&[("vm", 100), ("eks", 0)], |split| split.freeze = Freeze::Always);
    zero.federation.as_mut().unwrap().freeze = Freeze::Always;
    world.commit(zero);
    assert!(world.look().0);
    assert!(
        matches!(world.leg(), Some(Leg::Return { .. })),
        "{:?}",
        world.leg()
    );
    world.all_follow();
    for name in ZONES {
        let weights = world.weights(&zone(name));
        assert_eq!(weights.get(&backend("vm")), Some(&10_000), "{name}");
    }
}

/// A split that comes and would break a rule beside what is in force waits alone, whatever the two are called: nothing that others
/// need is made with it.
#[test]
fn a_new_split_that_has_no_order_waits_alone() {
    for name in ["third", "billing"] {
        let search = split("search", &["a@fra", "b@par"], &[("a", 100)]);
        let third = split(name, &["a@fra", "b@par"], &[("a", 100)]);
        let mut both = plain(&[("vm", 100)]);
        both.splits.insert(search.name.clone(), Arc::new(search.clone()));
        let mut world = World::new(both.clone());
        // As a version with other rules may have left it: search writes for the service of the one that comes.
        let mut plan = weir_planner::Plan::clone(world.plan.as_deref().unwrap());
        let of_search = Arc::make_mut(plan.splits.get_mut(&search.name).unwrap());
        for item in of_search.items.values_mut() {
            let item = Arc::make_mut(item);
            item.service = third.service.clone();
            item.digest = weir_planner::item_digest(item);
        }
        of_search.root = weir_planner::canonical::split_root(of_search);
        plan.id = weir_planner::plan_id(&plan);
        world.plan = Some(Arc::new(plan));
        both.splits.insert(third.name.clone(), Arc::new(third.clone()));
        world.commit(both);
        let (new, stands) = world.look_at(&third.name);
        let stands = stands.unwrap();
        assert!(!new, "{name}: {stands:?}");
        assert_eq!(stands.phase, Phase::Held);
        assert!(
            stands.waits[0].why.contains("it would break a rule of plans"),
            "{stands:?}"
        );
    }
}
