//! What something newer overtakes: what was not written to a database was not given, and a way back is not behind a name server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_agent::gateways::{Refusals, decide};
use weir_drivers::kong::{Admin, Answer, Bringing, Carry, Failure, Kong as Driver, Listener, Pins, Question};
use weir_planner::{Generation, Plan};
use weir_render::kong::Resolved;
use weir_render::kong::database::Entities;
use weir_sandbox::kong::{Database, Still};

use super::*;

/// A node without a network. While `cuts` is set, the first question for routes is one that something newer overtakes.
struct Node {
    still: Arc<Still>,
    cuts: Arc<AtomicBool>,
    token: CancellationToken,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

impl Carry for Node {
    fn carry<'a>(&'a self, asked: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        if self.cuts.load(Ordering::Relaxed) && asked.path.starts_with("routes?") {
            self.token.cancel();
        }
        let body = asked
            .body
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let status = asked.listener == Listener::Status;
        let said = self.still.ask(status, &asked.method, &asked.path, body);
        let answer = Answer {
            status: said.status.try_into().unwrap(),
            kind: said.kind.to_owned(),
            hint: None,
            body: said.body,
        };
        futures::future::ready(Ok(answer)).boxed()
    }
}

fn entities(plan: &Plan) -> (Generation, Entities) {
    let part = part(plan);
    let wanted = wanted(&part, part.items.clone(), BTreeSet::new());
    let decided = decide(
        &wanted,
        &edge(),
        None,
        &Resolved::new(),
        &Refusals::new(AGAIN),
        None,
    );
    (wanted.plan.generation, decided.entities.unwrap())
}

#[tokio::test]
async fn what_was_not_written_is_not_taken_for_given() {
    let clock = Arc::new(AtomicI64::new(0));
    let options = Options {
        workers: 1,
        now: Some(clock),
        ..Options::default()
    };
    let still = Arc::new(Still::on(&Database::new(), options).unwrap());
    let (cuts, token) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let node = Node {
        still: Arc::clone(&still),
        cuts: Arc::clone(&cuts),
        token: token.clone(),
    };
    let admin = Admin::carried("http://kong-0", false, Box::new(node));
    let driver = Driver::carried(vec![admin], Instant::now).unwrap();
    let (nobody, nothing, no_error) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let (no_hash, no_pins) = (BTreeSet::new(), Pins::default());
    let by = |plan| Bringing {
        plan,
        posted: &no_hash,
        absent: &nobody,
        refused: &no_hash,
        skip: &nothing,
        left: &no_error,
        back: &nobody,
        pins: &no_pins,
        overtaken: &token,
    };
    let weights = || -> Vec<u64> {
        let mut all: Vec<(String, u64)> = still
            .all("targets")
            .iter()
            .map(|one| (one["target"].to_string(), one["weight"].as_u64().unwrap()))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, weight)| weight).collect()
    };
    let splits = |vm| [own_door("checkout", vm, BY_ADDRESS)];
    let first = with_database(&splits(90), None);
    let (generation, wanted) = entities(&first);
    for _ in 0..4 {
        let became = driver.db.bring(&wanted, by(generation)).await;
        assert_eq!(became.splits, BTreeMap::new());
        still.looks();
        still.rebuilds();
    }
    let given = [54_000, 2_000, 2_000, 2_000];
    assert_eq!(weights(), given);

    cuts.store(true, Ordering::Relaxed);
    let second = with_database(&splits(50), Some(&first));
    let (generation, wanted) = entities(&second);
    let became = driver.db.bring(&wanted, by(generation)).await;
    assert!(token.is_cancelled(), "between its look and its first write");
    assert_eq!(weights(), given, "nothing was written");
    let why = "something newer is wanted by now".to_owned();
    assert_eq!(became.splits, [(name("checkout"), why)].into());
}

/// Who reverts at 3 a.m. may do so because name servers are away: the addresses of a moment ago are good enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_is_not_behind_a_name_server_that_says_nothing() {
    let (dir, kong, names) = scene().await;
    names.0.lock().unwrap().insert("10.0.1.1".parse().unwrap());
    let mut agent = Agent::start(&kong, &names, dir.path());
    let of = |vm| [split("checkout", vm, BY_NAME)];
    let first = plan(BASE, &of(90), None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    names.1.store(true, Ordering::Relaxed);
    // A step on waits for an answer; what goes back meanwhile does not, and no more does the one after it.
    let mut before = plan(BASE, &of(50), Some(&first));
    agent.want(&before);
    for (vm, parts) in [(30, [3, 7]), (20, [1, 4])] {
        let back = plan(BASE, &of(vm), Some(&before));
        let part = agent.want_back(&back);
        agent.exact(&part).await;
        assert_eq!(weights(&kong, "checkout").await, parts);
        before = back;
    }
    agent.stopped().await;
}
