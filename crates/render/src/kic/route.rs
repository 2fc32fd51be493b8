//! The HTTPRoute of one split at one gateway: one of Weir's own, or what becomes of one that the split takes over.
//!
//! Its name and the number of its rules do not change with weights, and neither does what the controller calls a rule's
//! upstream in Kong: a change of weights changes weights there, and nothing comes or goes. But for rules with the same backends
//! and weights, of which the controller makes one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use weir_model::{
    Address, BackendName, BasisPoints, ClusterService, DnsLabel, Entry, FederationName, GatewayName,
    ParentRef, RouteName, Routing, SplitName, Via,
};
use weir_planner::{GatewayPlan, Generation};

use super::taken::Taker;
use crate::kong::AtDoor;
use crate::kong::fits::{Shape, fits, plain, shapes};
use crate::object::{COMMIT, PINNED};

/// Gateway API, in the one version in which Weir ever applies: a route that is applied in another one is another manager's.
pub const API_VERSION: &str = "gateway.networking.k8s.io/v1";

/// The label that says at which gateway a route stands. The zone's name is no part of it: a cluster is one zone's.
pub const LABEL_GATEWAY: &str = "weir.dev/gateway";

/// The label with the generation in which the gateway itself last changed.
pub const LABEL_GATEWAY_GENERATION: &str = "weir.dev/gateway-generation";

/// So much of a weight for each basis point. All of it to one endpoint is 60,000, and Kong takes no target above 65,535: one such
/// target and the controller's whole configuration is refused. As large as that, because the controller divides a weight by the
/// number of a Service's endpoints and rounds down.
pub const FOR_EACH_BASIS_POINT: u32 = 6;

/// A route as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRoute {
    /// The split.
    pub split: SplitName,
    /// The generation of its item.
    pub generation: Generation,
    /// The newest generation of the split that this agent knows: another one than the item's where somebody pinned what is older.
    pub known: Generation,
    /// Which pin its weights are of, if any.
    pub pin: Option<String>,
    /// The generation in which the gateway itself last changed.
    pub gateway_generation: Generation,
    /// The namespace of the Services that it reaches, and its own.
    pub namespace: DnsLabel,
    /// Its name, `weir.<gateway>.<split>`; of one that is taken over its own.
    pub name: String,
    /// What it is attached to.
    pub parent: ParentRef,
    /// The whole object, as it is applied; without what guards it. Of one that is taken over the `backendRefs` of its rule alone.
    pub document: Value,
    /// Which item takes it over; none if it is Weir's own.
    pub taken_by: Option<Taker>,
    /// By route of the split, in the order of the rules.
    pub rules: Vec<Rule>,
}

impl HttpRoute {
    /// One that is taken over, with all that the live one says: which requests it takes is its own.
    pub fn beside(&self, live: &Value) -> Self {
        Self {
            document: live.clone(),
            ..self.clone()
        }
    }

    /// Whether Kong carries its weights, and not the mesh.
    pub fn has_weights(&self) -> bool {
        self.rules.iter().any(|rule| rule.route.is_some())
    }
}

/// One rule of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The split's route; none where the mesh carries the weights.
    pub route: Option<RouteName>,
    /// What the controller calls the service and the upstream that it makes of it.
    pub upstream: String,
    /// The Services, with their weights. Where the mesh carries the weights there is one, with all of it, and no backend.
    pub backends: Vec<(Option<BackendName>, ClusterService, BasisPoints)>,
}

/// What a gateway is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Routes {
    /// The gateway.
    pub gateway: GatewayName,
    /// By split.
    pub routes: BTreeMap<SplitName, HttpRoute>,
}

/// The name of a split's route at a gateway. No label has a dot, so that no two are the same.
pub fn name(gateway: &GatewayName, split: &SplitName) -> String {
    format!("weir.{gateway}.{split}")
}

/// The route of a split at a gateway.
///
/// # Errors
/// Why it cannot be said, in words.
pub fn http_route(
    federation: &FederationName,
    gateway: &GatewayName,
    planned: &GatewayPlan,
    at: &AtDoor<'_>,
) -> Result<HttpRoute, String> {
    let parent = planned
        .parent
        .clone()
        .ok_or("it is not known to which Gateway its route is attached")?;
    // One that is taken over has one rule, and what it matches is its own.
    let (routing, taken) = match &at.door.entry {
        Entry::Routes(routing) => (Some(routing), None),
        Entry::HttpRoute(name) => (None, Some(name)),
        Entry::Service(_) => return Err("there is no base to take a service from".to_owned()),
    };
    let name = taken.cloned().unwrap_or_else(|| name(gateway, &at.item.split));
    let mut namespaces = BTreeSet::new();
    let mut service = |address: &Address| {
        let service = address.cluster_service();
        let service = service.ok_or_else(|| format!("{address} is no Service of the cluster"))?;
        namespaces.insert(service.namespace.clone());
        Ok::<_, String>(service)
    };
    let (shapes, backends) = match &at.door.via {
        Via::Mesh(address) => (
            routing.map(|routing| vec![plain(routing)]),
            vec![vec![(None, service(address)?, BasisPoints::WHOLE)]],
        ),
        Via::Addresses(reached) => {
            let routes: Vec<_> = at
                .item
                .routes
                .iter()
                .map(|route| (&route.name, &route.matches))
                .collect();
            let in_words = |why: Vec<String>| why.join("; ");
            fits(&routes, at.door).map_err(in_words)?;
            let shapes = routing.map(|routing| shapes(&routes, routing)).transpose();
            let shapes = shapes.map_err(in_words)?;
            let mut services: BTreeMap<&BackendName, ClusterService> = BTreeMap::new();
            for (backend, addresses) in reached {
                let mut addresses = addresses.iter();
                let (Some(address), None) = (addresses.next(), addresses.next()) else {
                    return Err(format!("backend {backend} is not one Service"));
                };
                services.insert(backend, service(address)?);
            }
            let weighted = |weights: &BTreeMap<BackendName, BasisPoints>| {
                let one = |(backend, weight): (&BackendName, &BasisPoints)| {
                    let service = services.get(backend).cloned();
                    let service = service.ok_or_else(|| format!("backend {backend} has no Service here"))?;
                    Ok((Some(backend.clone()), service, *weight))
                };
                weights.iter().map(one).collect::<Result<Vec<_>, String>>()
            };
            let backends = at.item.routes.iter().map(|route| weighted(&route.weights));
            (shapes, backends.collect::<Result<Vec<_>, _>>()?)
        }
    };
    let mut namespaces = namespaces.into_iter();
    let (Some(namespace), None) = (namespaces.next(), namespaces.next()) else {
        return Err(
            "its Services are in several namespaces, and a route reaches those of its own".to_owned(),
        );
    };
    let names: Vec<Option<RouteName>> = match &at.door.via {
        Via::Mesh(_) => vec![None],
        Via::Addresses(_) => at
            .item
            .routes
            .iter()
            .map(|route| Some(route.name.clone()))
            .collect(),
    };
    // Rules with the same backends become one service of Kong, by the name of the first of them.
    let first = |of: usize| {
        backends
            .iter()
            .position(|other| backends.get(of) == Some(other))
            .unwrap_or(of)
    };
    let rules = names.into_iter().zip(backends.iter().cloned()).enumerate();
    let rules = rules.map(|(at, (route, backends))| Rule {
        route,
        upstream: format!("httproute.{namespace}.{name}.{}", first(at)),
        backends,
    });
    let rules: Vec<Rule> = rules.collect();
    let pin = at.pin.map(|pin| pin.label.to_owned());
    let mut route = HttpRoute {
        split: at.item.split.clone(),
        generation: at.item.generation,
        known: at.known(),
        pin: pin.clone(),
        gateway_generation: planned.generation,
        namespace,
        name,
        parent,
        document: Value::Null,
        taken_by: taken.map(|_| Taker {
            federation: federation.clone(),
            gateway: gateway.clone(),
            split: at.item.split.clone(),
            generation: at.item.generation,
            gateway_generation: planned.generation,
            pin,
        }),
        rules,
    };
    let (Some(routing), Some(shapes)) = (routing, shapes) else {
        let [rule] = route.rules.as_slice() else {
            return Err(
                "an HTTPRoute that is taken over has one rule, and this split several routes".to_owned(),
            );
        };
        route.document = json!({
            "metadata": {"name": route.name, "namespace": route.namespace},
            "spec": {"rules": [{"backendRefs": backend_refs(rule)}]},
        });
        return Ok(route);
    };
    let said = shapes.iter().zip(&route.rules);
    let said = said
        .map(|(shape, rule)| said_rule(shape, rule))
        .collect::<Result<Vec<_>, _>>()?;
    route.document = json!({
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": {
            "name": route.name,
            "namespace": route.namespace,
            "labels": labels(federation, (gateway, planned.generation), at),
            "annotations": annotations(routing),
        },
        "spec": {
            "parentRefs": [parent_ref(&route.parent)],
            "hostnames": routing.hosts,
            "rules": said,
        },
    });
    if routing.hosts.is_empty()
        && let Some(spec) = route.document.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("hostnames");
    }
    Ok(route)
}

/// Where a door at which the mesh carries the weights leads to a Service that is not called like the split's own: Kuma calls a
/// MeshService as its Service is called, and the policy that splits is for the split's. What stands behind another name nobody here
/// knows, so that it holds nothing.
pub fn leads_elsewhere(at: &AtDoor<'_>) -> Option<String> {
    let Via::Mesh(address) = &at.door.via else {
        return None;
    };
    let service = address.cluster_service()?;
    let (own, port) = (&at.item.service, at.item.port);
    if (service.name.as_str(), service.port) == (own.as_str(), port) {
        return None;
    }
    Some(format!(
        "split {}: its door leads to the Service {}/{} at port {}, and the mesh splits what is for service {own} at port {port}. Kuma \
         makes a MeshService of each Service, of its name: if this one is not that by another way, its requests are not split at all, \
         and Kong does not show it; let `mesh` say {own}.{}.svc:{port}",
        at.item.split, service.namespace, service.name, service.port, service.namespace
    ))
}

fn labels(
    federation: &FederationName,
    (gateway, planned): (&GatewayName, Generation),
    at: &AtDoor<'_>,
) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by", "weir".to_owned()),
        ("weir.dev/split", at.item.split.to_string()),
        ("weir.dev/federation", federation.to_string()),
        (LABEL_GATEWAY, gateway.to_string()),
        (LABEL_GATEWAY_GENERATION, planned.to_string()),
        ("weir.dev/generation", at.item.generation.to_string()),
        (COMMIT, at.item.commit.to_string().chars().take(63).collect()),
    ]);
    labels.extend(at.pin.map(|pin| (PINNED, pin.label.to_owned())));
    labels
}

/// What Gateway API has no field for. Each is said whatever it is: the controller's defaults are others than Kong's own.
fn annotations(routing: &Routing) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([
        ("konghq.com/strip-path", routing.strip_path.to_string()),
        ("konghq.com/preserve-host", routing.preserve_host.to_string()),
    ]);
    if routing.https_only {
        annotations.insert("konghq.com/protocols", "https".to_owned());
        let code = routing.https_redirect.code();
        annotations.insert("konghq.com/https-redirect-status-code", code.to_string());
    }
    if !routing.snis.is_empty() {
        let snis: Vec<&str> = routing.snis.iter().map(String::as_str).collect();
        annotations.insert("konghq.com/snis", snis.join(","));
    }
    annotations
}

fn parent_ref(parent: &ParentRef) -> Value {
    let mut said = json!({
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": parent.namespace,
        "name": parent.name,
    });
    if let Some(section) = &parent.section {
        said["sectionName"] = json!(section);
    }
    said
}

fn said_rule(shape: &Shape, rule: &Rule) -> Result<Value, String> {
    let mut matches = Vec::new();
    let any_path = vec!["/".to_owned()];
    let paths = if shape.paths.is_empty() {
        &any_path
    } else {
        &shape.paths
    };
    let methods: Vec<Option<&String>> = match shape.methods.is_empty() {
        true => vec![None],
        false => shape.methods.iter().map(Some).collect(),
    };
    for path in paths {
        if !path.starts_with('/') {
            return Err(format!("the path {path} is no prefix"));
        }
        for method in &methods {
            for headers in each_of(&shape.headers) {
                let mut one = Map::new();
                one.insert("path".to_owned(), json!({"type": "PathPrefix", "value": path}));
                if let Some(method) = method {
                    one.insert("method".to_owned(), json!(method));
                }
                if !headers.is_empty() {
                    one.insert("headers".to_owned(), Value::Array(headers));
                }
                matches.push(Value::Object(one));
            }
        }
    }
    Ok(json!({"matches": matches, "backendRefs": backend_refs(rule)}))
}

fn backend_refs(rule: &Rule) -> Vec<Value> {
    let backends = rule.backends.iter().map(|(_, service, weight)| {
        json!({
            "group": "",
            "kind": "Service",
            "name": service.name,
            "port": service.port,
            "weight": weight.get() * FOR_EACH_BASIS_POINT,
        })
    });
    backends.collect()
}

/// Every choice of one value for each header: a match of Gateway API has one.
fn each_of(headers: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<Value>> {
    let mut all = vec![Vec::new()];
    for (name, values) in headers {
        all = all
            .into_iter()
            .flat_map(|before: Vec<Value>| {
                values.iter().map(move |value| {
                    let mut with = before.clone();
                    with.push(json!({"type": "Exact", "name": name, "value": value}));
                    with
                })
            })
            .collect();
    }
    all
}
