//! One agent: what it takes for down, who gets the share, and when that comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_agent::fallback::{driven, look, told};
use weir_planner::{Item, item_digest};
use weir_render::FALLEN;

use super::world::{ALL_TO_VM, AS_PLANNED, Agent, backend, plan, share};

#[test]
fn a_share_goes_to_its_fallback_and_comes_back() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    assert!(agent.label().is_empty(), "nothing was ever down");
    for _ in 0..20 {
        assert!(!agent.quarter(100, &[]));
    }
    let died = agent.now;
    while !agent.quarter(100, &["eks"]) {
        assert!(agent.now - died < Duration::from_secs(2));
    }
    assert!(agent.now - died >= Duration::from_secs(1), "`after` is 1 s");
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    let fallen = told(agent.item(), &agent.memory).unwrap();
    assert!(
        fallen.why.contains("the share of eks goes to vm"),
        "{}",
        fallen.why
    );
    assert!(
        agent
            .label()
            .ends_with(&format!(".{}", agent.at().1.as_millisecond()))
    );
    assert_eq!(
        agent.alarms(),
        [] as [&str; 0],
        "what is done about it is told elsewhere"
    );
    // The item is the same: nothing that goes by digest or generation sees another one.
    assert_eq!(
        driven(agent.item(), &agent.memory).reference(),
        agent.item().reference()
    );
    let away = agent.now;
    while agent.weights() != AS_PLANNED {
        assert!(!agent.quarter(100, &["eks"]));
        agent.activate();
        assert!(agent.now - away < Duration::from_secs(61));
    }
    assert!(agent.now - away >= Duration::from_secs(59), "`recover` is 60 s");
    assert!(agent.label().starts_with("up."));
    assert_eq!(told(agent.item(), &agent.memory), None);
}

#[test]
fn who_counts_nothing_is_told_so() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    let items: Vec<_> = agent.plan.items.values().cloned().collect();
    for _ in 0..31 {
        agent.watch.count(&items, &[None], agent.at().0);
        agent.now += Duration::from_secs(1);
    }
    let alarms = agent.alarms();
    assert!(
        alarms.len() == 1 && alarms[0].contains("for 31 s no requests of its callers were counted here"),
        "{alarms:?}"
    );
    agent.quarter(100, &[]);
    assert_eq!(agent.alarms(), Vec::<String>::new());
    // What was counted once and comes no more is as little worth.
    agent.now += Duration::from_secs(31);
    assert_eq!(agent.alarms().len(), 1);
    let mut without = Agent::new(plan(&[], 60));
    without.now += Duration::from_secs(31);
    without.watch.count(&items, &[None], without.at().0);
    assert_eq!(without.alarms(), Vec::<String>::new());
}

#[test]
fn bad_requests_are_not_a_dead_backend() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.quarter(100, &[]);
    // Four requests in all, all of them lost.
    for _ in 0..40 {
        let due = agent.quarter(if agent.sent[&backend("eks")] < 84 { 2 } else { 0 }, &["eks"]);
        assert!(!due);
    }
    // Two of five, for long.
    for _ in 0..40 {
        *agent.down.entry(backend("eks")).or_default() += 32;
        assert!(!agent.quarter(100, &[]));
    }
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED);
}

#[test]
fn who_has_no_room_is_passed_over_and_nobody_is_told_loudly() {
    let dead = |to: &[(&str, Option<u32>)], unavailable: &[&'static str]| {
        let mut agent = Agent::new(plan(to, 60));
        agent.activate();
        agent.unavailable = unavailable.iter().copied().collect();
        for _ in 0..28 {
            agent.quarter(100, &["eks"]);
        }
        agent.activate();
        let alarms = agent.alarms();
        (agent.weights(), alarms)
    };
    let (weights, _) = dead(&[("lab", Some(80)), ("vm", None)], &[]);
    assert_eq!(
        weights,
        [("eks", 0), ("lab", 80), ("vm", 20)],
        "exactly as much as it takes"
    );
    let (weights, _) = dead(&[("lab", Some(79)), ("vm", None)], &[]);
    assert_eq!(weights, ALL_TO_VM);
    let (weights, _) = dead(&[("lab", None), ("vm", None)], &["lab"]);
    assert_eq!(weights, ALL_TO_VM, "I3 holds for a fallback too");
    for (to, unavailable, because) in [
        (
            &[("lab", Some(79)), ("vm", Some(99))][..],
            &[][..],
            "no backend of its fallback is up",
        ),
        (&[("lab", None)], &["lab"], "no backend of its fallback is up"),
        (&[], &[], "no fallback is declared"),
    ] {
        let (weights, alarms) = dead(to, unavailable);
        assert_eq!(weights, AS_PLANNED);
        assert!(
            alarms.iter().any(|alarm| alarm.contains(because)),
            "{to:?}: {alarms:?}"
        );
    }
}

/// Loud after 5 s, and not a moment longer than it has a share and is down; who has no share, or whose share went elsewhere, is
/// not said to keep one.
#[test]
fn who_is_down_and_keeps_its_share_is_named_with_it() {
    let mut agent = Agent::new(plan(&[], 60));
    agent.activate();
    for _ in 0..20 {
        agent.quarter(100, &[]);
    }
    let died = agent.now;
    while agent.failing().is_empty() {
        assert!(agent.now - died < Duration::from_secs(6));
        agent.quarter(100, &["eks", "lab"]);
    }
    assert!(
        agent.now - died >= Duration::from_secs(5),
        "{:?}",
        agent.now - died
    );
    let failing = agent.failing();
    assert_eq!(failing.len(), 1, "`lab` has no share: {failing:?}");
    assert_eq!((failing[0].0.as_str(), failing[0].1), ("eks", 80));
    assert!(
        failing[0]
            .2
            .contains("found nobody there; no fallback is declared"),
        "{failing:?}"
    );
    // It answers again.
    agent.quarter(100, &[]);
    assert_eq!(agent.failing(), []);
    // Down again; its MeshService vanishes: Kuma gives the share away, which is told as that.
    for _ in 0..28 {
        agent.quarter(100, &["eks"]);
    }
    assert_eq!(agent.failing().len(), 1);
    agent.vanished.insert("eks");
    agent.look();
    assert_eq!(agent.failing(), []);

    // Its share goes to `vm`, and nobody keeps any; then `vm` is down, and has all of it.
    let mut agent = Agent::new(plan(&[("vm", None)], 600));
    agent.activate();
    for _ in 0..28 {
        if agent.quarter(100, &["eks"]) {
            agent.activate();
        }
        assert_eq!(agent.failing(), []);
    }
    assert_eq!(agent.weights(), ALL_TO_VM);
    for _ in 0..28 {
        agent.quarter(100, &["vm"]);
    }
    let failing = agent.failing();
    assert_eq!(failing.len(), 1, "{failing:?}");
    assert_eq!((failing[0].0.as_str(), failing[0].1), ("vm", 100));
}

#[test]
fn what_kuma_says_is_believed_as_well() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.unavailable.insert("eks");
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED, "not for long enough yet");
    agent.now += Duration::from_secs(1);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM, "nobody sends, and it is Unavailable");
}

/// Who is down, has no share of his own by a newer item, and passes another one's on, is told as well: a drain of who has it all in
/// the end would else take the middle of that way for unused.
#[test]
fn who_only_passes_a_share_on_is_told_of() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    let change = |agent: &mut Agent, change: &dyn Fn(&mut Item)| {
        let item = Arc::make_mut(agent.plan.items.values_mut().next().unwrap());
        change(item);
        item.digest = item_digest(item);
    };
    change(&mut agent, &|item| {
        let mut on = item.fallback[&backend("eks")].clone();
        on.to[0].backend = backend("lab");
        item.fallback.insert(backend("vm"), on);
    });
    agent.activate();
    for who in ["eks", "vm"] {
        agent.unavailable.insert(who);
        agent.activate();
        agent.now += Duration::from_secs(1);
        agent.activate();
    }
    let all_to_lab = [("eks", 0), ("lab", 100), ("vm", 0)];
    assert_eq!(agent.weights(), all_to_lab);
    agent.unavailable.clear();
    change(&mut agent, &|item| {
        item.generation = weir_planner::Generation(4);
        item.routes[0].weights = BTreeMap::from([(backend("eks"), share(100)), (backend("vm"), share(0))]);
    });
    agent.activate();
    assert_eq!(agent.weights(), all_to_lab, "neither is well for long enough");
    let fallen = told(agent.item(), &agent.memory).unwrap();
    assert_eq!(fallen.down, BTreeSet::from(["eks", "vm"].map(backend)));
    for way in ["the share of eks goes to vm", "the share of vm goes to lab"] {
        assert!(fallen.why.contains(way), "{}", fallen.why);
    }
}

/// Nobody fails where Kuma drops the reference, so nothing is counted: that it is gone is enough.
#[test]
fn a_service_that_vanishes_is_a_reason_to_fall_back() {
    let mut agent = Agent::new(plan(&[("lab", None), ("vm", None)], 60));
    // Declared and not started yet: nothing vanished, and nothing is in force that could go anywhere.
    agent.vanished.insert("lab");
    agent.look();
    agent.now += Duration::from_secs(5);
    agent.look();
    assert_eq!(agent.alarms(), [] as [&str; 0]);
    agent.activate();
    agent.vanished.insert("eks");
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED, "not for long enough yet");
    let alarms = agent.alarms();
    assert!(
        alarms.len() == 1 && alarms[0].contains("backend eks") && alarms[0].contains("Kuma drops its share"),
        "said at once, once: {alarms:?}"
    );
    agent.now += Duration::from_secs(1);
    agent.activate();
    assert_eq!(
        agent.weights(),
        ALL_TO_VM,
        "not to `lab`, which this zone does not resolve (I3)"
    );
    let fallen = told(agent.item(), &agent.memory).unwrap();
    assert!(fallen.why.contains("its MeshService vanished"), "{}", fallen.why);
    // Who has its share vanishes too: nobody is left, and nothing moves any more.
    agent.vanished.insert("vm");
    agent.now += Duration::from_secs(90);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    agent.vanished.clear();
    agent.activate();
    agent.now += Duration::from_secs(61);
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED);
    assert_eq!(agent.alarms(), [] as [&str; 0]);
}

/// An agent that starts while a service is gone never saw it; that it had weight in force is enough to know.
#[test]
fn a_service_that_vanished_before_an_agent_started_is_missed_all_the_same() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.watch = weir_agent::fallback::Watch::default();
    agent.vanished.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(1);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
}

/// Each time that it comes back it is dead: then less and less often.
#[test]
fn it_does_not_flap() {
    let mut agent = Agent::new(plan(&[("vm", None)], 10));
    agent.activate();
    let mut changes = 0;
    let mut before = agent.weights();
    for _ in 0..4 * 3_600 {
        if agent.quarter(100, &["eks"]) || agent.now.subsec_millis() == 0 {
            agent.activate();
        }
        if agent.weights() != before {
            changes += 1;
            before = agent.weights();
        }
    }
    // Down after 1 s, back after 10, 20, 40, ... seconds: nine times in an hour.
    assert_eq!(changes, 17);
}

/// What failed long ago says nothing of now: neither of who is to take a share, nor of who comes back into use.
#[test]
fn old_failures_are_no_evidence() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    for _ in 0..28 {
        agent.quarter(100, &["vm"]);
    }
    for _ in 0..4 * 31 {
        agent.quarter(0, &[]);
    }
    for _ in 0..8 {
        *agent.sent.entry(backend("eks")).or_default() += 20;
        *agent.down.entry(backend("eks")).or_default() += 20;
        agent.quarter(0, &[]);
    }
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
}

/// A share does not wait on who is dead while the backend that it is of is well.
#[test]
fn a_dead_refuge_is_left() {
    let mut agent = Agent::new(plan(&[("vm", None)], 3_600));
    agent.activate();
    agent.unavailable.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(2);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    agent.unavailable = BTreeSet::from(["vm"]);
    agent.now += Duration::from_secs(90);
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED);
}

/// A label that nobody of us can have written shuts out no agent.
#[test]
fn a_label_of_somebody_is_no_word() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    let eks = &blake3::hash(b"eks").to_hex()[..6];
    let lab = &blake3::hash(b"lab").to_hex()[..6];
    let vm = &blake3::hash(b"vm").to_hex()[..6];
    let now = agent.at().1.as_millisecond() + 5;
    let later = now + 2 * 365 * 86_400_000;
    for label in [
        // in two years, and to a backend that the table does not name
        format!("{eks}{vm}.{later}"),
        format!("{eks}{lab}.{now}"),
        "up".to_owned(),
        "x.y".to_owned(),
        format!("{eks}.1"),
    ] {
        agent.live[0].0.labels.insert(FALLEN.to_owned(), label.clone());
        agent.activate();
        assert_eq!(agent.weights(), AS_PLANNED, "{label}");
    }
}

/// A commit that gives the one that is down more than its refuge can take, once it resolves again, gives it back.
#[test]
fn a_later_commit_gives_no_refuge_more_than_it_can_take() {
    let mut agent = Agent::new(plan(&[("vm", Some(50))], 60));
    let shares = |agent: &mut Agent, eks: u32, lab: u32| {
        let item = agent.plan.items.values_mut().next().unwrap();
        let mut next = Item::clone(item);
        let weights = &mut next.routes[0].weights;
        *weights = BTreeMap::from([(backend("eks"), share(eks)), (backend("lab"), share(lab))]);
        next.digest = item_digest(&next);
        *item = Arc::new(next);
    };
    shares(&mut agent, 40, 60);
    agent.activate();
    while !agent.quarter(100, &["eks"]) {}
    agent.activate();
    assert_eq!(agent.weights(), [("eks", 0), ("lab", 60), ("vm", 40)]);
    shares(&mut agent, 70, 30);
    agent.activate();
    assert_eq!(agent.weights(), [("eks", 70), ("lab", 30), ("vm", 0)]);
}

/// While a new item is held, the one that is in force keeps its own table.
#[test]
fn what_is_in_force_keeps_its_table_while_a_new_item_is_held() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    let before = Arc::clone(agent.item());
    agent.unavailable.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(2);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    // No fallback any more, and it cannot be applied: `eks` does not resolve.
    let item = agent.plan.items.values_mut().next().unwrap();
    let mut next = Item::clone(item);
    next.fallback.clear();
    next.routes[0].weights = BTreeMap::from([(backend("eks"), share(100))]);
    next.digest = item_digest(&next);
    *item = Arc::new(next);
    let fallen = look(
        &agent.plan,
        &agent.memory,
        (&agent.live, &agent.services()),
        &mut agent.watch.clone(),
        agent.at(),
    );
    agent.memory.fallen = fallen;
    assert_eq!(
        driven(&before, &agent.memory).routes[0].weights[&backend("eks")],
        share(0)
    );
}

/// A control plane comes back with an empty store, and sees neither who is down nor who has its share: the share is put back where
/// it was, and not given to the dead.
#[test]
fn a_lost_store_gives_no_share_back_to_the_dead() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    for _ in 0..12 {
        agent.quarter(100, &["eks"]);
    }
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    agent.live.clear();
    agent.unavailable = BTreeSet::from(["eks", "lab", "vm"]);
    agent.now += Duration::from_secs(1);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
}

/// What was decided and never written is nothing to put back: neither who is down nor who should take its share resolves, and the
/// item is put back as it was in force.
#[test]
fn a_lost_store_begins_nothing_that_was_never_written() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    for _ in 0..12 {
        agent.quarter(100, &["eks"]);
    }
    agent.look();
    assert_eq!(agent.weights(), ALL_TO_VM, "decided, and its write is lost");
    agent.live.clear();
    agent.unavailable = BTreeSet::from(["eks", "lab", "vm"]);
    agent.now += Duration::from_secs(1);
    agent.activate();
    assert_eq!(agent.weights(), AS_PLANNED);
    assert!(agent.label().starts_with("up."));
}

/// What an agent of before kept does not say whether it was ever written: its zone's policy does.
#[test]
fn what_was_kept_before_is_asked_of_the_zone() {
    for seen in [true, false] {
        let mut agent = Agent::new(plan(&[("vm", None)], 60));
        agent.activate();
        for _ in 0..12 {
            agent.quarter(100, &["eks"]);
        }
        agent.activate();
        let mut kept = serde_json::to_value(&agent.memory).unwrap();
        let down = kept.pointer_mut("/fallen/checkout/down/eks").unwrap();
        let written = down.as_object_mut().unwrap().remove("written");
        assert_eq!(written, Some(true.into()));
        agent.memory = serde_json::from_value(kept).unwrap();
        assert_eq!(agent.weights(), ALL_TO_VM);
        if seen {
            agent.look();
        }
        agent.live.clear();
        agent.unavailable = BTreeSet::from(["eks", "lab", "vm"]);
        agent.activate();
        assert_eq!(agent.weights(), if seen { ALL_TO_VM } else { AS_PLANNED });
    }
}

/// An ingress that is not listed for some looks takes nothing from who has a share already, and makes nobody a refuge.
#[test]
fn an_ingress_that_blinks_moves_no_share() {
    let mut agent = Agent::new(plan(&[("vm", None)], 60));
    agent.activate();
    agent.unavailable.insert("eks");
    agent.activate();
    agent.now += Duration::from_secs(2);
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
    let written = agent.live.clone();
    // Its own state says that it is well by now; its counters, which count nothing, say nothing else.
    agent.unavailable.clear();
    for _ in 0..20 {
        agent.no_ingress = match agent.no_ingress.is_empty() {
            true => ["vm"].into(),
            false => [].into(),
        };
        agent.now += Duration::from_secs(1);
        agent.activate();
        assert_eq!(agent.weights(), ALL_TO_VM);
    }
    assert_eq!(agent.live, written);
    // To somebody without a way nothing is sent to begin with.
    let mut other = Agent::new(plan(&[("vm", None)], 60));
    other.activate();
    other.no_ingress.insert("vm");
    other.unavailable.insert("eks");
    other.activate();
    other.now += Duration::from_secs(2);
    other.activate();
    assert_eq!(other.weights(), AS_PLANNED);
}
