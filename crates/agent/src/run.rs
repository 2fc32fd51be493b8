//! The loop: takes plans, activates, tells. One task, so that two activations never overlap.
//!
//! It runs the same with the coordinator gone (I6). What starts an activation: a plan, the clock, SIGHUP, a pin, a
//! change in the zone that the driver is told of, and the control plane coming back or being another process than before,
//! which may mean that it lost its store.

mod looking;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_drivers::{Fault, ZoneDriver};
use weir_model::{FederationName, ZoneName};
use weir_planner::{ZoneFacts, ZonePlan};
use weir_render::Options;
use weir_wire::Offered;

use crate::activation::{Noticed, activate, now};
use crate::conclude;
use crate::current::Current;
use crate::gateways::{Link, Wanted};
use crate::pin;
use crate::pin::elsewhere::Elsewhere;
use crate::status;
use crate::store::{Kept, RECOVERED, Store};
use crate::take::{Memory, Offer, judge};
use looking::{Counting, counted};

/// Right after something was written: a change is in Envoy after 0.04 to 2 s (`kuma.md` R4), and whoever committed it waits.
const QUICK: Duration = Duration::from_millis(150);
/// After so long without proof, haste helps nobody.
const HASTE: Duration = Duration::from_secs(10);
/// While anything is under way, and how often the control plane is asked whether it is still the same.
const SOON: Duration = Duration::from_secs(1);
/// When all is proven.
const CALM: Duration = Duration::from_secs(5);
/// While the control plane cannot be read: it must not be back for long without our objects (`kuma.md` R5, R11).
const AWAY: Duration = Duration::from_millis(250);
/// After so long without it, looking four times a second gains nothing.
const LONG: Duration = Duration::from_secs(60);

/// Everything that the loop needs.
pub struct Loop {
    /// Whose agent.
    pub federation: FederationName,
    /// Of which zone.
    pub zone: ZoneName,
    /// Hands and eyes.
    pub driver: Arc<dyn ZoneDriver>,
    /// Where plan and memory are kept.
    pub store: Store,
    /// How policies are rendered.
    pub options: Options,
    /// Plans from the session.
    pub offers: mpsc::Receiver<Offered>,
    /// SIGHUP.
    pub now: mpsc::Receiver<()>,
    /// Who wants to know.
    pub tell: watch::Sender<Arc<Current>>,
    /// The zone's gateways, if this agent drives any.
    pub gateways: Option<Link>,
}

/// Ends when the gateways tell something; never, if there are none.
async fn gateways_told(link: Option<&mut Link>) {
    // Should that task have died, the agent ends as a whole.
    if let Some(link) = link
        && link.told.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

struct State {
    plan: Option<Arc<ZonePlan>>,
    memory: Memory,
    /// The memory as it is on disk.
    on_disk: Memory,
    refused: Option<String>,
    /// A plan that is to be taken and could not be kept on disk.
    waiting: Option<Offered>,
    /// The file of pins as it was last read; none before.
    pins: Option<Result<Option<Vec<u8>>, String>>,
    /// Why the file of pins is not what is in force, if so.
    pin_trouble: Option<String>,
    /// Why the memory could not be kept, if so.
    forgetful: Option<String>,
    /// Which process of the control plane answered last.
    instance: Option<String>,
    /// Since when the control plane cannot be read.
    away: Option<Instant>,
    /// When something was last taken or written.
    changed: Instant,
    /// What it noticed over several activations.
    noticed: Noticed,
    /// When something that went down was last a reason to activate.
    fell: Option<Instant>,
    /// What the last activation saw, without what the gateways say.
    facts: Option<ZoneFacts>,
    /// What the last activation saw that could read the control plane.
    seen: Option<ZoneFacts>,
    /// What it saw of pins of other hosts.
    elsewhere: Elsewhere,
}

impl State {
    /// That it has no plan and keeps in force what was.
    fn recovered(&self) -> Option<String> {
        let plan = self.plan.as_ref().filter(|plan| plan.generation == RECOVERED)?;
        Some(format!(
            "this agent's plan file is damaged or gone: what was in force of its {} splits is kept in force, and nothing else \
             until the coordinator sends the plan; the damaged file lies beside it in the data directory, and its disk may be \
             worth a look",
            plan.items.len()
        ))
    }

    fn mesh_gone(&self) -> bool {
        let facts = self.facts.as_ref();
        facts.is_some_and(|facts| facts.fault == Some(Fault::MeshGone))
    }
}

impl Loop {
    /// Runs until stopped. Stopping changes nothing in the zone. A disk that takes nothing ends nothing: the plan that is
    /// held is driven on, a newer one waits until it can be kept.
    ///
    /// # Errors
    /// Never, today.
    pub async fn run(mut self, kept: Kept, stop: CancellationToken) -> anyhow::Result<()> {
        let mut state = State {
            plan: kept.plan.map(Arc::new),
            on_disk: kept.memory.clone(),
            memory: kept.memory,
            refused: None,
            waiting: None,
            pins: None,
            pin_trouble: None,
            forgetful: None,
            instance: None,
            away: None,
            changed: Instant::now(),
            noticed: Noticed::default(),
            fell: None,
            facts: None,
            seen: None,
            elsewhere: Elsewhere::default(),
        };
        let mut offers_open = true;
        let mut hangups_open = true;
        loop {
            self.pins(&mut state);
            if let Some(offered) = state.waiting.take() {
                self.take(&mut state, offered);
            }
            // A way back does not wait for the mesh. What came during an activation waits for its end, which is some calls of
            // five seconds where a control plane takes them and says nothing.
            if let Some((link, wanted)) = self.wanted(&state) {
                link.want_ahead(wanted);
            }
            let unsettled = self.activate(&mut state).await;
            let began = Instant::now();
            let watches = self.watches(&state);
            let mut watch_at = began + self.driver.watch_every();
            // Beside everything else: proxies that do not answer hold up no plan. Dropped, it has counted nothing.
            let mut counting: Option<Counting> = None;
            let next_look = |state: &State| match state.away {
                // A mesh that is made anew must not be there for long without our objects, however long that took.
                Some(since) if since.elapsed() < LONG || state.mesh_gone() => AWAY,
                _ => SOON,
            };
            let mut look_at = began + next_look(&state);
            // Waits for a reason to activate again.
            loop {
                let wait = match unsettled {
                    true if state.changed.elapsed() < HASTE => QUICK,
                    true => SOON,
                    false => CALM,
                };
                let due = began + wait;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    offer = self.offers.recv(), if offers_open => match offer {
                        Some(offered) => if self.take(&mut state, offered) { break },
                        None => offers_open = false,
                    },
                    hangup = self.now.recv(), if hangups_open => match hangup {
                        Some(()) => break,
                        None => hangups_open = false,
                    },
                    () = tokio::time::sleep_until(due), if state.away.is_none() => break,
                    () = self.driver.changed(), if state.away.is_none() => break,
                    () = tokio::time::sleep_until(watch_at), if watches && counting.is_none() => {
                        counting = self.counting(&state);
                    }
                    (items, counts) = counted(&mut counting), if counting.is_some() => {
                        counting = None;
                        watch_at = Instant::now() + self.driver.watch_every();
                        if self.watch(&mut state, &items, &counts) { break }
                    }
                    () = gateways_told(self.gateways.as_mut()) => self.retell(&state),
                    () = tokio::time::sleep_until(look_at) => {
                        // Somebody at the host waits for it, and no signal tells.
                        let pins = self.pins(&mut state);
                        if self.look(&mut state, began).await || pins { break }
                        look_at = Instant::now() + next_look(&state);
                    }
                }
            }
        }
    }

    async fn activate(&self, state: &mut State) -> bool {
        let before = Arc::clone(&self.tell.borrow());
        let began = Instant::now();
        let (facts, unsettled) = match &state.plan {
            Some(plan) => {
                let earlier = Some(&before.facts);
                let done = activate(
                    &*self.driver,
                    plan,
                    &state.memory,
                    self.options,
                    earlier,
                    &mut state.noticed,
                    &now,
                )
                .await;
                if done.wrote {
                    state.changed = Instant::now();
                }
                state.memory = done.memory;
                self.remember(state);
                match done.elsewhere {
                    Some(shown) => state.elsewhere.was_shown(began, shown),
                    None => state.elsewhere.was_not_shown(),
                }
                (done.facts, done.unsettled)
            }
            None => {
                let unreadable = self.driver.pulse().await.err().map(|error| error.to_string());
                let facts = conclude::not_seen(&self.zone, None, &state.memory, unreadable, Timestamp::now());
                (facts, false)
            }
        };
        match (&facts.unreadable, state.away) {
            (Some(why), None) => {
                tracing::warn!(%why, "the control plane cannot be read; traffic stays as it is");
                state.away = Some(Instant::now());
            }
            (None, Some(since)) => {
                tracing::info!(
                    after_s = since.elapsed().as_secs(),
                    "the control plane can be read again"
                );
                state.away = None;
            }
            _ => {}
        }
        for item in &facts.items {
            let earlier = before.facts.items.iter().find(|fact| fact.split == item.split);
            if earlier.is_none_or(|fact| fact.state != item.state || fact.generation != item.generation) {
                let (state, reason) = status::told(&item.state);
                tracing::info!(split = %item.split, generation = item.generation.0, state, reason, "item");
            }
        }
        state.facts = Some(facts.clone());
        if facts.unreadable.is_none() {
            state.seen = Some(facts.clone());
        }
        let (facts, told) = self.with_doors(state, facts);
        let alarms = state
            .plan
            .as_ref()
            .map(|plan| state.noticed.watch.alarms(plan, &state.memory, Instant::now()))
            .unwrap_or_default();
        self.tell.send_replace(Arc::new(Current {
            plan: state.plan.clone(),
            facts,
            // Only so many are told to the coordinator: its own come before those of dead sockets.
            notes: state
                .forgetful
                .clone()
                .into_iter()
                .chain(state.pin_trouble.clone())
                .chain(state.recovered())
                .chain(state.noticed.contests.alarms())
                .chain(alarms)
                .chain(state.memory.pins.waiting(state.plan.as_deref()))
                .chain(told)
                .chain(self.driver.notes())
                .collect(),
            refused: state.refused.clone(),
            term: state.memory.term,
        }));
        unsettled
    }

    /// What the gateways are to run; none without any.
    fn wanted(&self, state: &State) -> Option<(&Link, Arc<Wanted>)> {
        let (link, plan) = (self.gateways.as_ref()?, state.plan.as_ref()?);
        // What is kept in force without a plan says nothing of gateways: they stay as they are.
        if plan.generation == RECOVERED {
            return None;
        }
        let wanted = Wanted::new(plan, &state.memory, state.seen.as_ref(), &state.elsewhere);
        Some((link, Arc::new(wanted)))
    }

    /// Tells the gateways what is in force, and puts to the facts how they stand; with what they want to be known.
    fn with_doors(&self, state: &State, mut facts: ZoneFacts) -> (ZoneFacts, Vec<String>) {
        let (Some((link, wanted)), Some(plan)) = (self.wanted(state), &state.plan) else {
            return (facts, Vec::new());
        };
        link.want(wanted);
        let told = Arc::clone(&link.told.borrow());
        told.complete(&mut facts, plan, &link.drives, Timestamp::now());
        (facts, told.notes.clone())
    }

    /// Says anew what is known, with what the gateways just told.
    fn retell(&self, state: &State) {
        let (Some(link), Some(plan), Some(facts)) = (&self.gateways, &state.plan, &state.facts) else {
            return;
        };
        let told = Arc::clone(&link.told.borrow());
        let mut current = Current::clone(&self.tell.borrow());
        current.facts = facts.clone();
        told.complete(&mut current.facts, plan, &link.drives, Timestamp::now());
        self.tell.send_replace(Arc::new(current));
    }

    /// Looks at what is pinned; true if that changed. What cannot be used changes nothing: what was good last stays in force.
    fn pins(&self, state: &mut State) -> bool {
        let bytes = self.store.pins().map_err(|error| error.to_string());
        if state.pins.as_ref() == Some(&bytes) {
            return false;
        }
        state.pins = Some(bytes.clone());
        let read = pin::read(bytes, &state.memory.pins);
        let trouble = read.as_ref().err().cloned();
        if let Some(why) = &trouble {
            tracing::error!("{why}");
        }
        let told = trouble != state.pin_trouble;
        state.pin_trouble = trouble;
        let Ok(pins) = read.map(|pins| pins.within(&self.federation, &self.zone)) else {
            return told;
        };
        if pins == state.memory.pins {
            return told;
        }
        let before = std::mem::replace(&mut state.memory.pins, pins);
        for (split, pinned) in state.memory.pins.in_force() {
            if before.of(split) != Some(pinned) {
                let pin = &pinned.pin;
                tracing::warn!(%split, who = pin.who, reason = pin.reason, "pinned: what plans say of it waits");
            }
        }
        for (split, _) in before.in_force() {
            if state.memory.pins.of(split).is_none() {
                tracing::warn!(%split, "pinned no more: it follows the plan again");
            }
        }
        // Before it is acted upon: should the file be lost, the pin is not.
        self.remember(state);
        state.changed = Instant::now();
        true
    }

    /// Keeps the memory on disk. What cannot be kept now is tried again at the next activation: meanwhile an agent that
    /// restarts knows less of the past, and one that ended would do nothing at all for its zone.
    fn remember(&self, state: &mut State) {
        if state.memory == state.on_disk {
            return;
        }
        match self.store.keep_memory(&state.memory) {
            Ok(()) => {
                state.on_disk = state.memory.clone();
                state.forgetful = None;
            }
            Err(error) => {
                let why = format!(
                    "what was applied cannot be kept on disk: {error}; make room, or mend the data directory"
                );
                if state.forgetful.as_ref() != Some(&why) {
                    tracing::error!("{why}");
                }
                state.forgetful = Some(why);
            }
        }
    }

    /// From now on nobody older than who offered this is followed. Keeps the memory.
    fn follow(&self, state: &mut State, offered: &Offered) {
        if offered.term > state.memory.term {
            state.memory.term = offered.term;
            // The next greeting says it, whether an activation comes in between or not.
            self.tell
                .send_modify(|current| Arc::make_mut(current).term = offered.term);
        }
        self.remember(state);
    }

    /// Takes an offered plan or says why not; true if it is new.
    fn take(&self, state: &mut State, offered: Offered) -> bool {
        let held = state.plan.as_deref();
        match judge(&self.federation, &self.zone, held, &state.memory, &offered) {
            Ok(Offer::Held) => {
                self.follow(state, &offered);
                // That the one that is held comes again says nothing of a newer one that waits for room.
                if state.waiting.is_none() {
                    state.refused = None;
                }
                false
            }
            Ok(Offer::Newer) => {
                let plan = &offered.plan;
                // On disk before it is acted upon: after a crash at any instant the agent knows what it did. The memory
                // first: should the plan's file be damaged one day, it still tells how far this agent was (I7).
                state.memory.highest = state.memory.highest.max(plan.generation);
                self.follow(state, &offered);
                if let Err(error) = self.store.keep_plan(plan) {
                    let why = format!(
                        "plan {} cannot be kept on disk: {error}; make room, or mend the data directory; it is tried again, \
                         and what is held stays in force",
                        plan.generation
                    );
                    if state.refused.as_ref() != Some(&why) {
                        tracing::error!("{why}");
                    }
                    state.refused = Some(why);
                    state.waiting = Some(offered);
                    return false;
                }
                tracing::info!(
                    generation = plan.generation.0,
                    plan = plan.plan.short(),
                    "plan taken"
                );
                state.plan = Some(Arc::new(offered.plan));
                state.refused = None;
                state.waiting = None;
                state.changed = Instant::now();
                true
            }
            Err(why) => {
                tracing::error!(%why, "a plan was not taken; the one that is held stays in force");
                state.refused = Some(why.to_string());
                false
            }
        }
    }
}
