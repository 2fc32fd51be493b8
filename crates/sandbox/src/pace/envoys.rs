//! The callers' Envoys: which weights their active listeners have, read from their admin sockets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::try_join_all;
use serde_json::Value;
use tokio::time::Instant;

use crate::play::Play;
use crate::real::rest::Api;
use crate::repository::Ground;

/// Between two looks at the Envoys; what is measured is no finer than this.
const LOOK: Duration = Duration::from_millis(15);
/// Longer than anything that was ever measured; then the change is called lost.
const LOST: Duration = Duration::from_secs(60);

/// The Envoys of all callers.
pub(super) struct Envoys {
    sockets: Vec<Api>,
    ground: Ground,
}

impl Envoys {
    pub(super) fn of(play: &Play) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for glob in play.parts.values().flat_map(|parts| &parts.envoy_admin) {
            sockets.extend(caller_sockets(Path::new(glob))?.into_iter().map(Api::socket));
        }
        // One that calls the service wherever it is, and one that calls it in each zone.
        anyhow::ensure!(
            sockets.len() == 2 * play.zones.len(),
            "there are not two callers' Envoys in each zone, but {} in all",
            sockets.len()
        );
        Ok(Self {
            sockets,
            ground: play.repository.ground(),
        })
    }

    /// How long after `begin` all of them had these weights.
    pub(super) async fn arrived(&self, division: [u32; 2], begin: Instant) -> anyhow::Result<Duration> {
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
    // Sockets are in one of two places, and the other need not be there.
    if !proxies.exists() {
        return Ok(found);
    }
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
    use serde_json::json;

    use super::*;

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
