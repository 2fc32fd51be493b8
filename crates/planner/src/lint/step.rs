//! The linter for one step of a plan that was looked at before: its cost follows the change.

use std::sync::Arc;

use weir_model::SplitName;

use super::{Finding, Lint};
use crate::plan::{Plan, SplitPlan};

/// [`lint`](super::lint) of a step: of those splits that are not the parent's own values, for the others were looked at with the
/// parent, and of what stands in no split. Where zones or the mesh changed, that is more than these.
pub fn lint_step(plan: &Plan, parent: &Plan) -> Vec<Finding> {
    if plan.mesh != parent.mesh || plan.zones != parent.zones || plan.gateways != parent.gateways {
        return super::lint(plan, Some(parent));
    }
    let mut lint = Lint::new(plan, Some(parent));
    lint.whole();
    lint.new_splits(parent);
    lint.findings
}

/// [`lint_step`] of what stands in splits.
pub(crate) fn lint_new(plan: &Plan, parent: &Plan) -> Vec<Finding> {
    let mut lint = Lint::new(plan, Some(parent));
    lint.new_splits(parent);
    lint.findings
}

impl Lint<'_> {
    fn new_splits(&mut self, parent: &Plan) {
        let mut before = parent.splits.iter().peekable();
        let mut new = Vec::new();
        // Both are in one order: beside each other they are gone through once.
        for (name, split) in &self.plan.splits {
            // A plan is copied at each step, and copies share their texts: what is the parent's own is known without a look at it.
            let own = |(was, value): &(&SplitName, &Arc<SplitPlan>)| {
                std::ptr::eq(was.as_str(), name.as_str()) && Arc::ptr_eq(value, split)
            };
            if before.next_if(own).is_some() {
                continue;
            }
            while before.next_if(|(was, _)| *was != name && *was < name).is_some() {}
            let was = before.next_if(|(was, _)| *was == name);
            if !was.is_some_and(|(_, was)| Arc::ptr_eq(was, split)) {
                new.push((name, split));
            }
        }
        self.one_new_writer(parent, &new);
        for (name, split) in new {
            self.split(name, split);
        }
    }
}
