//! Plugins of a base that may choose by themselves where a request goes: functions of the site's own, and those that lead to somewhere
//! else by their configuration. What they choose is not what the balancer gives, and nobody reads that back. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_model::SplitName;

use crate::kong::base::Found;

/// The plugins of Kong that can.
const CHOOSING: [&str; 3] = ["pre-function", "post-function", "ai-proxy"];

/// What a person should know of those that stand before doors: of all where they stand everywhere, else of the splits that took over
/// the services that they stand on.
pub(crate) fn notes(found: &[Found<'_>], takers: &BTreeMap<String, SplitName>) -> Vec<String> {
    let mut notes = BTreeSet::new();
    let plugins = found.iter().filter(|one| one.kind == "plugins");
    let plugins = plugins.filter(|one| one.entity.get("enabled") != Some(&Value::Bool(false)));
    for plugin in plugins {
        let name = plugin.entity.get("name").and_then(Value::as_str);
        let Some(name) = name.filter(|name| CHOOSING.contains(name)) else {
            continue;
        };
        let (who, place) = match place(found, plugin) {
            Place::Everywhere => (
                "every split at this gateway".to_owned(),
                "all requests".to_owned(),
            ),
            Place::At(service) => match takers.get(&service) {
                Some(split) => (format!("split {split}"), format!("service `{service}`")),
                None => continue,
            },
            Place::Unknown => continue,
        };
        notes.insert(format!(
            "{who}: plugin {name} of the base runs on {place} and may choose by itself where requests go. What is proven is what the \
             balancer gives; what that plugin does besides is not seen: count requests (`counting` in the agent's configuration), or \
             see to it that it leaves the service's host alone"
        ));
    }
    notes.into_iter().collect()
}

/// Whose requests a plugin sees.
enum Place {
    Everywhere,
    /// Those of this service.
    At(String),
    /// Those of a route without a service, or of one that the base does not have.
    Unknown,
}

/// What it is written in, or else what it names.
fn place(found: &[Found<'_>], one: &Found<'_>) -> Place {
    let service = |one: &Found<'_>| match refers(one, "service") {
        Some(key) => Some(key),
        None => within(found, one, "services").and_then(|service| text(service, "name")),
    };
    if let Some(route) = within(found, one, "routes") {
        return service(route).map_or(Place::Unknown, |key| named(found, &key));
    }
    if let Some(key) = refers(one, "route") {
        let mut routes = found.iter().filter(|other| other.kind == "routes");
        let route = routes.find(|route| is_called(route, &key));
        return route
            .and_then(service)
            .map_or(Place::Unknown, |key| named(found, &key));
    }
    service(one).map_or(Place::Everywhere, |key| named(found, &key))
}

/// The name of the service of this name or id.
fn named(found: &[Found<'_>], key: &str) -> Place {
    let mut services = found.iter().filter(|one| one.kind == "services");
    let service = services.find(|one| is_called(one, key));
    let name = service.and_then(|service| text(service, "name"));
    name.map_or(Place::Unknown, Place::At)
}

fn is_called(one: &Found<'_>, key: &str) -> bool {
    ["name", "id"]
        .iter()
        .any(|field| text(one, field).as_deref() == Some(key))
}

/// The entity of this kind that one is written in, at whatever depth.
fn within<'a, 'b>(found: &'a [Found<'b>], one: &Found<'b>, kind: &str) -> Option<&'a Found<'b>> {
    let mut at = one.inside;
    while let Some(outer) = at.and_then(|at| found.get(at)) {
        if outer.kind == kind {
            return Some(outer);
        }
        at = outer.inside;
    }
    None
}

/// What one names in a field, by name or by id.
fn refers(one: &Found<'_>, field: &str) -> Option<String> {
    let value = one.entity.get(field)?;
    let of = ["name", "id"]
        .into_iter()
        .find_map(|key| value.get(key)?.as_str());
    value.as_str().or(of).map(str::to_owned)
}

fn text(one: &Found<'_>, field: &str) -> Option<String> {
    one.entity.get(field)?.as_str().map(str::to_owned)
}
