//! One split, `checkout`, with a backend on VMs in `fra` and one in namespace `shop` of this cluster, `use1`.

use serde_json::{Value, json};
use weir_model::BackendName;
use weir_planner::Item;
use weir_render::{Form, Object, Options, Step, render, to_document};

use crate::checkout::{self, Backend};
pub(crate) use crate::checkout::{federation, mesh};

pub(crate) fn form() -> Form {
    Form::Kubernetes {
        namespace: "kuma-system".to_owned(),
    }
}

/// `vm` in fra, `eks` here.
const BACKENDS: [Backend; 2] = [("vm", "fra", None), ("eks", "use1", Some("shop"))];

pub(crate) fn names() -> [BackendName; 2] {
    BACKENDS.map(|(name, ..)| BackendName::new(name).unwrap())
}

pub(crate) fn item(weights: [u32; 2], generation: u64) -> Item {
    checkout::item("use1", BACKENDS, weights, generation)
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
    checkout::put(&item(weights, generation), object(weights, generation))
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

/// Ours, with `spec.to` in the hands of kubectl.
pub(crate) fn edited() -> Value {
    let mut edited = live([100, 9900], 7);
    let mut managers = managed("weir", "Apply", "2026-11-23T15:00:00Z");
    managers[0]["fieldsV1"]["f:spec"] = json!({"f:targetRef": {}});
    managers.as_array_mut().unwrap().extend(
        managed("kubectl-edit", "Update", "2026-11-23T15:40:00Z")
            .as_array()
            .unwrap()
            .clone(),
    );
    edited["metadata"]["managedFields"] = managers;
    edited
}
