//! Backends that are down and keep their share: told when that begins, one event for all zones that say so together, and when it
//! is over. Values only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use weir_model::{BackendName, SplitName, ZoneName};
use weir_planner::{ItemFact, KeptShare, Plan};

use super::JOIN;
use crate::fleet::Fleet;
use crate::ledger::NewEvent;

/// It is over when nobody has said so for as long: an agent that starts anew has to see it again, and where few ask, it is seen
/// only now and then.
const QUIET: SignedDuration = SignedDuration::from_secs(60);
/// The words of so many zones are told, and of the others the names.
const WORDS: usize = 5;

/// What goes on, by split and backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Failing(BTreeMap<(SplitName, BackendName), Alarm>);

#[derive(Debug, Clone)]
struct Alarm {
    /// Every zone that said so since, with what it said last.
    zones: BTreeMap<ZoneName, KeptShare>,
    /// Those of which an event was made.
    told: BTreeSet<ZoneName>,
    /// Since when there are some of which none was made.
    waits: Option<Timestamp>,
    /// When somebody said so last.
    last: Timestamp,
}

impl Failing {
    /// All that is known so far was told.
    pub(super) fn were_told(&mut self) {
        for alarm in self.0.values_mut() {
            alarm.waits = None;
            alarm.told = alarm.zones.keys().cloned().collect();
        }
    }

    /// What is new. Whose agent is silent says what it said last: silence is no agreement (I9).
    pub(super) fn look(
        &mut self,
        fleet: &Fleet,
        plan: Option<&Plan>,
        now: Timestamp,
        news: &mut Vec<NewEvent>,
    ) {
        for (zone, _, agent) in fleet.agents() {
            for fact in agent.items.values() {
                for (backend, kept) in &fact.failing {
                    let alarm = self.0.entry((fact.split.clone(), backend.clone()));
                    let alarm = alarm.or_insert_with(|| Alarm {
                        zones: BTreeMap::new(),
                        told: BTreeSet::new(),
                        waits: None,
                        last: now,
                    });
                    alarm.last = now;
                    if !alarm.told.contains(zone) {
                        alarm.waits.get_or_insert(now);
                    }
                    alarm.zones.insert(zone.clone(), kept.clone());
                }
            }
        }
        self.0.retain(|(split, backend), alarm| {
            // A clock that was set back must not put it off.
            alarm.last = alarm.last.min(now);
            alarm.waits = alarm.waits.map(|since| since.min(now));
            if alarm.waits.is_some_and(|since| now.duration_since(since) >= JOIN) {
                news.push(alarm.begins(split, backend));
            }
            let over = alarm.waits.is_none() && now.duration_since(alarm.last) >= QUIET;
            if over {
                news.push(alarm.ends((split, backend), fleet, plan));
            }
            !over
        });
    }
}

impl Alarm {
    /// That it begins in those zones of which that was not told yet.
    fn begins(&mut self, split: &SplitName, backend: &BackendName) -> NewEvent {
        self.waits = None;
        let new = self.zones.iter().filter(|(zone, _)| !self.told.contains(*zone));
        let new: Vec<(&ZoneName, &KeptShare)> = new.collect();
        let mut words: Vec<String> = new
            .iter()
            .take(WORDS)
            .map(|(zone, kept)| format!("in {zone} {} % ({})", kept.share, kept.why))
            .collect();
        let others: Vec<&str> = new.iter().skip(WORDS).map(|(zone, _)| zone.as_str()).collect();
        if !others.is_empty() {
            words.push(format!("likewise in {}", others.join(", ")));
        }
        let helps: BTreeSet<&str> = new
            .iter()
            .take(WORDS)
            .map(|(_, kept)| kept.help.as_str())
            .collect();
        let helps: Vec<&str> = helps.into_iter().collect();
        let what = format!(
            "backend {backend} of split {split} is down and keeps its share, {}: requests fail there until somebody changes that. {}",
            words.join(", "),
            helps.join(". ")
        );
        self.told.extend(new.into_iter().map(|(zone, _)| zone.clone()));
        NewEvent::new("backend.down", what).split(split)
    }

    /// That nobody says so any more. Only who still has a share there can be said to be up.
    fn ends(
        &self,
        (split, backend): (&SplitName, &BackendName),
        fleet: &Fleet,
        plan: Option<&Plan>,
    ) -> NewEvent {
        let has = |zone: &&ZoneName| has_share(fleet, plan, zone, (split, backend));
        let (has, lost): (Vec<&ZoneName>, Vec<&ZoneName>) = self.zones.keys().partition(has);
        let names = |zones: &[&ZoneName]| {
            let names: Vec<&str> = zones.iter().map(|zone| zone.as_str()).collect();
            names.join(", ")
        };
        let up = format!(
            "nobody has found it down in {} for {} s: it answers again, or nobody asks it",
            names(&has),
            QUIET.as_secs()
        );
        let relieved = format!(
            "it has no share any more in {}: whether it is up again is not seen there",
            names(&lost)
        );
        let (kind, words) = match (has.is_empty(), lost.is_empty()) {
            (_, true) => ("backend.up", up),
            (true, false) => ("backend.relieved", relieved),
            (false, false) => ("backend.relieved", format!("{relieved}; {up}")),
        };
        let what = format!("backend {backend} of split {split} was down: {words}");
        NewEvent::new(kind, what).split(split)
    }
}

/// Whether a backend gets requests in a zone: by the plan, by what agents say that they drive, and by what Kuma makes of it.
fn has_share(
    fleet: &Fleet,
    plan: Option<&Plan>,
    zone: &ZoneName,
    (split, backend): (&SplitName, &BackendName),
) -> bool {
    let told = plan.is_none_or(|plan| {
        let items = plan.splits.get(split).map(|split| &split.items);
        let item = items.and_then(|items| items.get(zone));
        item.is_some_and(|item| item.weighted().contains(backend))
    });
    let driven = |fact: &ItemFact| match &fact.pin {
        Some(pin) => {
            let mut routes = pin.weights.values();
            routes.any(|weights| weights.get(backend).is_some_and(|weight| weight.get() > 0))
        }
        None => {
            told && !fact
                .fallback
                .as_ref()
                .is_some_and(|fallen| fallen.down.contains(backend))
        }
    };
    let mut facts = fleet.of(zone).filter_map(|(_, agent)| agent.items.get(split));
    facts.any(|fact| driven(fact) && !fact.vanished.contains(backend))
}
