//! What is declared, who looks names up, and one agent's gateways on a directory that outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
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
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const BASE: &str = "_format_version: \"3.0\"\nservices:\n  - {name: checkout, host: 127.0.0.1, port: 9, routes: [{name: \
                    checkout, paths: [/checkout]}]}\n  - {name: basket, host: 127.0.0.1, port: 9, routes: [{name: basket, \
                    paths: [/basket]}]}\n";

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

/// Zone `fra`'s part of the plan of this declaration.
pub(crate) fn plan(base: &str, splits: &[String], before: Option<&Plan>) -> Plan {
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
pub(crate) struct Known(pub(crate) Mutex<BTreeSet<std::net::IpAddr>>);

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

/// A directory for an agent, an empty Kong, and name servers that know nothing.
pub(crate) async fn scene() -> (tempfile::TempDir, Kong, Arc<Known>) {
    let kong = Kong::without_database(Options::default()).await.unwrap();
    (tempfile::tempdir().unwrap(), kong, Arc::new(Known::default()))
}

/// One agent's gateways, on a directory that outlives it.
pub(crate) struct Agent {
    pub(crate) link: Link,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    pub(crate) fn start(kong: &Kong, names: &Arc<Known>, dir: &std::path::Path) -> Self {
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
    pub(crate) fn want(&self, plan: &Plan) -> Arc<ZonePlan> {
        let part = Arc::new(plan.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
        let items = part.items.clone();
        self.want_items(&part, items);
        part
    }

    pub(crate) fn want_items(&self, plan: &Arc<ZonePlan>, items: BTreeMap<SplitName, Arc<Item>>) {
        let wanted = Wanted {
            plan: Arc::clone(plan),
            items,
        };
        self.link.want.send_replace(Some(Arc::new(wanted)));
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
    pub(crate) async fn killed(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}
