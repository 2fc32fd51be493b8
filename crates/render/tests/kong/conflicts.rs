//! What cannot be together in one document, each by name, and what can.

use serde_json::{Value, json};
use weir_model::{Match, Protocol, Via};
use weir_planner::Item;
use weir_render::kong::{AtDoor, Conflict, Resolved, check, document};

use crate::documents::{beta, made};
use crate::{address, door, federation, gateway, item, pair, plain, route, routing, takes};

fn conflicts(base: Option<Value>, doors: &[AtDoor<'_>]) -> Vec<Conflict> {
    let gateway = gateway(base);
    let found = document(&federation(), &gateway, doors, &Resolved::new()).expect_err("a conflict");
    // All of these can be told before any address is known.
    assert_eq!(check(&federation(), &gateway, doors), Err(found.clone()));
    found
}

fn base(of: Value) -> Option<Value> {
    let mut of = of;
    let fields = of.as_object_mut().expect("an object");
    fields.entry("_format_version").or_insert_with(|| "3.0".into());
    Some(of)
}

#[test]
fn conflicts_as_a_table() {
    let checkout = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let with = |change: &dyn Fn(&mut Item)| {
        let mut item = checkout.clone();
        change(&mut item);
        item
    };
    let other = plain("other", &[("vm", 10_000)]);
    let http2 = with(&|item| item.protocol = Protocol::Http2);
    let tcp = with(&|item| item.protocol = Protocol::Tcp);
    let grpc = with(&|item| item.protocol = Protocol::Grpc);
    let routed = with(&|item| item.routes.insert(0, route("beta", beta(), &[("eks", 10_000)])));
    let own = door(routing(&["shop.example.com"], &["/checkout"]), pair());
    let cart = takes("cart", pair());
    let meshed = takes("cart", Via::Mesh(address("127.0.0.1:33001")));
    let odd = door(routing(&[], &["/a,b"]), pair());
    let mut only_gets = routing(&["shop.example.com"], &["/checkout"]);
    only_gets.methods.insert("GET".to_owned());
    let only_gets = door(only_gets, pair());
    let service = |of: Value| {
        let mut service = json!({"name": "cart", "host": "cart.internal"});
        for (name, value) in of.as_object().expect("an object") {
            service[name] = value.clone();
        }
        base(json!({"services": [service]}))
    };
    let claimed =
        |route: Value| base(json!({"services": [{"name": "a", "host": "a.test", "routes": [route]}]}));
    let table: Vec<(Option<Value>, &Item, &weir_model::Door, &str)> = vec![
        // What the base has of ours.
        (
            base(json!({"services": [{"name": "weir.x.default", "host": "a"}]})),
            &checkout,
            &own,
            "base: service `weir.x.default` has a name",
        ),
        (
            base(json!({"upstreams": [{"name": "weir.x"}]})),
            &checkout,
            &own,
            "upstream `weir.x` has a name",
        ),
        (
            base(
                json!({"services": [{"name": "a", "host": "a", "routes": [{"name": "weir.r", "paths": ["/x"]}]}]}),
            ),
            &checkout,
            &own,
            "route `weir.r` has a name",
        ),
        (
            base(json!({"consumers": [{"username": "ann", "tags": ["weirdo"]}]})),
            &checkout,
            &own,
            "consumer `ann` has a tag",
        ),
        (
            base(
                json!({"upstreams": [{"name": "a", "targets": [{"target": "a:80", "tags": ["x", "weir"]}]}]}),
            ),
            &checkout,
            &own,
            "target `a:80` has a tag",
        ),
        (
            base(json!({"services": [{"name": "a", "host": "a", "tags": ["k8s-kind:HTTPRoute"]}]})),
            &checkout,
            &own,
            "service `a` has a tag by which an ingress controller",
        ),
        // uuid5 of `weir.checkout.default`.
        (
            base(
                json!({"upstreams": [{"name": "a", "id": weir_render::kong::ids::derived("upstreams", "weir.checkout.default")}]}),
            ),
            &checkout,
            &own,
            "upstream `a` has an id",
        ),
        (
            base(json!({"_format_version": "4.0"})),
            &checkout,
            &own,
            "`_format_version`",
        ),
        (
            Some(json!({"services": []})),
            &checkout,
            &own,
            "`_format_version`",
        ),
        (
            base(json!({"_format_version": 3.0})),
            &checkout,
            &own,
            "`_format_version`",
        ),
        (
            base(json!({"_format_version": "2.1"})),
            &checkout,
            &odd,
            "the path /a,b is an expression",
        ),
        (Some(json!([])), &checkout, &own, "kong.yaml is no Kong document"),
        // Services that cannot be taken over.
        (
            None,
            &checkout,
            &cart,
            "split checkout: the gateway's base has no service `cart`",
        ),
        (base(json!({})), &checkout, &cart, "has no service `cart`"),
        (
            base(json!({"services": [{"name": "cart", "host": "a"}, {"name": "cart", "host": "b"}]})),
            &checkout,
            &cart,
            "has service `cart` twice",
        ),
        (
            base(json!({"certificates": [{"cert": "x", "services": [{"name": "cart", "host": "a"}]}]})),
            &checkout,
            &cart,
            "inside of another entity",
        ),
        (
            service(json!({"protocol": "tcp"})),
            &checkout,
            &cart,
            "speaks tcp, and what this split gives it speaks http or https",
        ),
        (
            service(json!({"protocol": "https"})),
            &checkout,
            &meshed,
            "speaks https, and what this split gives it speaks http",
        ),
        (
            service(json!({})),
            &grpc,
            &cart,
            "speaks http, and what this split gives it speaks grpc or grpcs",
        ),
        (
            service(json!({"url": "http://a.test"})),
            &checkout,
            &cart,
            "says both `url` and",
        ),
        (
            base(json!({"services": [{"name": "cart", "url": "//a.test"}]})),
            &checkout,
            &cart,
            "is not `protocol://host",
        ),
        (
            base(json!({"services": [{"name": "cart", "url": "http://ann@a.test/"}]})),
            &checkout,
            &cart,
            "is not `protocol://host",
        ),
        (
            base(json!({"services": [{"name": "cart"}]})),
            &checkout,
            &cart,
            "neither `host` nor `url`",
        ),
        (
            service(json!({})),
            &routed,
            &cart,
            "cannot have route beta besides",
        ),
        // What Kong does not speak.
        (None, &http2, &own, "its protocol is http2"),
        (None, &tcp, &own, "its protocol is tcp"),
        (None, &grpc, &only_gets, "the method of a gRPC call"),
        // Requests that somebody else takes.
        (
            claimed(json!({"name": "r", "hosts": ["Shop.example.com"], "paths": ["/a", "/checkout"]})),
            &checkout,
            &own,
            "requests for host shop.example.com, path /checkout are those of route `r` of the base",
        ),
        (
            base(
                json!({"routes": [{"hosts": ["shop.example.com"], "paths": ["/checkout"], "methods": ["PUT", "GET"]}]}),
            ),
            &checkout,
            &only_gets,
            "method GET are those of a route without a name",
        ),
        (
            claimed(
                json!({"name": "r", "hosts": ["shop.example.com"], "paths": ["/checkout"], "headers": {"X-Beta": ["TRUE", "x"]}}),
            ),
            &routed,
            &own,
            "are those of route `r`",
        ),
    ];
    for (base, item, door, why) in table {
        let found = conflicts(
            base.clone(),
            &[AtDoor {
                item,
                door,
                pin: None,
            }],
        );
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains(why)), "{why}: {said:#?}");
    }
    for (doors, why) in [
        (
            [&cart, &takes("cart", pair())],
            "service `cart` of the base is taken over by split checkout already",
        ),
        (
            [&own, &own.clone()],
            "requests for host shop.example.com, path /checkout are those of split checkout as well",
        ),
    ] {
        let at = [
            AtDoor {
                item: &checkout,
                door: doors[0],
                pin: None,
            },
            AtDoor {
                item: &other,
                door: doors[1],
                pin: None,
            },
        ];
        let found = conflicts(service(json!({})), &at);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].to_string().starts_with(&format!("split other: {why}")),
            "{found:#?}"
        );
    }
}

#[test]
fn what_may_stand_beside_ours_does() {
    let checkout = item(
        "checkout",
        vec![
            route("beta", beta(), &[("eks", 10_000)]),
            route("default", Match::ANY, &[("vm", 10_000)]),
        ],
    );
    let own = door(routing(&["shop.example.com"], &["/checkout"]), pair());
    for route in [
        // Less, more, or something else than ours asks for.
        json!({"name": "r", "hosts": ["shop.example.com"]}),
        json!({"name": "r", "paths": ["/checkout"]}),
        json!({"name": "r", "hosts": ["shop.example.com"], "paths": ["/checkout"], "methods": ["GET"]}),
        json!({"name": "r", "hosts": ["shop.example.com"], "paths": ["/checkout"], "headers": {"x-beta": ["false"]}}),
        json!({"name": "r", "hosts": ["shop.example.com"], "paths": ["/checkout"], "headers": {"x-other": ["true"]}}),
        json!({"name": "r", "hosts": ["shop.example.com"], "paths": ["/checkout"], "snis": ["shop.example.com"]}),
        json!({"name": "r", "hosts": ["other.example.com"], "paths": ["/checkout"]}),
    ] {
        for format in ["1.1", "2.1", "3.0"] {
            let base = json!({"_format_version": format, "services": [{"name": "a", "host": "a.test", "routes": [route]}]});
            made(
                &gateway(Some(base)),
                &[AtDoor {
                    item: &checkout,
                    door: &own,
                    pin: None,
                }],
            );
        }
    }
}

/// A header with a dash that an upstream of the base hashes by is noted, whether or not a split has it; one that nothing hashes by is
/// only a name.
#[test]
fn a_dash_is_noted_where_something_is_hashed_by_it() {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let own = door(routing(&["shop.example.com"], &["/checkout"]), pair());
    let noted = |upstream: Value| {
        let mut whole = json!({"name": "up"});
        let fields = upstream.as_object().expect("an object").clone();
        whole.as_object_mut().expect("an object").extend(fields);
        let gateway = gateway(base(json!({"upstreams": [whole]})));
        let at = AtDoor {
            item: &item,
            door: &own,
            pin: None,
        };
        check(&federation(), &gateway, &[at]).expect("no conflict")
    };
    let header = |on: &str, name: &str| json!({on: "header", format!("{on}_header"): name});
    for quiet in [
        json!({"hash_on_header": "X-User"}),
        json!({"hash_on": "ip", "hash_on_header": "X-User"}),
        json!({"algorithm": "least-connections", "hash_on": "header", "hash_on_header": "X-User"}),
        header("hash_on", "X_User"),
    ] {
        assert_eq!(noted(quiet.clone()), Vec::<String>::new(), "{quiet}");
    }
    for (upstream, field) in [
        (header("hash_on", "X-User"), "hash_on_header"),
        (header("hash_fallback", "X-User"), "hash_fallback_header"),
    ] {
        let notes = noted(upstream);
        assert!(
            notes.len() == 1 && notes[0].contains(&format!("write X_User in {field}")),
            "{notes:?}"
        );
    }
}
