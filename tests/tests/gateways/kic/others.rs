//! What others do: with the routes of ours and beside them, in Kong, and as pods that come.

use weir_sandbox::cluster::documents;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_writes_is_named_and_not_fought() {
    let Some(scene) = scene_of("what_somebody_else_writes").await else {
        return;
    };
    let splits = |vm: u32| [own_door("checkout", vm, SERVICES)];
    let (mut agent, first, part) = scene.begun(&splits(90)).await;
    let ours = scene.route("checkout").await.unwrap();

    // Another field manager takes the rules.
    let mut rules = ours["spec"]["rules"].clone();
    rules[0]["backendRefs"][0]["weight"] = json!(1);
    let theirs = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "weir.edge.checkout", "namespace": SHOP}, "spec": {"rules": rules},
    });
    scene.taken(&theirs).await;
    let told = until(&mut agent, &first, "checkout", "argocd-controller").await;
    assert!(told.contains("does not fight it"), "{told}");
    let spec = async || scene.route("checkout").await.unwrap()["spec"].clone();
    assert_eq!(spec().await["rules"], rules, "it was not fought");
    agent.stopped().await;

    // Whoever runs this zone said that fields are taken back; but two do not fight.
    let mut agent = scene.agent(true);
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(spec().await, ours["spec"]);
    scene.taken(&theirs).await;
    let told = until(&mut agent, &first, "checkout", "took it again").await;
    assert!(told.contains("argocd-controller"), "{told}");
    agent.stopped().await;
    scene.deleted("weir.edge.checkout").await;

    // Somebody's route for the same requests: none is put beside it.
    let mut rival = theirs.clone();
    rival["metadata"]["name"] = json!("theirs");
    rival["spec"] = json!({
        "parentRefs": [{"name": "kong"}],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/checkout"}}], "backendRefs": [{"name": "old", "port": 80}]}],
    });
    scene.stand.apply(&rival).await.unwrap();
    let mut agent = scene.agent(true);
    agent.want(&first);
    let told = until(&mut agent, &first, "checkout", "takes the same requests").await;
    assert!(told.contains("shop/theirs"), "{told}");
    assert_eq!(scene.route("checkout").await, None);
    scene.deleted("theirs").await;
    agent.exact(&part).await;

    // It comes later: what is there is no proof any more; a revert is written all the same.
    scene.stand.apply(&rival).await.unwrap();
    until(
        &mut agent,
        &first,
        "checkout",
        "which of the two Kong takes is not known",
    )
    .await;
    let back = of(&splits(100), Some(&first));
    let part = agent.want(&back);
    until(
        &mut agent,
        &back,
        "checkout",
        "which of the two Kong takes is not known",
    )
    .await;
    scene.deleted("theirs").await;
    agent.exact(&part).await;

    // An object of our name that is not ours stays.
    agent.stopped().await;
    scene.deleted("weir.edge.checkout").await;
    let mut copied = rival.clone();
    copied["metadata"] =
        json!({"name": "weir.edge.checkout", "namespace": SHOP, "labels": ours["metadata"]["labels"]});
    scene.stand.apply(&copied).await.unwrap();
    let mut agent = scene.agent(true);
    agent.want(&back);
    let told = until(&mut agent, &back, "checkout", "is not Weir's").await;
    assert!(told.contains("no field of it was written by Weir"), "{told}");
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kong_refuses_of_another_route_is_no_proof_of_ours() {
    let Some(mut scene) = scene_of("what_kong_refuses_of_another_route").await else {
        return;
    };
    let (mut agent, first, _) = scene.begun(&[own_door("checkout", 90, SERVICES)]).await;
    // A route with weights that Gateway API allows and Kong does not: from now on nothing of any route goes through.
    let too_heavy = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "heavy", "namespace": SHOP},
        "spec": {
            "parentRefs": [{"name": "kong"}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/heavy"}}], "backendRefs": [{"name": "old", "port": 80, "weight": 1_000_000}]}],
        },
    });
    scene.stand.apply(&too_heavy).await.unwrap();
    until(&mut agent, &first, "checkout", "KongConfigurationApplyFailed").await;
    let second = of(&[own_door("checkout", 100, SERVICES)], Some(&first));
    let part = agent.want(&second);
    until(&mut agent, &second, "checkout", "KongConfigurationApplyFailed").await;
    assert_eq!(
        scene.weights("checkout").await,
        of_networks((3, 18_000), (7, 857)),
        "Kong runs on"
    );
    scene.deleted("heavy").await;
    agent.exact(&part).await;
    assert_eq!(scene.weights("checkout").await, of_networks((3, 20_000), (7, 0)));

    // The controller is away: a change is written, and nothing that it says is of the route as it is.
    scene.controller = None;
    let third = of(&[own_door("checkout", 50, SERVICES)], Some(&second));
    let part = agent.want(&third);
    until(&mut agent, &third, "checkout", "is of the route as it was before").await;
    scene.controller = Some(scene.controller_of(&scene.kong));
    agent.exact(&part).await;

    // Somebody posts to the Kong that the controller runs (fact 12). The controller does not notice; here it is seen, and nothing is
    // posted against it: one of the targets weighs one less, and all else is as it was.
    let all = asked(&scene.kong, "/config").await;
    let mut document = documents(all["config"].as_str().unwrap()).unwrap().remove(0);
    let mut targets = document["targets"].as_array_mut().unwrap().iter_mut();
    let target = targets.find(|target| target["weight"] == 4_285).unwrap();
    target["weight"] = json!(4_284);
    post(&scene.kong, &document).await;
    let theirs = hash(&scene.kong).await;
    let said = until(
        &mut agent,
        &third,
        "checkout",
        "weighs 4284 and should weigh 4285",
    )
    .await;
    assert!(said.starts_with("different"), "{said}");
    assert_eq!(hash(&scene.kong).await, theirs);
    // The next change of anything is the controller's whole configuration again.
    let fourth = of(&[own_door("checkout", 60, SERVICES)], Some(&third));
    let part = agent.want(&fourth);
    agent.exact(&part).await;
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_behind_a_name_proves_itself() {
    let Some(scene) = scene_of("each_pod_behind_a_name_proves_itself").await else {
        return;
    };
    scene.services().await;
    // A second Kong, at another address with the port of the first.
    let second = Kong::without_database(Options::default()).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), scene.kong.admin().port()))
        .await
        .unwrap();
    let behind = second.admin();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(behind).await.unwrap();
                // Either end may close it.
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let one: IpAddr = Ipv4Addr::LOCALHOST.into();
    let other: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let names = Arc::new(Known::default());
    let by_name = AdminConfig {
        url: format!("http://localhost:{}", scene.kong.admin().port()),
        status: None,
        ..node(&scene.kong)
    };
    let mut agent = scene.agent_at(by_name, Arc::clone(&names), false);
    let first = of(&[own_door("checkout", 90, SERVICES)], None);
    let part = agent.want(&first);
    until(&mut agent, &first, "checkout", "localhost has no address").await;
    let seen = |told: Arc<Told>| {
        let proof = told.doors[&name("checkout")][&edge()].fact.proof.clone().unwrap();
        (proof.coverage.seen, proof.coverage.of)
    };
    names.0.lock().unwrap().insert(one);
    assert_eq!(seen(agent.exact(&part).await), (1, 1));
    // A pod comes that the controller does not configure yet: what it serves is not what is declared.
    names.0.lock().unwrap().insert(other);
    let told = until(&mut agent, &first, "checkout", "(127.0.0.2)").await;
    assert!(told.starts_with("different"), "{told}");
    let too = scene.controller_of(&second);
    assert_eq!(seen(agent.exact(&part).await), (2, 2));
    agent.stopped().await;
    drop(too);
}
