//! Answers without what differs from run to run: times, ids, addresses, ports that were picked, counts.

use serde_json::{Map, Value, json};
use weir_sandbox::real::rest::Answer;

/// What is left of a body. The rest is Envoy's own business and read by nobody here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Everything.
    None,
    /// These fields of an object.
    Fields(&'static [&'static str]),
    /// From a configuration dump: the active outbound listeners, each with its address, routes and clusters.
    Listeners,
    /// From statistics: the names of the counters of clusters.
    Counters,
    /// From overviews: the proxy, and its last session without builds and what it told of its machine.
    Overview,
    /// From what a control plane would send: the names of the outbound listeners.
    Computed,
}

impl Cut {
    /// In words, for the recording.
    pub fn what(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Fields(fields) => Some(format!("cut to {}", fields.join(", "))),
            Self::Listeners => {
                Some("cut to the active outbound listeners: address, routes, clusters".to_owned())
            }
            Self::Counters => Some("cut to the names of the counters".to_owned()),
            Self::Overview => Some("cut to the proxy and its last session".to_owned()),
            Self::Computed => Some("cut to the names of the outbound listeners".to_owned()),
        }
    }

    fn of(self, body: Value) -> Value {
        match self {
            Self::None => body,
            Self::Fields(fields) => {
                let one = |field: &&str| Some(((*field).to_owned(), body.get(*field)?.clone()));
                fields.iter().filter_map(one).collect::<Map<_, _>>().into()
            }
            Self::Listeners => listeners(&body),
            Self::Counters => counters(&body),
            Self::Overview => overview(body),
            Self::Computed => computed(&body),
        }
    }
}

/// Status, content type and body.
pub fn response(answer: &Answer, cut: Cut) -> Value {
    let body = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(body) => cut.of(body),
        Err(_) => answer.text().into(),
    };
    json!({"status": answer.status.as_u16(), "content_type": answer.content_type, "body": normal("", body)})
}

fn normal(key: &str, value: Value) -> Value {
    match value {
        Value::Object(all) => {
            // JSON objects have no order.
            all.into_iter()
                .map(|(k, v)| {
                    let v = normal(&k, v);
                    (text(&k), v)
                })
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(all) => all.into_iter().map(|v| normal(key, v)).collect(),
        Value::String(said) => string(key, &said).into(),
        Value::Number(number) => match number.as_u64() {
            // Where the sandbox picks ports.
            Some(20_000..32_000) => "<port>".into(),
            _ => Value::Number(number),
        },
        other => other,
    }
}

fn string(key: &str, said: &str) -> String {
    match key {
        "instanceId" | "clusterId" | "controlPlaneInstanceId" | "id" | "hostname"
            if !said.contains(".mesh.local") =>
        {
            return format!("<{key}>");
        }
        "responsesSent" | "responsesAcknowledged" => return "<count>".to_owned(),
        _ => {}
    }
    if said.parse::<jiff::Timestamp>().is_ok() {
        return "<time>".to_owned();
    }
    text(said)
}

/// Addresses and ports inside a text.
fn text(said: &str) -> String {
    let mut out = String::new();
    let mut rest = said;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (word, more) = rest.split_at(length);
        let port = word.parse::<u32>().is_ok_and(|n| (20_000..32_000).contains(&n)) && out.ends_with(':');
        match word.parse::<std::net::Ipv4Addr>() {
            Ok(ip) if ip.octets()[0] == 241 => out.push_str("<virtual address>"),
            Ok(ip) if ip.is_loopback() && ip.octets() != [127, 0, 0, 1] => out.push_str("<address>"),
            _ if port => out.push_str("<port>"),
            _ => out.push_str(word),
        }
        rest = more;
    }
    out + rest
}

/// `configs` of a dump, whole or of one resource.
fn listeners(dump: &Value) -> Value {
    let configs = dump["configs"].as_array().cloned().unwrap_or_default();
    let nested = |config: &Value| config["dynamic_listeners"].as_array().cloned();
    let all = configs
        .iter()
        .flat_map(|config| nested(config).unwrap_or_else(|| vec![config.clone()]));
    let mut out: Vec<Value> = all.filter_map(|listener| outbound(&listener)).collect();
    out.sort_by_key(|listener| listener["port"].as_u64());
    json!({"listeners": out})
}

fn outbound(listener: &Value) -> Option<Value> {
    let active = &listener["active_state"]["listener"];
    if active["traffic_direction"] != "OUTBOUND" {
        return None;
    }
    let address = &active["address"]["socket_address"];
    let chains = active["filter_chains"].as_array()?;
    let filters = chains
        .iter()
        .flat_map(|chain| chain["filters"].as_array().into_iter().flatten());
    let filters = filters.map(|filter| {
        let config = &filter["typed_config"];
        let mut out =
            json!({"name": filter["name"], "type": config["@type"], "stat_prefix": config["stat_prefix"]});
        for key in ["cluster", "weighted_clusters"] {
            if !config[key].is_null() {
                out[key] = clusters(&config[key]);
            }
        }
        if let Some(hosts) = config["route_config"]["virtual_hosts"].as_array() {
            out["route_config"] = config["route_config"]["name"].clone();
            out["virtual_hosts"] = hosts.iter().map(virtual_host).collect();
        }
        out
    });
    Some(json!({
        "name": listener["name"], "address": address["address"], "port": address["port_value"],
        "filters": filters.collect::<Vec<_>>(), "metadata": active["metadata"],
    }))
}

fn virtual_host(host: &Value) -> Value {
    let route = |route: &Value| {
        let mut out = json!({"name": route["name"], "match": route["match"]});
        for key in ["cluster", "weighted_clusters"] {
            if !route["route"][key].is_null() {
                out[key] = clusters(&route["route"][key]);
            }
        }
        out
    };
    let routes = host["routes"].as_array().into_iter().flatten().map(route);
    json!({"name": host["name"], "domains": host["domains"], "routes": routes.collect::<Vec<_>>()})
}

/// Name and weight of each.
fn clusters(given: &Value) -> Value {
    match given["clusters"].as_array() {
        None => given.clone(),
        Some(all) => all
            .iter()
            .map(|c| json!({"name": c["name"], "weight": c["weight"]}))
            .collect(),
    }
}

fn counters(stats: &Value) -> Value {
    let all = stats["stats"].as_array().into_iter().flatten();
    let mut names: Vec<&str> = all.filter_map(|stat| stat["name"].as_str()).collect();
    names.retain(|name| name.starts_with("cluster.default_") || *name == "server.uptime");
    // Envoy counts most answers a second time, as external ones: nobody here reads those.
    names.retain(|name| !name.contains(".external."));
    names.sort_unstable();
    json!({"counters": names})
}

fn computed(config: &Value) -> Value {
    let listeners = config["xds"]["type.googleapis.com/envoy.config.listener.v3.Listener"].as_object();
    let names = listeners.into_iter().flat_map(|all| all.keys());
    let mut names: Vec<&String> = names.filter(|name| name.starts_with("outbound:")).collect();
    names.sort_unstable();
    json!({"listeners": names})
}

/// One session is left, the last, as the one that counts.
fn overview(mut body: Value) -> Value {
    let cut = |one: &mut Value| {
        let sessions = one.pointer_mut("/dataplaneInsight/subscriptions");
        if let Some(sessions) = sessions.and_then(Value::as_array_mut) {
            sessions.drain(..sessions.len().saturating_sub(1));
            for field in ["/0/version/envoy", "/0/version/kumaDp"] {
                let version = one.pointer_mut(&format!("/dataplaneInsight/subscriptions{field}"));
                if let Some(version) = version.and_then(Value::as_object_mut) {
                    version.retain(|key, _| {
                        !matches!(key.as_str(), "build" | "buildDate" | "gitCommit" | "gitTag")
                    });
                }
            }
        }
        if let Some(insight) = one["dataplaneInsight"].as_object_mut() {
            insight.remove("metadata");
        }
    };
    match body.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) => items.iter_mut().for_each(cut),
        None => cut(&mut body),
    }
    body
}
