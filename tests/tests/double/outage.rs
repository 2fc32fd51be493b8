//! The default federation of the sandbox, in which a zone is a cluster: Kuma's control plane there goes and comes back, and
//! an application's team overrides the split from its own namespace. Each is told as on the real parts
//! (`kubernetes/kuma.rs`), and no request is lost. Needs neither Kuma nor Kubernetes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use weir_sandbox::cluster::ApiServer;
use weir_sandbox::coordinator::{in_zone, proven};
use weir_sandbox::play::{Play, Scene, Setup};
use weir_sandbox::real::cluster_zone::SHOP;
use weir_sandbox::repository::{CLUSTER, SPLIT as FILE};
use weir_sandbox::traffic::Pace;
use weir_tests::kubernetes::driven::OURS;
use weir_tests::programs;
use weir_tests::story::say;
use weir_wire::api::{SplitInZone, SplitStatus, Standing};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_goes_and_an_application_overrides_and_both_are_told() {
    programs().unwrap();
    let setup = Setup { ..Setup::default() };
    let mut play = Play::start_on(Scene::WithDoubleCluster, setup, |_| {})
        .await
        .unwrap();
    play.pace(Pace::Gentle(Duration::from_millis(5)));
    if let Err(error) = chapters(&mut play).await {
        panic!("{:#}", play.failed(error).await);
    }
    play.stop().await;
}

async fn chapters(play: &mut Play) -> anyhow::Result<()> {
    let admin = play.cast.cluster_admin().context("a cluster")?;
    let first = commit(play, 90, 10)?;
    play.proven(&first).await?;
    control_plane_killed(play, &admin).await?;
    unharmed(play, "the control plane was killed and came back")?;
    overridden(play, &admin).await?;
    unharmed(play, "an application overrode the split")
}

fn unharmed(play: &Play, what: &str) -> anyhow::Result<()> {
    for (zone, callers) in &play.callers {
        let tally = callers.tally();
        ensure!(tally.failures() == 0, "{what}: in {zone} {tally:?}");
    }
    Ok(())
}

fn commit(play: &Play, vm: u32, cloud: u32) -> anyhow::Result<String> {
    let text = play.repository.split_text(vm, cloud);
    let commit = play
        .repository
        .commit(&[(FILE, &text)], &format!("{vm}/{cloud}"))?;
    play.look();
    Ok(commit)
}

async fn split(play: &Play) -> anyhow::Result<SplitStatus> {
    let split = play.viewer.split().await?;
    split.context("the split is gone")
}

/// The cluster's line, once it is as wanted.
async fn until(
    play: &Play,
    what: &str,
    so: impl Fn(&SplitStatus, &SplitInZone) -> anyhow::Result<bool>,
) -> anyhow::Result<SplitInZone> {
    play.until(what, PATIENCE, |split| {
        let split = split.context("the split is gone")?;
        let here = in_zone(split, CLUSTER)?;
        Ok(so(split, here)?.then(|| here.clone()))
    })
    .await
}

/// Without it nothing can be written there; the others follow, and this zone says why it does not.
async fn control_plane_killed(play: &mut Play, admin: &ApiServer) -> anyhow::Result<()> {
    play.cast.kill_control_plane(CLUSTER).await?;
    let before = admin.get(OURS).await?;
    let commit = commit(play, 80, 20)?;
    let told = until(play, "told that the control plane is down", |split, here| {
        ensure!(
            split.commit != commit || !proven(split, here),
            "called converged though nothing can be written: {here:?}"
        );
        let others = split.zones.iter().all(|z| z.zone == CLUSTER || proven(split, z));
        let reason = here.reason.clone().unwrap_or_default();
        Ok(split.commit == commit && others && reason.contains("control plane is down"))
    })
    .await?;
    ensure!(admin.get(OURS).await? == before, "something was written");
    play.cast.restart_control_plane(CLUSTER).await?;
    let begin = Instant::now();
    play.proven(&commit).await.context("it is back")?;
    say(&format!(
        "the double's control plane in a cluster killed: {}; proven {:?} after it was back",
        told.reason.unwrap_or_default(),
        begin.elapsed()
    ));
    Ok(())
}

fn by_application() -> Value {
    let backend = json!({
        "kind": "MeshService", "port": 8080, "weight": 1,
        "labels": {"kuma.io/display-name": "checkout", "kuma.io/zone": CLUSTER, "k8s.kuma.io/namespace": SHOP},
    });
    let to = |kind: &str| {
        json!({
            "targetRef": {"kind": kind, "labels": {"kuma.io/display-name": "checkout"}},
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "default": {"backendRefs": [backend]},
            }],
        })
    };
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
        "metadata": {"name": "all-to-us", "namespace": SHOP, "labels": {"kuma.io/mesh": "default"}},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [to("MeshService"), to("MeshMultiZoneService")]},
    })
}

/// A consumer's policy outranks ours, in its namespace alone, and touches no object of ours.
async fn overridden(play: &mut Play, admin: &ApiServer) -> anyhow::Result<()> {
    let ours = admin.get(OURS).await?;
    let types = admin.types().await?;
    let written = admin.apply(&types, "kubectl", &by_application()).await?;
    ensure!(
        written["metadata"]["labels"]["kuma.io/policy-role"] == "consumer",
        "{written:#}"
    );
    let told = until(play, "called overridden", |_, here| {
        Ok(here.standing == Standing::Overridden)
    })
    .await?;
    let reason = told.reason.clone().unwrap_or_default();
    ensure!(reason.contains("all-to-us"), "it does not say by whom: {told:?}");
    let other = split(play).await?;
    let elsewhere = other.zones.iter().all(|z| z.zone == CLUSTER || proven(&other, z));
    ensure!(elsewhere, "a consumer's policy reaches no other zone: {other:#?}");
    ensure!(admin.get(OURS).await? == ours, "our object was changed");
    let path = format!("/apis/kuma.io/v1alpha1/namespaces/{SHOP}/meshhttproutes/all-to-us");
    ensure!(
        admin.get(&path).await?["spec"] == written["spec"],
        "the application's route was changed"
    );
    admin.delete(&path).await?;
    play.proven(&other.commit).await.context("without it")?;
    say(&format!("overridden in the double's cluster: {reason}"));
    Ok(())
}
