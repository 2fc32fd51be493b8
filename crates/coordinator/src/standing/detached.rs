//! Zones that Git takes out: nobody waits for them, and a split stands as the others do. They are shown as what is last known of
//! them, and called detached, so that nobody takes them for well.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{BackendName, Declaration, ZoneName};
use weir_planner::{Item, SplitPlan};
use weir_wire::api::Standing;

/// Zones that are detached, each with where Git says so, in words.
pub type Detached = BTreeMap<ZoneName, String>;

/// Those of a declaration.
pub fn detached(declared: &Declaration) -> Detached {
    let zones = declared.zones.values().filter(|zone| zone.detached);
    zones
        .map(|zone| {
            let place = &zone.place;
            let told = format!(
                "`state: detached` of zone {} in Git ({} {}:{})",
                zone.name, place.source, place.file, place.span.line
            );
            (zone.name.clone(), told)
        })
        .collect()
}

/// That zones are told to give weight to a backend whose own zone is detached, and why that is nothing to rest at: nobody is
/// asked whether anybody is there.
pub(super) fn given(split: &SplitPlan, detached: &Detached) -> Option<(Standing, String)> {
    let mut given: BTreeSet<(&BackendName, &ZoneName)> = BTreeSet::new();
    for item in split.items.values() {
        given.extend(weighted(item).filter_map(|backend| {
            let home = &item.destinations.get(backend)?.zone;
            detached.contains_key(home).then_some((backend, home))
        }));
    }
    let told: Vec<String> = given
        .iter()
        .map(|(backend, zone)| format!("backend {backend} still has weight, and its zone {zone} is detached"))
        .collect();
    (!told.is_empty()).then(|| (Standing::Progressing, told.join("; ")))
}

fn weighted(item: &Item) -> impl Iterator<Item = &BackendName> {
    let shares = item.routes.iter().flat_map(|route| &route.weights);
    shares
        .filter(|(_, weight)| weight.get() > 0)
        .map(|(backend, _)| backend)
}
