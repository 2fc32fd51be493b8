//! The driver of a Kong that Kong Ingress Controller runs: HTTPRoutes through the cluster's API server, read back from Kong.
//!
//! Nothing is ever written to Kong itself. A route that the controller says it has programmed is no proof: it says so of one
//! without an endpoint too, and says nothing of shares. So every node's balancer is asked, and must give each endpoint what the
//! controller would give it, by the Services and EndpointSlices of the cluster.

mod compare;
mod kong;
mod looked;
mod nodes;
mod pinned;
mod rising;
mod standing;
mod taken;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;
use weir_model::{FederationName, SplitName};
use weir_planner::{Coverage, Evidence, Generation, Proof, Verdict};
use weir_render::PINNED;
use weir_render::kic::{HttpRoute, Mark, Routes, Unmet, is_of};

use crate::dns::Names;
use crate::kong::admin::AdminConfig;
use crate::kong::db::Became;
use crate::kong::proof::{AtNode, Doors};
use crate::kong::{Bringing, Brought, OVERTAKEN, proof};
use crate::kubernetes::Cluster;
use crate::kubernetes::access::Access;
use crate::kubernetes::call::ApiServer;
use crate::kubernetes::hand::{Hand, stored_otherwise};
use crate::kuma::policy::label;
use crate::{DriverError, Outcome};
use compare::{difference, nearest};
use kong::Beside;
use looked::{Found, Looked, Owned, Watches, owned};
use nodes::Nodes;
use pinned::is_free;

/// So many routes are written at the same time.
const ABREAST: usize = 8;

/// How long a connection to the API server may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// The cluster of a gateway that a controller runs.
#[derive(Clone)]
pub struct KongCluster {
    /// Whose routes are ours.
    pub federation: FederationName,
    /// Which cluster, and as whom.
    pub cluster: Cluster,
    /// Whether fields of our routes that another field manager wrote are taken back, after it was named.
    pub take_back: bool,
    /// How long one call to the API server may take.
    pub timeout: Duration,
    /// Who looks up the names of Kong's Admin APIs, for this gateway alone: each address behind one is a node.
    pub names: Arc<dyn Names>,
}

/// A gateway that a controller runs.
pub struct KongKic {
    server: Arc<ApiServer>,
    hand: Hand,
    federation: FederationName,
    watches: Watches,
    nodes: Nodes,
    settle: Duration,
    /// Routes that were proven at every node when that was last looked at.
    proven: Mutex<BTreeMap<SplitName, Value>>,
    /// The marks of routes of others that this agent wrote last, by path.
    wrote: Mutex<BTreeMap<String, Mark>>,
}

impl std::fmt::Debug for KongKic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KongKic")
            .field("server", &self.server.name())
            .finish_non_exhaustive()
    }
}

/// Why a route is not as it is wanted.
enum Stop {
    Held(String),
    Failed(DriverError),
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Self {
        Self::Failed(error)
    }
}

impl KongKic {
    /// Checks the configuration, and reads the kubeconfig; nothing is dialled. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub(crate) fn new(
        config: KongCluster,
        nodes: &[AdminConfig],
        settle: Duration,
    ) -> Result<Self, DriverError> {
        let access = Access::open(&config.cluster, CONNECT.min(config.timeout))?;
        let server = Arc::new(ApiServer::new(access.client, access.credential, access.server));
        Ok(Self {
            watches: Watches::new(Arc::clone(&server), config.timeout),
            server,
            hand: Hand::new(config.take_back, config.timeout),
            federation: config.federation,
            nodes: Nodes::new(nodes, config.names),
            settle,
            proven: Mutex::default(),
            wrote: Mutex::default(),
        })
    }

    /// Brings the cluster's routes to these, each by itself. What is there of splits that are absent stays.
    pub async fn bring(&self, wanted: &Routes, by: Bringing<'_>) -> Became {
        let mut became = Became::default();
        let at = || self.server.name().to_owned();
        let looked = match by.overtaken.run_until_cancelled(self.watches.look(wanted)).await {
            None => {
                became.nodes.insert(at(), Brought::Held(OVERTAKEN.to_owned()));
                return became;
            }
            Some(Err(error)) => {
                became.nodes.insert(at(), Brought::Failed(error));
                return became;
            }
            Some(Ok(looked)) => looked,
        };
        let mut brought = Brought::There;
        // One that the API server takes its time for holds up no other one, which may be a revert.
        let mut asking = Vec::new();
        // A way back comes first, and asks nobody.
        let mut routes: Vec<&HttpRoute> = wanted.routes.values().collect();
        routes.sort_by_key(|route| !by.back.contains(&route.split));
        for route in routes {
            let looked = &looked;
            asking.push(async move {
                if by.overtaken.is_cancelled() {
                    return (route, None);
                }
                (route, Some(self.brought(wanted, route, looked, by).await))
            });
        }
        let mut asked = stream::iter(asking).buffer_unordered(ABREAST);
        let mut overtaken = false;
        while let Some((route, became_of)) = asked.next().await {
            let why = match became_of {
                None => {
                    overtaken = true;
                    continue;
                }
                Some(Ok(false)) => continue,
                Some(Ok(true)) => {
                    brought = Brought::Posted;
                    continue;
                }
                Some(Err(Stop::Held(why))) => why,
                // What is wrong with one answer need not be wrong with the next.
                Some(Err(Stop::Failed(error))) => format!("{error}; {}", error.help),
            };
            became.splits.insert(route.split.clone(), why);
        }
        drop(asked);
        if overtaken {
            // Not all of it was tried: nothing of it is remembered as there.
            became.nodes.insert(at(), Brought::Held(OVERTAKEN.to_owned()));
            return became;
        }
        let whole = looked.beside(wanted);
        for (found, split, heirs) in looked.left_over(&self.federation, &whole) {
            if by.overtaken.is_cancelled() {
                break;
            }
            if let Some(why) = self.still_needed(wanted, &heirs, by.absent) {
                became
                    .notes
                    .push(format!("split {split}: its HTTPRoute stays for now: {why}"));
                continue;
            }
            match self.removed(wanted, (found, &split), by).await {
                Ok(()) => brought = Brought::Posted,
                Err(Stop::Held(why)) => drop(became.splits.insert(split, why)),
                Err(Stop::Failed(error)) => {
                    let why = format!("its HTTPRoute cannot be removed: {error}; {}", error.help);
                    became.splits.insert(split, why);
                }
            }
        }
        self.forget(wanted);
        for (found, taker) in looked.taken(&self.federation, wanted) {
            let split = &taker.split;
            if by.overtaken.is_cancelled() || by.absent.contains(split) {
                continue;
            }
            // A split that goes another way by now has its requests here until that is proven.
            let heir = wanted.routes.keys().filter(|of| *of == split).cloned().collect();
            if self.still_needed(wanted, &heir, &BTreeSet::new()).is_some() {
                continue;
            }
            // Nothing of any share hangs on it: whatever stands in its way is told, and holds nothing.
            let why = match self.let_go((found, &taker), by.plan).await {
                Ok(()) => {
                    brought = Brought::Posted;
                    continue;
                }
                Err(Stop::Held(why)) => why,
                Err(Stop::Failed(error)) => format!("{error}; {}", error.help),
            };
            became.notes.push(format!(
                "split {split}: the HTTPRoute that it had taken over keeps its mark: {why}"
            ));
        }
        became.nodes.insert(at(), brought);
        became
    }

    /// Why a route that nothing wants any more does not go yet: whoever takes its requests from now on is not proven there, or it is
    /// not known who that is.
    fn still_needed(
        &self,
        wanted: &Routes,
        heirs: &BTreeSet<SplitName>,
        absent: &BTreeSet<SplitName>,
    ) -> Option<String> {
        if let Some(split) = absent.iter().next() {
            return Some(format!(
                "split {split} may take its requests, and is not in force here yet"
            ));
        }
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |split: &&SplitName| {
            let route = wanted.routes.get(*split);
            route.is_some_and(|route| proven.get(*split) == Some(&route.document))
        };
        let waits = heirs.iter().find(|split| !is_there(split))?;
        Some(format!("split {waits} takes its requests, and is not proven yet"))
    }

    /// Whether anything was written.
    async fn brought(
        &self,
        wanted: &Routes,
        route: &HttpRoute,
        looked: &Looked,
        by: Bringing<'_>,
    ) -> Result<bool, Stop> {
        if let Some(taker) = &route.taken_by {
            return self.taken_over(route, taker, looked, by).await;
        }
        let known = looked.live(route);
        if let Some(Found(live)) = known
            && matches!(owned(live, &self.federation, wanted), Owned::Ours(..))
            && difference(route, live).is_none()
        {
            return Ok(false);
        }
        if let Some(error) = looked.unknown.get(&route.namespace) {
            return Err(Stop::Held(format!(
                "who stands behind the Services of namespace {} is not known: {error}; {}",
                route.namespace, error.help
            )));
        }
        let path = path(route.namespace.as_str(), &route.name);
        let is = ("HTTPRoute", route.namespace.as_str(), route.name.as_str());
        let live = self.hand.live(&self.server, &path, is).await?;
        match &live {
            Some(live) => {
                self.may_write(live, wanted, (route.known, route.gateway_generation))?;
                is_free((label(live, PINNED), route.pin.as_deref()), &route.split, by)?;
                if difference(route, live).is_none() {
                    return Ok(false);
                }
            }
            // What is there already is changed whoever came beside it: that may be a revert.
            None => {
                let there = looked.rival(&self.federation, wanted, route);
                let other = match there {
                    Some(other) => Some(other),
                    None => self.rival_in_kong(wanted, route).await.map_err(Stop::Held)?,
                };
                if let Some(other) = other {
                    return Err(Stop::Held(format!(
                        "{other}; no second one is put beside it: let the split have other hosts or paths, or remove that route"
                    )));
                }
            }
        }
        self.may_rise(route, live.as_ref(), looked, by).await?;
        let document = (route.name.as_str(), route.document.clone());
        let stored = match self
            .hand
            .apply(&self.server, &path, document, live.as_ref())
            .await?
        {
            Ok(stored) => stored,
            Err(left) => return Err(Stop::Held(in_words(left))),
        };
        self.may_write(&stored, wanted, (route.known, route.gateway_generation))?;
        match difference(route, &stored) {
            None => {
                tracing::info!(split = %route.split, route = %route.name, namespace = %route.namespace, "the HTTPRoute was written");
                Ok(true)
            }
            Some(at) => match stored_otherwise((&path, &route.name), &stored, &at)? {
                Outcome::Yielded(why) => Err(Stop::Held(why)),
                Outcome::Done { .. } => Ok(true),
            },
        }
    }

    /// Whether an object may be written over or removed by whoever knows these generations of its item and its gateway: ours, and of
    /// no newer ones.
    fn may_write(
        &self,
        live: &Value,
        wanted: &Routes,
        (item, gateway): (Generation, Generation),
    ) -> Result<(), Stop> {
        let name = live
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match owned(live, &self.federation, wanted) {
            Owned::Foreign(why) => Err(Stop::Held(format!(
                "an HTTPRoute named {name} is there and is not Weir's ({why}); rename or remove it, Weir does not overwrite it"
            ))),
            Owned::Ours(_, of_item, of_gateway) if of_item > item || of_gateway > gateway => {
                Err(Stop::Held(format!(
                    "{name} carries generation {of_item}, of generation {of_gateway} of the gateway, and this agent knows {item} and \
                 {gateway}: another agent of this zone has a newer plan"
                )))
            }
            Owned::Ours(..) => Ok(()),
        }
    }

    async fn removed(
        &self,
        wanted: &Routes,
        (found, split): (&Found, &SplitName),
        by: Bringing<'_>,
    ) -> Result<(), Stop> {
        let text = |at: &str| found.0.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let path = path(namespace, name);
        let Some(live) = self
            .hand
            .live(&self.server, &path, ("HTTPRoute", namespace, name))
            .await?
        else {
            return Ok(());
        };
        self.may_write(&live, wanted, (by.plan, by.plan))?;
        is_free((label(&live, PINNED), None), split, by)?;
        self.hand.delete(&self.server, &path, &live).await?;
        tracing::info!(route = name, namespace, "the HTTPRoute was removed");
        Ok(())
    }

    /// Reads back what the cluster has and what every node of Kong gives, one proof for each route. Never fails: not knowing is
    /// a proof with verdict unknown. `Exact` only if the route is there as it is wanted, the controller says of it as it is now
    /// that it is programmed, every node has what the controller makes of it, each worker that answered gives each endpoint
    /// its weight, and the shares that come of it are the declared ones to a tenth of a percentage point.
    pub async fn prove(&self, wanted: &Routes) -> BTreeMap<SplitName, Proof> {
        let looked = match self.watches.look(wanted).await {
            Ok(looked) => looked,
            Err(error) => {
                self.keep(wanted, &BTreeMap::new());
                let unknown = || proof_of(Verdict::Unknown(error.to_string()), Evidence::Unknown);
                return wanted
                    .routes
                    .keys()
                    .map(|split| (split.clone(), unknown()))
                    .collect();
            }
        };
        let mut proofs = BTreeMap::new();
        let mut doors = Doors::new();
        for (split, route) in &wanted.routes {
            match self.standing(wanted, route, &looked) {
                Ok(expected) => drop(doors.insert(split.clone(), expected)),
                Err(verdict) => drop(proofs.insert(split.clone(), proof_of(verdict, Evidence::Live))),
            }
        }
        let nodes = match self.nodes.now().await {
            Ok(nodes) => nodes,
            Err(why) => {
                let unknown = || proof_of(Verdict::Unknown(why.clone()), Evidence::Unknown);
                proofs.extend(doors.keys().map(|split| (split.clone(), unknown())));
                self.keep(wanted, &BTreeMap::new());
                return proofs;
            }
        };
        let whole = looked.beside(wanted);
        let asked = nodes
            .iter()
            .map(|admin| kong::at_node(admin, &whole, &doors, self.settle));
        let (nodes, beside): (Vec<AtNode>, Vec<Beside>) = join_all(asked).await.into_iter().unzip();
        let mut read = proof::together(&doors, &nodes);
        self.keep(wanted, &read);
        for (split, proof) in &mut read {
            // The route is there and served, and a left-over one that goes makes nothing worse: only shares are not what is declared.
            if let Some(why) = beside.iter().find_map(|of| of.choosing.get(split)) {
                proof.weights = None;
                proof.unhealthy.clear();
                if !matches!(proof.verdict, Verdict::Different(_)) {
                    proof.verdict = Verdict::Different(why.clone());
                }
            }
            let leaving = beside.iter().find_map(|of| of.leaving.get(split));
            if leaving.is_some() {
                proof.unhealthy.clear();
            }
            if proof.verdict != Verdict::Exact {
                continue;
            }
            let by_weight = wanted.routes.get(split).is_some_and(HttpRoute::has_weights);
            // The controller's rounding is no whole basis point: what is within the tolerance is told as the nearest.
            proof.weights = doors.get(split).filter(|_| by_weight).map(nearest);
            if let Some(other) = leaving {
                proof.verdict = Verdict::Different(format!(
                    "Kong's route {other}, of Weir's own and on its way out, still takes the same requests"
                ));
            }
        }
        proofs.extend(read);
        proofs
    }

    /// Keeps in mind which routes are proven at every node, whatever is on its way out beside them, and whatever their upstreams choose by.
    fn keep(&self, wanted: &Routes, read: &BTreeMap<SplitName, Proof>) {
        let there = read.iter().filter(|(_, proof)| {
            proof.verdict == Verdict::Exact
                && proof.coverage.of > 0
                && proof.coverage.seen == proof.coverage.of
        });
        let there =
            there.filter_map(|(split, _)| Some((split.clone(), wanted.routes.get(split)?.document.clone())));
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = there.collect();
    }

    /// A route of Kong's own, of whatever kind of object, that takes the requests of one that is not there yet.
    async fn rival_in_kong(&self, wanted: &Routes, route: &HttpRoute) -> Result<Option<String>, String> {
        let nodes = self.nodes.now().await?;
        let mut why = "no node of Kong is known".to_owned();
        for admin in &nodes {
            match kong::router(admin).await {
                Ok(router) => {
                    let others = router.at_odds(route).into_iter();
                    let other = others.filter(|of| !is_of(&wanted.gateway, of)).min();
                    return Ok(other.map(|other| format!("Kong's route {other} takes the same requests")));
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!("which requests Kong takes already is not known: {why}"))
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}")
}

fn told(unmet: &[Unmet]) -> String {
    unmet
        .iter()
        .map(|unmet| unmet.why.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

fn in_words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Yielded(why) => why,
        Outcome::Done { .. } => "it was left alone".to_owned(),
    }
}

fn proof_of(verdict: Verdict, evidence: Evidence) -> Proof {
    Proof {
        verdict,
        evidence,
        at: Timestamp::now(),
        coverage: Coverage::default(),
        weights: None,
        unhealthy: BTreeSet::new(),
    }
}
