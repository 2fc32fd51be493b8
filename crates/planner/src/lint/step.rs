//! The linter for one step of a plan that was looked at before: its cost follows the change.

use imbl::ordmap::DiffItem;

use super::{Finding, Lint};
use crate::plan::Plan;

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
        // What both share is not looked at, and of equal values that are not one the other was looked at with the parent.
        let changed = parent.splits.diff(&self.plan.splits);
        let new: Vec<_> = changed
            .filter_map(|change| match change {
                DiffItem::Add(name, split)
                | DiffItem::Update {
                    new: (name, split), ..
                } => Some((name, split)),
                DiffItem::Remove(..) => None,
            })
            .collect();
        self.one_new_writer(parent, &new);
        for (name, split) in new {
            self.split(name, split);
        }
    }
}
