//! Proof of proxies on other hosts: what spoils it after it was good.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_drivers::{KumaUniversal, ZoneDriver as _};
use weir_planner::{Coverage, Evidence, Item, Proof, Verdict};
use weir_render::{Form, to_document};

use crate::stage::{Answer, Stage, body, mesh, recorded};
use crate::{object, recorded_item};

const OVERVIEW: &str = "/meshes/default/dataplanes/_overview";

/// A zone in which `web` and others like it call the service, whose policy was written before `web` last took something.
struct Zone {
    stage: Stage,
    item: Arc<Item>,
}

impl Zone {
    async fn new(names: &[&str]) -> Self {
        let stage = Stage::new().await;
        stage.on("GET", "/meshes/default/meshservices", recorded("meshservices"));
        let zone = Self {
            stage,
            item: recorded_item(),
        };
        zone.written("2026-11-23T15:58:46.169292717Z");
        for name in names {
            zone.computes(name, recorded("config"));
            zone.runs(name, recorded("xds"));
        }
        zone.callers(&names.map_rejections(0));
        zone
    }

    /// The policy, last written then.
    fn written(&self, at: &str) {
        let mut live = to_document(&object([10_000, 0], 7), &Form::Universal);
        live["modificationTime"] = json!(at);
        let list = json!({"total": 1, "items": [live], "next": null});
        self.stage
            .on("GET", "/meshes/default/meshhttproutes", body(200, &list));
    }

    fn computes(&self, name: &str, config: Answer) {
        self.stage.on(
            "GET",
            &format!("/meshes/default/dataplanes/{name}/_config"),
            config,
        );
    }

    fn runs(&self, name: &str, dump: Answer) {
        self.stage
            .on("GET", &format!("/meshes/default/dataplanes/{name}/xds"), dump);
    }

    /// These are connected, each with so many rejections of what the control plane sent.
    fn callers(&self, all: &[(&str, u64)]) {
        let Answer::Body(_, text) = recorded("overview") else {
            panic!("a recording has a body")
        };
        let overview: Value = serde_json::from_str(&text).unwrap();
        let web = overview["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "web")
            .unwrap();
        let items: Vec<Value> = all
            .iter()
            .map(|(name, rejected)| {
                let mut one = web.clone();
                one["name"] = json!(name);
                let lds = &mut one["dataplaneInsight"]["subscriptions"][0]["status"]["lds"];
                lds["responsesSent"] = json!((76 + rejected).to_string());
                lds["responsesRejected"] = json!(rejected.to_string());
                one
            })
            .collect();
        let list = json!({"total": items.len(), "items": items, "next": null});
        self.stage.on("GET", OVERVIEW, body(200, &list));
    }

    async fn proof(&self, driver: &KumaUniversal) -> Proof {
        // Past whatever is remembered for a while.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        driver.prove(std::slice::from_ref(&self.item)).await.remove(0)
    }

    async fn driver(&self, per_change: u32) -> KumaUniversal {
        let driver = self.stage.driver_with_budget(60, per_change);
        driver
            .observe(&mesh(), std::slice::from_ref(&self.item))
            .await
            .unwrap();
        driver
    }

    fn calls(&self, name: &str) -> usize {
        self.stage
            .asked(&format!("/meshes/default/dataplanes/{name}/xds"))
            .len()
    }
}

trait Names<'a> {
    fn map_rejections(&self, times: u64) -> Vec<(&'a str, u64)>;
}

impl<'a> Names<'a> for [&'a str] {
    fn map_rejections(&self, times: u64) -> Vec<(&'a str, u64)> {
        self.iter().map(|name| (*name, times)).collect()
    }
}

/// The recorded dump as it is where the policy never came.
fn without_the_policy() -> Answer {
    let Answer::Body(status, text) = recorded("xds") else {
        panic!("a recording has a body")
    };
    let moved = text.replace(
        "default_checkout__fra_msvc_8080",
        "default_checkout__ams_msvc_8080",
    );
    assert_ne!(text, moved);
    Answer::Body(status, moved)
}

fn unknown(proof: &Proof) -> &str {
    assert_eq!(proof.evidence, Evidence::Unknown, "{proof:?}");
    match &proof.verdict {
        Verdict::Unknown(why) => why,
        other => panic!("{other:?}"),
    }
}

/// It runs on with the weights of before, and a sample of its neighbour says nothing of that.
#[tokio::test]
async fn a_proxy_that_rejects_the_change_spoils_the_proof_of_another() {
    let zone = Zone::new(&["web", "web-2"]).await;
    let driver = zone.driver(2).await;
    let proof = zone.proof(&driver).await;
    assert_eq!(
        (&proof.verdict, proof.evidence),
        (&Verdict::Exact, Evidence::Sampled)
    );
    assert_eq!(proof.coverage, Coverage { seen: 1, of: 2 });
    let (seen, other) = if zone.calls("web") == 1 {
        ("web", "web-2")
    } else {
        ("web-2", "web")
    };

    // The other one rejects, and cannot be read: not known, by name.
    zone.callers(&[(seen, 0), (other, 1)]);
    zone.runs(other, Answer::Body(404, String::new()));
    let proof = zone.proof(&driver).await;
    let why = unknown(&proof);
    assert!(why.contains(&format!("{other} rejected")), "{why}");
    // It is read, and has what it had.
    zone.runs(other, without_the_policy());
    let proof = zone.proof(&driver).await;
    assert!(matches!(proof.verdict, Verdict::Different(_)), "{proof:?}");
}

/// Somebody writes the policy again with the same content, which changes no listener: who rejected that content has it no more
/// than before.
#[tokio::test]
async fn a_rejection_is_not_forgotten_when_the_policy_is_written_again() {
    let zone = Zone::new(&["web", "web-2"]).await;
    let driver = zone.driver(2).await;
    assert_eq!(zone.proof(&driver).await.verdict, Verdict::Exact);
    let (seen, other) = if zone.calls("web") == 1 {
        ("web", "web-2")
    } else {
        ("web-2", "web")
    };
    zone.callers(&[(seen, 0), (other, 1)]);
    zone.runs(other, Answer::Body(404, String::new()));
    assert!(unknown(&zone.proof(&driver).await).contains("rejected"));

    zone.written("2026-11-23T15:58:46.170292717Z");
    driver
        .observe(&mesh(), std::slice::from_ref(&zone.item))
        .await
        .unwrap();
    let proof = zone.proof(&driver).await;
    assert!(
        unknown(&proof).contains(&format!("{other} rejected")),
        "{proof:?}"
    );
}

/// What it rejected was something else: a look at the proxy itself says so, and the same rejection is not asked about again.
#[tokio::test]
async fn a_rejection_is_forgiven_once_the_proxy_was_read_and_is_right() {
    let zone = Zone::new(&["web"]).await;
    let driver = zone.driver(1).await;
    assert_eq!(zone.proof(&driver).await.verdict, Verdict::Exact);
    assert_eq!(zone.calls("web"), 1);
    for (rejected, calls) in [(1, 2), (1, 2), (2, 3), (3, 4), (3, 4)] {
        zone.callers(&[("web", rejected)]);
        let proof = zone.proof(&driver).await;
        assert_eq!(
            (&proof.verdict, proof.evidence),
            (&Verdict::Exact, Evidence::Sampled)
        );
        assert_eq!(zone.calls("web"), calls, "after {rejected} rejections");
    }
    // Rejected before the policy was written, as far as was told by then.
    let zone = Zone::new(&["web"]).await;
    zone.callers(&[("web", 5)]);
    let driver = zone.driver(1).await;
    assert_eq!(zone.proof(&driver).await.verdict, Verdict::Exact);
    let mut live = to_document(&object([10_000, 0], 7), &Form::Universal);
    live["modificationTime"] = json!("2026-11-23T15:58:46.9Z");
    let list = json!({"total": 1, "items": [live], "next": null});
    zone.stage
        .on("GET", "/meshes/default/meshhttproutes", body(200, &list));
    driver
        .observe(&mesh(), std::slice::from_ref(&zone.item))
        .await
        .unwrap();
    zone.runs("web", Answer::Body(404, String::new()));
    let proof = zone.proof(&driver).await;
    assert_eq!(
        (&proof.verdict, proof.evidence),
        (&Verdict::Exact, Evidence::Acknowledged)
    );
}

/// A pod that is gone proves nothing, and what came in its place is looked at anew.
#[tokio::test]
async fn a_sample_does_not_outlive_its_pod() {
    let zone = Zone::new(&["web"]).await;
    let driver = zone.driver(1).await;
    assert_eq!(zone.proof(&driver).await.evidence, Evidence::Sampled);
    zone.callers(&[("web-2", 0)]);
    zone.computes("web-2", recorded("missing-object"));
    let proof = zone.proof(&driver).await;
    assert!(unknown(&proof).contains("web-2"), "{proof:?}");
    zone.computes("web-2", recorded("config"));
    zone.runs("web-2", without_the_policy());
    let proof = zone.proof(&driver).await;
    assert!(matches!(proof.verdict, Verdict::Different(_)), "{proof:?}");
    assert_eq!((zone.calls("web"), zone.calls("web-2")), (1, 1));
}

/// Nothing is known for want of a control plane, and that is what is said.
#[tokio::test]
async fn a_control_plane_that_does_not_answer_is_the_reason() {
    let item = recorded_item();
    let proof = Stage::nobody().prove(std::slice::from_ref(&item)).await.remove(0);
    let why = unknown(&proof);
    assert!(
        why.contains("the zone's control plane does not tell of others: GET"),
        "{why}"
    );
    let zone = Zone::new(&["web"]).await;
    let driver = zone.driver(1).await;
    assert_eq!(zone.proof(&driver).await.verdict, Verdict::Exact);
    zone.stage.on("GET", OVERVIEW, recorded("store-down"));
    let proof = zone.proof(&driver).await;
    assert!(unknown(&proof).contains("500"), "{proof:?}");
}

/// That nobody calls it is said by a list on which others are, for long enough, and of which those who are not connected would not
/// call it either. Anything less is not known.
#[tokio::test]
async fn that_nobody_calls_is_only_said_where_it_is_known() {
    let zone = Zone::new(&["web"]).await;
    let Answer::Body(_, text) = recorded("overview") else {
        panic!("a recording has a body")
    };
    let overview: Value = serde_json::from_str(&text).unwrap();
    let all = overview["items"].as_array().unwrap();
    let web = all.iter().find(|one| one["name"] == "web").unwrap();
    let mut stranger = web.clone();
    stranger["name"] = json!("stranger");
    let networking = stranger["dataplane"]["networking"].as_object_mut().unwrap();
    networking.remove("outbound");
    networking.remove("transparentProxying");
    let away = |one: &Value| {
        let mut one = one.clone();
        for subscription in one["dataplaneInsight"]["subscriptions"].as_array_mut().unwrap() {
            subscription["disconnectTime"] = json!("2026-11-23T15:59:00Z");
        }
        one
    };
    let listed = |items: &[&Value]| {
        let list = json!({"total": items.len(), "items": items, "next": null});
        zone.stage.on("GET", OVERVIEW, body(200, &list));
    };
    let driver = zone.driver(1).await;
    let known = async || {
        let proof = zone.proof(&driver).await;
        assert!(matches!(proof.verdict, Verdict::Unknown(_)), "{proof:?}");
        proof.nobody_calls()
    };
    // Not at once, as after a start of the control plane; then it is, and stays so.
    listed(&[&stranger]);
    assert!(!known().await);
    assert!(known().await);
    assert!(known().await);
    // A caller that is not connected runs on with what it has, and may send.
    listed(&[&stranger, &away(web)]);
    assert!(!known().await);
    listed(&[&stranger, &away(&stranger)]);
    assert!(!known().await, "from anew");
    assert!(known().await);
    // A list on which nobody is connected says nothing, nor does none.
    for nothing in [&[][..], &[&away(&stranger)]] {
        listed(nothing);
        assert!(!known().await);
        assert!(!known().await);
    }
    listed(&[&stranger]);
    assert!(!known().await);
    zone.stage.on("GET", OVERVIEW, recorded("store-down"));
    assert!(!known().await);
    listed(&[&stranger]);
    assert!(!known().await);
    assert!(known().await);
    // Those who may call it, as their definition tells, and do not, as it is computed for them, are as little proof for others.
    let mut may = stranger.clone();
    may["dataplane"]["networking"]["transparentProxying"] = json!({"redirectPortOutbound": 15001});
    let Answer::Body(_, text) = recorded("config") else {
        panic!("a recording has a body")
    };
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["xds"]["type.googleapis.com/envoy.config.listener.v3.Listener"] = json!({});
    zone.computes("stranger", body(200, &config));
    listed(&[&may]);
    assert!(known().await, "it is computed, not only listed");
    listed(&[&may, &away(web)]);
    assert!(!known().await);
    // Somebody comes who calls it, and goes.
    listed(&[&stranger, web]);
    assert_eq!(zone.proof(&driver).await.verdict, Verdict::Exact);
    listed(&[&stranger]);
    assert!(!known().await);
    assert!(known().await);
}
