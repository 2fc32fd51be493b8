//! One activation: observe, look at lone anchors, decide, leave what is fought over, apply, prove, count, conclude. It carries no input but the plan that is held; nothing
//! is retried in here, the next activation is the retry.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_drivers::{Fault, Outcome, ZoneDriver};
use weir_planner::{Generation, Item, ZoneFacts, ZonePlan};
use weir_render::{Object, Options, Step};

use crate::anchors::{self, Anchors};
use crate::conclude::{Conclusion, Happened, conclude, only_introduced};
use crate::contest::Contests;
use crate::decide::{Decision, SPLIT, decide, items};
use crate::fallback::{self, Watch};
use crate::take::Memory;

/// What time it is: by a clock that only rises, and by the host's.
pub type Moment = (Instant, Timestamp);

/// What time it is now, by this host's clocks.
pub fn now() -> Moment {
    (Instant::now(), Timestamp::now())
}

/// What an agent noticed over several activations, in memory alone.
#[derive(Debug, Clone, Default)]
pub struct Noticed {
    /// Policies that are an anchor alone, and how long they are.
    pub anchors: Anchors,
    /// Backends, and since when they are down or well.
    pub watch: Watch,
    /// Policies that were put back, and how often.
    pub contests: Contests,
}

/// Runs one activation, by a clock that says what time it is whenever it is asked.
pub async fn activate(
    driver: &dyn ZoneDriver,
    plan: &ZonePlan,
    memory: &Memory,
    options: Options,
    before: Option<&ZoneFacts>,
    noticed: &mut Noticed,
    clock: &(dyn Fn() -> Moment + Send + Sync),
) -> Conclusion {
    let (now, _) = clock();
    let plan = &*memory.pins.over(plan);
    let items = items(plan);
    let Noticed {
        anchors,
        watch,
        contests,
    } = noticed;
    let mut memory = memory.clone();
    let mut look = async |memory: &mut Memory| {
        let observed = driver.observe(&plan.mesh, &items).await;
        let decision = match &observed {
            Ok(observed) => {
                let alone = anchors::alone(observed.ours.iter().map(|(object, _)| object));
                let sightings = match alone.as_slice() {
                    [] => Vec::new(),
                    some => driver.sight(some).await,
                };
                anchors.note(&alone.into_iter().zip(sightings).collect::<Vec<_>>(), now);
                let seen = (observed.ours.as_slice(), observed.services.as_slice());
                let stand = fallback::stands(plan, memory, seen);
                let at = (now, clock().1);
                watch.see(&stand, &observed.services, memory, at);
                memory.fallen = fallback::look(plan, memory, seen, watch, at);
                let mut decision = decide(plan, memory, observed, options, anchors, now);
                contests.hold(plan, &mut decision, observed, at);
                decision
            }
            // What cannot be seen is not touched; and while the control plane is away, no Envoy hears of an anchor.
            Err(_) => {
                anchors.interrupted();
                contests.interrupted();
                Decision::default()
            }
        };
        (observed, decision)
    };
    let at = clock().0;
    let (mut observed, mut decision) = look(&mut memory).await;
    // What a driver remembers is good enough to see that nothing is to be done. Before anything is, it looks.
    if !decision.steps.is_empty() && observed.as_ref().is_ok_and(|observed| !observed.age.is_zero()) {
        driver.look_again();
        (observed, decision) = look(&mut memory).await;
    }
    let mut outcomes = Vec::with_capacity(decision.steps.len());
    // Items whose policy was to be written, and is not.
    let fought_over = decision.fought_over.iter();
    let mut missing: Vec<&Item> = fought_over
        .filter_map(|split| plan.items.get(split).map(Arc::as_ref))
        .collect();
    for step in &decision.steps {
        let ours = observed.as_ref().map_or(&[][..], |observed| &observed.ours);
        let outcome = match stands_in(step, ours, &missing) {
            Some(item) => Ok(Outcome::Yielded(format!(
                "the policy of split {} takes its place, and is not written yet",
                item.split
            ))),
            None => driver.apply(step).await,
        };
        log(step, &outcome);
        contests.note(step, &outcome, clock());
        if let Step::Put { split, .. } = step
            && !matches!(outcome, Ok(Outcome::Done { .. }))
        {
            missing.extend(plan.items.get(split).map(Arc::as_ref));
        }
        let away = matches!(&outcome, Err(error) if error.fault == Fault::Away);
        outcomes.push(outcome);
        if away {
            break;
        }
    }
    let introduced = |item: &&Arc<Item>| decision.introduced.contains(&item.split);
    let in_force = items.iter().filter(|item| !introduced(item));
    let in_force: Vec<_> = in_force.map(|item| fallback::driven(item, &memory)).collect();
    // At one time: whoever is slow to tell what he counts keeps nobody waiting for a proof, nor the other way about.
    let (proven, counts) = futures::future::join(driver.prove(&in_force), driver.count(&items)).await;
    let mut proven = proven.into_iter();
    let proofs = items
        .iter()
        .map_while(|item| match introduced(&item) {
            true => Some(only_introduced(clock().1)),
            false => proven.next(),
        })
        .collect();
    let happened = Happened {
        observed,
        decision,
        outcomes,
        proofs,
        counts,
    };
    let mut done = conclude(plan, &memory, &happened, before, clock().1);
    // By what fallbacks were decided by, and not by what was counted since: of that the next look makes something.
    let mut failing = watch.failing(plan, &done.memory, at);
    watch.count(&items, &happened.counts, clock().0);
    for item in &mut done.facts.items {
        item.failing = failing.remove(&item.split).unwrap_or_default();
        item.contested = contests.of(&item.split);
        item.vanished = watch.vanished(&item.split);
    }
    done
}

/// Which of these items an object that is to be removed still serves: it is of the same split, in the other kind, or for
/// the same service and port. Without it callers would fall to Kuma.
fn stands_in<'a>(step: &Step, ours: &[(Object, Generation)], missing: &[&'a Item]) -> Option<&'a Item> {
    let Step::Delete { kind, mesh, name, .. } = step else {
        return None;
    };
    let (object, _) = ours
        .iter()
        .find(|(object, _)| (object.kind, &object.mesh, &object.name) == (*kind, mesh, name))?;
    let split = object.labels.get(SPLIT).map(String::as_str);
    let mut missing = missing.iter().copied();
    missing.find(|item| split == Some(item.split.as_str()) || object.is_for(item))
}

fn log(step: &Step, outcome: &Result<Outcome, weir_drivers::DriverError>) {
    let (verb, kind, name, reason) = match step {
        Step::Put { object, reason, .. } => ("put", object.kind, &object.name, reason),
        Step::Introduce { object, reason, .. } => ("introduce", object.kind, &object.name, reason),
        Step::Withdraw { object, reason, .. } => ("withdraw", object.kind, &object.name, reason),
        Step::Delete {
            kind, name, reason, ..
        } => ("delete", *kind, name, reason),
    };
    let kind = kind.name();
    match outcome {
        Ok(Outcome::Done { .. }) => tracing::info!(verb, kind, name, %reason, "done"),
        Ok(Outcome::Yielded(why)) => tracing::warn!(verb, kind, name, %why, "left alone"),
        Err(error) => tracing::warn!(verb, kind, name, %error, help = error.help, "failed"),
    }
}
