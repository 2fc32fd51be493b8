//! What one activation does, decided from values alone: plan, memory and what was observed in; steps and holds out. And
//! what it came to: outcomes, proofs and counts in; facts and memory out. Pure; the same in every agent of a zone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_drivers::{DriverError, Observed, Outcome};
use weir_model::{SplitName, ZoneName, sabotaged};
use weir_planner::{
    Counts, Coverage, Digest, Evidence, Generation, Item, ItemFact, ItemState, Proof, SecondWriter, Verdict,
    ZoneFacts, ZonePlan,
};
use weir_render::{Extent, Form, Object, Options, Step};

use crate::anchors::Anchors;
use crate::outdated;
use crate::pin::{self, Pins};
use crate::take::Memory;

/// The label that says which split an object is of.
pub(crate) const SPLIT: &str = "weir.dev/split";
/// The label with the first half of the item's digest.
const DIGEST: &str = "weir.dev/digest";

/// How far above all that this agent knows a generation may be and still be believed.
pub(crate) const LEAP: u64 = 1 << 32;

/// What to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// In this order.
    pub steps: Vec<Step>,
    /// Items that are not applied now, with why: nothing of them moves.
    pub held: BTreeMap<SplitName, String>,
    /// Items of which only the anchor is written so far: their backends come into the callers' Envoys, no request moves.
    pub introduced: BTreeSet<SplitName>,
    /// Objects of ours that are on their way out and not gone yet, by name.
    pub withdrawing: BTreeSet<String>,
}

/// Decides.
///
/// An item is held until this zone's own control plane resolves every backend that it gives weight to (I3), unless this
/// zone has applied the very same item before: then it is put back at once, because after a control plane lost its store
/// the old split is better than none, and its backends come back one by one.
///
/// A split of which nothing is in force is introduced: first its anchor alone, and its weights once every caller has that.
/// What this agent had in force before is written whole at once, and so is what has no anchor.
pub fn decide(
    plan: &ZonePlan,
    memory: &Memory,
    observed: &Observed,
    options: Options,
    anchors: &Anchors,
    now: Instant,
) -> Decision {
    let pins = &memory.pins;
    let plan = &*pins.over(plan);
    let mut held = BTreeMap::new();
    let mut introduced = BTreeSet::new();
    let mut wanted: Vec<(&Item, Vec<Object>)> = Vec::new();
    let others = || {
        let live = observed.ours.iter().map(|(object, _)| object);
        live.filter_map(|object| Some((object, pins.foreign(object)?)))
    };
    for item in plan.items.values() {
        let pinned = pins.of(&item.split);
        if let Some(why) = pinned_elsewhere(item, pins, others()) {
            held.insert(item.split.clone(), why);
            continue;
        }
        if pinned.is_none()
            && let Some(newer) = newer(item, observed)
        {
            held.insert(
                item.split.clone(),
                format!(
                    "its policy carries generation {newer}, newer than {} here: another agent of this zone has a newer \
                     plan",
                    item.generation
                ),
            );
            continue;
        }
        if !applied(item, memory, observed)
            && let Err(why) = ready(item, memory, observed)
        {
            held.insert(item.split.clone(), why);
            // Until then the zone runs what it ran before, and gets that back should it be lost.
            if let Some(before) = memory.applied.get(&item.split) {
                let mut objects = objects(before, plan, &observed.form, options);
                if let Some(label) = memory.pinned.get(&item.split) {
                    pin::mark(&mut objects, label);
                }
                wanted.push((before, objects));
            }
            continue;
        }
        let mut whole = objects(item, plan, &observed.form, options);
        if let Some(pinned) = pinned {
            pin::mark(&mut whole, &pinned.label);
        }
        let first = weir_render::introduction(&whole);
        if first != whole && comes_first(item, &first, memory, observed, anchors) {
            introduced.insert(item.split.clone());
            if let Some(old) = first.iter().find_map(|anchor| in_the_way(anchor, observed))
                && !anchors.may_go(old, now)
            {
                introduced.remove(&item.split);
                held.insert(
                    item.split.clone(),
                    format!(
                        "{} was withdrawn a moment ago and keeps backends that this split does not have any more, to which \
                         requests may still be on their way: the split comes back within half a minute",
                        old.name
                    ),
                );
            } else if first.iter().all(|anchor| anchors.may_come(anchor)) {
                wanted.push((item, first));
            }
        } else {
            wanted.push((item, whole));
        }
    }
    if let Some(why) = outdated::by(plan, memory, observed) {
        wanted.retain(|(item, objects)| {
            let there = pins.of(&item.split).is_some()
                || objects.iter().all(|object| outdated::is_live(object, observed));
            if !there {
                held.entry(item.split.clone()).or_insert_with(|| why.clone());
            }
            there
        });
    }
    // What a held split has in place stays in place: it is no orphan. Nor is what another split had for the same service,
    // as when a split gets another name: without it callers would fall to Kuma before the new one may be applied.
    let stays = |object: &Object| {
        let held = held.keys().filter_map(|name| plan.items.get(name));
        let mut held = held.map(Arc::as_ref);
        !sabotaged("remove-what-is-held")
            && held.any(|item| {
                object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str())
                    || object.is_for(item)
            })
    };
    let ours: Vec<_> = observed
        .ours
        .iter()
        .filter(|(object, _)| {
            !(stays(object) || pins.foreign(object).is_some())
                || wanted
                    .iter()
                    .flat_map(|(_, objects)| objects)
                    .any(|w| w.kind == object.kind && w.name == object.name)
        })
        .cloned()
        .collect();
    let unwanted = |object: &Object| {
        let same = |w: &Object| w.kind == object.kind && w.name == object.name;
        !wanted.iter().flat_map(|(_, objects)| objects).any(same)
    };
    let withdrawing = ours
        .iter()
        .filter(|(object, generation)| *generation <= plan.generation && unwanted(object))
        .map(|(object, _)| object.name.clone())
        .collect();
    let mut steps = weir_render::steps(&wanted, &ours, plan.generation, |object| {
        anchors.may_go(object, now)
    });
    outdated::passed_on(&mut steps, observed);
    if let Some(word) = outdated::word(plan, memory, observed, &wanted, &steps) {
        steps.insert(0, word);
    }
    Decision {
        steps,
        held,
        introduced,
        withdrawing,
    }
}

/// Why an item is left alone because of a pin: another agent's of the same split or service, or one of this host of another
/// split of its service.
fn pinned_elsewhere<'a>(
    item: &Item,
    pins: &Pins,
    mut others: impl Iterator<Item = (&'a Object, &'a str)>,
) -> Option<String> {
    let same_split =
        |object: &Object| object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str());
    if let Some((object, label)) = others.find(|(object, _)| same_split(object) || object.is_for(item)) {
        return Some(format!(
            "{} is pinned by {}, and is left alone until `weir-agent unpin` there ends it; if that host is gone for good, \
             `weir-agent unpin --split {} --gone {label}` here does",
            object.name,
            pin::told(label),
            item.split
        ));
    }
    let service = |item: &Item| (item.mesh.clone(), item.service.clone(), item.port);
    let mut pinned = pins.in_force();
    let other =
        pinned.find(|(split, pinned)| **split != item.split && service(&pinned.item) == service(item))?;
    pins.of(&item.split).is_none().then(|| {
        format!(
            "its service is pinned here by split {0}: `weir-agent unpin --split {0}` ends that",
            other.0
        )
    })
}

/// I3; and what is not in force takes along no callers of others. Whose ports' names are as they are in force is not held for what somebody else's port is called.
fn ready(item: &Item, memory: &Memory, observed: &Observed) -> Result<(), String> {
    let same_names = |before: &Item| {
        (&before.service, before.port, &before.port_names) == (&item.service, item.port, &item.port_names)
    };
    match memory.applied.get(&item.split) {
        Some(before) if same_names(before) => weir_render::backends_ready(item, &observed.services)?,
        _ => weir_render::ready(item, &observed.services)?,
    }
    // Whose callers are split already stay so: to hold a change, or a revert, would give nobody anything back.
    let same_service = |before: &Item| (&before.service, before.port) == (&item.service, item.port);
    let remembered = memory
        .applied
        .get(&item.split)
        .is_some_and(|before| same_service(before));
    // An anchor that is there for this very item splits nobody yet; one that an earlier plan left splits nobody any more, but
    // its split may be on its way back.
    let splits = |(object, generation): &(Object, Generation)| {
        object.is_for(item) && (weir_render::extent(object) == Extent::Whole || *generation < item.generation)
    };
    if remembered || observed.ours.iter().any(splits) {
        return Ok(());
    }
    weir_render::may_come(item, &observed.services)
}

/// Whether only the anchor of this item may be there now: nothing is in force for its service, of this split or of another
/// whose place it takes, and not every caller has its anchor yet.
fn comes_first(
    item: &Item,
    first: &[Object],
    memory: &Memory,
    observed: &Observed,
    anchors: &Anchors,
) -> bool {
    let in_force = |object: &Object| {
        weir_render::extent(object) == Extent::Whole
            && (object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str())
                || object.is_for(item))
    };
    let live = || observed.ours.iter().map(|(object, _)| object);
    if memory.applied.contains_key(&item.split) || live().any(in_force) || sabotaged("skip-introduction") {
        return false;
    }
    !first.iter().all(|anchor| {
        live().any(|live| {
            (live.kind, &live.mesh, &live.name) == (anchor.kind, &anchor.mesh, &anchor.name)
                && weir_render::difference(&anchor.spec, &live.spec, "spec").is_none()
                && anchors.held(live)
        })
    })
}

/// The live object whose place an anchor would take, if that keeps more: a split that was withdrawn and comes back with
/// fewer backends.
fn in_the_way<'a>(anchor: &Object, observed: &'a Observed) -> Option<&'a Object> {
    let mut there = observed.ours.iter().map(|(object, _)| object);
    there.find(|live| {
        (live.kind, &live.mesh, &live.name) == (anchor.kind, &anchor.mesh, &anchor.name)
            && !weir_render::keeps(anchor, live)
    })
}

fn objects(item: &Item, plan: &ZonePlan, form: &Form, options: Options) -> Vec<Object> {
    weir_render::render(item, &plan.federation, form, options)
}

/// The generation of a live object of this split, if it is above the item's.
fn newer(item: &Item, observed: &Observed) -> Option<Generation> {
    observed
        .ours
        .iter()
        .filter(|(object, _)| object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str()))
        .map(|(_, generation)| *generation)
        .find(|generation| *generation > item.generation)
}

/// Whether this zone's control plane took this very item before: this agent remembers, or a live object says so.
fn applied(item: &Item, memory: &Memory, observed: &Observed) -> bool {
    let remembered = memory
        .applied
        .get(&item.split)
        .is_some_and(|was| was.digest == item.digest);
    let digest = item.digest.to_string();
    remembered
        || observed.ours.iter().any(|(object, _)| {
            object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str())
                && object
                    .labels
                    .get(DIGEST)
                    .is_some_and(|label| label.len() >= 32 && digest.starts_with(label.as_str()))
        })
}

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
    let mut memory = memory.clone();
    let writes = writes(happened);
    let (kuma, unreadable, services) = match &happened.observed {
        Ok(observed) => (observed.kuma.clone(), None, observed.services.clone()),
        Err(error) => (None, Some(error.to_string()), Vec::new()),
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
                    None => memory.pinned.remove(&item.split),
                };
            }
        }
        memory.applied.retain(|split, _| plan.items.contains_key(split));
        memory.pinned.retain(|split, _| plan.items.contains_key(split));
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
            ItemFact {
                split: item.split.clone(),
                generation: item.generation,
                digest: item.digest,
                state: state(item, &memory, happened, &writes, proof, &second_writers),
                proof: proof.cloned(),
                second_writers,
                counts: counts.clone(),
                pin: memory.pins.of(&item.split).map(|pinned| pinned.pin.clone()),
            }
        })
        .collect();
    items.extend(left_behind(plan, &memory.pins, happened));
    Conclusion {
        wrote: happened
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Ok(Outcome::Done { .. }))),
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
            services,
            items,
        },
        memory,
    }
}

/// What the sabotage `prove-without-reading` takes for proof: that it was written.
fn believed((proof, item): (&Proof, &Arc<Item>)) -> Proof {
    Proof {
        verdict: Verdict::Exact,
        evidence: Evidence::Live,
        coverage: Coverage { seen: 1, of: 1 },
        weights: Some(
            item.routes
                .iter()
                .map(|route| (route.name.clone(), route.weights.clone()))
                .collect(),
        ),
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
            Some(Err(error)) => Some(ItemState::Failed(error.to_string())),
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
            Some((_, Some(Err(error)))) => ItemState::Failed(error.to_string()),
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
        left.entry(split.clone()).or_insert(ItemFact {
            split,
            generation: *generation,
            digest: Digest([0; 32]),
            state,
            proof: None,
            second_writers: Vec::new(),
            counts: None,
            pin: None,
        });
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
        return ItemState::Failed(error.to_string());
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
        split: item.split.clone(),
        generation: item.generation,
        digest: item.digest,
        state: ItemState::Pending,
        proof: None,
        second_writers: Vec::new(),
        counts: None,
        pin: memory.pins.of(&item.split).map(|pinned| pinned.pin.clone()),
    };
    ZoneFacts {
        zone: zone.clone(),
        at,
        highest: memory.highest,
        kuma: None,
        unreadable,
        services: Vec::new(),
        // Whose plan was damaged still says what its zone last took: a plan that has something else under the same numbers
        // is not taken (I7), and who makes plans has to know of it.
        items: match &plan {
            Some(plan) => plan.items.values().map(pending).collect(),
            None => memory.applied.values().map(pending).collect(),
        },
    }
}

/// The items of a plan, in its order, as drivers take them.
pub fn items(plan: &ZonePlan) -> Vec<Arc<Item>> {
    plan.items.values().map(Arc::clone).collect()
}
