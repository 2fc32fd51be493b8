//! What the parts of a running coordinator tell each other, each through a channel that holds the newest value.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use weir_model::{CommitId, Declaration, SourceName, SplitName, ZoneName};
use weir_planner::{Generation, Orders, Outlook, Phase, Plan};

/// Since when splits wait for what.
pub type Waits = BTreeMap<SplitName, Waiting>;

/// What one split waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Where it waits: its phase, bite and wave.
    pub place: (Phase, u32, Option<u32>),
    /// When it was first seen there.
    pub seen: Timestamp,
    /// Since when, by the zone that is waited for, where none stands for what is not one zone's. Nothing of what was so already when this
    /// coordinator started, and was not told before.
    pub since: BTreeMap<Option<ZoneName>, Option<Timestamp>>,
    /// Whether it was told that it waits there.
    pub told: bool,
}

use crate::standing::{Detached, detached};

/// The plan in force, and what people want to know with it. Written by planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The plan.
    pub plan: Arc<Plan>,
    /// When each generation was made.
    pub created: Arc<BTreeMap<Generation, Timestamp>>,
    /// What each zone runs on.
    pub platforms: Arc<BTreeMap<ZoneName, String>>,
    /// The commits in force: newer than the plan's own where a commit changed nothing.
    pub commits: Arc<BTreeMap<SourceName, CommitId>>,
    /// Splits that are not at rest where they are declared, as planning last saw them.
    pub outlook: Arc<BTreeMap<SplitName, Outlook>>,
    /// Since when these wait for what, as far as that was seen.
    pub waits: Arc<Waits>,
    /// Whether planning has looked at what is declared since the start. Before that `outlook` says nothing.
    pub looked: bool,
    /// What those commits declare; none before planning has read that since the start.
    pub declared: Option<Arc<Declaration>>,
    /// What people ordered, as planning last saw it.
    pub orders: Arc<Orders>,
}

impl InForce {
    /// What planning last saw of splits that are not at rest; none before it looked.
    pub fn outlook(&self) -> Option<&BTreeMap<SplitName, Outlook>> {
        self.looked.then_some(self.outlook.as_ref())
    }

    /// Zones that are detached; none before planning has read what is declared, so that all are waited for until then.
    pub fn detached(&self) -> Detached {
        let declared = self.declared.as_ref();
        declared.map_or_else(Detached::new, |declared| detached(declared))
    }

    /// What holds every change but reverts and aborts, in words; nothing before planning has read what is declared.
    pub fn freezes(&self, now: Timestamp) -> Vec<String> {
        let declared = self.declared.as_ref();
        declared.map_or_else(Vec::new, |declared| {
            weir_planner::freezes(declared, &self.orders, now)
        })
    }
}

/// What is wrong right now. None of it touches traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Troubles {
    /// History cannot be written, so nothing new is published.
    pub ledger: Option<String>,
    /// Observations cannot be written; they are shown all the same.
    pub observations: Option<String>,
    /// What a source declares is not known, so no commit of any is taken.
    pub blind: Option<String>,
    /// What is in force cannot go on: a step of it breaks the linter's rules, or planning breaks off.
    pub unsound: Option<String>,
    /// Planning broke on the newest commits. Nothing of them is taken; what is in force goes on.
    pub unplanned: Option<String>,
    /// Another coordinator has begun after this one, which has stopped planning for good.
    pub superseded: Option<String>,
    /// Heads that are refused: the commit, and its first error.
    pub refused: BTreeMap<SourceName, (CommitId, String)>,
}

/// Sets one part of the troubles; says so in the log when it appears and when it is gone.
pub fn trouble(
    troubles: &watch::Sender<Troubles>,
    what: &'static str,
    part: impl Fn(&mut Troubles) -> &mut Option<String>,
    now: Option<String>,
) {
    troubles.send_if_modified(|all| {
        let slot = part(all);
        if *slot == now {
            return false;
        }
        match &now {
            Some(text) => tracing::error!(trouble = what, "{text}"),
            None => tracing::info!(trouble = what, "is over"),
        }
        *slot = now.clone();
        true
    });
}
