//! Whether to take a plan that is offered (I7), and what an agent remembers so that it can tell. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_model::{FederationName, SplitName, ZoneName, sabotaged};
use weir_planner::{Generation, Item, ZonePlan};
use weir_wire::{Offered, Term};

use crate::fallback::Fallbacks;
use crate::past::Past;
use crate::pin::Pins;

/// What outlives a restart, besides the plan itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The highest plan generation ever taken.
    pub highest: Generation,
    /// The highest term of a coordinator whose plan was ever taken, or held when it was offered.
    #[serde(default, skip_serializing_if = "Term::is_none")]
    pub term: Term,
    /// The item of each split that this zone's control plane last took from this agent: whole, so that it can be put back
    /// while a newer one is held.
    pub applied: BTreeMap<SplitName, Arc<Item>>,
    /// Of those, the ones that are of a pin, with its label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<SplitName, String>,
    /// The pins that were last good: they stay in force should their file be damaged.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
    /// Backends that are down, whose shares go elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallen: BTreeMap<SplitName, Fallbacks>,
    /// The weights that each split had here lately.
    #[serde(default, skip_serializing_if = "Past::is_empty")]
    pub past: Past,
}

impl Memory {
    /// What of it holds for an agent that starts, with this plan on its disk.
    #[must_use]
    pub fn at_start(mut self, plan: Option<&ZonePlan>, federation: &FederationName, zone: &ZoneName) -> Self {
        self.applied.retain(|_, item| item.zone == *zone);
        let applied = &self.applied;
        self.pinned.retain(|split, _| applied.contains_key(split));
        self.pins = match sabotaged("forget-pins") {
            true => Pins::default(),
            false => self.pins.within(federation, zone),
        };
        if let Some(plan) = plan {
            self.highest = self.highest.max(plan.generation);
        }
        self
    }

    /// Whether an item is of a pin while its split is pinned here: then none of its shares goes elsewhere. A pin that is held
    /// is not in force, and what is until then is driven as if there were none, as the zone's other agents drive it.
    pub fn is_pinned(&self, item: &Item) -> bool {
        let of_before = || self.pinned.contains_key(&item.split);
        let pinned = self.pins.of(&item.split);
        pinned.is_some_and(|pinned| pinned.item.digest == item.digest || of_before())
    }

    /// What was applied of a split, unless that is of a pin.
    pub fn own(&self, split: &SplitName) -> Option<&Arc<Item>> {
        let applied = self.applied.get(split);
        applied.filter(|_| !self.pinned.contains_key(split))
    }
}

/// What an offered plan is to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// The plan that it holds already.
    Held,
    /// A newer one: take it.
    Newer,
}

/// Why an offered plan is not taken. Whatever the reason, nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Another federation's, or another zone's.
    #[error("the plan is for zone {zone} of federation {federation}, not for this agent")]
    NotOurs {
        /// Its federation.
        federation: FederationName,
        /// Its zone.
        zone: ZoneName,
    },
    /// Older than what was taken before.
    #[error(
        "the plan's generation is {offered}, this agent took {highest} before: an older plan is never taken"
    )]
    Older {
        /// Of the plan.
        offered: Generation,
        /// Ever taken.
        highest: Generation,
    },
    /// Newer than what was taken, but of a coordinator that another one has come after.
    #[error(
        "plan {generation} is offered in term {offered}, and this agent has followed a coordinator of term {highest}: two \
         coordinators serve this federation, and the older one is not followed; stop the one that is not wanted, then \
         restart the other"
    )]
    OlderTerm {
        /// Of the plan.
        generation: Generation,
        /// Its term.
        offered: Term,
        /// Ever followed.
        highest: Term,
    },
    /// As new as what was taken, but another plan.
    #[error("the plan has the same generation as the one that is held, {0}, and is another plan")]
    Forked(Generation),
    /// One of its items is older than, or as new as and different from, what this zone has.
    #[error("the plan is newer, but its item for {split} has generation {offered}, and this zone has {has}")]
    Item {
        /// The split.
        split: SplitName,
        /// Generation in the plan.
        offered: Generation,
        /// Generation that the zone has.
        has: Generation,
    },
}

/// Judges a plan. That a plan which is held comes again, whoever offers it, changes nothing and is no news.
///
/// # Errors
/// Why it is not taken.
pub fn judge(
    federation: &FederationName,
    zone: &ZoneName,
    held: Option<&ZonePlan>,
    memory: &Memory,
    Offered { term, plan: offered }: &Offered,
) -> Result<Offer, NotTaken> {
    if offered.federation != *federation || offered.zone != *zone {
        return Err(NotTaken::NotOurs {
            federation: offered.federation.clone(),
            zone: offered.zone.clone(),
        });
    }
    if let Some(held) = held.filter(|held| held.generation == offered.generation) {
        return if held == offered {
            Ok(Offer::Held)
        } else {
            Err(NotTaken::Forked(offered.generation))
        };
    }
    // Without the plan that had the highest generation (its file was damaged), the same one may come again.
    if sabotaged("take-older") {
        return Ok(Offer::Newer);
    }
    if offered.generation < memory.highest || held.is_some_and(|held| offered.generation < held.generation) {
        return Err(NotTaken::Older {
            offered: offered.generation,
            highest: memory.highest.max(held.map_or(Generation(0), |h| h.generation)),
        });
    }
    // A coordinator of a version without terms is judged by generations alone: who goes back to such a version is followed.
    if !term.is_none() && *term < memory.term {
        return Err(NotTaken::OlderTerm {
            generation: offered.generation,
            offered: *term,
            highest: memory.term,
        });
    }
    for item in offered.items.values() {
        let before = held
            .and_then(|held| held.items.get(&item.split).map(|i| i.reference()))
            .into_iter()
            .chain(memory.own(&item.split).map(|was| was.reference()));
        for has in before {
            let older = item.generation < has.generation;
            let forked = item.generation == has.generation && item.digest != has.digest;
            if older || forked {
                return Err(NotTaken::Item {
                    split: item.split.clone(),
                    offered: item.generation,
                    has: has.generation,
                });
            }
        }
    }
    Ok(Offer::Newer)
}
