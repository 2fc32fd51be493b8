//! The double's rules against what was measured on real Kuma: each case is a row of those measurements.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_sandbox::double::compute::compute;
use weir_sandbox::double::rest::{Answer, Request, answer};
use weir_sandbox::double::routes::{Asked, ListenerKind};
use weir_sandbox::double::store::{Endpoint, Kind, Mode, Object, Store};

const OUTBOUND: &str = "outbound:127.0.0.31:10001";

/// Zone fra as it sees itself: `checkout` at home and in ams, the MeshMultiZoneService, and a caller of that.
fn zone() -> Store {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut store = Store::new(Mode::Zone("fra".into()));
    store.insert(Object::new(Kind::Mesh, "", "default", at(0)));
    for (zone, name, origin, protocol, second) in [
        ("fra", "checkout", "zone", "http", 1),
        ("ams", "checkout-8wb8z5764xx4x42z", "global", "http", 2),
        ("lon", "checkout-x", "global", "tcp", 3),
    ] {
        let mut service = Object::new(Kind::MeshService, "default", name, at(second));
        let labels = [
            ("kuma.io/display-name", "checkout"),
            ("kuma.io/zone", zone),
            ("kuma.io/origin", origin),
        ];
        service
            .labels
            .extend(labels.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let spec =
            json!({"state": "Available", "ports": [{"port": 8080, "name": "8080", "appProtocol": protocol}]});
        service.body.insert("spec".into(), spec);
        service.endpoints = vec![Endpoint {
            address: "127.0.0.1:1".parse().unwrap(),
        }];
        store.insert(service);
    }
    let mut everywhere = Object::new(Kind::MeshMultiZoneService, "default", "checkout-m", at(0));
    everywhere
        .labels
        .insert("kuma.io/display-name".into(), "checkout".into());
    everywhere.body.insert(
        "spec".into(),
        json!({"selector": {"meshService": {"matchLabels": {"kuma.io/display-name": "checkout"}}},
               "ports": [{"port": 8080, "appProtocol": "http"}]}),
    );
    store.insert(everywhere);
    store
}

fn caller() -> Object {
    let mut caller = Object::new(Kind::Dataplane, "default", "web", Timestamp::UNIX_EPOCH);
    caller.labels.insert("kuma.io/zone".into(), "fra".into());
    let reference =
        json!({"kind": "MeshMultiZoneService", "labels": {"kuma.io/display-name": "checkout"}, "port": 8080});
    caller.body.insert(
        "networking".into(),
        json!({
            "address": "127.0.0.31",
            "inbound": [{"port": 7070, "servicePort": 7071, "serviceAddress": "127.0.0.1", "tags": {"kuma.io/service": "web"}}],
            "outbound": [{"address": "127.0.0.31", "port": 10001, "backendRef": reference}],
        }),
    );
    caller
}

fn to(zone: &str, weight: u64) -> Value {
    json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "checkout", "kuma.io/zone": zone},
           "port": 8080, "weight": weight})
}

fn all(refs: &[Value]) -> Value {
    json!({"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "default": {"backendRefs": refs}})
}

fn header(value: &str, path: bool, refs: &[Value]) -> Value {
    let mut matches = json!({"headers": [{"type": "Exact", "name": value, "value": "1"}]});
    if path {
        matches["path"] = json!({"type": "PathPrefix", "value": "/"});
    }
    json!({"matches": [matches], "default": {"backendRefs": refs}})
}

fn put(store: &mut Store, name: &str, kind: &str, rules: &[Value]) {
    let body = json!({
        "type": "MeshHTTPRoute", "mesh": "default", "name": name, "labels": {"kuma.io/origin": "zone"},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [
            {"targetRef": {"kind": kind, "labels": {"kuma.io/display-name": "checkout"}}, "rules": rules},
        ]},
    });
    let request = Request {
        method: "PUT".into(),
        target: format!("/meshes/default/meshhttproutes/{name}"),
        host: "localhost".into(),
        content_type: "application/json".into(),
        body: body.to_string().into_bytes(),
    };
    let answered = answer(store, &request, Timestamp::UNIX_EPOCH);
    assert!(matches!(answered, Answer::Json(201, _)), "{answered:?}");
}

/// Where a request with these headers goes: weights by zone, `mzsvc` for the MeshMultiZoneService; none: refused.
fn goes(store: &Store, headers: &str) -> Option<BTreeMap<String, u64>> {
    let config = compute(store, &caller());
    let ListenerKind::Http { routes, .. } = &config.listeners.get(OUTBOUND)?.kind else {
        panic!("not an HTTP listener");
    };
    let asked = Asked {
        method: "GET",
        target: "/",
        headers,
    };
    let route = routes
        .iter()
        .find(|r| r.matches.takes(&asked))
        .expect("a route for every request");
    let mut sum = BTreeMap::new();
    for cluster in &route.clusters {
        assert!(
            config.clusters.contains_key(&cluster.name),
            "{} has no cluster",
            cluster.name
        );
        let parts: Vec<&str> = cluster.name.split('_').collect();
        let zone = if parts[4] == "mzsvc" { "mzsvc" } else { parts[3] };
        *sum.entry(zone.to_owned()).or_insert(0) += cluster.weight;
    }
    Some(sum)
}

fn only(rules: &[Value]) -> Option<BTreeMap<String, u64>> {
    let mut store = zone();
    put(&mut store, "ours", "MeshMultiZoneService", rules);
    goes(&store, "")
}

fn weights<const N: usize>(all: [(&str, u64); N]) -> Option<BTreeMap<String, u64>> {
    Some(all.map(|(zone, weight)| (zone.to_owned(), weight)).into())
}

#[test]
fn what_resolves_takes_the_share_of_what_does_not() {
    let cases: [(&str, &[Value], _); 9] = [
        (
            "basis points",
            &[to("fra", 9000), to("ams", 1000)],
            weights([("fra", 9000), ("ams", 1000)]),
        ),
        (
            "a zone that does not exist",
            &[to("fra", 90), to("nowhere", 10)],
            weights([("fra", 90)]),
        ),
        (
            "none resolves: as if there were no policy",
            &[to("nowhere", 1)],
            weights([("mzsvc", 1)]),
        ),
        ("all weights 0: no listener", &[to("fra", 0), to("ams", 0)], None),
        (
            "the same backend twice adds up",
            &[to("fra", 30), to("fra", 20), to("ams", 50)],
            weights([("fra", 50), ("ams", 50)]),
        ),
        (
            "a port that speaks tcp",
            &[to("fra", 50), to("lon", 50)],
            weights([("fra", 50)]),
        ),
        (
            "weight 0 beside another",
            &[to("fra", 0), to("ams", 7)],
            weights([("ams", 7)]),
        ),
        ("no refs", &[], weights([("mzsvc", 1)])),
        (
            "labels without a zone: the oldest alone",
            &[
                json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "checkout"}, "port": 8080, "weight": 1}),
            ],
            weights([("fra", 1)]),
        ),
    ];
    for (what, refs, expected) in cases {
        assert_eq!(only(&[all(refs)]), expected, "{what}");
    }
    let mut other_port = to("ams", 50);
    other_port["port"] = 9090.into();
    assert_eq!(only(&[all(&[to("fra", 50), other_port])]), weights([("fra", 50)]));
}

#[test]
fn routes_are_tried_by_how_specific_they_are() {
    let mut store = zone();
    let rules = [all(&[to("fra", 1)]), header("x-a", true, &[to("ams", 1)])];
    put(&mut store, "ours", "MeshMultiZoneService", &rules);
    assert_eq!(goes(&store, "x-a: 1\r\n"), weights([("ams", 1)]));
    assert_eq!(goes(&store, "x-a: 2\r\n"), weights([("fra", 1)]));

    let mut store = zone();
    let rules = [header("x-a", false, &[to("ams", 1)]), all(&[to("fra", 1)])];
    put(&mut store, "ours", "MeshMultiZoneService", &rules);
    assert_eq!(
        goes(&store, "x-a: 1\r\n"),
        weights([("fra", 1)]),
        "without a path it never matches"
    );

    let mut store = zone();
    let rules = [
        header("x-a", true, &[to("ams", 1)]),
        header("x-b", true, &[to("fra", 1)]),
    ];
    put(&mut store, "ours", "MeshMultiZoneService", &rules);
    assert_eq!(
        goes(&store, "x-a: 1\r\nx-b: 1\r\n"),
        weights([("ams", 1)]),
        "equal rank: the first written"
    );
    assert_eq!(
        goes(&store, ""),
        weights([("mzsvc", 1)]),
        "no catch-all: where the caller addressed it to"
    );
}

#[test]
fn the_policy_whose_name_sorts_first_wins_and_another_target_does_not_matter() {
    let mut store = zone();
    put(
        &mut store,
        "weir-checkout",
        "MeshMultiZoneService",
        &[all(&[to("fra", 1)])],
    );
    put(
        &mut store,
        "zz-later",
        "MeshMultiZoneService",
        &[all(&[to("ams", 1)])],
    );
    assert_eq!(goes(&store, ""), weights([("fra", 1)]));
    put(
        &mut store,
        "aa-earlier",
        "MeshMultiZoneService",
        &[all(&[to("ams", 1)])],
    );
    assert_eq!(goes(&store, ""), weights([("ams", 1)]));

    let mut store = zone();
    put(&mut store, "ours", "MeshService", &[all(&[to("ams", 1)])]);
    assert_eq!(goes(&store, ""), weights([("mzsvc", 1)]));
}

/// Measured on 2.14.3: a `to` with the port's section outranks one without, before names are looked at. The port of a
/// MeshMultiZoneService has no name, so there it does not.
#[test]
fn naming_the_section_outranks_a_name_that_sorts_earlier_where_ports_have_names() {
    let goes_in = |kind: &str, reference: Value| {
        let mut store = zone();
        for (name, zone, section) in [("weir-checkout", "fra", true), ("aa-earlier", "ams", false)] {
            put(&mut store, name, kind, &[all(&[to(zone, 1)])]);
            let mut object = store.get(Kind::MeshHTTPRoute, "default", name).unwrap().clone();
            if section {
                object.body["spec"]["to"][0]["targetRef"]["sectionName"] = "8080".into();
            }
            store.insert(object);
        }
        let mut caller = caller();
        caller.body["networking"]["outbound"][0]["backendRef"] = reference;
        let config = compute(&store, &caller);
        let ListenerKind::Http { routes, .. } = &config.listeners[OUTBOUND].kind else {
            panic!("not an HTTP listener");
        };
        routes[0].clusters[0].name.clone()
    };
    let labels = json!({"kuma.io/display-name": "checkout", "kuma.io/zone": "ams"});
    let service = json!({"kind": "MeshService", "labels": labels, "port": 8080});
    let everywhere =
        json!({"kind": "MeshMultiZoneService", "labels": {"kuma.io/display-name": "checkout"}, "port": 8080});
    assert_eq!(goes_in("MeshService", service), "default_checkout__fra_msvc_8080");
    assert_eq!(
        goes_in("MeshMultiZoneService", everywhere),
        "default_checkout__ams_msvc_8080"
    );
}

#[test]
fn an_anchor_keeps_every_cluster_and_a_bare_policy_does_not() {
    let clusters = |rules: &[Value]| {
        let mut store = zone();
        put(&mut store, "ours", "MeshMultiZoneService", rules);
        let config = compute(&store, &caller());
        config.clusters.into_keys().collect::<Vec<_>>()
    };
    let moved = all(&[to("fra", 0), to("ams", 100)]);
    let anchor = header("x-weir-anchor", true, &[to("fra", 1), to("ams", 1)]);
    assert_eq!(
        clusters(std::slice::from_ref(&moved)),
        ["default_checkout__ams_msvc_8080"]
    );
    assert_eq!(
        clusters(&[moved, anchor]),
        [
            "default_checkout__ams_msvc_8080",
            "default_checkout__fra_msvc_8080"
        ]
    );
}

/// A Kong beside a sidecar of its own: policies for the whole mesh reach its outbounds, though it takes nothing in; one for sidecars
/// alone does not.
#[test]
fn a_delegated_gateway_gets_the_split_and_who_takes_nothing_in_does_not() {
    let gives = |change: &dyn Fn(&mut Value), types: Option<&[&str]>| {
        let mut store = zone();
        put(
            &mut store,
            "ours",
            "MeshMultiZoneService",
            &[all(&[to("fra", 30), to("ams", 70)])],
        );
        if let Some(types) = types {
            let mut policy = store.get(Kind::MeshHTTPRoute, "default", "ours").unwrap().clone();
            policy.body["spec"]["targetRef"]["proxyTypes"] = json!(types);
            store.insert(policy);
        }
        let mut caller = caller();
        change(&mut caller.body["networking"]);
        let config = compute(&store, &caller);
        let ListenerKind::Http { routes, .. } = &config.listeners[OUTBOUND].kind else {
            panic!("not an HTTP listener");
        };
        routes[0]
            .clusters
            .iter()
            .map(|cluster| cluster.weight)
            .collect::<Vec<_>>()
    };
    let alone = |networking: &mut Value| drop(networking.as_object_mut().unwrap().remove("inbound"));
    let gateway = |networking: &mut Value| {
        alone(networking);
        networking["gateway"] = json!({"type": "DELEGATED", "tags": {"kuma.io/service": "edge"}});
    };
    assert_eq!(gives(&|_| {}, None), [30, 70]);
    assert_eq!(gives(&alone, None), [1], "nobody's policy");
    assert_eq!(gives(&gateway, None), [30, 70]);
    assert_eq!(gives(&gateway, Some(&["Sidecar"])), [1]);
    assert_eq!(gives(&gateway, Some(&["Sidecar", "Gateway"])), [30, 70]);
    assert_eq!(gives(&|_| {}, Some(&["Gateway"])), [1]);
}
