//! What gateways come to in time: no addresses that are nobody's any more (I3), a revert (I8), what is declared (I11).

use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_planner::Item;

use super::doors::{bare, is_exact};
use super::{FAST, Invariant, of_split};
use crate::simulate::Ms;
use crate::simulate::gateway::EDGE;
use crate::simulate::human::Declared;
use crate::simulate::world::{SPLITS, World, ZONES};
use crate::simulate::zone::{Place, key_of};

/// What a name server says is known to an agent within this time, and at its gateway.
pub(super) const NAMED: Ms = 15_000;
/// A gateway follows its zone within this time.
const BEHIND: Ms = 20_000;

impl World {
    /// Whether an address of a place is none of its name for so long, while name servers answered.
    pub(super) fn is_stale(&self, (place, ip): (Place, IpAddr), for_so_long: Ms) -> bool {
        let now = self.now;
        let IpAddr::V4(four) = ip else { return true };
        if place >= ZONES.len() {
            return true;
        }
        // Below that they are declared as such.
        if four.octets()[3] < 10 {
            return false;
        }
        self.lookup.with(|records| {
            let named = records.now.values().any(|all| all.contains(&ip));
            let last = records.last.get(&ip).copied().unwrap_or_default();
            !named && !records.down && last.max(records.up_since) + for_so_long < now
        })
    }

    /// Whether all works that a zone's gateway needs to follow its zone.
    pub(super) fn gate_works(&self, g: usize) -> bool {
        let gate = &self.gates[g];
        let names = self.lookup.with(|records| !records.down);
        let known = |item: &usize| self.sides[*item].as_ref().is_some_and(|side| side.gate == g);
        let mut agents = (0..self.agents.len()).filter(known);
        gate.is_well() && names && agents.all(|a| self.agents[a].up && !self.agents[a].disk.full)
    }

    /// I3, eventually: once a second. What works long enough gives nothing to addresses that are nobody's any more.
    pub(crate) fn check_gates(&mut self) {
        let now = self.now;
        for g in 0..self.gates.len() {
            // Who is dead to it holds what would give him more, with the addresses of then.
            if !self.gate_works(g) || !self.gates[g].sick.is_empty() {
                self.gates[g].troubled = now;
                continue;
            }
            if now < self.gates[g].troubled + NAMED + BEHIND {
                continue;
            }
            let z = self.gates[g].zone;
            let nodes = self.gates[g].nodes.iter();
            let ways = nodes.flat_map(|node| &node.truth.ways);
            let mut all = ways.flat_map(|((split, _), given)| given.addresses.iter().map(|at| (*split, *at)));
            let troubled = self.gates[g].troubled;
            let stale = all.find(|(split, at)| {
                self.is_stale(*at, NAMED + BEHIND + (now - troubled).min(1)) && self.is_known_at(g, *split)
            });
            self.checks.hold(Invariant::I3, now, stale.is_none(), || {
                format!(
                    "the gateway of {} gives requests to {stale:?}, where nobody is by any name any more",
                    ZONES[z]
                )
            });
        }
    }

    /// Whether a split is planned, or somebody knows that a gateway has it. Who lost what he remembered of a gateway whose last split
    /// goes has nothing to give it, and nothing of which he could follow the addresses: it stays as it is until there is a split again.
    fn is_known_at(&self, g: usize, split: usize) -> bool {
        let is = |name: &weir_model::SplitName| name.as_str() == SPLITS[split];
        let plan = self.coordinator.plan.as_ref();
        let sides = self.sides.iter().flatten().filter(|side| side.gate == g);
        let mut memories = sides.map(|side| side.disk.memory());
        plan.is_some_and(|plan| plan.splits.keys().any(is))
            || memories.any(|memory| memory.posted.values().any(|posted| posted.items.keys().any(is)))
    }

    /// I8: what of these splits a zone's gateway has not got.
    pub(super) fn missing_at_gates(&self, z: Place, splits: &BTreeMap<usize, Declared>) -> Option<String> {
        let gates = self.gates.iter().filter(|gate| gate.zone == z);
        for gate in gates {
            for (split, declared) in splits {
                if declared.backends.len() < self.zones.len() {
                    continue;
                }
                let want: Vec<BTreeMap<Place, u32>> = declared.routes.iter().map(bare).collect();
                for (n, node) in gate.nodes.iter().enumerate() {
                    let there = node.truth.of(*split);
                    let named = |number: usize| {
                        if number + 1 == want.len() {
                            "default"
                        } else {
                            "beta"
                        }
                    };
                    let so = match declared.door {
                        0 => there.is_empty(),
                        _ => {
                            there.len() == want.len()
                                && want.iter().enumerate().all(|(number, shares)| {
                                    let given = there.get(named(number));
                                    given.is_some_and(|given| given.shares.as_ref() == Some(shares))
                                })
                        }
                    };
                    if !so {
                        return Some(format!(
                            "node {n} of its gateway has {there:?} of {}, not {want:?}",
                            SPLITS[*split]
                        ));
                    }
                }
            }
        }
        None
    }

    /// I11: what a gateway does not run when all faults are over.
    pub(super) fn unsettled_at_gates(
        &self,
        items: &[&Item],
        says: impl Fn(&weir_model::SplitName) -> bool,
    ) -> Option<String> {
        let edge = weir_model::GatewayName::new(EDGE).ok()?;
        for (g, gate) in self.gates.iter().enumerate() {
            let zone = &self.zones[gate.zone];
            let here = items.iter().filter(|item| item.zone == zone.name);
            let here = here.filter(|item| item.doors.contains_key(&edge));
            for (n, node) in gate.nodes.iter().enumerate() {
                for item in here.clone() {
                    // What is held in the mesh is held here, and is said to be.
                    if zone.truth(&key_of(item)).is_none() || says(&item.split) {
                        continue;
                    }
                    if !is_exact(&node.truth, item) {
                        return Some(format!(
                            "node {n} of the gateway of {} does not run {}: {:?}",
                            zone.name,
                            item.split,
                            node.truth.of(of_split(item.split.as_str()))
                        ));
                    }
                }
                let orphan = node
                    .truth
                    .ways
                    .keys()
                    .filter(|(split, _)| !here.clone().any(|item| item.split.as_str() == SPLITS[*split]))
                    .find(|(split, _)| self.is_known_at(g, *split));
                if let Some((split, _)) = orphan {
                    return Some(format!(
                        "{} is still at node {n} of the gateway of {}",
                        SPLITS[*split], zone.name
                    ));
                }
                let declares = here.clone().next().is_some() || gate.kind.database;
                if declares && node.truth.foreign != gate.own {
                    return Some(format!(
                        "node {n} of the gateway of {} has {:?} of the site's, not {:?}",
                        zone.name, node.truth.foreign, gate.own
                    ));
                }
            }
        }
        None
    }
}

/// For so long a revert may take to a gateway: what its zone takes, and what it takes itself.
pub(super) const FAST_AT_GATES: Ms = FAST + BEHIND;
