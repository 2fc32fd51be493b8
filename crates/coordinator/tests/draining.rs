//! The program: drains beside commits, other orders and starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod repository;

use std::path::{Path, PathBuf};

use program::{Coordinator, configure, printed};
use repository::{Repository, declaration, split};
use serde_json::{Value, json};
use tempfile::TempDir;

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
