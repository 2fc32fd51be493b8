//! What is observed of a zone, and what comes of answers that are none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_drivers::{DriverError, Fault, ZoneDriver};
use weir_model::{DnsLabel, Protocol, ServiceName};
use weir_planner::{Generation, SecondWriter, ServiceFact, ServiceState, Way};

use crate::stage::{self, Answer, Stage, body, item, mesh, recorded};
use crate::{document, object};

const LISTS: [&str; 2] = ["meshhttproutes", "meshtcproutes"];

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
    stage.on("GET", "/zoneingresses", recorded("zoneingresses"));
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
        way: Way::Open,
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

/// What a zone's control plane shows of the ingresses of others, and that what it does not answer holds nothing up.
#[tokio::test]
async fn the_ways_to_other_zones() {
    let ways = async |ingresses: Answer, addresses: Option<Answer>| {
        let stage = Stage::new().await;
        stage.on("GET", "/meshes/default/meshservices", recorded("meshservices"));
        stage.on("GET", "/zoneingresses", ingresses);
        if let Some(addresses) = addresses {
            stage.on("GET", "/meshes/default/meshzoneaddresses", addresses);
        }
        let (driver, items) = (stage.driver(), [Arc::new(item([9000, 1000], 7))]);
        let observed = driver.observe(&mesh(), &items).await.unwrap();
        let cheap = driver.services(&mesh(), &items).await.unwrap().unwrap();
        assert_eq!(cheap, observed.services, "or each cheap look would be news");
        let zones = observed.services.iter();
        zones
            .map(|fact| (fact.kuma_zone.to_string(), fact.way))
            .collect::<BTreeMap<_, _>>()
    };
    let listed = |items: Vec<Value>| body(200, &json!({"total": items.len(), "items": items, "next": null}));
    let of = |zone: &str| -> Vec<Value> {
        let mut all = recorded_items("zoneingresses");
        all.retain(|ingress| ingress["zone"] == zone || ingress.get("zone").is_none());
        all
    };
    let table = |all: [(&str, Way); 3]| all.map(|(zone, way)| (zone.to_owned(), way)).into();
    let unknown = || table([("ams", Way::Unknown), ("eks", Way::Unknown), ("fra", Way::Open)]);

    let one = table([("ams", Way::Open), ("eks", Way::NoIngress), ("fra", Way::Open)]);
    assert_eq!(ways(listed(of("ams")), None).await, one);
    let mut mute = of("ams");
    for ingress in &mut mute {
        ingress["networking"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| !key.starts_with("advertised"));
    }
    // By the address of a mesh's own zone proxy.
    let address = json!({"type": "MeshZoneAddress", "mesh": "default", "name": "a", "labels": {"kuma.io/zone": "eks"},
                         "spec": {"address": "10.0.0.1", "port": 10001}});
    let proxied = table([
        ("ams", Way::NotAdvertised),
        ("eks", Way::Open),
        ("fra", Way::Open),
    ]);
    assert_eq!(ways(listed(mute), Some(listed(vec![address]))).await, proxied);
    // Refused, broken, cut off, without a word in time.
    for answer in [
        body(403, &json!({"title": "Access Denied"})),
        body(500, &json!({"title": "store"})),
        body(200, &json!({"items": "none"})),
        Answer::Cut,
        Answer::Slow(std::time::Duration::from_secs(3)),
    ] {
        assert_eq!(ways(answer, None).await, unknown());
    }
    assert_eq!(
        ways(listed(Vec::new()), Some(body(403, &json!({})))).await,
        unknown()
    );
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
        (
            recorded("missing-mesh"),
            Fault::MeshGone,
            "does not have this mesh",
        ),
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

/// A control plane that keeps everything in memory is warned of until another one answers there; each process is asked once.
#[tokio::test]
async fn a_memory_store_is_warned_of_until_it_is_gone() {
    let stage = Stage::new().await;
    let driver = stage.driver();
    let items = [Arc::new(item([9000, 1000], 7))];
    let kept_in = |kind: &str| {
        body(
            200,
            &json!({"mode": "zone", "store": {"type": kind, "cache": {"enabled": true}}}),
        )
    };
    let root = |instance: &str| {
        body(
            200,
            &json!({"instanceId": instance, "product": "Kuma", "version": "2.14.3"}),
        )
    };
    let warned = || {
        driver
            .notes()
            .iter()
            .filter(|note| note.contains("in memory"))
            .count()
    };
    stage.on("GET", "/config", kept_in("memory"));
    for _ in 0..3 {
        let observed = driver.observe(&mesh(), &items).await.unwrap();
        assert_eq!(observed.store.as_deref(), Some("memory"));
        assert_eq!(warned(), 1);
    }
    assert_eq!(stage.asked("/config").len(), 1);
    // Another process: asked anew. One that cannot say now is asked again.
    stage.on("GET", "/", root("vm-2"));
    stage.on("GET", "/config", recorded("store-down"));
    assert_eq!(driver.observe(&mesh(), &items).await.unwrap().store, None);
    stage.on("GET", "/config", kept_in("postgres"));
    let observed = driver.observe(&mesh(), &items).await.unwrap();
    assert_eq!((observed.store.as_deref(), warned()), (Some("postgres"), 0));
    assert_eq!(stage.asked("/config").len(), 3);
    // Not everybody may read it: then nothing is known, and it is not asked for ever.
    stage.on("GET", "/", root("vm-3"));
    stage.on("GET", "/config", Answer::Body(403, "no".to_owned()));
    for _ in 0..3 {
        assert_eq!(driver.observe(&mesh(), &items).await.unwrap().store, None);
    }
    assert_eq!((stage.asked("/config").len(), warned()), (4, 0));
}

/// What is asked each second is what is observed.
#[tokio::test]
async fn services_alone_are_the_services_that_are_observed() {
    let stage = Stage::new().await;
    stage.on("GET", "/meshes/default/meshservices", recorded("meshservices"));
    let (driver, items) = (stage.driver(), [Arc::new(item([9000, 1000], 7))]);
    let alone = driver.services(&mesh(), &items).await.unwrap().unwrap();
    assert_eq!(alone, driver.observe(&mesh(), &items).await.unwrap().services);
    assert_eq!(alone.len(), 3);
    stage.on("GET", "/meshes/default/meshservices", recorded("missing-mesh"));
    let error = driver.services(&mesh(), &items).await.unwrap().unwrap_err();
    assert_eq!(error.fault, Fault::MeshGone);
    assert!(
        error
            .told()
            .contains("Make the Mesh on the global control plane again"),
        "{}",
        error.told()
    );
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
