//! The program: orders over the API and on the host, from who may give them to what becomes of them.

use std::path::{Path, PathBuf};

use crate::program::{Coordinator, configure, phase, printed, run, told, why};
use crate::repository::{Repository, declaration};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Moves by 20 percentage points, and then rests for longer than any test lasts. No agent was ever heard, so nobody is waited
/// for.
fn slowly(vm: &str, cloud: &str) -> String {
    declaration("shop", vm, cloud).replace(
        "spec: {mesh: default}",
        "spec: {mesh: default, transition: {maxStep: 20, bake: 1h, verify: {requests: 1, within: 1s, insufficient: proceed}}}",
    )
}

/// All to the VMs in such a repository, and the configuration of its coordinator: everybody may read, and for all that nobody
/// may order.
fn moves_slowly(dir: &Path) -> (Repository, PathBuf) {
    let repo = Repository::with(&dir.join("repo"), &[("a.yaml", &slowly("100", "0"))]);
    let file = configure(dir, "url: repo\npoll: 100ms", "api: {anonymousRead: true}\n");
    (repo, file)
}

#[tokio::test]
async fn orders_are_an_operators_and_do_what_they_say() {
    let dir = TempDir::new().unwrap();
    let (repo, file) = moves_slowly(dir.path());
    let config = file.to_str().unwrap();
    let token = |flag: &str, name: &str| {
        let made = printed(&["token", "create", "--config", config, flag, name]);
        made.trim().to_owned()
    };
    let (viewer, joining) = (token("--viewer", "grafana"), token("--zone", "fra"));
    let operator = token("--operator", "ada");
    assert!(operator.starts_with("weir-o-"), "{operator}");
    let unserved = run(&["split", "freeze", "--config", config, "--reason", "x"]);
    assert_eq!(unserved.status.code(), Some(1));
    let unserved = String::from_utf8(unserved.stderr).unwrap();
    assert!(unserved.contains("no coordinator serves"), "{unserved}");

    let coordinator = Coordinator::start(&file).await;
    let checkout = "/v1/splits/checkout";
    coordinator.until(checkout, |status, _| status == 200).await;
    let because = json!({"reason": "the test says so"});
    for path in [
        "/v1/splits/checkout/abort",
        "/v1/splits/checkout/freeze",
        "/v1/splits/checkout/resume",
        "/v1/freeze",
        "/v1/resume",
    ] {
        let forged = format!("weir-o{}", &viewer["weir-v".len()..]);
        for (token, status) in [
            (None, 401),
            (Some(viewer.as_str()), 403),
            (Some(joining.as_str()), 401),
            (Some(forged.as_str()), 401),
            (Some("weir-o-00000000-abcdefghijklmnopqrstuvwxyz012345"), 401),
        ] {
            let (got, problem) = coordinator.post(path, token, because.clone()).await;
            assert_eq!(
                (got, &problem["status"]),
                (status, &json!(status)),
                "{path} {token:?}"
            );
        }
        for bad in [
            json!({}),
            json!({"reason": " "}),
            json!({"reason": "x".repeat(501)}),
            json!({"reason": "x", "force": true}),
        ] {
            let (got, problem) = coordinator.post(path, Some(&operator), bad).await;
            assert_eq!(got, 400, "{problem}");
        }
        assert_eq!(coordinator.get(path).await.0, 405, "{path}");
    }
    let order = async |path: &str| coordinator.post(path, Some(&operator), because.clone()).await;
    assert_eq!(
        coordinator.get_as(checkout, Some(&operator)).await.0,
        200,
        "an operator also reads"
    );
    // Nothing is under way, and nothing came of all that was refused.
    let (status, problem) = order("/v1/splits/checkout/abort").await;
    assert_eq!(status, 409, "{problem}");
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .starts_with("nothing of checkout is under way")
    );
    let (status, problem) = order("/v1/splits/nothing/freeze").await;
    assert_eq!(
        (status, &problem["message"]),
        (409, &json!("no split is named nothing"))
    );
    assert_eq!(phase(&coordinator.get(checkout).await.1), "none");

    // Half the way, and back.
    repo.commit("forty", &[("a.yaml", &slowly("60", "40"))]);
    let split = coordinator
        .until(checkout, |_, v| v["transition"]["bite"] == json!(1))
        .await;
    assert_eq!(split["declared"], json!({"default": {"vm": 60, "cloud": 40}}));
    assert_eq!(told(&split), json!({"vm": 80, "cloud": 20}));
    assert_eq!(split["transition"]["bites"], json!(2));
    assert_ne!(split["standing"], "converged");
    assert!(
        why(&split).starts_with("Git declares cloud 40 %, vm 60 %, told is cloud 20 %, vm 80 %, because "),
        "{split:#}"
    );
    let (status, answer) = order("/v1/splits/checkout/abort").await;
    assert_eq!((status, &answer["done"]), (200, &json!(true)), "{answer}");
    let split = coordinator
        .until(checkout, |_, v| phase(v) == "quarantined")
        .await;
    assert_eq!(told(&split), json!({"vm": 100, "cloud": 0}));
    assert_eq!(split["declared"], json!({"default": {"vm": 60, "cloud": 40}}));
    assert!(
        why(&split).contains("it was aborted: \"the test says so\", says ada"),
        "{split:#}"
    );
    // Resumed, it goes there again.
    assert_eq!(order("/v1/splits/checkout/resume").await.0, 200);
    let moved = |v: &Value| told(v) == json!({"vm": 80, "cloud": 20});
    coordinator.until(checkout, |_, v| moved(v)).await;
    assert_eq!(order("/v1/splits/checkout/abort").await.0, 200);
    coordinator
        .until(checkout, |_, v| phase(v) == "quarantined")
        .await;

    // Frozen by whoever is at the host, a commit waits; the status says for whom.
    let said = printed(&[
        "split",
        "freeze",
        "checkout",
        "--config",
        config,
        "--reason",
        "peak hour",
    ]);
    assert!(said.starts_with("frozen: "), "{said}");
    repo.commit("fifty", &[("a.yaml", &slowly("50", "50"))]);
    let split = coordinator.until(checkout, |_, v| phase(v) == "frozen").await;
    assert_eq!(split["declared"], json!({"default": {"vm": 50, "cloud": 50}}));
    assert_eq!(told(&split), json!({"vm": 100, "cloud": 0}));
    assert!(
        why(&split).contains("split checkout is frozen: \"peak hour\", says ")
            && why(&split).contains(" on the coordinator's host"),
        "{split:#}"
    );
    // All, and one: each ends by itself.
    assert_eq!(order("/v1/freeze").await.0, 200);
    assert_eq!(order("/v1/splits/checkout/resume").await.0, 200);
    let split = coordinator
        .until(checkout, |_, v| why(v).contains("the test says so"))
        .await;
    assert_eq!(
        (phase(&split), told(&split)),
        ("frozen", json!({"vm": 100, "cloud": 0}))
    );
    assert_eq!(order("/v1/resume").await.0, 200);
    coordinator
        .until(checkout, |_, v| {
            v["transition"]["bites"] == json!(3) && told(v)["cloud"] == json!(16.67)
        })
        .await;
    let refused = run(&["split", "abort", "nothing", "--config", config, "--reason", "x"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no split is named nothing"));

    // Each step stands in the history, newest first.
    let (status, history) = coordinator.get("/v1/splits/checkout/history").await;
    assert_eq!(status, 200, "{history}");
    let steps = history["steps"].as_array().unwrap();
    let words: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(words[0], "bite 1 of 3, wave 1");
    assert_eq!(words.last(), Some(&"first plan of it"));
    let back = "return: it was aborted: \"the test says so\", says ada";
    assert_eq!(
        words.iter().filter(|word| **word == back).count(),
        2,
        "{words:#?}"
    );
    assert_eq!(steps[0]["subject"], "fifty");
    assert_eq!(steps[0]["author"], "Ada <ada@example.com>");
    assert_eq!(
        steps[0]["told"]["fra"],
        json!({"default": {"vm": 83.33, "cloud": 16.67}})
    );
    let (_, two) = coordinator.get("/v1/splits/checkout/history?limit=2").await;
    assert_eq!(two["steps"].as_array().unwrap()[..], steps[..2]);
    assert_eq!(coordinator.get("/v1/splits/nothing/history").await.0, 404);

    // A token that is taken back orders nothing any more.
    let listed = printed(&["token", "list", "--config", config]);
    let line = listed.lines().find(|line| line.contains("operator")).unwrap();
    printed(&[
        "token",
        "revoke",
        "--config",
        config,
        line.split(' ').next().unwrap(),
    ]);
    let (status, problem) = order("/v1/splits/checkout/abort").await;
    assert_eq!(status, 401);
    assert!(
        problem["message"].as_str().unwrap().contains("revoked"),
        "{problem}"
    );
}

/// Of what waits without having moved nothing stands in any plan: after a restart it is not taken for arrived.
#[tokio::test]
async fn what_is_frozen_is_known_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (repo, file) = moves_slowly(dir.path());
    let config = file.to_str().unwrap();
    let mut coordinator = Coordinator::start(&file).await;
    let checkout = "/v1/splits/checkout";
    coordinator.until(checkout, |status, _| status == 200).await;
    printed(&["split", "freeze", "--config", config, "--reason", "night"]);
    // Nothing waits for it yet.
    let frozen = |v: &Value| {
        let all = v["frozen"].as_array().cloned().unwrap_or_default();
        let all: Vec<String> = all.iter().map(|why| why.as_str().unwrap().to_owned()).collect();
        all.join(", ")
    };
    let all = |v: &Value| frozen(v).starts_with("all splits are frozen: \"night\", says ");
    coordinator.until("/v1/splits", |_, v| all(v)).await;
    repo.commit("ten", &[("a.yaml", &slowly("90", "10"))]);
    coordinator.until(checkout, |_, v| phase(v) == "frozen").await;
    // The newest commit is refused: what is in force is not decided on again.
    repo.commit("broken", &[("a.yaml", &slowly("90", "20"))]);
    coordinator
        .until("/v1/splits", |_, v| v["notice"] != Value::Null)
        .await;
    coordinator.signal("KILL");
    coordinator.ended().await;
    let coordinator = Coordinator::start(&file).await;
    let split = coordinator
        .until(checkout, |status, v| {
            let knows = phase(v) == "frozen";
            assert!(
                status != 200 || knows || why(v).contains("has just started"),
                "{v:#}"
            );
            knows
        })
        .await;
    assert_eq!(split["declared"], json!({"default": {"vm": 90, "cloud": 10}}));
    assert_eq!(told(&split), json!({"vm": 100, "cloud": 0}));
}
