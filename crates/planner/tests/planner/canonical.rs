//! The bytes under ids and digests: the same on every machine, and never changed unnoticed.

use std::sync::Arc;

use weir_model::{HeaderMatch, Match, PathMatch, SourceFile, ValueMatch, parse};
use weir_planner::{Course, Leg, Motion, Plan, Quarantine, anchor, canonical, item_digest, plan_id};

use crate::declared::{History, item, put, route, split, with};

fn plan() -> Plan {
    let mut checkout = split("checkout", &["vm@fra", "eks@ams"], &[("vm", 90), ("eks", 10)]);
    let beta = Match {
        path: Some(PathMatch::Prefix("/pay".to_owned())),
        method: Some("POST".to_owned()),
        headers: vec![HeaderMatch {
            name: "x-beta".to_owned(),
            value: ValueMatch::Exact("true".to_owned()),
        }],
        query: Vec::new(),
    };
    checkout.routes.insert(0, route("beta", beta, &[("eks", 100)]));
    let mut history = History::default();
    history.follow(&with(&["ams", "fra"], [checkout])).clone()
}

/// If this fails, the canonical encoding changed: every item of every federation would look changed. Do that only with
/// a new version, and say so to those who upgrade.
#[test]
fn version_1_stays_as_it_is() {
    let plan = plan();
    let item = item(&plan, "checkout", "fra");
    let split = &plan.splits[&item.split];
    let held = format!(
        "anchor {}\nitem   {}\ninputs {}\nroot   {}\nzones  {}\nplan   {}",
        item.anchor,
        item.digest,
        split.digest,
        split.root,
        canonical::zones_digest(&plan.zones),
        plan.id
    );
    insta::assert_snapshot!(held);
    insta::assert_snapshot!("item_bytes", hex(&canonical::item_bytes(&item)));
}

/// What a port is called came later than version 1: it is in the bytes only where it is declared.
#[test]
fn names_of_the_port_are_in_the_bytes_only_where_there_are_any() {
    let of = |names: &[&str]| {
        let mut checkout = split("checkout", &["vm@fra"], &[("vm", 100)]);
        checkout.port_names = names.iter().map(|name| name.parse().unwrap()).collect();
        let mut history = History::default();
        history.follow(&with(&["ams", "fra"], [checkout])).clone()
    };
    let bytes = |plan: &Plan| canonical::item_bytes(&item(plan, "checkout", "fra"));
    let plans = [of(&[]), of(&["a"]), of(&["a", "b"]), of(&["ab"])];
    assert!(
        plans
            .iter()
            .all(|plan| bytes(plan).starts_with(&bytes(&plans[0])))
    );
    for (at, plan) in plans.iter().enumerate() {
        for other in &plans[..at] {
            assert_ne!(bytes(plan), bytes(other));
            assert_ne!(
                plan.splits.values().next().unwrap().digest,
                other.splits.values().next().unwrap().digest
            );
        }
    }
    let mut history = History::default();
    let mut checkout = split("checkout", &["vm@fra"], &[("vm", 100)]);
    let before = history.follow(&with(&["fra"], [checkout.clone()])).clone();
    checkout.port_names = ["http".parse().unwrap()].into();
    let after = history.follow(&with(&["fra"], [checkout])).clone();
    let change = weir_planner::diff(Some(&before), &after);
    assert_eq!(
        change.sentences(),
        ["split checkout in fra: names of the port: none -> http"]
    );
    assert!(
        change
            .splits
            .values()
            .flatten()
            .all(|part| part.change.replaces_listener)
    );
}

/// What a course remembers of drains came later as well: plans of before keep their ids.
#[test]
fn drains_are_in_the_bytes_only_where_there_are_any() {
    let of = |drained: bool, stopped: Option<&str>, moving: bool| {
        let mut split = weir_planner::SplitPlan::clone(plan().splits.values().next().unwrap());
        let motion = Motion {
            origin: split.items.clone(),
            from: split.items.clone(),
            to: split.digest,
            leg: Leg::Return {
                why: "why".to_owned(),
            },
            since: jiff::Timestamp::UNIX_EPOCH,
            counted: [].into(),
            stopped: stopped.map(|why| Quarantine {
                shape: split.digest,
                why: why.to_owned(),
                at: jiff::Timestamp::UNIX_EPOCH,
            }),
        };
        split.course = Some(Course {
            previous: vec![split.digest],
            left: None,
            drained,
            motion: moving.then_some(motion),
            quarantine: None,
        });
        canonical::split_root(&split).to_string()
    };
    assert_eq!(
        of(false, None, true),
        "818139ea114325baa528873705667f28a5d378cdf2c5f2ef2bc8db7969c6c61b"
    );
    let all = [
        of(false, None, false),
        of(true, None, false),
        of(false, None, true),
        of(true, None, true),
        of(false, Some("a"), true),
        of(false, Some("drained"), true),
        of(true, Some("a"), true),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:#?}");
}

fn hex(bytes: &[u8]) -> String {
    let row = |row: &[u8]| {
        let digits: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = row.iter().map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '.'
            }
        });
        format!("{:<48} {}", digits.join(" "), text.collect::<String>())
    };
    bytes.chunks(16).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plan_survives_json_with_its_id() {
    let plan = plan();
    let read: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(read, plan);
    assert_eq!(plan_id(&read), plan.id);
    for item in read.splits.values().flat_map(|split| split.items.values()) {
        assert_eq!(item_digest(item), item.digest);
    }
}

/// Explicit `/`, order of headers, order of routes that are no tie, places: other words for the same plan.
#[test]
fn ways_to_write_the_same_are_the_same_plan() {
    let header = |name: &str| HeaderMatch {
        name: name.to_owned(),
        value: ValueMatch::Exact("1".to_owned()),
    };
    let two = |headers: [&str; 2], path: Option<&str>| Match {
        path: path.map(|path| PathMatch::Prefix(path.to_owned())),
        headers: headers.map(header).to_vec(),
        ..Match::ANY
    };
    let exact = Match {
        path: Some(PathMatch::Exact("/pay".to_owned())),
        ..Match::ANY
    };
    let make = |routes| {
        let mut split = split("checkout", &["vm@fra", "eks@ams"], &[]);
        split.routes = routes;
        with(&["ams", "fra"], [split])
    };
    let one = make(vec![
        route("exact", exact.clone(), &[("vm", 100)]),
        route("both", two(["a", "b"], None), &[("eks", 100)]),
        route("default", Match::ANY, &[("vm", 90), ("eks", 10)]),
    ]);
    let mut other = make(vec![
        route("both", two(["b", "a"], Some("/")), &[("eks", 100)]),
        route("exact", exact, &[("vm", 100)]),
        route("default", two_any(), &[("vm", 90), ("eks", 10)]),
    ]);
    let mut moved = (**other.splits.values().next().unwrap()).clone();
    moved.place = crate::declared::place(77);
    put(&mut other, moved);
    let mut history = History::default();
    history.follow(&one);
    assert_eq!(history.step(&other).0, weir_planner::Planned::Nothing);
}

fn two_any() -> Match {
    Match {
        path: Some(PathMatch::Prefix("/".to_owned())),
        ..Match::ANY
    }
}

#[test]
fn an_anchor_is_of_its_federation_and_split_alone() {
    let of = |federation: &str, split: &str| anchor(&federation.parse().unwrap(), &split.parse().unwrap());
    let one = of("shop", "checkout");
    assert_eq!(one.len(), 32);
    assert_ne!(one, of("shop", "cart"));
    assert_ne!(one, of("shopc", "heckout"), "lengths come first");
    let mut history = History::default();
    for vm in [90, 50, 0] {
        let weights = [("vm", vm), ("eks", 100 - vm)];
        history.follow(&with(
            &["ams", "fra"],
            [split("checkout", &["vm@fra", "eks@ams"], &weights)],
        ));
        assert_eq!(history.item("checkout", "fra").anchor, one);
    }
}

/// Two files or one, in any order, with other names: the same plan, id and all.
#[test]
fn the_order_of_files_is_in_no_plan() {
    let documents = [
        "kind: Federation\nmetadata: {name: shop}",
        "kind: Zone\nmetadata: {name: fra}\nspec: {platform: vm}",
        "kind: Zone\nmetadata: {name: ams}\nspec: {platform: vm}",
        "kind: Split\nmetadata: {name: pay}\nspec: {service: pay, port: 80, protocol: tcp, \
         backends: {vm: {zone: fra}}, routes: [{name: all, weights: {vm: 100}}]}",
        "kind: Split\nmetadata: {name: cart}\nspec: {service: cart, port: 80, protocol: grpc, \
         backends: {vm: {zone: fra}, new: {zone: ams}}, routes: [{name: all, weights: {new: 0.5, vm: 99.5}}]}",
    ]
    .map(|document| format!("apiVersion: weir.dev/v1alpha1\n{document}\n"));
    let file = |path: String, text: &str| SourceFile {
        source: crate::declared::main_source(),
        path,
        bytes: Arc::from(text.as_bytes()),
    };
    let each = |name: &str| -> Vec<SourceFile> {
        let files = documents.iter().enumerate();
        files
            .map(|(at, text)| file(format!("{name}{at}.yaml"), text))
            .collect()
    };
    let backwards = |name: &str| each(name).into_iter().rev().collect();
    let ways: [Vec<SourceFile>; 4] = [
        each("a"),
        backwards("a"),
        backwards("z"),
        vec![file("all.yaml".to_owned(), &documents.join("---\n"))],
    ];
    let plans = ways.map(|files| {
        let parsed = parse(&files);
        assert!(!parsed.refused(), "{:?}", parsed.diagnostics);
        let mut history = History::default();
        history.follow(&parsed.declaration).clone()
    });
    assert!(plans.iter().all(|plan| *plan == plans[0]), "{plans:?}");
}
