//! What really left a gateway: requests through the double of Kong, its log of them, the agent's count. The count is held against
//! what the double's proxy itself says that it sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weir_planner::{Counts, DoorCounting};
use weir_sandbox::kong::{Database, Kong, Options};
use weir_sandbox::traffic::Application;

use super::asking::*;
use super::database::{ask, scene as with_database_scene};
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
    let (asked, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let callers = (0..4).map(|_| {
        let (kong, over) = (Arc::clone(&kong), Arc::clone(&over));
        let (asked, failed) = (Arc::clone(&asked), Arc::clone(&failed));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                failed.fetch_add(send(&kong, "/checkout", 10).await as u64, Ordering::Relaxed);
                asked.fetch_add(10, Ordering::Relaxed);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let more = async |requests: u64| {
        let goal = asked.load(Ordering::Relaxed) + requests;
        until_so("requests", async || {
            tokio::task::yield_now().await;
            asked.load(Ordering::Relaxed) >= goal
        })
        .await;
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
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {}",
        asked.load(Ordering::Relaxed)
    );
    let (counts, unplaced) = when(&mut agent, "checkout", 0).await;
    assert!(total(&counts) <= asked.load(Ordering::Relaxed), "nothing twice");
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
            ["checkout", "basket"]
                .iter()
                .all(|split| why_not(told, split).is_some())
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

#[tokio::test(flavor = "multi_thread")]
async fn with_a_database_the_plugin_comes_is_put_back_and_goes() {
    let (dir, _database, kongs, names) = with_database_scene().await;
    let both = [&kongs[0], &kongs[1]];
    let (vm, cloud) = (
        Application::start("vm").await.unwrap(),
        Application::start("cloud").await.unwrap(),
    );
    // Of theirs at a service of theirs: in nobody's way.
    assert_eq!(
        ask(both[0], "PUT", "/services/theirs", json!({"host": "a.test"})).await,
        200
    );
    let log = json!({"name": "http-log", "config": {"http_endpoint": "http://127.0.0.1:9/"}});
    assert_eq!(
        ask(both[0], "POST", "/services/theirs/plugins", log.clone()).await,
        201
    );
    let theirs = plugins(both[0]).await.1;
    let listen = nobody();
    let mut agent = Agent::counting(&both, to(listen), &names, dir.path());
    let splits = [
        own_door("checkout", 90, &backends(vm.address, cloud.address)),
        own_door("basket", 100, BASKET),
    ];
    let first = with_database(&splits, None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let there = |names: &'static [&'static str]| {
        let kong = both[1];
        async move { plugins(kong).await.0 == names }
    };
    until_so("both plugins", async || {
        there(&["weir.basket.default", "weir.checkout.default"]).await
    })
    .await;
    agent
        .until("to be counted", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("posted nothing"))
        })
        .await;
    // Each node posts what it sends, once it has taken the plugin up with its routes.
    // More lines than the first one sent at all are of the other one as well.
    let mut enough = 0;
    for node in both {
        until_so("a line of this node", async || {
            send(node, "/checkout", 1).await;
            let told = agent.link.told.borrow().clone();
            counted(&told, "checkout").is_some_and(|(counts, _)| total(&counts) > enough)
        })
        .await;
        enough = both[0].sent("weir.checkout.default").values().sum();
    }

    // Changed and removed by somebody: put back, and the door is exact all the while.
    let id = |name: &str| format!("/plugins/{name}");
    for change in [
        json!({"enabled": false}),
        json!({"config": {"http_endpoint": "http://127.0.0.1:1/", "queue": {"max_entries": 5}}}),
    ] {
        assert_eq!(
            ask(both[0], "PATCH", &id("weir.checkout.default"), change.clone()).await,
            200
        );
        until_so("put back", async || {
            let is = asked(both[0], &id("weir.checkout.default")).await;
            is["enabled"] == true
                && is["config"]["queue"]["max_entries"] == 10_000
                && is["config"]["http_endpoint"] == format!("http://{listen}/")
        })
        .await;
    }
    assert_eq!(
        ask(both[0], "DELETE", &id("weir.checkout.default"), json!({})).await,
        204
    );
    until_so("made again", async || {
        there(&["weir.basket.default", "weir.checkout.default"]).await
    })
    .await;
    let told = agent.exact(&part).await;
    assert!(exact(door(&told, &first, "checkout").unwrap()));

    // A log of theirs for everything: ours give way, and come back with it gone.
    assert_eq!(ask(both[0], "POST", "/plugins", log).await, 201);
    until_so("they give way", async || there(&[]).await).await;
    agent
        .until("told", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("same requests"))
        })
        .await;
    let global = plugins(both[0])
        .await
        .1
        .into_iter()
        .find(|one| one["service"].is_null())
        .unwrap();
    let path = id(global["id"].as_str().unwrap());
    assert_eq!(ask(both[0], "DELETE", &path, json!({})).await, 204);
    until_so("they are back", async || {
        there(&["weir.basket.default", "weir.checkout.default"]).await
    })
    .await;

    // A door goes with all that is its.
    let second = with_database(&splits[..1], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    until_so("gone", async || {
        there(&["weir.checkout.default"]).await
            && asked(both[0], "/services/weir.basket.default").await["message"] == "Not found"
    })
    .await;
    // Turned off.
    agent.stopped().await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    agent.want(&second);
    agent.exact(&part).await;
    until_so("off", async || there(&[]).await).await;
    assert_eq!(plugins(both[0]).await.1, theirs, "to the last field");
    agent.stopped().await;
}

/// A Kong does not start on a database with a plugin that it cannot run: where one node cannot, none is given any.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_run_the_plugin_is_spared_it() {
    let database = Database::new();
    let options = |logs: bool| Options {
        db_update_frequency: Duration::from_millis(50),
        worker_state_update_frequency: Duration::from_millis(70),
        logs,
        ..Options::default()
    };
    let able = Kong::on(&database, options(true)).await.unwrap();
    let unable = Kong::on(&database, options(false)).await.unwrap();
    let (dir, names) = (tempfile::tempdir().unwrap(), Arc::new(Known::default()));
    let first = with_database(&[own_door("checkout", 90, BY_ADDRESS)], None);
    // Alone it is given one.
    let mut agent = Agent::counting(&[&able], to(nobody()), &names, dir.path());
    let part = agent.want(&first);
    agent.exact(&part).await;
    until_so("it comes", async || plugins(&able).await.0.len() == 1).await;
    agent.stopped().await;
    let mut agent = Agent::counting(&[&able, &unable], to(nobody()), &names, dir.path());
    agent.want(&first);
    agent
        .until("told", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("would not start on a database"))
        })
        .await;
    agent.exact(&part).await;
    assert_eq!(plugins(&able).await.0, Vec::<String>::new(), "and what was there went");
    agent.stopped().await;
}
