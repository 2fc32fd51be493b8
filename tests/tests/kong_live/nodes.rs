//! A gateway of several nodes: each is posted to and proven, and one that is away is not forgotten.

use std::collections::BTreeSet;

use weir_drivers::{Brought, Fault, GatewayDriver as _, bring};
use weir_planner::{Coverage, Evidence, Generation, Verdict};
use weir_sandbox::kong::{Kong, Options};

use super::asking::{Target, nobody};
use super::stage::{Stage, by_routes, config, driver, made, plain, routing};

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
    let brought = bring(&all, &document, Generation(1), &BTreeSet::new()).await;
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
