//! The database that several Kong nodes stand on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::store::Entities;

/// A database: give it to each node that stands on it.
#[derive(Debug, Clone, Default)]
pub struct Database(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
pub(super) struct Held {
    /// What is in it.
    pub(super) entities: Entities,
    /// Rises with each write.
    pub(super) version: u64,
    /// The version in which a target of an upstream was last written, by the upstream's id.
    pub(super) told: BTreeMap<String, u64>,
    /// Nobody reaches it.
    unreachable: bool,
}

impl Database {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets no node reach it, or lets them again. Nodes go on with what they know.
    pub fn set_reachable(&self, reachable: bool) {
        self.held().unreachable = !reachable;
    }

    /// Whether nodes reach it.
    pub(super) fn is_reachable(&self) -> bool {
        !self.held().unreachable
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
