//! Evidence in a cluster: nothing without somebody to ask, and counts from the sidecars' own metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weir_drivers::{Metrics, ZoneDriver as _};
use weir_planner::{Evidence, Verdict};

use crate::cluster::Cluster;
use crate::plan::{self, item, mesh};

#[tokio::test]
async fn without_anybody_to_ask_nothing_is_proven() {
    let cluster = Cluster::new();
    let driver = cluster.driver();
    let items = [Arc::new(item([9000, 1000], 7))];
    let proof = driver.prove(&items).await.remove(0);
    assert_eq!(proof.evidence, Evidence::Unknown);
    let Verdict::Unknown(why) = proof.verdict else {
        panic!("{proof:?}")
    };
    assert!(why.contains("kuma.api"), "{why}");
    assert_eq!(driver.count(&items).await, [None]);
}

async fn serve(app: Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

const NOTHING: &str = r#"{"total": 0, "items": [], "next": null}"#;

/// A list of MeshServices with one of this zone's own.
fn own(zone: &str) -> String {
    let labels = json!({"kuma.io/display-name": "checkout", "kuma.io/origin": "zone", "kuma.io/zone": zone});
    json!({"total": 1, "items": [{"name": "checkout.shop", "labels": labels, "spec": {}}], "next": null})
        .to_string()
}

#[tokio::test]
async fn evidence_of_another_zone_is_refused() {
    let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let control_plane = Router::new()
        .route(
            "/",
            get(|| async { json!({"version": "2.14.3", "instanceId": "cp-1"}).to_string() }),
        )
        .route("/meshes/default/meshservices", get(|| async { own("eu2") }))
        .route("/meshes/default/meshhttproutes", get(|| async { NOTHING }))
        .route("/meshes/default/meshtcproutes", get(|| async { NOTHING }));
    let control_plane = serve(control_plane).await;
    let driver = Cluster::new().driver_with_rest(&format!("http://{control_plane}"), None);
    let items = [Arc::new(item([9000, 1000], 7))];
    let error = driver.observe(&mesh(), &items).await.unwrap_err();
    assert!(
        error.why.contains("zone eu2's") && error.help.contains("kuma.api"),
        "{error:?}"
    );
}

#[tokio::test]
async fn callers_are_counted_by_their_own_metrics() {
    let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let requests = Arc::new(Mutex::new((100, 0)));
    let told = Arc::clone(&requests);
    let page = move || async move {
        let (sent, failed) = *told.lock().unwrap();
        let cluster = "default_checkout_shop_use1_msvc_8080";
        format!(
            "envoy_server_uptime{{}} 500\n\
             envoy_cluster_upstream_rq_completed{{envoy_cluster_name=\"{cluster}\"}} {sent}\n\
             envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"5\",envoy_cluster_name=\"{cluster}\"}} {failed}\n"
        )
    };
    let sidecar = serve(Router::new().route("/metrics", get(page))).await;
    let dataplane = |name: &str, address: &str| {
        json!({
            "name": name,
            "dataplane": {"networking": {"address": address, "transparentProxying": {"redirectPortInbound": 15006}}},
            "dataplaneInsight": {"subscriptions": [{"status": {"lastUpdateTime": "2026-11-23T15:00:00Z"}}]},
        })
    };
    let overview: Value = json!({
        "total": 2, "next": null,
        "items": [dataplane("web-0.shop", "127.0.0.1"), dataplane("web-1.shop", "127.0.0.77")],
    });
    let control_plane = Router::new()
        .route(
            "/",
            get(|| async { json!({"version": "2.14.3", "instanceId": "cp-1"}).to_string() }),
        )
        .route(
            "/meshes/default/dataplanes/_overview",
            get(move || async move { overview.to_string() }),
        );
    let control_plane = control_plane
        .route("/meshes/default/meshservices", get(|| async { own("use1") }))
        .route("/meshes/default/meshhttproutes", get(|| async { NOTHING }))
        .route("/meshes/default/meshtcproutes", get(|| async { NOTHING }));
    let control_plane = serve(control_plane).await;
    let cluster = Cluster::new();
    cluster.put(plan::live([9000, 1000], 7));
    let metrics = Metrics {
        port: sidecar.port(),
        path: "/metrics".to_owned(),
    };
    let driver = cluster.driver_with_rest(&format!("http://{control_plane}"), Some(metrics));
    let items = [Arc::new(item([9000, 1000], 7))];
    let observed = driver.observe(&mesh(), &items).await.unwrap();
    assert_eq!(observed.kuma.as_deref(), Some("2.14.3"));
    assert_eq!(driver.pulse().await.unwrap(), "cp-1");

    let [vm, eks] = plan::names();
    let first = driver.count(&items).await.remove(0).unwrap();
    assert_eq!(
        first.requests,
        BTreeMap::from([(vm.clone(), 0), (eks.clone(), 0)]),
        "from where it stood"
    );
    *requests.lock().unwrap() = (150, 3);
    let second = driver.count(&items).await.remove(0).unwrap();
    assert_eq!(
        second.requests,
        BTreeMap::from([(vm.clone(), 0), (eks.clone(), 50)])
    );
    assert_eq!(second.failed, BTreeMap::from([(vm, 0), (eks, 3)]));
    let notes = driver.notes();
    assert!(
        notes.iter().any(|note| note.contains("1 of 2 proxies")),
        "what is not counted is told: {notes:?}"
    );
    // The computed configuration of neither can be had: there is no proof, of whatever class.
    let proof = driver.prove(&items).await.remove(0);
    assert_eq!((proof.evidence, proof.coverage.of), (Evidence::Unknown, 2));
}

/// Two replicas behind one address answer in turn: that is no restart, and whose they are is asked once of each.
#[tokio::test]
async fn replicas_of_a_control_plane_are_no_restarts() {
    let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let turn = Arc::new(Mutex::new((0_usize, vec!["cp-1", "cp-2"], 0_usize)));
    let (who, asked) = (Arc::clone(&turn), Arc::clone(&turn));
    let root = move || async move {
        let mut turn = who.lock().unwrap();
        turn.0 += 1;
        let name = turn.1[turn.0 % turn.1.len()];
        json!({"version": "2.14.3", "instanceId": name}).to_string()
    };
    let services = move || async move {
        asked.lock().unwrap().2 += 1;
        own("use1")
    };
    let control_plane = Router::new()
        .route("/", get(root))
        .route("/meshes/default/meshservices", get(services))
        .route("/meshes/default/meshhttproutes", get(|| async { NOTHING }))
        .route("/meshes/default/meshtcproutes", get(|| async { NOTHING }));
    let control_plane = serve(control_plane).await;
    let driver = Cluster::new().driver_with_rest(&format!("http://{control_plane}"), None);
    let items = [Arc::new(item([9000, 1000], 7))];
    for _ in 0..4 {
        driver.observe(&mesh(), &items).await.unwrap();
    }
    assert_eq!(turn.lock().unwrap().2, 2, "once of each");
    let all = async |n: usize| {
        let mut all = std::collections::BTreeSet::new();
        for _ in 0..n {
            all.insert(driver.pulse().await.unwrap());
        }
        all
    };
    all(2).await;
    assert_eq!(all(6).await.len(), 1, "both were heard of");
    let before = driver.pulse().await.unwrap();
    turn.lock().unwrap().1 = vec!["cp-1", "cp-3"];
    all(2).await;
    let after = all(4).await;
    assert_eq!(after.len(), 1);
    assert!(!after.contains(&before), "one of them was restarted");
}
