//! How fast a change of weights reaches the Envoys of all zones, three ways in one run: a commit that Weir carries, a PUT
//! on each zone's own control plane (in a cluster: a patch at its API server), a PUT on the global one. What `tour --pace N` adds to the story.
//!
//! All three are timed with the same clock: from the commit (or from just before the PUTs) until the active listeners of
//! every caller's Envoy have exactly the new weights, read from their admin sockets. Weir's proof is timed besides, by the
//! agents' own report. For the PUTs the agents are gone, so that nobody puts back what is measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::try_join_all;
use http::Method;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::ApiServer;
use crate::play::Play;
use crate::real::cluster_zone::SYSTEM;
use crate::real::rest::Api;
use crate::repository::{CLUSTER, Ground, SPLIT as FILE};
use crate::traffic::Callers;

/// Between two looks at the Envoys; what is measured is no finer than this.
const LOOK: Duration = Duration::from_millis(15);
/// Longer than anything that was ever measured; then the change is called lost.
const LOST: Duration = Duration::from_secs(60);
/// Callers keep sending meanwhile; between two changes, so that one does not ride on the tick of the other.
const REST: Duration = Duration::from_millis(1_300);
/// The policy that Weir writes for the split of the play.
const OURS: &str = "weir-checkout";
/// The one that is put on the global control plane.
const GLOBAL: &str = "pace-checkout";
/// The two divisions between which it goes to and fro: per cent of the first and second backend.
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
    /// Requests that all callers sent while Weir carried its changes.
    pub requests: u64,
    /// Of those, failed.
    pub failed: u64,
    /// From a commit, until the last zone's agent read what proved it.
    pub commit_to_proof_ms: Times,
    /// From a commit, until the coordinator's API said that every zone has proven it.
    pub commit_to_status_ms: Times,
    /// From a commit.
    pub commit_to_envoy_ms: Times,
    /// From a PUT on the control plane of every zone, at the same time.
    pub zone_put_to_envoy_ms: Times,
    /// From a PUT on the global control plane; none if the cast has none.
    pub global_put_to_envoy_ms: Option<Times>,
}

impl Pace {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = "\nUntil the last zone has the new weights, in milliseconds\n".to_owned();
        out += &format!(
            "  while Weir carried its changes: {} requests, {} failed\n",
            self.requests, self.failed
        );
        out += &format!(
            "  {:<44}{:>7}{:>8}{:>7}{:>7}\n",
            "", "min", "median", "p90", "max"
        );
        let rows = [
            ("commit -> proof (Weir)", Some(&self.commit_to_proof_ms)),
            (
                "commit -> status says proven (Weir)",
                Some(&self.commit_to_status_ms),
            ),
            ("commit -> Envoy (Weir)", Some(&self.commit_to_envoy_ms)),
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
    let ground = play.repository.ground();
    let sent = |play: &Play| {
        let tallies = play.callers.values().map(Callers::tally);
        tallies.fold((0, 0), |(sent, failed), t| {
            (sent + t.requests, failed + t.failures())
        })
    };
    let before = sent(play);
    let mut proof = Vec::new();
    let mut commit = Vec::new();
    let mut told = Vec::new();
    for round in 0..changes {
        let division = DIVISIONS[round % 2];
        tokio::time::sleep(REST).await;
        let (at, begin) = (Timestamp::now(), Instant::now());
        let id = play.repository.commit(
            &[(FILE, &play.repository.split_text(division[0], division[1]))],
            "Measure a change",
        )?;
        play.look();
        commit.push(envoys.arrived(division, begin).await?);
        play.proven(&id).await?;
        told.push(begin.elapsed());
        proof.push(play.commit_to_proof(&id, at).await?);
    }
    let after = sent(play);
    for zone in play.zones.clone() {
        play.kill_agent(&zone).await?;
    }
    let cluster = play.cast.cluster().map(|cluster| cluster.admin.clone());
    let stores: Vec<Store> = play
        .parts
        .iter()
        .map(|(zone, parts)| match &cluster {
            Some(admin) if zone == CLUSTER => Store::Cluster(admin.clone()),
            _ => Store::Universal(Api::new(&parts.api)),
        })
        .collect();
    let mut put = Vec::new();
    let mut spec = Value::Null;
    for round in 0..changes {
        let division = DIVISIONS[(changes + round) % 2];
        let mut documents = Vec::new();
        for store in &stores {
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
        put.push(envoys.arrived(division, begin).await?);
    }
    let mut global_put = Vec::new();
    if let Some(global) = &play.global {
        for store in &stores {
            // Otherwise the zone's own policy would win over the global one.
            store.delete().await?;
        }
        let api = Api::new(global);
        for round in 0..=changes {
            let division = DIVISIONS[round % 2];
            reweigh(&mut spec, ground, division);
            let document =
                json!({"type": "MeshHTTPRoute", "mesh": "default", "name": GLOBAL, "spec": spec.clone()});
            tokio::time::sleep(REST).await;
            let begin = Instant::now();
            api.put(&format!("/meshes/default/meshhttproutes/{GLOBAL}"), &document)
                .await?;
            let took = envoys.arrived(division, begin).await?;
            // The first one makes the policy: not a change of weights.
            if round > 0 {
                global_put.push(took);
            }
        }
    }
    Ok(Pace {
        step: "pace",
        requests: after.0 - before.0,
        failed: after.1 - before.1,
        commit_to_proof_ms: Times::of(proof)?,
        commit_to_status_ms: Times::of(told)?,
        commit_to_envoy_ms: Times::of(commit)?,
        zone_put_to_envoy_ms: Times::of(put)?,
        global_put_to_envoy_ms: play.global.is_some().then(|| Times::of(global_put)).transpose()?,
    })
}

/// Where a zone keeps its policies.
enum Store {
    /// Its control plane's REST API.
    Universal(Api),
    /// The API server of its cluster.
    Cluster(ApiServer),
}

impl Store {
    fn path(&self) -> String {
        match self {
            Self::Universal(_) => format!("/meshes/default/meshhttproutes/{OURS}"),
            Self::Cluster(_) => format!("/apis/kuma.io/v1alpha1/namespaces/{SYSTEM}/meshhttproutes/{OURS}"),
        }
    }

    /// Weir's policy as it is there.
    async fn policy(&self) -> anyhow::Result<Value> {
        match self {
            Self::Universal(api) => api.get(&self.path()).await,
            Self::Cluster(api) => api.get(&self.path()).await,
        }
    }

    async fn put(&self, document: &Value) -> anyhow::Result<()> {
        match self {
            Self::Universal(api) => api.put(&self.path(), document).await,
            Self::Cluster(api) => {
                let spec = json!({"spec": document["spec"]});
                api.merge(&self.path(), &spec).await.map(drop)
            }
        }
    }

    async fn delete(&self) -> anyhow::Result<()> {
        let path = self.path();
        match self {
            Self::Universal(api) => {
                let answer = api.exchange(Method::DELETE, &path, None).await?;
                anyhow::ensure!(
                    answer.status.is_success(),
                    "DELETE {}{path}: {}",
                    api.base(),
                    answer.text()
                );
                Ok(())
            }
            Self::Cluster(api) => api.delete(&path).await,
        }
    }
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

/// The Envoys of all callers.
struct Envoys {
    sockets: Vec<Api>,
    ground: Ground,
}

impl Envoys {
    fn of(play: &Play) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for glob in play.parts.values().flat_map(|parts| &parts.envoy_admin) {
            sockets.extend(caller_sockets(Path::new(glob))?.into_iter().map(Api::socket));
        }
        anyhow::ensure!(
            sockets.len() == play.zones.len(),
            "there is not one caller's Envoy in each zone"
        );
        Ok(Self {
            sockets,
            ground: play.repository.ground(),
        })
    }

    /// How long after `begin` all of them had these weights.
    async fn arrived(&self, division: [u32; 2], begin: Instant) -> anyhow::Result<Duration> {
        loop {
            let dumps = self
                .sockets
                .iter()
                .map(|s| s.get("/config_dump?resource=dynamic_listeners"));
            let dumps = try_join_all(dumps).await?;
            if dumps.iter().all(|dump| has(dump, self.ground, division)) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > LOST {
                bail!(
                    "the weights {}/{} are not in every Envoy after {} s",
                    division[0],
                    division[1],
                    LOST.as_secs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The admin sockets of callers that a pattern with one `*` directory finds.
fn caller_sockets(glob: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (Some(file), Some(proxies)) = (glob.file_name(), glob.parent().and_then(Path::parent)) else {
        bail!("{} is no pattern of admin sockets", glob.display());
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proxies).with_context(|| proxies.display().to_string())? {
        let dir = entry?.path();
        let caller = dir
            .file_name()
            .is_some_and(|n| n.to_string_lossy().contains("caller"));
        if caller {
            found.push(dir.join(file));
        }
    }
    Ok(found)
}

/// Whether every route of an active listener that leads to the split service has exactly these weights.
fn has(dump: &Value, ground: Ground, division: [u32; 2]) -> bool {
    let wanted: BTreeMap<&str, u64> = ground
        .backends()
        .into_iter()
        .zip(division)
        .map(|((_, zone), percent)| (zone, u64::from(percent) * 100))
        .collect();
    let mut routes = 0;
    for listener in dump["configs"].as_array().into_iter().flatten() {
        let listener = &listener["active_state"]["listener"];
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        let filters = chains.flat_map(|c| c["filters"].as_array().into_iter().flatten());
        let hosts = filters.flat_map(|f| {
            f["typed_config"]["route_config"]["virtual_hosts"]
                .as_array()
                .into_iter()
                .flatten()
        });
        for route in hosts.flat_map(|h| h["routes"].as_array().into_iter().flatten()) {
            let to_service = route["route"].to_string().contains("_msvc_");
            if !to_service || route["match"].get("headers").is_some() {
                continue;
            }
            routes += 1;
            let clusters = route["route"]["weighted_clusters"]["clusters"].as_array();
            let mut seen = BTreeMap::new();
            for cluster in clusters.into_iter().flatten() {
                let name = cluster["name"].as_str().unwrap_or_default();
                let zone = wanted
                    .keys()
                    .find(|zone| name.contains(&format!("_{zone}_msvc_")));
                if let (Some(zone), Some(weight)) = (zone, cluster["weight"].as_u64()) {
                    seen.insert(*zone, weight);
                }
            }
            if seen != wanted {
                return false;
            }
        }
    }
    routes > 0
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

    #[test]
    fn weights_are_those_of_active_listeners_and_of_every_route_but_the_anchor() {
        let route = |headers: bool, fra: u64, ams: u64| {
            let mut route = json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
                {"name": "default_checkout__ams_msvc_8080", "weight": ams},
                {"name": "default_checkout__fra_msvc_8080", "weight": fra},
            ]}}});
            if headers {
                route["match"]["headers"] = json!([{"name": "x-weir-anchor"}]);
            }
            route
        };
        let state = |routes: Vec<Value>| {
            json!({"listener": {"filter_chains": [{"filters": [{"typed_config": {
                "route_config": {"virtual_hosts": [{"routes": routes}]}}}]}]}})
        };
        let dump = |configs: Vec<Value>| json!({"configs": configs});
        let right = state(vec![route(true, 1, 1), route(false, 9000, 1000)]);
        let old = state(vec![route(true, 1, 1), route(false, 4000, 6000)]);
        assert!(has(
            &dump(vec![json!({"active_state": right, "draining_state": old})]),
            Ground::Vms,
            [90, 10]
        ));
        assert!(!has(
            &dump(vec![json!({"active_state": right}), json!({"active_state": old})]),
            Ground::Vms,
            [90, 10]
        ));
        assert!(
            !has(&dump(vec![]), Ground::Vms, [90, 10]),
            "nothing is not everything"
        );
    }
}
