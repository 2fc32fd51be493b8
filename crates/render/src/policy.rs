//! An item as the policies that a zone's control plane is given, and a policy's weights read back.
//!
//! The same rules serve Kuma 2.14 and 3.0: services are chosen by labels and never by name, the port is always said, the
//! top-level target is the mesh, every match has a path (a match without one sorts after `/` and never takes a request).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use weir_model::{
    BackendName, BasisPoints, CommitId, FederationName, Match, PathMatch, Protocol, ValueMatch, sabotaged,
};
use weir_planner::{Destination, Generation, Item, item_digest};

use crate::object::{COMMIT, Form, Kind, Object};

/// The header of the anchor's rule. No request has it with the anchor's value; no declaration may match on it.
pub const ANCHOR_HEADER: &str = "x-weir-anchor";

/// How many hexadecimal digits of an item's digest its label holds: 128 bits, within the limit of a label.
pub const DIGEST_DIGITS: usize = 32;

/// What a rendering leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether HTTP policies carry the anchor. Always, but where a test shows what happens without it.
    pub anchored: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { anchored: true }
    }
}

/// Renders an item: one object, which lists both kinds of target, so that the split holds however a caller calls.
///
/// `spec` depends on what the item's digest covers and on nothing else (`kuma.md` R9): generation and commit are labels.
pub fn render(item: &Item, federation: &FederationName, form: &Form, options: Options) -> Vec<Object> {
    let kind = match item.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => Kind::MeshHttpRoute,
        Protocol::Tcp => Kind::MeshTcpRoute,
    };
    // Kuma compares a section with a port's name, and with its number only where it has no name. Without a section the
    // policy takes all ports of the service and sends them to this one.
    let mut sections = vec![item.port.to_string()];
    let names = item.port_names.iter().map(ToString::to_string);
    sections.extend(names.filter(|name| *name != item.port.to_string()));
    let targets: Vec<Value> = sections
        .iter()
        .flat_map(|section| {
            [Target::Service, Target::MultiZone].map(|to| {
                json!({
                    "targetRef": {
                        "kind": to.kind(),
                        "labels": { "kuma.io/display-name": item.service },
                        "sectionName": section,
                    },
                    "rules": match kind {
                        Kind::MeshHttpRoute => http_rules(item, to, options),
                        Kind::MeshTcpRoute => tcp_rules(item),
                    },
                })
            })
        })
        .collect();
    vec![Object {
        kind,
        mesh: item.mesh.clone(),
        name: name(item),
        labels: labels(item, federation, form),
        spec: json!({
            "targetRef": { "kind": "Mesh" },
            "to": targets,
        }),
    }]
}

/// What callers address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// One zone's service.
    Service,
    /// The service of all zones.
    MultiZone,
}

impl Target {
    fn kind(self) -> &'static str {
        match self {
            Self::Service => "MeshService",
            Self::MultiZone => "MeshMultiZoneService",
        }
    }
}

/// The name of a split's object. Kuma gives way to a policy whose name sorts earlier when both say the same matches.
fn name(item: &Item) -> String {
    format!("weir-{}", item.split)
}

fn labels(item: &Item, federation: &FederationName, form: &Form) -> BTreeMap<String, String> {
    let digest = item.digest.to_string();
    let mut labels = BTreeMap::from([
        ("kuma.io/origin".to_owned(), "zone".to_owned()),
        ("weir.dev/split".to_owned(), item.split.to_string()),
        ("weir.dev/federation".to_owned(), federation.to_string()),
        ("weir.dev/generation".to_owned(), item.generation.to_string()),
        (
            COMMIT.to_owned(),
            item.commit.to_string().chars().take(63).collect(),
        ),
        (
            "weir.dev/digest".to_owned(),
            digest.chars().take(DIGEST_DIGITS).collect(),
        ),
    ]);
    if let Form::Kubernetes { .. } = form {
        labels.insert("kuma.io/mesh".to_owned(), item.mesh.to_string());
        // A cluster of another zone refuses the policy for it, also where nothing that it holds tells whose it is.
        labels.insert("kuma.io/zone".to_owned(), item.kuma_zone.to_string());
    }
    labels
}

fn http_rules(item: &Item, to: Target, options: Options) -> Value {
    let mut rules: Vec<_> = item
        .routes
        .iter()
        .map(|route| {
            let all = route.weights.iter().map(|(backend, weight)| (backend, weight.get()));
            json!({ "matches": [matches(&route.matches)], "default": { "backendRefs": references(item, all) } })
        })
        .collect();
    if options.anchored && !sabotaged("no-anchor") {
        let every = item.destinations.keys().map(|backend| (backend, 1));
        let mut kept = references(item, every);
        // The cluster of what was called before the split, and is called after it, stays as well.
        if to == Target::MultiZone {
            kept.push(json!({
                "kind": to.kind(),
                "labels": { "kuma.io/display-name": item.service },
                "port": item.port,
                "weight": 1,
            }));
        }
        rules.push(json!({
            "matches": [{
                "path": { "type": "PathPrefix", "value": "/" },
                "headers": [{ "type": "Exact", "name": ANCHOR_HEADER, "value": item.anchor }],
            }],
            "default": { "backendRefs": kept },
        }));
    }
    Value::Array(rules)
}

/// One rule, for MeshTCPRoute has no matches. An explicit weight 0 is written: it is a weight.
fn tcp_rules(item: &Item) -> Value {
    let rules = item.routes.iter().map(|route| {
        let all = route
            .weights
            .iter()
            .map(|(backend, weight)| (backend, weight.get()));
        json!({ "default": { "backendRefs": references(item, all) } })
    });
    Value::Array(rules.collect())
}

fn references<'a>(item: &Item, weighted: impl Iterator<Item = (&'a BackendName, u32)>) -> Vec<Value> {
    let references = weighted.filter_map(|(backend, weight)| {
        let to = item.destinations.get(backend)?;
        Some(json!({
            "kind": "MeshService",
            "labels": destination_labels(to),
            "port": to.port,
            "weight": weight,
        }))
    });
    references.collect()
}

/// The labels that choose exactly one MeshService.
pub(crate) fn destination_labels(to: &Destination) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("kuma.io/display-name", to.service.to_string()),
        ("kuma.io/zone", to.kuma_zone.to_string()),
    ]);
    if let Some(namespace) = &to.namespace {
        labels.insert("k8s.kuma.io/namespace", namespace.to_string());
    }
    labels
}

fn matches(of: &Match) -> Value {
    let mut found = Map::new();
    let (kind, value) = match &of.path {
        None => ("PathPrefix", "/"),
        Some(PathMatch::Prefix(value)) => ("PathPrefix", value.as_str()),
        Some(PathMatch::Exact(value)) => ("Exact", value.as_str()),
        Some(PathMatch::Regex(value)) => ("RegularExpression", value.as_str()),
    };
    found.insert("path".to_owned(), json!({ "type": kind, "value": value }));
    if let Some(method) = &of.method {
        found.insert("method".to_owned(), json!(method));
    }
    let named = |name: &str, value: &ValueMatch| match value {
        ValueMatch::Exact(value) => json!({ "type": "Exact", "name": name, "value": value }),
        ValueMatch::Regex(value) => json!({ "type": "RegularExpression", "name": name, "value": value }),
    };
    if !of.headers.is_empty() {
        let headers = of.headers.iter().map(|header| named(&header.name, &header.value));
        found.insert("headers".to_owned(), headers.collect());
    }
    if !of.query.is_empty() {
        let query = of
            .query
            .iter()
            .map(|parameter| named(&parameter.name, &parameter.value));
        found.insert("queryParams".to_owned(), query.collect());
    }
    Value::Object(found)
}

/// Whether a match of a live policy is this one, as a value: types that are left out have their defaults.
pub(crate) fn same_match(ours: &Match, theirs: &Value) -> bool {
    let mut theirs = theirs.clone();
    for list in ["headers", "queryParams"] {
        let all = theirs
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for one in all.filter_map(Value::as_object_mut) {
            one.entry("type").or_insert_with(|| json!("Exact"));
        }
    }
    matches(ours) == theirs
}

/// The weights that a live object of ours gives, by destination and rule, the anchor left out; none if the object says
/// something that Weir never writes. The way back from [`render`], for people who look at what is there.
pub fn weights_of(spec: &Value) -> Option<Vec<BTreeMap<BTreeMap<String, String>, BasisPoints>>> {
    let mut all: Option<Vec<_>> = None;
    for target in spec.get("to")?.as_array()? {
        let mut found = Vec::new();
        for rule in target.get("rules")?.as_array()? {
            if !is_anchor(rule) {
                found.push(rule_weights(rule)?);
            }
        }
        // Both targets say the same in what we write.
        if all.as_ref().is_some_and(|before| *before != found) {
            return None;
        }
        all = Some(found);
    }
    all
}

/// An item as somebody pinned it on another host of its zone, read from the object that he wrote; none if that is not this item with
/// other weights, which its digest tells.
pub fn as_pinned(item: &Item, object: &Object) -> Option<Item> {
    let given = weights_of(&object.spec)?;
    if given.len() != item.routes.len() {
        return None;
    }
    let mut pinned = item.clone();
    for (route, given) in pinned.routes.iter_mut().zip(given) {
        let backend = |labels: &BTreeMap<String, String>| {
            let mut all = item.destinations.iter();
            let is = |to: &Destination| {
                let to = destination_labels(to);
                to.len() == labels.len() && to.iter().all(|(key, value)| labels.get(*key) == Some(value))
            };
            all.find(|(_, to)| is(to)).map(|(backend, _)| backend.clone())
        };
        let weights = given
            .iter()
            .map(|(labels, weight)| Some((backend(labels)?, *weight)));
        route.weights = weights.collect::<Option<_>>()?;
        pinned
            .retiring
            .retain(|backend| !route.weights.contains_key(backend));
    }
    let says = |what: &str| object.labels.get(what).map(String::as_str);
    pinned.generation = Generation(says("weir.dev/generation")?.parse().ok()?);
    pinned.commit = CommitId(says("weir.dev/commit")?.to_owned());
    pinned.digest = item_digest(&pinned);
    let digest: String = pinned.digest.to_string().chars().take(DIGEST_DIGITS).collect();
    (says("weir.dev/digest") == Some(digest.as_str())).then_some(pinned)
}

pub(crate) fn is_anchor(rule: &Value) -> bool {
    let headers = rule.pointer("/matches/0/headers").and_then(Value::as_array);
    headers.is_some_and(|all| all.iter().any(|header| header["name"] == ANCHOR_HEADER))
}

fn rule_weights(rule: &Value) -> Option<BTreeMap<BTreeMap<String, String>, BasisPoints>> {
    let mut weights = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for reference in rule.pointer("/default/backendRefs")?.as_array()? {
        let labels: BTreeMap<String, String> =
            serde_json::from_value(reference.get("labels")?.clone()).ok()?;
        let weight = reference.get("weight").map_or(Some(1), Value::as_u64)?;
        let weight = BasisPoints::new(u32::try_from(weight).ok()?).ok()?;
        // Two references to one backend add up in Envoy; we never write them.
        if !seen.insert(labels.clone()) {
            return None;
        }
        weights.insert(labels, weight);
    }
    Some(weights)
}
