//! Self-checks: what must hold is looked at once more while the coordinator runs, by rules of their own. What fails here is a fault of Weir: it is counted for machines, told once as an event, and changes nothing.
//!
//! Pure but for the counters. I1, I2 and I10 are the linter's, over each plan; I3, I4, I5, I7 and I8 are of two plans; I9 and I11 are of
//! what people are shown. The simulation lives with the same rules.

pub mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_model::{BackendName, BasisPoints, GatewayName, ZoneName};
use weir_planner::ready::backends_ready;
use weir_planner::{Evidence, Item, ItemFact, ItemState, Leg, Plan, Proof, SplitPlan, Verdict};
use weir_wire::api::{SplitInZone, SplitStatus, Standing};

use crate::fleet::{Agent, Fleet};
use crate::standing::Sight;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checked {
    /// A plan is sound by the linter: I1, I2 and I10, sums and references.
    Plan,
    /// Nobody gets more by a step forward in a zone that does not resolve it.
    I3,
    /// Nothing leaves a zone before nobody sends anything there, by proof.
    I4,
    /// No bite before every zone has proven the one before it.
    I5,
    /// Generations only rise.
    I7,
    /// A way back is one step for all zones, and nothing goes in steps to what it set out from.
    I8,
    /// Converged is only what was read back, exactly, and lately; idle only what nobody calls, by the zone's own word.
    I9,
    /// What is not converged says why.
    I11,
}

impl Checked {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Plan,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I11,
    ];

    /// As metrics and events name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::I3 => "I3",
            Self::I4 => "I4",
            Self::I5 => "I5",
            Self::I7 => "I7",
            Self::I8 => "I8",
            Self::I9 => "I9",
            Self::I11 => "I11",
        }
    }
}

/// How often each was checked since the start, and how often it did not hold.
#[derive(Debug, Default)]
pub struct SelfChecks([(AtomicU64, AtomicU64); Checked::ALL.len()]);

impl SelfChecks {
    /// Counts one; what does not hold comes back, for whoever tells it once.
    pub fn count(&self, what: Checked, broken: Option<String>) -> Option<String> {
        let (checks, failures) = &self.0[what as usize];
        checks.fetch_add(1, Ordering::Relaxed);
        if broken.is_some() {
            failures.fetch_add(1, Ordering::Relaxed);
        }
        broken
    }

    /// How often it was checked, and did not hold.
    pub fn of(&self, what: Checked) -> (u64, u64) {
        let (checks, failures) = &self.0[what as usize];
        (checks.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
    }
}

/// I7: what is wrong with the number of the plan that follows another.
pub fn generation(before: &Plan, next: &Plan) -> Option<String> {
    (next.generation <= before.generation).then(|| {
        format!(
            "plan {} follows plan {}, and is not newer",
            next.generation, before.generation
        )
    })
}

/// I5: of which split a bite is taken though a zone has not proven the one before it, by the last that its agents said.
///
/// Not waited for is a zone that takes no part any more or is `detached`, one that does not resolve what it was told, for it will
/// not run that however long one waits, and one in which a backend is down and its share elsewhere: what leaves that is not held
/// up by it.
pub fn in_step(before: &Plan, next: &Plan, fleet: &Fleet, detached: &BTreeSet<ZoneName>) -> Option<String> {
    for (name, now) in &next.splits {
        let Some(was) = before.splits.get(name).filter(|was| !Arc::ptr_eq(was, now)) else {
            continue;
        };
        let (Some((leg, bite)), Some((same, taken))) = (bite(now), bite(was)) else {
            continue;
        };
        // Before the first bite nothing was told.
        if leg != same || taken == 0 || bite <= taken {
            continue;
        }
        let takes_part = |zone: &ZoneName| now.items.contains_key(zone) && !detached.contains(zone);
        for (zone, item) in was.items.iter().filter(|(zone, _)| takes_part(zone)) {
            let mut agents = fleet.of(zone);
            let from = was.set_out(zone);
            let excused = |agent: &Agent| {
                let fact = agent.items.get(name);
                fact.is_some_and(|fact| fact.fallback.is_some())
                    || backends_ready(item, from, &agent.services).is_err()
            };
            if agents.clone().any(|(_, agent)| excused(agent)) {
                continue;
            }
            let late = agents.find_map(|(name, agent)| Some((name, not_proven(agent, item)?)));
            if let Some((agent, why)) = late {
                return Some(format!(
                    "split {name} takes bite {bite} in plan {}, and agent {agent} of zone {zone} has not proven bite {taken}: {why}",
                    next.generation
                ));
            }
        }
    }
    None
}

/// Which way a split goes step by step, and the bite at which it is.
fn bite(split: &SplitPlan) -> Option<((&weir_planner::Digest, u32), u32)> {
    let motion = split.course.as_ref()?.motion.as_ref()?;
    match motion.leg {
        Leg::Shift { bites, bite, .. } => Some(((&motion.to, bites), bite)),
        Leg::Return { .. } => None,
    }
}

/// Why the last that an agent said of an item is not that it runs there, or that nobody calls it.
fn not_proven(agent: &Agent, item: &Item) -> Option<String> {
    // Who was never heard was never told anything.
    agent.heard_at?;
    let Some(fact) = agent.items.get(&item.split) else {
        return Some("it said nothing of it".to_owned());
    };
    if !is_of(fact, item) {
        return Some(other_item(fact, item));
    }
    match &fact.proof {
        None => Some("it read nothing back".to_owned()),
        Some(proof) if proof.verdict == Verdict::Exact || proof.nobody_calls() => None,
        Some(proof) => Some(format!("its proof is {:?}", proof.verdict)),
    }
}

fn other_item(fact: &ItemFact, item: &Item) -> String {
    format!(
        "it drives generation {}, and {} is planned",
        fact.generation, item.generation
    )
}

fn is_of(fact: &ItemFact, item: &Item) -> bool {
    (fact.generation, fact.digest) == (item.generation, item.digest)
}

/// I9, of one zone: why it must not be shown as converged, or as one in which nobody calls, if it is.
pub fn shown(sight: Sight<'_>, item: &Item, shown: &SplitInZone) -> Option<String> {
    let claims = match shown.standing {
        Standing::Converged => "converged",
        Standing::Idle => "idle",
        _ => return None,
    };
    let said = || sight.fleet.of(&item.zone);
    let has_callers = |agent: &Agent| not_idle(sight, agent, item).is_some();
    let wrong = if said().next().is_none() {
        Some("no agent of it is known".to_owned())
    } else if shown.standing == Standing::Idle {
        said().find_map(|(name, agent)| Some(format!("agent {name}: {}", not_idle(sight, agent, item)?)))
    } else if !said().any(|(_, agent)| has_callers(agent)) {
        Some("nobody calls it by the word of any agent".to_owned())
    } else {
        // Who has no callers has nothing to read; all others must have.
        let mut reads = said().filter(|(_, agent)| has_callers(agent));
        reads.find_map(|(name, agent)| Some(format!("agent {name}: {}", not_converged(sight, agent, item)?)))
    };
    let wrong = wrong.or_else(|| {
        let door = unread_door(sight.fleet, item);
        door.map(|gateway| format!("nobody read its weights back from gateway {gateway}"))
    })?;
    Some(format!(
        "split {} is shown as {claims} in zone {}, and {wrong}",
        item.split, item.zone
    ))
}

/// A gateway of which no agent of the zone read this item's weights back.
fn unread_door<'a>(fleet: &Fleet, item: &'a Item) -> Option<&'a GatewayName> {
    item.doors.keys().find(|gateway| {
        let mut said = fleet.of(&item.zone);
        !said.any(|(_, agent)| {
            let fact = agent.items.get(&item.split).filter(|fact| is_of(fact, item));
            fact.is_some_and(|fact| {
                fact.doors
                    .get(*gateway)
                    .is_some_and(weir_planner::DoorFact::is_exact)
            })
        })
    })
}

/// What an agent said of this item, as its own, and lately.
///
/// # Errors
/// Why it is nothing to go by.
fn lately<'a>(sight: Sight<'_>, agent: &'a Agent, item: &Item) -> Result<&'a ItemFact, String> {
    let Some(heard) = agent.heard_at else {
        return Err("it was never heard".to_owned());
    };
    if sight.now.duration_since(heard) > crate::standing::bound(sight.stale) {
        return Err("it is silent for longer than is allowed".to_owned());
    }
    let Some(fact) = agent.items.get(&item.split) else {
        return Err("it said nothing of it".to_owned());
    };
    if !is_of(fact, item) {
        return Err(other_item(fact, item));
    }
    if fact.pin.is_some() {
        return Err("somebody pinned it there".to_owned());
    }
    if fact.fallback.is_some() {
        return Err("a share is elsewhere there".to_owned());
    }
    Ok(fact)
}

/// Why the word of an agent is not that nobody calls it.
fn not_idle(sight: Sight<'_>, agent: &Agent, item: &Item) -> Option<String> {
    let fact = match lately(sight, agent, item) {
        Ok(fact) => fact,
        Err(why) => return Some(why),
    };
    if let Some(why) = &agent.unreadable {
        return Some(format!("its control plane cannot be read: {why}"));
    }
    match (&fact.state, &fact.proof) {
        (ItemState::Applied | ItemState::Proven, Some(proof)) if proof.nobody_calls() => None,
        (state, proof) => Some(format!("it is {state:?}, and its proof is {proof:?}")),
    }
}

/// Why the word of an agent is not enough for `converged`.
fn not_converged(sight: Sight<'_>, agent: &Agent, item: &Item) -> Option<String> {
    let fact = match lately(sight, agent, item) {
        Ok(fact) => fact,
        Err(why) => return Some(why),
    };
    let Some(proof) = &fact.proof else {
        return Some("it read nothing back".to_owned());
    };
    if proof.verdict != Verdict::Exact || !matches!(proof.evidence, Evidence::Live | Evidence::Sampled) {
        return Some(format!(
            "its proof is {:?} by {:?}",
            proof.verdict, proof.evidence
        ));
    }
    runs_other_weights(item, proof)
}

/// Every route, as it is planned and as it was read back; who is missing has nothing.
fn runs_other_weights(item: &Item, proof: &Proof) -> Option<String> {
    let Some(weights) = &proof.weights else {
        return Some("its proof names no weights".to_owned());
    };
    for route in &item.routes {
        let nothing = BTreeMap::new();
        let live = weights.get(&route.name).unwrap_or(&nothing);
        if !covers(live, &route.weights) || !covers(&route.weights, live) {
            return Some(format!(
                "route {} runs {live:?}, and {:?} is planned",
                route.name, route.weights
            ));
        }
    }
    None
}

/// Whether whoever has weight in one has the same in the other.
fn covers(one: &BTreeMap<BackendName, BasisPoints>, other: &BTreeMap<BackendName, BasisPoints>) -> bool {
    one.iter()
        .all(|(backend, weight)| weight.get() == 0 || other.get(backend) == Some(weight))
}

/// I9, of a split: why it must not be shown as converged, if it is. Whoever is detached does not count, while anybody else is
/// there; where nobody calls it another zone must prove it.
pub fn whole(split: &SplitStatus) -> Option<String> {
    if split.standing != Standing::Converged {
        return None;
    }
    let counts = |zone: &&SplitInZone| {
        zone.detached.is_none() || split.zones.iter().all(|zone| zone.detached.is_some())
    };
    let wrong = split.zones.iter().find_map(|zone| {
        let stands = matches!(zone.standing, Standing::Converged | Standing::Idle);
        if counts(&zone) && !stands {
            Some(format!("zone {} is {:?}", zone.zone, zone.standing))
        } else if zone.told != split.declared {
            Some(format!(
                "zone {} was told something else than Git declares",
                zone.zone
            ))
        } else {
            None
        }
    });
    let proven = split.zones.iter().filter(counts).any(weir_wire::api::proves);
    let wrong = wrong
        .or_else(|| split.zones.is_empty().then(|| "it is in no zone".to_owned()))
        .or_else(|| (!proven).then(|| "no zone of it proves anything".to_owned()))?;
    Some(format!("split {} is shown as converged, and {wrong}", split.name))
}

/// I11, of a split: where it says nothing of why it is not converged.
pub fn unexplained(split: &SplitStatus) -> Option<String> {
    let says = |why: &Option<String>| why.as_ref().is_some_and(|why| !why.trim().is_empty());
    let well = |standing: Standing| standing == Standing::Converged;
    let silent = split
        .zones
        .iter()
        .find(|zone| !well(zone.standing) && !says(&zone.reason));
    if let Some(zone) = silent {
        return Some(format!(
            "split {} is {:?} in zone {}, and nothing says why",
            split.name, zone.standing, zone.zone
        ));
    }
    let any = says(&split.reason) || split.zones.iter().any(|zone| says(&zone.reason));
    (!well(split.standing) && !any).then(|| {
        format!(
            "split {} is {:?}, and nothing says why",
            split.name, split.standing
        )
    })
}
