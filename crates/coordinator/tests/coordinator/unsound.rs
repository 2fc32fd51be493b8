//! The program: a plan of a version with other rules is in force, and holds nothing up.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_coordinator::ledger::Ledger;
use weir_model::SplitName;

use crate::program::{Coordinator, configure, phase, printed, told};
use crate::repository::{Repository, declaration, split};

const CHECKOUT: &str = "/v1/splits/checkout";

/// Twenty bites of some seconds each: it is on its way for longer than the test lasts. No agent was ever heard, so nobody is waited
/// for.
fn files(vm: &str, cloud: &str, more: &str) -> String {
    let text = declaration("shop", vm, cloud).replace(
        "spec: {mesh: default}",
        "spec: {mesh: default, transition: {maxStep: 5, bake: 2s, verify: {requests: 1, within: 1s, insufficient: proceed}}}",
    );
    format!("{text}---\n{}{more}", split("search", "100", "0"))
}

/// The plan in force, as if a version with other rules had made it: what it says of search breaks a rule of this one.
async fn made_by_other_rules(ledger: &Path) {
    let ledger = Ledger::open(ledger).await.unwrap();
    let mut plan = ledger.newest_plan().await.unwrap().unwrap();
    let search = SplitName::new("search").unwrap();
    let split = Arc::make_mut(plan.splits.get_mut(&search).unwrap());
    for item in split.items.values_mut() {
        let item = Arc::make_mut(item);
        item.anchor = "0".repeat(item.anchor.len());
        item.digest = weir_planner::item_digest(item);
    }
    split.root = weir_planner::canonical::split_root(split);
    plan.id = weir_planner::plan_id(&plan);
    let written = sqlx::query("UPDATE plans SET plan = $1, id = $2 WHERE generation = $3")
        .bind(serde_json::to_string(&plan).unwrap())
        .bind(plan.id.to_string())
        .bind(i64::try_from(plan.generation.0).unwrap())
        .execute(ledger.pool())
        .await
        .unwrap();
    assert_eq!(written.rows_affected(), 1);
    ledger.close().await;
}

fn bite(split: &Value) -> u64 {
    split["transition"]["bite"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn what_other_rules_made_holds_up_no_commit_no_step_and_no_way_back() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", &files("100", "0", ""))]);
    let file = configure(
        dir.path(),
        "url: repo\npoll: 100ms",
        "api: {anonymousRead: true}\n",
    );
    let config = file.to_str().unwrap();
    let mut coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    repo.commit("cloud", &[("a.yaml", &files("0", "100", ""))]);
    coordinator.until(CHECKOUT, |_, v| bite(v) >= 1).await;
    coordinator.signal("TERM");
    assert!(coordinator.ended().await.1, "{}", coordinator.said());
    made_by_other_rules(&dir.path().join("data/ledger.sqlite")).await;

    // A commit beside it is taken, with what it brings.
    let coordinator = Coordinator::start(&file).await;
    let third = format!("---\n{}", split("third", "100", "0"));
    let beside = repo
        .commit("third", &[("a.yaml", &files("0", "100", &third))])
        .to_string();
    let notice = |v: &Value| v["notice"].as_str().unwrap_or_default().to_owned();
    let list = coordinator
        .until("/v1/splits", |_, v| v["commits"]["main"] == beside.as_str())
        .await;
    assert!(!notice(&list).contains("planning went wrong"), "{list:#}");
    coordinator
        .until("/v1/splits/third", |status, _| status == 200)
        .await;

    // What is in force takes its steps, and nothing of that commit comes with them.
    let (_, now) = coordinator.get(CHECKOUT).await;
    let at = bite(&now);
    coordinator.until(CHECKOUT, |_, v| bite(v) > at).await;
    assert_eq!(coordinator.get("/readyz").await.0, 200);

    // Orders are obeyed.
    let order = |words: &[&str]| {
        let all = [
            &["split"][..],
            words,
            &["--config", config, "--reason", "the test says so"],
        ]
        .concat();
        printed(&all)
    };
    let answer = order(&["abort", "checkout"]);
    assert!(answer.starts_with("it goes back everywhere at once"), "{answer}");
    let back = json!({"vm": 100, "cloud": 0});
    coordinator
        .until(CHECKOUT, |_, v| phase(v) == "quarantined" && told(v) == back)
        .await;
    coordinator
        .until("/v1/splits/checkout/history", |_, v| {
            let step = v["steps"][0]["step"].as_str();
            step.is_some_and(|step| step.starts_with("rests; quarantined"))
        })
        .await;

    // So is one that takes it back.
    let good = repo
        .commit("without", &[("a.yaml", &files("0", "100", ""))])
        .to_string();
    let list = coordinator
        .until("/v1/splits", |_, v| v["commits"]["main"] == good.as_str())
        .await;
    assert!(!notice(&list).contains("planning went wrong"), "{list:#}");
    coordinator
        .until("/v1/splits/third", |status, _| status == 404)
        .await;
    assert_eq!(
        told(&coordinator.get(CHECKOUT).await.1),
        back,
        "and nothing has moved by it"
    );
}
