//! The Kuma driver against scripted answers, most of them recorded from real Kuma 2.14.3 (`recorded/`), and against
//! stand-ins for Envoy's admin interface on unix sockets.

#![expect(clippy::unwrap_used, reason = "a test: what is not there ends it")]

mod elsewhere;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stage::{Answer, Envoy, Stage, body, item, mesh, names, recorded};
use weir_drivers::{DriverError, Fault, Outcome, Sighting, ZoneDriver};
use weir_model::{DnsLabel, Protocol, ServiceName};
use weir_planner::{Coverage, Evidence, Generation, SecondWriter, ServiceFact, ServiceState, Verdict};
use weir_render::{Form, Held, Object, Options, Step, introduction, render, to_document};

const LISTS: [&str; 2] = ["meshhttproutes", "meshtcproutes"];

fn object(weights: [u32; 2], generation: u64) -> Object {
    let item = item(weights, generation);
    let federation = stage::federation();
    render(&item, &federation, &Form::Universal, Options { anchored: true }).remove(0)
}

fn document(weights: [u32; 2], generation: u64) -> Value {
    to_document(&object(weights, generation), &Form::Universal)
}

fn put(weights: [u32; 2], generation: u64) -> Step {
    let item = item(weights, generation);
    Step::Put {
        object: object(weights, generation),
        reason: "absent".to_owned(),
        split: item.split.clone(),
        generation: item.generation,
        digest: item.digest,
    }
}

const OURS: &str = "/meshes/default/meshhttproutes/weir-checkout";

#[tokio::test]
async fn observes_what_the_zone_itself_sees() {
    let stage = Stage::new().await;
    stage.on("GET", "/meshes/default/meshservices", recorded("meshservices"));
    let mut canary = document([10_000, 0], 7);
    canary["name"] = json!("a-canary");
    canary["labels"] = json!({"kuma.io/origin": "zone"});
    let mut alien = document([10_000, 0], 7);
    alien["name"] = json!("weir-other");
    alien["labels"]["weir.dev/federation"] = json!("bank");
    for to in alien["spec"]["to"].as_array_mut().unwrap() {
        // Without its anchor: a rule whose matches ours does not have would take its requests whatever its rank.
        to["rules"]
            .as_array_mut()
            .unwrap()
            .retain(|rule| rule["matches"][0].get("headers").is_none());
    }
    let mut shadow = canary.clone();
    shadow["name"] = json!("b-shadow");
    shadow["labels"]["kuma.io/effect"] = json!("shadow");
    stage.on(
        "GET",
        "/meshes/default/meshhttproutes",
        body(
            200,
            &json!({"total": 4, "items": [document([9000, 1000], 7), canary, alien, shadow], "next": null}),
        ),
    );
    let items = [Arc::new(item([9000, 1000], 7))];
    let observed = stage.driver().observe(&mesh(), &items).await.unwrap();

    assert_eq!(observed.kuma.as_deref(), Some("2.14.3"));
    let fact = |zone: &str, namespace: Option<&str>| ServiceFact {
        service: ServiceName::new("checkout").unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: namespace.map(|n| DnsLabel::new(n).unwrap()),
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        // Recorded: Kuma writes the number where a port has no name, and the name where it has one.
        port_names: namespace.map(|_| (8080, "http".to_owned())).into_iter().collect(),
        state: ServiceState::Available,
    };
    assert_eq!(
        observed.services,
        [fact("ams", None), fact("eks", Some("shop")), fact("fra", None)]
    );
    assert_eq!(observed.ours, [(object([9000, 1000], 7), Generation(7))]);
    let writers: Vec<(&str, bool)> = observed.second_writers[&items[0].split]
        .iter()
        .map(
            |SecondWriter {
                 object, overrides, ..
             }| (object.as_str(), *overrides),
        )
        .collect();
    assert_eq!(writers, [("a-canary", true), ("weir-other", false)]);
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let stage = Stage::new().await;
    let all: Vec<Value> = (0..5)
        .map(|n| {
            let mut one = recorded_items("meshservices").remove(0);
            one["labels"]["kuma.io/zone"] = json!(format!("zone-{n}"));
            one["labels"]["kuma.io/origin"] = json!("global");
            one
        })
        .collect();
    stage.pages("/meshes/default/meshservices", &all, 2, all.len());
    let observed = stage
        .driver()
        .observe(&mesh(), &[Arc::new(item([9000, 1000], 7))])
        .await
        .unwrap();
    let zones: Vec<&str> = observed.services.iter().map(|s| s.kuma_zone.as_str()).collect();
    assert_eq!(zones, ["zone-0", "zone-1", "zone-2", "zone-3", "zone-4"]);

    // An object that went away between two pages hides another one: better no answer than that one.
    stage.pages("/meshes/default/meshservices", &all, 2, all.len() + 1);
    let error = observe_error(&stage).await;
    assert_eq!(error.fault, Fault::NotYet, "{error}");
}

fn recorded_items(name: &str) -> Vec<Value> {
    let Answer::Body(_, text) = recorded(name) else {
        panic!("a body")
    };
    let value: Value = serde_json::from_str(&text).unwrap();
    value["items"].as_array().unwrap().clone()
}

async fn observe_error(stage: &Stage) -> DriverError {
    stage
        .driver()
        .observe(&mesh(), &[Arc::new(item([9000, 1000], 7))])
        .await
        .unwrap_err()
}

#[tokio::test]
async fn every_failure_is_told_apart_by_whose_fault_it_is() {
    let cases = [
        (recorded("missing-mesh"), Fault::NotYet, "does not have this mesh"),
        (recorded("store-down"), Fault::Away, "500"),
        (recorded("conflict"), Fault::NotYet, "409"),
        (Answer::Body(401, "no".to_owned()), Fault::Setup, "401"),
        (Answer::Body(302, String::new()), Fault::Unknown, "302"),
        (Answer::Body(200, "<html>".to_owned()), Fault::Unknown, "<html>"),
        (Answer::Body(200, "{}".to_owned()), Fault::Unknown, "no list"),
        (
            Answer::Slow(Duration::from_secs(60)),
            Fault::Away,
            "no answer in time",
        ),
        (Answer::Cut, Fault::Away, ""),
    ];
    for list in LISTS {
        for (answer, fault, words) in &cases {
            let stage = Stage::new().await;
            stage.on("GET", &format!("/meshes/default/{list}"), answer.clone());
            let began = Instant::now();
            let error = observe_error(&stage).await;
            assert_eq!(error.fault, *fault, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.what.starts_with("GET meshes/default/"), "{error}");
            assert!(!error.help.is_empty(), "{error}");
            assert!(began.elapsed() < Duration::from_secs(10), "{error}");
        }
    }
    let stage = Stage::new().await;
    stage.on("GET", "/", Answer::Body(200, r#"{"hello": "world"}"#.to_owned()));
    let error = observe_error(&stage).await;
    assert_eq!(error.fault, Fault::Setup, "{error}");
    let nobody = Stage::nobody();
    assert_eq!(nobody.pulse().await.unwrap_err().fault, Fault::Away);
}

/// An agent that is pointed at another zone's control plane would write there, prove there, and report it as its own.
#[tokio::test]
async fn the_control_plane_of_another_zone_is_refused() {
    let stage = Stage::new().await;
    stage.on("GET", "/meshes/default/meshservices", recorded("meshservices"));
    let mut ams = item([9000, 1000], 7);
    ams.kuma_zone = DnsLabel::new("ams").unwrap();
    let error = stage
        .driver()
        .observe(&mesh(), &[Arc::new(ams)])
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Setup);
    assert!(
        error.why.contains("not the control plane of Kuma zone ams") && error.why.contains("fra"),
        "{error}"
    );
    stage
        .driver()
        .observe(&mesh(), &[Arc::new(item([9000, 1000], 7))])
        .await
        .unwrap();
}

#[test]
fn a_password_in_the_address_is_refused_and_not_repeated() {
    let refused = stage::at("http://admin:s3cret@127.0.0.1:5681").unwrap_err();
    assert_eq!(refused.fault, Fault::Setup);
    assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
    assert!(refused.help.contains("kuma.tokenFile"), "{refused:?}");
}

#[tokio::test]
async fn writes_what_is_absent_and_reads_it_back() {
    let stage = Stage::new().await;
    let driver = stage.driver();
    let done = driver.apply(&put([9000, 1000], 7)).await.unwrap();
    assert!(matches!(done, Outcome::Done { .. }));
    assert_eq!(
        stage.stored(OURS).unwrap()["spec"],
        document([9000, 1000], 7)["spec"]
    );
    assert_eq!(stage.asked(OURS), ["GET", "PUT", "GET"]);
    // The same again is no write.
    driver.apply(&put([9000, 1000], 7)).await.unwrap();
    assert_eq!(stage.asked(OURS), ["GET", "PUT", "GET", "GET"]);
    // A newer generation is.
    driver.apply(&put([5000, 5000], 8)).await.unwrap();
    assert_eq!(stage.stored(OURS).unwrap()["labels"]["weir.dev/generation"], "8");
}

#[tokio::test]
async fn leaves_alone_what_is_newer_or_not_ours() {
    let mut stranger = document([10_000, 0], 1);
    stranger["labels"] = json!({"kuma.io/origin": "zone"});
    let mut bank = document([10_000, 0], 1);
    bank["labels"]["weir.dev/federation"] = json!("bank");
    let mut copy = document([10_000, 0], 1);
    copy["labels"]["kuma.io/origin"] = json!("global");
    let mut other_split = document([10_000, 0], 1);
    other_split["labels"]["weir.dev/split"] = json!("cart");
    let mut copied = document([10_000, 0], 1);
    copied["name"] = json!("weir-checkout-trial");
    for (live, words) in [
        (copied, "a copy"),
        (document([10_000, 0], 9), "generation 9, newer than 7"),
        (stranger, "not Weir's"),
        (bank, "federation bank"),
        (copy, "not of zone origin"),
        (other_split, "split cart"),
    ] {
        let stage = Stage::new().await;
        stage.store(OURS, &live);
        let driver = stage.driver();
        let Outcome::Yielded(why) = driver.apply(&put([9000, 1000], 7)).await.unwrap() else {
            panic!("it wrote over {live}");
        };
        assert!(why.contains(words), "{why}");
        assert_eq!(stage.stored(OURS), Some(live.clone()));
    }
}

/// Agents hold no lease: another one may have written since this one looked.
#[tokio::test]
async fn an_anchor_alone_takes_nothing_back_that_is_in_force() {
    let alone = |generation| introduction(&[object([9000, 1000], generation)]).remove(0);
    let introduce = || Step::Introduce {
        object: alone(7),
        reason: String::new(),
        split: item([9000, 1000], 7).split,
        generation: Generation(7),
    };
    let withdraw = || Step::Withdraw {
        object: alone(7),
        reason: String::new(),
        split: "checkout".to_owned(),
        generation: Generation(7),
    };
    let anchor = |generation| to_document(&alone(generation), &Form::Universal);
    for (step, live, done) in [
        (introduce(), None, true),
        (introduce(), Some(anchor(6)), true),
        (introduce(), Some(document([5000, 5000], 6)), false),
        (introduce(), Some(document([5000, 5000], 7)), false),
        (introduce(), Some(anchor(8)), false),
        (withdraw(), Some(document([5000, 5000], 6)), true),
        (withdraw(), Some(anchor(6)), true),
        (withdraw(), Some(document([5000, 5000], 7)), false),
        (withdraw(), Some(document([5000, 5000], 8)), false),
        (put([9000, 1000], 7), Some(anchor(7)), true),
        (put([9000, 1000], 7), Some(anchor(8)), false),
    ] {
        let stage = Stage::new().await;
        if let Some(live) = &live {
            stage.store(OURS, live);
        }
        let outcome = stage.driver().apply(&step).await.unwrap();
        assert_eq!(
            matches!(outcome, Outcome::Done { .. }),
            done,
            "{step:?} over {live:?}: {outcome:?}"
        );
        if !done {
            assert_eq!(stage.stored(OURS), live);
        }
    }
}

#[tokio::test]
async fn says_when_the_control_plane_stores_something_else() {
    let stage = Stage::new().await;
    let mut other = document([9000, 1000], 7);
    other["spec"]["to"][0]["rules"][0]["default"] = json!({});
    stage.stores_instead(OURS, &other);
    let error = stage.driver().apply(&put([9000, 1000], 7)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Unknown);
    assert!(error.why.contains("spec.to[0].rules[0].default"), "{error}");
}

#[tokio::test]
async fn a_refused_write_repeats_what_the_control_plane_said() {
    for (answer, fault, words) in [
        ("refused", Fault::Refused, "does not need a trailing slash"),
        ("read-only", Fault::Refused, "405"),
        ("conflict", Fault::NotYet, "resource conflict"),
        ("missing-mesh", Fault::NotYet, "does not have this mesh"),
        ("store-down", Fault::Away, "500"),
    ] {
        let stage = Stage::new().await;
        stage.on("PUT", OURS, recorded(answer));
        let error = stage.driver().apply(&put([9000, 1000], 7)).await.unwrap_err();
        assert_eq!(error.fault, fault, "{error}");
        assert!(error.why.contains(words), "{error}");
        assert_eq!(stage.asked(OURS), ["GET", "PUT"], "one try, no retry");
    }
}

#[tokio::test]
async fn removes_only_what_is_ours_and_was_seen() {
    let delete = Step::Delete {
        kind: weir_render::Kind::MeshHttpRoute,
        mesh: mesh(),
        name: "weir-checkout".to_owned(),
        reason: "orphan".to_owned(),
    };
    let stage = Stage::new().await;
    stage.store(OURS, &document([10_000, 0], 3));
    stage.on(
        "GET",
        "/meshes/default/meshhttproutes",
        body(
            200,
            &json!({"total": 1, "items": [document([10_000, 0], 3)], "next": null}),
        ),
    );
    let driver = stage.driver();
    driver.observe(&mesh(), &[]).await.unwrap();
    // Another agent wrote it anew between observing and applying.
    stage.store(OURS, &document([10_000, 0], 4));
    assert!(matches!(
        driver.apply(&delete).await.unwrap(),
        Outcome::Yielded(_)
    ));
    stage.store(OURS, &document([10_000, 0], 3));
    assert!(matches!(
        driver.apply(&delete).await.unwrap(),
        Outcome::Done { .. }
    ));
    assert_eq!(stage.stored(OURS), None);
    // Gone is as good as removed.
    assert!(matches!(
        driver.apply(&delete).await.unwrap(),
        Outcome::Done { .. }
    ));
    let mut stranger = document([10_000, 0], 1);
    stranger["labels"] = json!({});
    stage.store(OURS, &stranger);
    assert!(matches!(
        driver.apply(&delete).await.unwrap(),
        Outcome::Yielded(_)
    ));
    assert_eq!(stage.stored(OURS), Some(stranger));
}

/// The item that the recorded Envoy runs: all to fra, anchored.
fn recorded_item() -> Arc<weir_planner::Item> {
    let mut item = item([10_000, 0], 7);
    item.anchor = "3f9c".to_owned();
    Arc::new(item)
}

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
