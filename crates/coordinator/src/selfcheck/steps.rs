//! Of two plans that follow each other: whom a step may give more (I3), what it may take out of a zone (I4), and how a way back
//! travels (I8). Pure.
//!
//! By rules of their own: shares are those of places and not of names, and are put together here from the items alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{DnsLabel, Match, Protocol, ServiceName, SplitName, ZoneName};
use weir_planner::canonical::shape;
use weir_planner::{Destination, Item, ItemRoute, Leg, Plan, ServiceFact, ServiceState, SplitPlan};

use super::{Checked, not_proven, unread_door};
use crate::standing::Sight;

/// What is looked at: a plan, the one that follows, what zones said when that was made, and who takes no part.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The plan before, the agents, the time.
    pub sight: Sight<'a>,
    /// The plan that follows.
    pub next: &'a Plan,
    /// Zones that are declared as detached.
    pub detached: &'a BTreeSet<ZoneName>,
}

/// Says what is wrong with a step, if anything is.
pub type Check = fn(Step<'_>) -> Option<String>;

/// What is looked at whenever a plan follows another one.
pub const OF_TWO_PLANS: [(Checked, Check); 3] = [
    (Checked::I3, resolved),
    (Checked::I4, drained),
    (Checked::I8, at_once),
];

/// The same split in both plans, where the second one says something else of it.
type Changed<'a> = (&'a SplitName, &'a SplitPlan, &'a SplitPlan);

impl<'a> Step<'a> {
    fn changed(self) -> impl Iterator<Item = Changed<'a>> {
        let before = &self.sight.plan.splits;
        let next = self.next.splits.iter();
        next.filter_map(|(name, now)| {
            let was = before.get(name).filter(|was| !Arc::ptr_eq(was, now))?;
            Some((name, &**was, &**now))
        })
    }

    /// The items of a split that change, of zones that take part.
    fn told(self, was: &'a SplitPlan, now: &'a SplitPlan) -> impl Iterator<Item = (&'a Item, &'a Item)> {
        let takes_part = move |zone: &ZoneName| !self.detached.contains(zone);
        let items = now.items.iter().filter(move |(zone, _)| takes_part(zone));
        items.filter_map(|(zone, item)| {
            let has = was.items.get(zone).filter(|has| !Arc::ptr_eq(has, item))?;
            Some((&**has, &**item))
        })
    }
}

/// I3: who gets more of some requests by a step forward, though the zone that is told so does not resolve it to the one usable MeshService, by
/// the last word of its agents that are heard.
///
/// What a zone does not resolve it does not write, whatever it is told: here it is not even told. Ways back are told to all at once, and
/// each zone holds its own.
pub fn resolved(step: Step<'_>) -> Option<String> {
    step.changed().find_map(|(name, was, now)| {
        is_shift(now).then_some(())?;
        step.told(was, now).find_map(|(has, item)| {
            let heard = step.sight.fleet.of(&item.zone);
            let mut heard = heard.filter(|(_, agent)| step.sight.silence(agent).is_none());
            heard.find_map(|(agent, said)| {
                let gains = places(item).into_iter().filter(|to| gains(has, item, to));
                let unresolved = gains.map(|to| (to, usable(&said.services, to)));
                let ((at, _, service, _), found) = unresolved.into_iter().find(|(_, found)| *found != 1)?;
                Some(format!(
                    "split {name} gives more to {service} of Kuma zone {at} in zone {} by plan {}, and agent {agent} there sees {found} \
                     usable MeshServices of it",
                    item.zone, step.next.generation
                ))
            })
        })
    })
}

/// I4: which place a zone is told no more, though a zone has it with weight, or has not proven that it has none.
///
/// Not of tcp, where nothing could name it without weight, nor of a split that goes, or that takes the place of another one.
pub fn drained(step: Step<'_>) -> Option<String> {
    step.changed().find_map(|(name, was, now)| {
        let tcp = now.items.values().any(|item| item.protocol == Protocol::Tcp);
        (!tcp).then_some(())?;
        step.told(was, now).find_map(|(has, item)| {
            let named = places(item);
            let mut goes = places(has).into_iter().filter(|to| !named.contains(to));
            goes.find_map(|to| {
                let why = still_sent_to(step, was, now, to)?;
                let (at, _, service, _) = to;
                Some(format!(
                    "plan {} takes {service} of Kuma zone {at} out of split {name} in zone {}, and {why}",
                    step.next.generation, item.zone
                ))
            })
        })
    })
}

/// Why requests may still be sent to a place, by the plan before and the last word of every zone that has it.
fn still_sent_to(step: Step<'_>, was: &SplitPlan, now: &SplitPlan, to: Place<'_>) -> Option<String> {
    let takes_part = |zone: &ZoneName| now.items.contains_key(zone) && !step.detached.contains(zone);
    let mut has = was
        .items
        .iter()
        .filter(|(zone, item)| takes_part(zone) && places(item).contains(&to));
    has.find_map(|(zone, item)| {
        if item.routes.iter().any(|route| share(item, route, to) > 0) {
            return Some(format!("zone {zone} was told to send requests there"));
        }
        let mut agents = step.sight.fleet.of(zone);
        let unproven = agents.find_map(|(name, agent)| {
            // Who was never heard was never told anything.
            agent.heard_at?;
            let fact = agent.items.get(&item.split);
            let elsewhere = fact.is_some_and(|fact| fact.fallback.is_some());
            let why = not_proven(agent, item)
                .or_else(|| elsewhere.then(|| "a share is elsewhere there".to_owned()))?;
            Some(format!(
                "agent {name} of zone {zone} has not proven that nobody sends anything there: {why}"
            ))
        });
        unproven.or_else(|| {
            let mut agents = step.sight.fleet.of(zone);
            agents.any(|(_, agent)| agent.heard_at.is_some()).then_some(())?;
            let gateway = unread_door(step.sight.fleet, item)?;
            Some(format!(
                "nobody read back from gateway {gateway} of zone {zone} that it sends nothing there"
            ))
        })
    })
}

/// I8: which way back goes one zone after the other, or which way forward leads to where the split set out from.
pub fn at_once(step: Step<'_>) -> Option<String> {
    step.changed().find_map(|(name, was, now)| {
        let motion = now.course.as_ref()?.motion.as_ref()?;
        let same = |was: &SplitPlan| {
            let was = was.course.as_ref().and_then(|course| course.motion.as_ref());
            was.is_some_and(|was| (&was.leg, was.to, was.since) == (&motion.leg, motion.to, motion.since))
        };
        match &motion.leg {
            Leg::Return { .. } if !same(was) => {
                let takes_part = now
                    .items
                    .iter()
                    .filter(|(zone, _)| was.items.contains_key(*zone) && !step.detached.contains(*zone));
                let mut given = takes_part.map(|(zone, item)| (zone, given(item)));
                let (first, shares) = given.next()?;
                let (other, _) = given.find(|(_, other)| *other != shares)?;
                Some(format!(
                    "split {name} goes back by plan {}, and zones {first} and {other} are told different shares",
                    step.next.generation
                ))
            }
            // What is declared by now where it stands in mid-way is one step as well, and has no waves.
            Leg::Shift { wave, .. } if *wave != u32::MAX => {
                let origin = motion.origin.values().next()?;
                (shape(origin) == motion.to).then(|| {
                    format!(
                        "split {name} goes forward by plan {} to what it set out from, which is a way back",
                        step.next.generation
                    )
                })
            }
            Leg::Return { .. } | Leg::Shift { .. } => None,
        }
    })
}

fn is_shift(split: &SplitPlan) -> bool {
    let motion = split.course.as_ref().and_then(|course| course.motion.as_ref());
    motion.is_some_and(|motion| matches!(motion.leg, Leg::Shift { .. }))
}

/// What a destination is to Kuma, whatever a declaration calls it: zone, namespace, service, port.
type Place<'a> = (&'a DnsLabel, Option<&'a DnsLabel>, &'a ServiceName, u16);

fn places(item: &Item) -> BTreeSet<Place<'_>> {
    item.destinations.values().map(Destination::in_kuma).collect()
}

/// Basis points that a place gets of a route.
fn share(item: &Item, route: &ItemRoute, to: Place<'_>) -> u32 {
    let there = route.weights.iter().filter(|(name, _)| {
        let at = item.destinations.get(*name).map(Destination::in_kuma);
        at == Some(to)
    });
    there.map(|(_, weight)| weight.get()).sum()
}

/// Whether a place gets more of what any route matches. Without a route of the same match its requests go by the last one, which takes all.
fn gains(has: &Item, item: &Item, to: &Place<'_>) -> bool {
    let of = |item: &Item, matches: &Match| {
        let mut routes = item.routes.iter();
        let route = routes.find(|route| route.matches == *matches);
        route
            .or(item.routes.last())
            .map_or(0, |route| share(item, route, *to))
    };
    let mut routes = has.routes.iter().chain(&item.routes);
    routes.any(|route| of(has, &route.matches) < of(item, &route.matches))
}

/// How many MeshServices of a place can be used by the word of a zone.
fn usable(services: &[ServiceFact], (zone, namespace, service, port): Place<'_>) -> usize {
    let there = services.iter().filter(|fact| {
        (&fact.kuma_zone, fact.namespace.as_ref(), &fact.service) == (zone, namespace, service)
    });
    let all: Vec<&ServiceFact> = there.collect();
    let good = |fact: &&&ServiceFact| {
        let speaks = fact.ports.get(&port).copied().flatten();
        speaks.is_some() && fact.state == ServiceState::Available
    };
    match all.iter().filter(good).count() {
        // One that could be chosen instead is as bad as none.
        good if good == all.len() => good,
        _ => 0,
    }
}

/// What callers get of each route, by place.
fn given(item: &Item) -> BTreeMap<&Match, BTreeMap<Place<'_>, u32>> {
    let of = |route: &ItemRoute| {
        let shares = places(item).into_iter().map(|to| (to, share(item, route, to)));
        shares.filter(|(_, share)| *share > 0).collect()
    };
    item.routes
        .iter()
        .map(|route| (&route.matches, of(route)))
        .collect()
}
