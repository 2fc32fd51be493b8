//! A route of somebody else that a split takes over, as values: whatever it says, and however often weights change, only its
//! backends do; and who may not be written over.

use weir_render::kic::taken::ANNOTATION;
use weir_render::kic::{Mark, Over, let_go, over};

use super::*;

/// A merge patch, as an API server applies it (RFC 7386).
fn merged(mut into: Value, patch: &Value) -> Value {
    let Value::Object(fields) = patch else {
        return patch.clone();
    };
    if !into.is_object() {
        into = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            let before = into[key].take();
            into[key] = merged(before, value);
        }
    }
    into
}

/// The route that takes over `theirs`, with these weights.
fn taking(vm: u32) -> HttpRoute {
    let via = addresses(&["vm=checkout-vm.edge.svc:8080", "eks=checkout.edge.svc:8080"]);
    let entry = weir_model::Entry::HttpRoute("theirs".to_owned());
    let split = plain("checkout", &[("vm", vm), ("eks", 10_000 - vm)]);
    made(&split, &Door { entry, via }).unwrap()
}

fn theirs(rule: Value) -> Value {
    json!({
        "metadata": {"name": "theirs", "namespace": "edge", "uid": "u1", "annotations": {"theirs": "too"}},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [rule]},
    })
}

fn written(route: &HttpRoute, live: &Value) -> Value {
    match over(route, route.taken_by.as_ref().unwrap(), live) {
        Ok(Over::Write(patch)) => merged(live.clone(), &patch),
        other => panic!("{other:?}"),
    }
}

fn is_there(route: &HttpRoute, live: &Value) -> bool {
    over(route, route.taken_by.as_ref().unwrap(), live) == Ok(Over::There)
}

fn a_rule() -> impl Strategy<Value = Value> {
    let backend =
        ("[a-z]{1,4}", 1_u16.., proptest::option::of(0_u32..1_000_000)).prop_map(|(name, port, weight)| {
            match weight {
                None => json!({"name": name, "port": port}),
                Some(weight) => {
                    json!({"group": "", "kind": "Service", "name": name, "port": port, "weight": weight})
                }
            }
        });
    let backends = proptest::option::of(proptest::collection::vec(backend, 0..4));
    let others = proptest::collection::btree_map("matches|filters|timeouts|name", "[a-z]{0,4}", 0..4);
    (backends, others).prop_map(|(backends, others)| {
        let mut rule = json!(others);
        if let Some(backends) = backends {
            rule["backendRefs"] = json!(backends);
        }
        rule
    })
}

proptest! {
    #[test]
    fn only_backends_change_and_nothing_when_it_is_let_go(rule in a_rule(), steps in proptest::collection::vec(0_u32..=10_000, 1..5)) {
        let before = theirs(rule);
        let mut live = before.clone();
        for vm in steps {
            let route = taking(vm);
            if !is_there(&route, &live) {
                live = written(&route, &live);
            }
            prop_assert!(is_there(&route, &live));
            prop_assert_eq!(&live["spec"]["rules"][0]["backendRefs"], &route.document["spec"]["rules"][0]["backendRefs"]);
            let mut rest = live.clone();
            rest["metadata"]["annotations"].as_object_mut().unwrap().remove(ANNOTATION);
            match before["spec"]["rules"][0].get("backendRefs") {
                Some(theirs) => rest["spec"]["rules"][0]["backendRefs"] = theirs.clone(),
                None => drop(rest["spec"]["rules"][0].as_object_mut().unwrap().remove("backendRefs")),
            }
            prop_assert_eq!(&rest, &before);
        }
        let mark = Mark::of(&live).unwrap();
        prop_assert!(mark.is_of(&live) && mark.stands(&live));
        let free = merged(live.clone(), &let_go());
        prop_assert_eq!(&free["spec"], &live["spec"]);
        prop_assert_eq!(&free["metadata"], &before["metadata"]);
    }
}

#[test]
fn what_others_wrote_over_it_is_contested() {
    let before = theirs(json!({"backendRefs": [{"name": "old", "port": 80}]}));
    let route = taking(9_000);
    let mut live = written(&route, &before);
    live["spec"]["rules"][0]["backendRefs"] =
        json!([{"name": "other", "port": 80, "weight": 0}, {"name": "old", "port": 81}]);
    let taker = route.taken_by.as_ref().unwrap();
    assert!(matches!(over(&route, taker, &live), Ok(Over::Contested(_))));
    // What is wanted may be what they wrote: nobody fights then.
    live["spec"]["rules"][0]["backendRefs"] =
        taking(5_000).document["spec"]["rules"][0]["backendRefs"].clone();
    let other = taking(5_000);
    assert!(matches!(
        over(&other, other.taken_by.as_ref().unwrap(), &live),
        Ok(Over::Write(_))
    ));
}

#[test]
fn what_cannot_be_taken_over_says_why() {
    let route = taking(9_000);
    let taker = route.taken_by.as_ref().unwrap();
    let before = theirs(json!({"backendRefs": []}));
    let why = |change: &dyn Fn(&mut Value)| {
        let mut live = before.clone();
        change(&mut live);
        over(&route, taker, &live).unwrap_err()
    };
    let second = why(&|live| {
        let rules = live["spec"]["rules"].as_array_mut().unwrap();
        rules.push(json!({}));
    });
    assert!(second.contains("has 2 rules"), "{second}");
    let elsewhere = why(&|live| live["spec"]["parentRefs"][0]["name"] = json!("other"));
    assert!(
        elsewhere.contains("is not attached to the Gateway edge/edge"),
        "{elsewhere}"
    );
    let marked = |change: &dyn Fn(&mut Value)| {
        let mut live = written(&route, &before);
        let said = live["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
        let mut mark: Value = serde_json::from_str(said).unwrap();
        change(&mut mark);
        live["metadata"]["annotations"][ANNOTATION] = json!(mark.to_string());
        over(&route, taker, &live)
    };
    let both = why(&|live| {
        let parents = live["spec"]["parentRefs"].as_array_mut().unwrap();
        parents.push(json!({"name": "istio"}));
    });
    assert!(
        both.contains("is attached to the Gateway edge/istio as well"),
        "{both}"
    );
    for of in ["gateway", "federation"] {
        let of_other = marked(&|mark| mark[of] = json!("another")).unwrap_err();
        assert!(
            of_other.contains("is taken over by split checkout at the gateway"),
            "{of_other}"
        );
    }
    // The split got another name.
    assert!(matches!(
        marked(&|mark| mark["split"] = json!("renamed")),
        Ok(Over::Write(_))
    ));
    // What is there already is at both, and a revert takes it away at both.
    let mut both = written(&route, &before);
    let parents = both["spec"]["parentRefs"].as_array_mut().unwrap();
    parents.push(json!({"name": "istio"}));
    let back = taking(10_000);
    assert!(matches!(
        over(&back, back.taken_by.as_ref().unwrap(), &both),
        Ok(Over::Write(_))
    ));
    for of in ["generation", "gatewayGeneration"] {
        let newer = marked(&|mark| mark[of] = json!(99)).unwrap_err();
        assert!(newer.contains("has a newer plan"), "{newer}");
    }
    // A mark that is of another object, or that nobody can read, is none.
    assert!(matches!(
        marked(&|mark| mark["uid"] = json!("u2")),
        Ok(Over::Write(_))
    ));
    assert!(matches!(
        marked(&|mark| mark["split"] = json!(7)),
        Ok(Over::Write(_))
    ));
}
