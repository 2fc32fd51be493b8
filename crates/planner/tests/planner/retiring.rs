//! Backends on their way out: what had weight outlives the change that takes it away (I4).

use std::collections::BTreeMap;

use jiff::SignedDuration;
use weir_model::{Declaration, Protocol, ZoneName};
use weir_planner::diff::ItemChange;
use weir_planner::{Item, Plan, Planned};

use crate::declared::{History, item, put, split, with};

const ZONES: [&str; 3] = ["ams", "fra", "par"];

fn both(vm: u32) -> Declaration {
    with(
        &ZONES,
        [split(
            "checkout",
            &["vm@fra", "eks@ams"],
            &[("vm", vm), ("eks", 100 - vm)],
        )],
    )
}

fn only(eks: &str, percent: u32, other: &str) -> Declaration {
    let weights = [("eks", percent), ("other", 100 - percent)];
    with(&ZONES, [split("checkout", &[eks, other], &weights)])
}

/// Destinations as `name -> zone`, `*` before what retires.
fn destinations(item: &Item) -> BTreeMap<String, String> {
    let mark = |name| if item.retiring.contains(name) { "*" } else { "" };
    let pairs = item.destinations.iter();
    pairs
        .map(|(name, at)| (format!("{}{name}", mark(name)), at.kuma_zone.to_string()))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

fn at_par(plan: &Plan) -> BTreeMap<String, String> {
    destinations(&item(plan, "checkout", "par"))
}

#[test]
fn a_weighted_backend_retires_and_goes_with_a_later_change() {
    let mut history = History::default();
    history.follow(&both(100));
    let plan = history.follow(&only("eks@ams", 90, "other@par"));
    assert_eq!(
        at_par(plan),
        pairs(&[("*vm", "fra"), ("eks", "ams"), ("other", "par")])
    );

    // nothing changes it but a change of this split
    let mut more = only("eks@ams", 90, "other@par");
    put(&mut more, split("cart", &["vm@fra"], &[("vm", 100)]));
    let plan = history.follow(&more);
    assert_eq!(
        at_par(plan),
        pairs(&[("*vm", "fra"), ("eks", "ams"), ("other", "par")])
    );

    let plan = history.follow(&only("eks@ams", 80, "other@par"));
    assert_eq!(at_par(plan), pairs(&[("eks", "ams"), ("other", "par")]));
}

#[test]
fn a_backend_without_weight_goes_at_once() {
    let mut history = History::default();
    history.follow(&both(0));
    let plan = history.follow(&with(&ZONES, [split("checkout", &["eks@ams"], &[("eks", 100)])]));
    assert_eq!(at_par(plan), pairs(&[("eks", "ams")]));
}

#[test]
fn quick_commits_release_nothing_that_a_slow_zone_may_still_use() {
    let mut history = History::default();
    history.follow(&both(100));
    let soon = SignedDuration::from_secs(1);
    history.step_after(&both(0), soon);
    history.step_after(&only("eks@ams", 90, "other@par"), soon);
    history.step_after(&only("eks@ams", 80, "other@par"), soon);
    assert_eq!(history.plans.len(), 4);
    // the zone that comes late goes from the first plan to the last in one change
    let plan = history.last();
    assert_eq!(
        at_par(plan),
        pairs(&[("*vm", "fra"), ("eks", "ams"), ("other", "par")])
    );
}

#[test]
fn a_clock_that_went_back_releases_nothing() {
    let mut history = History::default();
    history.follow(&both(100));
    history.follow(&only("eks@ams", 90, "other@par"));
    history.step_after(&only("eks@ams", 80, "other@par"), SignedDuration::from_hours(-1));
    assert_eq!(
        at_par(history.last()),
        pairs(&[("*vm", "fra"), ("eks", "ams"), ("other", "par")])
    );
}

#[test]
fn a_backend_that_moves_leaves_its_old_place_behind() {
    let mut history = History::default();
    history.follow(&both(50));
    let moved = with(
        &ZONES,
        [split(
            "checkout",
            &["vm@par", "eks@ams"],
            &[("vm", 50), ("eks", 50)],
        )],
    );
    let plan = history.follow(&moved);
    assert_eq!(
        at_par(plan),
        pairs(&[("*vm-was", "fra"), ("eks", "ams"), ("vm", "par")])
    );
    let (planned, _) = history.step(&moved);
    assert_eq!(planned, Planned::Nothing);
    let plan = history.follow(&both(50));
    assert_eq!(
        at_par(plan),
        pairs(&[("*vm-was", "par"), ("eks", "ams"), ("vm", "fra")])
    );
}

#[test]
fn a_backend_that_comes_back_retires_no_more() {
    let mut history = History::default();
    history.follow(&both(50));
    let first = item(history.last(), "checkout", "par");
    history.follow(&with(&ZONES, [split("checkout", &["eks@ams"], &[("eks", 100)])]));
    let plan = history.follow(&both(50));
    assert_eq!(at_par(plan), pairs(&[("eks", "ams"), ("vm", "fra")]));
    let again = item(plan, "checkout", "par");
    assert_eq!(again.digest, first.digest);
    assert!(again.generation > first.generation);
}

/// Kuma knows nothing of our names for zones: another one moves nobody and replaces no listener.
#[test]
fn a_zone_that_we_call_otherwise_moves_nothing() {
    let mut history = History::default();
    history.follow(&both(50));
    let renamed = |declaration: &mut Declaration| {
        let mut zone = declaration.zones.remove(&ZoneName::new("fra").unwrap()).unwrap();
        zone.name = ZoneName::new("frankfurt").unwrap();
        declaration.zones.insert(zone.name.clone(), zone);
    };
    let mut declaration = with(
        &ZONES,
        [split(
            "checkout",
            &["vm@frankfurt", "eks@ams"],
            &[("vm", 50), ("eks", 50)],
        )],
    );
    renamed(&mut declaration);
    history.follow(&declaration);
    let [before, after] = &history.plans[..] else {
        panic!("{} plans", history.plans.len());
    };
    assert_eq!(at_par(after), at_par(before));
    let change = ItemChange::between(
        Some(&item(before, "checkout", "par")),
        Some(&item(after, "checkout", "par")),
    );
    assert!(!change.unwrap().replaces_listener);
}

#[test]
fn tcp_has_no_anchor_so_nothing_retires() {
    let tcp = |backends: &[&str], weights: &[(&str, u32)]| {
        let mut split = split("db", backends, weights);
        split.protocol = Protocol::Tcp;
        with(&ZONES, [split])
    };
    let mut history = History::default();
    history.follow(&tcp(&["vm@fra", "eks@ams"], &[("vm", 50), ("eks", 50)]));
    let plan = history.follow(&tcp(&["eks@ams"], &[("eks", 100)]));
    assert_eq!(destinations(&item(plan, "db", "par")), pairs(&[("eks", "ams")]));
}

/// Callers know a service and not the name of its split: another name is no reason to forget what they still use.
#[test]
fn a_split_with_another_name_remembers_what_its_service_had() {
    let called = |name: &str, backends: &[&str], weights: &[(&str, u32)]| {
        let mut split = split(name, backends, weights);
        split.service = weir_model::ServiceName::new("checkout").unwrap();
        with(&ZONES, [split])
    };
    let mut history = History::default();
    history.follow(&both(50));
    let plan = history.follow(&called("pay", &["eks@ams"], &[("eks", 100)]));
    assert_eq!(
        destinations(&item(plan, "pay", "par")),
        pairs(&[("*vm", "fra"), ("eks", "ams")])
    );
    let plan = history.follow(&called(
        "pay",
        &["eks@ams", "other@par"],
        &[("eks", 99), ("other", 1)],
    ));
    assert_eq!(
        destinations(&item(plan, "pay", "par")),
        pairs(&[("eks", "ams"), ("other", "par")])
    );

    // Two splits that change places, each with a backend that goes.
    let two = |first: &str, second: &str, backends: [&[&str]; 2], weights: [&[(&str, u32)]; 2]| {
        let of = |name, service, at: usize| {
            let mut split = split(name, backends[at], weights[at]);
            split.service = weir_model::ServiceName::new(service).unwrap();
            split
        };
        with(&ZONES, [of("a", first, 0), of("b", second, 1)])
    };
    let mut history = History::default();
    let halves: &[(&str, u32)] = &[("vm", 50), ("eks", 50)];
    history.follow(&two(
        "cart",
        "checkout",
        [&["vm@fra", "eks@ams"], &["vm@par", "eks@ams"]],
        [halves, halves],
    ));
    let all: &[(&str, u32)] = &[("eks", 100)];
    let plan = history.follow(&two("checkout", "cart", [&["eks@ams"], &["eks@ams"]], [all, all]));
    for (split, service, was) in [("a", "checkout", "par"), ("b", "cart", "fra")] {
        let item = item(plan, split, "par");
        let kept = item.retiring.iter().map(|name| &item.destinations[name]);
        let kept: Vec<_> = kept
            .filter(|to| to.service.as_str() == service)
            .map(|to| to.kuma_zone.as_str())
            .collect();
        assert_eq!(kept, [was], "{split}");
    }
}
