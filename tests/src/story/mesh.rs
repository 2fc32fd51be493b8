//! Kuma's global control plane comes back with an empty store, and every zone loses the mesh with all that is in it. What that
//! costs requests is Kuma's; that it is told as that, and that our policies are back at once when the mesh is, is ours.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::StatusCode;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_sandbox::coordinator::in_zone;
use weir_sandbox::real::rest::Api;
use weir_sandbox::waiting::poll;

use super::{PATIENCE, Story, ZONE, ours_of, say};

/// What a person makes again on the global control plane.
const OBJECTS: [&str; 3] = [
    "/meshes/default",
    "/meshes/default/meshtrafficpermissions/allow-all",
    "/meshes/default/meshmultizoneservices/checkout",
];

/// How long after the mesh our policies may be back. A machine that is busy with other tests is slower.
fn soon() -> Duration {
    Duration::from_secs(if crate::amount::is_asked() { 1 } else { 5 })
}

impl Story {
    /// The mesh goes everywhere, and a person makes it again.
    pub(super) async fn mesh_lost(&mut self) -> anyhow::Result<()> {
        let list = self.play.viewer.splits().await?;
        let mut notes = list.notes.iter().filter(|note| note.zone == ZONE);
        ensure!(
            notes.any(|note| note.note.contains("keeps all that it holds in memory")),
            "a memory store is not warned of: {:?}",
            list.notes
        );
        let commit = self.split().await?.commit;
        let zone = self.api(ZONE)?;
        let ours: Vec<String> = ours_of(&zone).await?.into_keys().collect();
        ensure!(!ours.is_empty(), "there is no object of ours in {ZONE}");
        let global = Api::new(self.play.global.clone().context("a global control plane")?);
        let mut kept = Vec::new();
        for path in OBJECTS {
            kept.push((path, global.get(path).await?));
        }
        self.play.cast.kill_global().await?;
        self.play.cast.restart_global().await?;
        self.happens("mesh.gone").await?;
        let zones = self.play.viewer.zones().await?;
        let here = zones.zones.iter().find(|shown| shown.name == ZONE);
        let told = here.and_then(|shown| shown.reason.clone()).unwrap_or_default();
        for words in [
            "the mesh is gone",
            "Make the Mesh on the global control plane again",
        ] {
            ensure!(told.contains(words), "`{words}` is not in what is told: {told}");
        }
        for (path, object) in &kept {
            global.put(path, object).await?;
        }
        poll(PATIENCE, || async {
            let there = zone.status("/meshes/default").await? == StatusCode::OK;
            Ok(there
                .then_some(())
                .ok_or_else(|| format!("the mesh does not come back to {ZONE}")))
        })
        .await?;
        let clock = Instant::now();
        poll(PATIENCE, || async {
            let back = ours_of(&zone).await?.into_keys().eq(ours.iter().cloned());
            Ok(back
                .then_some(())
                .ok_or_else(|| format!("our objects are not back in {ZONE}: {ours:?}")))
        })
        .await?;
        let back = clock.elapsed();
        ensure!(back < soon(), "our objects are back {back:?} after the mesh");
        self.happens("mesh.back").await?;
        self.play.proven(&commit).await.context("with the mesh again")?;
        let split = self.split().await?;
        ensure!(in_zone(&split, ZONE)?.reason.is_none(), "{split:?}");
        say(&format!(
            "the mesh was gone everywhere: our objects back {} ms after it, proven after {} ms",
            back.as_millis(),
            clock.elapsed().as_millis()
        ));
        Ok(())
    }

    /// Waits for an event of the zone.
    async fn happens(&self, kind: &str) -> anyhow::Result<()> {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let seen = |event: weir_wire::api::Event| {
            if event.kind == kind && event.zone.as_deref() == Some(ZONE) {
                // Who does not listen any more has heard it.
                let _heard = tell.send(());
            }
        };
        let event = async {
            tokio::select! {
                ended = self.play.viewer.follow(0, seen) => bail!("events ended: {ended:?}"),
                _ = heard.recv() => Ok(()),
            }
        };
        tokio::time::timeout(PATIENCE, event)
            .await
            .with_context(|| format!("no event {kind} of {ZONE}"))?
    }
}
