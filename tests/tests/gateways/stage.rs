//! What is declared, who looks names up, and one agent's gateways on a directory that outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use weir_agent::counting::{Counter, Counters};
use weir_agent::gateways::{Gateways, Link, Told, Wanted};
use weir_agent::store::Store;
use weir_drivers::dns::{Answers, Names};
use weir_drivers::kong::pins::Sight;
use weir_drivers::kong::{AdminConfig, Kong as Driver, KongCluster, KongConfig};
use weir_model::{GatewayName, SourceCommit, SourceFile, SourceName, SplitName, ZoneName};
use weir_planner::{DoorFact, Generation, Inputs, Item, Plan, Planned, Proof, Verdict, ZonePlan};
use weir_render::kong::Resolved;
use weir_sandbox::kong::{Kong, Options};

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What Kong did not accept is tried again so soon.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

pub(crate) const BASE: &str = "_format_version: \"3.0\"\nservices:\n  - {name: checkout, host: 127.0.0.1, port: 9, retries: 1, routes: \
                    [{name: checkout, paths: [/checkout]}]}\n  - {name: basket, host: 127.0.0.1, port: 9, retries: 1, routes: [{name: \
                    basket, paths: [/basket]}]}\n";

/// A split of this name with a door that takes over the base's service of the name.
pub(crate) fn split(name: &str, vm: u32, addresses: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: {name}}}\nspec:\n  service: {name}\n  port: 8080\n  \
         protocol: http\n  backends: {{vm: {{zone: fra}}, cloud: {{zone: ams}}}}\n  routes: [{{name: default, weights: {{vm: \
         {vm}, cloud: {}}}}}]\n  gateways: [{{gateway: edge, service: {name}, backends: {{{addresses}}}}}]\n",
        100 - vm
    )
}

pub(crate) const BY_ADDRESS: &str =
    "vm: \"10.0.0.1:80\", cloud: [\"10.0.1.1:80\", \"10.0.1.2:80\", \"10.0.1.3:80\"]";
pub(crate) const BASKET: &str = "vm: \"10.0.2.1:80\", cloud: \"10.0.2.2:80\"";
pub(crate) const BY_NAME: &str = "vm: \"10.0.0.1:80\", cloud: \"cloud.example.com:80\"";

/// A split of this name with a door of its own.
pub(crate) fn own_door(name: &str, vm: u32, addresses: &str) -> String {
    let taken_over = format!("service: {name}, backends");
    split(name, vm, addresses).replace(&taken_over, &format!("paths: [/{name}], backends"))
}

/// The plan of this declaration, in which the gateway of zone `fra` has a database.
pub(crate) fn with_database(splits: &[String], before: Option<&Plan>) -> Plan {
    plan_of("{name: edge, channel: admin-db}", BASE, splits, before)
}

/// The plan of this declaration, in which zone `fra` has one gateway.
pub(crate) fn plan(base: &str, splits: &[String], before: Option<&Plan>) -> Plan {
    plan_of(
        "{name: edge, channel: admin-dbless, base: edge.yaml}",
        base,
        splits,
        before,
    )
}

/// The plan of this declaration, in which zone `fra` has these gateways.
pub(crate) fn plan_of(gateways: &str, base: &str, splits: &[String], before: Option<&Plan>) -> Plan {
    let head = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec: {prune: allow}\n---\napiVersion: \
                weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: ams}\nspec: {platform: vm}\n---\napiVersion: \
                weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\n";
    let head = format!("{head}spec: {{platform: vm, gateways: [{gateways}]}}\n");
    let file = |path: &str, text: &str| SourceFile {
        source: SourceName("main".to_owned()),
        path: path.to_owned(),
        bytes: text.as_bytes().into(),
    };
    let mut files = vec![file("all.yaml", &format!("{head}{}", splits.concat()))];
    // One that nobody names would be a file with a declaration that is none.
    files.extend(gateways.contains("edge.yaml").then(|| file("edge.yaml", base)));
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
        Planned::New(plan) => {
            assert_eq!(weir_planner::lint(&plan, before), []);
            plan
        }
        other => panic!("{other:?}"),
    }
}

/// What is known of `cloud.example.com`, as a test says it.
#[derive(Default)]
pub(crate) struct Known(
    pub(crate) Mutex<BTreeSet<std::net::IpAddr>>,
    /// From now on nobody answers, however long it is waited for.
    pub(crate) AtomicBool,
);

impl Names for Known {
    fn resolve<'a>(&'a self, names: &'a BTreeSet<String>, before: &'a Resolved) -> BoxFuture<'a, Answers> {
        if self.1.load(Ordering::Relaxed) {
            return std::future::pending().boxed();
        }
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

/// All of a plan's part for `fra`, wanted with these splits on a way back.
pub(crate) fn wanted(
    plan: &Arc<ZonePlan>,
    items: BTreeMap<SplitName, Arc<Item>>,
    back: BTreeSet<SplitName>,
) -> Wanted {
    Wanted {
        plan: Arc::clone(plan),
        items,
        next: BTreeMap::new(),
        ahead: BTreeSet::new(),
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back,
    }
}

pub(crate) fn part(plan: &Plan) -> Arc<ZonePlan> {
    Arc::new(plan.zone_plan(&ZoneName::new("fra").unwrap()).unwrap())
}

pub(crate) fn edge() -> GatewayName {
    GatewayName::new("edge").unwrap()
}

pub(crate) fn name(split: &str) -> SplitName {
    SplitName::new(split).unwrap()
}

pub(crate) fn exact(door: &DoorFact) -> bool {
    let proof = door.proof.as_ref();
    door.held.is_none() && proof.is_some_and(|proof| proof.verdict == Verdict::Exact)
}

pub(crate) fn exact_proof(proof: &Proof) -> bool {
    proof.verdict == Verdict::Exact
}

/// How the door of a split of this plan stands; none while it is not told of that.
pub(crate) fn door<'a>(told: &'a Told, plan: &Plan, split: &str) -> Option<&'a DoorFact> {
    let door = told.doors.get(&name(split))?.get(&edge())?;
    let item = &plan.splits[&name(split)].items[&ZoneName::new("fra").unwrap()];
    (door.digest == item.digest).then_some(&door.fact)
}

/// A directory for an agent, an empty Kong, and name servers that know nothing.
pub(crate) async fn scene() -> (tempfile::TempDir, Kong, Arc<Known>) {
    let kong = Kong::without_database(Options::default()).await.unwrap();
    (tempfile::tempdir().unwrap(), kong, Arc::new(Known::default()))
}

/// How an agent reaches a Kong.
pub(crate) fn node(kong: &Kong) -> AdminConfig {
    AdminConfig {
        url: format!("http://{}", kong.admin()),
        status: Some(format!("http://{}", kong.status())),
        ca: None,
        header: None,
        timeout: Duration::from_secs(5),
    }
}

/// A node that takes connections and never says anything; and no test lasts as long as it is waited for.
pub(crate) async fn mute() -> (AdminConfig, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = AdminConfig {
        url: format!("http://{}", listener.local_addr().unwrap()),
        status: None,
        ca: None,
        header: None,
        timeout: 10 * PATIENCE,
    };
    (node, listener)
}

/// One agent's gateways, on a directory that outlives it.
pub(crate) struct Agent {
    pub(crate) link: Link,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    pub(crate) fn start(kong: &Kong, names: &Arc<Known>, dir: &std::path::Path) -> Self {
        let nodes = vec![node(kong)];
        Self::of([(edge(), nodes)].into(), names, dir)
    }

    /// One that drives a gateway of these nodes.
    pub(crate) fn start_at(kongs: &[&Kong], names: &Arc<Known>, dir: &std::path::Path) -> Self {
        let nodes = kongs.iter().map(|kong| node(kong)).collect();
        Self::of([(edge(), nodes)].into(), names, dir)
    }

    /// One that drives these gateways, each by the Admin APIs of its nodes.
    pub(crate) fn of(
        gateways: BTreeMap<GatewayName, Vec<AdminConfig>>,
        names: &Arc<Known>,
        dir: &std::path::Path,
    ) -> Self {
        Self::driving(gateways, None, names, dir)
    }

    /// The same in this cluster.
    pub(crate) fn driving(
        gateways: BTreeMap<GatewayName, Vec<AdminConfig>>,
        cluster: Option<KongCluster>,
        names: &Arc<Known>,
        dir: &std::path::Path,
    ) -> Self {
        Self::begun(gateways, cluster, Counters::new(), names, dir)
    }

    /// One that counts what leaves a gateway of these nodes, which post to this URL.
    pub(crate) fn counting(
        kongs: &[&Kong],
        (listen, url): (SocketAddr, String),
        names: &Arc<Known>,
        dir: &std::path::Path,
    ) -> Self {
        let nodes = kongs.iter().map(|kong| node(kong)).collect();
        let counter = Arc::new(Counter::new(listen, url));
        Self::begun(
            [(edge(), nodes)].into(),
            None,
            [(edge(), counter)].into(),
            names,
            dir,
        )
    }

    fn begun(
        gateways: BTreeMap<GatewayName, Vec<AdminConfig>>,
        cluster: Option<KongCluster>,
        counters: Counters,
        names: &Arc<Known>,
        dir: &std::path::Path,
    ) -> Self {
        // Installs the program's TLS provider, as an agent does first of all.
        drop(weir_sandbox::http_client());
        let driver = |nodes| {
            let settle = Duration::from_secs(2);
            let driver = Driver::new(KongConfig { nodes, settle }).unwrap();
            Arc::new(match cluster.clone() {
                Some(cluster) => driver.in_cluster(cluster).unwrap(),
                None => driver,
            })
        };
        let gateways = gateways.into_iter();
        let drivers = gateways.map(|(name, nodes)| (name, driver(nodes))).collect();
        let store = Store::new(dir);
        let memory = store.gateways().unwrap();
        let (mut task, link) = Gateways::new(drivers, Arc::clone(names) as Arc<dyn Names>, store);
        task.again = AGAIN;
        task.counters = counters;
        let stop = CancellationToken::new();
        Self {
            link,
            task: tokio::spawn(task.run(memory, stop.clone())),
            stop,
        }
    }

    /// The zone's control plane has all of the plan.
    pub(crate) fn want(&self, plan: &Plan) -> Arc<ZonePlan> {
        let part = part(plan);
        let items = part.items.clone();
        self.want_items(&part, items);
        part
    }

    /// The same, by which every split goes back to weights that its zone had before.
    pub(crate) fn want_back(&self, plan: &Plan) -> Arc<ZonePlan> {
        let part = part(plan);
        let items = part.items.clone();
        self.want_by(&part, items.clone(), items.into_keys().collect());
        part
    }

    pub(crate) fn want_items(&self, plan: &Arc<ZonePlan>, items: BTreeMap<SplitName, Arc<Item>>) {
        self.want_by(plan, items, BTreeSet::new());
    }

    fn want_by(
        &self,
        plan: &Arc<ZonePlan>,
        items: BTreeMap<SplitName, Arc<Item>>,
        back: BTreeSet<SplitName>,
    ) {
        self.link
            .want
            .send_replace(Some(Arc::new(wanted(plan, items, back))));
    }

    /// Waits for what it tells.
    pub(crate) async fn until(&mut self, what: &str, there: impl Fn(&Told) -> bool) -> Arc<Told> {
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

    pub(crate) async fn exact(&mut self, plan: &ZonePlan) -> Arc<Told> {
        self.exact_since(plan, Timestamp::MIN).await
    }

    /// Exact by proofs of which none is older.
    pub(crate) async fn exact_since(&mut self, plan: &ZonePlan, since: Timestamp) -> Arc<Told> {
        let items: Vec<_> = plan
            .items
            .values()
            .map(|item| (item.split.clone(), item.digest))
            .collect();
        let is_since = |fact: &DoorFact| fact.proof.as_ref().is_some_and(|proof| proof.at >= since);
        self.until("exact", |told| {
            let mut all = items.iter();
            all.all(|(split, digest)| {
                let door = told.doors.get(split).map(|of| &of[&edge()]);
                door.is_some_and(|door| door.digest == *digest && exact(&door.fact) && is_since(&door.fact))
            })
        })
        .await
    }

    /// kill -9, as far as this task is concerned: nothing is finished.
    pub(crate) async fn killed(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Asks until this holds; each look is a request, so that nobody has to be waited for in between.
pub(crate) async fn until_so(what: &str, holds: impl AsyncFn() -> bool) {
    let asked = async { while !holds().await {} };
    let so = tokio::time::timeout(PATIENCE, asked).await;
    assert!(so.is_ok(), "{what}: not within {PATIENCE:?}");
}
