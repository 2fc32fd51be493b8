//! Verdicts by failures: what they count, and from when on.

use super::*;
use weir_model::Insufficient;

/// A step of eks from 20 to 60 %, planned and followed by nobody yet.
fn stepping() -> World {
    let declare = |weights: &[(&str, u32)]| declared(weights, |split| split.transition.max_step = None);
    let mut world = World::new(declare(&[("vm", 80), ("eks", 20)]));
    for host in ["fra/a", "ams/a"]
        .into_iter()
        .map(ToOwned::to_owned)
        .chain(hosts())
    {
        world.count(&host, "vm", 10_000, 0);
    }
    world.commit(declare(&[("vm", 40), ("eks", 60)]));
    world.look();
    world
}

/// More agents of `fra`, each with callers of its own.
fn hosts() -> impl Iterator<Item = String> {
    (0..10).map(|host| format!("fra/{host}"))
}

/// Every zone proves it, wave by wave; what becomes of it after that.
fn proven(world: &mut World) -> Option<Phase> {
    for _ in 0..2 {
        world.all_follow();
        world.look();
    }
    phase(world)
}

fn phase(world: &mut World) -> Option<Phase> {
    let (_, stands) = world.look();
    stands.map(|stands| stands.phase)
}

#[test]
fn what_came_before_the_proof_is_no_reason_to_pass() {
    let mut world = stepping();
    // By the weights of before, while the zones are being told.
    world.count("fra/a", "eks", 100_000, 0);
    assert_eq!(proven(&mut world), Some(Phase::Verify));
    world.count("fra/a", "eks", 99, 0);
    assert_eq!(phase(&mut world), Some(Phase::Verify));
    world.count("fra/a", "eks", 1, 0);
    assert_eq!(phase(&mut world), None, "a hundred since the proof are enough");
}

#[test]
fn what_came_before_the_proof_hides_nothing() {
    let mut world = stepping();
    world.count("fra/a", "eks", 100_000, 0);
    assert_eq!(proven(&mut world), Some(Phase::Verify));
    // 0.2 % of all since the step; 30 % of those that the new weights sent.
    world.count("fra/a", "eks", 600, 180);
    world.look();
    assert!(
        matches!(world.leg(), Some(Leg::Return { .. })),
        "{:?}",
        world.leg()
    );
}

#[test]
fn what_fails_before_the_proof_is_not_waited_for() {
    let mut world = stepping();
    world.count("fra/a", "eks", 600, 180);
    world.look();
    assert!(
        matches!(world.leg(), Some(Leg::Return { .. })),
        "{:?}",
        world.leg()
    );
}

#[test]
fn of_a_zone_that_proved_an_earlier_wave_only_what_came_since_the_last_step_counts() {
    let mut world = stepping();
    world.all_follow();
    world.count("fra/a", "eks", 100_000, 0);
    world.look();
    world.follow(&zone("ams"));
    // The mark of the first wave is as old as its proof.
    world.at_proof.clear();
    world
        .at_proof
        .insert("fra/a".to_owned(), world.counts["fra/a"].clone());
    let old = world.at_proof.get_mut("fra/a").unwrap();
    old.requests.remove(&backend("eks"));
    assert_eq!(phase(&mut world), Some(Phase::Verify));
    world.count("fra/a", "eks", 100, 0);
    assert_eq!(phase(&mut world), None);
}

/// Callers in `fra` always had more failures than others: that is no news.
#[test]
fn a_zone_in_which_more_failed_before_is_compared_with_itself() {
    let declare = |weights: &[(&str, u32)]| declared(weights, |split| split.transition.max_step = None);
    let mut world = World::new(declare(&[("vm", 80), ("eks", 20)]));
    world.count("ams/a", "vm", 100_000, 100);
    for host in hosts() {
        world.count(&host, "vm", 1_000, 50);
    }
    world.commit(declare(&[("vm", 40), ("eks", 60)]));
    world.look();
    assert_eq!(proven(&mut world), Some(Phase::Verify));
    for host in hosts() {
        world.count(&host, "eks", 300, 15);
    }
    assert_eq!(phase(&mut world), None, "5 % as before");

    let mut world = stepping();
    assert_eq!(proven(&mut world), Some(Phase::Verify));
    for host in hosts() {
        world.count(&host, "eks", 300, 15);
    }
    world.look();
    assert!(matches!(world.leg(), Some(Leg::Return { .. })), "5 % after none");
}

#[test]
fn few_requests_on_each_of_many_hosts_are_judged_as_their_zone() {
    let mut world = stepping();
    assert_eq!(proven(&mut world), Some(Phase::Verify));
    // Another zone has so many that these are lost in the sum.
    world.count("ams/a", "eks", 100_000, 0);
    for host in hosts() {
        world.count(&host, "eks", 60, 18);
    }
    world.look();
    let Some(Leg::Return { why }) = world.leg() else {
        panic!("{:?}", world.leg());
    };
    assert!(why.contains("zone fra: 180 of 600 requests"), "{why}");
}

/// Too few requests are no verdict. What is declared for that happens, and people are told, with the numbers.
#[test]
fn too_few_requests_are_passed_aloud_or_held() {
    let stepping = |insufficient| {
        let declare = |weights: &[(&str, u32)]| {
            declared(weights, |split| {
                split.transition.verify.insufficient = insufficient;
            })
        };
        let mut world = World::new(declare(&[("vm", 100)]));
        world.count("fra/a", "vm", 10_000, 0);
        world.commit(declare(&[("eks", 100)]));
        world.look();
        assert_eq!(proven(&mut world), Some(Phase::Verify));
        world
    };
    let told = |bite: u32, seen: u32| {
        format!(
            "bite {bite} of 2 was passed without a verdict, as `insufficient: proceed` says: insufficient data: {seen} of 100 \
             requests to what gained weight since the step was proven"
        )
    };

    let mut world = stepping(Insufficient::Proceed);
    world.count("fra/a", "eks", 7, 0);
    world.look();
    assert!(world.unjudged.is_empty(), "it is waited for");
    world.pass(3_600);
    world.look();
    assert_eq!(world.unjudged, [told(1, 7)]);
    assert_eq!(proven(&mut world), Some(Phase::Verify), "{}", world.told(None));
    world.look();
    assert_eq!(world.unjudged.len(), 1, "once");
    // The second bite has enough of them, and is judged.
    world.count("fra/a", "eks", 100, 0);
    assert_eq!(phase(&mut world), None);
    assert_eq!(world.unjudged.len(), 1);

    // The last one is told of as it comes to rest.
    let mut world = stepping(Insufficient::Proceed);
    world.count("fra/a", "eks", 100, 0);
    world.look();
    assert_eq!(proven(&mut world), Some(Phase::Verify));
    world.pass(3_600);
    assert_eq!(phase(&mut world), None);
    assert_eq!(world.unjudged, [told(2, 0)]);

    // Who goes back passes nothing.
    let mut world = stepping(Insufficient::Proceed);
    world.pass(3_600);
    world.commit(declared(&[("vm", 100)], |_| {}));
    settle(&mut world);
    assert!(world.unjudged.is_empty(), "{:?}", world.unjudged);

    // Held, for as long as it takes; and all of so few may have failed: neither is a pass.
    for failed in [0, 60] {
        let mut world = stepping(Insufficient::Hold);
        world.count("fra/a", "eks", 60, failed);
        for _ in 0..10 {
            world.pass(3_600);
            let (new, stands) = world.look();
            let stands = stands.unwrap();
            assert_eq!((new, stands.phase), (false, Phase::Held));
            assert!(stands.waits[0].why.contains("60 of 100 requests"), "{stands:?}");
            world.all_follow();
        }
        assert!(
            matches!(world.leg(), Some(Leg::Shift { bite: 1, .. })),
            "{:?}",
            world.leg()
        );
        assert!(world.unjudged.is_empty());
        world.count("fra/a", "eks", 40, failed.min(40));
        world.look();
        match failed {
            0 => assert!(
                matches!(world.leg(), Some(Leg::Shift { bite: 2, .. })),
                "{:?}",
                world.leg()
            ),
            _ => assert!(
                matches!(world.leg(), Some(Leg::Return { .. })),
                "{:?}",
                world.leg()
            ),
        }
    }
}

/// Who gets little of what is moved is judged by himself: among the rest his failures are lost.
#[test]
fn a_backend_that_gets_little_is_judged_alone() {
    let declare = |weights: &[(&str, u32)]| declared(weights, |split| split.transition.max_step = None);
    let step = |lab: u64, failed: u64| {
        let mut world = World::new(declare(&[("vm", 100)]));
        world.count("fra/a", "vm", 100_000, 0);
        world.commit(declare(&[("eks", 98), ("lab", 2)]));
        world.look();
        proven(&mut world);
        world.count("fra/a", "eks", 50 * lab, 0);
        world.count("fra/a", "lab", lab, failed);
        phase(&mut world);
        world
    };
    let world = step(100, 45);
    let Some(Leg::Return { why }) = world.leg() else {
        panic!("{:?}", world.leg())
    };
    assert!(why.contains("backend lab: 45 of 100 requests"), "{why}");
    let mut world = step(99, 0);
    let (_, stands) = world.look();
    let waits = stands
        .map(|stands| stands.waits[0].why.clone())
        .unwrap_or_default();
    assert!(waits.contains("99 of 100 requests to lab"), "{waits}");
    assert_eq!(step(100, 0).leg(), None, "good");
}

/// Agents that all begin to count anew with the step know nothing of before: what fails at the others beside it is usual.
#[test]
fn where_nothing_was_counted_before_the_others_beside_it_say_what_is_usual() {
    let declare = |weights: &[(&str, u32)]| declared(weights, |split| split.transition.max_step = None);
    let step = |before: u64, beside: [u64; 2], gained: [u64; 2]| {
        let mut world = World::new(declare(&[("vm", 80), ("eks", 20)]));
        world.count("fra/a", "vm", before, 0);
        world.commit(declare(&[("vm", 40), ("eks", 60)]));
        world.look();
        proven(&mut world);
        world.count("fra/a", "vm", beside[0], beside[1]);
        world.count("fra/a", "eks", gained[0], gained[1]);
        world.look();
        matches!(world.leg(), Some(Leg::Return { .. }))
    };
    assert!(!step(0, [1_000, 50], [1_000, 50]), "as many fail beside it");
    assert!(step(0, [1_000, 50], [1_000, 150]), "that is more");
    assert!(step(0, [99, 50], [1_000, 150]), "99 say nothing");
    assert!(step(10_000, [1_000, 50], [1_000, 50]), "before it none failed");
}
