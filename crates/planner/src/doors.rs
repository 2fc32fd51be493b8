//! Doors on the way from one set of weights to another: a door comes with the newest commit, but whoever still has weight
//! must be reached through it.

use std::collections::BTreeMap;

use weir_model::{Door, GatewayName, Via};

use crate::plan::Item;

/// Gives an item the doors that are wanted. What has weight in it and is not reached through a wanted door is reached as
/// through the door before, if there was one that reached it; a door through which a weight would be lost is left as it
/// was, or comes when that weight has gone.
pub(crate) fn give(
    item: &mut Item,
    wanted: &BTreeMap<GatewayName, Door>,
    before: &BTreeMap<GatewayName, Door>,
) {
    let doors = wanted.iter().filter_map(|(name, door)| {
        let was = before.get(name);
        let door = reaching(item, door, was).or_else(|| was.filter(|was| reaches_all(item, was)).cloned())?;
        Some((name.clone(), door))
    });
    item.doors = doors.collect();
}

/// The wanted door, if need be with addresses of the one before.
fn reaching(item: &Item, wanted: &Door, was: Option<&Door>) -> Option<Door> {
    let mut door = wanted.clone();
    if let (Via::Addresses(to), Some(Via::Addresses(had))) = (&mut door.via, was.map(|was| &was.via)) {
        for backend in item.weighted() {
            if let (false, Some(addresses)) = (to.contains_key(backend), had.get(backend)) {
                to.insert(backend.clone(), addresses.clone());
            }
        }
    }
    reaches_all(item, &door).then_some(door)
}

/// Whether every backend with weight is reached: through the mesh all are.
pub(crate) fn reaches_all(item: &Item, door: &Door) -> bool {
    match &door.via {
        Via::Mesh(_) => true,
        Via::Addresses(to) => item
            .weighted()
            .into_iter()
            .all(|backend| to.get(backend).is_some_and(|addresses| !addresses.is_empty())),
    }
}
