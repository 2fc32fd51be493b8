//! Looking at new commits: deciding about them on another thread, and what becomes of a look on which planning breaks. Nothing of such
//! commits is taken, and what is in force goes on without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::{CommitId, SourceName};
use weir_planner::{Generation, Orders, Plan};

use super::Planning;
use super::moving::Seen;
use crate::decide::{self, Decision, Heads, Question, Transiting, Unsound};
use crate::judging;
use crate::ledger::LedgerError;
use crate::selfcheck::Checked;
use crate::state::{InForce, trouble};

/// Commits on which planning broke are looked at again with other commits and with each new plan. Facts and the time may make a
/// difference as well, hardly ever; a look at a large declaration takes seconds, in which nothing else is planned.
const AGAIN: Duration = Duration::from_secs(60);

/// One commit of each source.
pub(super) type Newest = BTreeMap<SourceName, CommitId>;

/// A look at commits on which planning broke.
#[derive(Debug)]
pub(super) struct Broken {
    /// When they are looked at again, whatever else happens.
    again: Instant,
    /// The highest generation of any agent then.
    highest: Generation,
    /// What is told of it.
    why: String,
}

impl Broken {
    /// How long until they are looked at again.
    pub(super) fn left(&self) -> Duration {
        self.again.saturating_duration_since(Instant::now())
    }
}

/// What people are told of commits on which planning broke.
fn told(newest: &Newest, (in_force, goes_on): (Option<&InForce>, bool), unsound: &Unsound) -> String {
    let stands = |source: &SourceName| in_force.and_then(|known| known.commits.get(source));
    let new = newest
        .iter()
        .filter(|(source, commit)| stands(source) != Some(*commit));
    let new: Vec<String> = new
        .map(|(source, commit)| format!("commit {} of source {source}", commit.short()))
        .collect();
    let what = match new.as_slice() {
        // What broke is the look at what is in force as a whole, as after a start.
        [] => "no new commit can be taken".to_owned(),
        [one] => format!("{one} is not taken"),
        _ => format!("{} are not taken", new.join(", ")),
    };
    let meanwhile = match goes_on {
        true => "what is in force goes on, and orders are obeyed",
        false => "what is in force cannot be read here, so nothing is planned, and traffic stays as it is",
    };
    format!(
        "{what}, because planning went wrong: {}; {meanwhile}; please report it with the commit, and revert that",
        unsound.0
    )
}

impl Planning {
    /// Whether this look is at the commits of all sources, and not only at what is under way by those in force.
    pub(super) fn decides(&self, newest: &Newest, seen: &Seen) -> bool {
        if self.considered.as_ref() != Some(newest) {
            return true;
        }
        let generation = self.generation();
        let highest = seen.fleet.highest(generation);
        match &self.broken {
            // What agents hold of a lost history is planned above by what is in force.
            Some(broken) => broken.left().is_zero() || highest > broken.highest,
            None => highest > generation || self.declared.is_none() || seen.known.is_none(),
        }
    }

    /// Looks at the commits of all sources. False where planning broke on them: then nothing came of the look, and what is in force is
    /// to go on.
    pub(super) async fn consider(
        &mut self,
        heads: &Heads,
        newest: &Newest,
        known: Option<InForce>,
        seen: Seen,
    ) -> Result<bool, LedgerError> {
        let others = self.broken.is_some() || self.considered.as_ref() != Some(newest);
        let moving = self.orders(others).await?;
        let parent = known.as_ref().map(|known| Arc::clone(&known.plan));
        let fleet = Arc::clone(&seen.fleet);
        let decision = self
            .decision(heads.clone(), parent, seen, moving.orders.clone())
            .await;
        let decision = match decision {
            Ok(decision) => decision,
            Err(unsound) => {
                let highest = fleet.highest(self.generation());
                self.break_off(newest, known.as_ref(), highest, &unsound).await;
                return Ok(false);
            }
        };
        self.broken = None;
        trouble(&self.troubles, "commits", |t| &mut t.unplanned, None);
        trouble(&self.troubles, "plan", |t| &mut t.unsound, None);
        let looked = decision.accepted.is_some();
        self.enact(decision, heads, known, (&fleet, &moving.waiting))
            .await?;
        self.read_in_force().await;
        self.show_orders(moving.orders);
        self.considered = Some(newest.clone());
        if !looked && self.declared.is_none() {
            // Where nothing of these heads stands, no split was looked at: the next look, by what is in force, obeys the
            // orders and answers them. There is none.
            let known = self.in_force.borrow().clone();
            let known = known.as_ref().map(|known| (&*known.plan, &*known.outlook));
            self.answer(&judging::answers(&moving.waiting, known)).await?;
        }
        Ok(true)
    }

    /// Remembers that planning broke on these commits, so that they are not looked at with every look: it is a trouble, and counted.
    async fn break_off(
        &mut self,
        newest: &Newest,
        known: Option<&InForce>,
        highest: Generation,
        unsound: &Unsound,
    ) {
        let _told = self.checks.count(Checked::Plan, Some(unsound.to_string()));
        self.considered = Some(newest.clone());
        self.read_in_force().await;
        let goes_on = known.is_some() && self.declared.is_some();
        let why = told(newest, (known, goes_on), unsound);
        let (unplanned, unsound) = match goes_on {
            true => (Some(why.clone()), None),
            false => (None, Some(why.clone())),
        };
        trouble(&self.troubles, "commits", |t| &mut t.unplanned, unplanned);
        trouble(&self.troubles, "plan", |t| &mut t.unsound, unsound);
        self.broken = Some(Broken {
            again: Instant::now() + AGAIN,
            highest,
            why,
        });
    }

    /// Goes on with what is under way, by what the commits in force declare.
    pub(super) async fn go_on(
        &mut self,
        known: Option<InForce>,
        newest: &Newest,
        seen: Seen,
    ) -> Result<(), LedgerError> {
        // What agents hold of a lost history may come from a source of which nothing was ever in force.
        let outgrown = seen.fleet.highest(self.generation()) > self.generation();
        let whole = |known: &InForce| newest.keys().all(|source| known.commits.contains_key(source));
        let known = known.filter(|known| !outgrown || whole(known));
        let (Some(known), Some(declared)) = (known, self.declared.clone()) else {
            let broken = self.broken.as_ref();
            let why = broken.map_or("nothing is in force", |broken| broken.why.as_str());
            self.decline(&format!("refused, nothing can be planned: {why}"))
                .await;
            return Ok(());
        };
        let moving = self.orders(false).await?;
        self.advance(known.clone(), &declared, &moving, seen).await?;
        self.show_orders(moving.orders);
        let stands = |source: &SourceName| known.commits.get(source) == newest.get(source);
        if self.generation() != known.plan.generation && !newest.keys().all(stands) {
            // What was refused beside that plan may stand beside this one.
            self.considered = None;
        }
        Ok(())
    }

    /// The sources whose newest commit goes back to what was declared directly before what is in force.
    async fn reverts(&self, heads: &Heads) -> BTreeSet<SourceName> {
        let mut reverts = BTreeSet::new();
        for (source, head) in heads {
            let news = self.heads.get(source).is_none_or(|at| at.commit != head.commit);
            let Some(tree) = head.tree.as_ref().filter(|_| news) else {
                continue;
            };
            match self.ledger.tree_before(source).await {
                Ok(Some(before)) if before == *tree => {
                    reverts.insert(source.clone());
                }
                Ok(_) => {}
                // Without the history a revert is a commit like any other; that nothing can be recorded is told where
                // it is recorded.
                Err(error) => tracing::debug!(%error, "whether this is a revert cannot be told"),
            }
        }
        reverts
    }

    /// What is in force is known from its plan and its commits. Where nothing new was taken since the start, what these
    /// declare was not read yet: what is under way goes on by it, whatever is wrong with the newest commit.
    pub(super) async fn read_in_force(&mut self) {
        let known = self
            .in_force
            .borrow()
            .as_ref()
            .map(|known| Arc::clone(&known.commits));
        if self.declared.is_some() || known.is_none_or(|commits| *commits != decide::commits(&self.heads)) {
            return;
        }
        let heads = self.heads.clone();
        let read = tokio::task::spawn_blocking(move || decide::declaration(&heads)).await;
        self.declared = read.ok().flatten().map(Arc::new);
    }

    /// Parsing and planning a large declaration takes a while: not on a thread that answers others.
    async fn decision(
        &self,
        heads: Heads,
        parent: Option<Arc<Plan>>,
        seen: Seen,
        orders: Orders,
    ) -> Result<Decision, Unsound> {
        let in_force = self.heads.clone();
        let reverts = self.reverts(&heads).await;
        let federation = self.federation.clone();
        let highest = seen.fleet.highest(self.generation());
        let now = seen.now;
        let thought = tokio::task::spawn_blocking(move || {
            let senses = seen.senses();
            let transit = senses.as_ref().map(|senses| Transiting {
                senses,
                orders: &orders,
            });
            decide::decide(Question {
                transit,
                federation: &federation,
                in_force: &in_force,
                heads: &heads,
                reverts: &reverts,
                parent: parent.as_deref(),
                highest,
                now,
            })
        });
        thought
            .await
            .unwrap_or_else(|panic| Err(Unsound(format!("it broke off: {panic}"))))
    }
}
