//! What a transition goes by besides the declaration: the zones as their agents tell of them.
//!
//! A trait and not a value, so that only what moves is looked up: a fleet of a hundred zones is not copied for one split.
//! Whoever implements it decides nothing; it answers from what it was told, and says when it does not know.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{BackendName, SplitName, ZoneName};

use crate::facts::{Counts, ProvenWeights};
use crate::plan::Item;

/// Whether a zone's agents can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Every agent of it was heard lately, and sees its control plane.
    Reachable,
    /// Some were, some were not: since when, in words.
    Partly(String),
    /// Not known yet, or its control plane cannot be read: why. It is waited for, and asked nothing that it cannot tell.
    Unsure(String),
    /// None was: since when, in words. Its zone keeps its last good plan (I6).
    Unreachable(String),
    /// No agent of it was ever heard: nothing of ours runs there, so nothing is waited for.
    Nobody,
}

/// Whether a zone runs an item, by the last that its agents said, however long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// Every agent of the zone read exactly this back.
    Proven {
        /// Since when that is known.
        since: Timestamp,
    },
    /// It does not, or nobody can tell; why.
    Not(String),
}

/// The zones, as their agents tell of them.
pub trait Senses {
    /// Whether the zone's agents can be reached.
    fn reach(&self, zone: &ZoneName) -> Reach;

    /// Whether the item's zone runs it.
    fn runs(&self, item: &Item) -> Runs;

    /// The same of those agents that were heard lately.
    fn runs_where_reached(&self, item: &Item) -> Runs;

    /// The backends of the item that are down in its zone while everything else of it runs: their shares are elsewhere by the
    /// item's own fallback, or a gateway of the zone takes them for unhealthy. Empty where it runs as it says, or does not run.
    fn fallen(&self, item: &Item) -> BTreeSet<BackendName>;

    /// Whether the item's zone, *by its own control plane*, resolves every backend that the item gives weight to
    /// (I3): by the word of every agent that was heard lately. `has` is what the zone was told before, as in
    /// [`crate::ready::backends_ready`].
    ///
    /// # Errors
    /// The first that it does not: what was found, and what to do.
    fn resolves(&self, item: &Item, has: Option<&Item>) -> Result<(), String>;

    /// Whether the item gives nobody more than `has`, which its zone was told before, whom a gateway of the zone takes for dead: by
    /// the word of every agent that was heard lately. What no gateway says keeps nobody.
    ///
    /// # Errors
    /// The first that it does: which gateway says so, why, and what to do.
    fn doors_ready(&self, item: &Item, has: Option<&Item>) -> Result<(), String>;

    /// Whether an agent of the item's zone that was heard lately says that it holds this very item: that it was not written there.
    fn holds(&self, item: &Item) -> bool;

    /// The weights that the item's zone was last read to run of its split, whatever it was told; none if that is not known.
    fn shares(&self, item: &Item) -> Option<ProvenWeights>;

    /// Counted traffic of a split, by whoever counted it, as `zone/agent`: no request is in two of them.
    fn counts(&self, split: &SplitName) -> BTreeMap<String, Counts>;

    /// The same as they stood when what the split's zones are told now was first proven there: of those by whom it was. How long
    /// answers took is in it of all that were given before that.
    fn counts_at_proof(&self, split: &SplitName) -> BTreeMap<String, Counts>;
}
