//! The rights that deploy/kubernetes/rbac.yaml gives are those that the driver uses: each call is covered, and each right is
//! called for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_drivers::ZoneDriver as _;

use crate::cluster::{Asked, Cluster, OURS};
use crate::plan::{self, delete, item, live, mesh, put};

/// Verb, group, resource, and the namespace if the right is in one alone.
type Right = (String, String, String, Option<String>);

fn given() -> BTreeSet<Right> {
    let text = include_str!("../../../../deploy/kubernetes/rbac.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let mut rights = BTreeSet::new();
    for document in &documents {
        let namespace = match document["kind"].as_str().unwrap() {
            "Role" => Some(document["metadata"]["namespace"].as_str().unwrap().to_owned()),
            "ClusterRole" => None,
            _ => continue,
        };
        for rule in document["rules"].as_array().unwrap() {
            let all = |key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
            for group in all("apiGroups") {
                for resource in all("resources") {
                    for verb in all("verbs") {
                        rights.insert((verb, group.clone(), resource.clone(), namespace.clone()));
                    }
                }
            }
        }
    }
    rights
}

/// What a call needs, as Kubernetes counts: an apply to what is absent needs `create` besides `patch`.
fn needed(asked: &Asked, existed: bool) -> Vec<Right> {
    let parts: Vec<_> = asked.path.trim_start_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["version"] => return Vec::new(), // Everybody who is known may.
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?}"),
    };
    let (namespace, resource, is_list) = match rest {
        ["namespaces", namespace, resource, _] => (Some((*namespace).to_owned()), *resource, false),
        [resource] => (None, *resource, true),
        other => panic!("{other:?}"),
    };
    let verbs: &[&str] = match (asked.method.as_str(), is_list) {
        ("GET", true) if asked.query.contains("watch=") => &["watch"],
        ("GET", true) => &["list"],
        ("GET", false) => &["get"],
        ("PATCH", _) if existed => &["patch"],
        ("PATCH", _) => &["patch", "create"],
        ("DELETE", _) => &["delete"],
        other => panic!("{other:?}"),
    };
    verbs
        .iter()
        .map(|verb| {
            (
                (*verb).to_owned(),
                group.to_owned(),
                resource.to_owned(),
                namespace.clone(),
            )
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_rights_are_those_that_are_used() {
    let cluster = Cluster::new();
    let driver = cluster.driver();
    let items = [Arc::new(item([9000, 1000], 7))];
    for step in [put([9000, 1000], 7), put([8000, 2000], 8), delete()] {
        driver.pulse().await.unwrap();
        driver.observe(&mesh(), &items).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        driver.apply(&step).await.unwrap();
        driver.look_again();
    }
    // The same for the other kind of policy.
    let mut tcp = live([9000, 1000], 7);
    tcp["kind"] = json!("MeshTCPRoute");
    cluster.put(tcp);
    let object = weir_render::Object {
        kind: weir_render::Kind::MeshTcpRoute,
        ..plan::object([9000, 1000], 7)
    };
    driver.observe(&mesh(), &items).await.unwrap();
    driver
        .apply(&weir_render::Step::Delete {
            kind: object.kind,
            mesh: object.mesh.clone(),
            name: object.name.clone(),
            reason: "no split wants it".to_owned(),
        })
        .await
        .unwrap();
    driver
        .apply(&weir_render::Step::Put {
            object,
            reason: "absent".to_owned(),
            split: items[0].split.clone(),
            generation: items[0].generation,
            digest: items[0].digest,
        })
        .await
        .unwrap();
    let mut existed: BTreeSet<String> = BTreeSet::new();
    let mut used = BTreeSet::new();
    for asked in cluster.everything() {
        used.extend(needed(&asked, existed.contains(&asked.path)));
        match asked.method.as_str() {
            "PATCH" => drop(existed.insert(asked.path.clone())),
            "DELETE" => drop(existed.remove(&asked.path)),
            _ => {}
        }
    }
    assert!(!existed.contains(OURS), "it was made, changed and removed");
    assert_eq!(used, given());
}
