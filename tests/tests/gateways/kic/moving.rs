//! What changes besides weights: namespaces, names, annotations.

use super::*;

/// Watches that Kong always has a route with this path, until it is told that it is over; how often it looked.
fn always_routed(kong: &Kong, path: &'static str) -> (tokio::task::JoinHandle<u32>, CancellationToken) {
    let over = CancellationToken::new();
    let url = format!("http://{}/routes", kong.admin());
    let until = over.clone();
    let watch = async move {
        let client = weir_sandbox::http_client();
        let mut looks = 0;
        while !until.is_cancelled() {
            let all: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
            let routes = all["data"].as_array().cloned().unwrap_or_default();
            let has = routes.iter().any(|of| {
                of["paths"]
                    .as_array()
                    .is_some_and(|paths| paths.contains(&json!(path)))
            });
            assert!(has, "nobody takes {path}: {all}");
            looks += 1;
        }
        looks
    };
    (tokio::spawn(watch), over)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_moves_or_is_renamed_is_never_without_a_route() {
    let Some(mut scene) = scene_of("a_split_that_moves_or_is_renamed").await else {
        return;
    };
    let (mut agent, first, _) = scene.begun(&[own_door("checkout", 90, SERVICES)]).await;
    let (watch, over) = always_routed(&scene.kong, "/checkout/");

    // To another namespace, in which the agent has no rights yet, and nobody stands behind the Services.
    let stored = SERVICES.replace(".shop.", ".store.");
    let second = of(
        &[
            own_door("checkout", 90, &stored),
            own_door("basket", 100, SERVICES),
        ],
        Some(&first),
    );
    let part = agent.want(&second);
    let told = until(&mut agent, &second, "checkout", "namespace store is not known").await;
    assert!(
        told.contains("forbidden") || told.contains("cannot list"),
        "{told}"
    );
    // A split of another namespace goes on.
    agent
        .until("basket", |told| door(told, &second, "basket").is_some_and(exact))
        .await;
    scene.stand.namespace("store", "false").await.unwrap();
    scene
        .stand
        .apply_text(&AGENT_RIGHTS_KIC.replace("namespace: shop", "namespace: store"))
        .await
        .unwrap();
    scene.namespace = "store";
    for name in ["old", "new"] {
        scene.service(name, 80, json!({})).await;
    }
    until(
        &mut agent,
        &second,
        "checkout",
        "no endpoint of the Service store",
    )
    .await;
    assert!(scene.route("checkout").await.is_some(), "the old one stays");
    scene.endpoints("old", "10.1.0", 3).await;
    scene.endpoints("new", "10.2.0", 7).await;
    agent.exact(&part).await;
    until_so("the old route is gone", async || {
        scene.route("checkout").await.is_none()
    })
    .await;

    // By another name, which the mesh does not let in yet; then it does.
    let door_of =
        |name: &str| own_door(name, 80, &stored).replace(&format!("paths: [/{name}]"), "paths: [/checkout]");
    let renamed = door_of("till").replace("service: till", "service: checkout");
    let third = of(&[renamed, own_door("basket", 100, SERVICES)], Some(&second));
    let part = Arc::new(
        third
            .zone_plan(&weir_model::ZoneName::new("fra").unwrap())
            .unwrap(),
    );
    let mut items = part.items.clone();
    items.remove(&name("till"));
    agent.want_items(&part, items);
    let digest = third.splits[&name("basket")].items[&weir_model::ZoneName::new("fra").unwrap()].digest;
    agent
        .until("basket", |told| {
            told.doors
                .get(&name("basket"))
                .is_some_and(|of| of[&edge()].digest == digest && exact(&of[&edge()].fact))
        })
        .await;
    agent.want(&third);
    agent.exact(&part).await;
    let live = scene
        .stand
        .admin
        .list("/apis/gateway.networking.k8s.io/v1/httproutes")
        .await
        .unwrap();
    let names: Vec<&str> = live
        .iter()
        .map(|of| of["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["weir.edge.basket", "weir.edge.till"]);
    over.cancel();
    assert!(watch.await.unwrap() > 10);
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_annotation_says_is_proven_at_kong() {
    let Some(mut scene) = scene_of("what_an_annotation_says").await else {
        return;
    };
    let (mut agent, first, _) = scene.begun(&[own_door("checkout", 90, SERVICES)]).await;
    // It moves no generation, so that the controller's word stays what it was: Kong has to be asked.
    scene.controller = None;
    let https = own_door("checkout", 90, SERVICES)
        .replace("paths: [/checkout]", "paths: [/checkout], httpsOnly: true");
    let second = of(&[https], Some(&first));
    let part = agent.want(&second);
    until(&mut agent, &second, "checkout", "https only false").await;
    scene.controller = Some(scene.controller_of(&scene.kong));
    agent.exact(&part).await;
    // And somebody else's may change what becomes of requests.
    let path = format!("{ROUTES}/weir.edge.checkout");
    let noted = |value: Value| json!({"metadata": {"annotations": {"konghq.com/plugins": value}}});
    scene
        .stand
        .admin
        .merge(&path, &noted(json!("cut")))
        .await
        .unwrap();
    until(&mut agent, &second, "checkout", "with konghq.com/plugins").await;
    scene.stand.admin.merge(&path, &noted(Value::Null)).await.unwrap();
    agent.exact(&part).await;
    agent.stopped().await;
}
