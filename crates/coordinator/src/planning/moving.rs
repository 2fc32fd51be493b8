//! Moving on without a new commit: the next step of transitions, as zones prove the last one, and orders of people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{CommitId, Declaration, SourceCommit, SplitName};
use weir_planner::{Drain, Inputs, Look, Orders, Outlook, Phase, Plan, Planned, Runs, Senses as _, Transit};

use super::Planning;
use super::recording::plan_event;
use crate::decide::Unsound;
use crate::fleet::Fleet;
use crate::ledger::{Answer, LedgerError, NewEvent, Order, OrderKind, Taken};
use crate::senses::{FleetSenses, Proven};
use crate::standing::Sight;
use crate::state::{InForce, trouble};

/// What transitions go by, for one look.
pub(super) struct Moving {
    /// Orders that are to be answered by this look, with why those are refused that it does not obey.
    pub(super) waiting: Vec<(Order, Option<String>)>,
    /// What is ordered, those of `waiting` included.
    pub(super) orders: Orders,
}

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
    /// Reads what people ordered; `decides` is for a look at commits that may not be those in force.
    pub(super) async fn orders(&self, decides: bool) -> Result<Moving, LedgerError> {
        let mut waiting = Vec::new();
        let standing = self.ledger.standing_orders().await?;
        let (mut drains, mut freezes): (Vec<Order>, Vec<Order>) = standing
            .into_iter()
            .partition(|order| matches!(order.kind, OrderKind::Drain { .. }));
        let mut orders = Orders::default();
        let given = self.ledger.orders_waiting().await?;
        let aborted = given.iter().filter(|order| order.kind == OrderKind::Abort);
        let aborted: BTreeSet<SplitName> = aborted.filter_map(|order| order.split.clone()).collect();
        // One after the other, and what is decided here is what is answered: an order that is refused changes nothing.
        for order in given {
            let mut refused = None;
            match (&order.kind, &order.split) {
                // Nothing is known yet to judge it by: the next look does, and answers it. Until then it is obeyed: its
                // first step may have been taken before this start, and not to take that back is to obey it.
                (OrderKind::Drain { .. }, Some(split)) if self.declared.is_none() => {
                    if self.unquarantined(split).is_ok() {
                        drains.push(order);
                    }
                    continue;
                }
                (OrderKind::Undrain { backend }, split) if self.declared.is_none() => {
                    if self.undrains(&order, &drains).is_ok() {
                        drains.retain(|drain| drain.split != *split || drain.kind.backend() != Some(backend));
                    }
                    continue;
                }
                // An abort goes back from where the split is, and what it leaves is what drains are judged by.
                (OrderKind::Drain { .. } | OrderKind::Undrain { .. }, Some(split))
                    if aborted.contains(split) =>
                {
                    continue;
                }
                // What it is judged by may be in force no more after this look.
                (OrderKind::Drain { .. }, _) if decides => continue,
                (OrderKind::Freeze, _) => freezes.push(order.clone()),
                (OrderKind::Drain { .. }, Some(_)) => match self.drains(&order, &drains) {
                    Ok(()) => drains.push(order.clone()),
                    Err(why) => refused = Some(why),
                },
                (OrderKind::Undrain { backend }, split) => match self.undrains(&order, &drains) {
                    Ok(()) => {
                        drains.retain(|drain| drain.split != *split || drain.kind.backend() != Some(backend));
                    }
                    Err(why) => refused = Some(why),
                },
                (OrderKind::Abort, Some(split)) => {
                    orders
                        .aborts
                        .insert(split.clone(), format!("it was aborted: {}", order.told()));
                }
                (OrderKind::Resume, split) => {
                    if let Some(split) = split {
                        orders.resumes.insert(split.clone());
                    }
                    freezes.retain(|freeze| freeze.split != *split);
                }
                (OrderKind::Abort, None) => {}
                (OrderKind::Drain { .. }, None) => refused = Some("a drain names its split".to_owned()),
            }
            waiting.push((order, refused));
        }
        for drain in drains {
            if let (Some(split), OrderKind::Drain { backend, to }) = (&drain.split, &drain.kind) {
                let of = orders.drains.entry(split.clone()).or_default();
                let to = to.clone();
                let why = drain.told();
                of.insert(backend.clone(), Drain { to, why });
            }
        }
        for freeze in freezes {
            match &freeze.split {
                Some(split) => {
                    orders.frozen.insert(split.clone(), freeze.told());
                }
                None => orders.all_frozen = Some(freeze.told()),
            }
        }
        Ok(Moving { waiting, orders })
    }

    /// Whether a drain can be carried out beside those that stand; or why not.
    fn drains(&self, order: &Order, standing: &[Order]) -> Result<(), String> {
        let (Some(name), OrderKind::Drain { backend, .. }) = (&order.split, &order.kind) else {
            return Ok(());
        };
        let split = self
            .declared
            .as_ref()
            .and_then(|declared| declared.splits.get(name));
        let split = split.ok_or_else(|| format!("no split is named {name}"))?;
        self.unquarantined(name)?;
        if !split.backends.contains_key(backend) {
            return Err(format!("split {name} has no backend {backend}"));
        }
        let of_split = standing.iter().filter(|drain| drain.split.as_ref() == Some(name));
        let all = of_split.chain([order]).filter_map(|drain| match &drain.kind {
            OrderKind::Drain { backend, to } => {
                let (to, why) = (to.clone(), drain.told());
                Some((backend.clone(), Drain { to, why }))
            }
            _ => None,
        });
        let all: BTreeMap<_, _> = all.collect();
        if let Some(drain) = all.get(backend) {
            weir_planner::drain::can_take(split, (backend, drain), &all)?;
        }
        weir_planner::drain::without(split, &all).map(|_| ())
    }

    /// Whether there is a drain to end, and nothing comes of its end that nobody wants.
    fn undrains(&self, order: &Order, drains: &[Order]) -> Result<(), String> {
        let (Some(split), Some(backend)) = (&order.split, order.kind.backend()) else {
            return Err("an undrain names its split and backend".to_owned());
        };
        let of = |drain: &Order| drain.split.as_ref() == Some(split) && drain.kind.backend() == Some(backend);
        if !drains.iter().any(of) {
            return Err(format!("backend {backend} of split {split} is not drained"));
        }
        self.unquarantined(split)
    }

    /// A quarantine is of the very weights that were judged: with a drain they would be others, and be gone towards.
    fn unquarantined(&self, split: &SplitName) -> Result<(), String> {
        let known = self.in_force.borrow();
        let split_plan = known.as_ref().and_then(|known| known.plan.splits.get(split));
        let course = split_plan.and_then(|of| of.course.as_ref());
        match course.and_then(|course| course.quarantine.as_ref()) {
            Some(quarantine) => Err(format!(
                "split {split} is quarantined ({}): commit what is wanted, or `weir resume` it, first",
                quarantine.why
            )),
            None => Ok(()),
        }
    }

    /// Answers orders, by what came of them.
    pub(super) async fn answer(&self, waiting: &[(Order, Option<String>)]) -> Result<(), LedgerError> {
        let known = self.in_force.borrow().clone();
        for (order, refused) in waiting {
            let answer = match refused {
                Some(message) => Answer {
                    done: false,
                    message: message.clone(),
                },
                None => answer(order, known.as_ref(), self.declared.as_deref()),
            };
            self.ledger.answer_order(Timestamp::now(), order, &answer).await?;
        }
        Ok(())
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

    /// Looks at what is under way, and takes the next step if there is one. False if that broke off: then nothing that was
    /// ordered was looked at either.
    pub(super) async fn advance(
        &mut self,
        known: InForce,
        declaration: &Arc<Declaration>,
        moving: &Moving,
        seen: Seen,
    ) -> Result<bool, LedgerError> {
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
            return Ok(true);
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
            Ok(None) => return Ok(false),
            Err(panic) => {
                let why = Unsound(format!("it broke off: {panic}"));
                trouble(&self.troubles, "plan", |t| &mut t.unsound, Some(why.to_string()));
                return Ok(false);
            }
        };
        let unsound = (!findings.is_empty()).then(|| Unsound::of(&findings).to_string());
        trouble(&self.troubles, "plan", |t| &mut t.unsound, unsound.clone());
        if unsound.is_some() {
            return Ok(false);
        }
        self.take(known, look).await
    }

    /// Records and publishes a step, or what it waits for.
    async fn take(&mut self, known: InForce, look: Look) -> Result<bool, LedgerError> {
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
                return Ok(false);
            }
        };
        if let Some(plan) = &plan {
            events.push(plan_event(Some(&known.plan), plan));
            events.extend(steps(&known.plan, plan));
            let first_of = moved_by(&known.plan, plan);
            let taken = Taken {
                commits: &[],
                in_force: None,
                plan: Some(plan),
                first_of: &first_of,
                events: &events,
            };
            self.ledger.decide(now, taken).await?;
        } else {
            self.ledger.record(now, &events).await?;
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
        Ok(true)
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

/// What became of an order.
fn answer(order: &Order, known: Option<&InForce>, declared: Option<&Declaration>) -> Answer {
    let done = |message: &str| Answer {
        done: true,
        message: message.to_owned(),
    };
    let refused = |message: String| Answer { done: false, message };
    let Some(known) = known else {
        return refused("there is no plan yet".to_owned());
    };
    let waits = |split: &SplitName| known.outlook.contains_key(split);
    if let Some(split) = &order.split
        && !matches!(order.kind, OrderKind::Undrain { .. })
        && !known.plan.splits.contains_key(split)
        && !waits(split)
    {
        return refused(format!("no split is named {split}"));
    }
    match (&order.kind, &order.split) {
        (OrderKind::Drain { backend, .. }, _) => done(&format!(
            "drained: {backend} goes to 0 % in every zone, as any other change of weights does, and stays there until it is undrained"
        )),
        (OrderKind::Undrain { backend }, Some(name)) if let Some(declared) = declared => {
            match declared.splits.get(name) {
                None => done(&format!(
                    "undrained: split {name} is not declared now; when it comes again, {backend} gets what Git declares"
                )),
                Some(split) if !split.backends.contains_key(backend) => done(&format!(
                    "undrained: split {name} declares no backend {backend} now; when it comes again, it gets what Git declares"
                )),
                Some(_) => done(&format!("undrained: {backend} goes to what Git declares")),
            }
        }
        (OrderKind::Undrain { backend }, _) => {
            done(&format!("undrained: {backend} goes to what Git declares"))
        }
        (OrderKind::Freeze, _) => done("frozen: nothing but reverts and aborts moves until it is resumed"),
        (OrderKind::Resume, _) => done("resumed"),
        (OrderKind::Abort, None) => refused("an abort names its split".to_owned()),
        (OrderKind::Abort, Some(split)) => {
            let course = known.plan.splits.get(split).and_then(|of| of.course.as_ref());
            let motion = course.and_then(|course| course.motion.as_ref());
            if motion.is_some_and(|motion| motion.stopped.is_some()) {
                done(
                    "it is stopped where it is and does not go back, for that would give more to who is drained, or to who gained \
                     already: `weir undrain` ends the drain, a commit says what else is wanted",
                )
            } else if course.is_some_and(|course| course.quarantine.is_some()) {
                done(
                    "it goes back everywhere at once; what Git declares is not gone towards until a commit changes the split, \
                     or it is resumed",
                )
            } else {
                refused(format!(
                    "nothing of {split} is under way that could go back (a drain is ended by `weir undrain`)"
                ))
            }
        }
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
