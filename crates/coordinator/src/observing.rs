//! From what agents say to the fleet: merges sessions with what is remembered, records what changed, tells what happened.

mod alarms;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_model::{SplitName, ZoneName};
use weir_planner::{Generation, ItemFact};
use weir_wire::api::Standing;

use crate::fleet::{Agent, Fleet, counting};
use crate::ledger::{AgentRow, Forgotten, ItemRow, Ledger, LedgerError, NewEvent};
use crate::selfcheck::{self, Checked, SelfChecks};
use crate::sessions::{AgentView, Sessions};
use crate::standing::{self, Sight};
use crate::state::{InForce, Troubles, trouble};
use alarms::Alarms;
use rows::{agent_row, material, worth_writing};

/// Silence is noticed within this time.
const TICK: Duration = Duration::from_secs(1);
/// While there is nothing to write, whether the ledger would take it is looked at so often.
const CHECK: SignedDuration = SignedDuration::from_secs(5);

/// The observing loop.
pub struct Observing {
    ledger: Ledger,
    sessions: Sessions,
    in_force: watch::Receiver<Option<InForce>>,
    fleet: watch::Sender<Arc<Fleet>>,
    troubles: Arc<watch::Sender<Troubles>>,
    checks: Arc<SelfChecks>,
    stale: Duration,
    recorded: Recorded,
    /// When the ledger last took something, or said that it would.
    checked: Timestamp,
}

/// What the ledger knows.
#[derive(Debug, Clone, Default)]
struct Recorded {
    agents: BTreeMap<(ZoneName, String), (AgentRow, bool)>,
    items: BTreeMap<(ZoneName, String, SplitName), ItemFact>,
    standings: BTreeMap<(ZoneName, SplitName), Standing>,
    /// What self-checks found wrong there, and was told.
    broken: BTreeMap<(ZoneName, SplitName), String>,
    silent: BTreeMap<ZoneName, bool>,
    proven: BTreeMap<ZoneName, Generation>,
    alarms: Alarms,
}

impl Recorded {
    fn forget(&mut self, zone: &ZoneName, agent: &str) {
        let is = |of: &ZoneName, name: &str| of == zone && name == agent;
        self.agents.retain(|(of, name), _| !is(of, name));
        self.items.retain(|(of, name, _), _| !is(of, name));
    }
}

/// Reads the fleet as it was when the ledger was last written: nobody is connected.
///
/// # Errors
/// The ledger cannot be read.
pub async fn recall(ledger: &Ledger) -> Result<Fleet, LedgerError> {
    let mut fleet = Fleet::default();
    for row in ledger.agents().await? {
        let agent = Agent {
            connected: false,
            heard_at: row.heard_at,
            looked_at: row.heard_at,
            version: row.version,
            generation: row.generation,
            highest: row.highest,
            certificate_expires: row.certificate_expires,
            kuma: row.kuma,
            unreadable: None,
            fault: None,
            store: None,
            refused: None,
            notes: Vec::new(),
            items: BTreeMap::new(),
            marks: BTreeMap::new(),
            services: Vec::new(),
        };
        fleet.zones.entry(row.zone).or_default().insert(row.name, agent);
    }
    for ((zone, name, split), fact) in ledger.last_facts().await? {
        if let Some(agent) = fleet
            .zones
            .get_mut(&zone)
            .and_then(|agents| agents.get_mut(&name))
        {
            agent.items.insert(split, fact);
        }
    }
    Ok(fleet)
}

impl Observing {
    /// Gets ready; `fleet` already holds what [`recall`] found, and `proven` which zones have first proven what generation: that is
    /// told once, by whichever process saw it.
    pub fn new(
        ledger: Ledger,
        sessions: Sessions,
        in_force: watch::Receiver<Option<InForce>>,
        fleet: watch::Sender<Arc<Fleet>>,
        (troubles, checks): (Arc<watch::Sender<Troubles>>, Arc<SelfChecks>),
        stale: Duration,
        proven: BTreeMap<ZoneName, Generation>,
    ) -> Self {
        let mut recorded = Recorded {
            proven,
            alarms: Alarms::known(&fleet.borrow(), Timestamp::now()),
            ..Recorded::default()
        };
        for (zone, name, agent) in fleet.borrow().agents() {
            let row = agent_row(zone, name, agent);
            recorded
                .agents
                .insert((zone.clone(), name.clone()), (row, agent.connected));
            for (split, fact) in &agent.items {
                recorded
                    .items
                    .insert((zone.clone(), name.clone(), split.clone()), material(fact));
            }
        }
        Self {
            ledger,
            sessions,
            in_force,
            fleet,
            troubles,
            checks,
            stale,
            recorded,
            checked: Timestamp::UNIX_EPOCH,
        }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut seen = self.sessions.changes();
        loop {
            // Marked before the look, so that what changes during the turn brings the next one.
            seen.mark_unchanged();
            self.turn(Timestamp::now()).await;
            tokio::select! {
                () = stop.cancelled() => return,
                changed = seen.changed() => if changed.is_err() { return },
                changed = self.in_force.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Answers those who want an agent forgotten.
    async fn forget(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        for asked in self.ledger.asked_to_forget().await? {
            let (zone, agent) = (&asked.zone, &asked.agent);
            let answer = if self.sessions.forget(zone, agent) {
                let became = self.ledger.forget(now, zone, agent).await?;
                tracing::info!(%zone, agent, ?became, "asked to forget an agent");
                self.recorded.forget(zone, agent);
                self.fleet.send_if_modified(|fleet| {
                    fleet.agent(zone, agent).is_some() && {
                        let mut next = Fleet::clone(fleet);
                        next.forget(zone, agent);
                        *fleet = Arc::new(next);
                        true
                    }
                });
                became
            } else {
                Forgotten::Connected
            };
            self.ledger.answer(&asked.id, answer).await?;
        }
        Ok(())
    }

    async fn turn(&mut self, now: Timestamp) {
        // Who asked waits for an answer and asks again without one; a ledger that takes no writes is told of below.
        if let Err(error) = self.forget(now).await {
            tracing::debug!(%error, "an agent could not be forgotten");
        }
        let seen = self.sessions.snapshot();
        let in_force = self.in_force.borrow_and_update().clone();
        self.fleet.send_if_modified(|fleet| {
            let mut next = Fleet::clone(fleet);
            for ((zone, name), view) in &seen {
                let agents = next.zones.entry(zone.clone()).or_default();
                let agent = agent(view, agents.get(name));
                agents.insert(name.clone(), agent);
            }
            let changes = next != **fleet;
            *fleet = Arc::new(next);
            changes
        });
        let fleet = Arc::clone(&self.fleet.borrow());
        let mut next = self.recorded.clone();
        let mut news = News::default();
        news.agents(&fleet, &mut next, now);
        let plan = in_force.as_ref().map(|in_force| &*in_force.plan);
        news.events.extend(next.alarms.look(&fleet, plan, now));
        if let Some(in_force) = &in_force {
            let sight = Sight {
                plan: &in_force.plan,
                created: &in_force.created,
                fleet: &fleet,
                stale: self.stale,
                now,
            };
            news.standings(sight, &self.checks, &mut next);
        }
        if news.is_empty() {
            self.recorded = next;
            if now.duration_since(self.checked).abs() >= CHECK {
                self.checked = now;
                let failed = self.ledger.check().await.err().map(|error| error.to_string());
                trouble(&self.troubles, "observations", |t| &mut t.observations, failed);
            }
            return;
        }
        self.checked = now;
        let written = self
            .ledger
            .observe(now, &news.agents, &news.items, &news.proven, &news.events)
            .await;
        let failed = written.as_ref().err().map(ToString::to_string);
        if failed.is_none() {
            for event in &news.events {
                tracing::info!(kind = event.kind, "{}", event.message);
            }
            self.recorded = next;
        }
        // What could not be written is news again at the next turn.
        trouble(&self.troubles, "observations", |t| &mut t.observations, failed);
    }
}

/// What one turn has to write.
#[derive(Debug, Default)]
struct News {
    agents: Vec<AgentRow>,
    items: Vec<ItemRow>,
    proven: Vec<(ZoneName, Generation, Timestamp)>,
    events: Vec<NewEvent>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.agents.is_empty() && self.items.is_empty() && self.proven.is_empty() && self.events.is_empty()
    }

    fn agents(&mut self, fleet: &Fleet, recorded: &mut Recorded, now: Timestamp) {
        for (zone, name, agent) in fleet.agents() {
            let key = (zone.clone(), name.clone());
            let row = agent_row(zone, name, agent);
            let before = recorded.agents.get(&key);
            let was_connected = before.is_some_and(|(_, connected)| *connected);
            if agent.connected != was_connected {
                let (kind, what) = if agent.connected {
                    ("agent.connected", "is connected")
                } else {
                    ("agent.gone", "is gone; its zone stays as it is")
                };
                self.events
                    .push(NewEvent::new(kind, format!("agent {name} of zone {zone} {what}")).zone(zone));
            }
            if agent.connected != was_connected
                || before.is_none_or(|(before, _)| worth_writing(before, &row, now))
            {
                recorded.agents.insert(key, (row.clone(), agent.connected));
                self.agents.push(row);
            }
            for (split, fact) in &agent.items {
                let key = (zone.clone(), name.clone(), split.clone());
                let now = material(fact);
                self.pins(zone, name, recorded.items.get(&key), fact);
                if recorded.items.get(&key) != Some(&now) {
                    recorded.items.insert(key, now);
                    self.items.push(ItemRow {
                        zone: zone.clone(),
                        agent: name.clone(),
                        fact: fact.clone(),
                    });
                }
            }
        }
    }

    /// That somebody at a host pinned a split, or ended that.
    fn pins(&mut self, zone: &ZoneName, agent: &str, before: Option<&ItemFact>, now: &ItemFact) {
        let before = before.and_then(|fact| fact.pin.as_ref());
        let split = &now.split;
        let event = match (before, &now.pin) {
            (before, Some(pin)) if before != Some(pin) => {
                let weights = pin.weights.iter().map(|(route, weights)| {
                    let shares = weights
                        .iter()
                        .map(|(backend, weight)| format!("{backend} {weight} %"));
                    format!("{route}: {}", shares.collect::<Vec<_>>().join(", "))
                });
                let what = format!(
                    "split {split} in zone {zone} was pinned on host {} (agent {agent}) by {} at {:.0} to {}: {}",
                    pin.host,
                    pin.who,
                    pin.since,
                    weights.collect::<Vec<_>>().join("; "),
                    pin.reason
                );
                NewEvent::new("zone.pinned", what)
            }
            (Some(pin), None) => {
                let what = format!(
                    "split {split} in zone {zone} is not pinned any more on host {} (agent {agent}); {} had pinned it at {:.0}",
                    pin.host, pin.who, pin.since
                );
                NewEvent::new("zone.unpinned", what)
            }
            _ => return,
        };
        self.events
            .push(event.zone(zone).split(split).generation(now.generation));
    }

    fn standings(&mut self, sight: Sight<'_>, checks: &SelfChecks, recorded: &mut Recorded) {
        let (mut standings, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, split) in &sight.plan.splits {
            for (zone, item) in &split.items {
                let shown = standing::split_in_zone(sight, zone, item);
                let key = (zone.clone(), name.clone());
                if let Some(why) = checks.count(Checked::I9, selfcheck::shown(sight, item, &shown)) {
                    if recorded.broken.get(&key) != Some(&why) {
                        self.events
                            .push(NewEvent::failed_check(&why).zone(zone).split(name));
                    }
                    broken.insert(key.clone(), why);
                }
                let before = recorded.standings.get(&key);
                let kind = match shown.standing {
                    Standing::Held => Some("zone.held"),
                    Standing::Overridden => Some("zone.overridden"),
                    Standing::Fallback => Some("zone.fallback"),
                    Standing::Failed => Some("zone.failed"),
                    Standing::Different => Some("zone.different"),
                    _ => None,
                };
                if let Some(kind) = kind
                    && before != Some(&shown.standing)
                {
                    let why = shown.reason.unwrap_or_default();
                    self.events.push(
                        NewEvent::new(kind, format!("split {name} in zone {zone}: {why}"))
                            .zone(zone)
                            .split(name)
                            .generation(item.generation),
                    );
                }
                standings.insert(key, shown.standing);
            }
        }
        (recorded.standings, recorded.broken) = (standings, broken);
        for zone in sight.plan.zones.keys() {
            self.silence(sight, zone, recorded);
            if recorded.proven.get(zone) == Some(&sight.plan.generation) {
                continue;
            }
            if let Some(at) = standing::proven_at(sight, zone) {
                let generation = sight.plan.generation;
                recorded.proven.insert(zone.clone(), generation);
                self.proven.push((zone.clone(), generation, at));
                let took = at.duration_since(sight.plan.created).as_millis();
                self.events.push(
                    NewEvent::new(
                        "zone.proven",
                        format!(
                            "zone {zone} runs generation {generation} by proof, {took} ms after it was made"
                        ),
                    )
                    .zone(zone)
                    .generation(generation),
                );
            }
        }
    }

    fn silence(&mut self, sight: Sight<'_>, zone: &ZoneName, recorded: &mut Recorded) {
        let status = standing::zone(sight, zone, &BTreeMap::new());
        let silent = status.standing == Standing::Stale;
        let before = recorded.silent.insert(zone.clone(), silent).unwrap_or(false);
        if silent && !before {
            let why = status.reason.unwrap_or_default();
            self.events
                .push(NewEvent::new("zone.stale", format!("zone {zone}: {why}")).zone(zone));
        }
    }
}

/// An agent as its session shows it. A session that has just opened has not reported yet: what was known stays until it
/// does, and its age shows.
pub fn agent(view: &AgentView, before: Option<&Agent>) -> Agent {
    let facts = view.facts.as_deref();
    let items = match (facts, before) {
        (Some(facts), _) => facts
            .items
            .iter()
            .map(|fact| (fact.split.clone(), fact.clone()))
            .collect(),
        (None, Some(before)) => before.items.clone(),
        (None, None) => BTreeMap::new(),
    };
    // Marks are of what was said since the start: what is only recalled was counted before, and a mark of it would give a step
    // that is judged now all the requests since, which other weights may have sent.
    let marks = match (facts, before) {
        (Some(_), _) => counting::marks(before.map(|before| &before.marks), &items),
        (None, Some(before)) => before.marks.clone(),
        (None, None) => BTreeMap::new(),
    };
    Agent {
        connected: view.connected.is_some(),
        heard_at: match facts {
            Some(_) => Some(view.heard),
            None => before.and_then(|before| before.heard_at),
        },
        looked_at: match view.looked {
            Some((_, told)) => Some(told),
            None => before.and_then(|before| before.looked_at),
        },
        version: view.version.clone(),
        generation: view.generation,
        highest: view.highest,
        certificate_expires: Some(view.certificate_expires),
        kuma: match facts {
            Some(facts) => facts.kuma.clone(),
            None => before.and_then(|before| before.kuma.clone()),
        },
        unreadable: facts.and_then(|facts| facts.unreadable.clone()),
        fault: facts.and_then(|facts| facts.fault),
        store: match facts {
            // A control plane that does not answer says nothing of its store.
            Some(facts) if facts.unreadable.is_none() => facts.store.clone(),
            _ => before.and_then(|before| before.store.clone()),
        },
        refused: view.refused.clone(),
        notes: match facts {
            Some(_) => view.notes.clone(),
            None => before.map(|before| before.notes.clone()).unwrap_or_default(),
        },
        items,
        marks,
        services: match facts {
            // A control plane that cannot be read says nothing of its services.
            Some(facts) if facts.unreadable.is_none() => facts.services.clone(),
            _ => before.map(|before| before.services.clone()).unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests;
