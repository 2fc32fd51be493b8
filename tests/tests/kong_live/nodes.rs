//! A gateway of several nodes: each is posted to and proven, and one that is away is not forgotten.

use std::time::Duration;

use weir_drivers::{Brought, Fault, GatewayDriver as _};
use weir_planner::{Coverage, Evidence, Verdict};
use weir_sandbox::kong::{Kong, Options};

use super::asking::{Ask, Target, nobody};
use super::stage::{Stage, by_routes, config, driver, first, made, plain, ready, routing};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_is_told_and_the_others_go_on() {
    let stage = Stage::set().await;
    let other = Kong::without_database(Options::default()).await.unwrap();
    let other = format!("http://{}", other.admin());
    let gone = format!("http://{}", nobody().await);
    let (vm, eks) = (
        Target::start("vm").await.address,
        Target::start("eks").await.address,
    );
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let document = made(
        None,
        &[(&plain("checkout", 1, &[("vm", 9_000), ("eks", 1_000)]), &door)],
    );
    let nodes = |urls: &[&str]| driver(urls.iter().map(|url| config(url, None)).collect());

    let all = nodes(&[&stage.admin, &other, &gone]);
    let brought = first(&all, &document, 1).await;
    assert_eq!(brought.len(), 3);
    assert!(
        matches!(brought[&other], Brought::Posted) && matches!(brought[&stage.admin], Brought::Posted),
        "{brought:?}"
    );
    assert!(
        matches!(&brought[&gone], Brought::Failed(error) if error.fault == Fault::Away),
        "{brought:?}"
    );
    let proof = all.prove(&document).await.into_values().next().unwrap();
    assert!(
        matches!(&proof.verdict, Verdict::Unknown(why) if why.contains(&gone)),
        "{proof:?}"
    );
    assert_eq!(
        (proof.coverage, proof.evidence),
        (Coverage { seen: 2, of: 3 }, Evidence::Live)
    );
    assert!(proof.weights.is_some(), "those that answer agree");

    let two = nodes(&[&stage.admin, &other]);
    let proof = two.prove(&document).await.into_values().next().unwrap();
    assert_eq!(
        (proof.verdict, proof.coverage),
        (Verdict::Exact, Coverage { seen: 2, of: 2 })
    );
    // One of them is given something else: whoever says exact would be wrong.
    let next = made(
        None,
        &[(&plain("checkout", 2, &[("vm", 5_000), ("eks", 5_000)]), &door)],
    );
    two.post(&other, &next).await.unwrap();
    for document in [&document, &next] {
        let proof = two.prove(document).await.into_values().next().unwrap();
        assert!(matches!(proof.verdict, Verdict::Different(_)), "{proof:?}");
        assert_eq!(
            (proof.coverage, proof.weights),
            (Coverage { seen: 2, of: 2 }, None)
        );
    }
}

/// A real Kong's workers lag by milliseconds, too little to be sure that a test would see it: so the double, whose second
/// worker is late by a good while.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exact_before_the_last_worker_has_it() {
    ready();
    let options = Options {
        propagation: Duration::from_millis(200),
        ..Options::default()
    };
    let kong = Kong::without_database(options).await.unwrap();
    let url = format!("http://{}", kong.admin());
    let driver = driver(vec![config(&url, None)]);
    let (vm, eks) = (
        Target::start("vm").await.address,
        Target::start("eks").await.address,
    );
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    for change in 1..=4 {
        let (old, new) = if change % 2 == 0 {
            ("eks", "vm")
        } else {
            ("vm", "eks")
        };
        let item = plain("checkout", change, &[(old, 0), (new, 10_000)]);
        let document = made(None, &[(&item, &door)]);
        let brought = first(&driver, &document, change).await;
        assert!(matches!(brought[&url], Brought::Posted), "{brought:?}");
        let proof = driver.prove(&document).await.into_values().next().unwrap();
        assert_eq!(proof.verdict, Verdict::Exact);
        // One connection after the other goes to the next worker.
        for _ in 0..4 {
            let answer = Ask::new("GET", "/checkout").to(kong.proxy()).await;
            assert_eq!(answer.headers["x-target"], new, "change {change}");
        }
    }
}
