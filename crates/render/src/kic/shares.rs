//! What the controller gives each target, and which share of requests each backend then has.
//!
//! It divides a Service's weight by the number of its endpoints and rounds down, but never to 0 (measured: 90/10 over 3 and 3 is
//! 30 and 3 each, which is 90.9 %). So the share that Kong gives is computed here from the endpoints that there are, and said
//! where it is not the declared one.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{BackendName, BasisPoints, Channel, ClusterService, DnsLabel};

use super::cluster::{Reached, Services};
use super::route::{FOR_EACH_BASIS_POINT, HttpRoute, Rule};
use crate::kong::{Expected, Target, Upstream};

/// Kong takes no target that weighs more.
pub const HEAVIEST: u32 = 65_535;

/// The weight of each of a Service's targets, if there are so many of them and it is to have this weight in all.
pub fn target_weight(weight: u32, endpoints: usize) -> u32 {
    let endpoints = u32::try_from(endpoints).unwrap_or(u32::MAX).max(1);
    if weight == 0 {
        0
    } else {
        (weight / endpoints).max(1)
    }
}

/// The shares that backends have by weight and number of targets, in hundredths of a basis point, rounded; none if nobody gets
/// anything.
pub fn shares(backends: &[(u32, usize)]) -> Option<Vec<u64>> {
    let given: Vec<u64> = backends
        .iter()
        .map(|(weight, endpoints)| u64::from(target_weight(*weight, *endpoints)) * (*endpoints as u64))
        .collect();
    let all: u64 = given.iter().sum();
    (all > 0).then(|| {
        given
            .iter()
            .map(|given| (given * 1_000_000 + all / 2) / all)
            .collect()
    })
}

/// What there is behind the backends of a route's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// By rule, in its order of backends.
    pub rules: Vec<Vec<Reached>>,
    /// What a person should know, one for each rule of which the share is not the declared one.
    pub off: Vec<String>,
    /// Whether one that gets nothing is not there: the controller tells of it, and no request goes another way for it.
    pub absent: bool,
}

/// Why requests would go elsewhere than a route says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// Which rule, by its place.
    pub rule: usize,
    /// The Service that it is about; none if it is about the rule with all of them.
    pub service: Option<ClusterService>,
    /// In words.
    pub why: String,
}

/// What there is behind each backend, if all that is to have a weight is there.
///
/// # Errors
/// Every reason why requests would go elsewhere than the route says.
pub fn backends(route: &HttpRoute, services: &Services) -> Result<Backends, Vec<Unmet>> {
    let mut unmet = Vec::new();
    let mut rules = Vec::new();
    let mut off = Vec::new();
    let mut absent = false;
    for (place, rule) in route.rules.iter().enumerate() {
        let of: Vec<&ClusterService> = rule.backends.iter().map(|(_, service, _)| service).collect();
        let of_rule = |why: String| Unmet {
            rule: place,
            service: None,
            why,
        };
        unmet.extend(services.at_odds(&of).map(of_rule));
        let mut reached = Vec::new();
        for (backend, service, weight) in &rule.backends {
            let told = |why: String| Unmet {
                rule: place,
                service: Some(service.clone()),
                why: match backend {
                    Some(backend) => format!("backend {backend}: {why}"),
                    None => why,
                },
            };
            match services.reached(service) {
                // What gets nothing may be on its way out.
                Err(_) if *weight == BasisPoints::ZERO => {
                    absent = true;
                    reached.push(Reached::Endpoints(BTreeSet::new()));
                }
                Err(why) => unmet.push(told(why)),
                Ok(Reached::Endpoints(_)) if backend.is_none() => unmet.push(told(format!(
                    "Kong would be given the endpoints of the Service {}/{}, and its requests would go past the mesh, which carries \
                     the weights: annotate it with ingress.kubernetes.io/service-upstream: \"true\", as Kuma does in namespaces \
                     with sidecars",
                    service.namespace, service.name
                ))),
                Ok(found) if found.count() == 0 && *weight > BasisPoints::ZERO => unmet.push(told(format!(
                    "no endpoint of the Service {}/{} is ready: the controller would give its share to the others",
                    service.namespace, service.name
                ))),
                Ok(found) => reached.push(found),
            }
        }
        if reached.len() < rule.backends.len() {
            continue;
        }
        unmet.extend(shared(rule, &reached).map(of_rule));
        off.extend(deviation(rule, &reached));
        rules.push(reached);
    }
    unmet.sort();
    unmet.dedup();
    if unmet.is_empty() {
        Ok(Backends { rules, off, absent })
    } else {
        Err(unmet)
    }
}

/// One endpoint behind two Services of a rule that both get something: the controller makes one target of it, with both weights.
fn shared(rule: &Rule, reached: &[Reached]) -> Option<String> {
    let mut whose = BTreeMap::new();
    for ((_, service, weight), reached) in rule.backends.iter().zip(reached) {
        let Reached::Endpoints(endpoints) = reached else {
            continue;
        };
        for endpoint in endpoints.iter().filter(|_| *weight > BasisPoints::ZERO) {
            if let Some(other) = whose.insert(endpoint, service) {
                return Some(format!(
                    "{endpoint} stands behind both Services {other} and {service}, so that Kong cannot tell them apart: give them \
                     selectors that do not overlap"
                ));
            }
        }
    }
    None
}

/// Which shares a rule really has, if they are further from the declared ones than is tolerated.
fn deviation(rule: &Rule, reached: &[Reached]) -> Option<String> {
    let of: Vec<(u32, usize)> = rule
        .backends
        .iter()
        .zip(reached)
        .map(|((_, _, weight), reached)| (weight.get() * FOR_EACH_BASIS_POINT, reached.count()))
        .collect();
    let shares = shares(&of)?;
    let far = |(share, (_, _, weight)): (&u64, &(Option<BackendName>, ClusterService, BasisPoints))| {
        // What is told of a share is the nearest basis point.
        let tolerance = u64::from(Channel::Kic.tolerance(*weight));
        share.abs_diff(u64::from(weight.get()) * 100) > tolerance * 100 + 49
    };
    if !shares.iter().zip(&rule.backends).any(far) {
        return None;
    }
    let told = rule.backends.iter().zip(&of).zip(&shares).map(
        |(((backend, service, weight), (_, endpoints)), share)| {
            let who = backend
                .as_ref()
                .map_or_else(|| service.to_string(), ToString::to_string);
            format!(
                "{who} {}.{:04} % instead of {weight} % over {endpoints} endpoints",
                share / 10_000,
                share % 10_000
            )
        },
    );
    Some(format!(
        "the controller divides weights by endpoints and rounds: {}; run fewer endpoints of the small one, or let Kong have the \
         Service's name (ingress.kubernetes.io/service-upstream)",
        told.collect::<Vec<_>>().join(", ")
    ))
}

/// What Kong must run for a route, over what there is behind its backends.
pub fn expected(route: &HttpRoute, backends: &Backends) -> Expected {
    let mut upstreams = BTreeMap::new();
    for (rule, reached) in route.rules.iter().zip(&backends.rules) {
        let of = rule.route.clone().unwrap_or_else(mesh);
        let mut upstream = Upstream {
            name: rule.upstream.clone(),
            targets: BTreeMap::new(),
            names: BTreeMap::new(),
            drains: true,
        };
        for ((backend, service, weight), reached) in rule.backends.iter().zip(reached) {
            let weight = target_weight(weight.get() * FOR_EACH_BASIS_POINT, reached.count());
            let target = Target {
                backend: backend.clone().unwrap_or_else(mesh),
                weight: u16::try_from(weight).unwrap_or(u16::MAX),
            };
            match reached {
                Reached::Endpoints(endpoints) => {
                    // Of one that two Services have the weights are added up; only one of them is above 0.
                    for endpoint in endpoints {
                        let has = upstream
                            .targets
                            .entry(*endpoint)
                            .or_insert_with(|| target.clone());
                        if has.weight < target.weight {
                            *has = target.clone();
                        }
                    }
                }
                Reached::Name(name) => {
                    upstream.names.insert((name.clone(), service.port), target);
                }
            }
        }
        upstreams.insert(of, upstream);
    }
    Expected {
        generation: route.generation,
        known: route.known,
        pin: route.pin.clone(),
        upstreams,
    }
}

/// What the one target of a door is called at which the mesh carries the weights.
fn mesh<T: From<DnsLabel>>() -> T {
    DnsLabel::new("mesh").expect("it is a label").into()
}
