//! Backends on their way out (I4).
//!
//! A caller's Envoy drops a cluster as soon as nothing names it, some 60 ms before it takes the routes that no longer use
//! it. So whatever had weight in an item stays a destination of the next one, named by the anchor alone. It goes with a
//! later change, when nothing flows there.
//!
//! What counts is the destination, not its name: a backend that keeps its name but moves to another zone leaves its old
//! place behind under a name made up for it.

use weir_model::{BackendName, Protocol};

use crate::plan::{Destination, Item};

/// `wanted`, with every destination of `before`: right while some caller may not have followed that far.
pub(crate) fn keeping_all(wanted: Item, before: &Item) -> Item {
    with(wanted, before, |_| true)
}

/// `wanted`, with every destination of `before` that had weight.
pub(crate) fn releasing_drained(wanted: Item, before: &Item) -> Item {
    let weighted = before.weighted();
    with(wanted, before, |name| weighted.contains(name))
}

fn with(mut wanted: Item, before: &Item, stays: impl Fn(&BackendName) -> bool) -> Item {
    if wanted.protocol == Protocol::Tcp {
        return wanted; // no anchor could name it
    }
    let declared = |gone: &Destination| {
        let mut declared = wanted.destinations.values();
        declared.any(|destination| destination.in_kuma() == gone.in_kuma())
    };
    let leaves = before.destinations.iter();
    let leaves = leaves.filter(|(name, destination)| stays(name) && !declared(destination));
    let leaves: Vec<(&BackendName, &Destination)> = leaves.collect();
    for (name, destination) in leaves {
        let name = free_name(name, &wanted);
        wanted.retiring.insert(name.clone());
        wanted.destinations.insert(name, destination.clone());
    }
    wanted
}

/// `name` itself, or made up from it where that is taken: `vm-was`, `vm-was2`, ...
fn free_name(name: &BackendName, item: &Item) -> BackendName {
    let taken = |name: &BackendName| item.destinations.contains_key(name);
    let made_up = (1_u32..).map(|n| {
        let suffix = if n == 1 {
            "-was".to_owned()
        } else {
            format!("-was{n}")
        };
        let stem = &name.as_str()[..name.as_str().len().min(63 - suffix.len())];
        BackendName::new(format!("{stem}{suffix}"))
    });
    let candidates = std::iter::once(Ok(name.clone())).chain(made_up);
    candidates
        .flatten()
        .find(|candidate| !taken(candidate))
        .unwrap_or_else(|| name.clone())
}
