//! What holds for every declaration and every sequence of edits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use proptest::prelude::*;
use weir_model::{
    BackendName, BasisPoints, Declaration, DnsLabel, HeaderMatch, Match, PathMatch, Protocol, Route, Split,
    ValueMatch, ZoneName,
};
use weir_planner::{InKuma, Plan, Planned, diff, explain};

use crate::declared::{History, federation, place, put};

const ZONES: [&str; 4] = ["ams", "fra", "lis", "par"];
const SPLITS: [&str; 3] = ["cart", "checkout", "pay"];
const BACKENDS: [&str; 3] = ["eks", "old", "vm"];

/// Exact shares of 10000 from arbitrary numbers.
fn shares(of: &[u32]) -> Vec<u32> {
    let sum: u32 = of.iter().sum();
    if sum == 0 {
        let mut shares = vec![0; of.len()];
        shares[0] = 10_000;
        return shares;
    }
    let mut shares: Vec<u32> = of.iter().map(|part| part * 10_000 / sum).collect();
    let rest = 10_000 - shares.iter().sum::<u32>();
    let largest = (0..shares.len()).max_by_key(|at| shares[*at]).unwrap();
    shares[largest] += rest;
    shares
}

fn matches() -> impl Strategy<Value = Match> {
    let path = prop_oneof![
        Just(None),
        Just(Some(PathMatch::Prefix("/".to_owned()))),
        Just(Some(PathMatch::Prefix("/pay".to_owned()))),
        Just(Some(PathMatch::Exact("/pay/now".to_owned()))),
    ];
    let method = prop_oneof![Just(None), Just(Some("GET".to_owned()))];
    let headers = prop::sample::subsequence(vec!["x-a", "x-b"], 0..=2);
    (path, method, headers).prop_map(|(path, method, names)| Match {
        path,
        method,
        headers: names
            .into_iter()
            .map(|name| HeaderMatch {
                name: name.to_owned(),
                value: ValueMatch::Exact("1".to_owned()),
            })
            .collect(),
        query: Vec::new(),
    })
}

/// Some backends in different zones; a default route and up to two others.
fn one_split(name: &'static str) -> impl Strategy<Value = Split> {
    let backends = prop::sample::subsequence(BACKENDS.to_vec(), 1..=3);
    let zones = Just(ZONES.to_vec()).prop_shuffle();
    let weights = prop::collection::vec(prop::collection::vec(prop_oneof![Just(0_u32), 0_u32..100], 3), 3);
    let others = prop::collection::vec(matches(), 0..=2);
    let tcp = prop::bool::weighted(0.15);
    (backends, zones, weights, others, tcp).prop_map(move |(backends, zones, weights, others, tcp)| {
        let placed: Vec<String> = backends
            .iter()
            .zip(zones)
            .map(|(b, z)| format!("{b}@{z}"))
            .collect();
        let placed: Vec<&str> = placed.iter().map(String::as_str).collect();
        let mut split = crate::declared::split(name, &placed, &[]);
        let route = |at: usize, matches: Match| {
            let shares = shares(&weights[at][..backends.len()]);
            let pairs = backends.iter().zip(shares);
            Route {
                name: format!("r{at}").parse().unwrap(),
                matches,
                weights: pairs
                    .map(|(name, share)| (BackendName::new(*name).unwrap(), BasisPoints::new(share).unwrap()))
                    .collect(),
                place: place(at),
            }
        };
        let mut others: Vec<Match> = others
            .into_iter()
            .filter(|matches| !tcp && !matches.is_any())
            .collect();
        // prefix `/` is any path, and no declaration has two routes of one match
        others.dedup_by_key(|matches| Match {
            path: matches
                .path
                .clone()
                .filter(|path| *path != PathMatch::Prefix("/".to_owned())),
            ..matches.clone()
        });
        split.routes = others
            .into_iter()
            .enumerate()
            .map(|(at, matches)| route(at, matches))
            .collect();
        split.routes.push(route(2, Match::ANY));
        if tcp {
            split.protocol = Protocol::Tcp;
        }
        split
    })
}

/// What one commit does.
#[derive(Debug, Clone)]
enum Edit {
    Put(Box<Split>),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    /// Two zones change names in Kuma.
    Swap(&'static str, &'static str),
    Nothing,
    /// Back to the state so many commits ago.
    Revert(usize),
    /// Agents report plans that this history does not hold, so many above the last.
    Leap(u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let put = prop_oneof![one_split(SPLITS[0]), one_split(SPLITS[1]), one_split(SPLITS[2])];
    prop_oneof![
        6 => put.prop_map(|split| Edit::Put(Box::new(split))),
        1 => prop::sample::select(&SPLITS[..]).prop_map(Edit::Remove),
        1 => (prop::sample::select(&ZONES[..]), prop::sample::select(vec!["k1", "k2"]))
            .prop_map(|(zone, kuma)| Edit::Rename(zone, kuma)),
        1 => (prop::sample::select(&ZONES[..]), prop::sample::select(&ZONES[..]))
            .prop_map(|(one, other)| Edit::Swap(one, other)),
        1 => Just(Edit::Nothing),
        2 => (1_usize..4).prop_map(Edit::Revert),
        1 => (1_u64..5).prop_map(Edit::Leap),
    ]
}

fn apply(edit: &Edit, past: &[Declaration], history: &mut History) -> Declaration {
    let mut declaration = past.last().cloned().unwrap_or_else(|| federation(&ZONES));
    match edit {
        Edit::Put(split) => put(&mut declaration, Split::clone(split)),
        Edit::Remove(name) => drop(declaration.splits.remove(&name.parse().unwrap())),
        Edit::Rename(zone, kuma) => {
            let zone = declaration.zones.get_mut(&ZoneName::new(*zone).unwrap()).unwrap();
            zone.kuma_zone = DnsLabel::new(format!(
                "{}-{kuma}",
                zone.kuma_zone.as_str().split('-').next().unwrap()
            ))
            .unwrap();
        }
        Edit::Swap(one, other) => {
            let [one, other] = [one, other].map(|name| ZoneName::new(*name).unwrap());
            let mut names = declaration.zones.clone();
            names.get_mut(&one).unwrap().kuma_zone = declaration.zones[&other].kuma_zone.clone();
            names.get_mut(&other).unwrap().kuma_zone = declaration.zones[&one].kuma_zone.clone();
            declaration.zones = names;
        }
        Edit::Nothing => {}
        Edit::Revert(back) => {
            if let Some(then) = past.len().checked_sub(back + 1) {
                declaration = past[then].clone();
            }
        }
        Edit::Leap(by) => {
            let last = history.plans.last().map_or(0, |plan| plan.generation.0);
            history.highest = last + by;
        }
    }
    declaration
}

/// What a plan makes requests do, found without the planner's own words: by zone, split and match, shares by place.
type Shares = BTreeMap<String, BTreeMap<String, BTreeMap<String, u32>>>;

fn planned(plan: &Plan) -> Shares {
    let mut shares = Shares::new();
    for item in plan.splits.values().flat_map(|split| split.items.values()) {
        let routes = shares.entry(format!("{}/{}", item.zone, item.split)).or_default();
        for route in &item.routes {
            let weights = route.weights.iter();
            let by_place =
                weights.map(|(to, weight)| (item.destinations[to].kuma_zone.to_string(), weight.get()));
            routes.insert(route.name.to_string(), by_place.collect());
        }
    }
    shares
}

fn declared(declaration: &Declaration) -> Shares {
    let mut shares = Shares::new();
    for zone in declaration.zones.keys() {
        for split in declaration.splits.values() {
            let routes = shares.entry(format!("{zone}/{}", split.name)).or_default();
            for route in &split.routes {
                let place =
                    |to: &BackendName| declaration.zones[&split.backends[to].zone].kuma_zone.to_string();
                let by_place = route.weights.iter().map(|(to, weight)| (place(to), weight.get()));
                routes.insert(route.name.to_string(), by_place.collect());
            }
        }
    }
    shares
}

/// A caller that follows from any earlier plan of the last minute straight to this one keeps every cluster that it used:
/// as long as there was an anchor all the time, that is, with http and the split declared.
fn keeps_recent(history: &History) {
    let last = history.last();
    for item in last.splits.values().flat_map(|split| split.items.values()) {
        let now: BTreeSet<InKuma<'_>> = item.destinations.values().map(|to| to.in_kuma()).collect();
        for past in history.plans.iter().rev() {
            let before = past
                .splits
                .get(&item.split)
                .and_then(|split| split.items.get(&item.zone));
            let Some(before) = before.filter(|before| before.protocol != Protocol::Tcp) else {
                break;
            };
            if last.created.duration_since(past.created) >= weir_planner::DRAIN {
                break;
            }
            for used in before
                .weighted()
                .into_iter()
                .filter(|_| item.protocol != Protocol::Tcp)
            {
                let kept = now.contains(&before.destinations[used].in_kuma());
                assert!(
                    kept,
                    "{} in {} lost {used} of generation {}",
                    item.split, item.zone, past.generation
                );
            }
        }
    }
}

proptest! {
    /// The linter runs inside `History::step`, over each plan, as does the check for equal bytes from equal input.
    #[test]
    fn every_history_holds(steps in prop::collection::vec((edit(), prop_oneof![Just(5_i64), Just(600)]), 1..12)) {
        let mut history = History::default();
        let mut past: Vec<Declaration> = Vec::new();
        for (edit, seconds) in &steps {
            let declaration = apply(edit, &past, &mut history);
            let before = history.plans.last().cloned();
            let (outcome, work) = history.step_after(&declaration, SignedDuration::from_secs(*seconds));
            match (&outcome, &before) {
                (Planned::Refused(reasons), _) => prop_assert!(false, "{reasons:?}"),
                (Planned::Nothing, None) => prop_assert!(false, "the first plan is one even when empty"),
                (Planned::Nothing, Some(before)) => {
                    prop_assert_eq!(planned(before), declared(&declaration));
                }
                (Planned::New(plan), before) => {
                    prop_assert_eq!(planned(plan), declared(&declaration));
                    let leap = matches!(edit, Edit::Leap(_));
                    let change = diff(before.as_ref(), plan);
                    prop_assert!(before.is_none() || leap || !change.is_empty());
                    for line in format!("{change}{}", explain(before.as_ref(), plan)).lines() {
                        prop_assert!(line.chars().count() <= 80, "{}", line);
                    }
                    if let Some(before) = before {
                        prop_assert!(plan.generation > before.generation);
                        if let (Edit::Put(_), false) = (edit, leap) {
                            prop_assert!(work.splits_planned <= 1);
                        }
                        for (name, split) in &plan.splits {
                            let same = before.splits.get(name).filter(|b| b.digest == split.digest && !leap);
                            prop_assert!(same.is_none_or(|same| Arc::ptr_eq(same, split)));
                        }
                    }
                }
            }
            if let Planned::New(_) = outcome {
                keeps_recent(&history);
            }
            past.push(declaration);
        }
    }

    /// The order of source files shows in places only, and places are in no plan.
    #[test]
    fn places_are_in_no_plan(one in one_split("checkout"), line in 0_usize..1000) {
        let mut declaration = federation(&ZONES);
        let mut elsewhere = one.clone();
        elsewhere.place = place(line);
        for (at, route) in elsewhere.routes.iter_mut().enumerate() {
            route.place = place(line + at);
        }
        put(&mut declaration, one);
        let mut moved = declaration.clone();
        put(&mut moved, elsewhere);
        let (mut a, mut b) = (History::default(), History::default());
        a.follow(&declaration);
        b.follow(&moved);
        prop_assert_eq!(&a.plans, &b.plans);
    }

    /// There and back again is where it was, at a higher generation.
    #[test]
    fn a_revert_gives_the_same_weights(one in one_split("checkout"), two in one_split("checkout")) {
        let mut there = federation(&ZONES);
        put(&mut there, one);
        let mut elsewhere = federation(&ZONES);
        put(&mut elsewhere, two);
        let mut history = History::default();
        history.follow(&there);
        let first = history.last().clone();
        let moved = matches!(history.step(&elsewhere).0, Planned::New(_));
        let back = matches!(history.step(&there).0, Planned::New(_));
        prop_assert_eq!(moved, back);
        prop_assert_eq!(planned(history.last()), planned(&first));
        prop_assert_eq!(history.last().generation.0, if moved { 3 } else { 1 });
    }
}
