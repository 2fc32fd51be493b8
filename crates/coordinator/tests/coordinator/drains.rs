//! The program: drains, from the order to its end, over restarts, quarantines and commits that take away what is drained.

use std::path::{Path, PathBuf};

use crate::program::{Coordinator, configure, phase, printed, told, why};
use crate::repository::{Repository, declaration, split};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_coordinator::ledger::{Ledger, Order, OrderKind};
use weir_model::{BackendName, SplitName};

const CHECKOUT: &str = "/v1/splits/checkout";

/// At once, and judged for a second: no agent was ever heard, so nobody is waited for and nothing is counted.
const SOON: &str = "spec: {mesh: default, prune: allow, transition: {verify: {requests: 1, within: 1s, insufficient: proceed}}}";

fn two(vm: &str, cloud: &str) -> String {
    declaration("shop", vm, cloud).replace("spec: {mesh: default}", SOON)
}

/// Such a repository, and the configuration of its coordinator: everybody may read.
fn federation(dir: &Path, first: &str) -> (Repository, PathBuf) {
    let repo = Repository::with(&dir.join("repo"), &[("a.yaml", first)]);
    let file = configure(dir, "url: repo\npoll: 100ms", "api: {anonymousRead: true}\n");
    (repo, file)
}

fn operator(config: &str) -> String {
    let made = printed(&["token", "create", "--config", config, "--operator", "ada"]);
    made.trim().to_owned()
}

/// An order about a backend of `checkout`: `vm/drain` and the like.
async fn order(coordinator: &Coordinator, operator: &str, path: &str, body: Value) -> (u16, Value) {
    let path = format!("{CHECKOUT}/backends/{path}");
    coordinator.post(&path, Some(operator), body).await
}

/// Leaves an order in the ledger while nobody serves.
async fn left_behind(dir: &Path, id: &str, kind: OrderKind) {
    let ledger = Ledger::open(&dir.join("data/ledger.sqlite")).await.unwrap();
    let order = Order {
        id: id.to_owned(),
        kind,
        split: SplitName::new("checkout").ok(),
        reason: "new kernel".to_owned(),
        who: "ada".to_owned(),
    };
    ledger.order(Timestamp::now(), &order).await.unwrap();
    ledger.close().await;
}

async fn answer(dir: &Path, id: &str) -> (bool, String) {
    let ledger = Ledger::open(&dir.join("data/ledger.sqlite")).await.unwrap();
    let answer = ledger.answered(id).await.unwrap().unwrap();
    ledger.close().await;
    (answer.done, answer.message)
}

async fn killed(mut coordinator: Coordinator) {
    coordinator.signal("KILL");
    coordinator.ended().await;
}

/// A drained backend gets nothing in any zone, whatever is committed and whoever is killed, until it is undrained.
#[tokio::test]
async fn a_drain_holds_until_it_is_ended() {
    let dir = TempDir::new().unwrap();
    let (repo, file) = federation(dir.path(), &two("80", "20"));
    let config = file.to_str().unwrap();
    let operator = operator(config);
    let mut coordinator = Coordinator::start(&file).await;
    let checkout = CHECKOUT;
    coordinator.until(checkout, |status, _| status == 200).await;
    let order = async |coordinator: &Coordinator, path: &str, body: Value| {
        order(coordinator, &operator, path, body).await
    };
    let because = json!({"reason": "new kernel"});
    for (path, body, status, why) in [
        (
            "lab/drain",
            because.clone(),
            409,
            "split checkout has no backend lab",
        ),
        ("v_m/drain", because.clone(), 404, "no backend can be named `v_m`"),
        (
            "vm/drain",
            json!({"reason": "x", "to": "vm"}),
            409,
            "cannot be drained to vm",
        ),
        ("vm/drain", json!({"reason": ""}), 400, "an order needs a reason"),
        (
            "vm/undrain",
            because.clone(),
            409,
            "backend vm of split checkout is not drained",
        ),
    ] {
        let (got, problem) = order(&coordinator, path, body).await;
        assert_eq!(got, status, "{path}: {problem}");
        let told = problem["message"].as_str().unwrap();
        assert!(told.contains(why), "{path}: {problem}");
    }
    // Two that cannot be carried out together, at one time: one of them is done, whatever look takes them up.
    let both = tokio::join!(
        order(&coordinator, "vm/drain", because.clone()),
        order(&coordinator, "cloud/drain", because.clone())
    );
    let done = [(both.0.0, "vm"), (both.1.0, "cloud")];
    let done: Vec<&str> = done
        .iter()
        .filter(|(status, _)| *status == 200)
        .map(|(_, name)| *name)
        .collect();
    assert_eq!(done.len(), 1, "{both:?}");
    let (status, _) = order(&coordinator, &format!("{}/undrain", done[0]), because.clone()).await;
    assert_eq!(status, 200);
    coordinator
        .until(checkout, |_, v| {
            told(v) == json!({"vm": 80, "cloud": 20}) && phase(v) == "none"
        })
        .await;
    let (status, answer) = order(&coordinator, "vm/drain", because.clone()).await;
    assert_eq!((status, &answer["done"]), (200, &json!(true)), "{answer}");
    let drained = json!({"vm": 0, "cloud": 100});
    let split = coordinator
        .until(checkout, |_, v| phase(v) == "drained" && told(v) == drained)
        .await;
    assert_eq!(split["declared"], json!({"default": {"vm": 80, "cloud": 20}}));
    assert!(
        why(&split).ends_with("because drained: backend vm is drained: \"new kernel\", says ada"),
        "{split:#}"
    );
    let (_, problem) = order(&coordinator, "cloud/drain", because.clone()).await;
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .contains("nobody else has a share"),
        "{problem}"
    );

    coordinator.signal("KILL");
    coordinator.ended().await;
    repo.commit("more to the VMs", &[("a.yaml", &two("90", "10"))]);
    let coordinator = Coordinator::start(&file).await;
    let split = coordinator
        .until(checkout, |status, v| {
            assert!(status != 200 || told(v) == drained, "{v:#}");
            phase(v) == "drained" && v["declared"] == json!({"default": {"vm": 90, "cloud": 10}})
        })
        .await;
    assert_ne!(split["standing"], "converged");

    let ended = printed(&[
        "split",
        "undrain",
        "checkout",
        "vm",
        "--config",
        config,
        "--reason",
        "it is back",
    ]);
    assert!(ended.starts_with("undrained: "), "{ended}");
    coordinator
        .until(checkout, |_, v| {
            told(v) == json!({"vm": 90, "cloud": 10}) && phase(v) == "none"
        })
        .await;
}

/// The first look of a coordinator knows no declaration yet to judge a drain by: what waits in the ledger is neither refused
/// for that nor answered and forgotten, but obeyed, answered by the next one, and in force after the next start as well. So it is
/// where the newest commit is broken, too.
#[tokio::test]
async fn what_was_ordered_before_the_first_look_is_carried_out_and_remembered() {
    let vm = || BackendName::new("vm").unwrap();
    for broken in [false, true] {
        let dir = TempDir::new().unwrap();
        let (repo, file) = federation(dir.path(), &two("80", "20"));
        let coordinator = Coordinator::start(&file).await;
        coordinator.until(CHECKOUT, |status, _| status == 200).await;
        if broken {
            repo.commit("broken", &[("a.yaml", &two("80", "30"))]);
            coordinator
                .until("/v1/splits", |_, v| v["notice"] != Value::Null)
                .await;
        }
        killed(coordinator).await;
        let drain = OrderKind::Drain {
            backend: vm(),
            to: None,
        };
        left_behind(dir.path(), "one", drain).await;
        let coordinator = Coordinator::start(&file).await;
        let drained = json!({"vm": 0, "cloud": 100});
        coordinator
            .until(CHECKOUT, |status, v| {
                status == 200 && phase(v) == "drained" && told(v) == drained
            })
            .await;
        let (done, message) = answer(dir.path(), "one").await;
        assert!(done && message.starts_with("drained: vm"), "{message}");
        // In the one transaction that has the plan: a kill leaves both or neither.
        let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
            .await
            .unwrap();
        let together: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM events ordered JOIN events made ON made.at = ordered.at \
             WHERE ordered.kind = 'order.drain' AND made.kind = 'plan.made'",
        )
        .fetch_one(ledger.pool())
        .await
        .unwrap();
        ledger.close().await;
        assert_eq!(together, 1);
        killed(coordinator).await;

        let coordinator = Coordinator::start(&file).await;
        coordinator
            .until(CHECKOUT, |status, v| {
                assert!(status != 200 || told(v) == drained, "{v:#}");
                phase(v) == "drained"
            })
            .await;
        killed(coordinator).await;

        left_behind(dir.path(), "two", OrderKind::Undrain { backend: vm() }).await;
        let coordinator = Coordinator::start(&file).await;
        let declared = json!({"vm": 80, "cloud": 20});
        coordinator
            .until(CHECKOUT, |status, v| {
                status == 200 && phase(v) == "none" && told(v) == declared
            })
            .await;
        let (done, message) = answer(dir.path(), "two").await;
        assert!(done && message.starts_with("undrained: vm"), "{message}");
    }
}

/// A quarantine is of the very weights that were judged: neither a drain nor the end of one makes others of them, which would be
/// gone towards.
#[tokio::test]
async fn nothing_is_drained_and_undrained_while_a_split_is_quarantined() {
    let dir = TempDir::new().unwrap();
    // By 20 percentage points, and then nothing for longer than any test lasts.
    let slowly = SOON.replace("transition: {", "transition: {maxStep: 20, bake: 1h, ");
    let three = |vm: &str, cloud: &str, lab: &str| {
        declaration("shop", vm, cloud)
            .replace("spec: {mesh: default}", &slowly)
            .replace(
                "{name: ams}\nspec: {platform: vm}",
                "{name: ams}\nspec: {platform: kubernetes}",
            )
            .replace(
                "    cloud: {zone: ams}",
                "    cloud: {zone: ams, namespace: shop}\n    lab: {zone: ams, namespace: lab}",
            )
            .replace(
                &format!("cloud: {cloud}}}"),
                &format!("cloud: {cloud}, lab: {lab}}}"),
            )
    };
    let (repo, file) = federation(dir.path(), &three("20", "80", "0"));
    let operator = operator(file.to_str().unwrap());
    let coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    let because = json!({"reason": "new kernel"});
    let (status, answer) = order(&coordinator, &operator, "vm/drain", because.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let rests = json!({"vm": 0, "cloud": 100, "lab": 0});
    coordinator
        .until(CHECKOUT, |_, v| phase(v) == "drained" && told(v) == rests)
        .await;
    repo.commit("forty", &[("a.yaml", &three("20", "40", "40"))]);
    coordinator
        .until(CHECKOUT, |_, v| {
            v["transition"]["bite"] == json!(1) && told(v) != rests
        })
        .await;
    let (status, answer) = coordinator
        .post(&format!("{CHECKOUT}/abort"), Some(&operator), because.clone())
        .await;
    assert_eq!(status, 200, "{answer}");
    let quarantined = coordinator
        .until(CHECKOUT, |_, v| phase(v) == "quarantined")
        .await;
    assert_eq!(told(&quarantined), rests);
    for path in ["lab/drain", "cloud/drain", "vm/undrain"] {
        let (status, problem) = order(&coordinator, &operator, path, because.clone()).await;
        let message = problem["message"].as_str().unwrap();
        assert!(
            status == 409
                && message
                    .contains("split checkout is quarantined (it was aborted: \"new kernel\", says ada)"),
            "{path}: {status} {problem}"
        );
        assert!(message.contains("`weir resume` it, first"), "{problem}");
        // What answers has looked: whatever it were to move has moved.
        let (_, split) = coordinator.get(CHECKOUT).await;
        assert_eq!(
            (phase(&split), told(&split), &split["zones"][0]["generation"]),
            (
                "quarantined",
                rests.clone(),
                &quarantined["zones"][0]["generation"]
            ),
            "{path}"
        );
    }
    // Resumed it goes there, still without who is drained; and then the drain can be ended.
    let resumed = format!("{CHECKOUT}/resume");
    assert_eq!(
        coordinator
            .post(&resumed, Some(&operator), because.clone())
            .await
            .0,
        200
    );
    coordinator
        .until(CHECKOUT, |_, v| {
            assert_eq!(told(v)["vm"], json!(0), "{v:#}");
            told(v) != rests
        })
        .await;
    let (status, answer) = order(&coordinator, &operator, "vm/undrain", because).await;
    assert_eq!(status, 200, "{answer}");
}

/// What Git took away can be undrained, and is then as Git says if it comes again. Until that it comes drained.
#[tokio::test]
async fn a_drain_ends_though_git_took_the_split_away() {
    let dir = TempDir::new().unwrap();
    let with = |checkout: &str| {
        let cart = two("100", "0").replace("checkout", "cart");
        format!("{cart}---\n{checkout}")
    };
    let (both, cart) = (
        with(&split("checkout", "80", "20")),
        two("100", "0").replace("checkout", "cart"),
    );
    let (repo, file) = federation(dir.path(), &both);
    let operator = operator(file.to_str().unwrap());
    let mut coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    let because = json!({"reason": "new kernel"});
    let (drained, declared) = (json!({"vm": 0, "cloud": 100}), json!({"vm": 80, "cloud": 20}));
    let given = async |coordinator: &Coordinator, path: &str| {
        let (status, answer) = order(coordinator, &operator, path, because.clone()).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let (status, message) = given(&coordinator, "vm/drain").await;
    assert_eq!(status, 200, "{message}");
    let is = |v: &Value, weights: &Value, at: &str| phase(v) == at && told(v) == *weights;
    coordinator
        .until(CHECKOUT, |_, v| is(v, &drained, "drained"))
        .await;

    repo.commit("without", &[("a.yaml", &cart)]);
    coordinator.until(CHECKOUT, |status, _| status == 404).await;
    repo.commit("again", &[("a.yaml", &both)]);
    coordinator
        .until(CHECKOUT, |status, v| status == 200 && is(v, &drained, "drained"))
        .await;

    for restart in [false, true] {
        repo.commit("without", &[("a.yaml", &cart)]);
        coordinator.until(CHECKOUT, |status, _| status == 404).await;
        if restart {
            killed(coordinator).await;
            coordinator = Coordinator::start(&file).await;
        }
        let (status, message) = given(&coordinator, "vm/undrain").await;
        assert_eq!(
            (status, message.as_str()),
            (
                200,
                "undrained: split checkout is not declared now; when it comes again, vm gets what Git declares"
            )
        );
        let (status, message) = given(&coordinator, "vm/undrain").await;
        assert_eq!(
            (status, message.as_str()),
            (409, "backend vm of split checkout is not drained")
        );
        repo.commit("again", &[("a.yaml", &both)]);
        coordinator
            .until(CHECKOUT, |status, v| status == 200 && is(v, &declared, "none"))
            .await;
        let (status, message) = given(&coordinator, "vm/drain").await;
        assert_eq!(status, 200, "{message}");
        coordinator
            .until(CHECKOUT, |_, v| is(v, &drained, "drained"))
            .await;
    }

    // The backend alone.
    let cloud = split("checkout", "0", "100").replace("    vm: {zone: fra}\n", "");
    repo.commit("without vm", &[("a.yaml", &with(&cloud.replace("vm: 0, ", "")))]);
    coordinator
        .until(CHECKOUT, |_, v| v["declared"]["default"] == json!({"cloud": 100}))
        .await;
    let (status, message) = given(&coordinator, "vm/undrain").await;
    assert_eq!(status, 200, "{message}");
    repo.commit("with vm", &[("a.yaml", &both)]);
    coordinator.until(CHECKOUT, |_, v| is(v, &declared, "none")).await;
}
