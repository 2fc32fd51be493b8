//! Who takes the share of a backend that is down: the first of its list that is up, resolves and has room; and where that ends.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_model::{BackendName, BasisPoints, sabotaged};
use weir_planner::{Item, ServiceFact};

use super::{Fallbacks, PATIENCE, Watch, over};

/// Whether the zone resolves a backend as it must before weight is given (I3).
pub(super) fn resolves(item: &Item, backend: &BackendName, services: &[ServiceFact]) -> bool {
    let alone = alone(item, backend);
    weir_render::backends_ready(&alone, None, services).is_ok()
}

/// As much of it as who has a share already must go on doing: an ingress that is not listed for a moment takes nothing from him, or
/// the share would go back to the dead with each blink. Whether he is reached his counters say.
pub(super) fn still_resolves(item: &Item, backend: &BackendName, services: &[ServiceFact]) -> bool {
    let alone = alone(item, backend);
    weir_render::backends_ready(&alone, Some(&alone), services).is_ok()
}

/// The item, with all of it at one backend.
pub(super) fn alone(item: &Item, backend: &BackendName) -> Item {
    let mut alone = item.clone();
    for route in &mut alone.routes {
        route.weights = BTreeMap::from([(backend.clone(), BasisPoints::WHOLE)]);
    }
    alone
}

/// Whether the table names `to` for a backend.
pub(super) fn takes_by_table(item: &Item, backend: &BackendName, to: &BackendName) -> bool {
    let fallback = item.fallback.get(backend);
    fallback.is_some_and(|fallback| fallback.to.iter().any(|refuge| refuge.backend == *to))
}

/// Who takes a backend's share. Who has it keeps it for a while whatever is seen of him: agents that see different callers
/// must not pass it to and fro.
pub(super) fn refuge(
    item: &Item,
    fallen: &Fallbacks,
    backend: &BackendName,
    services: &[ServiceFact],
    watch: &Watch,
    (now, stamp): (Instant, Timestamp),
) -> Option<BackendName> {
    let fallback = item.fallback.get(backend)?;
    let mut without = fallen.clone();
    without.down.remove(backend);
    let before = over(item, &without);
    let stands = |to: &weir_planner::Refuge, resolved: bool| {
        let up = !fallen.down.contains_key(&to.backend)
            && item.destinations.contains_key(&to.backend)
            && (resolved || sabotaged("any-refuge"));
        up && has_room(&before, backend, to)
    };
    let answers = |to: &weir_planner::Refuge, for_so_long| {
        watch.down(&item.split, &to.backend, for_so_long, now).is_none()
    };
    let has = fallen.down.get(backend).filter(|down| down.to != *backend);
    let stays = has.and_then(|down| {
        let holder = fallback.to.iter().find(|to| to.backend == down.to)?;
        let lately = watch.stamps.ago(down.moved, (now, stamp)) < fallback.recover.min(PATIENCE);
        let resolved = match down.written {
            true => still_resolves(item, &down.to, services),
            false => resolves(item, &down.to, services),
        };
        (stands(holder, resolved) && (lately || answers(holder, fallback.after))).then_some(holder)
    });
    let first = || {
        let mut list = fallback.to.iter();
        list.find(|to| stands(to, resolves(item, &to.backend, services)) && answers(to, SignedDuration::ZERO))
    };
    stays.or_else(first).map(|to| to.backend.clone())
}

/// Whether a backend has room for another one's share, whatever else it has in this item.
pub(super) fn has_room(item: &Item, backend: &BackendName, to: &weir_planner::Refuge) -> bool {
    let of = |route: &weir_planner::ItemRoute, name| route.weights.get(name).map_or(0, |weight| weight.get());
    sabotaged("any-capacity")
        || to.capacity.is_none_or(|capacity| {
            item.routes.iter().all(|route| {
                of(route, backend) == 0 || of(route, backend) + of(route, &to.backend) <= capacity.get()
            })
        })
}

/// Where a backend's share ends. Who took it over may have gone down since: then it is where his goes.
pub(super) fn end(item: &Item, fallen: &Fallbacks, from: &BackendName) -> BackendName {
    let mut at = from.clone();
    for _ in 0..=fallen.down.len() {
        match fallen.down.get(&at) {
            Some(down) if takes_by_table(item, &at, &down.to) => at = down.to.clone(),
            _ => break,
        }
    }
    at
}

/// Whether who has a backend's share in the end has more than it can take.
pub(super) fn overflows(item: &Item, fallen: &Fallbacks, backend: &BackendName) -> bool {
    let end = end(item, fallen, backend);
    let mut refuges = item.fallback.values().flat_map(|fallback| &fallback.to);
    let most = refuges.find(|to| to.backend == end).and_then(|to| to.capacity);
    let (Some(most), true) = (most, end != *backend) else {
        return false;
    };
    let over = over(item, fallen);
    let mut routes = item.routes.iter().zip(&over.routes);
    routes.any(|(was, is)| {
        let of = |route: &weir_planner::ItemRoute, name| route.weights.get(name).copied().unwrap_or_default();
        of(was, backend) > BasisPoints::ZERO && of(is, &end) > most
    })
}

/// Whose share goes elsewhere, and who passes such a share on without one of his own.
pub(super) fn passing<'a>(item: &'a Item, fallen: &'a Fallbacks) -> BTreeSet<&'a BackendName> {
    let mut all = BTreeSet::new();
    for weighted in item.weighted() {
        let mut at = weighted;
        // One that was passed already leads where it led.
        while let Some(down) = fallen.down.get(at)
            && takes_by_table(item, at, &down.to)
            && all.insert(at)
        {
            at = &down.to;
        }
    }
    all
}
