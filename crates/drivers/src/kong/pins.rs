//! What an agent knows of pins when it is about to write over what a gateway has: several agents of a zone may drive one gateway, and
//! what somebody pinned on the host of one of them is left alone by the others.
//!
//! A pin is known by its label, which is at what it is about: in the zone's control plane, and at Kong's targets. Whoever finds one
//! there that is not his own gives the split as it is pinned, if he has seen it in the control plane; else he leaves it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_render::kong::Pinning;

use crate::Clock;

/// A pin reaches gateways before its zone's control plane, and one that lost its store has it again, within so long.
const ON_ITS_WAY: Duration = Duration::from_secs(15);

/// Of labels that nobody saw for so long nothing is remembered.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);

/// What this process saw of pins at gateways.
#[derive(Debug, Clone, Default)]
pub struct Found(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    /// By label: when it was first found at a gateway.
    found: BTreeMap<String, Instant>,
    /// By node and label: since when the node is without what is pinned and wanted there.
    without: BTreeMap<(String, String), Instant>,
}

/// What was last seen of pins in the zone's control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// When the look began that showed `in_force`; none before the first.
    pub looked: Option<Instant>,
    /// Since when every look could read it; none if the last one could not.
    pub steady: Option<Instant>,
    /// Labels of pins that it showed and that are not of this host.
    pub in_force: BTreeSet<String>,
    /// When a label that it shows no more was last shown.
    pub last: BTreeMap<String, Instant>,
    /// Labels of this host's own pins, those that are over included, and of those that somebody ended here in the place of a host that is
    /// gone.
    pub own: BTreeSet<String>,
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub struct Pins {
    sight: Sight,
    found: Found,
    /// Hashes of documents that were posted with somebody else's pin in them: whoever runs one of them is looked at.
    followed: BTreeSet<String>,
    clock: Clock,
}

impl Default for Pins {
    fn default() -> Self {
        Self::new(Sight::default(), &Found::default(), BTreeSet::new(), Instant::now)
    }
}

impl Pins {
    /// By what was seen, with the hashes of the documents that this agent posted with somebody else's pin in them.
    pub fn new(sight: Sight, found: &Found, followed: BTreeSet<String>, clock: Clock) -> Self {
        Self {
            sight,
            found: found.clone(),
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

    /// The same at one node, or at one database.
    pub(crate) fn at<'a>(&'a self, node: &'a str) -> At<'a> {
        At { pins: self, node }
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.found.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of pins at one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pins: &'a Pins,
    node: &'a str,
}

impl Pinning for At<'_> {
    /// It is over if the control plane shows it no more for long enough, in looks that could all read it, since it was first found at a
    /// gateway.
    fn is_over(&self, label: &str) -> bool {
        let Pins { sight, clock, .. } = self.pins;
        if self.pins.is_own(label) {
            return true;
        }
        let (now, mut times) = (clock(), self.pins.times());
        times.found.retain(|_, at| now.duration_since(*at) < FORGOTTEN);
        let found = *times.found.entry(label.to_owned()).or_insert(now);
        let (Some(looked), Some(steady)) = (sight.looked, sight.steady) else {
            return false;
        };
        let last = sight.last.get(label).copied().unwrap_or(found);
        !sight.in_force.contains(label) && looked > found.max(steady).max(last) + ON_ITS_WAY
    }

    /// Somebody else's comes to a node that is without it if the control plane still shows it, looked at after that was found: who ends
    /// his own takes it away there first, and may have nobody to tell it to.
    fn may_come(&self, label: &str, there: bool) -> bool {
        let Pins { sight, clock, .. } = self.pins;
        if self.pins.is_own(label) {
            return true;
        }
        let (now, mut times) = (clock(), self.pins.times());
        let key = (self.node.to_owned(), label.to_owned());
        times.without.retain(|_, at| now.duration_since(*at) < FORGOTTEN);
        if there {
            times.without.remove(&key);
            return true;
        }
        let since = *times.without.entry(key).or_insert(now);
        sight.in_force.contains(label) && sight.looked.is_some_and(|looked| looked > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look of then, after looks that all succeeded for so many seconds.
    fn sight(looked: Option<Instant>, steady: u64, in_force: &[&str]) -> Sight {
        Sight {
            looked,
            steady: looked.and_then(|looked| looked.checked_sub(Duration::from_secs(steady))),
            in_force: in_force.iter().map(|label| (*label).to_owned()).collect(),
            last: BTreeMap::new(),
            own: BTreeSet::from(["own.1".to_owned()]),
        }
    }

    fn after(seconds: u64) -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn a_pin_is_over_when_looks_for_long_enough_do_not_show_it() {
        let found = Found::default();
        let over = |sight| {
            let pins = Pins::new(sight, &found, BTreeSet::new(), Instant::now);
            pins.at("kong").is_over("fra-1.7")
        };
        assert!(!over(sight(None, 0, &[])), "nobody looked yet");
        assert!(!over(sight(after(0), 100, &[])), "a look of before");
        assert!(!over(sight(after(14), 100, &[])), "it may be on its way");
        assert!(
            !over(sight(after(100), 14, &[])),
            "the control plane was away until then"
        );
        assert!(!over(sight(after(100), 100, &["fra-1.7"])), "it is there");
        assert!(over(sight(after(16), 100, &["fra-2.8"])), "it is not");
        let mut lost = sight(after(100), 100, &[]);
        lost.last.insert("fra-1.7".to_owned(), after(90).unwrap());
        assert!(!over(lost), "it was there a moment ago: a store may be lost");
        let own = Pins::new(sight(None, 0, &[]), &found, BTreeSet::new(), Instant::now);
        assert!(own.at("kong").is_over("own.1"), "whoever made it ends it");
    }

    #[test]
    fn a_pin_comes_where_it_is_or_where_a_later_look_still_shows_it() {
        let found = Found::default();
        let comes = |sight, there| {
            let pins = Pins::new(sight, &found, BTreeSet::new(), Instant::now);
            pins.at("kong").may_come("fra-1.7", there)
        };
        let before = after(0);
        assert!(comes(sight(before, 100, &["fra-1.7"]), true));
        assert!(
            !comes(sight(before, 100, &["fra-1.7"]), false),
            "it may just be ended"
        );
        assert!(comes(sight(after(1), 100, &["fra-1.7"]), false), "it is not");
        assert!(!comes(sight(after(1), 100, &[]), false), "it is");
    }
}
