//! Weights as targets: whole numbers whose sums are the declared shares to the last one, however many addresses there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir_model::{BackendName, RouteName};

use crate::kong::document::AtDoor;

/// The addresses of DNS names, as the agent found them out.
pub type Resolved = BTreeMap<String, BTreeSet<IpAddr>>;

/// Targets by address. Never a name: one with several addresses multiplies its weight, and an SRV record overrides it
/// (facts 6 and 7).
pub type Targets = BTreeMap<SocketAddr, Target>;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose it is.
    pub backend: BackendName,
    /// Its weight in Kong's ring.
    pub weight: u16,
}

/// The targets of one route at a door, with the weights of its item.
///
/// # Errors
/// Why there are none, in words: a weighted backend without an address (I3), one address of two backends, shares that need
/// numbers or a ring beyond what Kong takes.
pub fn targets(at: &AtDoor<'_>, resolved: &Resolved, route: &RouteName) -> Result<Targets, String> {
    let _ = (at, resolved, route);
    unimplemented!()
}
