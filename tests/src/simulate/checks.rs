//! The invariants I1 to I11, as code of their own. Each is checked by what simulated control planes and Envoys really hold
//! and by this module's own record of what was declared, accepted and planned; nothing that Weir reports is believed, but
//! where the invariant is about what it reports. `record` keeps that record.
//!
//! *Anytime* checks run at every write, at every change in an Envoy, at every plan that is taken and whatever is shown;
//! *eventually* checks run once a second, and at the end of the quiet time.

mod anytime;
mod doors;
mod drained;
mod elsewhere;
mod eventually;
mod gates;
mod in_step;
mod pinned;
mod record;
mod stepping;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use weir_model::CommitId;
use weir_planner::Item;

use super::Ms;
use super::human::Declared;
use super::world::{SPLITS, ZONES};
use super::zone::{Key, Place, Shares};

/// For so long connections stay on replaced routes (`kuma.md` R9).
const DRAIN: Ms = 30_000;
/// A revert is in force so long after everything that it needs works: an agent may wait 20 s before it calls again.
const FAST: Ms = 50_000;
/// Silence of an agent after which nothing of its zone is converged any more.
const SILENCE: i128 = 15_000;
/// What is shown as converged was true within this time: the silence that is allowed, the longest look, and the longest
/// that a message is on its way before its session ends.
const FRESH: Ms = 15_000 + 30_000 + 30_000;

/// One of the invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Provenance.
    I1,
    /// Exactness.
    I2,
    /// Ready before weight.
    I3,
    /// Drain before break.
    I4,
    /// In step.
    I5,
    /// Fail static.
    I6,
    /// Monotone.
    I7,
    /// Revert wins.
    I8,
    /// Honest status.
    I9,
    /// Only ours.
    I10,
    /// Convergence.
    I11,
}

impl Invariant {
    /// All, in their order.
    pub const ALL: [Self; 11] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// When.
    pub at: Ms,
    /// What was found.
    pub what: String,
}

/// What was so since when.
type History = Vec<(Ms, Option<Shares>)>;
/// Where a shift began, by zone; and the items of each of its steps: bite, zone, item, and what that gives.
type Way = (BTreeMap<Place, String>, Vec<(u32, Place, Version)>);

/// A revert that is to be in force soon.
#[derive(Debug)]
struct Revert {
    /// The commit that takes the last one back; none for an abort.
    commit: Option<CommitId>,
    /// Since when all that it needs works, by zone.
    good: Vec<Option<Ms>>,
    /// Zones in which it was seen to be in force.
    done: Vec<bool>,
    /// The same at gateways.
    good_at_gates: Vec<Option<Ms>>,
    done_at_gates: Vec<bool>,
    /// The splits that it changes, with what they are to run then.
    splits: BTreeMap<usize, Declared>,
}

/// A place that a split takes on its way: what may run beside it in other zones (I5).
#[derive(Debug, Clone)]
struct Position {
    /// By zone: the items of this bite, and those of the one before it.
    beside: BTreeMap<Place, Vec<Version>>,
    /// By zone: the shares from which it set out.
    from: BTreeMap<Place, Shares>,
    /// By zone: the shares that the plan before told it.
    told: BTreeMap<Place, Shares>,
}

/// A pin that somebody made.
#[derive(Debug, Clone)]
pub(crate) struct PinNote {
    label: String,
    item: Arc<Item>,
    since: Ms,
}

/// A drain that was answered as done.
#[derive(Debug, Clone)]
struct DrainNote {
    since: Ms,
    /// By zone: when all its Envoys were first seen to give him nothing by a plan that tells nothing of him anywhere, and its
    /// item's generation.
    proven: Vec<Option<(Ms, u64)>>,
}

/// By route and place: the most that it was given.
type Most = BTreeMap<(usize, Place), u32>;

/// Whose share goes where.
type Away = BTreeMap<Place, Place>;

/// How often a share went away with nothing in between that could have moved it, and when last.
#[derive(Debug, Clone, Copy)]
struct Gone {
    last: Ms,
    times: u32,
}

/// What a control plane took or is to take of a policy: its item, and what that gives to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Version {
    digest: String,
    routes: Shares,
}

/// The record by which is judged.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) counts: [u64; Invariant::ALL.len()],
    pub(crate) violation: Option<Violation>,
    /// Every item of every plan that was recorded, by zone, first half of its digest, and generation.
    planned: BTreeMap<(Place, String, u64), Vec<Arc<Item>>>,
    /// Every plan that was recorded: its generation, and the policies that each zone has by it.
    plans: BTreeMap<u64, Vec<BTreeSet<(Place, Key)>>>,
    accepted: BTreeSet<CommitId>,
    /// What agents of a zone were given.
    delivered: BTreeSet<(Place, String, u64)>,
    /// What a zone's control plane took last and before that.
    last: BTreeMap<(Place, Key), [Version; 2]>,
    /// The most that an item gave each backend of each route in a zone: so much it may give again.
    gave: BTreeMap<(Place, Key, String), Most>,
    /// What one agent wrote, or saw to be in force. An agent whose zone another one drives further puts back what itself
    /// had last.
    had: BTreeSet<(usize, Key, String)>,
    /// What was removed, by which plan and when, where something of ours stayed.
    removed: BTreeMap<(Place, Key), (u64, Ms)>,
    /// For each planned item, the one before it and when it was planned.
    before: BTreeMap<(Place, String, u64), (String, Ms)>,
    /// What all Envoys of a zone ran of a policy, since when.
    truth: BTreeMap<(Place, Key), History>,
    revert: Option<Revert>,
    /// A ledger was lost: who told whom what on the way is not known any more, and nobody promises I5 after it.
    pub(crate) history_lost: bool,
    /// The newest plan of a ledger that was lost. What plans up to it gave, took away or removed may be known to nobody who
    /// makes the next: nobody promises I4 and I7 against them until they are followed.
    pub(crate) lost_plans: u64,
    /// Items of which no ledger knows any more: they were planned after the copy was made that is the ledger now. Agents hold to
    /// them until they are told anew, whatever was ordered and ended meanwhile.
    lost: BTreeSet<(Place, String, u64)>,
    /// By split and generation, for steps of a shift.
    positions: BTreeMap<(String, u64), Position>,
    /// By split: where the shift that is under way began, and the items of each of its steps with their bite.
    legs: BTreeMap<String, Way>,
    /// Items of a split that was under way: their weights need not be the declared ones.
    steps: BTreeSet<(Place, String, u64)>,
    /// What each split ran in each zone when it last rested.
    rested: BTreeMap<String, BTreeMap<Place, Shares>>,
    /// Policies of strangers, as those wrote them.
    pub(crate) strangers: BTreeMap<(Place, Key), serde_json::Value>,
    /// Policies that somebody wrote over.
    pub(crate) tampered: BTreeSet<(Place, Key)>,
    /// The pins in force, by agent and split.
    pub(crate) pins: BTreeMap<(usize, usize), PinNote>,
    /// Pins that were ended, by the agent to which that was said.
    pub(crate) ended: BTreeMap<(usize, usize, String), Ms>,
    /// When a policy was last written as pinned.
    pinned_at: BTreeMap<(Place, Key), Ms>,
    /// Whose shares are elsewhere by the policies that agents wrote, and since when it is so.
    away: BTreeMap<(Place, Key), (Away, Ms)>,
    /// By what drains the legs of a split went where they go: by its name, and what callers see there.
    by: BTreeMap<(String, String), drained::Drains>,
    /// The same of the legs that the copy of the ledger knows of.
    by_in_copy: BTreeMap<(String, String), drained::Drains>,
    /// The drains in force, by split and backend.
    drains: BTreeMap<(usize, Place), DrainNote>,
    /// Backends that answered slowly, until when.
    pub(crate) slow: BTreeMap<(usize, Place), Option<Ms>>,
    /// When each split took its last step.
    stepped: BTreeMap<String, Ms>,
    /// Steps that were taken back for slow answers.
    pub(crate) blamed: u64,
    /// Pins that people made, shares that went elsewhere, and drains that were done.
    pub(crate) pinned: u64,
    pub(crate) fallen: u64,
    pub(crate) drained: u64,
    /// By zone, split and backend.
    gone: BTreeMap<(Place, usize, Place), Gone>,
}

impl Checks {
    fn hold(&mut self, invariant: Invariant, at: Ms, holds: bool, what: impl FnOnce() -> String) {
        self.counts[invariant as usize] += 1;
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation {
                invariant,
                at,
                what: what(),
            });
        }
    }

    /// A policy is gone by somebody's hand, and with it what it told of removals.
    pub(crate) fn word_lost(&mut self, zone: Place) {
        self.removed.retain(|(of, _), _| *of != zone);
    }

    /// The ledger was copied.
    pub(crate) fn ledger_copied(&mut self) {
        self.by_in_copy.clone_from(&self.by);
    }

    /// The ledger is its copy again: a leg that is under way by it goes where it went, by the drains of then, whatever led to the
    /// same place later.
    pub(crate) fn ledger_restored(&mut self) {
        self.by.clone_from(&self.by_in_copy);
    }

    pub(crate) fn store_lost(&mut self, zone: Place) {
        self.removed.retain(|(of, _), _| *of != zone);
        self.tampered.retain(|(of, _)| *of != zone);
    }
}

/// The routes that an item asks for, zeros included.
fn asked(item: &Item) -> Shares {
    let place = |backend: &weir_model::BackendName| {
        let to = item.destinations.get(backend)?;
        ZONES.iter().position(|name| *name == to.kuma_zone.as_str())
    };
    let route = |route: &weir_planner::ItemRoute| {
        let shares = route.weights.iter();
        shares
            .filter_map(|(backend, weight)| Some((place(backend)?, weight.get())))
            .collect()
    };
    item.routes.iter().map(route).collect()
}

fn of_split(split: &str) -> usize {
    SPLITS
        .iter()
        .position(|name| *name == split)
        .unwrap_or(SPLITS.len())
}
