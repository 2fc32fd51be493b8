//! The driver of a Kong without a database: one or more nodes, each of which is given the whole document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use http::StatusCode;
use tokio::time::Instant;
use weir_model::{BackendName, SplitName};
use weir_planner::Proof;
use weir_render::kong::live::EMPTY_HASH;
use weir_render::kong::{Document, Live};

use crate::kong::admin::Admin;
use crate::kong::behind::Behind;
use crate::kong::refusal::{self, Failure};
use crate::kong::{GatewayDriver, KongConfig, Posted, Unposted, dead, gateway, observe, proof};
use crate::{Clock, DriverError, Fault};

/// A gateway without a database.
#[derive(Debug)]
pub struct KongDbless {
    nodes: Arc<[Admin]>,
    settle: Duration,
    seen: Mutex<BTreeMap<String, Seen>>,
    clock: Clock,
}

/// What is remembered of a node, so that it is asked less.
#[derive(Debug, Clone, Default)]
struct Seen {
    workers: Option<usize>,
    /// The hash of the document that all its workers were seen to run.
    proven: Option<String>,
    /// The hash of the document that it has and that some worker of its does not run.
    behind: Option<(String, Behind)>,
    /// An entity of an ingress controller that it had when its entities were last read, and since when it has nothing instead.
    controller: Option<(String, Option<Instant>)>,
}

/// So long a Kong that has nothing is its controller's still. A controller that runs gives it all of its own again within seconds.
const GIVEN_UP: Duration = Duration::from_secs(120);

impl KongDbless {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KongConfig) -> Result<Self, DriverError> {
        Ok(Self::of(gateway::nodes(config.nodes)?, config.settle))
    }

    pub(crate) fn of(nodes: Arc<[Admin]>, settle: Duration) -> Self {
        Self {
            nodes,
            settle,
            seen: Mutex::default(),
            clock: Instant::now,
        }
    }

    /// By another clock.
    pub(crate) fn by(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn node(&self, url: &str) -> Result<&Admin, DriverError> {
        let node = self.nodes.iter().find(|node| node.url() == url);
        node.ok_or_else(|| {
            let failure = Failure::new(Fault::Setup, "there is no such node", "please report it");
            failure.at(&format!("Kong's Admin API at {url}"))
        })
    }

    fn seen(&self, url: &str) -> Option<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(url).cloned()
    }

    fn remember(&self, url: &str, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        change(seen.entry(url.to_owned()).or_default());
    }

    async fn observed(&self, node: &str, known: &BTreeSet<String>) -> Result<Live, DriverError> {
        let mut live = observe::observe(self.node(node)?, known).await?;
        // One that lost all that its controller gave it (fact 12) is given that again in some seconds, if it is let.
        let is_empty = live.hash.as_deref() == Some(EMPTY_HASH);
        self.remember(node, |seen| {
            seen.workers = Some(live.workers);
            if live.entities.is_some() {
                seen.controller = live.controllers().map(|entity| (entity, None));
            } else if is_empty && let Some((entity, since)) = &mut seen.controller {
                let since = *since.get_or_insert_with(Instant::now);
                live.controller = Some(entity.clone()).filter(|_| since.elapsed() < GIVEN_UP);
            }
        });
        Ok(live)
    }

    async fn posted(&self, node: &str, document: &Document) -> Result<Posted, Unposted> {
        let admin = self.node(node)?;
        let what = format!("POST {}/config", admin.url());
        self.remember(node, |seen| seen.proven = None);
        let boundary = boundary(document);
        let anew = self.is_behind(node, document);
        if anew {
            let now = (self.clock)();
            self.remember(node, |seen| {
                if let Some((_, behind)) = &mut seen.behind {
                    let times = behind.again(now);
                    tracing::warn!(
                        node,
                        times,
                        "it has the configuration and a worker does not run it: it is given it once more"
                    );
                }
            });
        }
        let answer = admin.post_config(&document.bytes, &boundary, anew).await;
        let answer = answer.map_err(|failure| failure.at(&what))?;
        match answer.status {
            StatusCode::CREATED if answer.kind.starts_with("application/json") => Ok(Posted::Loaded),
            StatusCode::CREATED => Err(refusal::no_kong("the answer is no JSON").at(&what).into()),
            StatusCode::NOT_MODIFIED => Ok(Posted::Unchanged),
            _ => {
                let (failure, refused) = refusal::of_config(&answer, document.bytes.len());
                Err(Unposted {
                    error: failure.at(&what),
                    refused,
                })
            }
        }
    }

    /// [`GatewayDriver::prove`], where nothing is asked of these nodes: of them it is not known.
    pub async fn prove_but(
        &self,
        document: &Document,
        left: &BTreeMap<String, DriverError>,
    ) -> BTreeMap<SplitName, Proof> {
        let nodes = self.nodes.iter().map(|node| async move {
            match left.get(node.url()) {
                Some(error) => proof::AtNode::left(&document.doors, error),
                None => self.proven(node, document).await,
            }
        });
        proof::together(&document.doors, &join_all(nodes).await)
    }

    /// Which of these splits of a document are not to be given so, and why: a backend would get more that a Kong takes for dead.
    /// Nothing is asked of the nodes in `left`; a Kong that does not answer holds nobody. In haste (the flag) all is waited for 2 s.
    pub async fn dead(
        &self,
        document: &Document,
        left: &BTreeMap<String, DriverError>,
        of: (&BTreeSet<SplitName>, bool),
    ) -> BTreeMap<SplitName, String> {
        let nodes = self.nodes.iter().filter(|node| !left.contains_key(node.url()));
        dead::of_document(&nodes.collect::<Vec<_>>(), document, of).await
    }

    /// Whom the nodes take for dead of those who have targets in a document that they run, by split: what a step would have to know that
    /// gives them more. Nothing is asked of the nodes in `left`, and nobody is dead to a Kong that does not answer.
    pub async fn dead_in(
        &self,
        document: &Document,
        left: &BTreeMap<String, DriverError>,
        of: &BTreeSet<SplitName>,
    ) -> BTreeMap<SplitName, BTreeMap<BackendName, String>> {
        let nodes = self.nodes.iter().filter(|node| !left.contains_key(node.url()));
        dead::in_document(&nodes.collect::<Vec<_>>(), document, of).await
    }

    async fn proven(&self, admin: &Admin, document: &Document) -> proof::AtNode {
        let seen = self.seen(admin.url());
        let all_seen = seen.as_ref().and_then(|seen| seen.proven.as_ref()) == Some(&document.hash);
        let workers = match all_seen {
            true => 1,
            false => proof::to_ask(seen.and_then(|seen| seen.workers)),
        };
        let mut found = proof::at_node(admin, document, workers, self.settle).await;
        let proven = found.is_exact().then(|| document.hash.clone());
        let now = (self.clock)();
        self.remember(admin.url(), |seen| {
            let known = seen.behind.take();
            let known = known.filter(|(hash, behind)| *hash == document.hash && !behind.is_over(now));
            let known = known.filter(|_| proven.is_none());
            seen.behind = match (known, found.odd().is_empty()) {
                (None, true) => None,
                (None, false) => Some((document.hash.clone(), Behind::new(now))),
                (Some((hash, mut behind)), true) => {
                    behind.is_unclear();
                    Some((hash, behind))
                }
                (Some((hash, mut behind)), false) => {
                    behind.is_still(now);
                    Some((hash, behind))
                }
            };
            if let Some((_, behind)) = &seen.behind {
                let words = behind.words(now, "the document is posted");
                let splits: BTreeSet<SplitName> =
                    found.odd().iter().map(|(split, _)| split.clone()).collect();
                for split in &splits {
                    found.says(split, &words);
                }
            }
            seen.proven = proven;
        });
        found
    }
}

/// A line that is not in the document.
fn boundary(document: &Document) -> String {
    let mut boundary = format!("weir-{}", document.hash);
    let is_in = |boundary: &str| {
        let mut windows = document.bytes.windows(boundary.len());
        windows.any(|window| window == boundary.as_bytes())
    };
    while is_in(&boundary) {
        boundary.push('-');
    }
    boundary
}

impl GatewayDriver for KongDbless {
    fn nodes(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url().to_owned()).collect()
    }

    fn observe<'a>(
        &'a self,
        node: &'a str,
        known: &'a BTreeSet<String>,
    ) -> BoxFuture<'a, Result<Live, DriverError>> {
        self.observed(node, known).boxed()
    }

    fn is_behind(&self, node: &str, document: &Document) -> bool {
        let now = (self.clock)();
        let behind = self.seen(node).and_then(|seen| seen.behind);
        behind.is_some_and(|(hash, behind)| hash == document.hash && behind.is_due(now))
    }

    fn post<'a>(&'a self, node: &'a str, document: &'a Document) -> BoxFuture<'a, Result<Posted, Unposted>> {
        self.posted(node, document).boxed()
    }

    fn prove<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, BTreeMap<SplitName, Proof>> {
        async move { self.prove_but(document, &BTreeMap::new()).await }.boxed()
    }
}
