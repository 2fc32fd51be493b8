//! I3 as a table: what a zone's control plane shows, and whether weight may be given.

use std::collections::BTreeMap;

use weir_model::Protocol;
use weir_planner::{ServiceFact, ServiceState, Way};
use weir_render::{backends_ready, ready};

use crate::{PLAIN, item};

fn fact(zone: &str, namespace: Option<&str>) -> ServiceFact {
    ServiceFact {
        service: "checkout".parse().expect("a name"),
        kuma_zone: zone.parse().expect("a name"),
        namespace: namespace.map(|name| name.parse().expect("a name")),
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
        way: Way::Open,
    }
}

fn verdict(split: &str, services: &[ServiceFact]) -> String {
    ready(&item(split), None, services)
        .err()
        .unwrap_or_else(|| "ready".to_owned())
}

#[test]
fn as_a_table() {
    let (vm, cloud) = (fact("fra", None), fact("use1", Some("shop")));
    let with = |change: &dyn Fn(&mut ServiceFact)| {
        let mut changed = cloud.clone();
        change(&mut changed);
        vec![vm.clone(), changed]
    };
    let rows = [
        ("both there", verdict(PLAIN, &[vm.clone(), cloud.clone()])),
        ("cloud missing", verdict(PLAIN, std::slice::from_ref(&vm))),
        (
            "cloud in another namespace",
            verdict(PLAIN, &with(&|s| s.namespace = None)),
        ),
        (
            "cloud in another zone",
            verdict(PLAIN, &with(&|s| s.kuma_zone = "ams".parse().expect("a name"))),
        ),
        (
            "cloud twice",
            verdict(PLAIN, &[vm.clone(), cloud.clone(), cloud.clone()]),
        ),
        (
            "cloud without the port",
            verdict(
                PLAIN,
                &with(&|s| s.ports = BTreeMap::from([(9090, Some(Protocol::Http))])),
            ),
        ),
        (
            "cloud's port is tcp",
            verdict(
                PLAIN,
                &with(&|s| s.ports = BTreeMap::from([(8080, Some(Protocol::Tcp))])),
            ),
        ),
        (
            "cloud's port is something else",
            verdict(PLAIN, &with(&|s| s.ports = BTreeMap::from([(8080, None)]))),
        ),
        (
            "cloud unavailable",
            verdict(PLAIN, &with(&|s| s.state = ServiceState::Unavailable)),
        ),
        (
            "cloud says nothing",
            verdict(PLAIN, &with(&|s| s.state = ServiceState::Unknown)),
        ),
        (
            "cloud missing, but its weight is 0",
            verdict(
                &PLAIN.replace("vm: 90, cloud: 10", "vm: 100, cloud: 0"),
                std::slice::from_ref(&vm),
            ),
        ),
        (
            "cloud, of whose ways nothing is known",
            verdict(PLAIN, &with(&|s| s.way = Way::Unknown)),
        ),
        (
            "cloud without an ingress",
            verdict(PLAIN, &with(&|s| s.way = Way::NoIngress)),
        ),
        (
            "cloud with an ingress that advertises nothing",
            verdict(PLAIN, &with(&|s| s.way = Way::NotAdvertised)),
        ),
        (
            "the zone's own backend: no ingress is between",
            verdict(
                PLAIN,
                &[
                    ServiceFact {
                        way: Way::NoIngress,
                        ..vm.clone()
                    },
                    cloud.clone(),
                ],
            ),
        ),
    ];
    let table: Vec<_> = rows
        .iter()
        .map(|(what, verdict)| format!("{what}:\n  {verdict}"))
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

/// With no way there nobody gets more; who gets less, as much, or nothing passes, whatever else is said of it.
#[test]
fn without_a_way_there_nobody_gets_more() {
    let services = [
        fact("fra", None),
        ServiceFact {
            way: Way::NoIngress,
            ..fact("use1", Some("shop"))
        },
    ];
    let of = |cloud: u32| {
        item(&PLAIN.replace(
            "vm: 90, cloud: 10",
            &format!("vm: {}, cloud: {cloud}", 100 - cloud),
        ))
    };
    for has in 0..=10 {
        for gets in 0..=10 {
            let (has, gets) = (has * 10, gets * 10);
            let verdict = backends_ready(&of(gets), Some(&of(has)), &services);
            assert_eq!(verdict.is_ok(), gets <= has, "{has} to {gets}: {verdict:?}");
        }
    }
    // A name that meant another place has nothing here yet.
    let mut moved = weir_planner::Item::clone(&of(80));
    for to in moved
        .destinations
        .values_mut()
        .filter(|to| to.kuma_zone.as_str() == "use1")
    {
        to.namespace = None;
    }
    assert!(backends_ready(&of(10), Some(&moved), &services).is_err());
    // Nor has anybody where nothing is remembered.
    assert!(backends_ready(&of(10), None, &services).is_err());
}
