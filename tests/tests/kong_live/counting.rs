//! What left Kong, counted by its own log of it: an agent's gateways as they are, on a real Kong or the double. With `--nocapture`
//! it prints what counting costs a request: without it, with it, and with a listener that is gone.

#![allow(
    clippy::print_stdout,
    reason = "figures, for who asks for them with --nocapture"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_agent::counting::{Counter, Counters};
use weir_agent::gateways::{Gateways, Link, Told, Wanted};
use weir_agent::store::Store;
use weir_drivers::dns::{Answers, Names};
use weir_drivers::kong::pins::Sight;
use weir_drivers::kong::{Kong as Driver, KongConfig};
use weir_model::{BackendName, Door, GatewayName, SourceCommit};
use weir_planner::{Counts, DoorCounting, Generation, Item, PlanId, ZonePlan};
use weir_render::kong::Resolved;
use weir_tests::amount;

use super::asking::{Ask, Connection, Target, nobody};
use super::stage::{Stage, by_routes, by_service, federation, gateway, plain, routing};

const PATIENCE: Duration = Duration::from_secs(30);
const CALLERS: usize = 4;

/// Every backend is an address here.
struct Nobody;

impl Names for Nobody {
    fn resolve<'a>(&'a self, _: &'a BTreeSet<String>, _: &'a Resolved) -> BoxFuture<'a, Answers> {
        async { Answers::default() }.boxed()
    }
}

fn edge() -> GatewayName {
    GatewayName::new("edge").unwrap()
}

/// The plan of a zone with this gateway and these doors.
fn plan(base: Option<&serde_json::Value>, doors: &[(Item, Door)]) -> Arc<Wanted> {
    let items = doors.iter().map(|(item, door)| {
        let mut item = item.clone();
        item.doors.insert(edge(), door.clone());
        (item.split.clone(), Arc::new(item))
    });
    let items: BTreeMap<_, _> = items.collect();
    let plan = ZonePlan {
        federation: federation(),
        zone: "fra-vm".parse().unwrap(),
        kuma_zone: "fra".parse().unwrap(),
        mesh: "default".parse().unwrap(),
        plan: PlanId([7; 32]),
        generation: Generation(9),
        commits: Vec::<SourceCommit>::new(),
        gateways: [(edge(), Arc::new(gateway(base)))].into(),
        items: items.clone(),
    };
    Arc::new(Wanted {
        plan: Arc::new(plan),
        items,
        next: BTreeMap::new(),
        ahead: BTreeSet::new(),
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back: BTreeSet::new(),
    })
}

/// An agent's gateways.
struct Agent {
    link: Link,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Agent {
    fn start(stage: &Stage, listen: Option<SocketAddr>, wanted: &Arc<Wanted>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let driver = Driver::new(KongConfig {
            nodes: vec![super::stage::config(&stage.admin, None)],
            settle: Duration::from_secs(5),
        });
        let drivers = [(edge(), Arc::new(driver.unwrap()))].into();
        let store = Store::new(dir.path());
        let memory = store.gateways().unwrap();
        let (mut task, link) = Gateways::new(drivers, Arc::new(Nobody), store);
        let counter = |listen: SocketAddr| Counter::new(listen, format!("http://{listen}/"));
        task.counters = listen
            .map(|listen| (edge(), Arc::new(counter(listen))))
            .into_iter()
            .collect::<Counters>();
        let stop = CancellationToken::new();
        link.want.send_replace(Some(Arc::clone(wanted)));
        Self {
            task: tokio::spawn(task.run(memory, stop.clone())),
            link,
            stop,
            _dir: dir,
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Told) -> bool) -> Arc<Told> {
        let told = tokio::time::timeout(PATIENCE, self.link.told.wait_for(|told| holds(told))).await;
        let told = told.map(|told| Arc::clone(&told.unwrap()));
        told.unwrap_or_else(|_| panic!("{what}: never"))
    }

    async fn exact(&mut self) {
        let all = |told: &Told| {
            let mut doors = told.doors.values().flat_map(BTreeMap::values).peekable();
            doors.peek().is_some() && doors.all(|door| door.fact.is_exact())
        };
        self.until("exact", all).await;
    }

    /// What is counted of a split when so many requests are.
    async fn counted(&mut self, split: &str, requests: u64) -> (Counts, u64) {
        let of = |told: &Told| {
            let door = told.doors.get(&split.parse().unwrap())?.get(&edge())?;
            match door.fact.counting.clone()? {
                DoorCounting::Counted { counts, unplaced } => Some((counts, unplaced)),
                DoorCounting::Not(_) => None,
            }
        };
        let all = |told: &Told| {
            of(told).is_some_and(|(counts, unplaced)| {
                counts.requests.values().sum::<u64>() + unplaced >= requests
            })
        };
        let told = self.until("counted", all).await;
        of(&told).unwrap()
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Sends so many requests over kept connections: who answered them, and how long each took, the shortest first.
async fn sent(
    proxy: SocketAddr,
    path: &'static str,
    requests: usize,
) -> (BTreeMap<String, u64>, Vec<Duration>) {
    let caller = move || async move {
        let mut connection = Connection::open(proxy).await;
        let (mut who, mut took) = (BTreeMap::<String, u64>::new(), Vec::new());
        for _ in 0..requests / CALLERS {
            let begun = Instant::now();
            let answer = connection.ask(&Ask::new("GET", path)).await.expect("an answer");
            took.push(begun.elapsed());
            assert_eq!(answer.status, 200, "{answer:?}");
            *who.entry(answer.headers["x-target"].clone()).or_default() += 1;
        }
        (who, took)
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(caller())).collect();
    let (mut who, mut took) = (BTreeMap::<String, u64>::new(), Vec::new());
    for caller in callers {
        let (of_one, of_it) = caller.await.unwrap();
        for (target, n) in of_one {
            *who.entry(target).or_default() += n;
        }
        took.extend(of_it);
    }
    took.sort_unstable();
    (who, took)
}

fn by_name(of: &BTreeMap<BackendName, u64>) -> BTreeMap<String, u64> {
    of.iter().map(|(name, n)| (name.to_string(), *n)).collect()
}

fn figures(took: &[Duration]) -> String {
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_micros();
    format!("p50 {} µs, p99 {} µs, longest {} µs", at(0.5), at(0.99), at(1.0))
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_what_answered_and_cost_nobody_a_request() {
    let requests = usize::try_from(amount::requests(2_000))
        .unwrap()
        .div_ceil(CALLERS)
        * CALLERS;
    let stage = Stage::set().await;
    let (vm, eks) = (Target::start("vm").await, Target::start("eks").await);
    let both: [(&str, &[_]); 2] = [("vm", &[vm.address]), ("eks", &[eks.address])];
    let base = json!({"_format_version": "3.0", "services": [{"name": "cart", "host": "127.0.0.1", "port": 9,
        "routes": [{"name": "cart", "paths": ["/cart"]}]}]});
    let doors = [
        (
            plain("checkout", 1, &[("vm", 9_000), ("eks", 1_000)]),
            by_routes(routing("/checkout"), &both),
        ),
        (
            plain("cart", 1, &[("vm", 5_000), ("eks", 5_000)]),
            by_service("cart", &both),
        ),
    ];
    let wanted = plan(Some(&base), &doors);
    let mut agent = Agent::start(&stage, None, &wanted);
    agent.exact().await;
    let (_, without) = sent(stage.proxy, "/checkout", requests).await;
    agent.stopped().await;
    assert_eq!(stage.read("plugins").await["data"], json!([]));

    let listen = nobody().await;
    stage.load(r#"{"_format_version":"3.0"}"#).await;
    let mut agent = Agent::start(&stage, Some(listen), &wanted);
    agent.exact().await;
    let (who, with) = sent(stage.proxy, "/checkout", requests).await;
    let (counts, unplaced) = agent.counted("checkout", requests as u64).await;
    assert_eq!(by_name(&counts.requests), who, "what answered");
    assert_eq!((unplaced, counts.failed.values().sum::<u64>()), (0, 0));
    // A service that was taken over.
    let (who, _) = sent(stage.proxy, "/cart", 200).await;
    let (counts, unplaced) = agent.counted("cart", 200).await;
    assert_eq!(by_name(&counts.requests), who);
    assert_eq!(unplaced, 0);
    // An answer of 503 is a failure of whom the weights picked.
    eks.answer_with(503);
    let mut connection = Connection::open(stage.proxy).await;
    let mut failed = 0;
    for _ in 0..100 {
        let answer = connection
            .ask(&Ask::new("GET", "/cart"))
            .await
            .expect("an answer");
        failed += u64::from(answer.status == 503);
    }
    eks.answer_with(200);
    let (counts, _) = agent.counted("cart", 300).await;
    assert!(failed > 0);
    assert_eq!(
        (
            counts.failed[&"eks".parse().unwrap()],
            counts.failed[&"vm".parse().unwrap()]
        ),
        (failed, 0)
    );

    // What the agent has to do for 10,000 lines, whoever posts them included.
    let line = json!({"request": {"id": "", "headers": {"user-agent": "x".repeat(600)}}, "response": {"status": 200},
        "upstream_status": "200", "tries": [{"ip": "127.0.0.1", "port": vm.address.port()}],
        "service": {"host": "weir.cart.default", "tags": ["weir"]}, "started_at": Timestamp::now().as_millisecond()});
    let body = json!(vec![line; 100]).to_string();
    let mut connection = Connection::open(listen).await;
    let begun = Instant::now();
    for _ in 0..100 {
        let post = Ask::new("POST", "/").body("application/json", body.as_bytes());
        assert_eq!(connection.ask(&post).await.expect("an answer").status, 200);
    }
    let taken = begun.elapsed();

    // Nobody listens any more: every request is answered as before.
    agent.stopped().await;
    let (who, dead) = sent(stage.proxy, "/checkout", requests).await;
    assert_eq!(who.values().sum::<u64>(), requests as u64);
    println!(
        "{requests} requests each: not counted {}; counted {}; with a listener that is gone {}; 10,000 lines of {} bytes taken in \
         {taken:?}",
        figures(&without),
        figures(&with),
        figures(&dead),
        body.len() / 100
    );
}
