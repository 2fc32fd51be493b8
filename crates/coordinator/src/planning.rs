//! The loop from commits to plans: decide, record, publish, in this order. What is not recorded is not published.

mod deciding;
mod moving;
mod recording;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_model::{CommitId, Declaration, Diagnostic, FederationName, SourceName};
use weir_planner::{Finding, Generation};

use crate::decide::{self, Heads};
use crate::fleet::Fleet;
use crate::ledger::{Ledger, LedgerError, Verdict};
use crate::selfcheck::SelfChecks;
use crate::senses::Proven;
use crate::sources::SourceStates;
use crate::state::{InForce, Troubles, trouble};
use deciding::Broken;
use moving::Seen;

/// While something is under way, what zones tell is looked at no more often than this: a look costs a parent's worth of
/// shared pointers, and proof takes a second.
const PACE: Duration = Duration::from_millis(50);
/// How often orders are looked for: whoever gives one waits for the answer.
const ORDERS: Duration = Duration::from_secs(1);
/// After a failed write, how long until the next try: the trouble is on the disk, and disks are mended by people.
const RETRY: Duration = Duration::from_secs(1);

/// The newest decision about each source.
type Decided = BTreeMap<SourceName, (CommitId, Verdict, Vec<Diagnostic>)>;

/// The planning loop.
#[derive(Debug)]
pub struct Planning {
    federation: FederationName,
    ledger: Ledger,
    sources: watch::Receiver<SourceStates>,
    fleet: watch::Receiver<Arc<Fleet>>,
    in_force: watch::Sender<Option<InForce>>,
    troubles: Arc<watch::Sender<Troubles>>,
    checks: Arc<SelfChecks>,
    heads: Heads,
    decided: Decided,
    /// Sources that were last told to be away.
    away: BTreeMap<SourceName, String>,
    /// Newest commits of which was told that they go back, or have another history.
    strange: BTreeMap<SourceName, CommitId>,
    /// Silence after which an agent is stale.
    stale: Duration,
    /// When this began.
    began: Timestamp,
    /// Since when what is under way is proven.
    proven: Arc<Proven>,
    /// What the commits in force declare, once they were read.
    declared: Option<Arc<Declaration>>,
    /// The heads that were last decided on: they are not read again before one of them changes.
    considered: Option<BTreeMap<SourceName, CommitId>>,
    /// That planning broke off on those, if it did.
    broken: Option<Broken>,
    /// The highest generation of any agent at the last look: only a higher one is a reason for the next.
    heard: Generation,
}

/// Why planning cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger is another federation's.
    #[error(
        "the ledger holds plans of the federation `{theirs}`, but the configuration names `{ours}`: correct `federation`, or give this coordinator its own `data` directory"
    )]
    OtherFederation {
        /// In the configuration.
        ours: FederationName,
        /// In the ledger.
        theirs: FederationName,
    },
    /// The newest plan's bytes are not what was written.
    #[error(
        "the ledger is damaged: the plan of generation {0} is not what was written ({1}); restore a backup"
    )]
    Damaged(Generation, Box<Finding>),
}

/// Reads what was in force when the ledger was last written.
///
/// # Errors
/// The ledger cannot be read, or is not ours.
pub async fn recall(ledger: &Ledger, federation: &FederationName) -> Result<Option<InForce>, StartError> {
    let Some(plan) = ledger.newest_plan().await? else {
        return Ok(None);
    };
    if plan.federation != *federation {
        return Err(StartError::OtherFederation {
            ours: federation.clone(),
            theirs: plan.federation,
        });
    }
    for finding in weir_planner::lint(&plan, None) {
        if finding.rule == weir_planner::Rule::Digest {
            return Err(StartError::Damaged(plan.generation, Box::new(finding)));
        }
        // An older version made it by older rules; agents hold it already.
        tracing::warn!(generation = %plan.generation, %finding, "the plan in force breaks a rule of this version");
    }
    Ok(Some(InForce {
        plan: Arc::new(plan),
        created: Arc::new(ledger.created().await?),
        platforms: Arc::new(ledger.platforms().await?),
        commits: Arc::new(ledger.in_force().await?),
        outlook: Arc::default(),
        waits: Arc::default(),
        looked: false,
        declared: None,
        orders: Arc::default(),
    }))
}

impl Planning {
    /// Gets ready; `in_force` already holds what [`recall`] found.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn new(
        federation: FederationName,
        ledger: Ledger,
        sources: watch::Receiver<SourceStates>,
        fleet: watch::Receiver<Arc<Fleet>>,
        in_force: watch::Sender<Option<InForce>>,
        (troubles, checks): (Arc<watch::Sender<Troubles>>, Arc<SelfChecks>),
        stale: Duration,
    ) -> Result<Self, LedgerError> {
        let names: Vec<SourceName> = sources.borrow().keys().cloned().collect();
        let mut decided = Decided::new();
        for name in names {
            if let Some(newest) = ledger.newest_decision(&name).await? {
                decided.insert(name, newest);
            }
        }
        Ok(Self {
            federation,
            ledger,
            sources,
            fleet,
            in_force,
            troubles,
            checks,
            heads: Heads::new(),
            decided,
            away: BTreeMap::new(),
            strange: BTreeMap::new(),
            stale,
            began: Timestamp::now(),
            proven: Arc::default(),
            declared: None,
            considered: None,
            broken: None,
            heard: Generation(0),
        })
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            if let Some(why) = self.superseded() {
                self.decline(&format!("refused, this coordinator is {why}")).await;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(ORDERS) => continue,
                }
            }
            let again = match self.turn().await {
                Ok(()) => {
                    trouble(&self.troubles, "ledger", |t| &mut t.ledger, None);
                    None
                }
                Err(LedgerError::TakenBack) => Some(Duration::ZERO),
                Err(error) => {
                    trouble(
                        &self.troubles,
                        "ledger",
                        |t| &mut t.ledger,
                        Some(error.to_string()),
                    );
                    Some(RETRY)
                }
            };
            if !self.rest(again, &stop).await {
                return;
            }
        }
    }

    /// Why nothing is planned any more: another coordinator has begun after this one.
    fn superseded(&self) -> Option<String> {
        self.troubles.borrow().superseded.clone()
    }

    /// Waits for a reason to look again; false for the stop.
    async fn rest(&mut self, again: Option<Duration>, stop: &CancellationToken) -> bool {
        let generation = self.generation();
        let moving = self.in_motion();
        let heard = self.heard;
        let wakes = self.wakes().map(|at| {
            let left = at.duration_since(Timestamp::now());
            // a hair later, so that it is past then
            Duration::try_from(left).unwrap_or(Duration::ZERO) + PACE
        });
        // Where nothing can be looked at they stay due.
        let tried_again = self.broken.as_ref().map(|broken| broken.left().max(RETRY));
        // What could not be written is tried again at its own pace, whatever else is due.
        let due = wakes.into_iter().chain(tried_again).min();
        let due = due.filter(|_| again.is_none());
        let mut fleet = self.fleet.clone();
        fleet.mark_unchanged();
        let told = async {
            tokio::time::sleep(PACE).await;
            if !moving || fleet.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ordered = async {
            loop {
                tokio::time::sleep(ORDERS).await;
                // One that cannot be read is told where it is written.
                if self
                    .ledger
                    .orders_waiting()
                    .await
                    .is_ok_and(|orders| !orders.is_empty())
                {
                    break;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => false,
            changed = self.sources.changed() => changed.is_ok(),
            () = outgrown(&mut self.fleet, generation, heard) => true,
            () = told => true,
            () = ordered => true,
            () = after(due) => true,
            // Where no agent was ever heard nothing is told either.
            () = after(moving.then_some(RETRY)) => true,
            () = after(again) => true,
            () = stopped(self.troubles.subscribe()) => true,
        }
    }

    fn generation(&self) -> Generation {
        self.in_force
            .borrow()
            .as_ref()
            .map_or(Generation(0), |known| known.plan.generation)
    }

    /// One pass over everything that is known now.
    async fn turn(&mut self) -> Result<(), LedgerError> {
        let states = self.sources.borrow_and_update().clone();
        let known = self.in_force.borrow().clone();
        let in_force = |source: &SourceName| known.as_ref().and_then(|known| known.commits.get(source));
        self.tell_reach(&states, in_force).await?;
        // What was in force before this start: its files are in the copy.
        for (source, state) in &states {
            let at = in_force(source);
            if let Some(head) = [&state.remembered, &state.head]
                .into_iter()
                .flatten()
                .find(|head| Some(&head.commit) == at)
                && !self.heads.contains_key(source)
            {
                self.heads.insert(source.clone(), Arc::clone(head));
            }
        }
        let heads: Heads = states
            .iter()
            .filter_map(|(source, state)| {
                let stands = || self.heads.get(source);
                let head = match state.rewound(in_force(source)) {
                    Some(_) => stands(),
                    None => state.head.as_ref().or_else(stands),
                };
                Some((source.clone(), Arc::clone(head?)))
            })
            .collect();
        self.heard = self.fleet.borrow().highest(self.generation());
        let blind = self.blind(&states, &heads, known.as_ref());
        let why = blind.clone().filter(|why| !why.is_empty());
        trouble(&self.troubles, "sources", |t| &mut t.blind, why.clone());
        if blind.is_some() {
            // What is in force is not at hand as a whole, or is not all that agents hold: there is nothing to go on by.
            if let Some(why) = why {
                self.decline(&format!("refused, nothing can be planned: {why}"))
                    .await;
            }
            return Ok(());
        }
        let mut seen = Seen {
            known: known.clone(),
            fleet: Arc::clone(&self.fleet.borrow()),
            stale: self.stale,
            now: Timestamp::now(),
            proven: Arc::clone(&self.proven),
            began: self.began,
        };
        if let Some(known) = &known {
            self.note_proven(known, &seen);
            seen.proven = Arc::clone(&self.proven);
        }
        let newest = decide::commits(&heads);
        if self.decides(&newest, &seen)
            && self
                .consider(&heads, &newest, known.clone(), seen.clone())
                .await?
        {
            return Ok(());
        }
        self.go_on(known, &newest, seen).await
    }

    /// Why nothing can be planned without the sources of which there is no commit to read; empty while that is merely not
    /// known yet. None if they do not matter: all that is in force is at hand, so they declare nothing of it, and what is
    /// new in them comes when they can be read.
    fn blind(&self, states: &SourceStates, heads: &Heads, known: Option<&InForce>) -> Option<String> {
        let unread: Vec<&SourceName> = states
            .keys()
            .filter(|source| !heads.contains_key(*source))
            .collect();
        if unread.is_empty() {
            return None;
        }
        let generation = self.generation();
        let complete =
            known.is_some_and(|known| known.commits.keys().all(|source| heads.contains_key(source)));
        // What agents hold of a lost history may come from any source.
        if complete && self.fleet.borrow().highest(generation) <= generation {
            return None;
        }
        let failed = |source: &&&SourceName| {
            states
                .get(**source)
                .is_some_and(|state| matches!(state.last, Some(Err(_))))
        };
        let names: Vec<String> = unread
            .iter()
            .filter(failed)
            .map(|source| format!("`{source}`"))
            .collect();
        if names.is_empty() {
            return Some(String::new());
        }
        Some(format!(
            "no commit of any source is taken until {} can be read: what is declared there is not known here, and to plan \
             without it would take its splits away",
            names.join(", ")
        ))
    }
}

/// Done when an agent reports a generation above `known`, and above what was `heard` already.
async fn outgrown(fleet: &mut watch::Receiver<Arc<Fleet>>, known: Generation, heard: Generation) {
    // Before the first plan nothing can be outgrown: the first commit brings one.
    if known == Generation(0)
        || fleet
            .wait_for(|fleet| fleet.highest(known) > known.max(heard))
            .await
            .is_err()
    {
        std::future::pending::<()>().await;
    }
}

/// Done once another coordinator has begun after this one.
async fn stopped(mut troubles: watch::Receiver<Troubles>) {
    if troubles
        .wait_for(|troubles| troubles.superseded.is_some())
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
