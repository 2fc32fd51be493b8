//! The fleet: every agent that is known, and the last that each said. Values only; who fills them is [`crate::observing`].

pub mod counting;

use std::collections::BTreeMap;

use jiff::Timestamp;
use weir_model::{SplitName, ZoneName, sabotaged};
use weir_planner::{Fault, Generation, ItemFact, ServiceFact};

/// How far above the newest plan a generation may be and still be believed. A plan every millisecond for a month is less.
const LEAP: u64 = 1 << 32;

/// All agents, by zone and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// By zone, then by the agent's own name.
    pub zones: BTreeMap<ZoneName, BTreeMap<String, Agent>>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Whether a session is open now.
    pub connected: bool,
    /// When it last reported, by the coordinator's clock; none if it never did. A greeting is no report.
    pub heard_at: Option<Timestamp>,
    /// When the coordinator was told of its newest look at its zone; none if it never was.
    pub looked_at: Option<Timestamp>,
    /// Version of its program.
    pub version: String,
    /// Generation of the plan that it holds.
    pub generation: Generation,
    /// Highest generation that it ever took.
    pub highest: Generation,
    /// When its certificate ends.
    pub certificate_expires: Option<Timestamp>,
    /// Version of its zone's Kuma; none if that does not answer.
    pub kuma: Option<String>,
    /// Why its zone's control plane cannot be read, if so.
    pub unreadable: Option<String>,
    /// Whose fault it is that this cannot be read or written, if so.
    pub fault: Option<Fault>,
    /// What its zone's control plane keeps its objects in; none if it did not say.
    pub store: Option<String>,
    /// Why it does not take the newest plan that it was sent, if so.
    pub refused: Option<String>,
    /// What a person should know of its zone and no proof says, as it last said.
    pub notes: Vec<String>,
    /// What it last said about each item.
    pub items: BTreeMap<SplitName, ItemFact>,
    /// Where its counters stood when it first proved what it runs of each.
    pub marks: BTreeMap<SplitName, counting::Mark>,
    /// The MeshServices that its items name, as it last saw them; none are known before its first report.
    pub services: Vec<ServiceFact>,
}

impl Fleet {
    /// The highest generation that any agent reports (I7), as far as any history can have reached it from `known`. One
    /// agent that says more (a label that somebody wrote by hand, a lie) waits alone: it must not use up the numbers of
    /// the whole federation.
    pub fn highest(&self, known: Generation) -> Generation {
        if sabotaged("forget-highest") {
            return Generation(0);
        }
        let most = known.0.saturating_add(LEAP);
        self.agents()
            .map(|(_, _, agent)| agent.highest)
            .filter(|highest| highest.0 <= most)
            .max()
            .unwrap_or_default()
    }

    /// Every agent with its zone and name.
    pub fn agents(&self) -> impl Iterator<Item = (&ZoneName, &String, &Agent)> {
        self.zones
            .iter()
            .flat_map(|(zone, agents)| agents.iter().map(move |(name, agent)| (zone, name, agent)))
    }

    /// Takes an agent out, and its zone with the last one.
    pub fn forget(&mut self, zone: &ZoneName, name: &str) {
        if let Some(agents) = self.zones.get_mut(zone) {
            agents.remove(name);
        }
        self.zones.retain(|_, agents| !agents.is_empty());
    }

    /// One agent.
    pub fn agent(&self, zone: &ZoneName, name: &str) -> Option<&Agent> {
        self.zones.get(zone)?.get(name)
    }

    /// The agents of a zone. Each is waited for until somebody says that it may be forgotten: a host that is cut off for
    /// however long still drives what it last heard.
    pub fn of(&self, zone: &ZoneName) -> impl Iterator<Item = (&String, &Agent)> + Clone {
        self.zones.get(zone).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use super::*;

    #[test]
    fn one_absurd_generation_does_not_use_up_the_numbers_of_all() {
        let agent = |highest| Agent {
            connected: true,
            heard_at: None,
            looked_at: None,
            version: String::new(),
            generation: Generation(0),
            highest: Generation(highest),
            certificate_expires: None,
            kuma: None,
            unreadable: None,
            fault: None,
            store: None,
            refused: None,
            notes: Vec::new(),
            items: BTreeMap::new(),
            marks: BTreeMap::new(),
            services: Vec::new(),
        };
        let agents = [("a", agent(12)), ("b", agent(u64::MAX)), ("c", agent(9))];
        let fleet = Fleet {
            zones: BTreeMap::from([(
                ZoneName::new("fra").unwrap(),
                agents.map(|(name, agent)| (name.to_owned(), agent)).into(),
            )]),
        };
        assert_eq!(fleet.highest(Generation(10)), Generation(12));
        assert_eq!(
            fleet.highest(Generation(0)),
            Generation(12),
            "a ledger that was lost"
        );
    }
}
