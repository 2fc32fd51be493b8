//! Two agents of a zone drive one gateway, and somebody pins a split on the host of one of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_agent::gateways::{Told, Wanted};
use weir_model::BasisPoints;
use weir_planner::{Item, Plan, ZonePlan, item_digest};
use weir_sandbox::kong::Kong;

use super::ahead::{share, zone_plan};
use super::database;
use super::stage::*;

const LABEL: &str = "fra-1.1800000000";

/// The plan's only split as somebody pinned it: so many per cent to `vm`.
fn pinned(plan: &ZonePlan, vm: u32) -> Arc<Item> {
    let mut item = Item::clone(&plan.items[&name("basket")]);
    for (backend, weight) in &mut item.routes[0].weights {
        let share = if backend.as_str() == "vm" { vm } else { 100 - vm };
        *weight = BasisPoints::new(share * 100).unwrap();
    }
    item.digest = item_digest(&item);
    Arc::new(item)
}

/// What an agent wants that knows of the pin: as its own, or as its control plane shows it.
fn with_pin(plan: &Arc<ZonePlan>, item: &Arc<Item>, own: bool) -> Arc<Wanted> {
    let items = [(item.split.clone(), Arc::clone(item))].into();
    let mut wanted = wanted(plan, items, BTreeSet::from([item.split.clone()]));
    wanted.pins = [(item.split.clone(), LABEL.to_owned())].into();
    let known = BTreeSet::from([LABEL.to_owned()]);
    match own {
        true => wanted.sight.own = known,
        false => (wanted.sight.looked, wanted.sight.in_force) = (Some(Instant::now()), known),
    }
    Arc::new(wanted)
}

/// The same split without a pin, by an agent whose look at its control plane showed none.
fn without_pin(plan: &Arc<ZonePlan>, looked: Instant) -> Arc<Wanted> {
    let mut wanted = wanted(plan, plan.items.clone(), BTreeSet::new());
    (wanted.sight.looked, wanted.sight.steady) = (Some(looked), looked.checked_sub(Duration::from_secs(30)));
    Arc::new(wanted)
}

async fn held(agent: &mut Agent) {
    let told = agent.until("held", |told| {
        let doors = told.doors.values().flat_map(|doors| doors.values());
        doors.filter_map(|door| door.fact.held.as_ref()).count() == 1
    });
    let told = told.await;
    let held = told.doors[&name("basket")][&edge()].fact.held.clone().unwrap();
    assert!(
        held.contains("pinned by agent fra-1 of this zone since 2027-01-15T08:00:00Z"),
        "{held}"
    );
    assert!(
        held.contains("weir-agent unpin --split basket --gone fra-1.1800000000"),
        "{held}"
    );
}

async fn holds_until_it_is_over(
    kongs: &[&Kong],
    names: &Arc<Known>,
    of: impl Fn(u32, Option<&Plan>) -> Plan,
) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut one = Agent::start_at(kongs, names, dirs[0].path());
    let mut two = Agent::start_at(kongs, names, dirs[1].path());
    let first = of(80, None);
    let (first, second) = (zone_plan(&first), zone_plan(&of(20, Some(&first))));
    let long_ago = Instant::now();
    for agent in [&mut one, &mut two] {
        agent.link.want.send_replace(Some(without_pin(&first, long_ago)));
        agent.exact(&first).await;
    }
    let item = pinned(&first, 60);
    one.link.want.send_replace(Some(with_pin(&first, &item, true)));
    let gives = |told: &Told| {
        let door = told.doors.get(&name("basket")).map(|doors| &doors[&edge()]);
        door.is_some_and(|door| door.digest == item.digest && exact(&door.fact))
    };
    one.until("pinned", gives).await;
    assert_eq!(share(kongs[0]).await, 60);
    // The other one does not know of it, and has a newer plan: what it finds there it leaves alone.
    two.link.want.send_replace(Some(without_pin(&second, long_ago)));
    held(&mut two).await;
    assert_eq!(share(kongs[0]).await, 60);
    // It sees it: it gives the same, of the same generation, whatever plan it has, and neither writes over the other.
    two.link.want.send_replace(Some(with_pin(&second, &item, false)));
    two.until("pinned by the other", gives).await;
    let since = jiff::Timestamp::now();
    let again = |told: &Told| {
        let door = &told.doors[&name("basket")][&edge()];
        gives(told) && door.fact.proof.as_ref().is_some_and(|proof| proof.at > since)
    };
    one.until("still", again).await;
    two.until("still", again).await;
    assert_eq!(share(kongs[0]).await, 60);
    // Whoever pinned it ends that, and the control plane is away: the other one does not bring it back.
    let mut ended = Wanted::clone(&without_pin(&first, long_ago));
    ended.sight.own = BTreeSet::from([LABEL.to_owned()]);
    one.link.want.send_replace(Some(Arc::new(ended)));
    one.exact(&first).await;
    let waits = two.until("waits", |told| {
        let held = told.doors[&name("basket")][&edge()].fact.held.as_ref();
        held.is_some_and(|held| held.contains("is not there so"))
    });
    waits.await;
    one.exact_since(&first, jiff::Timestamp::now()).await;
    assert_eq!(share(kongs[0]).await, 80);
    // It was no end: a later look still shows it, and it comes back.
    two.link.want.send_replace(Some(with_pin(&second, &item, false)));
    two.until("pinned again", gives).await;
    one.link.want.send_replace(Some(with_pin(&first, &item, true)));
    one.until("by both", gives).await;
    assert_eq!(share(kongs[0]).await, 60);
    // One that begins anew and did not look yet does not know whether it is over, though it gave it itself.
    two.killed().await;
    let mut two = Agent::start_at(kongs, names, dirs[1].path());
    let mut blind = Wanted::clone(&without_pin(&second, long_ago));
    blind.sight.looked = None;
    two.link.want.send_replace(Some(Arc::new(blind)));
    held(&mut two).await;
    assert_eq!(share(kongs[0]).await, 60);
    // The host is gone, and the control plane says that nothing is pinned any more.
    one.killed().await;
    let later = Instant::now() + Duration::from_secs(60);
    two.link.want.send_replace(Some(without_pin(&second, later)));
    two.exact(&second).await;
    assert_eq!(share(kongs[0]).await, 20);
    two.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_another_agent_is_left_alone_and_followed() {
    let (_dir, kong, names) = scene().await;
    let of = |vm: u32, before: Option<&Plan>| plan(BASE, &[split("basket", vm, BASKET)], before);
    holds_until_it_is_over(&[&kong], &names, of).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_another_agent_is_left_alone_and_followed_in_a_database() {
    let (_dir, _database, [kong, other], names) = database::scene().await;
    let of = |vm: u32, before: Option<&Plan>| with_database(&[own_door("basket", vm, BASKET)], before);
    holds_until_it_is_over(&[&kong, &other], &names, of).await;
}

/// Whoever ends his own pin writes over it at once, also where its control plane is away; and no tag of it stays.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_pin_takes_its_tag_away() {
    let (dir, _database, [kong, _other], names) = database::scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let plan = zone_plan(&with_database(&[own_door("basket", 80, BASKET)], None));
    // The same weights: nothing else changes by it.
    let item = pinned(&plan, 80);
    agent.link.want.send_replace(Some(with_pin(&plan, &item, true)));
    agent.exact(&plan).await;
    let tags = async || {
        super::asked(&kong, "/upstreams/weir.basket.default/targets")
            .await
            .to_string()
    };
    assert_eq!(tags().await.matches(&format!("weir.pin.{LABEL}")).count(), 2);
    let mut over = wanted(&plan, plan.items.clone(), BTreeSet::new());
    over.sight.own = BTreeSet::from([LABEL.to_owned()]);
    agent.link.want.send_replace(Some(Arc::new(over)));
    until_so("no tag of it", async || !tags().await.contains("weir.pin.")).await;
    agent.exact_since(&plan, jiff::Timestamp::now()).await;
    agent.stopped().await;
}
