//! An agent's turns at its zone's gateway, which run as futures that the world polls, as its activations do. The loop that
//! starts them is the agent's own, written here once more with the same figures.

mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use http::Method;
use weir_agent::gateways::{FIRST, Gateways, Link, Pace, Refusals, Shared, Told, Turned, Wanted};
use weir_drivers::Kong;
use weir_drivers::dns::{Names, Remembered};
use weir_drivers::kong::{Admin, Answer, Failure, Question};
use weir_model::{GatewayName, SplitName};
use weir_planner::{Item, ZoneFacts};

use super::carry::{Asked, Carrier, Desk, Disk, clock};
use super::{EDGE, Reach, Truth};
use crate::simulate::Ms;
use crate::simulate::world::{Event, SPLITS, World, stamp};

/// While something is not as it should be, as in the agent's own loop.
const SOON: Ms = 1_000;
/// When all is proven.
const CALM: Ms = 5_000;
/// So long at most an agent may take an answer of a name server for good: then every agent has asked after what is there now.
const ANSWERED: Ms = 6_000;
/// How long a question may take.
const PATIENCE: Ms = 5_000;

/// What happens between agents and gateways.
#[derive(Debug)]
pub(crate) enum GateEvent {
    /// An agent's next turn, by the number of its timer.
    Turn(usize, u64),
    /// A question is at its node: of an agent, in one of its lives, by number.
    Arrives(usize, u32, u64),
    /// Its answer is back.
    Answered(usize, u32, u64),
    /// Something goes wrong.
    Harm,
    /// And is over again.
    Ends(super::harm::GateFault),
}

type Answering = oneshot::Sender<Result<Answer, Failure>>;

/// A question that takes its time.
struct OnItsWay {
    node: usize,
    question: Question,
    answer: Option<Answering>,
    came: Option<Result<Answer, Failure>>,
}

/// A turn under way.
struct Turn {
    future: BoxFuture<'static, (Option<Turned>, Refusals)>,
    wanted: Arc<Wanted>,
    began: Ms,
    instant: bool,
    calls: u32,
    dies: Option<(u32, bool)>,
    /// Not all of it was seen.
    failed: bool,
    /// Something was written.
    wrote: bool,
}

/// One process of an agent.
struct Life {
    task: Arc<Gateways>,
    link: Link,
    desk: Desk,
    shared: Arc<Shared>,
    refusals: Option<Refusals>,
    turn: Option<Turn>,
    ways: BTreeMap<u64, OnItsWay>,
    pace: Pace,
    settled: bool,
    /// Something newer is wanted than the last turn was for.
    again: bool,
    told: Told,
    /// What the last turn saw, if another one would see and do the very same; and if that is so for good, or while time has not
    /// gone on, with when it was.
    calm: Option<(u64, u64)>,
    still: Option<(u64, u64, Ms)>,
}

/// What an agent has to do with its zone's gateway.
pub(crate) struct Side {
    pub(crate) gate: usize,
    pub(crate) disk: Disk,
    /// What nodes ran when they last said their hash: the last that an agent hears of one before it posts.
    looked: BTreeMap<usize, Arc<Truth>>,
    /// What a turn was last to bring of each split ahead of the mesh, in whichever life of the agent.
    pub(crate) went: BTreeMap<SplitName, Arc<Item>>,
    life: Option<Life>,
    timer: u64,
    questions: u64,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Side {
    pub(crate) fn new(gate: usize) -> Self {
        Self {
            gate,
            disk: Disk::default(),
            looked: BTreeMap::new(),
            went: BTreeMap::new(),
            life: None,
            timer: 0,
            questions: 0,
        }
    }
}

impl Side {
    /// When the turn that is under way began.
    pub(crate) fn began(&self) -> Option<Ms> {
        let turn = self.life.as_ref()?.turn.as_ref();
        turn.map(|turn| turn.began)
    }

    /// What a node without a database ran when its agent last looked at it; none if it never did.
    pub(crate) fn looked(&self, node: usize) -> Option<Arc<Truth>> {
        self.looked.get(&node).cloned()
    }
}

fn edge() -> Option<GatewayName> {
    GatewayName::new(EDGE).ok()
}

impl World {
    fn side(&mut self, a: usize) -> Option<&mut Side> {
        self.sides.get_mut(a)?.as_mut()
    }

    /// An agent's process starts.
    pub(crate) fn start_doors(&mut self, a: usize) {
        let lookup = self.lookup.clone();
        let Some(gate) = self.side(a).map(|side| side.gate) else {
            return;
        };
        let nodes = self.gates[gate].nodes.len();
        let desk = Desk::default();
        let admins = (0..nodes).map(|node| {
            let carrier = Box::new(Carrier {
                desk: desk.clone(),
                node,
            });
            Admin::carried(&format!("http://kong-{node}"), true, carrier)
        });
        let (Ok(kong), Some(name)) = (Kong::carried(admins.collect(), clock), edge()) else {
            return;
        };
        let names: Arc<dyn Names> = Arc::new(Remembered::by(lookup, clock));
        let Some(side) = self.side(a) else { return };
        let drivers = BTreeMap::from([(name, Arc::new(kong))]);
        let (mut task, link) = Gateways::new(drivers, names, side.disk.clone());
        task.clock = clock;
        side.life = Some(Life {
            task: Arc::new(task),
            link,
            desk,
            shared: Arc::new(Shared::new(side.disk.memory())),
            refusals: Some(Refusals::new(FIRST)),
            turn: None,
            ways: BTreeMap::new(),
            pace: Pace::new(clock()),
            settled: true,
            again: false,
            told: Told::default(),
            calm: None,
            still: None,
        });
    }

    /// It is gone.
    pub(crate) fn stop_doors(&mut self, a: usize) {
        // What is on its way arrives, or does not.
        let ways = self.side(a).and_then(|side| side.life.take());
        let Some(gate) = self.side(a).map(|side| side.gate) else {
            return;
        };
        for way in ways.into_iter().flat_map(|life| life.ways.into_values()) {
            let writes = way.question.method != Method::GET;
            if writes && way.answer.is_some() && way.came.is_none() && self.gate_dice.chance(50) {
                drop(self.at_node(a, gate, way.node, &way.question, None));
            }
        }
    }

    /// The agent's loop tells its gateways what is in force; or, before it looked at the mesh, what goes ahead of that.
    pub(crate) fn want(&mut self, a: usize, ahead: bool) {
        let Some(plan) = self.agents[a].plan.clone().filter(|_| self.sides[a].is_some()) else {
            return;
        };
        let wanted = Arc::new(Wanted::new(
            &plan,
            &self.agents[a].memory,
            self.agents[a].seen.as_ref(),
            &self.agents[a].elsewhere,
        ));
        let Some(life) = self.side(a).and_then(|side| side.life.as_mut()) else {
            return;
        };
        let news = match ahead {
            true => life.link.want_ahead(wanted),
            false => life.link.want(wanted),
        };
        if !news {
            return;
        }
        life.pace.wanted(clock());
        (life.calm, life.still) = (None, None);
        if life.turn.is_some() {
            life.again = true;
            self.go_on_at_gate(a);
        } else {
            self.turn_at_gate(a);
        }
    }

    pub(crate) fn at_gate(&mut self, event: GateEvent) {
        match event {
            GateEvent::Turn(a, timer) => {
                if self.side(a).is_some_and(|side| side.timer == timer) {
                    self.turn_at_gate(a);
                }
            }
            GateEvent::Arrives(a, epoch, number) => self.question_arrives(a, epoch, number),
            GateEvent::Answered(a, epoch, number) => self.question_answered(a, epoch, number),
            GateEvent::Harm => self.harm_gates(),
            GateEvent::Ends(fault) => self.gate_fault_ends(fault),
        }
    }

    fn turn_later(&mut self, a: usize, after: Ms) {
        let Some(side) = self.side(a) else { return };
        side.timer += 1;
        let timer = side.timer;
        self.at(after.max(1), Event::Gate(GateEvent::Turn(a, timer)));
    }

    /// Begins a turn.
    fn turn_at_gate(&mut self, a: usize) {
        let now = self.now;
        if !self.agents[a].up {
            return;
        }
        let (slow, dies) = match self.quiet {
            true => (10, None),
            false => {
                let dies = self.gate_dice.chance(4);
                let at = u32::try_from(self.gate_dice.between(1, 25)).unwrap_or(1);
                let after = self.gate_dice.chance(50);
                (30, dies.then_some((at, after)))
            }
        };
        let instant = !self.gate_dice.chance(slow);
        let Some((_, seen)) = self.seen(a) else { return };
        let Some(life) = self.side(a).and_then(|side| side.life.as_mut()) else {
            return;
        };
        let (Some(wanted), None) = (life.link.want.borrow().clone(), &life.turn) else {
            return;
        };
        // The same wants, memory, names and nodes: it would see, do and say the same again.
        if life.calm == Some(seen) && dies.is_none() {
            life.told = seen_at(std::mem::take(&mut life.told), now);
            self.report(a, false);
            self.turn_later(a, CALM);
            return;
        }
        // Nor would it within a second, but for what time alone brings.
        if let Some((of, names, at)) = life.still
            && (of, names) == seen
            && now < at + SOON
            && dies.is_none()
        {
            self.turn_later(a, at + SOON - now);
            return;
        }
        let (Some(mut refusals), Some(name)) = (life.refusals.take(), edge()) else {
            return;
        };
        let newer = life.link.want.subscribe();
        let (task, shared) = (Arc::clone(&life.task), Arc::clone(&life.shared));
        let wants = Arc::clone(&wanted);
        let future = async move {
            let turned = task.turn(&name, (&wants, newer), &shared, &mut refusals).await;
            (turned, refusals)
        };
        life.again = false;
        life.turn = Some(Turn {
            future: future.boxed(),
            wanted,
            began: now,
            instant,
            calls: 0,
            dies,
            failed: false,
            wrote: false,
        });
        self.turns += 1;
        if let (Some(wanted), Some(side)) = (self.wanted_of(a), self.side(a)) {
            let ahead = wanted
                .items
                .iter()
                .filter(|(split, _)| wanted.ahead.contains(*split));
            side.went
                .extend(ahead.map(|(split, item)| (split.clone(), Arc::clone(item))));
        }
        self.go_on_at_gate(a);
    }

    /// Polls a turn until it waits for its gateway, or is done.
    fn go_on_at_gate(&mut self, a: usize) {
        let now = self.now;
        loop {
            let Some(side) = self.side(a) else { return };
            let gate = side.gate;
            let Some(life) = side.life.as_mut() else { return };
            let Some(turn) = life.turn.as_mut() else { return };
            let polled = turn.future.poll_unpin(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready((turned, refusals)) = polled {
                life.refusals = Some(refusals);
                self.turned(a, turned);
                return;
            }
            let asked = life.desk.take();
            if asked.is_empty() {
                return;
            }
            let mut answered = false;
            for Asked {
                node,
                question,
                answer,
            } in asked
            {
                let Some(turn) = self.side(a).and_then(|side| side.life.as_mut()?.turn.as_mut()) else {
                    return;
                };
                turn.calls += 1;
                let (instant, calls, dies) = (turn.instant, turn.calls, turn.dies);
                if let Some((at, after)) = dies
                    && at == calls
                {
                    let name = self.agents[a].name.clone();
                    let when = if after { "after" } else { "before" };
                    self.story.tell(now, || {
                        format!(
                            "agent {name} ends {when} it could {} {}",
                            question.method, question.path
                        )
                    });
                    if after {
                        let wanted = self.wanted_of(a);
                        drop(self.at_node(a, gate, node, &question, wanted));
                    }
                    let back = self.gate_dice.between(200, 15_000);
                    self.kill_agent(a, back);
                    return;
                }
                if instant && self.gates[gate].nodes[node].reach != Reach::Mute {
                    let wanted = self.wanted_of(a);
                    let came = self.at_node(a, gate, node, &question, wanted);
                    drop(answer.send(came));
                    answered = true;
                    continue;
                }
                let travels = self.gate_dice.between(1, 60);
                let epoch = self.agents[a].epoch;
                let Some(side) = self.side(a) else { return };
                side.questions += 1;
                let number = side.questions;
                let way = OnItsWay {
                    node,
                    question,
                    answer: Some(answer),
                    came: None,
                };
                if let Some(life) = side.life.as_mut() {
                    life.ways.insert(number, way);
                }
                self.at(travels, Event::Gate(GateEvent::Arrives(a, epoch, number)));
            }
            if !answered {
                return;
            }
        }
    }

    fn wanted_of(&mut self, a: usize) -> Option<Arc<Wanted>> {
        let life = self.side(a)?.life.as_ref()?;
        life.turn.as_ref().map(|turn| Arc::clone(&turn.wanted))
    }

    /// An agent's gateway, and the versions of it and of the names: as long as they stay, a turn sees what the last one saw.
    fn seen(&mut self, a: usize) -> Option<(usize, (u64, u64))> {
        let gate = self.side(a)?.gate;
        let records = self.lookup.with(|records| records.version);
        Some((gate, (self.gates[gate].version, records)))
    }

    /// The splits of which a gateway has something as it was pinned.
    fn pinned_at_gate(&self, gate: usize) -> BTreeSet<usize> {
        let ways = self.gates[gate].nodes.iter().flat_map(|node| &node.truth.ways);
        let pinned = ways.filter(|(_, given)| !given.pins.is_empty());
        pinned.map(|((split, _), _)| *split).collect()
    }

    /// A turn ended.
    fn turned(&mut self, a: usize, turned: Option<Turned>) {
        let now = self.now;
        let Some((gate, seen)) = self.seen(a) else { return };
        let changed = self.lookup.with(|records| records.changed);
        let pinned = self.pinned_at_gate(gate);
        let Some(life) = self.side(a).and_then(|side| side.life.as_mut()) else {
            return;
        };
        let Some(turn) = life.turn.take() else { return };
        let again = std::mem::take(&mut life.again);
        let Some(turned) = turned else {
            // Something newer is wanted by now.
            self.turn_later(a, 1);
            return;
        };
        let settled = turned.settled;
        life.settled = settled;
        // By the middle of all chances: dice would make another world of every seed.
        let wait = life.pace.after(turned, clock(), u64::MAX / 2);
        let before = std::mem::replace(&mut life.told, seen_at(life.shared.told(), now));
        let news = news(&before, &life.told);
        let asked = changed + ANSWERED < turn.began;
        let same = turn.instant && !turn.failed && !turn.wrote && !again && asked;
        // What is there of a pin and is not wanted goes when the pin is seen to be over in the zone, of which no version tells.
        let wanted = |split: &usize| life.told.doors.keys().any(|name| name.as_str() == SPLITS[*split]);
        let waits = !pinned.iter().all(wanted);
        life.calm = (settled && same && !waits).then_some(seen);
        life.still = same.then_some((seen.0, seen.1, now));
        let told = life.told.clone();
        let wait = match again {
            true => 1,
            false => Ms::try_from(wait.as_millis()).unwrap_or(CALM),
        };
        let name = self.agents[a].name.clone();
        for what in news {
            self.story
                .tell(now, || format!("agent {name} at its gateway: {what}"));
        }
        self.check_told_doors(a, gate, &told, &turn.wanted, turn.began);
        self.report(a, false);
        self.turn_later(a, wait);
    }

    /// What an agent reports: what its activations saw, with how its doors stand.
    pub(crate) fn with_doors(&self, a: usize, mut facts: ZoneFacts) -> ZoneFacts {
        let side = self.sides.get(a).and_then(Option::as_ref);
        let life = side.and_then(|side| side.life.as_ref());
        if let (Some(life), Some(plan)) = (life, &self.agents[a].plan) {
            life.told
                .complete(&mut facts, plan, &life.link.drives, stamp(self.now));
        }
        facts
    }
}

/// What is told that was not told before.
fn news(before: &Told, now: &Told) -> Vec<String> {
    let doors = |told: &Told| -> Vec<String> {
        let all = told.doors.iter().flat_map(|(split, doors)| {
            doors.values().map(move |door| {
                let verdict = door.fact.proof.as_ref().map(|proof| &proof.verdict);
                format!(
                    "{split} of generation {}: {verdict:?} {:?}",
                    door.generation, door.fact.held
                )
            })
        });
        all.chain(told.notes.iter().cloned()).collect()
    };
    let known = doors(before);
    let mut news = doors(now);
    news.retain(|what| !known.contains(what));
    news
}

/// Proofs as of the time of a life.
fn seen_at(mut told: Told, now: Ms) -> Told {
    let doors = told.doors.values_mut().flat_map(BTreeMap::values_mut);
    for proof in doors.filter_map(|door| door.fact.proof.as_mut()) {
        proof.at = stamp(now);
    }
    told
}
