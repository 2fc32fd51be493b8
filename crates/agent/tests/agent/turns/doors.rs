//! What the loop tells its gateways, and when: they follow the mesh, but for a way back, which goes ahead of it (I8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::watch;
use weir_agent::fallback::{Down, Fallbacks};
use weir_agent::gateways::{Link, Told, Wanted};
use weir_agent::pin::elsewhere::Elsewhere;
use weir_agent::pin::weights;
use weir_agent::take::Memory;
use weir_model::{BackendName, BasisPoints, DnsLabel, GatewayName, Protocol, ServiceName, SplitName};
use weir_planner::{
    Fallback, Generation, Item, ItemFact, ItemRef, ItemState, Refuge, ServiceFact, ServiceState, Way,
    ZoneFacts, item_digest,
};

use super::pins::{by, pin, unpin};
use super::zone::{Fake, Running, fake, plan, zone};

/// The gateways' end of the link.
struct Gateways {
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    /// Held: a loop whose gateways' task ended would hear of nothing.
    _told: watch::Sender<Arc<Told>>,
}

fn gateways() -> (Link, Gateways) {
    let (want, wanted) = watch::channel(None);
    let (tell, told) = watch::channel(Arc::new(Told::default()));
    let drives = BTreeSet::from([GatewayName::new("edge").unwrap()]);
    (Link { want, told, drives }, Gateways { wanted, _told: tell })
}

impl Gateways {
    /// Generation of what they are to run now, and where it leads.
    fn run(&self) -> (u64, String) {
        told(self.item(|wanted| &wanted.items).as_ref())
    }

    /// The same of what the mesh has yet to take.
    fn next(&self) -> Option<(u64, String)> {
        let wanted = self.wanted.borrow().clone()?;
        wanted.next.get(&checkout()).map(|item| told(item))
    }

    fn item(&self, of: impl Fn(&Wanted) -> &BTreeMap<SplitName, Arc<Item>>) -> Arc<Item> {
        let wanted = self.wanted.borrow().clone().expect("they are told something");
        Arc::clone(&of(&wanted)[&checkout()])
    }
}

fn checkout() -> SplitName {
    SplitName::new("checkout").unwrap()
}

fn told(item: &Item) -> (u64, String) {
    let weights = item.routes[0].weights.iter();
    let weights = weights.filter(|(_, weight)| **weight > BasisPoints::ZERO);
    let weights: Vec<String> = weights
        .map(|(backend, weight)| format!("{backend} {weight}"))
        .collect();
    (item.generation.0, weights.join(", "))
}

fn to(zone: &str) -> String {
    format!("in-{zone} 100")
}

/// An agent that had everything in fra, and has everything in ams now.
async fn moved(dir: &TempDir, fake: &Arc<Mutex<Fake>>) -> (Running, Gateways) {
    let (link, gateways) = gateways();
    let agent = Running::with_gateways(dir, fake, Some(link));
    for (generation, zone) in [(1, "fra"), (2, "ams")] {
        agent.offers.send(plan(generation, zone)).await.unwrap();
        agent.pass(Duration::from_secs(2)).await;
        assert_eq!(gateways.run(), (generation, to(zone)));
        assert_eq!(gateways.next(), None);
    }
    (agent, gateways)
}

/// What a control plane answered that had this item and resolves both backends.
fn seen(item: &Item) -> ZoneFacts {
    let service = |at: &str| ServiceFact {
        service: ServiceName::new("checkout").unwrap(),
        kuma_zone: DnsLabel::new(at).unwrap(),
        namespace: None,
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
        way: Way::Unknown,
    };
    let of = ItemRef {
        split: checkout(),
        generation: item.generation,
        digest: item.digest,
    };
    ZoneFacts {
        zone: zone(),
        at: Timestamp::UNIX_EPOCH,
        highest: item.generation,
        kuma: None,
        unreadable: None,
        fault: None,
        store: None,
        services: ["fra", "ams"].map(service).into(),
        items: vec![ItemFact::new(of, ItemState::Proven)],
    }
}

/// Whoever is in `back` is written though a Kong takes its targets for dead.
#[test]
fn a_way_back_is_to_what_the_zone_had_or_what_somebody_pinned() {
    // The mesh had the first two of these, or all; a fourth would be new to it.
    let plans = [plan(1, "fra"), plan(2, "ams"), plan(3, "fra")].map(Arc::new);
    let had = |count: usize| {
        let mut memory = Memory::default();
        for plan in &plans[..count] {
            let item = &plan.items[&checkout()];
            memory.past.note(item, Timestamp::UNIX_EPOCH);
            memory.applied.insert(checkout(), Arc::clone(item));
        }
        memory
    };
    let pinned = |count: usize| {
        let mut memory = had(count);
        let whole = weights("in-fra=100").unwrap();
        let mut pins = memory.pins.clone();
        pins.pin(
            &plans[count - 1],
            &memory,
            &checkout(),
            None,
            &whole,
            by("fra-1", 0),
        )
        .unwrap();
        memory.pins = pins;
        memory
    };
    // Once a backend was down: its share is elsewhere, or came back.
    let fell = |elsewhere: bool| {
        let mut memory = had(2);
        let mut item = Item::clone(&plans[1].items[&checkout()]);
        let (dead, refuge) = (
            BackendName::new("in-ams").unwrap(),
            BackendName::new("in-fra").unwrap(),
        );
        let fallback = Fallback {
            to: vec![Refuge {
                backend: refuge.clone(),
                capacity: None,
            }],
            after: SignedDuration::from_secs(1),
            recover: SignedDuration::from_secs(60),
        };
        item.fallback = [(dead.clone(), fallback)].into();
        memory.applied.insert(checkout(), Arc::new(item));
        let down = Down {
            to: refuge,
            since: Timestamp::UNIX_EPOCH,
            moved: Timestamp::UNIX_EPOCH,
            why: "nobody is there".to_owned(),
            written: true,
        };
        let fallen = Fallbacks {
            at: Timestamp::UNIX_EPOCH,
            down: elsewhere.then_some((dead, down)).into_iter().collect(),
            falls: BTreeMap::new(),
        };
        memory.fallen.insert(checkout(), fallen);
        memory
    };
    for (what, wants, memory, back) in [
        ("a share that went elsewhere", &plans[1], fell(true), true),
        ("one that came back since", &plans[1], fell(false), false),
        ("the first of all", &plans[0], had(1), false),
        ("a step that the mesh took", &plans[1], had(2), false),
        ("one that it has not taken yet", &plans[1], had(1), false),
        ("a revert before the mesh took it", &plans[2], had(2), true),
        ("one that it took", &plans[2], had(3), true),
        ("a pin", &plans[1], pinned(2), true),
        ("a pin to what is in force", &plans[0], pinned(1), true),
    ] {
        let applied = Arc::clone(&memory.applied[&checkout()]);
        let wanted = Wanted::new(wants, &memory, Some(&seen(&applied)), &Elsewhere::default());
        assert_eq!(wanted.back.contains(&checkout()), back, "{what}");
    }
    // To where a transition in many bites began.
    let mut long = had(1);
    for bite in 1..=100 {
        let mut item = Item::clone(&plans[0].items[&checkout()]);
        item.generation = Generation(1);
        let share = |percent: u32| BasisPoints::new(percent * 100).unwrap();
        let name = |name: &str| BackendName::new(name).unwrap();
        item.routes[0].weights = [(name("in-fra"), share(100 - bite)), (name("in-ams"), share(bite))].into();
        long.past.note(&item, Timestamp::UNIX_EPOCH);
    }
    let last = Arc::clone(&plans[1].items[&checkout()]);
    long.applied.insert(checkout(), Arc::clone(&last));
    let wanted = Wanted::new(&plans[2], &long, Some(&seen(&last)), &Elsewhere::default());
    assert!(wanted.back.contains(&checkout()));
    // Without a sight of the mesh a revert does not go ahead of it, and what is given until then is a step.
    let wanted = Wanted::new(&plans[2], &had(2), None, &Elsewhere::default());
    assert_eq!(
        (wanted.items[&checkout()].generation, wanted.back.len()),
        (Generation(2), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_way_back_reaches_gateways_while_the_control_plane_is_away() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let (agent, gateways) = moved(&dir, &fake).await;
    fake.lock().unwrap().away = true;
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(gateways.run(), (2, to("ams")), "that it is away changes nothing");
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_millis(1)).await;
    assert_eq!(gateways.run(), (3, to("fra")));
    assert_eq!(agent.puts(), [1, 2], "the mesh has it not");
    // What was never in force here waits, whatever went ahead before; and a gateway is told that there is something newer.
    let mut onward = plan(4, "fra");
    let item = Arc::make_mut(onward.items.get_mut(&checkout()).unwrap());
    let half = BasisPoints::new(5_000).unwrap();
    item.routes[0].weights = ["in-fra", "in-ams"]
        .map(|name| (BackendName::new(name).unwrap(), half))
        .into();
    item.digest = item_digest(item);
    agent.offers.send(onward).await.unwrap();
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(gateways.run(), (2, to("ams")));
    assert_eq!(gateways.next(), Some((4, "in-ams 50, in-fra 50".to_owned())));
    fake.lock().unwrap().away = false;
    agent.pass(Duration::from_secs(5)).await;
    assert_eq!(gateways.run(), (4, "in-ams 50, in-fra 50".to_owned()));
    assert_eq!((agent.puts(), gateways.next()), (vec![1, 2, 4], None));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_way_back_to_what_does_not_resolve_waits_for_the_mesh() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let (agent, gateways) = moved(&dir, &fake).await;
    fake.lock().unwrap().resolves.remove("fra");
    agent.pass(Duration::from_secs(20)).await;
    for away in [false, true] {
        fake.lock().unwrap().away = away;
        agent.offers.send(plan(3 + u64::from(away), "fra")).await.unwrap();
        agent.pass(Duration::from_secs(20)).await;
        assert_eq!(gateways.run(), (2, to("ams")), "away: {away}");
    }
    // It comes back while nobody can see it.
    fake.lock().unwrap().resolves.insert("fra");
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(gateways.run(), (2, to("ams")));
    fake.lock().unwrap().away = false;
    agent.pass(Duration::from_secs(5)).await;
    assert_eq!(gateways.run(), (4, to("fra")));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_nothing_goes_ahead_of_what_was_not_seen_but_a_pin() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let (agent, _gateways) = moved(&dir, &fake).await;
    agent.stop().await;
    fake.lock().unwrap().away = true;
    let (link, gateways) = gateways();
    let agent = Running::with_gateways(&dir, &fake, Some(link));
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(gateways.run(), (2, to("ams")));
    assert_eq!(gateways.next(), Some((3, to("fra"))));
    pin(dir.path(), "fra-1", 0, "in-fra=20,in-ams=80").unwrap();
    agent.pass(Duration::from_millis(1_100)).await;
    assert_eq!(gateways.run().1, "in-ams 80, in-fra 20");
    assert_eq!(gateways.next(), None, "nothing is newer than what somebody wants");
    assert_eq!(agent.puts(), [1, 2]);
    unpin(dir.path());
    agent.pass(Duration::from_millis(1_100)).await;
    assert_eq!(gateways.run(), (2, to("ams")));
    agent.stop().await;
}
