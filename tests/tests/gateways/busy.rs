//! A Kong that cannot take what it is given now: it is left alone as long as it asks, tried less and less often where it does not
//! say, and given at once what is newer, which may be a revert.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_agent::gateways::{Gateways, Keep, Link, Memory, Told};
use weir_drivers::dns::Names;
use weir_drivers::kong::{Admin, Answer, Carry, Failure, Listener, Question};
use weir_drivers::{Fault, Kong as Driver};
use weir_planner::Plan;
use weir_sandbox::kong::{LoadFailure, Options, Still};

use crate::stage::*;

/// What a node does with a question, before Kong hears of it.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// It answers a document with this status, and how long to wait.
    Says(u16, &'static str),
    /// Nobody listens there.
    Away,
}

/// A Kong by whatever stands before it.
#[derive(Debug)]
struct Before {
    kong: Still,
    /// What becomes of the next documents; the last one of all the rest, if it is to be away.
    next: Mutex<VecDeque<Does>>,
    away: Mutex<bool>,
    posts: Mutex<Vec<Instant>>,
    looks: Mutex<Vec<Instant>>,
    /// Rung by each question.
    asked: Notify,
}

impl Before {
    fn new(next: &[Does]) -> Arc<Self> {
        Arc::new(Self {
            kong: Still::without_database(Options::default()).unwrap(),
            next: Mutex::new(next.iter().copied().collect()),
            away: Mutex::new(false),
            posts: Mutex::default(),
            looks: Mutex::default(),
            asked: Notify::new(),
        })
    }

    fn posts(&self) -> Vec<Instant> {
        self.posts.lock().unwrap().clone()
    }

    fn says(&self, question: &Question) -> Result<Answer, Failure> {
        self.asked.notify_one();
        let away = || Failure::new(Fault::Away, "connection refused", "is it running?");
        if question.path.is_empty() {
            self.looks.lock().unwrap().push(Instant::now());
        }
        if *self.away.lock().unwrap() {
            return Err(away());
        }
        if question.method == Method::POST {
            self.posts.lock().unwrap().push(Instant::now());
            match self.next.lock().unwrap().pop_front() {
                Some(Does::Away) => return Err(away()),
                Some(Does::Says(status, wait)) => {
                    return Ok(Answer {
                        status: StatusCode::from_u16(status).unwrap(),
                        kind: "application/json".to_owned(),
                        hint: Some(wait.to_owned()),
                        body: br#"{"message":"Currently loading previous configuration"}"#.to_vec(),
                    });
                }
                None => {}
            }
        }
        let body = question
            .body
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let status = question.listener == Listener::Status;
        let said = self.kong.ask(status, &question.method, &question.path, body);
        Ok(Answer {
            status: StatusCode::from_u16(said.status).unwrap(),
            kind: said.kind.to_owned(),
            hint: None,
            body: said.body,
        })
    }
}

#[derive(Debug)]
struct By(Arc<Before>);

impl Carry for By {
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        futures::future::ready(self.0.says(&question)).boxed()
    }
}

/// It remembers nothing.
struct NoDisk;

impl Keep for NoDisk {
    fn keep(&self, _memory: &Memory) -> std::io::Result<()> {
        Ok(())
    }
}

/// An agent's gateways on a clock that nobody waits for.
pub(crate) struct Running {
    pub(crate) link: Link,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(kong: &Arc<Before>) -> Self {
        Self::start_at(&[kong])
    }

    /// One gateway of these nodes.
    fn start_at(kongs: &[&Arc<Before>]) -> Self {
        let node = |(at, kong): (usize, &&Arc<Before>)| {
            Admin::carried(&format!("http://kong-{at}"), true, Box::new(By(Arc::clone(kong))))
        };
        Self::of(kongs.iter().enumerate().map(node).collect())
    }

    pub(crate) fn of(nodes: Vec<Admin>) -> Self {
        let driver = Driver::carried(nodes, Instant::now).unwrap();
        let names: Arc<dyn Names> = Arc::new(Known::default());
        let (task, link) = Gateways::new([(edge(), Arc::new(driver))].into(), names, NoDisk);
        let stop = CancellationToken::new();
        let task = tokio::spawn(task.run(Memory::default(), stop.clone()));
        Self { link, stop, task }
    }

    pub(crate) fn want(&self, plan: &Plan) {
        let part = part(plan);
        let wanted = wanted(&part, part.items.clone(), BTreeSet::new());
        assert!(self.link.want(Arc::new(wanted)));
    }

    /// Waits until it is told so, for so long at most; on a paused clock that takes no time.
    pub(crate) async fn until(&self, within: Duration, is: impl Fn(&Told) -> bool) {
        let mut told = self.link.told.clone();
        let so = tokio::time::timeout(within, told.wait_for(|told| is(told))).await;
        assert!(so.is_ok(), "{:?}", self.link.told.borrow());
    }

    /// A split's door is told as exactly what a plan has.
    pub(crate) async fn exact(&self, plan: &Plan, split: &str, within: Duration) {
        self.until(within, |told| door(told, plan, split).is_some_and(exact))
            .await;
    }

    pub(crate) async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn of(vm: u32, before: Option<&Plan>) -> Plan {
    plan(BASE, &[split("basket", vm, BASKET)], before)
}

const SECOND: Duration = Duration::from_secs(1);

/// Waits until a node is asked something so much later or after that: what must not have happened by then has not.
pub(crate) async fn asked_after(time: Duration, asked: &Notify) {
    let (end, patience) = (Instant::now() + time, 2 * time);
    let later = async {
        while Instant::now() < end {
            asked.notified().await;
        }
    };
    let so = tokio::time::timeout(patience, later).await;
    assert!(so.is_ok(), "nobody asks it anything any more");
}

#[tokio::test(start_paused = true)]
async fn one_that_asks_for_time_is_left_alone_for_so_long() {
    for (status, wait) in [(429, "2"), (503, "2"), (504, "2")] {
        let kong = Before::new(&[Does::Says(status, wait)]);
        let agent = Running::start(&kong);
        let plan = of(80, None);
        agent.want(&plan);
        agent.exact(&plan, "basket", 30 * SECOND).await;
        let posts = kong.posts();
        assert_eq!(posts.len(), 2, "{status}: {posts:?}");
        let left = posts[1] - posts[0];
        assert!(2 * SECOND <= left && left < 3 * SECOND, "{status}: {left:?}");
        let looks = kong.looks.lock().unwrap().clone();
        let meanwhile = looks.iter().filter(|at| posts[0] < **at && **at < posts[1]);
        assert_eq!(meanwhile.count(), 0, "{status}: {looks:?}");
        agent.stopped().await;
    }
}

/// A node that asks for time gets it, and the other one of its gateway is looked at as always: it may have been started again.
#[tokio::test(start_paused = true)]
async fn one_of_two_that_asks_for_time_is_left_alone_by_itself() {
    let (busy, well) = (Before::new(&[Does::Says(429, "86400")]), Before::new(&[]));
    let agent = Running::start_at(&[&busy, &well]);
    let plan = of(80, None);
    agent.want(&plan);
    asked_after(15 * SECOND, &well.asked).await;
    let looks = well.looks.lock().unwrap().clone();
    assert!(
        looks.windows(2).all(|two| two[1] - two[0] <= 2 * SECOND),
        "{looks:?}"
    );
    assert!(Instant::now() - *looks.last().unwrap() <= 2 * SECOND, "{looks:?}");
    assert_eq!((well.posts().len(), busy.posts().len()), (1, 1));
    assert_eq!(busy.looks.lock().unwrap().len(), 1);
    let told = agent.link.told.borrow().clone();
    assert!(
        told.notes.iter().any(|note| note.contains("it asks for 86400 s")),
        "{told:?}"
    );
    let proof = told.doors[&name("basket")][&edge()].fact.proof.clone().unwrap();
    assert_eq!((proof.coverage.seen, proof.coverage.of), (1, 2), "{proof:?}");
    assert!(!exact_proof(&proof), "{proof:?}");
    // A day is too long, and so is the time after which what was read is not known any more.
    agent.exact(&plan, "basket", 15 * SECOND).await;
    assert_eq!(busy.posts().len(), 2);
    agent.stopped().await;
}

/// I8: somebody reverts while it is to be left alone for a minute.
#[tokio::test(start_paused = true)]
async fn a_revert_is_posted_at_once_all_the_same() {
    let kong = Before::new(&[Does::Says(429, "60")]);
    let agent = Running::start(&kong);
    let first = of(80, None);
    agent.want(&first);
    agent
        .until(SECOND, |told| {
            told.notes.iter().any(|note| note.contains("it asks for 60 s"))
        })
        .await;
    assert_eq!(kong.posts().len(), 1);
    let (reverted, back) = (Instant::now(), of(20, Some(&first)));
    agent.want(&back);
    agent.exact(&back, "basket", SECOND).await;
    let posts = kong.posts();
    assert_eq!(posts.len(), 2, "{posts:?}");
    assert!(posts[1] - reverted < Duration::from_millis(100), "{posts:?}");
    agent.stopped().await;
}

/// Nobody says how long: it is tried less and less often, and not more seldom than one that is well is looked at.
#[tokio::test(start_paused = true)]
async fn one_that_is_away_is_tried_less_and_less_often() {
    let kong = Before::new(&[]);
    *kong.away.lock().unwrap() = true;
    let agent = Running::start(&kong);
    let first = of(80, None);
    agent.want(&first);
    asked_after(60 * SECOND, &kong.asked).await;
    let looks: BTreeSet<Instant> = kong.looks.lock().unwrap().iter().copied().collect();
    // Without it: every 150 ms for ten seconds, then every second.
    assert!((12..=40).contains(&looks.len()), "{}", looks.len());
    let looks: Vec<Instant> = looks.into_iter().collect();
    let longest = looks.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    assert!(2 * SECOND < longest && longest <= 5 * SECOND, "{longest:?}");
    *kong.away.lock().unwrap() = false;
    let back = Instant::now();
    agent.exact(&first, "basket", 6 * SECOND).await;
    let posts = kong.posts();
    assert!(posts.len() == 1 && posts[0] - back <= 5 * SECOND, "{posts:?}");
    // One document that is lost on its way is no other story.
    kong.next.lock().unwrap().push_back(Does::Away);
    let next = of(20, Some(&first));
    agent.want(&next);
    agent.exact(&next, "basket", SECOND).await;
    assert_eq!(kong.posts().len(), 3);
    agent.stopped().await;
}

/// The same by the double of Kong: what it says is told, and what it would not take comes there in the end, or gives way.
#[tokio::test(flavor = "multi_thread")]
async fn what_kong_cannot_load_now_is_told_and_comes() {
    let (dir, kong, names) = scene().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = of(80, None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let mut before = first;
    for (failure, says) in [
        (
            LoadFailure::Exiting,
            "503 Service Unavailable: Kong currently exiting",
        ),
        (
            LoadFailure::Timeout,
            "504 Gateway Timeout: Timed out while loading",
        ),
        (LoadFailure::Busy, "it asks for 60 s"),
    ] {
        // Often enough that somebody sees it.
        let times = if failure == LoadFailure::Busy { 1 } else { 3 };
        for _ in 0..times {
            kong.refuse_next_load(failure);
        }
        let next = of(30, Some(&before));
        let part = agent.want(&next);
        agent
            .until(says, |told| told.notes.iter().any(|note| note.contains(says)))
            .await;
        if failure == LoadFailure::Busy {
            // It would be left alone for a minute, which is longer than anything is waited for here.
            assert_eq!(crate::asking::weights(&kong, "basket").await, [4, 1], "as it was");
        } else {
            agent.exact(&part).await;
        }
        let back = of(80, Some(&next));
        let part = agent.want(&back);
        agent.exact(&part).await;
        before = back;
    }
    agent.stopped().await;
}
