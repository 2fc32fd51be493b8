//! Objects of a cluster, as far as they matter: what is kept of each kind, whose a policy is, and which field manager wrote
//! what. Pure: documents come in as values.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use weir_model::{FederationName, MeshName};
use weir_planner::ServiceFact;
use weir_render::Form;

use super::MANAGER;
use super::listing::Kept;
use crate::kuma::observe::{local_to, service};
use crate::kuma::policy::{self, Owner};
use crate::kuma::ways::{self, Ingress};

/// The mesh of an object that names none.
const DEFAULT_MESH: &str = "default";

/// Kuma's webhooks see a namespace only if it carries this label; its value says whether pods get a sidecar.
const INJECTION: &str = "kuma.io/sidecar-injection";

fn mesh(document: &Value) -> &str {
    policy::label(document, "kuma.io/mesh").unwrap_or(DEFAULT_MESH)
}

/// The display name: in a cluster an annotation (`kubernetes.md` fact 7).
fn display_name(document: &Value) -> Option<&str> {
    document
        .pointer("/metadata/annotations")?
        .get("kuma.io/display-name")?
        .as_str()
}

/// What is kept of a MeshService: thousands of them are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshService {
    mesh: String,
    fact: Option<ServiceFact>,
    /// The zone that it is of, if it came from no other.
    pub(crate) local: Option<String>,
}

impl MeshService {
    /// What it says, if it is of this mesh and can be what a plan means.
    pub(crate) fn fact(&self, of: &MeshName) -> Option<&ServiceFact> {
        self.fact.as_ref().filter(|_| self.mesh == of.as_str())
    }
}

impl Kept for MeshService {
    const KIND: &'static str = "MeshService";

    fn of(document: Value) -> Self {
        Self {
            mesh: mesh(&document).to_owned(),
            fact: service(&document, display_name(&document)),
            local: local_to(&document),
        }
    }

    fn matters(&self, before: &Self) -> bool {
        self != before
    }
}

/// What is kept of a zone's ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZoneIngress(pub(crate) Ingress);

impl Kept for ZoneIngress {
    const KIND: &'static str = "ZoneIngress";

    fn of(document: Value) -> Self {
        Self(Ingress::of(&document))
    }

    fn matters(&self, before: &Self) -> bool {
        self != before
    }
}

/// What is kept of the address of a mesh's zone proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshZoneAddress {
    mesh: String,
    zone: Option<String>,
}

impl MeshZoneAddress {
    /// Whose it is, if it is of this mesh.
    pub(crate) fn zone(&self, of: &MeshName) -> Option<String> {
        self.zone.clone().filter(|_| self.mesh == of.as_str())
    }
}

impl Kept for MeshZoneAddress {
    const KIND: &'static str = "MeshZoneAddress";

    fn of(document: Value) -> Self {
        Self {
            mesh: mesh(&document).to_owned(),
            zone: ways::zone(&document),
        }
    }

    fn matters(&self, before: &Self) -> bool {
        self != before
    }
}

/// A whole route policy. Held without what Kuma and the API server keep for themselves.
#[derive(Debug, Clone)]
pub(crate) struct Route<const TCP: bool>(pub(crate) Value);

impl<const TCP: bool> Route<TCP> {
    /// Whether it is of this mesh.
    pub(crate) fn is_of(&self, of: &MeshName) -> bool {
        mesh(&self.0) == of.as_str()
    }
}

impl<const TCP: bool> Kept for Route<TCP> {
    const KIND: &'static str = if TCP { "MeshTCPRoute" } else { "MeshHTTPRoute" };

    fn of(mut document: Value) -> Self {
        // Its status is Kuma's, and nothing of it is a proof.
        if let Some(fields) = document.as_object_mut() {
            fields.remove("status");
        }
        Self(document)
    }

    fn matters(&self, before: &Self) -> bool {
        let telling = |of: &Value| {
            let metadata = of.get("metadata");
            let part = |key: &str| metadata.and_then(|m| m.get(key)).cloned();
            (
                of.get("spec").cloned(),
                part("labels"),
                part("uid"),
                part("deletionTimestamp"),
            )
        };
        telling(&self.0) != telling(&before.0)
    }
}

/// A namespace: whether Kuma looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    injection: Option<String>,
}

impl Namespace {
    /// Whether Kuma's webhooks are asked about policies in it.
    pub(crate) fn is_guarded(&self) -> bool {
        self.injection.is_some()
    }

    /// Whether its pods get a sidecar.
    pub(crate) fn is_injected(&self) -> bool {
        matches!(self.injection.as_deref(), Some("enabled" | "true"))
    }
}

impl Kept for Namespace {
    const KIND: &'static str = "Namespace";

    fn of(document: Value) -> Self {
        Self {
            injection: policy::label(&document, INJECTION).map(str::to_owned),
        }
    }

    fn matters(&self, before: &Self) -> bool {
        self != before
    }
}

/// Whose a live policy is. In a cluster a mark is not enough: somebody who copies an object of ours copies its labels. Ours
/// is what is in the system namespace, carries our mark, and was written under our manager's name.
pub(crate) fn owner(document: &Value, federation: &FederationName, form: &Form) -> Owner {
    let Form::Kubernetes { namespace } = form else {
        return Owner::Foreign("the zone is a cluster, and it is looked at as none".to_owned());
    };
    let owner = policy::owner(document, federation, form);
    if matches!(owner, Owner::Foreign(_)) {
        return owner;
    }
    let is_in = document.pointer("/metadata/namespace").and_then(Value::as_str);
    if is_in != Some(namespace) {
        return Owner::Foreign(format!(
            "it carries Weir's labels, but is in namespace {}",
            is_in.unwrap_or("none")
        ));
    }
    match by_us(document) {
        Ok(()) => owner,
        Err(why) => Owner::Foreign(why),
    }
}

/// Whether Weir wrote any field of what carries its labels.
///
/// # Errors
/// Who did, in words.
pub(crate) fn by_us(document: &Value) -> Result<(), String> {
    let managers = managers(document);
    if managers.iter().any(Manager::is_ours) {
        return Ok(());
    }
    let others: Vec<_> = managers.iter().map(|manager| manager.name.as_str()).collect();
    Err(format!(
        "it carries Weir's labels, but no field of it was written by Weir: its field managers are {}",
        if others.is_empty() {
            "none".to_owned()
        } else {
            others.join(", ")
        }
    ))
}

/// Who wrote fields of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    operation: String,
    pub(crate) time: Option<Timestamp>,
    /// Its fields, as a tree of `f:` names.
    fields: Map<String, Value>,
}

/// The managers of an object.
pub(crate) fn managers(document: &Value) -> Vec<Manager> {
    let list = document
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            Some(Manager {
                name: text("manager")?.to_owned(),
                operation: text("operation")?.to_owned(),
                time: text("time").and_then(|text| text.parse().ok()),
                fields: entry
                    .get("fieldsV1")
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default(),
            })
        })
        .collect()
}

impl Manager {
    /// Server-side apply under our name. The same name with another operation is another manager (`kubernetes.md` 4).
    pub(crate) fn is_ours(&self) -> bool {
        self.name == MANAGER && self.operation == "Apply"
    }

    /// Whether it wrote anything of the policy itself.
    pub(crate) fn holds_spec(&self) -> bool {
        self.fields
            .get("f:spec")
            .and_then(Value::as_object)
            .is_some_and(|fields| fields.keys().any(|key| key != "."))
    }

    /// Whether it wrote this field of `spec`.
    pub(crate) fn holds(&self, field: &str) -> bool {
        let spec = self.fields.get("f:spec");
        spec.is_some_and(|spec| spec.get(format!("f:{field}")).is_some())
    }

    /// For people: who, how, when.
    pub(crate) fn told(&self) -> String {
        match self.time {
            Some(time) => format!("{} ({}, {time:.0})", self.name, self.operation),
            None => format!("{} ({})", self.name, self.operation),
        }
    }
}

/// When it was last written, by the API server's clock, and not before: times there are whole seconds, cut off.
pub(crate) fn written(document: &Value) -> Option<Timestamp> {
    let newest = managers(document)
        .into_iter()
        .filter_map(|manager| manager.time)
        .max()?;
    newest.checked_add(SignedDuration::from_secs(1)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_wrote_what() {
        let document = json!({"metadata": {"managedFields": [
            {"manager": "weir", "operation": "Apply", "time": "2026-11-23T15:37:29Z",
             "fieldsV1": {"f:metadata": {}, "f:spec": {"f:targetRef": {}}}},
            {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-23T15:40:00Z",
             "fieldsV1": {"f:spec": {"f:to": {}}}},
            {"manager": "weir", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
            {"manager": 7}, "x",
        ]}});
        let all = managers(&document);
        let told: Vec<_> = all
            .iter()
            .map(|m| (m.told(), m.is_ours(), m.holds_spec()))
            .collect();
        assert_eq!(
            told,
            [
                ("weir (Apply, 2026-11-23T15:37:29Z)".to_owned(), true, true),
                (
                    "kubectl-edit (Update, 2026-11-23T15:40:00Z)".to_owned(),
                    false,
                    true
                ),
                ("weir (Update)".to_owned(), false, false),
            ]
        );
        assert_eq!(written(&document), "2026-11-23T15:40:01Z".parse().ok());
    }
}
