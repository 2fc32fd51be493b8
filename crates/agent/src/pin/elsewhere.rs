//! Pins of other hosts of the zone, as its control plane shows them: what they pinned is given at the gateways of this host too. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_drivers::Observed;
use weir_drivers::kong::pins::Sight;
use weir_model::{SplitName, sabotaged};
use weir_planner::{Item, ZonePlan};

use super::Pins;
use crate::decide::SPLIT;
use crate::take::Memory;

/// Pins that are shown no more are remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// A split that somebody pinned on another host.
#[derive(Debug, Clone, PartialEq)]
pub struct PinnedThere {
    /// The pin's label.
    pub label: String,
    /// The item as it is pinned; none if it was made of another one than those that this agent knows.
    pub item: Option<Arc<Item>>,
}

/// What a look at the control plane showed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shown {
    /// How old it was.
    pub age: Duration,
    /// By split.
    pub pinned: BTreeMap<SplitName, PinnedThere>,
}

/// What is known of it, from look to look.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Elsewhere {
    /// When the last look began that could read the control plane; none before the first.
    pub looked: Option<Instant>,
    /// Since when every look could; none if the last one could not.
    pub steady: Option<Instant>,
    /// By split.
    pub pinned: BTreeMap<SplitName, PinnedThere>,
    /// When labels that are shown no more were last shown.
    pub last: BTreeMap<String, Instant>,
}

/// What the control plane shows of pins that are not of this host.
pub fn shown(plan: &ZonePlan, memory: &Memory, observed: &Observed) -> Shown {
    let live = observed.ours.iter().map(|(object, _)| object);
    let pinned = live.filter_map(|object| {
        let label = memory
            .pins
            .foreign(object)
            .filter(|_| !sabotaged("post-over-pins"))?;
        let split = SplitName::new(object.labels.get(SPLIT)?.as_str()).ok()?;
        // It was made of what was in force there, which is in force here too.
        let known = [memory.applied.get(&split), plan.items.get(&split)];
        let mut known = known.into_iter().flatten();
        let item = known.find_map(|item| weir_render::as_pinned(item, object));
        let pinned = PinnedThere {
            label: label.to_owned(),
            item: item.map(Arc::new),
        };
        Some((split, pinned))
    });
    Shown {
        age: observed.age,
        pinned: pinned.collect(),
    }
}

impl Elsewhere {
    /// A look that began then showed this.
    pub fn was_shown(&mut self, began: Instant, shown: Shown) {
        let at = began.checked_sub(shown.age).unwrap_or(began);
        let before = self.looked.unwrap_or(at);
        let labels = self.pinned.values().map(|there| (there.label.clone(), before));
        self.last.extend(labels);
        self.last.retain(|_, last| at.duration_since(*last) < REMEMBERED);
        self.steady.get_or_insert(at);
        self.looked = Some(at);
        self.pinned = shown.pinned;
    }

    /// A look could not read it: what it shows by now is not known.
    pub fn was_not_shown(&mut self) {
        self.steady = None;
    }

    /// What is seen of pins by whoever has these of his own.
    pub fn sight(&self, pins: &Pins) -> Sight {
        let in_force: BTreeSet<String> = self.pinned.values().map(|there| there.label.clone()).collect();
        let own: BTreeSet<String> = pins.labels().cloned().collect();
        Sight {
            looked: self.looked,
            steady: self.steady,
            last: self.last.clone(),
            in_force: in_force.difference(&own).cloned().collect(),
            own,
        }
    }
}
