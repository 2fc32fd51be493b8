//! One step at the control plane: look, write, look again. Kuma has no compare-and-set, so the look before narrows the
//! race to milliseconds and the look after tells what it stored.

use jiff::Timestamp;
use serde_json::Value;
use weir_model::{FederationName, MeshName};
use weir_planner::Generation;
use weir_render::{Extent, Form, Kind, Object, extent, to_document};

use super::policy::{self, Owner};
use super::rest::Rest;
use crate::{DriverError, Fault, Outcome};

fn path(kind: Kind, mesh: &MeshName, name: &str) -> String {
    format!("meshes/{mesh}/{}/{name}", kind.plural())
}

fn newer(name: &str, found: Generation, ours: Generation) -> Outcome {
    Outcome::Yielded(format!(
        "{name} carries generation {found}, newer than {ours}: another agent of this zone has a newer plan"
    ))
}

fn foreign(name: &str, why: &str) -> Outcome {
    Outcome::Yielded(format!(
        "an object named {name} is there and is not Weir's ({why}); rename or remove it, Weir does not overwrite it"
    ))
}

/// What of ours a write may take the place of, besides what [`reason_to_leave`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Anything.
    Anything,
    /// Another anchor: what is in force is never taken back by the introduction of it.
    Anchor,
    /// Another anchor, or what is of an older generation.
    Older,
}

impl Over {
    fn leaves(self, live: &Value, federation: &FederationName, ours: Generation) -> Option<Outcome> {
        let Owner::Ours {
            object, generation, ..
        } = policy::owner(live, federation)
        else {
            return None;
        };
        let leaves = match (self, extent(&object)) {
            (Self::Anything, _) | (_, Extent::Anchor) => false,
            (Self::Anchor, Extent::Whole) => true,
            (Self::Older, Extent::Whole) => generation >= ours,
        };
        leaves.then(|| {
            Outcome::Yielded(format!(
                "{} is in force at generation {generation}: another agent of this zone wrote it meanwhile",
                object.name
            ))
        })
    }
}

/// Writes an object whole, unless somebody newer or somebody else holds its name.
pub(crate) async fn put(
    rest: &Rest,
    federation: &FederationName,
    object: &Object,
    split: &str,
    generation: Generation,
    over: Over,
) -> Result<Outcome, DriverError> {
    let path = path(object.kind, &object.mesh, &object.name);
    if let Some(live) = rest.get(&path).await? {
        if let Some(left) = reason_to_leave(&live, federation, &object.name, split, generation) {
            return Ok(left);
        }
        if let Some(left) = over.leaves(&live, federation, generation) {
            return Ok(left);
        }
        // An identical PUT is not free: it moves times, and in a cluster it wakes every watcher.
        if difference(object, &live).is_none() {
            return Ok(done());
        }
    }
    rest.put(&path, &to_document(object, &Form::Universal)).await?;
    let outcome = done();
    let stored = rest.get(&path).await?.ok_or_else(|| DriverError {
        what: format!("PUT {path}"),
        why: "it was accepted and is not there".to_owned(),
        fault: Fault::NotYet,
        help: "somebody removed it at the same moment, or the control plane lost its store; the next activation \
               writes it again"
            .to_owned(),
    })?;
    let left = reason_to_leave(&stored, federation, &object.name, split, generation);
    if let Some(left) = left.or_else(|| over.leaves(&stored, federation, generation)) {
        return Ok(left);
    }
    match difference(object, &stored) {
        None => Ok(outcome),
        Some(at) => Err(DriverError {
            what: format!("PUT {path}"),
            why: format!("the control plane stored something else: it differs at {at}"),
            fault: Fault::Unknown,
            help:
                "another writer came between, or this version of Kuma drops what Weir writes; if it stays, \
                   please report it with the version of Kuma"
                    .to_owned(),
        }),
    }
}

/// Removes an object that is ours and that nobody wrote since it was observed.
pub(crate) async fn delete(
    rest: &Rest,
    federation: &FederationName,
    kind: Kind,
    mesh: &MeshName,
    name: &str,
    seen: Option<Generation>,
) -> Result<Outcome, DriverError> {
    let path = path(kind, mesh, name);
    let Some(live) = rest.get(&path).await? else {
        return Ok(done());
    };
    match policy::owner(&live, federation) {
        Owner::Foreign(why) => return Ok(foreign(name, &why)),
        Owner::Ours { generation, .. } => {
            if let Some(seen) = seen.filter(|seen| generation > *seen) {
                return Ok(newer(name, generation, seen));
            }
        }
    }
    rest.delete(&path).await?;
    Ok(done())
}

fn done() -> Outcome {
    Outcome::Done { at: Timestamp::now() }
}

fn reason_to_leave(
    live: &Value,
    federation: &FederationName,
    name: &str,
    wanted: &str,
    ours: Generation,
) -> Option<Outcome> {
    match policy::owner(live, federation) {
        Owner::Foreign(why) => Some(foreign(name, &why)),
        Owner::Ours { split, .. } if split != wanted => {
            Some(foreign(name, &format!("it belongs to the split {split}")))
        }
        Owner::Ours { generation, .. } if generation > ours => Some(newer(name, generation, ours)),
        Owner::Ours { .. } => None,
    }
}

/// Where the stored document differs from what we want in it, as a path; none if all of ours is there.
fn difference(wanted: &Object, stored: &Value) -> Option<String> {
    if let Some((key, _)) = wanted
        .labels
        .iter()
        .find(|(key, value)| policy::label(stored, key) != Some(value))
    {
        return Some(format!("labels.{key}"));
    }
    first_difference(&wanted.spec, stored.get("spec").unwrap_or(&Value::Null), "spec")
}

fn first_difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.keys()
                .chain(y.keys())
                .find_map(|key| match (x.get(key), y.get(key)) {
                    (Some(p), Some(q)) => first_difference(p, q, &format!("{at}.{key}")),
                    _ => Some(format!("{at}.{key}")),
                })
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => x
            .iter()
            .zip(y)
            .enumerate()
            .find_map(|(i, (p, q))| first_difference(p, q, &format!("{at}[{i}]"))),
        _ => (a != b).then(|| at.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_named_by_its_path() {
        let a = json!({"to": [{"rules": [{"weight": 90}]}], "targetRef": {"kind": "Mesh"}});
        let mut b = a.clone();
        assert_eq!(first_difference(&a, &b, "spec"), None);
        b["to"][0]["rules"][0]["weight"] = json!(80);
        assert_eq!(
            first_difference(&a, &b, "spec").unwrap(),
            "spec.to[0].rules[0].weight"
        );
        b = a.clone();
        b["to"][0]["extra"] = json!(1);
        assert_eq!(first_difference(&a, &b, "spec").unwrap(), "spec.to[0].extra");
    }
}
