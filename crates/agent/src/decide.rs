//! What one activation does, decided from values alone: plan, memory and what was observed in; steps and holds out. Pure;
//! the same in every agent of a zone. What came of it is concluded in `conclude`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;
use weir_drivers::Observed;
use weir_model::{SplitName, sabotaged};
use weir_planner::{Generation, Item, ZonePlan};
use weir_render::{Extent, Form, Object, Options, Step};

use crate::anchors::Anchors;
use crate::fallback;
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
    /// Of what is held, the items whose policies somebody else keeps writing over.
    pub fought_over: BTreeSet<SplitName>,
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
        if !applied(item, memory, &observed.ours)
            && let Err(why) = ready(item, memory, observed)
        {
            held.insert(item.split.clone(), why);
            // Until then the zone runs what it ran before, and gets that back should it be lost.
            if let Some(before) = memory.applied.get(&item.split) {
                let mut objects = objects(before, plan, memory, &observed.form, options);
                if let Some(label) = memory.pinned.get(&item.split) {
                    pin::mark(&mut objects, label);
                }
                wanted.push((before, objects));
            }
            continue;
        }
        let mut whole = objects(item, plan, memory, &observed.form, options);
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
    let looked_at = |(object, _): &&(Object, Generation)| {
        !(stays(object) || pins.foreign(object).is_some())
            || wanted
                .iter()
                .flat_map(|(_, objects)| objects)
                .any(|w| w.kind == object.kind && w.name == object.name)
    };
    let ours = match observed.ours.iter().all(|one| looked_at(&one)) {
        true => Cow::Borrowed(observed.ours.as_slice()),
        false => Cow::Owned(observed.ours.iter().filter(looked_at).cloned().collect()),
    };
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
    outdated::word(plan, memory, observed, &wanted, &mut steps);
    Decision {
        steps,
        held,
        introduced,
        withdrawing,
        fought_over: BTreeSet::new(),
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
    let has = memory.applied.get(&item.split).map(Arc::as_ref);
    match has {
        Some(before) if same_names(before) => weir_render::backends_ready(item, has, &observed.services)?,
        _ => weir_render::ready(item, has, &observed.services)?,
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

/// What an item is written as, with shares elsewhere while their backends are down.
fn objects(item: &Arc<Item>, plan: &ZonePlan, memory: &Memory, form: &Form, options: Options) -> Vec<Object> {
    let driven = fallback::driven(item, memory);
    let mut objects = weir_render::render(&driven, &plan.federation, form, options);
    if !memory.is_pinned(item) {
        fallback::mark(&mut objects, item, memory);
    }
    objects
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
pub(crate) fn applied(item: &Item, memory: &Memory, ours: &[(Object, Generation)]) -> bool {
    let remembered = memory
        .applied
        .get(&item.split)
        .is_some_and(|was| was.digest == item.digest);
    let digest = item.digest.to_string();
    remembered
        || ours.iter().any(|(object, _)| {
            object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str())
                && object
                    .labels
                    .get(DIGEST)
                    .is_some_and(|label| label.len() >= 32 && digest.starts_with(label.as_str()))
        })
}

/// The items of a plan, in its order, as drivers take them.
pub fn items(plan: &ZonePlan) -> Vec<Arc<Item>> {
    plan.items.values().map(Arc::clone).collect()
}
