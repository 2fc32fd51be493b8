//! What is read from proxies: proofs, anchors and counts; from those of this host, and through the control plane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_drivers::{Sighting, ZoneDriver};
use weir_planner::{Coverage, Evidence, Verdict};
use weir_render::{Form, Held, Options, introduction, render, to_document};

use crate::stage::{self, Answer, Envoy, Stage, body, item, mesh, names, recorded};
use crate::{object, recorded_item};

#[tokio::test]
async fn proves_from_the_envoys_of_this_host() {
    let stage = Stage::new().await;
    let right = Envoy::start(&stage, "a").await;
    right.listeners(recorded("listeners"));
    stage.dead_socket("dead");
    let driver = stage.driver();
    let item = recorded_item();
    let proof = driver.prove(std::slice::from_ref(&item)).await.remove(0);
    assert_eq!(proof.verdict, Verdict::Exact);
    assert_eq!(proof.evidence, Evidence::Live);
    assert_eq!(proof.coverage, Coverage { seen: 1, of: 1 });
    let notes = driver.notes();
    assert!(
        matches!(notes.as_slice(), [one] if one.contains("dead.sock")),
        "{notes:?}"
    );

    // One that does not call the service changes nothing, one that runs something else does.
    let bystander = Envoy::start(&stage, "b").await;
    bystander.listeners(body(200, &json!({"configs": []})));
    assert_eq!(
        driver.prove(std::slice::from_ref(&item)).await[0].coverage,
        Coverage { seen: 1, of: 1 }
    );
    let wrong = Envoy::start(&stage, "c").await;
    let Answer::Body(_, text) = recorded("listeners") else {
        panic!("a body")
    };
    wrong.listeners(Answer::Body(
        200,
        text.replace(
            "\"cluster\": \"default_checkout__fra",
            "\"cluster\": \"default_checkout__ams",
        )
        .replace(
            "\"cluster\":\"default_checkout__fra",
            "\"cluster\":\"default_checkout__ams",
        ),
    ));
    let proof = driver.prove(std::slice::from_ref(&item)).await.remove(0);
    assert!(
        matches!(&proof.verdict, Verdict::Different(what) if what.contains("c.sock")),
        "{proof:?}"
    );
    assert_eq!(
        (proof.coverage, proof.weights),
        (Coverage { seen: 2, of: 2 }, None)
    );

    // One that is there and cannot be read may run anything: the others do not speak for it.
    for mute in [
        Answer::Body(500, "no".to_owned()),
        Answer::Slow(Duration::from_secs(60)),
        Answer::Cut,
    ] {
        wrong.listeners(mute);
        let proof = driver.prove(std::slice::from_ref(&item)).await.remove(0);
        assert!(
            matches!(&proof.verdict, Verdict::Unknown(why) if why.contains("c.sock")),
            "{proof:?}"
        );
        assert_eq!(proof.evidence, Evidence::Unknown);
        assert_eq!(proof.coverage, Coverage { seen: 1, of: 2 });
    }

    // One that is gone runs nothing: it is named, and holds up nobody.
    drop(wrong);
    stage.dead_socket("c");
    let proof = driver.prove(std::slice::from_ref(&item)).await.remove(0);
    assert_eq!(proof.verdict, Verdict::Exact);
    assert_eq!(proof.coverage, Coverage { seen: 1, of: 1 });
    assert!(
        driver.notes().iter().any(|note| note.contains("c.sock")),
        "{:?}",
        driver.notes()
    );
}

/// The recorded Envoy's listeners as they are when the policy is its anchor alone: Kuma's own route besides.
fn recorded_alone() -> Value {
    let Answer::Body(_, text) = recorded("listeners") else {
        panic!("a body")
    };
    let mut dump: Value = serde_json::from_str(&text).unwrap();
    for listener in dump["configs"].as_array_mut().unwrap() {
        let active = &mut listener["active_state"]["listener"];
        for chain in active["filter_chains"].as_array_mut().into_iter().flatten() {
            for filter in chain["filters"].as_array_mut().unwrap() {
                let config = &mut filter["typed_config"]["route_config"];
                let name = config["name"].as_str().unwrap_or_default().to_owned();
                let parts: Vec<_> = name.split('_').collect();
                let ["kri", kind, mesh, zone, namespace, service, port] = parts[..] else {
                    continue;
                };
                let home = format!("{mesh}_{service}_{namespace}_{zone}_{kind}_{port}");
                let routes = config["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
                routes.retain(|route| route["match"].get("headers").is_some());
                assert!(!routes.is_empty(), "the recorded policy has an anchor");
                routes.push(json!({"match": {"prefix": "/"}, "route": {"cluster": home}}));
            }
        }
    }
    dump
}

#[tokio::test]
async fn sees_which_envoys_have_an_anchor_and_nothing_else() {
    let stage = Stage::new().await;
    let driver = stage.driver();
    let item = recorded_item();
    let whole = render(&item, &stage::federation(), &Form::Universal, Options::default());
    let anchors = introduction(&whole);
    let sees = async || driver.sight(&anchors).await.remove(0);
    assert_eq!(sees().await, Sighting::default(), "nobody was looked at");
    let one = Envoy::start(&stage, "a").await;
    one.listeners(body(200, &recorded_alone()));
    assert_eq!(sees().await.held, Some(Held::Alone));
    // The least of what is seen counts.
    let two = Envoy::start(&stage, "b").await;
    two.listeners(body(200, &json!({"configs": []})));
    assert_eq!(
        sees().await.held,
        Some(Held::Alone),
        "it does not call the service"
    );
    two.listeners(recorded("listeners"));
    assert_eq!(sees().await.held, Some(Held::Besides), "it has the weights still");
    let mut without = recorded_item();
    Arc::make_mut(&mut without).anchor = "another".to_owned();
    let other = introduction(&render(
        &without,
        &stage::federation(),
        &Form::Universal,
        Options::default(),
    ));
    assert_eq!(driver.sight(&other).await[0].held, Some(Held::No));
    two.listeners(Answer::Body(500, "no".to_owned()));
    assert_eq!(sees().await.held, Some(Held::No), "it may run anything");
}

/// An Envoy's histogram of how long answers took, in the words of a real 1.38.3 (which writes five minutes as 3e+05): all of them
/// more than 10 ms and up to 25.
fn times(cluster: &str, answers: u64) -> Value {
    let buckets = [
        "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000",
        "60000", "3e+05", "6e+05", "1800000", "3600000",
    ];
    let bucket = |bound: &str| {
        let n = if bound == "25" { answers } else { 0 };
        format!(r#"{{"upper_bound":{bound},"interval":0,"cumulative":{n}}}"#)
    };
    let buckets = buckets.map(bucket).join(",");
    let text = format!(r#"{{"name":"cluster.{cluster}.upstream_rq_time","buckets":[{buckets}]}}"#);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn counts_each_request_once_and_keeps_the_part_of_an_envoy_that_went() {
    let stage = Stage::new().await;
    let envoy = Envoy::start(&stage, "a").await;
    let stats = |uptime: u64, fra: u64, failed: u64| {
        let stat = |name: &str, value: u64| json!({"name": name, "value": value});
        body(
            200,
            &json!({"stats": [
                stat("server.uptime", uptime),
                stat("cluster.default_checkout__fra_msvc_8080.upstream_rq_completed", fra),
                stat("cluster.default_checkout__fra_msvc_8080.external.upstream_rq_completed", fra),
                stat("cluster.default_checkout__fra_msvc_8080.upstream_rq_total", fra + 50),
                stat("cluster.default_checkout__fra_msvc_8080.upstream_rq_5xx", failed),
                // Another split, on another port of the same service.
                stat("cluster.default_checkout__fra_msvc_9090.upstream_rq_completed", 1000),
                {"histograms": [times("default_checkout__fra_msvc_8080", fra - failed)]},
            ]}),
        )
    };
    let driver = stage.driver();
    let item = Arc::new(item([9000, 1000], 7));
    let counted = async || {
        let counts = driver.count(std::slice::from_ref(&item)).await.remove(0).unwrap();
        let of = |map: &BTreeMap<_, u64>| names().map(|name| map[&name]);
        (of(&counts.requests), of(&counts.failed), counts.since)
    };
    assert_eq!(stage.driver().count(std::slice::from_ref(&item)).await, [None]);
    envoy.stats(stats(1000, 100, 3));
    let (requests, failed, since) = counted().await;
    assert_eq!((requests, failed), ([0, 0], [0, 0]));
    envoy.stats(stats(1001, 110, 4));
    assert_eq!(counted().await, ([10, 0], [1, 0], since));
    // Restarted: all that the new process counted is added, nothing is taken away.
    envoy.stats(stats(0, 5, 0));
    assert_eq!(counted().await, ([15, 0], [1, 0], since));
    // How long answers took is asked every two seconds only: then what the new process told since its start is there, and all of it
    // took up to 25 ms. Of who never answered nothing is told.
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let told = async {
        loop {
            looks.tick().await;
            let counts = driver.count(std::slice::from_ref(&item)).await.remove(0).unwrap();
            let [fra, ams] = names().map(|name| counts.latency.get(&name).copied());
            assert_eq!(ams, None);
            if let Some(fra) = fra.filter(|fra| fra.answers() >= 5) {
                return fra;
            }
        }
    };
    let fra = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert_eq!(fra.answers(), fra.0[4], "{fra:?}");
    drop(envoy);
    assert_eq!(counted().await, ([15, 0], [1, 0], since));
}

#[tokio::test]
async fn what_other_hosts_run_is_acknowledged_then_sampled_inside_the_budget() {
    let stage = Stage::new().await;
    stage.on("GET", "/meshes/default/meshservices", recorded("meshservices"));
    stage.on(
        "GET",
        "/meshes/default/dataplanes/_overview",
        recorded("overview"),
    );
    stage.on(
        "GET",
        "/meshes/default/dataplanes/web/_config",
        recorded("config"),
    );
    stage.on("GET", "/meshes/default/dataplanes/web/xds", recorded("xds"));
    let item = recorded_item();
    let mut live = to_document(&object([10_000, 0], 7), &Form::Universal);
    // A second before the recorded proxy took its last configuration.
    live["modificationTime"] = json!("2026-11-23T15:58:46.169292717Z");
    stage.on(
        "GET",
        "/meshes/default/meshhttproutes",
        body(200, &json!({"total": 1, "items": [live], "next": null})),
    );
    let unasked = stage.driver_with_budget(0, 3);
    unasked
        .observe(&mesh(), std::slice::from_ref(&item))
        .await
        .unwrap();
    let proof = unasked.prove(std::slice::from_ref(&item)).await.remove(0);
    assert_eq!(
        (proof.verdict, proof.evidence),
        (Verdict::Exact, Evidence::Acknowledged)
    );
    assert_eq!(proof.coverage, Coverage { seen: 1, of: 1 });
    assert_eq!(stage.asked("/meshes/default/dataplanes/web/xds").len(), 0);

    let driver = stage.driver_with_budget(10, 3);
    driver
        .observe(&mesh(), std::slice::from_ref(&item))
        .await
        .unwrap();
    for _ in 0..5 {
        let proof = driver.prove(std::slice::from_ref(&item)).await.remove(0);
        assert_eq!(
            (proof.verdict, proof.evidence),
            (Verdict::Exact, Evidence::Sampled)
        );
        assert_eq!(proof.coverage, Coverage { seen: 1, of: 1 });
    }
    assert_eq!(
        stage.asked("/meshes/default/dataplanes/web/xds").len(),
        1,
        "each call leaks"
    );

    // A service went, a rival came: the control plane computes something else now, and the old sample proves nothing.
    let Answer::Body(_, config) = recorded("config") else {
        panic!("a recording has a body");
    };
    let elsewhere = config.replace("_fra_msvc_", "_osl_msvc_");
    assert_ne!(config, elsewhere);
    stage.on(
        "GET",
        "/meshes/default/dataplanes/web/_config",
        body(200, &serde_json::from_str(&elsewhere).unwrap()),
    );
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let proof = driver.prove(std::slice::from_ref(&item)).await.remove(0);
    assert!(matches!(proof.verdict, Verdict::Unknown(_)), "{proof:?}");
    assert_eq!(proof.evidence, Evidence::Unknown);

    // Nobody to ask: unknown, and says why.
    let empty = Stage::new().await;
    let proof = empty.driver().prove(std::slice::from_ref(&item)).await.remove(0);
    assert!(matches!(proof.verdict, Verdict::Unknown(_)), "{proof:?}");
    assert_eq!(
        (proof.evidence, proof.coverage),
        (Evidence::Unknown, Coverage { seen: 0, of: 0 })
    );
}
