//! What a gateway really gives to whom: the document by its hash, and shares by what each worker's balancer says.
//!
//! A worker takes up a document some milliseconds after the answer that it is loaded, and nobody can ask for one worker. So
//! each upstream is asked over so many connections at once that it is unlikely for a worker not to be among those who answer, until
//! all answers are right; after that, once for each proof.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use weir_model::{BackendName, BasisPoints, RouteName, SplitName, sabotaged};
use weir_planner::{Coverage, Evidence, Proof, ProvenWeights, Verdict};
use weir_render::kong::{Differs, Document, Expected, Upstream, shares, weights};

use crate::DriverError;
use crate::kong::admin::Admin;
use crate::kong::observe::hash;

/// So many upstreams are asked for at the same time.
const ABREAST: usize = 4;
/// So many answers for each worker, and one more each time that there are twice as many; half as many where there are very many
/// upstreams, which tell together. A node with `reuseport` deals connections out by their hash: of so many none is left out but once
/// in some hundred times.
const FOR_EACH_WORKER: usize = 5;
const MANY: usize = 64;
/// So many connections to one node at the same time, for each upstream.
const AT_ONCE: usize = 64;
/// Between two wrong answers, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));

/// So many workers a node has that nobody looked at.
const UNKNOWN_WORKERS: usize = 4;

/// How many workers are asked of a node that says that it has so many.
pub(crate) fn to_ask(said: Option<usize>) -> usize {
    // One that has one worker is asked like one that has two: what it says of itself is not what is proven.
    said.map_or(UNKNOWN_WORKERS, |workers| workers.max(2))
}

/// So many answers for each of so many upstreams, of a node with so many workers.
pub(crate) fn times(workers: usize, upstreams: usize) -> usize {
    match workers {
        0 | 1 => 1,
        more => {
            let times = more * (FOR_EACH_WORKER + more.ilog2() as usize);
            times / if upstreams > MANY { 2 } else { 1 }
        }
    }
}

/// What a Kong must run, by split.
pub(crate) type Doors = BTreeMap<SplitName, Expected>;

/// What one node gives, by split and route, as far as it could be read.
type Given = BTreeMap<SplitName, BTreeMap<RouteName, BTreeMap<BackendName, BasisPoints>>>;

/// Why a door is not exact at a node.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    /// What is different, or why it is not known.
    verdict: Verdict,
    /// Whose targets are taken for unhealthy, where that is all; empty where anything else is wrong.
    unhealthy: BTreeSet<BackendName>,
}

impl From<Verdict> for Wrong {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            unhealthy: BTreeSet::new(),
        }
    }
}

impl Wrong {
    fn is(admin: &Admin, Differs { why, unhealthy }: Differs) -> Self {
        Self {
            verdict: Verdict::Different(format!("the Kong at {}: {why}", admin.url())),
            unhealthy,
        }
    }

    /// Why, where nothing is wrong but whose targets are taken for unhealthy.
    pub(crate) fn of_health(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Different(why) if !self.unhealthy.is_empty() => Some(why),
            _ => None,
        }
    }

    /// With something more that is wrong. What nobody's health explains is told before what it does; of the same kind the first.
    fn and(&mut self, other: Self) {
        match (self.unhealthy.is_empty(), other.unhealthy.is_empty()) {
            (true, _) => {}
            (false, true) => *self = other,
            (false, false) => self.unhealthy.extend(other.unhealthy),
        }
    }
}

/// What one node's proof says.
#[derive(Debug)]
pub(crate) struct AtNode {
    /// Why not, by split. Not here: exact.
    wrong: BTreeMap<SplitName, Wrong>,
    given: Given,
    /// Upstreams, by split, that give something else which nobody's health explains.
    odd: BTreeSet<(SplitName, String)>,
    /// Whether it answered at all.
    seen: bool,
}

impl AtNode {
    pub(crate) fn all(doors: &Doors, verdict: &Verdict, seen: bool) -> Self {
        let wrong = doors.keys().map(|split| (split.clone(), verdict.clone().into()));
        Self {
            wrong: wrong.collect(),
            given: Given::new(),
            odd: BTreeSet::new(),
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
        self.wrong_of(split, verdict.into());
    }

    fn wrong_of(&mut self, split: &SplitName, wrong: Wrong) {
        match self.wrong.get_mut(split) {
            Some(known) => known.and(wrong),
            None => drop(self.wrong.insert(split.clone(), wrong)),
        }
    }

    /// Upstreams, by split, that give something else though nobody is taken for dead: of a node that has what it should have.
    pub(crate) fn odd(&self) -> &BTreeSet<(SplitName, String)> {
        &self.odd
    }

    /// Whether it answered and nothing of a split is wrong.
    pub(crate) fn has(&self, split: &SplitName) -> bool {
        self.seen && !self.wrong.contains_key(split)
    }

    /// What is wrong of a split is explained otherwise.
    pub(crate) fn is_explained(&mut self, split: &SplitName) {
        self.odd.retain(|(of, _)| of != split);
    }

    /// Says more of why a split is different.
    pub(crate) fn says(&mut self, split: &SplitName, more: &str) {
        let wrong = self.wrong.get_mut(split);
        if let Some(Verdict::Different(why)) = wrong.map(|wrong| &mut wrong.verdict) {
            *why = format!("{why}; {more}");
        }
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
    let times = times(workers, upstreams.len());
    let mut asking = Vec::new();
    for (split, route, upstream) in upstreams {
        asking.push(async move { (split, route, upstream, ask(admin, upstream, times, end).await) });
    }
    let mut asked = stream::iter(asking).buffer_unordered(ABREAST);
    let mut found = AtNode {
        wrong: BTreeMap::new(),
        given: Given::new(),
        odd: BTreeSet::new(),
        seen: true,
    };
    while let Some((split, route, upstream, (wrong, weights))) = asked.next().await {
        if let Some(wrong) = wrong {
            if matches!(wrong.verdict, Verdict::Different(_)) && wrong.unhealthy.is_empty() {
                found.odd.insert((split.clone(), upstream.name.clone()));
            }
            found.wrong_of(split, wrong);
        }
        if let Some(weights) = weights {
            let routes = found.given.entry(split.clone()).or_default();
            routes.insert(route.clone(), weights);
        }
    }
    found
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
) -> (Option<Wrong>, Option<BTreeMap<BackendName, BasisPoints>>) {
    let path = format!("upstreams/{}/health?balancer_health=1", upstream.name);
    let mut pause = PAUSE.0;
    // One first: as long as that is wrong, nobody else need be asked.
    let mut at_once = 1;
    loop {
        // Each over a connection of its own; a process may not have many open.
        let asking = stream::iter((0..at_once).map(|_| admin.get(&path)));
        let answers: Result<Vec<_>, _> = asking.buffered(AT_ONCE).try_collect().await;
        let answers = match answers {
            Err(error) => return (Some(Verdict::Unknown(error.to_string()).into()), None),
            Ok(answers) => answers,
        };
        let (mut wrong, mut given): (Option<Wrong>, _) = (None, None);
        for answer in answers.into_iter().map(Option::unwrap_or_default) {
            let differs = shares(&answer, upstream).err();
            // What is given is told of the one that gives something else, if there is one.
            if wrong.is_none() {
                given = weights(&answer, upstream);
            }
            if let Some(differs) = differs {
                let differs = Wrong::is(admin, differs);
                match &mut wrong {
                    Some(wrong) => wrong.and(differs),
                    None => wrong = Some(differs),
                }
            }
        }
        match wrong {
            None if at_once >= times => return (None, given),
            None => at_once = times,
            // One worker said that it is health alone: the others may give something else.
            Some(wrong) if Instant::now() + pause > end && !wrong.unhealthy.is_empty() && at_once < times => {
                at_once = times;
            }
            Some(wrong) if Instant::now() + pause > end => return (Some(wrong), given),
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
        let wrong = nodes.iter().filter_map(|node| node.wrong.get(split));
        let wrong: Vec<&Wrong> = wrong.collect();
        // What is known comes first, and of that what waiting for somebody's health does not mend.
        let order = |wrong: &&&Wrong| {
            let different = matches!(wrong.verdict, Verdict::Different(_));
            (!different, !wrong.unhealthy.is_empty())
        };
        let verdict = wrong.iter().min_by_key(order);
        let verdict = verdict.map_or(Verdict::Exact, |wrong| wrong.verdict.clone());
        let only_that = wrong.iter().all(|wrong| !wrong.unhealthy.is_empty());
        let unhealthy = wrong.iter().filter(|_| only_that);
        let unhealthy = unhealthy.flat_map(|wrong| wrong.unhealthy.iter().cloned());
        let unhealthy = unhealthy.collect();
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
            unhealthy,
        }
    };
    doors.keys().map(|split| (split.clone(), one(split))).collect()
}
