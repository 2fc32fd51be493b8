//! What the coordinator keeps.

use super::*;

/// What outlives the process, if its disk does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) created: BTreeMap<Generation, Timestamp>,
    pub(crate) commits: BTreeMap<SourceName, CommitId>,
    /// What was declared last, and directly before that.
    pub(super) trees: (Option<String>, Option<String>),
    pub(super) fleet: Fleet,
    pub(super) refused: BTreeSet<CommitId>,
    /// The highest term that was begun.
    pub(super) term: Term,
    /// What people ordered and nobody answered yet, and what stands until somebody ends it.
    pub(crate) orders: Rows,
}

impl Ledger {
    /// What was declared last, and directly before that.
    pub(crate) fn trees(&self) -> &(Option<String>, Option<String>) {
        &self.trees
    }
}
