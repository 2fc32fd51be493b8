//! What really left a Kong: the counters by which tests judge shares. Kong itself has none.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By upstream (or host of a service) and target.
type ByTarget = BTreeMap<String, BTreeMap<String, u64>>;

/// Counters.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Counts>);

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests written to a target.
    pub(super) sent: ByTarget,
    /// Connections that a target did not take.
    pub(super) refused: ByTarget,
    /// Answers of Kong's own, by status: no route, no target, no answer.
    pub(super) own: BTreeMap<u16, u64>,
}

impl Counted {
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sent(&self, upstream: &str, target: &str) {
        add(&mut self.counts().sent, upstream, target);
    }

    pub(super) fn refused(&self, upstream: &str, target: &str) {
        add(&mut self.counts().refused, upstream, target);
    }

    pub(super) fn own(&self, status: u16) {
        *self.counts().own.entry(status).or_default() += 1;
    }
}

fn add(to: &mut ByTarget, upstream: &str, target: &str) {
    if let Some(count) = to.get_mut(upstream).and_then(|all| all.get_mut(target)) {
        *count += 1;
        return;
    }
    to.entry(upstream.to_owned())
        .or_default()
        .insert(target.to_owned(), 1);
}
