//! Policies that are an anchor alone: what a split is introduced with and withdrawn to. They route no request, for no
//! request carries the anchor's value, and they keep the Envoy clusters of all backends and of what callers address.
//!
//! Kuma's own order is to take a cluster away before the routes that use it, and to give routes before clusters that they
//! need are warm. So before the weights of a split come, and before they go, every cluster that either side of the change
//! uses is held by the anchor.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_planner::{Generation, ServiceFact};

use crate::difference::difference;
use crate::envoy::{Called, called, conditions, listeners, manager, unified_name};
use crate::object::{FALLEN, Object, PINNED};
use crate::policy::is_anchor;

/// How much of a split's policy an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Its routes, whether with an anchor or without one.
    Whole,
    /// The anchor and nothing else.
    Anchor,
}

/// How much an object holds, by its rules and not by its labels.
pub fn extent(object: &Object) -> Extent {
    let targets = object.spec.get("to").and_then(Value::as_array);
    let mut rules = targets
        .into_iter()
        .flatten()
        .flat_map(|to| to.get("rules").and_then(Value::as_array).into_iter().flatten())
        .peekable();
    if rules.peek().is_some() && rules.all(is_anchor) {
        Extent::Anchor
    } else {
        Extent::Whole
    }
}

/// The same object with its anchor alone; none if it has no anchor everywhere, as a MeshTCPRoute never has.
///
/// The label of the item's digest goes: it says which weights an object gives, and this one gives none.
pub fn anchor_alone(object: &Object) -> Option<Object> {
    let mut object = object.clone();
    let targets = object.spec.get_mut("to")?.as_array_mut()?;
    if targets.is_empty() {
        return None;
    }
    for to in targets {
        let own = own_reference(to);
        let rules = to.get_mut("rules")?.as_array_mut()?;
        rules.retain(is_anchor);
        if rules.is_empty() {
            return None;
        }
        // A policy that an older agent wrote does not keep it.
        let refs = rules[0].pointer_mut("/default/backendRefs")?.as_array_mut()?;
        refs.extend(own.filter(|own| !refs.contains(own)));
    }
    object.labels.remove("weir.dev/digest");
    Some(object)
}

/// Whether an anchor keeps every cluster that another one keeps, for every caller that has it. If not, it may not take that
/// one's place before nothing flows to what it leaves out.
pub fn keeps(anchor: &Object, other: &Object) -> bool {
    let targets = |object: &Object| {
        let to = object.spec.get("to").and_then(Value::as_array);
        let to = to.into_iter().flatten();
        to.map(|to| (to.get("targetRef").cloned(), to.clone()))
            .collect::<Vec<_>>()
    };
    let references = |to: &Value| {
        let rules = to.get("rules").and_then(Value::as_array);
        let of = |rule: &Value| {
            rule.pointer("/default/backendRefs")
                .and_then(Value::as_array)
                .cloned()
        };
        rules
            .into_iter()
            .flatten()
            .filter_map(of)
            .flatten()
            .collect::<Vec<_>>()
    };
    let ours = targets(anchor);
    targets(other).iter().all(|(target, to)| {
        let same = ours.iter().find(|(ours, _)| ours == target);
        same.is_some_and(|(_, ours)| {
            let kept = references(ours);
            references(to).iter().all(|reference| kept.contains(reference))
        })
    })
}

/// What keeps the cluster of a target that a policy is to, where it is the service of all zones: the cluster of one zone's
/// service is that of a backend.
fn own_reference(to: &Value) -> Option<Value> {
    let target = to.get("targetRef")?;
    let port = to.pointer("/rules/0/default/backendRefs/0/port")?;
    (target.get("kind")? == "MeshMultiZoneService")
        .then(|| json!({ "kind": target["kind"], "labels": target["labels"], "port": port, "weight": 1 }))
}

/// Whether a live policy gives the same weights as a wanted one and keeps as much, but for the target's own cluster, as an
/// older agent wrote it. Such a policy is left as it is until its split changes: a change closes connections, and two
/// agents of one zone that are not of one version would write it over and over.
pub(crate) fn is_older_form(live: &Value, wanted: &Value) -> bool {
    let mut older = wanted.clone();
    for to in older["to"].as_array_mut().into_iter().flatten() {
        let own = own_reference(to);
        for rule in to["rules"].as_array_mut().into_iter().flatten() {
            if is_anchor(rule)
                && let Some(refs) = rule
                    .pointer_mut("/default/backendRefs")
                    .and_then(Value::as_array_mut)
            {
                refs.retain(|reference| Some(reference) != own.as_ref());
            }
        }
    }
    difference(&older, live, "spec").is_none()
}

/// [`anchor_alone`] for a policy that no plan wants any more. It carries the plan's generation, so that an agent with an
/// older plan leaves it alone.
pub fn withdrawn(object: &Object, plan: Generation) -> Option<Object> {
    let mut object = anchor_alone(object)?;
    object.labels.remove(PINNED);
    object.labels.remove(FALLEN);
    object
        .labels
        .insert("weir.dev/generation".to_owned(), plan.to_string());
    Some(object)
}

/// What an object that is an anchor alone is for, read back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// The mesh.
    pub mesh: String,
    /// The service that callers address.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// What else the policy calls the port.
    port_names: BTreeSet<String>,
    /// The value that no request carries.
    value: String,
}

impl Anchored {
    /// Reads an object; none if it has no anchor or does not say for what.
    pub fn of(object: &Object) -> Option<Self> {
        let all = object.spec.get("to")?.as_array()?;
        let section = |to: &Value| to.pointer("/targetRef/sectionName")?.as_str().map(str::to_owned);
        // The number comes first.
        let to = all.first()?;
        let rule = to.get("rules")?.as_array()?.iter().find(|rule| is_anchor(rule))?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            mesh: object.mesh.to_string(),
            service: text(to.pointer("/targetRef/labels/kuma.io~1display-name"))?,
            port: section(to)?.parse().ok()?,
            port_names: all.iter().skip(1).filter_map(section).collect(),
            value: text(rule.pointer("/matches/0/headers/0/value"))?,
        })
    }
}

/// What one Envoy runs of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// No active listener of it is for this service and port.
    NotCalling,
    /// Each of its listeners has the anchor, and sends everything else to what the caller addresses.
    Alone,
    /// Each has the anchor, and some other routes besides.
    Besides,
    /// One has no anchor, or cannot be read.
    No,
}

/// Reads a dump of listeners, as [`crate::weights`] does.
///
/// A proxy that no section of a policy reaches is not waited for: it calls a named port of one of these services by number,
/// or by a name that the policy does not have.
pub fn holds(anchored: &Anchored, dump: &Value, services: &[ServiceFact]) -> Held {
    let Some(listeners) = listeners(dump) else {
        return Held::No;
    };
    let held = listeners.into_iter().filter_map(|listener| {
        let active = listener.pointer("/active_state/listener")?;
        let number = anchored.port.to_string();
        let is_port = |at: &str| at == number || anchored.port_names.contains(at);
        match called(&anchored.mesh, &anchored.service, is_port, active) {
            Called::Other | Called::Named(_) => None,
            Called::Unclear => Some(Held::No),
            Called::This(kri) if kri.named(anchored.port, services).is_some() => None,
            Called::This(_) => Some(listener_holds(anchored, active)),
        }
    });
    held.max().unwrap_or(Held::NotCalling)
}

fn listener_holds(anchored: &Anchored, listener: &Value) -> Held {
    let hosts = manager(listener)
        .and_then(|manager| manager.pointer("/route_config/virtual_hosts"))
        .and_then(Value::as_array);
    let routes = hosts
        .into_iter()
        .flatten()
        .flat_map(|host| host.get("routes").and_then(Value::as_array).into_iter().flatten());
    let (mut anchor, mut besides) = (false, false);
    for route in routes {
        let conditions = conditions(route.get("match").unwrap_or(&Value::Null));
        if conditions.is_ok_and(|conditions| conditions.is_anchor(&anchored.value)) {
            anchor = true;
        } else if !leads_home(anchored, route, listener) {
            besides = true;
        }
    }
    match (anchor, besides) {
        (false, _) => Held::No,
        (true, false) => Held::Alone,
        (true, true) => Held::Besides,
    }
}

/// Whether a route sends everything to what its listener is for: Kuma's own route where no policy has one.
fn leads_home(anchored: &Anchored, route: &Value, listener: &Value) -> bool {
    let (Some(cluster), Some(name)) = (
        route.pointer("/route/cluster").and_then(Value::as_str),
        unified_name(listener),
    ) else {
        return false;
    };
    let parts: Vec<_> = name.split('_').collect();
    let ["kri", kind, mesh, zone, namespace, service, _] = parts.as_slice() else {
        return false;
    };
    cluster == name || cluster == format!("{mesh}_{service}_{namespace}_{zone}_{kind}_{}", anchored.port)
}
