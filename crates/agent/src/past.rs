//! The weights that each split had here lately, for whoever has to go back to one of them with coordinator and Git gone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_model::{RouteName, SplitName};
use weir_planner::{Generation, Item};

use crate::pin::{Weights, shares};

/// So many are kept of each split: each bite of a transition is one, and a revert goes back to where it began.
const KEPT: usize = 128;

/// Weights that were in force once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// Of the item that brought them.
    pub generation: Generation,
    /// When this zone's control plane took it from this agent.
    pub at: Timestamp,
    /// By route.
    pub weights: BTreeMap<RouteName, Weights>,
}

/// By split, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Past(BTreeMap<SplitName, Vec<Once>>);

impl Past {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An item was applied. What gives the same weights as the last one is no news.
    pub fn note(&mut self, item: &Item, at: Timestamp) {
        let weights = item.weights();
        let all = self.0.entry(item.split.clone()).or_default();
        if all.last().is_some_and(|last| last.weights == weights) {
            return;
        }
        all.push(Once {
            generation: item.generation,
            at,
            weights,
        });
        let over = all.len().saturating_sub(KEPT);
        all.drain(..over);
    }

    /// Whether a split had the weights of this item, as far as is kept.
    pub fn had(&self, item: &Item) -> bool {
        let weights = item.weights();
        self.of(&item.split).iter().any(|once| once.weights == weights)
    }

    /// Whether a split had the weights of this item before the item came, as far as is kept.
    pub fn had_before(&self, item: &Item) -> bool {
        let weights = item.weights();
        let mut before = self.of(&item.split).iter();
        before.any(|once| once.generation < item.generation && once.weights == weights)
    }

    /// Forgets splits that are no more.
    pub fn retain(&mut self, is: impl Fn(&SplitName) -> bool) {
        self.0.retain(|split, _| is(split));
    }

    /// All of a split, the oldest first.
    pub fn of(&self, split: &SplitName) -> &[Once] {
        self.0.get(split).map_or(&[], Vec::as_slice)
    }

    /// What was in force when the plan had this generation; none if that was longer ago than is kept.
    pub fn at(&self, split: &SplitName, generation: Generation) -> Option<&Once> {
        let all = self.of(split);
        all.iter().rev().find(|once| once.generation <= generation)
    }

    /// For people, the newest sixteen, the newest first: `14 (vm 95 %, eks 5 %), 12 (vm 100 %)`.
    pub fn told(&self, split: &SplitName) -> String {
        let all: Vec<String> = self.of(split).iter().rev().take(16).map(Once::told).collect();
        match all.is_empty() {
            true => "none".to_owned(),
            false => all.join(", "),
        }
    }
}

impl Once {
    fn told(&self) -> String {
        let several = self.weights.len() > 1;
        let routes: Vec<String> = self
            .weights
            .iter()
            .map(|(route, weights)| match several {
                true => format!("{route}: {}", shares(weights)),
                false => shares(weights),
            })
            .collect();
        format!("{} ({})", self.generation, routes.join("; "))
    }
}
