//! A host's clock that is set: how long a share is elsewhere goes by the one that only rises.

use std::time::Duration;

use jiff::SignedDuration;
use weir_agent::fallback::told;

use super::world::{ALL_TO_VM, AS_PLANNED, Agent, plan};

/// Until the share is back; how long that took since it went.
fn back(agent: &mut Agent) -> Duration {
    let away = agent.now;
    while agent.weights() != AS_PLANNED {
        assert!(agent.now - away < Duration::from_secs(600));
        agent.quarter(100, &[]);
        agent.activate();
    }
    agent.now - away
}

fn dies(agent: &mut Agent) {
    while !agent.quarter(100, &["eks"]) {}
    agent.activate();
    assert_eq!(agent.weights(), ALL_TO_VM);
}

/// A share that went a moment ago does not come back because its host's clock says that an hour went by, nor does it stay away
/// for an hour because that says that it went in an hour; and how often it went is not forgotten.
#[test]
fn a_clock_that_is_set_brings_nothing_back() {
    for hours in [1, -1, 24, -24] {
        let mut agent = Agent::new(plan(&[("vm", None)], 60));
        for _ in 0..4 * 180 {
            agent.quarter(100, &[]);
            agent.activate();
        }
        dies(&mut agent);
        agent.ahead = SignedDuration::from_hours(hours);
        agent.activate();
        let fallen = told(agent.item(), &agent.memory).unwrap();
        assert!(
            fallen.since <= agent.at().1,
            "people are told nothing that is yet to come"
        );
        assert_eq!(back(&mut agent), Duration::from_secs(60), "{hours}");
        // Set again before it dies again, and while it is away: twice as long, as without.
        agent.ahead = SignedDuration::ZERO;
        dies(&mut agent);
        agent.ahead = SignedDuration::from_hours(hours);
        assert_eq!(back(&mut agent), Duration::from_secs(120), "{hours}");
    }
}

/// Two of a zone of which one has no callers: it brings nothing back either.
#[test]
fn a_clock_that_is_set_brings_nothing_back_that_another_one_found() {
    let (mut one, mut other) = (
        Agent::new(plan(&[("vm", None)], 60)),
        Agent::new(plan(&[("vm", None)], 60)),
    );
    one.activate();
    other.live.clone_from(&one.live);
    for _ in 0..4 * 120 {
        one.quarter(100, &[]);
        other.quarter(0, &[]);
        other.activate();
    }
    while !one.quarter(100, &["eks"]) {
        other.quarter(0, &[]);
    }
    one.activate();
    other.now = one.now;
    other.live.clone_from(&one.live);
    other.activate();
    other.ahead = SignedDuration::from_hours(1);
    let away = other.now;
    while other.now - away < Duration::from_secs(59) {
        other.quarter(0, &[]);
        other.activate();
        assert_eq!(other.weights(), ALL_TO_VM);
    }
    assert_eq!(other.live, one.live);
}
