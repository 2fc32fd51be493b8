//! The program: a step of which too few requests were counted goes on, as declared, and everybody is told.

use serde_json::Value;
use tempfile::TempDir;
use weir_coordinator::ledger::Ledger;

use crate::program::{Coordinator, configure, told};
use crate::repository::{Repository, declaration};

const CHECKOUT: &str = "/v1/splits/checkout";

#[tokio::test]
async fn what_goes_on_without_a_verdict_is_an_event_and_in_the_splits_history() {
    let dir = TempDir::new().unwrap();
    // No agent was ever heard, so nobody is waited for, and nothing is counted.
    let declare = |vm: &str, cloud: &str| {
        declaration("shop", vm, cloud).replace(
            "spec: {mesh: default}",
            "spec: {mesh: default, transition: {maxStep: 50, verify: {requests: 7, within: 1s, insufficient: proceed}}}",
        )
    };
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", &declare("100", "0"))]);
    let config = configure(
        dir.path(),
        "url: repo\npoll: 100ms",
        "api: {anonymousRead: true}\n",
    );
    let coordinator = Coordinator::start(&config).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    repo.commit("cloud", &[("a.yaml", &declare("0", "100"))]);
    let whole = serde_json::json!({"vm": 0, "cloud": 100});
    coordinator
        .until(CHECKOUT, |_, v| {
            told(v) == whole && v["transition"] == Value::Null
        })
        .await;

    let said = |bite: u32| {
        format!(
            "split checkout: bite {bite} of 2 was passed without a verdict, as `insufficient: proceed` says: insufficient data: 0 of \
             7 requests to what gained weight since the step was proven"
        )
    };
    let (_, history) = coordinator.get("/v1/splits/checkout/history").await;
    let events = history["events"].as_array().unwrap();
    let told: Vec<(&str, &str)> = events
        .iter()
        .map(|event| {
            (
                event["kind"].as_str().unwrap(),
                event["message"].as_str().unwrap(),
            )
        })
        .collect();
    let (second, first) = (said(2), said(1));
    let expected = [
        ("transition.unjudged", second.as_str()),
        ("transition.unjudged", &first),
    ];
    assert_eq!(told, expected, "newest first, once for each bite");
    // It is no turn: what the split waits for is what was told last of that.
    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    let turns = ledger.last_turns().await.unwrap();
    assert!(
        turns.values().all(|turn| turn.kind != "transition.unjudged"),
        "{turns:?}"
    );
}
