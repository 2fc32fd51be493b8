//! What must hold for how a split's weights move: fallbacks that lead somewhere, zones and capacities that can take them.

use std::collections::BTreeMap;

use super::Check;
use crate::draft::SplitDraft;
use crate::names::BackendName;
use crate::transition::{Fallback, Transition, Verify};
use crate::weight::BasisPoints;

impl Check<'_> {
    /// The split's transition, with the Federation's fields where it has none; `None` when it could not be read.
    pub(super) fn transition(&mut self, draft: &SplitDraft) -> Option<Transition> {
        let own = &draft.transition;
        if own.unreadable {
            return None;
        }
        let shared = self.drafts.federations.first().map(|first| &first.transition);
        let of = Transition::default();
        let max_step = own
            .max_step
            .as_ref()
            .or_else(|| shared.and_then(|shared| shared.max_step.as_ref()));
        Some(Transition {
            // Of 100 per cent one step is enough: what is declared then reads the same as what is not.
            max_step: max_step
                .map(|at| at.value)
                .filter(|step| *step < BasisPoints::WHOLE),
            bake: own.bake.or_else(|| shared?.bake).unwrap_or(of.bake),
            verify: Verify {
                requests: own
                    .requests
                    .or_else(|| shared?.requests)
                    .unwrap_or(of.verify.requests),
                within: own.within.or_else(|| shared?.within).unwrap_or(of.verify.within),
                insufficient: own
                    .insufficient
                    .or_else(|| shared?.insufficient)
                    .unwrap_or(of.verify.insufficient),
            },
        })
    }

    /// The split's fallbacks; `None` when one could not be read or leads nowhere.
    pub(super) fn fallbacks(&mut self, draft: &SplitDraft) -> Option<BTreeMap<BackendName, Fallback>> {
        let mut fallbacks = BTreeMap::new();
        for found in &draft.fallbacks.found {
            let to = found.to.iter().map(|at| at.value.clone()).collect();
            let fallback = Fallback {
                to,
                after: found.after,
                recover: found.recover,
            };
            fallbacks.insert(found.from.value.clone(), fallback);
        }
        (!draft.fallbacks.unreadable).then_some(fallbacks)
    }
}
