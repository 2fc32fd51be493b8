//! Kuma on Universal: the zone's own control plane over REST, its Envoys over their admin interfaces.
//!
//! `rest` speaks to the control plane; `observe` and `apply` give meaning to what it says; `witness` looks at proxies, and
//! serves clusters too, as do `policy` and what `observe` reads of a single object. No retry: the next activation is the
//! retry.

pub(crate) mod apply;
mod budget;
pub(crate) mod elsewhere;
mod envoys;
mod glob;
mod listed;
pub(crate) mod observe;
pub(crate) mod policy;
mod proof;
mod remote;
pub(crate) mod rest;
pub(crate) mod tally;
pub(crate) mod ways;
pub(crate) mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use weir_model::{FederationName, MeshName};
use weir_planner::{Counts, Generation, Item, Proof, ServiceFact};
use weir_render::{Kind, Object, Step};

use crate::{DriverError, Observed, Outcome, Sighting, ZoneDriver};
use apply::Work;
pub use apply::{left_alone, ours};
use rest::Rest;
pub(crate) use rest::chain;
use witness::Witness;

/// So many proxies are asked at the same time.
const ABREAST: usize = 8;

/// How to reach a zone's Kuma; checked by [`KumaUniversal::new`].
#[derive(Debug, Clone)]
pub struct KumaConfig {
    /// Whose objects are ours.
    pub federation: FederationName,
    /// REST address of the zone's own control plane.
    pub api: String,
    /// File with a user token; none where loopback is admin.
    pub token_file: Option<PathBuf>,
    /// Globs of Envoy admin sockets, or `http://` addresses.
    pub envoy_admin: Vec<String>,
    /// What may be asked of proxies on other hosts, through the control plane.
    pub sampled: Sampled,
    /// File that remembers what of that was spent, so that a restart does not spend it again.
    pub spent: PathBuf,
    /// How long one call to the control plane may take.
    pub timeout: Duration,
}

/// The budget of admin calls through the control plane; each leaks a connection there (`kuma.md` R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// At most so many in any hour, whatever happens. 0 forbids them.
    pub calls_per_hour: u32,
    /// At most so many for one change of one split.
    pub per_change: u32,
}

/// One Universal zone: its control plane and the Envoys on this host.
#[derive(Debug)]
pub struct KumaUniversal {
    rest: Arc<Rest>,
    federation: FederationName,
    seen: Seen,
    witness: Witness,
    /// What each process of the control plane said that it keeps its objects in: asked once of each.
    store: Mutex<Option<(String, Option<String>)>>,
    /// How other zones are reached, as it was said last.
    ways: ways::Known,
}

/// Generations of our objects as last observed, so that nothing newer is removed.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeMap<(Kind, String), Generation>>);

impl Seen {
    /// Remembers what was observed.
    pub(crate) fn remember(&self, ours: &[(Object, Generation)]) {
        // Replaced as a whole: a panic elsewhere leaves nothing half done.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ours
            .iter()
            .map(|(object, generation)| ((object.kind, object.name.clone()), *generation))
            .collect();
    }

    /// The generation that an object had; none if it was not there.
    pub(crate) fn of(&self, kind: Kind, name: &str) -> Option<Generation> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&(kind, name.to_owned())).copied()
    }
}

impl KumaUniversal {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KumaConfig) -> Result<Self, DriverError> {
        let rest = Arc::new(Rest::new(&config.api, config.token_file, config.timeout)?);
        Ok(Self {
            witness: Witness::new(
                &config.envoy_admin,
                Some(Arc::clone(&rest)),
                config.sampled,
                config.spent,
            )?,
            rest,
            federation: config.federation,
            seen: Seen::default(),
            store: Mutex::default(),
            ways: ways::Known::default(),
        })
    }
}

/// For so long a control plane is waited for that is asked what it keeps its objects in.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

impl KumaUniversal {
    /// What this process of the control plane keeps its objects in; none if it did not say.
    async fn kept_in(&self, instance: Option<&str>) -> Option<String> {
        let instance = instance?;
        let known = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, store)) = known.filter(|(of, _)| of == instance) {
            return store;
        }
        // Not for long: it is for a note alone, and writes wait for it. Who does not answer in time is not asked again.
        let store = match tokio::time::timeout(PATIENCE, observe::store(&self.rest)).await {
            Ok(Ok(store)) => store,
            // It went away meanwhile: asked again when it is back.
            Ok(Err(error)) => {
                tracing::debug!(%error, "what the control plane keeps its objects in is not known");
                return None;
            }
            Err(_) => {
                tracing::debug!(
                    "what the control plane keeps its objects in is not known: no answer in time"
                );
                None
            }
        };
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((instance.to_owned(), store.clone()));
        store
    }
}

impl ZoneDriver for KumaUniversal {
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>> {
        async { Ok(observe::root(&self.rest).await?.instance) }.boxed()
    }

    fn observe<'a>(
        &'a self,
        mesh: &'a MeshName,
        items: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>> {
        async move {
            let (mut observed, written) =
                observe::observe((&self.rest, &self.ways), &self.federation, mesh, items).await?;
            observed.store = self.kept_in(observed.instance.as_deref()).await;
            self.witness.observed(items, &written, &observed.services).await;
            self.seen.remember(&observed.ours);
            Ok(observed)
        }
        .boxed()
    }

    fn services<'a>(
        &'a self,
        mesh: &'a MeshName,
        items: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Option<Result<Vec<ServiceFact>, DriverError>>> {
        async move { Some(observe::services_of((&self.rest, &self.ways), mesh, items).await) }.boxed()
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        async move {
            match apply::of(step) {
                Work::Write(write) => apply::put(&self.rest, &self.federation, &write).await,
                Work::Remove { kind, mesh, name } => {
                    let seen = self.seen.of(kind, name);
                    apply::delete(&self.rest, &self.federation, kind, mesh, name, seen).await
                }
            }
        }
        .boxed()
    }

    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        self.witness.prove(items).boxed()
    }

    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        self.witness.sight(anchors).boxed()
    }

    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        self.witness.count(items).boxed()
    }

    fn notes(&self) -> Vec<String> {
        let known = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let forgetful = known
            .as_ref()
            .is_some_and(|(_, store)| store.as_deref() == Some("memory"));
        drop(known);
        let note = forgetful.then(|| {
            format!(
                "Kuma's control plane at {} keeps all that it holds in memory: each time that it restarts this zone's policies \
                 and services are gone for seconds, in every zone that sends to them, and requests fail. Give it a PostgreSQL \
                 store (KUMA_STORE_TYPE=postgres), and Kuma's global control plane too, which with a memory store deletes the \
                 mesh everywhere when it restarts",
                self.rest.base()
            )
        });
        note.into_iter().chain(self.witness.notes()).collect()
    }
}
