//! Drains: a backend that is ordered to take nothing, whatever Git declares.

mod as_refuge;
mod commits;
mod routes;

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

fn weights_told(world: &World) -> BTreeMap<BackendName, u32> {
    weights(&world.item(&zone("fra")).unwrap())
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
        let drained = drain::without(split, (&drains(all), &BTreeMap::new()))?;
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
        let drained = drain::without(&declared, (&drains(all), &BTreeMap::new())).unwrap();
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
