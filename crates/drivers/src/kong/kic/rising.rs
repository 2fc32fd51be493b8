//! Whether there is somebody where a route would send more: by the cluster, and by what Kong itself says of those to whom it sends.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::Value;
use tokio::time::timeout;
use weir_model::{BackendName, BasisPoints};
use weir_render::kic::{Backends, HttpRoute, Unmet, backends, expected};
use weir_render::kong::dead::of_controller;

use super::compare::rises;
use super::looked::Looked;
use super::{KongKic, Stop, told};
use crate::kong::{Bringing, OVERTAKEN, dead};

impl KongKic {
    /// Whether there is somebody where a write would send more than what is there already does: by the cluster, and by what the nodes
    /// of Kong say of those to whom they send; these are asked nothing for a way back.
    pub(super) async fn may_rise(
        &self,
        route: &HttpRoute,
        live: Option<&Value>,
        looked: &Looked,
        by: Bringing<'_>,
    ) -> Result<(), Stop> {
        let unmet = match backends(route, &looked.services) {
            Ok(found) => {
                if by.back.contains(&route.split) {
                    return Ok(());
                }
                // What is not known in time holds nobody.
                let nobody = timeout(dead::PATIENCE, self.nobody_there(route, live, &found));
                let Some(nobody) = by.overtaken.run_until_cancelled(nobody).await else {
                    return Err(Stop::Held(OVERTAKEN.to_owned()));
                };
                return nobody.ok().flatten().map_or(Ok(()), |why| Err(Stop::Held(why)));
            }
            Err(unmet) => unmet,
        };
        let unmet: Vec<Unmet> = unmet
            .into_iter()
            .filter(|unmet| rises(route, live, (unmet.rule, unmet.service.as_ref())))
            .collect();
        match unmet.is_empty() {
            true => Ok(()),
            false => Err(Stop::Held(told(&unmet))),
        }
    }

    /// Why more for a backend would reach nobody, by the health checks of Kong's that a policy of the site's asks for. A route that is
    /// not there yet has no upstream that could be asked.
    async fn nobody_there(
        &self,
        route: &HttpRoute,
        live: Option<&Value>,
        found: &Backends,
    ) -> Option<String> {
        let live = live?;
        let upstreams = expected(route, found).upstreams;
        let mut asking = Vec::new();
        for (place, rule) in route.rules.iter().enumerate() {
            let more = rule.backends.iter().filter(|(_, service, weight)| {
                *weight > BasisPoints::ZERO && rises(route, Some(live), (place, Some(service)))
            });
            let more: BTreeSet<BackendName> = more.filter_map(|(backend, ..)| backend.clone()).collect();
            let upstream = rule.route.as_ref().and_then(|of| upstreams.get(of));
            asking.extend(upstream.filter(|_| !more.is_empty()).map(|of| (of, more)));
        }
        if asking.is_empty() {
            return None;
        }
        // Who the nodes are is not known now: then nobody says anything.
        let nodes = self.nodes.now().await.ok()?;
        let nodes = &nodes;
        let asked = asking.iter().flat_map(|(upstream, more)| {
            nodes.iter().map(move |admin| async move {
                let live = admin.get(&format!("upstreams/{}", upstream.name)).await.ok()??;
                let question = of_controller(&live, upstream, more)?;
                Some((admin.url(), dead::asked(admin, &question).await?))
            })
        });
        let said: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        dead::why_not(said.iter().map(|(node, dead)| (*node, dead)))
    }
}
