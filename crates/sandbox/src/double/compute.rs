//! From a zone's store to what one proxy runs: Kuma's rules of matching, merging, ordering and resolving, with the ugly
//! ones: what does not resolve is left out without a word, and a route whose weights are all 0 takes its listener along.
//!
//! Pure. Changed when a measurement on real Kuma says otherwise (each rule is in `tests` below).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value};

use super::admission::{NAMESPACE, ROLE};
use super::routes::{
    Cluster, Listener, ListenerKind, PathTest, ProxyConfig, Route, RouteMatch, Test, Weighted,
};
use super::store::{Kind, ORIGIN, Object, Store, ZONE};

/// The name that Kuma gives to the route that it adds itself: a hash of the match `/`.
const AUTOMATIC: &str = "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo=";

/// What the proxy of this dataplane runs, as far as the store says.
pub fn compute(store: &Store, dataplane: &Object) -> ProxyConfig {
    let mut config = ProxyConfig::default();
    let networking = dataplane.body.get("networking").unwrap_or(&Value::Null);
    for inbound in list(networking, "inbound") {
        let at = |address: &str, port: &str| socket(inbound.get(address)?, inbound.get(port)?);
        let address = networking.get("address").cloned().unwrap_or_default();
        let outside = inbound.get("port").and_then(|port| socket(&address, port));
        if let (Some(address), Some(app)) = (outside, at("serviceAddress", "servicePort")) {
            let service = inbound["tags"]["kuma.io/service"].as_str().unwrap_or_default();
            let kind = ListenerKind::Inbound {
                service: service.to_owned(),
                app,
            };
            config
                .listeners
                .insert(format!("inbound:{address}"), Listener { address, kind });
        }
    }
    // Outbounds that Kuma makes for virtual addresses go by a port's name; those that a Dataplane names, by what it says.
    let virtual_addresses = networking.get("transparentProxying").is_some();
    for outbound in list(networking, "outbound") {
        let address = outbound.get("address").zip(outbound.get("port"));
        let Some(address) = address.and_then(|(a, p)| socket(a, p)) else {
            continue;
        };
        let reference = &outbound["backendRef"];
        // A destination that does not resolve: the outbound is silently absent.
        if let Some((target, port)) = resolve(store, dataplane, reference)
            && let Some(kind) = outbound_listener(
                store,
                dataplane,
                &Called {
                    target,
                    port,
                    section: if virtual_addresses {
                        section(target, port)
                    } else {
                        port.to_string()
                    },
                },
                &mut config.clusters,
            )
        {
            config
                .listeners
                .insert(format!("outbound:{address}"), Listener { address, kind });
        }
    }
    config
}

/// What an outbound calls.
struct Called<'a> {
    target: &'a Object,
    port: u64,
    /// What policies know the port by.
    section: String,
}

fn outbound_listener(
    store: &Store,
    dataplane: &Object,
    called: &Called<'_>,
    clusters: &mut BTreeMap<String, Cluster>,
) -> Option<ListenerKind> {
    let (target, port) = (called.target, called.port);
    let own = || vec![(target, port, 1)];
    if splits_requests(target, port) {
        let rules = rules(store, dataplane, called, Kind::MeshHTTPRoute);
        let mut catch_all = false;
        let mut routes = Vec::new();
        for rule in &rules {
            catch_all |= rule.matches == prefix_root();
            match split(store, dataplane, &rule.refs, true) {
                Split::To(parts) => routes.push((rule.matches.clone(), rule.policy.clone(), parts)),
                Split::Original => routes.push((rule.matches.clone(), rule.policy.clone(), own())),
                Split::Nothing => {}
            }
        }
        if !catch_all {
            routes.push((prefix_root(), AUTOMATIC.to_owned(), own()));
        }
        if routes.is_empty() {
            return None;
        }
        let routes = routes.into_iter().map(|(matches, name, parts)| Route {
            name,
            matches,
            clusters: take(store, dataplane, parts, clusters),
        });
        Some(ListenerKind::Http {
            route_config: target.kri(&called.section),
            virtual_host: target.cluster(port),
            routes: routes.collect(),
        })
    } else {
        let rules = rules(store, dataplane, called, Kind::MeshTCPRoute);
        let parts = match rules.first().map(|r| split(store, dataplane, &r.refs, false)) {
            None => own(),
            Some(Split::To(parts)) => parts,
            Some(Split::Original | Split::Nothing) => return None,
        };
        Some(ListenerKind::Tcp {
            destination: target.kri(&called.section),
            stat_prefix: target.cluster(port),
            clusters: take(store, dataplane, parts, clusters),
        })
    }
}

/// One rule after merging.
struct Rule {
    matches: RouteMatch,
    policy: String,
    refs: Vec<Value>,
}

/// The rules that hold for this target, in the order in which Envoy tries them.
fn rules(store: &Store, dataplane: &Object, called: &Called<'_>, kind: Kind) -> Vec<Rule> {
    let policies = store
        .all(kind)
        .filter(|p| p.mesh == dataplane.mesh && p.label("kuma.io/effect") != Some("shadow"))
        .filter(|p| selects(p, dataplane));
    let mut all: Vec<(&Object, &Value)> = policies
        .flat_map(|policy| list(policy.spec(), "to").iter().map(move |to| (policy, to)))
        .filter(|(_, to)| names(&to["targetRef"], called))
        .collect();
    // Highest first: a dataplane's own before the mesh's, the zone's before global's, a consumer's before a producer's before
    // the system's, one that names the port's section before one that names none, then by name.
    all.sort_by_key(|(policy, to)| {
        let mesh_wide = policy.spec()["targetRef"]["kind"].as_str().unwrap_or("Mesh") == "Mesh";
        (
            mesh_wide,
            policy.label(ORIGIN) != Some("zone"),
            match policy.label(ROLE) {
                Some("consumer") => 0,
                Some("producer") => 1,
                _ => 2,
            },
            !has_section(called.target, &to["targetRef"]),
            policy.display_name().to_owned(),
        )
    });
    let mut merged: Vec<Rule> = Vec::new();
    for (policy, to) in all {
        for rule in list(to, "rules") {
            let refs = list(&rule["default"], "backendRefs").to_vec();
            let all = match list(rule, "matches") {
                [] if kind == Kind::MeshTCPRoute => vec![RouteMatch::default()],
                all => all.iter().map(route_match).collect(),
            };
            for matches in all {
                if !merged.iter().any(|r| r.matches == matches) {
                    merged.push(Rule {
                        matches,
                        policy: policy.kri(""),
                        refs: refs.clone(),
                    });
                }
            }
        }
    }
    merged.sort_by_key(|rule| {
        let matches = &rule.matches;
        let (rank, length) = match &matches.path {
            Some(PathTest::Exact(p)) => (0, p.len()),
            Some(PathTest::Prefix(p)) => (1, p.len()),
            Some(PathTest::Regex(p)) => (2, p.len()),
            None => (3, 0),
        };
        let down = |n: usize| usize::MAX - n;
        let method = matches.method.is_none();
        (
            rank,
            down(length),
            method,
            down(matches.headers.len()),
            down(matches.query.len()),
        )
    });
    merged
}

/// Whether a `to` names a port of the target by its name. A port without one, as a MeshMultiZoneService has, is no section:
/// there a `sectionName` outranks nobody.
fn has_section(target: &Object, reference: &Value) -> bool {
    let section = &reference["sectionName"];
    !section.is_null()
        && list(target.spec(), "ports")
            .iter()
            .any(|port| port["name"] == *section)
}

fn selects(policy: &Object, dataplane: &Object) -> bool {
    // A consumer speaks for callers of its own namespace.
    if policy.label(ROLE) == Some("consumer") && policy.label(NAMESPACE) != dataplane.label(NAMESPACE) {
        return false;
    }
    // Who takes nothing in is matched by nothing, but for a delegated gateway.
    let networking = dataplane.body.get("networking").unwrap_or(&Value::Null);
    let is_gateway = networking["gateway"]["type"] == "DELEGATED";
    if !is_gateway && list(networking, "inbound").is_empty() {
        return false;
    }
    let top = &policy.spec()["targetRef"];
    let proxy = if is_gateway { "Gateway" } else { "Sidecar" };
    let types = list(top, "proxyTypes");
    if !types.is_empty() && !types.iter().any(|one| one == proxy) {
        return false;
    }
    match top["kind"].as_str() {
        None | Some("Mesh") => true,
        Some("Dataplane") => match (top["name"].as_str(), top["labels"].as_object()) {
            (Some(name), _) => name == dataplane.name,
            (None, Some(labels)) => dataplane.has_labels(labels),
            (None, None) => true,
        },
        _ => false,
    }
}

/// What Kuma calls a port: its name if it has one, else its number.
fn section(target: &Object, port: u64) -> String {
    let ports = list(target.spec(), "ports");
    let entry = ports.iter().find(|entry| entry["port"].as_u64() == Some(port));
    let name = entry.and_then(|entry| entry["name"].as_str());
    name.map_or_else(|| port.to_string(), str::to_owned)
}

/// Whether a `to` names this port of this target. Labels name all that match. A section is compared with ports' names, and
/// what it finds with what the outbound says: one that says the number of a named port is found by no section.
fn names(
    reference: &Value,
    Called {
        target,
        port,
        section: said,
    }: &Called<'_>,
) -> bool {
    let wanted = reference["sectionName"].as_str();
    wanted.is_none_or(|wanted| wanted == section(target, *port) && wanted == said)
        && reference["kind"].as_str() == Some(target.kind.name())
        && match (reference["labels"].as_object(), reference["name"].as_str()) {
            (Some(labels), _) => target.has_labels(labels),
            (None, Some(name)) => target.name == name || is_called(target, name),
            (None, None) => false,
        }
}

/// Whether an object of this zone's cluster has this name there: the control plane adds the namespace.
fn is_called(object: &Object, name: &str) -> bool {
    object
        .name
        .rsplit_once('.')
        .is_some_and(|(own, namespace)| own == name && object.label(NAMESPACE) == Some(namespace))
}

/// What the references of a rule come to.
enum Split<'a> {
    /// These destinations, each weight above 0.
    To(Vec<(&'a Object, u64, u64)>),
    /// Nothing resolved: where the caller addressed it to.
    Original,
    /// Resolved, but to nothing that can take a request: no route.
    Nothing,
}

fn split<'a>(store: &'a Store, dataplane: &Object, refs: &[Value], requests: bool) -> Split<'a> {
    let resolved: Vec<(&Object, u64, &Value)> = refs
        .iter()
        .filter_map(|r| {
            let object = referenced(store, dataplane, r)?;
            Some((object, port_of(object, r).unwrap_or_default(), r))
        })
        .collect();
    if resolved.is_empty() {
        return Split::Original;
    }
    let parts: Vec<_> = resolved
        .into_iter()
        .filter(|(object, port, _)| *port != 0 && (!requests || splits_requests(object, *port)))
        .map(|(object, port, r)| (object, port, r["weight"].as_u64().unwrap_or(1)))
        .filter(|(_, _, weight)| *weight > 0)
        .collect();
    if parts.is_empty() {
        Split::Nothing
    } else {
        Split::To(parts)
    }
}

/// A reference's object: by labels the oldest that has them, by name one of the dataplane's own zone.
fn referenced<'a>(store: &'a Store, dataplane: &Object, reference: &Value) -> Option<&'a Object> {
    let kind = match reference["kind"].as_str()? {
        "MeshService" => Kind::MeshService,
        "MeshMultiZoneService" => Kind::MeshMultiZoneService,
        _ => return None,
    };
    let all = store.all(kind).filter(|o| o.mesh == dataplane.mesh);
    let fits = |object: &&Object| match (reference["labels"].as_object(), reference["name"].as_str()) {
        (Some(labels), _) => object.has_labels(labels),
        (None, Some(name)) => {
            (object.name == name || is_called(object, name)) && object.label(ORIGIN) != Some("global")
        }
        (None, None) => false,
    };
    all.filter(fits).min_by_key(|o| (o.created, o.name.clone()))
}

fn resolve<'a>(store: &'a Store, dataplane: &Object, reference: &Value) -> Option<(&'a Object, u64)> {
    let object = referenced(store, dataplane, reference)?;
    Some((object, port_of(object, reference)?))
}

/// The port that a reference means, if the object has it.
fn port_of(object: &Object, reference: &Value) -> Option<u64> {
    let ports = list(object.spec(), "ports");
    let by_name = |name: &str| {
        let named = |p: &&Value| p["name"].as_str() == Some(name) || name.parse().ok() == p["port"].as_u64();
        ports.iter().find(named)
    };
    let found = match (reference["port"].as_u64(), reference["sectionName"].as_str()) {
        (Some(port), _) => ports.iter().find(|p| p["port"].as_u64() == Some(port)),
        (None, Some(name)) => by_name(name),
        (None, None) => None,
    };
    found?["port"].as_u64()
}

fn splits_requests(object: &Object, port: u64) -> bool {
    let ports = list(object.spec(), "ports").iter();
    let protocol = ports
        .filter(|p| p["port"].as_u64() == Some(port))
        .find_map(|p| p["appProtocol"].as_str());
    matches!(protocol, Some("http" | "http2" | "grpc"))
}

/// Adds the clusters of these parts and names them.
fn take(
    store: &Store,
    dataplane: &Object,
    parts: Vec<(&Object, u64, u64)>,
    clusters: &mut BTreeMap<String, Cluster>,
) -> Vec<Weighted> {
    let weighted = parts.into_iter().map(|(object, port, weight)| {
        let name = object.cluster(port);
        clusters.entry(name.clone()).or_insert_with(|| Cluster {
            service: object.display_name().to_owned(),
            endpoints: endpoints(store, dataplane, object),
        });
        Weighted { name, weight }
    });
    weighted.collect()
}

fn endpoints(store: &Store, dataplane: &Object, object: &Object) -> Vec<Vec<SocketAddr>> {
    let of = |o: &Object| o.endpoints.iter().map(|e| e.address).collect::<Vec<_>>();
    if object.kind == Kind::MeshService {
        return vec![of(object)];
    }
    // A MeshMultiZoneService: the caller's zone first, then all others that say they are available.
    let empty = Map::new();
    let selector = &object.spec()["selector"]["meshService"]["matchLabels"];
    let labels = selector.as_object().unwrap_or(&empty);
    let members: BTreeSet<_> = store
        .all(Kind::MeshService)
        .filter(|s| s.mesh == dataplane.mesh && s.has_labels(labels))
        .filter(|s| s.spec()["state"] == "Available")
        .map(|s| (s.label(ZONE) != dataplane.label(ZONE), of(s)))
        .collect();
    let group = |away: bool| {
        let here = members.iter().filter(|(a, _)| *a == away);
        here.flat_map(|(_, all)| all.clone()).collect()
    };
    vec![group(false), group(true)]
}

fn prefix_root() -> RouteMatch {
    RouteMatch {
        path: Some(PathTest::Prefix("/".into())),
        ..RouteMatch::default()
    }
}

fn route_match(value: &Value) -> RouteMatch {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let path = value.get("path").map(|path| {
        let of = text(&path["value"]);
        match path["type"].as_str() {
            Some("Exact") => PathTest::Exact(of),
            Some("RegularExpression") => PathTest::Regex(of),
            _ => PathTest::Prefix(of),
        }
    });
    let tests = |key: &str| {
        let test = |entry: &Value| {
            let of = text(&entry["value"]);
            let test = match entry["type"].as_str() {
                Some("Present") => Test::Present,
                Some("Absent") => Test::Absent,
                Some("Prefix") => Test::Prefix(of),
                Some("RegularExpression") => Test::Regex(of),
                _ => Test::Exact(of),
            };
            (text(&entry["name"]), test)
        };
        list(value, key).iter().map(test).collect()
    };
    RouteMatch {
        path,
        method: value["method"].as_str().map(str::to_owned),
        headers: tests("headers"),
        query: tests("queryParams"),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn socket(address: &Value, port: &Value) -> Option<SocketAddr> {
    let port = u16::try_from(port.as_u64()?).ok()?;
    Some(SocketAddr::new(address.as_str()?.parse().ok()?, port))
}
