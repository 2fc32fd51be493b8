//! Ports that this process has given to anybody: what is free when it is asked for may be given away and not bound yet.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Takes a port; false if it was given away before.
pub(crate) fn take(port: u16) -> bool {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
}
