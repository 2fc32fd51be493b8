//! What a zone's control plane says, as a webhook, to objects that are written into its cluster: what it adds, what it
//! refuses, in which words. Pure.
//!
//! Changed when a measurement on real Kuma says otherwise.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::store::{DISPLAY_NAME, Kind, ORIGIN, ZONE};
use super::validate::spec;

/// The label that says in which role a policy was written.
pub(super) const ROLE: &str = "kuma.io/policy-role";
/// The label of the namespace that an object of a cluster is in.
pub(super) const NAMESPACE: &str = "k8s.kuma.io/namespace";
const MESH: &str = "kuma.io/mesh";

/// A control plane's own knowledge.
#[derive(Debug, Clone)]
pub(super) struct Reviewer {
    pub(super) zone: String,
    /// The namespace that it is in.
    pub(super) system: String,
    /// Its own user, who may write anything.
    pub(super) user: String,
    /// Meshes that are there, with their uids.
    pub(super) meshes: BTreeMap<String, String>,
}

fn denied(code: u16, reason: &str, message: impl Into<String>) -> Value {
    json!({"denied": {"code": code, "reason": reason, "message": message.into()}})
}

fn forbidden(message: impl Into<String>) -> Value {
    denied(403, "Forbidden", message)
}

fn wrong_origin() -> Value {
    let mut answer = forbidden(
        "Operation not allowed. Applying policies on Zone CP on a system namespace requires 'kuma.io/origin' label to be set \
         to 'zone'.",
    );
    answer["denied"]["details"] = json!({"causes": [{
        "reason": "FieldValueInvalid", "message": "cannot be empty", "field": "metadata.labels[kuma.io/origin]",
    }]});
    answer
}

fn kind_of(object: &Value) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| object["kind"] == k.name())
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key)?.as_str()
}

impl Reviewer {
    /// What is asked before an object is what will be stored: the object with what is added, or why not.
    pub(super) fn change(&self, review: &Value) -> Value {
        let mut object = review["object"].clone();
        let Some(kind) = kind_of(&object).filter(|_| review["user"] != self.user.as_str()) else {
            return json!({"object": object});
        };
        if matches!(kind, Kind::Mesh | Kind::MeshMultiZoneService) {
            return forbidden(format!(
                "Operation not allowed. Kuma resources like {} can be updated or deleted only from the GLOBAL control plane \
                 and not from a ZONE control plane.",
                kind.name()
            ));
        }
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let is_system = namespace == self.system;
        if kind.is_policy() {
            if is_system && label(&object, ORIGIN) != Some("zone") {
                return wrong_origin();
            }
            if let Some(wrong) = wrong_weight(&object["spec"]) {
                return denied(
                    400,
                    "",
                    format!(
                        "json: cannot unmarshal number {wrong} into Go struct field \
                         BackendRef.spec.to.rules.default.backendRefs.weight of type uint"
                    ),
                );
            }
        }
        if let Some(other) = label(&object, ZONE).filter(|zone| *zone != self.zone) {
            return forbidden(format!(
                "Operation not allowed. '{ZONE}' label should have '{}' value, got '{other}'",
                self.zone
            ));
        }
        let mesh = label(&object, MESH).unwrap_or("default").to_owned();
        let Some(uid) = self.meshes.get(&mesh) else {
            if review["operation"] != "CREATE" {
                return json!({"object": object});
            }
            let mut answer = denied(400, "", format!("Mesh.kuma.io \"{mesh}\" not found"));
            answer["denied"]["webhook"] = json!("owner-reference.kuma-admission.kuma.io");
            return answer;
        };
        let mut added = vec![
            (MESH, mesh.as_str()),
            (ZONE, &self.zone),
            ("kuma.io/env", "kubernetes"),
            (ORIGIN, "zone"),
            (NAMESPACE, &namespace),
        ];
        match (kind, role(&object, is_system)) {
            (Kind::Dataplane, _) => added.push(("kuma.io/proxy-type", "sidecar")),
            (kind, Ok(role)) if kind.is_policy() => added.push((ROLE, role)),
            (kind, Err(why)) if kind.is_policy() => return forbidden(why),
            _ => {}
        }
        for (key, value) in added {
            object["metadata"]["labels"][key] = value.into();
        }
        let name = object["metadata"]["name"].clone();
        object["metadata"]["annotations"][DISPLAY_NAME] = name;
        if object["metadata"]["ownerReferences"].is_null() {
            object["metadata"]["ownerReferences"] = json!([
                {"apiVersion": "kuma.io/v1alpha1", "kind": "Mesh", "name": mesh, "uid": uid},
            ]);
        }
        json!({"object": object})
    }

    /// What is asked last: nothing against it, or what.
    pub(super) fn judge(&self, review: &Value) -> Value {
        let nothing = json!({});
        let (object, old) = (&review["object"], &review["oldObject"]);
        if review["user"] == self.user.as_str() {
            return nothing;
        }
        if review["operation"] == "DELETE" {
            let foreign = match kind_of(old) {
                Some(Kind::Mesh | Kind::MeshMultiZoneService) => true,
                Some(kind) => kind.is_policy() && label(old, ORIGIN) == Some("global"),
                None => false,
            };
            return if foreign { wrong_origin() } else { nothing };
        }
        let Some(kind @ (Kind::MeshHTTPRoute | Kind::MeshTCPRoute)) = kind_of(object) else {
            return nothing;
        };
        let Err(faults) = spec(kind, &object["spec"]) else {
            return nothing;
        };
        let said: Vec<String> = faults
            .iter()
            .map(|f| format!("{}: {}", f.field, f.reason))
            .collect();
        let cause = |f: &super::validate::Fault| json!({"reason": "FieldValueInvalid", "message": f.reason, "field": f.field});
        let mut answer = denied(422, "Invalid", said.join("; "));
        answer["denied"]["details"] = json!({
            "name": object["metadata"]["name"], "kind": kind.name(),
            "causes": faults.iter().map(cause).collect::<Vec<_>>(),
        });
        answer
    }
}

/// A weight that Kuma's own type cannot hold.
fn wrong_weight(spec: &Value) -> Option<&Value> {
    let to = spec["to"].as_array()?;
    let rules = to.iter().filter_map(|t| t["rules"].as_array()).flatten();
    let references = rules
        .filter_map(|r| r["default"]["backendRefs"].as_array())
        .flatten();
    references
        .filter_map(|r| r.get("weight"))
        .find(|w| w.is_number() && w.as_u64().is_none())
}

/// In an application's namespace a policy speaks either for whoever calls from there, or for a service that is there.
fn role(object: &Value, is_system: bool) -> Result<&'static str, &'static str> {
    if is_system {
        return Ok("system");
    }
    let to = object["spec"]["to"].as_array();
    let of_here = |to: &Value| {
        let target = &to["targetRef"];
        target["kind"] == "MeshService" && target["name"].is_string()
    };
    let all = to.map_or(&[][..], Vec::as_slice);
    match all.iter().filter(|to| of_here(to)).count() {
        0 => Ok("consumer"),
        n if n == all.len() => Ok("producer"),
        _ => Err("it's not allowed to mix producer and consumer items in the same policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewer() -> Reviewer {
        Reviewer {
            zone: "eks".into(),
            system: "kuma-system".into(),
            user: "kuma".into(),
            meshes: BTreeMap::from([("default".to_owned(), "u".to_owned())]),
        }
    }

    fn policy(namespace: &str, labels: Value, target: Value) -> Value {
        json!({"operation": "CREATE", "user": "weir", "object": {
            "kind": "MeshHTTPRoute",
            "metadata": {"name": "weir-cart", "namespace": namespace, "labels": labels},
            "spec": {"targetRef": {"kind": "Mesh"}, "to": [{"targetRef": target, "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "default": {"backendRefs": [{"kind": "MeshService", "labels": {"a": "b"}, "port": 80, "weight": 1}]},
            }]}]},
        }})
    }

    #[test]
    fn a_policy_gets_what_kuma_adds_and_is_refused_in_its_words() {
        let by_label = json!({"kind": "MeshService", "labels": {DISPLAY_NAME: "cart"}});
        let system = |labels: Value| reviewer().change(&policy("kuma-system", labels, by_label.clone()));
        let taken = system(json!({ORIGIN: "zone"}));
        let labels = &taken["object"]["metadata"]["labels"];
        assert_eq!(
            labels,
            &json!({
                NAMESPACE: "kuma-system", "kuma.io/env": "kubernetes", MESH: "default", ORIGIN: "zone", ROLE: "system",
                ZONE: "eks",
            })
        );
        let said = |answer: &Value| {
            let denied = &answer["denied"];
            (
                denied["code"].as_u64().unwrap_or_default(),
                denied["message"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let (code, why) = said(&system(json!({})));
        assert!(
            code == 403 && why.contains("requires 'kuma.io/origin' label"),
            "{why}"
        );
        let (code, why) = said(&system(json!({ORIGIN: "zone", ZONE: "ams"})));
        assert!(
            code == 403 && why.ends_with("should have 'eks' value, got 'ams'"),
            "{why}"
        );
        let (code, why) = said(&system(json!({ORIGIN: "zone", MESH: "nope"})));
        assert_eq!((code, why.as_str()), (400, "Mesh.kuma.io \"nope\" not found"));
    }

    #[test]
    fn in_a_namespace_of_its_own_a_policy_is_a_consumers_or_a_producers() {
        let role = |target: Value| {
            let taken = reviewer().change(&policy("shop", json!({}), target));
            taken["object"]["metadata"]["labels"][ROLE].clone()
        };
        assert_eq!(
            role(json!({"kind": "MeshService", "labels": {"a": "b"}})),
            "consumer"
        );
        assert_eq!(role(json!({"kind": "MeshService", "name": "cart"})), "producer");
    }

    #[test]
    fn what_came_from_global_is_removed_by_nobody_else_and_a_wrong_policy_not_written() {
        let mut review = policy("kuma-system", json!({ORIGIN: "global"}), json!({}));
        review["operation"] = json!("DELETE");
        review["oldObject"] = review["object"].clone();
        assert_eq!(reviewer().judge(&review)["denied"]["code"], 403);
        review["user"] = json!("kuma");
        assert_eq!(reviewer().judge(&review), json!({}));
        let subset = json!({"kind": "MeshSubset", "labels": {"a": "b"}});
        let wrong = reviewer().judge(&policy("shop", json!({}), subset));
        assert_eq!(
            wrong["denied"]["message"],
            "spec.to[0].targetRef.kind: value 'MeshSubset' is not supported"
        );
    }
}
