//! From what each proxy runs to one verdict for each item. Pure: dumps come in as values.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use weir_model::BasisPoints;
use weir_planner::{Coverage, Evidence, Item, Proof, ProvenWeights, ServiceFact, Verdict};
use weir_render::Live;

/// What one proxy says about one item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    /// It does not call the service.
    NotCaller,
    /// It calls it, with these weights.
    Weights(ProvenWeights),
    /// It calls it, by other routes, or sends somewhere else.
    Different(String),
    /// It calls it, and how cannot be read.
    Unclear(String),
}

/// Reads one proxy's dump for one item, with what the zone was seen to have.
pub(crate) fn read(item: &Item, dump: &Value, services: &[ServiceFact]) -> Reading {
    match weir_render::weights(item, dump, services) {
        Live::NotCalling => Reading::NotCaller,
        Live::Weights(weights) => Reading::Weights(weights),
        Live::Different(what) => Reading::Different(what),
        Live::Unknown(why) => Reading::Unclear(why),
    }
}

/// One round of looking at proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round {
    /// Each proxy that answered, by its name for people.
    pub(crate) seen: Vec<(String, Reading)>,
    /// Proxies that are there and did not answer, with why. What they run is not known, nor whether they call the service.
    pub(crate) mute: Vec<String>,
    /// Proxies that call the service and that nobody looked at.
    pub(crate) elsewhere: u32,
}

impl Round {
    /// Whether any proxy calls the service.
    pub(crate) fn has_callers(&self) -> bool {
        self.seen.iter().any(|(_, r)| *r != Reading::NotCaller)
    }

    /// Proxies that call the service, or may: they do not answer.
    pub(crate) fn callers(&self) -> u32 {
        let calling = self.seen.iter().filter(|(_, r)| *r != Reading::NotCaller).count();
        u32::try_from(calling + self.mute.len()).unwrap_or(u32::MAX)
    }

    /// The verdict.
    pub(crate) fn verdict(&self, item: &Item, evidence: Evidence, at: Timestamp) -> Proof {
        let callers: Vec<_> = self
            .seen
            .iter()
            .filter(|(_, r)| *r != Reading::NotCaller)
            .collect();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let read: Vec<_> = callers
            .iter()
            .filter_map(|(name, r)| match r {
                Reading::Weights(w) => Some((name, w)),
                _ => None,
            })
            .collect();
        let unlike = callers.iter().find_map(|(name, r)| match r {
            Reading::Different(what) => Some(format!("{name}: {what}")),
            _ => None,
        });
        let legible = callers.iter().filter(|(_, r)| !matches!(r, Reading::Unclear(_)));
        let coverage = Coverage {
            seen: number(legible.count()),
            of: number(callers.len() + self.mute.len()).saturating_add(self.elsewhere),
        };
        let different = unlike.clone().or_else(|| {
            read.iter()
                .find_map(|(name, live)| first_difference(item, live).map(|what| format!("{name}: {what}")))
        });
        let unclear = callers.iter().find_map(|(name, r)| match r {
            Reading::Unclear(why) => Some(format!("{name}: {why}")),
            _ => None,
        });
        // One that should have answered and did not may run anything: what the others run does not speak for it.
        let silent = self.mute.first().map(|why| match self.mute.len() {
            1 => why.clone(),
            n => format!("{why} (and {} more)", n - 1),
        });
        let verdict = match (different, unclear.or(silent), read.is_empty()) {
            (Some(what), _, _) => Verdict::Different(what),
            (None, Some(why), _) => Verdict::Unknown(why),
            (None, None, true) => {
                Verdict::Unknown("no proxy that was looked at calls the service".to_owned())
            }
            (None, None, false) => Verdict::Exact,
        };
        let agree = unlike.is_none() && read.windows(2).all(|two| two[0].1 == two[1].1);
        Proof {
            // That nobody calls it is known as well as anything; whatever else is unknown has no evidence.
            evidence: if matches!(verdict, Verdict::Unknown(_)) && coverage != Coverage::default() {
                Evidence::Unknown
            } else {
                evidence
            },
            weights: read.first().filter(|_| agree).map(|(_, w)| (*w).clone()),
            verdict,
            at,
            coverage,
            unhealthy: BTreeSet::new(),
        }
    }
}

/// Whether these are the planned weights on every route.
pub(crate) fn is_exact(item: &Item, live: &ProvenWeights) -> bool {
    first_difference(item, live).is_none()
}

/// The first route whose live weights are not the planned ones, in words; a backend that is missing has weight 0.
fn first_difference(item: &Item, live: &ProvenWeights) -> Option<String> {
    let none = BTreeMap::new();
    for route in &item.routes {
        let Some(found) = live.get(&route.name) else {
            return Some(format!("route {} is missing", route.name));
        };
        let backends = route.weights.keys().chain(found.keys());
        for backend in backends {
            let share = |of: &BTreeMap<_, BasisPoints>| of.get(backend).copied().unwrap_or_default();
            let (wanted, is) = (share(&route.weights), share(found));
            if wanted != is {
                return Some(format!(
                    "route {}: {backend} has {is} %, planned {wanted} %",
                    route.name
                ));
            }
        }
    }
    live.iter()
        .find(|(name, weights)| **weights != none && !item.routes.iter().any(|r| r.name == **name))
        .map(|(name, _)| format!("route {name} is not planned"))
}

/// When nothing can be looked at.
pub(crate) fn unknown(why: String, of: u32, at: Timestamp) -> Proof {
    Proof {
        verdict: Verdict::Unknown(why),
        evidence: Evidence::Unknown,
        at,
        coverage: Coverage { seen: 0, of },
        weights: None,
        unhealthy: BTreeSet::new(),
    }
}
