//! A service whose port has a name: who is not split until the split declares it, and that it is told.

use anyhow::ensure;
use weir_sandbox::coordinator::{proven, weights_word};
use weir_sandbox::play::Scene;
use weir_sandbox::repository::{CLUSTER, SPLIT as FILE};
use weir_wire::api::{SplitInZone, Standing};

use super::{GENTLE, Story};

/// The service's port has a name, as ports of Kubernetes Services mostly have. Kuma asks for such a port by its name alone:
/// until the split declares it, callers of the MeshServices are not split, and the status says so; then all are. On VMs the
/// mesh is lost in the end, and comes back.
///
/// # Errors
/// Whatever was not as it should be, with the ends of all logs.
pub async fn tell_of_a_named_port(scene: Scene, real: bool, requests: u64) -> anyhow::Result<()> {
    let vms = matches!(scene, Scene::Vms);
    let mut story = Story::start_with(scene, real, requests, Some("http")).await?;
    let told = match story.named_port().await {
        Ok(()) if vms => story.mesh_lost().await,
        told => told,
    };
    match told {
        Ok(()) => {
            story.play.stop().await;
            Ok(())
        }
        Err(error) => Err(story.play.failed(error).await),
    }
}

impl Story {
    pub(super) async fn named_port(&self) -> anyhow::Result<()> {
        let told = |zone: &SplitInZone| {
            let wanted = "called http; add `portNames: [http]` to split checkout";
            let reason = zone.reason.as_deref().unwrap_or_default();
            ensure!(zone.notes.iter().all(|note| note.ends_with(wanted)), "{zone:?}");
            anyhow::Ok(!zone.notes.is_empty() && reason.contains(wanted))
        };
        // Callers by MeshMultiZoneService have what the split says: that must not hide the others. In a cluster there are no
        // others here, and it is a note alone.
        let by_service = |zone: &str| zone != CLUSTER;
        let split = self
            .until("the name is told", |split| {
                let mut zones = split.zones.iter();
                zones.all(|zone| match by_service(&zone.zone) {
                    true => zone.standing == Standing::Different && told(zone).unwrap_or(false),
                    false => !zone.notes.is_empty(),
                })
            })
            .await?;
        for zone in split.zones.iter().filter(|zone| by_service(&zone.zone)) {
            ensure!(told(zone)? && !proven(&split, zone), "{zone:?}");
            ensure!(weights_word(&split, zone) != "exact", "{zone:?}");
        }
        // What a first policy loses is not what is told here.
        self.play.pace(GENTLE);
        for (zone, tally) in self.count().await? {
            ensure!(
                !by_service(&zone) || tally.counted.get("cloud").is_some_and(|n| *n > 0),
                "{zone}: callers of the MeshService are split by the number of a named port: {tally:?}"
            );
        }
        self.unharmed("by number")?;
        for [vm, cloud] in [[100, 0], [30, 70]] {
            let text = self
                .play
                .repository
                .split_text(vm, cloud)
                .replace("  port: 8080\n", "  port: 8080\n  portNames: [http]\n");
            let commit = self
                .play
                .repository
                .commit(&[(FILE, &text)], "Declare the port's name")?;
            self.play.look();
            self.play.proven(&commit).await?;
            self.shares("with the port's name", |_| [vm, cloud]).await?;
            self.unharmed("with the port's name")?;
        }
        self.until("nothing is left to tell", |split| {
            split.zones.iter().all(|zone| zone.notes.is_empty())
        })
        .await?;
        self.unharmed("the story of a named port")
    }
}
