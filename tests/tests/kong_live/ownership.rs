//! What Weir did not make stays: a Kong that has anything that would be lost is not written to (I7, I10).

use serde_json::{Value, json};
use weir_drivers::{Brought, GatewayDriver as _};
use weir_model::FederationName;
use weir_planner::{Generation, Verdict};
use weir_render::kong::{AtDoor, Document, Resolved, document};

use super::asking::Target;
use super::stage::{Stage, by_routes, federation, gateway, made, plain, routing};

async fn held(stage: &Stage, document: &Document, posted: &[&str], why: &str) {
    let (before, config) = (stage.hash().await, stage.read("config").await);
    match stage.brought(document, posted).await {
        Brought::Held(said) => assert!(said.contains(why), "{said}"),
        other => panic!("{why}: {other:?}"),
    }
    assert_eq!(stage.hash().await, before, "{why}");
    let mut lines = [config, stage.read("config").await].map(|config| {
        let text = config["config"].as_str().unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    });
    assert_eq!(std::mem::take(&mut lines[0]), lines[1], "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_lost_is_left_alone() {
    let stage = Stage::set().await;
    let vm = Target::start("vm").await.address;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm])]);
    let checkout = plain("checkout", 7, &[("vm", 10_000)]);
    let document = made(None, &[(&checkout, &door)]);
    let theirs = json!({"_format_version": "3.0",
        "services": [{"name": "theirs", "host": "127.0.0.1", "routes": [{"paths": ["/theirs"]}]}]});
    for (loaded, why) in [
        (
            theirs.clone(),
            "which neither Weir nor the gateway's base declares",
        ),
        (
            json!({"_format_version": "3.0", "consumers": [{"username": "ann"}]}),
            "consumer ann",
        ),
        (
            json!({"_format_version": "3.0", "upstreams": [{"name": "up", "tags": ["managed-by-ingress-controller"]}]}),
            "belongs to an ingress controller",
        ),
        (
            json!({"_format_version": "3.0", "upstreams": [{"name": "up", "tags": ["k8s-kind:HTTPRoute", "k8s-name:up"]}]}),
            "belongs to an ingress controller, which made upstream up",
        ),
    ] {
        stage.load(&loaded.to_string()).await;
        held(&stage, &document, &[], why).await;
        // Not even what this agent posted at some other time makes it its own.
        held(&stage, &document, &[&document.hash], why).await;
    }
    // Its controller notices that all is gone in some seconds, if nobody gives it anything else meanwhile.
    stage.load(r#"{"_format_version": "3.0"}"#).await;
    held(
        &stage,
        &document,
        &[],
        "belongs to an ingress controller, which made upstream up",
    )
    .await;
    // In the base it is kept, and then the Kong may be written to.
    stage.load(&theirs.to_string()).await;
    stage.bring(&made(Some(&theirs), &[(&checkout, &door)])).await;
    assert_eq!(stage.read("services/theirs").await["host"], "127.0.0.1");
    // What this agent posted it may replace without looking, also by what has no base any more.
    let hash = stage.hash().await;
    let brought = stage.brought(&document, &[&hash]).await;
    assert!(matches!(brought, Brought::Posted), "{brought:?}");
    let brought = stage.brought(&document, &[]).await;
    assert!(matches!(brought, Brought::There), "{brought:?}");
}

/// What another agent of this federation, or of another, has posted.
async fn posted(
    stage: &Stage,
    federation: &FederationName,
    generation: u64,
    base: Option<&Value>,
) -> Document {
    let vm = Target::start("vm").await.address;
    let (item, door) = (
        plain("checkout", generation, &[("vm", 10_000)]),
        by_routes(routing("/checkout"), &[("vm", &[vm])]),
    );
    let at = AtDoor {
        item: &item,
        door: &door,
        pin: None,
    };
    let document = document(federation, &gateway(base), &[at], &Resolved::new())
        .unwrap()
        .unwrap();
    let node = stage.driver.nodes().remove(0);
    stage.driver.post(&node, &document).await.unwrap();
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_newer_and_nobody_else_gives_way() {
    let stage = Stage::set().await;
    let vm = Target::start("vm").await.address;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm])]);
    let checkout = plain("checkout", 7, &[("vm", 10_000)]);
    let document = made(None, &[(&checkout, &door)]);
    posted(&stage, &federation(), 8, None).await;
    held(
        &stage,
        &document,
        &[],
        "has generation 8 of split checkout, and this agent knows generation 7",
    )
    .await;
    posted(&stage, &"other".parse().unwrap(), 1, None).await;
    held(&stage, &document, &[], "of the federation other").await;
    // A split that went: with a plan up to ours it may go, with a newer one not.
    let other = made(
        None,
        &[(
            &plain("other", 9, &[("vm", 10_000)]),
            &by_routes(routing("/other"), &[("vm", &[vm])]),
        )],
    );
    let node = stage.driver.nodes().remove(0);
    posted(&stage, &federation(), 101, None).await;
    held(&stage, &other, &[], "has generation 101 of split checkout").await;
    posted(&stage, &federation(), 100, None).await;
    stage.bring(&other).await;
    // An older one, or the same, gives way.
    posted(&stage, &federation(), 6, None).await;
    stage.bring(&document).await;
    posted(&stage, &federation(), 7, None).await;
    stage.bring(&document).await;
    // A newer base is not written over either, although nothing of it is missing here.
    let base =
        json!({"_format_version": "3.0", "services": [{"name": "theirs", "host": "a.test", "port": 80}]});
    let mut newer = gateway(Some(&base));
    newer.generation = Generation(4);
    let at = AtDoor {
        item: &checkout,
        door: &door,
        pin: None,
    };
    let newer = weir_render::kong::document(&federation(), &newer, &[at], &Resolved::new())
        .unwrap()
        .unwrap();
    stage.driver.post(&node, &newer).await.unwrap();
    let older =
        json!({"_format_version": "3.0", "services": [{"name": "theirs", "host": "b.test", "port": 80}]});
    held(
        &stage,
        &made(Some(&older), &[(&checkout, &door)]),
        &[],
        "generation 4 of this gateway",
    )
    .await;
    // And whoever looks sees that it is not what this agent wants.
    let proof = stage.driver.prove(&document).await.into_values().next().unwrap();
    assert!(
        matches!(&proof.verdict, Verdict::Different(why) if why.contains("runs another configuration")),
        "{proof:?}"
    );
}
