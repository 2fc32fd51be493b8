//! What a gateway really gives to whom: the document by its hash, and shares by what each worker's balancer says.
//!
//! A worker takes up a document some milliseconds after the answer that it is loaded, and nobody can ask for one worker. So
//! each upstream is asked over so many connections at once that all workers will be among those who answer, until all answers
//! are right; after that, once for each proof.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use weir_model::{BackendName, BasisPoints, RouteName, SplitName, sabotaged};
use weir_planner::{Coverage, Evidence, Proof, ProvenWeights, Verdict};
use weir_render::kong::{Document, Expected, Upstream, shares, weights};

use crate::DriverError;
use crate::kong::admin::Admin;
use crate::kong::observe::hash;

/// So many upstreams are asked for at the same time.
const ABREAST: usize = 4;
/// So many answers for each worker; half as many where there are very many upstreams, which tell together.
const FOR_EACH_WORKER: usize = 4;
const MANY: usize = 64;
/// Between two wrong answers, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));

/// So many workers a node has that nobody looked at.
const UNKNOWN_WORKERS: usize = 4;

/// How many workers are asked of a node that says that it has so many.
pub(crate) fn to_ask(said: Option<usize>) -> usize {
    // One that has one worker is asked like one that has two: what it says of itself is not what is proven.
    said.map_or(UNKNOWN_WORKERS, |workers| workers.max(2))
}

/// What a Kong must run, by split.
pub(crate) type Doors = BTreeMap<SplitName, Expected>;

/// What one node gives, by split and route, as far as it could be read.
type Given = BTreeMap<SplitName, BTreeMap<RouteName, BTreeMap<BackendName, BasisPoints>>>;

/// What one node's proof says.
#[derive(Debug)]
pub(crate) struct AtNode {
    /// Why not, by split: what is different, or why it is not known. Not here: exact.
    wrong: BTreeMap<SplitName, Verdict>,
    given: Given,
    /// Whether it answered at all.
    seen: bool,
}

impl AtNode {
    pub(crate) fn all(doors: &Doors, verdict: &Verdict, seen: bool) -> Self {
        let wrong = doors.keys().map(|split| (split.clone(), verdict.clone()));
        Self {
            wrong: wrong.collect(),
            given: Given::new(),
            seen,
        }
    }

    /// Of one of which nothing is asked for now.
    pub(crate) fn left(doors: &Doors, error: &DriverError) -> Self {
        Self::all(
            doors,
            &Verdict::Unknown(format!("{error}; it is left alone for a while")),
            false,
        )
    }

    /// Something else of a split is not as it should be.
    pub(crate) fn is_not(&mut self, split: &SplitName, verdict: Verdict) {
        self.wrong.entry(split.clone()).or_insert(verdict);
    }

    /// Whether it answered at all.
    pub(crate) fn is_seen(&self) -> bool {
        self.seen
    }

    /// Whether every worker runs the document.
    pub(crate) fn is_exact(&self) -> bool {
        self.seen && self.wrong.is_empty()
    }
}

/// Reads one node. `workers` is how many it has; one if all were seen to run this document before.
pub(crate) async fn at_node(admin: &Admin, document: &Document, workers: usize, settle: Duration) -> AtNode {
    let end = Instant::now() + settle;
    match whole(admin, document, end).await {
        Ok(()) => {}
        Err((verdict, seen)) => return AtNode::all(&document.doors, &verdict, seen),
    }
    let found = given(admin, &document.doors, workers, end).await;
    // Somebody may have written while we read.
    match whole(admin, document, end).await {
        Ok(()) => found,
        Err((verdict, seen)) => AtNode::all(&document.doors, &verdict, seen),
    }
}

/// The shares that one node gives.
pub(crate) async fn given(admin: &Admin, doors: &Doors, workers: usize, end: Instant) -> AtNode {
    let upstreams: Vec<(&SplitName, &RouteName, &Upstream)> = doors
        .iter()
        .flat_map(|(split, door)| {
            door.upstreams
                .iter()
                .map(move |(route, upstream)| (split, route, upstream))
        })
        .collect();
    let times = match workers {
        1 => 1,
        more if upstreams.len() > MANY => more * FOR_EACH_WORKER / 2,
        more => more * FOR_EACH_WORKER,
    };
    let mut asking = Vec::new();
    for (split, route, upstream) in upstreams {
        asking.push(async move { (split, route, ask(admin, upstream, times, end).await) });
    }
    let mut asked = stream::iter(asking).buffer_unordered(ABREAST);
    let (mut wrong, mut given) = (BTreeMap::new(), Given::new());
    while let Some((split, route, (verdict, weights))) = asked.next().await {
        if let Some(verdict) = verdict {
            wrong.entry(split.clone()).or_insert(verdict);
        }
        if let Some(weights) = weights {
            let routes = given.entry(split.clone()).or_default();
            routes.insert(route.clone(), weights);
        }
    }
    AtNode {
        wrong,
        given,
        seen: true,
    }
}

/// Whether the node runs this very document and serves. If not, why, and whether it answered.
async fn whole(admin: &Admin, document: &Document, end: Instant) -> Result<(), (Verdict, bool)> {
    let mut pause = PAUSE.0;
    loop {
        match hash(admin).await {
            Err(error) => return Err((Verdict::Unknown(error.to_string()), false)),
            Ok(Some(hash)) if hash == document.hash || sabotaged("ignore-hashes") => {}
            Ok(hash) => {
                let hash = hash.unwrap_or_else(|| "none".to_owned());
                let why = format!(
                    "the Kong at {} runs another configuration: its hash is {hash} and should be {}",
                    admin.url(),
                    document.hash
                );
                return Err((Verdict::Different(why), true));
            }
        }
        match admin.unready().await {
            Err(error) => return Err((Verdict::Unknown(error.to_string()), false)),
            Ok(None) => return Ok(()),
            Ok(Some(why)) if Instant::now() + pause > end => {
                let why = format!("the Kong at {} is not ready: {why}", admin.url());
                return Err((Verdict::Different(why), true));
            }
            Ok(Some(_)) => wait(&mut pause).await,
        }
    }
}

/// So that Kong is not asked without a pause while it builds; what is waited for is the right answer.
async fn wait(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE.1);
}

/// Asks for one upstream, so many times at once, until all answers are right. What is wrong otherwise, and what was given last.
pub(crate) async fn ask(
    admin: &Admin,
    upstream: &Upstream,
    times: usize,
    end: Instant,
) -> (Option<Verdict>, Option<BTreeMap<BackendName, BasisPoints>>) {
    let path = format!("upstreams/{}/health?balancer_health=1", upstream.name);
    let mut pause = PAUSE.0;
    // One first: as long as that is wrong, nobody else need be asked.
    let mut at_once = 1;
    loop {
        let answers = try_join_all((0..at_once).map(|_| admin.get(&path))).await;
        let answers = match answers {
            Err(error) => return (Some(Verdict::Unknown(error.to_string())), None),
            Ok(answers) => answers,
        };
        let mut answers = answers.into_iter().map(Option::unwrap_or_default);
        let mut given = None;
        let wrong = answers.find_map(|answer| {
            given = weights(&answer, upstream);
            shares(&answer, upstream).err()
        });
        match wrong {
            None if at_once >= times => return (None, given),
            None => at_once = times,
            Some(why) if Instant::now() + pause > end => {
                let why = format!("the Kong at {}: {why}", admin.url());
                return (Some(Verdict::Different(why)), given);
            }
            Some(_) => {
                at_once = 1;
                wait(&mut pause).await;
            }
        }
    }
}

/// The proofs of all nodes as one for each door: what is different anywhere is different, what is unknown anywhere is unknown.
pub(crate) fn together(doors: &Doors, nodes: &[AtNode]) -> BTreeMap<SplitName, Proof> {
    let nodes = match sabotaged("prove-one-node") {
        true => &nodes[..nodes.len().min(1)],
        false => nodes,
    };
    let at = Timestamp::now();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let coverage = Coverage {
        seen: count(nodes.iter().filter(|node| node.seen).count()),
        of: count(nodes.len()),
    };
    let one = |split: &SplitName| {
        let mut wrong = nodes.iter().filter_map(|node| node.wrong.get(split));
        let different = wrong
            .clone()
            .find(|verdict| matches!(verdict, Verdict::Different(_)));
        let verdict = different
            .or_else(|| wrong.next())
            .cloned()
            .unwrap_or(Verdict::Exact);
        let mut given = nodes
            .iter()
            .filter(|node| node.seen)
            .map(|node| node.given.get(split));
        let first = given.next().flatten();
        let agreed = first.filter(|first| given.all(|other| other == Some(*first)));
        Proof {
            evidence: if coverage.seen == 0 {
                Evidence::Unknown
            } else {
                Evidence::Live
            },
            verdict,
            at,
            coverage,
            weights: agreed.cloned() as Option<ProvenWeights>,
        }
    };
    doors.keys().map(|split| (split.clone(), one(split))).collect()
}
