//! The driver of a Kong that Kong Ingress Controller runs: HTTPRoutes through the cluster's API server, read back from Kong.
//!
//! Nothing is ever written to Kong itself. A route that the controller says it has programmed is no proof: it says so of one
//! without an endpoint too, and says nothing of shares. So every node's balancer is asked, and must give each endpoint what the
//! controller would give it, by the Services and EndpointSlices of the cluster.

mod looked;
mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use weir_model::{BackendName, BasisPoints, FederationName, RouteName, SplitName};
use weir_planner::{Coverage, Evidence, Generation, Proof, ProvenWeights, Verdict};
use weir_render::kic::{HttpRoute, Routes, Said, Unmet, backends, expected, said};
use weir_render::kong::Expected;

use crate::dns::Names;
use crate::kong::admin::{Admin, AdminConfig};
use crate::kong::db::Became;
use crate::kong::proof::{AtNode, Doors};
use crate::kong::{Bringing, Brought, OVERTAKEN, observe, proof};
use crate::kubernetes::Cluster;
use crate::kubernetes::access::Access;
use crate::kubernetes::call::ApiServer;
use crate::kubernetes::hand::{Hand, stored_otherwise};
use crate::{DriverError, Outcome};
use looked::{Found, Looked, Owned, Watches, owned};
use nodes::Nodes;

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
        for route in wanted.routes.values() {
            let looked = &looked;
            asking.push(async move {
                if by.overtaken.is_cancelled() {
                    return (route, None);
                }
                (route, Some(self.brought(wanted, route, looked, by.plan).await))
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
        for (found, split) in looked.left_over(&self.federation, wanted, by.absent) {
            if by.overtaken.is_cancelled() {
                break;
            }
            match self.removed(wanted, found, by.plan).await {
                Ok(()) => brought = Brought::Posted,
                Err(Stop::Held(why)) => drop(became.splits.insert(split, why)),
                Err(Stop::Failed(error)) => {
                    let why = format!("its HTTPRoute cannot be removed: {error}; {}", error.help);
                    became.splits.insert(split, why);
                }
            }
        }
        became.nodes.insert(at(), brought);
        became
    }

    /// Whether anything was written.
    async fn brought(
        &self,
        wanted: &Routes,
        route: &HttpRoute,
        looked: &Looked,
        plan: Generation,
    ) -> Result<bool, Stop> {
        let known = looked.live(route);
        if let Some(Found(live)) = known
            && matches!(owned(live, &self.federation, wanted), Owned::Ours(..))
            && difference(route, live).is_none()
        {
            return Ok(false);
        }
        let path = path(route.namespace.as_str(), &route.name);
        let is = ("HTTPRoute", route.namespace.as_str(), route.name.as_str());
        let live = self.hand.live(&self.server, &path, is).await?;
        match &live {
            Some(live) => {
                self.may_write(live, wanted, plan)?;
                if difference(route, live).is_none() {
                    return Ok(false);
                }
            }
            // What is there already is changed whoever came beside it: that may be a revert.
            None => {
                if let Some(other) = looked.rival(&self.federation, wanted, route) {
                    return Err(Stop::Held(format!(
                        "{other}; no second one is put beside it: let the split have other hosts or paths, or remove that route"
                    )));
                }
            }
        }
        if let Err(unmet) = backends(route, &looked.services) {
            return Err(Stop::Held(told(&unmet)));
        }
        let document = (route.name.as_str(), route.document.clone());
        let stored = match self
            .hand
            .apply(&self.server, &path, document, live.as_ref())
            .await?
        {
            Ok(stored) => stored,
            Err(left) => return Err(Stop::Held(in_words(left))),
        };
        self.may_write(&stored, wanted, plan)?;
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

    /// Whether an object may be written over or removed: ours, and of no newer plan.
    fn may_write(&self, live: &Value, wanted: &Routes, plan: Generation) -> Result<(), Stop> {
        let name = live
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match owned(live, &self.federation, wanted) {
            Owned::Foreign(why) => Err(Stop::Held(format!(
                "an HTTPRoute named {name} is there and is not Weir's ({why}); rename or remove it, Weir does not overwrite it"
            ))),
            Owned::Ours(_, generation) if generation > plan => Err(Stop::Held(format!(
                "{name} carries generation {generation}, newer than {plan}: another agent of this zone has a newer plan"
            ))),
            Owned::Ours(..) => Ok(()),
        }
    }

    async fn removed(&self, wanted: &Routes, found: &Found, plan: Generation) -> Result<(), Stop> {
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
        self.may_write(&live, wanted, plan)?;
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
                return proofs;
            }
        };
        let nodes = join_all(nodes.iter().map(|admin| self.at_node(admin, wanted, &doors))).await;
        let read = proof::together(&doors, &nodes);
        proofs.extend(read.into_iter().map(|(split, mut proof)| {
            // The controller's rounding is no whole basis point: what is within the tolerance is told as the nearest.
            if proof.verdict == Verdict::Exact
                && let Some(expected) = doors.get(&split)
                && !expected.upstreams.is_empty()
            {
                proof.weights = Some(nearest(expected));
            }
            (split, proof)
        }));
        proofs
    }

    /// What Kong must run for a route, if all that the cluster says of it is as it should be.
    fn standing(&self, wanted: &Routes, route: &HttpRoute, looked: &Looked) -> Result<Expected, Verdict> {
        let different = |why: String| Err(Verdict::Different(why));
        let Some(Found(live)) = looked.live(route) else {
            return different(format!(
                "there is no HTTPRoute {}/{}",
                route.namespace, route.name
            ));
        };
        if let Owned::Foreign(why) = owned(live, &self.federation, wanted) {
            return different(format!(
                "the HTTPRoute {}/{} is not Weir's: {why}",
                route.namespace, route.name
            ));
        }
        if let Some(at) = difference(route, live) {
            return different(format!(
                "the HTTPRoute {}/{} says something else, at {at}",
                route.namespace, route.name
            ));
        }
        let found = match backends(route, &looked.services) {
            Ok(found) => found,
            Err(unmet) => return different(told(&unmet)),
        };
        match said(live, &route.parent, found.absent) {
            Said::Programmed => {}
            Said::Nothing(why) => return Err(Verdict::Unknown(why)),
            Said::Not(why) => return different(why),
        }
        if let Some(other) = looked.rival(&self.federation, wanted, route) {
            return different(format!("{other}: which of the two Kong takes is not known"));
        }
        match found.off.as_slice() {
            [] => Ok(expected(route, &found)),
            off => different(off.join("; ")),
        }
    }

    async fn at_node(&self, admin: &Admin, wanted: &Routes, doors: &Doors) -> AtNode {
        let end = Instant::now() + self.settle;
        let root = match observe::root(admin).await {
            Ok(root) => root,
            Err(error) => return AtNode::all(doors, &Verdict::Unknown(error.to_string()), false),
        };
        match admin.unready().await {
            Ok(None) => {}
            Ok(Some(why)) => {
                let why = format!("the Kong at {} is not ready: {why}", admin.url());
                return AtNode::all(doors, &Verdict::Different(why), true);
            }
            Err(error) => return AtNode::all(doors, &Verdict::Unknown(error.to_string()), false),
        }
        let mut found = proof::given(admin, doors, proof::to_ask(Some(root.workers)), end).await;
        // Requests come in by a service and its routes: without them an upstream with the right weights serves nobody.
        for split in doors.keys() {
            let Some(route) = wanted.routes.get(split) else {
                continue;
            };
            let services: BTreeSet<&str> = route.rules.iter().map(|rule| rule.upstream.as_str()).collect();
            for service in services {
                let verdict = match admin.list(&format!("services/{service}/routes")).await {
                    Ok(Some(routes)) if !routes.is_empty() => continue,
                    Ok(_) => Verdict::Different(format!(
                        "the Kong at {} has no service {service} with a route: the controller left it out",
                        admin.url()
                    )),
                    Err(error) => Verdict::Unknown(error.to_string()),
                };
                found.is_not(split, verdict);
            }
        }
        found
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}")
}

fn told(unmet: &[Unmet]) -> String {
    unmet
        .iter()
        .map(|Unmet(why)| why.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

fn in_words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Yielded(why) => why,
        Outcome::Done { .. } => "it was left alone".to_owned(),
    }
}

/// Where a live route says something else than the wanted one.
fn difference(route: &HttpRoute, live: &Value) -> Option<String> {
    let part = |of: &Value, at: &str| of.pointer(at).cloned().unwrap_or(Value::Null);
    let spec = weir_render::difference(&part(&route.document, "/spec"), &part(live, "/spec"), "spec");
    let marks = |what: &str| {
        let at = format!("/metadata/{what}");
        let wanted = route.document.pointer(&at).and_then(Value::as_object);
        let live = live.pointer(&at);
        let mut wanted = wanted.into_iter().flatten();
        wanted
            .find(|(key, value)| live.and_then(|live| live.get(key.as_str())) != Some(*value))
            .map(|(key, _)| format!("metadata.{what}.{key}"))
    };
    spec.or_else(|| marks("annotations")).or_else(|| marks("labels"))
}

fn proof_of(verdict: Verdict, evidence: Evidence) -> Proof {
    Proof {
        verdict,
        evidence,
        at: Timestamp::now(),
        coverage: Coverage::default(),
        weights: None,
    }
}

/// The shares of what Kong runs, as whole basis points.
fn nearest(expected: &Expected) -> ProvenWeights {
    let one = |(route, upstream): (&RouteName, &weir_render::kong::Upstream)| {
        let mut sums: BTreeMap<&BackendName, u64> = BTreeMap::new();
        for target in upstream.targets.values().chain(upstream.names.values()) {
            *sums.entry(&target.backend).or_default() += u64::from(target.weight);
        }
        let all: u64 = sums.values().sum::<u64>().max(1);
        let share = |sum: u64| {
            let share = (sum * 10_000 + all / 2) / all;
            u32::try_from(share)
                .ok()
                .and_then(|share| BasisPoints::new(share).ok())
                .unwrap_or(BasisPoints::WHOLE)
        };
        let shares = sums
            .into_iter()
            .map(|(backend, sum)| (backend.clone(), share(sum)));
        (route.clone(), shares.collect())
    };
    expected.upstreams.iter().map(one).collect()
}
