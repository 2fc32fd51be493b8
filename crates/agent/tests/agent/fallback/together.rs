//! Two agents of one zone: of one mind, however their clocks are and whatever one of them missed.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::{ALL_TO_VM, AS_PLANNED, Agent, plan};

/// Two agents of one zone, of which one alone has callers, for so many seconds, in the first of which `eks` is dead: all
/// weights there were, one after the other, and how often anything was written.
fn together(
    one: &mut Agent,
    other: &mut Agent,
    seconds: u64,
    dead_for: u64,
) -> (Vec<Vec<(&'static str, u32)>>, usize) {
    one.activate();
    other.live.clone_from(&one.live);
    other.activate();
    let mut writes = 0;
    let mut history = vec![one.weights()];
    for second in 0..seconds {
        let dead: &[&str] = if second < dead_for { &["eks"] } else { &[] };
        for _ in 0..4 {
            if one.quarter(100, dead) {
                one.activate();
                other.live.clone_from(&one.live);
            }
            other.quarter(0, &[]);
        }
        for turn in 0..2 {
            let (agent, with) = if turn == second % 2 {
                (&mut *one, &mut *other)
            } else {
                (&mut *other, &mut *one)
            };
            let before = agent.live.clone();
            agent.activate();
            writes += usize::from(agent.live != before);
            with.live.clone_from(&agent.live);
        }
        one.activate();
        other.activate();
        assert_eq!(one.weights(), other.weights(), "at second {second}");
        if history.last() != Some(&one.weights()) {
            history.push(one.weights());
        }
    }
    (history, writes)
}

/// What one finds the other holds to, and none undoes the other.
#[test]
fn agents_of_a_zone_are_of_one_mind() {
    let plan = plan(&[("vm", None)], 60);
    // However their clocks are.
    for ahead in [0, 120, -120, 86_400] {
        let (mut one, mut other) = (Agent::new(plan.clone()), Agent::new(plan.clone()));
        other.ahead = SignedDuration::from_secs(ahead);
        let (history, writes) = together(&mut one, &mut other, 400, 120);
        let (planned, fallen) = (AS_PLANNED.to_vec(), ALL_TO_VM.to_vec());
        assert_eq!(
            history,
            [planned.clone(), fallen.clone(), planned.clone(), fallen, planned]
        );
        assert!(writes < 10, "{writes} writes");
    }
    // Nor do two of them bring it back more often than one would.
    let (mut one, mut other) = (Agent::new(plan.clone()), Agent::new(plan));
    let (history, _) = together(&mut one, &mut other, 3_600, 3_600);
    assert!(history.len() <= 13, "{} changes in an hour", history.len() - 1);
    // One that forgot all holds to what the policy says (I6).
    let mut third = Agent::new(one.plan.clone());
    third.live.clone_from(&one.live);
    third.now = one.now;
    third.activate();
    assert_eq!(third.live, one.live);
}

/// Two words of one instant: both agents hold to the same one, and neither writes over it again.
#[test]
fn of_two_words_of_one_instant_one_counts() {
    let plan = plan(&[("lab", None), ("vm", None)], 60);
    let (mut one, mut other) = (Agent::new(plan.clone()), Agent::new(plan));
    for agent in [&mut one, &mut other] {
        agent.activate();
        agent.unavailable.insert("eks");
        agent.activate();
    }
    // One of them sees no lab.
    other.unavailable.insert("lab");
    for agent in [&mut one, &mut other] {
        agent.now += Duration::from_secs(2);
        agent.activate();
    }
    assert_ne!(one.weights(), other.weights());
    other.unavailable.remove("lab");
    let mut writes = Vec::new();
    for _ in 0..4 {
        other.live.clone_from(&one.live);
        other.activate();
        one.live.clone_from(&other.live);
        one.activate();
        writes.push(one.label().to_owned());
    }
    assert_eq!(one.weights(), other.weights());
    writes.dedup();
    assert_eq!(writes.len(), 1, "{writes:?}");
}

/// A word from a host whose clock is an hour behind is not an hour old: it is waited for `recover` as if it came now.
#[test]
fn a_clock_that_is_behind_makes_nobody_impatient() {
    let mut one = Agent::new(plan(&[("vm", None)], 60));
    one.ahead = SignedDuration::from_hours(-1);
    let mut other = Agent::new(plan(&[("vm", None)], 60));
    one.activate();
    other.live.clone_from(&one.live);
    other.activate();
    for _ in 0..4 * 120 {
        one.quarter(100, &[]);
        other.quarter(0, &[]);
    }
    other.activate();
    while !one.quarter(100, &["eks"]) {
        other.quarter(0, &[]);
    }
    one.activate();
    assert_eq!(one.weights(), ALL_TO_VM);
    other.live.clone_from(&one.live);
    other.activate();
    assert_eq!(other.weights(), ALL_TO_VM, "it went a moment ago");
}

/// What one agent decided, another one undid and a third decided anew is not as old as the first word of it.
#[test]
fn a_word_that_was_missed_makes_nobody_impatient() {
    let mut one = Agent::new(plan(&[("vm", None)], 10));
    let mut other = Agent::new(plan(&[("vm", None)], 10));
    one.activate();
    other.live.clone_from(&one.live);
    other.activate();
    let down = |one: &mut Agent, other: &mut Agent| {
        while !one.quarter(100, &["eks"]) {
            other.quarter(0, &[]);
        }
        one.activate();
        assert_eq!(one.weights(), ALL_TO_VM);
    };
    down(&mut one, &mut other);
    other.live.clone_from(&one.live);
    other.activate();
    assert_eq!(other.weights(), ALL_TO_VM);
    // It comes back and goes again, while the other agent does not look.
    while one.weights() == ALL_TO_VM {
        one.quarter(100, &[]);
        other.quarter(0, &[]);
        one.activate();
    }
    down(&mut one, &mut other);
    other.live.clone_from(&one.live);
    other.activate();
    assert_eq!(other.weights(), ALL_TO_VM, "it went a moment ago");
}

/// One that comes late to a plan, whose backend is down by then, finds where its share is, though its own older item knew of no
/// such refuge and the new one could not be applied now: it does not give the share back to the dead.
#[test]
fn who_is_late_to_a_plan_leaves_a_share_where_it_is() {
    let mut one = Agent::new(plan(&[("vm", None)], 60));
    one.activate();
    one.unavailable.insert("eks");
    one.activate();
    one.now += Duration::from_secs(2);
    one.activate();
    assert_eq!(one.weights(), ALL_TO_VM);
    let mut late = Agent::new(plan(&[("lab", None)], 60));
    late.now = one.now;
    late.activate();
    late.plan = one.plan.clone();
    late.unavailable.insert("eks");
    late.live.clone_from(&one.live);
    late.activate();
    assert_eq!(late.live, one.live);
    assert_eq!(late.weights(), ALL_TO_VM);
}
