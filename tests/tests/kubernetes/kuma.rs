//! A federation of a VM zone and a cluster zone on real Kuma, real Envoys and a real API server, in which what a cluster
//! stands on fails: Kuma's control plane, its webhooks, the API server; an application's team overrides a split, and another
//! team has a service of its name. Each is told as what it is by `weir status`, and no request is lost.
//!
//! Needs `kuma-cp`, `kuma-dp`, `envoy` and `kumactl` (`WEIR_KUMA_BIN`), `kube-apiserver` and `etcd` (`WEIR_KUBERNETES_BIN`).

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use weir_sandbox::cluster::{End, Store};
use weir_sandbox::coordinator::{SPLIT, in_zone, proven};
use weir_sandbox::play::{Play, Scene, Setup};
use weir_sandbox::real::cluster_zone::{ClusterZone, SHOP};
use weir_sandbox::repository::{CLUSTER, SPLIT as FILE};
use weir_sandbox::traffic::Pace;
use weir_tests::kubernetes::binaries;
use weir_tests::kubernetes::driven::OURS;
use weir_tests::story::say;
use weir_tests::{programs, real_kuma, story};
use weir_wire::api::{SplitInZone, SplitStatus, Standing};

/// How long anything may take that is waited for: an Envoy that lost its control plane comes back within a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where another team works, with a service of the same name.
const STAGING: &str = "staging";

struct Story {
    play: Play,
    token: tempfile::NamedTempFile,
    weir: std::path::PathBuf,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_stands_on_fails_and_is_told_and_no_request_is_lost() {
    let name = "kuma::what_a_cluster_stands_on_fails";
    let (Some(_), Some(binaries)) = (real_kuma(name), binaries(name).unwrap()) else {
        return;
    };
    let bin = programs().unwrap();
    let setup = Setup {
        real: true,
        ..Setup::default()
    };
    let play = Play::start_on(Scene::WithCluster(binaries), setup, |_| {})
        .await
        .unwrap();
    let mut story = Story {
        play,
        token: tempfile::NamedTempFile::new().unwrap(),
        weir: bin.join("weir"),
    };
    let told = story.chapters(bin).await;
    if let Err(error) = told {
        panic!("{:#}", story.play.failed(error).await);
    }
    story.play.stop().await;
}

/// Ports of Kubernetes Services are nearly always named; here those of both zones are.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_port_of_a_cluster_is_split_once_its_name_is_declared() {
    let name = "kuma::a_named_port_of_a_cluster_is_split_once_its_name_is_declared";
    let (Some(_), Some(binaries)) = (real_kuma(name), binaries(name).unwrap()) else {
        return;
    };
    programs().unwrap();
    let told = story::tell_of_a_named_port(Scene::WithCluster(binaries), true, 1_000).await;
    if let Err(error) = told {
        panic!("{error:#}");
    }
}

impl Story {
    async fn chapters(&mut self, bin: &std::path::Path) -> anyhow::Result<()> {
        let config = self.play.dir.join("coordinator/coordinator.yaml");
        let made = Command::new(bin.join("weir-coordinator"))
            .args(["token", "create", "--viewer", "test", "--config"])
            .arg(config)
            .output()?;
        ensure!(made.status.success(), "{made:?}");
        std::fs::write(self.token.path(), made.stdout)?;
        self.play.pace(Pace::Gentle(Duration::from_millis(5)));
        self.proven_at(90, 10).await?;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": STAGING, "labels": {"kuma.io/sidecar-injection": "enabled"}},
        });
        self.cluster()?.apply(&namespace).await?;
        let before = Store::read(&self.cluster()?.admin).await?;
        self.control_plane_killed().await?;
        self.webhooks_hang().await?;
        self.overridden().await?;
        self.namesake().await?;
        self.api_server_away().await?;
        self.nothing_else_was_written(&before).await?;
        self.unharmed()
    }

    fn cluster(&mut self) -> anyhow::Result<&mut ClusterZone> {
        self.play.cast.cluster().context("a cluster zone")
    }

    fn commit(&self, vm: u32, cloud: u32) -> anyhow::Result<String> {
        let text = self.play.repository.split_text(vm, cloud);
        let commit = self
            .play
            .repository
            .commit(&[(FILE, &text)], &format!("{vm}/{cloud}"))?;
        self.play.look();
        Ok(commit)
    }

    async fn proven_at(&self, vm: u32, cloud: u32) -> anyhow::Result<()> {
        let commit = self.commit(vm, cloud)?;
        self.play.proven(&commit).await.map(drop)
    }

    /// Until the other zone has followed, and this one says why it has not, also on the command line.
    async fn told(&self, commit: &str, words: &[&str]) -> anyhow::Result<String> {
        let begin = Instant::now();
        let what = format!("{words:?} is told");
        let here = self
            .play
            .until(&what, PATIENCE, |split| {
                let split = split.context("the split is gone")?;
                let here = in_zone(split, CLUSTER)?;
                ensure!(
                    split.commit != commit || !proven(split, here),
                    "called converged though nothing can be written: {here:?}"
                );
                let others = split.zones.iter().all(|z| z.zone == CLUSTER || proven(split, z));
                let reason = here.reason.as_deref().unwrap_or_default();
                let told = words.iter().all(|word| reason.contains(word));
                Ok((split.commit == commit && others && told).then(|| here.clone()))
            })
            .await?;
        let after = begin.elapsed();
        let shown = self.weir_status()?;
        for word in words {
            ensure!(
                shown.contains(word),
                "`weir status` does not say `{word}`:\n{shown}"
            );
        }
        let reason = here.reason.unwrap_or_default();
        Ok(format!("{:?} after {after:?}: {reason}", here.standing))
    }

    /// As people see it; lines that were broken for their width are put together again.
    fn weir_status(&self) -> anyhow::Result<String> {
        let output = Command::new(&self.weir)
            .arg("status")
            .env("WEIR_COORDINATOR", &self.play.address)
            .env("WEIR_TOKEN_FILE", self.token.path())
            .env("WEIR_CA", self.play.dir.join("coordinator/data/ca/ca.pem"))
            .env("NO_COLOR", "1")
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    async fn control_plane_killed(&mut self) -> anyhow::Result<()> {
        self.play.cast.kill_control_plane(CLUSTER).await?;
        let commit = self.commit(80, 20)?;
        let told = self
            .told(&commit, &["control plane is down"])
            .await
            .context("killed")?;
        let begin = Instant::now();
        self.play.cast.restart_control_plane(CLUSTER).await?;
        let ready = begin.elapsed();
        self.play
            .proven(&commit)
            .await
            .context("the control plane is back")?;
        say(&format!(
            "Kuma's control plane killed: {told}; started in {ready:?}, proven {:?} after its start",
            begin.elapsed()
        ));
        self.unharmed()
    }

    async fn webhooks_hang(&mut self) -> anyhow::Result<()> {
        self.cluster()?.freeze_control_plane();
        let commit = self.commit(70, 30)?;
        let told = self.told(&commit, &["webhook"]).await.context("frozen")?;
        let begin = Instant::now();
        self.cluster()?.thaw_control_plane();
        self.back(&commit).await.context("the webhooks answer again")?;
        say(&format!(
            "webhooks hung: {told}; proven {:?} after they answered again",
            begin.elapsed()
        ));
        self.unharmed()
    }

    /// Kuma's control plane may have ended itself meanwhile: in a cluster its Deployment starts it again.
    async fn back(&mut self, commit: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(ended) = self.cluster()?.control_plane_ended() {
                let line = ended.lines().next().unwrap_or_default().to_owned();
                say(&format!("started again: {line}"));
                self.play.cast.restart_control_plane(CLUSTER).await?;
            }
            let split = self.split().await?;
            if split.commit == commit && split.zones.iter().all(|zone| proven(&split, zone)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("not proven after {PATIENCE:?}: {:#?}", self.split().await?)
    }

    /// An application's team sends everything to its own backend: its policy wins, and Weir says whose it is.
    async fn overridden(&mut self) -> anyhow::Result<()> {
        let ours = self.cluster()?.admin.get(OURS).await?;
        let route = by_application();
        let begin = Instant::now();
        let written = self.cluster()?.apply(&route).await?;
        let told = self
            .play
            .until("called overridden", PATIENCE, |split| {
                let here = in_zone(split.context("the split is gone")?, CLUSTER)?;
                Ok((here.standing == Standing::Overridden).then(|| here.clone()))
            })
            .await?;
        let after = begin.elapsed();
        let reason = told.reason.clone().unwrap_or_default();
        ensure!(reason.contains("all-to-us"), "it does not say by whom: {told:?}");
        let shown = self.weir_status()?;
        ensure!(
            shown.contains("all-to-us"),
            "`weir status` does not say by whom:\n{shown}"
        );
        ensure!(
            self.cluster()?.admin.get(OURS).await? == ours,
            "our object was changed"
        );
        let path = format!("/apis/kuma.io/v1alpha1/namespaces/{SHOP}/meshhttproutes/all-to-us");
        let theirs = self.cluster()?.admin.get(&path).await?;
        ensure!(
            theirs["spec"] == written["spec"],
            "the application's route was changed: {theirs:#}"
        );
        self.cluster()?.admin.delete(&path).await?;
        let commit = self.split().await?.commit;
        self.back(&commit)
            .await
            .context("without the application's route")?;
        say(&format!(
            "overridden by an application's route: told after {after:?}: {reason}"
        ));
        self.unharmed()
    }

    /// Another namespace gets a service of the split's name. Of the split that is in force it is told; one that is declared
    /// anew would take its callers unseen, and is held by every zone until it is gone.
    async fn namesake(&mut self) -> anyhow::Result<()> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": SPLIT, "namespace": STAGING},
            "spec": {"selector": {"app": "another"}, "ports": [{"port": 8080, "appProtocol": "http"}]},
        });
        self.cluster()?.apply(&service).await?;
        let place = format!("namespace {STAGING},");
        let begin = Instant::now();
        let noted = |split: &SplitStatus| {
            let noted = |zone: &SplitInZone| zone.notes.iter().any(|note| note.contains(&place));
            split.zones.iter().all(|zone| noted(zone) && proven(split, zone))
        };
        self.until("the note", noted).await?;
        let shown = self.weir_status()?;
        ensure!(shown.contains(&place), "`weir status` does not say it:\n{shown}");
        let told = begin.elapsed();
        let gone = self.play.repository.remove(FILE, "Split nothing any more")?;
        self.play.look();
        self.play.removed(&gone).await?;
        let commit = self.commit(50, 50)?;
        let held = |split: &SplitStatus| {
            let held = |zone: &SplitInZone| {
                let reason = zone.reason.as_deref().unwrap_or_default();
                zone.standing == Standing::Held && reason.contains(&place)
            };
            split.commit == commit && split.zones.iter().all(held)
        };
        self.until("held by all zones", held).await?;
        let absent = self.cluster()?.admin.find(OURS).await?;
        ensure!(absent.is_none(), "it is held, and there: {absent:?}");
        let path = format!("/api/v1/namespaces/{STAGING}/services/{SPLIT}");
        self.cluster()?.admin.delete(&path).await?;
        // What a cluster's garbage collector would do.
        let path = format!("/apis/kuma.io/v1alpha1/namespaces/{STAGING}/meshservices/{SPLIT}");
        self.cluster()?.admin.delete(&path).await?;
        let begin = Instant::now();
        self.back(&commit).await.context("the other service is gone")?;
        say(&format!(
            "a service of the same name in another namespace: told after {told:?}; a first policy held for it, and proven {:?} \
             after it went",
            begin.elapsed()
        ));
        self.unharmed()
    }

    /// A split that is declared anew is not there at first.
    async fn until(&self, what: &str, is_so: impl Fn(&SplitStatus) -> bool) -> anyhow::Result<()> {
        let so = |split: Option<&SplitStatus>| Ok(split.is_some_and(&is_so).then_some(()));
        self.play.until(what, PATIENCE, so).await
    }

    async fn api_server_away(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        self.cluster()?.cluster.stop_api_server(End::Killed).await?;
        let commit = self.commit(60, 40)?;
        let address = self.cluster()?.cluster.server();
        let told = self.told(&commit, &[&address]).await.context("away")?;
        while begin.elapsed() < Duration::from_secs(20) {
            let split = self.split().await?;
            let here = in_zone(&split, CLUSTER)?;
            ensure!(
                !proven(&split, here),
                "called converged without an API server: {here:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let ended = self.cluster()?.control_plane_ended().is_some();
        self.cluster()?.cluster.start_api_server().await?;
        let begin = Instant::now();
        self.back(&commit).await.context("the API server is back")?;
        say(&format!(
            "API server away for 20 s: {told}; Kuma's control plane ended itself: {ended}; proven {:?} after the API server was \
             ready",
            begin.elapsed()
        ));
        self.unharmed()
    }

    /// Nothing but our own object carries our manager's name, and nothing that is not Kuma's was changed.
    async fn nothing_else_was_written(&mut self, before: &Store) -> anyhow::Result<()> {
        let after = Store::read(&self.cluster()?.admin).await?;
        for (path, object) in &after.objects {
            let managers = object["metadata"]["managedFields"].as_array();
            let mut managers = managers.into_iter().flatten();
            ensure!(
                path == OURS || managers.all(|m| m["manager"] != "weir"),
                "Weir wrote {path}: {object:#}"
            );
        }
        let kumas = ["/apis/kuma.io/", "/api/v1/namespaces/kuma-system/"];
        let changes = before.changes(&after);
        let others: Vec<String> = changes
            .iter()
            .filter(|c| !kumas.iter().any(|own| c.path.starts_with(own)))
            .map(ToString::to_string)
            .collect();
        ensure!(others.is_empty(), "{}", others.join("\n"));
        Ok(())
    }

    fn unharmed(&self) -> anyhow::Result<()> {
        for (zone, callers) in &self.play.callers {
            let tally = callers.tally();
            ensure!(tally.requests > 0 && tally.failures() == 0, "{zone}: {tally:?}");
        }
        Ok(())
    }

    async fn split(&self) -> anyhow::Result<SplitStatus> {
        let split = self.play.viewer.split().await?;
        split.context("the split is gone")
    }
}

/// In the application's namespace, by labels: a consumer's policy.
fn by_application() -> Value {
    let service = json!({"kuma.io/display-name": "checkout"});
    let backend = json!({
        "kind": "MeshService", "port": 8080, "weight": 1,
        "labels": {"kuma.io/display-name": "checkout", "kuma.io/zone": CLUSTER},
    });
    let rules = json!([{
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "default": {"backendRefs": [backend]},
    }]);
    let to = |kind: &str| json!({"targetRef": {"kind": kind, "labels": service}, "rules": rules});
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
        "metadata": {"name": "all-to-us", "namespace": SHOP, "labels": {"kuma.io/mesh": "default"}},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [to("MeshService"), to("MeshMultiZoneService")]},
    })
}
