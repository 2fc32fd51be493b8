//! What is declared comes to the cluster and to Kong, if all that it needs is there, and of no older plan.

use jiff::Timestamp;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_comes_to_the_cluster_and_is_proven_at_kong() {
    let Some(scene) = scene_of("what_is_declared_comes_to_the_cluster").await else {
        return;
    };
    scene.services().await;
    let before = scene.stand.store().await.unwrap();
    let mut agent = scene.agent(false);
    let first = of(
        &[
            own_door("checkout", 90, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        None,
    );
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    assert_eq!(
        scene.weights("checkout").await,
        of_networks((3, 18_000), (7, 857))
    );
    let proof = told.doors[&name("checkout")][&edge()].fact.proof.clone().unwrap();
    let split: SplitName = name("checkout");
    let shares: Vec<u32> = proof
        .weights
        .unwrap()
        .into_values()
        .flat_map(|of| of.into_values())
        .map(|w| w.get())
        .collect();
    assert_eq!(shares, [1_000, 9_000], "cloud and vm of {split}");
    let route = scene.route("checkout").await.unwrap();
    assert_eq!(route["metadata"]["generation"], 1);

    // Whoever comes after finds nothing to do.
    agent.killed().await;
    let mut agent = scene.agent(false);
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(
        scene.route("checkout").await.unwrap()["metadata"]["resourceVersion"],
        route["metadata"]["resourceVersion"]
    );

    // Another weight, and one endpoint more: the share stays what is declared.
    let second = of(
        &[
            own_door("checkout", 99, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        Some(&first),
    );
    let part = agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(scene.weights("checkout").await, of_networks((3, 19_800), (7, 85)));
    scene.endpoints("new", "10.2.0", 8).await;
    let weights = of_networks((3, 19_800), (8, 75));
    until_so("Kong has one target more", async || {
        scene.weights("checkout").await == weights
    })
    .await;
    agent.exact_since(&part, Timestamp::now()).await;

    // With so many that the controller's rounding moves the share it is said, with the share; and not shown as what is declared.
    scene.endpoints("new", "10.2.0", 250).await;
    let told = until(&mut agent, &second, "checkout", "rounds").await;
    assert!(
        told.contains("cloud 0.8") && told.contains("instead of 1 % over 250 endpoints"),
        "{told}"
    );
    scene.endpoints("new", "10.2.0", 7).await;
    agent.exact(&part).await;

    // A split goes: its route goes, and nothing else was ever touched.
    let third = of(&[own_door("checkout", 99, SERVICES)], Some(&second));
    let part = agent.want(&third);
    until_so("its route is gone", async || {
        scene.route("basket").await.is_none()
    })
    .await;
    agent.exact(&part).await;
    let mut changes = before.changes(&Store::read(&scene.stand.admin).await.unwrap());
    changes.retain(|change| !change.path.starts_with(&format!("{ROUTES}/weir.edge.")));
    changes.retain(|change| !change.path.contains("/endpointslices/new-1"));
    let told: Vec<String> = changes.iter().map(Change::to_string).collect();
    assert_eq!(told, Vec::<String>::new(), "changed, and not ours");
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_only_where_all_that_was_declared_is_there() {
    let Some(scene) = scene_of("requests_go_only_where").await else {
        return;
    };
    scene.service("old", 80, json!({})).await;
    scene.endpoints("old", "10.1.0", 3).await;
    let mut agent = scene.agent(false);
    // The new one is not there yet: nothing is written.
    let first = of(
        &[
            own_door("checkout", 90, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        None,
    );
    let part = agent.want(&first);
    until(&mut agent, &first, "checkout", "there is no Service shop/new").await;
    assert_eq!(scene.route("checkout").await, None);
    // What gets nothing need not be there.
    agent
        .until("basket", |told| door(told, &first, "basket").is_some_and(exact))
        .await;
    scene.service("new", 80, json!({"konghq.com/retries": "1"})).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "no endpoint of the Service shop/new is ready",
    )
    .await;
    scene.endpoints("new", "10.2.0", 7).await;
    let told = until(&mut agent, &first, "checkout", "konghq.com/retries").await;
    assert!(told.contains("make it the same on both"), "{told}");
    assert_eq!(scene.route("checkout").await, None);
    scene.service("old", 80, json!({"konghq.com/retries": "1"})).await;
    agent.exact(&part).await;

    // Later on somebody annotates one of them: the controller drops the rule with all of its requests. It is seen.
    scene.service("old", 80, json!({"konghq.com/retries": "2"})).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "different: the annotation konghq.com/retries",
    )
    .await;
    scene.service("old", 80, json!({"konghq.com/retries": "1"})).await;
    agent.exact(&part).await;

    // The last endpoint of the new one goes: the controller gives its share to the others, and calls it programmed.
    scene.endpoints("new", "10.2.0", 0).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "different: backend cloud: no endpoint",
    )
    .await;
    // A revert away from it is written all the same.
    let back = of(
        &[
            own_door("checkout", 100, SERVICES),
            own_door("basket", 100, SERVICES),
        ],
        Some(&first),
    );
    let part = agent.want(&back);
    agent.exact(&part).await;
    assert_eq!(scene.weights("checkout").await, of_networks((3, 20_000), (0, 0)));
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lags_takes_nothing_back() {
    let Some(scene) = scene_of("an_agent_that_lags").await else {
        return;
    };
    let (mut agent, first, older) = scene.begun(&[own_door("checkout", 90, SERVICES)]).await;
    let second = of(&[own_door("checkout", 100, SERVICES)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    // Another agent of the zone has the plan, and its zone's control plane did not take it yet.
    let other = tempfile::tempdir().unwrap();
    let mut lags = Agent::driving(
        [(edge(), vec![node(&scene.kong)])].into(),
        Some(scene.cluster(Arc::new(Known::default()), false)),
        &Arc::new(Known::default()),
        other.path(),
    );
    lags.want_items(&part, older.items.clone());
    let told = lags
        .until("held", |told| {
            let door = told.doors.get(&name("checkout")).and_then(|of| of.get(&edge()));
            door.is_some_and(|door| door.fact.held.is_some())
        })
        .await;
    let held = told.doors[&name("checkout")][&edge()].fact.held.clone().unwrap();
    assert!(
        held.contains("another agent of this zone has a newer plan"),
        "{held}"
    );
    assert_eq!(scene.weights("checkout").await, of_networks((3, 20_000), (7, 0)));
    lags.stopped().await;
    agent.stopped().await;
}

/// A door of everything: the controller makes two paths of `/` as of any other prefix, and the split is proven with both.
#[tokio::test(flavor = "multi_thread")]
async fn a_door_of_all_paths_is_proven() {
    let Some(scene) = scene_of("a_door_of_all_paths_is_proven").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let mut before: Option<Plan> = None;
    for hosts in ["hosts: [shop.example.com]", "paths: [/]"] {
        let whole = own_door("checkout", 90, SERVICES).replace("paths: [/checkout]", hosts);
        let plan = of(&[whole], before.as_ref());
        let part = agent.want(&plan);
        agent.exact(&part).await;
        before = Some(plan);
        let routes = asked(&scene.kong, "/routes").await;
        assert_eq!(routes["data"][0]["paths"], json!(["~/$", "/"]), "{hosts}");
    }
    agent.stopped().await;
}
