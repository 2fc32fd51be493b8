//! Kong's own objects beside Weir's routes, by Kong's own definitions where they are on this machine: what they refuse, that none of
//! them is ever touched, and what a policy of balancing does to a share.

use super::*;

const POLICIES: &str = "/apis/configuration.konghq.com/v1beta1/namespaces/shop/kongupstreampolicies";
const UPSTREAM: &str = "httproute.shop.weir.edge.checkout.0";
const ANNOTATION: &str = "konghq.com/upstream-policy";

pub(super) async fn scene_with_kongs_types(test: &str) -> Option<Scene> {
    let mut scene = scene_of(test).await?;
    scene.stand.with_kongs_types(test).await.unwrap();
    Some(scene)
}

pub(super) fn policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "configuration.konghq.com/v1beta1", "kind": "KongUpstreamPolicy",
        "metadata": {"name": name, "namespace": SHOP}, "spec": spec,
    })
}

/// What the API server takes for a policy, and what not: a hash by a header with a dash is a policy to it.
async fn what_is_a_policy(scene: &Scene) {
    let hashing = |more: Value| {
        let mut spec = json!({"algorithm": "consistent-hashing"});
        let fields = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        spec
    };
    let passive = |side: &str| json!({"healthchecks": {"passive": {side: {"interval": 5}}}});
    for spec in [
        json!({"algorithm": "round-robin", "slots": 10}),
        json!({"algorithm": "least-connections", "healthchecks": {"threshold": 30, "passive": {"unhealthy": {"tcpFailures": 3}}}}),
        hashing(json!({"hashOn": {"header": "X-User"}, "hashOnFallback": {"input": "ip"}, "slots": 65_536})),
        hashing(json!({"hashOn": {"cookie": "session", "cookiePath": "/"}})),
    ] {
        let (status, text) = scene.tried(POLICIES, &policy("tried", &spec)).await;
        assert_eq!(status, 201, "{spec}: {text}");
    }
    for (spec, words) in [
        (json!({"hashOn": {"header": "x_user"}}), "spec.hashOn"),
        (
            json!({"algorithm": "round-robin", "hashOn": {"input": "ip"}}),
            "spec.hashOn",
        ),
        (
            hashing(json!({"hashOn": {"input": "ip", "header": "x_user"}})),
            "spec.hashOn",
        ),
        (
            hashing(json!({"hashOn": {"cookie": "session"}})),
            "spec.hashOn.cookiePath",
        ),
        (
            hashing(json!({"hashOn": {"cookiePath": "/"}})),
            "spec.hashOn.cookie",
        ),
        (
            hashing(
                json!({"hashOn": {"cookie": "session", "cookiePath": "/"}, "hashOnFallback": {"input": "ip"}}),
            ),
            "spec.hashOnFallback",
        ),
        (
            hashing(
                json!({"hashOn": {"header": "x_user"}, "hashOnFallback": {"input": "ip", "queryArg": "user"}}),
            ),
            "spec.hashOnFallback",
        ),
        (
            json!({"algorithm": "sticky-sessions", "hashOn": {"input": "none"}, "hashOnFallback": {"input": "ip"},
                "stickySessions": {"cookie": "session"}}),
            "spec.hashOnFallback",
        ),
        (
            hashing(json!({"hashOn": {"input": "none"}, "stickySessions": {"cookie": "session"}})),
            "sticky-sessions",
        ),
        (passive("healthy"), "spec.healthchecks.passive.healthy.interval"),
        (
            passive("unhealthy"),
            "spec.healthchecks.passive.unhealthy.interval",
        ),
        (json!({"algorithm": "random"}), "spec.algorithm"),
        (json!({"slots": 9}), "spec.slots"),
    ] {
        let (status, text) = scene.tried(POLICIES, &policy("tried", &spec)).await;
        assert!(
            status == 422 && text.contains(words),
            "{spec}: {words}: {status} {text}"
        );
    }
}

/// What a site has of Kong's own: nothing of it is Weir's.
async fn the_sites(scene: &Scene, sticky: &Value) {
    let of_kong = |kind: &str, name: &str, more: Value| {
        let mut object = json!({
            "apiVersion": "configuration.konghq.com/v1", "kind": kind, "metadata": {"name": name, "namespace": SHOP},
        });
        let fields = more.as_object().unwrap().clone();
        object.as_object_mut().unwrap().extend(fields);
        object
    };
    for object in [
        of_kong(
            "KongPlugin",
            "limits",
            json!({"plugin": "rate-limiting", "config": {"minute": 100}}),
        ),
        of_kong("KongConsumer", "bob", json!({"username": "bob"})),
        policy("sticky", sticky),
    ] {
        scene.stand.apply(&object).await.unwrap();
    }
}

impl Scene {
    /// Says of one of the two Services which policy it has.
    pub(super) async fn under(&self, service: &str, policy: Option<&str>) {
        let annotations = policy.map_or_else(|| json!({}), |policy| json!({ANNOTATION: policy}));
        self.service(service, 80, annotations).await;
    }
}

/// What a policy that hashes is in nobody's way of: a route that is left over goes, and a split that is shifted wholly is at rest. The
/// zone's part that is wanted at last, which divides.
async fn renamed_and_shifted(scene: &Scene, agent: &mut Agent, before: &Plan) -> Arc<ZonePlan> {
    let till = |vm: u32| {
        own_door("till", vm, SERVICES)
            .replace("paths: [/till]", "paths: [/checkout]")
            .replace("service: till", "service: checkout")
    };
    let renamed = of(&[till(80)], Some(before));
    agent.want(&renamed);
    until_so("the old route is gone", async || {
        scene.route("checkout").await.is_none()
    })
    .await;
    until(agent, &renamed, "till", "different: the upstream").await;
    assert_eq!(scene.weights("till").await, of_networks((3, 16_000), (7, 1_714)));
    let whole = of(&[till(100)], Some(&renamed));
    let part = agent.want(&whole);
    agent.exact(&part).await;
    let back = of(&[till(90)], Some(&whole));
    let part = agent.want(&back);
    let told = until(agent, &back, "till", "different: the upstream").await;
    assert!(told.contains("httproute.shop.weir.edge.till.0"), "{told}");
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn kongs_own_objects_are_the_sites_and_a_policy_that_hashes_is_no_share() {
    let test = "kongs::kongs_own_objects_are_the_sites";
    let Some(scene) = scene_with_kongs_types(test).await else {
        return;
    };
    what_is_a_policy(&scene).await;

    // Doors come and go beside what is the site's: nothing but Weir's own routes is written.
    let sticky = json!({"algorithm": "consistent-hashing", "hashOn": {"header": "X-User"}, "hashOnFallback": {"input": "ip"}});
    the_sites(&scene, &sticky).await;
    scene.services().await;
    let before = scene.stand.store().await.unwrap();
    let (checkout, basket) = (
        own_door("checkout", 90, SERVICES),
        own_door("basket", 50, SERVICES),
    );
    let mut agent = scene.agent(false);
    let first = of(&[checkout.clone(), basket], None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let second = of(&[checkout], Some(&first));
    let part = agent.want(&second);
    until_so("its route is gone", async || {
        scene.route("basket").await.is_none()
    })
    .await;
    agent.exact(&part).await;
    let changes = before.changes(&Store::read(&scene.stand.admin).await.unwrap());
    let told: Vec<String> = changes.iter().map(Change::to_string).collect();
    let ours = format!("{ROUTES}/weir.edge.checkout");
    assert!(
        changes.iter().all(|change| change.path == ours) && !changes.is_empty(),
        "{told:?}"
    );

    // A policy on one of both: the controller drops the rule with all of its requests (fact 11).
    scene.under("old", Some("sticky")).await;
    let told = until(&mut agent, &second, "checkout", "different: the annotation").await;
    for words in [
        ANNOTATION,
        "absent on the Service shop/new",
        "`sticky` on shop/old",
        "leaves out the whole rule",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let upstream = async || asked(&scene.kong, &format!("/upstreams/{UPSTREAM}")).await;
    until_so("Kong has no such upstream", async || {
        upstream().await["message"] == "Not found"
    })
    .await;

    // On both: Kong hashes, by a header that it does not find, and its balancer shows the declared weights all the same.
    scene.under("new", Some("sticky")).await;
    let told = until(&mut agent, &second, "checkout", "different: the upstream").await;
    for words in [
        UPSTREAM,
        "hashes by header X-User, and where that is absent by ip",
        "ONE target",
        "X_User",
        "algorithm: round-robin",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(upstream().await["algorithm"], "consistent-hashing");
    assert_eq!(
        scene.weights("checkout").await,
        of_networks((3, 18_000), (7, 857))
    );
    let told = agent.link.told.borrow().clone();
    let proof = door(&told, &second, "checkout").unwrap().proof.clone().unwrap();
    assert_eq!(proof.weights, None, "a share that nobody knows is not shown");

    let part = renamed_and_shifted(&scene, &mut agent, &second).await;

    // What the text says helps, and the share is what is declared again.
    scene
        .stand
        .apply(&policy("sticky", &json!({"algorithm": "round-robin"})))
        .await
        .unwrap();
    agent.exact(&part).await;
    agent.stopped().await;
}
