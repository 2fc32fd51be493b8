//! The simulation: the decision code of coordinator and agents, run through hostile schedules in simulated time.
//!
//! What is real: `weir_coordinator::decide` (and with it parsing, planning and linting), the fleet and what it is shown as
//! (`standing`), the wire's conversions, and of the agents the whole activation with everything that it calls: `judge`,
//! `decide`, anchors, rendering, steps, fallbacks, pins and what their files say. What is simulated: time, links, disks,
//! control planes, Envoys and their requests, Git, and people. The loops around the decisions (what starts an activation,
//! when a session is tried again) are written here once more, with the same figures. TLS, gRPC, SQLite, libgit2 and Kuma
//! itself are not in it: other tests hold those.
//!
//! One seed is one life: a small federation is built, lives some minutes through faults and people, and then has a quiet
//! time in which all must come right. `world` moves time; `zone`, `link`, `agent`, `coordinator` and `human` are what lives
//! in it; `checks` holds the invariants, each by what the simulated Envoys and control planes really hold, never by what
//! anybody reports; `sabotage` lists the ways to break Weir on purpose; `story` tells what happened.

mod agent;
mod checks;
mod coordinator;
mod faults;
mod gateway;
mod human;
mod link;
pub mod sabotage;
mod story;
mod world;
mod zone;

use std::collections::BTreeMap;

pub use checks::{Invariant, Violation};

/// Simulated time, in milliseconds from the beginning of a life.
pub type Ms = u64;

/// SplitMix64: small, and the same on every machine. Every choice of a life is drawn from one.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which is above 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// An index below `n`, which is above 0.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap_or_default()
    }

    /// From `low` to below `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What became of one life.
#[derive(Debug, Clone)]
pub struct Life {
    /// Its seed.
    pub seed: u64,
    /// How often each invariant was checked, in their order.
    pub checks: [u64; Invariant::ALL.len()],
    /// Events that happened.
    pub events: u64,
    /// Activations of agents that ran.
    pub activations: u64,
    /// Plans that were made.
    pub plans: u64,
    /// Objects that agents wrote or removed.
    pub writes: u64,
    /// Pins that people made.
    pub pins: u64,
    /// Shares that went elsewhere.
    pub falls: u64,
    /// Drains that were answered as done.
    pub drains: u64,
    /// Turns of agents at gateways, writes to those, and doors that were told as exact.
    pub doors: [u64; 3],
    /// What did not hold, first.
    pub violation: Option<Violation>,
    /// What happened, as sentences; empty unless asked for.
    pub story: Vec<String>,
}

/// Lives one life. With `tell`, its story comes with it: it changes nothing of what happens.
pub fn live(seed: u64, tell: bool) -> Life {
    thread_local! {
        static CLOCK: Option<tokio::runtime::Runtime> = tokio::runtime::Builder::new_current_thread().enable_time().build().ok();
    }
    CLOCK.with(|clock| {
        // Who sets himself a limit can do so. Nobody drives this clock, so that none ever passes: what takes too long the world ends
        // itself, by its own time.
        let _in = clock.as_ref().map(tokio::runtime::Runtime::enter);
        world::World::new(seed, tell).live()
    })
}

/// What many lives came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Lives.
    pub seeds: u64,
    /// Those in which something did not hold.
    pub failed: u64,
    /// How often each invariant was checked.
    pub checks: BTreeMap<String, u64>,
    /// Events, activations, plans and writes of all lives.
    pub events: u64,
    /// Activations that ran.
    pub activations: u64,
    /// Plans that were made.
    pub plans: u64,
    /// Writes and removals.
    pub writes: u64,
    /// Pins that people made.
    pub pins: u64,
    /// Shares that went elsewhere.
    pub falls: u64,
    /// Drains that were answered as done.
    pub drains: u64,
    /// Turns of agents at gateways, writes to those, and doors that were told as exact.
    pub doors: [u64; 3],
    /// For each invariant that did not hold, the first seed.
    pub caught: BTreeMap<String, u64>,
}

impl Report {
    /// Adds one life.
    pub fn add(&mut self, life: &Life) {
        self.seeds += 1;
        self.events += life.events;
        self.activations += life.activations;
        self.plans += life.plans;
        self.writes += life.writes;
        self.pins += life.pins;
        self.falls += life.falls;
        self.drains += life.drains;
        for (sum, more) in self.doors.iter_mut().zip(life.doors) {
            *sum += more;
        }
        for (invariant, count) in Invariant::ALL.iter().zip(life.checks) {
            *self.checks.entry(invariant.to_string()).or_default() += count;
        }
        if let Some(violation) = &life.violation {
            self.failed += 1;
            self.caught
                .entry(violation.invariant.to_string())
                .or_insert(life.seed);
        }
    }

    /// Adds what others lived.
    pub fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.failed += other.failed;
        self.events += other.events;
        self.activations += other.activations;
        self.plans += other.plans;
        self.writes += other.writes;
        self.pins += other.pins;
        self.falls += other.falls;
        self.drains += other.drains;
        for (sum, more) in self.doors.iter_mut().zip(other.doors) {
            *sum += more;
        }
        for (invariant, count) in other.checks {
            *self.checks.entry(invariant).or_default() += count;
        }
        for (invariant, seed) in other.caught {
            let first = self.caught.entry(invariant).or_insert(seed);
            *first = seed.min(*first);
        }
    }
}
