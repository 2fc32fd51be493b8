//! What holds every change but reverts and aborts, whether anything waits for it or not: whoever asks how things stand during a
//! freeze should not have to try a commit to learn of it. Pure.

use jiff::Timestamp;
use weir_model::{Declaration, Freeze, Frozen, Split, SplitName, Zone, sabotaged};

use crate::transition::{Orders, frozen};

/// Why nothing of a split moves at this time, and until when, if that is known: by an order, or by what is declared of the
/// Federation, of the split itself where that is declared, and of these zones. The end is when nothing of it holds any more.
pub(crate) fn held_by<'a>(
    orders: &Orders,
    declaration: &'a Declaration,
    (name, split): (&SplitName, Option<&'a Split>),
    zones: impl IntoIterator<Item = &'a Zone>,
    now: Timestamp,
) -> Option<(String, Option<Timestamp>)> {
    if let Some(why) = orders.all_frozen_told() {
        return Some((why, None));
    }
    if let Some(why) = orders.frozen_told(name)
        && !sabotaged("thaw")
    {
        return Some((why, None));
    }
    let federation = declaration.federation.as_ref();
    let federation = federation.map(|federation| (("the federation", ""), &federation.freeze));
    let split = split.map(|split| (("split ", name.as_str()), &split.freeze));
    let zones = zones.into_iter();
    let zones = zones.map(|zone| (("zone ", zone.name.as_str()), &zone.freeze));
    let all = federation.into_iter().chain(split).chain(zones);
    let all: Vec<_> = all.filter(|(_, freeze)| **freeze != Freeze::Never).collect();
    let holds = all
        .iter()
        .filter_map(|((kind, name), freeze)| match freeze.at(now) {
            Frozen::No => None,
            at => frozen(&format!("{kind}{name}"), at),
        });
    // The one that lasts longest says most.
    let (why, own) = holds.max_by_key(|(_, until)| until.unwrap_or(Timestamp::MAX))?;
    let until = match Freeze::any_at(all.iter().map(|(_, freeze)| *freeze), now) {
        Frozen::Until(until) => Some(until),
        Frozen::No | Frozen::Indefinitely => None,
    };
    Some(match until.filter(|until| own.is_some_and(|own| own < *until)) {
        Some(end) => (format!("{why}, and others follow it until {end}"), until),
        None => (why, until),
    })
}

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
