//! HTTPRoutes of others that splits take over: changed where the split says so, and put back when it does no more.

use std::collections::BTreeSet;

use serde_json::Value;
use weir_model::{ClusterService, DnsLabel, FederationName, GatewayName, SplitName};
use weir_planner::Generation;
use weir_render::kic::{HttpRoute, Mark, Over, Routes, Taker, backends, over};

use super::compare::rises;
use super::looked::{Found, Looked};
use super::{KongKic, Stop, in_words, path, told};

impl KongKic {
    /// Whether anything was written.
    pub(super) async fn taken_over(
        &self,
        route: &HttpRoute,
        taker: &Taker,
        looked: &Looked,
    ) -> Result<bool, Stop> {
        if let Some(Found(live)) = looked.live(route)
            && over(route, taker, live) == Ok(Over::There)
        {
            return Ok(false);
        }
        if let Some(error) = looked.unknown.get(&route.namespace) {
            return Err(Stop::Held(format!(
                "who stands behind the Services of namespace {} is not known: {error}; {}",
                route.namespace, error.help
            )));
        }
        let at = path(route.namespace.as_str(), &route.name);
        let is = ("HTTPRoute", route.namespace.as_str(), route.name.as_str());
        let Some(live) = self.hand.live(&self.server, &at, is).await? else {
            return Err(Stop::Held(absent(route)));
        };
        let (patch, contested) = match over(route, taker, &live).map_err(Stop::Held)? {
            Over::There => return Ok(false),
            Over::Write(patch) => (patch, None),
            Over::Contested(patch) => {
                let from = self.hand.take_back(&route.name, &live, "rules");
                (patch, Some(from.map_err(|left| Stop::Held(in_words(left)))?))
            }
        };
        let unmet = backends(route, &looked.services).err().unwrap_or_default();
        let unmet: Vec<_> = unmet
            .into_iter()
            .filter(|unmet| rises(route, Some(&live), unmet))
            .collect();
        if !unmet.is_empty() {
            return Err(Stop::Held(told(&unmet)));
        }
        let stored = self.hand.change(&self.server, &at, patch, &live).await?;
        if let Some(from) = contested {
            self.hand.fought(&route.name, &from);
        }
        match over(route, taker, &stored) {
            Ok(Over::There) => {
                tracing::info!(split = %route.split, route = %route.name, namespace = %route.namespace, "the HTTPRoute was taken over");
                Ok(true)
            }
            Ok(_) => Err(Stop::Held(format!(
                "the API server stored something else in {} than was written: a webhook of this cluster may change it",
                route.name
            ))),
            Err(why) => Err(Stop::Held(why)),
        }
    }

    /// Puts back what a route had before a split took it over.
    pub(super) async fn put_back(
        &self,
        looked: &Looked,
        (found, split): (&Found, &SplitName),
        plan: Generation,
    ) -> Result<(), Stop> {
        let text = |at: &str| found.0.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let at = path(namespace, name);
        let is = ("HTTPRoute", namespace, name);
        let Some(live) = self.hand.live(&self.server, &at, is).await? else {
            return Ok(());
        };
        let mark = Mark::of(&live).filter(|mark| mark.is_of(&live) && mark.taker.split == *split);
        let Some(mark) = mark else {
            return Ok(());
        };
        let newest = mark.taker.generation.max(mark.taker.gateway_generation);
        if newest > plan {
            return Err(Stop::Held(format!(
                "{name} was taken over in generation {newest}, and this agent knows {plan}: another agent of this zone has a newer plan"
            )));
        }
        if mark.stands(&live)
            && let Some(why) = nobody_there(looked, namespace, &mark)
        {
            return Err(Stop::Held(format!(
                "the HTTPRoute {namespace}/{name} keeps the last weights of this split, for with what it had before nobody would \
                 answer: {why}; give it the backendRefs that it is to have, and Weir takes off its mark"
            )));
        }
        let back = mark.back(&live);
        self.hand.change(&self.server, &at, back, &live).await?;
        tracing::info!(route = name, namespace, "the HTTPRoute has what it had before");
        Ok(())
    }
}

/// What is said of a route that is to be taken over and is not there.
pub(super) fn absent(route: &HttpRoute) -> String {
    format!(
        "there is no HTTPRoute {}/{} that the split could take over",
        route.namespace, route.name
    )
}

/// Why nobody would answer with what was there before.
fn nobody_there(looked: &Looked, namespace: &str, mark: &Mark) -> Option<String> {
    let namespace: DnsLabel = namespace.parse().ok()?;
    if let Some(error) = looked.unknown.get(&namespace) {
        return Some(format!("who stands behind its Services is not known ({error})"));
    }
    mark.had().into_iter().find_map(|(name, port)| {
        let service = ClusterService {
            namespace: namespace.clone(),
            name: name.parse().ok()?,
            port,
        };
        match looked.services.reached(&service) {
            Err(why) => Some(why),
            Ok(reached) if reached.count() == 0 => {
                Some(format!("no endpoint of the Service {namespace}/{name} is ready"))
            }
            Ok(_) => None,
        }
    })
}

impl Looked {
    /// Routes that were taken over at this gateway and that nothing wants any more, with their splits and those wanted ones that
    /// take requests of theirs.
    pub(super) fn taken<'a>(
        &'a self,
        federation: &FederationName,
        wanted: &Routes,
    ) -> Vec<(&'a Found, SplitName, BTreeSet<SplitName>)> {
        let mut taken = Vec::new();
        for ((namespace, name), found) in self.routes() {
            let Some(mark) = mark_at(&wanted.gateway, &found.0) else {
                continue;
            };
            let is_it = |route: &HttpRoute| {
                route.taken_by.is_some() && route.namespace.as_str() == namespace && route.name == *name
            };
            if mark.taker.federation != *federation || wanted.routes.values().any(is_it) {
                continue;
            }
            let split = mark.taker.split;
            let heirs = wanted.routes.keys().filter(|other| **other == split).cloned();
            taken.push((found, split.clone(), heirs.collect()));
        }
        taken
    }
}

/// The mark of a route that was taken over at this gateway.
pub(super) fn mark_at(gateway: &GatewayName, live: &Value) -> Option<Mark> {
    Mark::of(live).filter(|mark| mark.is_of(live) && mark.taker.gateway == *gateway)
}
