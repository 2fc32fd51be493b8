//! What a transition goes by, from the fleet: the same words that people are shown in `standing`, so that nothing moves on
//! by what is not shown. Values only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{BackendName, GatewayName, SplitName, ZoneName};
use weir_planner::{Counts, Generation, Item, ItemState, ProvenWeights, Reach, Runs, Senses};

use crate::fleet::Agent;
use crate::standing::{self, Sight};

/// Since when each zone has proven the newest item of a split, by that item's generation. Kept in memory alone: after a
/// restart what has to last begins to last again.
pub type Proven = BTreeMap<(SplitName, ZoneName), (Generation, Timestamp)>;

/// The fleet, as a transition sees it.
#[derive(Debug, Clone, Copy)]
pub struct FleetSenses<'a> {
    /// The plan in force, the agents, the time.
    pub sight: Sight<'a>,
    /// Since when what is proven is so.
    pub proven: &'a Proven,
    /// When this coordinator began to listen. For as long as silence is allowed, who has not been heard since may only not
    /// have had the time: nothing moves by what was known before.
    pub began: Timestamp,
}

impl FleetSenses<'_> {
    /// Whether it may still be heard for the first time since the start.
    fn not_yet(&self, agent: &Agent) -> bool {
        let up = self.sight.now.duration_since(self.began);
        // A clock that was set back since says nothing of how long that is.
        let starting = !up.is_negative() && up <= standing::bound(self.sight.stale);
        starting && agent.heard_at.is_none_or(|at| at < self.began)
    }

    fn agents(&self, zone: &ZoneName) -> impl Iterator<Item = (&String, &Agent)> + Clone {
        self.sight.fleet.of(zone)
    }

    /// Why a zone cannot tell what it is asked, though nothing says that it is away.
    fn unsure(&self, zone: &ZoneName) -> Option<String> {
        self.agents(zone).find_map(|(name, agent)| {
            if self.not_yet(agent) {
                let why = "was not heard yet since the coordinator started";
                return Some(format!("agent {name} {why}"));
            }
            let heard = self.sight.silence(agent).is_none();
            let why = agent.unreadable.as_ref().filter(|_| heard)?;
            Some(format!("agent {name} cannot read its control plane: {why}"))
        })
    }

    /// The last word of these agents on an item.
    fn word<'b>(&self, agents: impl Iterator<Item = (&'b String, &'b Agent)> + Clone, item: &Item) -> Runs {
        for (name, agent) in agents.clone() {
            if self.not_yet(agent) {
                return Runs::Not(format!(
                    "agent {name} was not heard yet since the coordinator started"
                ));
            }
            if let Err(why) = self.sight.last_word(agent, item) {
                return Runs::Not(format!("agent {name}: {why}"));
            }
        }
        if let Some((_, why)) = self.sight.doors_short(agents, item) {
            return Runs::Not(why);
        }
        let known = self.proven.get(&(item.split.clone(), item.zone.clone()));
        let since = known.filter(|(generation, _)| *generation == item.generation);
        Runs::Proven {
            // Not later than now: where the clock was set back, what follows a proof would wait for the old time to come again.
            since: since.map_or(self.sight.now, |(_, since)| (*since).min(self.sight.now)),
        }
    }

    /// The agents that were heard lately.
    fn reached(&self, zone: &ZoneName) -> impl Iterator<Item = (&String, &Agent)> + Clone {
        self.agents(zone)
            .filter(|(_, agent)| self.sight.silence(agent).is_none())
    }
}

impl Senses for FleetSenses<'_> {
    fn reach(&self, zone: &ZoneName) -> Reach {
        if let Some(why) = self.unsure(zone) {
            return Reach::Unsure(why);
        }
        let silent = self.agents(zone).find_map(|(name, agent)| {
            let why = self.sight.silence(agent)?;
            Some(format!("agent {name}: {why}"))
        });
        match silent {
            _ if self.agents(zone).next().is_none() => Reach::Nobody,
            None => Reach::Reachable,
            Some(why) if self.reached(zone).next().is_some() => Reach::Partly(why),
            Some(why) => Reach::Unreachable(why),
        }
    }

    fn runs(&self, item: &Item) -> Runs {
        self.word(self.agents(&item.zone), item)
    }

    fn runs_where_reached(&self, item: &Item) -> Runs {
        self.word(self.reached(&item.zone), item)
    }

    fn fallen(&self, item: &Item) -> BTreeSet<BackendName> {
        // Of those that are silent too: what they were last read to run they keep.
        let mut facts = Vec::new();
        for (_, agent) in self.agents(&item.zone) {
            let fact = agent.items.get(&item.split);
            let fact = fact.filter(|fact| {
                let this = (fact.generation, fact.digest) == (item.generation, item.digest);
                this && !self.not_yet(agent) && agent.unreadable.is_none()
            });
            match fact {
                Some(fact) => facts.push(fact),
                None => return BTreeSet::new(),
            }
        }
        let is_read = |gateway: &GatewayName| facts.iter().any(|fact| fact.doors.contains_key(gateway));
        let down: Option<Vec<_>> = facts.iter().map(|fact| fact.down()).collect();
        match down {
            Some(down) if item.doors.keys().all(is_read) => down.into_iter().flatten().collect(),
            _ => BTreeSet::new(),
        }
    }

    fn doors_ready(&self, item: &Item, has: Option<&Item>) -> Result<(), String> {
        let facts = self
            .reached(&item.zone)
            .filter_map(|(_, agent)| agent.items.get(&item.split));
        let mut facts = facts.filter(|fact| fact.pin.is_none());
        facts.try_for_each(|fact| weir_planner::ready::doors_ready(item, has, &fact.doors))
    }

    fn resolves(&self, item: &Item, has: Option<&Item>) -> Result<(), String> {
        self.reached(&item.zone)
            .try_for_each(|(_, agent)| weir_planner::ready::backends_ready(item, has, &agent.services))
    }

    fn holds(&self, item: &Item) -> bool {
        let mut facts = self
            .reached(&item.zone)
            .filter_map(|(_, agent)| agent.items.get(&item.split));
        facts.any(|fact| {
            let this = (fact.generation, fact.digest) == (item.generation, item.digest);
            this && matches!(fact.state, ItemState::Held(_))
        })
    }

    fn shares(&self, item: &Item) -> Option<ProvenWeights> {
        let facts = self
            .reached(&item.zone)
            .map(|(_, agent)| agent.items.get(&item.split));
        let mut read = facts.map(|fact| fact?.proof.as_ref()?.weights.as_ref());
        let first = read.next()??;
        read.all(|other| other == Some(first)).then(|| first.clone())
    }

    fn counts_at_proof(&self, split: &SplitName) -> BTreeMap<String, Counts> {
        let mut all = BTreeMap::new();
        let items = self.sight.plan.splits.get(split).map(|split| &split.items);
        for (zone, item) in items.into_iter().flatten() {
            for (name, _) in standing::countable(self.sight, zone, split) {
                let agent = self.sight.fleet.agent(zone, name);
                let mark = agent.and_then(|agent| agent.marks.get(split));
                if let Some(counts) = mark.and_then(|mark| mark.of(item.digest)) {
                    all.insert(format!("{zone}/{name}"), counts.clone());
                }
            }
        }
        all
    }

    fn counts(&self, split: &SplitName) -> BTreeMap<String, Counts> {
        let mut all = BTreeMap::new();
        for zone in self.sight.plan.zones.keys() {
            for (agent, counts) in standing::countable(self.sight, zone, split) {
                all.insert(format!("{zone}/{agent}"), counts.clone());
            }
        }
        all
    }
}
