//! A route as it is wanted, beside one that is there. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_model::{BackendName, BasisPoints, ClusterService, RouteName};
use weir_planner::ProvenWeights;
use weir_render::kic::HttpRoute;
use weir_render::kong::{Expected, Upstream};
use weir_render::{COMMIT, PINNED};

/// Whether a write would send more to a service of a rule, or where none is named to any of it, than what is there already does: what it
/// makes no worse is no reason to hold it, for it may be a revert. A rule is the same one if it takes the same requests, wherever it
/// stands.
pub(super) fn rises(
    route: &HttpRoute,
    live: Option<&Value>,
    (place, service): (usize, Option<&ClusterService>),
) -> bool {
    let Some(rule) = route.rules.get(place) else {
        return true;
    };
    let rules = |of: &Value| of.pointer("/spec/rules").and_then(Value::as_array).cloned();
    let takes = |rule: &Value| rule.get("matches").cloned();
    let wanted = rules(&route.document).and_then(|rules| takes(rules.get(place)?));
    let same = |rule: &Value| wanted.is_some() && takes(rule) == wanted;
    // Of one that is taken over there is one rule, and what it takes is not said.
    let is_it = |rule: &Value| route.taken_by.is_some() || same(rule);
    let before = live
        .and_then(rules)
        .and_then(|rules| rules.into_iter().find(is_it));
    let refs: Vec<&Value> = before
        .as_ref()
        .and_then(|rule| rule.get("backendRefs")?.as_array())
        .map(|refs| refs.iter().collect())
        .unwrap_or_default();
    let weight = |of: &Value| of.get("weight").and_then(Value::as_u64).unwrap_or(1);
    let all: u64 = refs.iter().map(|of| weight(of)).sum();
    let weight_now = |service: &ClusterService| {
        let text = |of: &Value, at: &str| of.get(at).and_then(Value::as_str).map(str::to_owned);
        let is = |of: &&&Value| {
            text(of, "name").as_deref() == Some(service.name.as_str())
                && text(of, "namespace").is_none_or(|namespace| namespace == service.namespace.as_str())
                && text(of, "kind").is_none_or(|kind| kind == "Service")
                && of.get("port").and_then(Value::as_u64) == Some(u64::from(service.port))
        };
        let found: Vec<u64> = refs.iter().filter(is).map(|of| weight(of)).collect();
        (!found.is_empty()).then(|| found.iter().sum::<u64>())
    };
    let concerned = |of: &ClusterService| service.is_none_or(|service| service == of);
    let mut backends = rule.backends.iter().filter(|(_, of, _)| concerned(of));
    backends.any(|(_, of, weight)| {
        // What is wrong with the rule as a whole is wrong already, if all of it is there. Else it is shares that count: somebody
        // else's weights are of another sum.
        let more = |now: u64| {
            u128::from(weight.get()) * u128::from(all)
                > u128::from(now) * u128::from(BasisPoints::WHOLE.get())
        };
        weight_now(of).is_none_or(|now| service.is_some() && more(now))
    })
}

/// Where a live route says something else than the wanted one. That it names another commit is nothing ([`COMMIT`]).
pub(super) fn difference(route: &HttpRoute, live: &Value) -> Option<String> {
    let part = |of: &Value, at: &str| of.pointer(at).cloned().unwrap_or(Value::Null);
    let spec = weir_render::difference(&part(&route.document, "/spec"), &part(live, "/spec"), "spec");
    let marks = |what: &str| {
        let at = format!("/metadata/{what}");
        let wanted = route.document.pointer(&at).and_then(Value::as_object);
        let live = live.pointer(&at);
        let mut wanted = wanted.into_iter().flatten();
        wanted
            .find(|(key, value)| {
                let is = live.and_then(|live| live.get(key.as_str()));
                is != Some(*value) && (is.is_none() || *key != COMMIT)
            })
            .map(|(key, _)| format!("metadata.{what}.{key}"))
    };
    // A pin that is over is said no more.
    let pinned = || {
        let is = live
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(PINNED));
        let over = is.and_then(Value::as_str) != route.pin.as_deref() && route.taken_by.is_none();
        over.then(|| format!("metadata.labels.{PINNED}"))
    };
    spec.or_else(|| marks("annotations"))
        .or_else(|| marks("labels"))
        .or_else(pinned)
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_model::ParentRef;
    use weir_planner::Generation;
    use weir_render::kic::Rule;
    use weir_render::kic::route::FOR_EACH_BASIS_POINT;

    use super::*;

    fn service(name: &str) -> ClusterService {
        ClusterService {
            namespace: "shop".parse().expect("a name"),
            name: name.parse().expect("a name"),
            port: 80,
        }
    }

    /// A route of these rules: what they match, and basis points by Service.
    fn route(rules: &[(&str, &[(&str, u32)])]) -> HttpRoute {
        let said = rules.iter().map(|(path, backends)| {
            let backends = backends.iter().map(|(name, weight)| {
                json!({"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight * FOR_EACH_BASIS_POINT})
            });
            json!({
                "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                "backendRefs": backends.collect::<Vec<_>>(),
            })
        });
        let made = rules.iter().map(|(_, backends)| Rule {
            route: Some("default".parse().expect("a name")),
            upstream: String::new(),
            backends: backends
                .iter()
                .map(|(name, weight)| (None, service(name), BasisPoints::new(*weight).expect("a weight")))
                .collect(),
        });
        HttpRoute {
            split: "checkout".parse().expect("a name"),
            generation: Generation(1),
            known: Generation(1),
            pin: None,
            gateway_generation: Generation(1),
            namespace: "shop".parse().expect("a name"),
            name: "weir.edge.checkout".to_owned(),
            parent: ParentRef {
                namespace: "kong".parse().expect("a name"),
                name: "kong".parse().expect("a name"),
                section: None,
            },
            document: json!({"spec": {"rules": said.collect::<Vec<_>>()}}),
            taken_by: None,
            rules: made.collect(),
        }
    }

    #[test]
    fn what_a_change_makes_no_worse_does_not_hold_it() {
        let live = route(&[
            ("/canary", &[("eks", 10_000)]),
            ("/", &[("vm", 9_000), ("eks", 1_000)]),
        ])
        .document;
        let dead = |to: &HttpRoute, rule| rises(to, Some(&live), (rule, Some(&service("eks"))));
        let to = |eks: u32| {
            route(&[
                ("/canary", &[("eks", 10_000)]),
                ("/", &[("vm", 10_000 - eks), ("eks", eks)]),
            ])
        };
        assert!(!dead(&to(0), 1) && !dead(&to(1_000), 1) && !dead(&to(500), 0));
        assert!(dead(&to(1_001), 1));
        // The first rule goes: the one that is left is the one that takes the same requests, and not the first.
        let left = route(&[("/", &[("vm", 5_000), ("eks", 5_000)])]);
        assert!(dead(&left, 0), "a rule in the place of another one");
        assert!(!dead(&route(&[("/", &[("vm", 10_000), ("eks", 0)])]), 0));
        // Nothing of a route that is not there, or of a rule that is new, is so already.
        assert!(rises(&to(0), None, (1, Some(&service("eks")))));
        assert!(dead(&route(&[("/new", &[("eks", 1)])]), 0));
        // Of what is wrong with a whole rule: a Service that is new in it.
        assert!(!rises(&to(9_000), Some(&live), (1, None)));
        let more = route(&[("/", &[("vm", 9_000), ("eks", 500), ("gke", 500)])]);
        assert!(rises(&more, Some(&live), (0, None)));
    }

    /// Of two histories of plans two agents may hold one item of two commits, and would write over each other for good.
    #[test]
    fn another_commit_alone_is_no_difference() {
        let labelled = |labels: Value| {
            let mut route = route(&[("/", &[("vm", 10_000)])]);
            route.document["metadata"] = json!({ "labels": labels });
            route
        };
        let wanted = labelled(json!({COMMIT: "a1", "weir.dev/generation": "7"}));
        let differs = |live: Value| difference(&wanted, &labelled(live).document);
        assert_eq!(differs(json!({COMMIT: "b2", "weir.dev/generation": "7"})), None);
        assert_eq!(
            differs(json!({COMMIT: "b2", "weir.dev/generation": "6"})).as_deref(),
            Some("metadata.labels.weir.dev/generation")
        );
        assert_eq!(
            differs(json!({"weir.dev/generation": "7"})).as_deref(),
            Some("metadata.labels.weir.dev/commit")
        );
    }

    #[test]
    fn a_share_is_told_as_the_nearest() {
        let target = |name: &str, weight| weir_render::kong::Target {
            backend: name.parse().expect("a name"),
            weight,
        };
        let at = |n: u8| (std::net::SocketAddr::from(([10, 0, 0, n], 80)), n);
        let targets = [at(1), at(2), at(3)].map(|(at, n)| {
            (
                at,
                if n == 1 {
                    target("eks", 595)
                } else {
                    target("vm", 29_700)
                },
            )
        });
        let upstream = Upstream {
            name: String::new(),
            targets: targets.into(),
            names: BTreeMap::new(),
            drains: true,
        };
        let expected = Expected {
            generation: Generation(1),
            known: Generation(1),
            pin: None,
            upstreams: [("default".parse().expect("a name"), upstream)].into(),
        };
        let told = nearest(&expected);
        let shares: Vec<u32> = told
            .values()
            .flat_map(|of| of.values().map(|share| share.get()))
            .collect();
        assert_eq!(shares, [99, 9_901]);
    }
}
