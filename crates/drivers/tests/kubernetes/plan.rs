//! One split, `checkout`, with a backend on VMs in `fra` and one in namespace `shop` of this cluster, `use1`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{Destination, Digest, Generation, Item, ItemRoute, anchor, item_digest};
use weir_render::{Form, Object, Options, Step, render, to_document};

pub(crate) fn federation() -> FederationName {
    FederationName::new("shop").unwrap()
}

pub(crate) fn mesh() -> MeshName {
    MeshName::new("default").unwrap()
}

pub(crate) fn form() -> Form {
    Form::Kubernetes {
        namespace: "kuma-system".to_owned(),
    }
}

/// `vm` in fra, `eks` here.
pub(crate) fn names() -> [BackendName; 2] {
    ["vm", "eks"].map(|name| BackendName::new(name).unwrap())
}

pub(crate) fn item(weights: [u32; 2], generation: u64) -> Item {
    let split = SplitName::new("checkout").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let destination = |(zone, namespace): (&str, Option<&str>)| Destination {
        zone: ZoneName::new(zone).unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: namespace.map(|name| DnsLabel::new(name).unwrap()),
        service: service.clone(),
        port: 8080,
    };
    let mut item = Item {
        anchor: anchor(&federation(), &split),
        split,
        zone: ZoneName::new("use1").unwrap(),
        kuma_zone: DnsLabel::new("use1").unwrap(),
        mesh: mesh(),
        service: service.clone(),
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        destinations: names()
            .into_iter()
            .zip([("fra", None), ("use1", Some("shop"))].map(destination))
            .collect(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: names()
                .into_iter()
                .zip(weights.map(|w| BasisPoints::new(w).unwrap()))
                .collect(),
        }],
        generation: Generation(generation),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    item.digest = item_digest(&item);
    item
}

pub(crate) fn object(weights: [u32; 2], generation: u64) -> Object {
    render(
        &item(weights, generation),
        &federation(),
        &form(),
        Options { anchored: true },
    )
    .remove(0)
}

pub(crate) fn put(weights: [u32; 2], generation: u64) -> Step {
    let item = item(weights, generation);
    Step::Put {
        object: object(weights, generation),
        reason: "absent".to_owned(),
        split: item.split.clone(),
        generation: item.generation,
        digest: item.digest,
    }
}

pub(crate) fn delete() -> Step {
    let object = object([9000, 1000], 1);
    Step::Delete {
        kind: object.kind,
        mesh: object.mesh,
        name: object.name,
        reason: "no split wants it".to_owned(),
    }
}

/// One entry of `managedFields`, for somebody who wrote the policy.
pub(crate) fn managed(manager: &str, operation: &str, time: &str) -> Value {
    json!([{
        "manager": manager, "operation": operation, "apiVersion": "kuma.io/v1alpha1", "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:weir.dev/split": {}}}, "f:spec": {"f:targetRef": {}, "f:to": {}}},
    }])
}

/// Our policy as a cluster holds it.
pub(crate) fn live(weights: [u32; 2], generation: u64) -> Value {
    let mut document = to_document(&object(weights, generation), &form());
    document["metadata"]["managedFields"] = managed("weir", "Apply", "2026-11-23T15:00:00Z");
    document["metadata"]["labels"]["kuma.io/zone"] = json!("use1");
    document["metadata"]["annotations"]["kuma.io/display-name"] = json!("weir-checkout");
    document
}

/// A MeshService as a cluster holds it: of this zone with a namespace, synced from another without.
pub(crate) fn service(zone: &str, namespace: Option<&str>) -> Value {
    let mut labels = json!({"kuma.io/mesh": "default", "kuma.io/zone": zone});
    if let Some(namespace) = namespace {
        labels["k8s.kuma.io/namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshService",
        "metadata": {
            "name": if namespace.is_some() { "checkout".to_owned() } else { format!("checkout-{zone}") },
            "namespace": namespace.unwrap_or("kuma-system"),
            "labels": labels,
            "annotations": {"kuma.io/display-name": "checkout"},
        },
        "spec": {"ports": [{"port": 8080, "appProtocol": "http"}], "state": "Available"},
    })
}
