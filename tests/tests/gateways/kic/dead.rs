//! Whom Kong takes for dead by a policy of the site's: its endpoints are ready to the cluster, and no route gives it more.

use super::super::dead::{mark, unhealthy};
use super::kongs::{policy, scene_with_kongs_types};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_ready_and_dead_to_kong_gets_no_more() {
    let Some(scene) = scene_with_kongs_types("an_endpoint_that_is_ready_and_dead").await else {
        return;
    };
    let checks = json!({"healthchecks": {"active": {
        "healthy": {"interval": 1, "successes": 1}, "unhealthy": {"interval": 1},
    }}});
    scene.stand.apply(&policy("checked", &checks)).await.unwrap();
    for (name, network, count) in [("old", "10.1.0", 3), ("new", "10.2.0", 7)] {
        scene.under(name, Some("checked")).await;
        scene.endpoints(name, network, count).await;
    }
    let mut agent = scene.agent(false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let new: Vec<String> = (1..=7).map(|n| format!("10.2.0.{n}:8080")).collect();
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let upstream = "httproute.shop.weir.edge.checkout.0";
    mark(&scene.kong, upstream, &new, "unhealthy").await;
    let before = scene.weights("checkout").await;
    let second = of(&[own_door("checkout", 50, SERVICES)], Some(&first));
    agent.want(&second);
    let told = until(
        &mut agent,
        &second,
        "checkout",
        "every target of backend cloud for dead",
    )
    .await;
    assert!(
        told.contains(&format!("the Kong at http://{}", scene.kong.admin())),
        "{told}"
    );
    assert_eq!(scene.weights("checkout").await, before);
    // What gives less is not held.
    let less = of(&[own_door("checkout", 95, SERVICES)], Some(&second));
    agent.want(&less);
    until(&mut agent, &less, "checkout", "for unhealthy").await;
    // Nothing else is wrong with it.
    agent
        .until("health alone", |told| unhealthy(told, &less) == ["cloud"])
        .await;
    let weights = scene.weights("checkout").await;
    assert!(weights["10.2.0.1:8080"] < before["10.2.0.1:8080"], "{weights:?}");
    // A way back is written whatever Kong says of them: the weights are those of half and half, which were held before.
    let back = of(&[own_door("checkout", 50, SERVICES)], Some(&less));
    agent.want_back(&back);
    let half = async || {
        let weights = scene.weights("checkout").await;
        let sum = |network: &str| -> u64 {
            let of_it = weights.iter().filter(|(at, _)| at.starts_with(network));
            of_it.map(|(_, weight)| weight).sum()
        };
        // The controller rounds down for each of three and of seven endpoints.
        let (old, new) = (sum("10.1.0."), sum("10.2.0."));
        old > 0 && old.abs_diff(new) * 1_000 < old
    };
    until_so("it is written", half).await;
    until(&mut agent, &back, "checkout", "for unhealthy").await;
    let less = of(&[own_door("checkout", 95, SERVICES)], Some(&back));
    agent.want(&less);
    until(&mut agent, &less, "checkout", "for unhealthy").await;
    // One of them answers: it goes on, and is exact when all do.
    mark(&scene.kong, upstream, &new[..1], "healthy").await;
    let third = of(&[own_door("checkout", 50, SERVICES)], Some(&less));
    let part = agent.want(&third);
    until(&mut agent, &third, "checkout", "for unhealthy").await;
    mark(&scene.kong, upstream, &new, "healthy").await;
    agent.exact(&part).await;
    agent.stopped().await;
}
