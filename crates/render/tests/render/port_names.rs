//! Kuma asks for a named port by its name, and by its number only where it has no name.

use serde_json::Value;
use weir_model::Protocol;
use weir_planner::{ServiceFact, ServiceState};
use weir_render::{Form, Live, Options, ready, render, weights};

use crate::kuma::dump;
use crate::{PLAIN, federation, item};

fn named() -> String {
    PLAIN.replace(
        "  port: 8080\n",
        "  port: 8080\n  portNames: [web, http, '8080']\n",
    )
}

#[test]
fn each_name_is_a_section_beside_the_number_and_all_say_the_same() {
    let (plain, named) = (item(PLAIN), item(&named()));
    let spec = |item| {
        render(item, &federation(), &Form::Universal, Options::default())[0]
            .spec
            .clone()
    };
    let (plain, named) = (spec(&plain), spec(&named));
    let all = named["to"].as_array().expect("targets");
    let sections: Vec<_> = all
        .iter()
        .map(|to| {
            let text = |at: &str| to.pointer(at).and_then(Value::as_str).expect("text").to_owned();
            (text("/targetRef/kind"), text("/targetRef/sectionName"))
        })
        .collect();
    let wanted: Vec<_> = ["8080", "http", "web"]
        .into_iter()
        .flat_map(|section| {
            ["MeshService", "MeshMultiZoneService"].map(|kind| (kind.to_owned(), section.to_owned()))
        })
        .collect();
    assert_eq!(sections, wanted);
    assert!(
        all.iter()
            .enumerate()
            .all(|(at, to)| to["rules"] == all[at % 2]["rules"])
    );
    assert_eq!(
        plain["to"].as_array().expect("targets"),
        &all[..2],
        "a split without names stays as it is"
    );
    assert!(weir_render::weights_of(&named).is_some());
}

/// The callers' listeners of a named port carry its name: they are ours to prove only if the split declares it, and never
/// exact if it does not.
#[test]
fn a_caller_of_a_named_port_is_proven_by_its_name() {
    let (plain, named) = (item(PLAIN), item(&named()));
    let spec = render(&named, &federation(), &Form::Universal, Options::default())[0]
        .spec
        .clone();
    let text = dump(&spec).to_string();
    let called = |name: &str| -> Value {
        serde_json::from_str(&text.replace("checkout_8080", &format!("checkout_{name}"))).expect("JSON")
    };
    let services = [
        fact("fra", [(8080, "http"), (9090, "admin")]),
        fact("use1", [(8080, "http"), (9090, "admin")]),
    ];
    assert!(matches!(
        weights(&named, &called("http"), &services),
        Live::Weights(_)
    ));
    assert_eq!(weights(&named, &called("admin"), &services), Live::NotCalling);
    let Live::Different(what) = weights(&plain, &called("http"), &services) else {
        panic!("callers that are not split are called exact");
    };
    assert!(
        what.contains("callers by MeshService get no split: port 8080 of MeshService checkout of Kuma zone")
            && what.ends_with("is called http; add `portNames: [http]` to split checkout"),
        "{what}"
    );
    let Live::Different(what) = weights(&named, &called("8080"), &services) else {
        panic!("a caller by number of a named port is called exact");
    };
    assert!(
        what.contains("by number") && what.contains("called http"),
        "{what}"
    );
    for item in [&plain, &named] {
        assert_eq!(weights(item, &called("9090"), &services), Live::NotCalling);
        let Live::Unknown(why) = weights(item, &called("grpc"), &services) else {
            panic!("a port that nobody knows is taken for another one");
        };
        assert!(why.contains("called grpc is not known"), "{why}");
    }
}

/// Two ports of one destination: the one that is the split's speaks for itself, the other is not ours.
#[test]
fn a_port_of_an_unknown_name_beside_ours_is_another() {
    let item = item(PLAIN);
    let spec = render(&item, &federation(), &Form::Universal, Options::default())[0]
        .spec
        .clone();
    let ours = dump(&spec);
    let theirs: Value =
        serde_json::from_str(&ours.to_string().replace("checkout_8080", "checkout_admin")).expect("JSON");
    let mut both = ours.clone();
    let others = theirs["configs"].as_array().expect("configurations");
    both["configs"]
        .as_array_mut()
        .expect("configurations")
        .extend(others.clone());
    assert_eq!(weights(&item, &both, &[]), weights(&item, &ours, &[]));
    assert!(matches!(weights(&item, &ours, &[]), Live::Weights(_)));
    assert!(matches!(weights(&item, &theirs, &[]), Live::Unknown(_)));
}

fn fact(zone: &str, ports: [(u16, &str); 2]) -> ServiceFact {
    ServiceFact {
        service: "checkout".parse().expect("a name"),
        kuma_zone: zone.parse().expect("a name"),
        namespace: (zone == "use1").then(|| "shop".parse().expect("a name")),
        ports: ports
            .iter()
            .map(|(port, _)| (*port, Some(Protocol::Http)))
            .collect(),
        port_names: ports
            .iter()
            .map(|(port, name)| (*port, (*name).to_owned()))
            .collect(),
        state: ServiceState::Available,
        way: weir_planner::Way::Unknown,
    }
}

/// A name that another port of the service has would take that port's callers here.
#[test]
fn a_name_of_another_port_holds() {
    let backends = ["fra", "use1"].map(|zone| fact(zone, [(8080, "http"), (9090, "admin")]));
    let with = |more| [backends.to_vec(), vec![more]].concat();
    let item = item(&named());
    assert_eq!(
        ready(&item, None, &with(fact("lon", [(8080, "http"), (9090, "admin")]))),
        Ok(())
    );
    for name in ["http", "8080"] {
        let why =
            ready(&item, None, &with(fact("lon", [(8080, "web"), (9090, name)]))).expect_err("it holds");
        assert!(
            why.contains(&format!(
                "in Kuma zone lon port 9090 of MeshService checkout is named {name}"
            )),
            "{why}"
        );
    }
}
