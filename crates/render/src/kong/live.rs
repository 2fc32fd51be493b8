//! What a Kong runs now, and whether a document may take its place (I7, I10).

use std::collections::{BTreeMap, BTreeSet};

use weir_planner::Generation;

use crate::kong::document::Document;

/// `configuration_hash` of a Kong that has no configuration.
pub const EMPTY_HASH: &str = "00000000000000000000000000000000";

/// What one node of a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its version: `3.9.3`.
    pub version: String,
    /// `off`, or the database that it has.
    pub database: String,
    /// `traditional`, or its part in a hybrid deployment.
    pub role: String,
    /// How it orders routes.
    pub router: String,
    /// How many workers it has.
    pub workers: usize,
    /// `configuration_hash`; zeros if it has no configuration. None with a database.
    pub hash: Option<String>,
    /// Why it is not ready to serve, as it says itself; none if it is ready, or nobody can be asked.
    pub unready: Option<String>,
    /// An entity of an ingress controller, which owns this Kong then; none if there is none.
    pub controller: Option<String>,
    /// All entities; none if they were not read, because the hash says what they are.
    pub entities: Option<Vec<Entity>>,
}

/// One entity that a Kong has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity {
    /// `services`, `routes`, ...
    pub kind: String,
    /// What it is told by besides its id: its name where it has one, else what makes it what it is.
    pub name: Option<String>,
    /// Its id.
    pub id: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
}

/// Entities of the site that are in a document: by kind, ids and names.
pub type Kept = BTreeMap<String, BTreeSet<String>>;

/// Whether a document may take the place of what a node runs. `plan` is the generation of the whole plan that the document
/// was made from, `posted` the hashes of what this agent itself posted to that node.
///
/// # Errors
/// Why not, in words: the node keeps what it has.
pub fn may_post(
    live: &Live,
    document: &Document,
    plan: Generation,
    posted: &BTreeSet<String>,
) -> Result<(), String> {
    let _ = (live, document, plan, posted);
    unimplemented!()
}
