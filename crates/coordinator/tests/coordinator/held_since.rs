//! The program: since when a split is frozen before its first step, whatever is looked at meanwhile, and over a restart.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use weir_coordinator::ledger::Ledger;

use crate::program::{Coordinator, configure, phase, printed};
use crate::repository::{Repository, declaration};

const CHECKOUT: &str = "/v1/splits/checkout";

fn order(config: &Path, what: &str) {
    let config = config.to_str().unwrap();
    printed(&["split", what, "--config", config, "--reason", "night"]);
}

fn since(split: &Value) -> String {
    split["transition"]["since"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn what_is_frozen_says_since_when_and_goes_on_saying_so_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let config = configure(
        dir.path(),
        "url: repo\npoll: 100ms",
        "api: {anonymousRead: true}\n",
    );
    let mut coordinator = Coordinator::start(&config).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    order(&config, "freeze");
    let before = jiff::Timestamp::now();
    repo.commit("a tenth", &[("a.yaml", &declaration("shop", "90", "10"))]);
    let split = coordinator.until(CHECKOUT, |_, v| phase(v) == "frozen").await;
    let began = since(&split);
    assert_eq!(split["transition"]["waits"][0]["since"], began, "{split:#}");
    let at: jiff::Timestamp = began.parse().unwrap();
    assert!(at >= before, "{began} is before {before}");
    // Another commit that changes nothing of it is another look at it.
    let text = declaration("shop", "90", "10");
    let again = repo.commit("words", &[("a.yaml", &text), ("b.yaml", "# nothing\n")]);
    coordinator
        .until("/v1/splits", |_, v| {
            v["commits"]["main"] == again.to_string().as_str()
        })
        .await;
    assert_eq!(since(&coordinator.get(CHECKOUT).await.1), began);

    coordinator.signal("TERM");
    assert!(coordinator.ended().await.1, "{}", coordinator.said());
    let coordinator = Coordinator::start(&config).await;
    let split = coordinator.until(CHECKOUT, |_, v| phase(v) == "frozen").await;
    // The ledger keeps microseconds.
    let kept: jiff::Timestamp = since(&split).parse().unwrap();
    assert!(
        kept.duration_since(at).abs() < jiff::SignedDuration::from_millis(500),
        "{kept} {at}"
    );
    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    let events = ledger.events(0, 1_000).await.unwrap();
    let frozen = events
        .iter()
        .filter(|event| event.kind == "transition.frozen")
        .count();
    assert_eq!(frozen, 1, "{events:#?}");

    // It goes on: that it was frozen once says nothing of the next time.
    order(&config, "resume");
    coordinator.until(CHECKOUT, |_, v| phase(v) != "frozen").await;
}
