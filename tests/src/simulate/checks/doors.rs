//! The invariants at gateways: what their nodes really run, at each write, at each time that a node takes something up, and
//! whenever somebody is told that a door is as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weir_agent::gateways::{Told, Wanted};
use weir_model::{RouteName, SplitName};
use weir_planner::{Item, ServiceState};

use super::elsewhere::ways;
use super::gates::NAMED;
use super::{Invariant, asked, of_split};
use crate::simulate::Ms;
use crate::simulate::gateway::{EDGE, Given, Side, Truth, said};
use crate::simulate::world::{SPLITS, World, ZONES};
use crate::simulate::zone::{Place, Shares};

pub(super) fn bare(route: &BTreeMap<Place, u32>) -> BTreeMap<Place, u32> {
    let all = route.iter().filter(|(_, share)| **share > 0);
    all.map(|(place, share)| (*place, *share)).collect()
}

/// Whether a node gives by every route of an item what that item says, and has no other route of its split.
pub(super) fn is_exact(truth: &Truth, item: &Item) -> bool {
    let there = truth.of(of_split(item.split.as_str()));
    let asked = asked(item);
    there.len() == item.routes.len()
        && item.routes.iter().zip(&asked).all(|(route, shares)| {
            let given = there.get(route.name.as_str());
            given.is_some_and(|given| given.shares.as_ref() == Some(&bare(shares)))
        })
}

/// Whether what is there of a split is by its shares this item, in some way that its table has.
fn may_be(there: &BTreeMap<&str, &Given>, item: &Item) -> bool {
    let names: Vec<&str> = item.routes.iter().map(|route| route.name.as_str()).collect();
    if names.len() != there.len() {
        return false;
    }
    let shares: Option<Shares> = names
        .iter()
        .map(|name| there.get(name).and_then(|given| given.shares.clone()))
        .collect();
    shares.is_some_and(|shares| {
        let asked: Shares = asked(item).iter().map(bare).collect();
        shares == asked || !ways(item, &shares).is_empty()
    })
}

/// The pins that a split is given as at a node.
fn pins_of(there: &BTreeMap<&str, &Given>) -> BTreeSet<String> {
    let all = there.values().flat_map(|given| &given.pins);
    all.cloned().collect()
}

/// The newest generation that routes say to be of.
fn newest(all: &BTreeMap<&str, &Given>) -> Option<u64> {
    all.values().map(|given| given.generation).max()
}

/// Whether a place gets more of a route than it had. In a database each target is written by itself, and all weights of a route are of
/// one sum before and after: who keeps his own in mid-way is given nothing, whatever becomes of the others'.
fn gains(place: Place, was: Option<&Given>, is: &Given, database: bool) -> bool {
    let of = |given: &Given| given.weights.get(&place).copied().unwrap_or_default();
    let Some(was) = was.filter(|was| of(was) > 0) else {
        return of(is) > 0;
    };
    match database {
        true => of(is) > of(was),
        false => of(is) * was.total > of(was) * is.total,
    }
}

impl World {
    /// Reads again what the nodes of a gateway run, and what became of requests by that. With whoever wrote, if an agent did.
    pub(crate) fn gate_changed(&mut self, g: usize, by: Option<usize>) {
        let now = self.now;
        for n in 0..self.gates[g].nodes.len() {
            let Some(before) = self.gates[g].nodes[n].reread(now) else {
                continue;
            };
            self.gates[g].version += 1;
            let after = std::sync::Arc::clone(&self.gates[g].nodes[n].truth);
            if by.is_none() && self.gates[g].tampered {
                continue;
            }
            let place = ZONES[self.gates[g].zone];
            // Two agents that know different things, by another plan or from another name server, each take away what the other
            // gives: Kong's database has no compare-and-set.
            if self.gates[g].kind.database && self.zones[self.gates[g].zone].agents > 1 {
                continue;
            }
            for ((split, route), given) in &after.ways {
                let was = before.ways.get(&(*split, route.clone()));
                let serves = given.total > 0 || was.is_some_and(|was| was.total == 0);
                self.checks.hold(Invariant::I4, now, serves, || {
                    format!(
                        "by node {n} of the gateway of {place} the requests of {} by route {route} lead to nobody",
                        SPLITS[*split]
                    )
                });
            }
        }
    }

    /// An agent wrote to a node.
    pub(crate) fn gate_written(&mut self, a: usize, g: usize, n: usize, wanted: Option<&Wanted>) {
        let now = self.now;
        self.gates[g].wrote = now;
        let before = std::sync::Arc::clone(&self.gates[g].nodes[n].truth);
        self.gate_changed(g, Some(a));
        let gate = &self.gates[g];
        let after = std::sync::Arc::clone(&gate.nodes[n].truth);
        let (z, database) = (gate.zone, gate.kind.database);
        let own = gate.own.clone();
        // Kong has no compare-and-set: what came after the agent had looked is lost.
        let looked = self.sides[a].as_ref().and_then(Side::began);
        let unseen = looked.is_none_or(|began| gate.strange >= began);
        let seen = self.sides[a].as_ref().and_then(|side| side.looked(n));
        let seen = seen.filter(|_| !database);
        let name = self.agents[a].name.clone();
        self.checks.hold(Invariant::I4, now, !after.empty, || {
            format!(
                "agent {name} sends an empty configuration to node {n} of the gateway of {}",
                ZONES[z]
            )
        });
        // I10: what is not Weir's stays as it is, and is whole where the base in Git says what it is.
        let kept = match database {
            true => after.foreign == before.foreign,
            false => after.foreign == own && (unseen || before.foreign.is_subset(&own)),
        };
        self.checks.hold(Invariant::I10, now, kept, || {
            let other = |one: &Truth, of: &Truth| {
                let mut other = one.foreign.difference(&of.foreign);
                other.next().cloned().unwrap_or_default()
            };
            format!(
                "agent {name} changes what is not Weir's at node {n} of the gateway of {}: {} became {}, of {own:?}",
                ZONES[z],
                other(&before, &after),
                other(&after, &before)
            )
        });
        // What it was about when it looked: a plan that came since is for its next turn.
        let plan = wanted.map(|wanted| std::sync::Arc::clone(&wanted.plan));
        let plan = plan.or_else(|| self.agents[a].plan.clone());
        let edge = weir_model::GatewayName::new(EDGE).ok();
        for (split, called) in SPLITS.iter().enumerate() {
            let (had, has) = (before.of(split), after.of(split));
            // I4: requests come by what its plan still has.
            let item = plan.iter().flat_map(|plan| &plan.items);
            let item = item
                .filter(|(of, _)| of.as_str() == *called)
                .find(|(_, item)| edge.as_ref().is_some_and(|edge| item.doors.contains_key(edge)));
            // What another agent brought since this one looked is lost as well.
            let looked_at = looked.and_then(|began| self.gates[g].nodes[n].at(began));
            let there = looked_at.is_none_or(|truth| !truth.of(split).is_empty());
            let gone = !had.is_empty() && has.is_empty() && item.is_some() && there;
            self.checks.hold(Invariant::I4, now, !gone, || {
                format!(
                    "agent {name} takes {} from node {n} of the gateway of {}, whose door its plan has",
                    called, ZONES[z]
                )
            });
            if had == has || had.is_empty() && has.is_empty() {
                continue;
            }
            let then = looked.and_then(|began| self.gates[g].nodes[n].at(began));
            let then = then.map(|truth| pins_of(&truth.of(split))).unwrap_or_default();
            self.check_unpinned(a, (z, split), &then, (&had, &has));
            if has.is_empty() {
                continue;
            }
            let seen = seen.as_ref().map(|seen| seen.of(split));
            self.check_newer(a, (z, split), (&had, &has), seen.as_ref());
            self.check_given(a, (z, split), (&had, &has), database, wanted);
            self.check_named(a, (z, split), (&had, &has));
            self.check_ahead(a, (z, split), (&had, &has), database, wanted);
        }
    }

    /// I6: what somebody pinned on another host of the zone, as its control plane shows, stays as it is at the gateway, if it was there
    /// before an agent looked.
    fn check_unpinned(
        &mut self,
        a: usize,
        (z, split): (Place, usize),
        then: &BTreeSet<String>,
        (had, has): (&BTreeMap<&str, &Given>, &BTreeMap<&str, &Given>),
    ) {
        let now = self.now;
        let (had, has) = (pins_of(had), pins_of(has));
        let shown = |label: &str| {
            let mut store = self.zones[z].store.values();
            store.any(|stored| stored.meaning.pinned.as_deref() == Some(label))
        };
        let in_force = |label: &&String| {
            let pins = &self.checks.pins;
            let other = pins.iter().any(|((of, pinned), note)| {
                *of != a && *pinned == split && note.label == **label && self.agents[*of].zone == z
            });
            let over = self.checks.ended.contains_key(&(a, split, (*label).clone()));
            other && !over && shown(label) && then.contains(*label)
        };
        let lost = had.difference(&has).find(in_force).cloned();
        let name = self.agents[a].name.clone();
        self.checks.hold(Invariant::I6, now, lost.is_none(), || {
            format!(
                "agent {name} writes over {} at the gateway of {}, which is pinned as {}",
                SPLITS[split],
                ZONES[z],
                lost.unwrap_or_default()
            )
        });
    }

    /// I7: an agent writes nothing older over something newer that was there when it last looked. What another one posts between that
    /// look and this write is lost: Kong has no compare-and-set.
    fn check_newer(
        &mut self,
        a: usize,
        (z, split): (Place, usize),
        (had, has): (&BTreeMap<&str, &Given>, &BTreeMap<&str, &Given>),
        seen: Option<&BTreeMap<&str, &Given>>,
    ) {
        let now = self.now;
        let name = self.agents[a].name.clone();
        let (was, is) = (newest(had), newest(has));
        let known = seen.map_or(was, |seen| newest(seen).min(was));
        let pinned = self.checks.pins.keys().any(|(_, of)| *of == split)
            || self.checks.ended.keys().any(|(_, of, _)| *of == split);
        self.checks.hold(Invariant::I7, now, is >= known || pinned, || {
            format!(
                "agent {name} writes generation {} of {} at the gateway of {} over generation {}",
                is.unwrap_or_default(),
                SPLITS[split],
                ZONES[z],
                was.unwrap_or_default()
            )
        });
    }

    /// I2: the shares that an agent gave a split at a gateway.
    fn check_given(
        &mut self,
        a: usize,
        (z, split): (Place, usize),
        (had, has): (&BTreeMap<&str, &Given>, &BTreeMap<&str, &Given>),
        database: bool,
        wanted: Option<&Wanted>,
    ) {
        let now = self.now;
        let name = self.agents[a].name.clone();
        let is = newest(has);
        if !database {
            let planned = self.checks.planned.iter();
            // What somebody pinned is given as the newest that its agent gave there, whatever plan it was made of.
            let pinned = self.pinned_of(a, split, wanted);
            let planned = planned.filter(|((of, _, generation), _)| {
                *of == z && (Some(*generation) == is || Some(*generation) == pinned)
            });
            let mut planned = planned.flat_map(|(_, items)| items);
            let sound = planned.any(|item| item.split.as_str() == SPLITS[split] && may_be(has, item));
            self.checks.hold(Invariant::I2, now, sound, || {
                format!(
                    "agent {name} gives {has:?} of {} at the gateway of {}, which no plan has",
                    SPLITS[split], ZONES[z]
                )
            });
            return;
        }
        // Write by write: nobody gets more on the way than the larger of what he had and what he gets.
        let item = wanted.and_then(|wanted| {
            let mut items = wanted.items.iter();
            items.find(|(of, _)| of.as_str() == SPLITS[split])
        });
        let Some((called, item)) = item.filter(|_| self.zones[z].agents == 1) else {
            return;
        };
        // What it once was to bring ahead of the mesh it brings to its end, for nothing older goes over it (I7): also after a restart
        // since which it has not seen its zone.
        let next = wanted.and_then(|wanted| wanted.next.get(called)).cloned();
        let went = self.sides[a]
            .as_ref()
            .and_then(|side| side.went.get(called).cloned());
        let went = went.filter(|went| next.is_some() && went.generation > item.generation);
        let same = |next: &Arc<Item>| {
            let went = went.as_ref().map(|went| (went.generation, went.digest));
            went == Some((next.generation, next.digest))
        };
        let ahead: Vec<Arc<Item>> = next.filter(same).into_iter().chain(went).collect();
        let ahead = ahead.iter().flat_map(|item| {
            let names = item.routes.iter().map(|route| route.name.clone());
            names.zip(asked(item))
        });
        let ahead: Vec<(RouteName, BTreeMap<Place, u32>)> = ahead.collect();
        let asked = asked(item);
        for (route, shares) in item.routes.iter().zip(&asked) {
            let (Some(was), Some(is)) = (had.get(route.name.as_str()), has.get(route.name.as_str())) else {
                continue;
            };
            let (Some(was), Some(is)) = (&was.shares, &is.shares) else {
                continue;
            };
            let of = |all: &BTreeMap<Place, u32>, place: &Place| all.get(place).copied().unwrap_or_default();
            let more = is.iter().find(|(place, share)| {
                // In mid-way the sum is another, and with it each share: only who gets something by nobody's word is wrong.
                let gets = |(name, shares): &(RouteName, _)| *name == route.name && of(shares, place) > 0;
                **share > 0 && of(was, place) == 0 && of(shares, place) == 0 && !ahead.iter().any(gets)
            });
            let more = more.map(|(place, share)| (*place, *share));
            self.checks.hold(Invariant::I2, now, more.is_none(), || {
                format!(
                    "agent {name} gives {more:?} of {} at the gateway of {}, which had {was:?} and is to have {shares:?}",
                    SPLITS[split], ZONES[z]
                )
            });
        }
    }

    /// I3: nothing goes to an address that is nobody's any more as far as name servers say, and that said so long enough ago.
    fn check_named(
        &mut self,
        a: usize,
        (z, split): (Place, usize),
        (had, has): (&BTreeMap<&str, &Given>, &BTreeMap<&str, &Given>),
    ) {
        let now = self.now;
        let name = self.agents[a].name.clone();
        let new = |route: &str, at: &(Place, IpAddr)| {
            had.get(route).is_none_or(|given| !given.addresses.contains(at))
        };
        let all = has.iter().flat_map(|(route, given)| {
            let all = given.addresses.iter().map(move |at| (*route, *at));
            all.filter(|(route, at)| new(route, at))
        });
        let all: Vec<(&str, (Place, IpAddr))> = all.collect();
        let stale = all.into_iter().find(|(_, at)| self.is_stale(*at, NAMED));
        self.checks.hold(Invariant::I3, now, stale.is_none(), || {
            format!(
                "agent {name} gives requests of {} at the gateway of {} to {stale:?}, where nobody is by any name",
                SPLITS[split], ZONES[z]
            )
        });
    }

    /// The generation of what is pinned of a split by what an agent's gateways are to run, or by what its zone has of it.
    fn pinned_of(&self, a: usize, split: usize, wanted: Option<&Wanted>) -> Option<u64> {
        let is = |of: &SplitName| of.as_str() == SPLITS[split];
        let wanted = wanted.and_then(|wanted| wanted.items.get(wanted.pins.keys().find(|of| is(of))?));
        let memory = &self.agents[a].memory;
        let applied = || memory.applied.get(memory.pinned.keys().find(|of| is(of))?);
        wanted.or_else(applied).map(|item| item.generation.0)
    }

    /// I3: what goes ahead of the mesh leads to nobody who did not resolve when the agent last saw its zone.
    fn check_ahead(
        &mut self,
        a: usize,
        (z, split): (Place, usize),
        (had, has): (&BTreeMap<&str, &Given>, &BTreeMap<&str, &Given>),
        database: bool,
        wanted: Option<&Wanted>,
    ) {
        let (now, agent) = (self.now, &self.agents[a]);
        let mut items = wanted.iter().flat_map(|wanted| wanted.items.values());
        let Some(item) = items.find(|item| item.split.as_str() == SPLITS[split]) else {
            return;
        };
        let applied = agent.memory.applied.get(&item.split);
        let ahead = applied.is_some_and(|was| was.generation < item.generation);
        let Some(seen) = agent.seen.as_ref().filter(|_| ahead) else {
            return;
        };
        let service = item.service.to_string();
        let resolves = |place: Place| {
            let mut seen = seen.services.iter();
            self.zones[z].resolves(&service, place, item.protocol)
                || seen.any(|fact| {
                    fact.service == item.service
                        && fact.kuma_zone.as_str() == ZONES[place]
                        && fact.state == ServiceState::Available
                })
        };
        let gains = has.iter().flat_map(|(route, given)| {
            let was = had.get(route).copied();
            let places = given.weights.keys().copied();
            places.filter(move |place| gains(*place, was, given, database))
        });
        let mut gains = gains.filter(|place| *place < ZONES.len());
        let blind = gains.find(|place| !resolves(*place));
        let name = agent.name.clone();
        self.checks.hold(Invariant::I3, now, blind.is_none(), || {
            format!(
                "agent {name} gives requests of {} at the gateway of {} to {}, which did not resolve when it last looked, before \
                 the mesh has that",
                SPLITS[split],
                ZONES[z],
                blind.map_or("nobody", |place| ZONES[place])
            )
        });
    }

    /// I9: an agent says of a door that it is exactly as it should be; then all nodes were so at some time in its turn.
    pub(crate) fn check_told_doors(&mut self, a: usize, g: usize, told: &Told, wanted: &Wanted, began: Ms) {
        let now = self.now;
        let z = self.gates[g].zone;
        let mut all_exact = true;
        for (split, doors) in &told.doors {
            for door in doors.values() {
                if !door.fact.is_exact() {
                    all_exact = false;
                    continue;
                }
                let Some(item) = wanted.items.get(split).filter(|item| item.digest == door.digest) else {
                    continue;
                };
                let own = self.gates[g].own.clone();
                let base = self.gates[g].kind.base;
                let nodes = self.gates[g].nodes.iter();
                let mut wrong = nodes.enumerate().filter(|(_, node)| {
                    !node.ran(began, |truth| {
                        is_exact(truth, item) && (!base || truth.foreign == own)
                    })
                });
                let wrong = wrong.next().map(|(n, node)| (n, format!("{:?}", node.truth)));
                let name = self.agents[a].name.clone();
                self.checks.hold(Invariant::I9, now, wrong.is_none(), || {
                    format!(
                        "agent {name} says that {split} is exactly as wanted at the gateway of {}, and {wrong:?} is not {:?}",
                        ZONES[z],
                        asked(item)
                    )
                });
                self.exact_doors += 1;
            }
        }
        if all_exact && self.gates[g].tampered {
            let own = &self.gates[g].own;
            let whole = self.gates[g].nodes.iter().all(|node| node.truth.foreign == *own);
            let right = wanted.items.values().all(|item| {
                let edge = weir_model::GatewayName::new(EDGE);
                let door = edge.is_ok_and(|edge| item.doors.contains_key(&edge));
                !door || self.gates[g].nodes.iter().all(|node| is_exact(&node.truth, item))
            });
            // What is there of a split that has no door any more may be as somebody left it, until it is gone; and a node takes it
            // up from its database when it likes.
            let wants = |split: &str| wanted.items.keys().any(|name| name.as_str() == split);
            let rest = self.gates[g].nodes.iter().all(|node| {
                let routes = node.still.all("routes");
                let mut of = routes.iter().filter_map(|route| said(route, "split"));
                of.all(wants)
            });
            self.gates[g].tampered = !(whole && right && rest);
        }
    }
}
