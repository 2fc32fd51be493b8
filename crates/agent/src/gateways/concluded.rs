//! What became of one gateway in a turn: what is remembered of it, and how its doors stand. Pure but for the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_drivers::kong::{Became, Brought};
use weir_model::{GatewayName, SplitName};
use weir_planner::Proof;
use weir_render::kong::Counted;

use super::told::{self, Door, Part};
use super::{Decided, Memory, Refusals};
use crate::counting::Counter;

/// Who accepted a document, and who did not.
pub(super) fn note(brought: &BTreeMap<String, Brought>, hash: &str, refusals: &mut Refusals, now: Instant) {
    for (node, became) in brought {
        match became {
            Brought::Refused(error, what) => refusals.note(node, hash, &error.why, what, now),
            Brought::There | Brought::Posted => refusals.accepted(node, hash),
            Brought::Held(_) | Brought::Failed(_) => {}
        }
    }
}

/// Whether an API server failed, and how long it asks to be left alone.
pub(super) fn failed(became: &Became) -> Option<Duration> {
    let nodes = became.nodes.values().filter_map(|became| match became {
        Brought::Failed(error) => Some(error.again.unwrap_or_default()),
        _ => None,
    });
    nodes.max()
}

/// What is remembered of what became of one gateway.
pub(super) fn concluded(
    name: &GatewayName,
    decided: &Decided,
    brought: &BTreeMap<String, Brought>,
    memory: &mut Memory,
    (refusals, now): (&mut Refusals, Instant),
) {
    let (Some(document), Some(base)) = (&decided.document, &decided.base) else {
        return;
    };
    let mut refused = false;
    note(brought, &document.hash, refusals, now);
    for (node, became) in brought {
        match became {
            Brought::Refused(error, _) => {
                refused = true;
                tracing::warn!(gateway = %name, node, %error, "the gateway does not accept its configuration");
            }
            Brought::Posted => {
                tracing::info!(gateway = %name, node, "the gateway was given its configuration");
            }
            _ => {}
        }
    }
    let runs = |became: &Brought| matches!(became, Brought::There | Brought::Posted);
    // What one node does not accept is nothing to go back to, though another one did.
    if !refused && brought.values().any(runs) {
        let posted = memory.posted.entry(name.clone()).or_default();
        posted.is(&document.hash, decided, base);
    }
}

/// What is remembered of what became of one gateway where each split is written by itself: what was not touched of a split is
/// what it was before.
pub(super) fn concluded_by_split(
    name: &GatewayName,
    decided: &Decided,
    became: &Became,
    memory: &mut Memory,
) {
    let Some(base) = decided.base.as_ref().filter(|_| decided.is_by_split()) else {
        return;
    };
    let mut any = false;
    for (node, became) in &became.nodes {
        any |= matches!(became, Brought::There | Brought::Posted);
        if matches!(became, Brought::Posted) {
            tracing::info!(gateway = %name, node, "what the gateway is configured by was written to");
        }
    }
    if !any {
        return;
    }
    let posted = memory.posted.entry(name.clone()).or_default();
    let (mut items, mut pins) = (decided.items.clone(), decided.pins.clone());
    for split in became.splits.keys() {
        match posted.items.get(split) {
            Some(before) => drop(items.insert(split.clone(), Arc::clone(before))),
            None => drop(items.remove(split)),
        }
        pins.remove(split);
        pins.extend(posted.pins.remove_entry(split));
    }
    (posted.items, posted.pins) = (items, pins);
    posted.coming.clear();
    posted.base = Some(Arc::clone(base));
}

/// What became of one gateway, as doors of its splits.
pub(super) fn conclude(
    name: &GatewayName,
    decided: &Decided,
    became: &Became,
    mut proofs: BTreeMap<SplitName, Proof>,
    part: &mut Part,
) {
    let mut held = Vec::new();
    for (node, became) in &became.nodes {
        match became {
            Brought::There | Brought::Posted => {}
            Brought::Held(why) => held.push(format!("{node}: {why}")),
            Brought::Failed(error) | Brought::Refused(error, _) => {
                part.notes
                    .push(format!("gateway {name}, {error}; {}", error.help));
            }
        }
    }
    for (split, why) in &became.splits {
        if !decided.wanted.contains_key(split) {
            part.notes.push(format!("gateway {name}: split {split}: {why}"));
        }
    }
    part.notes
        .extend(became.notes.iter().map(|note| format!("gateway {name}: {note}")));
    let nothing = decided.is_nothing();
    let notes = decided.notes.iter().chain(&decided.base_held);
    part.notes
        .extend(notes.map(|note| format!("gateway {name}: {note}")));
    // Where no door of ours could say it.
    if decided.wanted.is_empty() {
        let whole = decided.held.iter().chain(&held);
        part.notes
            .extend(whole.map(|why| format!("gateway {name}: {why}")));
    }
    let unwanted = decided
        .split_held
        .iter()
        .filter(|(split, _)| !decided.wanted.contains_key(*split));
    part.notes
        .extend(unwanted.map(|(split, why)| format!("gateway {name}: split {split}: {why}")));
    let all_held = (decided.held.clone())
        .or_else(|| (!held.is_empty()).then(|| held.join("; ")))
        .or_else(|| decided.base_held.clone());
    for (split, item) in &decided.wanted {
        let held = decided.split_held.get(split).or(became.splits.get(split));
        let held = held.or(all_held.as_ref()).cloned();
        let read = proofs.remove(split);
        let proof = read.or_else(|| (!nothing).then(told::unread));
        let mut door = Door::of(item, held, proof);
        door.fact.dead = became.dead.get(split).cloned().unwrap_or_default();
        part.doors.insert(split.clone(), door);
    }
}

/// Counts what a gateway was seen to run, and says of each door whether it is counted.
pub(super) fn read_back(
    name: &GatewayName,
    counter: &Counter,
    decided: &Decided,
    became: &Became,
    proofs: &BTreeMap<SplitName, Proof>,
) -> Counted {
    let mut counted = decided.counted.clone();
    counted.extend(became.counted.clone());
    if decided.is_nothing() {
        // Nothing is brought to it now, and what it was brought before it runs on with.
        counted.extend(decided.carried(name).map(|split| (split.clone(), Ok(()))));
        return counted;
    }
    // Of a database that could not be read just now nothing new is known: what is counted goes on.
    let plugins = decided.entities.iter().flat_map(|entities| &entities.doors);
    for (split, _) in plugins.filter(|(_, of)| of.is_to_be_counted()) {
        counted.entry(split.clone()).or_insert(Ok(()));
    }
    let doors = decided.document.iter().flat_map(|document| &document.doors);
    let entities = decided.entities.iter().flat_map(|entities| &entities.doors);
    let entities = entities.map(|(split, of)| (split, &of.expected));
    let runs = doors
        .chain(entities)
        .filter_map(|(split, expected)| Some((split, &**decided.items.get(split)?, expected)));
    counter.read_back(runs, &counted, proofs);
    counted
}
