//! Which pins what a gateway is to run is of, and what may be written over by that. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::SplitName;
use weir_planner::Item;
use weir_render::kong::Pinned;

use crate::gateways::{Posted, Wanted};

/// Which pins the weights of these items are of: those that are wanted so, and of what stays as it was posted those of then.
pub(super) fn pins(
    wanted: &Wanted,
    posted: Option<&Posted>,
    items: &BTreeMap<SplitName, Arc<Item>>,
) -> BTreeMap<SplitName, String> {
    let of = |(split, item): (&SplitName, &Arc<Item>)| {
        let label = match wanted.items.get(split) == Some(item) {
            true => wanted.pins.get(split),
            false => posted
                .filter(|posted| posted.items.get(split) == Some(item))
                .and_then(|posted| posted.pins.get(split)),
        };
        Some((split.clone(), label?.clone()))
    };
    items.iter().filter_map(of).collect()
}

/// What somebody pinned is wanted whatever generation it was made of, also where a gateway has a newer one by now: whoever knows that
/// one writes over it.
pub(super) fn pinned<'a>(
    wanted: &Wanted,
    posted: Option<&Posted>,
    (pins, item): (&'a BTreeMap<SplitName, String>, &Item),
) -> Option<Pinned<'a>> {
    let planned = wanted.plan.items.get(&item.split);
    let given = posted.and_then(|posted| posted.newest(&item.split));
    let known = [planned, given].into_iter().flatten();
    Some(Pinned {
        label: pins.get(&item.split)?,
        known: known
            .map(|known| known.generation)
            .max()
            .unwrap_or(item.generation),
    })
}
