//! What the controller makes of routes. Pure.

mod policy;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// What is said of one route.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) generation: Value,
    pub(super) parent: Value,
    /// `status.parents` as it is.
    pub(super) before: Value,
    pub(super) resolved: bool,
    pub(super) translated: bool,
}

fn text<'a>(of: &'a Value, at: &str) -> &'a str {
    of.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(of: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    of.pointer(at).and_then(Value::as_array).into_iter().flatten()
}

/// What there is in the cluster, as far as the controller looks at it.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) routes: Vec<Value>,
    pub(super) services: Vec<Value>,
    pub(super) slices: Vec<Value>,
    /// KongUpstreamPolicies.
    pub(super) policies: Vec<Value>,
}

/// The whole configuration, and what is said of each route of this Gateway.
pub(super) fn translate(gateway: &(String, String), cluster: &Cluster) -> (Value, Vec<Said>) {
    let (mut made, mut upstreams, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for route in &cluster.routes {
        let namespace = text(route, "/metadata/namespace");
        let attached = list(route, "/spec/parentRefs").find(|to| {
            let of = to.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
            (of, text(to, "/name")) == (gateway.0.as_str(), gateway.1.as_str())
        });
        let Some(parent) = attached else { continue };
        let mut parent = parent.clone();
        parent["namespace"] = json!(gateway.0);
        let mut of = Said {
            namespace: namespace.to_owned(),
            name: text(route, "/metadata/name").to_owned(),
            generation: route["metadata"]["generation"].clone(),
            parent,
            before: route.pointer("/status/parents").cloned().unwrap_or(Value::Null),
            resolved: true,
            translated: true,
        };
        let (mut of_route, mut balanced) = one(route, cluster, &mut of);
        made.append(&mut of_route);
        upstreams.append(&mut balanced);
        said.push(of);
    }
    let configuration = match made.is_empty() {
        true => {
            json!({"_format_version": "3.0", "upstreams": [{"name": "kong", "algorithm": "round-robin"}]})
        }
        false => json!({"_format_version": "3.0", "services": made, "upstreams": upstreams}),
    };
    (configuration, said)
}

/// Services with their routes, and upstreams, of one route.
fn one(route: &Value, cluster: &Cluster, said: &mut Said) -> (Vec<Value>, Vec<Value>) {
    let tags = json!([
        format!("k8s-name:{}", said.name),
        format!("k8s-namespace:{}", said.namespace),
        "k8s-kind:HTTPRoute",
        format!("k8s-uid:{}", text(route, "/metadata/uid")),
        "k8s-group:gateway.networking.k8s.io",
        "k8s-version:v1",
    ]);
    let rules: Vec<&Value> = list(route, "/spec/rules").collect();
    let mut routes = routes(route, &rules, &tags, said);
    let (mut made, mut upstreams): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for (at, rule) in rules.iter().enumerate() {
        // Rules of the same backends have one service, named by the first of them.
        let Some(routes) = routes.remove(&at) else {
            continue;
        };
        let name = format!("httproute.{}.{}.{at}", said.namespace, said.name);
        let Some(behind) = behind(rule, cluster, said) else {
            continue; // the whole rule is left out
        };
        let targets: Vec<Value> = behind
            .targets
            .iter()
            .map(|(target, weight)| json!({"target": target, "weight": weight}))
            .collect();
        made.push(json!({
            "name": name, "host": name, "port": list(rule, "/backendRefs").next().map_or(json!(80), |of| of["port"].clone()),
            "protocol": "http", "connect_timeout": 60_000, "read_timeout": 60_000, "write_timeout": 60_000, "retries": 5,
            "tags": tags, "routes": routes,
        }));
        let mut upstream =
            json!({"name": name, "algorithm": "round-robin", "tags": tags, "targets": targets});
        // Nobody recorded what the real one does of one that is named and not there: here it changes nothing.
        let policy = behind.policy.and_then(|policy| {
            let is = |of: &&Value| {
                (text(of, "/metadata/namespace"), text(of, "/metadata/name"))
                    == (said.namespace.as_str(), policy.as_str())
            };
            cluster.policies.iter().find(is)
        });
        if let Some(policy) = policy {
            policy::put(&policy["spec"], &mut upstream);
        }
        upstreams.push(upstream);
    }
    (made, upstreams)
}

/// The routes of one HTTPRoute, by the number of the rule that their service is named by. Matches that differ in their paths alone
/// become one, named by the first of them.
fn routes(route: &Value, rules: &[&Value], tags: &Value, said: &Said) -> BTreeMap<usize, Vec<Value>> {
    let mut all: BTreeMap<usize, Vec<(Key, Value)>> = BTreeMap::new();
    for (at, rule) in rules.iter().enumerate() {
        let same = |other: &&Value| other["backendRefs"] == rule["backendRefs"];
        let first = rules.iter().position(same).unwrap_or(at);
        let mut matches: Vec<Value> = list(rule, "/matches").cloned().collect();
        if matches.is_empty() {
            // What the API server says where nothing is said.
            matches.push(json!({}));
        }
        for (nth, one) in matches.iter().enumerate() {
            let made = all.entry(first).or_default();
            let key = key(one);
            let same = made.iter_mut().find(|(of, _)| *of == key);
            if let Some(of) = same.and_then(|(_, kong)| kong["paths"].as_array_mut()) {
                of.extend(paths(one).into_iter().map(Value::from));
                continue;
            }
            let name = format!("httproute.{}.{}.{at}.{nth}", said.namespace, said.name);
            let kong = in_kong(route, one, name, tags);
            made.push((key, kong));
        }
    }
    let by_name = |of: &Value| text(of, "/name").to_owned();
    let sorted = all.into_iter().map(|(first, made)| {
        let mut made: Vec<Value> = made.into_iter().map(|(_, kong)| kong).collect();
        made.sort_by_key(by_name);
        (first, made)
    });
    sorted.collect()
}

/// One of Kong's routes, of a match.
fn in_kong(route: &Value, one: &Value, name: String, tags: &Value) -> Value {
    let annotation = |key: &str| {
        let annotations = route.pointer("/metadata/annotations");
        annotations.and_then(|all| all.get(key)).and_then(Value::as_str)
    };
    let mut kong = Map::new();
    kong.insert("name".to_owned(), json!(name));
    kong.insert("tags".to_owned(), tags.clone());
    kong.insert("paths".to_owned(), json!(paths(one)));
    kong.insert("path_handling".to_owned(), json!("v0"));
    kong.insert(
        "protocols".to_owned(),
        json!(
            annotation("konghq.com/protocols")
                .unwrap_or("http")
                .split(',')
                .collect::<Vec<_>>()
        ),
    );
    kong.insert(
        "strip_path".to_owned(),
        json!(annotation("konghq.com/strip-path") == Some("true")),
    );
    kong.insert(
        "preserve_host".to_owned(),
        json!(annotation("konghq.com/preserve-host") != Some("false")),
    );
    let redirect =
        annotation("konghq.com/https-redirect-status-code").and_then(|code| code.parse::<u16>().ok());
    kong.insert(
        "https_redirect_status_code".to_owned(),
        json!(redirect.unwrap_or(426)),
    );
    if let Some(snis) = annotation("konghq.com/snis") {
        let snis: Vec<&str> = snis.split(',').map(str::trim).collect();
        // One that it does not take costs the route all of them.
        if snis.iter().all(|name| is_sni(name)) {
            kong.insert("snis".to_owned(), json!(snis));
        }
    }
    let hosts: Vec<&Value> = list(route, "/spec/hostnames").collect();
    if !hosts.is_empty() {
        kong.insert("hosts".to_owned(), json!(hosts));
    }
    if let Some(method) = one.get("method") {
        kong.insert("methods".to_owned(), json!([method]));
    }
    let headers: BTreeMap<&str, Value> = list(one, "/headers")
        .map(|header| (text(header, "/name"), json!([header["value"]])))
        .collect();
    if !headers.is_empty() {
        kong.insert("headers".to_owned(), json!(headers));
    }
    Value::Object(kong)
}

/// One of a match: of a prefix two, of `/` as well, and a slash is added only where there is none.
fn paths(one: &Value) -> Vec<String> {
    // What the API server says where nothing is said.
    let path = one.pointer("/path/value").and_then(Value::as_str).unwrap_or("/");
    match text(one, "/path/type") {
        "Exact" => vec![format!("~{path}$")],
        "RegularExpression" => vec![format!("~{path}")],
        _ => {
            let below = if path.ends_with('/') { "" } else { "/" };
            vec![format!("~{path}$"), format!("{path}{below}")]
        }
    }
}

/// All of a match but its path: method, headers, query.
type Key = (String, BTreeMap<String, String>, String);

/// Names of headers are of no case, and of one that is named twice the first counts.
fn key(one: &Value) -> Key {
    let mut headers = BTreeMap::new();
    for header in list(one, "/headers") {
        let name = text(header, "/name").to_ascii_lowercase();
        let said = format!("{} {}", text(header, "/type"), text(header, "/value"));
        headers.entry(name).or_insert(said);
    }
    let query = one.get("queryParams").map(Value::to_string);
    (
        text(one, "/method").to_owned(),
        headers,
        query.unwrap_or_default(),
    )
}

/// What is behind a rule's backends.
struct Behind {
    /// With their weights.
    targets: BTreeMap<String, u64>,
    /// The KongUpstreamPolicy that its Services name.
    policy: Option<String>,
}

/// What is behind a rule's backends; none if the rule is left out.
fn behind(rule: &Value, cluster: &Cluster, said: &mut Said) -> Option<Behind> {
    let mut targets: BTreeMap<String, u64> = BTreeMap::new();
    let mut kong: Option<BTreeMap<String, Value>> = None;
    for backend in list(rule, "/backendRefs") {
        let name = text(backend, "/name");
        let is = |of: &&Value| {
            (text(of, "/metadata/namespace"), text(of, "/metadata/name")) == (said.namespace.as_str(), name)
        };
        let Some(service) = cluster.services.iter().find(is) else {
            said.resolved = false;
            continue;
        };
        let annotations = service
            .pointer("/metadata/annotations")
            .and_then(Value::as_object);
        let of_kong = annotations
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.starts_with("konghq.com/"));
        let of_kong: BTreeMap<String, Value> =
            of_kong.map(|(key, value)| (key.clone(), value.clone())).collect();
        if kong.as_ref().is_some_and(|before| *before != of_kong) {
            return None;
        }
        kong = Some(of_kong);
        let Some(port) = list(service, "/spec/ports").find(|port| port["port"] == backend["port"]) else {
            said.translated = false;
            continue;
        };
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).and_then(Value::as_str);
        let reached: BTreeSet<String> = match annotation("ingress.kubernetes.io/service-upstream") {
            Some("true") => BTreeSet::from([format!("{name}.{}.svc:{}", said.namespace, backend["port"])]),
            _ => endpoints(&said.namespace, name, text(port, "/name"), &cluster.slices),
        };
        let weight = backend["weight"].as_u64().unwrap_or(1);
        let each = match weight {
            0 => 0,
            weight => (weight / (reached.len() as u64).max(1)).max(1),
        };
        for target in reached {
            *targets.entry(target).or_default() += each;
        }
    }
    let policy = kong
        .as_ref()
        .and_then(|kong| kong.get("konghq.com/upstream-policy"));
    let policy = policy.and_then(Value::as_str).map(str::to_owned);
    Some(Behind { targets, policy })
}

fn endpoints(namespace: &str, service: &str, port: &str, slices: &[Value]) -> BTreeSet<String> {
    let of = slices.iter().filter(|slice| {
        text(slice, "/metadata/namespace") == namespace
            && text(slice, "/metadata/labels/kubernetes.io~1service-name") == service
    });
    let mut found = BTreeSet::new();
    for slice in of {
        for number in list(slice, "/ports").filter(|of| text(of, "/name") == port) {
            for endpoint in list(slice, "/endpoints") {
                let is = |at: &str, otherwise: bool| {
                    endpoint.pointer(at).and_then(Value::as_bool).unwrap_or(otherwise)
                };
                if is("/conditions/ready", true) && !is("/conditions/terminating", false) {
                    found.insert(format!("{}:{}", text(endpoint, "/addresses/0"), number["port"]));
                }
            }
        }
    }
    found
}

/// As the controller's own expression has it: labels of letters and digits, with single hyphens between them.
fn is_sni(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    name.split('.').all(|label| label.split('-').all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the controller's source: two paths of every prefix, and one route of matches that differ in nothing else.
    #[test]
    fn every_prefix_is_two_paths_and_matches_of_one_key_are_one_route() {
        let prefix = |path: &str| json!({"path": {"type": "PathPrefix", "value": path}});
        let with = |matches: Value, backend: &str| json!({"matches": matches, "backendRefs": [{"name": backend, "port": 80}]});
        let header = json!([{"name": "X-Ring", "value": "a"}]);
        let route = json!({
            "metadata": {"name": "r", "namespace": "edge", "uid": "u"},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [
                with(json!([prefix("/"), {"headers": header}, prefix("/a/")]), "one"),
                with(json!([{"path": {"type": "Exact", "value": "/b"}}]), "two"),
                with(json!([prefix("/c"), {"method": "GET"}]), "one"),
            ]},
        });
        let service = |name: &str| json!({"metadata": {"name": name, "namespace": "edge"}, "spec": {"ports": [{"port": 80}]}});
        let cluster = Cluster {
            routes: vec![route],
            services: vec![service("one"), service("two")],
            ..Cluster::default()
        };
        let (made, _) = translate(&("edge".to_owned(), "edge".to_owned()), &cluster);
        let routes = list(&made, "/services").flat_map(|service| list(service, "/routes"));
        let routes: Vec<(String, Value, Value)> = routes
            .map(|of| {
                (
                    text(of, "/name").to_owned(),
                    of["paths"].clone(),
                    of["methods"].clone(),
                )
            })
            .collect();
        let expected = [
            (
                "0.0",
                json!(["~/$", "/", "~/a/$", "/a/", "~/c$", "/c/"]),
                Value::Null,
            ),
            ("0.1", json!(["~/$", "/"]), Value::Null),
            ("2.1", json!(["~/$", "/"]), json!(["GET"])),
            ("1.0", json!(["~/b$"]), Value::Null),
        ];
        let expected =
            expected.map(|(at, paths, methods)| (format!("httproute.edge.r.{at}"), paths, methods));
        assert_eq!(routes, expected);
    }

    /// Against what the real controller was recorded to post.
    #[test]
    fn it_posts_what_the_real_one_posted() {
        for (name, weights, eks) in [
            ("post-90-10-3x3", (90, 10), 3),
            ("post-90-10-3x7", (90, 10), 7),
            ("post-99-1-3x7", (99, 1), 7),
            ("post-54000-6000-3x7", (54_000, 6_000), 7),
            ("post-100-0-3x7", (100, 0), 7),
        ] {
            let file = format!(
                "{}/../../tests/recorded/kic-3.5.13/{name}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let text = std::fs::read_to_string(file).expect("recorded");
            let recorded: Value = serde_json::from_str(&text).expect("JSON");
            let recorded = &recorded["request"]["body"];
            let uid = recorded["services"][0]["tags"][3]
                .as_str()
                .expect("a tag")
                .replace("k8s-uid:", "");
            let route = json!({
                "metadata": {"name": "weir-checkout", "namespace": "edge", "uid": uid, "generation": 1},
                "spec": {
                    "parentRefs": [{"name": "edge"}],
                    "hostnames": ["shop.example.com"],
                    "rules": [{
                        "matches": [{"path": {"type": "PathPrefix", "value": "/checkout"}}],
                        "backendRefs": [
                            {"name": "checkout-vm", "port": 8080, "weight": weights.0},
                            {"name": "checkout", "port": 8080, "weight": weights.1},
                        ],
                    }],
                },
            });
            let service = |name: &str| json!({"metadata": {"name": name, "namespace": "edge"}, "spec": {"ports": [{"port": 8080}]}});
            let slice = |service: &str, port: u16, network: &str, count: u64| {
                let endpoints = (1..=count).map(|n| json!({"addresses": [format!("{network}.{n}")]}));
                json!({
                    "metadata": {"namespace": "edge", "labels": {"kubernetes.io/service-name": service}},
                    "ports": [{"port": port}], "endpoints": endpoints.collect::<Vec<_>>(),
                })
            };
            let cluster = Cluster {
                routes: vec![route],
                services: vec![service("checkout-vm"), service("checkout")],
                slices: vec![
                    slice("checkout-vm", 8080, "10.1.0", 3),
                    slice("checkout", 18080, "10.2.0", eks),
                ],
                policies: Vec::new(),
            };
            let (made, said) = translate(&("edge".to_owned(), "edge".to_owned()), &cluster);
            assert!(said[0].resolved && said[0].translated);
            let sorted = |of: &Value| {
                let mut of = of.clone();
                for service in of["services"].as_array_mut().expect("services") {
                    service.as_object_mut().expect("a service").remove("id");
                    for route in service["routes"].as_array_mut().expect("routes") {
                        route.as_object_mut().expect("a route").remove("id");
                    }
                }
                for upstream in of["upstreams"].as_array_mut().expect("upstreams") {
                    upstream["targets"]
                        .as_array_mut()
                        .expect("targets")
                        .sort_by_key(|of| of["target"].to_string());
                }
                of
            };
            assert_eq!(sorted(&made), sorted(recorded), "{name}");
        }
    }
}
