//! What the proxies of a zone run and count, in a cluster as on VMs: those of this host by their own admin interfaces, a
//! few of the others through the zone's control plane.
//!
//! `envoys` speaks to the first, `remote` spends the little that may be asked of the second; `proof` and `tally` give
//! meaning to what they say.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use weir_model::SplitName;
use weir_planner::{CountScope, Counts, Evidence, Item, Proof, ServiceFact};
use weir_render::{Anchored, Held, Object};

use super::elsewhere::Dataplane;
use super::envoys::{self, Admin, Mute, Place};
use super::proof::{self, Round};
use super::remote::Remote;
use super::rest::Rest;
use super::tally::{self, Reading, Tally};
use super::{ABREAST, Sampled};
use crate::{DriverError, Sighting};

/// The active listeners of an Envoy, without the rest of its configuration.
const LISTENERS: &str = "/config_dump?resource=dynamic_listeners";
/// How long one Envoy's admin interface may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Looks at proxies.
#[derive(Debug)]
pub(crate) struct Witness {
    places: Vec<Place>,
    /// The zone's control plane; none where nobody said where it is.
    rest: Option<Arc<Rest>>,
    memory: Mutex<Memory>,
    remote: tokio::sync::Mutex<Remote>,
}

#[derive(Debug, Default)]
struct Memory {
    tally: Tally,
    /// MeshServices of the zone, as last observed.
    services: Arc<[ServiceFact]>,
    /// Proxies of this host that call nothing of what is driven, when that was last looked at. A zone ingress has clusters of the
    /// same names, and what is open there is other zones' connections and no caller's.
    strangers: BTreeSet<String>,
    /// What a person should know and no proof says: dead sockets, proxies that cannot be read.
    notes: Vec<String>,
    /// When it was last asked how long answers took.
    timed: Option<Instant>,
}

/// How long answers took is asked for no more often: Envoy itself knows no more before its next flush, every 5 s.
const TIMES: Duration = Duration::from_secs(2);

impl Memory {
    /// Whether it is time to ask again how long answers took.
    fn asks_times(&mut self, now: Instant) -> bool {
        let asks = self.timed.is_none_or(|at| now.duration_since(at) >= TIMES);
        if asks {
            self.timed = Some(now);
        }
        asks
    }
}

impl Witness {
    /// Checks where proxies are said to be; nothing is dialled.
    ///
    /// # Errors
    /// The first place that cannot be one.
    pub(crate) fn new(
        envoy_admin: &[String],
        rest: Option<Arc<Rest>>,
        sampled: Sampled,
        spent: PathBuf,
    ) -> Result<Self, DriverError> {
        let places: Result<Vec<_>, _> = envoy_admin.iter().map(|text| Place::parse(text)).collect();
        Ok(Self {
            places: places?,
            rest,
            memory: Mutex::default(),
            remote: tokio::sync::Mutex::new(Remote::new(sampled, spent)),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // What is remembered is replaced as a whole: a panic elsewhere leaves nothing half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a person should know and no proof says.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.memory().notes.clone()
    }

    /// Remembers what was observed: which items are driven, when policies of ours were last written, and the MeshServices.
    pub(crate) async fn observed(
        &self,
        items: &[Arc<Item>],
        written: &[(SplitName, Timestamp)],
        services: &[ServiceFact],
    ) {
        self.memory().services = services.into();
        let mut remote = self.remote.lock().await;
        for item in items {
            remote.expect(&item.split, item.digest);
        }
        for (split, at) in written {
            remote.written(split, *at);
        }
    }

    /// Connected proxies of the zone that may call any of these items' services; none if the control plane does not tell.
    pub(crate) async fn callers(&self, items: &[Arc<Item>]) -> Option<Vec<Dataplane>> {
        let rest = self.rest.as_ref()?;
        let mut remote = self.remote.lock().await;
        remote.of_any(rest, items).await
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

    /// One proof for each item, in the order given.
    pub(crate) async fn prove(&self, items: &[Arc<Item>]) -> Vec<Proof> {
        let at = Timestamp::now();
        let dumps = self.ask_all(LISTENERS).await;
        let services = Arc::clone(&self.memory().services);
        let mut proofs = Vec::with_capacity(items.len());
        let mut strangers: BTreeSet<String> = dumps
            .iter()
            .filter(|(_, dump)| dump.is_ok())
            .map(|(admin, _)| admin.to_string())
            .collect();
        for item in items {
            let mut round = Round::default();
            for (admin, dump) in &dumps {
                match dump {
                    Ok(dump) => round
                        .seen
                        .push((admin.to_string(), proof::read(item, dump, &services))),
                    Err(why) => round.mute.push(why.clone()),
                }
            }
            for (admin, reading) in &round.seen {
                if *reading != proof::Reading::NotCaller {
                    strangers.remove(admin);
                }
            }
            let mut remote = self.remote.lock().await;
            if round.has_callers() {
                let here = round.callers();
                let all = match &self.rest {
                    Some(rest) => remote
                        .callers(rest, &item.mesh, item.service.as_str(), item.port, true)
                        .await
                        .unwrap_or(here),
                    None => here,
                };
                round.elsewhere = all.saturating_sub(here);
                proofs.push(round.verdict(item, Evidence::Live, at));
            } else if round.mute.is_empty() {
                let why = match dumps.len() {
                    0 => "no Envoy's admin interface answers on this host".to_owned(),
                    1 => format!("the Envoy on this host does not call {}", item.service),
                    n => format!("none of the {n} Envoys on this host calls {}", item.service),
                };
                proofs.push(match &self.rest {
                    Some(rest) => remote.prove(rest, item, &services, why).await,
                    None => proof::unknown(
                        format!(
                            "{why}, and the agent is not told where the zone's control plane is (kuma.api)"
                        ),
                        0,
                        at,
                    ),
                });
            } else {
                proofs.push(round.verdict(item, Evidence::Live, at));
            }
        }
        // Of nobody is it known what he calls while nothing is driven.
        if !items.is_empty() {
            self.memory().strangers = strangers;
        }
        proofs
    }

    /// One sighting for each anchor, in the order given: of the proxies of this host.
    pub(crate) async fn sight(&self, anchors: &[Object]) -> Vec<Sighting> {
        let dumps = self.ask_all(LISTENERS).await;
        let services = Arc::clone(&self.memory().services);
        let mut sightings = Vec::with_capacity(anchors.len());
        for object in anchors {
            let Some(anchored) = Anchored::of(object) else {
                sightings.push(Sighting::default());
                continue;
            };
            let held: Vec<Held> = dumps
                .iter()
                .map(|(_, dump)| match dump {
                    Ok(dump) => weir_render::holds(&anchored, dump, &services),
                    Err(_) => Held::No,
                })
                .collect();
            let here = held.iter().filter(|held| **held != Held::NotCalling).count();
            let all = match &self.rest {
                Some(rest) => {
                    let mut remote = self.remote.lock().await;
                    remote
                        .callers(rest, &object.mesh, &anchored.service, anchored.port, true)
                        .await
                }
                None => None,
            };
            sightings.push(Sighting {
                held: held.into_iter().max().filter(|_| here > 0),
                // A control plane that just came back knows of no proxies: that is not to say that there are none.
                complete: here > 0
                    && all.is_some_and(|all| usize::try_from(all).is_ok_and(|all| all == here)),
            });
        }
        sightings
    }

    /// One count for each item, in the order given, by the admin interfaces on this host.
    pub(crate) async fn count(&self, items: &[Arc<Item>]) -> Vec<Option<Counts>> {
        let timed = self.memory().asks_times(Instant::now());
        let query = if timed {
            tally::STATS_WITH_TIMES
        } else {
            tally::STATS
        };
        let stats = self.ask_all(query).await;
        let at = Timestamp::now();
        let strangers = self.memory().strangers.clone();
        let readings: Vec<Reading> = stats
            .into_iter()
            .filter_map(|(admin, stats)| {
                let name = admin.to_string();
                let stranger = strangers.contains(&name);
                let mut reading = Reading::of(name, &stats.ok()?, timed, at)?;
                reading.stranger = stranger;
                Some(reading)
            })
            .collect();
        self.memory().tally.take(items, &readings, CountScope::Host, at)
    }

    /// By what all callers of the zone said of themselves; those on this host are among them, and are not asked again.
    pub(crate) fn count_zone(&self, items: &[Arc<Item>], readings: &[Reading]) -> Vec<Option<Counts>> {
        let at = Timestamp::now();
        self.memory().tally.take(items, readings, CountScope::Zone, at)
    }
}
