//! The document: ours as reviewers read it, and the base to the last field.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_model::{HeaderMatch, Match, Protocol, ValueMatch, Via};
use weir_planner::{GatewayPlan, Generation};
use weir_render::kong::{AtDoor, Document, Resolved, check, document};

use crate::{address, addresses, door, federation, gateway, item, pair, plain, route, routing, takes};

pub(crate) fn made(gateway: &GatewayPlan, doors: &[AtDoor<'_>]) -> Document {
    document(&federation(), gateway, doors, &Resolved::new())
        .expect("no conflict")
        .expect("a document")
}

pub(crate) fn read(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).expect("JSON")
}

pub(crate) fn beta() -> Match {
    let value = ValueMatch::Exact("true".to_owned());
    Match {
        headers: vec![HeaderMatch {
            name: "x-beta".to_owned(),
            value,
        }],
        ..Match::ANY
    }
}

#[test]
fn golden() {
    let checkout = item(
        "checkout",
        vec![
            route("beta", beta(), &[("eks", 10_000), ("vm", 0)]),
            route("default", Match::ANY, &[("vm", 9_000), ("eks", 1_000)]),
        ],
    );
    let (mut calls, cart) = (
        plain("calls", &[("vm", 10_000)]),
        plain("cart", &[("vm", 5_000), ("eks", 5_000)]),
    );
    calls.protocol = Protocol::Grpc;
    let mut safe = routing(&["shop.example.com"], &["/checkout"]);
    (safe.https_only, safe.preserve_host) = (true, true);
    let doors = [
        door(
            safe,
            addresses(&["vm=10.0.0.1:8080,10.0.0.2:8080", "eks=[2001:db8::1]:80"]),
        ),
        door(
            routing(&["calls.example.com"], &[]),
            Via::Mesh(address("127.0.0.1:33001")),
        ),
        takes("cart", addresses(&["vm=cart.internal:80", "eks=10.0.0.3:80"])),
    ];
    let at = [
        AtDoor {
            item: &checkout,
            door: &doors[0],
            pin: None,
        },
        AtDoor {
            item: &calls,
            door: &doors[1],
            pin: None,
        },
        AtDoor {
            item: &cart,
            door: &doors[2],
            pin: None,
        },
    ];
    let gateway = gateway(Some(json!({
        "_format_version": "3.0",
        "plugins": [{"name": "prometheus"}],
        "services": [
            {"name": "cart", "host": "cart.internal", "port": 81, "read_timeout": 5000, "retries": 3, "tags": ["theirs"],
                "routes": [{"name": "cart", "paths": ["/cart"]}]},
            {"name": "other", "url": "https://other.internal/x"},
        ],
    })));
    let resolved = Resolved::from([(
        "cart.internal".to_owned(),
        ["10.0.0.9".parse().expect("an address")].into(),
    )]);
    let made = document(&federation(), &gateway, &at, &resolved)
        .expect("no conflict")
        .expect("a document");
    insta::assert_snapshot!(serde_json::to_string_pretty(&read(&made)).expect("JSON"));
    assert_eq!(made.hash, "25894560986bf40ec29764d1fd6cd342");
    let [retries] = &made.notes[..] else {
        panic!("{:?}", made.notes)
    };
    assert!(
        retries.contains("split cart: service `cart` of the base tries 3 other targets"),
        "{retries}"
    );
    let upstreams: Vec<&str> = made
        .doors
        .values()
        .flat_map(|door| door.upstreams.values())
        .map(|up| up.name.as_str())
        .collect();
    assert_eq!(
        upstreams,
        ["weir.cart.default", "weir.checkout.beta", "weir.checkout.default"]
    );
    // The order in which doors come does not matter, and JSON is written in one way only.
    let turned = [at[2], at[1], at[0]];
    let again = document(&federation(), &gateway, &turned, &resolved)
        .expect("no conflict")
        .expect("a document");
    assert_eq!(made.bytes, again.bytes);
    let text = String::from_utf8(made.bytes.clone()).expect("text");
    assert_eq!(text, read(&made).to_string(), "keys ascending, no spaces");
}

#[test]
fn nothing_is_never_a_document() {
    let nothing = document(&federation(), &gateway(None), &[], &Resolved::new());
    assert_eq!(nothing, Ok(None));
    let empty = gateway(Some(json!({"_format_version": "3.0"})));
    assert_eq!(document(&federation(), &empty, &[], &Resolved::new()), Ok(None));
    // A base alone is one, and its very text.
    let base =
        json!({"_format_version": "2.1", "services": [{"name": "a", "host": "a.test"}], "upstreams": null});
    assert_eq!(read(&made(&gateway(Some(base.clone())), &[])), base);
}

/// A site's document of so many services, with all that people write in one.
fn large_base(services: usize) -> Value {
    let service = |at: usize| {
        let mut service = json!({
            "name": format!("s{at}"), "protocol": "http", "port": 8000 + at, "path": "/api", "tags": ["site", format!("team-{}", at % 7)],
            "routes": [{"name": format!("r{at}"), "hosts": [format!("s{at}.example.com")], "paths": ["/", "~/v[0-9]+$"]},
                {"paths": [format!("/s{at}")], "methods": ["GET"], "headers": {"x-at": [at.to_string()]}}],
            "plugins": [{"name": "rate-limiting", "config": {"minute": at, "policy": "local", "fraction": 0.1, "tags": ["weird"]}}],
        });
        let host = format!("s{at}.internal");
        if at.is_multiple_of(3) {
            for field in ["protocol", "port", "path"] {
                service.as_object_mut().expect("an object").remove(field);
            }
            service["url"] = format!("http://{host}:{}/api", 8000 + at).into();
        } else {
            service["host"] = host.into();
        }
        service
    };
    json!({
        "_format_version": "3.0", "_transform": true, "_comment": "kept by the site", "_info": {"select_tags": ["x"]},
        "services": (0..services).map(service).collect::<Vec<_>>(),
        "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "k"}]}],
        "upstreams": [{"name": "site.up", "targets": [{"target": "10.1.1.1:80", "weight": 33}], "hash_on": "none"}],
        "plugins": [{"name": "cors", "config": {"origins": null, "number": 1e3, "large": 123_456_789_012_345_678_u64}}],
        "certificates": [{"cert": "-----BEGIN\nx", "key": "y", "snis": [{"name": "a.test"}]}],
        "something_new": [{"name": "z"}],
    })
}

#[test]
fn a_base_of_five_hundred_services_is_the_same_through_a_thousand_changes() {
    let base = large_base(500);
    let gateway = gateway(Some(base.clone()));
    // What each part must begin with, the host of the one service that is taken over put in by hand.
    let parts = |taken: usize, field: &str, value: &str| {
        let mut base = base.clone();
        base["services"][taken][field] = value.into();
        let parts = base.as_object().expect("an object").iter();
        let text = |(name, part): (&String, &Value)| {
            let part = part.to_string();
            match name.as_str() {
                "services" | "upstreams" => format!("\"{name}\":{},", part.trim_end_matches(']')),
                _ => format!("\"{name}\":{part}"),
            }
        };
        parts.map(text).collect::<Vec<_>>()
    };
    let by_url = parts(30, "url", "http://weir.cart.default:8030/api");
    let by_host = parts(31, "host", "weir.cart.default");
    let mut hashes = std::collections::BTreeSet::new();
    for change in 0..1_000_u32 {
        let share = change % 101 * 100;
        let mut checkout = plain("checkout", &[("vm", 10_000 - share), ("eks", share)]);
        checkout.generation = Generation(u64::from(change) + 1);
        let cart = plain("cart", &[("vm", share), ("eks", 10_000 - share)]);
        let even = change % 2 == 0;
        let doors = [
            door(routing(&["shop.example.com"], &["/checkout"]), pair()),
            takes(if even { "s30" } else { "s31" }, pair()),
        ];
        let at = [
            AtDoor {
                item: &checkout,
                door: &doors[0],
                pin: None,
            },
            AtDoor {
                item: &cart,
                door: &doors[1],
                pin: None,
            },
        ];
        let made = made(&gateway, &at);
        let text = std::str::from_utf8(&made.bytes).expect("text");
        for part in if even { &by_url } else { &by_host } {
            assert!(text.contains(part), "change {change}: {}", &part[..40]);
        }
        // And nothing else is there: with ours taken out and the host put back, it is the base.
        if change % 50 < 2 {
            let mut written = read(&made);
            for (kind, ours) in [("services", 1), ("upstreams", 2)] {
                let list = written[kind].as_array_mut().expect("a list");
                let theirs = list.len() - ours;
                let last = list.split_off(theirs);
                assert!(
                    last.iter()
                        .all(|one| one["name"].as_str().is_some_and(|name| name.starts_with("weir.")))
                );
            }
            let (taken, field) = if even { (30, "url") } else { (31, "host") };
            written["services"][taken][field] = base["services"][taken][field].clone();
            assert_eq!(written, base, "change {change}");
        }
        hashes.insert(made.hash);
    }
    assert_eq!(hashes.len(), 1_000, "each change is another document");
}

/// The base's own text goes through untouched: a number that no reader of JSON here can hold exactly is still itself.
#[test]
fn numbers_of_a_base_are_not_rewritten() {
    let mut gateway = gateway(Some(json!({})));
    let number = "12345678901234567890123456789.123456789012345678901234567890";
    let text = format!(
        r#"{{"_format_version":"3.0","plugins":[{{"config":{{"x":{number}}},"name":"p"}}],"services":[{{"host":"a","name":"a","retries":{number}}}]}}"#
    );
    gateway.base.as_mut().expect("a base").document = text.into();
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let door = takes("a", pair());
    let made = made(
        &gateway,
        &[AtDoor {
            item: &item,
            door: &door,
            pin: None,
        }],
    );
    let text = String::from_utf8(made.bytes).expect("text");
    assert_eq!(text.matches(number).count(), 2, "{text}");
    assert!(
        text.contains(r#""host":"weir.checkout.default","name":"a""#),
        "{text}"
    );
}

#[test]
fn a_service_that_is_taken_over_keeps_all_but_its_host() {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let mesh = || Via::Mesh(address("127.0.0.1:33001"));
    let named = || json!({"host_header": "cart.internal"});
    for (service, via, expected, upstream) in [
        (
            json!({"host": "cart.internal", "port": 81, "x": [1, null]}),
            pair(),
            json!({"host": "weir.checkout.default", "port": 81, "x": [1, null]}),
            named(),
        ),
        (
            json!({"host": "10.1.1.1"}),
            pair(),
            json!({"host": "weir.checkout.default"}),
            json!({}),
        ),
        (
            json!({"host": "[::1]"}),
            pair(),
            json!({"host": "weir.checkout.default"}),
            json!({}),
        ),
        (
            json!({"url": "https://cart.internal:8443/x?"}),
            pair(),
            json!(null),
            json!({}),
        ),
        (
            json!({"url": "https://cart.internal:8443/x"}),
            pair(),
            json!({"url": "https://weir.checkout.default:8443/x"}),
            named(),
        ),
        (
            json!({"url": "http://[::1]/x/y"}),
            pair(),
            json!({"url": "http://weir.checkout.default/x/y"}),
            json!({}),
        ),
        (
            json!({"url": "http://cart.internal"}),
            mesh(),
            json!({"url": "http://127.0.0.1:33001"}),
            json!({}),
        ),
        (
            json!({"url": "http://cart.internal:81/x"}),
            mesh(),
            json!({"url": "http://127.0.0.1:33001/x"}),
            json!({}),
        ),
        (
            json!({"host": "cart.internal"}),
            mesh(),
            json!({"host": "127.0.0.1", "port": 33001}),
            json!({}),
        ),
        // Its own upstream: what that calls its targets is kept.
        (
            json!({"host": "up.named"}),
            pair(),
            json!({"host": "weir.checkout.default"}),
            named(),
        ),
        (
            json!({"host": "up.plain"}),
            pair(),
            json!({"host": "weir.checkout.default"}),
            json!({}),
        ),
    ] {
        let mut service = service;
        service["name"] = "cart".into();
        let carries = matches!(via, Via::Addresses(_));
        let base = json!({"_format_version": "3.0", "services": [service],
            "upstreams": [{"name": "up.named", "host_header": "cart.internal"}, {"name": "up.plain"}]});
        let door = takes("cart", via);
        let made = document(
            &federation(),
            &gateway(Some(base)),
            &[AtDoor {
                item: &item,
                door: &door,
                pin: None,
            }],
            &Resolved::new(),
        );
        let Ok(Some(made)) = made else {
            assert_eq!(expected, json!(null), "{made:?}");
            continue;
        };
        let mut expected = expected;
        expected["name"] = "cart".into();
        let written = read(&made);
        assert_eq!(written["services"], json!([expected]));
        let ours = written["upstreams"].as_array().expect("a list").get(2);
        assert_eq!(
            ours.map(|ours| &ours["host_header"]),
            ours.map(|_| &upstream["host_header"]),
            "{written}"
        );
        // Its upstream, which is not used any more; and that Kong tries others, where Kong carries the weights.
        let host = service["host"].as_str();
        let notes = usize::from(host.is_some_and(|host| host.starts_with("up."))) + usize::from(carries);
        assert_eq!(made.notes.len(), notes, "{:?}", made.notes);
        let retries = made
            .notes
            .iter()
            .any(|note| note.contains("tries 5 other targets") && note.contains("Kong's default"));
        assert_eq!(retries, carries, "{:?}", made.notes);
    }
}

#[test]
fn what_a_person_should_know_is_noted_and_holds_nothing() {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let resolved = Resolved::from([
        (
            "vm.test".to_owned(),
            ["10.0.0.1".parse().expect("an address")].into(),
        ),
        (
            "eks.test".to_owned(),
            ["10.0.0.2".parse().expect("an address")].into(),
        ),
    ]);
    let base = json!({"_format_version": "3.0", "upstreams": [{"name": "up", "hash_on": "header", "hash_on_header": "X-User",
        "hash_fallback": "header", "hash_fallback_header": "x_other"}]});
    let mut kept = routing(&[], &["/"]);
    kept.preserve_host = true;
    for (routing, via, named, notes) in [
        (
            routing(&[], &["/"]),
            addresses(&["vm=vm.test:80", "eks=eks.test:80"]),
            None,
            2,
        ),
        (
            routing(&[], &["/"]),
            addresses(&["vm=vm.test:80", "eks=10.0.0.2:80"]),
            None,
            2,
        ),
        (kept, addresses(&["vm=vm.test:80", "eks=eks.test:80"]), None, 1),
        (routing(&[], &["/"]), pair(), None, 1),
        (
            routing(&[], &["/"]),
            addresses(&["vm=vm.test:80", "eks=vm.test:81"]),
            Some("vm.test"),
            1,
        ),
    ] {
        let door = door(routing, via);
        let made = document(
            &federation(),
            &gateway(Some(base.clone())),
            &[AtDoor {
                item: &item,
                door: &door,
                pin: None,
            }],
            &resolved,
        );
        let made = made.expect("no conflict").expect("a document");
        assert_eq!(made.notes.len(), notes, "{:?}", made.notes);
        assert!(
            made.notes[0].contains("upstream `up` hashes by header X-User"),
            "{:?}",
            made.notes
        );
        let written = read(&made);
        assert_eq!(
            written["upstreams"][1]["host_header"].as_str(),
            named,
            "{written}"
        );
    }
}

/// One split's addresses hold the whole document, and it is said whose they are.
#[test]
fn addresses_that_are_missing_are_told_by_split() {
    let (one, other) = (plain("one", &[("vm", 10_000)]), plain("other", &[("vm", 10_000)]));
    let doors = [
        door(routing(&[], &["/one"]), addresses(&["vm=10.0.0.1:80"])),
        door(routing(&[], &["/other"]), addresses(&["vm=gone.test:80"])),
    ];
    let at = [
        AtDoor {
            item: &one,
            door: &doors[0],
            pin: None,
        },
        AtDoor {
            item: &other,
            door: &doors[1],
            pin: None,
        },
    ];
    assert_eq!(check(&federation(), &gateway(None), &at), Ok(vec![]));
    let found = document(&federation(), &gateway(None), &at, &Resolved::new()).expect_err("a conflict");
    let splits: BTreeMap<_, _> = found
        .iter()
        .map(|found| (found.split.clone(), found.what.clone()))
        .collect();
    assert_eq!(splits.len(), 1);
    assert!(
        splits[&Some("other".parse().expect("a name"))].contains("gone.test:80 leads to no address"),
        "{splits:?}"
    );
}
