//! What is kept of a cluster for its routes: HTTPRoutes everywhere, and the Services and EndpointSlices of the namespaces in which
//! there are some of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use weir_model::{DnsLabel, FederationName, SplitName};
use weir_planner::Generation;
use weir_render::kic::{HttpRoute, LABEL_GATEWAY, Routes, Said, Service, Services, Slice, overlaps, said};

use crate::DriverError;
use crate::kubernetes::call::ApiServer;
use crate::kubernetes::listing::Kept;
use crate::kubernetes::objects::{Manager, managers};
use crate::kubernetes::watch::{Bell, Objects, Watched};

/// A whole HTTPRoute.
#[derive(Debug, Clone)]
pub(super) struct Found(pub(super) Value);

impl Kept for Found {
    const KIND: &'static str = "HTTPRoute";

    fn of(document: Value) -> Self {
        Self(document)
    }

    fn matters(&self, _before: &Self) -> bool {
        // What the controller says of it matters as much as what it is.
        true
    }
}

impl Kept for Service {
    const KIND: &'static str = "Service";

    fn of(document: Value) -> Self {
        Self::of(&document)
    }

    fn matters(&self, before: &Self) -> bool {
        self != before
    }
}

impl Kept for Slice {
    const KIND: &'static str = "EndpointSlice";

    fn of(document: Value) -> Self {
        Self::of(&document)
    }

    fn matters(&self, before: &Self) -> bool {
        self != before
    }
}

/// Who stands behind routes of one namespace.
struct InNamespace {
    services: Watched<Service>,
    slices: Watched<Slice>,
}

/// What is watched. Nothing is asked before the first look.
pub(super) struct Watches {
    server: Arc<ApiServer>,
    timeout: Duration,
    bell: Arc<Bell>,
    routes: OnceLock<Watched<Found>>,
    namespaces: Mutex<BTreeMap<DnsLabel, Arc<InNamespace>>>,
}

/// What there is.
pub(super) struct Looked {
    routes: Objects<Found>,
    pub(super) services: Services,
}

impl Watches {
    pub(super) fn new(server: Arc<ApiServer>, timeout: Duration) -> Self {
        Self {
            server,
            timeout,
            bell: Arc::new(Bell::new()),
            routes: OnceLock::new(),
            namespaces: Mutex::default(),
        }
    }

    fn of(&self, namespace: &DnsLabel) -> Arc<InNamespace> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let of = namespaces.entry(namespace.clone()).or_insert_with(|| {
            let bell = || Arc::clone(&self.bell);
            let services = format!("/api/v1/namespaces/{namespace}/services");
            let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
            Arc::new(InNamespace {
                services: Watched::start(Arc::clone(&self.server), &services, self.timeout, bell()),
                slices: Watched::start(Arc::clone(&self.server), &slices, self.timeout, bell()),
            })
        });
        Arc::clone(of)
    }

    /// What there is, by what is watched.
    ///
    /// # Errors
    /// If any of it is not known.
    pub(super) async fn look(&self, wanted: &Routes) -> Result<Looked, DriverError> {
        let routes = self.routes.get_or_init(|| {
            let all = "/apis/gateway.networking.k8s.io/v1/httproutes";
            Watched::start(
                Arc::clone(&self.server),
                all,
                self.timeout,
                Arc::clone(&self.bell),
            )
        });
        let (routes, _) = routes.read(false).await?;
        let namespaces: BTreeSet<DnsLabel> = wanted
            .routes
            .values()
            .map(|route| route.namespace.clone())
            .collect();
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|namespace, _| namespaces.contains(namespace));
        let mut found = Services::default();
        for namespace in &namespaces {
            let of = self.of(namespace);
            let (services, slices) = tokio::join!(of.services.read(false), of.slices.read(false));
            let ((services, _), (slices, _)) = (services?, slices?);
            let services = services
                .iter()
                .map(|((_, name), service)| (name.clone(), service.clone()));
            found.put(namespace, services, slices.values().cloned());
        }
        Ok(Looked {
            routes,
            services: found,
        })
    }
}

/// Whose a route is.
pub(super) enum Owned {
    /// Ours at this gateway, of this split, with the generation of its label (0 if unreadable).
    Ours(SplitName, Generation),
    Foreign(String),
}

/// Whose a live route is: a mark is not enough, for somebody who copies a route of ours copies its labels. Ours carries our mark,
/// for this gateway, and was written under our manager's name.
pub(super) fn owned(live: &Value, federation: &FederationName, wanted: &Routes) -> Owned {
    let label = |key: &str| live.pointer("/metadata/labels")?.get(key)?.as_str();
    let foreign = |why: &str| Owned::Foreign(why.to_owned());
    let Some(of) = label("weir.dev/federation") else {
        return foreign("it carries no label weir.dev/federation");
    };
    if of != federation.as_str() {
        return Owned::Foreign(format!("it is of federation {of}"));
    }
    if label(LABEL_GATEWAY) != Some(wanted.gateway.as_str()) {
        return foreign("it is of another gateway");
    }
    let Some(split) = label("weir.dev/split").and_then(|split| split.parse().ok()) else {
        return foreign("it does not say of which split it is");
    };
    let managers = managers(live);
    if !managers.iter().any(Manager::is_ours) {
        let others: Vec<&str> = managers.iter().map(|manager| manager.name.as_str()).collect();
        return Owned::Foreign(format!(
            "it carries Weir's labels, but no field of it was written by Weir: its field managers are {}",
            others.join(", ")
        ));
    }
    let generation = label("weir.dev/generation").and_then(|text| text.parse().ok());
    Owned::Ours(split, Generation(generation.unwrap_or_default()))
}

impl Looked {
    pub(super) fn live(&self, route: &HttpRoute) -> Option<&Found> {
        self.routes
            .get(&(route.namespace.to_string(), route.name.clone()))
    }

    /// Another route that takes the same requests, in words. Those of the same split are none: one of them is on its way out.
    pub(super) fn rival(
        &self,
        federation: &FederationName,
        wanted: &Routes,
        route: &HttpRoute,
    ) -> Option<String> {
        let is_same = |live: &Value| matches!(owned(live, federation, wanted), Owned::Ours(split, _) if split == route.split);
        let (key, _) = self
            .routes
            .iter()
            .find(|(_, Found(live))| overlaps(route, live) && !is_same(live))?;
        Some(format!(
            "the HTTPRoute {}/{} takes the same requests at the Gateway {}",
            key.0, key.1, route.parent
        ))
    }

    /// Routes of ours that nothing wants any more, with their splits. What is wanted elsewhere goes when it is there.
    pub(super) fn left_over<'a>(
        &'a self,
        federation: &FederationName,
        wanted: &Routes,
        absent: &BTreeSet<SplitName>,
    ) -> Vec<(&'a Found, SplitName)> {
        let mut left = Vec::new();
        for ((namespace, name), found) in self.routes.iter() {
            let Owned::Ours(split, _) = owned(&found.0, federation, wanted) else {
                continue;
            };
            if absent.contains(&split) {
                continue;
            }
            let goes = match wanted.routes.get(&split) {
                None => true,
                Some(route) if route.namespace.as_str() == namespace && route.name == *name => false,
                Some(route) => {
                    let there = self.live(route);
                    there.is_some_and(|Found(live)| said(live, &route.parent, true) == Said::Programmed)
                }
            };
            if goes {
                left.push((found, split));
            }
        }
        left
    }
}
