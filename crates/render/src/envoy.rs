//! What an Envoy really runs: from its configuration dump back to an item's weights, or why they cannot be told.
//!
//! Only active listeners count. Routes of a listener that drains stay in the dump for as long as it does, under the same
//! name (`kuma.md` R3); they are in no active listener. Everything is compared as values.

mod called;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_model::{BackendName, BasisPoints, Protocol, ValueMatch};
use weir_planner::{Destination, Item, ProvenWeights, ServiceFact};

use crate::expected::{self, Conditions, Path};
use called::Number;
pub(crate) use called::{Called, called};

/// What one Envoy does with requests to an item's service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// No active listener of it is for this service and port: it does not call it.
    NotCalling,
    /// It has exactly the item's routes, in the item's order, each with these weights. A backend that is missing has 0.
    Weights(ProvenWeights),
    /// It has other routes, or sends somewhere that no route of the item names: what was found first.
    Different(String),
    /// It calls the service, and how it does cannot be read.
    Unknown(String),
}

/// Reads a dump: of `/config_dump?resource=dynamic_listeners`, or a whole one as control planes hand it out. `services`
/// are those of the zone: by them a port is known that goes by a name which the item does not have.
pub fn weights(item: &Item, dump: &Value, services: &[ServiceFact]) -> Live {
    let Some(listeners) = listeners(dump) else {
        return Live::Unknown("the configuration dump has no list of listeners".to_owned());
    };
    let mut agreed: Option<ProvenWeights> = None;
    let mut ours = BTreeSet::new();
    let mut unknown = Vec::new();
    let number = item.port.to_string();
    let is_port = |at: &str| at == number || item.port_names.iter().any(|name| name.as_str() == at);
    for listener in listeners {
        let name = listener
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("without a name");
        let Some(active) = listener.pointer("/active_state/listener") else {
            continue; // warming or draining: no request goes through it
        };
        match called(item.mesh.as_str(), item.service.as_str(), is_port, active) {
            Called::Other => continue,
            Called::Unclear => {
                return Live::Unknown(format!("listener {name} does not say which service it is for"));
            }
            Called::Named(kri) => {
                unknown.push((name, kri));
                continue;
            }
            Called::This(kri) => {
                if let Some(called) = kri.named(item.port, services) {
                    return Live::Different(format!(
                        "its outbound names port {} of MeshService {} of Kuma zone {} by number, and Kuma lets a policy reach \
                         a port that is called {called} by that name alone; callers that name ports by number get a split by \
                         the MeshMultiZoneService, or once the port has no name",
                        item.port, item.service, kri.zone
                    ))
                    .at(name);
                }
                ours.insert(kri.destination());
            }
        }
        let found = match read(item, active) {
            Ok(found) => found,
            Err(live) => return live.at(name),
        };
        match &agreed {
            Some(before) if *before != found => {
                return Live::Different(format!(
                    "listener {name} has other weights than the one before it"
                ));
            }
            _ => agreed = Some(found),
        }
    }
    for (name, kri) in unknown {
        match kri.number(services) {
            // The callers of a port that Kuma knows by another name are not split.
            Number::Of(port, fact) if port == item.port => {
                let what = fact
                    .unsplit(item)
                    .unwrap_or_else(|| format!("its port is called {}", kri.port));
                return Live::Different(what).at(name);
            }
            Number::Of(..) => {}
            // Where this proxy calls the split's port of the same destination, this is another of its ports.
            Number::Unknown if ours.contains(&kri.destination()) => {}
            Number::Unknown => {
                return Live::Unknown(format!(
                    "which port of {} is called {} is not known; if it is {}, add it to portNames of split {}",
                    item.service, kri.port, item.port, item.split
                ))
                .at(name);
            }
        }
    }
    agreed.map_or(Live::NotCalling, Live::Weights)
}

impl Live {
    fn at(self, listener: &str) -> Self {
        match self {
            Self::Different(what) => Self::Different(format!("listener {listener}: {what}")),
            Self::Unknown(why) => Self::Unknown(format!("listener {listener}: {why}")),
            other => other,
        }
    }
}

/// Dynamic listeners, whether they stand alone or in the dump's own list of them. An Envoy without any answers `{}`.
pub(crate) fn listeners(dump: &Value) -> Option<Vec<&Value>> {
    let dump = dump.as_object()?;
    let configs = match dump.get("configs") {
        None => return dump.is_empty().then(Vec::new),
        Some(configs) => configs.as_array()?,
    };
    let mut found = Vec::new();
    for config in configs {
        let kind = config.get("@type").and_then(Value::as_str)?;
        if kind.ends_with("ListenersConfigDump.DynamicListener") {
            found.push(config);
        } else if kind.ends_with("ListenersConfigDump") {
            found.extend(
                config
                    .get("dynamic_listeners")
                    .map_or(Some([].as_slice()), |all| all.as_array().map(Vec::as_slice))?,
            );
        } else if !kind.ends_with("ConfigDump") {
            return None; // what it is we do not know, so neither what is missing
        }
    }
    Some(found)
}

/// The name that says what an outbound listener is for.
pub(crate) fn unified_name(listener: &Value) -> Option<&str> {
    let tags = listener.pointer("/metadata/filter_metadata/io.kuma.tags");
    tags.and_then(|tags| tags.get("kuma.io/unified-name"))
        .and_then(Value::as_str)
        .or_else(|| manager(listener)?.pointer("/route_config/name")?.as_str())
}

/// The network filters of all chains that are of this type.
fn filters<'a>(listener: &'a Value, kind: &str) -> Vec<&'a Value> {
    let chains = listener
        .get("filter_chains")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let filters = chains.flat_map(|chain| {
        chain
            .get("filters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    });
    let configs = filters.filter_map(|filter| filter.get("typed_config"));
    configs
        .filter(|config| {
            let of = config.get("@type").and_then(Value::as_str);
            of.is_some_and(|of| of.ends_with(kind))
        })
        .collect()
}

pub(crate) fn manager(listener: &Value) -> Option<&Value> {
    filters(listener, ".HttpConnectionManager").first().copied()
}

fn read(item: &Item, listener: &Value) -> Result<ProvenWeights, Live> {
    let unknown = |why: &str| Err(Live::Unknown(why.to_owned()));
    if listener
        .get("default_filter_chain")
        .is_some_and(|chain| !chain.is_null())
    {
        return unknown("it has a default filter chain, which Kuma never writes for a service");
    }
    let managers = filters(listener, ".HttpConnectionManager");
    let proxies = filters(listener, ".TcpProxy");
    match (item.protocol, managers.as_slice(), proxies.as_slice()) {
        (Protocol::Tcp, [], [proxy]) => {
            let [route] = item.routes.as_slice() else {
                return unknown("the plan has not exactly one route for tcp");
            };
            let weights = shares(item, proxy)?;
            Ok(BTreeMap::from([(route.name.clone(), weights)]))
        }
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, [manager], []) => http(item, manager),
        (_, [], []) => unknown("it has neither an HTTP connection manager nor a TCP proxy"),
        (Protocol::Tcp, [_], []) => Err(Live::Different(
            "it is read as HTTP, and the split is tcp".to_owned(),
        )),
        (_, [], [_]) => Err(Live::Different(format!(
            "it is read as TCP, and the split is {}",
            item.protocol
        ))),
        _ => unknown("it has more than one filter that routes"),
    }
}

fn http(item: &Item, manager: &Value) -> Result<ProvenWeights, Live> {
    let unknown = |why: &str| Live::Unknown(why.to_owned());
    let config = manager
        .get("route_config")
        .ok_or_else(|| unknown("its routes are not inline"))?;
    let hosts = config.get("virtual_hosts").and_then(Value::as_array);
    let [host] = hosts
        .ok_or_else(|| unknown("it has no virtual hosts"))?
        .as_slice()
    else {
        return Err(unknown("it has not exactly one virtual host"));
    };
    // Requests for another host find no route at all.
    let domains = host.get("domains").and_then(Value::as_array);
    if !domains.is_some_and(|all| all.iter().any(|domain| domain == "*")) {
        return Err(unknown("its virtual host is not for every host name"));
    }
    let routes = host.get("routes").and_then(Value::as_array);
    let mut live = Vec::new();
    for route in routes.ok_or_else(|| unknown("its virtual host has no routes"))? {
        let conditions = conditions(route.get("match").unwrap_or(&Value::Null))
            .map_err(|why| Live::Unknown(format!("a route has a condition that cannot be read: {why}")))?;
        if !conditions.is_anchor(&item.anchor) {
            live.push((conditions, route));
        }
    }
    let wanted = item.routes.iter().flat_map(|route| {
        expected::conditions(&route.matches)
            .into_iter()
            .map(move |conditions| (&route.name, conditions))
    });
    let mut live = live.into_iter();
    let mut found = ProvenWeights::new();
    for (name, wanted) in wanted {
        let Some((is, route)) = live.next() else {
            return Err(Live::Different(format!("route {name} is missing")));
        };
        if is != wanted {
            let what = format!("where route {name} should be, a route with other conditions comes first");
            return Err(Live::Different(what));
        }
        let action = route
            .get("route")
            .ok_or_else(|| Live::Different(format!("route {name} does not forward")))?;
        let weights = shares(item, action)?;
        // Both Envoy routes of one prefix must say the same.
        if found.get(name).is_some_and(|before| *before != weights) {
            return Err(Live::Different(format!("route {name} has two sets of weights")));
        }
        found.insert(name.clone(), weights);
    }
    if live.next().is_some() {
        return Err(Live::Different(
            "it has routes after the last planned one".to_owned(),
        ));
    }
    Ok(found)
}

/// Weights of a route action or a TCP proxy, brought to basis points of their sum.
fn shares(item: &Item, action: &Value) -> Result<BTreeMap<BackendName, BasisPoints>, Live> {
    let clusters = expected::clusters(item);
    let mut parts: Vec<(&str, u64)> = Vec::new();
    match (action.get("cluster"), action.get("weighted_clusters")) {
        (Some(one), None) => {
            let name = one
                .as_str()
                .ok_or_else(|| Live::Unknown("a cluster has no name".to_owned()))?;
            parts.push((name, 1));
        }
        (None, Some(several)) => {
            // A header or a runtime key can decide in the weights' place; Kuma writes neither.
            if let Some(more) = several
                .as_object()
                .and_then(|fields| fields.keys().find(|key| *key != "clusters"))
            {
                return Err(Live::Unknown(format!(
                    "weighted clusters have {more}, which is not known"
                )));
            }
            let all = several.get("clusters").and_then(Value::as_array);
            for part in all.ok_or_else(|| Live::Unknown("weighted clusters are no list".to_owned()))? {
                let name = part.get("name").and_then(Value::as_str);
                let weight = part.get("weight").map_or(Some(0), Value::as_u64);
                // Envoy's weights have 32 bits: a sum of as many as fit in a dump has 64.
                let weight = weight.filter(|weight| u32::try_from(*weight).is_ok());
                match (name, weight) {
                    (Some(name), Some(weight)) => parts.push((name, weight)),
                    _ => {
                        return Err(Live::Unknown(
                            "a weighted cluster has no name or no whole weight".to_owned(),
                        ));
                    }
                }
            }
        }
        _ => {
            return Err(Live::Different(
                "a route forwards neither to a cluster nor to weighted ones".to_owned(),
            ));
        }
    }
    let mut sums: BTreeMap<&Destination, u64> = BTreeMap::new();
    for (name, weight) in &parts {
        let to = clusters.get(*name);
        let to =
            to.ok_or_else(|| Live::Different(format!("it sends to {name}, which the split does not name")))?;
        *sums.entry(to).or_default() += weight;
    }
    let total: u64 = sums.values().sum();
    if total == 0 {
        return Err(Live::Different("all its weights are 0".to_owned()));
    }
    let mut weights = BTreeMap::new();
    for (to, weight) in sums {
        let whole = u64::from(BasisPoints::WHOLE.get());
        let share = u128::from(weight) * u128::from(whole);
        let (share, rest) = (share / u128::from(total), share % u128::from(total));
        let share = u32::try_from(share)
            .ok()
            .and_then(|share| BasisPoints::new(share).ok())
            .filter(|_| rest == 0);
        let backend = backend(item, to);
        match (share, backend) {
            (Some(share), Some(backend)) => weights.insert(backend, share),
            (None, Some(backend)) => {
                return Err(Live::Different(format!(
                    "backend {backend} has {weight} of {total}, no weight of ours"
                )));
            }
            (_, None) => return Err(Live::Different("it sends to a backend that retires".to_owned())),
        };
    }
    Ok(weights)
}

/// The declared backend at a destination.
fn backend(item: &Item, at: &Destination) -> Option<BackendName> {
    let mut found = item
        .destinations
        .iter()
        .filter(|(name, to)| *to == at && !item.retiring.contains(*name));
    found.next().map(|(name, _)| name.clone())
}

pub(crate) fn conditions(of: &Value) -> Result<Conditions, String> {
    let of = of.as_object().ok_or("there is none")?;
    let mut path = None;
    let mut headers = BTreeSet::new();
    let mut query = BTreeSet::new();
    for (key, value) in of {
        let text = || {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("{key} is no text"))
        };
        let found = match key.as_str() {
            "prefix" => Path::Prefix(text()?),
            "path" => Path::Exact(text()?),
            "safe_regex" => {
                let regex = value.get("regex").and_then(Value::as_str);
                Path::Regex(regex.ok_or("safe_regex has no regex")?.to_owned())
            }
            "headers" => {
                headers = named(value, |name| name.to_lowercase())?;
                continue;
            }
            "query_parameters" => {
                query = named(value, str::to_owned)?;
                continue;
            }
            other => return Err(format!("{other} is not known")),
        };
        if path.replace(found).is_some() {
            return Err("it has two paths".to_owned());
        }
    }
    Ok(Conditions {
        path: path.ok_or("it has no path")?,
        headers,
        query,
    })
}

/// Conditions on named values; anything but an exact value or a regular expression is not ours and not known here.
fn named(of: &Value, normal: impl Fn(&str) -> String) -> Result<BTreeSet<(String, ValueMatch)>, String> {
    let mut found = BTreeSet::new();
    for one in of.as_array().ok_or("conditions are no list")? {
        let name = one
            .get("name")
            .and_then(Value::as_str)
            .ok_or("a condition has no name")?;
        let fields = one.as_object().map_or(0, serde_json::Map::len);
        let value = one.get("string_match").and_then(Value::as_object);
        let value = value.filter(|value| value.len() == 1 && fields == 2);
        let value = value.ok_or_else(|| format!("the condition on {name} is not known"))?;
        let exact = value.get("exact").and_then(Value::as_str);
        let regex = value
            .get("safe_regex")
            .and_then(|regex| regex.get("regex")?.as_str());
        let value = match (exact, regex) {
            (Some(exact), None) => ValueMatch::Exact(exact.to_owned()),
            (None, Some(regex)) => ValueMatch::Regex(regex.to_owned()),
            _ => return Err(format!("the condition on {name} is not known")),
        };
        if !found.insert((normal(name), value)) {
            return Err(format!("the condition on {name} is there twice"));
        }
    }
    Ok(found)
}
