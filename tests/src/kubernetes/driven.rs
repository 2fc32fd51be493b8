//! The driver of a cluster zone at a real API server: items as a plan has them, steps, and what was changed of what others
//! own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use weir_drivers::kubernetes::system_namespace;
use weir_drivers::{
    Cluster, DriverError, KubernetesConfig, KumaKubernetes, Observed, Outcome, Sampled, ZoneDriver as _,
};
use weir_model::{CommitId, FederationName, MeshName, SourceCommit, SourceFile, SourceName, ZoneName};
use weir_planner::{Generation, Inputs, Item, Planned};
use weir_render::{Form, Options, Step, render};
use weir_sandbox::cluster::{Change, Store};
use weir_sandbox::real::cluster_zone::{self, AGENT_NAMESPACE, AGENT_RIGHTS};

use super::{SHOP, SYSTEM, Stand};

/// How long one call of a driver may take here.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The path of the one object of ours.
pub const OURS: &str = "/apis/kuma.io/v1alpha1/namespaces/kuma-system/meshhttproutes/weir-checkout";

/// The federation of these tests.
///
/// # Panics
/// Never: it is a name.
pub fn federation() -> FederationName {
    "shop".parse().expect("a name")
}

/// Their mesh.
///
/// # Panics
/// Never: it is a name.
pub fn mesh() -> MeshName {
    "default".parse().expect("a name")
}

/// The item of zone `use1`, a cluster, for the split `checkout` with these weights.
///
/// # Errors
/// If the declaration is not right.
pub fn item(generation: u64, vm: u32, cloud: u32) -> anyhow::Result<Arc<Item>> {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {{name: shop}}\nspec: {{mesh: default}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: fra}}\nspec: {{platform: vm}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: use1}}\nspec: {{platform: eks}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: checkout}}\nspec:\n  service: checkout\n  port: 8080\n  \
         protocol: http\n  backends:\n    vm: {{zone: fra}}\n    cloud: {{zone: use1, namespace: {SHOP}}}\n  routes:\n    \
         - name: default\n      weights: {{vm: {vm}, cloud: {cloud}}}\n"
    );
    let source = SourceName("main".to_owned());
    let commit = CommitId("0123456789abcdef0123456789abcdef01234567".to_owned());
    let parsed = weir_model::parse(&[SourceFile {
        source: source.clone(),
        path: "traffic.yaml".to_owned(),
        bytes: text.into_bytes().into(),
    }]);
    ensure!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let planned = weir_planner::plan(Inputs {
        declaration: &parsed.declaration,
        commits: &[SourceCommit { source, commit }],
        highest: Generation(generation - 1),
        parent: None,
        now: "2026-01-01T00:00:00Z".parse()?,
    });
    let Planned::New(plan) = planned else {
        anyhow::bail!("no plan: {planned:?}")
    };
    let findings = weir_planner::lint(&plan, None);
    ensure!(findings.is_empty(), "{findings:?}");
    let zone: ZoneName = "use1".parse().context("a name")?;
    let split = plan.splits.values().next().context("a split")?;
    Ok(Arc::clone(&split.items[&zone]))
}

/// The step that writes an item.
pub fn put(item: &Item) -> Step {
    let form = Form::Kubernetes {
        namespace: SYSTEM.to_owned(),
    };
    let mut objects = render(item, &federation(), &form, Options::default());
    Step::Put {
        object: objects.remove(0),
        reason: "a test".to_owned(),
        split: item.split.clone(),
        generation: item.generation,
        digest: item.digest,
    }
}

/// An API server with the agent's rights, services of two zones, and a policy of somebody else.
#[derive(Debug)]
pub struct Driven {
    /// The server.
    pub stand: Stand,
    before: Store,
}

impl Driven {
    /// Starts it for the test of this name; none where the programs are absent.
    ///
    /// # Errors
    /// If it does not start, or is absent though `WEIR_REQUIRE` names `kubernetes`.
    pub async fn start(test: &str) -> anyhow::Result<Option<Self>> {
        let Some(stand) = super::stand(test).await? else {
            return Ok(None);
        };
        stand.namespace(AGENT_NAMESPACE, "false").await?;
        stand.apply_text(AGENT_RIGHTS).await?;
        stand.apply(&service("checkout", SHOP, "use1")).await?;
        stand.apply(&service("checkout-fra", SYSTEM, "fra")).await?;
        stand.apply(&foreign("theirs", SHOP)).await?;
        let before = stand.store().await?;
        Ok(Some(Self { stand, before }))
    }

    /// The driver, as the agent's own user with its own rights.
    ///
    /// # Errors
    /// If it refuses its configuration.
    pub fn driver(&self, take_back: bool) -> anyhow::Result<KumaKubernetes> {
        Ok(KumaKubernetes::new(self.config(take_back))?)
    }

    /// Its configuration.
    pub fn config(&self, take_back: bool) -> KubernetesConfig {
        KubernetesConfig {
            federation: federation(),
            cluster: Cluster::Kubeconfig {
                file: self.stand.cluster.kubeconfig(&cluster_zone::agent()),
                context: None,
            },
            system_namespace: system_namespace(),
            take_back,
            rest: None,
            envoy_admin: Vec::new(),
            metrics: None,
            sampled: Sampled {
                calls_per_hour: 0,
                per_change: 0,
            },
            spent: self.stand.dir().join("spent.json"),
            timeout: TIMEOUT,
        }
    }

    /// Our object as it is now; none if there is none.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn ours(&self) -> anyhow::Result<Option<Value>> {
        self.stand.admin.find(OURS).await
    }

    /// What is there now is how it should be from now on: what was done to it so far is not looked at.
    ///
    /// # Errors
    /// If something cannot be listed.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        self.before = self.stand.store().await?;
        Ok(())
    }

    /// Nothing was changed since the start but our object, and what the hands of the test changed: begins of paths.
    ///
    /// # Errors
    /// If it was: what.
    pub async fn untouched(&self, by_hand: &[&str]) -> anyhow::Result<()> {
        let after = self.stand.store().await?;
        let mut changes = self.before.changes(&after);
        changes.retain(|change| {
            change.path != OURS && !by_hand.iter().any(|hand| change.path.starts_with(hand))
        });
        let told: Vec<String> = changes.iter().map(Change::to_string).collect();
        ensure!(told.is_empty(), "changed, and not ours:\n{}", told.join("\n"));
        Ok(())
    }
}

/// Writes an item.
///
/// # Errors
/// As the driver says.
pub async fn apply(driver: &KumaKubernetes, item: &Item) -> Result<Outcome, DriverError> {
    driver.apply(&put(item)).await
}

/// Why something was left alone.
///
/// # Errors
/// If it was not.
pub fn yielded(outcome: Result<Outcome, DriverError>) -> anyhow::Result<String> {
    match outcome {
        Ok(Outcome::Yielded(why)) => Ok(why),
        other => anyhow::bail!("not left alone: {other:?}"),
    }
}

/// That it was written.
///
/// # Errors
/// If it was not.
pub fn done(outcome: Result<Outcome, DriverError>) -> anyhow::Result<()> {
    match outcome {
        Ok(Outcome::Done { .. }) => Ok(()),
        other => anyhow::bail!("not done: {other:?}"),
    }
}

/// A MeshService `checkout` of a zone, as Kuma has it in a cluster.
pub fn service(name: &str, namespace: &str, zone: &str) -> Value {
    let mut labels = json!({"kuma.io/mesh": "default", "kuma.io/zone": zone, "kuma.io/origin": "global"});
    if namespace != SYSTEM {
        labels["k8s.kuma.io/namespace"] = json!(namespace);
        labels["kuma.io/origin"] = json!("zone");
    }
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshService",
        "metadata": {
            "name": name, "namespace": namespace, "labels": labels,
            "annotations": {"kuma.io/display-name": "checkout"},
        },
        "spec": {
            "ports": [{"port": 8080, "targetPort": 8080, "appProtocol": "http"}],
            "selector": {"dataplaneTags": {"app": name}},
            "state": "Available",
        },
    })
}

/// A policy of an application's team that has nothing to do with the split.
pub fn foreign(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kuma.io/mesh": "default"}},
        "spec": {
            "targetRef": {"kind": "Mesh"},
            "to": [{
                "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": "other"}},
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "default": {"backendRefs": [{
                        "kind": "MeshService", "labels": {"kuma.io/display-name": "other"}, "port": 80, "weight": 1,
                    }]},
                }],
            }],
        },
    })
}

/// What a driver hands out as soon as this is so. The watch tells of it, after earlier news perhaps: `change` is the driver's word
/// for news, taken before whatever is waited for.
///
/// # Panics
/// If it cannot be observed, or is not told within 40 s.
pub async fn told(
    driver: &KumaKubernetes,
    change: impl Future<Output = ()>,
    items: &[Arc<Item>],
    so: impl Fn(&Observed) -> bool,
) -> Observed {
    let told = async {
        change.await;
        loop {
            let next = driver.changed();
            let seen = driver.observe(&mesh(), items).await.expect("what there is");
            if so(&seen) {
                return seen;
            }
            next.await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(40), told).await;
    told.expect("the watch tells")
}
