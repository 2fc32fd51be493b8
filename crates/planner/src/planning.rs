//! The one function that makes plans.
//!
//! Its cost follows the change: for a split whose inputs have the digest that they had in the parent, the parent's items
//! are taken over as they are, unread.

mod routes;
pub(crate) mod waiting;
mod whole;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{Declaration, ServiceName, SourceCommit, SplitName, ZoneName};

use crate::canonical;
use crate::course::Course;
use crate::drain;
use crate::facts::ProvenWeights;
use crate::lint;
use crate::outlook::Outlook;
use crate::plan::{Generation, Item, Plan, PlanId, SplitPlan, Splits};
use crate::refusal::Refusal;
use crate::transition::{self, Transit};
use whole::{Past, Seen, Whole};

/// A backend that was taken out of a split stays behind the anchor at least this long after the plan that took it out,
/// whatever else is committed meanwhile. Twice Kuma's drain time (`kuma.md` R9), so that quick commits one after the
/// other never take a cluster from under requests that still go there.
pub const DRAIN: SignedDuration = SignedDuration::from_secs(60);

/// All that a plan depends on. Equal inputs give equal bytes.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What is declared; without error diagnostics.
    pub declaration: &'a Declaration,
    /// The accepted commit of each source, in any order.
    pub commits: &'a [SourceCommit],
    /// The highest generation that any agent ever reported; 0 if none did.
    pub highest: Generation,
    /// The plan in force; none before the first.
    pub parent: Option<&'a Plan>,
    /// The time, which becomes [`Plan::created`].
    pub now: Timestamp,
}

/// What came of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// The parent says it all. New commits that change nothing make no plan.
    Nothing,
    /// A new plan.
    New(Plan),
    /// Nothing moves; why, at least one reason.
    Refused(Vec<Refusal>),
}

/// What planning had to do: a measure of its cost that is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Splits whose inputs were digested and compared.
    pub splits_compared: usize,
    /// Splits that were planned because their inputs differ.
    pub splits_planned: usize,
    /// Items that were made anew.
    pub items_made: usize,
    /// Items of planned splits that turned out as they were.
    pub items_kept: usize,
}

/// Makes the plan that follows `parent`, if anything has to change.
///
/// The generation is one above the parent's and above every generation that an agent reported. An agent that reports
/// more than the parent's generation has seen plans that this history does not hold (a ledger restored from a backup, a
/// coordinator that was replaced): then every item is written anew under the new generation, so that no zone stays with
/// what the lost plans told it.
pub fn plan(inputs: Inputs<'_>) -> Planned {
    plan_with_work(inputs).0
}

/// [`plan`], and what it had to do.
pub fn plan_with_work(inputs: Inputs<'_>) -> (Planned, Work) {
    let look = look(inputs, None);
    (look.planned, look.work)
}

/// One look of a coordinator that moves splits step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The next plan, if a step may be taken now.
    pub planned: Planned,
    /// Every split that was looked at and is not at rest where it is declared.
    pub outlook: BTreeMap<SplitName, Outlook>,
    /// Splits whose plan goes on from a step of which traffic said nothing: why, with how many requests there were and how many
    /// a verdict needs. It was declared so; people are told.
    pub unjudged: BTreeMap<SplitName, String>,
    /// What it had to do.
    pub work: Work,
}

/// Makes the plan that follows `parent`, as [`plan`] does, but moves splits that are in force step by step: see
/// [`crate::transition`]. Nothing is planned of what has to wait; it is in the outlook.
pub fn step(inputs: Inputs<'_>, transit: Transit<'_>) -> Look {
    look(inputs, Some(transit))
}

fn look(inputs: Inputs<'_>, transit: Option<Transit<'_>>) -> Look {
    let mut unsound = BTreeMap::new();
    loop {
        let mut work = Work::default();
        let (mut outlook, mut unjudged) = (BTreeMap::new(), BTreeMap::new());
        let told = (&mut outlook, &mut unjudged);
        let planned = match make(inputs, transit, &unsound, &mut work, told) {
            Ok(Some(plan)) => Planned::New(plan),
            Ok(None) => Planned::Nothing,
            Err(reasons) => Planned::Refused(reasons),
        };
        let more = match (&planned, inputs.parent) {
            (Planned::New(plan), Some(parent)) if transit.is_some() => breaches(plan, parent, &unsound),
            _ => BTreeMap::new(),
        };
        if more.is_empty() {
            return Look {
                planned,
                outlook,
                unjudged,
                work,
            };
        }
        unsound.extend(more);
    }
}

/// The splits whose step breaks a rule, with the first that it breaks: a defect of this program, or a declaration that changes
/// more at once than there is an order for. They stay as they are, or come into force when they can, so that nobody else's traffic
/// has to wait.
fn breaches(plan: &Plan, parent: &Plan, known: &BTreeMap<SplitName, String>) -> BTreeMap<SplitName, String> {
    let mut found = BTreeMap::new();
    for finding in lint::lint_new(plan, parent) {
        if let Some(split) = finding.split.clone()
            && !known.contains_key(&split)
        {
            found.entry(split).or_insert_with(|| finding.to_string());
        }
    }
    found
}

fn make(
    inputs: Inputs<'_>,
    transit: Option<Transit<'_>>,
    unsound: &BTreeMap<SplitName, String>,
    work: &mut Work,
    (outlook, unjudged): (
        &mut BTreeMap<SplitName, Outlook>,
        &mut BTreeMap<SplitName, String>,
    ),
) -> Result<Option<Plan>, Vec<Refusal>> {
    let known = transit.is_some_and(|transit| transit.only.is_some());
    let whole = Whole::new(inputs, known)?;
    let mut reasons = Vec::new();
    // What is looked at again is all that may change: the rest is the parent's.
    let only = transit
        .and_then(|transit| transit.only)
        .filter(|_| !whole.unknown_history);
    let mut splits = BTreeMap::new();
    let mut services: BTreeMap<(&ServiceName, u16), &SplitName> = BTreeMap::new();
    let mut changed = whole.changed();
    let mut inherited = BTreeSet::new();

    let all = &inputs.declaration.splits;
    let looked_at: Vec<_> = match only {
        Some(only) => only.iter().filter_map(|name| all.get_key_value(name)).collect(),
        None => all.iter().collect(),
    };
    for (name, split) in looked_at {
        if let Some(first) = services.insert((&split.service, split.port), name) {
            reasons.push(Refusal::SameService {
                service: split.service.clone(),
                port: split.port,
                first: first.clone(),
                second: name.clone(),
            });
        }
        work.splits_compared += 1;
        let git = split;
        let before = whole.parent.and_then(|parent| parent.splits.get(name));
        let reverts = transit.is_some_and(|transit| reverts(transit, inputs.declaration, name));
        let drains = transit.and_then(|transit| transit.orders.drains.get(name));
        let zones = &inputs.declaration.zones;
        let drained = drain::over(
            git,
            (drains, zones),
            before.filter(|_| reverts).map(AsRef::as_ref),
        );
        let in_use = match (transit, drains, before) {
            (Some(transit), Some(drains), Some(before)) => {
                drain::in_use(before, git, zones, (transit, drains))
            }
            _ => Vec::new(),
        };
        let mut split = drained.split;
        let mut digest = canonical::split_inputs(whole.federation, whole.mesh, &whole.zones_digest, &split);
        if !in_use.is_empty() {
            // It is planned anew as soon as they are free.
            digest = canonical::split_inputs_in_use(&digest);
            split.to_mut().fallback.clone_from(&git.fallback);
        }
        let split = &*split;
        if let Some(before) = before
            && before.digest == digest
            && !whole.unknown_history
            && (transit.is_none() || before.course.is_none())
            && drained.stuck.is_none()
        {
            splits.insert(name.clone(), Arc::clone(before));
            if let Some(why) = &drained.why {
                outlook.insert(
                    name.clone(),
                    drain::told(None, (why, drained.follows), git, &in_use),
                );
            }
            continue;
        }
        let left = RefCell::default();
        let past = Past {
            split: before.map(Arc::as_ref),
            service: whole.past.of_service(name, &split.service, split.port),
            seen: transit.map(|transit| Seen {
                transit,
                zones: &inputs.declaration.zones,
                left: &left,
            }),
        };
        let mut wanted = match whole.wanted(split) {
            Ok(wanted) => wanted,
            Err(mut found) => {
                reasons.append(&mut found);
                continue;
            }
        };
        let mut stuck = drained.stuck;
        if let Some(drains) = drains {
            drain::strip(&mut wanted, drains, &in_use);
            stuck = stuck.or_else(|| drain::renamed(before?, &wanted, drains));
        }
        let planned = match (transit, before) {
            (Some(_), Some(before)) if unsound.contains_key(name) => {
                splits.insert(name.clone(), whole.as_it_is(before));
                let mut stands = waiting::no_order(&unsound[name]);
                stands.declared = weights(&wanted);
                outlook.insert(name.clone(), stands);
                None
            }
            (Some(_), Some(before)) if whole.unknown_history => {
                // Agents hold what this history does not: they are told anew what it has, and go on from there.
                work.splits_planned += 1;
                let course = before.course.as_ref();
                let quarantined = course.is_some_and(|course| course.quarantine.is_some());
                if before.digest != digest || quarantined {
                    // Not to be forgotten, nor to be taken for what Git declares.
                    let mut stands = waiting::told_anew();
                    stands.declared = weights(&wanted);
                    outlook.insert(name.clone(), stands);
                }
                Some(whole.rewritten(before))
            }
            // Not even a revert gives anything to who is drained: he may have been stopped.
            (Some(transit), before) if let Some(why) = &stuck => {
                if let Some(before) = before {
                    splits.insert(name.clone(), whole.as_it_is(before));
                }
                let mut stands = waiting::drained_in_the_way(why);
                stands.declared = weights(&wanted);
                outlook.insert(name.clone(), stands);
                // A quarantine would keep the drain from being ended, and the drain the quarantine.
                let resumed = before.filter(|_| transit.orders.resumes.contains(name));
                resumed.and_then(|before| transition::unquarantined(before))
            }
            (Some(transit), Some(before)) => {
                let turn = transition::Turn {
                    split,
                    digest,
                    shape: wanted.values().next().map_or(digest, canonical::shape),
                    wanted,
                    before,
                    drained: split.routes != git.routes,
                    reverts,
                    transit,
                    declaration: inputs.declaration,
                    now: inputs.now,
                };
                let (next, stands) =
                    transition::advance(&turn, &mut |item| whole.item_after(item, past, work));
                if let Some(mut stands) = stands {
                    stands.declared = weights(&turn.wanted);
                    outlook.insert(name.clone(), stands);
                }
                if let Some(next) = &next {
                    work.splits_planned += 1;
                    unjudged.extend(turn.unjudged(next).map(|why| (name.clone(), why)));
                } else {
                    splits.insert(name.clone(), whole.as_it_is(before));
                }
                next
            }
            (Some(_), None) if unsound.contains_key(name) => {
                let mut stands = waiting::no_place(&unsound[name]);
                stands.declared = weights(&wanted);
                outlook.insert(name.clone(), stands);
                // Whose place it would take keeps it.
                inherited.extend(past.heir_of(all).cloned());
                None
            }
            (Some(transit), None) => {
                let heir_of = past.heir_of(all);
                let moves = heir_of.filter(|_| !reverts && past.shifts_to(&wanted));
                let of_drains = |name| drain::inherited(name, transit.orders.drains.get(name)?);
                let stands = match (heir_of.and_then(of_drains), moves) {
                    (Some(why), _) => Some(waiting::drained_in_the_way(&why)),
                    (None, Some(heir_of)) => Some(waiting::two_at_once(heir_of)),
                    (None, None) => {
                        let of = (name, Some(split));
                        let waits = whole.waits(inputs.declaration, of, wanted.keys(), transit);
                        waits.map(|(why, until)| {
                            waiting::at_the_door(&why, until, "it comes into force after that")
                        })
                    }
                };
                if let Some(mut stands) = stands {
                    stands.declared = weights(&wanted);
                    outlook.insert(name.clone(), stands);
                    inherited.extend(heir_of.cloned());
                    None
                } else {
                    work.splits_planned += 1;
                    let mut planned = whole.at_once(digest, wanted, past, work);
                    if split.routes != git.routes {
                        planned.course = Some(Course::of_drain());
                        planned.root = canonical::split_root(&planned);
                    }
                    Some(planned)
                }
            }
            (None, _) => {
                work.splits_planned += 1;
                Some(whole.at_once(digest, wanted, past, work))
            }
        };
        if let Some(why) = &drained.why {
            let stands = outlook.remove(name).or_else(|| {
                let course = planned.as_ref().or(before.map(AsRef::as_ref))?.course.as_ref();
                course?.motion.as_ref().map(transition::under_way)
            });
            let stands = drain::told(stands, (why, drained.follows), git, &in_use);
            outlook.insert(name.clone(), stands);
        }
        if let Some(planned) = planned {
            changed = true;
            splits.insert(name.clone(), Arc::new(planned));
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let mut gone = BTreeSet::new();
    if let Some(parent) = whole.parent {
        let before: Vec<_> = match only {
            Some(only) => only
                .iter()
                .filter_map(|name| parent.splits.get_key_value(name))
                .collect(),
            None => parent.splits.iter().collect(),
        };
        let undeclared = |(name, _): &(&SplitName, &Arc<SplitPlan>)| !all.contains_key(*name);
        for (name, before) in before.into_iter().filter(undeclared) {
            if inherited.contains(name) {
                splits.insert(name.clone(), whole.as_it_is(before));
                continue;
            }
            // What it declared of itself went with its file.
            let zones = before.items.keys();
            let waits =
                transit.and_then(|transit| whole.waits(inputs.declaration, (name, None), zones, transit));
            if let Some((why, until)) = waits {
                splits.insert(name.clone(), whole.as_it_is(before));
                let waits = waiting::at_the_door(&why, until, "it is removed after that");
                outlook.insert(name.clone(), waits);
            } else {
                gone.insert(name);
                changed = true;
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    let splits = match (only, whole.parent) {
        // Shared with the parent, not looked at.
        (Some(_), Some(parent)) => {
            let mut all = parent.splits.clone();
            for name in gone {
                all.remove(name);
            }
            all.extend(splits);
            all
        }
        _ => Splits::from(splits),
    };
    let mut plan = Plan {
        federation: whole.federation.clone(),
        mesh: whole.mesh.clone(),
        id: PlanId([0; 32]),
        parent: whole.parent.map(|parent| parent.id),
        generation: whole.generation,
        commits: whole.commits(),
        created: inputs.now,
        zones: whole.zones,
        gateways: whole.gateways,
        splits,
    };
    plan.id = canonical::plan_id(&plan);
    Ok(Some(plan))
}

/// Whether the newest commits take back the last one that changed this split: what is declared of it, and the places of its
/// backends, are others than until now.
fn reverts(transit: Transit<'_>, now: &Declaration, name: &SplitName) -> bool {
    let of = |declaration: &Declaration| {
        let split = declaration.splits.get(name)?;
        let federation = declaration.federation.as_ref()?;
        let zones = split.backends.values().filter_map(|backend| {
            let zone = declaration.zones.get(&backend.zone)?;
            Some((zone.name.clone(), zone.kuma_zone.clone()))
        });
        let zones = canonical::zones_digest(&zones.collect());
        Some(canonical::split_inputs(
            &federation.name,
            &federation.mesh,
            &zones,
            split,
        ))
    };
    transit.reverts.is_some_and(|was| of(was) != of(now))
}

/// The declared weights, which are the same for every zone.
fn weights(wanted: &BTreeMap<ZoneName, Item>) -> ProvenWeights {
    wanted.values().next().map(Item::weights).unwrap_or_default()
}
