//! A plan broken in each way is found, and by the rule that it breaks.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, HeaderMatch, Match, MeshName, Protocol,
    RouteName, ServiceName, Split, SplitName, ValueMatch, ZoneName,
};
use weir_planner::{Generation, Item, Plan, PlanId, Rule, canonical, lint, lint_made, lint_step};

use crate::declared::{History, commit, put, route, split, with};

const ZONES: [&str; 2] = ["ams", "fra"];

/// Three plans: a backend retires in the second, which leaves `cart` as it was; the third changes `cart` alone.
fn history() -> History {
    let beta = Match {
        headers: vec![HeaderMatch {
            name: "x-beta".to_owned(),
            value: ValueMatch::Exact("true".to_owned()),
        }],
        ..Match::ANY
    };
    let cart = |vm| split("cart", &["vm@fra", "eks@ams"], &[("vm", vm), ("eks", 100 - vm)]);
    let checkout = |backends: &[&str], weights: &[(&str, u32)]| {
        let mut split = split("checkout", backends, weights);
        split
            .routes
            .insert(0, route("beta", beta.clone(), &[("eks", 100)]));
        split
    };
    let before = checkout(&["vm@fra", "eks@ams"], &[("vm", 90), ("eks", 10)]);
    let mut declaration = with(&ZONES, [cart(90), before]);
    let mut history = History::default();
    history.follow(&declaration);
    put(&mut declaration, checkout(&["eks@ams"], &[("eks", 100)]));
    history.follow(&declaration);
    put(&mut declaration, cart(80));
    history.follow(&declaration);
    history
}

/// Makes digests, roots and the id right again, so that only the mutation itself is wrong.
fn seal(plan: &mut Plan) {
    let names: Vec<SplitName> = plan.splits.keys().cloned().collect();
    for name in names {
        let split = Arc::make_mut(plan.splits.get_mut(&name).unwrap());
        for item in split.items.values_mut() {
            let digest = canonical::item_digest(item);
            if digest != item.digest {
                Arc::make_mut(item).digest = digest;
            }
        }
        split.root = canonical::split_root(split);
    }
    plan.id = canonical::plan_id(plan);
}

fn name(split: &str) -> SplitName {
    split.parse().unwrap()
}

fn edit(plan: &mut Plan, split: &str, zone: &str, change: impl FnOnce(&mut Item)) {
    let split = Arc::make_mut(plan.splits.get_mut(&name(split)).unwrap());
    change(Arc::make_mut(
        split.items.get_mut(&zone.parse().unwrap()).unwrap(),
    ));
}

/// A change of the item that the second plan changed.
fn checkout(change: fn(&mut Item)) -> impl Fn(&mut Plan) {
    move |plan| {
        edit(plan, "checkout", "fra", change);
        seal(plan);
    }
}

/// A change of an item that the second plan left alone.
fn cart(change: fn(&mut Item)) -> impl Fn(&mut Plan) {
    move |plan| {
        edit(plan, "cart", "fra", change);
        seal(plan);
    }
}

fn whole(change: fn(&mut Plan)) -> impl Fn(&mut Plan) {
    move |plan| {
        change(plan);
        seal(plan);
    }
}

fn backend(name: &str) -> BackendName {
    name.parse().unwrap()
}

type Mutation = (&'static str, Box<dyn Fn(&mut Plan)>, &'static [Rule]);

fn mutations() -> Vec<Mutation> {
    use Rule::{
        Complete, Digest, Drain, Exactness, Monotone, OneWriter, Ours, Precedence, Provenance, Reference,
    };
    fn case(name: &'static str, change: impl Fn(&mut Plan) + 'static, rules: &'static [Rule]) -> Mutation {
        (name, Box::new(change), rules)
    }
    vec![
        // the plan
        case("another id", |plan| plan.id = PlanId([7; 32]), &[Digest]),
        case(
            "created is under the id",
            |plan| plan.created += jiff::SignedDuration::from_nanos(1),
            &[Digest],
        ),
        case(
            "another parent",
            whole(|plan| plan.parent = Some(PlanId([7; 32]))),
            &[Provenance],
        ),
        case(
            "the parent's generation",
            whole(|plan| plan.generation = Generation(1)),
            &[Monotone, Provenance],
        ),
        case(
            "generation 0",
            whole(|plan| plan.generation = Generation(0)),
            &[Monotone],
        ),
        case(
            "another federation",
            whole(|plan| plan.federation = FederationName::new("mall").unwrap()),
            &[Ours],
        ),
        case(
            "a source twice",
            whole(|plan| plan.commits.push(plan.commits[0].clone())),
            &[Provenance],
        ),
        case("no commits", whole(|plan| plan.commits.clear()), &[Provenance]),
        case(
            "two zones of one name in Kuma",
            whole(|plan| {
                *plan.zones.get_mut(&ZoneName::new("ams").unwrap()).unwrap() = DnsLabel::new("fra").unwrap();
            }),
            &[Reference],
        ),
        // the split
        case(
            "another root",
            |plan| {
                let split = plan.splits.get_mut(&name("cart")).unwrap();
                Arc::make_mut(split).root = canonical::zones_digest(&plan.zones);
                plan.id = canonical::plan_id(plan);
            },
            &[Digest],
        ),
        case(
            "no item for a zone",
            whole(|plan| {
                let split = plan.splits.get_mut(&name("cart")).unwrap();
                Arc::make_mut(split).items.pop_last();
            }),
            &[Complete],
        ),
        case(
            "an item of another zone",
            cart(|item| item.zone = ZoneName::new("ams").unwrap()),
            &[Complete, Monotone],
        ),
        case(
            "an item of another split",
            checkout(|item| item.split = "cart".parse().unwrap()),
            &[Complete],
        ),
        case(
            "two splits of one service",
            checkout(|item| item.service = ServiceName::new("cart").unwrap()),
            &[OneWriter, Reference, Drain],
        ),
        // the item
        case(
            "another digest",
            |plan| {
                edit(plan, "checkout", "fra", |item| item.digest.0[0] ^= 1);
                let split = plan.splits.get_mut(&name("checkout")).unwrap();
                Arc::make_mut(split).root = canonical::split_root(split);
                plan.id = canonical::plan_id(plan);
            },
            &[Digest],
        ),
        case(
            "another anchor",
            checkout(|item| item.anchor = "0".repeat(32)),
            &[Ours],
        ),
        case(
            "another mesh",
            checkout(|item| item.mesh = MeshName::new("other").unwrap()),
            &[Ours],
        ),
        case(
            "another zone in Kuma",
            checkout(|item| item.kuma_zone = DnsLabel::new("x").unwrap()),
            &[Reference],
        ),
        case(
            "a generation to come",
            checkout(|item| item.generation = Generation(9)),
            &[Monotone],
        ),
        case(
            "a commit of nobody",
            checkout(|item| item.commit = CommitId("f".repeat(40))),
            &[Provenance],
        ),
        case(
            "changed, generation old",
            checkout(|item| item.generation = Generation(1)),
            &[Monotone],
        ),
        case(
            "unchanged, generation new",
            cart(|item| item.generation = Generation(2)),
            &[Monotone, Provenance],
        ),
        case(
            "unchanged, commit new",
            cart(|item| item.commit = commit(2)),
            &[Provenance],
        ),
        case(
            "changed in secret",
            cart(|item| {
                let weights = &mut item.routes[0].weights;
                weights.insert(backend("vm"), BasisPoints::ZERO);
                weights.insert(backend("eks"), BasisPoints::WHOLE);
            }),
            &[Monotone],
        ),
        // destinations
        case(
            "two backends in one place",
            checkout(|item| {
                let place = item.destinations[&backend("eks")].clone();
                item.destinations.insert(backend("twin"), place);
            }),
            &[Reference],
        ),
        case(
            "a backend in a zone that is not there",
            checkout(|item| {
                let mut place = item.destinations[&backend("eks")].clone();
                place.zone = ZoneName::new("nowhere").unwrap();
                item.destinations.insert(backend("lost"), place);
            }),
            &[Reference],
        ),
        case(
            "a backend of another port",
            checkout(|item| {
                let mut place = item.destinations[&backend("eks")].clone();
                place.port += 1;
                item.destinations.insert(backend("lost"), place);
            }),
            &[Reference],
        ),
        // weights and routes
        case(
            "a sum below the whole",
            checkout(|item| {
                let weights = &mut item.routes[1].weights;
                weights.insert(backend("eks"), BasisPoints::new(9_999).unwrap());
            }),
            &[Exactness],
        ),
        case(
            "no weights at all",
            checkout(|item| item.routes[1].weights.clear()),
            &[Exactness],
        ),
        case(
            "all weights 0",
            checkout(|item| {
                let weights = &mut item.routes[1].weights;
                weights.insert(backend("eks"), BasisPoints::ZERO);
            }),
            &[Exactness],
        ),
        case(
            "weight for no destination",
            checkout(|item| {
                let weights = &mut item.routes[1].weights;
                weights.insert(backend("ghost"), BasisPoints::ZERO);
            }),
            &[Exactness],
        ),
        case(
            "routes the other way round",
            checkout(|item| item.routes.reverse()),
            &[Precedence],
        ),
        case(
            "two routes of one match",
            checkout(|item| {
                let mut again = item.routes[0].clone();
                again.name = RouteName::new("again").unwrap();
                item.routes.insert(1, again);
            }),
            &[Precedence],
        ),
        case(
            "no default route",
            checkout(|item| drop(item.routes.pop())),
            &[Precedence],
        ),
        case("no routes", checkout(|item| item.routes.clear()), &[Precedence]),
        case(
            "two routes of one name",
            checkout(|item| item.routes[0].name = RouteName::new("default").unwrap()),
            &[Reference],
        ),
        case(
            "a match on tcp",
            checkout(|item| {
                item.protocol = Protocol::Tcp;
                item.retiring.clear();
                item.destinations.remove(&backend("vm"));
            }),
            &[Precedence],
        ),
        // what retires
        case(
            "retires on tcp",
            checkout(|item| {
                item.protocol = Protocol::Tcp;
                item.routes.remove(0);
            }),
            &[Drain],
        ),
        case(
            "a weighted backend is gone",
            checkout(|item| {
                item.retiring.clear();
                item.destinations.remove(&backend("vm"));
            }),
            &[Drain],
        ),
        case(
            "a weighted backend is gone under another name of the split",
            |plan: &mut Plan| {
                let mut split = plan.splits.remove(&name("checkout")).unwrap();
                for item in Arc::make_mut(&mut split).items.values_mut() {
                    let item = Arc::make_mut(item);
                    item.split = "pay".parse().unwrap();
                    item.anchor = canonical::anchor(&plan.federation, &item.split);
                    item.retiring.clear();
                    item.destinations.remove(&backend("vm"));
                }
                plan.splits.insert(name("pay"), split);
                seal(plan);
            },
            &[Drain],
        ),
        case(
            "retires without a place",
            checkout(|item| drop(item.destinations.remove(&backend("vm")))),
            &[Drain],
        ),
        case(
            "retires and is named by a route",
            checkout(|item| {
                let weights = &mut item.routes[1].weights;
                weights.insert(backend("vm"), BasisPoints::ZERO);
            }),
            &[Drain],
        ),
        case(
            "retires from nowhere",
            checkout(|item| {
                let mut place = item.destinations[&backend("vm")].clone();
                place.kuma_zone = DnsLabel::new("gone").unwrap();
                item.destinations.insert(backend("ghost"), place);
                item.retiring.insert(backend("ghost"));
            }),
            &[Drain],
        ),
    ]
}

#[test]
fn a_plan_broken_in_each_way_is_found() {
    let history = history();
    let (parent, plan) = (&history.plans[0], &history.plans[1]);
    let mut wrong = Vec::new();
    for (name, mutation, rules) in mutations() {
        let mut broken = plan.clone();
        mutation(&mut broken);
        let findings = lint(&broken, Some(parent));
        let found: BTreeSet<Rule> = findings.iter().map(|finding| finding.rule).collect();
        // What looks at a step alone finds the same, but in splits that equal the parent's: such a plan is wrong as a whole.
        let of_step: BTreeSet<Rule> = lint_step(&broken, parent).iter().map(|of| of.rule).collect();
        if name == "the parent's generation" {
            assert_eq!(of_step, [Rule::Monotone].into(), "{name}");
        } else {
            assert_eq!(of_step, found, "{name}");
        }
        if found != rules.iter().copied().collect() {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            wrong.push(format!(
                "{name}: expected {rules:?}, found\n  {}",
                texts.join("\n  ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_of_a_plan_alone_need_no_parent() {
    let history = history();
    let plan = &history.plans[1];
    assert_eq!(lint(plan, None), []);
    let needs_parent = [
        "another parent",
        "changed, generation old",
        "unchanged, commit new",
        "changed in secret",
        "a weighted backend is gone",
        "a weighted backend is gone under another name of the split",
        "retires from nowhere",
    ];
    let silent: Vec<&str> = mutations()
        .into_iter()
        .filter(|(_, mutation, _)| {
            let mut broken = plan.clone();
            mutation(&mut broken);
            lint(&broken, None).is_empty()
        })
        .map(|(name, ..)| name)
        .collect();
    assert_eq!(silent, needs_parent);
}

#[test]
fn a_copy_of_what_did_not_change_is_found() {
    let history = history();
    let (parent, plan) = (&history.plans[1], &history.plans[2]);
    assert_eq!(lint_made(plan, Some(parent)), []);
    let copied: Plan = serde_json::from_str(&serde_json::to_string(plan).unwrap()).unwrap();
    assert_eq!(lint(&copied, Some(parent)), []);
    let found: Vec<String> = lint_made(&copied, Some(parent))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "shared: split checkout: unchanged, and yet not the parent's own",
            "shared: split checkout in zone ams: unchanged, and yet not the parent's own",
            "shared: split checkout in zone fra: unchanged, and yet not the parent's own",
        ]
    );
}

#[test]
fn a_first_plan_has_no_older_items() {
    let history = history();
    let mut first = history.plans[0].clone();
    edit(&mut first, "cart", "fra", |item| item.generation = Generation(0));
    seal(&mut first);
    let rules: Vec<Rule> = lint(&first, None).iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::Monotone, Rule::Monotone]);
}

/// One of 800 names; every other one has a split in [`MANY`].
fn one_of_many(n: usize) -> Split {
    split(
        &format!("s{n:03}"),
        &["vm@fra", "eks@ams"],
        &[("vm", 90), ("eks", 10)],
    )
}

static MANY: LazyLock<Plan> = LazyLock::new(|| {
    let mut history = History::default();
    history.follow(&with(&ZONES, (0..400).map(|n| one_of_many(2 * n))));
    history.plans.remove(0)
});

proptest! {
    /// What a step has of its parent is passed over, and nothing beside it: whatever was broken among many is found, all of it.
    #[test]
    fn whatever_is_broken_among_many_is_found(
        broken in proptest::collection::btree_set(0..400_usize, 0..12),
        gone in proptest::collection::btree_set(0..400_usize, 0..4),
        come in proptest::collection::btree_set(0..400_usize, 0..4),
    ) {
        let parent: &Plan = &MANY;
        let mut plan = parent.clone();
        for n in &gone {
            plan.splits.remove(&one_of_many(2 * n).name);
        }
        let broken: BTreeSet<SplitName> = broken.difference(&gone).map(|n| one_of_many(2 * n).name).collect();
        for name in &broken {
            Arc::make_mut(plan.splits.get_mut(name).unwrap()).root.0[0] ^= 1;
        }
        let any = Arc::clone(parent.splits.values().next().unwrap());
        let come: BTreeSet<SplitName> = come.iter().map(|n| one_of_many(2 * n + 1).name).collect();
        plan.splits.extend(come.iter().map(|name| (name.clone(), Arc::clone(&any))));
        let found: BTreeSet<SplitName> =
            lint_step(&plan, parent).iter().filter_map(|finding| finding.split.clone()).collect();
        prop_assert_eq!(found, &broken | &come);
    }
}
