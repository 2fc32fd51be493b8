//! Break-glass: what is pinned at a host holds there, and nothing but `unpin` ends it.

mod back;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use weir_agent::pin::elsewhere::shown;
use weir_agent::pin::{self, By, NotPinned, Pins};
use weir_agent::store::Store;
use weir_agent::take::Memory;
use weir_drivers::Observed;
use weir_model::{DnsLabel, RouteName, SplitName};
use weir_planner::{Generation, ItemState, ZonePlan};
use weir_render::weights_of;

use super::zone::{Running, fake, plan};

fn checkout() -> SplitName {
    SplitName::new("checkout").unwrap()
}

pub(crate) fn by(agent: &str, second: i64) -> By {
    By {
        agent: DnsLabel::new(agent).unwrap(),
        who: "alice".to_owned(),
        host: "vm-1".to_owned(),
        reason: "ams is dark".to_owned(),
        at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
    }
}

/// What the command does, but for its look at the control plane.
pub(crate) fn pin(dir: &Path, agent: &str, second: i64, weights: &str) -> Result<(), NotPinned> {
    let store = Store::new(dir);
    let (plan, memory) = (store.peek_plan().unwrap(), store.peek_memory().unwrap());
    let mut pins = known(&store, &memory.pins);
    let weights = pin::weights(weights).unwrap();
    pins.pin(
        &plan.unwrap(),
        &memory,
        &checkout(),
        None,
        &weights,
        by(agent, second),
    )?;
    store.keep_pins(&pins).unwrap();
    Ok(())
}

fn known(store: &Store, last: &Pins) -> Pins {
    pin::read(store.pins().map_err(|e| e.to_string()), last).unwrap_or_else(|_| last.clone())
}

pub(crate) fn unpin(dir: &Path) {
    let store = Store::new(dir);
    let mut pins = known(&store, &store.peek_memory().unwrap().pins);
    assert!(pins.unpin(&checkout()).is_some());
    store.keep_pins(&pins).unwrap();
}

/// The next plan, whose item did not change.
fn same_item(generation: u64, of: &ZonePlan) -> ZonePlan {
    ZonePlan {
        items: of.items.clone(),
        ..plan(generation, "fra")
    }
}

impl Running {
    /// Weights of the default route as the control plane has them, and the pin's label.
    fn in_force(&self) -> (String, Option<String>) {
        let fake = self.fake.lock().unwrap();
        let [object] = fake.store.as_slice() else {
            panic!("{} objects", fake.store.len());
        };
        let routes = weights_of(&object.spec).unwrap();
        let told: Vec<String> = routes[0]
            .iter()
            .filter(|(_, weight)| weight.get() > 0)
            .map(|(labels, weight)| format!("in-{} {weight}", labels["kuma.io/zone"]))
            .collect();
        (told.join(", "), object.pinned().map(str::to_owned))
    }

    fn state(&self) -> ItemState {
        self.current.borrow().facts.items[0].state.clone()
    }

    fn notes(&self) -> String {
        self.current.borrow().notes.join("\n")
    }
}

/// An agent that has plan 1 in force, everything to fra.
async fn settled(dir: &TempDir) -> Running {
    let agent = Running::start(dir, &fake());
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.puts(), [1]);
    agent
}

#[tokio::test(start_paused = true)]
async fn a_pin_holds_against_newer_plans_and_restarts_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let agent = settled(&dir).await;
    agent.pass(Duration::from_secs(20)).await;
    pin(dir.path(), "fra-1", 0, "in-fra=20,in-ams=80").unwrap();
    agent.pass(Duration::from_millis(1_100)).await;
    let pinned = (
        "in-ams 80, in-fra 20".to_owned(),
        Some("fra-1.1800000000".to_owned()),
    );
    assert_eq!(agent.in_force(), pinned, "within a second");
    assert_eq!(agent.puts(), [1, 1]);
    assert_eq!(agent.state(), ItemState::Proven);
    let fact = agent.current.borrow().facts.items[0].clone();
    assert_eq!(fact.pin.unwrap().who, "alice");
    assert_ne!(fact.digest, plan(1, "fra").items[&checkout()].digest);

    // A plan that changes nothing here, and one that does: both are taken and kept.
    agent.offers.send(same_item(2, &plan(1, "fra"))).await.unwrap();
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.current.borrow().report().generation, Generation(2));
    assert_eq!(agent.notes(), "");
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    let report = agent.current.borrow().report();
    assert_eq!((report.generation, report.refused), (Generation(3), None));
    assert_eq!(report.facts.highest, Generation(3));
    assert!(
        report.notes[0].contains("plan 3 has it at generation 3, which waits"),
        "{:?}",
        report.notes
    );
    assert_eq!(agent.in_force(), pinned);
    assert_eq!(agent.puts(), [1, 1], "nothing was written for them");

    // Killed, and the control plane loses its store with no backend to be seen: the pinned weights come back.
    let fake = std::sync::Arc::clone(&agent.fake);
    agent.task.abort();
    {
        let mut fake = fake.lock().unwrap();
        fake.store.clear();
        fake.resolves.clear();
    }
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.in_force(), pinned);
    assert_eq!(agent.puts(), [1, 1, 1]);
    // A plan that takes the split away waits as well.
    agent
        .offers
        .send(ZonePlan {
            items: BTreeMap::new(),
            ..plan(4, "fra")
        })
        .await
        .unwrap();
    agent.pass(Duration::from_secs(60)).await;
    assert_eq!(agent.in_force(), pinned);
    assert!(
        agent.notes().contains("plan 4 takes it away"),
        "{}",
        agent.notes()
    );
    agent.offers.send(plan(5, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(2)).await;

    fake.lock().unwrap().resolves.extend(["fra", "ams"]);
    fake.lock().unwrap().steps.clear();
    unpin(dir.path());
    agent.pass(Duration::from_millis(1_100)).await;
    assert_eq!(agent.in_force(), ("in-fra 100".to_owned(), None));
    assert_eq!(agent.steps(), ["put"], "back in one write");
    assert_eq!(agent.puts(), [1, 1, 1, 5]);
    assert_eq!(
        (agent.current.borrow().facts.items[0].pin.clone(), agent.notes()),
        (None, String::new())
    );
    agent.pass(Duration::from_secs(30)).await;
    assert_eq!(agent.puts(), [1, 1, 1, 5]);
    agent.stop().await;
}

/// Weights that are those of the plan are a pin all the same, and its end is seen by the others.
#[tokio::test(start_paused = true)]
async fn a_pin_to_what_is_in_force_marks_the_policy_and_its_end_takes_the_mark_away() {
    let dir = tempfile::tempdir().unwrap();
    let agent = settled(&dir).await;
    pin(dir.path(), "fra-1", 0, "in-fra=100").unwrap();
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.in_force().1.as_deref(), Some("fra-1.1800000000"));
    // Pinned anew: the first pin is over.
    pin(dir.path(), "fra-1", 7, "in-ams=100").unwrap();
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(
        agent.in_force(),
        ("in-ams 100".to_owned(), Some("fra-1.1800000007".to_owned()))
    );
    unpin(dir.path());
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.in_force(), ("in-fra 100".to_owned(), None));
    assert_eq!(agent.puts().len(), 4);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_other_agents_of_a_zone_leave_a_pinned_policy_alone() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = settled(&here).await;
    let two = Running::start(&there, &one.fake);
    two.offers.send(plan(1, "fra")).await.unwrap();
    one.pass(Duration::from_secs(5)).await;
    pin(here.path(), "fra-1", 0, "in-ams=100").unwrap();
    one.pass(Duration::from_secs(7)).await;
    let pinned = ("in-ams 100".to_owned(), Some("fra-1.1800000000".to_owned()));
    assert_eq!(one.in_force(), pinned);
    // The other is far ahead, this one is cut off.
    two.offers.send(plan(7, "fra")).await.unwrap();
    one.pass(Duration::from_secs(60)).await;
    assert_eq!(one.in_force(), pinned);
    assert_eq!(one.puts(), [1, 1], "written once, and nobody fights");
    let ItemState::Held(why) = two.state() else {
        panic!("{:?}", two.state());
    };
    assert!(
        why.contains("weir-checkout is pinned by agent fra-1 of this zone since 2027-01-15T08:00:00Z"),
        "{why}"
    );
    assert_eq!(one.state(), ItemState::Proven);

    // The store is lost: whoever comes first, it is pinned in the end, and that is the end.
    for _ in 0..3 {
        one.fake.lock().unwrap().store.clear();
        one.fake.lock().unwrap().instance += 1;
        one.pass(Duration::from_secs(10)).await;
        assert_eq!(one.in_force(), pinned);
        let writes = one.puts().len();
        one.pass(Duration::from_secs(60)).await;
        assert_eq!(one.puts().len(), writes);
    }
    // A plan without the split does not take it away from under the pin.
    two.offers
        .send(ZonePlan {
            items: BTreeMap::new(),
            ..plan(8, "fra")
        })
        .await
        .unwrap();
    one.pass(Duration::from_secs(60)).await;
    assert_eq!(one.in_force(), pinned);
    assert!(matches!(two.state(), ItemState::Held(why) if why.contains("is pinned by agent fra-1")));
    two.offers.send(plan(9, "fra")).await.unwrap();
    one.offers.send(plan(9, "fra")).await.unwrap();
    one.pass(Duration::from_secs(5)).await;

    // A second pin of the same split, by one who could not see the first: the first holds.
    pin(there.path(), "fra-2", 3, "in-fra=50,in-ams=50").unwrap();
    one.pass(Duration::from_secs(30)).await;
    assert_eq!(one.in_force(), pinned);
    assert!(matches!(two.state(), ItemState::Held(why) if why.contains("agent fra-1")));
    unpin(there.path());
    one.pass(Duration::from_secs(5)).await;

    let writes = one.puts().len();
    unpin(here.path());
    one.pass(Duration::from_secs(10)).await;
    assert_eq!(one.in_force(), ("in-fra 100".to_owned(), None));
    assert_eq!(one.puts().len(), writes + 1, "back in one write");
    assert_eq!((one.state(), two.state()), (ItemState::Proven, ItemState::Proven));
    one.stop().await;
    two.stop().await;
}

/// What another agent of the zone pinned is read from its policy, as that agent has it itself: it is given so at this one's gateways.
#[tokio::test(start_paused = true)]
async fn the_pin_of_another_host_is_seen_as_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let one = settled(&dir).await;
    pin(dir.path(), "fra-1", 0, "in-fra=20,in-ams=80").unwrap();
    one.pass(Duration::from_secs(2)).await;
    let made = Store::new(dir.path()).peek_memory().unwrap();
    let made = Arc::clone(&made.pins.of(&checkout()).unwrap().item);
    // Whoever sees it has a newer plan by now, and what was in force before.
    let seen = |memory: &Memory, plan: &ZonePlan| {
        let fake = one.fake.lock().unwrap();
        let ours = fake.store.iter();
        let ours = ours.map(|object| (object.clone(), Generation(1))).collect();
        let observed = Observed {
            ours,
            ..Observed::default()
        };
        shown(plan, memory, &observed).pinned
    };
    let was = plan(1, "fra");
    let mut memory = Memory::default();
    memory.applied.extend(was.items.clone());
    let there = seen(&memory, &plan(7, "ams"));
    assert_eq!(there[&checkout()].label, "fra-1.1800000000");
    assert_eq!(there[&checkout()].item, Some(made));
    // Made of something that it does not know: it is said that it is pinned, and not how.
    let mut other = plan(7, "ams");
    let item = Arc::make_mut(other.items.get_mut(&checkout()).unwrap());
    item.retiring.insert("in-par".parse().unwrap());
    assert_eq!(seen(&Memory::default(), &other)[&checkout()].item, None);
    // What somebody ended there is nobody else's.
    memory.pins.end(&checkout(), "fra-1.1800000000".to_owned());
    assert_eq!(seen(&memory, &was), BTreeMap::new());
    one.stop().await;
}

/// What another agent's newer plan removed is told of by the policies that stay, and by none more once a pin has taken their
/// place without that: then whoever missed the plan would bring it back.
#[tokio::test(start_paused = true)]
async fn a_pin_goes_on_telling_of_the_newer_plan_in_whose_place_it_is() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = settled(&here).await;
    let two = Running::start(&there, &one.fake);
    two.offers.send(plan(3, "ams")).await.unwrap();
    one.pass(Duration::from_secs(10)).await;
    assert_eq!(one.puts(), [1, 3], "this one missed the plan");
    let word = || {
        let fake = one.fake.lock().unwrap();
        fake.store[0].labels.get("weir.dev/plan").cloned()
    };
    assert_eq!(word(), None, "its own generation tells");

    pin(here.path(), "fra-1", 0, "in-fra=20,in-ams=80").unwrap();
    one.pass(Duration::from_secs(10)).await;
    assert_eq!(one.in_force().0, "in-ams 80, in-fra 20");
    assert_eq!(one.puts(), [1, 3, 1]);
    assert_eq!(word().as_deref(), Some("3"));
    unpin(here.path());
    one.pass(Duration::from_secs(70)).await;
    assert_eq!(one.in_force(), ("in-ams 100".to_owned(), None), "what is newest");
    assert_eq!((one.puts().last(), word()), (Some(&3), None));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_pin_of_a_host_that_is_gone_is_ended_by_another() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = settled(&here).await;
    pin(here.path(), "fra-1", 0, "in-ams=100").unwrap();
    one.pass(Duration::from_secs(2)).await;
    let two = Running::start(&there, &one.fake);
    one.stop().await;
    two.offers.send(plan(2, "fra")).await.unwrap();
    two.pass(Duration::from_secs(10)).await;
    assert!(matches!(two.state(), ItemState::Held(why) if why.contains("--gone fra-1.1800000000")));
    let store = Store::new(there.path());
    let mut pins = known(&store, &Pins::default());
    pins.end(&checkout(), "fra-1.1800000000".to_owned());
    store.keep_pins(&pins).unwrap();
    two.pass(Duration::from_secs(2)).await;
    assert_eq!(two.in_force(), ("in-fra 100".to_owned(), None));
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pin_to_what_does_not_resolve_is_held_and_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let agent = settled(&dir).await;
    agent.fake.lock().unwrap().resolves.remove("ams");
    pin(dir.path(), "fra-1", 0, "in-ams=100").unwrap();
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(agent.in_force(), ("in-fra 100".to_owned(), None));
    assert_eq!(agent.puts(), [1]);
    assert!(matches!(agent.state(), ItemState::Held(why) if why.contains("ams")));
    agent.fake.lock().unwrap().resolves.insert("ams");
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.in_force().0, "in-ams 100");
    // The way back is held in the same way, and what is pinned stays marked until it is taken.
    agent.fake.lock().unwrap().resolves.remove("fra");
    unpin(dir.path());
    agent.offers.send(plan(2, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(
        agent.in_force(),
        ("in-ams 100".to_owned(), Some("fra-1.1800000000".to_owned()))
    );
    agent.fake.lock().unwrap().resolves.insert("fra");
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.in_force(), ("in-fra 100".to_owned(), None));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_pin_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let agent = settled(&dir).await;
    for (text, why) in [
        ("in-fra", "`in-fra` is not BACKEND=PER CENT, as in vm=80,eks=20"),
        (
            "in-fra=60,in-ams=30",
            "the weights add up to 90.00 %, not to 100 %",
        ),
        (
            "in-fra=100,in-ams=0.01",
            "the weights add up to 100.01 %, not to 100 %",
        ),
        ("in-fra=50,in-fra=50", "in-fra is named twice"),
    ] {
        assert_eq!(pin::weights(text).unwrap_err(), why);
    }
    for text in [
        "",
        "in-fra=-1,in-ams=101",
        "in-fra=99.999,in-ams=0.001",
        "IN=100",
        "in-fra=all",
    ] {
        assert!(pin::weights(text).is_err(), "{text}");
    }
    let error = pin(dir.path(), "fra-1", 0, "in-par=100").unwrap_err().to_string();
    assert!(
        error.starts_with("in-par is no backend of split checkout"),
        "{error}"
    );
    assert!(error.contains("its backends are in-ams, in-fra"), "{error}");
    let store = Store::new(dir.path());
    let (plan, memory) = (store.peek_plan().unwrap(), store.peek_memory().unwrap());
    let plan = plan.unwrap();
    let mut pins = Pins::default();
    let whole = pin::weights("in-fra=100").unwrap();
    let cart = SplitName::new("cart").unwrap();
    let error = pins
        .pin(&plan, &memory, &cart, None, &whole, by("fra-1", 0))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "this agent holds no split cart; it holds checkout"
    );
    let beta = RouteName::new("beta").unwrap();
    let error = pins
        .pin(&plan, &memory, &checkout(), Some(&beta), &whole, by("fra-1", 0))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "split checkout has no route beta; it has default"
    );
    assert!(pins.is_empty());
    assert!(!dir.path().join("pins.json").exists());
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.puts(), [1]);
    agent.stop().await;
}
