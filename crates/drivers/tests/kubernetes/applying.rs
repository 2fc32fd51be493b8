//! Writes and removals: always with guards, never over somebody newer, never over somebody else, and never in silence.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_drivers::{Fault, KumaKubernetes, Outcome, ZoneDriver as _};
use weir_render::Step;

use crate::cluster::{Cluster, Instead, OURS, body};
use crate::plan::{self, delete, item, live, mesh, put};

async fn yields(driver: &KumaKubernetes, step: &Step) -> String {
    match driver.apply(step).await.unwrap() {
        Outcome::Yielded(why) => why,
        Outcome::Done { .. } => panic!("it was done: {step:?}"),
    }
}

async fn does(driver: &KumaKubernetes, step: &Step) {
    let outcome = driver.apply(step).await.unwrap();
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

async fn observe(driver: &KumaKubernetes) {
    driver
        .observe(&mesh(), &[Arc::new(item([9000, 1000], 7))])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_policy_is_made_changed_and_left_alone() {
    let cluster = Cluster::new();
    let driver = cluster.driver();
    does(&driver, &put([9000, 1000], 7)).await;
    let made = cluster.writes().pop().unwrap();
    assert_eq!((made.method.as_str(), made.path.as_str()), ("PATCH", OURS));
    assert_eq!(made.query, "fieldManager=weir&fieldValidation=Strict&force=false");
    assert_eq!(made.content, "application/apply-patch+yaml");
    assert_eq!(made.body["metadata"]["labels"]["kuma.io/origin"], "zone");
    assert_eq!(
        made.body["metadata"]["resourceVersion"], "1",
        "no object of a cluster has it"
    );
    assert!(made.body["metadata"].get("uid").is_none());

    // The same again is no write: a cluster's every watcher would be told.
    does(&driver, &put([9000, 1000], 7)).await;
    assert_eq!(cluster.writes().len(), 1);

    does(&driver, &put([8000, 2000], 8)).await;
    let changed = cluster.writes().pop().unwrap();
    let metadata = &changed.body["metadata"];
    assert!(metadata["uid"].as_str().unwrap().starts_with("uid-"));
    assert_eq!(metadata["resourceVersion"], "1003");
    assert!(metadata.get("managedFields").is_none());
    assert_eq!(
        cluster.object(OURS).unwrap()["metadata"]["labels"]["weir.dev/generation"],
        "8"
    );
}

#[tokio::test]
async fn nobody_newer_and_nobody_else_is_written_over() {
    let step = put([9000, 1000], 7);
    let cluster = Cluster::new();
    let driver = cluster.driver();
    cluster.put(live([5000, 5000], 8));
    assert!(
        yields(&driver, &step)
            .await
            .contains("generation 8, newer than 7")
    );

    let change = |change: &dyn Fn(&mut Value)| {
        let mut object = live([5000, 5000], 6);
        change(&mut object["metadata"]);
        object
    };
    let written_by = |manager: &str, operation: &str| {
        change(&|m| m["managedFields"] = plan::managed(manager, operation, "2026-11-23T15:00:00Z"))
    };
    for (object, said) in [
        (
            change(&|m| m["labels"]["weir.dev/federation"] = json!("bank")),
            "belongs to the Weir federation bank",
        ),
        (
            change(&|m| m["labels"] = json!({"kuma.io/mesh": "default"})),
            "does not carry Weir's labels",
        ),
        (
            change(&|m| m["labels"]["weir.dev/split"] = json!("cart")),
            "carries the labels of the split cart, but not its name",
        ),
        (
            change(&|m| m["labels"]["kuma.io/origin"] = json!("global")),
            "not of zone origin",
        ),
        (
            written_by("argocd-controller", "Apply"),
            "its field managers are argocd-controller",
        ),
        (
            change(&|m| m["managedFields"] = json!([])),
            "its field managers are none",
        ),
        // Our name with another operation is another manager.
        (written_by("weir", "Update"), "its field managers are weir"),
    ] {
        cluster.remove(OURS);
        cluster.put(object);
        observe(&driver).await;
        let before = cluster.store();
        for step in [&step, &delete()] {
            let why = yields(&driver, step).await;
            assert!(why.contains(said), "{why}");
        }
        assert_eq!(cluster.store(), before);
    }
    assert!(cluster.writes().is_empty());
}

#[tokio::test]
async fn an_object_that_is_being_removed_is_waited_for() {
    let cluster = Cluster::new();
    let mut going = live([5000, 5000], 6);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-23T15:00:00Z");
    cluster.put(going);
    let error = cluster.driver().apply(&put([9000, 1000], 7)).await.unwrap_err();
    assert_eq!(error.fault, Fault::NotYet);
    assert!(error.help.contains("finalizers"), "{error:?}");
}

/// Between the look and the write anything may happen; the guards tell.
#[tokio::test]
async fn whoever_comes_between_is_not_written_over() {
    let step = put([9000, 1000], 7);
    let stale = live([5000, 5000], 6);
    let seen = |uid: &str, version: &str| {
        let mut seen = stale.clone();
        seen["metadata"]["uid"] = json!(uid);
        seen["metadata"]["resourceVersion"] = json!(version);
        vec![body(200, &seen)]
    };
    let absent = || {
        vec![body(
            404,
            &json!({"kind": "Status", "reason": "NotFound", "message": "not found", "details": {"kind": "meshhttproutes"}}),
        )]
    };
    // Removed meanwhile.
    let cluster = Cluster::new();
    cluster.once("GET", OURS, seen("uid-1", "900"));
    let error = cluster.driver().apply(&step).await.unwrap_err();
    assert_eq!(error.fault, Fault::NotYet);
    assert_eq!(cluster.object(OURS), None, "it is not made again by accident");
    // Changed meanwhile; and made meanwhile, by somebody else, where there was nothing.
    for look in [seen("uid-1003", "900"), absent()] {
        let cluster = Cluster::new();
        let mut theirs = live([5000, 5000], 6);
        theirs["metadata"]["labels"] = json!({"kuma.io/mesh": "default"});
        cluster.put(theirs);
        let before = cluster.store();
        cluster.once("GET", OURS, look);
        let error = cluster.driver().apply(&step).await.unwrap_err();
        assert_eq!(error.fault, Fault::NotYet, "{error}");
        assert_eq!(cluster.store(), before);
    }
    // Changed between the look and the removal.
    let cluster = Cluster::new();
    cluster.put(live([5000, 5000], 6));
    let driver = cluster.driver();
    observe(&driver).await;
    cluster.once("GET", OURS, seen("uid-1003", "900"));
    let error = driver.apply(&delete()).await.unwrap_err();
    assert_eq!(error.fault, Fault::NotYet);
    assert!(cluster.object(OURS).is_some());
}

fn conflict() -> Instead {
    body(
        409,
        &json!({
            "kind": "Status", "reason": "Conflict", "code": 409,
            "message": "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using kuma.io/v1alpha1: .spec.to",
            "details": {"causes": [{"reason": "FieldManagerConflict", "field": ".spec.to",
                "message": "conflict with \"kubectl-edit\" using kuma.io/v1alpha1"}]},
        }),
    )
}

#[tokio::test]
async fn another_manager_is_named_and_not_fought() {
    let cluster = Cluster::new();
    cluster.put(plan::edited());
    let before = cluster.store();
    cluster.on("PATCH", OURS, conflict());
    let why = yields(&cluster.driver(), &put([9000, 1000], 7)).await;
    assert!(
        why.contains("kubectl-edit (Update, 2026-11-23T15:40:00Z) wrote spec.to"),
        "{why}"
    );
    assert!(why.contains("takeBack"), "{why}");
    assert_eq!(cluster.store(), before);
    assert!(
        cluster
            .writes()
            .iter()
            .all(|write| write.query.ends_with("force=false"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_another_manager_wrote_is_taken_back_once_if_so_configured() {
    let cluster = Cluster::new();
    cluster.put(plan::edited());
    let seen = cluster.object(OURS).unwrap()["metadata"].clone();
    let driver = cluster.driver_that_takes_back();
    cluster.once("PATCH", OURS, vec![conflict()]);
    does(&driver, &put([9000, 1000], 7)).await;
    let writes = cluster.writes();
    assert_eq!(writes.len(), 2);
    assert!(writes[0].query.ends_with("force=false") && writes[1].query.ends_with("force=true"));
    for guard in ["uid", "resourceVersion"] {
        assert_eq!(
            writes[1].body["metadata"][guard], seen[guard],
            "nobody slips between"
        );
    }
    // The other takes it again: two that fight are worse than one that is wrong.
    cluster.put(plan::edited());
    cluster.on("PATCH", OURS, conflict());
    let why = yields(&driver, &put([9000, 1000], 7)).await;
    assert!(
        why.contains("took it again") && why.contains("kubectl-edit"),
        "{why}"
    );
    assert_eq!(cluster.writes().len(), 3);
    cluster.heal();
    cluster.once("PATCH", OURS, vec![conflict()]);
    tokio::time::advance(Duration::from_secs(601)).await;
    does(&driver, &put([9000, 1000], 7)).await;
}

/// Conflicts come before webhooks: with Kuma's control plane down the other is named, and nothing could be taken back. The
/// next activation tries again, and not after ten minutes.
#[tokio::test]
async fn a_taking_back_that_failed_is_no_fight() {
    let cluster = Cluster::new();
    cluster.put(plan::edited());
    let driver = cluster.driver_that_takes_back();
    let down = body(
        500,
        &json!({"kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message":
            "Internal error occurred: failed calling webhook \"validator.kuma-admission.kuma.io\": connection refused"}),
    );
    cluster.once("PATCH", OURS, vec![conflict(), down, conflict()]);
    driver.apply(&put([9000, 1000], 7)).await.unwrap_err();
    does(&driver, &put([9000, 1000], 7)).await;
    assert_eq!(cluster.writes().len(), 4);
}

#[tokio::test]
async fn what_was_stored_is_looked_at() {
    let step = put([9000, 1000], 7);
    // A webhook of the cluster changes it.
    let cluster = Cluster::new();
    let mut other = live([9000, 1000], 7);
    other["spec"]["to"][0]["rules"][0]["default"]["backendRefs"][0]["weight"] = json!(1);
    cluster.on("PATCH", OURS, body(200, &other));
    let error = cluster.driver().apply(&step).await.unwrap_err();
    assert!(
        error
            .why
            .contains("spec.to[0].rules[0].default.backendRefs[0].weight"),
        "{error}"
    );
    // Another manager narrows it, in a field that is not ours to remove.
    let mut narrowed = live([9000, 1000], 7);
    narrowed["spec"]["targetRef"]["labels"] = json!({"app": "web"});
    let managers = narrowed["metadata"]["managedFields"].as_array_mut().unwrap();
    managers.extend(
        plan::managed("argocd-controller", "Apply", "2026-11-23T15:40:00Z")
            .as_array()
            .unwrap()
            .clone(),
    );
    cluster.on("PATCH", OURS, body(200, &narrowed));
    let why = yields(&cluster.driver(), &step).await;
    assert!(
        why.contains("argocd-controller (Apply") && why.contains("spec.targetRef.labels"),
        "{why}"
    );
    // The answer to a write is something else altogether.
    for answer in [
        json!({}),
        json!({"kind": "Status", "status": "Success"}),
        json!([]),
    ] {
        cluster.on("PATCH", OURS, body(200, &answer));
        let outcome = cluster.driver().apply(&step).await;
        assert!(!matches!(outcome, Ok(Outcome::Done { .. })), "{answer}");
    }
    // The answer to the look is of another object, or no answer: then nothing is written.
    for look in [
        json!({}),
        json!({"kind": "MeshHTTPRoute", "metadata": {"name": "weir-cart", "namespace": "kuma-system"}}),
    ] {
        let cluster = Cluster::new();
        cluster.on("GET", OURS, body(200, &look));
        cluster.driver().apply(&step).await.unwrap_err();
        cluster.driver().apply(&delete()).await.unwrap_err();
        assert!(cluster.writes().is_empty());
    }
    let cluster = Cluster::new();
    cluster.on("GET", OURS, body(404, &json!("404 page not found\n")));
    let error = cluster.driver().apply(&step).await.unwrap_err();
    assert_eq!(
        error.fault,
        Fault::Setup,
        "absent is what is said to be absent, not a type that is not there"
    );
    assert!(cluster.writes().is_empty());
}

#[tokio::test]
async fn removals_are_of_what_was_looked_at() {
    let cluster = Cluster::new();
    cluster.put(live([5000, 5000], 6));
    let metadata = cluster.object(OURS).unwrap()["metadata"].clone();
    let driver = cluster.driver();
    // Nothing is known of it yet: nobody could have decided that it is unwanted.
    assert!(yields(&driver, &delete()).await.contains("newer than 0"));
    observe(&driver).await;
    does(&driver, &delete()).await;
    let removed = cluster.writes().pop().unwrap();
    assert_eq!(removed.method, "DELETE");
    assert_eq!(
        removed.body["preconditions"],
        json!({"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]})
    );
    // Gone already is done.
    does(&driver, &delete()).await;
    // A newer plan's object is not ours to judge.
    cluster.put(live([5000, 5000], 9));
    assert!(yields(&driver, &delete()).await.contains("generation 9"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_rest_gets_it() {
    let cluster = Cluster::new();
    let driver = cluster.driver();
    let busy = Instead::Status(
        429,
        vec![("retry-after", "3".to_owned())],
        b"Too many requests, please try again later.\n".to_vec(),
    );
    cluster.once("GET", OURS, vec![busy]);
    let step = put([9000, 1000], 7);
    let error = driver.apply(&step).await.unwrap_err();
    assert_eq!(error.fault, Fault::Away);
    tokio::time::advance(Duration::from_millis(2900)).await;
    let again = driver.apply(&step).await.unwrap_err();
    assert_eq!(again.why, error.why);
    assert_eq!(cluster.asked("GET", OURS).len(), 1, "nothing was sent meanwhile");
    tokio::time::advance(Duration::from_millis(200)).await;
    does(&driver, &step).await;
}
