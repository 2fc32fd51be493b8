//! HTTPRoutes of others that splits take over: what becomes of them, who else writes them, and how they are let go.

use super::*;

const PATH: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/theirs";
const MARK: &str = "weir.dev/taken-over";
const UPSTREAM: &str = "httproute.shop.theirs.0";

/// A split that takes over their route.
fn over(vm: u32) -> String {
    split("checkout", vm, SERVICES).replace("service: checkout, backends", "httpRoute: theirs, backends")
}

/// Their route, as it is in their Git: with much of its own, and all of its requests to the Service `old`.
fn theirs() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {
            "name": "theirs", "namespace": SHOP,
            "labels": {"team": "shop"},
            "annotations": {"konghq.com/strip-path": "true", "shop/owner": "web"},
        },
        "spec": {
            "parentRefs": [{"name": "kong"}],
            "hostnames": ["shop.example.com"],
            "rules": [{
                "matches": [
                    {"path": {"type": "PathPrefix", "value": "/checkout"}, "method": "GET"},
                    {"path": {"type": "Exact", "value": "/pay"}, "headers": [{"name": "x-tenant", "value": "a"}]},
                ],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-by", "value": "gateway"}]}}],
                "timeouts": {"request": "10s"},
                "backendRefs": [{"name": "old", "port": 80}],
            }],
        },
    })
}

/// Their Git brings it there, whoever changed it meanwhile.
async fn synced(scene: &Scene, route: &Value) {
    let admin = &scene.stand.admin;
    let answer = admin
        .apply_at(PATH, "kustomize-controller", "&force=true", route)
        .await
        .unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

async fn live(scene: &Scene) -> Value {
    scene.stand.admin.find(PATH).await.unwrap().unwrap()
}

/// All that is said in it, without what the API server and the controller keep, and without what Weir says.
fn plain(route: &Value) -> Value {
    let mut route = route.clone();
    route.as_object_mut().unwrap().remove("status");
    let metadata = route["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    metadata["annotations"].as_object_mut().unwrap().remove(MARK);
    route["spec"]["rules"][0]
        .as_object_mut()
        .unwrap()
        .remove("backendRefs");
    route
}

fn is_marked(route: &Value) -> bool {
    route["metadata"]["annotations"].get(MARK).is_some()
}

/// Somebody writes the whole object anew (`kubectl replace`).
async fn replaced(scene: &Scene, route: &Value) {
    let admin = &scene.stand.admin;
    let at = format!("{PATH}?fieldManager=kubectl-replace");
    let answer = admin
        .exchange(http::Method::PUT, &at, "application/json", Some(route))
        .await
        .unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

fn backends(route: &Value) -> Value {
    route["spec"]["rules"][0]["backendRefs"].clone()
}

/// The first plan of the split over their route, there and proven.
async fn begun(scene: &Scene, take_back: bool) -> (Agent, Plan) {
    scene.services().await;
    synced(scene, &theirs()).await;
    let mut agent = scene.agent(take_back);
    let first = of(&[over(90)], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    (agent, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_of_a_route_become_the_splits_and_it_is_let_go_as_it_is() {
    let Some(scene) = scene_of("taken::the_backends_of_a_route_become_the_splits").await else {
        return;
    };
    scene.services().await;
    let mut agent = scene.agent(false);
    let first = of(&[over(90)], None);
    let part = agent.want(&first);
    // Nothing is made in the place of one that is not there.
    let told = until(&mut agent, &first, "checkout", "there is no HTTPRoute").await;
    assert!(
        told.contains("shop/theirs that the split could take over"),
        "{told}"
    );
    assert_eq!(scene.stand.admin.find(PATH).await.unwrap(), None);
    synced(&scene, &theirs()).await;
    let before = live(&scene).await;
    agent.exact(&part).await;
    let taken = live(&scene).await;
    assert_eq!(plain(&taken), plain(&before), "all else is theirs");
    assert_eq!(
        targets(&scene.kong, UPSTREAM).await,
        of_networks((3, 18_000), (7, 857))
    );
    // More than the backends is theirs to change, and is kept with the next weights.
    let mut more = theirs();
    more["spec"]["rules"][0]["matches"][0]["path"]["value"] = json!("/checkout/v2");
    more["metadata"]["labels"]["team"] = json!("web");
    more["spec"]["rules"][0]["backendRefs"] = backends(&taken);
    synced(&scene, &more).await;
    let second = of(&[over(50)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(plain(&live(&scene).await), plain(&more_of(&before, &more)));
    assert_eq!(
        targets(&scene.kong, UPSTREAM).await,
        of_networks((3, 10_000), (7, 4_285))
    );
    // Over a kill -9 it knows the route for its own, for that says so.
    agent.killed().await;
    let mut agent = scene.agent(false);
    let third = of(&[over(0)], Some(&second));
    let part = agent.want(&third);
    agent.exact(&part).await;
    assert_eq!(
        targets(&scene.kong, UPSTREAM).await,
        of_networks((3, 0), (7, 8_571))
    );

    // The split goes: nobody declared other shares, and the route is its owner's as it is.
    let last = live(&scene).await;
    let gone = of(&[own_door("basket", 100, SERVICES)], Some(&third));
    let part = agent.want(&gone);
    until_so("it is let go", async || !is_marked(&live(&scene).await)).await;
    agent.exact(&part).await;
    assert_eq!(live(&scene).await["spec"], last["spec"]);
    synced(&scene, &theirs()).await;
    assert_eq!(backends(&live(&scene).await)[0]["name"], "old");
    agent.stopped().await;
}

/// What the API server makes of what was applied: its defaults.
fn more_of(before: &Value, more: &Value) -> Value {
    let mut made = before.clone();
    made["metadata"]["labels"] = more["metadata"]["labels"].clone();
    made["spec"]["rules"][0]["matches"][0]["path"] = more["spec"]["rules"][0]["matches"][0]["path"].clone();
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_its_backends_again_is_named_and_not_fought() {
    let Some(scene) = scene_of("taken::whoever_writes_its_backends_again").await else {
        return;
    };
    let (mut agent, first) = begun(&scene, false).await;
    let ours = backends(&live(&scene).await);
    // Their Git knows nothing of it and puts back what it has.
    synced(&scene, &theirs()).await;
    let told = until(&mut agent, &first, "checkout", "kustomize-controller").await;
    assert!(told.contains("does not fight it"), "{told}");
    let second = of(&[over(50)], Some(&first));
    agent.want(&second);
    until(&mut agent, &second, "checkout", "does not fight it").await;
    assert_eq!(backends(&live(&scene).await)[0]["name"], json!("old"));
    assert_eq!(backends(&live(&scene).await).as_array().unwrap().len(), 1);
    agent.stopped().await;

    // Whoever runs this zone said that it is taken back; but two do not fight.
    let mut agent = scene.agent(true);
    let part = agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(backends(&live(&scene).await), ours);
    synced(&scene, &theirs()).await;
    let told = until(&mut agent, &first, "checkout", "took it again").await;
    assert!(told.contains("kustomize-controller"), "{told}");
    agent.stopped().await;

    // Somebody replaces the whole object, mark and all, as some tools do: it is nobody's word that it may be written again.
    let mut agent = scene.agent(false);
    scene.deleted("theirs").await;
    synced(&scene, &theirs()).await;
    let part = agent.want(&first);
    agent.exact(&part).await;
    let mut whole = live(&scene).await;
    whole["metadata"]["annotations"] = json!({});
    whole["spec"]["rules"] = theirs()["spec"]["rules"].clone();
    replaced(&scene, &whole).await;
    until(&mut agent, &first, "checkout", "does not fight it").await;
    assert_eq!(backends(&live(&scene).await).as_array().unwrap().len(), 1);
    // And it is let go without a mark, too.
    let gone = of(&[own_door("basket", 100, SERVICES)], Some(&first));
    let part = agent.want(&gone);
    agent.exact(&part).await;
    assert_eq!(backends(&live(&scene).await).as_array().unwrap().len(), 1);
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_route_that_was_taken_over_is_left_alone() {
    let Some(scene) = scene_of("taken::what_is_not_the_route_that_was_taken_over").await else {
        return;
    };
    let (mut agent, first) = begun(&scene, false).await;
    let taken = live(&scene).await;
    // A copy of it, with its mark: of another object.
    let mut copy = theirs();
    copy["metadata"] = json!({
        "name": "copied", "namespace": SHOP,
        "annotations": {MARK: taken["metadata"]["annotations"][MARK]},
    });
    copy["spec"]["hostnames"] = json!(["other.example.com"]);
    copy["spec"]["rules"][0]["backendRefs"] = backends(&taken);
    scene.stand.apply(&copy).await.unwrap();
    let copied = async || {
        let path = format!("{ROUTES}/copied");
        scene.stand.admin.find(&path).await.unwrap().unwrap()["spec"].clone()
    };
    let as_it_was = copied().await;

    // A second rule comes: of which of them the weights are, nobody said.
    let mut two = theirs();
    let mut second = two["spec"]["rules"][0].clone();
    second["matches"] = json!([{"path": {"type": "PathPrefix", "value": "/second"}}]);
    two["spec"]["rules"] = json!([two["spec"]["rules"][0], second]);
    two["spec"]["rules"][0]["backendRefs"] = backends(&taken);
    synced(&scene, &two).await;
    until(&mut agent, &first, "checkout", "has 2 rules").await;
    synced(&scene, &theirs()).await;
    until(&mut agent, &first, "checkout", "does not fight it").await;

    // It is attached to somewhere else.
    let mut elsewhere = theirs();
    elsewhere["spec"]["parentRefs"] = json!([{"name": "another"}]);
    synced(&scene, &elsewhere).await;
    until(
        &mut agent,
        &first,
        "checkout",
        "is not attached to the Gateway shop/kong",
    )
    .await;

    // It is made anew, as a restored backup is: with the mark, and with what Weir had written in it.
    scene.deleted("theirs").await;
    let mut restored = theirs();
    restored["metadata"]["annotations"][MARK] = taken["metadata"]["annotations"][MARK].clone();
    restored["spec"]["rules"][0]["backendRefs"] = backends(&taken);
    synced(&scene, &restored).await;
    let back = of(&[over(100)], Some(&first));
    let part = agent.want(&back);
    agent.exact(&part).await;
    let gone = of(&[own_door("basket", 100, SERVICES)], Some(&back));
    agent.want(&gone);
    until_so("it is let go", async || !is_marked(&live(&scene).await)).await;
    assert_eq!(copied().await, as_it_was, "the copy is nobody's");
    agent.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_with_a_newer_plan_is_not_written_over() {
    let Some(scene) = scene_of("taken::another_agent_with_a_newer_plan").await else {
        return;
    };
    let (agent, first) = begun(&scene, false).await;
    let second = of(&[over(50)], Some(&first));
    agent.stopped().await;
    let mut newer = scene.agent(false);
    let part = newer.want(&second);
    newer.exact(&part).await;
    let newest = live(&scene).await["spec"].clone();
    newer.stopped().await;
    // One that begins with an older plan, on a host of its own.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut older = scene.agent_in(elsewhere.path());
    older.want(&first);
    until(
        &mut older,
        &first,
        "checkout",
        "another agent of this zone has a newer plan",
    )
    .await;
    assert_eq!(live(&scene).await["spec"], newest);
    older.stopped().await;
}

/// What is wrong with a backend holds what would send more there, whatever the numbers are that the owner had written.
#[tokio::test(flavor = "multi_thread")]
async fn shares_of_theirs_are_compared_and_not_their_numbers() {
    let Some(scene) = scene_of("taken::shares_of_theirs_are_compared").await else {
        return;
    };
    scene.services().await;
    scene.endpoints("new", "10.2.0", 0).await;
    let mut large = theirs();
    large["spec"]["rules"][0]["backendRefs"] = json!([{"name": "old", "port": 80, "weight": 900_000}, {"name": "new", "port": 80, "weight": 100_000}]);
    synced(&scene, &large).await;
    let mut agent = scene.agent(false);
    // 54,000 is less than 100,000, and nine times the share.
    let first = of(&[over(10)], None);
    agent.want(&first);
    until(&mut agent, &first, "checkout", "no endpoint").await;
    assert_eq!(backends(&live(&scene).await)[1]["weight"], 100_000);
    // Away from there goes at once.
    let away = of(&[over(100)], Some(&first));
    agent.want(&away);
    until_so("it is written", async || {
        backends(&live(&scene).await)[1]["weight"] == 60_000
    })
    .await;
    agent.stopped().await;
}

/// A second HTTPRoute for the requests of theirs, whatever they match by: which of the two serves nobody says.
#[tokio::test(flavor = "multi_thread")]
async fn another_route_for_the_same_requests_is_no_proof() {
    let Some(scene) = scene_of("taken::another_route_for_the_same_requests").await else {
        return;
    };
    scene.services().await;
    synced(&scene, &theirs()).await;
    let mut rival = theirs();
    rival["metadata"] = json!({"name": "rival", "namespace": SHOP});
    rival["spec"]["rules"][0]["backendRefs"] = json!([{"name": "old", "port": 80}]);
    scene.stand.apply(&rival).await.unwrap();
    let mut agent = scene.agent(false);
    let first = of(&[over(90)], None);
    let part = agent.want(&first);
    until(
        &mut agent,
        &first,
        "checkout",
        "which of the two Kong takes is not known",
    )
    .await;
    scene.deleted("rival").await;
    agent.exact(&part).await;
    agent.stopped().await;
}
