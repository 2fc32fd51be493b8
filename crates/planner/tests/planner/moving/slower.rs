//! Verdicts by how long answers take.

use super::*;

/// From 250 ms on an answer is slow.
fn judged(weights: &[(&str, u32)]) -> Declaration {
    declared(weights, |split| {
        split.transition.verify.latency = Some(SignedDuration::from_millis(250));
    })
}

#[test]
fn a_step_that_slows_answers_down_goes_back() {
    let mut world = World::new(judged(&[("vm", 100)]));
    let mut story = String::new();
    world.answers("fra/a", "vm", 96_000, 25);
    world.answers("fra/a", "vm", 4_000, 1_000);
    world.commit(judged(&[("vm", 50), ("eks", 50)]));
    look(
        &mut world,
        &mut story,
        "50 % to eks is committed; 4 % of vm's answers took up to a second",
    );
    world.all_follow();
    look(&mut world, &mut story, "wave 1 proves it");
    world.all_follow();
    world.count("fra/a", "eks", 300, 0);
    look(
        &mut world,
        &mut story,
        "wave 2 proves it; 300 requests to eks, and how long they took is not told yet",
    );
    world.answers("fra/a", "vm", 400, 25);
    world.answers("fra/a", "eks", 180, 25);
    world.answers("fra/a", "eks", 120, 500);
    look(
        &mut world,
        &mut story,
        "120 of 300 answers of eks took up to 500 ms, none of 400 of vm",
    );
    world.all_follow();
    look(&mut world, &mut story, "all zones prove that they are back");
    insta::assert_snapshot!(story);
}

#[test]
fn whatever_may_be_declared_is_a_bound_of_envoys() {
    for (word, latency) in weir_model::LATENCIES {
        let micros = u64::try_from(latency.as_micros()).unwrap();
        assert!(weir_planner::latency::BOUNDS.contains(&micros), "{word}");
    }
}

/// By whom it was counted, of whom, how many, in how many milliseconds at the most.
type Answers = (&'static str, &'static str, u64, u64);

/// A step to eks that every zone has proven, after answers took so long before it and since.
fn after(before: &[Answers], since: &[Answers], change: impl Fn(&mut Split)) -> World {
    let declare = |weights: &[(&str, u32)]| {
        declared(weights, |split| {
            split.transition.max_step = None;
            split.transition.verify.latency = Some(SignedDuration::from_millis(250));
            change(split);
        })
    };
    let mut world = World::new(declare(&[("vm", 90), ("lab", 10)]));
    let tell = |world: &mut World, all: &[Answers]| {
        for (by, of, answers, ms) in all {
            world.answers(by, of, *answers, *ms);
        }
    };
    tell(&mut world, before);
    world.commit(declare(&[("vm", 40), ("lab", 10), ("eks", 50)]));
    world.look();
    for _ in 0..2 {
        world.all_follow();
        world.look();
    }
    world.all_follow();
    tell(&mut world, since);
    world
}

/// What becomes of it: good, waiting for more, or back.
fn verdict(world: &mut World) -> &'static str {
    let (_, stands) = world.look();
    match (world.leg(), stands.map(|stands| stands.phase)) {
        (Some(Leg::Return { .. }), _) => "back",
        (Some(_), Some(Phase::Verify)) => "waits",
        (None, None) => "good",
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_surely_slower_than_the_same_callers_had_it_is_bad() {
    let usual = [("fra/a", "vm", 10_000, 25), ("fra/a", "lab", 1_000, 25)];
    let eks = |slow, quick| [("fra/a", "eks", slow, 500), ("fra/a", "eks", quick, 250)];
    let of = |before: &[Answers], since: &[Answers]| verdict(&mut after(before, since, |_| {}));
    assert_eq!(of(&usual, &eks(200, 0)), "back");
    assert_eq!(
        of(&usual, &eks(0, 200)),
        "good",
        "up to the limit nothing is slow"
    );
    assert_eq!(
        of(&usual, &eks(12, 88)),
        "good",
        "a few may be the first ones of a cold process"
    );
    assert_eq!(of(&usual, &eks(60, 140)), "back");
    assert_eq!(of(&usual, &eks(99, 0)), "waits");
    // What was slow already is no loss, nor is what cannot be compared.
    assert_eq!(of(&[("fra/a", "vm", 10_000, 500)], &eks(200, 0)), "good");
    assert_eq!(of(&[("fra/a", "vm", 99, 25)], &eks(200, 0)), "good");
    // Another zone is further away, and always was: its callers are compared with themselves.
    let far = [("fra/a", "vm", 10_000, 25), ("ams/a", "vm", 400, 500)];
    assert_eq!(of(&far, &[("ams/a", "eks", 200, 500)]), "good");
    assert_eq!(
        of(&far, &[("ams/a", "eks", 200, 500), ("fra/a", "eks", 200, 25)]),
        "good"
    );
    assert_eq!(
        of(&far, &[("ams/a", "eks", 200, 500), ("fra/a", "eks", 200, 500)]),
        "back"
    );
}

#[test]
fn a_zone_is_slower_by_all_of_its_agents_together() {
    let before = [
        ("fra/a", "vm", 10_000, 25),
        ("ams/a", "vm", 400, 25),
        ("ams/b", "vm", 400, 25),
    ];
    let here = [("ams/a", "eks", 60, 500), ("ams/b", "eks", 60, 500)];
    // Too few by each agent for a word of its own, and 120 of 2,120 are nothing for all zones together.
    let elsewhere = ("fra/a", "eks", 2_000, 25);
    let with = |since: &[Answers]| {
        let mut world = after(&before, since, |_| {});
        let came = verdict(&mut world);
        match world.leg() {
            Some(Leg::Return { why }) => why.clone(),
            _ => came.to_owned(),
        }
    };
    let why = with(&[here[0], here[1], elsewhere]);
    assert!(
        why.contains("zone ams: answers of what gained weight take longer than 250 ms: 120 of 120"),
        "{why}"
    );
    assert_eq!(with(&[here[0], elsewhere]), "good", "60 are too few");
    let quick = ("ams/b", "eks", 600, 25);
    assert_eq!(
        with(&[here[0], quick, elsewhere]),
        "good",
        "60 of 660 are in the margin"
    );
}

#[test]
fn what_slows_everybody_down_is_not_the_steps_doing() {
    let usual = [("fra/a", "vm", 9_000, 25), ("fra/a", "lab", 1_000, 500)];
    let slow = ("fra/a", "eks", 200, 500);
    let with = |others: &[Answers]| {
        let since: Vec<Answers> = [slow].into_iter().chain(others.iter().copied()).collect();
        verdict(&mut after(&usual, &since, |_| {}))
    };
    assert_eq!(with(&[("fra/a", "vm", 200, 500)]), "good");
    assert_eq!(with(&[("fra/a", "vm", 200, 25)]), "back");
    assert_eq!(
        with(&[("fra/a", "vm", 11, 500)]),
        "good",
        "few say it, and nobody says otherwise"
    );
    assert_eq!(with(&[("fra/a", "vm", 1, 25)]), "back");
    // Who was slow before tells nothing of what is slow now.
    assert_eq!(
        with(&[("fra/a", "lab", 200, 500), ("fra/a", "vm", 200, 25)]),
        "back"
    );
}

#[test]
fn what_is_not_declared_or_has_no_comparable_time_is_not_judged() {
    let (usual, slow) = ([("fra/a", "vm", 10_000, 25)], [("fra/a", "eks", 200, 500)]);
    let with = |change: fn(&mut Split)| verdict(&mut after(&usual, &slow, change));
    assert_eq!(with(|_| {}), "back");
    assert_eq!(with(|split| split.transition.verify.latency = None), "good");
    assert_eq!(with(|split| split.streaming = true), "good");
    assert_eq!(with(|split| split.protocol = Protocol::Tcp), "good");
    // One route moves, and another one stays: answers are counted of both together.
    let apart = |split: &mut Split| {
        let mut search = split.routes[0].clone();
        search.name = weir_model::RouteName::new("search").unwrap();
        search.matches.path = Some(weir_model::PathMatch::Prefix("/search".to_owned()));
        search.weights = [(backend("vm"), BasisPoints::WHOLE)].into();
        split.routes.insert(0, search);
    };
    assert_eq!(with(apart), "good");
}

#[test]
fn times_that_never_come_are_waited_for_as_long_as_they_may_take() {
    let usual = [("fra/a", "vm", 10_000, 25)];
    let mut world = after(&usual, &[], |split| {
        split.transition.verify.insufficient = weir_model::Insufficient::Hold;
    });
    world.count("fra/a", "eks", 200, 0);
    assert_eq!(verdict(&mut world), "waits");
    world.pass(59);
    assert_eq!(verdict(&mut world), "waits");
    world.pass(2);
    assert_eq!(
        verdict(&mut world),
        "good",
        "who has told nothing by now tells nothing"
    );
    // To leave what fails, for something slower, is no loss.
    let mut world = after(&usual, &[("fra/a", "eks", 200, 500)], |_| {});
    assert_eq!(verdict(&mut world), "back");
    let mut world = World::new(judged(&[("vm", 100)]));
    world.answers("fra/a", "vm", 7_000, 25);
    world.count("fra/a", "vm", 3_000, 3_000);
    world.commit(judged(&[("eks", 100)]));
    for _ in 0..2 {
        world.look();
        world.all_follow();
    }
    world.answers("fra/a", "eks", 200, 500);
    world.look();
    assert!(!matches!(world.leg(), Some(Leg::Return { .. })));
}
