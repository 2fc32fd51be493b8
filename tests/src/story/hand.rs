//! What somebody does in Kuma by hand while Weir holds a split: our objects are removed, and policies of somebody else come
//! beside them.

use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_sandbox::coordinator::in_zone;
use weir_sandbox::real::rest::Api;
use weir_sandbox::waiting::poll;
use weir_wire::api::{SplitInZone, Standing};

use super::{PATIENCE, Story, ZONE, is_proven, ours_of, say};

impl Story {
    /// Somebody deletes our objects in Kuma. What that loses until they are back is theirs; that they come back is ours.
    pub(super) async fn objects_removed(&mut self, weights: [u32; 2]) -> anyhow::Result<()> {
        self.unharmed("before the hand")?;
        let api = self.api(ZONE)?;
        let ours = our_objects(&api).await?;
        ensure!(!ours.is_empty(), "there is no object of ours in {ZONE}");
        let at = Timestamp::now();
        let clock = Instant::now();
        for path in &ours {
            let answer = api.exchange(http::Method::DELETE, path, None).await?;
            ensure!(
                answer.status.is_success(),
                "DELETE {path}: {} {}",
                answer.status,
                answer.text()
            );
        }
        // Kuma tells nobody of that, so it is asked.
        let missing = || async {
            let back = our_objects(&api).await? == ours;
            let missing = || format!("our objects are not back in {ZONE}: {ours:?}");
            Ok(back.then_some(()).ok_or_else(missing))
        };
        poll(PATIENCE, missing).await?;
        let back = clock.elapsed();
        self.until("the zone has proven again", |split| {
            let later = |zone: &SplitInZone| {
                zone.proven_at.as_ref().and_then(|t| t.parse::<Timestamp>().ok()) > Some(at)
            };
            is_proven(split, ZONE) && in_zone(split, ZONE).is_ok_and(later)
        })
        .await?;
        let proven = clock.elapsed();
        // What was open when it ended.
        self.shares("our objects are back", |_| weights).await?;
        self.lost_by_hand = self.failures();
        for (zone, callers) in &self.play.callers {
            let tally = callers.tally();
            ensure!(
                zone == ZONE || tally.failures() == 0,
                "a hand in {ZONE} lost requests in {zone}: {tally:?}"
            );
        }
        say(&format!(
            "objects removed by hand: back after {} ms, proven after {} ms, {} requests lost meanwhile",
            back.as_millis(),
            proven.as_millis(),
            self.lost_by_hand
        ));
        Ok(())
    }

    /// A policy of somebody else is named, by object and origin; it is neither changed nor removed, and neither are ours.
    pub(super) async fn second_writers(&self, weights: [u32; 2]) -> anyhow::Result<()> {
        let api = self.api(ZONE)?;
        let ours = our_objects(&api).await?;
        for (name, wins) in [("zz-by-hand", false), ("aa-by-hand", true)] {
            let path = format!("/meshes/default/meshhttproutes/{name}");
            api.put(&path, &by_hand(name)).await?;
            let written = api.get(&path).await?;
            let split = self
                .until(&format!("{name} is named"), |split| {
                    in_zone(split, ZONE).is_ok_and(|zone| {
                        let named = zone.second_writers.iter().any(|w| w.contains(name));
                        named && (zone.standing == Standing::Converged) != wins
                    })
                })
                .await?;
            let here = in_zone(&split, ZONE)?;
            let named = here.second_writers.join("; ");
            ensure!(
                named.contains("MeshHTTPRoute") && named.contains("zone"),
                "without kind or origin: {named}"
            );
            if wins {
                ensure!(here.standing == Standing::Overridden, "{here:?}");
                let reason = here.reason.as_deref().unwrap_or_default();
                ensure!(reason.contains(name), "the reason does not name who: {reason}");
            }
            let moved = |zone: &str| if wins && zone == ZONE { [100, 0] } else { weights };
            self.follows(name, moved).await?;
            ensure!(api.get(&path).await? == written, "{name} was written over");
            ensure!(
                our_objects(&api).await? == ours,
                "our objects are not what they were"
            );
            let answer = api.exchange(http::Method::DELETE, &path, None).await?;
            ensure!(
                answer.status.is_success(),
                "DELETE {path}: {} {}",
                answer.status,
                answer.text()
            );
            self.until(&format!("{name} is forgotten"), |split| {
                let gone = |zone: &SplitInZone| zone.second_writers.is_empty();
                is_proven(split, ZONE) && in_zone(split, ZONE).is_ok_and(gone)
            })
            .await?;
            self.shares(&format!("without {name}"), |_| weights).await?;
        }
        Ok(())
    }

    /// Counts until what somebody else wrote is in the Envoys, which nobody proves to us.
    async fn follows(&self, what: &str, weights: impl Fn(&str) -> [u32; 2]) -> anyhow::Result<()> {
        // One try may take a quarter of that on a busy machine.
        let end = Instant::now() + Duration::from_secs(60);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.shares(what, &weights).await {
                // The first has the requests of before in it.
                Err(error) if tries > 2 && Instant::now() > end => return Err(error),
                // To count takes its time.
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }
}

/// The paths of the objects in a control plane that carry our mark.
async fn our_objects(api: &Api) -> anyhow::Result<Vec<String>> {
    Ok(ours_of(api).await?.into_keys().collect())
}

/// What somebody writes who wants everything on the VMs and has never heard of Weir.
fn by_hand(name: &str) -> Value {
    let service = json!({"kuma.io/display-name": "checkout"});
    let backend = json!({
        "kind": "MeshService", "port": 8080, "weight": 1,
        "labels": {"kuma.io/display-name": "checkout", "kuma.io/zone": "fra"},
    });
    let rules = json!([{
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "default": {"backendRefs": [backend]},
    }]);
    // With the section: without it Kuma ranks it below ours for MeshServices, whatever its name.
    let to = |kind: &str| json!({"targetRef": {"kind": kind, "labels": service, "sectionName": "8080"}, "rules": rules});
    json!({
        "type": "MeshHTTPRoute", "mesh": "default", "name": name, "labels": {"kuma.io/origin": "zone"},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [to("MeshService"), to("MeshMultiZoneService")]},
    })
}
