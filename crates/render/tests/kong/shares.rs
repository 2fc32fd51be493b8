//! Shares as targets, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_model::{BackendName, Match, Via};
use weir_render::kong::{AtDoor, Resolved, Targets, Upstream, shares, targets, weights};

use crate::{addresses, door, item, name, pair, plain, route, routing};

fn made(of: crate::Weights<'_>, via: Via, resolved: &Resolved) -> Result<Targets, String> {
    let (item, door) = (plain("checkout", of), door(routing(&[], &["/"]), via));
    let at = AtDoor {
        item: &item,
        door: &door,
        pin: None,
    };
    targets(&at, resolved, &name("default"))
}

fn shown(targets: &Targets) -> Vec<String> {
    let one = |(address, target): (&_, &weir_render::kong::Target)| {
        format!("{address} {} {}", target.backend, target.weight)
    };
    targets.iter().map(one).collect()
}

fn ips(of: &[&str]) -> BTreeSet<IpAddr> {
    of.iter().map(|ip| ip.parse().expect("an address")).collect()
}

#[test]
fn as_a_table() {
    let resolved = Resolved::from([
        (
            "three.test".to_owned(),
            ips(&["10.0.1.1", "10.0.1.2", "10.0.1.3"]),
        ),
        // What an address is written as twice is one target.
        ("mapped.test".to_owned(), ips(&["::ffff:10.0.0.1"])),
        ("six.test".to_owned(), ips(&["2001:db8::1"])),
        ("nobody.test".to_owned(), ips(&["0.0.0.0"])),
        ("empty.test".to_owned(), ips(&[])),
    ]);
    let good: [(crate::Weights<'_>, Via, &[&str]); 5] = [
        (
            &[("vm", 9000), ("eks", 1000)],
            pair(),
            &["10.0.0.1:8080 vm 9", "10.0.0.2:8080 eks 1"],
        ),
        // Three addresses of the canary, and still a tenth in all: 27 to 3.
        (
            &[("vm", 9000), ("eks", 1000)],
            addresses(&["vm=10.0.0.1:80", "eks=three.test:80"]),
            &[
                "10.0.0.1:80 vm 27",
                "10.0.1.1:80 eks 1",
                "10.0.1.2:80 eks 1",
                "10.0.1.3:80 eks 1",
            ],
        ),
        // Weight 0 is a weight: its targets stay.
        (
            &[("vm", 10_000), ("eks", 0)],
            pair(),
            &["10.0.0.1:8080 vm 1", "10.0.0.2:8080 eks 0"],
        ),
        (
            &[("vm", 10_000), ("eks", 0)],
            addresses(&["vm=mapped.test:80,10.0.0.1:80,10.0.0.1:81", "eks=gone.test:80"]),
            &["10.0.0.1:80 vm 1", "10.0.0.1:81 vm 1"],
        ),
        (
            &[("vm", 3333), ("eks", 6667)],
            addresses(&["vm=six.test:80", "eks=10.0.0.2:80"]),
            &["10.0.0.2:80 eks 6667", "[2001:db8::1]:80 vm 3333"],
        ),
    ];
    for (of, via, expected) in good {
        let made = made(of, via.clone(), &resolved).expect("targets");
        assert_eq!(shown(&made), expected, "{of:?} {via:?}");
    }
    let bad: [(crate::Weights<'_>, Via, &str); 6] = [
        (
            &[("vm", 9000), ("eks", 1000)],
            addresses(&["vm=10.0.0.1:80", "eks=gone.test:80"]),
            "gone.test:80 leads to no",
        ),
        (
            &[("vm", 9000), ("eks", 1000)],
            addresses(&["vm=10.0.0.1:80", "eks=empty.test:80"]),
            "leads to no address",
        ),
        (
            &[("vm", 9000), ("eks", 1000)],
            addresses(&["vm=10.0.0.1:80"]),
            "no address of it",
        ),
        (
            &[("vm", 9000), ("eks", 1000)],
            addresses(&["vm=10.0.0.1:80", "eks=mapped.test:80"]),
            "both at 10.0.0.1:80",
        ),
        (
            &[("vm", 9000), ("eks", 1000)],
            addresses(&["vm=10.0.0.1:80", "eks=nobody.test:80"]),
            "nobody can listen",
        ),
        (&[("vm", 0), ("eks", 0)], pair(), "cannot be given"),
    ];
    for (of, via, why) in bad {
        let refused = made(of, via.clone(), &resolved).expect_err("nothing");
        assert!(refused.contains(why), "{of:?} {via:?}: {refused}");
    }
    let mesh = Via::Mesh(crate::address("127.0.0.1:33001"));
    assert!(made(&[("vm", 10_000)], mesh, &resolved).is_err());
}

/// Whole basis points for up to five backends, and how many addresses each has.
fn any_shares() -> impl Strategy<Value = Vec<(u32, usize)>> {
    let cuts = proptest::collection::vec(prop_oneof![0_u32..=10_000, 0_u32..=20, 9_980_u32..=10_000], 0..4);
    let counts = proptest::collection::vec(prop_oneof![1_usize..5, 1_usize..60], 5);
    (cuts, counts).prop_map(|(mut cuts, counts)| {
        cuts.sort_unstable();
        cuts.push(10_000);
        let mut before = 0;
        let weights = cuts.into_iter().map(|cut| {
            let weight = cut - before;
            before = cut;
            weight
        });
        weights.zip(counts).collect()
    })
}

fn via_of(shares: &[(u32, usize)]) -> (Vec<(String, u32)>, Via) {
    let names: Vec<(String, u32)> = shares
        .iter()
        .enumerate()
        .map(|(at, (weight, _))| (format!("b{at}"), *weight))
        .collect();
    let lists: Vec<String> = shares
        .iter()
        .enumerate()
        .map(|(at, (_, count))| {
            let all: Vec<String> = (1..=*count).map(|one| format!("10.0.{at}.{one}:80")).collect();
            format!("b{at}={}", all.join(","))
        })
        .collect();
    let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
    (names, addresses(&lists))
}

/// Whether there are whole weights at all: said a second time, by trying every multiple that a ring has room for.
fn can_be(shares: &[(u32, usize)]) -> bool {
    (1..=10_u64).any(|multiple| {
        shares
            .iter()
            .filter(|(weight, _)| *weight > 0)
            .all(|(weight, count)| {
                let (sum, count) = (u64::from(*weight) * multiple, *count as u64);
                sum / count >= 1 && sum.div_ceil(count) <= 65_535
            })
    })
}

/// What a worker answers that runs these targets.
pub(crate) fn answer(targets: &[(String, u16, u64, u64)]) -> Value {
    let hosts: Vec<Value> = targets
        .iter()
        .map(|(host, port, total, available)| {
            json!({"host": host, "port": port, "dns": "A", "nodeWeight": total, "addresses": [{"ip": host, "port": port}],
                "weight": {"total": total, "available": available, "unavailable": total - available}})
        })
        .collect();
    let total: u64 = targets.iter().map(|(_, _, total, _)| total).sum();
    let hosts = if hosts.is_empty() { json!({}) } else { hosts.into() };
    json!({"node_id": "x", "next": null, "data": {"health": "HEALTHCHECKS_OFF", "details": {
        "weight": {"total": total}, "healthy": true, "hosts": hosts}}})
}

fn of(targets: &Targets) -> Vec<(String, u16, u64, u64)> {
    let one = |(address, target): (&std::net::SocketAddr, &weir_render::kong::Target)| {
        let weight = u64::from(target.weight);
        (address.ip().to_string(), address.port(), weight, weight)
    };
    targets.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn whatever_weights_and_addresses_the_sums_are_exact(of_backends in any_shares()) {
        let (names, via) = via_of(&of_backends);
        let declared: Vec<(&str, u32)> = names.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        let made = match made(&declared, via, &Resolved::new()) {
            Ok(made) => made,
            Err(why) => {
                prop_assert!(!can_be(&of_backends), "{why}");
                return Ok(());
            }
        };
        let mut sums: BTreeMap<&BackendName, (u64, u64, u64)> = BTreeMap::new();
        for target in made.values() {
            let weight = u64::from(target.weight);
            let (sum, least, most) = sums.entry(&target.backend).or_insert((0, u64::MAX, 0));
            (*sum, *least, *most) = (*sum + weight, (*least).min(weight), (*most).max(weight));
        }
        let ring: u64 = sums.values().map(|(sum, ..)| sum).sum();
        prop_assert!(ring <= 100_000, "a ring of {ring}");
        for ((name, weight), (_, count)) in declared.iter().zip(&of_backends) {
            let (sum, least, most) = sums[&name.parse::<BackendName>().expect("a name")];
            prop_assert_eq!(sum * 10_000, u64::from(*weight) * ring, "{} of {:?}", name, of_backends);
            prop_assert!(most - least <= 1, "addresses of one backend are alike");
            prop_assert_eq!(made.values().filter(|target| target.backend.as_str() == *name).count(), *count);
        }
        let upstream = Upstream { name: "weir.checkout.default".to_owned(), targets: made.clone(), names: BTreeMap::new(), drains: false };
        let read = answer(&of(&made));
        prop_assert_eq!(shares(&read, &upstream), Ok(()));
        prop_assert_eq!(weights(&read, &upstream), Some(crate::weights(&declared)));
    }
}

#[test]
fn whatever_a_worker_gives_otherwise_is_told() {
    let made = made(
        &[("vm", 9000), ("eks", 1000), ("old", 0)],
        addresses(&["vm=10.0.0.1:80", "eks=10.0.0.2:80", "old=10.0.0.3:80"]),
        &Resolved::new(),
    )
    .expect("targets");
    let upstream = Upstream {
        name: "weir.checkout.default".to_owned(),
        targets: made,
        names: BTreeMap::new(),
        drains: false,
    };
    let one = |host: &str, weight: u64, available: u64| (host.to_owned(), 80, weight, available);
    let (vm, eks, old) = (
        one("10.0.0.1", 9, 9),
        one("10.0.0.2", 1, 1),
        one("10.0.0.3", 0, 0),
    );
    let read = |targets: &[_]| {
        let answer = answer(targets);
        let weights = weights(&answer, &upstream).map(|weights| {
            weights
                .into_iter()
                .filter(|(_, weight)| weight.get() > 0)
                .map(|(name, weight)| format!("{name} {weight}"))
                .collect::<Vec<_>>()
                .join(" ")
        });
        let differs = shares(&answer, &upstream).err();
        let unhealthy = differs.iter().flat_map(|differs| &differs.unhealthy);
        (
            unhealthy.map(ToString::to_string).collect::<Vec<_>>(),
            differs.map(|differs| differs.why).unwrap_or_default(),
            weights.unwrap_or_default(),
        )
    };
    let exact = (Vec::new(), String::new(), "eks 10 vm 90".to_owned());
    assert_eq!(read(&[vm.clone(), eks.clone(), old.clone()]), exact);
    assert_eq!(read(&[vm.clone(), eks.clone()]), exact, "nothing for nobody");
    // Whose health alone it is, is told; not where anything else is wrong as well.
    let sick = one("10.0.0.2", 1, 0);
    for (targets, said, shared) in [
        (
            vec![vm.clone(), sick.clone()],
            "takes target 10.0.0.2:80 of backend eks for unhealthy",
            "vm 100",
        ),
        (
            vec![one("10.0.0.1", 9, 0), sick.clone()],
            "takes target 10.0.0.1:80 of backend vm for unhealthy",
            "",
        ),
        (
            vec![sick.clone(), one("10.0.0.1", 3, 3)],
            "weighs 3 and should weigh 9",
            "vm 100",
        ),
        (vec![sick], "target 10.0.0.1:80 of backend vm is missing", ""),
        (
            vec![vm.clone()],
            "target 10.0.0.2:80 of backend eks is missing",
            "vm 100",
        ),
        (
            vec![vm.clone(), one("10.0.0.2", 3, 3)],
            "weighs 3 and should weigh 1",
            "eks 25 vm 75",
        ),
        (
            vec![vm.clone(), eks.clone(), one("10.0.0.3", 10, 10)],
            "weighs 10 and should weigh 0",
            "eks 5 old 50 vm 45",
        ),
        (
            vec![vm.clone(), eks.clone(), one("10.9.9.9", 10, 10)],
            "10.9.9.9:80 that is nobody's",
            "",
        ),
        (
            vec![vm.clone(), one("eks.test", 1, 1)],
            "a target eks.test:80 that is nobody's",
            "",
        ),
        (vec![], "10.0.0.1:80 of backend vm is missing", ""),
    ] {
        let (unhealthy, why, weights) = read(&targets);
        assert!(why.contains(said), "{why}");
        let whose: &[&str] = match said.split_once("for unhealthy") {
            None => &[],
            Some((of, _)) if of.contains("eks") => &["eks"],
            Some(_) => &["eks", "vm"],
        };
        assert_eq!(unhealthy, whose, "{why}");
        assert_eq!(weights, shared, "{why}");
    }
    for (answer, said) in [
        (
            json!({"node_id": "x", "next": null}),
            "does not know the upstream yet",
        ),
        (json!({"data": {"details": {}}}), "no list of targets"),
        (
            json!({"data": {"details": {"hosts": [{"host": "10.0.0.1", "port": 80}]}}}),
            "does not tell the weight",
        ),
        (
            json!({"data": {"details": {"hosts": [], "weight": {"total": 7}}}}),
            "sum up to 0",
        ),
    ] {
        assert!(
            shares(&answer, &upstream)
                .expect_err("nothing")
                .why
                .contains(said),
            "{answer}"
        );
        assert_eq!(weights(&answer, &upstream), None);
    }
}

/// The very answer of a Kong 3.9.3.
#[test]
fn a_real_answer_is_read() {
    let recorded = include_str!("../../../../tests/recorded/kong-3.9.3/dbless-bhealth.txt");
    let answer: Value = serde_json::from_str(recorded.lines().last().expect("a body")).expect("JSON");
    let made = made(
        &[("vm", 9000), ("eks", 1000)],
        addresses(&["vm=127.0.0.1:19001", "eks=127.0.0.1:19002"]),
        &Resolved::new(),
    );
    let mut made = made.expect("targets");
    let upstream = |targets| Upstream {
        name: "shop.split".to_owned(),
        targets,
        names: BTreeMap::new(),
        drains: false,
    };
    assert_eq!(
        weights(&answer, &upstream(made.clone())),
        Some(crate::weights(&[("vm", 9000), ("eks", 1000)]))
    );
    assert!(shares(&answer, &upstream(made.clone())).is_err(), "90 is not 9");
    for target in made.values_mut() {
        target.weight *= 10;
    }
    assert_eq!(shares(&answer, &upstream(made)), Ok(()));
}

#[test]
fn each_route_has_its_own() {
    let beta = Match {
        headers: vec![],
        method: Some("GET".to_owned()),
        ..Match::ANY
    };
    let item = item(
        "checkout",
        vec![
            route("beta", beta, &[("eks", 10_000)]),
            route("default", Match::ANY, &[("vm", 10_000)]),
        ],
    );
    let door = door(routing(&[], &["/"]), pair());
    let at = AtDoor {
        item: &item,
        door: &door,
        pin: None,
    };
    let of = |route: &str| shown(&targets(&at, &Resolved::new(), &name(route)).expect("targets"));
    assert_eq!(of("beta"), ["10.0.0.2:8080 eks 1"]);
    assert_eq!(of("default"), ["10.0.0.1:8080 vm 1"]);
    assert!(targets(&at, &Resolved::new(), &name("other")).is_err());
}
