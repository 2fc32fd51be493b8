//! Nodes that failed, each left alone by itself: nothing is asked of it before its time, and the other nodes of its gateway are
//! looked at as always. Pure: the time comes in as a value.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use weir_drivers::DriverError;
use weir_drivers::kong::Brought;

use super::pace::{ASKED, FAILING};

/// The nodes of one gateway that are left alone.
#[derive(Debug, Default)]
pub(super) struct Resting {
    wants: String,
    nodes: BTreeMap<String, Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    /// Failures one after the other.
    failures: u32,
    /// What became of it last.
    error: DriverError,
}

impl Resting {
    /// What is wanted there, as a text. Something else is given to every node at once: it may be a revert.
    pub(super) fn wanted(&mut self, wants: String) {
        if self.wants != wants {
            *self = Self {
                wants,
                nodes: BTreeMap::new(),
            };
        }
    }

    /// Those that are left alone now, and what became of them last.
    pub(super) fn now(&self, now: Instant) -> BTreeMap<String, DriverError> {
        let nodes = self.nodes.iter().filter(|(_, rest)| now < rest.until);
        nodes
            .map(|(node, rest)| (node.clone(), rest.error.clone()))
            .collect()
    }

    /// What became of all but those that were left alone. One that fails rests as long as it asks, and less and less shortly where
    /// it does not ask.
    pub(super) fn note(
        &mut self,
        brought: &BTreeMap<String, Brought>,
        left: &BTreeMap<String, DriverError>,
        now: Instant,
    ) {
        for (node, became) in brought.iter().filter(|(node, _)| !left.contains_key(*node)) {
            let Brought::Failed(error) = became else {
                self.nodes.remove(node);
                continue;
            };
            let before = self.nodes.get(node).map_or(0, |rest| rest.failures);
            let asked = error.again.unwrap_or_default().min(ASKED);
            let rest = Rest {
                until: now + FAILING.ceiling(before).max(asked),
                failures: before.saturating_add(1),
                error: error.clone(),
            };
            self.nodes.insert(node.clone(), rest);
        }
    }

    /// How long until the first of them may be asked again.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let until = self.nodes.values().map(|rest| rest.until).min()?;
        Some(until.saturating_duration_since(now))
    }
}
