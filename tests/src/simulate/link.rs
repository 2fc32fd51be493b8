//! Links between agents and the coordinator: sessions, with messages in order inside each, as TCP has it; directions that
//! fail alone; messages that come late, and plans that come again.
//!
//! A direction that is cut holds what was sent into it. If it is mended before either end gave the session up, all of it
//! arrives; if not, it is lost. Each end gives up by itself.

use weir_model::{DnsLabel, SplitName};
use weir_planner::{Generation, PlanId};
use weir_wire::{AgentReport, Greeting, Held, Holds, Offered, v1};

use super::Ms;
use super::world::{Event, World, federation};

/// How often an agent reports at the least.
const REPORT: Ms = 5_000;
/// The longest wait before another try.
const BACKOFF: Ms = 20_000;

/// What is said.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Hello(Box<Greeting>),
    Welcome,
    Report(Box<v1::Report>),
    Plan(Box<v1::PlanUpdate>),
}

/// One agent's link.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// What agents say does not arrive.
    pub(crate) up_cut: bool,
    /// What the coordinator says does not arrive.
    pub(crate) down_cut: bool,
    /// Everything takes up to so much longer.
    pub(crate) slow: Ms,
    /// Number of the newest try.
    pub(crate) number: u64,
    /// The session that the agent believes to have: its number, whether it was welcomed, and the items that it holds there.
    pub(crate) session: Option<(u64, bool)>,
    held: Held,
    last_up: Ms,
    last_down: Ms,
    waiting_up: Vec<(u64, Message)>,
    waiting_down: Vec<(u64, Message)>,
    tries: u32,
    said: Ms,
    /// What was said last, without its times.
    gist: Option<Gist>,
}

type Gist = (
    Option<PlanId>,
    Option<String>,
    Option<String>,
    Vec<(SplitName, Generation, String, String)>,
);

impl World {
    /// An agent calls the coordinator.
    pub(crate) fn dial(&mut self, a: usize) {
        if !self.agents[a].up || self.links[a].session.is_some() {
            return;
        }
        let link = &self.links[a];
        if link.up_cut || link.down_cut || !self.coordinator.up {
            self.dial_later(a);
            return;
        }
        let agent = &self.agents[a];
        let held = agent.plan.as_deref().map(Held::from).unwrap_or_default();
        let Ok(name) = DnsLabel::new(agent.name.as_str()) else {
            return;
        };
        let told = agent
            .facts
            .as_ref()
            .map(|facts| facts.highest)
            .unwrap_or_default();
        let greeting = Greeting {
            federation: federation(),
            zone: self.zones[agent.zone].name.clone(),
            agent: name,
            version: "0.1.0".to_owned(),
            // Before its first look an agent says what it has on its disk.
            highest: told.max(agent.memory.highest).max(agent.generation()),
            plan: agent.plan.as_ref().map(|plan| plan.plan),
            generation: agent.generation(),
            holds: agent.plan.as_deref().map(Holds::from).unwrap_or_default(),
            term: agent.memory.term,
        };
        let link = &mut self.links[a];
        link.number += 1;
        link.held = held;
        link.session = Some((link.number, false));
        link.gist = None;
        let number = link.number;
        self.say_up(a, Message::Hello(Box::new(greeting)));
        self.at(10_000, Event::NoWelcome(a, number));
    }

    fn dial_later(&mut self, a: usize) {
        let most = (500_u64 << self.links[a].tries.min(6)).min(BACKOFF);
        self.links[a].tries += 1;
        let wait = self.dice.between(most / 4, most + 1);
        self.at(wait, Event::Dial(a));
    }

    pub(crate) fn no_welcome(&mut self, a: usize, number: u64) {
        if self.links[a].session == Some((number, false)) {
            self.hang_up(a);
        }
    }

    /// The agent gives its session up, and tries again after a while.
    pub(crate) fn hang_up(&mut self, a: usize) {
        let Some((number, _)) = self.links[a].session.take() else {
            return;
        };
        let (now, name) = (self.now, self.agents[a].name.clone());
        self.story
            .tell(now, || format!("session {number} of agent {name} ends"));
        self.links[a].waiting_down.clear();
        self.links[a].waiting_up.clear();
        // The other end is told, if that can be heard.
        if !self.links[a].up_cut && self.coordinator.open.get(&a) == Some(&number) {
            self.coordinator.close(
                &self.agents[a].name.clone(),
                &self.zones[self.agents[a].zone].name.clone(),
                a,
            );
        }
        self.dial_later(a);
    }

    /// The agent is no more.
    pub(crate) fn drop_session(&mut self, a: usize) {
        let number = self.links[a].session.take().map(|(number, _)| number);
        self.links[a].waiting_up.clear();
        self.links[a].waiting_down.clear();
        self.links[a].tries = 0;
        if let Some(number) = number {
            // A process that ends closes its connections; a host that ends does not.
            if !self.links[a].up_cut && self.dice.chance(70) {
                if self.coordinator.open.get(&a) == Some(&number) {
                    let (name, zone) = (
                        self.agents[a].name.clone(),
                        self.zones[self.agents[a].zone].name.clone(),
                    );
                    self.coordinator.close(&name, &zone, a);
                }
            } else {
                self.at(20_000, Event::CoordinatorGivesUp(a, number));
            }
        }
    }

    /// A direction was cut: each end notices for itself.
    pub(crate) fn cut(&mut self, a: usize) {
        if let Some((number, _)) = self.links[a].session {
            let (one, other) = (
                self.dice.between(10_000, 25_000),
                self.dice.between(10_000, 25_000),
            );
            self.at(one, Event::AgentGivesUp(a, number));
            self.at(other, Event::CoordinatorGivesUp(a, number));
        }
    }

    pub(crate) fn agent_gives_up(&mut self, a: usize, number: u64) {
        let cut = self.links[a].up_cut || self.links[a].down_cut;
        if cut && self.links[a].session.is_some_and(|(open, _)| open == number) {
            self.hang_up(a);
        }
    }

    pub(crate) fn coordinator_gives_up(&mut self, a: usize, number: u64) {
        let link = &self.links[a];
        let gone = link.session.is_none_or(|(open, _)| open != number);
        if (link.up_cut || link.down_cut || gone) && self.coordinator.open.get(&a) == Some(&number) {
            let (name, zone) = (
                self.agents[a].name.clone(),
                self.zones[self.agents[a].zone].name.clone(),
            );
            self.coordinator.close(&name, &zone, a);
            // What it had sent is lost, and the agent hears of the end if it can.
            if !self.links[a].down_cut && !gone {
                self.hang_up(a);
            }
        }
    }

    /// The coordinator has no such session any more, and says so if it can.
    pub(crate) fn told_of_the_end(&mut self, a: usize, number: u64) {
        if !self.links[a].down_cut && self.links[a].session.is_some_and(|(open, _)| open == number) {
            self.hang_up(a);
        }
    }

    /// What waited in a direction that works again is on its way.
    pub(crate) fn mended(&mut self, a: usize) {
        let link = &mut self.links[a];
        let up = if link.up_cut {
            Vec::new()
        } else {
            std::mem::take(&mut link.waiting_up)
        };
        let down = if link.down_cut {
            Vec::new()
        } else {
            std::mem::take(&mut link.waiting_down)
        };
        let open = link.session.map(|(number, _)| number);
        for (number, message) in up {
            if open == Some(number) {
                self.say_up(a, message);
            }
        }
        for (number, message) in down {
            if open == Some(number) {
                self.say_down(a, message);
            }
        }
    }

    fn travel(&mut self, a: usize) -> Ms {
        let slow = self.links[a].slow;
        let usual = self.dice.between(1, 60);
        if slow > 0 {
            usual + self.dice.below(slow)
        } else {
            usual
        }
    }

    fn say_up(&mut self, a: usize, message: Message) {
        let Some((number, _)) = self.links[a].session else {
            return;
        };
        if self.links[a].up_cut {
            self.links[a].waiting_up.push((number, message));
            return;
        }
        let travels = self.travel(a);
        let at = (self.now + travels).max(self.links[a].last_up + 1);
        self.links[a].last_up = at;
        self.at(at - self.now, Event::Up(a, number, message));
    }

    pub(crate) fn say_down(&mut self, a: usize, message: Message) {
        let Some(number) = self.coordinator.open.get(&a).copied() else {
            return;
        };
        if self.links[a].down_cut {
            self.links[a].waiting_down.push((number, message));
            return;
        }
        let travels = self.travel(a);
        let at = (self.now + travels).max(self.links[a].last_down + 1);
        self.links[a].last_down = at;
        self.at(at - self.now, Event::Down(a, number, message));
    }

    /// The coordinator says something to an agent.
    pub(crate) fn down(&mut self, a: usize, number: u64, message: Message) {
        let agent_session = self.links[a].session;
        if !self.agents[a].up || agent_session.is_none_or(|(open, _)| open != number) {
            return;
        }
        match message {
            Message::Welcome => {
                self.links[a].session = Some((number, true));
                self.links[a].tries = 0;
                let (now, name) = (self.now, self.agents[a].name.clone());
                self.story.tell(now, || {
                    format!("agent {name} has session {number} with the coordinator")
                });
                self.report(a, true);
            }
            Message::Plan(update) => {
                match Offered::assemble(&update, &self.links[a].held) {
                    Ok(offered) => {
                        self.links[a].held = Held::from(&offered.plan);
                        // It may come once more, whenever.
                        if !self.quiet && self.dice.chance(6) {
                            let late = self.dice.between(100, 60_000);
                            let disks = self.agents[a].disks;
                            self.at(late, Event::Offered(a, disks, Box::new(offered.clone())));
                        }
                        self.offer(a, offered);
                    }
                    // What cannot be used is asked for by greeting anew.
                    Err(_) => self.hang_up(a),
                }
            }
            Message::Hello(_) | Message::Report(_) => {}
        }
    }

    /// Reports, if there is news or it is time.
    pub(crate) fn report(&mut self, a: usize, at_once: bool) {
        let now = self.now;
        let Some((_, true)) = self.links[a].session else {
            return;
        };
        let agent = &self.agents[a];
        let Some(facts) = agent.facts.clone() else {
            return;
        };
        let facts = self.with_doors(a, facts);
        let agent = &self.agents[a];
        let gist: Gist = (
            agent.plan.as_ref().map(|plan| plan.plan),
            facts.unreadable.clone(),
            agent.refused.clone(),
            facts
                .items
                .iter()
                .map(|fact| {
                    let verdict = fact.proof.as_ref().map(|proof| &proof.verdict);
                    (
                        fact.split.clone(),
                        fact.generation,
                        format!("{:?}", fact.state),
                        format!("{verdict:?}{}", doors(fact)),
                    )
                })
                .collect(),
        );
        let link = &mut self.links[a];
        if !at_once && link.gist.as_ref() == Some(&gist) && now.saturating_sub(link.said) < REPORT {
            return;
        }
        link.gist = Some(gist);
        link.said = now;
        let report = AgentReport {
            facts,
            plan: agent.plan.as_ref().map(|plan| plan.plan),
            generation: agent.generation(),
            refused: agent.refused.clone(),
            notes: Vec::new(),
        };
        self.say_up(a, Message::Report(Box::new((&report).into())));
    }
}

/// How an item's doors stand, without times.
fn doors(fact: &weir_planner::ItemFact) -> String {
    let all = fact.doors.iter().map(|(name, door)| {
        let verdict = door.proof.as_ref().map(|proof| &proof.verdict);
        format!(" {name} {:?} {verdict:?}", door.held)
    });
    all.collect()
}

/// References of what an agent said that it holds.
pub(crate) fn holds(greeting: &Greeting) -> Holds {
    greeting.holds.clone()
}
