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
use crate::program::{Coordinator, configure, printed};
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
