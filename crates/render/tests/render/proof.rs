//! I9 from the side of the values: what an Envoy runs is told exactly, and nothing that differs passes for exact.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_planner::{Item, ProvenWeights};
use weir_render::{Form, Live, Options, render, weights};

use crate::{PLAIN, RICH, federation, item, kuma};

fn spec(item: &Item) -> Value {
    render(item, &federation(), &Form::Universal, Options::default())[0]
        .spec
        .clone()
}

/// The planned weights; a backend with 0 is absent, as in Envoy.
fn planned(item: &Item) -> ProvenWeights {
    let routes = item.routes.iter().map(|route| {
        let weights = route.weights.iter().filter(|(_, weight)| weight.get() > 0);
        (
            route.name.clone(),
            weights.map(|(name, weight)| (name.clone(), *weight)).collect(),
        )
    });
    routes.collect()
}

#[test]
fn what_kuma_makes_of_our_policy_is_exact() {
    for split in [PLAIN.to_owned(), RICH.to_owned(), PLAIN.replace("http", "tcp")] {
        let item = item(&split);
        assert_eq!(
            weights(&item, &kuma::dump(&spec(&item)), &[]),
            Live::Weights(planned(&item)),
            "{split}"
        );
    }
}

/// A listener of real Kuma 2.14.3 and Envoy 1.38.3 under such a policy, 70/30 and anchored.
#[test]
fn a_recorded_listener_is_read() {
    let split = PLAIN
        .replace("eks-use1, namespace: shop", "ams-vm")
        .replace("vm: 90, cloud: 10", "vm: 70, cloud: 30");
    let item = item(&split);
    let recorded: Value = serde_json::from_str(include_str!("recorded-listener.json")).expect("JSON");
    let text = recorded
        .to_string()
        .replace("0123456789abcdef0123456789abcdef", &item.anchor);
    let listener: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        weights(&item, &json!({ "configs": [listener] }), &[]),
        Live::Weights(planned(&item))
    );
    // The same through a control plane, where listeners stand in the dump's own list.
    let whole = json!({ "configs": [
        { "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump" },
        { "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [listener] },
    ] });
    assert_eq!(weights(&item, &whole, &[]), Live::Weights(planned(&item)));
}

/// R3: what drains or warms takes no request and says nothing.
#[test]
fn only_active_listeners_count() {
    let item = item(PLAIN);
    let mut dump = kuma::dump(&spec(&item));
    let old = spec(&crate::item(
        &PLAIN.replace("vm: 90, cloud: 10", "vm: 10, cloud: 90"),
    ));
    let old = kuma::dump(&old)["configs"][1]["active_state"].clone();
    for listener in dump["configs"].as_array_mut().expect("listeners") {
        listener["draining_state"] = old.clone();
        listener["warming_state"] = old.clone();
    }
    assert_eq!(weights(&item, &dump, &[]), Live::Weights(planned(&item)));
    for listener in dump["configs"].as_array_mut().expect("listeners") {
        listener
            .as_object_mut()
            .expect("a listener")
            .remove("active_state");
    }
    assert_eq!(weights(&item, &dump, &[]), Live::NotCalling);
}

#[test]
fn who_does_not_call_says_nothing() {
    let item = item(PLAIN);
    let other = item.port.to_string();
    let dump = kuma::dump(&spec(&item))
        .to_string()
        .replace(&format!("checkout_{other}\""), "checkout_9090\"");
    let dump: Value = serde_json::from_str(&dump).expect("JSON");
    assert_eq!(weights(&item, &dump, &[]), Live::NotCalling);
    assert_eq!(weights(&item, &json!({}), &[]), Live::NotCalling);
    for broken in [
        json!(null),
        json!({"configs": 3}),
        json!({"what": 1}),
        json!([]),
        json!({"configs": [{}]}),
    ] {
        assert!(
            matches!(weights(&item, &broken, &[]), Live::Unknown(_)),
            "{broken}"
        );
    }
}

/// R6: Kuma drops what it cannot resolve, and the rest takes all.
#[test]
fn a_share_that_kuma_dropped_is_seen() {
    let item = item(RICH);
    let mut spec = spec(&item);
    for to in 0..2 {
        for rule in spec["to"][to]["rules"].as_array_mut().expect("rules") {
            let references = rule["default"]["backendRefs"].as_array_mut().expect("references");
            if references.len() > 1 {
                references.retain(|reference| reference["labels"]["kuma.io/zone"] != "use1");
            }
        }
    }
    let Live::Weights(found) = weights(&item, &kuma::dump(&spec), &[]) else {
        panic!("readable")
    };
    assert_ne!(found, planned(&item));
}

/// A request that a rival's route takes is not ours any more, even if all our routes are there.
#[test]
fn a_foreign_route_is_no_exactness() {
    let item = item(PLAIN);
    let mut dump = kuma::dump(&spec(&item));
    let routes =
        "/active_state/listener/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
    let routes = dump["configs"][1]
        .pointer_mut(routes)
        .and_then(Value::as_array_mut)
        .expect("routes");
    let mut foreign = routes[0].clone();
    foreign["match"] =
        json!({ "prefix": "/", "headers": [{ "name": "x-canary", "string_match": { "exact": "1" } }] });
    routes.insert(0, foreign);
    assert!(matches!(weights(&item, &dump, &[]), Live::Different(_)));
}

/// The HTTP connection manager in a listener of `kuma::dump`.
const MANAGER: &str = "/active_state/listener/filter_chains/0/filters/0/typed_config";

fn with(dump: &Value, at: &str, add: &Value) -> Value {
    let mut changed = dump.clone();
    let place = changed["configs"][1]
        .pointer_mut(at)
        .and_then(Value::as_object_mut);
    place
        .expect("it is there")
        .extend(add.as_object().expect("fields").clone());
    changed
}

/// What is added beside our weights can decide in their place: then they are not what requests do.
#[test]
fn nothing_that_is_added_passes_for_exact() {
    let item = item(RICH);
    let dump = kuma::dump(&spec(&item));
    let host = format!("{MANAGER}/route_config/virtual_hosts/0");
    let shared = format!("{host}/routes/0/route/weighted_clusters");
    let chain = dump["configs"][1]["active_state"]["listener"]["filter_chains"][0].clone();
    for (at, add) in [
        (host.as_str(), json!({ "domains": ["shop.example.com"] })),
        (&host, json!({ "domains": [] })),
        (&shared, json!({ "header_name": "x-random" })),
        (&shared, json!({ "runtime_key_prefix": "shift" })),
        ("/active_state/listener", json!({ "default_filter_chain": chain })),
    ] {
        let found = weights(&item, &with(&dump, at, &add), &[]);
        assert!(matches!(found, Live::Unknown(_)), "{add} at {at}: {found:?}");
    }
}

/// Weights that wrap around to the planned ones are not the planned ones, and nothing panics.
#[test]
fn weights_beyond_what_an_envoy_can_have_are_not_added_up() {
    let item = item(PLAIN);
    let mut dump = kuma::dump(&spec(&item));
    for listener in 1..=2 {
        let routes = format!("{MANAGER}/route_config/virtual_hosts/0/routes");
        let routes = dump["configs"][listener]
            .pointer_mut(&routes)
            .and_then(Value::as_array_mut)
            .expect("routes");
        let clusters = routes
            .last_mut()
            .and_then(|route| route.pointer_mut("/route/weighted_clusters/clusters"))
            .and_then(Value::as_array_mut)
            .expect("clusters");
        let mut again = clusters[0].clone();
        again["weight"] = json!(u64::MAX);
        clusters.push(again.clone());
        again["weight"] = json!(1);
        clusters.push(again);
    }
    assert!(matches!(weights(&item, &dump, &[]), Live::Unknown(_)));
}

/// A transparent proxy's pass-through and a legacy service have outbound listeners of their own, with no name of a
/// resource (as in Kuma 2.14.3); they hide nothing.
#[test]
fn listeners_for_no_service_of_a_plan_are_passed_over() {
    let item = item(PLAIN);
    let mut dump = kuma::dump(&spec(&item));
    let listener = |more: Value| {
        let mut listener = json!({
            "traffic_direction": "OUTBOUND",
            "filter_chains": [{ "filters": [{ "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "cluster": "outbound:passthrough:ipv4",
            } }] }],
        });
        let fields = listener.as_object_mut().expect("fields");
        fields.extend(more.as_object().expect("fields").clone());
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
            "active_state": { "listener": listener },
        })
    };
    let legacy =
        json!({ "metadata": { "filter_metadata": { "io.kuma.tags": { "kuma.io/service": "elastic" } } } });
    let all = dump["configs"].as_array_mut().expect("listeners");
    all.insert(0, listener(json!({ "use_original_dst": true })));
    all.insert(1, listener(legacy));
    assert_eq!(weights(&item, &dump, &[]), Live::Weights(planned(&item)));
    let all = dump["configs"].as_array_mut().expect("listeners");
    all.insert(0, listener(json!({})));
    assert!(
        matches!(weights(&item, &dump, &[]), Live::Unknown(_)),
        "it may be ours"
    );
}

/// All places of a value that a mutation can strike.
fn leaves(value: &Value, at: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                leaves(
                    value,
                    &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            }
        }
        Value::Array(all) => {
            for (index, value) in all.iter().enumerate() {
                leaves(value, &format!("{at}/{index}"), into);
            }
        }
        _ => into.push(at.to_owned()),
    }
}

/// Leaves that say nothing of where requests go.
fn harmless(at: &str) -> bool {
    at.ends_with("/version_info")
        || at.ends_with("/name") && !at.contains("/routes/")
        || at.contains("/domains/")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_weights_are_read_back(cut in 0_u32..=10_000, second in 0_u32..=10_000) {
        let first = cut.min(second);
        let (middle, last) = (cut.max(second) - first, 10_000 - cut.max(second));
        let percent = |bp: u32| format!("{}.{:02}", bp / 100, bp % 100);
        let split = RICH.replace(
            "vm: 33.33, other: 0, cloud: 66.67",
            &format!("vm: {}, other: {}, cloud: {}", percent(first), percent(middle), percent(last)),
        );
        let item = item(&split);
        prop_assert_eq!(weights(&item, &kuma::dump(&spec(&item)), &[]), Live::Weights(planned(&item)));
        let back = weir_render::weights_of(&spec(&item)).expect("what we write we can read");
        let default: BTreeMap<_, _> = back[4].iter().map(|(to, weight)| (to["kuma.io/zone"].clone(), weight.get())).collect();
        let wanted = [("fra", first), ("ams", middle), ("use1", last)];
        prop_assert_eq!(default, wanted.map(|(zone, weight)| (zone.to_owned(), weight)).into());
    }

    /// The guarantee, attacked: strike any one value in the service's listeners, and the result is never exact.
    #[test]
    fn nothing_that_differs_passes_for_exact(which in any::<prop::sample::Index>(), how in 0_u8..4, drop in any::<bool>()) {
        let item = item(RICH);
        let dump = kuma::dump(&spec(&item));
        let mut places = Vec::new();
        leaves(&dump["configs"][1], "/configs/1", &mut places);
        // The anchor's own shares are not the split's.
        let routes = dump["configs"][1].pointer(
            "/active_state/listener/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes");
        let anchors = routes.and_then(Value::as_array).expect("routes").iter().position(|route| {
            route.to_string().contains(&item.anchor) });
        let anchor = format!("/routes/{}/", anchors.expect("an anchor"));
        places.retain(|at| !harmless(at) && !at.contains(&anchor));
        let at = which.get(&places);
        let mut struck = dump.clone();
        let place = struck.pointer_mut(at).expect("it is there");
        let was = place.clone();
        *place = match (place.clone(), how) {
            (Value::Number(n), 0) => json!(n.as_u64().unwrap_or(0) + 1),
            (Value::Number(_), 1) => json!(0),
            (Value::String(text), 0) => json!(format!("{text}x")),
            (Value::String(_), 1) => json!(""),
            (_, 2) => Value::Null,
            _ => json!({"other": 1}),
        };
        if drop {
            let (parent, key) = at.rsplit_once('/').expect("a path");
            if let Some(fields) = struck.pointer_mut(parent).and_then(Value::as_object_mut) {
                fields.remove(&key.replace("~1", "/").replace("~0", "~"));
            }
        }
        prop_assume!(struck != dump);
        match weights(&item, &struck, &[]) {
            // Struck so that the listener is another service's: the other way of calling is still exact, and is all there is.
            Live::Weights(found) if found == planned(&item) => {
                let identity = at.ends_with("unified-name") || at.ends_with("traffic_direction");
                prop_assert!(identity, "{at}: {was} struck, and still exact");
            }
            _ => {}
        }
    }

    #[test]
    fn nothing_in_a_dump_makes_it_panic(text in "\\PC{0,200}") {
        let item = item(PLAIN);
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = weights(&item, &value, &[]);
        }
        let mut dump = kuma::dump(&spec(&item));
        dump["configs"][1]["active_state"]["listener"]["filter_chains"] = json!(text);
        prop_assert!(!matches!(weights(&item, &dump, &[]), Live::Weights(w) if w != planned(&item)));
    }
}
