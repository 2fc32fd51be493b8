//! What requests are counted by: where it is, where it cannot be, and that nothing else is another for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_model::{Channel, Match, SplitName, Via};
use weir_planner::{GatewayPlan, Generation, Item};
use weir_render::kong::AnyPin;
use weir_render::kong::changes::{Held, Row, Write};
use weir_render::kong::database::{Entities, Entity, Kind};
use weir_render::kong::{
    AtDoor, Counted, Counting, Document, Resolved, changes, counting_document, counting_entities, document,
    plugins,
};

use super::documents::beta;
use super::{address, door, federation, gateway, item, pair, plain, route, routing, takes};

fn counting() -> Counting {
    Counting {
        endpoint: "http://127.0.0.1:8009/".to_owned(),
    }
}

fn made(gateway: &GatewayPlan, at: &[AtDoor<'_>], counting: Option<&Counting>) -> Document {
    counting_document(
        &federation(),
        gateway,
        at,
        &Resolved::new(),
        (counting, &BTreeSet::new()),
    )
    .expect("no conflict")
    .expect("a document")
}

fn read(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).expect("JSON")
}

fn base(more: Value) -> GatewayPlan {
    let mut base = json!({"_format_version": "3.0", "services": [
        {"name": "cart", "host": "cart.test", "routes": [{"name": "cart", "paths": ["/cart"]}]},
        {"name": "other", "host": "other.test", "routes": [{"name": "other", "paths": ["/other"]}]}]});
    for (name, value) in more.as_object().expect("an object") {
        base[name] = value.clone();
    }
    gateway(Some(base))
}

#[test]
fn golden_with_counting() {
    let checkout = item(
        "checkout",
        vec![
            route("beta", beta(), &[("eks", 10_000), ("vm", 0)]),
            route("default", Match::ANY, &[("vm", 9_000), ("eks", 1_000)]),
        ],
    );
    let cart = plain("cart", &[("vm", 5_000), ("eks", 5_000)]);
    let calls = plain("calls", &[("vm", 10_000)]);
    let doors = [
        door(routing(&[], &["/checkout"]), pair()),
        takes("cart", pair()),
        door(routing(&[], &["/calls"]), Via::Mesh(address("127.0.0.1:33001"))),
    ];
    let at = [&checkout, &cart, &calls].into_iter().zip(&doors);
    let at: Vec<AtDoor<'_>> = at
        .map(|(item, door)| AtDoor {
            item,
            door,
            pin: None,
        })
        .collect();
    let gateway = base(json!({"plugins": [{"name": "prometheus"}]}));
    let with = made(&gateway, &at, Some(&counting()));
    let read = read(&with);
    insta::assert_snapshot!(serde_json::to_string_pretty(&read["plugins"]).expect("JSON"), @r#"
    [
      {
        "name": "prometheus"
      },
      {
        "config": {
          "content_type": "application/json",
          "http_endpoint": "http://127.0.0.1:8009/",
          "keepalive": 60000,
          "method": "POST",
          "queue": {
            "initial_retry_delay": 0.1,
            "max_batch_size": 100,
            "max_bytes": 8388608,
            "max_coalescing_delay": 1,
            "max_entries": 10000,
            "max_retry_delay": 2,
            "max_retry_time": 10
          },
          "timeout": 2000
        },
        "enabled": true,
        "instance_name": "weir.cart.default",
        "name": "http-log",
        "service": "cart",
        "tags": [
          "weir",
          "weir.commit.0123456789ab",
          "weir.federation.shop",
          "weir.gateway.3",
          "weir.generation.7",
          "weir.route.default",
          "weir.split.cart"
        ]
      }
    ]
    "#);
    let of = |name: &str| {
        let services = read["services"].as_array().expect("a list");
        services
            .iter()
            .find(|one| one["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    for name in ["weir.checkout.beta", "weir.checkout.default"] {
        let plugin = &of(name)["plugins"][0];
        assert_eq!(plugin["instance_name"], name);
        assert_eq!(plugin["config"], read["plugins"][1]["config"]);
    }
    assert!(of("weir.calls").get("plugins").is_none(), "the mesh counts that");
    assert!(
        of("cart").get("plugins").is_none(),
        "what is theirs is as it is, but for its host"
    );
    let counted: Vec<&str> = with.counted.keys().map(SplitName::as_str).collect();
    assert_eq!(counted, ["cart", "checkout"]);
    assert!(with.counted.values().all(Result::is_ok));
    // All else is what it is without: taking the plugins out gives the very same document.
    let without = made(&gateway, &at, None);
    let mut bare = read.clone();
    bare["plugins"].as_array_mut().expect("a list").truncate(1);
    for service in bare["services"].as_array_mut().expect("a list") {
        service.as_object_mut().expect("an object").remove("plugins");
    }
    assert_eq!(bare, self::read(&without));
    assert_eq!(without.counted, Counted::new());
    let plain = document(&federation(), &gateway, &at, &Resolved::new()).expect("no conflict");
    assert_eq!(plain.expect("a document").bytes, without.bytes);
}

#[test]
fn beside_a_log_of_theirs_for_the_same_requests_is_none_of_ours() {
    let (cart, shop) = (plain("cart", &[("vm", 10_000)]), plain("shop", &[("vm", 10_000)]));
    let doors = [takes("cart", pair()), door(routing(&[], &["/shop"]), pair())];
    let at = [
        AtDoor {
            item: &cart,
            door: &doors[0],
            pin: None,
        },
        AtDoor {
            item: &shop,
            door: &doors[1],
            pin: None,
        },
    ];
    let log = |more: Value| {
        let mut log = json!({"name": "http-log", "config": {"http_endpoint": "http://log.test/"}});
        for (name, value) in more.as_object().expect("an object") {
            log[name] = value.clone();
        }
        log
    };
    let services = |plugins_at: &str, inside_route: bool| {
        let service = |name: &str| {
            let mut service = json!({"name": name, "host": "x.test", "routes": [{"name": name, "paths": [format!("/{name}")]}]});
            if name == plugins_at {
                match inside_route {
                    true => service["routes"][0]["plugins"] = json!([log(json!({}))]),
                    false => service["plugins"] = json!([log(json!({}))]),
                }
            }
            service
        };
        json!({"services": [service("cart"), service("other")]})
    };
    let top = |log: Value| json!({"plugins": [log]});
    let consumer = json!({"consumers": [{"username": "u", "plugins": [log(json!({}))]}]});
    // What of both doors is counted: cart, which takes theirs over, and shop, which has its own.
    for (more, expected) in [
        (json!({}), [true, true]),
        (top(json!({"name": "file-log"})), [true, true]),
        (top(log(json!({}))), [false, false]),
        (top(log(json!({"service": null, "route": null}))), [false, false]),
        (top(log(json!({"consumer": "u"}))), [false, false]),
        (consumer, [false, false]),
        (top(log(json!({"service": "cart"}))), [false, true]),
        (top(log(json!({"service": {"name": "cart"}}))), [false, true]),
        (top(log(json!({"service": "other"}))), [true, true]),
        (top(log(json!({"route": "cart"}))), [false, true]),
        (services("cart", false), [false, true]),
        (services("cart", true), [false, true]),
        (services("other", false), [true, true]),
        (services("other", true), [true, true]),
    ] {
        let gateway = base(more.clone());
        let with = made(&gateway, &at, Some(&counting()));
        let is = ["cart", "shop"].map(|split| with.counted[&split.parse().expect("a name")].is_ok());
        assert_eq!(is, expected, "{more}");
        if expected == [false, false] {
            let without = made(&gateway, &at, None);
            assert_eq!(with.bytes, without.bytes, "{more}");
        }
    }
}

fn with_database() -> GatewayPlan {
    GatewayPlan {
        channel: Channel::AdminDb,
        ..gateway(None)
    }
}

fn entities(item: &Item, counting: Option<&Counting>) -> Entities {
    let door = door(routing(&[], &["/shop"]), pair());
    let at = ("fra".parse().expect("a name"), "edge".parse().expect("a name"));
    let doors = [AtDoor {
        item,
        door: &door,
        pin: None,
    }];
    counting_entities(
        &federation(),
        (&at.0, &at.1),
        &with_database(),
        &doors,
        &Resolved::new(),
        (counting, &BTreeSet::new()),
    )
    .expect("no conflict")
}

fn row(entity: &Entity) -> Row {
    let mut fields = entity.fields.clone();
    fields.insert("id".to_owned(), entity.id.clone().into());
    Row::read(entity.kind, Value::Object(fields)).expect("an entity")
}

/// A database that has all of it but plugins.
fn held(wanted: &Entities) -> Held {
    let mut held = Held::default();
    for chain in wanted.doors.values().flat_map(|of| &of.chains) {
        held.rows.extend([row(&chain.service), row(&chain.route)]);
    }
    held
}

#[test]
fn in_a_database_only_ours_comes_is_put_back_and_goes() {
    let shop = plain("shop", &[("vm", 10_000)]);
    let split: SplitName = "shop".parse().expect("a name");
    let wanted = entities(&shop, Some(&counting()));
    let todo = |held: &Held, wanted: &Entities, absent: &BTreeSet<SplitName>| {
        plugins(held, wanted, Generation(100), absent, None)
    };
    let none = BTreeSet::new();
    // Not before its service is there.
    let early = todo(&Held::default(), &wanted, &none);
    assert!(early.come.is_empty() && early.counted[&split].is_err());
    let mut held = held(&wanted);
    let first = todo(&held, &wanted, &none);
    assert!(first.gone.is_empty() && first.counted[&split].is_ok());
    let [(_, Write::Make { entity, under: None })] = &first.come[..] else {
        panic!("{:?}", first.come);
    };
    assert_eq!(
        (entity.kind, entity.name.as_str()),
        (Kind::Plugin, "weir.shop.default")
    );
    // As Kong gives it back, with what nobody said.
    let mut there = row(entity);
    there.fields["config"]["headers"] = Value::Null;
    there.fields["config"]["queue"]["other"] = 1.into();
    held.plugins.push(there.clone());
    let same = todo(&held, &wanted, &none);
    assert!(same.come.is_empty() && same.gone.is_empty() && same.counted[&split].is_ok());
    for (field, value) in [("enabled", json!(false)), ("route", json!({"id": "x"}))] {
        let mut other = held.clone();
        other.plugins[0].fields[field] = value;
        let put_back = todo(&other, &wanted, &none);
        assert!(
            matches!(&put_back.come[..], [(_, Write::Change { fields, .. })] if fields.contains_key(field))
        );
    }
    let mut other = held.clone();
    other.plugins[0].fields["config"]["http_endpoint"] = "http://evil.test/".into();
    assert_eq!(todo(&other, &wanted, &none).come.len(), 1);

    // Turned off, or its split gone; not while that is only absent, and none that a newer plan made.
    let off = entities(&shop, None);
    assert!(matches!(
        &todo(&held, &off, &none).gone[..],
        [Write::Remove { .. }]
    ));
    let mut nothing = off.clone();
    nothing.doors = BTreeMap::new();
    assert_eq!(todo(&held, &nothing, &none).gone.len(), 1);
    assert_eq!(todo(&held, &nothing, &[split.clone()].into()).gone, []);
    assert_eq!(plugins(&held, &nothing, Generation(1), &none, None).gone, []);
    // A node cannot run it: none comes, and what is there goes.
    let unable = plugins(&held, &wanted, Generation(100), &none, Some("no"));
    assert!(matches!(&unable.gone[..], [Write::Remove { .. }]) && unable.come.is_empty());
    assert_eq!(unable.counted[&split], Err("no".to_owned()));

    // Theirs: with our tags and another id, or with none. Never touched, and if it runs for the same requests ours gives way.
    let mut copied = there.clone();
    copied.id = "8e1a0c1e-0000-4000-8000-000000000001".to_owned();
    copied.fields.insert("id".to_owned(), copied.id.clone().into());
    copied.fields.insert("instance_name".to_owned(), "copied".into());
    let global = |fields: Value| {
        let mut one =
            json!({"id": "8e1a0c1e-0000-4000-8000-000000000002", "name": "http-log", "enabled": true});
        for (name, value) in fields.as_object().expect("an object") {
            one[name] = value.clone();
        }
        Row::read(Kind::Plugin, one).expect("a plugin")
    };
    let elsewhere = json!({"service": {"id": "8e1a0c1e-0000-4000-8000-000000000003"}});
    for (theirs, gives_way) in [
        (copied, true),
        (global(json!({})), true),
        (global(json!({"consumer": {"id": "x"}})), true),
        (global(elsewhere), false),
    ] {
        let mut both = held.clone();
        both.plugins.push(theirs.clone());
        let found = todo(&both, &wanted, &none);
        assert_eq!(found.counted[&split].is_err(), gives_way, "{theirs:?}");
        assert_eq!(found.gone.len(), usize::from(gives_way));
        assert!(found.come.is_empty());
        let touched = found
            .gone
            .iter()
            .any(|write| matches!(write, Write::Remove { of, .. } if of.1 == theirs.id));
        assert!(!touched);
    }
    // None of it is a difference of the split.
    for wanted in [&wanted, &off] {
        let with = changes(&held, wanted, (Generation(100), &none), &AnyPin);
        let without = changes(
            &Held {
                plugins: Vec::new(),
                ..held.clone()
            },
            wanted,
            (Generation(100), &none),
            &AnyPin,
        );
        assert_eq!(with, without);
    }
}
