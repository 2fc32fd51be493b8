//! What is remembered of gateways over a restart: what was posted, and the addresses that names had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_model::{GatewayName, SplitName};
use weir_planner::{GatewayPlan, Item};
use weir_render::kong::Resolved;

use super::Decided;

/// So many hashes are kept for each gateway: more than steps lie between two looks of any agent.
const HASHES: usize = 32;

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What was posted, by gateway.
    pub posted: BTreeMap<GatewayName, Posted>,
    /// The last good addresses of names.
    pub resolved: Resolved,
}

/// What this agent gave to a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    /// Hashes of documents that were posted, or were about to be, the newest last: a Kong that runs one of them runs nothing
    /// of anybody else.
    pub hashes: Vec<String>,
    /// What of each split was in the last one that a node took: it stays in force should a newer one not be possible.
    pub items: BTreeMap<SplitName, Arc<Item>>,
    /// Of those, the ones of which somebody had pinned the weights, with the pin's label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<SplitName, String>,
    /// Hashes of those documents in which something is as it was pinned on another host: what runs one of them is not this agent's
    /// alone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub followed: BTreeSet<String>,
    /// What went ahead of the mesh, or was newer than anything before, and was about to be brought, and of which nobody heard yet
    /// whether a node took it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coming: BTreeMap<SplitName, Arc<Item>>,
    /// The gateway itself, its base included, as it was in that one.
    #[serde(default)]
    pub base: Option<Arc<GatewayPlan>>,
    /// The gateway itself as it was in the first one, for whoever never heard what became of that: nothing to go back to, but it
    /// says whether a site has a base of its own there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Arc<GatewayPlan>>,
}

impl Posted {
    /// The newest that a node was given of a split, or may have been.
    pub fn newest(&self, split: &SplitName) -> Option<&Arc<Item>> {
        let given = [self.coming.get(split), self.items.get(split)];
        given.into_iter().flatten().max_by_key(|item| item.generation)
    }

    /// Whose hashes are this agent's own.
    pub fn own(&self) -> BTreeSet<String> {
        self.hashes.iter().cloned().collect()
    }

    /// A document is about to be posted in which something is as it was pinned on another host.
    pub fn may_be_followed(&mut self, hash: &str) {
        self.followed.insert(hash.to_owned());
        self.may_be(hash);
        let Self { followed, hashes, .. } = self;
        followed.retain(|hash| hashes.contains(hash));
    }

    /// A document is about to be posted.
    pub fn may_be(&mut self, hash: &str) {
        if self.hashes.last().is_some_and(|last| last == hash) {
            return;
        }
        self.hashes.retain(|known| known != hash);
        self.hashes.push(hash.to_owned());
        let over = self.hashes.len().saturating_sub(HASHES);
        self.hashes.drain(..over);
    }

    /// What is decided is about to be posted: what is newer of it than anything that was given before may be there from then on.
    pub fn may_carry(&mut self, of: &Decided) {
        for (split, item) in &of.items {
            // What is pinned may be of any generation, and is there for as long as it is pinned.
            let newer = || {
                let given = self.newest(split);
                given.is_none_or(|given| given.generation < item.generation)
            };
            if !of.pins.contains_key(split) && newer() {
                self.coming.insert(split.clone(), Arc::clone(item));
            }
        }
    }

    /// Every node that can be asked runs it.
    pub fn is(&mut self, hash: &str, of: &Decided, base: &Arc<GatewayPlan>) {
        self.may_be(hash);
        self.items.clone_from(&of.items);
        self.pins.clone_from(&of.pins);
        self.coming.clear();
        self.base = Some(Arc::clone(base));
        self.first = None;
    }
}
