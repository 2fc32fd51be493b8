//! Self-checks: each is broken on purpose, and says so; and says nothing where nothing is wrong.

use weir_coordinator::selfcheck::{self, Checked, SelfChecks};

use super::senses::services;
use super::transition::{all_proven, apart, motion};
use super::*;

fn split() -> SplitName {
    SplitName::new("checkout").unwrap()
}

/// What the check says of a zone that is shown as converged, whatever the fleet says.
fn said(plan: &Plan, fleet: &Fleet, standing: Standing) -> Option<String> {
    let sight = Sight {
        plan,
        created: &BTreeMap::new(),
        fleet,
        stale: STALE,
        now: now(),
    };
    let item = &plan.splits[&split()].items[&zone("fra")];
    let shown = SplitInZone {
        standing,
        ..standing::split_in_zone(sight, &zone("fra"), item)
    };
    selfcheck::shown(sight, item, &shown)
}

#[test]
fn what_must_not_be_shown_as_converged_is_named() {
    let plan = plan();
    let sound = || agent(fact(&plan));
    let with = |change: fn(&mut Agent, &mut ItemFact)| {
        let mut agent = sound();
        let mut fact = fact(&plan);
        change(&mut agent, &mut fact);
        agent.items = BTreeMap::from([(split(), fact)]);
        fleet([("fra-1", sound()), ("fra-2", agent)])
    };
    let converged = |fleet: &Fleet| said(&plan, fleet, Standing::Converged);
    assert_eq!(converged(&with(|_, _| {})), None);
    let broken: [(&str, Fleet); 10] = [
        ("no agent of it is known", Fleet::default()),
        ("never heard", with(|agent, _| agent.heard_at = None)),
        (
            "silent for longer than is allowed",
            with(|agent, _| agent.heard_at = Some(at(84))),
        ),
        (
            "drives generation 4",
            with(|_, fact| fact.generation = Generation(4)),
        ),
        (
            "drives generation 5",
            with(|_, fact| fact.digest = Digest([9; 32])),
        ),
        ("pinned", with(|_, fact| fact.pin = Some(pin()))),
        (
            "elsewhere",
            with(|_, fact| {
                fact.fallback = Some(weir_planner::Fallen {
                    since: at(90),
                    down: [].into(),
                    why: String::new(),
                });
            }),
        ),
        ("read nothing back", with(|_, fact| fact.proof = None)),
        (
            "Acknowledged",
            with(|_, fact| fact.proof = Some(proof(Verdict::Exact, Evidence::Acknowledged))),
        ),
        (
            "route default runs",
            with(|_, fact| fact.proof.as_mut().unwrap().weights = Some(weights(91))),
        ),
    ];
    for (what, fleet) in &broken {
        let why = converged(fleet).unwrap_or_default();
        assert!(
            why.contains("checkout is shown as converged in zone fra") && why.contains(what),
            "{what}: {why}"
        );
        // Who does not claim it may say what he likes.
        assert_eq!(said(&plan, fleet, Standing::Progressing), None, "{what}");
        // And nobody claims it.
        assert_ne!(look(&plan, fleet).standing, Standing::Converged, "{what}");
    }
}

/// A split at rest that every zone proves.
fn all_well() -> SplitStatus {
    let plan = plan();
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &all_proven(&plan),
        stale: STALE,
        now: now(),
    };
    standing::split(sight, Some(&BTreeMap::new()), &split()).unwrap()
}

#[test]
fn a_split_that_is_shown_as_converged_is_so_in_every_zone_as_git_declares() {
    let whole = all_well();
    assert_eq!(
        (whole.standing, selfcheck::whole(&whole)),
        (Standing::Converged, None)
    );
    let claims = |change: fn(&mut SplitStatus)| {
        let mut split = whole.clone();
        change(&mut split);
        selfcheck::whole(&split).unwrap_or_default()
    };
    let why = claims(|split| split.zones[0].standing = Standing::Held);
    assert!(why.contains("is Held"), "{why}");
    let why = claims(|split| split.declared = shares(50));
    assert!(why.contains("something else than Git declares"), "{why}");
    let why = claims(|split| split.zones.clear());
    assert!(why.contains("in no zone"), "{why}");
    assert_eq!(
        claims(|split| {
            split.declared = shares(50);
            split.standing = Standing::Progressing;
        }),
        ""
    );
}

/// I11: whoever is shown as anything but converged is told why, of each zone and of the whole.
#[test]
fn what_is_not_converged_and_says_nothing_is_named() {
    let whole = all_well();
    assert_eq!(selfcheck::unexplained(&whole), None);
    for standing in [
        Standing::Idle,
        Standing::Progressing,
        Standing::Held,
        Standing::Stale,
    ] {
        let mut silent = whole.clone();
        (silent.standing, silent.zones[0].standing) = (standing, standing);
        for said in [None, Some(String::new())] {
            silent.zones[0].reason = said;
            let why = selfcheck::unexplained(&silent).unwrap_or_default();
            assert!(
                why.contains("in zone") && why.contains("nothing says why"),
                "{why}"
            );
        }
        silent.zones[0].reason = Some("it waits for a proof".to_owned());
        assert_eq!(selfcheck::unexplained(&silent), None);
        let mut silent = whole.clone();
        silent.standing = standing;
        let why = selfcheck::unexplained(&silent).unwrap_or_default();
        assert!(
            !why.contains("in zone") && why.contains("nothing says why"),
            "{why}"
        );
        silent.reason = Some("it is held".to_owned());
        assert_eq!(selfcheck::unexplained(&silent), None);
    }
}

/// The plan of so many bites, the next one.
fn at_bite(bite: u32, generation: u64, vm: u32) -> Plan {
    let mut plan = apart(plan(), vm);
    plan.generation = Generation(generation);
    let of = plan.splits.get_mut(&split()).unwrap();
    Arc::make_mut(of).course = Some(motion(Leg::Shift {
        bites: 3,
        bite,
        wave: 1,
    }));
    plan
}

fn in_step(before: &Plan, next: &Plan, fleet: &Fleet) -> Option<String> {
    selfcheck::in_step(before, next, fleet, &[].into())
}

#[test]
fn a_bite_that_is_taken_too_early_is_named() {
    let (first, second) = (at_bite(1, 5, 80), at_bite(2, 6, 60));
    let mut proven = all_proven(&first);
    for agent in proven.zones.values_mut().flat_map(BTreeMap::values_mut) {
        agent.services = services(&first);
    }
    assert_eq!(in_step(&first, &second, &proven), None);
    let mut late = proven.clone();
    let agents = late.zones.get_mut(&zone("ams")).unwrap();
    let fact = agents.get_mut("ams-1").unwrap().items.get_mut(&split()).unwrap();
    let (exact, different) = (fact.proof.clone(), Verdict::Different("it runs 90".to_owned()));
    fact.proof = Some(proof(different, Evidence::Live));
    let why = in_step(&first, &second, &late).unwrap();
    assert!(
        why.contains("takes bite 2 in plan 6, and agent ams-1 of zone ams has not proven bite 1"),
        "{why}"
    );
    // What is read back is of the bite before.
    let fact = late
        .zones
        .get_mut(&zone("ams"))
        .unwrap()
        .get_mut("ams-1")
        .unwrap();
    let fact = fact.items.get_mut(&split()).unwrap();
    (fact.proof, fact.generation) = (exact, Generation(4));
    assert!(in_step(&first, &second, &late).is_some());
    // Nobody waits for a zone that is detached.
    let detached = [zone("ams")].into();
    assert_eq!(selfcheck::in_step(&first, &second, &late, &detached), None);
    // Who does not resolve what it was told will never run it.
    let mut stuck = late.clone();
    stuck
        .zones
        .get_mut(&zone("ams"))
        .unwrap()
        .get_mut("ams-1")
        .unwrap()
        .services
        .clear();
    assert_eq!(in_step(&first, &second, &stuck), None);
    // The next wave of the same bite does not wait for all, nor does another way, nor who begins.
    assert_eq!(in_step(&first, &at_bite(1, 6, 60), &late), None);
    let mut back = second.clone();
    let why = "revert".to_owned();
    Arc::make_mut(back.splits.get_mut(&split()).unwrap()).course = Some(motion(Leg::Return { why }));
    assert_eq!(in_step(&first, &back, &late), None);
    assert_eq!(in_step(&plan(), &second, &late), None);
    // Numbers only rise.
    assert_eq!(selfcheck::generation(&first, &second), None);
    for next in [&first, &at_bite(2, 4, 60)] {
        assert!(
            selfcheck::generation(&first, next)
                .unwrap()
                .contains("is not newer")
        );
    }
}

#[test]
fn what_was_checked_is_counted_and_what_did_not_hold_comes_back() {
    let checks = SelfChecks::default();
    assert_eq!(checks.count(Checked::I9, None), None);
    assert_eq!(
        checks.count(Checked::I9, Some("it lies".to_owned())),
        Some("it lies".to_owned())
    );
    assert_eq!(checks.of(Checked::I9), (2, 1));
    for other in Checked::ALL.into_iter().filter(|other| *other != Checked::I9) {
        assert_eq!(checks.of(other), (0, 0));
    }
}
