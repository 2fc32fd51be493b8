//! Kong with a database, as an agent drives it: two nodes on one database, a real one at `WEIR_KONG_DB_ADMIN`, else doubles.

#![allow(
    clippy::print_stdout,
    reason = "figures, for who asks for them with --nocapture"
)]

mod bad;
mod counting;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use weir_drivers::{Became, Brought, Fault, KongConfig, KongDb};
use weir_model::{Channel, Door};
use weir_planner::{Coverage, GatewayPlan, Generation, Item, Proof, Verdict};
use weir_render::kong::{AtDoor, Counting, Entities, Resolved, counting_entities};
use weir_sandbox::kong::{Database, Kong, Options};
use weir_tests::amount;

use super::asking::{Ask, Target, nobody};
use super::changes::{Load, counted};
use stage::*;

use super::stage::{by, by_routes, config, federation, gateway, plain, ready, routing};

#[tokio::test(flavor = "multi_thread")]
async fn weights_change_under_load_at_every_node_and_no_request_is_lost() {
    let stage = Stage::set().await;
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    stage.proven(&wanted(&[(&share(1, 0), &door)])).await;
    let loads: Vec<Load> = stage
        .proxies
        .iter()
        .map(|proxy| Load::start(*proxy, "/checkout"))
        .collect();
    let begun = Instant::now();
    let mut last = 0;
    let changes = amount::changes(300);
    for at in 1..=changes {
        last = at * 37 % 101 * 100;
        let to = wanted(&[(&share(u64::from(at) + 1, last), &door)]);
        // Some are cut short, as by kill -9: the next one goes on from there.
        if at % 7 == 0 {
            let cut = Duration::from_micros(u64::from(at) * 131 % 9_000);
            let _ = tokio::time::timeout(cut, stage.bring(&to)).await;
            continue;
        }
        let became = stage.bring(&to).await;
        assert!(
            became.splits.is_empty()
                && became
                    .nodes
                    .values()
                    .all(|node| !matches!(node, Brought::Failed(_) | Brought::Held(_))),
            "{became:?}"
        );
        if at % 50 == 1 {
            let proof = stage.proven(&to).await.into_values().next().unwrap();
            let weights = proof.weights.unwrap().into_values().next().unwrap();
            assert_eq!(weights[&"eks".parse().unwrap()].get(), last);
        }
    }
    let took = begun.elapsed();
    let to = wanted(&[(&share(u64::from(changes) + 100, last), &door)]);
    let proof = stage.proven(&to).await.into_values().next().unwrap();
    let all = u32::try_from(stage.admins.len()).unwrap();
    assert_eq!(proof.coverage, Coverage { seen: all, of: all });
    let (mut requests, mut failed) = (0, 0);
    let each = amount::requests(0).div_ceil(loads.len() as u64);
    for load in loads {
        load.until(each).await;
        let (more, lost) = load.stop().await;
        (requests, failed) = (requests + more, failed + lost);
    }
    println!(
        "{changes} changes of weights in a database in {:.1} s, {requests} requests meanwhile through {all} nodes, {failed} failed",
        took.as_secs_f64()
    );
    assert_eq!(failed, 0, "of {requests}");
    for proxy in &stage.proxies {
        let counts = counted(*proxy, "/checkout", 200).await;
        let got = counts.get("eks").copied().unwrap_or(0);
        assert_eq!(got, last as usize / 50, "{last} of 10000: {counts:?}");
    }
}

/// A door that comes, goes, and comes another way, while requests go through the door beside it and through itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_comes_is_served_at_every_node_from_its_first_answer_on() {
    let stage = Stage::set().await;
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let basket = by_routes(routing("/basket"), &[("vm", &[vm]), ("eks", &[eks])]);
    let other = plain("basket", 1, &[("vm", 5_000), ("eks", 5_000)]);
    stage.proven(&wanted(&[(&other, &basket)])).await;
    let loads: Vec<Load> = stage
        .proxies
        .iter()
        .map(|proxy| Load::start(*proxy, "/basket"))
        .collect();
    for round in 1..=2_u64 {
        let both = wanted(&[(&share(round, 1_000), &door), (&other, &basket)]);
        // A route answers 404 until it is there, and from then on 200: nothing between.
        let watching = stage.proxies.iter().map(|proxy| {
            let proxy = *proxy;
            tokio::spawn(async move {
                loop {
                    let status = Ask::new("GET", "/checkout").to(proxy).await.status;
                    assert!(matches!(status, 200 | 404), "{status}");
                    if status == 200 {
                        return;
                    }
                }
            })
        });
        let watching: Vec<_> = watching.collect();
        stage.proven(&both).await;
        for one in watching {
            one.await.unwrap();
        }
        let one = wanted(&[(&other, &basket)]);
        stage
            .until("it is gone", async || {
                stage.bring(&one).await;
                stage.get("upstreams?tags=weir").await["data"]
                    .as_array()
                    .unwrap()
                    .len()
                    == 1
            })
            .await;
        for proxy in &stage.proxies {
            assert_eq!(Ask::new("GET", "/checkout").to(*proxy).await.status, 404);
        }
    }
    for load in loads {
        let (requests, failed) = load.stop().await;
        assert_eq!(failed, 0, "of {requests}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_weirs_is_named_and_stays() {
    let stage = Stage::set().await;
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let basket = by_routes(routing("/basket"), &[("vm", &[vm]), ("eks", &[eks])]);
    let other = plain("basket", 1, &[("vm", 5_000), ("eks", 5_000)]);
    // Somebody has the name of ours: that split waits, the other goes on.
    let theirs = json!({"host": "theirs.test", "tags": ["team-a"]});
    assert_eq!(
        stage
            .ask("PUT", "services/weir.checkout.default", Some(theirs))
            .await
            .0,
        200
    );
    let before = stage.get("services/weir.checkout.default").await;
    let both = wanted(&[(&share(1, 1_000), &door), (&other, &basket)]);
    let became = stage.bring(&both).await;
    let why = &became.splits[&"checkout".parse().unwrap()];
    assert!(
        why.contains("service weir.checkout.default") && why.contains("not Weir's"),
        "{why}"
    );
    stage
        .until("the other is proven", async || {
            stage.bring(&both).await;
            let proofs = stage.driver.prove(&both).await;
            matches!(
                proofs[&"checkout".parse().unwrap()].verdict,
                Verdict::Different(_)
            ) && proofs[&"basket".parse().unwrap()].verdict == Verdict::Exact
        })
        .await;
    assert_eq!(stage.get("services/weir.checkout.default").await, before);
    assert_eq!(
        stage.get("upstreams/weir.checkout.default").await["message"],
        "Not found"
    );
    assert_eq!(
        stage
            .ask("DELETE", "services/weir.checkout.default", None)
            .await
            .0,
        204
    );
    stage.proven(&both).await;

    // What of theirs hangs on ours keeps it there.
    let plugin = json!({"name": "rate-limiting", "config": {"minute": 100_000}});
    let (status, plugin) = stage
        .ask("POST", "routes/weir.checkout.default/plugins", Some(plugin))
        .await;
    assert_eq!(status, 201, "{plugin}");
    let one = wanted(&[(&other, &basket)]);
    let why = stage.bring(&one).await.splits[&"checkout".parse().unwrap()].clone();
    assert!(
        why.contains("plugin rate-limiting") && why.contains("would go with it"),
        "{why}"
    );
    assert_eq!(
        stage.get("routes/weir.checkout.default").await["name"],
        "weir.checkout.default"
    );
    let path = format!("plugins/{}", plugin["id"].as_str().unwrap());
    assert_eq!(stage.ask("DELETE", &path, None).await.0, 204);
    let leads = json!({"host": "weir.checkout.default", "tags": ["team-a"]});
    assert_eq!(stage.ask("PUT", "services/theirs", Some(leads)).await.0, 200);
    stage
        .until("their service is named", async || {
            let became = stage.bring(&one).await;
            let why = became.splits.get(&"checkout".parse().unwrap());
            why.is_some_and(|why| why.contains("service theirs") && why.contains("leads to it"))
        })
        .await;
    assert_eq!(stage.ask("DELETE", "services/theirs", None).await.0, 204);
    stage
        .until("it goes", async || {
            assert_eq!(stage.bring(&one).await.splits, BTreeMap::new());
            stage.get("upstreams/weir.checkout.default").await["message"] == "Not found"
        })
        .await;
    // A target of theirs in our upstream: told, and not removed.
    let target = json!({"target": "127.0.0.1:9", "weight": 0});
    let (status, _) = stage
        .ask("POST", "upstreams/weir.basket.default/targets", Some(target))
        .await;
    assert_eq!(status, 201);
    stage
        .until("their target is seen", async || {
            let proofs = stage.driver.prove(&one).await;
            matches!(&proofs[&"basket".parse().unwrap()].verdict, Verdict::Different(why) if why.contains("nobody's"))
        })
        .await;
    let all = stage.get("upstreams/weir.basket.default/targets").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    stage
        .ask(
            "DELETE",
            "upstreams/weir.basket.default/targets/127.0.0.1:9",
            None,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_or_stands_elsewhere_is_no_proof() {
    let stage = Stage::set().await;
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let to = wanted(&[(&share(1, 1_000), &door)]);
    stage.proven(&to).await;
    let gone = format!("http://{}", nobody().await);
    // Away, and first of all: the next one is written to.
    let all = driver(&[gone.clone(), stage.admins[0].clone()]);
    let to = wanted(&[(&share(2, 2_000), &door)]);
    let became = all
        .bring(
            &to,
            by(Generation(100), &BTreeSet::new(), &CancellationToken::new()),
        )
        .await;
    assert!(
        matches!(&became.nodes[&gone], Brought::Failed(error) if error.fault == Fault::Away),
        "{became:?}"
    );
    assert!(
        matches!(&became.nodes[&stage.admins[0]], Brought::Posted),
        "{became:?}"
    );
    let proof = all.prove(&to).await.into_values().next().unwrap();
    assert!(
        matches!(&proof.verdict, Verdict::Unknown(why) if why.contains(&gone)),
        "{proof:?}"
    );
    assert_eq!(proof.coverage, Coverage { seen: 1, of: 2 });
    // On another database: it has nothing of it, and says so.
    let elsewhere = node(&Database::new()).await;
    let two = driver(&[stage.admins[0].clone(), url(&elsewhere)]);
    two.bring(
        &to,
        by(Generation(100), &BTreeSet::new(), &CancellationToken::new()),
    )
    .await;
    let proof = two.prove(&to).await.into_values().next().unwrap();
    assert!(
        matches!(&proof.verdict, Verdict::Different(why) if why.contains(&url(&elsewhere))),
        "{proof:?}"
    );
    // Without a database at all.
    let without = Kong::without_database(Options::default()).await.unwrap();
    let became = driver(&[url(&without)])
        .bring(
            &to,
            by(Generation(100), &BTreeSet::new(), &CancellationToken::new()),
        )
        .await;
    assert!(
        matches!(&became.nodes[&url(&without)], Brought::Held(why) if why.contains("has no database")),
        "{became:?}"
    );
}

/// A node that has not looked at its database yet is not converged, whatever its Admin API reads there. Of doubles: a real
/// one looks every five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exact_before_the_last_node_has_it() {
    ready();
    let database = Database::new();
    let one = node(&database).await;
    let late = Options {
        db_update_frequency: Duration::from_secs(3600),
        worker_state_update_frequency: Duration::from_millis(70),
        ..Options::default()
    };
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let alone = driver(&[url(&one)]);
    let to = wanted(&[(&share(1, 0), &door)]);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        alone
            .bring(
                &to,
                by(Generation(100), &BTreeSet::new(), &CancellationToken::new()),
            )
            .await;
        if alone
            .prove(&to)
            .await
            .into_values()
            .all(|proof| proof.verdict == Verdict::Exact)
        {
            break;
        }
        assert!(Instant::now() < end, "never");
    }
    let mut late = Kong::on(&database, late).await.unwrap();
    let both = driver(&[url(&one), url(&late)]);
    let to = wanted(&[(&share(2, 10_000), &door)]);
    both.bring(
        &to,
        by(Generation(100), &BTreeSet::new(), &CancellationToken::new()),
    )
    .await;
    let proof = both.prove(&to).await.into_values().next().unwrap();
    assert!(
        matches!(&proof.verdict, Verdict::Different(why) if why.contains(&url(&late)) && why.contains("should weigh")),
        "{proof:?}"
    );
    assert_eq!(
        Ask::new("GET", "/checkout").to(late.proxy()).await.headers["x-target"],
        "vm"
    );
    // Its database is away as well: it serves, and nothing is known.
    database.set_reachable(false);
    let became = both
        .bring(
            &to,
            by(Generation(100), &BTreeSet::new(), &CancellationToken::new()),
        )
        .await;
    assert!(
        became
            .nodes
            .values()
            .all(|node| matches!(node, Brought::Failed(_))),
        "{became:?}"
    );
    let proof = both.prove(&to).await.into_values().next().unwrap();
    assert!(matches!(proof.verdict, Verdict::Unknown(_)), "{proof:?}");
    database.set_reachable(true);
    late.restart().await.unwrap();
    assert_eq!(
        Ask::new("GET", "/checkout").to(late.proxy()).await.headers["x-target"],
        "eks"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newer_stays_and_what_somebody_changed_is_put_back() {
    let stage = Stage::set().await;
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let to = wanted(&[(&share(7, 1_000), &door)]);
    stage.proven(&to).await;
    let older = stage.bring(&wanted(&[(&share(6, 5_000), &door)])).await;
    let why = &older.splits[&"checkout".parse().unwrap()];
    assert!(
        why.contains("has generation 7 of split checkout, and this agent knows generation 6"),
        "{why}"
    );
    let weight = format!("upstreams/weir.checkout.default/targets/{eks}");
    for (path, change) in [
        (weight.as_str(), json!({"weight": 1})),
        ("services/weir.checkout.default", json!({"host": "evil.test"})),
        ("routes/weir.checkout.default", json!({"paths": ["/elsewhere"]})),
        (
            "upstreams/weir.checkout.default",
            json!({"algorithm": "least-connections"}),
        ),
        // By itself it makes an upstream hash, whatever its algorithm said (fact 15).
        ("upstreams/weir.checkout.default", json!({"hash_on": "ip"})),
    ] {
        assert_eq!(stage.ask("PATCH", path, Some(change)).await.0, 200, "{path}");
        let proof = stage.driver.prove(&to).await.into_values().next().unwrap();
        assert!(
            matches!(&proof.verdict, Verdict::Different(_)),
            "{path}: {proof:?}"
        );
        stage.proven(&to).await;
    }
    // All of it is gone: it is there again, with the ids that it had.
    let id = stage.get("routes/weir.checkout.default").await["id"].clone();
    for path in ["routes", "services", "upstreams"] {
        let path = format!("{path}/weir.checkout.default");
        assert_eq!(stage.ask("DELETE", &path, None).await.0, 204);
    }
    stage.proven(&to).await;
    assert_eq!(stage.get("routes/weir.checkout.default").await["id"], id);
    assert!(stage.kongs.len() == 2 || stage.kongs.is_empty());
}
