//! Each zone's callers of a service have one split: two would take the requests from each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{ServiceName, SplitName, ZoneName};

use super::{Lint, Rule};
use crate::plan::{Plan, SplitPlan};

/// What has one split.
type Callers<'a> = (&'a ZoneName, &'a ServiceName, u16);

fn callers(split: &SplitPlan) -> impl Iterator<Item = Callers<'_>> {
    let items = split.items.iter();
    items.map(|(zone, item)| (zone, &item.service, item.port))
}

impl<'a> Lint<'a> {
    /// Of these splits.
    pub(super) fn one_writer(&mut self, splits: impl Iterator<Item = (&'a SplitName, &'a Arc<SplitPlan>)>) {
        let mut writers: BTreeMap<Callers<'a>, &SplitName> = BTreeMap::new();
        for (name, split) in splits {
            for (zone, service, port) in callers(split) {
                if let Some(other) = writers.insert((zone, service, port), name) {
                    let what = format!("{service} port {port} is split by {other} too");
                    self.at(Rule::OneWriter, (name, zone), what);
                }
            }
        }
    }

    /// Of all, where only these are new. What they had in the parent they had alone there: of two it is who comes that is in the way.
    pub(super) fn one_new_writer(&mut self, parent: &Plan, new: &[(&'a SplitName, &'a Arc<SplitPlan>)]) {
        let mut taken: BTreeSet<Callers<'a>> = BTreeSet::new();
        let mut comes: BTreeSet<&SplitName> = BTreeSet::new();
        for (name, split) in new {
            let was = parent.splits.get(*name);
            let was: BTreeSet<Callers<'_>> = was.into_iter().flat_map(|was| callers(was)).collect();
            let new: Vec<_> = callers(split).filter(|of| !was.contains(of)).collect();
            if !new.is_empty() {
                comes.insert(name);
            }
            taken.extend(new);
        }
        if !taken.is_empty() {
            let all = self.plan.splits.iter();
            let all = all.filter(|(_, split)| callers(split).any(|of| taken.contains(&of)));
            let (come, stay): (Vec<_>, Vec<_>) = all.partition(|(name, _)| comes.contains(name));
            self.one_writer(stay.into_iter().chain(come));
        }
    }
}
