//! An agent's gateways, driven for real against the double of Kong: what is declared comes there and is proven, what is
//! somebody else's stays, and nothing that goes wrong takes requests along.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir_agent::gateways::{Gateways, Link, Told, Wanted};
use weir_agent::store::Store;
use weir_drivers::dns::{Answers, Names};
use weir_drivers::kong::{AdminConfig, GatewayDriver, KongDbless, KongDblessConfig};
use weir_model::{GatewayName, SourceCommit, SourceFile, SourceName, SplitName, ZoneName};
use weir_planner::{DoorFact, Generation, Inputs, Item, Plan, Planned, Verdict, ZonePlan};
use weir_render::kong::Resolved;
use weir_sandbox::kong::{Kong, Options};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

const BASE: &str = "_format_version: \"3.0\"\nservices:\n  - {name: checkout, host: 127.0.0.1, port: 9, routes: [{name: \
                    checkout, paths: [/checkout]}]}\n  - {name: basket, host: 127.0.0.1, port: 9, routes: [{name: basket, \
                    paths: [/basket]}]}\n";

/// A split of this name with a door that takes over the base's service of the name.
fn split(name: &str, vm: u32, addresses: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: {name}}}\nspec:\n  service: {name}\n  port: 8080\n  \
         protocol: http\n  backends: {{vm: {{zone: fra}}, cloud: {{zone: ams}}}}\n  routes: [{{name: default, weights: {{vm: \
         {vm}, cloud: {}}}}}]\n  gateways: [{{gateway: edge, service: {name}, backends: {{{addresses}}}}}]\n",
        100 - vm
    )
}

const BY_ADDRESS: &str = "vm: \"10.0.0.1:80\", cloud: [\"10.0.1.1:80\", \"10.0.1.2:80\", \"10.0.1.3:80\"]";
const BASKET: &str = "vm: \"10.0.2.1:80\", cloud: \"10.0.2.2:80\"";
const BY_NAME: &str = "vm: \"10.0.0.1:80\", cloud: \"cloud.example.com:80\"";

/// Zone `fra`'s part of the plan of this declaration.
fn plan(base: &str, splits: &[String], before: Option<&Plan>) -> Plan {
    let head = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec: {prune: allow}\n---\napiVersion: \
                weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: ams}\nspec: {platform: vm}\n---\napiVersion: \
                weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\nspec: {platform: vm, gateways: [{name: edge, channel: \
                admin-dbless, base: edge.yaml}]}\n";
    let file = |path: &str, text: &str| SourceFile {
        source: SourceName("main".to_owned()),
        path: path.to_owned(),
        bytes: text.as_bytes().into(),
    };
    let files = [
        file("all.yaml", &format!("{head}{}", splits.concat())),
        file("edge.yaml", base),
    ];
    let parsed = weir_model::parse(&files);
    assert_eq!(parsed.diagnostics, []);
    let commit = SourceCommit {
        source: SourceName("main".to_owned()),
        commit: weir_model::CommitId("ab".repeat(20)),
    };
    let inputs = Inputs {
        declaration: &parsed.declaration,
        commits: &[commit],
        highest: Generation(0),
        parent: before,
        now: Timestamp::now(),
    };
    match weir_planner::plan(inputs) {
        Planned::New(plan) => plan,
        other => panic!("{other:?}"),
    }
}

/// What is known of `cloud.example.com`, as a test says it.
#[derive(Default)]
struct Known(Mutex<BTreeSet<std::net::IpAddr>>);

impl Names for Known {
    fn resolve<'a>(&'a self, names: &'a BTreeSet<String>, before: &'a Resolved) -> BoxFuture<'a, Answers> {
        let known = self.0.lock().unwrap().clone();
        let of = |name: &String| match known.is_empty() {
            true => Some((name.clone(), before.get(name)?.clone())),
            false => Some((name.clone(), known.clone())),
        };
        let answers = Answers {
            addresses: names.iter().filter_map(of).collect(),
            troubles: Vec::new(),
        };
        async move { answers }.boxed()
    }
}

/// One agent's gateways, on a directory that outlives it.
struct Agent {
    link: Link,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    fn start(kong: &Kong, names: &Arc<Known>, dir: &std::path::Path) -> Self {
        // Installs the program's TLS provider, as an agent does first of all.
        drop(weir_sandbox::http_client());
        let node = AdminConfig {
            url: format!("http://{}", kong.admin()),
            status: Some(format!("http://{}", kong.status())),
            ca: None,
            header: None,
            timeout: Duration::from_secs(5),
        };
        let driver = KongDbless::new(KongDblessConfig {
            nodes: vec![node],
            settle: Duration::from_secs(2),
        });
        let driver: Arc<dyn GatewayDriver> = Arc::new(driver.unwrap());
        let store = Store::new(dir);
        let memory = store.gateways().unwrap();
        let (task, link) = Gateways::new(
            [(edge(), driver)].into(),
            Arc::clone(names) as Arc<dyn Names>,
            store,
        );
        let stop = CancellationToken::new();
        Self {
            link,
            task: tokio::spawn(task.run(memory, stop.clone())),
            stop,
        }
    }

    /// The zone's control plane has all of the plan.
    fn want(&self, plan: &Plan) -> Arc<ZonePlan> {
        let part = Arc::new(plan.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
        let items = part.items.clone();
        self.want_items(&part, items);
        part
    }

    fn want_items(&self, plan: &Arc<ZonePlan>, items: BTreeMap<SplitName, Arc<Item>>) {
        let wanted = Wanted {
            plan: Arc::clone(plan),
            items,
        };
        self.link.want.send_replace(Some(Arc::new(wanted)));
    }

    /// Waits for what it tells.
    async fn until(&mut self, what: &str, there: impl Fn(&Told) -> bool) -> Arc<Told> {
        let waited = self.link.told.wait_for(|told| there(told));
        let told = tokio::time::timeout(PATIENCE, waited)
            .await
            .map(|told| told.map(|told| Arc::clone(&told)));
        match told {
            Ok(told) => told.unwrap(),
            Err(_) => panic!(
                "{what}: not within {PATIENCE:?}; it tells {:#?}",
                self.link.told.borrow()
            ),
        }
    }

    async fn exact(&mut self, plan: &ZonePlan) -> Arc<Told> {
        let items: Vec<_> = plan
            .items
            .values()
            .map(|item| (item.split.clone(), item.digest))
            .collect();
        self.until("exact", |told| {
            let mut all = items.iter();
            all.all(|(split, digest)| {
                told.doors
                    .get(split)
                    .is_some_and(|of| of.digest == *digest && exact(&of.doors[&edge()]))
            })
        })
        .await
    }

    /// kill -9, as far as this task is concerned: nothing is finished.
    async fn killed(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn edge() -> GatewayName {
    GatewayName::new("edge").unwrap()
}

fn name(split: &str) -> SplitName {
    SplitName::new(split).unwrap()
}

fn exact(door: &DoorFact) -> bool {
    let proof = door.proof.as_ref();
    door.held.is_none() && proof.is_some_and(|proof| proof.verdict == Verdict::Exact)
}

async fn asked(kong: &Kong, path: &str) -> Value {
    let answer = weir_sandbox::http_client()
        .get(format!("http://{}{path}", kong.admin()))
        .send()
        .await
        .unwrap();
    answer.json().await.unwrap()
}

async fn hash(kong: &Kong) -> String {
    asked(kong, "/status").await["configuration_hash"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What Kong has of an upstream: weights by target.
async fn targets(kong: &Kong, upstream: &str) -> BTreeMap<String, u64> {
    let answer = asked(kong, &format!("/upstreams/{upstream}/targets")).await;
    let targets = answer["data"].as_array().cloned().unwrap_or_default().into_iter();
    targets
        .map(|target| {
            (
                target["target"].as_str().unwrap().to_owned(),
                target["weight"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// The host of a service of the base.
async fn host(kong: &Kong, service: &str) -> String {
    asked(kong, &format!("/services/{service}")).await["host"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn post(kong: &Kong, document: &Value) {
    let form = format!("{document}");
    let answer = weir_sandbox::http_client()
        .post(format!("http://{}/config", kong.admin()))
        .header("content-type", "application/yaml")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_comes_to_kong_and_outlives_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let mut kong = Kong::without_database(Options::default()).await.unwrap();
    let names = Arc::new(Known::default());
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 100, BASKET)],
        None,
    );
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    // 10 % on three addresses are 10 % all the same.
    let expected = [
        ("10.0.0.1:80", 27),
        ("10.0.1.1:80", 1),
        ("10.0.1.2:80", 1),
        ("10.0.1.3:80", 1),
    ];
    let expected: BTreeMap<String, u64> = expected.map(|(at, weight)| (at.to_owned(), weight)).into();
    assert_eq!(targets(&kong, "weir.checkout.default").await, expected);
    assert_eq!(host(&kong, "checkout").await, "weir.checkout.default");
    let runs = hash(&kong).await;

    // The agent goes; Kong runs on, and who comes after finds nothing to do.
    agent.killed().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, runs);

    // Kong loses all that it had (its volume is gone): it has it back.
    agent.stopped().await;
    post(&kong, &json!({"_format_version": "3.0"})).await;
    assert_eq!(hash(&kong).await, "0".repeat(32));
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, runs);
    kong.restart().await.unwrap();
    agent
        .until("a Kong that restarts", |told| {
            told.doors.values().all(|of| exact(&of.doors[&edge()]))
        })
        .await;
    assert_eq!(hash(&kong).await, runs);

    // A split goes: what the site had in its place is there again, and the other split is as it was.
    let second = plan(BASE, &[split("basket", 100, BASKET)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    agent
        .until("the split is gone", |told| {
            !told.doors.contains_key(&name("checkout"))
        })
        .await;
    assert_eq!(host(&kong, "checkout").await, "127.0.0.1");
    assert_eq!(host(&kong, "basket").await, "weir.basket.default");
    agent.stopped().await;
}

/// Another administrator posts his own document: an outage for ours, and not ours to end by taking his away.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_put_there_is_named_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let kong = Kong::without_database(Options::default()).await.unwrap();
    let names = Arc::new(Known::default());
    post(
        &kong,
        &json!({"_format_version": "3.0", "services": [{"name": "theirs", "host": "127.0.0.1", "port": 9}]}),
    )
    .await;
    let theirs = hash(&kong).await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(BASE, &[split("checkout", 90, BY_ADDRESS)], None);
    let part = agent.want(&first);
    let told = agent
        .until("held", |told| {
            told.doors
                .get(&name("checkout"))
                .is_some_and(|of| of.doors[&edge()].held.is_some())
        })
        .await;
    let door = &told.doors[&name("checkout")].doors[&edge()];
    let why = door.held.as_deref().unwrap();
    assert!(why.contains("theirs") && !exact(door), "{why}");
    assert_eq!(hash(&kong).await, theirs, "nothing was touched");
    // They put it into the base: now it is kept for them.
    let base = format!("{BASE}  - {{name: theirs, host: 127.0.0.1, port: 9}}\n");
    let second = plan(&base, &[split("checkout", 90, BY_ADDRESS)], Some(&first));
    assert!(Arc::ptr_eq(
        &first.splits[&name("checkout")],
        &second.splits[&name("checkout")]
    ));
    agent.want(&second);
    agent.exact(&part).await;
    assert_eq!(host(&kong, "theirs").await, "127.0.0.1");
    // And out of it again, by a commit: what this agent posted is its own to replace.
    let third = plan(BASE, &[split("checkout", 80, BY_ADDRESS)], Some(&second));
    let part = agent.want(&third);
    agent.exact(&part).await;
    let gone = weir_sandbox::http_client()
        .get(format!("http://{}/services/theirs", kong.admin()))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 404);
    agent.stopped().await;
}

/// A name that stops to resolve moves nothing; one that never did holds its own split alone.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_wobble_move_no_share_and_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let kong = Kong::without_database(Options::default()).await.unwrap();
    let names = Arc::new(Known::default());
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_NAME), split("basket", 70, BASKET)],
        None,
    );
    let part = agent.want(&first);
    let told = agent
        .until("held beside exact", |told| {
            let door = |split| told.doors.get(&name(split)).map(|of| &of.doors[&edge()]);
            door("checkout").is_some_and(|door| door.held.is_some()) && door("basket").is_some_and(exact)
        })
        .await;
    let why = told.doors[&name("checkout")].doors[&edge()].held.clone().unwrap();
    assert!(why.contains("cloud.example.com"), "{why}");
    assert_eq!(host(&kong, "checkout").await, "127.0.0.1", "the site's own");

    let say = |addresses: &[&str]| {
        *names.0.lock().unwrap() = addresses.iter().map(|text| text.parse().unwrap()).collect();
    };
    say(&["10.0.1.1", "10.0.1.2"]);
    agent.exact(&part).await;
    let two = targets(&kong, "weir.checkout.default").await;
    assert_eq!(two.values().copied().collect::<Vec<_>>(), [18, 1, 1]);
    let runs = hash(&kong).await;
    // The name server is away, and the agent is started again meanwhile: it knows what it knew.
    say(&[]);
    agent.killed().await;
    let mut agent = Agent::start(&kong, &names, dir.path());
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(hash(&kong).await, runs);
    // Another address more: the share stays.
    say(&["10.0.1.1", "10.0.1.2", "10.0.1.9"]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while targets(&kong, "weir.checkout.default").await.len() != 4 {
        assert!(tokio::time::Instant::now() < deadline, "the address never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let three = targets(&kong, "weir.checkout.default").await;
    assert_eq!(three.values().copied().collect::<Vec<_>>(), [27, 1, 1, 1]);
    agent.stopped().await;
}

/// What cannot be said to Kong of one split leaves that split as it was, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_cannot_be_stays_as_it_was_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let kong = Kong::without_database(Options::default()).await.unwrap();
    let names = Arc::new(Known::default());
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 70, BASKET)],
        None,
    );
    let part = agent.want(&first);
    agent.exact(&part).await;
    // The next plan has a name that nobody can look up, and another share for the other split.
    let second = plan(
        BASE,
        &[split("checkout", 50, BY_NAME), split("basket", 40, BASKET)],
        Some(&first),
    );
    agent.want(&second);
    let told = agent
        .until("one held, one exact", |told| {
            let door = |split| {
                let of = told.doors.get(&name(split))?;
                let item = &second.splits[&name(split)].items[&ZoneName::new("fra").unwrap()];
                (of.digest == item.digest).then(|| &of.doors[&edge()])
            };
            door("checkout").is_some_and(|door| door.held.is_some()) && door("basket").is_some_and(exact)
        })
        .await;
    assert!(!exact(&told.doors[&name("checkout")].doors[&edge()]), "{told:?}");
    let stays = targets(&kong, "weir.checkout.default").await;
    assert_eq!(
        stays.values().copied().collect::<Vec<_>>(),
        [27, 1, 1, 1],
        "as it was"
    );
    let moved = targets(&kong, "weir.basket.default").await;
    assert_eq!(moved.values().copied().collect::<Vec<_>>(), [2, 3]);
    agent.stopped().await;
}

/// An agent that remembers nothing (a new host, a damaged file) while its zone's control plane is away knows the plan, and
/// nothing of what is in force: what requests come by stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_knows_nothing_takes_nobodys_routes_away() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kong = Kong::without_database(Options::default()).await.unwrap();
    let names = Arc::new(Known::default());
    let mut agent = Agent::start(&kong, &names, dir.path());
    let first = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 70, BASKET)],
        None,
    );
    let part = agent.want(&first);
    agent.exact(&part).await;
    agent.stopped().await;
    let runs = hash(&kong).await;
    // Its plan even moves the other split.
    let second = plan(
        BASE,
        &[split("checkout", 90, BY_ADDRESS), split("basket", 40, BASKET)],
        Some(&first),
    );
    let part = Arc::new(second.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
    for known in [vec![], vec!["basket"]] {
        let mut agent = Agent::start(&kong, &names, other.path());
        let items = known
            .iter()
            .map(|split| (name(split), Arc::clone(&part.items[&name(split)])));
        let before = agent.link.told.borrow().gateways.clone();
        agent.want_items(&part, items.collect());
        agent.until("a look", |told| told.gateways != before).await;
        assert_eq!(hash(&kong).await, runs, "{known:?}");
        if let [split] = known[..] {
            let told = agent
                .until("held", |told| told.doors.contains_key(&name(split)))
                .await;
            let why = told.doors[&name(split)].doors[&edge()].held.clone().unwrap();
            assert!(why.contains("has split checkout"), "{why}");
        }
        agent.stopped().await;
    }
    // When its zone has all of it, it goes on.
    let mut agent = Agent::start(&kong, &names, other.path());
    agent.want(&second);
    agent.exact(&part).await;
    agent.stopped().await;
}
