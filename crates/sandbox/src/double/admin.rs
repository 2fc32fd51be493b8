//! A proxy as Envoy's admin interface shows it: `/config_dump`, `/stats`, `/clusters`, in Envoy's own shape.
//!
//! Pure but for the counters that it reads. Changed when a recording says otherwise.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::pattern::Pattern;
use super::proxy::{Counters, Incarnation, Proxy, State};
use super::rest::decode;
use super::routes::{ListenerKind, PathTest, Route, Test, Weighted};

/// An answer: status, content type, body.
pub type Page = (u16, &'static str, String);

const TYPES: &str = "type.googleapis.com";

/// Answers one GET.
pub fn page(proxy: &Proxy, target: &str) -> Page {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        let mut pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        pairs.find(|(n, _)| *n == name).map(|(_, v)| decode(v))
    };
    let json = |value: Value| (200, "application/json", value.to_string());
    let state = proxy.state();
    match path {
        "/config_dump" => match parameter("resource").as_deref() {
            None => {
                json(json!({"configs": [clusters_dump(&state), listeners_dump(&state), routes_dump(&state)]}))
            }
            Some("dynamic_listeners") => {
                let kind = format!("{TYPES}/envoy.admin.v3.ListenersConfigDump.DynamicListener");
                json(json!({"configs": tagged(&kind, listeners(&state))}))
            }
            Some("dynamic_active_clusters") => {
                let kind = format!("{TYPES}/envoy.admin.v3.ClustersConfigDump.DynamicCluster");
                json(json!({"configs": tagged(&kind, clusters(&state))}))
            }
            Some(other) => (404, "text/plain", format!("{other} not found in config dump")),
        },
        "/stats" => {
            let filter = parameter("filter").and_then(|f| Pattern::new(&f));
            let mut all = stats(&state);
            all.retain(|(name, _)| filter.as_ref().is_none_or(|f| f.is_in(name)));
            if query
                .split('&')
                .any(|p| p.split('=').next() == Some("usedonly") && !p.ends_with("=false"))
            {
                all.retain(|(_, used)| used.1);
            }
            if parameter("format").as_deref() == Some("json") {
                let one = |(name, (value, _)): &(String, (u64, bool))| json!({"name": name, "value": value});
                let mut all: Vec<Value> = all.iter().map(one).collect();
                let mut histograms = match parameter("histogram_buckets").as_deref() {
                    Some("disjoint") => histograms(&state),
                    _ => Vec::new(),
                };
                histograms.retain(|(name, _)| filter.as_ref().is_none_or(|f| f.is_in(name)));
                if !histograms.is_empty() {
                    let histograms: Vec<Value> = histograms.into_iter().map(|(_, shown)| shown).collect();
                    all.push(json!({"histograms": histograms}));
                }
                json(json!({"stats": all}))
            } else {
                let lines = all.iter().map(|(name, (value, _))| format!("{name}: {value}\n"));
                (200, "text/plain; charset=UTF-8", lines.collect())
            }
        }
        "/clusters" => json(cluster_statuses(&state)),
        "/ready" => (200, "text/plain; charset=UTF-8", "LIVE\n".into()),
        "/server_info" => json(json!({
            "version": format!("0/{}/Double/DEBUG/none", super::ENVOY_VERSION), "state": "LIVE",
        })),
        _ => (404, "text/plain; charset=UTF-8", "invalid path\n".into()),
    }
}

fn tagged(kind: &str, all: Vec<Value>) -> Vec<Value> {
    let tag = |mut value: Value| {
        value["@type"] = kind.into();
        value
    };
    all.into_iter().map(tag).collect()
}

fn clusters_dump(state: &State) -> Value {
    json!({
        "@type": format!("{TYPES}/envoy.admin.v3.ClustersConfigDump"),
        "version_info": state.version, "dynamic_active_clusters": clusters(state),
    })
}

fn clusters(state: &State) -> Vec<Value> {
    let one = |(name, running): (&String, &std::sync::Arc<super::proxy::Running>)| {
        json!({
            "version_info": state.version,
            "cluster": {
                "@type": format!("{TYPES}/envoy.config.cluster.v3.Cluster"), "name": name, "type": "EDS",
                "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
                "connect_timeout": "5s",
            },
            "last_updated": milliseconds(running.since),
        })
    };
    state.clusters.iter().map(one).collect()
}

fn listeners_dump(state: &State) -> Value {
    json!({
        "@type": format!("{TYPES}/envoy.admin.v3.ListenersConfigDump"),
        "version_info": state.version, "dynamic_listeners": listeners(state),
    })
}

fn listeners(state: &State) -> Vec<Value> {
    let one = |(name, slot): (&String, &super::proxy::Slot)| {
        let mut out = json!({"name": name, "active_state": listener_state(name, &slot.active)});
        if let Some((old, until)) = &slot.draining
            && *until > Instant::now()
        {
            out["draining_state"] = listener_state(name, old);
        }
        out
    };
    state.listeners.iter().map(one).collect()
}

/// The routes of draining listeners are listed beside those of active ones, under the same name.
fn routes_dump(state: &State) -> Value {
    let mut all = Vec::new();
    for slot in state.listeners.values() {
        let draining = slot
            .draining
            .iter()
            .filter(|(_, until)| *until > Instant::now())
            .map(|(old, _)| old);
        for incarnation in draining.chain([&slot.active]) {
            if let Some(mut config) = route_config(incarnation) {
                config["@type"] = format!("{TYPES}/envoy.config.route.v3.RouteConfiguration").into();
                all.push(json!({"route_config": config, "last_updated": milliseconds(incarnation.since)}));
            }
        }
    }
    json!({"@type": format!("{TYPES}/envoy.admin.v3.RoutesConfigDump"), "static_route_configs": all})
}

fn milliseconds(at: jiff::Timestamp) -> String {
    format!("{at:.3}")
}

fn listener_state(name: &str, incarnation: &Incarnation) -> Value {
    let listener = &incarnation.listener;
    let address = json!({"socket_address": {
        "address": listener.address.ip().to_string(), "port_value": listener.address.port(),
    }});
    let (filter, direction, unified) = filter(incarnation);
    let mut body = json!({
        "@type": format!("{TYPES}/envoy.config.listener.v3.Listener"), "name": name, "address": address,
        "filter_chains": [{"filters": [filter]}], "traffic_direction": direction,
    });
    if let Some(unified) = unified {
        body["metadata"] = json!({"filter_metadata": {"io.kuma.tags": {"kuma.io/unified-name": unified}}});
    }
    json!({"version_info": incarnation.version, "listener": body, "last_updated": milliseconds(incarnation.since)})
}

fn filter(incarnation: &Incarnation) -> (Value, &'static str, Option<&str>) {
    let manager = |prefix: &str, config: Value| {
        json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{TYPES}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": prefix, "route_config": config,
                "http_filters": [{"name": "envoy.filters.http.router"}],
                "normalize_path": true, "common_http_protocol_options": {"idle_timeout": "0s"},
            },
        })
    };
    match &incarnation.listener.kind {
        ListenerKind::Inbound { app, .. } => {
            let prefix = format!("localhost_{}", app.port());
            let config = route_config(incarnation).unwrap_or_default();
            (manager(&prefix, config), "INBOUND", None)
        }
        ListenerKind::Http {
            route_config: name,
            virtual_host,
            ..
        } => {
            let config = route_config(incarnation).unwrap_or_default();
            (manager(virtual_host, config), "OUTBOUND", Some(name))
        }
        ListenerKind::Tcp {
            destination,
            stat_prefix,
            clusters,
        } => {
            let mut config = Map::new();
            config.insert(
                "@type".into(),
                format!("{TYPES}/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy").into(),
            );
            config.insert("stat_prefix".into(), stat_prefix.clone().into());
            config.extend(to_clusters(clusters));
            let filter = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config});
            (filter, "OUTBOUND", Some(destination))
        }
    }
}

fn route_config(incarnation: &Incarnation) -> Option<Value> {
    match &incarnation.listener.kind {
        ListenerKind::Tcp { .. } => None,
        ListenerKind::Inbound { service, app } => Some(json!({
            "name": format!("inbound:{service}"), "validate_clusters": false,
            "virtual_hosts": [{"name": service, "domains": ["*"], "routes": [{
                "match": {"prefix": "/"},
                "route": {"cluster": format!("localhost:{}", app.port()), "timeout": "0s"},
            }]}],
            "request_headers_to_remove": ["x-kuma-tags"],
        })),
        ListenerKind::Http {
            route_config,
            virtual_host,
            routes,
        } => Some(json!({
            "name": route_config, "validate_clusters": false,
            "virtual_hosts": [{
                "name": virtual_host, "domains": ["*"], "routes": routes.iter().flat_map(route).collect::<Vec<_>>(),
            }],
        })),
    }
}

/// A route in Envoy's words: a prefix other than `/` becomes two.
fn route(route: &Route) -> Vec<Value> {
    let paths = match &route.matches.path {
        None => vec![json!({"prefix": "/"})],
        Some(PathTest::Exact(path)) => vec![json!({"path": path})],
        Some(PathTest::Regex(path)) => vec![json!({"safe_regex": {"regex": path}})],
        Some(PathTest::Prefix(path)) if path == "/" => vec![json!({"prefix": "/"})],
        Some(PathTest::Prefix(path)) => vec![json!({"path": path}), json!({"prefix": format!("{path}/")})],
    };
    let mut headers: Vec<Value> = route
        .matches
        .headers
        .iter()
        .map(|(name, test)| header(name, test))
        .collect();
    if let Some(method) = &route.matches.method {
        headers.push(header(":method", &Test::Exact(method.clone())));
    }
    let query: Vec<Value> = route
        .matches
        .query
        .iter()
        .map(|(name, test)| header(name, test))
        .collect();
    let one = |mut matches: Value| {
        if !headers.is_empty() {
            matches["headers"] = headers.clone().into();
        }
        if !query.is_empty() {
            matches["query_parameters"] = query.clone().into();
        }
        let mut action = to_clusters(&route.clusters);
        action.insert("timeout".into(), "15s".into());
        action.insert("idle_timeout".into(), "1800s".into());
        action.insert("retry_policy".into(), json!({
            "retry_on": "gateway-error,connect-failure,refused-stream", "num_retries": 5, "per_try_timeout": "16s",
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.250s"},
        }));
        json!({"match": matches, "route": action, "name": route.name})
    };
    paths.into_iter().map(one).collect()
}

fn header(name: &str, test: &Test) -> Value {
    match test {
        Test::Exact(value) => json!({"name": name, "string_match": {"exact": value}}),
        Test::Prefix(value) => json!({"name": name, "string_match": {"prefix": value}}),
        Test::Regex(value) => json!({"name": name, "string_match": {"safe_regex": {"regex": value}}}),
        Test::Present => json!({"name": name, "present_match": true}),
        Test::Absent => json!({"name": name, "present_match": false}),
    }
}

/// One cluster stands alone, several are weighted.
fn to_clusters(clusters: &[Weighted]) -> Map<String, Value> {
    let mut out = Map::new();
    match clusters {
        [only] => out.insert("cluster".into(), only.name.clone().into()),
        many => {
            let all: Vec<Value> = many
                .iter()
                .map(|c| json!({"name": c.name, "weight": c.weight}))
                .collect();
            out.insert("weighted_clusters".into(), json!({"clusters": all}))
        }
    };
    out
}

/// Name, value, and whether it was ever touched.
fn stats(state: &State) -> Vec<(String, (u64, bool))> {
    let mut all = Vec::new();
    for (name, running) in &state.clusters {
        upstream(&mut all, &format!("cluster.{name}"), &running.counters);
        let hosts: usize = running.cluster.endpoints.iter().map(Vec::len).sum();
        for gauge in ["membership_total", "membership_healthy"] {
            all.push((format!("cluster.{name}.{gauge}"), (hosts as u64, true)));
        }
    }
    for slot in state.listeners.values() {
        if let ListenerKind::Http { virtual_host, .. } = &slot.active.listener.kind {
            let prefix = format!("http.{virtual_host}");
            let c = &slot.counters;
            for (name, counter) in [
                ("downstream_rq_total", &c.rq_total),
                ("downstream_rq_2xx", &c.rq_2xx),
                ("downstream_rq_4xx", &c.rq_4xx),
                ("downstream_rq_5xx", &c.rq_5xx),
                ("no_cluster", &c.no_cluster),
            ] {
                let value = counter.load(Ordering::Relaxed);
                all.push((format!("{prefix}.{name}"), (value, value > 0)));
            }
        }
    }
    all.push((
        "server.uptime".to_owned(),
        (state.started.elapsed().as_secs(), true),
    ));
    all.sort();
    all
}

/// Each by its name, in buckets. `interval`, which real ones count since the last flush, is always 0 here; and real ones have
/// histograms of more than this.
fn histograms(state: &State) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, running) in &state.clusters {
        let Some(buckets) = running.counters.rq_time.shown() else {
            continue;
        };
        let buckets: Vec<Value> = buckets
            .iter()
            .map(|(bound, n)| json!({"upper_bound": bound, "interval": 0, "cumulative": n}))
            .collect();
        for name in
            ["external.upstream_rq_time", "upstream_rq_time"].map(|what| format!("cluster.{name}.{what}"))
        {
            let shown = json!({"name": name, "buckets": buckets});
            all.push((name, shown));
        }
    }
    all
}

fn upstream(all: &mut Vec<(String, (u64, bool))>, prefix: &str, c: &Counters) {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let completed = get(&c.rq_2xx) + get(&c.rq_4xx) + get(&c.rq_5xx) + get(&c.rq_other);
    for (name, value) in [
        ("upstream_rq_total", get(&c.rq_total)),
        ("upstream_rq_completed", completed),
        ("upstream_rq_2xx", get(&c.rq_2xx)),
        ("upstream_rq_4xx", get(&c.rq_4xx)),
        ("upstream_rq_5xx", get(&c.rq_5xx)),
        ("upstream_rq_503", get(&c.rq_503)),
        ("external.upstream_rq_2xx", get(&c.rq_2xx)),
        ("external.upstream_rq_5xx", get(&c.rq_5xx)),
        ("external.upstream_rq_completed", completed),
        ("upstream_cx_total", get(&c.cx_total)),
        ("upstream_cx_connect_fail", get(&c.cx_connect_fail)),
    ] {
        all.push((format!("{prefix}.{name}"), (value, value > 0)));
    }
    // Gauges at 0 are shown, once they were anything else.
    let used = get(&c.rq_total) + get(&c.cx_total) > 0;
    for name in ["upstream_rq_active", "upstream_cx_active"] {
        all.push((format!("{prefix}.{name}"), (get(&c.active), used)));
    }
}

fn cluster_statuses(state: &State) -> Value {
    let one = |(name, running): (&String, &std::sync::Arc<super::proxy::Running>)| {
        let hosts = running.cluster.endpoints.iter().flatten().map(|address| {
            json!({"address": {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}},
                   "health_status": {"eds_health_status": "HEALTHY"}, "weight": 1})
        });
        json!({"name": name, "added_via_api": true, "host_statuses": hosts.collect::<Vec<_>>(), "observability_name": name})
    };
    json!({"cluster_statuses": state.clusters.iter().map(one).collect::<Vec<_>>()})
}
