//! One task a source: looks at it when it is time or when told to, and publishes what it saw.
//!
//! A look that fails changes only the state; the commit that was seen before stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use weir_model::{CommitId, SourceName};

use crate::config::Source;
use crate::git::{BareCopy, GitError, Head, Lineage, Look, Remote};
use crate::parts::Parts;
use crate::state::InForce;

/// Reading a local branch costs less than a millisecond, so a local source is followed at once.
const GLANCE: Duration = Duration::from_millis(100);

/// With so many commits of before the newest one is compared, beside that in force: planning lags a look or two behind.
const BEFORE: usize = 8;

/// What is known of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// Where it is read from; never with credentials.
    pub url: String,
    /// Branch.
    pub branch: String,
    /// What the last look came to; none before the first.
    pub last: Option<Result<(), GitError>>,
    /// The commit that was last seen.
    pub head: Option<Arc<Head>>,
    /// What that is to the commit in force, and to those that were seen before it.
    pub lineage: BTreeMap<CommitId, Lineage>,
    /// The commit in force at the start, read from the copy: a base to stand on while the remote is away.
    pub remembered: Option<Arc<Head>>,
    /// When last looked at.
    pub checked_at: Option<Timestamp>,
    /// What was wrong with the copy when it last had to be made anew.
    pub recloned: Option<String>,
}

impl SourceState {
    /// The newest commit, if that in force was made from it: then somebody forced the branch back, or a mirror lags. It is not taken
    /// by itself, for it would move everything back at once, with nobody having said so.
    pub fn rewound(&self, in_force: Option<&CommitId>) -> Option<&Head> {
        let head = self.head.as_deref()?;
        (self.lineage.get(in_force?) == Some(&Lineage::Precedes)).then_some(head)
    }

    /// The newest commit, if it and that in force have nothing to do with each other.
    pub fn rewritten(&self, in_force: Option<&CommitId>) -> Option<&Head> {
        let head = self.head.as_deref()?;
        (self.lineage.get(in_force?) == Some(&Lineage::Apart)).then_some(head)
    }
}

/// What people are to know of a commit that is not taken because that in force was made from it.
pub(crate) fn told_of_rewound(source: &SourceName, head: &Head, in_force: &CommitId) -> String {
    format!(
        "source {source} offers commit {}, from which commit {} in force was made: it is not taken, because the branch was forced \
         back, or a mirror lags; to take back what came after it, push a revert (`git revert`); if the branch is meant to go on \
         from there, push one more commit on it (an empty one will do)",
        head.commit.short(),
        in_force.short()
    )
}

/// All sources, by name.
pub type SourceStates = BTreeMap<SourceName, SourceState>;

/// The running sources.
#[derive(Debug, Clone)]
pub struct Sources {
    states: Arc<watch::Sender<SourceStates>>,
    pokes: Arc<BTreeMap<SourceName, Arc<Notify>>>,
}

impl Sources {
    /// Starts a task for each source.
    pub fn start(
        sources: &[Source],
        git_dir: &Path,
        in_force: &watch::Receiver<Option<InForce>>,
        parts: &Parts,
        stop: &CancellationToken,
    ) -> Self {
        let states = sources
            .iter()
            .map(|source| {
                let state = SourceState {
                    url: source.remote.to_string(),
                    branch: source.branch.clone(),
                    last: None,
                    head: None,
                    lineage: BTreeMap::new(),
                    remembered: None,
                    checked_at: None,
                    recloned: None,
                };
                (source.name.clone(), state)
            })
            .collect();
        let states = Arc::new(watch::Sender::new(states));
        let mut pokes = BTreeMap::new();
        for source in sources {
            let poke = Arc::new(Notify::new());
            pokes.insert(source.name.clone(), Arc::clone(&poke));
            let follower = Follower {
                copy: BareCopy::new(git_dir, source.clone()),
                source: source.clone(),
                states: Arc::clone(&states),
                poke,
                in_force: in_force.clone(),
            };
            let stop = stop.clone();
            parts.spawn("a source", async move {
                tokio::select! {
                    () = follower.follow() => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Self {
            states,
            pokes: Arc::new(pokes),
        }
    }

    /// What is known, as it changes.
    pub fn states(&self) -> watch::Receiver<SourceStates> {
        self.states.subscribe()
    }

    /// Looks at a source now. False if there is none of that name.
    pub fn poke(&self, source: &SourceName) -> bool {
        self.pokes.get(source).map(|poke| poke.notify_one()).is_some()
    }

    /// Looks at all sources now.
    pub fn poke_all(&self) {
        for poke in self.pokes.values() {
            poke.notify_one();
        }
    }
}

struct Follower {
    source: Source,
    copy: BareCopy,
    states: Arc<watch::Sender<SourceStates>>,
    poke: Arc<Notify>,
    in_force: watch::Receiver<Option<InForce>>,
}

impl Follower {
    async fn follow(&self) {
        if let Some(commit) = self.in_force() {
            let copy = self.copy.clone();
            let remembered = blocking(move || copy.remembered(&commit)).await.flatten();
            self.change(|state| state.remembered = remembered.map(Arc::new));
        }
        loop {
            self.look().await;
            self.wait().await;
        }
    }

    fn in_force(&self) -> Option<CommitId> {
        let known = self.in_force.borrow();
        known.as_ref()?.commits.get(&self.source.name).cloned()
    }

    /// Those that a commit is compared with; for the one that was seen last, what came of that.
    fn others(&self, head: &Head) -> Result<Vec<CommitId>, BTreeMap<CommitId, Lineage>> {
        {
            let states = self.states.borrow();
            let state = states.get(&self.source.name);
            let newest = state
                .and_then(|state| state.head.as_ref())
                .map(|head| head.commit.clone());
            if newest.as_ref() == Some(&head.commit) {
                return Err(state.map(|state| state.lineage.clone()).unwrap_or_default());
            }
            let before = state.into_iter().flat_map(|state| state.lineage.keys().cloned());
            let all = self.in_force().into_iter().chain(newest).chain(before);
            Ok(all.filter(|other| *other != head.commit).take(BEFORE).collect())
        }
    }

    /// What a commit that was just seen is to that in force and to those that were seen before.
    async fn lineage(
        &self,
        commit: &CommitId,
        others: Vec<CommitId>,
        deeper: bool,
    ) -> BTreeMap<CommitId, Lineage> {
        let (copy, commit) = (self.copy.clone(), commit.clone());
        blocking(move || copy.lineage(&commit, &others, deeper))
            .await
            .unwrap_or_default()
    }

    async fn wait(&self) {
        let until = tokio::time::Instant::now() + self.source.poll;
        let local = matches!(self.source.remote, Remote::Local(_));
        loop {
            let pause = if local {
                until.min(tokio::time::Instant::now() + GLANCE)
            } else {
                until
            };
            tokio::select! {
                () = self.poke.notified() => return,
                () = tokio::time::sleep_until(pause) => {}
            }
            if tokio::time::Instant::now() >= until || self.moved().await {
                return;
            }
        }
    }

    /// Whether a local branch is no longer at the commit that was last seen.
    async fn moved(&self) -> bool {
        let copy = self.copy.clone();
        let now = blocking(move || copy.glance()).await.flatten();
        let states = self.states.borrow();
        let seen = states
            .get(&self.source.name)
            .and_then(|state| state.head.as_ref())
            .map(|head| &head.commit);
        now.is_some() && now.as_ref() != seen
    }

    async fn look(&self) {
        let copy = self.copy.clone();
        let looked = blocking(move || copy.look()).await.unwrap_or_else(|| {
            Err(GitError::Local(
                "the look at Git broke off; the log says more".to_owned(),
            ))
        });
        let now = Timestamp::now();
        let name = &self.source.name;
        match looked {
            Ok(Look { head, recloned }) => {
                if let Some(damage) = &recloned {
                    tracing::warn!(source = %name, damage, "the bare copy was damaged and has been made anew");
                }
                let others = self.others(&head);
                let lineage = match &others {
                    Ok(others) => self.lineage(&head.commit, others.clone(), false).await,
                    Err(known) => known.clone(),
                };
                let unknown = lineage.values().any(|is| *is == Lineage::Unknown);
                let commit = head.commit.clone();
                self.change(|state| {
                    state.lineage = lineage;
                    if state.head.as_ref().is_none_or(|seen| seen.commit != head.commit) {
                        tracing::info!(source = %name, commit = %head.commit, subject = head.subject, "new commit");
                        state.head = Some(Arc::new(head));
                    }
                    if matches!(state.last, Some(Err(_))) {
                        tracing::info!(source = %name, "the source can be read again");
                    }
                    state.last = Some(Ok(()));
                    state.recloned = recloned.or(state.recloned.take());
                    state.checked_at = Some(now);
                });
                // More history says what is before this commit, and never that it is before another one: what follows from it, a
                // revert too, waits for no such fetch.
                if let Some(others) = others.ok().filter(|_| unknown) {
                    let lineage = self.lineage(&commit, others, true).await;
                    self.change(|state| {
                        if state.head.as_ref().is_some_and(|head| head.commit == commit) {
                            state.lineage = lineage;
                        }
                    });
                }
            }
            Err(error) => {
                self.change(|state| {
                    if state.last != Some(Err(error.clone())) {
                        tracing::warn!(source = %name, url = state.url, %error, "the source cannot be read; the last good commit stays in force");
                    }
                    state.last = Some(Err(error));
                    state.checked_at = Some(now);
                });
            }
        }
    }

    /// Changes the state and wakes those who wait for changes; a new time alone wakes nobody.
    fn change(&self, change: impl FnOnce(&mut SourceState)) {
        self.states.send_if_modified(|states| {
            let Some(state) = states.get_mut(&self.source.name) else {
                return false;
            };
            let before = SourceState {
                checked_at: None,
                ..state.clone()
            };
            change(state);
            let after = SourceState {
                checked_at: None,
                ..state.clone()
            };
            before != after
        });
    }
}

/// Runs what blocks on a thread that may; none if it panicked, which the log then tells.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
