//! A node: what it holds, its workers, and how a change travels to them.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::balancer::{Unwell, random};
use super::counted::Counted;
use super::database::Database;
use super::document;
use super::names::{NameTable, Names};
use super::store::Entities;
use super::worker::{Building, Running, Worker};
use crate::random_id;

/// The hash of nothing.
pub(super) const EMPTY: &str = "00000000000000000000000000000000";

/// How a Kong is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many workers. Each has rings and pointers of its own; connections go to them in turn.
    pub workers: usize,
    /// Decides the order of all rings.
    pub seed: u64,
    /// What names stand for.
    pub names: Arc<dyn Names>,
    /// How often names are asked again.
    pub names_again: Duration,
    /// The first worker takes up a change this long after it was accepted, the second twice as long, and so on.
    pub propagation: Duration,
    /// `declarative_config`: the document to begin with, and to go back to at each restart.
    pub declarative_config: Option<PathBuf>,
    /// `nginx_admin_client_max_body_size`, in bytes.
    pub admin_body_limit: usize,
    /// `db_update_frequency`: how often a node looks for what others wrote.
    pub db_update_frequency: Duration,
    /// `worker_state_update_frequency`: how often routes, services and upstreams of a database are built anew.
    pub worker_state_update_frequency: Duration,
    /// `plugins`: whether it is configured to run `http-log`.
    pub logs: bool,
    /// The time in milliseconds since 1970, for tests which compare. None is the machine's clock.
    pub now: Option<Arc<AtomicI64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            seed: 1,
            names: Arc::new(NameTable::default()),
            names_again: Duration::from_secs(1),
            propagation: Duration::from_millis(5),
            declarative_config: None,
            admin_body_limit: 10 << 20,
            db_update_frequency: Duration::from_secs(5),
            worker_state_update_frequency: Duration::from_secs(5),
            logs: true,
            now: None,
        }
    }
}

/// Why a document that was read well is not loaded, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFailure {
    /// 429: another is being loaded.
    Busy,
    /// 504.
    Timeout,
    /// 503: Kong goes down.
    Exiting,
    /// 413: more than the store takes.
    StoreFull,
}

/// Where the entities are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In the node itself.
    Document,
    /// In a database.
    Database(Database),
}

/// What a node without a database holds, and what one with a database knows of it.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Routes, services and upstreams that workers run by.
    routing: Entities,
    /// Targets that they run by; everything, where there is no database.
    known: Entities,
    /// The version of the database that `known` is.
    version: u64,
    /// The version that `routing` is.
    routed: u64,
    hash: String,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) options: Options,
    pub(super) source: Source,
    /// Its id.
    pub(super) id: String,
    pub(super) workers: Vec<Worker>,
    pub(super) counted: Counted,
    /// One document is loaded at a time.
    pub(super) loading: tokio::sync::Mutex<()>,
    pub(super) failures: Mutex<VecDeque<LoadFailure>>,
    /// Admin and proxy requests, for `/status`.
    pub(super) requests: AtomicU64,
    state: Mutex<State>,
    unwell: Mutex<Unwell>,
    /// Workers whose next build fails.
    failing: Mutex<BTreeSet<usize>>,
    builds: AtomicU64,
    ids: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// md5 of these bytes, in hex.
pub(super) fn md5_of(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Node {
    pub(super) fn new(source: Source, options: Options) -> Self {
        let workers = (0..options.workers.max(1)).map(|_| Worker::default()).collect();
        let state = State {
            routing: Entities::default(),
            known: Entities::default(),
            version: 0,
            routed: 0,
            hash: EMPTY.to_owned(),
        };
        Self {
            options,
            source,
            id: random_id(),
            workers,
            counted: Counted::default(),
            loading: tokio::sync::Mutex::default(),
            failures: Mutex::default(),
            requests: AtomicU64::new(0),
            state: Mutex::new(state),
            unwell: Mutex::default(),
            failing: Mutex::default(),
            builds: AtomicU64::new(0),
            ids: AtomicU64::new(0),
        }
    }

    /// The time in milliseconds.
    pub(super) fn now(&self) -> i64 {
        let now = self.options.now.as_ref().map(|now| now.load(Ordering::Relaxed));
        now.unwrap_or_else(|| Timestamp::now().as_millisecond())
    }

    /// `configuration_hash`.
    pub(super) fn hash(&self) -> String {
        lock(&self.state).hash.clone()
    }

    /// Entities as the Admin API reads them: the database's are the newest.
    pub(super) fn entities(&self) -> Entities {
        match &self.source {
            Source::Document => lock(&self.state).known.clone(),
            Source::Database(database) => database.held().entities.clone(),
        }
    }

    /// What workers run by.
    pub(super) fn routing(&self) -> Entities {
        lock(&self.state).routing.clone()
    }

    /// A hash that no other document has, as Kong makes one of entities with their times.
    pub(super) fn unrepeatable_hash(&self, entities: &Entities) -> String {
        let salt = self.ids.fetch_add(1, Ordering::Relaxed);
        md5_of(format!("{} {} {salt}", entities.document(), random_id()).as_bytes())
    }

    /// Begins with what is there: the declared document, what was loaded last, or the database.
    ///
    /// # Errors
    /// If there is a declared document that cannot be read or is none.
    pub(super) fn begin(self: &Arc<Self>) -> anyhow::Result<()> {
        match &self.source {
            Source::Document => {
                if let Some(path) = &self.options.declarative_config {
                    let bytes =
                        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                    let refused = |what: String| anyhow::anyhow!("{} is refused: {what}", path.display());
                    let input =
                        document::read(&bytes).map_err(|answer| refused(format!("{:?}", answer.body)))?;
                    let entities = document::flatten(input, self.now(), &mut random_id)
                        .map_err(|faults| refused(format!("{:?}", faults.refused(false).body)))?;
                    let mut state = lock(&self.state);
                    state.hash = if entities.is_empty() {
                        EMPTY.to_owned()
                    } else {
                        md5_of(&bytes)
                    };
                    state.known = entities;
                }
                let mut state = lock(&self.state);
                state.routing = state.known.clone();
            }
            Source::Database(database) => {
                let held = database.held();
                let mut state = lock(&self.state);
                (state.known, state.version) = (held.entities.clone(), held.version);
                (state.routing, state.routed) = (state.known.clone(), state.version);
            }
        }
        for at in 0..self.workers.len() {
            self.build(at, None);
        }
        Ok(())
    }

    /// Loads a document: it is there at once, and workers take it up one after the other.
    pub(super) fn load(self: &Arc<Self>, entities: Entities, hash: String) {
        {
            let mut state = lock(&self.state);
            state.hash = if entities.is_empty() {
                EMPTY.to_owned()
            } else {
                hash
            };
            state.routing = entities.clone();
            state.known = entities;
        }
        self.spread(None);
    }

    /// Takes up what was written through this node: targets at once, all else when workers are next built anew.
    pub(super) fn wrote(self: &Arc<Self>) {
        self.look(true);
    }

    /// Looks at its database.
    pub(super) fn look(self: &Arc<Self>, at_once: bool) {
        let Source::Database(database) = &self.source else {
            return;
        };
        let changed = {
            let held = database.held();
            let mut state = lock(&self.state);
            if state.version == held.version {
                return;
            }
            let mut changed = changed_targets(&state.known, &held.entities);
            // Each write of a target is told, whether it changes anything or not.
            let told = held.told.iter().filter(|(_, version)| **version > state.version);
            changed.extend(told.map(|(upstream, _)| upstream.clone()));
            (state.known, state.version) = (held.entities.clone(), held.version);
            changed
        };
        if changed.is_empty() {
            return;
        }
        if at_once {
            self.spread(Some(changed));
        } else {
            for at in 0..self.workers.len() {
                self.build(at, Some(&changed));
            }
        }
    }

    /// Builds routes, services and upstreams anew.
    pub(super) fn reroute(self: &Arc<Self>) {
        {
            let mut state = lock(&self.state);
            if state.routed == state.version {
                return;
            }
            state.routing = state.known.clone();
            state.routed = state.version;
        }
        self.spread(None);
    }

    /// Lets each worker take up what there is, the later the higher its number.
    fn spread(self: &Arc<Self>, only: Option<Vec<String>>) {
        for at in 0..self.workers.len() {
            let wait = self.options.propagation * u32::try_from(at + 1).unwrap_or(1);
            if wait.is_zero() {
                self.build(at, only.as_deref());
                continue;
            }
            let (node, only) = (Arc::clone(self), only.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                node.build(at, only.as_deref());
            });
        }
    }

    /// Lets this worker fail when it is next built anew: it runs on with what it had, and only the log says so. With a database it is
    /// as if it never heard of what was written.
    pub(super) fn fail_next_build(&self, worker: usize) {
        lock(&self.failing).insert(worker);
    }

    fn build(&self, at: usize, only: Option<&[String]>) {
        let Some(worker) = self.workers.get(at) else {
            return;
        };
        if lock(&self.failing).remove(&at) {
            return;
        }
        let mut seed =
            self.options.seed ^ (at as u64) << 32 ^ self.builds.fetch_add(1, Ordering::Relaxed) << 8;
        worker.build(|running| {
            let state = lock(&self.state).clone();
            let unwell = lock(&self.unwell).clone();
            let with = Building {
                names: self.options.names.as_ref(),
                unwell: &unwell,
                seed: random(&mut seed),
            };
            match only {
                Some(upstreams) => running.with(upstreams, &state.known, &with),
                None => {
                    let in_database = matches!(self.source, Source::Database(_));
                    Running::new(
                        &state.routing,
                        &state.known,
                        &with,
                        in_database.then_some(running),
                    )
                }
            }
        });
    }

    /// Says of a target's addresses whether they are well, in all workers.
    pub(super) fn mark(&self, upstream: &str, host: &str, port: u16, address: Option<&str>, well: bool) {
        // A worker that is just building knows what was said before, and would not hear of it.
        let _held: Vec<MutexGuard<'_, ()>> = self.workers.iter().map(Worker::hold).collect();
        let mut unwell = lock(&self.unwell);
        for worker in &self.workers {
            let running = worker.running();
            let found = running
                .balancer(upstream)
                .map(|balancer| balancer.mark(host, port, address, well));
            for (host, port) in found.unwrap_or_default() {
                let key = (upstream.to_owned(), host, port);
                if well {
                    unwell.remove(&key);
                } else {
                    unwell.insert(key);
                }
            }
        }
    }

    /// Says of all that they are well, in all workers: also of those that were taken out since they were not, and may come back.
    pub(super) fn recover(&self) {
        let _held: Vec<MutexGuard<'_, ()>> = self.workers.iter().map(Worker::hold).collect();
        lock(&self.unwell).clear();
        for worker in &self.workers {
            for balancer in worker.running().balancers.values() {
                balancer.recover();
            }
        }
    }

    /// What happens by itself while a node runs: names are asked again, the database is looked at, routes are built anew.
    pub(super) async fn keep(self: Arc<Self>, over: CancellationToken) {
        let options = &self.options;
        let tick = |every: Duration| {
            let every = every.max(Duration::from_millis(1));
            let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            tick
        };
        let mut names = tick(options.names_again);
        let mut database = tick(options.db_update_frequency);
        let mut state = tick(options.worker_state_update_frequency);
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                _ = names.tick() => self.ask_names(),
                _ = database.tick() => if self.is_reachable() { self.look(false) },
                _ = state.tick() => if self.is_reachable() { self.reroute() },
            }
        }
    }

    /// Whether its database is there; without one, always.
    pub(super) fn is_reachable(&self) -> bool {
        match &self.source {
            Source::Document => true,
            Source::Database(database) => database.is_reachable(),
        }
    }

    fn ask_names(&self) {
        for (at, worker) in self.workers.iter().enumerate() {
            let stale = worker.running().stale(self.options.names.as_ref());
            if !stale.is_empty() {
                self.build(at, Some(&stale));
            }
        }
    }
}

/// The upstreams whose targets are not the same in both.
fn changed_targets(before: &Entities, after: &Entities) -> Vec<String> {
    let owner = |target: &Value| target["upstream"]["id"].as_str().unwrap_or_default().to_owned();
    let mut changed: Vec<String> = Vec::new();
    for (first, second) in [(before, after), (after, before)] {
        for (id, target) in first.all("targets") {
            if second.by_id("targets", id).is_none_or(|other| other != target) {
                changed.push(owner(target));
            }
        }
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}
