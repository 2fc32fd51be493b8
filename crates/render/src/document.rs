//! Objects in a control plane's own two forms: the Universal REST document and the Kubernetes object.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_model::MeshName;

use crate::object::{Form, Kind, Object};

/// The API version of Kuma's policies in Kubernetes.
const API_VERSION: &str = "kuma.io/v1alpha1";

/// A document that is no policy of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// What is sent.
pub fn to_document(object: &Object, form: &Form) -> Value {
    match form {
        Form::Universal => json!({
            "type": object.kind.name(),
            "mesh": object.mesh,
            "name": object.name,
            "labels": object.labels,
            "spec": object.spec,
        }),
        Form::Kubernetes { namespace } => json!({
            "apiVersion": API_VERSION,
            "kind": object.kind.name(),
            "metadata": { "name": object.name, "namespace": namespace, "labels": object.labels },
            "spec": object.spec,
        }),
    }
}

/// What came back. Only labels that Weir writes are taken over: Kuma adds some of its own. In a cluster mesh and zone are
/// among them.
///
/// # Errors
/// Something without which it cannot be compared is missing or of another type; which.
pub fn from_document(document: &Value, form: &Form) -> Result<Object, Unreadable> {
    let text = |at: &str| {
        let found = document.pointer(at).and_then(Value::as_str);
        found.ok_or_else(|| Unreadable(format!("it has no text at {at}")))
    };
    let (kind, name, labels) = match form {
        Form::Universal => ("/type", "/name", "/labels"),
        Form::Kubernetes { .. } => ("/kind", "/metadata/name", "/metadata/labels"),
    };
    let kind = match text(kind)? {
        "MeshHTTPRoute" => Kind::MeshHttpRoute,
        "MeshTCPRoute" => Kind::MeshTcpRoute,
        other => return Err(Unreadable(format!("it is a {other}"))),
    };
    let all = document.pointer(labels).and_then(Value::as_object);
    let labels: BTreeMap<String, String> = all
        .into_iter()
        .flatten()
        .filter(|(key, _)| {
            key.starts_with("weir.dev/")
                || *key == "kuma.io/origin"
                || (matches!(key.as_str(), "kuma.io/mesh" | "kuma.io/zone") && *form != Form::Universal)
        })
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let mesh = match form {
        Form::Universal => text("/mesh")?,
        Form::Kubernetes { .. } => all
            .and_then(|all| all.get("kuma.io/mesh"))
            .and_then(Value::as_str)
            .unwrap_or("default"),
    };
    let spec = document.get("spec").filter(|spec| spec.is_object());
    Ok(Object {
        kind,
        mesh: mesh
            .parse::<MeshName>()
            .map_err(|why| Unreadable(format!("its mesh has a name that is none: {why}")))?,
        name: text(name)?.to_owned(),
        labels,
        spec: spec
            .ok_or_else(|| Unreadable("it has no spec".to_owned()))?
            .clone(),
    })
}
