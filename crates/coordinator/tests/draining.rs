//! The program: drains beside commits, other orders and starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod repository;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use program::{Coordinator, configure, printed};
use repository::{Repository, declaration, split};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_coordinator::ledger::{Ledger, Order, OrderKind};
use weir_model::{BackendName, SplitName};

const CHECKOUT: &str = "/v1/splits/checkout";

/// Moves without waiting for requests. No agent was ever heard, so nobody is waited for.
fn at_once(vm: &str, cloud: &str) -> String {
    declaration("shop", vm, cloud).replace(
        "spec: {mesh: default}",
        "spec: {mesh: default, transition: {verify: {requests: 1, within: 1s, insufficient: proceed}}}",
    )
}

/// Such a repository, and the configuration of its coordinator.
fn repository(dir: &Path, text: &str) -> (Repository, PathBuf) {
    let repo = Repository::with(&dir.join("repo"), &[("a.yaml", text)]);
    let file = configure(dir, "url: repo\npoll: 100ms", "api: {anonymousRead: true}\n");
    (repo, file)
}

/// Orders on the host, and says what it was told.
fn order(config: &Path, words: &[&str]) -> String {
    let config = config.to_str().unwrap();
    let rest = ["--config", config, "--reason", "new kernel"];
    printed(&[&["split"], words, &rest].concat())
}

fn told(split: &Value) -> Value {
    assert_eq!(split["zones"][0]["told"], split["zones"][1]["told"], "{split:#}");
    split["zones"][0]["told"]["default"].clone()
}

fn phase(split: &Value) -> &str {
    split["transition"]["phase"].as_str().unwrap_or("none")
}

/// The revert of a commit passes a freeze with what it takes back, and with nothing else that waits.
#[tokio::test]
async fn a_revert_of_another_split_takes_no_drain_along() {
    let dir = TempDir::new().unwrap();
    let both = |search: (&str, &str)| {
        let search = split("search", search.0, search.1);
        format!("{}---\n{search}", at_once("80", "20"))
    };
    let (repo, file) = repository(dir.path(), &both(("100", "0")));
    let coordinator = Coordinator::start(&file).await;
    let search = "/v1/splits/search";
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    repo.commit("search moves", &[("a.yaml", &both(("50", "50")))]);
    coordinator
        .until(search, |_, v| told(v)["vm"] == json!(50) && phase(v) == "none")
        .await;
    order(&file, &["freeze"]);
    order(&file, &["drain", "checkout", "vm"]);
    coordinator.until(CHECKOUT, |_, v| phase(v) == "frozen").await;
    repo.commit("search goes back", &[("a.yaml", &both(("100", "0")))]);
    coordinator
        .until(search, |_, v| told(v)["vm"] == json!(100) && phase(v) == "none")
        .await;
    let (_, split) = coordinator.get(CHECKOUT).await;
    assert_eq!(
        (phase(&split), told(&split)),
        ("frozen", json!({"vm": 80, "cloud": 20})),
        "{split:#}"
    );
}

/// All to the VMs, moved by 20 percentage points and then at rest for longer than any test lasts.
fn slowly(vm: &str, cloud: &str) -> String {
    at_once(vm, cloud).replace("transition: {", "transition: {maxStep: 20, bake: 1h, ")
}

/// What cannot go back stops where it is, and whoever aborted it is told so.
#[tokio::test]
async fn an_abort_under_a_drain_stops_it() {
    let dir = TempDir::new().unwrap();
    let (_repo, file) = repository(dir.path(), &slowly("100", "0"));
    let coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    order(&file, &["drain", "checkout", "vm", "--to", "cloud"]);
    let first = json!({"vm": 80, "cloud": 20});
    coordinator.until(CHECKOUT, |_, v| told(v) == first).await;
    let answer = order(&file, &["abort", "checkout"]);
    assert!(
        answer.starts_with("it is stopped where it is and does not go back"),
        "{answer}"
    );
    let split = coordinator.until(CHECKOUT, |_, v| phase(v) == "held").await;
    assert_eq!(told(&split), first);
    let why = split["reason"].as_str().unwrap();
    assert!(why.contains("it was aborted: \"new kernel\", says "), "{why}");
    order(&file, &["undrain", "checkout", "vm"]);
    coordinator
        .until(CHECKOUT, |_, v| {
            told(v) == json!({"vm": 100, "cloud": 0}) && phase(v) == "none"
        })
        .await;
}

/// Given within one look, an abort goes back from where the split is, and the drain is judged by what that leaves.
#[tokio::test]
async fn a_drain_beside_an_abort_keeps_nothing_from_going_back() {
    let dir = TempDir::new().unwrap();
    let (repo, file) = repository(dir.path(), &slowly("100", "0"));
    let coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    repo.commit("sixty", &[("a.yaml", &slowly("40", "60"))]);
    coordinator
        .until(CHECKOUT, |_, v| told(v) == json!({"vm": 80, "cloud": 20}))
        .await;
    let ledger = Ledger::open(&file.with_file_name("data/ledger.sqlite"))
        .await
        .unwrap();
    coordinator.signal("STOP");
    let kinds = [
        OrderKind::Drain {
            backend: BackendName::new("vm").unwrap(),
            to: None,
        },
        OrderKind::Abort,
    ];
    for (id, kind) in ["1", "2"].into_iter().zip(kinds) {
        let order = Order {
            id: id.to_owned(),
            kind,
            split: Some(SplitName::new("checkout").unwrap()),
            reason: "the test says so".to_owned(),
            who: "ada".to_owned(),
        };
        ledger.order(Timestamp::now(), &order).await.unwrap();
    }
    coordinator.signal("CONT");
    coordinator
        .until(CHECKOUT, |_, v| {
            told(v) == json!({"vm": 100, "cloud": 0}) && phase(v) == "quarantined"
        })
        .await;
    let began = Instant::now();
    let drain = loop {
        if let Some(answer) = ledger.answered("1").await.unwrap() {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(
        !drain.done && drain.message.contains("is quarantined"),
        "{drain:?}"
    );
    assert!(ledger.answered("2").await.unwrap().unwrap().done);
}
