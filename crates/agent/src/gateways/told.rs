//! How the doors of a zone's gateways stand, as the loop is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{GatewayName, SplitName};
use weir_planner::{
    Coverage, Digest, DoorFact, Evidence, Generation, Item, ItemState, Proof, Verdict, ZoneFacts, ZonePlan,
};
use weir_render::kong::Counted;

use crate::counting::Counter;

/// What was read of a gateway longer ago than this is not known any more: a look of all its nodes takes less.
const OLD: SignedDuration = SignedDuration::from_secs(60);

/// How the doors stand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// By split and gateway.
    pub doors: BTreeMap<SplitName, BTreeMap<GatewayName, Door>>,
    /// The content of each gateway's plan that this was read by: a door says nothing of a newer base.
    pub gateways: BTreeMap<GatewayName, Digest>,
    /// What a person should know and no proof says.
    pub notes: Vec<String>,
}

/// One door of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Door {
    /// Of which item.
    pub generation: Generation,
    /// Of which content.
    pub digest: Digest,
    /// How it stands.
    pub fact: DoorFact,
}

impl Door {
    pub(super) fn of(item: &Item, held: Option<String>, proof: Option<Proof>) -> Self {
        Self {
            generation: item.generation,
            digest: item.digest,
            fact: DoorFact {
                held,
                proof,
                dead: BTreeMap::new(),
                counting: None,
            },
        }
    }
}

/// What is told of one gateway.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Part {
    /// The content of its plan; none if it has none.
    pub(super) gateway: Option<Digest>,
    /// By split.
    pub(super) doors: BTreeMap<SplitName, Door>,
    pub(super) notes: Vec<String>,
}

impl Part {
    pub(super) fn undeclared(name: &GatewayName) -> Self {
        let note = format!(
            "gateway {name} of this agent's configuration is not declared in its zone: it is left alone"
        );
        Self {
            notes: vec![note],
            ..Self::default()
        }
    }

    /// What is counted of each door, beside how it stands.
    pub(super) fn counting(
        &mut self,
        name: &GatewayName,
        counter: &Counter,
        (wanted, counted): (&BTreeMap<SplitName, Arc<Item>>, &Counted),
    ) {
        let now = Timestamp::now();
        for (split, door) in &mut self.doors {
            let item = wanted.get(split);
            door.fact.counting = item.and_then(|item| counter.told(item, counted, now));
        }
        let trouble = counter.trouble(now);
        self.notes
            .extend(trouble.map(|why| format!("gateway {name}: {why}")));
    }

    pub(super) fn is_exact(&self) -> bool {
        self.doors.values().all(|door| door.fact.is_exact())
    }
}

/// A door of which the gateway said nothing.
pub(super) fn unread() -> Proof {
    Proof {
        verdict: Verdict::Unknown("the gateway said nothing of it".to_owned()),
        evidence: Evidence::Unknown,
        at: Timestamp::now(),
        coverage: Coverage::default(),
        weights: None,
        unhealthy: BTreeSet::new(),
    }
}

impl Told {
    pub(super) fn of(parts: &BTreeMap<GatewayName, Part>) -> Self {
        let mut told = Self::default();
        for (name, part) in parts {
            told.gateways
                .extend(part.gateway.map(|digest| (name.clone(), digest)));
            told.notes.extend(part.notes.iter().cloned());
            for (split, door) in &part.doors {
                let of = told.doors.entry(split.clone()).or_default();
                of.insert(name.clone(), door.clone());
            }
        }
        told
    }

    /// Puts the doors to the facts of the zone. An item is not proven while one of its doors here is not.
    /// What was read too long before `now` is not known any more.
    pub fn complete(
        &self,
        facts: &mut ZoneFacts,
        plan: &ZonePlan,
        drives: &BTreeSet<GatewayName>,
        now: Timestamp,
    ) {
        for fact in &mut facts.items {
            let Some(item) = plan.items.get(&fact.split) else {
                continue;
            };
            let said = self.doors.get(&fact.split);
            let here = item.doors.keys().filter(|gateway| drives.contains(*gateway));
            fact.doors = here
                .map(|gateway| {
                    let same = plan.gateways.get(gateway).map(|planned| planned.digest)
                        == self.gateways.get(gateway).copied();
                    let door = said.and_then(|said| said.get(gateway)).filter(|_| same);
                    let door =
                        door.filter(|door| (door.generation, door.digest) == (fact.generation, fact.digest));
                    let mut told = door.map(|door| door.fact.clone());
                    if let Some(proof) = told.as_mut().and_then(|told| told.proof.as_mut())
                        && now.duration_since(proof.at) > OLD
                    {
                        proof.verdict =
                            Verdict::Unknown("the gateway was last read some time ago".to_owned());
                    }
                    let nothing = DoorFact {
                        held: None,
                        proof: None,
                        dead: BTreeMap::new(),
                        counting: None,
                    };
                    (gateway.clone(), told.unwrap_or(nothing))
                })
                .collect();
            if fact.state == ItemState::Proven && !fact.doors.values().all(DoorFact::is_exact) {
                fact.state = ItemState::Applied;
            }
        }
    }
}
