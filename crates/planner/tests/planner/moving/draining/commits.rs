//! Drains beside commits: reverts, other names, freezes, and what comes in mid-way.

use super::*;

/// Where a drain leads the split may have rested once: it goes there in waves and bites all the same, and no freeze is passed.
#[test]
fn a_drain_is_no_revert() {
    let mut world = World::new(plain(&[("vm", 100)]));
    world.commit(plain(&[("eks", 100)]));
    settle(&mut world);
    world.commit(plain(&[("eks", 80), ("vm", 20)]));
    settle(&mut world);
    order(&mut world, &[("eks", None)]);
    world.orders.all_frozen = Some("peak hour".to_owned());
    let (new, stands) = world.look();
    assert!(!new && stands.unwrap().phase == Phase::Frozen);
    world.orders.all_frozen = None;
    world.look();
    assert!(
        matches!(
            world.leg(),
            Some(Leg::Shift {
                bites: 2,
                bite: 1,
                ..
            })
        ),
        "{:?}",
        world.leg()
    );
}

/// Nor is it one to go later where a drain once led, whether the split was in force before or came while it stood.
#[test]
fn to_go_where_a_drain_led_is_no_revert() {
    for fresh in [false, true] {
        let none = || {
            let mut none = plain(&[("vm", 100)]);
            none.splits.clear();
            none
        };
        let first = plain(&[("eks", 20), ("vm", 80)]);
        let mut world = World::new(if fresh { none() } else { first.clone() });
        order(&mut world, &[("vm", None)]);
        world.commit(first);
        settle(&mut world);
        let led = BTreeMap::from([(backend("eks"), 10_000)]);
        assert_eq!(world.weights(&zone("fra")), led);
        world.commit(plain(&[("eks", 10), ("vm", 90)]));
        settle(&mut world);
        world.orders.drains.clear();
        settle(&mut world);
        assert_eq!(world.weights(&zone("fra"))[&backend("vm")], 9_000);
        world.commit(plain(&[("eks", 100), ("vm", 0)]));
        world.look();
        assert!(
            matches!(world.leg(), Some(Leg::Shift { bite: 1, .. })),
            "{fresh} {:?}",
            world.leg()
        );
        settle(&mut world);
        // That one was Git's own.
        world.commit(plain(&[("eks", 10), ("vm", 90)]));
        world.look();
        assert!(
            matches!(world.leg(), Some(Leg::Return { .. })),
            "{fresh} {:?}",
            world.leg()
        );
    }
}

/// A revert takes no drain along that has some way to go. Where the split never left what it leads to, nothing else would bring
/// another look: the drain goes on after it all the same, and until then the split is neither what Git declares nor drained.
#[test]
fn a_revert_of_what_never_moved_forgets_no_drain() {
    let first = [("eks", 20), ("vm", 80)];
    let mut world = World::new(plain(&first));
    world.orders.all_frozen = Some("peak hour".to_owned());
    world.commit(plain(&[("eks", 100)]));
    world.look();
    order(&mut world, &[("vm", None)]);
    world.look();
    world.orders.all_frozen = None;
    world.reverts = true;
    world.commit(plain(&first));
    let (_, stands) = world.look();
    let stands = stands.unwrap();
    assert!(stands.phase == Phase::Shift && stands.drained, "{stands:?}");
    world.reverts = false;
    settle(&mut world);
    let led = BTreeMap::from([(backend("eks"), 10_000)]);
    assert_eq!(world.weights(&zone("fra")), led);
    let (_, stands) = world.look();
    assert_eq!(stands.unwrap().phase, Phase::Drained);
}

/// A commit gives who is drained everything, while the split is quarantined: no drain is ended in a quarantine, so that one ends
/// by `weir resume` though nothing may move.
#[test]
fn a_quarantine_ends_though_a_drain_is_in_the_way() {
    let mut world = World::new(plain(&[("eks", 20), ("vm", 80)]));
    order(&mut world, &[("vm", None)]);
    settle(&mut world);
    world.commit(plain(&[("eks", 50), ("lab", 50)]));
    world.look();
    world
        .orders
        .aborts
        .insert(checkout(), "it was aborted".to_owned());
    world.look();
    world.orders.aborts.clear();
    settle(&mut world);
    assert!(world.quarantined());
    world.commit(plain(&[("vm", 100)]));
    let (new, stands) = world.look();
    assert!(!new && stands.unwrap().phase == Phase::Held && world.quarantined());
    world.orders.resumes.insert(checkout());
    let (new, stands) = world.look();
    assert!(new && stands.unwrap().phase == Phase::Held && !world.quarantined());
    assert_eq!(weights_told(&world).get(&backend("vm")).copied().unwrap_or(0), 0);
    world.orders.resumes.clear();
    world.orders.drains.clear();
    settle(&mut world);
    assert_eq!(weights_told(&world)[&backend("vm")], 10_000);
}

/// The same where an abort stopped the split by itself, because of the drain, on its way back from what an earlier commit said:
/// that quarantine stands until the split moves again, and the drain cannot be ended before.
#[test]
fn a_quarantine_of_before_ends_though_the_split_is_stopped() {
    let mut world = World::new(plain(&[("eks", 20), ("vm", 80)]));
    world.commit(plain(&[("lab", 100)]));
    world.look();
    world.all_follow();
    world.look();
    order(&mut world, &[("vm", None)]);
    world.look();
    world.orders.aborts.insert(checkout(), "it got worse".to_owned());
    world.look();
    assert!(world.quarantined() && matches!(world.leg(), Some(Leg::Return { .. })));
    world.cut.insert(zone("fra"));
    world.commit(plain(&[("eks", 50), ("lab", 50)]));
    let (new, stands) = world.look();
    let stands = stands.unwrap();
    assert!(new && stands.phase == Phase::Held, "{stands:?}");
    world.orders.aborts.clear();
    world.cut.clear();
    let stopped = |world: &mut World| {
        for _ in 0..4 {
            world.all_follow();
            world.pass(61);
            let (new, stands) = world.look();
            let stands = stands.unwrap();
            assert!(!new && stands.phase == Phase::Held, "{stands:?}");
        }
    };
    stopped(&mut world);
    assert!(world.quarantined(), "by what was declared before");
    world.orders.resumes.insert(checkout());
    let told = weights_told(&world);
    let (new, _) = world.look();
    assert!(new && !world.quarantined());
    assert_eq!(weights_told(&world), told, "nothing moves by that alone");
    world.orders.resumes.clear();
    stopped(&mut world);
    world.orders.drains.clear();
    settle(&mut world);
    assert!(world.leg().is_none());
}

/// A drain goes by name. Under another one who is drained, and may have been stopped, would get all that it has.
#[test]
fn a_rename_ends_no_drain() {
    let weights = [("eks", 20), ("vm", 80)];
    let drained = BTreeMap::from([(backend("eks"), 10_000)]);
    let renamed = |weights: &[(&str, u32)]| {
        declared(weights, |split| {
            let vm = split.backends.remove(&backend("vm")).unwrap();
            split.backends.insert(backend("vms"), vm);
        })
    };
    let swapped = declared(&[("eks", 80), ("vm", 20)], |split| {
        let vm = split.backends.remove(&backend("vm")).unwrap();
        let eks = split.backends.insert(backend("eks"), vm).unwrap();
        split.backends.insert(backend("vm"), eks);
    });
    let mut world = World::new(renamed(&[("eks", 20), ("vms", 80)]));
    world.commit(plain(&weights));
    settle(&mut world);
    order(&mut world, &[("vm", None)]);
    settle(&mut world);
    for (reverts, commit) in [
        (false, renamed(&[("eks", 20), ("vms", 80)])),
        (true, renamed(&[("eks", 20), ("vms", 80)])),
        (false, swapped),
    ] {
        let mut world = world.clone();
        world.reverts = reverts;
        world.commit(commit);
        let (new, stands) = world.look();
        let stands = stands.unwrap();
        assert!(!new && stands.phase == Phase::Held, "{stands:?}");
        assert!(
            stands.waits[0].why.contains("`weir undrain` vm first"),
            "{stands:?}"
        );
        world.reverts = false;
        settle(&mut world);
        assert_eq!(weights_told(&world), drained);
        // Drained under its new name as well, or undrained, it goes on.
        let mut both = world.clone();
        order(&mut both, &[("vm", None), ("vms", None)]);
        settle(&mut both);
        if both.declaration.splits[&checkout()]
            .backends
            .contains_key(&backend("vms"))
        {
            assert_eq!(weights_told(&both), drained);
            let (_, stands) = both.look();
            assert_eq!(stands.unwrap().phase, Phase::Drained);
        }
        world.orders.drains.clear();
        settle(&mut world);
        let (_, stands) = world.look();
        assert_eq!(stands, None);
    }
}

/// Nor does another name of the whole split, by a commit or by its revert.
#[test]
fn a_rename_of_the_split_ends_no_drain() {
    let till = weir_model::SplitName::new("till").unwrap();
    let named = |weights: &[(&str, u32)]| {
        let mut declaration = plain(weights);
        let mut split = Split::clone(&declaration.splits.remove(&checkout()).unwrap());
        split.name = till.clone();
        declaration.splits.insert(till.clone(), Arc::new(split));
        declaration
    };
    let weights = [("eks", 20), ("vm", 80)];
    let mut world = World::new(named(&weights));
    world.commit(plain(&weights));
    world.look();
    world.all_follow();
    order(&mut world, &[("vm", None)]);
    settle(&mut world);
    for (reverts, weights) in [(true, &weights[..]), (false, &[("eks", 100)])] {
        let mut world = world.clone();
        world.reverts = reverts;
        world.commit(named(weights));
        let (new, stands) = world.look_at(&till);
        let stands = stands.unwrap();
        assert!(!new && stands.phase == Phase::Held, "{stands:?}");
        let why = &stands.waits[0].why;
        assert!(why.contains("of which backend vm is drained"), "{stands:?}");
        assert!(world.plan.as_ref().unwrap().splits.contains_key(&checkout()));
    }
}

/// On its way it is not shown as drained, whatever is committed meanwhile.
#[test]
fn what_is_on_its_way_is_not_drained() {
    let weights = [("eks", 20), ("vm", 80)];
    let mut world = World::new(plain(&weights));
    order(&mut world, &[("vm", None)]);
    world.look();
    world.all_follow();
    world.commit(declared(&weights, refuges(&["eks"], 30)));
    let (new, stands) = world.look();
    let stands = stands.unwrap();
    assert!(
        new && stands.phase == Phase::Shift && stands.bite == 1,
        "{stands:?}"
    );
    settle(&mut world);
    let (_, stands) = world.look();
    assert_eq!(stands.unwrap().phase, Phase::Drained);
}

/// The same, beside another split.
fn beside(search: u32, weights: &[(&str, u32)]) -> Declaration {
    let mut declaration = plain(weights);
    let other = split(
        "search",
        &["a@fra", "b@par"],
        &[("a", search), ("b", 100 - search)],
    );
    declaration.splits.insert(other.name.clone(), Arc::new(other));
    declaration
}

/// A revert takes no drain along that waits: not of a split that it does not change, whether nothing was drained there before
/// or something was, nor with the end of one.
#[test]
fn a_revert_of_another_split_takes_no_drain_along() {
    let weights = [("eks", 20), ("lab", 30), ("vm", 50)];
    for first in [&[][..], &[("vm", None)]] {
        let mut world = World::new(beside(50, &weights));
        order(&mut world, first);
        settle(&mut world);
        let rests = world.weights(&zone("fra"));
        world.commit(beside(60, &weights));
        settle(&mut world);
        world.orders.all_frozen = Some("peak hour".to_owned());
        let both: Vec<_> = first.iter().copied().chain([("lab", None)]).collect();
        order(&mut world, &both);
        let (_, stands) = world.look();
        assert_eq!(stands.unwrap().phase, Phase::Frozen);
        world.reverts = true;
        world.commit(beside(50, &weights));
        let (new, stands) = world.look();
        assert!(new, "the other split goes back");
        assert_eq!(stands.unwrap().phase, Phase::Frozen, "{first:?}");
        assert_eq!(world.leg(), None);
        assert_eq!(weights_told(&world), rests);
    }

    let mut world = World::new(beside(50, &weights));
    order(&mut world, &[("vm", None)]);
    settle(&mut world);
    let more = [("eks", 10), ("lab", 10), ("vm", 80)];
    world.commit(beside(60, &more));
    settle(&mut world);
    world.reverts = true;
    world.commit(beside(50, &more));
    world.orders.drains.clear();
    world.look();
    assert!(
        matches!(world.leg(), Some(Leg::Shift { bite: 1, .. })),
        "{:?}",
        world.leg()
    );
}

/// The revert of the split itself goes at once and past a freeze, and the drain that waits goes its own way after it.
#[test]
fn a_revert_goes_before_the_drain_that_waits() {
    let mut world = World::new(plain(&[("eks", 20), ("vm", 80)]));
    world.commit(plain(&[("eks", 60), ("vm", 40)]));
    settle(&mut world);
    world.orders.all_frozen = Some("peak hour".to_owned());
    order(&mut world, &[("vm", None)]);
    let (new, stands) = world.look();
    assert!(!new && stands.unwrap().phase == Phase::Frozen);
    world.reverts = true;
    world.commit(plain(&[("eks", 20), ("vm", 80)]));
    assert!(world.look().0);
    world.reverts = false;
    assert!(
        matches!(world.leg(), Some(Leg::Return { .. })),
        "{:?}",
        world.leg()
    );
    let back = BTreeMap::from([(backend("eks"), 2_000), (backend("vm"), 8_000)]);
    assert_eq!(weights_told(&world), back);
    world.all_follow();
    let (_, stands) = world.look();
    assert_eq!(stands.unwrap().phase, Phase::Frozen);
    assert_eq!(weights_told(&world), back);
    world.orders.all_frozen = None;
    world.look();
    assert!(
        matches!(world.leg(), Some(Leg::Shift { bite: 1, .. })),
        "{:?}",
        world.leg()
    );
}

/// A drain that never could be carried out is shown, also where nothing had moved yet.
#[test]
fn what_is_stuck_from_the_start_is_shown() {
    let mut world = World::new(plain(&[("eks", 50), ("vm", 50)]));
    order(&mut world, &[("eks", None), ("vm", None)]);
    let (new, stands) = world.look();
    assert!(!new && stands.unwrap().phase == Phase::Held);
}

/// Zones that give nothing to who is drained any more do not give him anything again because a commit comes in mid-way: the
/// later waves follow them, when they can, before the commit is gone towards.
#[test]
fn a_commit_in_mid_way_gives_nothing_back_to_who_is_drained() {
    let mid_way = || {
        let mut world = World::new(plain(&[("eks", 50), ("lab", 0), ("vm", 50)]));
        order(&mut world, &[("vm", None)]);
        assert!(world.look().0);
        for first in ["fra", "par"].map(zone) {
            assert!(world.follow(&first));
        }
        assert_eq!(world.weights(&zone("fra")), [(backend("eks"), 10_000)].into());
        assert_eq!(
            world.weights(&zone("ams"))[&backend("vm")],
            5_000,
            "a wave of its own"
        );
        world.commit(plain(&[("eks", 20), ("lab", 30), ("vm", 50)]));
        world
    };
    let mut world = mid_way();
    for _ in 0..30 {
        world.look();
        for first in ["fra", "par"].map(zone) {
            let told = crate::world::weights(&world.item(&first).unwrap());
            assert_eq!(told.get(&backend("vm")), None, "{}", world.told(None));
        }
        world.all_follow();
        world.pass(5);
    }
    assert_eq!(world.leg(), None);
    let rest = BTreeMap::from([(backend("eks"), 4_000), (backend("lab"), 6_000)]);
    for name in ZONES {
        assert_eq!(world.weights(&zone(name)), rest, "{name}");
    }

    // What keeps the later wave back does so here, too.
    for (phase, what) in [
        (Phase::Frozen, "frozen"),
        (Phase::Held, "blind"),
        (Phase::Shift, "behind"),
    ] {
        let mut world = mid_way();
        match what {
            "frozen" => world.orders.all_frozen = Some("peak hour".to_owned()),
            "blind" => drop(world.blind.insert(zone("ams"), backend("eks"))),
            _ => {
                let old = World::new(plain(&[("eks", 50), ("lab", 0), ("vm", 50)])).runs;
                world.runs.insert(zone("par"), old[&zone("par")].clone());
            }
        }
        let (new, stands) = world.look();
        let stands = stands.unwrap();
        assert!(!new && stands.phase == phase, "{what}: {stands:?}");
        assert!(!stands.waits.is_empty());
        world.orders.all_frozen = None;
        world.blind.clear();
        world.all_follow();
        assert!(world.look().0, "{what}");
        assert_eq!(
            crate::world::weights(&world.item(&zone("ams")).unwrap()),
            [(backend("eks"), 10_000)].into(),
            "{what}"
        );
    }
}

/// Where others have far to go and who is drained has next to nothing, rounding gives him nothing again once he has none: he
/// may have been stopped.
#[test]
fn whom_rounding_took_the_last_from_gets_nothing_again() {
    for protocol in [Protocol::Http, Protocol::Tcp] {
        let exactly = |weights: [(&str, u32); 3]| {
            declared(&[("lab", 100)], |split| {
                split.protocol = protocol;
                split.transition.max_step = BasisPoints::new(1_000).ok();
                let weights = weights.map(|(name, share)| (backend(name), BasisPoints::new(share).unwrap()));
                split.routes[0].weights = weights.into();
            })
        };
        let mut world = World::new(exactly([("eks", 0), ("lab", 9_999), ("vm", 1)]));
        order(&mut world, &[("vm", None)]);
        world.commit(exactly([("eks", 8_690), ("lab", 1_310), ("vm", 0)]));
        let share = |world: &World, name: &str| {
            let told = weights_told(world);
            told.get(&backend(name)).copied().unwrap_or_default()
        };
        let all = |world: &World| ["eks", "lab", "vm"].map(|name| share(world, name));
        let mut told = vec![all(&world)];
        for _ in 0..60 {
            world.look();
            world.all_follow();
            world.pass(61);
            told.push(all(&world));
        }
        assert_eq!(world.leg(), None);
        assert_eq!(told.last(), Some(&[8_690, 1_310, 0]), "{protocol}");
        for step in told.windows(2) {
            let [[eks, lab, vm], [more, less, none]] = [step[0], step[1]];
            assert!(more >= eks && less <= lab && none <= vm, "{protocol}: {told:?}");
        }
    }
}

/// Zones that are apart by a route as well: what one has no route for goes by the last one, and who is drained has less where
/// that gives him less.
#[test]
fn a_route_that_only_some_zones_have_leads_nobody_to_who_is_drained() {
    let mut start = Split::clone(&plain(&[("eks", 74), ("vm", 26)]).splits[&checkout()]);
    let mut beta = start.routes[0].clone();
    beta.name = weir_model::RouteName::new("beta").unwrap();
    beta.matches.method = Some("GET".to_owned());
    beta.weights = [("eks", 9_300), ("vm", 700)]
        .map(|(name, share)| (backend(name), BasisPoints::new(share).unwrap()))
        .into();
    start.routes.insert(0, beta);
    let mut world = World::new(with_split(start));
    let mut whole = Split::clone(&plain(&[("vm", 100)]).splits[&checkout()]);
    whole.transition.max_step = None;
    world.commit(with_split(whole));
    assert!(world.look().0);
    for first in ["fra", "par"].map(zone) {
        assert!(world.follow(&first));
    }
    assert_eq!(world.weights(&zone("fra")), [(backend("vm"), 10_000)].into());
    order(&mut world, &[("vm", None)]);
    world.commit(plain(&[("eks", 97), ("vm", 3)]));
    for _ in 0..30 {
        world.look();
        let item = world.item(&zone("ams")).unwrap();
        let all = item.routes.iter().map(|route| route.weights.get(&backend("vm")));
        let most = all.flatten().map(|share| share.get()).max();
        assert!(most.is_none_or(|most| most <= 2_600), "{}", world.told(None));
        world.all_follow();
        world.pass(61);
    }
    assert_eq!(world.leg(), None);
    assert_eq!(world.weights(&zone("ams")), [(backend("eks"), 10_000)].into());
}

fn with_split(split: Split) -> Declaration {
    let mut declaration = plain(&[("vm", 100)]);
    declaration.splits.insert(checkout(), Arc::new(split));
    declaration
}
