//! What one activation came to, concluded from values alone: outcomes, proofs and counts in; facts and memory out. Pure; the
//! same in every agent of a zone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weir_drivers::{DriverError, Fault, Observed, Outcome};
use weir_model::{SplitName, ZoneName, sabotaged};
use weir_planner::{
    Counts, Coverage, Digest, Evidence, Item, ItemFact, ItemRef, ItemState, Proof, SecondWriter, Verdict,
    ZoneFacts, ZonePlan,
};
use weir_render::Step;

use crate::decide::{Decision, SPLIT};
use crate::fallback;
use crate::outdated;
use crate::pin::elsewhere::{Shown, shown};
use crate::pin::{self, Pins};
use crate::take::Memory;

/// What an activation saw and did.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The control plane as read, or why not.
    pub observed: Result<Observed, DriverError>,
    /// What was decided; nothing if it could not be read.
    pub decision: Decision,
    /// What became of each step, in the order of the decision; shorter if the control plane went away meanwhile.
    pub outcomes: Vec<Result<Outcome, DriverError>>,
    /// One for each item of the plan, in its order.
    pub proofs: Vec<Proof>,
    /// One for each item of the plan, in its order.
    pub counts: Vec<Option<Counts>>,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// What to report.
    pub facts: ZoneFacts,
    /// What to remember.
    pub memory: Memory,
    /// Whether anything was written or removed.
    pub wrote: bool,
    /// Whether to look again soon: something is under way, or waits for something.
    pub unsettled: bool,
    /// What the control plane shows of pins of other hosts; none if it could not be read.
    pub elsewhere: Option<Shown>,
}

/// Concludes. `before` are the facts of the activation before, for what could not be learned this time.
pub fn conclude(
    plan: &ZonePlan,
    memory: &Memory,
    happened: &Happened,
    before: Option<&ZoneFacts>,
    at: Timestamp,
) -> Conclusion {
    let plan = &*memory.pins.over(plan);
    let elsewhere = happened.observed.as_ref().ok();
    let elsewhere = elsewhere.map(|observed| shown(plan, memory, observed));
    let mut memory = memory.clone();
    let writes = writes(happened);
    let (kuma, unreadable, services) = match &happened.observed {
        Ok(observed) => (observed.kuma.clone(), None, observed.services.clone()),
        Err(error) => (None, Some(error.told()), Vec::new()),
    };
    if let Ok(observed) = &happened.observed {
        // What the zone once had, this agent never goes back behind, even if it forgot its own past (I7). Anybody may
        // write a label: a number that no history can have reached must not shut out all plans for ever.
        if let Some((_, newest)) = outdated::newest(plan, &memory, observed) {
            memory.highest = memory.highest.max(newest);
        }
        for item in plan.items.values() {
            let failed = matches!(writes.get(&item.split), Some(Some(_)));
            let decision = &happened.decision;
            let whole = sabotaged("held-is-applied")
                || !decision.held.contains_key(&item.split) && !decision.introduced.contains(&item.split);
            if !failed && whole {
                memory.applied.insert(item.split.clone(), Arc::clone(item));
                match memory.pins.of(&item.split) {
                    Some(pinned) => memory.pinned.insert(item.split.clone(), pinned.label.clone()),
                    None => {
                        memory.past.note(item, at);
                        memory.pinned.remove(&item.split)
                    }
                };
            }
        }
        for (split, obstacle) in &writes {
            if obstacle.is_none()
                && !happened.decision.introduced.contains(split)
                && let Some(fallen) = memory.fallen.get_mut(split)
            {
                fallen.were_written();
            }
        }
        memory.applied.retain(|split, _| plan.items.contains_key(split));
        memory.pinned.retain(|split, _| plan.items.contains_key(split));
        memory.past.retain(|split| plan.items.contains_key(split));
        let applied = &memory.applied;
        memory.fallen.retain(|split, _| {
            let items = [plan.items.get(split), applied.get(split)];
            let falls = |item: &Arc<Item>| !item.fallback.is_empty();
            items[0].is_some() && items.into_iter().flatten().any(falls)
        });
    }
    let counts = happened.counts.iter().chain(std::iter::repeat(&None));
    let proofs: Vec<Proof> = match sabotaged("prove-without-reading") {
        true => happened
            .proofs
            .iter()
            .zip(plan.items.values())
            .map(believed)
            .collect(),
        false => Vec::new(),
    };
    let proofs = proofs
        .iter()
        .map(Some)
        .chain(happened.proofs.iter().map(Some).skip(proofs.len()));
    let proofs = proofs.chain(std::iter::repeat(None));
    let was_gone = before.is_some_and(|facts| facts.fault == Some(Fault::MeshGone));
    let mut items: Vec<ItemFact> = plan
        .items
        .values()
        .zip(proofs)
        .zip(counts)
        .map(|((item, proof), counts)| {
            let earlier = before.and_then(|facts| facts.items.iter().find(|fact| fact.split == item.split));
            let second_writers = match &happened.observed {
                Ok(observed) => observed
                    .second_writers
                    .get(&item.split)
                    .cloned()
                    .unwrap_or_default(),
                // Not seen is not gone.
                Err(_) => earlier
                    .map(|fact| fact.second_writers.clone())
                    .unwrap_or_default(),
            };
            let stands = match &happened.observed {
                // Twice in a row is no start with an empty store any more. Whatever its proxies run on with, nothing can be
                // written, and what goes to other zones will fail.
                Err(error) if error.fault == Fault::MeshGone && was_gone => ItemState::Failed(error.told()),
                _ => state(item, &memory, happened, &writes, proof, &second_writers),
            };
            ItemFact {
                proof: proof.cloned(),
                second_writers,
                counts: counts.clone(),
                pin: memory.pins.of(&item.split).map(|pinned| pinned.pin.clone()),
                fallback: fallback::told(item, &memory),
                ..ItemFact::new(item.reference(), stands)
            }
        })
        .collect();
    items.extend(left_behind(plan, &memory.pins, happened));
    Conclusion {
        wrote: happened
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Ok(Outcome::Done { .. }))),
        elsewhere,
        unsettled: unreadable.is_some()
            || !happened.decision.withdrawing.is_empty()
            || !happened.decision.introduced.is_empty()
            || items.iter().any(|item| !settled(item)),
        facts: ZoneFacts {
            zone: plan.zone.clone(),
            at,
            highest: memory.highest,
            kuma,
            unreadable,
            fault: fault(happened),
            store: happened
                .observed
                .as_ref()
                .ok()
                .and_then(|observed| observed.store.clone()),
            services,
            items,
        },
        memory,
    }
}

/// Whose fault it is that the zone cannot be read; or that its mesh is gone, which where an API server has its objects only
/// who writes is told.
fn fault(happened: &Happened) -> Option<Fault> {
    let mut writes = happened
        .outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err());
    match &happened.observed {
        Err(error) => Some(error.fault),
        Ok(_) => writes
            .any(|error| error.fault == Fault::MeshGone)
            .then_some(Fault::MeshGone),
    }
}

/// What the sabotage `prove-without-reading` takes for proof: that it was written.
fn believed((proof, item): (&Proof, &Arc<Item>)) -> Proof {
    Proof {
        verdict: Verdict::Exact,
        evidence: Evidence::Live,
        coverage: Coverage { seen: 1, of: 1 },
        weights: Some(item.weights()),
        ..proof.clone()
    }
}

/// The proof of an item that is only introduced. No proxy is asked: a caller of one backend's own service may have the
/// declared weights before the split is in force, and what may be asked through a control plane is little.
pub(crate) fn only_introduced(at: Timestamp) -> Proof {
    Proof {
        verdict: Verdict::Different(
            "introduced, not in force: its weights follow once every caller's Envoy knows all its backends"
                .to_owned(),
        ),
        evidence: Evidence::Unknown,
        at,
        coverage: Coverage { seen: 0, of: 0 },
        weights: None,
        unhealthy: BTreeSet::new(),
    }
}

/// What stands in the way of each split that had steps; none if all of them were done.
fn writes(happened: &Happened) -> BTreeMap<SplitName, Option<ItemState>> {
    let mut writes: BTreeMap<SplitName, Option<ItemState>> = BTreeMap::new();
    for (at, step) in happened.decision.steps.iter().enumerate() {
        let (Step::Put { split, .. } | Step::Introduce { split, .. }) = step else {
            continue;
        };
        let became = match happened.outcomes.get(at) {
            Some(Ok(Outcome::Done { .. })) => None,
            Some(Ok(Outcome::Yielded(why))) => Some(ItemState::Held(why.clone())),
            Some(Err(error)) => Some(ItemState::Failed(error.told())),
            None => Some(ItemState::Failed(
                "not tried: the control plane went away before".to_owned(),
            )),
        };
        let entry = writes.entry(split.clone()).or_default();
        if entry.is_none() {
            *entry = became;
        }
    }
    writes
}

/// What is still there of splits that the plan does not have any more: they go on driving traffic, and the zone does not
/// run the plan until they are gone.
fn left_behind(plan: &ZonePlan, pins: &Pins, happened: &Happened) -> Vec<ItemFact> {
    let Ok(observed) = &happened.observed else {
        return Vec::new();
    };
    let mut left: BTreeMap<SplitName, ItemFact> = BTreeMap::new();
    let steps = &happened.decision.steps;
    for (object, generation) in &observed.ours {
        let Some(split) = object
            .labels
            .get(SPLIT)
            .and_then(|name| SplitName::new(name.as_str()).ok())
            .filter(|split| !plan.items.contains_key(split))
        else {
            continue;
        };
        let at = |step: &Step| (object.kind, &object.mesh, object.name.as_str()) == step.object();
        let found = steps.iter().position(at);
        let state = match found.map(|at| (&steps[at], happened.outcomes.get(at))) {
            Some((Step::Delete { .. }, Some(Ok(Outcome::Done { .. })))) => continue,
            Some((_, Some(Ok(Outcome::Yielded(why))))) => ItemState::Held(why.clone()),
            Some((_, Some(Err(error)))) => ItemState::Failed(error.told()),
            Some((_, None)) => ItemState::Failed("not tried: the control plane went away before".to_owned()),
            // Withdrawn now, or before and its anchor alone waits.
            Some((_, Some(Ok(Outcome::Done { .. })))) => ItemState::Applied,
            None if happened.decision.withdrawing.contains(&object.name) => ItemState::Applied,
            None if pins.foreign(object).is_some() => ItemState::Held(format!(
                "{} is pinned by {}: it stays until `weir-agent unpin` there ends that",
                object.name,
                object.pinned().map(pin::told).unwrap_or_default()
            )),
            None => ItemState::Held(format!(
                "{} carries generation {generation}, above {} here: another agent of this zone has a newer plan, or \
                 somebody wrote that label",
                object.name, plan.generation
            )),
        };
        left.entry(split.clone()).or_insert(ItemFact::new(
            ItemRef {
                split,
                generation: *generation,
                digest: Digest([0; 32]),
            },
            state,
        ));
    }
    left.into_values().collect()
}

fn state(
    item: &Item,
    memory: &Memory,
    happened: &Happened,
    writes: &BTreeMap<SplitName, Option<ItemState>>,
    proof: Option<&Proof>,
    second_writers: &[SecondWriter],
) -> ItemState {
    if let Some(why) = happened.decision.held.get(&item.split) {
        return ItemState::Held(why.clone());
    }
    if let Some(Some(obstacle)) = writes.get(&item.split) {
        return obstacle.clone();
    }
    // What proxies say live speaks for itself; a sample from before stands only while it is seen that nobody wrote.
    let live = proof.is_some_and(|proof| proof.evidence == Evidence::Live);
    if let Err(error) = &happened.observed
        && (!live
            || memory
                .applied
                .get(&item.split)
                .is_none_or(|was| was.digest != item.digest))
    {
        return ItemState::Failed(error.told());
    }
    if happened.decision.introduced.contains(&item.split) {
        return ItemState::Applied;
    }
    let rival = second_writers.iter().find(|writer| writer.overrides);
    match (proof, rival) {
        // What all proxies run now says more than who may outrank whom; what some of them run does not: a rival may be for
        // the others alone.
        (
            Some(Proof {
                verdict: Verdict::Exact,
                evidence: Evidence::Live,
                coverage,
                ..
            }),
            rival,
        ) if rival.is_none() || coverage.seen >= coverage.of => ItemState::Proven,
        (_, Some(writer)) => ItemState::Overridden(format!(
            "{} {} of origin {} outranks the split's policy",
            writer.kind, writer.object, writer.origin
        )),
        // An acknowledgement is no proof (I9): only what was read from proxies is.
        (
            Some(Proof {
                verdict: Verdict::Exact,
                evidence: Evidence::Sampled,
                ..
            }),
            None,
        ) => ItemState::Proven,
        _ => ItemState::Applied,
    }
}

/// Nothing to wait for: proven, nobody to prove it for, or in somebody else's hands.
fn settled(item: &ItemFact) -> bool {
    match item.state {
        ItemState::Proven | ItemState::Overridden(_) => true,
        ItemState::Applied => item.proof.as_ref().is_some_and(|proof| proof.coverage.of == 0),
        ItemState::Pending | ItemState::Held(_) | ItemState::Failed(_) => false,
    }
}

/// The facts before the first activation: what is held, and nothing seen yet.
pub fn not_seen(
    zone: &ZoneName,
    plan: Option<&ZonePlan>,
    memory: &Memory,
    unreadable: Option<String>,
    at: Timestamp,
) -> ZoneFacts {
    let plan = plan.map(|plan| memory.pins.over(plan));
    let pending = |item: &Arc<Item>| ItemFact {
        pin: memory.pins.of(&item.split).map(|pinned| pinned.pin.clone()),
        fallback: fallback::told(item, memory),
        ..ItemFact::new(item.reference(), ItemState::Pending)
    };
    ZoneFacts {
        zone: zone.clone(),
        at,
        highest: memory.highest,
        kuma: None,
        unreadable,
        fault: None,
        store: None,
        services: Vec::new(),
        // Whose plan was damaged still says what its zone last took: a plan that has something else under the same numbers
        // is not taken (I7), and who makes plans has to know of it.
        items: match &plan {
            Some(plan) => plan.items.values().map(pending).collect(),
            None => memory.applied.values().map(pending).collect(),
        },
    }
}
