//! The cost of planning follows the change, not the fleet: counted, and by identity of what is shared.

use std::sync::Arc;

use weir_model::{DnsLabel, Split, SplitName, ZoneName};
use weir_planner::{Planned, Work, diff};

use crate::declared::{History, put, split, with};

const SPLITS: usize = 2_000;
const ZONES: usize = 50;

fn name(n: usize) -> String {
    format!("s{n}")
}

fn fleet() -> (Vec<String>, Vec<Split>) {
    let zones: Vec<String> = (0..ZONES).map(|n| format!("z{n}")).collect();
    let one = |n: usize| {
        let (vm, eks) = (format!("vm@z{}", n % ZONES), format!("eks@z{}", (n + 1) % ZONES));
        split(&name(n), &[&vm, &eks], &[("vm", 90), ("eks", 10)])
    };
    (zones, (0..SPLITS).map(one).collect())
}

#[test]
fn one_change_in_a_fleet_makes_one_splits_items() {
    let (zones, splits) = fleet();
    let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
    let mut declaration = with(&zones, splits);
    let mut history = History::default();

    let (_, first) = history.step(&declaration);
    let all = Work {
        splits_compared: SPLITS,
        splits_planned: SPLITS,
        items_made: SPLITS * ZONES,
        items_kept: 0,
    };
    assert_eq!(first, all);

    let (again, nothing) = history.step(&declaration);
    assert_eq!(again, Planned::Nothing);
    let none = Work {
        splits_compared: SPLITS,
        ..Work::default()
    };
    assert_eq!(nothing, none);

    put(
        &mut declaration,
        split(&name(7), &["vm@z7", "eks@z8"], &[("vm", 50), ("eks", 50)]),
    );
    let (_, second) = history.step(&declaration);
    let one = Work {
        splits_compared: SPLITS,
        splits_planned: 1,
        items_made: ZONES,
        items_kept: 0,
    };
    assert_eq!(second, one);
    let [before, after] = &history.plans[..] else {
        panic!("{} plans", history.plans.len());
    };
    let changed: Vec<&SplitName> = after
        .splits
        .iter()
        .filter(|(name, split)| !Arc::ptr_eq(split, &before.splits[*name]))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(changed, [&SplitName::new("s7").unwrap()]);
    assert_eq!(diff(Some(before), after).splits.len(), 1);

    // a zone's new name in Kuma: its own items, and those that send there
    let zone = ZoneName::new("z3").unwrap();
    declaration.zones.get_mut(&zone).unwrap().kuma_zone = DnsLabel::new("z3-new").unwrap();
    let (_, third) = history.step(&declaration);
    let sending = 2 * SPLITS / ZONES; // as `vm` and as `eks`
    let touched = sending * ZONES + (SPLITS - sending);
    let renamed = Work {
        splits_compared: SPLITS,
        splits_planned: SPLITS,
        items_made: touched,
        items_kept: SPLITS * ZONES - touched,
    };
    assert_eq!(third, renamed);
    let after = history.last();
    for (name, split) in &after.splits {
        for (at, item) in &split.items {
            let names_it = *at == zone || item.destinations.values().any(|to| to.zone == zone);
            let kept = Arc::ptr_eq(item, &history.plans[1].splits[name].items[at]);
            assert_eq!(kept, !names_it, "{name} in {at}");
        }
    }
}
