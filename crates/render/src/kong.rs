//! A zone's doors in Kong's own terms, and back: the one document of a database-less Kong, and what a Kong says it runs.
//!
//! `targets` makes shares of weights; `fits` says what Kong's router can do; `entities` writes what is ours; `base` reads
//! what the site keeps itself, `dashed` what of that Kong does not find; `declared` puts all of that together before a merge;
//! `identity` tells what it keeps; `document` puts both together, and `together` sees that the mesh does not split the same again;
//! `counting` says how requests are counted; `expected` is what is to be read back, `health` reads it, `balancing` whether an
//! upstream goes by weights at all; `live` decides whether a Kong may be given a document. With a database: `database` has our
//! entities each by itself, `held` what is there, `beside` who takes the same requests there, `changes` orders the writes that lead
//! from what is there to them, `plugins` those by which requests are counted. Facts that are named by a number are those of the measured Kong 3.9.3.

pub mod balancing;
pub(crate) mod base;
pub mod beside;
pub mod changes;
mod choosing;
mod claims;
pub mod counting;
mod dashed;
pub mod database;
pub mod dead;
mod declared;
pub mod document;
pub mod entities;
pub mod expected;
pub mod fits;
pub mod health;
pub mod held;
pub(crate) mod identity;
pub mod ids;
pub mod live;
pub mod plugins;
pub mod targets;
pub mod together;

pub use balancing::{goes_round, keeps_shares};
pub use changes::{Held, Row, Write, changes};
pub use counting::{Counted, Counting};
pub use database::{Entities, counting_entities, entities};
pub use declared::{declared, declared_after};
pub use document::{
    AtDoor, Conflict, Document, Pinned, check, counting_document, document, nothing, split_twice,
};
pub use entities::PIN;
pub use expected::{Expected, Upstream};
pub use fits::fits;
pub use health::{Differs, shares, weights};
pub use identity::Kept;
pub use live::{AnyPin, Entity, Live, Pinning, comes, known, may_be_unpinned, may_post, may_write};
pub use plugins::{Plugins, plugins};
pub use targets::{Resolved, Target, Targets, targets};
