//! Verdicts by how long answers take.

use weir_model::Slower;

use super::*;

#[test]
fn a_step_that_slows_answers_down_goes_back() {
    let mut world = World::new(plain(&[("vm", 100)]));
    let mut story = String::new();
    world.answers("fra/a", "vm", 96_000, 25);
    world.answers("fra/a", "vm", 4_000, 1_000);
    world.commit(plain(&[("vm", 50), ("eks", 50)]));
    look(
        &mut world,
        &mut story,
        "50 % to eks is committed; 96 % of vm's answers took up to 25 ms",
    );
    world.all_follow();
    world.count("fra/a", "eks", 300, 0);
    look(
        &mut world,
        &mut story,
        "wave 1 proves it; 300 requests to eks, and how long they took is not told yet",
    );
    world.answers("fra/a", "vm", 400, 25);
    world.answers("fra/a", "eks", 180, 25);
    world.answers("fra/a", "eks", 120, 250);
    look(
        &mut world,
        &mut story,
        "120 of 300 answers of eks took up to 250 ms, none of 400 of vm",
    );
    world.all_follow();
    look(&mut world, &mut story, "all zones prove that they are back");
    insta::assert_snapshot!(story);
}

/// What becomes of the first step of a shift to eks: good, waiting for more, or back, after answers of each backend took so long.
fn verdict(before: &[Answers], since: &[Answers], change: impl FnOnce(&mut Split)) -> &'static str {
    let mut world = World::new(declared(&[("vm", 100)], |_| {}));
    let tell = |world: &mut World, all: &[Answers]| {
        for (of, answers, ms) in all {
            world.answers("fra/a", of, *answers, *ms);
        }
    };
    tell(&mut world, before);
    world.commit(declared(&[("vm", 50), ("eks", 50)], |split| {
        split.transition.bake = jiff::SignedDuration::ZERO;
        split.transition.max_step = None;
        split.transition.verify.requests = 100;
        change(split);
    }));
    world.look();
    for _ in 0..2 {
        world.all_follow();
        world.look();
    }
    world.all_follow();
    tell(&mut world, since);
    let (_, stands) = world.look();
    match (world.leg(), stands.map(|stands| stands.phase)) {
        (Some(Leg::Return { .. }), _) => "back",
        (Some(_), Some(Phase::Verify)) => "waits",
        (None, None) => "good",
        other => panic!("{other:?}"),
    }
}

/// Of whom, how many, in how many milliseconds at the most.
type Answers = (&'static str, u64, u64);

#[test]
fn only_what_is_surely_slower_is_bad() {
    let usual = [("vm", 10_000, 25)];
    let slow = ("eks", 200, 500);
    let of = |before: &[Answers], since: &[Answers]| verdict(before, since, |_| {});
    assert_eq!(of(&usual, &[slow]), "back");
    assert_eq!(of(&usual, &[("eks", 200, 50)]), "good", "twice as long is borne");
    assert_eq!(
        of(&[("vm", 10_000, 1)], &[("eks", 200, 50)]),
        "good",
        "nobody waits for 50 ms"
    );
    assert_eq!(
        of(&usual, &[("eks", 190, 25), ("eks", 10, 500)]),
        "good",
        "one of twenty may be chance"
    );
    assert_eq!(
        of(&usual, &[("eks", 150, 25), ("eks", 50, 500)]),
        "back",
        "one of four is none"
    );
    // What slows down all at the same time is not the step's doing.
    assert_eq!(of(&usual, &[slow, ("vm", 200, 500)]), "good");
    assert_eq!(of(&usual, &[slow, ("vm", 200, 25)]), "back");
    assert_eq!(
        of(&usual, &[slow, ("vm", 50, 500)]),
        "back",
        "too few to say so of all"
    );
    // With nothing to compare with nothing is said.
    assert_eq!(of(&[("vm", 99, 25)], &[slow]), "good");
    assert_eq!(of(&[("vm", 10_000, 500)], &[slow]), "good", "it was so before");
    assert_eq!(of(&usual, &[("eks", 99, 500)]), "waits");
}

#[test]
fn who_says_so_and_streams_are_not_judged() {
    let (usual, slow) = ([("vm", 10_000, 25)], [("eks", 200, 500)]);
    let ignore = |split: &mut Split| split.transition.verify.latency = Slower::Ignore;
    assert_eq!(verdict(&usual, &slow, ignore), "good");
    assert_eq!(verdict(&usual, &slow, |split| split.streaming = true), "good");
    assert_eq!(verdict(&usual, &slow, |_| {}), "back");
}
