//! The canonical bytes: what ids and digests are made of. Version 1.
//!
//! Every machine that holds a value must come to the same bytes, so they are defined here and in `put`, and nowhere else, and no
//! serializer takes part. Agents, the ledger and the linter recompute them. The encoding is
//!
//! | value | bytes |
//! |---|---|
//! | number | big-endian, of the width named below |
//! | text, name | length in bytes as `u64`, then UTF-8 |
//! | list, set, map | number of entries as `u64`, then each (of a map: key, value); sets and maps ascending by key |
//! | optional | `0`, or `1` and the value |
//! | choice | one byte that says which, then its value |
//! | digest, id | its 32 bytes |
//! | time | seconds since 1970 as `i64`, nanoseconds as `i32` |
//!
//! Nothing is left out and every length comes first, so two different values never give the same bytes. What the bytes
//! are of is not in them but in the key: BLAKE3 runs in its key derivation mode with one context for each kind of value,
//! and the context ends in the version. **A change of this file is a new version: new contexts.** It makes every item of
//! every federation look changed once; the tests hold a digest of each kind so that it cannot happen unnoticed.
//!
//! Plans are a Merkle tree: an item's [`digest`](item_digest) covers its content; a split's [`root`](split_root) covers
//! its items' digests, generations and commits; a plan's [`id`](plan_id) covers the roots. What did not change is not
//! read again.

mod put;

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{
    BackendName, BasisPoints, Channel, DnsLabel, FederationName, MeshName, PortName, Split, SplitName,
    ZoneName,
};

use crate::course::{Course, Items, Leg, Quarantine};
use crate::facts::CountScope;
use crate::plan::{Destination, Digest, Fallback, GatewayPlan, Item, Plan, PlanId, SplitPlan};
use crate::precedence;
use put::{Put, count, list};

const ITEM: &str = "weir.dev item, canonical bytes version 1";
const INPUTS: &str = "weir.dev split inputs, canonical bytes version 1";
const ZONES: &str = "weir.dev zones, canonical bytes version 1";
const GATEWAY: &str = "weir.dev gateway, canonical bytes version 1";
const ROOT: &str = "weir.dev split root, canonical bytes version 1";
const PLAN: &str = "weir.dev plan, canonical bytes version 1";
const SHAPE: &str = "weir.dev shape, canonical bytes version 1";
const ANCHOR: &str = "weir.dev anchor, canonical bytes version 1";

/// The digest of an item: over everything in it but its generation, its commit and the digest itself.
pub fn item_digest(item: &Item) -> Digest {
    Digest(hash(ITEM, &item_bytes(item)))
}

/// The bytes under [`item_digest`].
pub fn item_bytes(item: &Item) -> Vec<u8> {
    let mut to = Vec::with_capacity(512);
    item.split.put(&mut to);
    item.zone.put(&mut to);
    item.kuma_zone.put(&mut to);
    item.mesh.put(&mut to);
    item.service.put(&mut to);
    item.port.put(&mut to);
    item.protocol.put(&mut to);
    item.destinations.put(&mut to);
    list(&mut to, item.retiring.iter());
    list(&mut to, item.routes.iter());
    item.anchor.as_str().put(&mut to);
    port_names(&mut to, &item.port_names);
    fallback(&mut to, &item.fallback);
    if !item.doors.is_empty() {
        to.extend(DOORS);
        item.doors.put(&mut to);
    }
    to
}

/// The digest of a zone's gateway: over everything in it but its generation and the digest itself.
pub fn gateway_digest(gateway: &GatewayPlan) -> Digest {
    let mut to = Vec::with_capacity(64);
    to.push(match gateway.channel {
        Channel::AdminDbless => 1,
        Channel::AdminDb => 2,
        Channel::Kic => 3,
    });
    to.push(u8::from(gateway.in_mesh));
    match &gateway.base {
        None => to.push(0),
        Some(base) => {
            to.push(1);
            base.source.put(&mut to);
            base.file.put(&mut to);
            base.document.put(&mut to);
        }
    }
    if let Some(parent) = &gateway.parent {
        parent.namespace.put(&mut to);
        parent.name.put(&mut to);
        match &parent.section {
            None => to.push(0),
            Some(section) => {
                to.push(1);
                section.put(&mut to);
            }
        }
    }
    Digest(hash(GATEWAY, &to))
}

/// The digest of what callers see of an item, whichever zone and split it is of: what is addressed, where it may go, and by
/// which routes. What retires is not in it. Two zones of a split that rests have the same.
pub fn shape(item: &Item) -> Digest {
    let mut to = Vec::with_capacity(512);
    item.service.put(&mut to);
    item.port.put(&mut to);
    item.protocol.put(&mut to);
    let stays = item
        .destinations
        .iter()
        .filter(|(name, _)| !item.retiring.contains(*name));
    let stays: BTreeMap<&BackendName, &Destination> = stays.collect();
    count(&mut to, stays.len());
    for (name, destination) in stays {
        name.put(&mut to);
        destination.put(&mut to);
    }
    list(&mut to, item.routes.iter());
    port_names(&mut to, &item.port_names);
    Digest(hash(SHAPE, &to))
}

/// What a split plan's items are derived from, apart from the parent: equal digests need no planning.
/// `zones` is a [`zones_digest`]. Places are not in it, nor is the order of routes beyond their precedence.
pub fn split_inputs(federation: &FederationName, mesh: &MeshName, zones: &Digest, split: &Split) -> Digest {
    let mut to = Vec::with_capacity(512);
    federation.put(&mut to);
    mesh.put(&mut to);
    to.extend(zones.0);
    split.name.put(&mut to);
    split.service.put(&mut to);
    split.port.put(&mut to);
    split.protocol.put(&mut to);
    split.backends.put(&mut to);
    list(&mut to, precedence::routes(split).iter());
    port_names(&mut to, &split.port_names);
    if !split.fallback.is_empty() {
        to.extend(FALLBACK);
        count(&mut to, split.fallback.len());
        for (from, fallback) in &split.fallback {
            from.put(&mut to);
            count(&mut to, fallback.to.len());
            for backend in &fallback.to {
                backend.put(&mut to);
                let capacity = split.backends.get(backend).and_then(|backend| backend.capacity);
                to.extend(capacity.map_or(u32::MAX, BasisPoints::get).to_be_bytes());
            }
            to.extend(fallback.after.as_nanos().to_be_bytes());
            to.extend(fallback.recover.as_nanos().to_be_bytes());
        }
    }
    if !split.gateways.is_empty() {
        to.extend(DOORS);
        count(&mut to, split.gateways.len());
        for at in &split.gateways {
            at.gateway.put(&mut to);
            list(&mut to, at.zones.iter());
            at.door.put(&mut to);
        }
    }
    Digest(hash(INPUTS, &to))
}

/// The same, where drained refuges are in use, and zones therefore told otherwise than these inputs say.
pub(crate) fn split_inputs_in_use(inputs: &Digest) -> Digest {
    let mut to = inputs.0.to_vec();
    to.extend(b"refuges in use");
    Digest(hash(INPUTS, &to))
}

/// The zones that take part, with their names in Kuma.
pub fn zones_digest(zones: &BTreeMap<ZoneName, DnsLabel>) -> Digest {
    let mut to = Vec::new();
    zones.put(&mut to);
    Digest(hash(ZONES, &to))
}

/// The root of a split plan: its inputs and, for each zone, the item's digest, generation and commit.
pub fn split_root(split: &SplitPlan) -> Digest {
    let mut to = Vec::with_capacity(40 + 128 * split.items.len());
    to.extend(split.digest.0);
    count(&mut to, split.items.len());
    for (zone, item) in &split.items {
        zone.put(&mut to);
        to.extend(item.digest.0);
        item.generation.put(&mut to);
        item.commit.put(&mut to);
    }
    if let Some(at) = &split.course {
        course(&mut to, at);
    }
    Digest(hash(ROOT, &to))
}

/// The id of a plan: over everything in it but the id itself, with each split's [`root`](SplitPlan::root) for its items.
pub fn plan_id(plan: &Plan) -> PlanId {
    let mut to = Vec::with_capacity(256 + 64 * plan.splits.len());
    plan.federation.put(&mut to);
    plan.mesh.put(&mut to);
    match plan.parent {
        None => to.push(0),
        Some(parent) => {
            to.push(1);
            to.extend(parent.0);
        }
    }
    plan.generation.put(&mut to);
    list(&mut to, plan.commits.iter());
    plan.created.put(&mut to);
    plan.zones.put(&mut to);
    count(&mut to, plan.splits.len());
    for (name, split) in &plan.splits {
        name.put(&mut to);
        to.extend(split.root.0);
    }
    if !plan.gateways.is_empty() {
        to.extend(DOORS);
        count(&mut to, plan.gateways.len());
        for (zone, gateways) in &plan.gateways {
            zone.put(&mut to);
            count(&mut to, gateways.len());
            for (name, gateway) in gateways {
                name.put(&mut to);
                to.extend(gateway.digest.0);
                gateway.generation.put(&mut to);
            }
        }
    }
    PlanId(hash(PLAN, &to))
}

/// The value of the anchor's header: 32 hex digits that depend on federation and split name alone.
pub fn anchor(federation: &FederationName, split: &SplitName) -> String {
    let mut to = Vec::new();
    federation.put(&mut to);
    split.put(&mut to);
    let mut text = Digest(hash(ANCHOR, &to)).to_string();
    text.truncate(32);
    text
}

fn hash(context: &str, bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, bytes)
}

/// Names of a port, where there are any: the one field that came later. It stands last, and nothing stands for none, so
/// what has none keeps the bytes that it always had and no two values share theirs.
fn port_names(to: &mut Vec<u8>, names: &BTreeSet<PortName>) {
    if !names.is_empty() {
        list(to, names.iter());
    }
}

/// What stands before fallbacks, where there are any. No count of port names, which it follows or takes the place of, has
/// these bytes.
const FALLBACK: &[u8; 8] = b"fallback";

/// What stands before doors and gateways, where there are any: after fallbacks, for they came later still. No count has
/// these bytes either.
const DOORS: &[u8; 8] = b"gateways";

/// Fallbacks, where there are any: last, for they came later.
fn fallback(to: &mut Vec<u8>, fallbacks: &BTreeMap<BackendName, Fallback>) {
    if fallbacks.is_empty() {
        return;
    }
    to.extend(FALLBACK);
    count(to, fallbacks.len());
    for (from, fallback) in fallbacks {
        from.put(to);
        count(to, fallback.to.len());
        for refuge in &fallback.to {
            refuge.backend.put(to);
            to.extend(refuge.capacity.map_or(u32::MAX, BasisPoints::get).to_be_bytes());
        }
        to.extend(fallback.after.as_nanos().to_be_bytes());
        to.extend(fallback.recover.as_nanos().to_be_bytes());
    }
}

/// What stands where a split rested on what a drain led to.
const DRAINED: &[u8; 7] = b"drained";

/// What stands before what a transition is stopped on its way to, where it is.
const STOPPED: &[u8; 7] = b"stopped";

/// Where a split is on its way, where it is: last, and nothing stands for none, for it came later. The same holds in it for
/// what came later still.
fn course(to: &mut Vec<u8>, course: &Course) {
    to.extend(b"course");
    list(to, course.previous.iter());
    course.left.put(to);
    match &course.motion {
        None => to.push(0),
        Some(motion) => {
            to.push(1);
            items(to, &motion.origin);
            items(to, &motion.from);
            motion.to.put(to);
            match &motion.leg {
                Leg::Shift { bites, bite, wave } => {
                    to.push(1);
                    bites.put(to);
                    bite.put(to);
                    wave.put(to);
                }
                Leg::Return { why } => {
                    to.push(2);
                    why.as_str().put(to);
                }
            }
            motion.since.put(to);
            count(to, motion.counted.len());
            for (counter, counts) in &motion.counted {
                counter.as_str().put(to);
                counts.since.put(to);
                counts.at.put(to);
                counts.requests.put(to);
                // Not who was down nor how long answers took: another version may not know of them, and would find another root.
                counts.failed.put(to);
                to.push(match counts.scope {
                    CountScope::Host => 1,
                    CountScope::Zone => 2,
                });
            }
        }
    }
    match &course.quarantine {
        None => to.push(0),
        Some(of) => {
            to.push(1);
            quarantine(to, of);
        }
    }
    if course.drained {
        to.extend(DRAINED);
    }
    let stopped = course.motion.as_ref().and_then(|motion| motion.stopped.as_ref());
    if let Some(stopped) = stopped {
        to.extend(STOPPED);
        quarantine(to, stopped);
    }
}

fn quarantine(to: &mut Vec<u8>, of: &Quarantine) {
    of.shape.put(to);
    of.why.as_str().put(to);
    of.at.put(to);
}

/// Items by what they say, when they said it first, and by which commit.
fn items(to: &mut Vec<u8>, items: &Items) {
    count(to, items.len());
    for (zone, item) in items {
        zone.put(to);
        to.extend(item.digest.0);
        item.generation.put(to);
        item.commit.put(to);
    }
}
