//! The program: agents whose hosts are gone are waited for until somebody says that they are gone.

use crate::program::{Coordinator, configure, printed, run};
use crate::repository::{Repository, declaration};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use weir_coordinator::ledger::{AgentRow, Ledger};
use weir_model::ZoneName;
use weir_planner::Generation;

/// Agents that a coordinator heard in an earlier life; their certificates ended long ago.
async fn remember(file: &std::path::Path, names: &[&str]) {
    let ledger = Ledger::open(file).await.unwrap();
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    let rows: Vec<AgentRow> = names
        .iter()
        .map(|name| AgentRow {
            zone: ZoneName::new("fra").unwrap(),
            name: (*name).to_owned(),
            version: "1.2.3".to_owned(),
            generation: Generation(1),
            highest: Generation(1),
            kuma: None,
            heard_at: Some(at),
            certificate_expires: Some(at),
        })
        .collect();
    ledger.observe(at, &rows, &[], &[], &[]).await.unwrap();
    ledger.close().await;
}

fn names(zones: &Value) -> Vec<&str> {
    let zones = zones["zones"].as_array().unwrap();
    let fra = zones.iter().find(|zone| zone["name"] == "fra").unwrap();
    let agents = fra["agents"].as_array().unwrap();
    agents
        .iter()
        .map(|agent| agent["name"].as_str().unwrap())
        .collect()
}

fn refused(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn an_agent_is_waited_for_until_it_is_forgotten() {
    let dir = TempDir::new().unwrap();
    Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let file = configure(dir.path(), "url: repo", "api: {anonymousRead: true}\n");
    let config = file.to_str().unwrap();
    assert_eq!(printed(&["agent", "list", "--config", config]), "");
    remember(
        &dir.path().join("data/ledger.sqlite"),
        &["fra-1", "fra-2", "fra-3"],
    )
    .await;
    let listed = printed(&["agent", "list", "--config", config]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("certificate ended 2023-11-14"), "{listed}");

    let coordinator = Coordinator::start(&file).await;
    let zones = coordinator
        .until("/v1/zones", |_, v| {
            v["zones"].as_array().is_some_and(|z| z.len() > 1)
        })
        .await;
    assert_eq!(names(&zones), ["fra-1", "fra-2", "fra-3"]);
    // Beside the coordinator: nobody else may write what it holds in memory.
    let forget = |name: &'static str| ["agent", "forget", "--config", config, "fra", name];
    assert_eq!(
        printed(&forget("fra-1")),
        "agent fra-1 of zone fra is forgotten\n"
    );
    let zones = coordinator.get("/v1/zones").await.1;
    assert_eq!(names(&zones), ["fra-2", "fra-3"]);
    let told = refused(&forget("fra-1"));
    assert!(told.contains("there is no agent fra-1 in zone fra"), "{told}");
    drop(coordinator);

    // While none serves, and it stays forgotten.
    assert_eq!(
        printed(&forget("fra-2")),
        "agent fra-2 of zone fra is forgotten\n"
    );
    let listed = printed(&["agent", "list", "--json", "--config", config]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["name"], "fra-3");
    let coordinator = Coordinator::start(&file).await;
    let zones = coordinator
        .until("/v1/zones", |_, v| {
            v["zones"].as_array().is_some_and(|z| z.len() > 1)
        })
        .await;
    assert_eq!(names(&zones), ["fra-3"]);
    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    let events = ledger.events(0, 100).await.unwrap();
    let forgotten: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "agent.forgotten")
        .map(|event| event.message.as_str())
        .collect();
    assert_eq!(forgotten.len(), 2);
    assert!(
        forgotten[0].starts_with("agent fra-1 of zone fra is forgotten"),
        "{forgotten:?}"
    );
}
