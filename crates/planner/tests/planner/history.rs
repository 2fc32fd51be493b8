//! A short history, told as people read it, and the refusals.

use weir_model::{
    Declaration, DnsLabel, FederationName, HeaderMatch, Match, MeshName, PathMatch, Protocol, Prune,
    SourceCommit, SourceName, Split, ValueMatch, ZoneName,
};
use weir_planner::{Flaw, Generation, Inputs, Plan, Planned, Refusal, diff, explain, plan};

use crate::declared::{History, commit, federation, main_source, put, route, split, with};

const ZONES: [&str; 3] = ["ams", "fra", "par"];

/// What a reviewer reads about the last plan.
fn told(history: &History) -> String {
    let [.., before, last] = &history.plans[..] else {
        let first = history.last();
        return format!("{}\n{}", diff(None, first), explain(None, first));
    };
    let text = format!("{}\n{}", diff(Some(before), last), explain(Some(before), last));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    text
}

fn checkout(vm: u32) -> Split {
    split(
        "checkout",
        &["vm@fra", "eks@ams"],
        &[("vm", vm), ("eks", 100 - vm)],
    )
}

fn beta() -> Match {
    Match {
        path: Some(PathMatch::Prefix("/pay".to_owned())),
        headers: vec![HeaderMatch {
            name: "x-beta".to_owned(),
            value: ValueMatch::Exact("true".to_owned()),
        }],
        ..Match::ANY
    }
}

/// From the first split to its end, one commit a step.
#[test]
fn a_migration_as_it_is_read() {
    let mut history = History::default();
    let mut steps = Vec::new();
    let mut declaration = with(&ZONES, [checkout(100)]);
    let mut step = |title: &str, history: &mut History, declaration: &weir_model::Declaration| {
        let (planned, _) = history.step(declaration);
        let text = match planned {
            Planned::Nothing => "nothing to do\n".to_owned(),
            Planned::New(_) => told(history),
            Planned::Refused(reasons) => reasons.iter().map(|reason| format!("{reason}\n")).collect(),
        };
        steps.push(format!("=== {}: {title}\n{text}", history.commits));
    };

    step("a split, all on the VMs", &mut history, &declaration);
    put(&mut declaration, checkout(90));
    step("10 % to the cluster", &mut history, &declaration);
    step("a commit that changes no split", &mut history, &declaration);
    let mut with_beta = checkout(50);
    with_beta.routes.insert(0, route("beta", beta(), &[("eks", 100)]));
    put(&mut declaration, with_beta.clone());
    step("half and half, beta to the cluster", &mut history, &declaration);
    with_beta.routes[0].name = "preview".parse().unwrap();
    put(&mut declaration, with_beta);
    step("a route with another name", &mut history, &declaration);
    let unchecked = split("checkout", &["vm@fra", "eks@ams"], &[("vm", 90), ("eks", 20)]);
    put(&mut declaration, unchecked);
    step("a declaration that nobody checked", &mut history, &declaration);
    put(&mut declaration, checkout(90));
    step("revert", &mut history, &declaration);
    put(&mut declaration, split("checkout", &["eks@ams"], &[("eks", 100)]));
    step("the VMs go", &mut history, &declaration);
    let zone = declaration.zones.get_mut(&ZoneName::new("par").unwrap()).unwrap();
    zone.kuma_zone = DnsLabel::new("paris").unwrap();
    step(
        "a zone of callers has another name in Kuma",
        &mut history,
        &declaration,
    );
    let zone = declaration.zones.get_mut(&ZoneName::new("ams").unwrap()).unwrap();
    zone.kuma_zone = DnsLabel::new("amsterdam").unwrap();
    step(
        "a zone of backends has another name in Kuma",
        &mut history,
        &declaration,
    );
    let mut sql = split("sql", &["vm@fra", "eks@ams"], &[("vm", 100)]);
    sql.protocol = Protocol::Tcp;
    sql.port = 5432;
    put(&mut declaration, sql.clone());
    let late = federation(&["lis"]).zones;
    declaration.zones.extend(late);
    step("a zone joins, and tcp", &mut history, &declaration);
    sql.routes = vec![route("default", Match::ANY, &[("eks", 100)])];
    put(&mut declaration, sql);
    step("tcp moves at once", &mut history, &declaration);
    let mut renamed = (*declaration.splits[&"checkout".parse().unwrap()]).clone();
    renamed.service = "basket".parse().unwrap();
    put(&mut declaration, renamed);
    step("a split is for another service", &mut history, &declaration);
    declaration.splits.clear();
    declaration.zones.remove(&ZoneName::new("lis").unwrap());
    step("all splits and a zone go", &mut history, &declaration);
    insta::assert_snapshot!(steps.join("\n"));
}

#[test]
fn a_revert_is_a_newer_generation_of_the_same_weights() {
    let mut history = History::default();
    history.follow(&with(&ZONES, [checkout(90)]));
    let first = history.item("checkout", "par");
    history.follow(&with(&ZONES, [checkout(10)]));
    history.follow(&with(&ZONES, [checkout(90)]));
    let back = history.item("checkout", "par");
    assert_eq!((back.digest, &back.routes), (first.digest, &first.routes));
    assert_eq!(
        (first.generation, back.generation),
        (Generation(1), Generation(3))
    );
    assert_eq!((&first.commit, &back.commit), (&commit(1), &commit(3)));
}

/// A ledger from a backup: agents have seen more than it knows. Everything is written anew, above what they saw.
#[test]
fn unknown_generations_are_overtaken() {
    let mut history = History::default();
    let declaration = with(&ZONES, [checkout(90)]);
    history.follow(&declaration);
    history.highest = 1;
    assert_eq!(
        history.step(&declaration).0,
        Planned::Nothing,
        "our own generation is no news"
    );
    history.highest = 41;
    let before = history.item("checkout", "fra");
    history.follow(&declaration);
    let after = history.item("checkout", "fra");
    assert_eq!(after.digest, before.digest);
    assert_eq!(
        (history.last().generation, after.generation),
        (Generation(42), Generation(42))
    );
    assert_eq!(
        after.commit,
        commit(3),
        "the commit in force, the lost ones are unknown"
    );
    history.highest = 42;
    assert_eq!(history.step(&declaration).0, Planned::Nothing);
    insta::assert_snapshot!(told(&history));
}

#[test]
fn a_first_plan_is_above_what_agents_saw() {
    let mut history = History {
        highest: 7,
        ..History::default()
    };
    assert_eq!(
        history.follow(&with(&ZONES, [checkout(90)])).generation,
        Generation(8)
    );
}

#[test]
fn a_split_that_moves_to_another_source_does_not_change() {
    let other = SourceName("cluster".to_owned());
    let both = |main, cluster| {
        let of = |source: &SourceName, n| SourceCommit {
            source: source.clone(),
            commit: commit(n),
        };
        [of(&main_source(), main), of(&other, cluster)]
    };
    let mut declaration = with(&ZONES, [checkout(90)]);
    fn planned(
        declaration: &weir_model::Declaration,
        commits: &[SourceCommit],
        parent: Option<&Plan>,
    ) -> Planned {
        plan(Inputs {
            declaration,
            commits,
            highest: Generation(0),
            parent,
            now: jiff::Timestamp::UNIX_EPOCH,
        })
    }
    let Planned::New(first) = planned(&declaration, &both(1, 2), None) else {
        panic!("no plan");
    };
    let sources: Vec<&str> = first.commits.iter().map(|of| of.source.0.as_str()).collect();
    assert_eq!(sources, ["cluster", "main"], "sorted, however they are given");
    let mut moved = checkout(90);
    moved.place.source = other.clone();
    put(&mut declaration, moved.clone());
    assert_eq!(planned(&declaration, &both(3, 4), Some(&first)), Planned::Nothing);
    moved.routes = vec![route("default", Match::ANY, &[("eks", 100)])];
    put(&mut declaration, moved);
    let Planned::New(second) = planned(&declaration, &both(3, 4), Some(&first)) else {
        panic!("no plan");
    };
    let item = crate::declared::item(&second, "checkout", "fra");
    assert_eq!(
        item.commit,
        commit(4),
        "of the source in which the split is declared"
    );
}

fn refused(declaration: &weir_model::Declaration) -> Vec<Refusal> {
    match History::default().step(declaration).0 {
        Planned::Refused(reasons) => reasons,
        other => panic!("{other:?}"),
    }
}

fn flaw(broken: Split) -> Vec<Refusal> {
    let reasons = refused(&with(&ZONES, [broken]));
    for reason in &reasons {
        assert!(matches!(reason, Refusal::Flaw { .. }), "{reason}");
    }
    reasons
}

/// The model finds all of these first; a plan is refused for them all the same.
#[test]
fn what_no_zone_could_run_is_refused() {
    let of = |flaw| {
        vec![Refusal::Flaw {
            split: "checkout".parse().unwrap(),
            flaw,
        }]
    };
    let name = |text: &str| text.parse().unwrap();
    let backend = |text: &str| text.parse().unwrap();

    assert_eq!(
        flaw(split("checkout", &["vm@lis"], &[("vm", 100)])),
        of(Flaw::UnknownZone {
            backend: backend("vm"),
            zone: "lis".parse().unwrap()
        })
    );
    assert_eq!(
        flaw(split("checkout", &["a@fra", "b@fra"], &[("a", 100)])),
        of(Flaw::SameDestination {
            first: backend("a"),
            second: backend("b")
        })
    );
    assert_eq!(
        flaw(split("checkout", &["vm@fra"], &[("eks", 100)])),
        of(Flaw::UnknownBackend {
            route: name("default"),
            backend: backend("eks")
        })
    );
    assert_eq!(
        flaw(split("checkout", &["vm@fra"], &[("vm", 99)])),
        of(Flaw::Sum {
            route: name("default"),
            basis_points: 9_900
        })
    );
    let mut routes = checkout(90);
    routes.routes = vec![route("beta", beta(), &[("vm", 100)])];
    assert_eq!(flaw(routes.clone()), of(Flaw::NoDefault));
    routes.routes.clear();
    assert_eq!(flaw(routes.clone()), of(Flaw::NoDefault));
    routes.routes = vec![
        route("one", Match::ANY, &[("vm", 100)]),
        route("two", Match::ANY, &[("vm", 100)]),
    ];
    assert_eq!(flaw(routes.clone()), of(Flaw::Unreachable(name("two"))));
    routes.routes = vec![
        route("one", beta(), &[("vm", 100)]),
        route("one", Match::ANY, &[("vm", 100)]),
    ];
    assert_eq!(flaw(routes.clone()), of(Flaw::SameRoute(name("one"))));
    routes.routes = vec![
        route("one", beta(), &[("vm", 100)]),
        route("two", beta(), &[("vm", 100)]),
        route("default", Match::ANY, &[("vm", 100)]),
    ];
    assert_eq!(
        flaw(routes.clone()),
        of(Flaw::SameMatch {
            first: name("one"),
            again: name("two")
        })
    );
    routes.routes = vec![
        route("beta", beta(), &[("vm", 100)]),
        route("one", Match::ANY, &[("vm", 100)]),
    ];
    routes.protocol = Protocol::Tcp;
    assert_eq!(flaw(routes), of(Flaw::MatchOnTcp(name("beta"))));
}

#[test]
fn what_is_no_federation_is_refused() {
    let mut nobody = federation(&ZONES);
    nobody.federation = None;
    assert_eq!(refused(&nobody), [Refusal::NoFederation]);

    let mut twice = federation(&["ams", "fra"]);
    let zone = twice.zones.get_mut(&ZoneName::new("ams").unwrap()).unwrap();
    zone.kuma_zone = DnsLabel::new("fra").unwrap();
    let same = Refusal::SameKumaZone {
        kuma_zone: DnsLabel::new("fra").unwrap(),
        first: ZoneName::new("ams").unwrap(),
        second: ZoneName::new("fra").unwrap(),
    };
    assert_eq!(refused(&twice), [same]);

    let mut second = checkout(50);
    second.name = "checkout-too".parse().unwrap();
    let same = Refusal::SameService {
        service: "checkout".parse().unwrap(),
        port: 8080,
        first: "checkout".parse().unwrap(),
        second: "checkout-too".parse().unwrap(),
    };
    assert_eq!(refused(&with(&ZONES, [checkout(90), second])), [same]);

    let mut elsewhere = checkout(50);
    elsewhere.place.source = SourceName("nowhere".to_owned());
    let untraced = Refusal::NoCommit {
        split: "checkout".parse().unwrap(),
        origin: SourceName("nowhere".to_owned()),
    };
    assert_eq!(refused(&with(&ZONES, [elsewhere])), [untraced]);

    let mut damaged = History {
        highest: u64::MAX,
        ..History::default()
    };
    assert_eq!(
        damaged.step(&with(&ZONES, [checkout(90)])).0,
        Planned::Refused(vec![Refusal::NoGenerationLeft(Generation(u64::MAX))])
    );

    let mut history = History::default();
    let mut declaration = with(&ZONES, [checkout(90)]);
    history.follow(&declaration);
    let settings = declaration.federation.as_mut().unwrap();
    settings.name = FederationName::new("mall").unwrap();
    assert_eq!(
        history.step(&declaration).0,
        Planned::Refused(vec![Refusal::FederationRenamed {
            was: FederationName::new("shop").unwrap(),
            is: FederationName::new("mall").unwrap(),
        }])
    );
}

/// Every broken split is named, not only the first, and none of the whole is taken.
#[test]
fn all_reasons_are_given_at_once() {
    let broken = [
        split("cart", &["vm@fra"], &[("vm", 99)]),
        split("pay", &["vm@lis", "eks@ams"], &[("eks", 100)]),
        checkout(90),
    ];
    let texts: Vec<String> = refused(&with(&ZONES, broken))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "split `cart`: the weights of route `default` sum to 9900 basis points: they must sum to exactly 10000",
            "split `pay`: backend `vm` is in zone `lis`, which is not declared",
        ]
    );
}

/// The policies of a mesh that no plan names any more would drive traffic unseen.
#[test]
fn another_mesh_is_refused_while_there_are_splits() {
    let mut history = History::default();
    let mut declaration = with(&ZONES, [checkout(90)]);
    history.follow(&declaration);
    declaration.federation.as_mut().unwrap().mesh = MeshName::new("prod").unwrap();
    let (made, _) = history.step(&declaration);
    let Planned::Refused(why) = made else {
        panic!("{made:?}")
    };
    let [Refusal::MeshChanged { splits: 1, .. }] = why.as_slice() else {
        panic!("{why:?}")
    };
    let text = why[0].to_string();
    assert!(text.contains("remove all splits first"), "{text}");

    // Without splits there is nothing to leave behind.
    history.follow(&with(&ZONES, []));
    let mut empty = with(&ZONES, []);
    empty.federation = declaration.federation.clone();
    history.follow(&empty);
    assert_eq!(history.follow(&declaration).mesh.as_str(), "prod");
}

fn many(names: &[&str]) -> Declaration {
    let mut declaration = with(
        &ZONES,
        names.iter().map(|name| split(name, &["vm@fra"], &[("vm", 100)])),
    );
    declaration.federation.as_mut().unwrap().prune = Prune::Refuse;
    declaration
}

/// The planner's word on a declaration that follows `names`: none if it takes it.
fn after(names: &[&str], next: &Declaration) -> Option<String> {
    let mut history = History::default();
    history.follow(&many(names));
    match history.step(next).0 {
        Planned::Refused(why) => {
            let [Refusal::Prunes { .. }] = why.as_slice() else {
                panic!("{why:?}")
            };
            assert_eq!(why[0].code().to_string(), "WEIR0904");
            Some(why[0].to_string())
        }
        _ => None,
    }
}

#[test]
fn what_takes_too_much_away_is_refused_until_the_federation_allows_it() {
    let all = ["a", "b", "c", "d", "e"];
    // A federation whose files were moved away, and all between that and one split less.
    assert_eq!(
        after(&all, &many(&[])).unwrap(),
        "this takes away all 5 splits in force: `a`, `b`, `c`, `d`, `e`. Files that were moved or deleted by accident look \
         the same, so nothing moves. Put them back; or, if it is meant, write `prune: allow` into the `spec` of the \
         Federation"
    );
    let three = after(&all, &many(&["a", "b"])).unwrap();
    assert!(
        three.starts_with("this takes away 3 of the 5 splits in force: `c`, `d`, `e`."),
        "{three}"
    );
    assert_eq!(after(&all, &many(&["a", "b", "c"])), None);
    assert!(
        after(&["a"], &many(&[]))
            .unwrap()
            .starts_with("this takes away the only split in force: `a`.")
    );
    assert_eq!(after(&["a", "b", "c"], &many(&["a"])), None);
    // Others in their place are no excuse.
    assert!(after(&all, &many(&["f", "g", "h", "i", "j"])).is_some());

    // Another name for the same service is the same split.
    let mut renamed = many(&[]);
    for name in all {
        let mut split = split(name, &["vm@fra"], &[("vm", 100)]);
        split.name = format!("{name}-too").parse().unwrap();
        put(&mut renamed, split);
    }
    assert_eq!(after(&all, &renamed), None);
    // On another port it is another.
    for split in renamed.splits.values_mut() {
        std::sync::Arc::make_mut(split).port = 9090;
    }
    assert!(after(&all, &renamed).is_some());

    // It is said in the Federation, and holds for that commit.
    let mut allowed = many(&["a"]);
    allowed.federation.as_mut().unwrap().prune = Prune::Allow;
    assert_eq!(after(&all, &allowed), None);
    // Nothing was declared before: nothing is taken away.
    assert_eq!(after(&[], &many(&[])), None);
}

/// What one split leaves and another takes over does not fall to Kuma.
#[test]
fn a_split_with_a_new_name_leaves_nothing_to_kuma() {
    let mut history = History::default();
    let named = |name| split(name, &["vm@fra"], &[("vm", 100)]);
    let mut first = named("checkout");
    first.service = "pay".parse().unwrap();
    let mut second = named("payment");
    second.service = first.service.clone();
    let before = history.follow(&with(&ZONES, [first])).clone();
    let after = history.follow(&with(&ZONES, [second])).clone();
    let text = explain(Some(&before), &after).to_string();
    assert!(text.contains("split checkout"), "{text}");
    assert!(!text.contains("without a policy"), "{text}");
    let gone = history.follow(&with(&ZONES, [])).clone();
    let text = explain(Some(&after), &gone).to_string();
    assert!(text.contains("without a policy"), "{text}");
}
