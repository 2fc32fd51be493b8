//! What an agent saw, on its way to the coordinator.
//!
//! The zone is not in the message: it is that of the session, which a certificate proves.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{BackendName, BasisPoints, ZoneName};
use weir_planner::{
    Contested, CountScope, Counts, Coverage, Digest, Fallen, Generation, ItemFact, ItemState, KeptShare,
    Latency, Pin, PlanId, Proof, ProvenWeights, SecondWriter, ServiceFact, Verdict, ZoneFacts,
};

use crate::gateway::{door_fact_in, door_fact_out};
use crate::greeting::{plan, plan_out};
use crate::item::{twice, weights, weights_out};
use crate::scalar::{
    evidence, evidence_out, fault, fault_out, hash, label, port, protocol_out, read, service_state,
    service_state_out, time, time_out, unknown, way, way_out,
};
use crate::{WireError, v1};

/// Facts, and the plan that the agent held when it saw them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentReport {
    /// What it saw.
    pub facts: ZoneFacts,
    /// The plan that it holds; none before the first.
    pub plan: Option<PlanId>,
    /// That plan's generation; 0 before the first.
    pub generation: Generation,
    /// Why the last plan that was offered is not taken, if so.
    pub refused: Option<String>,
    /// What a person should know of the zone and no proof says, a sentence each.
    pub notes: Vec<String>,
}

impl From<&AgentReport> for v1::Report {
    fn from(report: &AgentReport) -> Self {
        let facts = &report.facts;
        Self {
            at: Some(time_out(facts.at)),
            highest_generation: facts.highest.0,
            kuma: facts.kuma.clone().unwrap_or_default(),
            unreadable: facts.unreadable.clone().unwrap_or_default(),
            fault: facts.fault.map(fault_out).unwrap_or_default().to_owned(),
            store: facts.store.clone().unwrap_or_default(),
            services: facts.services.iter().map(v1::ServiceFact::from).collect(),
            items: facts.items.iter().map(v1::ItemFact::from).collect(),
            plan_id: plan_out(report.plan),
            generation: report.generation.0,
            refused: report.refused.clone().unwrap_or_default(),
            notes: report.notes.clone(),
        }
    }
}

/// A report of this zone.
///
/// # Errors
/// The first field that is not usable. Then nothing of the report is.
pub fn agent_report(zone: &ZoneName, message: &v1::Report) -> Result<AgentReport, WireError> {
    let services: Result<_, _> = message
        .services
        .iter()
        .map(|s| {
            ServiceFact::try_from(s).map_err(|e| e.within(format_args!("report.services[{}]", s.service)))
        })
        .collect();
    let items: Result<_, _> = message
        .items
        .iter()
        .map(|i| ItemFact::try_from(i).map_err(|e| e.within(format_args!("report.items[{}]", i.split))))
        .collect();
    Ok(AgentReport {
        facts: ZoneFacts {
            zone: zone.clone(),
            at: time("report.at", message.at)?,
            highest: Generation(message.highest_generation),
            kuma: text(&message.kuma),
            unreadable: text(&message.unreadable),
            fault: fault(&message.fault),
            store: text(&message.store),
            services: services?,
            items: items?,
        },
        plan: plan("report.plan_id", &message.plan_id)?,
        generation: Generation(message.generation),
        refused: text(&message.refused),
        notes: message.notes.clone(),
    })
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

impl From<&ServiceFact> for v1::ServiceFact {
    fn from(fact: &ServiceFact) -> Self {
        let ports = fact.ports.iter().map(|(port, protocol)| v1::PortFact {
            port: (*port).into(),
            protocol: protocol.map(protocol_out).unwrap_or_default().to_owned(),
            name: fact.port_names.get(port).cloned().unwrap_or_default(),
        });
        Self {
            service: fact.service.to_string(),
            kuma_zone: fact.kuma_zone.to_string(),
            namespace: fact
                .namespace
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            ports: ports.collect(),
            state: service_state_out(fact.state).to_owned(),
            way: way_out(fact.way).to_owned(),
        }
    }
}

impl TryFrom<&v1::ServiceFact> for ServiceFact {
    type Error = WireError;

    fn try_from(from: &v1::ServiceFact) -> Result<Self, WireError> {
        let mut ports = BTreeMap::new();
        let mut port_names = BTreeMap::new();
        for fact in &from.ports {
            // A protocol that we do not know is one that we cannot split.
            let protocol = crate::scalar::protocol("ports", &fact.protocol).ok();
            if ports.insert(port("ports", fact.port)?, protocol).is_some() {
                return Err(twice("ports", &fact.port.to_string()));
            }
            if let Some(name) = text(&fact.name) {
                port_names.insert(port("ports", fact.port)?, name);
            }
        }
        Ok(Self {
            service: read("service", &from.service)?,
            kuma_zone: read("kuma_zone", &from.kuma_zone)?,
            namespace: label("namespace", &from.namespace)?,
            ports,
            port_names,
            state: service_state(&from.state),
            way: way(&from.way),
        })
    }
}

impl From<&ItemFact> for v1::ItemFact {
    fn from(fact: &ItemFact) -> Self {
        let (state, reason) = match &fact.state {
            ItemState::Pending => ("pending", ""),
            ItemState::Held(reason) => ("held", reason.as_str()),
            ItemState::Applied => ("applied", ""),
            ItemState::Proven => ("proven", ""),
            ItemState::Overridden(reason) => ("overridden", reason.as_str()),
            ItemState::Failed(reason) => ("failed", reason.as_str()),
        };
        Self {
            split: fact.split.to_string(),
            generation: fact.generation.0,
            digest: fact.digest.0.to_vec(),
            state: state.to_owned(),
            reason: reason.to_owned(),
            proof: fact.proof.as_ref().map(v1::Proof::from),
            second_writers: fact.second_writers.iter().map(v1::SecondWriter::from).collect(),
            counts: fact.counts.as_ref().map(v1::Counts::from),
            pin: fact.pin.as_ref().map(v1::Pin::from),
            fallback: fact.fallback.as_ref().map(|fallen| v1::Fallen {
                since: Some(time_out(fallen.since)),
                why: fallen.why.clone(),
                down: fallen.down.iter().map(ToString::to_string).collect(),
            }),
            doors: fact.doors.iter().map(door_fact_out).collect(),
            contested: fact.contested.as_ref().map(v1::Contested::from),
            vanished: fact.vanished.iter().map(ToString::to_string).collect(),
            failing: fact
                .failing
                .iter()
                .map(|(backend, kept)| v1::KeptShare {
                    backend: backend.to_string(),
                    basis_points: kept.share.get(),
                    why: kept.why.clone(),
                    help: kept.help.clone(),
                })
                .collect(),
        }
    }
}

impl TryFrom<&v1::ItemFact> for ItemFact {
    type Error = WireError;

    fn try_from(from: &v1::ItemFact) -> Result<Self, WireError> {
        let reason = || from.reason.clone();
        let state = match from.state.as_str() {
            "pending" => ItemState::Pending,
            "held" => ItemState::Held(reason()),
            "applied" => ItemState::Applied,
            "proven" => ItemState::Proven,
            "overridden" => ItemState::Overridden(reason()),
            "failed" => ItemState::Failed(reason()),
            other => return Err(unknown("state", other, "state of an item")),
        };
        let proof = from.proof.as_ref().map(Proof::try_from).transpose();
        let counts = from.counts.as_ref().map(Counts::try_from).transpose();
        let pin = from.pin.as_ref().map(Pin::try_from).transpose();
        let fallback = from.fallback.as_ref().map(|fallen| {
            let down: Result<_, WireError> = fallen.down.iter().map(|name| read("down", name)).collect();
            Ok(Fallen {
                since: time("since", fallen.since)?,
                why: fallen.why.clone(),
                down: down?,
            })
        });
        let fallback: Result<_, WireError> = fallback.transpose();
        let contested = from.contested.as_ref().map(Contested::try_from).transpose();
        let vanished: Result<_, WireError> =
            from.vanished.iter().map(|name| read("vanished", name)).collect();
        let mut failing = BTreeMap::new();
        for of in &from.failing {
            let kept = KeptShare {
                share: BasisPoints::new(of.basis_points).map_err(|e| WireError::new("failing", e))?,
                why: of.why.clone(),
                help: of.help.clone(),
            };
            if failing.insert(read("failing", &of.backend)?, kept).is_some() {
                return Err(twice("failing", &of.backend));
            }
        }
        let mut doors = BTreeMap::new();
        for from in &from.doors {
            let (name, door) =
                door_fact_in(from).map_err(|e| e.within(format_args!("doors[{}]", from.gateway)))?;
            if doors.insert(name, door).is_some() {
                return Err(twice("doors", &from.gateway));
            }
        }
        Ok(Self {
            split: read("split", &from.split)?,
            generation: Generation(from.generation),
            digest: Digest(hash("digest", &from.digest)?),
            state,
            proof: proof.map_err(|e| e.within("proof"))?,
            second_writers: from.second_writers.iter().map(SecondWriter::from).collect(),
            counts: counts.map_err(|e| e.within("counts"))?,
            pin: pin.map_err(|e| e.within("pin"))?,
            fallback: fallback.map_err(|e| e.within("fallback"))?,
            doors,
            contested: contested.map_err(|e| e.within("contested"))?,
            vanished: vanished?,
            failing,
        })
    }
}

impl From<&Contested> for v1::Contested {
    fn from(contested: &Contested) -> Self {
        Self {
            object: contested.object.clone(),
            rewrites: contested.rewrites,
            since: Some(time_out(contested.since)),
        }
    }
}

impl TryFrom<&v1::Contested> for Contested {
    type Error = WireError;

    fn try_from(from: &v1::Contested) -> Result<Self, WireError> {
        Ok(Self {
            object: from.object.clone(),
            rewrites: from.rewrites,
            since: time("since", from.since)?,
        })
    }
}

impl From<&Pin> for v1::Pin {
    fn from(pin: &Pin) -> Self {
        Self {
            since: Some(time_out(pin.since)),
            who: pin.who.clone(),
            host: pin.host.clone(),
            reason: pin.reason.clone(),
            weights: routes_out(&pin.weights),
        }
    }
}

impl TryFrom<&v1::Pin> for Pin {
    type Error = WireError;

    fn try_from(from: &v1::Pin) -> Result<Self, WireError> {
        Ok(Self {
            since: time("since", from.since)?,
            who: from.who.clone(),
            host: from.host.clone(),
            reason: from.reason.clone(),
            weights: routes(&from.weights)?,
        })
    }
}

fn routes_out(routes: &ProvenWeights) -> Vec<v1::RouteWeights> {
    let out = routes.iter().map(|(route, weights)| v1::RouteWeights {
        route: route.to_string(),
        weights: weights_out(weights),
    });
    out.collect()
}

fn routes(from: &[v1::RouteWeights]) -> Result<ProvenWeights, WireError> {
    let mut routes = ProvenWeights::new();
    for route in from {
        let there =
            weights(&route.weights).map_err(|e| e.within(format_args!("weights[{}]", route.route)))?;
        if routes.insert(read("weights", &route.route)?, there).is_some() {
            return Err(twice("weights", &route.route));
        }
    }
    Ok(routes)
}

impl From<&Proof> for v1::Proof {
    fn from(proof: &Proof) -> Self {
        let (verdict, detail) = match &proof.verdict {
            Verdict::Exact => ("exact", ""),
            Verdict::Different(what) => ("different", what.as_str()),
            Verdict::Unknown(why) => ("unknown", why.as_str()),
        };
        Self {
            verdict: verdict.to_owned(),
            detail: detail.to_owned(),
            evidence: evidence_out(proof.evidence).to_owned(),
            at: Some(time_out(proof.at)),
            seen: proof.coverage.seen,
            of: proof.coverage.of,
            weights: proof.weights.as_ref().map(routes_out).unwrap_or_default(),
            has_weights: proof.weights.is_some(),
            unhealthy: proof.unhealthy.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<&v1::Proof> for Proof {
    type Error = WireError;

    fn try_from(from: &v1::Proof) -> Result<Self, WireError> {
        let verdict = match from.verdict.as_str() {
            "exact" => Verdict::Exact,
            "different" => Verdict::Different(from.detail.clone()),
            "unknown" => Verdict::Unknown(from.detail.clone()),
            // Not knowing the word is not knowing the verdict (I9).
            other => Verdict::Unknown(unknown("verdict", other, "verdict").to_string()),
        };
        let routes = routes(&from.weights)?;
        let unhealthy: Result<_, WireError> = from
            .unhealthy
            .iter()
            .map(|name| read("unhealthy", name))
            .collect();
        Ok(Self {
            verdict,
            evidence: evidence(&from.evidence),
            at: time("at", from.at)?,
            coverage: Coverage {
                seen: from.seen,
                of: from.of,
            },
            weights: from.has_weights.then_some(routes),
            unhealthy: unhealthy?,
        })
    }
}

impl From<&SecondWriter> for v1::SecondWriter {
    fn from(writer: &SecondWriter) -> Self {
        Self {
            kind: writer.kind.clone(),
            object: writer.object.clone(),
            origin: writer.origin.clone(),
            overrides: writer.overrides,
        }
    }
}

impl From<&v1::SecondWriter> for SecondWriter {
    fn from(writer: &v1::SecondWriter) -> Self {
        Self {
            kind: writer.kind.clone(),
            object: writer.object.clone(),
            origin: writer.origin.clone(),
            overrides: writer.overrides,
        }
    }
}

/// A backend that stands in one of the maps only is sent with 0 for the other.
impl From<&Counts> for v1::Counts {
    fn from(counts: &Counts) -> Self {
        let named = counts
            .requests
            .keys()
            .chain(counts.failed.keys())
            .chain(counts.down.keys());
        let named: BTreeSet<&BackendName> = named.chain(counts.latency.keys()).collect();
        let counted = named.into_iter().map(|backend| {
            let of = |all: &BTreeMap<BackendName, u64>| all.get(backend).copied().unwrap_or(0);
            v1::Count {
                backend: backend.to_string(),
                requests: of(&counts.requests),
                failed: of(&counts.failed),
                down: of(&counts.down),
                latency: counts
                    .latency
                    .get(backend)
                    .copied()
                    .map(Vec::from)
                    .unwrap_or_default(),
            }
        });
        Self {
            since: Some(time_out(counts.since)),
            at: Some(time_out(counts.at)),
            backends: counted.collect(),
            whole_zone: counts.scope == CountScope::Zone,
            open: counts.open,
        }
    }
}

impl TryFrom<&v1::Counts> for Counts {
    type Error = WireError;

    fn try_from(from: &v1::Counts) -> Result<Self, WireError> {
        let mut counts = Self {
            since: time("since", from.since)?,
            at: time("at", from.at)?,
            requests: BTreeMap::new(),
            failed: BTreeMap::new(),
            down: BTreeMap::new(),
            latency: BTreeMap::new(),
            open: from.open,
            scope: if from.whole_zone {
                CountScope::Zone
            } else {
                CountScope::Host
            },
        };
        for count in &from.backends {
            let backend: BackendName = read("backends", &count.backend)?;
            if counts.requests.insert(backend.clone(), count.requests).is_some() {
                return Err(twice("backends", &count.backend));
            }
            counts.failed.insert(backend.clone(), count.failed);
            counts.down.insert(backend.clone(), count.down);
            if !count.latency.is_empty() {
                counts
                    .latency
                    .insert(backend, Latency::from(count.latency.clone()));
            }
        }
        Ok(counts)
    }
}
