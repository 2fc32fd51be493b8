//! A way back under the controller: it is an HTTPRoute, which a cluster takes while Kuma's control plane is down and no policy of
//! the mesh can be written.

use jiff::Timestamp;

use super::*;
use crate::ahead::{behind, zone_plan};

/// As if Kuma's control plane were down: nobody answers its webhook, and nothing of the mesh is written.
async fn no_policy_can_be_written(scene: &Scene) {
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "kuma"},
        "webhooks": [{
            "name": "validator.kuma-admission.kuma.io", "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 1,
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/validate"},
            "rules": [{"apiGroups": ["kuma.io"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}],
        }],
    });
    scene.stand.apply(&webhook).await.unwrap();
    let policy = json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute", "metadata": {"name": "tried", "namespace": "kuma-system"},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": []},
    });
    let policies = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes";
    until_so("no policy is taken", async || {
        scene.tried(policies, &policy).await.0 == 500
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_reaches_kong_while_the_mesh_can_be_told_nothing() {
    let Some(scene) = scene_of("ahead::a_revert_reaches_kong").await else {
        return;
    };
    let splits = |vm: u32| [own_door("checkout", vm, SERVICES)];
    let (mut agent, first, _) = scene.begun(&splits(80)).await;
    let second = of(&splits(20), Some(&first));
    let back = of(&splits(80), Some(&second));
    let held = agent.want(&second);
    agent.exact(&held).await;
    assert_eq!(
        scene.weights("checkout").await,
        of_networks((3, 4_000), (7, 6_857))
    );

    no_policy_can_be_written(&scene).await;
    let back = zone_plan(&back);
    agent.link.want.send_replace(Some(behind(&held, &back, true)));
    agent.exact(&back).await;
    let reverted = of_networks((3, 16_000), (7, 1_714));
    assert_eq!(scene.weights("checkout").await, reverted);
    // The mesh holds what it had, and whoever starts anew: the route is not taken back with it.
    let route = scene.route("checkout").await.unwrap();
    let since = Timestamp::now();
    agent.link.want.send_replace(Some(behind(&held, &back, false)));
    agent.exact_since(&back, since).await;
    agent.stopped().await;
    let mut agent = scene.agent(false);
    let since = Timestamp::now();
    agent.link.want.send_replace(Some(behind(&held, &back, false)));
    agent.exact_since(&back, since).await;
    assert_eq!(scene.weights("checkout").await, reverted);
    let generation = |route: &Value| route["metadata"]["generation"].clone();
    let now = scene.route("checkout").await.unwrap();
    assert_eq!(generation(&now), generation(&route), "it was not written again");
    agent.stopped().await;
}
