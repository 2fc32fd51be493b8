//! Where zones stand: by their splits, and by what their agents say beside those.

use std::collections::BTreeMap;

use jiff::Timestamp;
use weir_model::{SplitName, ZoneName};
use weir_planner::{Fault, ItemState};
use weir_wire::api::{AgentNote, AgentStatus, Standing, ZoneStatus};

use super::word::{because, pinned};
use super::{Detached, Sight, split_in_zone};
use crate::fleet::Agent;

/// All zones of the plan, and those that have agents without being declared.
pub fn zones(sight: Sight<'_>, platforms: &BTreeMap<ZoneName, String>) -> Vec<ZoneStatus> {
    let mut names: Vec<&ZoneName> = sight.plan.zones.keys().chain(sight.fleet.zones.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| sight.plan.zones.contains_key(*name) || sight.fleet.of(name).next().is_some())
        .map(|name| zone(sight, name, platforms))
        .collect()
}

/// The same, with what Git says of those that are detached: they stand as they are known, and nobody waits for them.
pub fn zones_but(
    sight: Sight<'_>,
    platforms: &BTreeMap<ZoneName, String>,
    detached: &Detached,
) -> Vec<ZoneStatus> {
    let told = |zone: &ZoneStatus| {
        let mut all = detached.iter();
        let (_, why) = all.find(|(name, _)| name.as_str() == zone.name)?;
        Some(why.clone())
    };
    let zones = zones(sight, platforms).into_iter();
    zones
        .map(|zone| ZoneStatus {
            detached: told(&zone),
            ..zone
        })
        .collect()
}

/// One zone.
pub fn zone(sight: Sight<'_>, name: &ZoneName, platforms: &BTreeMap<ZoneName, String>) -> ZoneStatus {
    let agents: Vec<(&String, &Agent)> = sight.fleet.of(name).collect();
    let declared = sight.plan.zones.get(name);
    let (standing, reason) = if declared.is_none() {
        (
            Standing::Unknown,
            Some("has agents, but the declaration in force does not name this zone".to_owned()),
        )
    } else {
        zone_standing(sight, name, &agents)
    };
    ZoneStatus {
        name: name.to_string(),
        platform: platforms
            .get(name)
            .cloned()
            .unwrap_or_else(|| "unknown".to_owned()),
        kuma_zone: declared.map_or_else(String::new, ToString::to_string),
        standing,
        reason,
        // What the zone as a whole holds: its slowest agent's.
        generation: agents.iter().map(|(_, a)| a.generation.0).min().unwrap_or(0),
        kuma: agents.iter().find_map(|(_, agent)| agent.kuma.clone()),
        store: agents.iter().find_map(|(_, agent)| agent.store.clone()),
        agents: agents
            .iter()
            .map(|(name, agent)| agent_status(name, agent))
            .collect(),
        detached: None,
    }
}

fn zone_standing(
    sight: Sight<'_>,
    name: &ZoneName,
    agents: &[(&String, &Agent)],
) -> (Standing, Option<String>) {
    if agents.is_empty() {
        return (
            Standing::Unknown,
            Some("no agent of this zone was ever heard".to_owned()),
        );
    }
    let silent = agents
        .iter()
        .filter_map(|(agent, a)| {
            sight
                .silent(a)
                .map(|(s, why)| (s, format!("agent {agent}: {why}")))
        })
        .max_by_key(|(standing, _)| *standing);
    if let Some((standing, why)) = silent {
        return (standing, Some(why));
    }
    let unreadable = agents.iter().find_map(|(agent, a)| {
        let what = match a.fault {
            Some(Fault::MeshGone) => "the mesh is gone: agent",
            _ => "agent",
        };
        Some(format!(
            "{what} {agent} cannot read the control plane: {}",
            a.unreadable.as_ref()?
        ))
    });
    let splits: Vec<(Standing, Option<String>)> = sight
        .plan
        .splits
        .values()
        .filter_map(|split| split.items.get(name))
        .map(|item| {
            let shown = split_in_zone(sight, name, item);
            let why = shown.reason.map(|why| format!("split {}: {why}", item.split));
            (shown.standing, unreadable.clone().or(why))
        })
        .collect();
    let nothing_is_split = splits.is_empty();
    // Nothing was read back in all of the zone; beside what was, a split that nobody calls is no worse.
    let nobody_calls = splits.iter().all(|(standing, _)| *standing == Standing::Idle);
    let idle = splits
        .iter()
        .find(|(standing, _)| *standing == Standing::Idle)
        .cloned();
    // A split that is proven has a reason only where one of its backends is down all the same.
    let failing = splits.iter().find_map(|(standing, why)| match standing {
        Standing::Converged => why.clone(),
        _ => None,
    });
    let worst = splits
        .into_iter()
        .chain(agents.iter().flat_map(|(agent, a)| beside(sight, name, agent, a)))
        .filter(|(standing, _)| *standing > Standing::Idle)
        // The first of equals: what is said of a split says more than what is said of an agent.
        .reduce(|worst, next| if next.0 > worst.0 { next } else { worst });
    match worst {
        Some(worst) => worst,
        // Nothing is split here, so nothing was read back: what cannot be read is not known.
        None if nothing_is_split && unreadable.is_some() => (Standing::Unknown, unreadable),
        None if nobody_calls && idle.is_some() => (Standing::Idle, idle.and_then(|(_, why)| why)),
        None => {
            let idle = idle.and_then(|(_, why)| why);
            (Standing::Converged, unreadable.or(failing).or(idle))
        }
    }
}

/// What an agent says that stands in no split of the plan: that it holds another plan (and so may still drive splits
/// that the plan takes away), and what is left of splits that it could not take away.
fn beside(
    sight: Sight<'_>,
    zone: &ZoneName,
    name: &str,
    agent: &Agent,
) -> impl Iterator<Item = (Standing, Option<String>)> {
    let wanted = sight.plan.generation;
    let holds = agent.generation;
    let plan = (holds < wanted).then(|| {
        let why = format!(
            "agent {name} still holds plan {holds}, not {wanted}{}",
            because(agent)
        );
        (Standing::Progressing, Some(why))
    });
    let ahead = (holds > wanted).then(|| {
        let why = format!("agent {name} holds plan {holds}, newer than {wanted}");
        (Standing::Different, Some(why))
    });
    let gone = |split: &SplitName| {
        sight
            .plan
            .splits
            .get(split)
            .is_none_or(|split| !split.items.contains_key(zone))
    };
    let left = agent
        .items
        .values()
        .filter(move |fact| holds >= wanted && gone(&fact.split))
        .map(|fact| {
            let pin = fact.pin.as_ref().map(|pin| pinned(fact, pin));
            if let Some((standing, why)) = pin {
                let why = format!(
                    "split {}, which the plan takes away: {}",
                    fact.split,
                    why.unwrap_or_default()
                );
                return (standing, Some(why));
            }
            let (standing, why) = match &fact.state {
                ItemState::Failed(why) => (Standing::Failed, why.as_str()),
                ItemState::Held(why) => (Standing::Held, why.as_str()),
                ItemState::Applied => (
                    Standing::Progressing,
                    "it was withdrawn to its anchor: requests leave it as the callers' Envoys take that, and what is left \
                     goes half a minute after they have",
                ),
                _ => (Standing::Progressing, "it is still there"),
            };
            let split = &fact.split;
            (
                standing,
                Some(format!("split {split}, which the plan takes away: {why}")),
            )
        });
    plan.into_iter()
        .chain(ahead)
        .chain(left)
        .collect::<Vec<_>>()
        .into_iter()
}

fn agent_status(name: &str, agent: &Agent) -> AgentStatus {
    AgentStatus {
        name: name.to_owned(),
        connected: agent.connected,
        heard_at: agent.heard_at.map(|at| at.to_string()),
        version: agent.version.clone(),
        generation: agent.generation.0,
        certificate_expires: agent.certificate_expires.map(|at| at.to_string()),
        notes: agent.notes.clone(),
    }
}

/// What agents say of their zones that no proof says, with whose word it is; of agents that are silent nothing, for what
/// they said is old.
pub fn notes(sight: Sight<'_>) -> Vec<AgentNote> {
    let agents = sight
        .fleet
        .agents()
        .filter(|(_, _, agent)| sight.silent(agent).is_none());
    let notes = agents.flat_map(|(zone, name, agent)| {
        agent.notes.iter().map(move |note| AgentNote {
            zone: zone.to_string(),
            agent: name.clone(),
            note: note.clone(),
        })
    });
    notes.collect()
}

/// When a zone had proven all of the plan: the newest proof of those that the plan's own generation brought. None while
/// any item of the zone is neither converged nor called by nobody, and where nobody calls any of those that the plan's own
/// generation brought: then nothing proved it.
pub fn proven_at(sight: Sight<'_>, zone: &ZoneName) -> Option<Timestamp> {
    let agents: Vec<(&String, &Agent)> = sight.fleet.of(zone).collect();
    if zone_standing(sight, zone, &agents).0 != Standing::Converged {
        return None;
    }
    let mut newest: Option<Timestamp> = None;
    let all = sight.plan.splits.values();
    let brought = all
        .filter_map(|split| split.items.get(zone))
        .filter(|item| item.generation == sight.plan.generation);
    let mut unread = false;
    for item in brought {
        if split_in_zone(sight, zone, item).standing == Standing::Idle {
            unread = true;
            continue;
        }
        for (_, agent) in &agents {
            let at = agent.items.get(&item.split)?.proof.as_ref()?.at;
            newest = Some(newest.map_or(at, |n| n.max(at)));
        }
    }
    if newest.is_none() && unread {
        return None;
    }
    // Nothing of this zone changed in this generation: it followed as soon as it held the plan. A proof carries the time
    // of its agent's clock: by the coordinator's it was after the plan and before now.
    Some(newest.map_or(sight.now, |at| at.max(sight.plan.created).min(sight.now)))
}
