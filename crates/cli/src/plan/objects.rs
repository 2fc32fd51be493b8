//! The objects that each zone's agents would write, change or remove: in each zone's own form, as they would be sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use weir_model::{Declaration, MeshName, Platform, SplitName, ZoneName};
use weir_planner::{Plan, diff};
use weir_render::{Form, Kind, Options, render, to_document};

/// Labels by which Weir knows its own objects again, left out on both sides: generation and commit of what is in force are
/// not known here, and digests differ from zone to zone where nothing else does.
pub(crate) const BOOKKEEPING: [&str; 3] = ["weir.dev/generation", "weir.dev/commit", "weir.dev/digest"];

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Create,
    Change,
    Remove,
}

/// One object that changes in the same way in some zones.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectChange {
    pub(crate) zones: Vec<ZoneName>,
    pub(crate) split: SplitName,
    pub(crate) action: Action,
    pub(crate) kind: Kind,
    pub(crate) mesh: MeshName,
    pub(crate) name: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// What changes from one plan to the other.
pub(crate) fn changes(from: Option<(&Plan, &Declaration)>, to: (&Plan, &Declaration)) -> Vec<ObjectChange> {
    let mut changes: Vec<ObjectChange> = Vec::new();
    for split in diff(from.map(|(plan, _)| plan), to.0).splits.keys() {
        // a zone that takes part no more keeps what it has
        for zone in to.0.zones.keys() {
            let was = from.map(|from| documents(from, split, zone)).unwrap_or_default();
            let is = documents(to, split, zone);
            let keys: BTreeSet<&Key> = was.keys().chain(is.keys()).collect();
            for key in keys {
                let (before, after) = (was.get(key), is.get(key));
                let action = match (before, after) {
                    (None, _) => Action::Create,
                    (_, None) => Action::Remove,
                    (before, after) if before == after => continue,
                    _ => Action::Change,
                };
                let change = ObjectChange {
                    zones: vec![zone.clone()],
                    split: split.clone(),
                    action,
                    kind: key.0,
                    mesh: key.1.clone(),
                    name: key.2.clone(),
                    before: before.cloned(),
                    after: after.cloned(),
                };
                let alike = |other: &&mut ObjectChange| {
                    (&other.before, &other.after) == (&change.before, &change.after)
                        && other.name == change.name
                };
                match changes.iter_mut().find(alike) {
                    Some(other) => other.zones.push(zone.clone()),
                    None => changes.push(change),
                }
            }
        }
    }
    changes
}

type Key = (Kind, MeshName, String);

fn documents(
    (plan, declaration): (&Plan, &Declaration),
    split: &SplitName,
    zone: &ZoneName,
) -> BTreeMap<Key, Value> {
    let item = plan.splits.get(split).and_then(|split| split.items.get(zone));
    let form = form(declaration, zone);
    let objects = item.map(|item| render(item, &plan.federation, &form, Options { anchored: true }));
    objects
        .unwrap_or_default()
        .into_iter()
        .map(|mut object| {
            for label in BOOKKEEPING {
                object.labels.remove(label);
            }
            let document = to_document(&object, &form);
            ((object.kind, object.mesh, object.name), document)
        })
        .collect()
}

fn form(declaration: &Declaration, zone: &ZoneName) -> Form {
    match declaration.zones.get(zone).map(|zone| zone.platform) {
        None | Some(Platform::Vm) => Form::Universal,
        Some(Platform::Eks | Platform::EksD | Platform::Kubernetes) => Form::Kubernetes {
            namespace: "kuma-system".to_owned(),
        },
    }
}
