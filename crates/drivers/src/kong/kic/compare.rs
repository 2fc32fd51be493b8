//! A route as it is wanted, beside one that is there. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_model::{BackendName, BasisPoints, ClusterService, RouteName};
use weir_planner::ProvenWeights;
use weir_render::kic::route::FOR_EACH_BASIS_POINT;
use weir_render::kic::{HttpRoute, Unmet};
use weir_render::kong::{Expected, Upstream};

/// Whether a write would send more to where an unmet condition is, than what is there already does: what it makes no worse is no
/// reason to hold it, for it may be a revert.
pub(super) fn rises(route: &HttpRoute, live: Option<&Value>, unmet: &Unmet) -> bool {
    let Some(live) = live else { return true };
    let Some(rule) = route.rules.get(unmet.rule) else {
        return true;
    };
    let weight_now = |service: &ClusterService| {
        let backends = live
            .pointer(&format!("/spec/rules/{}/backendRefs", unmet.rule))?
            .as_array()?;
        let is = |of: &&Value| {
            of.get("name").and_then(Value::as_str) == Some(service.name.as_str())
                && of.get("port").and_then(Value::as_u64) == Some(u64::from(service.port))
        };
        backends.iter().find(is)?.get("weight")?.as_u64()
    };
    let mut concerned = rule
        .backends
        .iter()
        .filter(|(_, service, _)| match &unmet.service {
            Some(of) => of == service,
            None => true,
        });
    // All or nothing of a rule: what is new in it is what makes it worse.
    concerned.any(
        |(_, service, weight)| match (weight_now(service), &unmet.service) {
            (None, _) => true,
            (Some(now), Some(_)) => u64::from(weight.get() * FOR_EACH_BASIS_POINT) > now,
            (Some(_), None) => false,
        },
    )
}

/// Where a live route says something else than the wanted one.
pub(super) fn difference(route: &HttpRoute, live: &Value) -> Option<String> {
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

/// An annotation of the controller's that Weir did not write: it may change which requests are taken, or what becomes of them.
pub(super) fn foreign_annotation(route: &HttpRoute, live: &Value) -> Option<String> {
    let of = |of: &Value| {
        let annotations = of.pointer("/metadata/annotations").and_then(Value::as_object);
        annotations.cloned().unwrap_or_default()
    };
    let ours = of(&route.document);
    let mut live = of(live).into_iter();
    live.find(|(key, _)| key.starts_with("konghq.com/") && !ours.contains_key(key))
        .map(|(key, _)| key)
}

/// The shares of what Kong runs, as whole basis points.
pub(super) fn nearest(expected: &Expected) -> ProvenWeights {
    let one = |(route, upstream): (&RouteName, &Upstream)| {
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
