//! The program: what the history of a split tells of each zone, whatever becomes of other splits there.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_coordinator::ledger::{Ledger, NewEvent};
use weir_link::{AgentToken, Connector};
use weir_model::SplitName;
use weir_planner::{Coverage, Evidence, Item, ItemFact, ItemState, Proof, Verdict, ZoneFacts, ZonePlan};
use weir_wire::{AgentReport, Held, assemble, v1};

use crate::federation::{Agent, ask_to_join, greeting, zone};
use crate::program::{Coordinator, configure, phase, printed, run};
use crate::repository::{Repository, declaration, split};

fn fact(item: &Item, state: ItemState) -> ItemFact {
    let weights = item
        .routes
        .iter()
        .map(|route| (route.name.clone(), route.weights.clone()));
    let proof = (state == ItemState::Proven).then(|| Proof {
        at: Timestamp::now(),
        evidence: Evidence::Live,
        verdict: Verdict::Exact,
        coverage: Coverage { seen: 1, of: 1 },
        weights: Some(weights.collect()),
        unhealthy: BTreeSet::new(),
    });
    ItemFact {
        proof,
        ..ItemFact::new(item.reference(), state)
    }
}

/// What the agent of fra says: where checkout is, while search is held.
async fn says(agent: &Agent, plan: &ZonePlan, checkout: ItemState) {
    let of = |name: &str| &plan.items[&SplitName::new(name).unwrap()];
    let held = ItemState::Held("nobody is there".to_owned());
    let report = AgentReport {
        facts: ZoneFacts {
            zone: zone("fra"),
            at: Timestamp::now(),
            highest: plan.generation,
            kuma: Some("2.14.3".to_owned()),
            unreadable: None,
            fault: None,
            store: None,
            services: Vec::new(),
            items: vec![fact(of("checkout"), checkout), fact(of("search"), held)],
        },
        plan: Some(plan.plan),
        generation: plan.generation,
        refused: None,
        notes: Vec::new(),
    };
    agent.report(v1::Report::from(&report)).await;
}

#[tokio::test]
async fn each_split_is_proven_by_itself() {
    let dir = TempDir::new().unwrap();
    let text = format!(
        "{}---\n{}",
        declaration("shop", "100", "0"),
        split("search", "100", "0")
    );
    Repository::with(&dir.path().join("repo"), &[("a.yaml", &text)]);
    let config = configure(dir.path(), "url: repo", "api: {anonymousRead: true}\n");
    let coordinator = Coordinator::start(&config).await;
    let path = "/v1/splits/checkout/history";
    let first = coordinator.until(path, |status, _| status == 200).await;
    let step = &first["steps"][0];
    assert_eq!(
        [&step["author"], &step["committer"], &step["signature"]],
        ["Ada <ada@example.com>", "Ada <ada@example.com>", "none"],
        "{first:#}"
    );
    assert_eq!(step["received"], json!({}), "nobody has said anything");

    let words = [
        "token",
        "create",
        "--zone",
        "fra",
        "--config",
        config.to_str().unwrap(),
    ];
    let token: AgentToken = printed(&words).trim().parse().unwrap();
    let joined = weir_link::join(&coordinator.url, "fra", "fra-1", token, ask_to_join).await;
    let connector = Connector::new(&coordinator.url, joined.unwrap()).unwrap();
    let mut agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    let plan = assemble(&agent.plan().await, &Held::default()).unwrap();

    let reached = |what: &'static str| move |_: u16, v: &Value| v["steps"][0][what]["fra"].is_string();
    says(&agent, &plan, ItemState::Pending).await;
    let history = coordinator.until(path, reached("received")).await;
    assert_eq!(history["steps"][0]["applied"], json!({}), "{history:#}");
    says(&agent, &plan, ItemState::Applied).await;
    let history = coordinator.until(path, reached("applied")).await;
    assert_eq!(history["steps"][0]["proven"], json!({}), "{history:#}");
    says(&agent, &plan, ItemState::Proven).await;
    let history = coordinator.until(path, reached("proven")).await;
    let step = &history["steps"][0];
    let at = |what: &str| step[what]["fra"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(
        at("received") <= at("applied") && at("applied") <= at("proven"),
        "{step:#}"
    );
    assert!(at("proven").duration_since(at("received")) < jiff::SignedDuration::from_secs(30));

    let (_, search) = coordinator.get("/v1/splits/search/history").await;
    let step = &search["steps"][0];
    assert!(step["received"]["fra"].is_string(), "{step:#}");
    assert_eq!((&step["applied"], &step["proven"]), (&json!({}), &json!({})));

    // What happened between steps stands beside them, and only there.
    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    let checkout = SplitName::new("checkout").unwrap();
    let fell = NewEvent::new("zone.fallback", "split checkout in zone fra: vm is down").split(&checkout);
    let other = NewEvent::new("zone.held", "not of this").split(&checkout);
    ledger
        .record(Timestamp::now() + Duration::from_secs(1), &[fell, other])
        .await
        .unwrap();
    let (_, history) = coordinator.get(path).await;
    let events = history["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{history:#}");
    assert_eq!(events[0]["message"], "split checkout in zone fra: vm is down");
    let (_, search) = coordinator.get("/v1/splits/search/history").await;
    assert_eq!(search["events"], json!([]));
}

/// Kinds and messages, newest first.
fn told(history: &Value) -> Vec<(&str, &str)> {
    let events = history["events"].as_array().unwrap();
    let falls = |two: &[Value]| two[0]["at"].as_str() >= two[1]["at"].as_str();
    assert!(events.windows(2).all(falls), "{history:#}");
    let told = events.iter().map(|event| {
        (
            event["kind"].as_str().unwrap(),
            event["message"].as_str().unwrap(),
        )
    });
    told.collect()
}

#[tokio::test]
async fn history_says_who_ordered_what_and_why() {
    let dir = TempDir::new().unwrap();
    // No agent was ever heard, so nobody is waited for and nothing is counted.
    let text = declaration("shop", "50", "50").replace(
        "spec: {mesh: default}",
        "spec: {mesh: default, transition: {verify: {requests: 1, within: 1s, insufficient: proceed}}}",
    );
    let text = format!("{text}---\n{}", split("search", "100", "0"));
    Repository::with(&dir.path().join("repo"), &[("a.yaml", &text)]);
    let config = configure(dir.path(), "url: repo", "api: {anonymousRead: true}\n");
    let coordinator = Coordinator::start(&config).await;
    let checkout = "/v1/splits/checkout";
    coordinator.until(checkout, |status, _| status == 200).await;
    let config = config.to_str().unwrap();
    let order = |words: &[&str], why: &str| {
        let all = [&["split"][..], words, &["--config", config, "--reason", why]].concat();
        printed(&all)
    };
    order(&["freeze"], "peak hour");
    order(&["resume"], "it is over");
    order(&["drain", "checkout", "vm"], "new kernel");
    coordinator.until(checkout, |_, v| phase(v) == "drained").await;
    order(&["undrain", "checkout", "vm"], "it is back");
    let refused = run(&[
        "split",
        "abort",
        "search",
        "--config",
        config,
        "--reason",
        "by mistake",
    ]);
    assert_eq!(refused.status.code(), Some(1));

    let (_, history) = coordinator.get("/v1/splits/checkout/history").await;
    let orders: Vec<_> = told(&history)
        .into_iter()
        .filter(|(kind, _)| kind.starts_with("order."))
        .collect();
    let expected = [
        (
            "order.undrain",
            "undrain of backend vm of split checkout: \"it is back\", says ",
        ),
        (
            "order.drain",
            "drain of backend vm of split checkout: \"new kernel\", says ",
        ),
        ("order.resume", "resume of all splits: \"it is over\", says "),
        ("order.freeze", "freeze of all splits: \"peak hour\", says "),
    ];
    assert_eq!(orders.len(), expected.len(), "{history:#}");
    for ((kind, message), (is, begins)) in orders.iter().zip(expected) {
        assert_eq!(*kind, is, "{history:#}");
        assert!(message.starts_with(begins), "{message}");
        assert!(message.contains(" on the coordinator's host; "), "{message}");
    }
    // Each stands at the step that it made: not before it, and before the next.
    let events = history["events"].as_array().unwrap();
    let at = |text: &Value| text.as_str().unwrap().parse::<Timestamp>().unwrap();
    let drained = events
        .iter()
        .find(|event| event["kind"] == "order.drain")
        .unwrap();
    let steps = history["steps"].as_array().unwrap();
    let moved = steps
        .iter()
        .rposition(|step| step["told"]["fra"]["default"]["vm"] != 50);
    let moved = moved.unwrap();
    assert!(at(&drained["at"]) >= at(&steps[moved]["created"]), "{history:#}");
    assert!(
        at(&drained["at"]) < at(&steps[moved - 1]["created"]),
        "{history:#}"
    );

    let (_, search) = coordinator.get("/v1/splits/search/history").await;
    let kinds: Vec<&str> = told(&search).iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        ["order.refused", "order.resume", "order.freeze"],
        "{search:#}"
    );

    // What else happened to it, and not what every step has.
    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    let of = SplitName::new("search").unwrap();
    let shown = [
        "zone.pinned",
        "backend.down",
        "transition.held",
        "transition.frozen",
        "backend.relieved",
        "backend.up",
        "zone.unpinned",
    ];
    let hidden = ["zone.proven", "transition.waits", "transition.rests", "plan.made"];
    let all = shown.into_iter().chain(hidden);
    let all: Vec<NewEvent> = all.map(|kind| NewEvent::new(kind, kind).split(&of)).collect();
    ledger
        .record(Timestamp::now() + Duration::from_secs(1), &all)
        .await
        .unwrap();
    let (_, search) = coordinator.get("/v1/splits/search/history").await;
    let mut kinds: Vec<&str> = told(&search).iter().map(|(kind, _)| *kind).collect();
    kinds.truncate(shown.len() + 1);
    let newest: Vec<&str> = shown.iter().rev().copied().chain(["order.refused"]).collect();
    assert_eq!(kinds, newest);
}

/// Other splits have changed thousands of times since.
#[tokio::test]
async fn a_split_that_has_not_changed_for_long_has_a_history() {
    let dir = TempDir::new().unwrap();
    Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let config = configure(dir.path(), "url: repo", "api: {anonymousRead: true}\n");
    let coordinator = Coordinator::start(&config).await;
    let path = "/v1/splits/checkout/history";
    let first = coordinator.until(path, |status, _| status == 200).await;
    assert_eq!(first["note"], Value::Null, "{first:#}");
    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    sqlx::query(
        "WITH RECURSIVE n(g) AS (SELECT 2 UNION ALL SELECT g + 1 FROM n WHERE g < 2200) \
         INSERT INTO plans (generation, id, parent, created, plan) \
         SELECT g, 'of ' || g, id, created, plan FROM n JOIN plans ON plans.generation = 1",
    )
    .execute(ledger.pool())
    .await
    .unwrap();
    let (status, history) = coordinator.get(path).await;
    assert_eq!(status, 200, "{history:#}");
    assert_eq!(history["steps"], first["steps"]);
    let note = history["note"].as_str().unwrap_or_default();
    assert!(note.contains("back to generation 153;"), "{note}");
    assert!(note.contains("but for the last one"), "{note}");

    // It is in force, even if that plan is kept no more.
    sqlx::query("DELETE FROM plans WHERE generation = 1")
        .execute(ledger.pool())
        .await
        .unwrap();
    let (status, history) = coordinator.get(path).await;
    assert_eq!((status, &history["steps"]), (200, &json!([])), "{history:#}");
    let note = history["note"].as_str().unwrap_or_default();
    assert!(note.contains("older steps are not told"), "{note}");
    let (status, problem) = coordinator.get("/v1/splits/nothing/history").await;
    assert_eq!(status, 404, "{problem}");
}
