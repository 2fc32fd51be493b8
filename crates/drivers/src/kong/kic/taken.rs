//! HTTPRoutes of others that splits take over: changed where the split says so, and let go when it does no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use serde_json::Value;
use weir_model::FederationName;
use weir_planner::Generation;
use weir_render::kic::{HttpRoute, Mark, Over, Routes, Taker, let_go, over};

use super::looked::{Found, Looked};
use super::pinned::is_free;
use super::{KongKic, Stop, in_words, path};
use crate::kong::Bringing;

impl KongKic {
    /// Whether anything was written.
    pub(super) async fn taken_over(
        &self,
        route: &HttpRoute,
        taker: &Taker,
        looked: &Looked,
        by: Bringing<'_>,
    ) -> Result<bool, Stop> {
        let at = path(route.namespace.as_str(), &route.name);
        if let Some(Found(live)) = looked.live(route)
            && over(route, taker, live) == Ok(Over::There)
        {
            self.wrote().extend(Mark::of(live).map(|mark| (at, mark)));
            return Ok(false);
        }
        if let Some(error) = looked.unknown.get(&route.namespace) {
            return Err(Stop::Held(format!(
                "who stands behind the Services of namespace {} is not known: {error}; {}",
                route.namespace, error.help
            )));
        }
        let called = format!("the HTTPRoute {}/{}", route.namespace, route.name);
        let is = ("HTTPRoute", route.namespace.as_str(), route.name.as_str());
        let Some(live) = self.hand.live(&self.server, &at, is).await? else {
            return Err(Stop::Held(absent(route)));
        };
        let mark = Mark::of(&live).filter(|mark| mark.is_of(&live));
        let pin = mark.as_ref().and_then(|mark| mark.taker.pin.as_deref());
        is_free((pin, route.pin.as_deref()), &route.split, by)?;
        let (patch, contested) = match over(route, taker, &live).map_err(Stop::Held)? {
            Over::There => return Ok(false),
            // Whoever replaces the whole object takes the mark away with the rest, or brings back an old one.
            Over::Write(patch) if !self.is_undone(&at, &live) => (patch, None),
            Over::Write(patch) | Over::Contested(patch) => {
                let from = self.hand.take_back(&called, &live, "rules");
                (patch, Some(from.map_err(|left| Stop::Held(in_words(left)))?))
            }
        };
        self.may_rise(route, Some(&live), looked, by).await?;
        let stored = self.hand.change(&self.server, &at, patch, &live).await?;
        if let Some(from) = contested {
            self.hand.fought(&called, &from);
        }
        match over(route, taker, &stored) {
            Ok(Over::There) => {
                self.wrote().extend(Mark::of(&stored).map(|mark| (at, mark)));
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

    /// Whether what this agent wrote last is not there any more, and nobody says that he wrote it.
    fn is_undone(&self, at: &str, live: &Value) -> bool {
        let wrote = self.wrote();
        let Some(mark) = wrote.get(at).filter(|mark| mark.is_of(live)) else {
            return false;
        };
        let now = Mark::of(live).filter(|now| now.is_of(live));
        !mark.stands(live) && now.is_none_or(|now| now.taker.generation < mark.taker.generation)
    }

    /// Of routes that no split takes over any more nothing is kept in mind: whoever takes one over again begins anew.
    pub(super) fn forget(&self, wanted: &Routes) {
        let taken = wanted.routes.values().filter(|route| route.taken_by.is_some());
        let taken: BTreeSet<String> = taken
            .map(|route| path(route.namespace.as_str(), &route.name))
            .collect();
        self.wrote().retain(|at, _| taken.contains(at));
    }

    /// The marks of routes as this agent wrote or found them last, by path.
    fn wrote(&self) -> MutexGuard<'_, BTreeMap<String, Mark>> {
        self.wrote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a route that a split took over: it stays as it is, and is whose it was.
    pub(super) async fn let_go(
        &self,
        (found, taker): (&Found, &Taker),
        plan: Generation,
    ) -> Result<(), Stop> {
        let text = |at: &str| found.0.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let at = path(namespace, name);
        let is = ("HTTPRoute", namespace, name);
        let Some(live) = self.hand.live(&self.server, &at, is).await? else {
            return Ok(());
        };
        // Another gateway, or another split, may have it by now.
        let is_it = |by: &Taker| {
            (&by.federation, &by.gateway, &by.split) == (&taker.federation, &taker.gateway, &taker.split)
        };
        let mark = Mark::of(&live).filter(|mark| mark.is_of(&live) && is_it(&mark.taker));
        let Some(mark) = mark else {
            return Ok(());
        };
        let newest = mark.taker.generation.max(mark.taker.gateway_generation);
        if newest > plan {
            return Err(Stop::Held(format!(
                "{name} was taken over in generation {newest}, and this agent knows {plan}: another agent of this zone has a newer plan"
            )));
        }
        self.hand.change(&self.server, &at, let_go(), &live).await?;
        self.wrote().remove(&at);
        tracing::info!(route = name, namespace, split = %taker.split, "the HTTPRoute is its owner's again, with the weights that it has");
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

impl Looked {
    /// Routes that were taken over at this gateway and that nothing wants any more, with who took them.
    pub(super) fn taken<'a>(
        &'a self,
        federation: &FederationName,
        wanted: &Routes,
    ) -> Vec<(&'a Found, Taker)> {
        let mut taken = Vec::new();
        for ((namespace, name), found) in self.routes() {
            let mark = Mark::of(&found.0).filter(|mark| mark.is_of(&found.0));
            let Some(by) = mark.map(|mark| mark.taker) else {
                continue;
            };
            let is_it = |route: &HttpRoute| {
                route.taken_by.is_some() && route.namespace.as_str() == namespace && route.name == *name
            };
            if by.federation == *federation
                && by.gateway == wanted.gateway
                && !wanted.routes.values().any(is_it)
            {
                taken.push((found, by));
            }
        }
        taken
    }
}
