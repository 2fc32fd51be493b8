//! I3 as a table: what a zone's control plane shows, and whether weight may be given.

use std::collections::BTreeMap;

use weir_model::Protocol;
use weir_planner::{ServiceFact, ServiceState};
use weir_render::ready;

use crate::{PLAIN, item};

fn fact(zone: &str, namespace: Option<&str>) -> ServiceFact {
    ServiceFact {
        service: "checkout".parse().expect("a name"),
        kuma_zone: zone.parse().expect("a name"),
        namespace: namespace.map(|name| name.parse().expect("a name")),
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
    }
}

fn verdict(split: &str, services: &[ServiceFact]) -> String {
    ready(&item(split), services)
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
    ];
    let table: Vec<_> = rows
        .iter()
        .map(|(what, verdict)| format!("{what}:\n  {verdict}"))
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}
