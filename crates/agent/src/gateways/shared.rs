//! What the gateways of one agent share: what is remembered, and how each of them stands.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use weir_drivers::kong::pins::Found;
use weir_model::GatewayName;

use super::told::Part;
use super::{Memory, Resting, Told};

/// What the gateways of one agent share.
#[derive(Debug)]
pub struct Shared(Mutex<All>);

impl Shared {
    /// What an agent begins with.
    pub fn new(memory: Memory) -> Self {
        Self(Mutex::new(All {
            memory,
            on_disk: None,
            parts: BTreeMap::new(),
            resting: BTreeMap::new(),
            looked_up: None,
            pins: Found::default(),
        }))
    }

    /// How all of its gateways stand that were looked at.
    pub fn told(&self) -> Told {
        Told::of(&lock(self).parts)
    }
}

#[derive(Debug)]
pub(super) struct All {
    pub(super) memory: Memory,
    /// The memory as it is on disk.
    pub(super) on_disk: Option<Memory>,
    pub(super) parts: BTreeMap<GatewayName, Part>,
    /// Nodes that are left alone.
    pub(super) resting: BTreeMap<GatewayName, Resting>,
    /// When names were last looked up.
    pub(super) looked_up: Option<Instant>,
    /// What was found of pins.
    pub(super) pins: Found,
}

pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, All> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}
