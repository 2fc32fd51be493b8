//! The world: simulated time, the queue of what happens, and everything that lives. One thing happens at a time, ordered
//! by its time and then by its number, so that a seed always tells the same story.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_model::FederationName;
use weir_wire::Offered;

use super::agent::Agent;
use super::checks::Checks;
use super::coordinator::Coordinator;
use super::faults::Fault;
use super::gateway::{self, Gate, GateEvent, Lookup, Side, set_clock};
use super::human::{Repository, first_tree};
use super::link::{Link, Message};
use super::story::Story;
use super::zone::{Answer, Call, Place, TICK, Zone};
use super::{Dice, Life, Ms};

/// The zones' names, in Kuma and to Weir.
pub(crate) const ZONES: [&str; 3] = ["fra", "ams", "par"];
/// The splits' names, and their services'. The last is TCP.
pub(crate) const SPLITS: [&str; 3] = ["checkout", "cart", "queue"];

/// How often Git is looked at.
const POLL: Ms = 3_000;
/// How long the quiet time may be until all is right.
const QUIET: Ms = 420_000;

/// A time of a life as people and protocols write it.
pub(crate) fn stamp(at: Ms) -> Timestamp {
    // 2026-01-01
    let base = Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = SignedDuration::from_millis(i64::try_from(at).unwrap_or(i64::MAX));
    base.checked_add(at).unwrap_or(base)
}

pub(crate) fn federation() -> FederationName {
    thread_local! {
        static NAME: FederationName = FederationName::new("shop").expect("a name");
    }
    NAME.with(Clone::clone)
}

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    AgentStarts(usize),
    Wake(usize, u64),
    CallArrives(usize, u32, Box<Call>),
    AnswerArrives(usize, u32, Box<Answer>),
    Dial(usize),
    NoWelcome(usize, u64),
    AgentGivesUp(usize, u64),
    CoordinatorGivesUp(usize, u64),
    CoordinatorGone(usize, u64),
    Up(usize, u64, Message),
    Down(usize, u64, Message),
    /// A plan that comes once more, with how many disks its agent had lost when it came first.
    Offered(usize, u32, Box<Offered>),
    CoordinatorStarts,
    Turn,
    Poll,
    EnvoyLooks(Place, usize),
    Second,
    People,
    Chaos,
    Ends(Fault),
    /// An agent reads counters.
    Watch(usize, u32),
    /// An agent looks at its host's file of pins.
    PinsLooked(usize),
    /// Somebody is at an agent's host.
    AtAHost,
    /// An application ends.
    Outage,
    PinsEnd,
    /// Somebody drains a backend, or ends that.
    /// True if somebody will again.
    Operator(bool),
    /// Whoever gave an order waits no longer.
    TakenBack(u64),
    /// Somebody who watches this split has it go back.
    Aborts(usize),
    DrainsEnd,
    /// Something at a gateway, or on the way there.
    Gate(GateEvent),
    Quiet,
}

#[derive(Debug)]
struct Queued(Ms, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    pub(crate) dice: Dice,
    pub(crate) now: Ms,
    /// What the agents' own clock, which only rises, said in the beginning.
    pub(crate) begin: Instant,
    queue: BinaryHeap<Reverse<Queued>>,
    number: u64,
    pub(crate) zones: Vec<Zone>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) links: Vec<Link>,
    pub(crate) coordinator: Coordinator,
    pub(crate) repository: Repository,
    pub(crate) checks: Checks,
    pub(crate) story: Story,
    /// Faults are over.
    pub(crate) quiet: bool,
    /// Since when.
    pub(crate) quiet_since: Option<Ms>,
    /// How often something goes wrong, as a mean time.
    pub(crate) harm: Ms,
    /// Orders that were given.
    pub(crate) orders: u64,
    events: u64,
    pub(crate) activations: u64,
    pub(crate) plans: u64,
    pub(crate) writes: u64,
    /// Choices about gateways are drawn from these, so that all else goes its way.
    pub(crate) gate_dice: Dice,
    pub(crate) gates: Vec<Gate>,
    /// By agent: what it has to do with its zone's gateway, if that has one.
    pub(crate) sides: Vec<Option<Side>>,
    pub(crate) lookup: Lookup,
    /// Turns at gateways, writes to them, and doors that were told as exact.
    pub(crate) turns: u64,
    pub(crate) gate_writes: u64,
    pub(crate) exact_doors: u64,
}

impl World {
    pub(crate) fn new(seed: u64, tell: bool) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x5EED);
        let count = 2 + dice.index(2);
        let mut zones: Vec<Zone> = Vec::new();
        let mut agents = Vec::new();
        for place in 0..count {
            let driven_by = 1 + usize::from(dice.chance(25));
            let envoys = 1 + dice.index(2);
            zones.extend(Zone::new(place, envoys, driven_by, federation()));
            for number in 0..driven_by {
                let mut agent = Agent::new(place, number);
                agent.ahead = [0, 0, 3_600_000, -3_600_000, -7_000][dice.index(5)];
                agents.push(agent);
            }
            if let Some(zone) = zones.last_mut() {
                zone.traffic.by_host = dice.chance(60);
            }
        }
        let links = agents.iter().map(|_| Link::default()).collect();
        let mut tree = first_tree(&mut dice, count);
        let mut gate_dice = Dice::new(seed ^ 0xD00B_5EED);
        let mut gates: Vec<Gate> = Vec::new();
        if gateway::are_in(seed) {
            weir_sandbox::repeat_ids(seed);
            for place in 0..count {
                if place == 0 || gate_dice.chance(50) {
                    gates.extend(Gate::new(&mut gate_dice, place));
                }
            }
            for declared in tree.splits.values_mut() {
                declared.redoor(&mut gate_dice);
            }
        }
        let side = |agent: &Agent| {
            let gate = gates.iter().position(|gate| gate.zone == agent.zone)?;
            Some(Side::new(gate))
        };
        let sides = agents.iter().map(side).collect();
        let kinds = gates.iter().map(|gate| (gate.zone, gate.kind)).collect();
        let harm = [2_500, 5_000, 10_000][dice.index(3)];
        let rates = SPLITS.map(|_| [0, 3, 20, 60][dice.index(4)]);
        let noise = dice.chance(50);
        for zone in &mut zones {
            zone.traffic.rates = rates;
            zone.traffic.noise = noise;
        }
        Self {
            seed,
            now: 0,
            begin: Instant::now(),
            queue: BinaryHeap::new(),
            number: 0,
            zones,
            agents,
            links,
            coordinator: Coordinator::new(),
            repository: Repository::new(tree, count, kinds),
            checks: Checks::default(),
            story: Story::new(tell),
            quiet: false,
            quiet_since: None,
            harm,
            orders: 0,
            events: 0,
            activations: 0,
            plans: 0,
            writes: 0,
            dice,
            gate_dice,
            gates,
            sides,
            lookup: Lookup::default(),
            turns: 0,
            gate_writes: 0,
            exact_doors: 0,
        }
    }

    /// Something happens so much later.
    pub(crate) fn at(&mut self, after: Ms, event: Event) {
        self.number += 1;
        let queued = Queued(self.now + after, self.number, event);
        self.queue.push(Reverse(queued));
    }

    fn begin(&mut self) {
        for z in 0..self.zones.len() {
            self.zones[z].known = self.zones.len();
            for split in 0..SPLITS.len() {
                for of in 0..self.zones.len() {
                    self.service_as_it_should_be(z, split, of);
                }
            }
        }
        self.coordinator.up = false;
        let first = self.dice.below(3_000);
        self.at(first, Event::CoordinatorStarts);
        for a in 0..self.agents.len() {
            self.agents[a].up = false;
            let at = self.dice.below(3_000);
            self.at(at, Event::AgentStarts(a));
        }
        self.at(POLL, Event::Poll);
        self.at(1_000, Event::Second);
        let people = self.dice.between(8_000, 25_000);
        self.at(people, Event::People);
        let chaos = self.dice.between(5_000, 20_000);
        self.at(chaos, Event::Chaos);
        if self.dice.chance(40) {
            let first = self.dice.between(10_000, 60_000);
            self.at(first, Event::AtAHost);
        }
        if self.dice.chance(60) {
            let first = self.dice.between(5_000, 50_000);
            self.at(first, Event::Outage);
        }
        if self.dice.chance(50) {
            let first = self.dice.between(8_000, 50_000);
            self.at(first, Event::Operator(true));
        }
        self.begin_gates();
        let life = self.dice.between(50_000, 140_000);
        self.at(life, Event::Quiet);
    }

    /// All of a life.
    pub(crate) fn live(mut self) -> Life {
        self.begin();
        let mut over = Ms::MAX;
        while let Some(Reverse(Queued(at, _, event))) = self.queue.pop() {
            self.now = at;
            set_clock(self.begin + Duration::from_millis(at));
            for gate in &self.gates {
                gate.is_now(at);
            }
            for zone in &mut self.zones {
                zone.now = at;
            }
            self.events += 1;
            let second = matches!(event, Event::Second);
            if matches!(event, Event::Quiet) {
                over = at + QUIET;
            }
            self.happens(event);
            self.anytime();
            if self.checks.violation.is_some() {
                break;
            }
            if self.quiet && second {
                let missing = self.unsettled();
                if missing.is_none() || at >= over {
                    self.check_settled(missing);
                    break;
                }
            }
        }
        let violation = self.checks.violation.take();
        if let Some(violation) = &violation {
            let (at, text) = (
                violation.at,
                format!("{}: {}", violation.invariant, violation.what),
            );
            self.story.tell(at, || text);
        }
        Life {
            seed: self.seed,
            checks: self.checks.counts,
            events: self.events,
            activations: self.activations,
            plans: self.plans,
            writes: self.writes,
            pins: self.checks.pinned,
            falls: self.checks.fallen,
            drains: self.checks.drained,
            doors: [self.turns, self.gate_writes, self.exact_doors],
            violation,
            story: self.story.lines(),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::AgentStarts(a) => self.start_agent(a),
            Event::Wake(a, timer) => self.woken(a, timer),
            Event::CallArrives(a, epoch, call) => self.call_arrives(a, epoch, &call),
            Event::AnswerArrives(a, epoch, answer) => self.answer_arrives(a, epoch, *answer),
            Event::Dial(a) => self.dial(a),
            Event::NoWelcome(a, number) => self.no_welcome(a, number),
            Event::AgentGivesUp(a, number) => self.agent_gives_up(a, number),
            Event::CoordinatorGivesUp(a, number) => self.coordinator_gives_up(a, number),
            Event::CoordinatorGone(a, number) => self.coordinator_gone(a, number),
            Event::Up(a, number, message) => self.up(a, number, message),
            Event::Down(a, number, message) => self.down(a, number, message),
            // What was sent to a process whose disk is gone since reaches no other one.
            Event::Offered(a, disks, offered) if self.agents[a].disks == disks => self.offer(a, *offered),
            Event::Offered(..) => {}
            Event::CoordinatorStarts => self.start_coordinator(),
            Event::Turn => self.turn(),
            Event::Poll => {
                self.fetch();
                self.at(POLL, Event::Poll);
            }
            Event::EnvoyLooks(z, envoy) => self.envoy_looks(z, envoy),
            Event::Second => {
                for zone in &mut self.zones {
                    zone.flow();
                }
                self.gates_go_on();
                self.check_gates();
                self.eventually();
                self.note_drained();
                self.look_for_orders();
                self.look_soon();
                if self.now.is_multiple_of(3_000) {
                    self.check_shown();
                    self.check_declared();
                }
                self.at(1_000, Event::Second);
            }
            Event::People => {
                if !self.quiet {
                    self.people();
                    // At a bad moment.
                    if self.dice.chance(20) {
                        let soon = self.dice.below(1_500);
                        self.at(soon, Event::Operator(false));
                    }
                    let next = self.dice.between(1_000, 28_000);
                    self.at(next, Event::People);
                }
            }
            Event::Chaos => {
                if !self.quiet {
                    self.harm_something();
                    let next = self.dice.between(self.harm / 4, self.harm * 2);
                    self.at(next, Event::Chaos);
                }
            }
            Event::Ends(fault) => self.ends(&fault),
            Event::Watch(a, epoch) => self.watched(a, epoch),
            Event::PinsLooked(a) => self.pins_looked(a),
            Event::AtAHost => {
                if !self.quiet {
                    self.somebody_at_a_host();
                    let next = self.dice.between(2_000, 50_000);
                    self.at(next, Event::AtAHost);
                }
            }
            Event::Outage => {
                if !self.quiet {
                    match self.dice.chance(35) {
                        true => self.slow_an_application(),
                        false => self.end_an_application(),
                    }
                    let next = self.dice.between(5_000, 70_000);
                    self.at(next, Event::Outage);
                }
            }
            Event::PinsEnd => {
                self.check_pinned();
                self.end_all_pins();
                // What was on its way, and who was away, comes to it later.
                self.at(10_000, Event::PinsEnd);
            }
            Event::Operator(again) => {
                self.operator();
                if again && !self.quiet {
                    let next = self.dice.between(2_000, 40_000);
                    self.at(next, Event::Operator(true));
                }
            }
            Event::Aborts(split) => self.somebody_aborts(split),
            Event::TakenBack(id) => self.taken_back(id),
            Event::DrainsEnd => self.drains_end(),
            Event::Gate(event) => self.at_gate(event),
            Event::Quiet => self.all_faults_end(),
        }
    }

    /// Something changed in a zone's control plane: its Envoys will hear of it.
    pub(crate) fn envoys_look(&mut self, z: Place) {
        for envoy in 0..self.zones[z].envoys.len() {
            if !self.zones[z].envoys[envoy].looks {
                self.zones[z].envoys[envoy].looks = true;
                let after = self.dice.between(40, TICK);
                self.at(after, Event::EnvoyLooks(z, envoy));
            }
        }
    }

    fn envoy_looks(&mut self, z: Place, envoy: usize) {
        let now = self.now;
        self.zones[z].envoys[envoy].looks = false;
        for (key, before, after, disturbed) in self.zones[z].follow(envoy, now) {
            let shares = after.as_ref().map(|runs| runs.shares.clone());
            let whole = after.as_ref().is_some_and(|runs| runs.meaning.whole);
            self.story.tell(now, || {
                let what = match shares {
                    None => "nothing".to_owned(),
                    Some(_) if !whole => "its anchor alone".to_owned(),
                    Some(shares) => format!("{shares:?}"),
                };
                format!("Envoy {envoy} of {} runs of {}: {what}", ZONES[z], key.1)
            });
            self.check_followed(z, &key, before.as_ref(), after.as_ref(), disturbed);
        }
    }

    /// Agents of a zone are told, or notice, that something is there to look at.
    pub(crate) fn poke(&mut self, z: Place, within: Ms) {
        for a in 0..self.agents.len() {
            if self.agents[a].zone == z && self.agents[a].up {
                let after = self.dice.between(1, within + 1);
                self.wake(a, after);
            }
        }
    }
}
