//! Whom Kong takes for dead, by what it says: all of a backend or nobody, surely or not at all.

#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_planner::Generation;
use weir_render::kong::database::Kind;
use weir_render::kong::dead::{before, dead, of_controller};
use weir_render::kong::{Counted, Document, Expected, Kept, Row, Target, Upstream};

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

const HEALS: fn() -> Value =
    || json!({"active": {"healthy": {"interval": 1, "successes": 1}, "unhealthy": {"interval": 1}}});

/// `vm` at one address and `eks` at two, with these weights each.
fn upstream(vm: u16, eks: u16) -> Upstream {
    let target = |at: &str, backend: &str, weight| {
        let target = Target {
            backend: name(backend),
            weight,
        };
        (at.parse().unwrap(), target)
    };
    Upstream {
        name: "weir.checkout.default".to_owned(),
        targets: [
            target("10.0.0.1:80", "vm", vm),
            target("10.0.1.1:80", "eks", eks),
            target("10.0.1.2:80", "eks", eks),
        ]
        .into(),
        names: BTreeMap::new(),
        drains: false,
    }
}

fn document(whole: &Value, upstream: Upstream) -> Document {
    let expected = Expected {
        known: Generation(1),
        pin: None,
        generation: Generation(1),
        upstreams: [(name("default"), upstream)].into(),
    };
    Document {
        bytes: whole.to_string().into_bytes(),
        hash: String::new(),
        federation: name("shop"),
        gateway: Generation(1),
        doors: [(name("checkout"), expected)].into(),
        kept: Kept::default(),
        counted: Counted::new(),
        notes: Vec::new(),
    }
}

fn row(target: &str, weight: u64) -> Row {
    Row::read(
        Kind::Target,
        json!({"id": target, "target": target, "weight": weight}),
    )
    .unwrap()
}

/// What is said of these targets by an upstream of this name.
fn says(of: &[(&str, &str)]) -> BTreeMap<String, Vec<Value>> {
    let one = |(target, health): &(&str, &str)| json!({"target": target, "weight": 100, "health": health});
    [("site".to_owned(), of.iter().map(one).collect())].into()
}

#[test]
fn who_is_to_be_asked_is_known_from_the_document() {
    let with = |checks: Value, targets: &[&str]| {
        let targets: Vec<Value> = targets.iter().map(|at| json!({"target": at})).collect();
        json!({"upstreams": [{"name": "site", "healthchecks": checks, "targets": targets}]})
    };
    let asked = |whole: &Value| !before(&document(whole, upstream(1, 1))).is_empty();
    let eks = ["10.0.1.1:80", "10.0.1.2:80"];
    assert!(asked(&with(HEALS(), &eks)) && asked(&with(HEALS(), &eks[..1])));
    assert!(
        asked(&with(HEALS(), &["eks.example.com:80"])),
        "Kong knows its addresses"
    );
    assert!(!asked(&with(HEALS(), &["10.9.9.9:80"])) && !asked(&with(HEALS(), &[])));
    assert!(!asked(&with(
        json!({"passive": {"unhealthy": {"tcp_failures": 1}}}),
        &eks
    )));
    assert!(
        !asked(&with(json!({"active": {"unhealthy": {"interval": 1}}}), &eks)),
        "never well again"
    );
    assert!(!asked(
        &json!({"upstreams": [{"name": "site", "targets": [{"target": eks[0]}]}]})
    ));
    // Targets that stand apart, by the name of their upstream or by its id.
    for of in [
        json!("site"),
        json!({"name": "site"}),
        json!({"id": "7"}),
        json!("7"),
    ] {
        let apart = json!({
            "upstreams": [{"name": "site", "id": "7", "healthchecks": HEALS()}],
            "targets": [{"target": eks[0], "upstream": of}],
        });
        assert!(asked(&apart), "{apart}");
    }
}

#[test]
fn a_backend_is_dead_if_all_of_it_surely_is_and_gets_more() {
    let whole = json!({"upstreams": [{"name": "site", "healthchecks": HEALS(), "targets": [{"target": "10.0.1.1:80"}]}]});
    let document = document(&whole, upstream(2, 1));
    let asked = before(&document);
    let [one] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    let waits = |there: &[Row], answers: &BTreeMap<String, Vec<Value>>| -> BTreeSet<String> {
        let question = one.question(there);
        let dead = question
            .map(|question| dead(&question, answers))
            .unwrap_or_default();
        dead.keys().map(ToString::to_string).collect()
    };
    let both = says(&[("10.0.1.1:80", "UNHEALTHY"), ("10.0.1.2:80", "UNHEALTHY")]);
    let eks = BTreeSet::from(["eks".to_owned()]);
    // 2 to 1 and 1 is half: shares count, and not weights.
    let (less, same, more) = (
        [row("10.0.0.1:80", 300), row("10.0.1.1:80", 100)],
        [row("10.0.0.1:80", 100), row("10.0.1.1:80", 100)],
        [row("10.0.0.1:80", 1), row("10.0.1.1:80", 9)],
    );
    assert_eq!(waits(&less, &both), eks);
    assert_eq!(waits(&[], &both), eks, "what is not there has nothing");
    assert!(waits(&same, &both).is_empty() && waits(&more, &both).is_empty());
    // Of an address that is nobody's any more it is not known whose it was.
    assert!(waits(&[row("10.0.0.1:80", 100), row("10.7.7.7:80", 100)], &both).is_empty());
    for health in ["HEALTHY", "DNS_ERROR", "HEALTHCHECKS_OFF"] {
        let one_is = says(&[("10.0.1.1:80", "UNHEALTHY"), ("10.0.1.2:80", health)]);
        assert!(waits(&less, &one_is).is_empty(), "{health}");
    }
    assert!(waits(&less, &says(&[("10.0.1.1:80", "UNHEALTHY")])).is_empty());
    assert!(waits(&less, &BTreeMap::new()).is_empty());
    // Two upstreams that are at odds are sure of nothing; one that has it without weight says nothing.
    let mut odd = both.clone();
    odd.insert(
        "other".to_owned(),
        vec![json!({"target": "10.0.1.2:80", "weight": 1, "health": "HEALTHY"})],
    );
    assert!(waits(&less, &odd).is_empty());
    odd.insert(
        "other".to_owned(),
        vec![json!({"target": "10.0.1.2:80", "weight": 0, "health": "HEALTHY"})],
    );
    assert_eq!(waits(&less, &odd), eks);
    // A name, by the addresses that Kong found for it.
    let address = |ip: &str| json!({"ip": ip, "port": 80, "health": "UNHEALTHY"});
    let by_name = json!({"target": "eks.example.com:80", "weight": 1, "health": "UNHEALTHY",
        "data": {"addresses": [address("10.0.1.1"), address("10.0.1.2")]}});
    assert_eq!(waits(&less, &[("site".to_owned(), vec![by_name])].into()), eks);
}

#[test]
fn a_name_that_a_controller_gives_kong_may_have_its_domain() {
    let mut wanted = upstream(1, 0);
    let of = |backend: &str, weight| Target {
        backend: name(backend),
        weight,
    };
    wanted.names = [(("eks.shop.svc".to_owned(), 80), of("eks", 1))].into();
    let more = BTreeSet::from([name("eks")]);
    assert_eq!(of_controller(&json!({"healthchecks": {}}), &wanted, &more), None);
    let live = json!({"healthchecks": HEALS()});
    assert_eq!(of_controller(&live, &wanted, &BTreeSet::new()), None);
    let question = of_controller(&live, &wanted, &more).unwrap();
    for (target, is_it) in [
        ("eks.shop.svc:80", true),
        ("eks.shop.svc.cluster.local:80", true),
        ("eks.shop.svc:81", false),
        ("eks.shop.svc2:80", false),
    ] {
        assert_eq!(
            dead(&question, &says(&[(target, "UNHEALTHY")])).len(),
            usize::from(is_it),
            "{target}"
        );
    }
}
