//! What holds every change but reverts and aborts, whether anything waits for it or not: whoever asks how things stand during a
//! freeze should not have to try a commit to learn of it. Pure.

use jiff::Timestamp;
use weir_model::Declaration;

use crate::transition::{Orders, frozen};

/// The freezes in force at a time, in words: what is frozen, until when or by whom, and why. Those that were ordered first, then
/// those that are declared: of the Federation, of zones, of splits.
pub fn freezes(declaration: &Declaration, orders: &Orders, now: Timestamp) -> Vec<String> {
    let all = orders.all_frozen_told().into_iter();
    let some = orders.frozen.keys();
    let some = some.filter_map(|split| orders.frozen_told(split));
    let federation = declaration.federation.iter();
    let federation = federation.map(|federation| ("the federation".to_owned(), &federation.freeze));
    let zones = declaration.zones.values();
    let zones = zones.map(|zone| (format!("zone {}", zone.name), &zone.freeze));
    let splits = declaration.splits.values();
    let splits = splits.map(|split| (format!("split {}", split.name), &split.freeze));
    let declared = federation.chain(zones).chain(splits);
    let declared = declared.filter_map(|(what, freeze)| frozen(&what, freeze.at(now)).map(|(why, _)| why));
    all.chain(some).chain(declared).collect()
}
