//! The ledger gives back what was written, also after it was closed and opened again, and takes all of a decision or
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tempfile::TempDir;
use weir_coordinator::decide::{self, Heads, Question};
use weir_coordinator::git::{Content, Head, Signature};
use weir_coordinator::ledger::{
    AgentRow, Answer, CommitRow, ItemRow, Ledger, LedgerError, NewEvent, Order, OrderKind, Taken, Verdict,
};
use weir_model::{BackendName, CommitId, FederationName, SourceFile, SourceName, SplitName, ZoneName};
use weir_planner::{Digest, Generation, ItemFact, ItemRef, ItemState, Plan};
use weir_wire::Term;

fn source() -> SourceName {
    SourceName("main".to_owned())
}

fn head(commit: &str, vm: &str, cloud: &str) -> Head {
    let text = crate::repository::declaration("shop", vm, cloud);
    let file = SourceFile {
        source: source(),
        path: "a.yaml".to_owned(),
        bytes: text.into_bytes().into(),
    };
    Head {
        commit: CommitId(commit.repeat(20)),
        author: "Ada <ada@example.com>".to_owned(),
        committer: "Ada <ada@example.com>".to_owned(),
        signature: Signature::Absent,
        authored_at: Timestamp::UNIX_EPOCH,
        subject: format!("vm {vm}"),
        content: Content::Files(vec![file].into()),
        tree: None,
    }
}

fn decision(head: &Head, parent: Option<&Plan>) -> decide::Decision {
    let heads: Heads = BTreeMap::from([(source(), head.clone().into())]);
    decide::decide(Question {
        transit: None,
        federation: &FederationName::new("shop").unwrap(),
        in_force: &Heads::new(),
        heads: &heads,
        reverts: &BTreeSet::new(),
        parent,
        highest: Generation(0),
        now: "2026-11-24T05:00:00.123456789Z".parse().unwrap(),
    })
    .unwrap()
}

async fn decide_and_record(ledger: &Ledger, head: &Head, parent: Option<&Plan>) -> Result<Plan, LedgerError> {
    let accepted = decision(head, parent).accepted.unwrap();
    let commits = decide::commits(&accepted.in_force);
    let plan = accepted.plan.unwrap();
    let row = CommitRow {
        source: source(),
        head: head.clone(),
        verdict: Verdict::Taken,
        diagnostics: Vec::new(),
    };
    let taken = Taken {
        commits: &[row],
        in_force: Some((&commits, &accepted.declaration)),
        plan: Some(&plan),
        first_of: &[],
        answers: &[],
        events: &[NewEvent::new("plan.made", "made").generation(plan.generation)],
    };
    ledger.decide(plan.created, taken).await.map(|()| plan)
}

#[tokio::test]
async fn what_was_written_is_there_after_it_was_opened_again() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("ledger.sqlite");
    let ledger = Ledger::open(&file).await.unwrap();
    assert_eq!(ledger.newest_plan().await.unwrap(), None);
    let first = decide_and_record(&ledger, &head("01", "100", "0"), None)
        .await
        .unwrap();
    let second = decide_and_record(&ledger, &head("02", "90", "10"), Some(&first))
        .await
        .unwrap();
    let refused = decision(&head("03", "90", "20"), Some(&second))
        .refused
        .remove(&source())
        .unwrap();
    let row = CommitRow {
        source: source(),
        head: head("03", "90", "20"),
        verdict: Verdict::Refused,
        diagnostics: refused.clone(),
    };
    let taken = Taken {
        commits: &[row],
        in_force: None,
        plan: None,
        first_of: &[],
        answers: &[],
        events: &[],
    };
    ledger.decide(second.created, taken).await.unwrap();
    let zone = ZoneName::new("fra").unwrap();
    let agent = AgentRow {
        zone: zone.clone(),
        name: "fra-1".to_owned(),
        version: "0.1.0".to_owned(),
        generation: Generation(2),
        highest: Generation(2),
        kuma: None,
        heard_at: Some(second.created),
        certificate_expires: None,
    };
    let fact = |state| {
        ItemFact::new(
            ItemRef {
                split: SplitName::new("checkout").unwrap(),
                generation: Generation(2),
                digest: Digest([1; 32]),
            },
            state,
        )
    };
    for state in [ItemState::Pending, ItemState::Held("why".to_owned())] {
        let item = ItemRow {
            zone: zone.clone(),
            agent: "fra-1".to_owned(),
            fact: fact(state),
        };
        let proven = [(zone.clone(), Generation(2), second.created)];
        let event = NewEvent::new("zone.proven", "proven").zone(&zone);
        ledger
            .observe(
                second.created,
                std::slice::from_ref(&agent),
                &[item],
                &proven,
                &[event],
            )
            .await
            .unwrap();
    }
    ledger.close().await;

    let ledger = Ledger::open(&file).await.unwrap();
    assert_eq!(ledger.newest_plan().await.unwrap().as_ref(), Some(&second));
    assert_eq!(ledger.parent_of(&second).await.unwrap().as_ref(), Some(&first));
    assert_eq!(
        ledger
            .plan(Generation(1))
            .await
            .unwrap()
            .map(|row| row.plan)
            .as_ref(),
        Some(&first)
    );
    assert_eq!(ledger.plan(Generation(3)).await.unwrap(), None);
    assert_eq!(
        ledger.in_force().await.unwrap(),
        BTreeMap::from([(source(), CommitId("02".repeat(20)))])
    );
    assert_eq!(
        ledger.platforms().await.unwrap(),
        ["ams", "fra"]
            .map(|z| (ZoneName::new(z).unwrap(), "vm".to_owned()))
            .into()
    );
    assert_eq!(
        ledger.newest_decision(&source()).await.unwrap(),
        Some((CommitId("03".repeat(20)), Verdict::Refused, refused.clone()))
    );
    let commits = ledger.commits(10).await.unwrap();
    let told: Vec<(&str, &str, Option<u64>, usize)> = commits
        .iter()
        .map(|c| {
            (
                c.subject.as_str(),
                c.verdict.as_str(),
                c.generation,
                c.proven.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("vm 90", "refused", None, 0),
            ("vm 90", "taken", Some(2), 1),
            ("vm 100", "taken", Some(1), 0)
        ]
    );
    assert_eq!(commits[0].diagnostics, refused);
    assert_eq!(ledger.agents().await.unwrap().len(), 1);
    let facts: Vec<ItemFact> = ledger.last_facts().await.unwrap().into_values().collect();
    assert_eq!(facts, [fact(ItemState::Held("why".to_owned()))]);
    let ids = |events: Vec<weir_wire::api::Event>| -> Vec<u64> { events.into_iter().map(|e| e.id).collect() };
    assert_eq!(ids(ledger.events(0, 100).await.unwrap()), [1, 2, 3, 4]);
    assert_eq!(ids(ledger.events(2, 1).await.unwrap()), [3]);
    assert_eq!(*ledger.newest_event().borrow(), 4);
}

/// An order that was taken back before what obeys it was recorded: nothing of that is. One that is answered with the plan that
/// obeys it cannot be taken back any more, so that it is never said that nothing came of what did.
#[tokio::test]
async fn an_order_is_answered_with_what_obeys_it_or_nothing_of_both_is_there() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).await.unwrap();
    let head = head("01", "100", "0");
    let accepted = decision(&head, None).accepted.unwrap();
    let plan = accepted.plan.unwrap();
    let drain = Order {
        id: "one".to_owned(),
        kind: OrderKind::Drain {
            backend: BackendName::new("vm").unwrap(),
            to: None,
        },
        split: SplitName::new("checkout").ok(),
        reason: "new kernel".to_owned(),
        who: "ada".to_owned(),
    };
    let done = Answer {
        done: true,
        message: "drained".to_owned(),
    };
    let answers = [(drain.clone(), done.clone())];
    let taken = || Taken {
        commits: &[],
        in_force: None,
        plan: Some(&plan),
        first_of: &[],
        answers: &answers,
        events: &[],
    };
    ledger.order(plan.created, &drain).await.unwrap();
    assert!(ledger.withdraw_order(&drain.id).await.unwrap());
    let failed = ledger.decide(plan.created, taken()).await;
    assert!(matches!(failed, Err(LedgerError::TakenBack)), "{failed:?}");
    assert_eq!(ledger.newest_plan().await.unwrap(), None);
    assert_eq!(ledger.standing_orders().await.unwrap(), []);
    ledger.answer_order(plan.created, &drain, &done).await.unwrap();
    assert_eq!(ledger.answered(&drain.id).await.unwrap(), None);

    ledger.order(plan.created, &drain).await.unwrap();
    ledger.decide(plan.created, taken()).await.unwrap();
    assert_eq!(ledger.newest_plan().await.unwrap().as_ref(), Some(&plan));
    assert_eq!(
        ledger.standing_orders().await.unwrap(),
        std::slice::from_ref(&drain)
    );
    assert_eq!(ledger.answered(&drain.id).await.unwrap(), Some(done));
    assert!(!ledger.withdraw_order(&drain.id).await.unwrap());
}

#[tokio::test]
async fn a_decision_that_fails_halfway_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).await.unwrap();
    let first = decide_and_record(&ledger, &head("01", "100", "0"), None)
        .await
        .unwrap();
    sqlx::query("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END")
        .execute(ledger.pool())
        .await
        .unwrap();
    let failed = decide_and_record(&ledger, &head("02", "90", "10"), Some(&first)).await;
    assert!(matches!(failed, Err(LedgerError::Sql(_))));
    assert_eq!(ledger.newest_plan().await.unwrap().as_ref(), Some(&first));
    assert_eq!(ledger.commits(10).await.unwrap().len(), 1);
    assert_eq!(
        ledger.in_force().await.unwrap(),
        BTreeMap::from([(source(), CommitId("01".repeat(20)))])
    );
}

/// What is old goes, except what anything stands on; and what was given back is not given out again.
#[tokio::test]
async fn old_history_goes_and_what_is_needed_stays() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).await.unwrap();
    let mut plans: Vec<Plan> = Vec::new();
    for commit in 1..=9_u32 {
        let head = head(
            &format!("{commit:02}"),
            &(100 - commit).to_string(),
            &commit.to_string(),
        );
        let plan = decide_and_record(&ledger, &head, plans.last()).await.unwrap();
        plans.push(plan);
    }
    let made = plans[0].created;
    // An agent that was cut off still runs plan 5, and once had 7. It said something, twice.
    let agent = AgentRow {
        zone: ZoneName::new("fra").unwrap(),
        name: "fra-1".to_owned(),
        version: "1.2.3".to_owned(),
        generation: Generation(5),
        highest: Generation(7),
        kuma: None,
        heard_at: Some(made),
        certificate_expires: None,
    };
    let said = |state: ItemState| ItemRow {
        zone: agent.zone.clone(),
        agent: agent.name.clone(),
        fact: ItemFact::new(
            ItemRef {
                split: SplitName::new("checkout").unwrap(),
                generation: Generation(5),
                digest: Digest([0; 32]),
            },
            state,
        ),
    };
    for state in [ItemState::Pending, ItemState::Applied] {
        ledger
            .observe(made, std::slice::from_ref(&agent), &[said(state)], &[], &[])
            .await
            .unwrap();
    }
    let generations =
        async |ledger: &Ledger| -> Vec<u64> { ledger.created().await.unwrap().keys().map(|g| g.0).collect() };
    let needed = std::collections::BTreeSet::from([Generation(2)]);
    // Nothing is older than itself.
    assert_eq!(ledger.forget_history(made, &needed).await.unwrap(), 0);
    assert_eq!(generations(&ledger).await.len(), 9);
    let later = made + jiff::SignedDuration::from_secs(1);
    assert!(ledger.forget_history(later, &needed).await.unwrap() > 0);
    // 2 is named; 5 and 7 an agent has, 9 is the newest; 4, 6 and 8 are what those were made from.
    assert_eq!(generations(&ledger).await, [2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        ledger.forget_history(later, &needed).await.unwrap(),
        0,
        "once is enough"
    );
    assert_eq!(ledger.newest_plan().await.unwrap(), plans.last().cloned());
    assert_eq!(
        ledger.parent_of(&plans[8]).await.unwrap().as_ref(),
        Some(&plans[7])
    );
    let commits = ledger.commits(100).await.unwrap();
    assert_eq!(
        (commits.len(), commits[0].commit.as_str()),
        (1, "09".repeat(20).as_str())
    );
    assert!(ledger.newest_decision(&source()).await.unwrap().is_some());
    let facts = ledger.last_facts().await.unwrap();
    assert_eq!(facts.len(), 1);
    assert!(facts.values().all(|fact| fact.state == ItemState::Applied));
    let events = ledger.events(0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [9]);
    ledger
        .record(later, &[NewEvent::new("plan.made", "made")])
        .await
        .unwrap();
    assert_eq!(ledger.events(9, 100).await.unwrap()[0].id, 10);
}

/// Whoever gave an order and took it back was told that nothing was done: no answer that comes later makes it stand, ends anything
/// or stands in the history.
#[tokio::test]
async fn nothing_comes_of_an_order_that_was_taken_back() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger")).await.unwrap();
    let done = Answer {
        done: true,
        message: "done".to_owned(),
    };
    let now = Timestamp::UNIX_EPOCH;
    let vm = || BackendName::new("vm").unwrap();
    let order = |id: &str, kind: OrderKind| Order {
        id: id.to_owned(),
        kind,
        split: Some(SplitName::new("checkout").unwrap()),
        reason: "the test says so".to_owned(),
        who: "ada".to_owned(),
    };
    let drain = |id: &str| {
        let (backend, to) = (vm(), None);
        order(id, OrderKind::Drain { backend, to })
    };
    ledger.order(now, &drain("1")).await.unwrap();
    ledger.answer_order(now, &drain("1"), &done).await.unwrap();
    let told = ledger.events(0, 100).await.unwrap().len();
    for order in [drain("2"), order("3", OrderKind::Undrain { backend: vm() })] {
        ledger.order(now, &order).await.unwrap();
        assert!(ledger.withdraw_order(&order.id).await.unwrap());
        ledger.answer_order(now, &order, &done).await.unwrap();
        assert_eq!(ledger.answered(&order.id).await.unwrap(), None);
        assert_eq!(ledger.standing_orders().await.unwrap(), [drain("1")]);
        assert_eq!(ledger.events(0, 100).await.unwrap().len(), told);
    }
}

#[tokio::test]
async fn a_term_that_is_kept_never_falls() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("ledger.sqlite");
    let ledger = Ledger::open(&file).await.unwrap();
    assert_eq!(ledger.term().await.unwrap(), Term::NONE);
    for (keeps, kept) in [(3, 3), (2, 3), (7, 7)] {
        ledger.keep_term(Term(keeps)).await.unwrap();
        assert_eq!(ledger.term().await.unwrap(), Term(kept));
    }
    ledger.close().await;
    let ledger = Ledger::open(&file).await.unwrap();
    assert_eq!(ledger.term().await.unwrap(), Term(7));
}
