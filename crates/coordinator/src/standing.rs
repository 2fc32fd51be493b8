//! Where splits and zones stand: from the plan and the fleet to what people are shown. Pure: the time comes in.
//!
//! This is where I9 is kept: converged is only what was read back from the live configuration, for exactly the item in the
//! plan, by every agent of the zone, each heard from lately. Silence is stale, not agreement; and where nobody calls the service
//! there is nothing to read, which is idle and not converged.

mod detached;
mod doors;
mod failing;
mod places;
mod transition;
mod word;
mod zones;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use weir_model::{SplitName, ZoneName, sabotaged};
use weir_planner::{CountScope, Counts, Evidence, Generation, Item, ItemFact, Outlook, Plan};
use weir_wire::api::{SplitInZone, SplitStatus, Standing, over_zones};

use crate::fleet::{Agent, Fleet, counting};
pub use detached::{Detached, detached};
pub use places::with_places;
pub(crate) use transition::{told, waits_since};
pub use word::SETTLE;
pub(crate) use word::{agrees, bound, idle};
pub use zones::{notes, proven_at, zone, zones, zones_but};

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
}

/// What planning last saw of splits that are not at rest; none while it has not looked since the start.
pub type Outlooks<'a> = Option<&'a BTreeMap<SplitName, Outlook>>;

/// One split, where no zone is detached. Converged is one that is where Git declares it: zones that prove what they were told
/// are not enough while that is another thing.
pub fn split(sight: Sight<'_>, outlooks: Outlooks<'_>, name: &SplitName) -> Option<SplitStatus> {
    split_but(sight, outlooks, &Detached::new(), name)
}

/// One split: as its zones stand, but for those that are detached.
pub fn split_but(
    sight: Sight<'_>,
    outlooks: Outlooks<'_>,
    detached: &Detached,
    name: &SplitName,
) -> Option<SplitStatus> {
    let split = sight.plan.splits.get(name)?;
    let newest = split.items.values().max_by_key(|item| item.generation)?;
    let zones: Vec<SplitInZone> = split
        .items
        .iter()
        .map(|(zone, item)| SplitInZone {
            detached: detached.get(zone).cloned(),
            ..split_in_zone(sight, zone, item)
        })
        .collect();
    let outlook = outlooks.and_then(|all| all.get(name));
    let declared = transition::declared(newest, outlook);
    let stands = transition::stands(
        outlooks.is_some(),
        outlook,
        split.course.as_ref(),
        &declared,
        &zones,
    );
    let standing = over_zones(&zones).unwrap_or(Standing::Unknown);
    // Of equals the first says most.
    let floors = [stands, detached::given(split, detached), unproven(standing)];
    let mut floors = floors.into_iter().flatten();
    let whole = floors
        .next()
        .map(|first| floors.fold(first, |worst, next| if next.0 > worst.0 { next } else { worst }));
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

/// Why a split is idle and not converged, if its zones are.
fn unproven(zones: Standing) -> Option<(Standing, String)> {
    (zones == Standing::Idle).then(|| {
        let why = "nobody calls it in any zone: what is declared is written there, and nothing proves it";
        (Standing::Idle, why.to_owned())
    })
}

/// All splits, by name, where no zone is detached.
pub fn splits(sight: Sight<'_>, outlooks: Outlooks<'_>) -> Vec<SplitStatus> {
    splits_but(sight, outlooks, &Detached::new())
}

/// All splits, by name: as their zones stand, but for those that are detached.
pub fn splits_but(sight: Sight<'_>, outlooks: Outlooks<'_>, detached: &Detached) -> Vec<SplitStatus> {
    let names = sight.plan.splits.keys();
    names
        .filter_map(|name| split_but(sight, outlooks, detached, name))
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
        open: None,
        second_writers: Vec::new(),
        notes: Vec::new(),
        failing: Vec::new(),
        doors: sight.doors_shown(agents.iter().copied(), item),
        heard_at: agents
            .iter()
            .filter_map(|(_, agent)| agent.heard_at)
            .max()
            .map(|at| at.to_string()),
        detached: None,
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
    // Who has no callers on his side adds nothing to what others read of theirs, and is no worse.
    if words.iter().any(|word| word.0 != Standing::Idle) {
        words.retain(|word| word.0 != Standing::Idle);
    }
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
    // A zone runs what it was told only if its gateways do.
    if let Some((standing, why)) = sight.doors_short(agents.iter().copied(), item)
        && standing > shown.standing
    {
        shown.standing = standing;
        shown.reason = Some(why);
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
    for (name, counts) in countable(sight, zone, &item.split) {
        let agent = sight.fleet.agent(zone, name);
        let mark = agent.and_then(|agent| agent.marks.get(&item.split));
        let counts = counting::since(mark, counts);
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
        shown.open = match (shown.open, counts.open) {
            (Some(sum), Some(open)) => Some(sum.saturating_add(open)),
            (sum, open) => sum.or(open),
        };
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
    shown.failing = failing::shown(agents.iter().copied(), item);
    // Nobody read a share: none is shown.
    if shown.standing == Standing::Idle {
        shown.weights = None;
    }
    // What it runs is what it was told, and proven; that it is not well has to be said all the same.
    if shown.standing == Standing::Converged {
        shown.reason = failing::told(&shown.failing);
    }
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
