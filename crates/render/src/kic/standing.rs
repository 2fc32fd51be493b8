//! What the controller says of a route, and which other routes take the same requests.

use std::collections::BTreeSet;

use serde_json::Value;
use weir_model::ParentRef;

use super::route::HttpRoute;

/// The controller's name in the status of routes.
pub const CONTROLLER: &str = "konghq.com/kic-gateway-controller";

/// The conditions that all must be true. `Programmed` is the controller's own: Kong accepted its last configuration.
const CONDITIONS: [&str; 3] = ["Accepted", "ResolvedRefs", "Programmed"];

/// What the controller says of a live route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// All of it is in Kong's configuration, as far as the controller knows; no proof (it says so without an endpoint too).
    Programmed,
    /// Nothing yet of the route as it is now.
    Nothing(String),
    /// That it is not.
    Not(String),
}

/// What the controller says of a live route, as one of this Gateway. `absent`: a backend that gets nothing is known not to be
/// there, so that the controller's word that it is not says nothing else.
pub fn said(live: &Value, parent: &ParentRef, absent: bool) -> Said {
    let text = |of: &Value, at: &str| of.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let own = text(live, "/metadata/namespace");
    let parents = live.pointer("/status/parents").and_then(Value::as_array);
    let found = parents.into_iter().flatten().find(|of| {
        let namespace = text(of, "/parentRef/namespace").or_else(|| own.clone());
        let section = text(of, "/parentRef/sectionName");
        text(of, "/controllerName").as_deref() == Some(CONTROLLER)
            && text(of, "/parentRef/name").as_deref() == Some(parent.name.as_str())
            && namespace.as_deref() == Some(parent.namespace.as_str())
            && section.as_deref() == parent.section.as_ref().map(|section| section.as_str())
    });
    let Some(found) = found else {
        return Said::Nothing(format!(
            "Kong Ingress Controller says nothing of the route: is there a Gateway {parent} that it serves, and does it take routes \
             of this namespace?"
        ));
    };
    let generation = live.pointer("/metadata/generation").and_then(Value::as_i64);
    for kind in CONDITIONS {
        let conditions = found.get("conditions").and_then(Value::as_array);
        let condition = conditions
            .into_iter()
            .flatten()
            .find(|of| text(of, "/type").as_deref() == Some(kind));
        let Some(condition) = condition else {
            return Said::Nothing(format!("Kong Ingress Controller says nothing of {kind} yet"));
        };
        if condition.get("observedGeneration").and_then(Value::as_i64) != generation {
            return Said::Nothing(format!(
                "what Kong Ingress Controller says of {kind} is of the route as it was before"
            ));
        }
        let reason = text(condition, "/reason").unwrap_or_default();
        let message = text(condition, "/message").filter(|message| !message.is_empty());
        let told = message.map_or_else(|| reason.clone(), |message| format!("{reason}: {message}"));
        match text(condition, "/status").as_deref() {
            Some("True") => {}
            Some("False") if absent && kind == "ResolvedRefs" && reason == "BackendNotFound" => {}
            Some("False") => return Said::Not(format!("Kong Ingress Controller: {kind} is False, {told}")),
            _ => {
                return Said::Not(format!(
                    "Kong Ingress Controller does not know whether the route is {kind} ({told}): if that stays, Kong refuses its whole \
                     configuration, and nothing of any route goes through; see its Events (KongConfigurationApplyFailed)"
                ));
            }
        }
    }
    Said::Programmed
}

/// One `parentRef` of a live route, with what is said by leaving it out.
struct Attached<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    section: Option<&'a str>,
}

impl Attached<'_> {
    /// Whether it is this Gateway, whichever listener.
    fn is_to(&self, parent: &ParentRef) -> bool {
        self.kind == "Gateway"
            && self.name == parent.name.as_str()
            && self.namespace == parent.namespace.as_str()
    }
}

fn attached(live: &Value) -> impl Iterator<Item = Attached<'_>> {
    let parents = live.pointer("/spec/parentRefs").and_then(Value::as_array);
    let own = live.pointer("/metadata/namespace").and_then(Value::as_str);
    parents.into_iter().flatten().map(move |to| {
        let text = |at: &str| to.get(at).and_then(Value::as_str);
        Attached {
            kind: text("kind").unwrap_or("Gateway"),
            namespace: text("namespace").or(own).unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            section: text("sectionName"),
        }
    })
}

/// Whether a live route is attached to this Gateway, and to its listener if that is named at both.
pub(super) fn is_attached(parent: &ParentRef, live: &Value) -> bool {
    let section = parent.section.as_ref().map(|section| section.as_str());
    attached(live)
        .filter(|to| to.is_to(parent))
        .any(|to| to.section.is_none() || section.is_none() || to.section == section)
}

/// What a live route is attached to besides this Gateway, in words.
pub fn attached_elsewhere(parent: &ParentRef, live: &Value) -> Option<String> {
    let other = attached(live).find(|to| !to.is_to(parent))?;
    Some(format!("the {} {}/{}", other.kind, other.namespace, other.name))
}

/// A live route's own words for the Gateway to which it is attached, once for each listener that it names.
pub fn parents(parent: &ParentRef, live: &Value) -> Vec<ParentRef> {
    let to_it = attached(live).filter(|to| to.is_to(parent));
    let parents = to_it.map(|to| ParentRef {
        section: to.section.and_then(|section| section.parse().ok()),
        ..parent.clone()
    });
    parents.collect()
}

/// Whether another live route takes requests of this one: both would be in Kong, nothing says which serves.
pub fn overlaps(route: &HttpRoute, other: &Value) -> bool {
    is_attached(&route.parent, other)
        && !hosts(&route.document).is_disjoint(&hosts(other))
        && !matches(&route.document).is_disjoint(&matches(other))
}

/// Hosts; for a route that takes all of them an empty one.
fn hosts(route: &Value) -> BTreeSet<String> {
    let hosts = route.pointer("/spec/hostnames").and_then(Value::as_array);
    let hosts: BTreeSet<String> = hosts
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_ascii_lowercase)
        .collect();
    if hosts.is_empty() {
        BTreeSet::from([String::new()])
    } else {
        hosts
    }
}

/// Matches as texts, so that equal ones are equal.
fn matches(route: &Value) -> BTreeSet<String> {
    let rules = route.pointer("/spec/rules").and_then(Value::as_array);
    let mut found = BTreeSet::new();
    for rule in rules.into_iter().flatten() {
        let matches = rule
            .get("matches")
            .and_then(Value::as_array)
            .filter(|matches| !matches.is_empty());
        let Some(matches) = matches else {
            found.insert(canonical(&Value::Null));
            continue;
        };
        found.extend(matches.iter().map(canonical));
    }
    found
}

fn canonical(one: &Value) -> String {
    let text = |at: &str| one.pointer(at).and_then(Value::as_str);
    let path = text("/path/value").unwrap_or("/");
    let kind = text("/path/type").unwrap_or("PathPrefix");
    let path = if kind == "PathPrefix" && path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    let headers = one.get("headers").and_then(Value::as_array);
    let headers: BTreeSet<String> = headers
        .into_iter()
        .flatten()
        .map(|header| {
            let text = |at: &str| header.get(at).and_then(Value::as_str).unwrap_or_default();
            let kind = header.get("type").and_then(Value::as_str).unwrap_or("Exact");
            format!("{} {kind} {}", text("name").to_ascii_lowercase(), text("value"))
        })
        .collect();
    let query = one.get("queryParams").map(Value::to_string).unwrap_or_default();
    format!(
        "{kind} {path} {} {headers:?} {query}",
        text("/method").unwrap_or_default()
    )
}
