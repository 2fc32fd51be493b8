//! The doors of a split at a zone's gateways: where each stands by the words of the zone's agents. A zone runs an item only
//! if its gateways do.

use std::collections::BTreeMap;

use weir_model::{BackendName, BasisPoints, Door, GatewayName, Via};
use weir_planner::{DoorCounting, DoorFact, Evidence, Item, ItemFact, Verdict};
use weir_wire::api::{DoorCounted, DoorInZone, Standing};

use super::Sight;
use super::transition;
use super::word::{SETTLE, disagreement};
use crate::fleet::Agent;

/// Where one door stands.
struct Stands<'a> {
    standing: Standing,
    why: Option<String>,
    fact: Option<&'a DoorFact>,
}

impl Sight<'_> {
    /// The first door of an item that is not as it should be, by the last words of these agents, with where it stands; none
    /// if all of them are.
    pub fn doors_short<'b>(
        &self,
        agents: impl Iterator<Item = (&'b String, &'b Agent)> + Clone,
        item: &Item,
    ) -> Option<(Standing, String)> {
        let doors = item.doors.iter();
        doors
            .map(|(gateway, door)| (gateway, self.door(agents.clone(), item, gateway, door)))
            .filter(|(_, stands)| stands.standing != Standing::Converged)
            .map(|(gateway, stands)| {
                let why = stands.why.unwrap_or_default();
                (stands.standing, format!("gateway {gateway}: {why}"))
            })
            .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
    }

    /// Each door as people are shown it.
    pub(super) fn doors_shown<'b>(
        &self,
        agents: impl Iterator<Item = (&'b String, &'b Agent)> + Clone,
        item: &Item,
    ) -> Vec<DoorInZone> {
        let show = |(gateway, door): (&GatewayName, &Door)| {
            let stands = self.door(agents.clone(), item, gateway, door);
            let proof = stands.fact.and_then(|fact| fact.proof.as_ref());
            DoorInZone {
                gateway: gateway.to_string(),
                standing: stands.standing,
                reason: stands.why,
                carries: matches!(door.via, Via::Addresses(_)),
                evidence: proof.map_or(Evidence::Unknown, |proof| proof.evidence),
                proven_at: proof.map(|proof| proof.at.to_string()),
                seen: proof.map_or(0, |proof| proof.coverage.seen),
                of: proof.map_or(0, |proof| proof.coverage.of),
                weights: proof
                    .and_then(|proof| proof.weights.as_ref())
                    .map(|of| transition::shares(of.iter())),
                counting: stands.fact.and_then(|fact| fact.counting.as_ref()).map(counted),
            }
        };
        item.doors.iter().map(show).collect()
    }

    /// The worst word on one door: of several agents that drive the same gateway each must have read it back.
    fn door<'a>(
        &self,
        agents: impl Iterator<Item = (&'a String, &'a Agent)>,
        item: &Item,
        gateway: &GatewayName,
        door: &Door,
    ) -> Stands<'a> {
        let mut behind = None;
        let mut worst: Option<Stands<'a>> = None;
        for (name, agent) in agents {
            let fact = agent.items.get(&item.split);
            let current = |fact: &&ItemFact| fact.generation == item.generation && fact.digest == item.digest;
            let Some(fact) = fact.filter(current) else {
                behind = Some(name);
                continue;
            };
            let Some(fact) = fact.doors.get(gateway) else {
                continue; // it drives other gateways, or none
            };
            let (standing, why) = self.door_by(item, (gateway, door), fact);
            if worst.as_ref().is_none_or(|worst| worst.standing < standing) {
                worst = Some(Stands {
                    standing,
                    why,
                    fact: Some(fact),
                });
            }
        }
        worst.unwrap_or_else(|| {
            let (standing, why) = match behind {
                Some(name) => (Standing::Progressing, format!("agent {name} has not said where it stands")),
                None => (
                    Standing::Held,
                    "no agent of this zone drives it: name it under `gateways` in the configuration of one of them"
                        .to_owned(),
                ),
            };
            Stands {
                standing,
                why: Some(why),
                fact: None,
            }
        })
    }

    fn door_by(
        &self,
        item: &Item,
        (gateway, door): (&GatewayName, &Door),
        fact: &DoorFact,
    ) -> (Standing, Option<String>) {
        if let Some(why) = &fact.held {
            return (Standing::Held, Some(why.clone()));
        }
        let Some(proof) = &fact.proof else {
            return (Standing::Progressing, Some("not read back yet".to_owned()));
        };
        match &proof.verdict {
            Verdict::Different(what) => {
                let settling = self.now.duration_since(self.made(item.generation)) < SETTLE;
                let standing = if settling {
                    Standing::Progressing
                } else {
                    Standing::Different
                };
                (standing, Some(what.clone()))
            }
            Verdict::Unknown(why) => (Standing::Progressing, Some(format!("cannot be read back: {why}"))),
            Verdict::Exact if proof.evidence != Evidence::Live => (
                Standing::Progressing,
                Some("what is shown was not read from the gateway itself".to_owned()),
            ),
            Verdict::Exact if proof.coverage.seen == 0 || proof.coverage.seen < proof.coverage.of => (
                Standing::Progressing,
                Some(format!(
                    "{} of its {} nodes were read",
                    proof.coverage.seen, proof.coverage.of
                )),
            ),
            Verdict::Exact => match &door.via {
                // The mesh carries the weights, and its own proof is the item's.
                Via::Mesh(_) => (Standing::Converged, None),
                Via::Addresses(_) => {
                    match disagreement(item, proof, |of| self.tolerance(item, gateway, of)) {
                        Some((standing, what)) => (standing, Some(what)),
                        None => (Standing::Converged, None),
                    }
                }
            },
        }
    }

    /// How far a share may be from the wanted one, in basis points.
    fn tolerance(&self, item: &Item, gateway: &GatewayName, wanted: BasisPoints) -> u32 {
        let gateways = self.plan.gateways.get(&item.zone);
        let planned = gateways.and_then(|gateways| gateways.get(gateway));
        planned.map_or(0, |planned| planned.channel.tolerance(wanted))
    }
}

/// What left a gateway, as people are shown it: since the proof, as its agent counts.
fn counted(counting: &DoorCounting) -> DoorCounted {
    let by_name =
        |of: &BTreeMap<BackendName, u64>| of.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    match counting {
        DoorCounting::Counted { counts, unplaced } => DoorCounted {
            counted: by_name(&counts.requests),
            failed: by_name(&counts.failed),
            unplaced: *unplaced,
            since: Some(counts.since.to_string()),
            reason: None,
        },
        DoorCounting::Not(why) => DoorCounted {
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            unplaced: 0,
            since: None,
            reason: Some(why.clone()),
        },
    }
}
