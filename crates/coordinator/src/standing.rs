//! Where splits and zones stand: from the plan and the fleet to what people are shown. Pure: the time comes in.
//!
//! This is where I9 is kept: converged is only what was read back from the live configuration, for exactly the item in the
//! plan, by every agent of the zone, each heard from lately. Silence is stale, not agreement.

mod transition;

pub(crate) use transition::told;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weir_model::{SplitName, ZoneName, sabotaged};
use weir_planner::{
    CountScope, Counts, Evidence, Generation, Item, ItemFact, ItemState, Outlook, Pin, Plan, Proof, Verdict,
};
use weir_wire::api::{AgentNote, AgentStatus, SplitInZone, SplitStatus, Standing, ZoneStatus};

use crate::fleet::{Agent, Fleet};

/// How long live may differ from a new plan before that is called a difference and not a change on its way.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(15);

/// Clocks are corrected by so much now and then; by more they are set.
const CORRECTED: SignedDuration = SignedDuration::from_secs(1);

/// How long an agent's look at its zone may take, beyond the silence that is allowed: every call of it has an end.
const LOOK: SignedDuration = SignedDuration::from_secs(30);

/// What everything here is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The plan in force.
    pub plan: &'a Plan,
    /// When each generation was made; the plan's own may be missing.
    pub created: &'a BTreeMap<Generation, Timestamp>,
    /// The agents.
    pub fleet: &'a Fleet,
    /// Silence after which an agent is stale.
    pub stale: Duration,
    /// The time.
    pub now: Timestamp,
}

impl Sight<'_> {
    fn made(&self, generation: Generation) -> Timestamp {
        self.created
            .get(&generation)
            .copied()
            .unwrap_or(self.plan.created)
    }

    /// Whether it cannot come back by itself: the certificate that it would show has ended.
    fn lost(&self, agent: &Agent) -> bool {
        !agent.connected && agent.certificate_expires.is_some_and(|end| end <= self.now)
    }

    fn silent(&self, agent: &Agent) -> Option<(Standing, String)> {
        if sabotaged("trust-online") && agent.connected && agent.heard_at.is_some() {
            return None;
        }
        let Some(heard) = agent.heard_at else {
            let why = if agent.connected {
                "is connected and has not reported yet"
            } else {
                "was never heard"
            };
            return Some((Standing::Unknown, why.to_owned()));
        };
        let silence = self.now.duration_since(heard);
        let bound = bound(self.stale);
        let looked = agent.looked_at.unwrap_or(heard);
        let blind = self.now.duration_since(looked);
        // A clock that was set back must not make old words young: how old they are is then not known.
        if silence.min(blind) < -CORRECTED && !sabotaged("believe-the-future") {
            let ahead = span(-silence.min(blind));
            return Some((
                Standing::Stale,
                format!(
                    "was last heard {ahead} after what this coordinator's clock says now: it was set back, and how old what \
                     is shown is cannot be told before the agent reports again"
                ),
            ));
        }
        if silence <= bound && blind > bound.saturating_add(LOOK) {
            let how = format!("reports, but has not looked at its zone for {}", span(blind));
            return Some((Standing::Stale, format!("{how}; what is shown is old")));
        }
        (silence > bound).then(|| {
            let how = if agent.connected {
                "connected, but silent"
            } else {
                "not connected"
            };
            let since = span(silence);
            let why = if self.lost(agent) {
                format!(
                    "{how} for {since}, and its certificate has ended: what its host runs is not known; let it join again, \
                     or, if its host is gone, `weir-coordinator agent forget` it"
                )
            } else {
                format!("{how} for {since}; what is shown is old")
            };
            (Standing::Stale, why)
        })
    }

    /// Why what an agent said is not to be trusted any more: it is silent.
    pub fn silence(&self, agent: &Agent) -> Option<String> {
        self.silent(agent).map(|(_, why)| why)
    }

    /// Whether an agent's zone runs an item, by the last that it said, however long ago: it was read back, or nobody there
    /// calls the service.
    ///
    /// # Errors
    /// What it said instead.
    pub fn last_word(&self, agent: &Agent, item: &Item) -> Result<(), String> {
        let (standing, why) = self.word(agent, item);
        let fact = agent.items.get(&item.split);
        let idle = fact.is_some_and(|fact| {
            let told = fact.generation == item.generation && fact.digest == item.digest;
            let applied = matches!(fact.state, ItemState::Applied | ItemState::Proven);
            let free = fact.pin.is_none();
            told && free && applied && fact.proof.as_ref().is_some_and(Proof::nobody_calls)
        });
        if standing == Standing::Converged || idle {
            Ok(())
        } else {
            Err(why.unwrap_or_else(|| "has not proven it yet".to_owned()))
        }
    }

    /// Where an item stands by the word of one agent.
    fn by(&self, agent: &Agent, item: &Item) -> (Standing, Option<String>) {
        if let Some((standing, why)) = self.silent(agent) {
            return (standing, Some(why));
        }
        self.word(agent, item)
    }

    /// The same, without asking how old that is.
    fn word(&self, agent: &Agent, item: &Item) -> (Standing, Option<String>) {
        let Some(fact) = agent.items.get(&item.split) else {
            return (
                Standing::Progressing,
                Some("has not reported on it yet".to_owned()),
            );
        };
        if let Some(pin) = &fact.pin {
            return pinned(fact, pin);
        }
        let told = |standing, why: &str| (standing, Some(why.to_owned()));
        if fact.generation < item.generation {
            return (
                Standing::Progressing,
                Some(format!(
                    "still drives generation {}, not {}{}",
                    fact.generation,
                    item.generation,
                    because(agent)
                )),
            );
        }
        if fact.generation > item.generation {
            return (
                Standing::Different,
                Some(format!(
                    "drives generation {}, newer than {} of the plan",
                    fact.generation, item.generation
                )),
            );
        }
        if fact.digest != item.digest {
            return told(
                Standing::Different,
                "drives other content under the same generation",
            );
        }
        match &fact.state {
            ItemState::Held(why) => told(Standing::Held, why),
            ItemState::Overridden(why) => told(Standing::Overridden, why),
            ItemState::Failed(why) => told(Standing::Failed, why),
            ItemState::Pending => told(Standing::Progressing, "received, not applied yet"),
            ItemState::Applied | ItemState::Proven => self.by_proof(item, fact),
        }
    }

    fn by_proof(&self, item: &Item, fact: &ItemFact) -> (Standing, Option<String>) {
        let Some(proof) = &fact.proof else {
            return (
                Standing::Progressing,
                Some("applied, not read back yet".to_owned()),
            );
        };
        match &proof.verdict {
            Verdict::Different(what) => {
                let settling = self.now.duration_since(self.made(item.generation)) < SETTLE;
                let standing = if settling && fact.state == ItemState::Applied {
                    Standing::Progressing
                } else {
                    Standing::Different
                };
                (standing, Some(what.clone()))
            }
            Verdict::Unknown(why) => (
                Standing::Progressing,
                Some(format!("applied, but cannot be read back: {why}")),
            ),
            Verdict::Exact => match proof.evidence {
                Evidence::Live | Evidence::Sampled => match disagreement(item, proof) {
                    Some((standing, what)) => (standing, Some(what)),
                    None if fact.state == ItemState::Proven => (Standing::Converged, None),
                    None => (
                        Standing::Progressing,
                        Some("applied, proof is on its way".to_owned()),
                    ),
                },
                Evidence::Acknowledged => (
                    Standing::Progressing,
                    Some("acknowledged by the control plane, not read back from a proxy".to_owned()),
                ),
                Evidence::Unknown => (
                    Standing::Progressing,
                    Some("the proof names no evidence".to_owned()),
                ),
            },
        }
    }
}

/// Silence that is allowed.
pub(crate) fn bound(stale: Duration) -> SignedDuration {
    SignedDuration::try_from(stale).unwrap_or(SignedDuration::MAX)
}

/// Somebody at an agent's host decided otherwise: that is never converged, whatever was read back.
fn pinned(fact: &ItemFact, pin: &Pin) -> (Standing, Option<String>) {
    let (standing, besides) = match &fact.state {
        ItemState::Failed(why) => (Standing::Failed, format!("; and failed: {why}")),
        ItemState::Held(why) => (Standing::Overridden, format!("; and not in force: {why}")),
        ItemState::Overridden(why) => (Standing::Overridden, format!("; and overridden: {why}")),
        ItemState::Pending | ItemState::Applied | ItemState::Proven => (Standing::Overridden, String::new()),
    };
    let why = format!(
        "pinned on host {} by {} since {:.0}: {}; `weir-agent unpin --split {}` there ends it{besides}",
        pin.host, pin.who, pin.since, pin.reason, fact.split
    );
    (standing, Some(why))
}

/// Why an agent does not take the plan, as an end of a sentence.
fn because(agent: &Agent) -> String {
    let why = agent.refused.as_ref();
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

/// A proof that calls itself exact is believed only if it says so of every route, and of a proxy that was looked at.
fn disagreement(item: &Item, proof: &Proof) -> Option<(Standing, String)> {
    let lacking = |what: String| Some((Standing::Progressing, format!("the proof is not whole: {what}")));
    let Some(weights) = proof.weights.as_ref() else {
        return lacking("it names no weights".to_owned());
    };
    if proof.coverage.seen == 0 {
        return lacking("no proxy was looked at".to_owned());
    }
    for route in &item.routes {
        let Some(live) = weights.get(&route.name) else {
            return lacking(format!("it says nothing of route {}", route.name));
        };
        for backend in route.weights.keys().chain(live.keys()) {
            let wanted = route.weights.get(backend).copied().unwrap_or_default();
            let found = live.get(backend).copied().unwrap_or_default();
            if found != wanted {
                return Some((
                    Standing::Different,
                    format!("route {} gives {backend} {found} %, not {wanted} %", route.name),
                ));
            }
        }
    }
    None
}

/// What planning last saw of splits that are not at rest; none while it has not looked since the start.
pub type Outlooks<'a> = Option<&'a BTreeMap<SplitName, Outlook>>;

/// One split. Converged is one that is where Git declares it: zones that prove what they were told are not enough while
/// that is another thing.
pub fn split(sight: Sight<'_>, outlooks: Outlooks<'_>, name: &SplitName) -> Option<SplitStatus> {
    let split = sight.plan.splits.get(name)?;
    let newest = split.items.values().max_by_key(|item| item.generation)?;
    let zones: Vec<SplitInZone> = split
        .items
        .iter()
        .map(|(zone, item)| split_in_zone(sight, zone, item))
        .collect();
    let outlook = outlooks.and_then(|all| all.get(name));
    let declared = transition::declared(newest, outlook);
    let worst = zones.iter().map(|z| z.standing).max();
    let whole = transition::stands(
        outlooks.is_some(),
        outlook,
        split.course.as_ref(),
        &declared,
        &zones,
    );
    let standing = worst.unwrap_or(Standing::Unknown);
    Some(SplitStatus {
        name: name.to_string(),
        service: newest.service.to_string(),
        port: newest.port,
        protocol: crate::words::protocol(newest.protocol).to_owned(),
        declared,
        commit: newest.commit.to_string(),
        generation: newest.generation.0,
        standing: whole.as_ref().map_or(standing, |(floor, _)| standing.max(*floor)),
        reason: whole.map(|(_, why)| why),
        since: sight.made(newest.generation).to_string(),
        transition: outlook.map(transition::shown),
        zones,
    })
}

/// All splits, by name.
pub fn splits(sight: Sight<'_>, outlooks: Outlooks<'_>) -> Vec<SplitStatus> {
    sight
        .plan
        .splits
        .keys()
        .filter_map(|name| split(sight, outlooks, name))
        .collect()
}

/// What Git declares and no plan has yet, with why: there is nothing else of it to show.
pub fn waiting(sight: Sight<'_>, outlooks: Outlooks<'_>) -> Vec<String> {
    let all = outlooks.into_iter().flatten();
    all.filter(|(name, _)| !sight.plan.splits.contains_key(*name))
        .map(|(name, outlook)| {
            let why = outlook
                .waits
                .first()
                .map_or(outlook.next.as_str(), |wait| &wait.why);
            format!("split {name} is declared and waits to be planned: {why}")
        })
        .collect()
}

/// The counts that may be added up, so that no request is in them twice, with whose they are: those of the agent that has
/// counted the whole zone for longest, of those that still speak if one does, or those of all hosts.
pub(crate) fn countable<'a>(
    sight: Sight<'a>,
    zone: &ZoneName,
    split: &SplitName,
) -> Vec<(&'a String, &'a Counts)> {
    let all = || {
        let agents = sight.fleet.of(zone);
        agents.filter_map(|(name, agent)| Some((name, agent, agent.items.get(split)?.counts.as_ref()?)))
    };
    let whole = all()
        .filter(|(_, _, counts)| counts.scope == CountScope::Zone)
        .min_by_key(|(_, agent, counts)| (sight.silent(agent).is_some(), counts.since));
    whole.map_or_else(
        || all().map(|(name, _, counts)| (name, counts)).collect(),
        |(name, _, counts)| vec![(name, counts)],
    )
}

/// One split in one zone: the agent with the worst word is shown, traffic is summed over all.
pub fn split_in_zone(sight: Sight<'_>, zone: &ZoneName, item: &Item) -> SplitInZone {
    let agents: Vec<(&String, &Agent)> = sight.fleet.of(zone).collect();
    let mut shown = SplitInZone {
        zone: zone.to_string(),
        standing: Standing::Unknown,
        reason: Some("no agent of this zone was ever heard".to_owned()),
        generation: 0,
        evidence: Evidence::Unknown,
        proven_at: None,
        seen: 0,
        of: 0,
        told: transition::told(item),
        weights: None,
        counted: BTreeMap::new(),
        failed: BTreeMap::new(),
        counted_since: None,
        second_writers: Vec::new(),
        notes: Vec::new(),
        heard_at: agents
            .iter()
            .filter_map(|(_, agent)| agent.heard_at)
            .max()
            .map(|at| at.to_string()),
    };
    let mut words: Vec<(Standing, Option<String>, &String, &Agent)> = agents
        .iter()
        .map(|(name, agent)| {
            let (standing, why) = sight.by(agent, item);
            (standing, why, *name, *agent)
        })
        .collect();
    // Worst first; among equals the first by name, so that two looks show the same.
    words.sort_by(|a, b| b.0.cmp(&a.0).then(a.2.cmp(b.2)));
    if sabotaged("best-word-counts") {
        words.reverse();
    }
    if let Some((standing, why, name, worst)) = words.first() {
        shown.standing = *standing;
        shown.reason = why.as_ref().map(|why| {
            if words.len() > 1 {
                format!("{name}: {why}")
            } else {
                why.clone()
            }
        });
        if let Some(fact) = worst.items.get(&item.split) {
            shown.generation = fact.generation.0;
            if let Some(proof) = &fact.proof {
                shown.evidence = proof.evidence;
                shown.proven_at = Some(proof.at.to_string());
                shown.weights = proof.weights.as_ref().map(|of| transition::shares(of.iter()));
            }
        }
    }
    let facts: Vec<&ItemFact> = agents
        .iter()
        .filter_map(|(_, agent)| agent.items.get(&item.split))
        .collect();
    // Every agent sees proxies of its own host, or samples those of the whole zone: the latter may be the same ones, so that
    // what was seen for certain is the larger of the two.
    let (mut here, mut sampled) = (0_u32, 0_u32);
    for proof in facts.iter().filter_map(|fact| fact.proof.as_ref()) {
        if proof.evidence == Evidence::Sampled {
            sampled = sampled.max(proof.coverage.seen);
        } else {
            here = here.saturating_add(proof.coverage.seen);
        }
        shown.of = shown.of.max(proof.coverage.of);
    }
    shown.seen = here.max(sampled);
    shown.of = shown.of.max(shown.seen);
    let mut since: Option<Timestamp> = None;
    for (_, counts) in countable(sight, zone, &item.split) {
        for (into, from) in [
            (&mut shown.counted, &counts.requests),
            (&mut shown.failed, &counts.failed),
        ] {
            for (backend, n) in from {
                let sum = into.entry(backend.to_string()).or_default();
                *sum = sum.saturating_add(*n);
            }
        }
        since = Some(since.map_or(counts.since, |s| s.min(counts.since)));
    }
    shown.counted_since = since.map(|at| at.to_string());
    let mut writers: Vec<String> = facts
        .iter()
        .flat_map(|fact| &fact.second_writers)
        .map(|writer| {
            let rank = if writer.overrides {
                "outranks ours"
            } else {
                "does not outrank ours"
            };
            format!(
                "{} {} (origin {}), which {rank}",
                writer.kind, writer.object, writer.origin
            )
        })
        .collect();
    writers.sort();
    writers.dedup();
    shown.second_writers = writers;
    let services = agents.iter().flat_map(|(_, agent)| &agent.services);
    let mut notes: Vec<String> = services
        .flat_map(|fact| [fact.unsplit(item), fact.taken_along(item)])
        .flatten()
        .collect();
    notes.sort();
    notes.dedup();
    shown.notes = notes;
    shown
}

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
        agents: agents
            .iter()
            .map(|(name, agent)| agent_status(name, agent))
            .collect(),
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
        Some(format!(
            "agent {agent} cannot read the control plane: {}",
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
    let worst = splits
        .into_iter()
        .chain(agents.iter().flat_map(|(agent, a)| beside(sight, name, agent, a)))
        .filter(|(standing, _)| *standing > Standing::Converged)
        // The first of equals: what is said of a split says more than what is said of an agent.
        .reduce(|worst, next| if next.0 > worst.0 { next } else { worst });
    match worst {
        Some(worst) => worst,
        // Nothing is split here, so nothing was read back: what cannot be read is not known.
        None if nothing_is_split && unreadable.is_some() => (Standing::Unknown, unreadable),
        None => (Standing::Converged, unreadable),
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
/// any item of the zone is not converged.
pub fn proven_at(sight: Sight<'_>, zone: &ZoneName) -> Option<Timestamp> {
    let agents: Vec<(&String, &Agent)> = sight.fleet.of(zone).collect();
    if zone_standing(sight, zone, &agents).0 != Standing::Converged {
        return None;
    }
    let mut newest: Option<Timestamp> = None;
    let all = sight.plan.splits.values();
    for item in all.filter_map(|split| split.items.get(zone)) {
        if item.generation != sight.plan.generation {
            continue;
        }
        for (_, agent) in &agents {
            let at = agent.items.get(&item.split)?.proof.as_ref()?.at;
            newest = Some(newest.map_or(at, |n| n.max(at)));
        }
    }
    // Nothing of this zone changed in this generation: it followed as soon as it held the plan. A proof carries the time
    // of its agent's clock: by the coordinator's it was after the plan and before now.
    Some(newest.map_or(sight.now, |at| at.max(sight.plan.created).min(sight.now)))
}

/// `42 s`, `3 min`, `5 h`, `2 d`: one figure is enough.
fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
