//! Drains: a backend that is ordered to take nothing, whatever Git declares.

use weir_model::Fallback;
use weir_planner::{Drain, Orders, Outlook, drain};

use super::*;

fn drains(all: &[(&str, Option<&str>)]) -> BTreeMap<BackendName, Drain> {
    let one = |(name, to): &(&str, Option<&str>)| {
        let drain = Drain {
            to: to.map(backend),
            why: "\"the host is rebuilt\", says ada".to_owned(),
        };
        (backend(name), drain)
    };
    all.iter().map(one).collect()
}

fn order(world: &mut World, all: &[(&str, Option<&str>)]) {
    world.orders.drains = BTreeMap::from([(checkout(), drains(all))]);
}

#[test]
fn a_drain_travels_as_every_change_does_and_outlasts_commits() {
    let mut world = World::new(plain(&[("eks", 20), ("vm", 80)]));
    let mut story = String::new();
    world.dead.insert(backend("eks"));
    order(&mut world, &[("vm", None)]);
    look(&mut world, &mut story, "vm is drained while eks is not up");
    world.dead.clear();
    world.pass(5);
    look(&mut world, &mut story, "eks is up");
    for zone in ["fra", "par"].map(zone) {
        world.follow(&zone);
    }
    look(&mut world, &mut story, "the first wave proves its bite");
    settle(&mut world);
    look(&mut world, &mut story, "all have followed");
    world.commit(plain(&[("eks", 10), ("vm", 90)]));
    settle(&mut world);
    look(&mut world, &mut story, "a commit gives vm 90 %");
    world.reverts = true;
    world.commit(plain(&[("eks", 20), ("vm", 80)]));
    look(&mut world, &mut story, "git revert");
    world.reverts = false;
    world.orders.drains.clear();
    look(&mut world, &mut story, "undrained");
    settle(&mut world);
    look(&mut world, &mut story, "all have followed");
    insta::assert_snapshot!(story);
}

/// Whoever is drained has nothing, and what he had is with others, to the last basis point; or it is said why that cannot be.
#[test]
fn a_share_goes_to_who_is_named_or_declared_or_to_all_by_their_own() {
    let with = |weights: &[(&str, u32)], change: fn(&mut Split)| {
        let declaration = declared(weights, change);
        Split::clone(&declaration.splits[&checkout()])
    };
    let fallback = |split: &mut Split| {
        let fallback = Fallback {
            to: vec![backend("lab"), backend("eks")],
            after: SignedDuration::from_secs(1),
            recover: SignedDuration::from_secs(60),
        };
        split.fallback = BTreeMap::from([(backend("vm"), fallback)]);
    };
    let to = |split: &Split, all: &[(&str, Option<&str>)]| -> Result<Vec<(String, u32)>, String> {
        let drained = drain::without(split, &drains(all))?;
        let weights = &drained.routes.last().unwrap().weights;
        let sum: u32 = weights.values().map(|weight| weight.get()).sum();
        assert_eq!(sum, BasisPoints::WHOLE.get());
        let some = weights.iter().filter(|(_, weight)| weight.get() > 0);
        Ok(some
            .map(|(name, weight)| (name.to_string(), weight.get()))
            .collect())
    };
    let shares = |all: &[(&str, u32)]| Ok(all.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect());
    let thirds = with(&[("eks", 30), ("lab", 60), ("vm", 10)], |_| {});
    assert_eq!(
        to(&thirds, &[("vm", None)]),
        shares(&[("eks", 3_333), ("lab", 6_667)])
    );
    assert_eq!(
        to(&thirds, &[("vm", Some("eks"))]),
        shares(&[("eks", 4_000), ("lab", 6_000)])
    );
    assert_eq!(
        to(&thirds, &[("vm", None), ("eks", None)]),
        shares(&[("lab", 10_000)])
    );
    let declared = with(&[("eks", 30), ("lab", 0), ("vm", 70)], fallback);
    assert_eq!(
        to(&declared, &[("vm", None)]),
        shares(&[("eks", 3_000), ("lab", 7_000)])
    );
    assert_eq!(
        to(&declared, &[("vm", None), ("lab", None)]),
        shares(&[("eks", 10_000)])
    );
    let refuges = |all: &[(&str, Option<&str>)]| {
        let drained = drain::without(&declared, &drains(all)).unwrap();
        let fallback = drained.fallback.get(&backend("vm"));
        fallback.map(|fallback| fallback.to.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        refuges(&[("lab", None)]),
        Some(vec!["eks".to_owned()]),
        "no share goes to who is stopped"
    );
    assert_eq!(refuges(&[("lab", None), ("eks", None)]), None);
    let small = with(&[("eks", 30), ("vm", 70)], |split| {
        split.backends.get_mut(&backend("eks")).unwrap().capacity = BasisPoints::new(5_000).ok();
    });
    for (split, all, why) in [
        (
            &with(&[("vm", 100)], |_| {}),
            &[("vm", None)][..],
            "nobody else has a share to take it",
        ),
        (
            &thirds,
            &[("vm", Some("lab")), ("lab", Some("vm"))],
            "cannot be drained to",
        ),
        (
            &small,
            &[("vm", None)],
            "backend eks of split checkout would get 100 %, and is declared for 50 % (capacity)",
        ),
    ] {
        let refused = to(split, all).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

/// An order that a later commit makes impossible gives nothing back to whoever is drained: the split stays where it is.
#[test]
fn what_cannot_be_carried_out_any_more_moves_nothing() {
    let mut world = World::new(plain(&[("eks", 20), ("vm", 80)]));
    order(&mut world, &[("vm", None)]);
    settle(&mut world);
    let drained = BTreeMap::from([(backend("eks"), 10_000)]);
    assert_eq!(world.weights(&zone("fra")), drained);
    world.commit(plain(&[("vm", 100)]));
    // Nor is there a way back to him.
    world.reverts = true;
    let (_, stands) = world.look();
    world.all_follow();
    let stands = stands.unwrap();
    assert_eq!(stands.phase, Phase::Held);
    assert!(
        stands.waits[0].why.contains("cannot be drained"),
        "{:?}",
        stands.waits
    );
    assert_eq!(world.weights(&zone("fra")), drained);
    world.orders.drains.clear();
    settle(&mut world);
    assert_eq!(
        world.weights(&zone("fra")),
        BTreeMap::from([(backend("vm"), 10_000)])
    );
}

/// Tells of a bad verdict, or aborts; then the counter starts anew, the abort is over, and all the time passes that a verdict may take.
fn goes_wrong(world: &mut World, abort: bool) -> (bool, Option<Outlook>) {
    if abort {
        world
            .orders
            .aborts
            .insert(checkout(), "it was aborted".to_owned());
    } else {
        world.count("fra/a", "eks", 1_000, 900);
    }
    let looked = world.look();
    world.orders.aborts.clear();
    let now = world.now;
    for counts in world.counts.values_mut() {
        counts.since = now;
        counts.requests.clear();
        counts.failed.clear();
    }
    looked
}

/// Whoever is drained may have been stopped: no verdict and no abort goes back to him, at whatever moment, and none is
/// forgotten.
#[test]
fn nothing_goes_back_to_who_is_drained() {
    for (abort, whole) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new(plain(&[("eks", 10), ("vm", 90)]));
        world.count("fra/a", "eks", 10_000, 0);
        order(&mut world, &[("vm", None)]);
        let there: &[(BackendName, u32)] = &[(backend("eks"), 5_500), (backend("vm"), 4_500)];
        let there = match whole {
            false => there.iter().cloned().collect(),
            true => BTreeMap::from([(backend("eks"), 10_000)]),
        };
        while world.weights(&zone("ams")) != there {
            world.look();
            world.all_follow();
            world.pass(1);
        }
        assert!(world.leg().is_some(), "traffic is still judged");
        let (_, stands) = goes_wrong(&mut world, abort);
        for n in 0..4 {
            let (new, looked) = world.look();
            world.all_follow();
            let stands = if n == 0 { stands.clone() } else { looked }.unwrap();
            assert!(!new && stands.phase == Phase::Held, "{stands:?}");
            assert!(
                stands
                    .waits
                    .iter()
                    .any(|wait| wait.why.contains("backend vm would get more by that, and is drained, and without it eks would keep what it gained")),
                "{stands:?}"
            );
            assert_eq!(weights_told(&world), there);
            world.pass(3_600);
        }
        // Ended, it goes to what Git declares, and that is where it was.
        let mut undrained = world.clone();
        undrained.orders = Orders::default();
        undrained.look();
        undrained.all_follow();
        assert_eq!(undrained.weights(&zone("ams"))[&backend("vm")], 9_000);
        // Or a commit says who else takes it.
        world.commit(plain(&[("lab", 100)]));
        settle(&mut world);
        assert_eq!(
            world.weights(&zone("ams")),
            BTreeMap::from([(backend("lab"), 10_000)])
        );
    }
}

/// Where others than the taker of a drain went wrong there is a way back: to all that there was, as long as who is drained still
/// has what he had, and after that to the same without him.
#[test]
fn a_way_back_leads_past_who_is_drained() {
    for (abort, begun) in [(true, false), (true, true), (false, true)] {
        let mut world = World::new(plain(&[("eks", 10), ("lab", 20), ("vm", 70)]));
        world.count("fra/a", "eks", 10_000, 0);
        world.commit(plain(&[("eks", 80), ("lab", 20), ("vm", 0)]));
        while weights_told(&world)[&backend("eks")] == 1_000 || !world.look().0 {
            world.look();
            world.all_follow();
        }
        let lab = |world: &World| weights_told(world).get(&backend("lab")).copied();
        assert_eq!(lab(&world), Some(2_000));
        order(&mut world, &[("lab", None)]);
        while begun && lab(&world) == Some(2_000) {
            world.look();
            world.all_follow();
        }
        let (new, stands) = goes_wrong(&mut world, abort);
        let stands = stands.unwrap();
        assert!(new && stands.phase == Phase::Return, "{abort} {begun} {stands:?}");
        let expected: &[(&str, u32)] = match begun {
            false => &[("eks", 1_000), ("lab", 2_000), ("vm", 7_000)],
            true => &[("eks", 1_250), ("vm", 8_750)],
        };
        let expected = expected.iter().map(|(name, weight)| (backend(name), *weight));
        settle(&mut world);
        assert!(world.quarantined());
        for name in ZONES {
            assert_eq!(world.weights(&zone(name)), expected.clone().collect(), "{name}");
        }
    }
}

/// The abort of a drain that waits quarantines nothing: it could not be ended any more.
#[test]
fn a_drain_that_waits_is_ended_and_not_aborted() {
    let mut world = World::new(plain(&[("eks", 20), ("vm", 80)]));
    world.dead.insert(backend("eks"));
    order(&mut world, &[("vm", None)]);
    world.look();
    let (new, stands) = goes_wrong(&mut world, true);
    assert!(!new && stands.unwrap().phase == Phase::Held);
    assert!(!world.quarantined());
    world.dead.clear();
    settle(&mut world);
    assert_eq!(
        world.weights(&zone("ams")),
        BTreeMap::from([(backend("eks"), 10_000)])
    );
}

/// vm's share may go to eks, or to who is named first.
fn refuges(to: &'static [&'static str], recover: i64) -> impl Fn(&mut Split) {
    move |split: &mut Split| {
        let fallback = Fallback {
            to: to.iter().map(|name| backend(name)).collect(),
            after: SignedDuration::from_secs(1),
            recover: SignedDuration::from_secs(recover),
        };
        split.fallback = BTreeMap::from([(backend("vm"), fallback)]);
    }
}

/// Who may take vm's share in a zone, as it is told.
fn told_refuges(world: &World, name: &str) -> Vec<BackendName> {
    let item = world.item(&zone(name)).unwrap();
    let of_vm = item.fallback.get(&backend("vm"));
    of_vm.map_or_else(Vec::new, |fallback| {
        fallback.to.iter().map(|to| to.backend.clone()).collect()
    })
}

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

fn weights_told(world: &World) -> BTreeMap<BackendName, u32> {
    weights(&world.item(&zone("fra")).unwrap())
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
