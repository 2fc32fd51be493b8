//! The loop in its own time: what starts an activation, what is kept on disk first, what is never taken. The zone is a
//! fake that answers at once; the clock is tokio's, paused.

mod contest;
mod doors;
mod gone;
mod pins;
mod proofs;
mod terms;
mod torn;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_agent::conclude::{Happened, conclude};
use weir_agent::decide::Decision;
use weir_agent::take::Memory;
use weir_drivers::{Observed, Sighting};
use weir_model::SplitName;
use weir_planner::{Coverage, Evidence, Generation, Item, ItemState, Proof, SecondWriter, Verdict, ZonePlan};
use weir_render::Held;

use zone::{Running, away, fake, plan, with_fallback};

#[tokio::test(start_paused = true)]
async fn a_plan_is_on_disk_before_it_is_acted_upon_and_outlives_the_agent() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [] as [u64; 0], "without a plan nothing is touched");
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_millis(1)).await;
    assert_eq!(agent.steps(), ["introduce"]);
    assert_eq!(agent.current.borrow().facts.items[0].state, ItemState::Applied);
    agent.pass(Duration::from_millis(200)).await;
    assert_eq!(agent.puts(), [3]);
    assert_eq!(agent.current.borrow().facts.items[0].state, ItemState::Proven);
    // An older one comes, and one of the same generation that is another.
    agent.offers.send(plan(2, "ams")).await.unwrap();
    agent.offers.send(plan(3, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(agent.puts(), [3]);
    assert_eq!(agent.current.borrow().facts.highest, Generation(3));
    agent.stop().await;

    // The control plane lost its store meanwhile, and no backend resolves yet. Nobody offers a plan.
    {
        let mut fake = fake.lock().unwrap();
        fake.store.clear();
        fake.resolves.clear();
    }
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_millis(1)).await;
    assert_eq!(agent.puts(), [3, 3], "what this zone had is put back at once");
    agent.stop().await;

    // A damaged plan is set aside; the agent remembers how far it was, and waits for the coordinator.
    std::fs::write(dir.path().join("plan.json"), "half").unwrap();
    fake.lock().unwrap().store.clear();
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [3, 3]);
    agent.offers.send(plan(2, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert!(agent.current.borrow().plan.is_none());
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_millis(1)).await;
    assert_eq!(agent.puts(), [3, 3, 3]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_lost_its_store_has_its_policies_back_within_a_second() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(30)).await;
    assert_eq!(agent.puts(), [1]);

    // Between two looks: killed and back, another process, empty.
    let lost = Instant::now();
    {
        let mut fake = fake.lock().unwrap();
        fake.instance += 1;
        fake.store.clear();
    }
    agent.pass(Duration::from_secs(10)).await;
    let (_, back) = agent.fake.lock().unwrap().puts[1];
    assert!(back - lost <= Duration::from_secs(1), "{:?}", back - lost);

    // Away for a while, then back and empty.
    agent.fake.lock().unwrap().away = true;
    agent.pass(Duration::from_secs(20)).await;
    assert!(agent.current.borrow().facts.unreadable.is_some());
    assert_eq!(
        agent.current.borrow().facts.items[0].state,
        ItemState::Proven,
        "its proxies run on"
    );
    let returned = Instant::now();
    {
        let mut fake = fake.lock().unwrap();
        fake.away = false;
        fake.store.clear();
    }
    agent.pass(Duration::from_secs(10)).await;
    let (_, back) = agent.fake.lock().unwrap().puts[2];
    assert!(
        back - returned <= Duration::from_millis(250),
        "{:?}",
        back - returned
    );
    assert_eq!(agent.puts(), [1, 1, 1]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_item_is_held_until_its_backend_resolves_and_goes_within_a_second_then() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.lock().unwrap().resolves.remove("ams");
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    agent.offers.send(plan(2, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(30)).await;
    assert_eq!(agent.puts(), [1]);
    assert!(
        matches!(&agent.current.borrow().facts.items[0].state, ItemState::Held(why) if why.contains("ams"))
    );
    // What is in force stays in force, also when its object is lost.
    agent.fake.lock().unwrap().store.clear();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [1, 1]);
    agent.fake.lock().unwrap().resolves.insert("ams");
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [1, 1, 2]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_settled_zone_is_looked_at_every_five_seconds_and_at_once_on_sighup() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(2)).await;
    agent.fake.lock().unwrap().observed.clear();
    agent.pass(Duration::from_secs(60)).await;
    assert_eq!(agent.fake.lock().unwrap().observed.len(), 12);
    agent.fake.lock().unwrap().observed.clear();
    agent.now.send(()).await.unwrap();
    agent.pass(Duration::from_millis(1)).await;
    assert_eq!(agent.fake.lock().unwrap().observed.len(), 1);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn callers_that_tell_nothing_hold_up_no_plan() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(with_fallback(plan(1, "fra"))).await.unwrap();
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.puts(), [1]);
    fake.lock().unwrap().mute.send_replace(true);
    // Counters are asked for four times a second: by now somebody waits for them.
    agent.pass(Duration::from_millis(500)).await;
    agent.offers.send(with_fallback(plan(2, "ams"))).await.unwrap();
    agent.pass(Duration::from_millis(200)).await;
    assert_eq!(agent.puts(), [1, 2]);
    fake.lock().unwrap().mute.send_replace(false);
    agent.stop().await;
}

/// A plan of no split.
fn empty_plan(generation: u64) -> ZonePlan {
    ZonePlan {
        items: BTreeMap::new(),
        ..plan(generation, "fra")
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_away_is_reported_until_it_is_gone() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    fake.lock().unwrap().keeps = true;
    agent.offers.send(empty_plan(4)).await.unwrap();
    agent.pass(Duration::from_secs(5)).await;
    let left = agent.current.borrow().facts.items.clone();
    assert_eq!(
        left.len(),
        1,
        "the split is gone from the plan, and not yet from the zone"
    );
    assert_eq!(left[0].split.as_str(), "checkout");
    assert_eq!(left[0].state, ItemState::Applied);
    agent.pass(Duration::from_secs(35)).await;
    let left = agent.current.borrow().facts.items.clone();
    assert_eq!(left.len(), 1);
    assert_eq!(
        left[0].state,
        ItemState::Failed("DELETE weir-checkout: 403".to_owned())
    );
    fake.lock().unwrap().keeps = false;
    agent.pass(Duration::from_secs(5)).await;
    assert!(agent.current.borrow().facts.items.is_empty());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_keeps_a_new_plan_out_and_the_old_one_in_force() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    // Nothing can be renamed over a directory that is not empty.
    let kept = std::fs::read(dir.path().join("plan.json")).unwrap();
    std::fs::remove_file(dir.path().join("plan.json")).unwrap();
    std::fs::create_dir_all(dir.path().join("plan.json/full")).unwrap();
    agent.offers.send(plan(4, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [3]);
    let told = agent.current.borrow().refused.clone().unwrap();
    assert!(told.starts_with("plan 4 cannot be kept on disk: "), "{told}");
    // The control plane loses its store meanwhile: the plan that is held is put back.
    fake.lock().unwrap().store.clear();
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [3, 3]);
    std::fs::remove_dir_all(dir.path().join("plan.json")).unwrap();
    std::fs::write(dir.path().join("plan.json"), kept).unwrap();
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [3, 3, 4]);
    assert_eq!(agent.current.borrow().refused, None);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn how_far_an_agent_was_outlives_a_damaged_plan_that_changed_nothing_here() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(empty_plan(3)).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    agent.offers.send(empty_plan(7)).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    agent.stop().await;
    std::fs::write(dir.path().join("plan.json"), "half").unwrap();
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(5, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [] as [u64; 0], "5 is older than 7, which was taken");
    agent.stop().await;
}

/// Anybody who reaches the control plane can write a label.
#[tokio::test(start_paused = true)]
async fn a_label_with_an_absurd_generation_does_not_shut_out_plans_for_ever() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    let ours = fake.lock().unwrap().store.clone();
    fake.lock().unwrap().store[0]
        .labels
        .insert("weir.dev/generation".to_owned(), u64::MAX.to_string());
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.current.borrow().facts.highest, Generation(3));
    assert!(matches!(
        agent.current.borrow().facts.items[0].state,
        ItemState::Held(_)
    ));
    fake.lock().unwrap().store = ours;
    agent.offers.send(plan(4, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [3, 4]);
    agent.stop().await;
}

/// While the control plane is away no Envoy hears of an anchor: what was waited before counts for nothing.
#[tokio::test(start_paused = true)]
async fn the_waits_for_an_anchor_begin_again_after_an_outage() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.lock().unwrap().sighting = Sighting::default();
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(4)).await;
    assert_eq!(agent.steps(), ["introduce"]);
    fake.lock().unwrap().away = true;
    agent.pass(Duration::from_secs(30)).await;
    fake.lock().unwrap().away = false;
    agent.pass(Duration::from_secs(4)).await;
    assert_eq!(agent.steps(), ["introduce"], "nobody may have it yet");
    agent.pass(Duration::from_secs(3)).await;
    assert_eq!(agent.steps(), ["introduce", "put"]);
    // The same on the way out.
    agent.offers.send(empty_plan(2)).await.unwrap();
    agent.pass(Duration::from_secs(30)).await;
    fake.lock().unwrap().away = true;
    agent.pass(Duration::from_secs(60)).await;
    fake.lock().unwrap().away = false;
    agent.pass(Duration::from_secs(34)).await;
    assert_eq!(agent.steps(), ["introduce", "put", "withdraw"]);
    agent.pass(Duration::from_secs(5)).await;
    assert_eq!(agent.steps(), ["introduce", "put", "withdraw", "delete"]);
    agent.stop().await;
}

/// The first policy of a split and its removal, by what proxies show of the anchor.
#[tokio::test(start_paused = true)]
async fn a_split_comes_and_goes_by_way_of_its_anchor() {
    let everyone = |held| Sighting {
        held: Some(held),
        complete: true,
    };
    let (everybody, nobody) = (everyone(Held::Alone), Sighting::default());
    let some = Sighting {
        complete: false,
        ..everybody
    };
    // What is seen; whole policy and removal not before, and at the latest then, in seconds after the step before.
    for (sighting, whole, gone) in [
        (everybody, (0.0, 0.2), (31.0, 33.0)),
        (some, (5.0, 6.1), (36.0, 38.0)),
        (nobody, (5.0, 6.1), (36.0, 38.0)),
        (everyone(Held::Besides), (0.0, 0.2), (151.0, 153.0)),
        (everyone(Held::No), (120.0, 121.1), (151.0, 153.0)),
    ] {
        let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
        fake.lock().unwrap().sighting = sighting;
        let agent = Running::start(&dir, &fake);
        agent.offers.send(plan(1, "fra")).await.unwrap();
        agent.pass(Duration::from_secs(125)).await;
        assert_eq!(agent.steps(), ["introduce", "put"], "{sighting:?}");
        assert_eq!(agent.current.borrow().facts.items[0].state, ItemState::Proven);
        agent.offers.send(empty_plan(2)).await.unwrap();
        agent.pass(Duration::from_secs(160)).await;
        assert_eq!(
            agent.steps(),
            ["introduce", "put", "withdraw", "delete"],
            "{sighting:?}"
        );
        let at: Vec<Instant> = fake.lock().unwrap().steps.iter().map(|(_, at)| *at).collect();
        for (from, to, (least, most)) in [(0, 1, whole), (2, 3, gone)] {
            let took = (at[to] - at[from]).as_secs_f64();
            assert!(
                (least..=most).contains(&took),
                "{sighting:?}: step {to} {took} s after {from}"
            );
        }
        agent.stop().await;
    }
}

/// A proxy that does not follow gets anchor and weights at once when it does, and loses requests: that it cannot be looked at for
/// a moment is no reason to go on.
#[tokio::test(start_paused = true)]
async fn who_was_seen_not_to_follow_is_waited_for_though_nobody_can_be_looked_at() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let see = |held, complete| fake.lock().unwrap().sighting = Sighting { held, complete };
    see(Some(Held::No), true);
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    see(None, false);
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.steps(), ["introduce"]);
    see(Some(Held::Alone), true);
    agent.pass(Duration::from_millis(1_100)).await;
    assert_eq!(agent.steps(), ["introduce", "put"]);
    agent.stop().await;
}

/// Between two looks of Kuma, what goes and comes is the same as before to it.
#[tokio::test(start_paused = true)]
async fn what_is_gone_is_not_made_anew_before_kuma_has_seen_that() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    agent.offers.send(empty_plan(2)).await.unwrap();
    while agent.steps().last() != Some(&"delete") {
        agent.pass(Duration::from_millis(50)).await;
    }
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(
        agent.steps(),
        ["introduce", "put", "withdraw", "delete", "introduce", "put"]
    );
    let at: Vec<Instant> = fake.lock().unwrap().steps.iter().map(|(_, at)| *at).collect();
    let took = (at[4] - at[3]).as_secs_f64();
    assert!((3.0..4.5).contains(&took), "made anew {took} s after it went");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn killed_between_the_two_writes_an_agent_goes_on_from_there() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    fake.lock().unwrap().sighting = Sighting::default();
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.steps(), ["introduce"]);
    agent.task.abort();
    agent.pass(Duration::from_secs(60)).await;

    // Another plan with other weights meanwhile: the anchor is the same one.
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(2, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(4)).await;
    assert!(
        agent.puts().is_empty(),
        "what it has not seen for long it does not trust"
    );
    assert!(
        agent.current.borrow().facts.items[0].state != ItemState::Proven,
        "the driver calls it exact, and it is not in force"
    );
    agent.pass(Duration::from_secs(3)).await;
    assert_eq!(agent.puts(), [2]);
    assert_eq!(agent.current.borrow().facts.items[0].state, ItemState::Proven);

    // On the way out: killed, started again, and the split is wanted again. Its anchor is still there.
    agent.offers.send(empty_plan(3)).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    agent.task.abort();
    agent.pass(Duration::from_secs(1)).await;
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(30)).await;
    assert!(!agent.steps().contains(&"delete"), "{:?}", agent.steps());
    agent.offers.send(plan(4, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [2, 4]);
    agent.stop().await;
}
