//! What goes back to what was posted before: of what Kong did not accept, and of what cannot be together.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::SplitName;
use weir_planner::Item;
use weir_render::kong::Conflict;

use super::Decided;
use crate::gateways::{Posted, Refusal};

/// What stays as it was posted, because Kong did not accept what is wanted.
#[derive(Debug, Default)]
pub(super) struct Stays {
    /// Why the base does, if so.
    pub(super) base: Option<String>,
    /// Why which splits do.
    pub(super) splits: BTreeMap<SplitName, String>,
}

impl Stays {
    /// Takes what a refusal names back to what it was; if it names nothing that is new, the base first and then one split. False
    /// if there is nothing that could go back.
    pub(super) fn more(
        &mut self,
        refusal: &Refusal,
        base_before: bool,
        decided: &Decided,
        posted: Option<&Posted>,
    ) -> bool {
        let had = |split: &SplitName| posted.and_then(|posted| posted.items.get(split));
        let is_new = |split: &SplitName| decided.items.get(split).is_some_and(|is| had(split) != Some(is));
        let base = base_before && self.base.is_none();
        let (new, named): (Vec<&SplitName>, Vec<&SplitName>) = {
            let new = decided.items.keys().filter(|split| is_new(split));
            let new = new.filter(|split| !self.splits.contains_key(*split));
            new.partition(|split| !refusal.what.splits.contains(*split))
        };
        let by_base = base && (refusal.what.base || named.is_empty());
        // It names nothing of what is new: that goes back one by one, what came last the last, for that may be a revert.
        let oldest = new
            .into_iter()
            .min_by_key(|split| decided.items.get(*split).map(|item| item.generation));
        let splits = match by_base || !named.is_empty() {
            true => named,
            false => oldest.into_iter().collect(),
        };
        let any = by_base || !splits.is_empty();
        let words = || {
            format!(
                "Kong does not accept it ({}); what was there before stays, and it is tried again now and then",
                refusal.why
            )
        };
        let splits: Vec<SplitName> = splits.into_iter().cloned().collect();
        self.splits
            .extend(splits.into_iter().map(|split| (split, words())));
        if by_base {
            self.base = Some(format!(
                "the base of this gateway is not the declared one: {}",
                words()
            ));
        }
        any
    }
}

/// Goes back to what was posted of the split that a conflict is about; out of the document, if that is what conflicts or
/// there was none.
pub(super) fn step_back(
    conflict: &Conflict,
    posted: Option<&Posted>,
    items: &mut BTreeMap<SplitName, Arc<Item>>,
    decided: &mut Decided,
) {
    let Some(split) = &conflict.split else { return };
    let Some(now) = items.get(split) else { return };
    let before = posted.and_then(|posted| posted.items.get(split));
    match before.filter(|before| *before != now) {
        Some(before) => {
            items.insert(split.clone(), Arc::clone(before));
        }
        // Only what no gateway has of it yet may be left out: nobody's requests come by it.
        None if before.is_none() => {
            items.remove(split);
        }
        None => {}
    }
    decided
        .split_held
        .entry(split.clone())
        .or_insert_with(|| format!("{}; {}", conflict.what, conflict.help));
}

/// Goes back to what was posted of every split: who of two is in whose way is not known. False if all of it is that already.
pub(super) fn back(
    posted: Option<&Posted>,
    items: &mut BTreeMap<SplitName, Arc<Item>>,
    decided: &mut Decided,
    conflicts: &[Conflict],
) -> bool {
    let mut any = false;
    for (split, before) in posted.iter().flat_map(|posted| &posted.items) {
        if let Some(now) = items.get_mut(split)
            && now != before
        {
            any = true;
            *now = Arc::clone(before);
            let words: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
            decided
                .split_held
                .entry(split.clone())
                .or_insert_with(|| format!("it waits for what cannot be beside it: {}", words.join("; ")));
        }
    }
    any
}
