//! Watches: what comes through them is seen without asking, and what they do not say is not believed. In tokio's time.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::{Value, json};
use weir_drivers::KumaKubernetes;
use weir_drivers::{Fault, Observed, ZoneDriver as _};
use weir_planner::Generation;

use crate::cluster::{Cluster, HTTP, NAMESPACES, OURS, SERVICES, TCP, body};
use crate::plan::{self, item, mesh};

async fn observe(driver: &KumaKubernetes) -> Observed {
    let items = [Arc::new(item([9000, 1000], 7))];
    driver.observe(&mesh(), &items).await.unwrap()
}

/// Lets everything that can run do so.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn lists(cluster: &Cluster) -> usize {
    [SERVICES, HTTP, TCP, NAMESPACES]
        .map(|path| cluster.asked("GET", path).len())
        .iter()
        .sum()
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_seen_without_asking_again() {
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let driver = cluster.driver();
    assert_eq!(observe(&driver).await.services.len(), 1);
    settle().await;
    let before = lists(&cluster);
    assert!(driver.changed().now_or_never().is_none(), "nothing changed since");

    cluster.put(plan::service("use1", Some("shop")));
    driver.changed().await;
    let observed = observe(&driver).await;
    assert_eq!(observed.services.len(), 2);
    cluster.put(plan::live([9000, 1000], 7));
    driver.changed().await;
    assert_eq!(observe(&driver).await.ours.len(), 1);

    // Somebody takes our label off: no object is gone, and none is ours any more (fact 13).
    let mut bare = cluster.object(OURS).unwrap();
    bare["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("weir.dev/split");
    cluster.put(bare);
    driver.changed().await;
    let observed = observe(&driver).await;
    assert!(observed.ours.is_empty());
    assert_eq!(
        observed.second_writers.len(),
        1,
        "it is somebody's now, and is named"
    );

    cluster.remove(OURS);
    driver.changed().await;
    assert!(observe(&driver).await.second_writers.is_empty());
    assert_eq!(lists(&cluster), before, "all of that came by watches");
    for path in [SERVICES, HTTP, TCP, NAMESPACES] {
        let watches = cluster.watches(path);
        assert!(!watches.is_empty() && watches.iter().all(|watch| !watch.query.contains("labelSelector")));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_matter_wakes_nobody() {
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let driver = cluster.driver();
    observe(&driver).await;
    settle().await;
    let mut status = plan::service("fra", None);
    status["status"] = json!({"dataplaneProxies": {"connected": 9}});
    cluster.put(status);
    let mut pods = json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"kuma.io/sidecar-injection": "enabled"}}});
    pods["metadata"]["annotations"] = json!({"note": "x"});
    cluster.put(pods);
    settle().await;
    assert!(driver.changed().now_or_never().is_none());
    // A wake-up that nobody awaited is still there, and one that is dropped half way is not lost.
    cluster.put(plan::service("use1", Some("shop")));
    settle().await;
    assert!(
        driver.changed().now_or_never().is_none(),
        "it waits for the swarm"
    );
    driver.changed().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_is_believed_for_hours_and_the_age_is_told() {
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let driver = cluster.driver();
    assert_eq!(observe(&driver).await.age, Duration::ZERO);
    settle().await;
    let before = lists(&cluster);
    let mut oldest = Duration::ZERO;
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(3700)).await;
        let observed = observe(&driver).await;
        assert_eq!(observed.services.len(), 1);
        oldest = oldest.max(observed.age);
    }
    assert!(
        oldest > Duration::from_secs(20) && oldest < Duration::from_secs(30),
        "{oldest:?}"
    );
    assert_eq!(lists(&cluster), before, "bookmarks are enough");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_not_believed() {
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let driver = cluster.driver();
    observe(&driver).await;
    // The server is about to stop: its watches hang, and nothing that happens comes through them (fact 14).
    cluster.mute(true);
    cluster.cut_watches();
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.put(plan::service("use1", Some("shop")));
    let mut seen = None;
    for second in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if observe(&driver).await.services.len() == 2 {
            seen = Some(second);
            break;
        }
    }
    assert!(seen.is_some_and(|second| (1..=32).contains(&second)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn too_old_errors_and_nonsense_make_it_list_again() {
    let too_old = json!({"type": "ERROR", "object": {"kind": "Status", "message": "too old resource version", "reason": "Expired", "code": 410}});
    let broken = json!({"type": "ERROR", "object": {"kind": "Status", "message": "etcdserver: no leader", "code": 500}});
    for line in [
        too_old.to_string(),
        broken.to_string(),
        "{".to_owned(),
        json!({"type": "ADDED", "object": {}}).to_string(),
        json!({"type": "DELETED", "object": {"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "9"}}}).to_string(),
        json!({"type": "SURPRISE", "object": {"kind": "MeshService", "metadata": {"name": "a", "resourceVersion": "9"}}}).to_string(),
        json!({"type": "BOOKMARK", "object": {"metadata": {}}}).to_string(),
    ] {
        let cluster = Cluster::new();
        cluster.put(plan::service("fra", None));
        let driver = cluster.driver();
        observe(&driver).await;
        settle().await;
        let before = cluster.asked("GET", SERVICES).len();
        cluster.say(SERVICES, &line);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.asked("GET", SERVICES).len(), before + 1, "{line}");
        assert_eq!(observe(&driver).await.services.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_is_an_error_at_once_and_is_back_at_once() {
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let driver = cluster.driver();
    observe(&driver).await;
    settle().await;
    let gone = body(
        503,
        &json!({"kind": "Status", "message": "the server is currently unable to handle the request", "code": 503}),
    );
    for path in [SERVICES, HTTP, TCP, NAMESPACES] {
        cluster.on("GET", path, gone.clone());
        cluster.on("WATCH", path, gone.clone());
    }
    cluster.on("GET", "/version", gone.clone());
    cluster.cut_watches();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let items = [Arc::new(item([9000, 1000], 7))];
    let error = driver.observe(&mesh(), &items).await.unwrap_err();
    assert_eq!(error.fault, Fault::Away);
    assert!(driver.pulse().await.is_err());
    tokio::time::sleep(Duration::from_secs(600)).await;
    driver.observe(&mesh(), &items).await.unwrap_err();
    let asked = cluster.asked("GET", SERVICES).len();
    assert!(asked < 200, "in ten minutes it is not asked without end: {asked}");
    cluster.heal();
    cluster.put(plan::service("use1", Some("shop")));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    driver.pulse().await.unwrap();
    assert_eq!(observe(&driver).await.services.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_decided_on_what_was_asked_for_it() {
    let cluster = Cluster::new();
    cluster.put(plan::live([9000, 1000], 7));
    let driver = cluster.driver();
    observe(&driver).await;
    settle().await;
    cluster.mute(true);
    let mut newer: Value = plan::live([9000, 1000], 8);
    newer["metadata"]["uid"] = cluster.object(OURS).unwrap()["metadata"]["uid"].clone();
    cluster.put(newer);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let remembered = observe(&driver).await;
    assert_eq!(remembered.ours[0].1, Generation(7));
    assert!(
        !remembered.age.is_zero(),
        "whoever wants to write sees that this was remembered"
    );
    driver.look_again();
    let asked = observe(&driver).await;
    assert_eq!((asked.ours[0].1, asked.age), (Generation(8), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_dropped_asks_nothing_more() {
    let cluster = Cluster::new();
    let driver = cluster.driver();
    observe(&driver).await;
    settle().await;
    drop(driver);
    let before = cluster.watches(SERVICES).len() + lists(&cluster);
    cluster.cut_watches();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.watches(SERVICES).len() + lists(&cluster), before);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_may_not_be_is_told_and_does_no_harm_meanwhile() {
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let items = [Arc::new(item([9000, 1000], 7))];
    let forbidden = body(
        403,
        &json!({"kind": "Status", "reason": "Forbidden", "message":
        "meshservices.kuma.io is forbidden: User \"x\" cannot watch resource \"meshservices\""}),
    );
    cluster.on("WATCH", SERVICES, forbidden);
    let driver = cluster.driver();
    drop(driver.observe(&mesh(), &items).await);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let error = driver.observe(&mesh(), &items).await.unwrap_err();
        assert_eq!(error.fault, Fault::Setup);
        assert!(error.why.contains("cannot watch"), "{error}");
    }
    let asked = cluster.asked("GET", SERVICES).len();
    assert!(asked < 20, "in a minute it is not listed without end: {asked}");
    cluster.heal();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(observe(&driver).await.services.len(), 1);

    // What passes by itself is no error, but a note: each look asks.
    let cluster = Cluster::new();
    cluster.put(plan::service("fra", None));
    let starting = body(
        429,
        &json!({"kind": "Status", "message": "storage is (re)initializing", "details": {"retryAfterSeconds": 1}}),
    );
    cluster.on("WATCH", SERVICES, starting);
    let driver = cluster.driver();
    observe(&driver).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let observed = observe(&driver).await;
        assert_eq!(observed.services.len(), 1);
        assert!(
            driver.notes()[0].contains("just starting"),
            "{:?}",
            driver.notes()
        );
    }
    // Too old again and again: not a storm.
    let cluster = Cluster::new();
    let too_old = body(410, &json!({"kind": "Status", "reason": "Expired"}));
    cluster.on("WATCH", SERVICES, too_old);
    let driver = cluster.driver();
    observe(&driver).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = cluster.asked("GET", SERVICES).len();
    assert!(asked < 30, "{asked}");
}
