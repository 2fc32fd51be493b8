//! Whether another agent of this zone has a newer plan, told from what is live: agents hold no lease, and one that is cut
//! off from the coordinator keeps an old plan. Pure.
//!
//! A policy that is there carries the generation that wrote it. One that was removed carries nothing: an old agent would
//! put it back, a new one would remove it, for ever. So who removes leaves its plan's generation on a policy that stays,
//! and who finds a generation above its own plan's creates nothing.

use weir_drivers::Observed;
use weir_model::sabotaged;
use weir_planner::{Generation, Item, ZonePlan};
use weir_render::{Object, PLAN, Step};

use crate::decide::LEAP;
use crate::take::Memory;

/// What a policy in force tells that carries this very plan's generation, though the plan does not have its split, or one
/// above what the plan has for it, though the plan is as new: it is of another history of plans, as after a ledger was lost
/// with all plans of agents. Only a plan above both can take it away.
fn another_history(plan: &ZonePlan, object: &Object, generation: Generation) -> Generation {
    let split = object.labels.get(crate::decide::SPLIT);
    let mut items = plan.items.values();
    let item = items.find(|item| split.is_some_and(|split| item.split.as_str() == split));
    let whole = weir_render::extent(object) == weir_render::Extent::Whole && object.pinned().is_none();
    let other = match item {
        None => generation == plan.generation,
        Some(item) => item.generation < generation && generation <= plan.generation,
    };
    if whole && other {
        Generation(plan.generation.0.saturating_add(1))
    } else {
        generation
    }
}

/// The newest plan that any live object of ours tells of, with the object's name. A number that no history can have
/// reached is somebody's own label, and no plan.
pub(crate) fn newest<'a>(
    plan: &ZonePlan,
    memory: &Memory,
    observed: &'a Observed,
) -> Option<(&'a str, Generation)> {
    newest_of(plan, memory, observed, |_| true)
}

fn newest_of<'a>(
    plan: &ZonePlan,
    memory: &Memory,
    observed: &'a Observed,
    of: impl Fn(&Object) -> bool,
) -> Option<(&'a str, Generation)> {
    let most = plan.generation.0.max(memory.highest.0).saturating_add(LEAP);
    observed
        .ours
        .iter()
        .filter(|(object, _)| of(object))
        .map(|(object, generation)| {
            let told = object
                .tells_of(*generation)
                .max(another_history(plan, object, *generation));
            (object.name.as_str(), told)
        })
        .filter(|(_, generation)| generation.0 <= most)
        .max_by_key(|(_, generation)| *generation)
}

/// Why nothing may be created now; none if this plan is the newest that the zone knows of.
pub(crate) fn by(plan: &ZonePlan, memory: &Memory, observed: &Observed) -> Option<String> {
    let (name, newest) = newest(plan, memory, observed)?;
    // What is kept in force without a plan is as new as the newest of its items.
    let known = if plan.generation == crate::store::RECOVERED {
        let items = plan.items.values().map(|item| item.generation);
        items.max().unwrap_or(plan.generation)
    } else {
        plan.generation
    };
    (newest > known && !sabotaged("forget-removals")).then(|| {
        format!(
            "its policy is not there, and {name} tells of plan {newest}: another agent of this zone has a newer plan than {} \
             here, which may have removed it; it is created again only by that plan. Look why this agent is without it \
             (`weir-agent status`)",
            plan.generation
        )
    })
}

/// Where something is removed, the step that leaves word of it on a policy that stays; none where one tells already, or
/// none stays.
pub(crate) fn word(
    plan: &ZonePlan,
    memory: &Memory,
    observed: &Observed,
    wanted: &[(&Item, Vec<Object>)],
    steps: &mut Vec<Step>,
) {
    let Some(word) = word_of(plan, memory, observed, wanted, steps) else {
        return;
    };
    steps.insert(0, word);
}

fn word_of(
    plan: &ZonePlan,
    memory: &Memory,
    observed: &Observed,
    wanted: &[(&Item, Vec<Object>)],
    steps: &mut Vec<Step>,
) -> Option<Step> {
    let removed = |object: &Object| {
        let here = (object.kind, &object.mesh, object.name.as_str());
        steps
            .iter()
            .any(|step| matches!(step, Step::Delete { .. }) && step.object() == here)
    };
    // What goes now tells nobody any more, also where it did until now, as the lone anchor of a split that is withdrawn.
    let stay = |object: &Object| !removed(object);
    let tells = newest_of(plan, memory, observed, stay).is_some_and(|(_, newest)| newest >= plan.generation)
        // Only what goes over an object of ours is sure to be written: a stranger may have the name of what is not there yet.
        || steps.iter().any(|step| match step {
            Step::Put { object, generation, .. } => {
                *generation >= plan.generation && is_live(object, observed)
            }
            Step::Introduce { .. } | Step::Withdraw { .. } | Step::Delete { .. } => false,
        });
    if tells || !observed.ours.iter().any(|(object, _)| removed(object)) {
        return None;
    }
    // The first by name, so that all agents choose the same; and one that is there, so that nothing is created for it.
    let beside = wanted.iter().find_map(|(item, objects)| {
        let object = objects.iter().find(|object| {
            is_live(object, observed)
                // A lone anchor is written with care for what others may have written meanwhile, and this is not.
                && weir_render::extent(object) == weir_render::Extent::Whole
                && !steps.iter().any(|step| step.object().2 == object.name)
        })?;
        let mut object = object.clone();
        object.labels.insert(PLAN.to_owned(), plan.generation.to_string());
        Some(Step::Put {
            object,
            reason: format!("plan {} removes something here", plan.generation),
            split: item.split.clone(),
            generation: item.generation,
            digest: item.digest,
        })
    });
    if beside.is_some() {
        return beside;
    }
    // All that stays is written now anyway: then one of these tells, and is written before anything goes.
    let tells = |step: &Step| match step {
        Step::Put { object, .. } => {
            is_live(object, observed) && weir_render::extent(object) == weir_render::Extent::Whole
        }
        _ => false,
    };
    let at = steps.iter().position(tells)?;
    let mut step = steps.remove(at);
    if let Step::Put { object, .. } = &mut step {
        object.labels.insert(PLAN.to_owned(), plan.generation.to_string());
    }
    Some(step)
}

/// A policy that is written over goes on telling what it told: an agent that repairs one which somebody edited may itself be
/// the one that does not know of the removal. So may one that pins, and what told of it then is the generation that its pin
/// takes the place of. What came to tell more since it was looked at, a driver leaves for the next look.
pub(crate) fn passed_on(steps: &mut [Step], observed: &Observed) {
    for step in steps {
        let Step::Put {
            object, generation, ..
        } = step
        else {
            continue;
        };
        let live = observed.ours.iter().find(|(live, _)| {
            (live.kind, &live.mesh, &live.name) == (object.kind, &object.mesh, &object.name)
        });
        let word = live.map(|(live, of)| live.tells_of(*of));
        if let Some(newer) = word.filter(|word| *word > object.tells_of(*generation)) {
            object.labels.insert(PLAN.to_owned(), newer.to_string());
        }
    }
}

/// Whether an object of ours takes this one's place already.
pub(crate) fn is_live(object: &Object, observed: &Observed) -> bool {
    observed
        .ours
        .iter()
        .any(|(live, _)| (live.kind, &live.mesh, &live.name) == (object.kind, &object.mesh, &object.name))
}
