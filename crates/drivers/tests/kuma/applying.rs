//! What is written and removed, and what is left alone.

use serde_json::json;
use weir_drivers::{Fault, Outcome, ZoneDriver};
use weir_planner::Generation;
use weir_render::{Form, Step, introduction, to_document};

use crate::stage::{Stage, body, item, mesh, recorded};
use crate::{checkout, document, object};

const OURS: &str = "/meshes/default/meshhttproutes/weir-checkout";

fn put(weights: [u32; 2], generation: u64) -> Step {
    checkout::put(&item(weights, generation), object(weights, generation))
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
        ("missing-mesh", Fault::MeshGone, "does not have this mesh"),
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
