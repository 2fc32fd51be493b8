//! Whether there is somebody where a route would send more: by the cluster, and by what Kong itself says of those to whom it sends.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::Value;
use weir_model::{BackendName, BasisPoints};
use weir_render::kic::{Backends, HttpRoute, Unmet, backends, expected};
use weir_render::kong::dead::of_controller;

use super::compare::rises;
use super::looked::Looked;
use super::{KongKic, Stop, told};
use crate::kong::dead;

impl KongKic {
    /// Whether there is somebody where a write would send more than what is there already does: by the cluster, and by what the nodes
    /// of Kong say of those to whom they send.
    pub(super) async fn may_rise(
        &self,
        route: &HttpRoute,
        live: Option<&Value>,
        looked: &Looked,
        is_back: bool,
    ) -> Result<(), Stop> {
        let unmet = match backends(route, &looked.services) {
            Ok(found) => {
                let nobody = self.nobody_there(route, live, &found, is_back).await;
                return nobody.map_or(Ok(()), |why| Err(Stop::Held(why)));
            }
            Err(unmet) => unmet,
        };
        let unmet: Vec<Unmet> = unmet
            .into_iter()
            .filter(|unmet| rises(route, live, unmet))
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
        is_back: bool,
    ) -> Option<String> {
        let live = live?;
        let upstreams = expected(route, found).upstreams;
        let mut asking = Vec::new();
        for (place, rule) in route.rules.iter().enumerate() {
            let more = rule.backends.iter().filter(|(_, service, weight)| {
                let of = Unmet {
                    rule: place,
                    service: Some(service.clone()),
                    why: String::new(),
                };
                *weight > BasisPoints::ZERO && rises(route, Some(live), &of)
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
        for (upstream, more) in asking {
            let asked = nodes.iter().map(|admin| async {
                let live = admin.get(&format!("upstreams/{}", upstream.name)).await.ok()??;
                let said = match of_controller(&live, upstream, &more) {
                    None => dead::Dead::new(),
                    Some(question) => dead::asked(admin, &question).await?,
                };
                Some((admin.url(), said))
            });
            let said: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
            if let Some(why) = dead::why_not(&said, is_back) {
                return Some(why);
            }
        }
        None
    }
}
