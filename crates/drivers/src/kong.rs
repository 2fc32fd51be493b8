//! Gateways: Kong without a database and with one, through its Admin API.
//!
//! `admin` speaks to one node; `refusal` gives meaning to what it refuses; `observe` reads what it runs, `proof` what it
//! gives to whom; `dbless` is the driver of the one document, `db` that of entities in a database, `gateway` both of them for
//! whoever learns the channel from a plan. No retry: the next activation is the retry.

pub mod admin;
pub mod db;
pub mod dbless;
pub mod gateway;
mod observe;
mod proof;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use weir_model::SplitName;
use weir_planner::{Generation, Proof};
use weir_render::kong::{Document, Live, may_post};

use crate::DriverError;

pub use admin::{Admin, AdminConfig, Secret};
pub use db::KongDb;
pub use dbless::{KongDbless, KongDblessConfig};
pub use gateway::{Became, Configuration, Kong};

/// What became of a document at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It was loaded.
    Loaded,
    /// The node had it already.
    Unchanged,
}

/// A gateway without a database: one or more nodes, each of which is given the whole document.
pub trait GatewayDriver: Send + Sync {
    /// The nodes by the address of their Admin API, in the order in which they are configured. Never empty.
    fn nodes(&self) -> Vec<String>;
    /// What one node runs. Its entities are read only if its hash is none of `known` (those of the wanted document, and of what
    /// this agent posted).
    fn observe<'a>(
        &'a self,
        node: &'a str,
        known: &'a BTreeSet<String>,
    ) -> BoxFuture<'a, Result<Live, DriverError>>;
    /// Gives one node the document. Only after [`may_post`] of what was observed just before.
    fn post<'a>(
        &'a self,
        node: &'a str,
        document: &'a Document,
    ) -> BoxFuture<'a, Result<Posted, DriverError>>;
    /// Reads back what all nodes run, one proof for each door of the document. Never fails: not knowing is a proof with
    /// verdict unknown. `Exact` only if every node runs this very document, is ready, and every worker that answered gives
    /// each target its weight.
    fn prove<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, BTreeMap<SplitName, Proof>>;
}

/// What became of one node when it was brought to a document.
#[derive(Debug, Clone)]
pub enum Brought {
    /// It ran the document already.
    There,
    /// It was given the document.
    Posted,
    /// It was left alone, for a reason in words (I7, I10).
    Held(String),
    /// It could not be asked, or refused.
    Failed(DriverError),
}

/// Brings each node to the document: looks, decides, posts. `plan` is the generation of the whole plan, `posted` the hashes
/// that this agent posted before to any node of the gateway; whoever keeps them adds the document's if any node was posted to.
/// `absent` are splits that belong there and that the document is without: a node which has one of them is left alone, for
/// requests come by it.
pub async fn bring(
    driver: &dyn GatewayDriver,
    document: &Document,
    plan: Generation,
    posted: &BTreeSet<String>,
    absent: &BTreeSet<SplitName>,
) -> BTreeMap<String, Brought> {
    let mut known = match absent.is_empty() {
        true => posted.clone(),
        // Then it is looked at whatever it runs.
        false => BTreeSet::new(),
    };
    known.insert(document.hash.clone());
    let mut brought = BTreeMap::new();
    for node in driver.nodes() {
        let became = match driver.observe(&node, &known).await {
            Err(error) => Brought::Failed(error),
            Ok(live) if live.hash.as_ref() == Some(&document.hash) => Brought::There,
            Ok(live) => match without(&live, absent).and_then(|()| may_post(&live, document, plan, posted)) {
                Err(why) => Brought::Held(why),
                Ok(()) => match driver.post(&node, document).await {
                    Ok(_) => Brought::Posted,
                    Err(error) => Brought::Failed(error),
                },
            },
        };
        brought.insert(node, became);
    }
    brought
}

/// Whether a node has none of these splits.
fn without(live: &Live, absent: &BTreeSet<SplitName>) -> Result<(), String> {
    let tags = live.entities.iter().flatten().flat_map(|entity| &entity.tags);
    let has = |split: &&SplitName| {
        let tag = format!("weir.split.{split}");
        tags.clone().any(|is| *is == tag)
    };
    match absent.iter().find(has) {
        None => Ok(()),
        Some(split) => Err(format!(
            "this Kong has split {split}, which belongs there and is not in force in this agent's zone yet, or cannot be said \
             to Kong now: nothing is posted that is without it"
        )),
    }
}
