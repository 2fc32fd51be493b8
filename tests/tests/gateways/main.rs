//! An agent's gateways, driven for real against the double of Kong: what is declared comes there and is proven, what is
//! somebody else's stays, and nothing that goes wrong takes requests along.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops"
)]

mod ahead;
mod asking;
mod behind;
mod busy;
mod counting;
mod database;
mod dead;
mod effective;
mod in_the_way;
mod kic;
mod listing;
mod overtaken;
mod pins;
mod stage;
mod twice;
mod unheard;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use weir_model::ZoneName;
use weir_sandbox::kong::{Kong, Options};

use asking::*;
use stage::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_comes_to_kong_and_outlives_everybody() {
    let (dir, mut kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 100, BASKET)],
        None,
    );
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    // 10 % on three addresses are 10 % all the same.
    let expected = [
        ("10.0.0.1:80", 27),
        ("10.0.1.1:80", 1),
        ("10.0.1.2:80", 1),
        ("10.0.1.3:80", 1),
    ];
    let expected: BTreeMap<String, u64> = expected.map(|(at, weight)| (at.to_owned(), weight)).into();
    assert_eq!(targets(&kong, "weir.checkout.default").await, expected);
    assert_eq!(host(&kong, "checkout").await, "weir.checkout.default");
    let runs = hash(&kong).await;

    // The agent goes; Kong runs on, and who comes after finds nothing to do.
    agent.killed().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, runs);

    // Kong loses all that it had (its volume is gone): it has it back.
    agent.stopped().await;
    post(&kong, &json!({"_format_version": "3.0"})).await;
    assert_eq!(hash(&kong).await, "0".repeat(32));
    let mut agent = Agent::start(&kong, &names, dir.path());
    let part = agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, runs);
    kong.restart().await.unwrap();
    // What was proven before is no word of now.
    agent.exact_since(&part, Timestamp::now()).await;
    assert_eq!(hash(&kong).await, runs);

    // A split goes: what the site had in its place is there again, and the other split is as it was.
    let second = plan(BASE, &[split("basket", 100, BASKET)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    agent
        .until("the split is gone", |told| {
            !told.doors.contains_key(&name("checkout"))
        })
        .await;
    assert_eq!(host(&kong, "checkout").await, "127.0.0.1");
    assert_eq!(host(&kong, "basket").await, "weir.basket.default");
    agent.stopped().await;
}

/// Another administrator posts his own document: an outage for ours, and not ours to end by taking his away.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_put_there_is_named_and_stays() {
    let (dir, kong, names) = scene().await;
    post(
        &kong,
        &json!({"_format_version": "3.0", "services": [{"name": "theirs", "host": "127.0.0.1", "port": 9}]}),
    )
    .await;
    let theirs = hash(&kong).await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(BASE, &[split("checkout", 90, BY_ADDRESS)], None);
    let part = agent.want(&first);
    let told = agent
        .until("held", |told| {
            told.doors
                .get(&name("checkout"))
                .is_some_and(|of| of[&edge()].fact.held.is_some())
        })
        .await;
    let door = &told.doors[&name("checkout")][&edge()].fact;
    let why = door.held.as_deref().unwrap();
    assert!(why.contains("theirs") && !exact(door), "{why}");
    assert_eq!(hash(&kong).await, theirs, "nothing was touched");
    // They put it into the base: now it is kept for them.
    let base = format!("{BASE}  - {{name: theirs, host: 127.0.0.1, port: 9}}\n");
    let second = plan(&base, &[split("checkout", 90, BY_ADDRESS)], Some(&first));
    assert!(Arc::ptr_eq(
        &first.splits[&name("checkout")],
        &second.splits[&name("checkout")]
    ));
    agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(host(&kong, "theirs").await, "127.0.0.1");
    // And out of it again, by a commit: what this agent posted is its own to replace.
    let third = plan(BASE, &[split("checkout", 80, BY_ADDRESS)], Some(&second));
    let part = agent.want(&third);
    agent.exact(&part).await;
    let gone = weir_sandbox::http_client()
        .get(format!("http://{}/services/theirs", kong.admin()))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 404);
    agent.stopped().await;
}

/// A name that stops to resolve moves nothing; one that never did holds its own split alone.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_wobble_move_no_share_and_hold_up_nobody() {
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_NAME), split("basket", 70, BASKET)],
        None,
    );
    let part = agent.want(&first);
    let told = agent
        .until("held beside exact", |told| {
            door(told, &first, "checkout").is_some_and(|door| door.held.is_some())
                && door(told, &first, "basket").is_some_and(exact)
        })
        .await;
    let why = told.doors[&name("checkout")][&edge()].fact.held.clone().unwrap();
    assert!(why.contains("cloud.example.com"), "{why}");
    assert_eq!(host(&kong, "checkout").await, "127.0.0.1", "the site's own");

    let say = |addresses: &[&str]| {
        *names.0.lock().unwrap() = addresses.iter().map(|text| text.parse().unwrap()).collect();
    };
    say(&["10.0.1.1", "10.0.1.2"]);
    agent.exact(&part).await;
    let two = weights(&kong, "checkout").await;
    assert_eq!(two, [18, 1, 1]);
    let runs = hash(&kong).await;
    // The name server is away, and the agent is started again meanwhile: it knows what it knew.
    say(&[]);
    agent.killed().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, runs);
    // Another address more: the share stays.
    say(&["10.0.1.1", "10.0.1.2", "10.0.1.9"]);
    // It tells after each look, and what it posted is then what Kong has.
    let came = async {
        while targets(&kong, "weir.checkout.default").await.len() != 4 {
            agent.link.told.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, came)
        .await
        .expect("the address never came");
    let three = weights(&kong, "checkout").await;
    assert_eq!(three, [27, 1, 1, 1]);
    agent.stopped().await;
}

/// What cannot be said to Kong of one split leaves that split as it was, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_cannot_be_stays_as_it_was_and_the_others_go_on() {
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 70, BASKET)],
        None,
    );
    let part = agent.want(&first);
    agent.exact(&part).await;
    // The next plan has a name that nobody can look up, and another share for the other split.
    let second = plan(
        BASE,
        &[split("checkout", 50, BY_NAME), split("basket", 40, BASKET)],
        Some(&first),
    );
    agent.want(&second);
    let told = agent
        .until("one held, one exact", |told| {
            door(told, &second, "checkout").is_some_and(|door| door.held.is_some())
                && door(told, &second, "basket").is_some_and(exact)
        })
        .await;
    assert!(!exact(&told.doors[&name("checkout")][&edge()].fact), "{told:?}");
    let stays = weights(&kong, "checkout").await;
    assert_eq!(stays, [27, 1, 1, 1], "as it was");
    let moved = weights(&kong, "basket").await;
    assert_eq!(moved, [2, 3]);
    agent.stopped().await;
}

/// An agent that remembers nothing (a new host, a damaged file) while its zone's control plane is away knows the plan, and
/// nothing of what is in force: what requests come by stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_knows_nothing_takes_nobodys_routes_away() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kong = Kong::without_database(Options::default()).await.unwrap();
    let names = Arc::new(Known::default());
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 70, BASKET)],
        None,
    );
    let part = agent.want(&first);
    agent.exact(&part).await;
    agent.stopped().await;
    let runs = hash(&kong).await;
    // Its plan even moves the other split.
    let second = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 40, BASKET)],
        Some(&first),
    );
    let part = Arc::new(second.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
    for known in [vec![], vec!["basket"]] {
        let mut agent = Agent::start(&kong, &names, other.path());
        let items = known
            .iter()
            .map(|split| (name(split), Arc::clone(&part.items[&name(split)])));
        let before = agent.link.told.borrow().gateways.clone();
        agent.want_items(&part, items.collect());
        agent.until("a look", |told| told.gateways != before).await;
        assert_eq!(hash(&kong).await, runs, "{known:?}");
        if let [split] = known[..] {
            let told = agent
                .until("held", |told| told.doors.contains_key(&name(split)))
                .await;
            let why = told.doors[&name(split)][&edge()].fact.held.clone().unwrap();
            assert!(why.contains("has split checkout"), "{why}");
        }
        agent.stopped().await;
    }
    // When its zone has all of it, it goes on.
    let mut agent = Agent::start(&kong, &names, other.path());
    agent.want(&second);
    agent.exact(&part).await;
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_split_goes_and_what_the_site_has_stays() {
    let (dir, kong, names) = scene().await;
    let without_base = |splits: &[String], before: Option<&weir_planner::Plan>| {
        plan_of("{name: edge, channel: admin-dbless}", BASE, splits, before)
    };
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = without_base(&[own_door("checkout", 90, BY_ADDRESS)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(targets(&kong, "weir.checkout.default").await.len(), 4);
    // Its last door goes, and comes again: nothing of it is left between, and Kong is ready all the while.
    let none = without_base(&[], Some(&first));
    agent.want(&none);
    until_so("no route is left", async || {
        asked(&kong, "/routes").await["data"] == json!([])
    })
    .await;
    assert_ne!(hash(&kong).await, "0".repeat(32));
    // Whoever comes after leaves it at that.
    agent.stopped().await;
    let runs = hash(&kong).await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&none);
    agent
        .until("told", |told| told.gateways.contains_key(&edge()))
        .await;
    assert_eq!(hash(&kong).await, runs);
    let again = without_base(&[own_door("checkout", 80, BY_ADDRESS)], Some(&none));
    let part = agent.want(&again);
    agent.exact(&part).await;
    agent.stopped().await;

    // A gateway that had a base keeps what the site has there, though nobody declares it any more.
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(BASE, &[split("checkout", 90, BY_ADDRESS)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let runs = hash(&kong).await;
    let none = without_base(&[], Some(&first));
    agent.want(&none);
    let digest = none.gateways[&ZoneName::new("fra").unwrap()][&edge()].digest;
    agent
        .until("told", |told| told.gateways.get(&edge()) == Some(&digest))
        .await;
    assert_eq!(hash(&kong).await, runs);
    agent.stopped().await;
}
