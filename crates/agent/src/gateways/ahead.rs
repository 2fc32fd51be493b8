//! What goes to gateways before the zone's control plane has it: a way back (I8). Whoever reverts at 3 a.m. has requests at the
//! door that fail, and a Kong takes new weights within milliseconds, whatever becomes of the control plane. Pure.
//!
//! A way back is to weights that the zone had before. A plan that tries again what was reverted looks the same from here: the
//! coordinator let this zone have it now, so that it is never more than a moment ahead of the mesh. Everything else follows the
//! mesh: what a control plane does not take, or does not resolve, moves neither door.

use weir_model::{BackendName, Match, RouteName, sabotaged};
use weir_planner::{Item, ItemState, ZoneFacts};

use crate::take::Memory;

/// Whether an item may be driven at gateways while `was` is still what is in force in the mesh: it gives weights that this zone
/// had in force lately, or that somebody pinned on this host, over the same routes, to backends in the same places, by the same
/// door; and nothing speaks against it in what was seen when the control plane last answered. Without such a sight only a pin
/// goes ahead, for whoever made it stands there.
pub(super) fn may_go_ahead(item: &Item, was: &Item, memory: &Memory, seen: Option<&ZoneFacts>) -> bool {
    let routes = |of: &Item| -> Vec<(RouteName, Match)> {
        let routes = of.routes.iter();
        routes
            .map(|route| (route.name.clone(), route.matches.clone()))
            .collect()
    };
    let moved = |backend: &BackendName| item.destinations.get(backend) != was.destinations.get(backend);
    if item.doors != was.doors || routes(item) != routes(was) || item.weighted().into_iter().any(moved) {
        return false;
    }
    let split = &item.split;
    let pinned = memory.pins.of(split).is_some();
    if !pinned && !memory.past.had(item) {
        return false;
    }
    let Some(seen) = seen else { return pinned };
    // Held for whatever reason: another host's pin, another agent's newer plan.
    let stands = seen.items.iter().any(|fact| {
        fact.split == *split
            && match fact.state {
                ItemState::Applied | ItemState::Proven => true,
                ItemState::Pending | ItemState::Held(_) | ItemState::Overridden(_) | ItemState::Failed(_) => {
                    false
                }
            }
    });
    let resolves = weir_render::backends_ready(item, Some(was), &seen.services).is_ok();
    stands && (resolves || sabotaged("ahead-at-gateways-blindly"))
}
