//! What happens to zones from outside and is told once, not again with each report: who fights over a policy, a mesh that is
//! gone, services that vanish from several zones at once, backends that are down and keep their share. Values only.

mod failing;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use weir_model::{BackendName, SplitName, ZoneName};
use weir_planner::{Contested, Fault, Plan};

use crate::fleet::{Agent, Fleet};
use crate::ledger::NewEvent;
use failing::Failing;

/// A zone whose control plane starts with an empty store has no mesh for a moment.
const START: SignedDuration = SignedDuration::from_secs(3);
/// What takes a service out of one zone takes it out of others as well, within this time: that is one event.
const JOIN: SignedDuration = SignedDuration::from_secs(4);

/// What goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarms {
    contested: BTreeMap<(ZoneName, SplitName), Contested>,
    gone: BTreeMap<ZoneName, Gone>,
    vanished: BTreeMap<(SplitName, BackendName), Vanished>,
    failing: Failing,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    since: Timestamp,
    told: bool,
}

#[derive(Debug, Clone)]
struct Vanished {
    since: Timestamp,
    /// Every zone that missed it since.
    zones: BTreeSet<ZoneName>,
    told: bool,
}

impl Alarms {
    /// What is known from before: that was told then.
    pub(super) fn known(fleet: &Fleet, now: Timestamp) -> Self {
        let mut known = Self::default();
        drop(known.look(fleet, None, now));
        for vanished in known.vanished.values_mut() {
            vanished.told = true;
        }
        known.failing.were_told();
        known
    }

    /// What is new.
    pub(super) fn look(&mut self, fleet: &Fleet, plan: Option<&Plan>, now: Timestamp) -> Vec<NewEvent> {
        let mut news = Vec::new();
        self.contests(fleet, &mut news);
        self.meshes(fleet, now, &mut news);
        self.services(fleet, plan, now, &mut news);
        self.failing.look(fleet, plan, now, &mut news);
        news
    }

    fn contests(&mut self, fleet: &Fleet, news: &mut Vec<NewEvent>) {
        let mut now = BTreeMap::new();
        for (zone, name, agent) in fleet.agents() {
            for fact in agent.items.values() {
                let Some(contested) = &fact.contested else {
                    continue;
                };
                let key = (zone.clone(), fact.split.clone());
                if !self.contested.contains_key(&key) && !now.contains_key(&key) {
                    let what = format!(
                        "somebody else writes over {}, or removes it, again and again in zone {zone}: agent {name} put it back \
                         {} times since {:.0}, and leaves it as it is now, trying again now and then; a new plan is written at \
                         once. Find who writes it and stop that",
                        contested.object, contested.rewrites, contested.since
                    );
                    news.push(
                        NewEvent::new("zone.contested", what)
                            .zone(zone)
                            .split(&fact.split)
                            .generation(fact.generation),
                    );
                }
                now.insert(key, contested.clone());
            }
        }
        for ((zone, split), was) in &self.contested {
            if !now.contains_key(&(zone.clone(), split.clone())) {
                let what = format!("nobody else writes {} in zone {zone} any more", was.object);
                news.push(NewEvent::new("zone.uncontested", what).zone(zone).split(split));
            }
        }
        self.contested = now;
    }

    fn meshes(&mut self, fleet: &Fleet, now: Timestamp, news: &mut Vec<NewEvent>) {
        self.gone.retain(|zone, _| fleet.zones.contains_key(zone));
        for (zone, agents) in &fleet.zones {
            let lacks = |agent: &&Agent| agent.fault == Some(Fault::MeshGone);
            if let Some(agent) = agents.values().find(lacks) {
                let gone = self.gone.entry(zone.clone()).or_insert(Gone {
                    since: now,
                    told: false,
                });
                if !gone.told && now.duration_since(gone.since) >= START {
                    gone.told = true;
                    let why = agent
                        .unreadable
                        .as_deref()
                        .unwrap_or("its control plane refuses policies");
                    let what =
                        format!("the mesh is gone in zone {zone}, and nothing can be written there: {why}");
                    news.push(NewEvent::new("mesh.gone", what).zone(zone));
                }
                continue;
            }
            // Who cannot tell now, does not tell that it is back.
            let tells = |agent: &Agent| agent.connected && agent.fault.is_none();
            if agents.values().any(tells)
                && let Some(gone) = self.gone.remove(zone)
                && gone.told
            {
                let what = format!("the mesh is back in zone {zone}; Weir puts its policies back");
                news.push(NewEvent::new("mesh.back", what).zone(zone));
            }
        }
    }

    fn services(&mut self, fleet: &Fleet, plan: Option<&Plan>, now: Timestamp, news: &mut Vec<NewEvent>) {
        let mut missed: BTreeMap<(SplitName, BackendName), BTreeSet<ZoneName>> = BTreeMap::new();
        for (zone, _, agent) in fleet.agents() {
            for fact in agent.items.values() {
                for backend in &fact.vanished {
                    let by = missed.entry((fact.split.clone(), backend.clone())).or_default();
                    by.insert(zone.clone());
                }
            }
        }
        for (key, zones) in &missed {
            let vanished = self.vanished.entry(key.clone()).or_insert_with(|| Vanished {
                since: now,
                zones: BTreeSet::new(),
                told: false,
            });
            vanished.zones.extend(zones.iter().cloned());
        }
        self.vanished.retain(|(split, backend), vanished| {
            let is_missed = missed.contains_key(&(split.clone(), backend.clone()));
            let what = named(plan, split, backend);
            if !vanished.told && now.duration_since(vanished.since) >= JOIN {
                vanished.told = true;
                let zones: Vec<&str> = vanished.zones.iter().map(ZoneName::as_str).collect();
                let told = format!(
                    "{what} vanished from the control planes of {}: Kuma drops its share there without a word. Declared \
                     fallbacks are applied by each zone alone, and no transition gives it weight before every zone that sends \
                     has it again",
                    zones.join(", ")
                );
                news.push(NewEvent::new("service.vanished", told).split(split));
            }
            if vanished.told && !is_missed {
                let told = format!("{what} is there again in every zone that missed it");
                news.push(NewEvent::new("service.back", told).split(split));
            }
            is_missed || !vanished.told
        });
    }
}

/// `MeshService checkout of Kuma zone ams (backend cloud of split checkout)`, as far as the plan in force knows.
fn named(plan: Option<&Plan>, split: &SplitName, backend: &BackendName) -> String {
    let items = plan
        .and_then(|plan| plan.splits.get(split))
        .map(|split| &split.items);
    let mut items = items.into_iter().flat_map(|items| items.values());
    let place = items.find_map(|item| item.destinations.get(backend));
    match place {
        Some(to) => format!(
            "MeshService {} of Kuma zone {} (backend {backend} of split {split})",
            to.service, to.kuma_zone
        ),
        None => format!("the MeshService of backend {backend} of split {split}"),
    }
}
