//! Splits under way: no proof of a step is convergence.

use super::*;

/// Every agent of both zones proves exactly what the plan tells it.
pub(super) fn all_proven(plan: &Plan) -> Fleet {
    let name = SplitName::new("checkout").unwrap();
    let agents = plan.splits[&name].items.iter().map(|(zone, item)| {
        let routes = item.routes.iter();
        let weights = routes
            .map(|route| (route.name.clone(), route.weights.clone()))
            .collect();
        let fact = ItemFact {
            generation: item.generation,
            digest: item.digest,
            proof: Some(Proof {
                weights: Some(weights),
                ..proof(Verdict::Exact, Evidence::Live)
            }),
            ..fact(plan)
        };
        (zone.clone(), BTreeMap::from([(format!("{zone}-1"), agent(fact))]))
    });
    Fleet {
        zones: agents.collect(),
    }
}

/// This plan, but that it tells ams other weights than fra.
pub(super) fn apart(mut plan: Plan, vm: u32) -> Plan {
    let split = plan.splits.get_mut(&SplitName::new("checkout").unwrap()).unwrap();
    let item = Arc::make_mut(split).items.get_mut(&zone("ams")).unwrap();
    Arc::make_mut(item).routes[0].weights = weights(vm).remove(&RouteName::new("default").unwrap()).unwrap();
    plan
}

fn whole(plan: &Plan, outlooks: Option<&BTreeMap<SplitName, Outlook>>) -> SplitStatus {
    let sight = Sight {
        plan,
        created: &BTreeMap::new(),
        fleet: &all_proven(plan),
        stale: STALE,
        now: now(),
    };
    let name = SplitName::new("checkout").unwrap();
    let split = standing::split(sight, outlooks, &name).unwrap();
    for zone in &split.zones {
        assert_eq!(zone.standing, Standing::Converged, "{zone:?}");
    }
    assert_eq!(standing::splits(sight, outlooks), std::slice::from_ref(&split));
    split
}

fn outlook(phase: Phase, declared: ProvenWeights, bite: u32, waits: &[(Option<&str>, &str)]) -> Outlook {
    Outlook {
        declared,
        phase,
        bite,
        bites: 2,
        wave: Some(1),
        waves: vec![1, 2],
        waits: waits
            .iter()
            .map(|(of, why)| Wait {
                zone: of.map(zone),
                why: (*why).to_owned(),
            })
            .collect(),
        next: "something follows".to_owned(),
        since: Some(at(90)),
        until: Some(at(200)),
        drained: false,
    }
}

fn by_name(outlook: Outlook) -> BTreeMap<SplitName, Outlook> {
    BTreeMap::from([(SplitName::new("checkout").unwrap(), outlook)])
}

/// With one course of the plan's split.
fn on_course(course: Course) -> Plan {
    let mut plan = plan();
    let split = plan.splits.get_mut(&SplitName::new("checkout").unwrap()).unwrap();
    Arc::make_mut(split).course = Some(course);
    plan
}

pub(super) fn motion(leg: Leg) -> Course {
    Course {
        motion: Some(Motion {
            origin: BTreeMap::new(),
            from: BTreeMap::new(),
            to: Digest([2; 32]),
            leg,
            since: at(90),
            counted: BTreeMap::new(),
            stopped: None,
        }),
        ..Course::default()
    }
}

/// I9 for the whole: all zones prove what they were told, and nothing of that makes a split converged which is not where Git
/// declares it, or of which that is not known.
#[test]
fn zones_that_prove_what_they_were_told_do_not_make_a_split_converged() {
    use Phase::{Bake, Drained, Frozen, Held, Quarantined, Return, Settle, Shift, Verify};
    let there = plan();
    let nothing = BTreeMap::new();
    assert_eq!(
        whole(&there, Some(&nothing)).standing,
        Standing::Converged,
        "at rest"
    );
    let mut converged = Vec::new();
    for phase in [
        Held,
        Frozen,
        Shift,
        Bake,
        Verify,
        Settle,
        Return,
        Quarantined,
        Drained,
    ] {
        for vm in [90, 89, 50, 100, 0] {
            for bite in [0, 1, 2] {
                for waits in [&[][..], &[(Some("fra"), "why it waits")]] {
                    let shown = whole(&there, Some(&by_name(outlook(phase, weights(vm), bite, waits))));
                    let told = (phase, vm, bite);
                    assert_eq!(
                        shown.declared["default"]["vm"],
                        Percent(BasisPoints::new(vm * 100).unwrap())
                    );
                    assert_eq!(shown.transition.as_ref().map(|of| of.phase), Some(phase));
                    match phase {
                        Held | Frozen | Quarantined | Drained => {
                            assert_eq!(shown.standing, Standing::Held, "{told:?}");
                        }
                        Shift | Settle | Return => {
                            assert_eq!(shown.standing, Standing::Progressing, "{told:?}");
                        }
                        Bake | Verify => {}
                    }
                    match shown.standing {
                        Standing::Converged => converged.push(told),
                        _ => assert!(shown.reason.is_some_and(|why| !why.is_empty()), "{told:?}"),
                    }
                }
            }
        }
    }
    converged.dedup();
    assert_eq!(
        converged,
        [(Bake, 90, 2), (Verify, 90, 2)],
        "all zones proved all that Git declares, and it is only watched"
    );
    // The plan knows too, before planning has looked: after a restart.
    let quarantined = Course {
        quarantine: Some(Quarantine {
            shape: Digest([1; 32]),
            why: "traffic got worse".to_owned(),
            at: at(60),
        }),
        ..Course::default()
    };
    let shift = motion(Leg::Shift {
        bites: 3,
        bite: 1,
        wave: 1,
    });
    let back = motion(Leg::Return {
        why: "it was aborted".to_owned(),
    });
    for (plan, outlooks, standing, why) in [
        (
            &there,
            None,
            Standing::Progressing,
            "the coordinator has just started and has not compared this with what Git declares yet",
        ),
        (
            &on_course(quarantined.clone()),
            None,
            Standing::Held,
            "quarantined: traffic got worse",
        ),
        (
            &on_course(quarantined),
            Some(&nothing),
            Standing::Held,
            "quarantined: traffic got worse",
        ),
        (
            &on_course(shift.clone()),
            None,
            Standing::Progressing,
            "it is at bite 1 of 3",
        ),
        (
            &on_course(shift),
            Some(&nothing),
            Standing::Progressing,
            "it is at bite 1 of 3",
        ),
        (
            &on_course(back),
            None,
            Standing::Progressing,
            "it goes back: it was aborted",
        ),
    ] {
        let shown = whole(plan, outlooks);
        assert_eq!((shown.standing, shown.reason.as_deref()), (standing, Some(why)));
    }
    // Zones that were told different things are nowhere together.
    let apart = apart(plan(), 95);
    let shown = whole(&apart, Some(&nothing));
    assert_eq!(shown.standing, Standing::Progressing);
    for phase in [Bake, Verify] {
        let shown = whole(&apart, Some(&by_name(outlook(phase, weights(90), 2, &[]))));
        assert_eq!(shown.standing, Standing::Progressing);
    }
}

/// A drain may take a refuge alone, and no share: then all zones prove what Git declares, and the split is drained all the same.
#[test]
fn what_is_drained_is_not_converged_while_it_is_watched() {
    for phase in [Phase::Bake, Phase::Verify] {
        let mut watched = outlook(phase, weights(90), 2, &[]);
        watched.drained = true;
        let shown = whole(&plan(), Some(&by_name(watched)));
        assert_eq!(shown.standing, Standing::Progressing, "{phase:?}");
    }
}

/// A split that no plan has yet cannot be shown, so it is told of.
#[test]
fn what_is_declared_and_not_planned_yet_is_told() {
    let plan = plan();
    let mut all = by_name(outlook(Phase::Shift, weights(50), 1, &[]));
    all.insert(
        SplitName::new("new").unwrap(),
        outlook(Phase::Frozen, weights(50), 0, &[(None, "all is frozen")]),
    );
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &Fleet::default(),
        stale: STALE,
        now: now(),
    };
    assert_eq!(
        standing::waiting(sight, Some(&all)),
        ["split new is declared and waits to be planned: all is frozen"]
    );
    assert!(standing::waiting(sight, None).is_empty());
}

/// What is wrong with a zone is not hidden by where the split is.
#[test]
fn a_zone_that_is_worse_than_its_split_is_what_is_shown() {
    let plan = plan();
    let mut fleet = all_proven(&plan);
    let silent = fleet
        .zones
        .get_mut(&zone("ams"))
        .unwrap()
        .get_mut("ams-1")
        .unwrap();
    silent.heard_at = Some(at(50));
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &fleet,
        stale: STALE,
        now: now(),
    };
    for phase in [Phase::Held, Phase::Shift, Phase::Verify] {
        let all = by_name(outlook(phase, weights(90), 2, &[]));
        let shown = standing::split(sight, Some(&all), &SplitName::new("checkout").unwrap()).unwrap();
        assert_eq!(shown.standing, Standing::Stale);
    }
}

/// What Git declares, what zones are told instead, and why.
#[test]
fn what_differs_from_git_is_said_with_its_reason() {
    let plan = plan();
    let said = |plan: &Plan, of: Outlook| whole(plan, Some(&by_name(of))).reason.unwrap();
    assert_eq!(
        said(
            &plan,
            outlook(
                Phase::Held,
                weights(50),
                0,
                &[(Some("ams"), "backend cloud is not known here"), (None, "more")]
            )
        ),
        "Git declares cloud 50 %, vm 50 %, told is cloud 10 %, vm 90 %, because held: zone ams: backend cloud is not known here \
         (and 1 more)"
    );
    assert_eq!(
        said(&plan, outlook(Phase::Shift, weights(50), 1, &[])),
        "Git declares cloud 50 %, vm 50 %, told is cloud 10 %, vm 90 %, because it is at bite 1 of 2"
    );
    assert_eq!(
        said(
            &plan,
            outlook(
                Phase::Frozen,
                weights(90),
                0,
                &[(None, "split checkout is frozen")]
            )
        ),
        "frozen: split checkout is frozen"
    );
    let apart = apart(plan.clone(), 50);
    assert_eq!(
        said(&apart, outlook(Phase::Shift, weights(50), 1, &[])),
        "Git declares cloud 50 %, vm 50 %, told is cloud 10 % in fra, cloud 50 % in ams, vm 50 % in ams, vm 90 % in fra, \
         because it is at bite 1 of 2"
    );
}
