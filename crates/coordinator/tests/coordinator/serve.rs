//! The program as people run it: from a configuration and a repository to answers, through everything that goes wrong.

mod ledger;

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::program::{Coordinator, configure, printed, run, script};
use crate::repository::{Repository, declaration};
use futures::StreamExt as _;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

const OPEN: &str = "api: {anonymousRead: true}\n";

fn generation(splits: &Value) -> u64 {
    splits["generation"].as_u64().unwrap()
}

fn field<'a>(records: &'a Value, name: &str) -> Vec<&'a Value> {
    records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record[name])
        .collect()
}

#[test]
fn a_wrong_configuration_is_told_with_its_place_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let config = configure(dir.path(), "url: /srv/traffic\npol: 5s", "");
    for command in ["check-config", "serve"] {
        let output = run(&[command, "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("coordinator.yaml:7:5"), "{told}");
        assert!(told.contains("`pol`"), "{told}");
        assert_eq!(output.stdout, b"");
    }
    assert!(!dir.path().join("data").exists());
    let output = run(&["serve", "--config", "/no/such/file.yaml"]);
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn from_commits_to_answers() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let config = configure(dir.path(), "url: repo", OPEN);
    let mut coordinator = Coordinator::start(&config).await;
    let splits = coordinator.until("/v1/splits", |_, v| generation(v) == 1).await;
    assert_eq!(splits["notice"], Value::Null);
    assert_eq!(
        splits["splits"][0]["declared"],
        json!({"default": {"vm": 100, "cloud": 0}})
    );
    assert_eq!(splits["splits"][0]["standing"], "unknown");

    // A second coordinator keeps out.
    let second = run(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(told.contains("another weir-coordinator serves from"), "{told}");

    let broken = repo.commit("too much", &[("a.yaml", &declaration("shop", "90", "20"))]);
    let splits = coordinator
        .until("/v1/splits", |_, v| v["notice"] != Value::Null)
        .await;
    assert_eq!(
        splits["notice"],
        format!(
            "commit {} of source main is refused: a.yaml:28:32: the weights of the route `default` add up to 110, \
             not 100 [WEIR0102]",
            &broken.to_string()[..12]
        )
    );
    assert_eq!(generation(&splits), 1);
    repo.commit("as meant", &[("a.yaml", &declaration("shop", "90", "10"))]);
    let splits = coordinator.until("/v1/splits", |_, v| generation(v) == 2).await;
    assert_eq!(splits["notice"], Value::Null);

    let (_, commits) = coordinator.get("/v1/commits").await;
    let rows = &commits["commits"];
    assert_eq!(field(rows, "subject"), ["as meant", "too much", "first"]);
    assert_eq!(field(rows, "verdict"), ["taken", "refused", "taken"]);
    assert_eq!(field(rows, "generation"), [&json!(2), &Value::Null, &json!(1)]);
    assert_eq!(rows[1]["diagnostics"][0]["code"], 102);
    assert_eq!(commits["sources"][0]["reachable"], true);

    let (_, latest) = coordinator.get("/v1/plans/latest").await;
    assert_eq!(
        latest["changes"],
        json!(["split checkout in ams, fra: route default: cloud 0 -> 10, vm 100 -> 90"])
    );
    assert_eq!(coordinator.get("/v1/plans/2").await.1, latest);
    for missing in ["/v1/plans/3", "/v1/plans/x", "/v1/splits/nothing", "/v1/nothing"] {
        let (status, problem) = coordinator.get(missing).await;
        assert_eq!((status, &problem["status"]), (404, &json!(404)), "{missing}");
        assert!(
            problem["message"].is_string() && problem["help"].is_string(),
            "{missing}"
        );
    }

    // The repository goes away: nothing changes but what is said, now and after a restart.
    fs::rename(dir.path().join("repo"), dir.path().join("away")).unwrap();
    coordinator.signal("HUP");
    let gone = |v: &Value| {
        v["notice"]
            .as_str()
            .is_some_and(|n| n.contains("source main cannot be read"))
    };
    let splits = coordinator.until("/v1/splits", |_, v| gone(v)).await;
    assert_eq!(generation(&splits), 2);
    coordinator.signal("TERM");
    assert!(coordinator.ended().await.1, "{}", coordinator.said());
    let coordinator = Coordinator::start(&config).await;
    let splits = coordinator.until("/v1/splits", |_, v| gone(v)).await;
    assert_eq!(generation(&splits), 2);
    assert_eq!(coordinator.get("/v1/plans/latest").await.1, latest);
    assert_eq!(coordinator.get("/readyz").await.0, 200);
    fs::rename(dir.path().join("away"), dir.path().join("repo")).unwrap();
    coordinator
        .until("/v1/splits", |_, v| v["notice"] == Value::Null)
        .await;
    let (_, again) = coordinator.get("/v1/commits").await;
    assert_eq!(again["commits"], *rows, "a restart decides nothing anew");
}

/// Reads events until one of this kind.
async fn events(coordinator: &Coordinator, query: &str, last: &str) -> Vec<Value> {
    let response = coordinator
        .client
        .get(format!("{}/v1/events{query}", coordinator.url))
        .send()
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let mut events = Vec::new();
    while let Some(part) = stream.next().await {
        text.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                let value: Value = serde_json::from_str(data).unwrap();
                assert!(event.contains(&format!("id: {}\n", value["id"])), "{event}");
                events.push(value);
            }
            text = rest.to_owned();
        }
        if events.last().is_some_and(|event| event["kind"] == last) {
            break;
        }
    }
    events
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_resumed() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let mut coordinator = Coordinator::start(&configure(dir.path(), "url: repo", OPEN)).await;
    let first = events(&coordinator, "?after=0", "plan.made").await;
    let (live, ()) = tokio::join!(events(&coordinator, "?after=2", "commit.refused"), async {
        repo.commit("broken", &[("a.yaml", "kind: [")]);
    });
    let all = events(&coordinator, "", "commit.refused").await;
    let kinds = |events: &[Value]| -> Vec<(u64, String)> {
        let pair = |e: &Value| (e["id"].as_u64().unwrap(), e["kind"].as_str().unwrap().to_owned());
        events.iter().map(pair).collect()
    };
    let told = [(1, "commit.taken"), (2, "plan.made"), (3, "commit.refused")]
        .map(|(id, kind)| (id, kind.to_owned()));
    assert_eq!(kinds(&first), told[..2]);
    assert_eq!(kinds(&live), told[2..]);
    assert_eq!(kinds(&all), told);
    let resumed = coordinator
        .client
        .get(format!("{}/v1/events", coordinator.url))
        .header("Last-Event-ID", "x")
        .send()
        .await
        .unwrap();
    assert_eq!(resumed.status().as_u16(), 400);

    // An open stream does not hold up the end.
    let open = tokio::spawn({
        let request = coordinator
            .client
            .get(format!("{}/v1/events?after=3", coordinator.url));
        async move { request.send().await.unwrap().bytes().await }
    });
    coordinator.until("/healthz", |status, _| status == 200).await;
    coordinator.signal("TERM");
    let (took, success) = coordinator.ended().await;
    assert!(
        success && took < Duration::from_secs(5),
        "{took:?}\n{}",
        coordinator.said()
    );
    open.await.unwrap().ok();
}

#[tokio::test]
async fn reading_needs_a_token_that_is_good_now() {
    let dir = TempDir::new().unwrap();
    Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let config = configure(dir.path(), "url: repo", "");
    let coordinator = Coordinator::start(&config).await;
    let config = config.to_str().unwrap();
    for open in ["/healthz", "/v1/openapi.json"] {
        assert_eq!(coordinator.get(open).await.0, 200, "{open}");
    }
    for closed in [
        "/v1/splits",
        "/v1/zones",
        "/v1/sources",
        "/v1/commits",
        "/v1/plans/latest",
        "/v1/events",
        "/metrics",
    ] {
        let (status, problem) = coordinator.get(closed).await;
        assert_eq!((status, problem["status"].as_u64()), (401, Some(401)), "{closed}");
    }
    let created: Value = serde_json::from_str(&printed(&[
        "token", "create", "--config", config, "--viewer", "ada", "--json",
    ]))
    .unwrap();
    let token = created["token"].as_str().unwrap();
    assert_eq!(coordinator.get_as("/v1/splits", Some(token)).await.0, 200);
    let joining = printed(&["token", "create", "--config", config, "--zone", "fra"]);
    // A zone that nobody declared gets its token, and a warning beside it: most often it is misspelt.
    coordinator.until("/readyz", |status, _| status == 200).await;
    for (zone, warning) in [
        ("fra", ""),
        (
            "far",
            "warning: the declaration in force has no zone far; its zones are ams, fra. An agent that joins with this token \
             gets nothing to do until that zone is declared\n",
        ),
    ] {
        let output = run(&["token", "create", "--config", config, "--zone", zone]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), warning);
        assert!(output.stdout.starts_with(b"weir-a-"), "{zone}");
    }
    for bad in [joining.trim(), "weir-v-00000000-x", "x"] {
        assert_eq!(coordinator.get_as("/v1/splits", Some(bad)).await.0, 401, "{bad}");
    }
    printed(&[
        "token",
        "revoke",
        "--config",
        config,
        created["id"].as_str().unwrap(),
    ]);
    let (status, problem) = coordinator.get_as("/v1/splits", Some(token)).await;
    assert_eq!(status, 401);
    assert!(
        problem["message"].as_str().unwrap().contains("revoked"),
        "{problem}"
    );
    let listed: Value =
        serde_json::from_str(&printed(&["token", "list", "--config", config, "--json"])).unwrap();
    let mut states: Vec<(String, String)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            (
                t["subject"].as_str().unwrap().to_owned(),
                t["state"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    states.sort();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let open = |zone| pair(zone, "open");
    assert_eq!(
        states,
        [pair("ada", "revoked"), open("far"), open("fra"), open("fra")]
    );
    assert_eq!(
        run(&["token", "revoke", "--config", config, "00000000"])
            .status
            .code(),
        Some(1)
    );
}

/// A source that is asked once an hour: only a webhook or SIGHUP makes it look.
#[tokio::test]
async fn a_webhook_and_a_hangup_make_it_look_now() {
    let git = Command::new("git").arg("--version").output().is_ok();
    let required = std::env::var("WEIR_REQUIRE").unwrap_or_default();
    assert!(git || !required.contains("git"), "git is required and not there");
    if !git {
        #[expect(clippy::print_stderr, reason = "who reads the test's output must know")]
        {
            eprintln!("skipped: there is no `git` program");
        }
        return;
    }
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let ssh = dir.path().join("ssh");
    script(&ssh, "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n");
    fs::write(dir.path().join("secret"), "s3cret\n").unwrap();
    let source = format!(
        "url: git@example.com:{}\npoll: 1h\nauth: {{sshProgram: ./ssh}}\nwebhook: {{kind: gitlab, secretFile: secret}}",
        repo.dir.display()
    );
    let coordinator = Coordinator::start(&configure(dir.path(), &source, OPEN)).await;
    coordinator.until("/v1/splits", |_, v| generation(v) == 1).await;
    let call = async |source: &str, secret: &str| {
        let request = coordinator
            .client
            .post(format!("{}/v1/webhooks/{source}", coordinator.url))
            .header("X-Gitlab-Token", secret)
            .body("{}");
        request.send().await.unwrap().status().as_u16()
    };
    repo.commit("next", &[("a.yaml", &declaration("shop", "90", "10"))]);
    assert_eq!(call("main", "wrong").await, 403);
    assert_eq!(call("other", "s3cret").await, 404);
    // Whoever brings no signature is answered before any of its body is read: this one never comes.
    for (source, status) in [("main", 403), ("other", 404)] {
        let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let request = coordinator
            .client
            .post(format!("{}/v1/webhooks/{source}", coordinator.url))
            .body(reqwest::Body::wrap_stream(never))
            .timeout(Duration::from_secs(10));
        assert_eq!(
            request.send().await.unwrap().status().as_u16(),
            status,
            "{source}"
        );
    }
    assert_eq!(generation(&coordinator.get("/v1/splits").await.1), 1);
    assert_eq!(call("main", "s3cret").await, 202);
    coordinator.until("/v1/splits", |_, v| generation(v) == 2).await;
    repo.commit("one more", &[("a.yaml", &declaration("shop", "80", "20"))]);
    coordinator.signal("HUP");
    coordinator.until("/v1/splits", |_, v| generation(v) == 3).await;
    fs::remove_file(dir.path().join("secret")).unwrap();
    assert_eq!(call("main", "s3cret").await, 500);
}
