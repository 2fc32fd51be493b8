//! A Kong that has what is wanted and runs something else: a worker that failed to take a document up, a node that never heard of a
//! write, an upstream that somebody changed and of which nobody can be asked. And what counting waits for once it was refused.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_agent::counting::{Counter, Counters};
use weir_agent::gateways::{Gateways, Keep, Link, Memory, Told};
use weir_drivers::Kong as Driver;
use weir_drivers::dns::Names;
use weir_drivers::kong::{Admin, Answer, Carry, Failure, Listener, Question};
use weir_planner::Plan;
use weir_sandbox::kong::{Database, Options, Still};

use crate::stage::*;

/// A node, and all that was written to it.
#[derive(Debug)]
struct Watched {
    kong: Still,
    /// No worker takes up any document, or none with a plugin is accepted.
    fails: AtomicBool,
    lacks: AtomicBool,
    /// The next time it looks at its database nothing of that comes to its worker.
    deaf: AtomicBool,
    writes: Mutex<Vec<(Instant, String, String)>>,
}

impl Watched {
    fn of(kong: Still) -> Arc<Self> {
        Arc::new(Self {
            kong,
            fails: AtomicBool::new(false),
            lacks: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            writes: Mutex::default(),
        })
    }

    fn without_database() -> Arc<Self> {
        Self::of(Still::without_database(Options::default()).unwrap())
    }

    fn two_on_a_database() -> [Arc<Self>; 2] {
        let database = Database::new();
        let on = || Self::of(Still::on(&database, Options::default()).unwrap());
        [on(), on()]
    }

    /// When, how and with what it was written to.
    fn writes(&self) -> Vec<(Instant, String, String)> {
        self.writes.lock().unwrap().clone()
    }

    /// What the first worker gives one address of an upstream of a split.
    fn gives(&self, address: &str) -> u64 {
        let mut given = self.kong.ways().into_iter().filter_map(|way| way.gives);
        given.find_map(|given| given.get(address).copied()).unwrap_or(0)
    }

    fn says(&self, question: &Question) -> Answer {
        let body = question
            .body
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let text = String::from_utf8_lossy(body.map_or(&[][..], |(_, bytes)| bytes)).into_owned();
        if question.method != Method::GET {
            let how = format!("{} {}", question.method, question.path);
            self.writes
                .lock()
                .unwrap()
                .push((Instant::now(), how, text.clone()));
        }
        if question.method == Method::POST && self.lacks.load(Ordering::Relaxed) && text.contains("http-log")
        {
            let said = serde_json::json!({
                "code": 14, "name": "invalid declarative configuration", "message": "declarative config is invalid: {}", "fields": {},
                "flattened_errors": [{"entity_type": "plugin", "entity_tags": ["weir", "weir.split.basket"], "errors": [
                    {"type": "field", "field": "name", "message": "plugin 'http-log' not enabled; add it to the 'plugins' configuration property"},
                ]}],
            });
            return Answer {
                status: StatusCode::BAD_REQUEST,
                kind: "application/json; charset=utf-8".to_owned(),
                hint: None,
                body: said.to_string().into_bytes(),
            };
        }
        if question.path.starts_with("config?") && self.fails.load(Ordering::Relaxed) {
            self.kong.fails_next_build();
        }
        let status = question.listener == Listener::Status;
        let said = self.kong.ask(status, &question.method, &question.path, body);
        Answer {
            status: StatusCode::from_u16(said.status).unwrap(),
            kind: said.kind.to_owned(),
            hint: None,
            body: said.body,
        }
    }
}

#[derive(Debug)]
struct By(Arc<Watched>);

impl Carry for By {
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        futures::future::ready(Ok(self.0.says(&question))).boxed()
    }
}

struct NoDisk;

impl Keep for NoDisk {
    fn keep(&self, _memory: &Memory) -> std::io::Result<()> {
        Ok(())
    }
}

/// An agent's gateways on a clock that nobody waits for; nodes of a database look at it as often as they say.
struct Running {
    link: Link,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    look: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(kongs: &[&Arc<Watched>], counters: Counters) -> Self {
        let node = |(at, kong): (usize, &&Arc<Watched>)| {
            Admin::carried(&format!("http://kong-{at}"), true, Box::new(By(Arc::clone(kong))))
        };
        let nodes = kongs.iter().enumerate().map(node).collect();
        let driver = Driver::carried(nodes, Instant::now).unwrap();
        let names: Arc<dyn Names> = Arc::new(Known::default());
        let (mut task, link) = Gateways::new([(edge(), Arc::new(driver))].into(), names, NoDisk);
        task.counters = counters;
        let stop = CancellationToken::new();
        let looking: Vec<Arc<Watched>> = kongs.iter().map(|kong| Arc::clone(kong)).collect();
        let look = tokio::spawn(async move {
            let mut often = tokio::time::interval(Duration::from_secs(5));
            loop {
                often.tick().await;
                for kong in &looking {
                    let deaf = kong.deaf.swap(false, Ordering::Relaxed);
                    let hears = || {
                        if deaf {
                            kong.kong.fails_next_build();
                        }
                    };
                    hears();
                    kong.kong.looks();
                    hears();
                    kong.kong.rebuilds();
                }
            }
        });
        Self {
            link,
            task: tokio::spawn(task.run(Memory::default(), stop.clone())),
            stop,
            look,
        }
    }

    fn want(&self, plan: &Plan) {
        let part = part(plan);
        let wanted = wanted(&part, part.items.clone(), BTreeSet::new());
        assert!(self.link.want(Arc::new(wanted)));
    }

    async fn until(&self, seconds: u64, is: impl Fn(&Told) -> bool) {
        let mut told = self.link.told.clone();
        let so = tokio::time::timeout(Duration::from_secs(seconds), told.wait_for(|told| is(told))).await;
        assert!(so.is_ok(), "{:?}", self.link.told.borrow());
    }

    async fn exact(&self, plan: &Plan, seconds: u64) {
        self.until(seconds, |told| door(told, plan, "basket").is_some_and(exact))
            .await;
    }

    /// Its proof says these words.
    async fn says(&self, plan: &Plan, words: &str, seconds: u64) {
        self.until(seconds, |told| {
            let door = door(told, plan, "basket");
            door.is_some_and(|door| format!("{:?}", door.proof).contains(words))
        })
        .await;
    }

    async fn stopped(self) {
        self.look.abort();
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn of(vm: u32, before: Option<&Plan>) -> Plan {
    plan(BASE, &[split("basket", vm, BASKET)], before)
}

const SAYS: &str = "it has what is wanted and gives something else";

/// Kong's hash is of what it was given. A worker that failed to take that up would stay as it is for ever.
#[tokio::test(start_paused = true)]
async fn a_worker_that_did_not_take_a_document_up_is_given_it_again() {
    let kong = Watched::without_database();
    let agent = Running::start(&[&kong], Counters::new());
    let first = of(80, None);
    agent.want(&first);
    agent.exact(&first, 30).await;
    kong.kong.fails_next_build();
    let second = of(20, Some(&first));
    agent.want(&second);
    agent.says(&second, SAYS, 20).await;
    assert_eq!(kong.gives("10.0.2.1:80"), 4, "the worker runs what was before");
    agent.exact(&second, 60).await;
    assert_eq!(kong.gives("10.0.2.1:80"), 1);
    let posts = kong.writes();
    let how: Vec<&str> = posts.iter().map(|(_, how, _)| how.as_str()).collect();
    let checked = "POST config?check_hash=1&flatten_errors=1";
    assert_eq!(how, [checked, checked, "POST config?flatten_errors=1"]);
    let apart = posts[2].0 - posts[1].0;
    assert!((30..40).contains(&apart.as_secs()), "{apart:?}");
    assert_eq!(posts[2].2, posts[1].2, "the very same");
    // What is newer is posted at once, and as ever.
    let third = of(50, Some(&second));
    agent.want(&third);
    agent.exact(&third, 10).await;
    assert_eq!(kong.writes().last().unwrap().1, checked);
    agent.stopped().await;
}

/// Where that does not help it is done ever more rarely, and never is it shown as converged.
#[tokio::test(start_paused = true)]
async fn one_that_never_takes_it_up_is_not_given_it_all_the_time() {
    let kong = Watched::without_database();
    let agent = Running::start(&[&kong], Counters::new());
    let first = of(80, None);
    agent.want(&first);
    agent.exact(&first, 30).await;
    kong.fails.store(true, Ordering::Relaxed);
    let second = of(20, Some(&first));
    agent.want(&second);
    agent.says(&second, SAYS, 20).await;
    let before = kong.writes().len();
    let start = kong.writes()[before - 1].0;
    agent
        .until(2 * 3_600, |told| {
            assert!(
                !door(told, &second, "basket").is_some_and(exact),
                "it runs something else"
            );
            kong.writes().len() >= before + 8
        })
        .await;
    let posts = kong.writes();
    let at: Vec<u64> = posts[before..]
        .iter()
        .map(|(at, ..)| (*at - start).as_secs())
        .collect();
    let goal = [30, 90, 210, 450, 930, 1_530, 2_130, 2_730];
    let mut pairs = at.iter().zip(goal);
    assert!(pairs.all(|(at, goal)| (goal..goal + 60).contains(at)), "{at:?}");
    agent.stopped().await;
}

/// A write of a target that changes nothing of it.
fn a_target_as_it_is(how: &str, what: &str) {
    assert!(
        how.starts_with("PATCH upstreams/") && how.contains("/targets/"),
        "{how}"
    );
    let what: serde_json::Value = serde_json::from_str(what).unwrap();
    let fields: Vec<&String> = what.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["tags"], "nothing of it is another");
}

/// In a database the row is right, and a node that never heard of it gives what was before: nothing is to be written, and it is
/// told again.
#[tokio::test(start_paused = true)]
async fn a_node_that_never_heard_of_a_weight_is_told_again() {
    let kongs = Watched::two_on_a_database();
    let agent = Running::start(&[&kongs[0], &kongs[1]], Counters::new());
    let first = with_database(&[own_door("basket", 90, BASKET)], None);
    agent.want(&first);
    agent.exact(&first, 120).await;
    kongs[1].kong.fails_next_build();
    let second = with_database(&[own_door("basket", 40, BASKET)], Some(&first));
    let before = kongs[0].writes().len();
    agent.want(&second);
    agent.says(&second, SAYS, 40).await;
    agent.exact(&second, 90).await;
    let writes = kongs[0].writes();
    let writes = &writes[before..];
    assert_eq!(writes.len(), 3, "{writes:?}");
    let (at, how, what) = &writes[2];
    a_target_as_it_is(how, what);
    let apart = *at - writes[1].0;
    assert!((30..50).contains(&apart.as_secs()), "{apart:?}");
    assert!(kongs[1].writes().is_empty());
    agent.stopped().await;
}

/// Nothing leads to an upstream that a node does not have, and one that never heard that it was made is told again as well.
#[tokio::test(start_paused = true)]
async fn a_node_that_never_heard_of_an_upstream_is_told_again() {
    let kongs = Watched::two_on_a_database();
    let agent = Running::start(&[&kongs[0], &kongs[1]], Counters::new());
    let first = with_database(&[own_door("basket", 90, BASKET)], None);
    agent.want(&first);
    // Told at the end of the turn that made them.
    agent.until(4, |_| kongs[0].writes().len() == 3).await;
    kongs[1].deaf.store(true, Ordering::Relaxed);
    agent.exact(&first, 120).await;
    let writes = kongs[0].writes();
    let again = writes.iter().position(|(_, how, _)| how.starts_with("PATCH"));
    let (made, again) = writes.split_at(again.expect("it is told again"));
    assert_eq!(made.len(), 3, "{writes:?}");
    let (at, how, what) = &again[0];
    a_target_as_it_is(how, what);
    let apart = *at - made[2].0;
    assert!((30..50).contains(&apart.as_secs()), "{apart:?}");
    let leads = again[1..].iter().all(|(_, how, _)| !how.starts_with("PATCH"));
    assert!(
        leads && again.len() == 3,
        "a service and a route, and nothing twice: {writes:?}"
    );
    agent.stopped().await;
}

/// Somebody changes how an upstream chooses, and it is put back: shares look the same meanwhile, and nodes take that up in their time.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_was_put_back_is_not_proven_before_nodes_took_it_up() {
    let kongs = Watched::two_on_a_database();
    let agent = Running::start(&[&kongs[0], &kongs[1]], Counters::new());
    let first = with_database(&[own_door("basket", 90, BASKET)], None);
    agent.want(&first);
    agent.exact(&first, 120).await;
    let before = kongs[0].writes().len();
    let hashed = br#"{"algorithm":"consistent-hashing","hash_on":"ip"}"#;
    let body = Some(("application/json", &hashed[..]));
    let path = "upstreams/weir.basket.default";
    let said = kongs[1].kong.ask(false, &Method::PATCH, path, body);
    assert_eq!(said.status, 200);
    agent
        .says(&first, "takes up routes and upstreams within 11 s", 20)
        .await;
    let put_back = kongs[0].writes()[before].0;
    agent.exact(&first, 60).await;
    let waited = put_back.elapsed();
    assert!(waited > Duration::from_secs(11), "{waited:?}");
    agent.stopped().await;
}

/// Counting was refused, weights changed since, and what was missing is there by now: it is counted in the time that is promised.
#[tokio::test(start_paused = true)]
async fn counting_is_tried_again_though_weights_changed() {
    let kong = Watched::without_database();
    kong.lacks.store(true, Ordering::Relaxed);
    let listen = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let counter = Arc::new(Counter::new(listen, format!("http://{listen}/")));
    let agent = Running::start(&[&kong], [(edge(), counter)].into());
    let first = of(80, None);
    agent.want(&first);
    agent.exact(&first, 30).await;
    let second = of(20, Some(&first));
    agent.want(&second);
    agent.exact(&second, 30).await;
    let plugins = || kong.kong.all("plugins").len();
    assert_eq!(plugins(), 0);
    // While it is lacking it is tried and refused, and the gateway runs on.
    let tried = || {
        let writes = kong.writes();
        writes
            .iter()
            .filter(|(_, _, what)| what.contains("http-log"))
            .count()
    };
    assert_eq!(tried(), 1);
    agent.until(120, |_| tried() == 2).await;
    assert_eq!(plugins(), 0);
    kong.lacks.store(false, Ordering::Relaxed);
    agent.until(240, |_| plugins() == 1).await;
    agent.exact(&second, 10).await;
    assert_eq!(kong.gives("10.0.2.1:80"), 1);
    agent.stopped().await;
}
