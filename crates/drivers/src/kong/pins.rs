//! What an agent knows of pins when it is about to write over what a gateway has: several agents of a zone may drive one gateway, and
//! what somebody pinned on the host of one of them is left alone by the others.
//!
//! A pin is known by its label, which is at what it is about: in the zone's control plane, and at Kong's targets. Whoever finds one
//! there that is not his own gives the split as it is pinned, if he has seen it in the control plane; else he leaves it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Clock;

/// A pin reaches gateways before its zone's control plane, and so long at most it is on its way there.
const ON_ITS_WAY: Duration = Duration::from_secs(15);

/// When labels were first seen at gateways, in this life.
#[derive(Debug, Clone, Default)]
pub struct FirstSeen(Arc<Mutex<BTreeMap<String, Instant>>>);

/// What was last seen of pins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// When the look at the zone's control plane began that showed `in_force`; none before the first.
    pub looked: Option<Instant>,
    /// Labels of pins that it showed and that are not of this host.
    pub in_force: BTreeSet<String>,
    /// Labels of this host's own pins, those that are over included, and of those that somebody ended here in the place of a host that is
    /// gone.
    pub own: BTreeSet<String>,
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub struct Pins {
    sight: Sight,
    first: FirstSeen,
    /// Hashes of documents that were posted with somebody else's pin in them: whoever runs one of them is looked at.
    followed: BTreeSet<String>,
    clock: Clock,
}

impl Default for Pins {
    fn default() -> Self {
        Self::new(
            Sight::default(),
            &FirstSeen::default(),
            BTreeSet::new(),
            Instant::now,
        )
    }
}

impl Pins {
    /// By what was seen, with the hashes of the documents that this agent posted with somebody else's pin in them.
    pub fn new(sight: Sight, first: &FirstSeen, followed: BTreeSet<String>, clock: Clock) -> Self {
        Self {
            sight,
            first: first.clone(),
            followed,
            clock,
        }
    }

    pub(crate) fn followed(&self) -> &BTreeSet<String> {
        &self.followed
    }

    /// Whether it is one of this host's own.
    pub fn is_own(&self, label: &str) -> bool {
        self.sight.own.contains(label)
    }

    /// Whether the pin of a label that is at a gateway is over, or this host's own: it is over if the control plane shows it no more,
    /// looked at long enough after that label was first seen at a gateway.
    pub fn is_over(&self, label: &str) -> bool {
        if self.is_own(label) {
            return true;
        }
        let mut first = self.first.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *first.entry(label.to_owned()).or_insert_with(self.clock);
        !self.sight.in_force.contains(label)
            && self
                .sight
                .looked
                .is_some_and(|looked| looked > since + ON_ITS_WAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(looked: Option<Instant>, in_force: &[&str]) -> Sight {
        Sight {
            looked,
            in_force: in_force.iter().map(|label| (*label).to_owned()).collect(),
            own: BTreeSet::from(["own.1".to_owned()]),
        }
    }

    #[test]
    fn a_pin_is_over_when_a_look_after_it_was_seen_does_not_show_it() {
        let first = FirstSeen::default();
        let pins = |sight| Pins::new(sight, &first, BTreeSet::new(), Instant::now);
        let long_ago = Instant::now();
        assert!(!pins(sight(None, &[])).is_over("fra-1.7"), "nobody looked yet");
        assert!(
            !pins(sight(Some(long_ago), &[])).is_over("fra-1.7"),
            "a look of before"
        );
        let soon = Instant::now() + ON_ITS_WAY;
        assert!(
            !pins(sight(Some(soon - Duration::from_secs(1)), &[])).is_over("fra-1.7"),
            "it may be on its way"
        );
        let later = soon + Duration::from_secs(1);
        assert!(
            !pins(sight(Some(later), &["fra-1.7"])).is_over("fra-1.7"),
            "it is there"
        );
        assert!(
            pins(sight(Some(later), &["fra-2.8"])).is_over("fra-1.7"),
            "it is not"
        );
        assert!(pins(sight(None, &[])).is_over("own.1"), "whoever made it ends it");
    }
}
