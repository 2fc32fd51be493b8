//! How fast a change of weights reaches the Envoys of all zones, three ways in one run: a commit that Weir carries, a PUT
//! on each zone's own control plane (in a cluster: a patch at its API server), a PUT on the global one. What `tour --pace N` adds to the story.
//!
//! All three are timed with the same clock: from the commit (or from just before the PUTs) until the active listeners of
//! every caller's Envoy have exactly the new weights, read from their admin sockets. Weir's proof is timed besides, by the
//! agents' own report. For the PUTs the agents are gone, so that nobody puts back what is measured.
//!
//! `commits` is what Weir carries, with the zones in one wave and in two; `envoys` is what callers' Envoys run.

mod commits;
mod envoys;

use std::time::Duration;

use anyhow::bail;
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::play::Play;
use crate::policies::Store;
use crate::real::rest::Api;
use crate::repository::Ground;
pub use commits::{Carried, MOST};
use commits::{carried, fresh, two_waves};
use envoys::Envoys;

/// Callers keep sending meanwhile; between two changes, so that one does not ride on the tick of the other.
const REST: Duration = Duration::from_millis(1_300);
/// The one that is put on the global control plane.
const GLOBAL: &str = "pace-checkout";
/// The two divisions between which PUTs go to and fro: per cent of the first and second backend. Commits that did would be reverts.
const DIVISIONS: [[u32; 2]; 2] = [[90, 10], [40, 60]];

/// Milliseconds of several changes.
#[derive(Debug, Clone, Serialize)]
pub struct Times {
    /// How many.
    pub changes: usize,
    /// The fastest.
    pub min: u64,
    /// Half were not slower.
    pub median: u64,
    /// Nine in ten were not slower.
    pub p90: u64,
    /// The slowest.
    pub max: u64,
}

impl Times {
    fn of(mut all: Vec<Duration>) -> anyhow::Result<Self> {
        all.sort_unstable();
        let ms = |d: &Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        // The smallest value that so many per cent do not pass.
        let at = |percent: usize| {
            all.get((all.len() * percent).div_ceil(100).saturating_sub(1))
                .map(ms)
        };
        let (Some(min), Some(median), Some(p90), Some(max)) = (at(0), at(50), at(90), at(100)) else {
            bail!("nothing was measured");
        };
        Ok(Self {
            changes: all.len(),
            min,
            median,
            p90,
            max,
        })
    }
}

/// What was measured, in one run. Milliseconds until the last caller's Envoy of all zones had the weights.
#[derive(Debug, Clone, Serialize)]
pub struct Pace {
    /// Always `pace`.
    pub step: &'static str,
    /// What Weir carried, with all zones in one wave.
    #[serde(flatten)]
    pub one_wave: Carried,
    /// What it carried with one zone in a wave of its own, after the others.
    pub two_waves: Carried,
    /// From a PUT on the control plane of every zone, at the same time.
    pub zone_put_to_envoy_ms: Times,
    /// From a PUT on the global control plane; none if the cast has none.
    pub global_put_to_envoy_ms: Option<Times>,
}

impl Pace {
    /// Requests that were sent while Weir carried its changes, and those of them that failed.
    pub fn requests(&self) -> (u64, u64) {
        let both = [&self.one_wave, &self.two_waves];
        let sum = |of: fn(&Carried) -> u64| both.map(of).iter().sum();
        (sum(|all| all.requests), sum(|all| all.failed))
    }

    /// For people.
    pub fn text(&self) -> String {
        let (requests, failed) = self.requests();
        let mut out = "\nUntil the last zone has the new weights, in milliseconds\n".to_owned();
        out += &format!("  while Weir carried its changes: {requests} requests, {failed} failed\n");
        out += &format!(
            "  {:<44}{:>7}{:>8}{:>7}{:>7}\n",
            "", "min", "median", "p90", "max"
        );
        let (one, two) = (&self.one_wave, &self.two_waves);
        let rows = [
            ("commit -> Envoy (Weir)", Some(&one.commit_to_envoy_ms)),
            ("commit -> proof (Weir)", Some(&one.commit_to_proof_ms)),
            (
                "commit -> status says proven (Weir)",
                Some(&one.commit_to_status_ms),
            ),
            ("two waves: commit -> Envoy", Some(&two.commit_to_envoy_ms)),
            ("two waves: commit -> proof", Some(&two.commit_to_proof_ms)),
            (
                "two waves: commit -> status says proven",
                Some(&two.commit_to_status_ms),
            ),
            (
                "PUT on the zones' control planes -> Envoy",
                Some(&self.zone_put_to_envoy_ms),
            ),
            (
                "PUT on the global control plane -> Envoy",
                self.global_put_to_envoy_ms.as_ref(),
            ),
        ];
        for (what, times) in rows {
            if let Some(t) = times {
                out += &format!(
                    "  {what:<44}{:>7}{:>8}{:>7}{:>7}\n",
                    t.min, t.median, t.p90, t.max
                );
            }
        }
        out
    }
}

/// Measures so many changes of each kind. Kills the agents: the play is good for nothing else afterwards.
///
/// # Errors
/// If a change never arrives.
pub async fn measure(play: &mut Play, changes: usize) -> anyhow::Result<Pace> {
    let envoys = Envoys::of(play)?;
    let mut weights = fresh();
    let one_wave = carried(play, &envoys, weights.by_ref().take(changes)).await?;
    two_waves(play).await?;
    let two_waves = carried(play, &envoys, weights.take(changes)).await?;
    for zone in play.zones.clone() {
        play.kill_agent(&zone).await?;
    }
    let stores: Vec<Store> = Store::all(play).into_values().collect();
    let (zone_puts, spec) = zone_puts(play.repository.ground(), &stores, &envoys, changes).await?;
    let global_puts = match &play.global {
        Some(global) => {
            for store in &stores {
                // Otherwise the zone's own policy would win over the global one.
                store.delete().await?;
            }
            let ground = play.repository.ground();
            Some(global_puts(ground, &Api::new(global), spec, &envoys, changes).await?)
        }
        None => None,
    };
    Ok(Pace {
        step: "pace",
        one_wave,
        two_waves,
        zone_put_to_envoy_ms: Times::of(zone_puts)?,
        global_put_to_envoy_ms: global_puts.map(Times::of).transpose()?,
    })
}

/// How long each change took that was put on all zones' control planes at once, and what was put last.
async fn zone_puts(
    ground: Ground,
    stores: &[Store],
    envoys: &Envoys,
    changes: usize,
) -> anyhow::Result<(Vec<Duration>, Value)> {
    let mut took = Vec::new();
    let mut spec = Value::Null;
    for round in 0..changes {
        let division = DIVISIONS[round % 2];
        let mut documents = Vec::new();
        for store in stores {
            let mut document = store.policy().await?;
            reweigh(&mut document["spec"], ground, division);
            if matches!(store, Store::Universal(_)) {
                spec = document["spec"].clone();
            }
            documents.push((store, document));
        }
        tokio::time::sleep(REST).await;
        let begin = Instant::now();
        try_join_all(documents.iter().map(|(store, document)| store.put(document))).await?;
        took.push(envoys.arrived(division, begin).await?);
    }
    Ok((took, spec))
}

/// How long each change took that was put on the global control plane.
async fn global_puts(
    ground: Ground,
    global: &Api,
    mut spec: Value,
    envoys: &Envoys,
    changes: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut all = Vec::new();
    for round in 0..=changes {
        let division = DIVISIONS[round % 2];
        reweigh(&mut spec, ground, division);
        let document =
            json!({"type": "MeshHTTPRoute", "mesh": "default", "name": GLOBAL, "spec": spec.clone()});
        tokio::time::sleep(REST).await;
        let begin = Instant::now();
        global
            .put(&format!("/meshes/default/meshhttproutes/{GLOBAL}"), &document)
            .await?;
        let took = envoys.arrived(division, begin).await?;
        // The first one makes the policy: not a change of weights.
        if round > 0 {
            all.push(took);
        }
    }
    Ok(all)
}

/// Changes the weights of every rule that has no header to match: not the anchor.
fn reweigh(spec: &mut Value, ground: Ground, division: [u32; 2]) {
    for to in spec["to"].as_array_mut().into_iter().flatten() {
        for rule in to["rules"].as_array_mut().into_iter().flatten() {
            let anchor = rule["matches"]
                .as_array()
                .is_some_and(|all| all.iter().any(|m| m.get("headers").is_some()));
            if anchor {
                continue;
            }
            for reference in rule["default"]["backendRefs"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                for ((_, zone), percent) in ground.backends().iter().zip(division) {
                    if reference["labels"]["kuma.io/zone"] == **zone {
                        reference["weight"] = json!(percent * 100);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ranks_and_not_means() {
        let all = (1..=20).rev().map(Duration::from_millis).collect();
        let times = Times::of(all).expect("some");
        assert_eq!((times.min, times.median, times.p90, times.max), (1, 10, 18, 20));
        assert!(Times::of(Vec::new()).is_err());
    }
}
