//! What a control plane adds by itself is no reason to write; what takes requests from a route, or takes a route away, is.

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_render::{Form, Object, Options, Step, difference, render};

use crate::{PLAIN, RICH, federation, item};

fn wanted() -> (std::sync::Arc<weir_planner::Item>, Object) {
    let item = item(RICH);
    let object = render(&item, &federation(), &Form::Universal, Options::default()).remove(0);
    (item, object)
}

fn steps(live: Object) -> Vec<Step> {
    let (item, object) = wanted();
    weir_render::steps(
        &[(&item, vec![object])],
        &[(live, item.generation)],
        item.generation,
        |_| false,
    )
}

/// All places in a value that hold something of this kind, as JSON pointers.
fn places(value: &Value, at: &str, is: &dyn Fn(&Value) -> bool, found: &mut Vec<String>) {
    if is(value) {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                places(
                    inner,
                    &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    is,
                    found,
                );
            }
        }
        Value::Array(list) => {
            for (n, inner) in list.iter().enumerate() {
                places(inner, &format!("{at}/{n}"), is, found);
            }
        }
        _ => {}
    }
}

fn all(value: &Value, is: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    places(value, "", &is, &mut found);
    found
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        "[a-z/]{0,8}".prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,8}", inner, 0..3)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Fields that no version of Kuma that Weir knows has, in any map that is no choice by labels.
    #[test]
    fn what_is_added_and_means_nothing_is_no_step(
        added in prop::collection::vec((any::<prop::sample::Index>(), "x-[a-z]{1,6}", anything()), 1..6)
    ) {
        let (_, mut live) = wanted();
        for (at, key, value) in added {
            let maps: Vec<_> = all(&live.spec, Value::is_object)
                .into_iter()
                .filter(|at| !at.ends_with("labels"))
                .collect();
            let map = live.spec.pointer_mut(&maps[at.index(maps.len())]).and_then(Value::as_object_mut);
            map.expect("a map").insert(key, value);
        }
        prop_assert_eq!(steps(live), []);
    }

    /// Any one field of ours that is another, or is gone; any list with one more or one fewer.
    #[test]
    fn what_is_changed_or_gone_is_a_step(at in any::<prop::sample::Index>(), other in anything(), how in 0..4_u8) {
        let (_, mut live) = wanted();
        match how {
            0 => {
                let places = all(&live.spec, |value| !value.is_object() && !value.is_array());
                let place = live.spec.pointer_mut(&places[at.index(places.len())]).expect("it is there");
                prop_assume!(*place != other);
                *place = other;
            }
            1 => {
                let maps = all(&live.spec, |value| value.as_object().is_some_and(|map| !map.is_empty()));
                let place = live.spec.pointer_mut(&maps[at.index(maps.len())]).and_then(Value::as_object_mut);
                let map = place.expect("a map");
                let key = map.keys().nth(at.index(map.len())).expect("a key").clone();
                map.remove(&key);
            }
            _ => {
                let lists = all(&live.spec, |value| value.as_array().is_some_and(|list| !list.is_empty()));
                let place = live.spec.pointer_mut(&lists[at.index(lists.len())]).and_then(Value::as_array_mut);
                let list = place.expect("a list");
                let last = list[list.len() - 1].clone();
                if how == 2 {
                    list.push(last);
                } else {
                    // As older agents wrote it, and left alone for that.
                    prop_assume!(last["kind"] != "MeshMultiZoneService");
                    list.pop();
                }
            }
        }
        let found = steps(live);
        prop_assert!(
            matches!(found.as_slice(), [Step::Put { reason, .. }] if reason == "weights or routes differ"),
            "{:?}", found
        );
    }
}

/// A field that Weir does not write and that this version of Kuma acts upon: requests would go elsewhere under a policy
/// that is called the planned one.
#[test]
fn what_is_added_and_takes_requests_is_a_step() {
    let filters = json!([{"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere"}}]);
    for (at, key, value) in [
        ("/to/0/rules/0/default", "filters", filters),
        ("/to/0/rules/2/matches/0", "method", json!("GET")),
        (
            "/to/0/rules/0/matches/0",
            "queryParams",
            json!([{"name": "a", "value": "b"}]),
        ),
        ("/to/0/targetRef/labels", "k8s.kuma.io/namespace", json!("shop")),
        (
            "/to/0/rules/0/default/backendRefs/0/labels",
            "anything",
            json!("else"),
        ),
        ("/to/0/rules/0/default/backendRefs/0", "name", json!("other")),
        ("/targetRef", "tags", json!({"app": "one"})),
        ("/targetRef", "proxyTypes", json!(["Gateway"])),
        ("/to/0", "hostnames", json!(["shop.example.com"])),
    ] {
        let (_, mut live) = wanted();
        let place = live.spec.pointer_mut(at).and_then(Value::as_object_mut);
        place.expect("a map").insert(key.to_owned(), value);
        assert!(
            matches!(steps(live).as_slice(), [Step::Put { .. }]),
            "{key} at {at}"
        );
        // The same with nothing in it says nothing.
        let (_, mut live) = wanted();
        let place = live.spec.pointer_mut(at).and_then(Value::as_object_mut);
        place.expect("a map").insert(key.to_owned(), json!([]));
        assert_eq!(steps(live), [], "{key} at {at}");
    }
}

#[test]
fn a_difference_is_named_by_its_path() {
    let item = item(PLAIN);
    let ours = render(&item, &federation(), &Form::Universal, Options::default())
        .remove(0)
        .spec;
    assert_eq!(difference(&ours, &ours, "spec"), None);
    let mut live = ours.clone();
    live["to"][0]["rules"][0]["default"]["backendRefs"][1]["weight"] = json!(80);
    assert_eq!(
        difference(&ours, &live, "spec").as_deref(),
        Some("spec.to[0].rules[0].default.backendRefs[1].weight")
    );
    assert_eq!(difference(&ours, &Value::Null, "spec").as_deref(), Some("spec"));
}
