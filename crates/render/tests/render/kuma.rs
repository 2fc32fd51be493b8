//! A test's idea of Kuma: from a policy's `spec` to the Envoy listeners of a caller. Written from `kuma.md`, independent
//! of the room that it tests: rules sorted by how specific they are, weight 0 left out, a prefix in two routes.

use serde_json::{Value, json};

/// The dump of a caller, as `/config_dump?resource=dynamic_listeners` gives it; one listener for each way of calling.
pub(crate) fn dump(spec: &Value) -> Value {
    let mut configs = vec![json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
        "name": "inbound:127.0.0.1:80",
        "active_state": { "listener": { "traffic_direction": "INBOUND", "filter_chains": [] } },
    })];
    for (at, service) in [
        "kri_mzsvc_default___checkout_8080",
        "kri_msvc_default_fra__checkout_8080",
    ]
    .into_iter()
    .enumerate()
    {
        let rules = spec
            .pointer(&format!("/to/{}/rules", 1 - at))
            .and_then(Value::as_array);
        configs.push(listener(
            &format!("outbound:127.0.0.{at}:80"),
            service,
            rules.expect("rules"),
        ));
    }
    json!({ "configs": configs })
}

fn listener(name: &str, service: &str, rules: &[Value]) -> Value {
    let filter = if rules.iter().all(|rule| rule.get("matches").is_none()) {
        let mut filter = action(&rules[0]);
        filter["@type"] = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy".into();
        filter
    } else {
        let mut sorted: Vec<_> = rules.iter().collect();
        sorted.sort_by_key(|rule| std::cmp::Reverse(rank(&rule["matches"][0])));
        let routes: Vec<_> = sorted.into_iter().flat_map(routes).collect();
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "route_config": { "name": service, "virtual_hosts": [{ "domains": ["*"], "routes": routes }] },
        })
    };
    json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
        "name": name,
        "active_state": { "version_info": "1", "listener": {
            "name": name,
            "traffic_direction": "OUTBOUND",
            "metadata": { "filter_metadata": { "io.kuma.tags": { "kuma.io/unified-name": service } } },
            "filter_chains": [{ "filters": [{ "name": "it", "typed_config": filter }] }],
        } },
    })
}

fn rank(of: &Value) -> (u8, usize, bool, usize, usize) {
    let value = of["path"]["value"].as_str().expect("every match has a path");
    let (kind, length) = match of["path"]["type"].as_str() {
        Some("Exact") => (3, 0),
        Some("PathPrefix") => (2, value.len()),
        _ => (1, value.len()),
    };
    let count = |list: &str| of[list].as_array().map_or(0, Vec::len);
    (
        kind,
        length,
        of.get("method").is_some(),
        count("headers"),
        count("queryParams"),
    )
}

fn routes(rule: &Value) -> Vec<Value> {
    let of = &rule["matches"][0];
    let value = of["path"]["value"].as_str().expect("a path");
    let paths = match of["path"]["type"].as_str() {
        Some("Exact") => vec![json!({ "path": value })],
        Some("PathPrefix") if value != "/" => {
            vec![json!({ "path": value }), json!({ "prefix": format!("{value}/") })]
        }
        Some("PathPrefix") => vec![json!({ "prefix": "/" })],
        _ => vec![json!({ "safe_regex": { "regex": value } })],
    };
    let named = |list: &str| {
        let all = of[list].as_array().into_iter().flatten();
        let one = |one: &Value| match one["type"].as_str() {
            Some("Exact") => json!({ "name": one["name"], "string_match": { "exact": one["value"] } }),
            _ => json!({ "name": one["name"], "string_match": { "safe_regex": { "regex": one["value"] } } }),
        };
        all.map(one).collect::<Vec<_>>()
    };
    let mut headers = named("headers");
    if let Some(method) = of.get("method") {
        headers.insert(
            0,
            json!({ "name": ":method", "string_match": { "exact": method } }),
        );
    }
    let query = named("queryParams");
    paths
        .into_iter()
        .map(|mut path| {
            if !headers.is_empty() {
                path["headers"] = headers.clone().into();
            }
            if !query.is_empty() {
                path["query_parameters"] = query.clone().into();
            }
            json!({ "match": path, "route": action(rule) })
        })
        .collect()
}

fn action(rule: &Value) -> Value {
    let references = rule["default"]["backendRefs"]
        .as_array()
        .expect("references")
        .iter();
    let clusters: Vec<_> = references
        .filter(|one| one["weight"] != 0)
        .map(|one| {
            let label = |key: &str| one["labels"][key].as_str().unwrap_or_default();
            let name = format!(
                "default_{}_{}_{}_msvc_{}",
                label("kuma.io/display-name"),
                label("k8s.kuma.io/namespace"),
                label("kuma.io/zone"),
                one["port"]
            );
            json!({ "name": name, "weight": one["weight"] })
        })
        .collect();
    match clusters.as_slice() {
        [one] => json!({ "cluster": one["name"] }),
        _ => json!({ "weighted_clusters": { "clusters": clusters } }),
    }
}
