//! The fleet: every agent that is known, and the last that each said. Values only; who fills them is [`crate::observing`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use weir_model::{SplitName, ZoneName};
use weir_planner::{Generation, ItemFact};

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
    /// When the coordinator last heard it, by the coordinator's clock.
    pub heard_at: Option<Timestamp>,
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
    /// What it last said about each item.
    pub items: BTreeMap<SplitName, ItemFact>,
}

impl Fleet {
    /// The highest generation that any agent reports (I7).
    pub fn highest(&self) -> Generation {
        self.agents()
            .map(|(_, _, agent)| agent.highest)
            .max()
            .unwrap_or_default()
    }

    /// Every agent with its zone and name.
    pub fn agents(&self) -> impl Iterator<Item = (&ZoneName, &String, &Agent)> {
        self.zones
            .iter()
            .flat_map(|(zone, agents)| agents.iter().map(move |(name, agent)| (zone, name, agent)))
    }

    /// One agent.
    pub fn agent(&self, zone: &ZoneName, name: &str) -> Option<&Agent> {
        self.zones.get(zone)?.get(name)
    }

    /// The agents of a zone that count at `now`: an agent without a session whose certificate has ended cannot come
    /// back under it, so it was taken away, and nobody waits for it any more.
    pub fn counting(&self, zone: &ZoneName, now: Timestamp) -> impl Iterator<Item = (&String, &Agent)> {
        self.zones
            .get(zone)
            .into_iter()
            .flatten()
            .filter(move |(_, agent)| agent.counts(now))
    }
}

impl Agent {
    fn counts(&self, now: Timestamp) -> bool {
        self.connected || self.certificate_expires.is_none_or(|end| end > now)
    }
}
