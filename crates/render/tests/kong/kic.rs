//! Under Kong Ingress Controller: the route that is written, what the controller makes of it, by what was recorded of it, and
//! what it says.

#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

mod balancing;
mod mesh;
mod router;
mod taken;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_model::{BackendName, Channel, ClusterService, Door, HeaderMatch, Match, ParentRef, ValueMatch};
use weir_planner::{GatewayPlan, Item};
use weir_render::kic::route::FOR_EACH_BASIS_POINT;
use weir_render::kic::shares::{HEAVIEST, shares};
use weir_render::kic::{
    HttpRoute, Said, Service, Services, Slice, backends, expected, http_route, overlaps, said, target_weight,
};
use weir_render::kong::{AtDoor, Expected};

use super::{addresses, door, federation, gateway, item, plain, route, routing};

fn parent() -> ParentRef {
    ParentRef {
        namespace: "edge".parse().unwrap(),
        name: "edge".parse().unwrap(),
        section: None,
    }
}

fn made(item: &Item, door: &Door) -> Result<HttpRoute, String> {
    let planned = GatewayPlan {
        channel: Channel::Kic,
        parent: Some(parent()),
        ..gateway(None)
    };
    http_route(
        &federation(),
        &"edge".parse().unwrap(),
        &planned,
        &AtDoor {
            item,
            door,
            pin: None,
        },
    )
}

fn services_of(vm: u32, eks: u32) -> HttpRoute {
    let via = addresses(&["vm=checkout-vm.edge.svc:8080", "eks=checkout.edge.svc:8080"]);
    let door = door(routing(&["shop.example.com"], &["/checkout"]), via);
    made(&plain("checkout", &[("vm", vm), ("eks", eks)]), &door).unwrap()
}

/// A Service of one port, and a slice with these endpoints.
fn service(name: &str, port: u64, annotations: &Value) -> (String, Service) {
    let document = json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"ports": [{"name": "http", "port": port}]},
    });
    (name.to_owned(), Service::of(&document))
}

fn slice(service: &str, port_name: &str, port: u64, endpoints: &[(&str, bool, bool)]) -> Slice {
    let endpoints = endpoints.iter().map(|(address, ready, terminating)| {
        json!({"addresses": [address], "conditions": {"ready": ready, "terminating": terminating}})
    });
    Slice::of(&json!({
        "metadata": {"labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": port_name, "port": port}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    }))
}

fn up(network: &str, count: usize) -> Vec<String> {
    (1..=count)
        .map(|n| format!("{network}.{}.{}", n / 250, n % 250 + 1))
        .collect()
}

fn with(vm: usize, eks: usize) -> Services {
    let mut services = Services::default();
    let (vm, eks) = (up("10.1", vm), up("10.2", eks));
    let ready = |of: &'_ Vec<String>| of.iter().map(|ip| (ip.clone(), true, false)).collect::<Vec<_>>();
    let all = |of: &str, port: u64, of_ready: Vec<(String, bool, bool)>| {
        let told: Vec<(&str, bool, bool)> = of_ready.iter().map(|(ip, a, b)| (ip.as_str(), *a, *b)).collect();
        slice(of, "http", port, &told)
    };
    services.put(
        &"edge".parse().unwrap(),
        [
            service("checkout-vm", 8080, &json!({})),
            service("checkout", 8080, &json!({})),
        ],
        [
            all("checkout-vm", 8080, ready(&vm)),
            all("checkout", 18080, ready(&eks)),
        ],
    );
    services
}

#[test]
fn a_route_says_what_a_split_and_its_door_say() {
    let header = |name: &str, value: &str| HeaderMatch {
        name: name.to_owned(),
        value: ValueMatch::Exact(value.to_owned()),
    };
    let ring = Match {
        headers: vec![header("x-ring", "canary")],
        ..Match::ANY
    };
    let split = item(
        "checkout",
        vec![
            route("canary", ring, &[("vm", 0), ("eks", 10_000)]),
            route("default", Match::ANY, &[("vm", 9_950), ("eks", 50)]),
        ],
    );
    let mut routing = routing(&["*.example.org", "shop.example.com"], &["/cart", "/checkout"]);
    routing.methods = ["GET".to_owned()].into();
    routing.headers = BTreeMap::from([(
        "x-tenant".to_owned(),
        BTreeSet::from(["a".to_owned(), "b".to_owned()]),
    )]);
    routing.https_only = true;
    routing.https_redirect = weir_model::Redirect::MovedPermanently;
    routing.snis = ["a.example.org".to_owned(), "shop.example.com".to_owned()].into();
    let via = addresses(&["vm=checkout-vm.edge.svc:80", "eks=checkout.edge.svc:8080"]);
    let made = made(&split, &door(routing, via)).unwrap();
    let upstreams: Vec<&str> = made.rules.iter().map(|rule| rule.upstream.as_str()).collect();
    assert_eq!(
        upstreams,
        [
            "httproute.edge.weir.edge.checkout.0",
            "httproute.edge.weir.edge.checkout.1"
        ]
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&made.document).unwrap());
}

#[test]
fn rules_with_the_same_weights_are_one_upstream_of_the_controllers() {
    let header = HeaderMatch {
        name: "x-ring".to_owned(),
        value: ValueMatch::Exact("canary".to_owned()),
    };
    let ring = Match {
        headers: vec![header],
        ..Match::ANY
    };
    let weights = [("vm", 5_000), ("eks", 5_000)];
    let split = item(
        "checkout",
        vec![
            route("canary", ring, &weights),
            route("default", Match::ANY, &weights),
        ],
    );
    let via = addresses(&["vm=checkout-vm.edge.svc:80", "eks=checkout.edge.svc:8080"]);
    let made = made(&split, &door(routing(&["shop.example.com"], &[]), via)).unwrap();
    assert!(
        made.rules
            .iter()
            .all(|rule| rule.upstream.ends_with(".checkout.0")),
        "{made:?}"
    );
}

/// An exchange of KIC 3.5.13, as it was recorded.
macro_rules! recorded {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!(
            "../../../../tests/recorded/kic-3.5.13/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}

/// The targets that it posts.
fn posted(exchange: &Value) -> BTreeMap<SocketAddr, u64> {
    let targets = exchange
        .pointer("/request/body/upstreams/0/targets")
        .and_then(Value::as_array)
        .unwrap();
    targets
        .iter()
        .map(|target| {
            let address = target["target"].as_str().unwrap().parse().unwrap();
            (address, target["weight"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn targets_are_those_that_the_controller_was_seen_to_post() {
    let vm: Vec<String> = (1..=3).map(|n| format!("10.1.0.{n}")).collect();
    for (exchange, weights, eks) in [
        (recorded!("post-90-10-3x3"), (90, 10), 3),
        (recorded!("post-90-10-3x7"), (90, 10), 7),
        (recorded!("post-99-1-3x7"), (99, 1), 7),
        (recorded!("post-54000-6000-3x7"), (54_000, 6_000), 7),
        (recorded!("post-100-0-3x7"), (100, 0), 7),
    ] {
        let mut computed: BTreeMap<SocketAddr, u64> = BTreeMap::new();
        for ip in &vm {
            computed.insert(
                format!("{ip}:8080").parse().unwrap(),
                target_weight(weights.0, 3).into(),
            );
        }
        for n in 1..=eks {
            computed.insert(
                format!("10.2.0.{n}:18080").parse().unwrap(),
                target_weight(weights.1, eks).into(),
            );
        }
        assert_eq!(posted(&exchange), computed, "{weights:?} {eks}");
    }
}

#[test]
fn shares_are_those_of_the_table() {
    let share = |weights: (u32, u32), endpoints: (usize, usize)| {
        shares(&[(weights.0, endpoints.0), (weights.1, endpoints.1)]).map(|shares| shares[0])
    };
    // In hundredths of a basis point.
    for (weights, endpoints, of_first) in [
        ((90, 10), (3, 3), Some(909_091)),
        ((9_000, 1_000), (3, 3), Some(900_090)),
        ((90, 10), (3, 7), Some(927_835)),
        ((99, 1), (3, 7), Some(933_962)),
        ((54_000, 6_000), (3, 7), Some(900_015)),
        ((59_400, 600), (3, 7), Some(990_083)),
        ((90, 10), (3, 2), Some(900_000)),
        ((90, 10), (3, 0), Some(1_000_000)),
        ((100, 0), (3, 7), Some(1_000_000)),
        ((0, 0), (3, 7), None),
        // The other one then has 4.81 % instead of 1, 1.00 with larger weights, 9.68 instead of 10, and 9.1 instead of a half.
        ((99, 1), (3, 5), Some(951_923)),
        ((9_900, 100), (3, 5), Some(990_000)),
        ((90, 10), (7, 3), Some(903_226)),
        ((1, 1), (10, 1), Some(909_091)),
    ] {
        assert_eq!(
            share(weights, endpoints),
            of_first,
            "{weights:?} over {endpoints:?}"
        );
    }
}

#[test]
fn what_kong_must_run_is_computed_from_endpoints() {
    let route = services_of(9_000, 1_000);
    let found = backends(&route, &with(3, 7)).unwrap();
    assert_eq!(found.off, Vec::<String>::new());
    let Expected { upstreams, .. } = expected(&route, &found);
    let upstream = upstreams.values().next().unwrap();
    assert_eq!(upstream.name, "httproute.edge.weir.edge.checkout.0");
    let weights: Vec<u16> = upstream.targets.values().map(|target| target.weight).collect();
    assert_eq!(weights, [[18_000; 3].as_slice(), &[857; 7]].concat());
    // Where the share is not the declared one it is said which it is.
    let off = backends(&services_of(9_999, 1), &with(3, 700)).unwrap().off;
    assert!(
        off[0].contains("eks 1.1533 % instead of 0.01 % over 700 endpoints"),
        "{off:?}"
    );
}

#[test]
fn a_service_that_kong_has_by_its_name_is_one_target() {
    let mut services = with(3, 0);
    let by_name = json!({"ingress.kubernetes.io/service-upstream": "true"});
    services.put(
        &"edge".parse().unwrap(),
        [service("checkout", 8080, &by_name)],
        [],
    );
    let route = services_of(9_000, 1_000);
    let found = backends(&route, &services).unwrap();
    let expected = expected(&route, &found);
    let upstream = expected.upstreams.values().next().unwrap();
    let names: Vec<_> = upstream
        .names
        .iter()
        .map(|((name, port), target)| (name.as_str(), *port, target.weight))
        .collect();
    assert_eq!(names, [("checkout.edge.svc", 8080, 6_000)]);
    let target = |host: &str, port: u16, weight: u64| json!({"host": host, "port": port, "weight": {"total": weight, "available": weight}});
    let of = |hosts: Vec<Value>| {
        let total: u64 = hosts
            .iter()
            .filter_map(|host| host["weight"]["total"].as_u64())
            .sum();
        json!({"data": {"details": {"weight": {"total": total}, "hosts": hosts}}})
    };
    let vm = up("10.1", 3).into_iter().map(|ip| target(&ip, 8080, 18_000));
    let mut hosts: Vec<Value> = vm.collect();
    hosts.push(target("checkout.edge.svc.cluster.local", 8080, 6_000));
    assert_eq!(weir_render::kong::shares(&of(hosts.clone()), upstream), Ok(()));
    // With two addresses behind it its weight counts twice.
    hosts[3] = target("checkout.edge.svc", 8080, 12_000);
    let wrong = weir_render::kong::shares(&of(hosts.clone()), upstream)
        .unwrap_err()
        .why;
    assert!(wrong.contains("weighs 12000 and should weigh 6000"), "{wrong}");
    hosts[3] = target("checkout.edge.svc", 8080, 6_000);
    // An endpoint that the controller lets drain gets nothing, and counts for nothing.
    hosts.push(target("10.9.9.9", 8080, 0));
    assert_eq!(weir_render::kong::shares(&of(hosts.clone()), upstream), Ok(()));
    assert!(weir_render::kong::weights(&of(hosts.clone()), upstream).is_some());
    hosts.pop();
    hosts[3] = target("checkout.edge.svcx", 8080, 6_000);
    let wrong = weir_render::kong::shares(&of(hosts), upstream).unwrap_err().why;
    assert!(wrong.contains("nobody's"), "{wrong}");
}

#[test]
fn whatever_would_send_requests_elsewhere_is_told() {
    let namespace = "edge".parse().unwrap();
    let route = services_of(9_000, 1_000);
    let told = |change: &dyn Fn(&mut Services)| {
        let mut services = with(3, 0);
        change(&mut services);
        let unmet = backends(&route, &services).unwrap_err();
        unmet.into_iter().map(|unmet| unmet.why).collect::<Vec<_>>()
    };
    let ready = |of: &str, ip: &str| slice(of, "http", 8080, &[(ip, true, false)]);
    let external =
        json!({"metadata": {}, "spec": {"type": "ExternalName", "externalName": "edge.example.com"}});
    insta::assert_debug_snapshot!([
        told(&|_| {}),
        told(&|services| services.put(
            &namespace,
            [],
            [slice(
                "checkout",
                "http",
                8080,
                &[("10.2.0.1", false, false), ("10.2.0.2", true, true)]
            )]
        )),
        told(&|services| services.put(
            &namespace,
            [],
            [slice("checkout", "web", 8080, &[("10.2.0.1", true, false)])]
        )),
        told(&|services| services.put(
            &namespace,
            [service("checkout", 80, &json!({}))],
            [ready("checkout", "10.2.0.1")]
        )),
        told(&|services| services.put(&namespace, [("checkout".to_owned(), Service::of(&external))], [])),
        told(&|services| services.put(&namespace, [], [ready("checkout", "10.1.0.2")])),
        told(&|services| services.put(
            &namespace,
            [service(
                "checkout",
                8080,
                &json!({"konghq.com/retries": "1", "other": "x"})
            )],
            [ready("checkout", "10.2.0.1")],
        )),
    ]);
    // What gets nothing may be gone: a revert away from it is written.
    let mut alone = Services::default();
    alone.put(
        &namespace,
        [service("checkout-vm", 8080, &json!({}))],
        [slice("checkout-vm", "http", 8080, &[("10.1.0.1", true, false)])],
    );
    assert!(backends(&services_of(10_000, 0), &alone).is_ok());
    assert!(backends(&services_of(9_999, 1), &alone).is_err());
}

#[test]
fn the_controllers_word_counts_if_it_is_of_the_route_as_it_is() {
    let read = |exchange: Value| exchange["response"]["body"].clone();
    let good = read(recorded!("httproute-programmed"));
    assert_eq!(said(&good, &parent(), false), Said::Programmed);
    let not = |exchange: Value| match said(&read(exchange), &parent(), false) {
        Said::Not(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(not(recorded!("httproute-backend-not-found")).contains("ResolvedRefs is False, BackendNotFound"));
    assert!(not(recorded!("httproute-wrong-port")).contains("Programmed is False, TranslationError"));
    assert!(not(recorded!("httproute-kong-refused")).contains("Kong refuses its whole configuration"));
    // One that gets nothing may be absent, and that is all that this word may be excused by.
    assert_eq!(
        said(&read(recorded!("httproute-backend-not-found")), &parent(), true),
        Said::Programmed
    );
    assert!(matches!(
        said(&read(recorded!("httproute-wrong-port")), &parent(), true),
        Said::Not(_)
    ));
    let mut older = good.clone();
    older["metadata"]["generation"] = json!(2);
    assert!(matches!(said(&older, &parent(), false), Said::Nothing(_)));
    let elsewhere = ParentRef {
        section: Some("http".parse().unwrap()),
        ..parent()
    };
    assert!(matches!(said(&good, &elsewhere, false), Said::Nothing(_)));
    let mut somebody = good;
    somebody["status"]["parents"][0]["controllerName"] = json!("example.com/other");
    assert!(matches!(said(&somebody, &parent(), false), Said::Nothing(_)));
}

#[test]
fn another_route_for_the_same_requests_is_found() {
    let route = services_of(9_000, 1_000);
    let other = |host: &str, path: &str, to: &str| {
        json!({
            "metadata": {"namespace": "edge", "name": "theirs"},
            "spec": {
                "parentRefs": [{"name": to}],
                "hostnames": [host],
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}],
            },
        })
    };
    assert!(overlaps(&route, &other("Shop.example.com", "/checkout", "edge")));
    assert!(overlaps(&route, &other("shop.example.com", "/checkout/", "edge")));
    assert!(!overlaps(&route, &other("shop.example.com", "/cart", "edge")));
    assert!(!overlaps(
        &route,
        &other("other.example.com", "/checkout", "edge")
    ));
    assert!(!overlaps(
        &route,
        &other("shop.example.com", "/checkout", "inside")
    ));
}

proptest! {
    /// No target is so heavy that Kong refuses it, whatever the endpoints are; and shares are near the declared ones.
    #[test]
    fn no_weight_is_too_large_and_none_is_far_off(vm in 0_u32..=10_000, endpoints in (1_usize..2_000, 1_usize..2_000)) {
        let weights = (vm * FOR_EACH_BASIS_POINT, (10_000 - vm) * FOR_EACH_BASIS_POINT);
        for (weight, endpoints) in [(weights.0, endpoints.0), (weights.1, endpoints.1)] {
            prop_assert!(target_weight(weight, endpoints) <= HEAVIEST);
            prop_assert_eq!(target_weight(weight, endpoints) == 0, weight == 0);
        }
        let found = shares(&[(weights.0, endpoints.0), (weights.1, endpoints.1)]).unwrap();
        // Rounding takes less than one of each endpoint, or adds less than that, of 60,000 in all.
        let bound = (endpoints.0.max(endpoints.1) as u64) * 1_000_000 / 60_000 * 2 + 2;
        prop_assert!(found[0].abs_diff(u64::from(vm) * 100) <= bound, "{:?} of {}", found, vm);
    }
}
