//! An agent: its disk, its loop, and its activations, which run as futures that the world polls, so that anything may
//! happen between any two of their calls, their end included.

mod calls;
mod hands;
mod plans;
mod watching;
mod words;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use weir_agent::activation::{Noticed, activate};
use weir_agent::conclude::{Conclusion, not_seen};
use weir_agent::pin::elsewhere::Elsewhere;
use weir_agent::take::{Memory, Offer, judge};
use weir_drivers::{DriverError, Outcome};
use weir_model::Protocol;
use weir_planner::{Generation, ItemState, ZoneFacts, ZonePlan};
use weir_render::{Extent, Options, Step};
use weir_wire::Offered;

use super::Ms;
use super::human::protocol_of;
use super::world::{Event, World, federation, stamp};
use super::zone::{Answer, Call, Door, Place};

pub(crate) use hands::Hands;
use words::{did, stands, told};

const OPTIONS: Options = Options { anchored: true };

// As in the agent's own loop.
const QUICK: Ms = 150;
const HASTE: Ms = 10_000;
const SOON: Ms = 1_000;
const CALM: Ms = 5_000;

/// What outlives the process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) plan: Option<Arc<ZonePlan>>,
    pub(crate) memory: Memory,
    /// The file of pins.
    pub(crate) pins: Option<Vec<u8>>,
    pub(crate) full: bool,
}

/// An activation under way.
pub(crate) struct Running {
    future: BoxFuture<'static, (Conclusion, Noticed)>,
    hands: Hands,
    pub(crate) began: Ms,
    /// All of it in one instant; otherwise every call takes its time.
    instant: bool,
    /// Calls made.
    calls: u32,
    /// The agent ends at this call: before it is done, or after.
    dies: Option<(u32, bool)>,
    /// A call failed: what was seen is not the whole.
    failed: bool,
    /// What the zone's control plane resolved when this activation looked.
    pub(crate) resolved: Arc<std::collections::BTreeSet<(String, Place, Protocol)>>,
    /// What it saw of each object's generation.
    pub(crate) seen: std::collections::BTreeMap<super::zone::Key, Generation>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("began", &self.began)
            .finish_non_exhaustive()
    }
}

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) zone: Place,
    pub(crate) name: String,
    /// Which of its zone's agents it is.
    pub(crate) number: usize,
    /// How far its host's clock is ahead, in milliseconds.
    pub(crate) ahead: i64,
    pub(crate) up: bool,
    /// Rises with each start, so that what was meant for the process before finds nobody.
    pub(crate) epoch: u32,
    pub(crate) disk: Disk,
    /// How many disks it has lost.
    pub(crate) disks: u32,
    pub(crate) plan: Option<Arc<ZonePlan>>,
    pub(crate) memory: Memory,
    pub(crate) facts: Option<ZoneFacts>,
    /// The last ones of this life that could read the control plane.
    pub(crate) seen: Option<ZoneFacts>,
    /// What they showed of pins of other hosts.
    pub(crate) elsewhere: Elsewhere,
    pub(crate) refused: Option<String>,
    noticed: Noticed,
    /// The file of pins as it was last read; none before.
    pins: Option<Option<Vec<u8>>>,
    /// Counters as they were when this process first read them.
    base: Option<watching::Base>,
    /// Whether it reads counters now, for something is down.
    watching: bool,
    /// When something that went down was last a reason to look.
    fell: Option<Ms>,
    waiting: Option<Offered>,
    /// Plans that came while an activation runs.
    offers: std::collections::VecDeque<Offered>,
    away: bool,
    changed: Ms,
    pub(crate) unsettled: bool,
    pub(crate) running: Option<Running>,
    /// Something asks for another activation while one runs.
    again: bool,
    /// Number of the timer that counts.
    timer: u64,
    /// The zone as the last activation left it, if another look would show the very same.
    calm: Option<u64>,
    /// The next activation ends the agent at this call.
    pub(crate) doomed: Option<(u32, bool)>,
    /// The highest generation that was ever on its disk: what it must never go behind.
    pub(crate) took: Generation,
}

impl Agent {
    pub(crate) fn new(zone: Place, number: usize) -> Self {
        Self {
            zone,
            name: format!("{}-{}", super::world::ZONES[zone], number + 1),
            number,
            ahead: 0,
            up: true,
            epoch: 0,
            disk: Disk::default(),
            disks: 0,
            plan: None,
            memory: Memory::default(),
            facts: None,
            seen: None,
            elsewhere: Elsewhere::default(),
            refused: None,
            noticed: Noticed::default(),
            pins: None,
            base: None,
            watching: false,
            fell: None,
            waiting: None,
            offers: std::collections::VecDeque::new(),
            away: false,
            changed: 0,
            unsettled: false,
            running: None,
            again: false,
            timer: 0,
            calm: None,
            doomed: None,
            took: Generation(0),
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.plan.as_ref().map(|plan| plan.generation).unwrap_or_default()
    }
}

impl World {
    /// A process starts, from what is on its disk.
    pub(crate) fn start_agent(&mut self, a: usize) {
        let now = self.now;
        let agent = &mut self.agents[a];
        if agent.up && agent.epoch > 0 {
            return;
        }
        agent.up = true;
        agent.epoch += 1;
        agent.plan = agent.disk.plan.clone();
        let zone = &self.zones[agent.zone].name;
        agent.memory = agent
            .disk
            .memory
            .clone()
            .at_start(agent.plan.as_deref(), &federation(), zone);
        agent.facts = None;
        agent.seen = None;
        agent.elsewhere = Elsewhere::default();
        agent.refused = None;
        agent.noticed = Noticed::default();
        agent.pins = None;
        agent.base = None;
        agent.watching = false;
        agent.fell = None;
        agent.waiting = None;
        agent.offers.clear();
        agent.away = false;
        agent.changed = now;
        agent.running = None;
        agent.again = false;
        agent.calm = None;
        agent.doomed = None;
        let (name, generation) = (agent.name.clone(), agent.generation());
        self.story.tell(now, || {
            format!("agent {name} starts, with plan {generation} on its disk")
        });
        self.note_start(a);
        self.start_doors(a);
        self.begin_to_watch(a);
        self.wake(a, 1);
        self.at(10, Event::Dial(a));
    }

    /// The process is gone, at once.
    pub(crate) fn kill_agent(&mut self, a: usize, back_in: Ms) {
        let now = self.now;
        let agent = &mut self.agents[a];
        if !agent.up {
            return;
        }
        agent.up = false;
        agent.running = None;
        agent.timer += 1;
        let name = agent.name.clone();
        self.story.tell(now, || format!("agent {name} is killed"));
        self.stop_doors(a);
        self.drop_session(a);
        self.at(back_in, Event::AgentStarts(a));
    }

    /// Another activation, so much later at the latest.
    pub(crate) fn wake(&mut self, a: usize, after: Ms) {
        self.agents[a].timer += 1;
        let timer = self.agents[a].timer;
        self.at(after, Event::Wake(a, timer));
    }

    pub(crate) fn woken(&mut self, a: usize, timer: u64) {
        if self.agents[a].timer == timer && self.agents[a].up {
            self.activate(a);
        }
    }

    /// Begins an activation, unless one is under way: then that is followed by another.
    pub(crate) fn activate(&mut self, a: usize) {
        let now = self.now;
        let agent = &mut self.agents[a];
        if !agent.up {
            return;
        }
        if agent.running.is_some() {
            agent.again = true;
            return;
        }
        self.pins(a);
        if let Some(plan) = self.agents[a].waiting.take() {
            self.take(a, plan);
        }
        self.want(a, true);
        let version = self.zones[self.agents[a].zone].version;
        let agent = &mut self.agents[a];
        if !agent.up {
            return;
        }
        let Some(plan) = agent.plan.clone() else {
            let zone = &self.zones[agent.zone];
            let unreadable = (zone.door == Door::Closed).then(|| "connection refused".to_owned());
            agent.facts = Some(not_seen(&zone.name, None, &agent.memory, unreadable, stamp(now)));
            self.report(a, false);
            self.wake(a, CALM);
            return;
        };
        // The same plan, memory and zone: it would see, do and say the same again.
        if agent.calm == Some(version) && agent.doomed.is_none() && agent.facts.is_some() {
            let items = weir_agent::decide::items(&agent.memory.pins.over(&plan));
            let counts = self.count(a, &items);
            let Some(facts) = &mut self.agents[a].facts else {
                return;
            };
            for fact in &mut facts.items {
                let at = items.iter().position(|item| item.split == fact.split);
                if let Some(counts) = at.and_then(|at| counts.get(at)) {
                    fact.counts.clone_from(counts);
                }
            }
            facts.at = stamp(now);
            for proof in facts.items.iter_mut().filter_map(|item| item.proof.as_mut()) {
                proof.at = stamp(now);
            }
            self.agents[a].elsewhere.looked = Some(self.begin + Duration::from_millis(now));
            self.want(a, false);
            self.report(a, false);
            let wait = self.wait(a, now);
            self.wake(a, wait);
            return;
        }
        self.activations += 1;
        let hands = Hands::default();
        let agent = &mut self.agents[a];
        let future = {
            let hands = hands.clone();
            let memory = agent.memory.clone();
            let before = agent.facts.clone();
            let mut noticed = agent.noticed.clone();
            let (begin, ahead) = (self.begin, SignedDuration::from_millis(agent.ahead));
            let desk = hands.clone();
            let clock = move || {
                let now = desk.with(|desk| desk.now);
                let says = stamp(now).saturating_add(ahead).unwrap_or_default();
                (begin + Duration::from_millis(now), says)
            };
            hands.with(|desk| desk.now = now);
            async move {
                let noticed_now = &mut noticed;
                let done = activate(
                    &hands,
                    &plan,
                    &memory,
                    OPTIONS,
                    before.as_ref(),
                    noticed_now,
                    &clock,
                )
                .await;
                (done, noticed)
            }
            .boxed()
        };
        let dies = agent.doomed.take();
        let slow = if self.quiet { 10 } else { 35 };
        let running = Running {
            future,
            hands,
            began: now,
            instant: !self.dice.chance(slow),
            calls: 0,
            dies,
            failed: false,
            resolved: Arc::default(),
            seen: [].into(),
        };
        self.agents[a].running = Some(running);
        self.go_on(a);
    }

    /// Polls an activation until it waits for the zone, or is done.
    fn go_on(&mut self, a: usize) {
        loop {
            let now = self.now;
            let agent = &mut self.agents[a];
            let Some(running) = &mut agent.running else {
                return;
            };
            running.hands.with(|desk| desk.now = now);
            let polled = running.future.poll_unpin(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready((done, noticed)) = polled {
                self.concluded(a, done, noticed);
                return;
            }
            let Some(call) = running.hands.with(|desk| desk.call.take()) else {
                return;
            };
            running.calls += 1;
            if let Some((at, after)) = running.dies
                && at == running.calls
            {
                let name = agent.name.clone();
                let when = if after { "after" } else { "before" };
                let what = told(&call);
                self.story
                    .tell(now, || format!("agent {name} ends {when} it could {what}"));
                if after {
                    drop(self.execute(a, &call));
                }
                let back = self.dice.between(200, 15_000);
                self.kill_agent(a, back);
                return;
            }
            if running.instant {
                let answer = self.execute(a, &call);
                if let Some(running) = &mut self.agents[a].running {
                    running.hands.with(|desk| desk.answer = Some(answer));
                }
                continue;
            }
            let epoch = agent.epoch;
            let travels = self.dice.between(1, 400);
            self.at(travels, Event::CallArrives(a, epoch, Box::new(call)));
            return;
        }
    }

    fn concluded(&mut self, a: usize, done: Conclusion, noticed: Noticed) {
        let now = self.now;
        let agent = &mut self.agents[a];
        let Some(running) = agent.running.take() else {
            return;
        };
        agent.noticed = noticed;
        if done.wrote {
            agent.changed = now;
        }
        let same_memory = agent.memory == done.memory;
        agent.memory = done.memory;
        let mut facts = done.facts;
        facts.at = stamp(now);
        for proof in facts.items.iter_mut().filter_map(|item| item.proof.as_mut()) {
            // Its own clock is in what was not read from the zone.
            if proof.coverage.of == 0 || proof.at > stamp(now) {
                proof.at = stamp(now);
            }
        }
        agent.unsettled = done.unsettled;
        let away = facts.unreadable.is_some();
        if agent.away != away {
            let (name, what) = (agent.name.clone(), if away { "cannot read" } else { "can read" });
            self.story
                .tell(now, || format!("agent {name} {what} its control plane"));
        }
        let agent = &mut self.agents[a];
        agent.away = away;
        let zone = &self.zones[agent.zone];
        let waits = zone
            .store
            .values()
            .filter_map(|stored| stored.ours.as_ref())
            .any(|(object, _)| weir_render::extent(object) == Extent::Anchor);
        // What is down is looked at as time goes by, and what is away until it comes back.
        let waits = waits
            || (agent.memory.fallen.values().any(|fallen| !fallen.down.is_empty()))
            || (zone.troubled(1_000) && agent.watching);
        // A look that took its time may be older than what is there now.
        let waits = waits
            || facts.items.iter().any(|item| {
                matches!(
                    item.state,
                    ItemState::Applied | ItemState::Pending | ItemState::Failed(_)
                )
            });
        agent.calm =
            (!running.failed && running.instant && !done.wrote && !waits && same_memory && zone.flaky == 0)
                .then_some(zone.version);
        let news = facts.items.iter().filter(|item| {
            let before = agent
                .facts
                .as_ref()
                .and_then(|facts| facts.items.iter().find(|fact| fact.split == item.split));
            before.is_none_or(|before| {
                (before.generation, std::mem::discriminant(&before.state))
                    != (item.generation, std::mem::discriminant(&item.state))
            })
        });
        for item in news {
            let name = &agent.name;
            self.story.tell(now, || {
                let state = stands(&item.state);
                format!(
                    "agent {name}, {} of generation {}: {state}",
                    item.split, item.generation
                )
            });
        }
        if !away {
            agent.seen = Some(facts.clone());
        }
        match done.elsewhere {
            Some(shown) => {
                let began = self.begin + Duration::from_millis(running.began);
                agent.elsewhere.was_shown(began, shown);
            }
            None => agent.elsewhere.was_not_shown(),
        }
        agent.facts = Some(facts);
        self.note_in_force(a);
        self.remember(a);
        self.want(a, false);
        self.report(a, false);
        let mut again = std::mem::take(&mut self.agents[a].again);
        while let Some(plan) = self.agents[a].offers.pop_front() {
            again |= self.take(a, plan);
        }
        if again {
            self.wake(a, 1);
            return;
        }
        let wait = self.wait(a, running.began);
        self.wake(a, wait);
    }
}
