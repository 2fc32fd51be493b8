//! What really left a gateway: requests through the double of Kong, its log of them, the agent's count. The count is held against
//! what the double's proxy itself says that it sent.

mod database;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use weir_agent::gateways::{FIRST, Refusals, Wanted, decide};
use weir_drivers::Refused;
use weir_drivers::kong::pins::Sight;
use weir_model::ZoneName;
use weir_planner::{Counts, DoorCounting, Plan};
use weir_render::kong::{Counted, Counting, Resolved};
use weir_sandbox::kong::{Database, Kong, Options};
use weir_sandbox::traffic::Application;

use super::asking::*;
use super::stage::*;

/// An address of loopback that nobody listens at.
fn nobody() -> SocketAddr {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    address.local_addr().unwrap()
}

fn to(listen: SocketAddr) -> (SocketAddr, String) {
    (listen, format!("http://{listen}/"))
}

fn backends(vm: SocketAddr, cloud: SocketAddr) -> String {
    format!("vm: \"{vm}\", cloud: \"{cloud}\"")
}

/// Sends so many requests, one after the other; how many were not answered with 200.
async fn send(kong: &Kong, path: &str, requests: usize) -> usize {
    let client = weir_sandbox::http_client();
    let mut failed = 0;
    for _ in 0..requests {
        let answer = client.get(format!("http://{}{path}", kong.proxy())).send().await;
        failed += usize::from(!answer.is_ok_and(|answer| answer.status() == 200));
    }
    failed
}

fn counting(told: &weir_agent::gateways::Told, split: &str) -> Option<DoorCounting> {
    told.doors.get(&name(split))?.get(&edge())?.fact.counting.clone()
}

/// What is counted of a split, and what of it cannot be said; none if nothing is.
fn counted(told: &weir_agent::gateways::Told, split: &str) -> Option<(Counts, u64)> {
    match counting(told, split)? {
        DoorCounting::Counted { counts, unplaced } => Some((counts, unplaced)),
        DoorCounting::Not(_) => None,
    }
}

/// Why nothing is counted of a split.
fn why_not(told: &weir_agent::gateways::Told, split: &str) -> Option<String> {
    match counting(told, split)? {
        DoorCounting::Counted { .. } => None,
        DoorCounting::Not(why) => Some(why),
    }
}

fn total(counts: &Counts) -> u64 {
    counts.requests.values().sum()
}

/// Waits until so many requests of a split are counted, and all that is counted then.
async fn when(agent: &mut Agent, split: &str, requests: u64) -> (Counts, u64) {
    let told = agent
        .until("requests are counted", |told| {
            counted(told, split).is_some_and(|(counts, unplaced)| total(&counts) + unplaced >= requests)
        })
        .await;
    counted(&told, split).unwrap()
}

/// What the proxy says that it sent to each backend, by their addresses.
fn sent(kong: &Kong, split: &str, of: &[(&str, SocketAddr)]) -> BTreeMap<String, u64> {
    let sent = kong.sent(&format!("weir.{split}.default"));
    let of = of.iter().map(|(backend, at)| {
        (
            (*backend).to_owned(),
            sent.get(&at.to_string()).copied().unwrap_or(0),
        )
    });
    of.collect()
}

fn by_name(of: &BTreeMap<weir_model::BackendName, u64>) -> BTreeMap<String, u64> {
    of.iter().map(|(name, n)| (name.to_string(), *n)).collect()
}

/// Plugins of the Kong: those with Weir's tag by name, and the others whole.
async fn plugins(kong: &Kong) -> (Vec<String>, Vec<Value>) {
    let all = asked(kong, "/plugins").await["data"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let is_ours = |one: &&Value| {
        one["tags"]
            .as_array()
            .is_some_and(|tags| tags.contains(&json!("weir")))
    };
    let ours = all
        .iter()
        .filter(is_ours)
        .map(|one| one["instance_name"].as_str().unwrap().to_owned());
    let mut ours: Vec<String> = ours.collect();
    ours.sort_unstable();
    (ours, all.iter().filter(|one| !is_ours(one)).cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_at_the_backend_that_the_weights_picked() {
    let (dir, kong, names) = scene().await;
    let (vm, cloud) = (
        Application::start("vm").await.unwrap(),
        Application::start("cloud").await.unwrap(),
    );
    let dead = nobody();
    // A plugin of theirs at the service that is taken over, and one for all.
    let base = BASE.replace(
        "{name: checkout, host",
        "{name: checkout, plugins: [{name: key-auth}], host",
    ) + "plugins: [{name: prometheus, tags: [theirs]}]\n";
    let splits = |vm_share: u32| {
        [
            split("checkout", vm_share, &backends(vm.address, cloud.address)),
            own_door("cart", vm_share, &backends(vm.address, dead)),
        ]
    };
    let listen = nobody();
    let mut agent = Agent::counting(&[&kong], to(listen), &names, dir.path());
    let first = plan(&base, &splits(90), None);
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    // Nothing of nothing is no count: it might post to somewhere else.
    assert!(why_not(&told, "checkout").unwrap().contains("posted nothing"));
    let (ours, theirs) = plugins(&kong).await;
    assert_eq!(ours, ["weir.cart.default", "weir.checkout.default"]);
    assert_eq!(theirs.len(), 2);

    assert_eq!(send(&kong, "/checkout", 500).await, 0);
    // The dead one's share goes to the other, which is what nobody sees without a count.
    assert_eq!(send(&kong, "/cart", 200).await, 0);
    let (checkout, unplaced) = when(&mut agent, "checkout", 500).await;
    let both = [("vm", vm.address), ("cloud", cloud.address)];
    assert_eq!(by_name(&checkout.requests), sent(&kong, "checkout", &both));
    assert_eq!((total(&checkout), unplaced), (500, 0));
    assert_eq!(checkout.failed.values().sum::<u64>(), 0);
    let (cart, unplaced) = when(&mut agent, "cart", 200).await;
    assert_eq!((total(&cart), unplaced), (200, 0));
    let refused = kong.refused("weir.cart.default").values().sum::<u64>();
    let (vm_name, cloud_name) = ("vm".parse().unwrap(), "cloud".parse().unwrap());
    assert!(refused > 0);
    assert_eq!(
        cart.requests[&cloud_name], refused,
        "the weights picked it, and it took nothing"
    );
    assert_eq!(
        (cart.failed[&cloud_name], cart.failed[&vm_name]),
        (0, 0),
        "nobody saw an error"
    );
    assert_eq!(cart.down[&cloud_name], refused);

    // A line of an address that nobody gave, and one twice.
    let line = json!({"request": {"id": "1"}, "response": {"status": 200}, "upstream_status": "200",
        "tries": [{"ip": "10.9.9.9", "port": 80}], "service": {"host": "weir.checkout.default"},
        "started_at": jiff::Timestamp::now().as_millisecond()});
    for _ in 0..2 {
        let client = weir_sandbox::http_client();
        let post = client
            .post(format!("http://{listen}/"))
            .body(json!([line]).to_string());
        assert_eq!(post.send().await.unwrap().status(), 200);
    }
    let (checkout, unplaced) = when(&mut agent, "checkout", 501).await;
    assert_eq!((total(&checkout), unplaced), (500, 1), "never guessed, and once");
    // What is no line stops nothing, and is told.
    let client = weir_sandbox::http_client();
    let post = client.post(format!("http://{listen}/")).body("no");
    assert_eq!(post.send().await.unwrap().status(), 400);
    agent
        .until("told", |told| {
            told.notes.iter().any(|note| note.contains("no lines of Kong's"))
        })
        .await;

    // Other weights: what was counted of those is over with the proof of these.
    let second = plan(&base, &splits(50), Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    kong.forget_counts();
    assert_eq!(send(&kong, "/checkout", 100).await, 0);
    let (now, unplaced) = when(&mut agent, "checkout", 100).await;
    assert_eq!(by_name(&now.requests), sent(&kong, "checkout", &both));
    assert_eq!((total(&now), unplaced), (100, 0));
    assert!(now.since > checkout.since);

    // Turned off: nothing of it is left, and theirs is as it was.
    agent.stopped().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&second);
    let told = agent.exact(&part).await;
    assert_eq!(counting(&told, "checkout"), None);
    let (ours, still) = plugins(&kong).await;
    assert_eq!(ours, Vec::<String>::new());
    let bare = |all: &[Value]| all.iter().map(|one| one["name"].to_string()).collect::<Vec<_>>();
    assert_eq!(bare(&still), bare(&theirs));
    agent.stopped().await;
}

/// Whatever becomes of the listener, no request waits for it or fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_gone_costs_no_request() {
    let (dir, kong, names) = scene().await;
    let (vm, cloud) = (
        Application::start("vm").await.unwrap(),
        Application::start("cloud").await.unwrap(),
    );
    let splits = [split("checkout", 90, &backends(vm.address, cloud.address))];
    let first = plan(BASE, &splits, None);
    let listen = nobody();
    let mut agent = Agent::counting(&[&kong], to(listen), &names, dir.path());
    let part = agent.want(&first);
    agent.exact(&part).await;
    let (kong, over) = (Arc::new(kong), Arc::new(AtomicBool::new(false)));
    let (asked, failed) = (watch::Sender::new(0_u64), Arc::new(AtomicU64::new(0)));
    let callers = (0..4).map(|_| {
        let (kong, over) = (Arc::clone(&kong), Arc::clone(&over));
        let (asked, failed) = (asked.clone(), Arc::clone(&failed));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                failed.fetch_add(send(&kong, "/checkout", 10).await as u64, Ordering::Relaxed);
                asked.send_modify(|asked| *asked += 10);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let more = async |requests: u64| {
        let mut seen = asked.subscribe();
        let goal = *seen.borrow() + requests;
        // Each request is bounded by its client: whoever is slow is waited for.
        seen.wait_for(|asked| *asked >= goal).await.unwrap();
    };
    more(300).await;
    when(&mut agent, "checkout", 100).await;
    agent.killed().await;
    more(500).await;
    // Somebody else has the port: it takes connections and never answers.
    let mute = tokio::net::TcpListener::bind(listen).await.unwrap();
    let mut agent = Agent::counting(&[&kong], to(listen), &names, dir.path());
    agent.want(&first);
    agent
        .until("deaf", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("cannot be listened at"))
        })
        .await;
    more(500).await;
    drop(mute);
    // It is there again, and counts.
    when(&mut agent, "checkout", 100).await;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", *asked.borrow());
    let (counts, unplaced) = when(&mut agent, "checkout", 0).await;
    assert!(total(&counts) <= *asked.borrow(), "nothing twice");
    assert_eq!(unplaced, 0);
    agent.stopped().await;
}

/// A log of the site's own would not be written any more: rather than that nothing is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_theirs_is_never_pushed_out() {
    let (dir, kong, names) = scene().await;
    let log = "{name: http-log, config: {http_endpoint: \"http://127.0.0.1:9/\"}}";
    let basket = BASE.replace(
        "{name: basket, host",
        &format!("{{name: basket, plugins: [{log}], host"),
    );
    let both = |first: &str| [split("checkout", 90, first), split("basket", 80, BASKET)];
    let mut agent = Agent::counting(&[&kong], to(nobody()), &names, dir.path());
    // Where they log one service, the other is counted.
    let first = plan(&basket, &both(BY_ADDRESS), None);
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert!(why_not(&told, "checkout").unwrap().contains("posted nothing"));
    let why = why_not(&told, "basket").unwrap();
    assert!(
        why.contains("plugin `http-log` is there for the same requests"),
        "{why}"
    );
    assert_eq!(plugins(&kong).await.0, ["weir.checkout.default"]);
    // Where they log everything, nothing is.
    let second = plan(
        &format!("{BASE}plugins: [{log}]\n"),
        &both(BY_ADDRESS),
        Some(&first),
    );
    let part = agent.want(&second);
    agent
        .until("told of both", |told| {
            // Neither split is another one: what is told of them by the base before is no answer.
            let theirs =
                |split: &&str| why_not(told, split).is_some_and(|why| why.contains("plugin `http-log`"));
            ["checkout", "basket"].iter().all(theirs)
        })
        .await;
    agent.exact(&part).await;
    let (ours, theirs) = plugins(&kong).await;
    assert_eq!((ours.len(), theirs.len()), (0, 1));
    agent.stopped().await;
}

/// Counting is never why a share is not what is declared.
#[tokio::test(flavor = "multi_thread")]
async fn a_kong_that_cannot_count_is_told_its_shares_all_the_same() {
    let (dir, kong, names) = scene().await;
    // Kong finds no host in it.
    let url = (nobody(), "http:///".to_owned());
    let mut agent = Agent::counting(&[&kong], url, &names, dir.path());
    let first = plan(BASE, &[split("checkout", 90, BY_ADDRESS)], None);
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    let why = why_not(&told, "checkout").unwrap();
    assert!(why.contains("missing host in url"), "{why}");
    let second = plan(BASE, &[split("checkout", 50, BY_ADDRESS)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(plugins(&kong).await.0, Vec::<String>::new());
    agent.stopped().await;
}

/// The refusal is of the gateway and of no document: a revert is not posted with what is refused, and once more without.
#[test]
fn what_was_refused_once_is_not_in_the_way_of_a_revert() {
    let counting = Counting {
        endpoint: "http:///".to_owned(),
    };
    let backends = backends(nobody(), nobody());
    let first = plan(BASE, &[split("checkout", 90, &backends)], None);
    let second = plan(BASE, &[split("checkout", 50, &backends)], Some(&first));
    let decided = |plan: &Plan, refusals: &Refusals| {
        let plan = Arc::new(plan.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
        let wanted = Wanted {
            items: plan.items.clone(),
            plan,
            next: BTreeMap::new(),
            ahead: BTreeSet::new(),
            pins: BTreeMap::new(),
            sight: Sight::default(),
            back: BTreeSet::new(),
        };
        decide(
            &wanted,
            &edge(),
            None,
            &Resolved::new(),
            refusals,
            Some(&counting),
        )
    };
    let now = Instant::now();
    let mut refusals = Refusals::new(FIRST);
    let made = decided(&first, &refusals).document.unwrap();
    assert_eq!(made.counted, [(name("checkout"), Ok(()))].into());
    let of_the_plugin = Refused {
        counting: true,
        ..Refused::default()
    };
    refusals.note("kong-1", &made.hash, "missing host in url", &of_the_plugin, now);
    for plan in [&first, &second] {
        let decided = decided(plan, &refusals);
        let why = decided.counted[&name("checkout")].clone().unwrap_err();
        assert!(why.contains("missing host in url"), "{why}");
        assert_eq!(decided.document.unwrap().counted, Counted::new());
    }
    // Somebody may have mended it, whatever the weights are by then.
    assert!(refusals.without_due(now).is_none());
    let due = refusals.without_due(now + FIRST).unwrap();
    let again = decided(&second, &due).document.unwrap();
    assert_eq!(again.counted, [(name("checkout"), Ok(()))].into());
    refusals.counting_is_in(&again.hash, now + FIRST);
    assert!(refusals.of(&made.hash).is_none() && refusals.of(&again.hash).is_some());
    // Refused again it waits for twice as long.
    let later = now + FIRST;
    refusals.note(
        "kong-1",
        &again.hash,
        "missing host in url",
        &of_the_plugin,
        later,
    );
    assert!(refusals.without_due(later + FIRST).is_none());
    assert!(refusals.without_due(later + 2 * FIRST).is_some());
    // Whoever takes it ends that for every document.
    refusals.accepted("kong-1", &again.hash);
    assert!(refusals.of_counting().is_none());
    // What nobody makes any more is not due for ever.
    refusals.note("kong-1", &made.hash, "another thing", &Refused::default(), later);
    refusals.forget_unmade(&again.hash, later + FIRST);
    assert!(
        refusals.of(&made.hash).is_some(),
        "it may be tried in this turn yet"
    );
    refusals.forget_unmade(&made.hash, later + 2 * FIRST);
    assert!(refusals.of(&made.hash).is_some(), "it is made");
    refusals.forget_unmade(&again.hash, later + 2 * FIRST);
    assert!(refusals.of(&made.hash).is_none());
}
