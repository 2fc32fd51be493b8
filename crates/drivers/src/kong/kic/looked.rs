//! What is kept of a cluster for its routes: HTTPRoutes everywhere, and the Services and EndpointSlices of the namespaces in which
//! there are some of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use weir_model::{DnsLabel, FederationName, SplitName};
use weir_planner::Generation;
use weir_render::kic::{
    HttpRoute, LABEL_GATEWAY, LABEL_GATEWAY_GENERATION, Mark, Routes, Service, Services, Slice, overlaps,
};

use crate::DriverError;
use crate::kubernetes::call::ApiServer;
use crate::kubernetes::listing::Kept;
use crate::kubernetes::objects::by_us;
use crate::kubernetes::watch::{Bell, Objects, Watched};
use crate::kuma::policy::label;

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
    /// Namespaces whose Services or EndpointSlices are not known, and why.
    pub(super) unknown: BTreeMap<DnsLabel, DriverError>,
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
    /// If it is not known which routes there are.
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
        let asked = namespaces.into_iter().map(|namespace| async move {
            let of = self.of(&namespace);
            let both = tokio::join!(of.services.read(false), of.slices.read(false));
            (namespace, both)
        });
        let (mut found, mut unknown) = (Services::default(), BTreeMap::new());
        for (namespace, both) in join_all(asked).await {
            match both {
                (Ok((services, _)), Ok((slices, _))) => {
                    let services = services
                        .iter()
                        .map(|((_, name), service)| (name.clone(), service.clone()));
                    found.put(&namespace, services, slices.values().cloned());
                }
                (Err(error), _) | (_, Err(error)) => drop(unknown.insert(namespace, error)),
            }
        }
        Ok(Looked {
            routes,
            services: found,
            unknown,
        })
    }
}

/// Whose a route is.
pub(super) enum Owned {
    /// Ours at this gateway, of this split, with the generations of its labels (0 if unreadable): of the item, of the gateway.
    Ours(SplitName, Generation, Generation),
    Foreign(String),
}

/// Whose a live route is: a mark is not enough, for somebody who copies a route of ours copies its labels. Ours carries our mark,
/// for this gateway, and was written under our manager's name.
pub(super) fn owned(live: &Value, federation: &FederationName, wanted: &Routes) -> Owned {
    let foreign = |why: &str| Owned::Foreign(why.to_owned());
    let Some(of) = label(live, "weir.dev/federation") else {
        return foreign("it carries no label weir.dev/federation");
    };
    if of != federation.as_str() {
        return Owned::Foreign(format!("it is of federation {of}"));
    }
    if label(live, LABEL_GATEWAY) != Some(wanted.gateway.as_str()) {
        return foreign("it is of another gateway");
    }
    let Some(split) = label(live, "weir.dev/split").and_then(|split| split.parse().ok()) else {
        return foreign("it does not say of which split it is");
    };
    if let Err(why) = by_us(live) {
        return Owned::Foreign(why);
    }
    let generation = |key: &str| {
        Generation(
            label(live, key)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        )
    };
    Owned::Ours(
        split,
        generation("weir.dev/generation"),
        generation(LABEL_GATEWAY_GENERATION),
    )
}

impl Looked {
    /// All routes of the cluster, by namespace and name.
    pub(super) fn routes(&self) -> impl Iterator<Item = (&(String, String), &Found)> {
        self.routes.iter()
    }

    pub(super) fn live(&self, route: &HttpRoute) -> Option<&Found> {
        self.routes
            .get(&(route.namespace.to_string(), route.name.clone()))
    }

    /// Another route that takes the same requests, in words. Those of ours that nothing wants any more are none: they go.
    pub(super) fn rival(
        &self,
        federation: &FederationName,
        wanted: &Routes,
        route: &HttpRoute,
    ) -> Option<String> {
        let (key, Found(live)) = self.routes.iter().find(|(key, Found(live))| {
            overlaps(route, live)
                && !(key.0 == route.namespace.as_str() && key.1 == route.name)
                && !matches!(owned(live, federation, wanted), Owned::Ours(..))
        })?;
        let whose = match (label(live, "weir.dev/federation"), label(live, LABEL_GATEWAY)) {
            (Some(of), Some(gateway)) if of == federation.as_str() => format!(
                ", and is Weir's own of the gateway {gateway}: if that is declared no more (it got another name), give it its name back; \
                 or remove that route by hand, after which its requests have none for some seconds"
            ),
            _ if Mark::of(live).is_some_and(|mark| mark.is_of(live) && mark.taker.split == route.split) => {
                ", and is the one that this split took over: take it out where it comes from, after which its requests have none until \
                 Weir's own is in Kong"
                    .to_owned()
            }
            _ => String::new(),
        };
        Some(format!(
            "the HTTPRoute {}/{} takes the same requests at the Gateway {}{whose}",
            key.0, key.1, route.parent
        ))
    }

    /// Routes of ours that nothing wants any more, with their splits and those wanted ones that take requests of theirs.
    pub(super) fn left_over<'a>(
        &'a self,
        federation: &FederationName,
        wanted: &Routes,
    ) -> Vec<(&'a Found, SplitName, BTreeSet<SplitName>)> {
        let mut left = Vec::new();
        for ((namespace, name), found) in self.routes.iter() {
            let Owned::Ours(split, ..) = owned(&found.0, federation, wanted) else {
                continue;
            };
            let is_it = |route: &HttpRoute| route.namespace.as_str() == namespace && route.name == *name;
            if wanted.routes.get(&split).is_some_and(is_it) {
                continue;
            }
            let heirs = wanted
                .routes
                .values()
                .filter(|route| route.split == split || overlaps(route, &found.0));
            let heirs = heirs.map(|route| route.split.clone()).collect();
            left.push((found, split, heirs));
        }
        left
    }
}
