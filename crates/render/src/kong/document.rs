//! The one document of a database-less Kong: the site's base to the last field, and our own entities beside it.

use std::collections::BTreeMap;
use std::fmt;

use weir_model::{Door, FederationName, RouteName, SplitName};
use weir_planner::{GatewayPlan, Generation, Item};

use crate::kong::targets::{Resolved, Targets};

/// A split at a gateway. The item's weights are those to be programmed: pins and fallbacks are in them.
#[derive(Debug, Clone, Copy)]
pub struct AtDoor<'a> {
    /// The item.
    pub item: &'a Item,
    /// Its door at the gateway.
    pub door: &'a Door,
}

/// Why there is no document: what cannot be together, or cannot be said to Kong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The split whose door it is about; none if it is about the base alone.
    pub split: Option<SplitName>,
    /// What is wrong, in words.
    pub what: String,
    /// What a person can do.
    pub help: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(split) = &self.split {
            write!(f, "split {split}: ")?;
        }
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// A document, ready to be posted. The same input gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Canonical JSON, to be sent as form field `config` to the byte.
    pub bytes: Vec<u8>,
    /// MD5 of the bytes, 32 hexadecimal digits: Kong's `configuration_hash` when it runs them (fact 3).
    pub hash: String,
    /// Whose entities of ours are in it.
    pub federation: FederationName,
    /// What is to be read back, by split: one for each door.
    pub doors: BTreeMap<SplitName, Expected>,
    /// Entities of the site that are in it.
    pub kept: crate::kong::live::Kept,
    /// What a person should know and that keeps nobody from posting.
    pub notes: Vec<String>,
}

/// What a Kong must run for one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The generation of the item.
    pub generation: Generation,
    /// By route. Empty where the mesh carries the weights: then the document's hash is all the proof that there is.
    pub upstreams: BTreeMap<RouteName, Upstream>,
}

/// An upstream of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in Kong: `weir.<split>.<route>`.
    pub name: String,
    /// Its targets.
    pub targets: Targets,
}

/// All conflicts that can be told without knowing any address, for whoever accepts a declaration or plans. Empty if there
/// are none. The second part are notes: what a person should know and that holds nothing.
pub fn check(
    federation: &FederationName,
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
) -> (Vec<Conflict>, Vec<String>) {
    let _ = (federation, gateway, doors);
    unimplemented!()
}

/// The document of a gateway. None if there is neither a base nor a door: an empty document is never sent.
///
/// # Errors
/// Every conflict, also those of addresses.
pub fn document(
    federation: &FederationName,
    gateway: &GatewayPlan,
    doors: &[AtDoor<'_>],
    resolved: &Resolved,
) -> Result<Option<Document>, Vec<Conflict>> {
    let _ = (federation, gateway, doors, resolved);
    unimplemented!()
}
