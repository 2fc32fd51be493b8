//! A split as a whole beside its zones: zones may prove all that they were told while Git declares something else. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{BackendName, BasisPoints, RouteName, SplitName, ZoneName};
use weir_planner::{Course, Item, Leg, Outlook, Phase};
use weir_wire::api::{Percent, RouteWeights, SplitInZone, SplitStatus, Standing, Transition, TransitionWait};

use crate::state::Waits;

/// So many shares that differ are named; of more it is said that there are more.
const NAMED: usize = 4;

/// Weights as the API has them.
pub(super) fn shares<'a>(
    routes: impl Iterator<Item = (&'a RouteName, &'a BTreeMap<BackendName, BasisPoints>)>,
) -> RouteWeights {
    routes
        .map(|(route, weights)| {
            let weights = weights
                .iter()
                .map(|(backend, weight)| (backend.to_string(), Percent(*weight)));
            (route.to_string(), weights.collect())
        })
        .collect()
}

/// What a zone is told.
pub(crate) fn told(item: &Item) -> RouteWeights {
    shares(item.routes.iter().map(|route| (&route.name, &route.weights)))
}

/// What Git declares: what is not everywhere yet, or else what the plan says.
pub(super) fn declared(newest: &Item, outlook: Option<&Outlook>) -> RouteWeights {
    match outlook {
        Some(outlook) if !outlook.declared.is_empty() => shares(outlook.declared.iter()),
        _ => told(newest),
    }
}

/// A transition as the API has it.
pub(super) fn shown(outlook: &Outlook) -> Transition {
    Transition {
        phase: outlook.phase,
        bite: outlook.bite,
        bites: outlook.bites,
        wave: outlook.wave,
        waves: outlook.waves.clone(),
        waits: outlook
            .waits
            .iter()
            .map(|wait| TransitionWait {
                zone: wait.zone.as_ref().map(ToString::to_string),
                why: wait.why.clone(),
                since: None,
            })
            .collect(),
        next: outlook.next.clone(),
        since: outlook.since.map(|at| at.to_string()),
        until: outlook.until.map(|at| at.to_string()),
    }
}

/// Says of each thing that a split waits for since when it does.
pub(crate) fn waits_since(mut split: SplitStatus, waits: &Waits) -> SplitStatus {
    let waiting = SplitName::new(split.name.as_str()).ok();
    let waiting = waiting.and_then(|name| waits.get(&name));
    if let (Some(waiting), Some(transition)) = (waiting, &mut split.transition) {
        for wait in &mut transition.waits {
            let is = |zone: &Option<ZoneName>| zone.as_ref().map(ZoneName::as_str) == wait.zone.as_deref();
            let since = waiting.since.iter().find(|(zone, _)| is(zone));
            wait.since = since.and_then(|(_, at)| at.as_ref()).map(ToString::to_string);
        }
    }
    split
}

/// The best that a split may stand at, whatever its zones prove of what they were told, and why; none if its zones say all.
pub(super) fn stands(
    looked: bool,
    outlook: Option<&Outlook>,
    course: Option<&Course>,
    declared: &RouteWeights,
    zones: &[SplitInZone],
) -> Option<(Standing, String)> {
    let differs = differs(declared, zones);
    let because = |why: String| match &differs {
        Some(differs) => format!("{differs}, because {why}"),
        None => why,
    };
    let Some(outlook) = outlook else {
        // The plan itself knows as well. This is what speaks after a restart, until planning has looked.
        if let Some(quarantine) = course.and_then(|course| course.quarantine.as_ref()) {
            let why = format!("quarantined: {}", quarantine.why);
            return Some((Standing::Held, because(why)));
        }
        if let Some(motion) = course.and_then(|course| course.motion.as_ref()) {
            let why = match &motion.leg {
                Leg::Shift { bites, bite, .. } => format!("it is at bite {bite} of {bites}"),
                Leg::Return { why } => format!("it goes back: {why}"),
            };
            return Some((Standing::Progressing, because(why)));
        }
        if !looked {
            let why = "the coordinator has just started and has not compared this with what Git declares yet";
            return Some((Standing::Progressing, because(why.to_owned())));
        }
        return differs.map(|differs| (Standing::Progressing, differs));
    };
    let standing = match outlook.phase {
        Phase::Held | Phase::Frozen | Phase::Quarantined | Phase::Drained => Standing::Held,
        Phase::Verify | Phase::Bake
            if outlook.bite >= outlook.bites && differs.is_none() && !outlook.drained =>
        {
            return None;
        }
        Phase::Shift | Phase::Settle | Phase::Return | Phase::Verify | Phase::Bake => Standing::Progressing,
    };
    Some((standing, because(why(outlook))))
}

/// `held: zone fra: ...`: the first that is waited for.
fn why(outlook: &Outlook) -> String {
    let phase = outlook.phase.word();
    let Some(first) = outlook.waits.first() else {
        return match outlook.phase {
            Phase::Shift if outlook.bite > 0 => {
                format!("it is at bite {} of {}", outlook.bite, outlook.bites)
            }
            _ => format!("{phase}: {}", outlook.next),
        };
    };
    let more = match outlook.waits.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    match &first.zone {
        Some(zone) => format!("{phase}: zone {zone}: {}{more}", first.why),
        None => format!("{phase}: {}{more}", first.why),
    }
}

/// `Git declares eks 50 %, told is eks 0 %`; none where all zones are told what is declared. A share that is not named is 0.
fn differs(declared: &RouteWeights, zones: &[SplitInZone]) -> Option<String> {
    let none = BTreeMap::new();
    let share = |of: &RouteWeights, route: &str, backend: &str| {
        let weights = of.get(route).unwrap_or(&none);
        weights.get(backend).map_or(BasisPoints::ZERO, |weight| weight.0)
    };
    let routes = |of: &RouteWeights| of.keys().cloned().collect::<BTreeSet<String>>();
    let mut all: BTreeSet<(&String, &String)> = BTreeSet::new();
    for of in [declared].into_iter().chain(zones.iter().map(|zone| &zone.told)) {
        for (route, weights) in of {
            all.extend(weights.keys().map(|backend| (route, backend)));
        }
    }
    let several = all.iter().map(|(route, _)| route).collect::<BTreeSet<_>>().len() > 1;
    let (mut wanted, mut told, mut left) = (Vec::new(), Vec::new(), 0_usize);
    for (route, backend) in all {
        let is = share(declared, route, backend);
        let mut places: BTreeMap<BasisPoints, Vec<&str>> = BTreeMap::new();
        for zone in zones {
            let of = places.entry(share(&zone.told, route, backend)).or_default();
            of.push(&zone.zone);
        }
        if places.keys().all(|weight| *weight == is) {
            continue;
        }
        if wanted.len() == NAMED {
            left += 1;
            continue;
        }
        let name = if several {
            format!("{route}/{backend}")
        } else {
            backend.clone()
        };
        wanted.push(format!("{name} {is} %"));
        let alone = places.len() == 1;
        told.extend(places.into_iter().map(|(weight, zones)| {
            if alone {
                format!("{name} {weight} %")
            } else {
                format!("{name} {weight} % in {}", zones.join(" and "))
            }
        }));
    }
    let more = match left {
        0 => String::new(),
        n => format!(" (and {n} more shares)"),
    };
    if wanted.is_empty() {
        // the same shares of other routes
        let other = zones.iter().any(|zone| routes(&zone.told) != routes(declared));
        return other.then(|| "Git declares other routes than zones are told".to_owned());
    }
    Some(format!(
        "Git declares {}, told is {}{more}",
        wanted.join(", "),
        told.join(", ")
    ))
}
