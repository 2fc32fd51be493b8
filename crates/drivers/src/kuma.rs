//! Kuma on Universal: the zone's own control plane over REST, its Envoys over their admin interfaces.
//!
//! `rest` speaks to the control plane, `envoys` to the proxies of this host; `observe`, `apply`, `proof` and `tally` give
//! meaning to what they say; `remote` spends the little that may be asked of proxies elsewhere. No retry: the next
//! activation is the retry.

mod apply;
mod budget;
mod elsewhere;
mod envoys;
mod glob;
mod observe;
mod policy;
mod proof;
mod remote;
mod rest;
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use weir_model::{FederationName, MeshName};
use weir_planner::{Counts, Evidence, Generation, Item, Proof};
use weir_render::{Anchored, Held, Kind, Object, Step};

use crate::{DriverError, Observed, Outcome, Sighting, ZoneDriver};
use apply::Over;
use envoys::{Admin, Mute, Place};
use proof::Round;
use remote::Remote;
use rest::Rest;
use tally::{Reading, Tally};

/// The active listeners of an Envoy, without the rest of its configuration.
const LISTENERS: &str = "/config_dump?resource=dynamic_listeners";
/// So many Envoys are asked at the same time.
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
    rest: Rest,
    federation: FederationName,
    places: Vec<Place>,
    memory: Mutex<Memory>,
    remote: tokio::sync::Mutex<Remote>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Generations of our objects as last observed, so that nothing newer is removed.
    seen: BTreeMap<(Kind, String), Generation>,
    tally: Tally,
    /// What a person should know and no proof says: dead sockets, proxies that cannot be read.
    notes: Vec<String>,
}

/// How long one Envoy's admin interface may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

impl KumaUniversal {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KumaConfig) -> Result<Self, DriverError> {
        let places: Result<Vec<_>, _> = config.envoy_admin.iter().map(|text| Place::parse(text)).collect();
        Ok(Self {
            rest: Rest::new(&config.api, config.token_file, config.timeout)?,
            federation: config.federation,
            places: places?,
            memory: Mutex::default(),
            remote: tokio::sync::Mutex::new(Remote::new(config.sampled, config.spent)),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // What is remembered is replaced as a whole: a panic elsewhere leaves nothing half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every Envoy of this host the same; those that nobody answers for are left out and named in the notes.
    async fn ask_all(&self, path_and_query: &str) -> Vec<(Admin, Result<Value, String>)> {
        let places = self.places.clone();
        let found = tokio::task::spawn_blocking(move || envoys::find(&places))
            .await
            .unwrap_or_default();
        let answers: Vec<_> = futures::stream::iter(found)
            .map(|admin| async move {
                let answer = admin.get(path_and_query, ADMIN_TIMEOUT).await;
                (admin, answer)
            })
            .buffered(ABREAST)
            .collect()
            .await;
        let mut notes = Vec::new();
        let mut alive = Vec::new();
        for (admin, answer) in answers {
            match answer {
                Ok(value) => alive.push((admin, Ok(value))),
                Err(Mute::Dead) => notes.push(format!("nobody answers at {admin}: its Envoy is gone")),
                Err(Mute::Unreadable(why)) => {
                    notes.push(why.clone());
                    alive.push((admin, Err(why)));
                }
            }
        }
        let mut memory = self.memory();
        if memory.notes != notes {
            for note in notes.iter().filter(|note| !memory.notes.contains(note)) {
                tracing::warn!("{note}");
            }
            memory.notes = notes;
        }
        alive
    }

    async fn prove_all(&self, items: &[Arc<Item>]) -> Vec<Proof> {
        let at = Timestamp::now();
        let dumps = self.ask_all(LISTENERS).await;
        let mut proofs = Vec::with_capacity(items.len());
        for item in items {
            let mut round = Round::default();
            for (admin, dump) in &dumps {
                match dump {
                    Ok(dump) => round.seen.push((admin.to_string(), proof::read(item, dump))),
                    Err(why) => round.mute.push(why.clone()),
                }
            }
            let mut remote = self.remote.lock().await;
            if round.has_callers() {
                let here = round.callers();
                let all = remote
                    .callers(&self.rest, &item.mesh, item.service.as_str(), item.port, true)
                    .await
                    .unwrap_or(here);
                round.elsewhere = all.saturating_sub(here);
                proofs.push(round.verdict(item, Evidence::Live, at));
            } else if round.mute.is_empty() {
                let why = match dumps.len() {
                    0 => "no Envoy's admin interface answers on this host".to_owned(),
                    1 => format!("the Envoy on this host does not call {}", item.service),
                    n => format!("none of the {n} Envoys on this host calls {}", item.service),
                };
                proofs.push(remote.prove(&self.rest, item, why).await);
            } else {
                proofs.push(round.verdict(item, Evidence::Live, at));
            }
        }
        proofs
    }

    async fn look_all(&self, anchors: &[Object]) -> Vec<Sighting> {
        let dumps = self.ask_all(LISTENERS).await;
        let mut sightings = Vec::with_capacity(anchors.len());
        for object in anchors {
            let Some(anchored) = Anchored::of(object) else {
                sightings.push(Sighting::default());
                continue;
            };
            let held: Vec<Held> = dumps
                .iter()
                .map(|(_, dump)| match dump {
                    Ok(dump) => weir_render::holds(&anchored, dump),
                    Err(_) => Held::No,
                })
                .collect();
            let here = held.iter().filter(|held| **held != Held::NotCalling).count();
            let mut remote = self.remote.lock().await;
            let all = remote
                .callers(&self.rest, &object.mesh, &anchored.service, anchored.port, true)
                .await;
            sightings.push(Sighting {
                held: held.into_iter().max().filter(|_| here > 0),
                complete: all.is_some_and(|all| usize::try_from(all).is_ok_and(|all| all <= here)),
            });
        }
        sightings
    }

    async fn count_all(&self, items: &[Arc<Item>]) -> Vec<Option<Counts>> {
        let stats = self.ask_all(tally::STATS).await;
        let at = Timestamp::now();
        let readings: Vec<Reading> = stats
            .into_iter()
            .filter_map(|(admin, stats)| Reading::of(admin.to_string(), &stats.ok()?, at))
            .collect();
        self.memory().tally.take(items, &readings, at)
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
            let (observed, written) = observe::observe(&self.rest, &self.federation, mesh, items).await?;
            let mut remote = self.remote.lock().await;
            for item in items {
                remote.expect(&item.split, item.digest);
            }
            for (split, at) in &written {
                remote.written(split, *at);
            }
            drop(remote);
            self.memory().seen = observed
                .ours
                .iter()
                .map(|(object, generation)| ((object.kind, object.name.clone()), *generation))
                .collect();
            Ok(observed)
        }
        .boxed()
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        async move {
            match step {
                Step::Put {
                    object,
                    split,
                    generation,
                    ..
                } => {
                    let over = Over::Anything;
                    apply::put(
                        &self.rest,
                        &self.federation,
                        object,
                        split.as_str(),
                        *generation,
                        over,
                    )
                    .await
                }
                Step::Introduce {
                    object,
                    split,
                    generation,
                    ..
                } => {
                    let over = Over::Anchor;
                    apply::put(
                        &self.rest,
                        &self.federation,
                        object,
                        split.as_str(),
                        *generation,
                        over,
                    )
                    .await
                }
                Step::Withdraw {
                    object,
                    split,
                    generation,
                    ..
                } => {
                    let over = Over::Older;
                    apply::put(&self.rest, &self.federation, object, split, *generation, over).await
                }
                Step::Delete { kind, mesh, name, .. } => {
                    let seen = self.memory().seen.get(&(*kind, name.clone())).copied();
                    apply::delete(&self.rest, &self.federation, *kind, mesh, name, seen).await
                }
            }
        }
        .boxed()
    }

    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        self.prove_all(items).boxed()
    }

    fn look<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        self.look_all(anchors).boxed()
    }

    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        self.count_all(items).boxed()
    }

    fn notes(&self) -> Vec<String> {
        self.memory().notes.clone()
    }
}
