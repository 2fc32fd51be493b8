//! The driver of a Kong with a database: one or more nodes on one database, written to by way of the first that answers,
//! and proven at each.
//!
//! Writes are done one after the other in the order that [`changes`] gives them, and none after one that failed: whatever was
//! the last, requests are served. A node takes up what is written within the time that it says of itself; nobody can ask it
//! for its routes, so that those are taken for known when they were in the database for longer than that.

mod again;
mod beside;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use weir_model::{BackendName, SplitName};
use weir_planner::{Generation, Proof, Verdict};
use weir_render::kong::AnyPin;
use weir_render::kong::beside::{is_kept_out, is_rivalled};
use weir_render::kong::changes::{Held, Write, changes, is_ours};
use weir_render::kong::database::{Entities, Kind};
use weir_render::kong::{Counted, may_write};

use crate::kong::admin::Admin;
use crate::kong::behind::Behind;
use crate::kong::{Bringing, Brought, KongConfig, OVERTAKEN, counting, gateway, observe, proof};
use crate::{Clock, DriverError, Fault};
pub(crate) use rows::write;
use rows::{about, goes_with_it, held, nobody_there, print};

/// So much longer than a node says that it takes: for its timers and what they start.
const MARGIN: Duration = Duration::from_secs(1);
/// What a node takes that did not say so yet: Kong's defaults.
const UNKNOWN_PACE: Duration = Duration::from_secs(10);

/// What became of a gateway that was brought to its entities.
#[derive(Debug, Clone, Default)]
pub struct Became {
    /// By the address of the node: the one by way of which was written, and the others.
    pub nodes: BTreeMap<String, Brought>,
    /// Why nothing of a split was touched, or not all of it. Splits that went and cannot go are among them.
    pub splits: BTreeMap<SplitName, String>,
    /// Whom the gateway takes for dead of those who have targets there, with why, of splits that it runs as they are wanted.
    pub dead: BTreeMap<SplitName, BTreeMap<BackendName, String>>,
    /// Whether requests are counted, of those doors where that is chosen.
    pub counted: Counted,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A gateway with a database.
#[derive(Debug)]
pub struct KongDb {
    nodes: Arc<[Admin]>,
    settle: Duration,
    seen: Mutex<Seen>,
    clock: Clock,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
struct Seen {
    /// Workers, by node.
    workers: BTreeMap<String, usize>,
    /// Within what time a node takes up what is written, by node.
    pace: BTreeMap<String, Duration>,
    /// Since when the route of this name is gone.
    gone: BTreeMap<String, Instant>,
    /// Services, routes and upstreams of a split as they were read, and since when they are so.
    routed: BTreeMap<SplitName, (String, Instant)>,
    /// Upstreams of which some node gives something else than its database has.
    behind: BTreeMap<String, Behind>,
    /// Others' routes that take the requests of ours.
    beside: Option<beside::Read>,
}

impl Seen {
    /// After so long every node that answers runs what is in the database.
    fn takes(&self) -> Duration {
        let slowest = self.pace.values().max().copied().unwrap_or(UNKNOWN_PACE);
        slowest.saturating_add(MARGIN)
    }
}

/// Why the writes of a split ended before their end.
enum End {
    /// The next activation goes on.
    Waits,
    /// For a reason in words.
    Held(String),
    /// The node fails.
    Failed(DriverError),
}

/// What pins are known at: all nodes have one.
const DATABASE: &str = "database";

impl KongDb {
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

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the database to these entities, as far as that goes now: whatever write is the last, requests are served, so that
    /// what is overtaken ends between two of them. What is there of splits that are absent stays.
    pub async fn bring(&self, wanted: &Entities, by: Bringing<'_>) -> Became {
        let mut became = Became::default();
        let mut able: Vec<&Admin> = Vec::new();
        let roots = self.nodes.iter().map(|admin| async move {
            let root = async {
                let said = observe::said(admin).await?;
                let of_itself = observe::of_itself(admin, &said)?;
                Ok((of_itself, counting::unable(admin, &said)))
            };
            if let Some(error) = by.left.get(admin.url()) {
                return (admin, Some(Err(error.clone())));
            }
            (admin, by.overtaken.run_until_cancelled(root).await)
        });
        let (mut asked, mut unable) = (0, None);
        for (admin, root) in join_all(roots).await {
            let Some(root) = root else {
                let overtaken = Brought::Held(OVERTAKEN.to_owned());
                became.nodes.insert(admin.url().to_owned(), overtaken);
                continue;
            };
            let brought = match root {
                Err(error) => Brought::Failed(error),
                Ok(((live, pace), lacks)) => {
                    asked += 1;
                    unable = unable.or(lacks);
                    let mut seen = self.seen();
                    seen.workers.insert(admin.url().to_owned(), live.workers);
                    seen.pace.insert(admin.url().to_owned(), pace);
                    match may_write(&live) {
                        Err(why) => Brought::Held(why),
                        Ok(()) => {
                            able.push(admin);
                            Brought::There
                        }
                    }
                }
            };
            became.nodes.insert(admin.url().to_owned(), brought);
        }
        let logs = counting::Logs {
            unable: &unable,
            all_asked: asked == self.nodes.len(),
        };
        for admin in &able {
            match self.written(admin, &able, wanted, (by, logs), &mut became).await {
                Ok(false) => return became,
                Ok(true) => {
                    became.nodes.insert(admin.url().to_owned(), Brought::Posted);
                    return became;
                }
                // The next one may reach the database. Nothing was begun that it could not go on with.
                Err(error) => drop(
                    became
                        .nodes
                        .insert(admin.url().to_owned(), Brought::Failed(error)),
                ),
            }
        }
        became
    }

    /// Writes what is to be written by way of this node; whether anything was.
    async fn written(
        &self,
        admin: &Admin,
        able: &[&Admin],
        wanted: &Entities,
        (by, logs): (Bringing<'_>, counting::Logs<'_>),
        became: &mut Became,
    ) -> Result<bool, DriverError> {
        let mut held = held(admin, wanted).await?;
        let todo = changes(&held, wanted, (by.plan, by.absent), &by.pins.at(DATABASE));
        became.notes = todo.notes;
        let mut any = false;
        let forgets = todo
            .splits
            .values()
            .flatten()
            .flatten()
            .filter_map(|write| match write {
                Write::Forget(name) => Some(name.as_str()),
                _ => None,
            });
        let forgets: BTreeSet<&str> = forgets.collect();
        self.seen().gone.retain(|name, _| forgets.contains(name.as_str()));
        // A way back comes first. Who may have to wait for a list of all routes comes last: what others do may be a revert.
        let mut splits: Vec<_> = todo.splits.iter().collect();
        splits.sort_by_key(|(split, writes)| {
            let makes = writes.as_ref().is_ok_and(|writes| makes_a_route(writes));
            (!by.back.contains(*split), makes)
        });
        for (split, writes) in splits {
            let writes = match writes {
                Ok(writes) => writes,
                Err(why) => {
                    became.splits.insert(split.clone(), why.clone());
                    continue;
                }
            };
            match self
                .split(admin, able, (split, wanted, writes), &held, (by, &mut any))
                .await
            {
                Ok(notes) => {
                    became.notes.extend(notes);
                    any |= self.told_again(admin, (split, wanted, writes), &held).await?;
                }
                // Whatever is not written to its end is not what was given: who goes back goes back to what was.
                Err(End::Waits) if by.overtaken.is_cancelled() => {
                    became.splits.insert(split.clone(), OVERTAKEN.to_owned());
                }
                Err(End::Waits) => {}
                Err(End::Held(why)) => drop(became.splits.insert(split.clone(), why)),
                Err(End::Failed(error)) => return Err(error),
            }
        }
        if by.overtaken.is_cancelled() {
            return Ok(any);
        }
        let (put, counted) = counting::brought(admin, wanted, &mut held, (by, logs)).await;
        became.counted = counted;
        Ok(any || put)
    }

    /// Does the writes of one split; what a person should know.
    async fn split(
        &self,
        admin: &Admin,
        able: &[&Admin],
        (split, wanted, writes): (&SplitName, &Entities, &[Write]),
        held: &Held,
        (by, any): (Bringing<'_>, &mut bool),
    ) -> Result<Vec<String>, End> {
        let mut not_made = Vec::new();
        // A way back asks nobody: what a node has of its targets may be old.
        let of = wanted.doors.get(split).filter(|_| !by.back.contains(split));
        let nobody = nobody_there(able, held, of, writes);
        match by.overtaken.run_until_cancelled(nobody).await {
            None => return Err(End::Waits),
            Some(Some(why)) => return Err(End::Held(why)),
            Some(None) => {}
        }
        for write in writes {
            if by.overtaken.is_cancelled() {
                return Err(End::Waits);
            }
            if let Write::Make { entity, .. } = write
                && entity.kind == Kind::Route
            {
                let asked = self.in_its_way(admin, wanted, &entity.name);
                let Some(asked) = by.overtaken.run_until_cancelled(asked).await else {
                    return Err(End::Waits);
                };
                if let Some(why) = not_to_be_made(&entity.name, asked) {
                    not_made.push(why);
                    continue;
                }
            }
            // What a route that is not made would come in the place of takes its requests on.
            if !not_made.is_empty() && matches!(write, Write::Remove { .. } | Write::Forget(_)) {
                break;
            }
            let done = match write {
                Write::Await(upstream) => match self.may_be_led_to(able, upstream).await {
                    Ok(()) => continue,
                    Err(End::Waits) => {
                        let told = self.waited_for(admin, (split, wanted, upstream), held).await;
                        *any |= told.map_err(End::Failed)?;
                        return Err(End::Waits);
                    }
                    Err(other) => return Err(other),
                },
                Write::Forget(name) => {
                    let mut seen = self.seen();
                    let takes = seen.takes();
                    let now = (self.clock)();
                    let gone = seen.gone.entry(name.clone()).or_insert(now);
                    match now.duration_since(*gone) > takes {
                        true => continue,
                        false => return Err(End::Waits),
                    }
                }
                Write::Make { .. } | Write::Change { .. } | Write::Remove { .. } => {
                    if let Write::Remove { of, .. } = write {
                        goes_with_it(admin, of, (held, wanted)).await?;
                    }
                    let Some(done) = rows::write(admin, write).await else {
                        continue;
                    };
                    if let Write::Remove { of, .. } = write
                        && of.0 == Kind::Route
                        && done.is_ok()
                    {
                        self.seen().gone.insert(of.2.clone(), (self.clock)());
                    }
                    if rows::takes_its_time(write) {
                        // Nodes take it up in their time, also where its rows look then as they did before.
                        self.seen().routed.remove(split);
                    }
                    done
                }
            };
            *any = true;
            match done {
                Ok(()) => {}
                Err(error)
                    if matches!(error.fault, Fault::Refused | Fault::NotYet) && error.again.is_none() =>
                {
                    return Err(End::Held(format!("{error}; {}", error.help)));
                }
                Err(error) => return Err(End::Failed(error)),
            }
            tracing::debug!(%split, node = admin.url(), ?write, "written");
        }
        let has_another = held.rows.iter().any(|row| {
            row.kind == Kind::Route && row.split().as_ref() == Some(split) && is_ours(row, wanted)
        });
        if has_another || not_made.is_empty() {
            // Its other routes go on: a revert waits for nobody's route.
            return Ok(not_made
                .iter()
                .map(|why| format!("split {split}: {why}"))
                .collect());
        }
        Err(End::Held(not_made.join("; ")))
    }

    fn workers(&self, url: &str) -> usize {
        proof::to_ask(self.seen().workers.get(url).copied())
    }

    /// Reads back what all nodes run, one proof for each door. Never fails: not knowing is a proof with verdict unknown.
    /// `Exact` only if each node reads these very entities in its database, every worker that answered gives each target
    /// its weight, and the routes were there for longer than a node takes to take them up.
    pub async fn prove(&self, wanted: &Entities) -> BTreeMap<SplitName, Proof> {
        self.prove_but(wanted, &BTreeMap::new()).await
    }

    /// The same, where nothing is asked of these nodes: of them it is not known.
    pub async fn prove_but(
        &self,
        wanted: &Entities,
        left: &BTreeMap<String, DriverError>,
    ) -> BTreeMap<SplitName, Proof> {
        let doors = wanted
            .doors
            .iter()
            .map(|(split, of)| (split.clone(), of.expected.clone()));
        let doors: proof::Doors = doors.collect();
        let doors = &doors;
        let nodes = self.nodes.iter().map(|node| async move {
            match left.get(node.url()) {
                Some(error) => proof::AtNode::left(doors, error),
                None => self.at_node(node, wanted, doors).await,
            }
        });
        let mut nodes = join_all(nodes).await;
        self.behind(wanted, &mut nodes);
        if nodes.iter().any(proof::AtNode::is_seen) {
            let asked = self.nodes.iter().filter(|node| !left.contains_key(node.url()));
            let rivals = self.rivals(asked, wanted).await;
            for (split, of) in &wanted.doors {
                let mut names = of.chains.iter().map(|chain| chain.route.name.as_str());
                let Some(verdict) = names.find_map(|name| rivalled(name, &rivals)) else {
                    continue;
                };
                for node in &mut nodes {
                    node.is_not(split, verdict.clone());
                }
            }
        }
        proof::together(doors, &nodes)
    }

    async fn at_node(&self, admin: &Admin, wanted: &Entities, doors: &proof::Doors) -> proof::AtNode {
        let unknown =
            |error: DriverError| proof::AtNode::all(doors, &Verdict::Unknown(error.to_string()), false);
        match admin.unready().await {
            Err(error) => return unknown(error),
            Ok(Some(why)) => {
                let why = format!("the Kong at {} is not ready: {why}", admin.url());
                return proof::AtNode::all(doors, &Verdict::Different(why), true);
            }
            Ok(None) => {}
        }
        // Whether it answers at all, so that a door without upstreams is not taken for seen.
        let before = match held(admin, wanted).await {
            Err(error) => return unknown(error),
            Ok(before) => before,
        };
        let end = Instant::now() + self.settle;
        let mut found = proof::given(admin, doors, self.workers(admin.url()), end).await;
        // Somebody may have written while we read.
        let after = match held(admin, wanted).await {
            Err(error) => return unknown(error),
            Ok(after) => after,
        };
        for held in [&before, &after] {
            let todo = changes(held, wanted, (Generation(u64::MAX), &BTreeSet::new()), &AnyPin);
            for split in doors.keys() {
                let why = match todo.splits.get(split) {
                    Some(Ok(writes)) => match writes.first() {
                        None => continue,
                        Some(first) => {
                            format!("it has not all of it: {} is missing or another", about(first))
                        }
                    },
                    Some(Err(why)) => why.clone(),
                    None => "it has nothing of it".to_owned(),
                };
                let why = format!("the database of the Kong at {}: {why}", admin.url());
                found.is_not(split, Verdict::Different(why));
                found.is_explained(split);
            }
        }
        let mut seen = self.seen();
        let takes = seen.takes();
        let now = (self.clock)();
        for split in doors.keys() {
            let print = print(&after, split);
            let known = seen.routed.get(split).filter(|(known, _)| *known == print);
            let since = match known {
                Some((_, since)) => *since,
                None => {
                    seen.routed.insert(split.clone(), (print, now));
                    now
                }
            };
            let age = now.duration_since(since);
            if age <= takes {
                let why = format!(
                    "the Kong at {} takes up routes and upstreams within {} s, nobody can ask it for them, and these were first seen \
                     in its database {} s ago",
                    admin.url(),
                    takes.as_secs(),
                    age.as_secs()
                );
                found.is_not(split, Verdict::Unknown(why));
            }
        }
        found
    }
}

fn makes_a_route(writes: &[Write]) -> bool {
    let is_route = |write: &Write| matches!(write, Write::Make { entity, .. } if entity.kind == Kind::Route);
    writes.iter().any(is_route)
}

/// Why a route of ours is not made, by what is known of others' for the same requests.
fn not_to_be_made(name: &str, other: Result<Option<String>, String>) -> Option<String> {
    match other {
        Ok(other) => Some(is_kept_out(name, &other?)),
        Err(why) => Some(format!(
            "route {name} is not made before it is known who else takes its requests: {why}"
        )),
    }
}

/// Why one that is there is no proof.
fn rivalled(name: &str, rivals: &Result<BTreeMap<String, String>, String>) -> Option<Verdict> {
    match rivals {
        Ok(rivals) => Some(Verdict::Different(is_rivalled(name, rivals.get(name)?))),
        Err(why) => Some(Verdict::Unknown(format!(
            "it is not known who else takes requests for route {name}: {why}"
        ))),
    }
}
