//! Backends on their way out (I4).
//!
//! A caller's Envoy drops a cluster as soon as nothing names it, some 60 ms before it takes the routes that no longer use
//! it. So whatever had weight in an item stays a destination of the next one, named by the anchor alone. It goes with a
//! later change, when nothing flows there.
//!
//! What counts is the destination, not its name: a backend that keeps its name but moves to another zone leaves its old
//! place behind under a name made up for it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use weir_model::{BackendName, Protocol, ServiceName, SplitName};

use crate::plan::{Destination, Item, Plan, SplitPlan};

/// A plan's splits by what they split: a split may take over the service of another, as when it gets another name, and
/// its callers do not know that.
pub(crate) struct Services<'a> {
    plan: Option<&'a Plan>,
    /// Made when it is first asked for: most plans change nothing about who splits what.
    by_service: OnceCell<BTreeMap<(&'a ServiceName, u16), &'a SplitName>>,
}

impl<'a> Services<'a> {
    pub(crate) fn new(plan: Option<&'a Plan>) -> Self {
        Self {
            plan,
            by_service: OnceCell::new(),
        }
    }

    /// The split of this service and port, if it is another than `name`.
    pub(crate) fn of_service(
        &self,
        name: &SplitName,
        service: &ServiceName,
        port: u16,
    ) -> Option<&'a SplitPlan> {
        let plan = self.plan?;
        // A service has one split, and the items of a split are all for it (the linter holds both).
        let own = plan
            .splits
            .get(name)
            .and_then(|split| split.items.values().next());
        if own.is_some_and(|item| item.service == *service && item.port == port) {
            return None;
        }
        let by_service = self.by_service.get_or_init(|| {
            let of = |(name, split): (&'a SplitName, &'a std::sync::Arc<SplitPlan>)| {
                // The items of a split are all for its service.
                let item = split.items.values().next()?;
                Some(((&item.service, item.port), name))
            };
            plan.splits.iter().filter_map(of).collect()
        });
        let other = by_service.get(&(service, port)).filter(|other| **other != name)?;
        plan.splits.get(*other).map(AsRef::as_ref)
    }
}

/// `wanted`, with every destination of `before`: right while some caller may not have followed that far.
pub(crate) fn keeping_all(wanted: Item, before: &Item) -> Item {
    with(wanted, before, |_| true)
}

/// `wanted`, with every destination of `before` that had weight.
pub(crate) fn releasing_drained(wanted: Item, before: &Item) -> Item {
    let weighted = before.weighted();
    with(wanted, before, |name| weighted.contains(name))
}

/// The destinations without weight of `before` that `wanted` does not name.
pub(crate) fn drained<'a>(wanted: &'a Item, before: &'a Item) -> impl Iterator<Item = &'a Destination> {
    let weighted = before.weighted();
    let declared = |gone: &Destination| {
        let mut declared = wanted.destinations.values();
        declared.any(|destination| destination.in_kuma() == gone.in_kuma())
    };
    let all = before.destinations.iter();
    let drained = all.filter(move |(name, to)| !weighted.contains(*name) && !declared(to));
    drained.map(|(_, to)| to)
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
