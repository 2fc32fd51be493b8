//! Gateways: Kong without a database and with one, through its Admin API.
//!
//! `admin` speaks to one node, `over_http` carries what is said; `refusal` gives meaning to what it refuses; `observe` reads what it runs, `proof` what it
//! gives to whom, `dead` whom it takes for dead, `behind` who has what is wanted and does not run it; `dbless` is the driver of the one document, `db` that of entities in a database (`counting`: of plugins in it), `gateway` both of them for
//! whoever learns the channel from a plan; `pins` who may write over what somebody pinned. No retry: the next activation is the retry.

pub mod admin;
mod behind;
mod counting;
pub mod db;
pub mod dbless;
mod dead;
pub mod gateway;
pub mod kic;
mod observe;
mod over_http;
pub mod pins;
mod proof;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;
use weir_model::{SplitName, sabotaged};
use weir_planner::{Generation, Proof};
use weir_render::kong::{Document, Entity, Live, may_post};

use crate::DriverError;

pub use admin::{Admin, AdminConfig, Answer, Carry, Listener, Question, Secret};
pub use db::{Became, KongDb};
pub use dbless::KongDbless;
pub use gateway::{Kong, KongConfig};
pub use kic::{KongCluster, KongKic};
pub use pins::Pins;
pub use refusal::Failure;

/// What became of a document at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It was loaded.
    Loaded,
    /// The node had it already.
    Unchanged,
}

/// Why a document was not loaded.
#[derive(Debug, Clone)]
pub struct Unposted {
    /// In words.
    pub error: DriverError,
    /// What Kong does not accept of it; none if it said nothing of the document.
    pub refused: Option<Refused>,
}

/// What Kong does not accept of a document. It runs on with what it had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    /// Splits whose entities it names.
    pub splits: BTreeSet<SplitName>,
    /// Whether it names something that is not ours.
    pub base: bool,
    /// Whether it names what requests are counted by. None of all: it does not say what it is about.
    pub counting: bool,
}

impl Refused {
    /// Whether it might be accepted if requests were not counted.
    pub fn may_be_counting(&self) -> bool {
        self.counting || self.splits.is_empty() && !self.base
    }
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
    /// Whether a node that has the document is to be given it once more: some worker of its did not take it up for so long that it
    /// will not any more, and it is time to try. What [`Self::prove`] saw.
    fn is_behind(&self, node: &str, document: &Document) -> bool;
    /// Gives one node the document. Only after [`may_post`] of what was observed just before, twice where its entities were read.
    fn post<'a>(&'a self, node: &'a str, document: &'a Document) -> BoxFuture<'a, Result<Posted, Unposted>>;
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
    /// It could not be asked, or did not load it for a reason that is not in the document.
    Failed(DriverError),
    /// It does not accept the document.
    Refused(DriverError, Refused),
}

/// What a document is brought by.
#[derive(Debug, Clone, Copy)]
pub struct Bringing<'a> {
    /// The generation of the whole plan.
    pub plan: Generation,
    /// The hashes that this agent posted before to any node of the gateway; whoever keeps them adds the document's if any node
    /// was posted to.
    pub posted: &'a BTreeSet<String>,
    /// Splits that belong there and that the document is without: a node which has one of them is left alone, for requests
    /// come by it.
    pub absent: &'a BTreeSet<SplitName>,
    /// Hashes of documents that some node did not accept, in this life: whoever runs one of them was given it moments ago, and
    /// may be given one that is without a split.
    pub refused: &'a BTreeSet<String>,
    /// Nodes that are not given the document, and why.
    pub skip: &'a BTreeMap<String, String>,
    /// Nodes of which nothing is asked for now, and what became of them last: for them it is as if they failed again.
    pub left: &'a BTreeMap<String, DriverError>,
    /// Splits that go back to what the zone had before: no node is asked first whom it takes for dead.
    pub back: &'a BTreeSet<SplitName>,
    /// What is known of pins.
    pub pins: &'a Pins,
    /// Something newer is wanted: nodes that did not answer yet are not waited for, and nothing more is posted.
    pub overtaken: &'a CancellationToken,
}

pub(crate) const OVERTAKEN: &str = "something newer is wanted by now";

/// Brings each node to the document: looks, decides, looks once more where entities were read, posts. All nodes at one time, and
/// each by itself: one that does not answer, or does not accept it, holds up none of the others.
pub async fn bring(
    driver: &dyn GatewayDriver,
    document: &Document,
    by: Bringing<'_>,
) -> BTreeMap<String, Brought> {
    let mut known = match by.absent.is_empty() {
        true => by.posted.difference(by.pins.followed()).cloned().collect(),
        // Then it is looked at whatever it runs.
        false => BTreeSet::new(),
    };
    known.insert(document.hash.clone());
    let known = &known;
    let one = |node: String| async move {
        if let Some(error) = by.left.get(&node) {
            let failed = Brought::Failed(error.clone());
            return (node, failed);
        }
        if let Some(why) = by.skip.get(&node) {
            let why = why.clone();
            return (node, Brought::Held(why));
        }
        let look = by.overtaken.run_until_cancelled(driver.observe(&node, known));
        let became = match look.await {
            None => Brought::Held(OVERTAKEN.to_owned()),
            Some(Err(error)) => Brought::Failed(error),
            // The hash is of what it was given, and not of what its workers run.
            Some(Ok(live)) if live.hash.as_ref() == Some(&document.hash) => {
                match driver.is_behind(&node, document) && !by.overtaken.is_cancelled() {
                    true => posted(driver, &node, document).await,
                    false => Brought::There,
                }
            }
            Some(Ok(live)) => {
                let ours = live.hash.as_ref().is_some_and(|hash| by.refused.contains(hash));
                let may = if ours { Ok(()) } else { without(&live, by.absent) };
                match may.and_then(|()| may_post(&live, document, by.plan, by.posted, &by.pins.at(&node))) {
                    Err(why) => Brought::Held(why),
                    Ok(()) if by.overtaken.is_cancelled() => Brought::Held(OVERTAKEN.to_owned()),
                    Ok(()) => match kept_from(driver, &node, (known, &live), by.overtaken).await {
                        None => posted(driver, &node, document).await,
                        Some(became) => became,
                    },
                }
            }
        };
        (node, became)
    };
    join_all(driver.nodes().into_iter().map(one))
        .await
        .into_iter()
        .collect()
}

/// What became of a node that is not seen a second time to run what was read of it entity by entity; none if it is.
///
/// A Kong that starts anew while it is read, and is given the very same again by somebody else, has one hash before and after, and
/// what was read in between is not what it has: a newer generation, or somebody's own, would be missing in it, and be written over.
async fn kept_from(
    driver: &dyn GatewayDriver,
    node: &str,
    (known, live): (&BTreeSet<String>, &Live),
    overtaken: &CancellationToken,
) -> Option<Brought> {
    // Without them its hash alone says what it runs.
    live.entities.as_ref()?;
    let again = overtaken.run_until_cancelled(driver.observe(node, known)).await;
    match again.filter(|_| !overtaken.is_cancelled()) {
        None => Some(Brought::Held(OVERTAKEN.to_owned())),
        Some(Err(error)) => Some(Brought::Failed(error)),
        Some(Ok(again)) if is_same(live, &again) => None,
        Some(Ok(_)) => Some(Brought::Held(
            "this Kong runs something else than what was read of it a moment before: somebody else writes to it, or it started \
             anew; the next activation looks again"
                .to_owned(),
        )),
    }
}

/// Whether two looks at a node saw the same configuration.
fn is_same(one: &Live, other: &Live) -> bool {
    let entities =
        |of: &Live| -> Option<BTreeSet<Entity>> { Some(of.entities.as_ref()?.iter().cloned().collect()) };
    one.hash == other.hash && entities(one) == entities(other)
}

async fn posted(driver: &dyn GatewayDriver, node: &str, document: &Document) -> Brought {
    match driver.post(node, document).await {
        Ok(_) => Brought::Posted,
        Err(Unposted {
            error,
            refused: Some(refused),
        }) => Brought::Refused(error, refused),
        Err(Unposted { error, refused: None }) => Brought::Failed(error),
    }
}

/// Whether a node has none of these splits.
fn without(live: &Live, absent: &BTreeSet<SplitName>) -> Result<(), String> {
    let tags = live.entities.iter().flatten().flat_map(|entity| &entity.tags);
    let has = |split: &&SplitName| {
        let tag = format!("weir.split.{split}");
        tags.clone().any(|is| *is == tag)
    };
    match absent.iter().find(has) {
        _ if sabotaged("absent-is-gone") => Ok(()),
        None => Ok(()),
        Some(split) => Err(format!(
            "this Kong has split {split}, which belongs there and is not in force in this agent's zone yet, or cannot be said \
             to Kong now: nothing is posted that is without it"
        )),
    }
}
