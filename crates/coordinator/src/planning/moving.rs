//! Moving on without a new commit: the next step of transitions, as zones prove the last one, and orders of people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{CommitId, Declaration, SourceCommit, SplitName, ZoneName};
use weir_planner::{Inputs, Look, Outlook, Phase, Plan, Planned, Runs, Senses as _, Transit};

use super::Planning;
use super::recording::plan_event;
use super::waits::waits;
use crate::decide::Unsound;
use crate::fleet::Fleet;
use crate::judging::{self, Ground, Judged};
use crate::ledger::{Answer, LedgerError, NewEvent, Order, Taken, Turn};
use crate::selfcheck::Checked;
use crate::senses::{FleetSenses, Proven};
use crate::standing::Sight;
use crate::state::{InForce, Waits, trouble};

/// The last that was told of each split's transitions.
pub(super) type Turns = BTreeMap<SplitName, Turn>;

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

    /// Refuses all orders, where nothing is planned. What cannot be written now is tried again.
    pub(super) async fn decline(&self, message: &str) {
        let waiting = self.ledger.orders_waiting().await.unwrap_or_default();
        let refused = |order| {
            let answer = Answer {
                done: false,
                message: message.to_owned(),
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
        // Above plans of a lost history all is planned anew.
        let highest = seen.fleet.highest(known.plan.generation);
        if only.is_empty() && !all && highest <= known.plan.generation {
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
                Planned::New(plan) => weir_planner::lint_step(plan, &parent),
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
        let recalled = self.recalled(known.looked).await;
        let mut look = look;
        keep_since(&known.outlook, &recalled, &mut look.outlook, now);
        let mut events = unjudged(&look.unjudged);
        let before = (known.looked, (&*known.outlook, &*known.waits));
        let waits = tell(before, &recalled, (&look.outlook, now), &mut events);
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
        next.waits = Arc::new(waits);
        next.looked = true;
        self.in_force.send_if_modified(|now| {
            let changes = now.as_ref() != Some(&next);
            *now = Some(next);
            changes
        });
        Ok(())
    }

    /// What was last told of each split's transitions, for the first look after a start: who is held still was told so already.
    /// Only words hang on it: where it cannot be read planning goes on.
    pub(super) async fn recalled(&self, looked: bool) -> Turns {
        if looked {
            return Turns::new();
        }
        self.ledger.last_turns().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what was last told of transitions cannot be read, and is told again");
            Turns::new()
        })
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

/// What is waited for, as far as it has a time of its own: the reason's words may change while it lasts.
fn position(of: &Outlook) -> (Phase, Option<&ZoneName>) {
    (of.phase, of.waits.first().and_then(|wait| wait.zone.as_ref()))
}

/// What is told of it, in a sentence.
pub(super) fn message(name: &SplitName, of: &Outlook) -> String {
    let why = of.waits.first().map_or_else(
        || of.next.clone(),
        |wait| match &wait.zone {
            Some(zone) => format!("zone {zone}: {}", wait.why),
            None => wait.why.clone(),
        },
    );
    format!("split {name}: {why}")
}

/// Since when a split is held or frozen, or waits for its first step: since it was first seen so. A look knows of the last step at most.
pub(super) fn keep_since(
    before: &BTreeMap<SplitName, Outlook>,
    recalled: &Turns,
    now: &mut BTreeMap<SplitName, Outlook>,
    at: Timestamp,
) {
    for (name, stands) in now {
        let waits_at_first = stands.since.is_none() && !stands.waits.is_empty();
        if !matches!(stands.phase, Phase::Held | Phase::Frozen) && !waits_at_first {
            continue;
        }
        let was = before.get(name).filter(|was| position(was) == position(stands));
        let was = was.and_then(|was| was.since);
        let recalled = recalled
            .get(name)
            .filter(|turn| turn.message == message(name, stands));
        stands.since = Some(was.or(recalled.map(|turn| turn.at)).unwrap_or(at));
    }
}

/// What turned since the last look, to be told once.
pub(super) fn turns(
    before: &BTreeMap<SplitName, Outlook>,
    recalled: &Turns,
    now: &BTreeMap<SplitName, Outlook>,
) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for (name, stands) in now {
        let was = before.get(name);
        if was.map(position) == Some(position(stands)) {
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
        let event = NewEvent::new(kind, message(name, stands)).split(name);
        let before = recalled.get(name);
        if before.is_none_or(|turn| (turn.kind.as_str(), &turn.message) != (event.kind, &event.message)) {
            events.push(event);
        }
    }
    events
}

/// What turned since the last look, and what lasts; and since when each thing is waited for.
pub(super) fn tell(
    (looked, before): (bool, (&BTreeMap<SplitName, Outlook>, &Waits)),
    recalled: &Turns,
    (now, at): (&BTreeMap<SplitName, Outlook>, Timestamp),
    events: &mut Vec<NewEvent>,
) -> Waits {
    let turned = turns(before.0, recalled, now);
    let told = turned.iter().filter_map(|event| event.split.as_ref()).collect();
    let before = looked.then_some(before.1);
    let (waits, lasting) = waits(before, recalled, now, (&told, at));
    events.extend(turned.iter().cloned().chain(lasting));
    waits
}

/// Steps from which splits go on though traffic said nothing of them.
pub(super) fn unjudged(all: &BTreeMap<SplitName, String>) -> Vec<NewEvent> {
    let told = all
        .iter()
        .map(|(name, why)| NewEvent::new("transition.unjudged", format!("split {name}: {why}")).split(name));
    told.collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use weir_planner::Wait;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// In this phase for a reason of that zone; the planner knows of the last step alone.
    fn outlook(phase: Phase, zone: &str, why: &str) -> BTreeMap<SplitName, Outlook> {
        let stands = Outlook {
            declared: BTreeMap::new(),
            phase,
            bite: 1,
            bites: 2,
            wave: None,
            waves: Vec::new(),
            waits: vec![Wait {
                zone: Some(ZoneName::new(zone).unwrap()),
                why: why.to_owned(),
            }],
            next: String::new(),
            since: Some(at(-3_600)),
            until: None,
            drained: false,
        };
        BTreeMap::from([(SplitName::new("checkout").unwrap(), stands)])
    }

    #[test]
    fn who_is_held_says_since_when_it_is_held_for_that() {
        let none = Turns::new();
        let look = |before: &BTreeMap<SplitName, Outlook>, recalled: &Turns, mut now, second| {
            keep_since(before, recalled, &mut now, at(second));
            let since = now.values().next().unwrap().since.unwrap();
            (now, since.duration_since(at(0)).as_secs())
        };
        let empty = BTreeMap::new();
        let (held, since) = look(&empty, &none, outlook(Phase::Held, "fra", "no vm"), 5);
        assert_eq!(since, 5, "and not that of the last step");
        let (held, since) = look(&held, &none, outlook(Phase::Held, "fra", "no vm, for 3 s"), 8);
        assert_eq!(since, 5, "its words change while it lasts");
        let (other, since) = look(&held, &none, outlook(Phase::Held, "ams", "no vm"), 9);
        assert_eq!(since, 9, "another zone's reason");
        let (frozen, since) = look(&other, &none, outlook(Phase::Frozen, "ams", "no vm"), 11);
        assert_eq!(since, 11);
        let (_, since) = look(&frozen, &none, outlook(Phase::Shift, "ams", "proof"), 12);
        assert_eq!(since, -3_600, "what moves is there since its last step");

        // After a start nothing is known but what was told.
        let told = |message: &str| {
            let turn = Turn {
                kind: "transition.held".to_owned(),
                message: message.to_owned(),
                at: at(-60),
            };
            Turns::from([(SplitName::new("checkout").unwrap(), turn)])
        };
        let held = || outlook(Phase::Held, "fra", "no vm");
        let same = told("split checkout: zone fra: no vm");
        assert_eq!(look(&empty, &same, held(), 5).1, -60);
        assert!(turns(&empty, &same, &held()).is_empty(), "it was told then");
        let another = told("split checkout: zone ams: no vm");
        assert_eq!(look(&empty, &another, held(), 5).1, 5);
        assert_eq!(turns(&empty, &another, &held()).len(), 1);
    }
}
