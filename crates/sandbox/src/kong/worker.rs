//! What one worker of a node runs: routes and balancers, built anew at each change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;

use super::access_log::{Logs, Queues};
use super::balancer::{Balancer, Unwell};
use super::names::Names;
use super::router::Router;
use super::store::Entities;

/// What a worker runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    /// Routes.
    pub(super) router: Arc<Router>,
    /// Plugins that log.
    pub(super) logs: Arc<Logs>,
    /// Balancers by the name of their upstream.
    pub(super) balancers: BTreeMap<String, Arc<Balancer>>,
}

/// What balancers are built with besides entities.
#[derive(Debug)]
pub(super) struct Building<'a> {
    pub(super) names: &'a dyn Names,
    pub(super) unwell: &'a Unwell,
    pub(super) seed: u64,
}

impl Building<'_> {
    fn balancer(&self, upstream: &Arc<Value>, targets: &[Arc<Value>]) -> Arc<Balancer> {
        let id = upstream["id"].as_str().unwrap_or_default();
        let mut seed = [0; 8];
        seed.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..8]);
        let seed = self.seed ^ u64::from_be_bytes(seed);
        let upstream = Arc::clone(upstream);
        Arc::new(Balancer::new(upstream, targets, self.names, self.unwell, seed))
    }
}

impl Running {
    /// Routes and upstreams of the one, targets of the other: a database's targets are known sooner. Balancers of before go on where
    /// nothing of their upstream changed: that routes are built anew moves nobody's turn, and whoever did not hear of a target does
    /// not hear of it so either.
    pub(super) fn new(
        routing: &Entities,
        targets: &Entities,
        with: &Building<'_>,
        before: Option<&Self>,
    ) -> Self {
        let balancer = |(id, upstream): (&String, &Arc<Value>)| {
            let name = upstream["name"].as_str().unwrap_or_default().to_owned();
            let targets = targets.targets(id);
            let same = before.and_then(|before| before.balancers.get(&name));
            let same = same.filter(|same| same.upstream == *upstream);
            let balancer = same.map_or_else(|| with.balancer(upstream, &targets), Arc::clone);
            (name, balancer)
        };
        Self {
            router: Arc::new(Router::new(routing)),
            logs: Arc::new(Logs::new(routing)),
            balancers: routing.all("upstreams").map(balancer).collect(),
        }
    }

    /// The same with the balancers of these upstreams built anew.
    pub(super) fn with(&self, upstreams: &[String], targets: &Entities, with: &Building<'_>) -> Self {
        let mut next = self.clone();
        for balancer in next.balancers.values_mut() {
            let id = balancer.upstream["id"].as_str().unwrap_or_default().to_owned();
            if upstreams.contains(&id) {
                *balancer = with.balancer(&balancer.upstream, &targets.targets(&id));
            }
        }
        next
    }

    /// The upstreams for whose targets names say something else now.
    pub(super) fn stale(&self, names: &dyn Names) -> Vec<String> {
        let id = |balancer: &Arc<Balancer>| balancer.upstream["id"].as_str().unwrap_or_default().to_owned();
        let all = self.balancers.values();
        all.filter(|balancer| balancer.is_stale(names)).map(id).collect()
    }

    /// The balancer of an upstream.
    pub(super) fn balancer(&self, id: &str) -> Option<&Arc<Balancer>> {
        self.balancers
            .values()
            .find(|balancer| balancer.upstream["id"] == id)
    }
}

/// A worker.
#[derive(Debug, Default)]
pub(super) struct Worker {
    running: RwLock<Arc<Running>>,
    /// Held while it builds: what is built last is made of what was known last.
    building: Mutex<()>,
    /// What it has to post.
    pub(super) queues: Arc<Queues>,
    /// How often it was built: Kong is ready when each worker was.
    pub(super) builds: AtomicU64,
}

impl Worker {
    /// What it runs now.
    pub(super) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing is built as long as this is held.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds what it runs from now on.
    pub(super) fn build(&self, next: impl FnOnce(&Running) -> Running) {
        let _one = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(next(&self.running()));
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.builds.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs nothing, as before its first build.
    pub(super) fn reset(&self) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.builds.store(0, Ordering::Relaxed);
    }
}
