//! Moving on without a new commit: the next step of transitions, as zones prove the last one, and orders of people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{CommitId, Declaration, SourceCommit, SplitName};
use weir_planner::{Inputs, Look, Outlook, Phase, Plan, Planned, Runs, Senses as _, Transit};

use super::Planning;
use super::recording::plan_event;
use crate::decide::Unsound;
use crate::fleet::Fleet;
use crate::judging::{self, Ground, Judged};
use crate::ledger::{Answer, LedgerError, NewEvent, Order, Taken};
use crate::selfcheck::Checked;
use crate::senses::{FleetSenses, Proven};
use crate::standing::Sight;
use crate::state::{InForce, trouble};

/// All that [`FleetSenses`] needs, owned: planning runs on another thread.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) known: Option<InForce>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) stale: std::time::Duration,
    pub(super) now: Timestamp,
    pub(super) proven: Arc<Proven>,
    pub(super) began: Timestamp,
}

impl Seen {
    /// The zones; none before the first plan, when nothing can be in motion.
    pub(super) fn senses(&self) -> Option<FleetSenses<'_>> {
        let known = self.known.as_ref()?;
        Some(FleetSenses {
            sight: Sight {
                plan: &known.plan,
                created: &known.created,
                fleet: &self.fleet,
                stale: self.stale,
                now: self.now,
            },
            proven: &self.proven,
            began: self.began,
        })
    }
}

/// Splits that a look without a new commit is for.
pub(super) fn unsettled(known: &InForce) -> BTreeSet<SplitName> {
    let moving = known.plan.splits.iter().filter(|(_, split)| {
        let course = split.course.as_ref();
        course.is_some_and(|course| course.motion.is_some())
    });
    let moving = moving.map(|(name, _)| name);
    moving.chain(known.outlook.keys()).cloned().collect()
}

impl Planning {
    /// Reads what people ordered, and judges it by what is declared and in force; `decides` for a look at other commits.
    pub(super) async fn orders(&self, decides: bool) -> Result<Judged, LedgerError> {
        let standing = self.ledger.standing_orders().await?;
        let waiting = self.ledger.orders_waiting().await?;
        let known = self.in_force.borrow();
        let ground = Ground {
            // What they are judged by may be in force no more after a look at other commits: the next one judges them.
            declared: self.declared.as_deref().filter(|_| !decides),
            plan: known.as_ref().map(|known| known.plan.as_ref()),
        };
        Ok(judging::judge(waiting, standing, ground))
    }

    /// Answers orders of which no decision had to be recorded.
    pub(super) async fn answer(&self, answers: &[(Order, Answer)]) -> Result<(), LedgerError> {
        for (order, answer) in answers {
            self.ledger.answer_order(Timestamp::now(), order, answer).await?;
        }
        Ok(())
    }

    /// Refuses all orders: whoever gave them is to give them elsewhere. What cannot be written now is tried again.
    pub(super) async fn decline(&self, why: &str) {
        let waiting = self.ledger.orders_waiting().await.unwrap_or_default();
        let refused = |order| {
            let answer = Answer {
                done: false,
                message: format!("refused, this coordinator is {why}"),
            };
            (order, answer)
        };
        let answers: Vec<(Order, Answer)> = waiting.into_iter().map(refused).collect();
        if let Err(error) = self.answer(&answers).await {
            tracing::debug!(%error, "orders cannot be answered");
        }
    }

    /// Remembers since when what is under way is proven.
    pub(super) fn note_proven(&mut self, known: &InForce, seen: &Seen) {
        let Some(senses) = seen.senses() else { return };
        let mut proven = Proven::new();
        for name in unsettled(known) {
            let Some(split) = known.plan.splits.get(&name) else {
                continue;
            };
            for (zone, item) in &split.items {
                if let Runs::Proven { since } = senses.runs(item) {
                    proven.insert((name.clone(), zone.clone()), (item.generation, since));
                }
            }
        }
        self.proven = Arc::new(proven);
    }

    /// Looks at what is under way, takes the next step if there is one, and answers what was ordered. If that breaks off, nothing that was
    /// ordered is looked at either, and it waits.
    pub(super) async fn advance(
        &mut self,
        known: InForce,
        declaration: &Arc<Declaration>,
        moving: &Judged,
        seen: Seen,
    ) -> Result<(), LedgerError> {
        let mut only = unsettled(&known);
        let orders = &moving.orders;
        only.extend(orders.aborts.keys().chain(&orders.resumes).cloned());
        only.extend(orders.drains.keys().cloned());
        // The first look after a start is at all: what waits without having moved stands in no plan.
        let all = !known.looked;
        if all {
            // By name, and not as a new declaration: what it takes away was asked about when it was taken, and may still wait.
            only.extend(declaration.splits.keys().cloned());
            only.extend(known.plan.splits.keys().cloned());
        }
        if only.is_empty() && !all {
            let answers = judging::answers(&moving.waiting, Some((&known.plan, &known.outlook)));
            return self.answer(&answers).await;
        }
        let commits: Vec<SourceCommit> = known
            .commits
            .iter()
            .map(|(source, commit)| SourceCommit {
                source: source.clone(),
                commit: commit.clone(),
            })
            .collect();
        let highest = seen.fleet.highest(known.plan.generation);
        let fleet = Arc::clone(&seen.fleet);
        let (declared, orders, parent) = (Arc::clone(declaration), orders.clone(), Arc::clone(&known.plan));
        let thought = tokio::task::spawn_blocking(move || {
            let senses = seen.senses()?;
            let inputs = Inputs {
                declaration: &declared,
                commits: &commits,
                highest,
                parent: Some(&parent),
                now: seen.now,
            };
            let transit = Transit {
                senses: &senses,
                orders: &orders,
                reverts: None,
                only: Some(&only),
            };
            let look = weir_planner::step(inputs, transit);
            let findings = match &look.planned {
                Planned::New(plan) => weir_planner::lint(plan, Some(&parent)),
                _ => Vec::new(),
            };
            Some((look, findings))
        });
        let (look, findings) = match thought.await {
            Ok(Some(thought)) => thought,
            Ok(None) => return Ok(()),
            Err(panic) => {
                let why = Unsound(format!("it broke off: {panic}"));
                trouble(&self.troubles, "plan", |t| &mut t.unsound, Some(why.to_string()));
                return Ok(());
            }
        };
        let unsound = (!findings.is_empty()).then(|| Unsound::of(&findings).to_string());
        trouble(&self.troubles, "plan", |t| &mut t.unsound, unsound.clone());
        if unsound.is_some() {
            let _told = self.checks.count(Checked::Plan, unsound);
            return Ok(());
        }
        self.take(known, look, (&fleet, &moving.waiting)).await
    }

    /// Records and publishes a step, or what it waits for.
    async fn take(
        &mut self,
        known: InForce,
        look: Look,
        (fleet, waiting): (&Fleet, &[(Order, Option<String>)]),
    ) -> Result<(), LedgerError> {
        let now = Timestamp::now();
        let mut events = turns(&known.outlook, &look.outlook);
        let plan = match look.planned {
            Planned::New(plan) => Some(plan),
            Planned::Nothing => None,
            Planned::Refused(reasons) => {
                // The same declaration under the same plan: only a defect of this program comes here.
                let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let why = Some(format!("a step cannot be planned: {}", why.join("; ")));
                trouble(&self.troubles, "plan", |t| &mut t.unsound, why);
                return Ok(());
            }
        };
        let in_force = plan.as_ref().unwrap_or(&known.plan);
        let answers = judging::answers(waiting, Some((in_force, &look.outlook)));
        if let Some(plan) = &plan {
            events.push(plan_event(Some(&known.plan), plan));
            let declared = self.declared.as_deref();
            events.extend(self.checked(Some(&known.plan), plan, (fleet, declared)));
            events.extend(steps(&known.plan, plan));
            let first_of = moved_by(&known.plan, plan);
            let taken = Taken {
                commits: &[],
                in_force: None,
                plan: Some(plan),
                first_of: &first_of,
                answers: &answers,
                events: &events,
            };
            self.ledger.decide(now, taken).await?;
        } else {
            self.ledger.record(now, &events).await?;
            self.answer(&answers).await?;
        }
        for event in &events {
            tracing::info!(kind = event.kind, "{}", event.message);
        }
        let mut next = known;
        if let Some(plan) = plan {
            let mut created = (*next.created).clone();
            created.insert(plan.generation, plan.created);
            next.created = Arc::new(created);
            next.plan = Arc::new(plan);
        }
        next.outlook = Arc::new(look.outlook);
        next.looked = true;
        self.in_force.send_if_modified(|now| {
            let changes = now.as_ref() != Some(&next);
            *now = Some(next);
            changes
        });
        Ok(())
    }

    /// When time alone may let something go on.
    pub(super) fn wakes(&self) -> Option<Timestamp> {
        let known = self.in_force.borrow();
        let outlook = known.as_ref().map(|known| Arc::clone(&known.outlook))?;
        outlook.values().filter_map(|stands| stands.until).min()
    }

    /// Whether anything is under way.
    pub(super) fn in_motion(&self) -> bool {
        let known = self.in_force.borrow();
        let reconsiders = self.considered.is_none() && self.declared.is_some();
        known
            .as_ref()
            .is_some_and(|known| reconsiders || !known.looked || !unsettled(known).is_empty())
    }
}

/// What turned since the last look, to be told once.
pub(super) fn turns(
    before: &BTreeMap<SplitName, Outlook>,
    now: &BTreeMap<SplitName, Outlook>,
) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for (name, stands) in now {
        let was = before.get(name);
        let told = |of: &Outlook| (of.phase, of.waits.first().and_then(|wait| wait.zone.clone()));
        if was.map(told) == Some(told(stands)) {
            continue;
        }
        let kind = match stands.phase {
            Phase::Held => "transition.held",
            Phase::Frozen => "transition.frozen",
            Phase::Shift | Phase::Settle if stands.waits.is_empty() => continue,
            Phase::Shift => "transition.waits",
            Phase::Settle => "transition.waits",
            Phase::Bake => "transition.bakes",
            Phase::Verify => "transition.verifies",
            Phase::Return => "transition.returns",
            Phase::Quarantined => "transition.quarantined",
            Phase::Drained => "transition.drained",
        };
        // Waiting for proof is what every step does for a second: only what is not a second's matter is told.
        if matches!(stands.phase, Phase::Shift) && was.is_none_or(|was| was.phase == Phase::Shift) {
            continue;
        }
        let why = stands.waits.first().map_or_else(
            || stands.next.clone(),
            |wait| match &wait.zone {
                Some(zone) => format!("zone {zone}: {}", wait.why),
                None => wait.why.clone(),
            },
        );
        events.push(NewEvent::new(kind, format!("split {name}: {why}")).split(name));
    }
    events
}

/// The commits by which items of this plan moved.
fn moved_by(before: &Plan, plan: &Plan) -> Vec<CommitId> {
    let mut commits = BTreeSet::new();
    for (name, split) in &plan.splits {
        if before.splits.get(name).is_some_and(|was| Arc::ptr_eq(was, split)) {
            continue;
        }
        let moved = split
            .items
            .values()
            .filter(|item| item.generation == plan.generation);
        commits.extend(moved.map(|item| item.commit.clone()));
    }
    commits.into_iter().collect()
}

/// Transitions that came to an end with this plan.
fn steps(before: &Plan, plan: &Plan) -> Vec<NewEvent> {
    let moving = |plan: &Plan, name: &SplitName| {
        let course = plan.splits.get(name).and_then(|split| split.course.as_ref());
        course.is_some_and(|course| course.motion.is_some())
    };
    let ended = plan
        .splits
        .keys()
        .filter(|name| moving(before, name) && !moving(plan, name));
    ended
        .map(|name| {
            NewEvent::new(
                "transition.rests",
                format!("split {name} rests: every zone runs what it was told, by proof"),
            )
            .split(name)
            .generation(plan.generation)
        })
        .collect()
}
