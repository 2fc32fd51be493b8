//! Sessions over real sockets: who may speak for whom, what is sent to whom, and what becomes of the slow and the odd.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use weir_coordinator::sessions::{Held, SessionLimits, spoken_for};
use weir_model::SplitName;
use weir_planner::{Digest, Generation, PlanId, ZoneFacts};
use weir_wire::{AgentReport, Held as OnDisk, Holds, Term, assemble, v1};

use crate::federation::{Agent, Coordinator, greeting, plan, until, zone};

fn report(zone_name: &str, highest: u64, plan: Option<PlanId>) -> v1::Report {
    v1::Report::from(&AgentReport {
        facts: ZoneFacts {
            zone: zone(zone_name),
            at: Timestamp::from_second(1_800_000_000).unwrap(),
            highest: Generation(highest),
            kuma: Some("2.14.3".to_owned()),
            unreadable: None,
            fault: None,
            store: None,
            services: Vec::new(),
            items: Vec::new(),
        },
        plan,
        generation: Generation(highest),
        refused: None,
        notes: Vec::new(),
    })
}

#[tokio::test]
async fn an_agent_speaks_for_itself_only() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    for (zone, agent) in [("ams", "fra-1"), ("fra", "fra-2")] {
        let mut session = Agent::greets(&connector, &greeting(zone, agent)).await;
        assert_eq!(
            session.refusal().await,
            (
                tonic::Code::PermissionDenied,
                format!(
                    "this certificate is that of shop/fra/fra-1 (federation/zone/agent), the greeting says \
                     shop/{zone}/{agent}: an agent speaks for itself only; set `zone` and `agent` back, or join again \
                     under the new name"
                )
            )
        );
    }
    assert!(coordinator.sessions.snapshot().is_empty());
    // Reports carry no zone at all: they are of the session's.
    let session = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    session.report(report("ams", 3, None)).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|agent| agent.facts.is_some())
    })
    .await;
    let seen = coordinator.sessions.snapshot();
    let view = &seen[&(zone("fra"), "fra-1".to_owned())];
    assert_eq!(
        (seen.len(), &view.facts.as_ref().unwrap().zone),
        (1, &zone("fra"))
    );
    assert_eq!((view.version.as_str(), view.highest), ("1.2.3", Generation(3)));
}

#[tokio::test]
async fn one_that_is_connected_is_not_forgotten() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let session = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|agent| agent.connected.is_some())
    })
    .await;
    assert!(!coordinator.sessions.forget(&zone("fra"), "fra-1"));
    assert!(
        coordinator.sessions.forget(&zone("ams"), "fra-1"),
        "of another zone"
    );
    drop(session);
    until(&coordinator.sessions, |seen| {
        seen.values().all(|agent| agent.connected.is_none())
    })
    .await;
    assert_eq!(coordinator.sessions.snapshot().len(), 1);
    assert!(coordinator.sessions.forget(&zone("fra"), "fra-1"));
    assert!(coordinator.sessions.snapshot().is_empty());
}

#[tokio::test]
async fn each_agent_gets_its_zones_part_and_only_what_it_lacks() {
    let coordinator = Coordinator::start().await;
    let first = plan(90, None);
    coordinator.sessions.publish(Arc::clone(&first));
    let (fra, ams) = (
        coordinator.joined("fra", "fra-1").await,
        coordinator.joined("ams", "ams-1").await,
    );
    let mut fra_1 = Agent::connects(&fra, &greeting("fra", "fra-1")).await;
    let mut ams_1 = Agent::connects(&ams, &greeting("ams", "ams-1")).await;

    let nothing = OnDisk::default();
    let update = fra_1.plan().await;
    assert_eq!((update.manifest.len(), update.items.len()), (2, 2));
    let held = assemble(&update, &nothing).unwrap();
    assert_eq!(held, first.zone_plan(&zone("fra")).unwrap());
    assert_eq!(
        assemble(&ams_1.plan().await, &nothing).unwrap(),
        first.zone_plan(&zone("ams")).unwrap()
    );

    let second = plan(50, Some(&first));
    coordinator.sessions.publish(Arc::clone(&second));
    let update = fra_1.plan().await;
    let sent: Vec<_> = update.items.iter().map(|item| item.split.as_str()).collect();
    assert_eq!((update.manifest.len(), sent), (2, vec!["checkout"]));
    let now = assemble(&update, &OnDisk::from(&held)).unwrap();
    assert_eq!(now, second.zone_plan(&zone("fra")).unwrap());

    // Back after a while, the agent says what it holds, and is sent nothing that it has.
    drop(fra_1);
    let mut hello = greeting("fra", "fra-1");
    hello.plan = Some(now.plan);
    hello.generation = now.generation;
    hello.highest = now.generation;
    hello.holds = Holds::from(&now);
    hello.term = Term(update.term);
    let mut fra_1 = Agent::connects(&fra, &hello).await;
    let third = plan(10, Some(&second));
    coordinator.sessions.publish(Arc::clone(&third));
    let update = fra_1.plan().await;
    assert_eq!((update.generation, update.items.len()), (3, 1));
    assert_eq!(
        assemble(&update, &OnDisk::from(&now)).unwrap(),
        third.zone_plan(&zone("fra")).unwrap()
    );
}

#[tokio::test]
async fn a_slow_agent_skips_what_is_already_old() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let mut agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    let mut newest = plan(0, None);
    for vm in (1..=100).chain(0..100) {
        newest = plan(vm, Some(&newest));
        coordinator.sessions.publish(Arc::clone(&newest));
    }
    // Nobody read meanwhile. What now comes are a few plans, in order, and the newest of all last.
    let mut got = Vec::new();
    let mut held = OnDisk::default();
    while got.last() != Some(&newest.generation.0) {
        let update = agent.plan().await;
        held = OnDisk::from(&assemble(&update, &held).unwrap());
        got.push(update.generation);
    }
    assert!(got.is_sorted() && got.len() < 150, "{got:?}");
    assert_eq!(held.items, newest.zone_plan(&zone("fra")).unwrap().items);
}

#[tokio::test]
async fn an_agent_that_has_had_a_newer_plan_is_not_sent_an_older_one() {
    let coordinator = Coordinator::start().await;
    let first = plan(90, None);
    let second = plan(80, Some(&first));
    coordinator.sessions.publish(Arc::clone(&first));
    let connector = coordinator.joined("fra", "fra-1").await;
    let mut hello = greeting("fra", "fra-1");
    hello.highest = Generation(2);
    let mut agent = Agent::connects(&connector, &hello).await;
    assert_eq!(
        coordinator.sessions.highest(),
        Generation(2),
        "so that the next plan is above it"
    );
    let third = plan(70, Some(&second));
    coordinator.sessions.publish(third);
    assert_eq!(agent.plan().await.generation, 3, "generation 1 was never sent");
}

#[tokio::test]
async fn two_histories_under_one_number_are_outgrown_by_the_next_plan() {
    let coordinator = Coordinator::start().await;
    let here = plan(90, None);
    coordinator.sessions.publish(Arc::clone(&here));
    let connector = coordinator.joined("fra", "fra-1").await;
    let mut hello = greeting("fra", "fra-1");
    (hello.highest, hello.generation) = (Generation(1), Generation(1));
    hello.plan = Some(PlanId([7; 32]));
    let agent = Agent::connects(&connector, &hello).await;
    assert_eq!(coordinator.sessions.highest(), Generation(2));
    agent.report(report("fra", 1, hello.plan)).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|agent| agent.facts.is_some())
    })
    .await;
    assert_eq!(coordinator.sessions.highest(), Generation(2));
    // Whoever holds the very plan that is published is no fork.
    drop(agent);
    let connector = coordinator.joined("ams", "ams-1").await;
    let mut hello = greeting("ams", "ams-1");
    (hello.highest, hello.generation, hello.plan) = (Generation(1), Generation(1), Some(here.id));
    let _agent = Agent::connects(&connector, &hello).await;
    assert_eq!(
        coordinator.sessions.snapshot()[&(zone("ams"), "ams-1".to_owned())].highest,
        Generation(1)
    );
}

#[tokio::test]
async fn the_newest_session_of_an_agent_replaces_the_one_before() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let mut before = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    let mut after = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    assert_eq!(
        before.goodbye().await,
        "a newer session of this agent was opened; if that was not this machine, two agents run under one name"
    );
    assert!(before.next().await.unwrap().is_none());
    assert!(
        coordinator.sessions.connected(&zone("fra"), "fra-1").is_some(),
        "the end of the old is not that of the new"
    );
    coordinator.sessions.publish(plan(90, None));
    assert_eq!(after.plan().await.generation, 1);
    drop(after);
    until(&coordinator.sessions, |seen| {
        seen.values().all(|agent| agent.connected.is_none())
    })
    .await;
}

#[tokio::test]
async fn a_zone_has_so_many_sessions_and_not_more() {
    let limits = SessionLimits {
        per_zone: 2,
        ..SessionLimits::default()
    };
    let coordinator = Coordinator::with(limits, Duration::from_secs(3600)).await;
    let mut connectors = Vec::new();
    for name in ["fra-1", "fra-2", "fra-3"] {
        connectors.push(coordinator.joined("fra", name).await);
    }
    let one = Agent::connects(&connectors[0], &greeting("fra", "fra-1")).await;
    let _two = Agent::connects(&connectors[1], &greeting("fra", "fra-2")).await;
    let mut three = Agent::greets(&connectors[2], &greeting("fra", "fra-3")).await;
    assert_eq!(
        three.refusal().await,
        (
            tonic::Code::ResourceExhausted,
            "zone fra already has 2 sessions, which is the limit".to_owned()
        )
    );
    // One that comes back is not one more, and another zone has its own.
    let _again = Agent::connects(&connectors[0], &greeting("fra", "fra-1")).await;
    drop(one);
    let ams = coordinator.joined("ams", "ams-1").await;
    let _ams = Agent::connects(&ams, &greeting("ams", "ams-1")).await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session_with_a_word() {
    let limits = SessionLimits {
        greeting: Duration::from_millis(200),
        ..SessionLimits::default()
    };
    let coordinator = Coordinator::with(limits, Duration::from_secs(3600)).await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let hello = greeting("fra", "fra-1");

    let mut agent = Agent::connects(&connector, &hello).await;
    agent.report(v1::Report::default()).await;
    assert_eq!(
        agent.refusal().await,
        (
            tonic::Code::InvalidArgument,
            "unusable message: report.at: no time is given".to_owned()
        )
    );

    let mut agent = Agent::connects(&connector, &hello).await;
    let mut long = report("fra", 0, None);
    long.unreadable = "x".repeat(9 << 20);
    agent.report(long).await;
    assert_eq!(
        agent.refusal().await,
        (
            tonic::Code::OutOfRange,
            "a message of this agent is larger than 8 MiB, which is the limit".to_owned()
        )
    );
    until(&coordinator.sessions, |seen| {
        seen.values().all(|agent| agent.connected.is_none())
    })
    .await;
    assert!(
        coordinator
            .sessions
            .snapshot()
            .values()
            .all(|agent| agent.facts.is_none())
    );

    // Says nothing at all.
    let (_say, stream) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut client = v1::agents_client::AgentsClient::new(connector.channel().await.unwrap());
    let mut hear = client.session(stream).await.unwrap().into_inner();
    let status = hear.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stop_is_told_to_every_agent() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let mut agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    coordinator.stop.cancel();
    assert_eq!(
        agent.goodbye().await,
        "the coordinator stops; traffic stays as it is"
    );
    assert!(agent.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_zone_that_is_not_declared_is_sent_nothing() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("par", "par-1").await;
    let agent = Agent::connects(&connector, &greeting("par", "par-1")).await;
    coordinator.sessions.publish(plan(90, None));
    agent.report(report("par", 0, None)).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|agent| agent.facts.is_some())
    })
    .await;
    let held: BTreeSet<_> = coordinator
        .sessions
        .snapshot()
        .into_values()
        .map(|agent| agent.plan)
        .collect();
    assert_eq!(held, BTreeSet::from([None]));
}

/// A greeting is no report: what an agent said in its last session must not look as if it had been said now. And a report
/// that repeats an old look at the zone does not make that look a new one.
#[tokio::test]
async fn neither_a_greeting_nor_a_repeated_report_makes_old_facts_new() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let view = || coordinator.sessions.snapshot()[&(zone("fra"), "fra-1".to_owned())].clone();
    let agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    assert_eq!((view().facts, view().looked), (None, None));
    agent.report(report("fra", 3, None)).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|a| a.facts.is_some())
    })
    .await;
    let (_, told) = view().looked.unwrap();
    agent.report(report("fra", 4, None)).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|a| a.highest == Generation(4))
    })
    .await;
    assert!(view().heard > told);
    assert_eq!(view().looked.unwrap().1, told, "the look is the same");

    let again = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    assert_eq!(view().facts, None);
    again.report(report("fra", 4, None)).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|a| a.facts.is_some())
    })
    .await;
    assert_eq!(view().looked.unwrap().1, told);
    let mut newer = report("fra", 4, None);
    newer.at.as_mut().unwrap().seconds += 1;
    newer.refused = "its disk is full".to_owned();
    again.report(newer).await;
    until(&coordinator.sessions, |seen| {
        seen.values().any(|a| a.refused.is_some())
    })
    .await;
    assert!(view().looked.unwrap().1 > told);
}

/// After a ledger was lost there may be two histories: who has something else under a number that is used up is told of
/// plans that are all newer.
#[test]
fn whoever_has_another_history_is_planned_above() {
    let newest = plan(90, None);
    let (fra, highest) = (zone("fra"), Generation(1));
    let none = || std::iter::empty::<Held<'_>>();
    let held = (Some(newest.id), newest.generation);
    assert_eq!(spoken_for(None, &fra, highest, held, none()), highest);
    assert_eq!(spoken_for(Some(&newest), &fra, highest, held, none()), highest);
    let other = (Some(PlanId([7; 32])), newest.generation);
    let above = Generation(newest.generation.0 + 1);
    assert_eq!(spoken_for(Some(&newest), &fra, highest, other, none()), above);

    // Another plan that is older, and an item of it.
    let newer = plan(80, Some(&newest));
    let above = Generation(newer.generation.0 + 1);
    let (checkout, cart) = (
        SplitName::new("checkout").unwrap(),
        SplitName::new("cart").unwrap(),
    );
    let item = |split: &SplitName| Arc::clone(&newer.splits[split].items[&fra]);
    let ask = |split: &SplitName, generation: Generation, digest: Digest| {
        let held = [(split, generation, digest)];
        spoken_for(Some(&newer), &fra, highest, other, held.into_iter())
    };
    let is = item(&cart);
    assert_eq!(ask(&cart, is.generation, is.digest), highest, "the same");
    assert_eq!(ask(&cart, is.generation, Digest([7; 32])), above, "forked");
    let is = item(&checkout);
    assert_eq!(is.generation, newer.generation);
    let unread = Digest([0; 32]);
    assert_eq!(
        ask(&checkout, is.generation, unread),
        highest,
        "brought by another agent of the zone, whose plan is newer"
    );
    assert_eq!(
        ask(&checkout, newest.generation, Digest([7; 32])),
        highest,
        "it is overtaken"
    );
    let gone = SplitName::new("search").unwrap();
    assert_eq!(
        ask(&gone, newer.generation, Digest([7; 32])),
        highest,
        "it is taken away"
    );
}
