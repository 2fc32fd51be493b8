//! The coordinator: its ledger, what it remembers, its loop from commits to plans, and its ends of the sessions. What it
//! decides and shows is decided and shown by the coordinator's own code.

mod ledger;
pub(crate) mod orders;
mod sessions;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weir_coordinator::decide::{Heads, Question, Transiting, commits, decide, declaration};
use weir_coordinator::fleet::{Agent, Fleet};
use weir_coordinator::git::Head;
use weir_coordinator::judging::Judged;
use weir_coordinator::observing;
use weir_coordinator::selfcheck;
use weir_coordinator::senses::{FleetSenses, Proven};
use weir_coordinator::sessions::{AgentView, Weighed, weigh};
use weir_coordinator::standing::{self, Sight};
use weir_model::{CommitId, Declaration, SourceCommit, SourceName, SplitName, ZoneName};
use weir_planner::{Generation, Inputs, Outlook, Plan, PlanId, Planned, Reach, Runs, Senses as _, Transit};
use weir_wire::api::Standing;
use weir_wire::{Greeting, Holds, Term, agent_report, plan_update, v1};

use super::Ms;
use super::link::{Message, holds};
use super::world::{Event, World, federation, stamp};
pub(crate) use ledger::Ledger;
use orders::Rows;

/// A zone that was not heard from for so long is shown as stale.
pub(crate) const STALE: Duration = Duration::from_secs(15);

/// The coordinator.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) up: bool,
    pub(crate) ledger: Ledger,
    /// A copy of it from before.
    pub(crate) backup: Ledger,
    /// How wrong its clock is, in milliseconds.
    pub(crate) skew: i64,
    /// The ledger takes no writes.
    pub(crate) full: bool,
    /// Whether Git answers.
    pub(crate) git: bool,
    pub(crate) heads: Heads,
    head: Option<Arc<Head>>,
    pub(crate) plan: Option<Arc<Plan>>,
    /// In which term it offers that.
    term: Term,
    pub(crate) fleet: Fleet,
    seen: BTreeMap<usize, AgentView>,
    /// Sessions that it believes to have.
    pub(crate) open: BTreeMap<usize, u64>,
    sent: BTreeMap<usize, (Holds, Option<PlanId>)>,
    /// Since when what is under way is proven.
    proven: Proven,
    /// What is under way waits for.
    pub(crate) outlook: BTreeMap<SplitName, Outlook>,
    /// What the commits in force declare.
    declared: Option<Arc<Declaration>>,
    /// The head that was last decided on.
    considered: Option<CommitId>,
    /// When the process began.
    began: Timestamp,
    /// Whether all splits were looked at since the start.
    looked: bool,
    /// Another look is in the queue already.
    pub(crate) looks: bool,
    /// When it heard each agent's last report: really, and by its own clock.
    pub(crate) heard: BTreeMap<usize, (Ms, Timestamp)>,
    /// It ends in the middle of the next decision.
    pub(crate) doomed: Option<Doom>,
}

/// Where in a decision the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doom {
    /// Before anything of it is recorded.
    Decided,
    /// Before anybody is told.
    Recorded,
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        Self {
            up: true,
            ledger: Ledger::default(),
            backup: Ledger::default(),
            skew: 0,
            full: false,
            git: true,
            heads: Heads::new(),
            head: None,
            plan: None,
            term: Term::NONE.next(),
            fleet: Fleet::default(),
            seen: BTreeMap::new(),
            open: BTreeMap::new(),
            sent: BTreeMap::new(),
            proven: Proven::new(),
            outlook: BTreeMap::new(),
            declared: None,
            considered: None,
            began: Timestamp::UNIX_EPOCH,
            looked: false,
            looks: false,
            heard: BTreeMap::new(),
            doomed: None,
        }
    }

    pub(crate) fn clock(&self, now: Ms) -> Timestamp {
        let skew = SignedDuration::from_millis(self.skew);
        stamp(now).checked_add(skew).unwrap_or(stamp(now))
    }

    /// Goes on in this term.
    fn begin(&mut self, term: Term) {
        self.term = term;
        if !self.full {
            self.ledger.term = self.ledger.term.max(term);
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.plan.as_ref().map(|plan| plan.generation).unwrap_or_default()
    }

    /// A session ended, as far as the coordinator knows.
    pub(crate) fn close(&mut self, name: &str, zone: &ZoneName, a: usize) {
        self.open.remove(&a);
        self.sent.remove(&a);
        if let Some(view) = self.seen.get_mut(&a) {
            view.connected = None;
        }
        self.merge(name, zone, a);
    }

    /// From what an agent said to the fleet.
    fn merge(&mut self, name: &str, zone: &ZoneName, a: usize) {
        let Some(view) = self.seen.get(&a) else {
            return;
        };
        let agents = self.fleet.zones.entry(zone.clone()).or_default();
        let agent = observing::agent(view, agents.get(name));
        agents.insert(name.to_owned(), agent);
        if !self.full {
            self.ledger.fleet = self.fleet.clone();
        }
    }

    /// Splits that a look without a new commit is for.
    pub(crate) fn under_way(&self) -> BTreeSet<SplitName> {
        let splits = self.plan.iter().flat_map(|plan| &plan.splits);
        let moving = splits.filter(|(_, split)| {
            let course = split.course.as_ref();
            course.is_some_and(|course| course.motion.is_some())
        });
        let moving = moving.map(|(name, _)| name);
        moving.chain(self.outlook.keys()).cloned().collect()
    }

    /// Whether it can reach a zone's agents, as far as it knows.
    pub(crate) fn reach(&self, plan: &Plan, zone: &ZoneName, now: Ms) -> Reach {
        self.senses(plan, now).reach(zone)
    }

    fn senses<'a>(&'a self, plan: &'a Plan, now: Ms) -> FleetSenses<'a> {
        FleetSenses {
            sight: Sight {
                plan,
                created: &self.ledger.created,
                fleet: &self.fleet,
                stale: STALE,
                now: self.clock(now),
            },
            proven: &self.proven,
            began: self.began,
        }
    }

    /// The splits that it shows as converged, and what its own checks find wrong with what it shows of any (I9, I11).
    pub(crate) fn converged(&self, plan: &Plan, now: Ms) -> (Vec<SplitName>, [Option<String>; 2]) {
        let sight = Sight {
            plan,
            created: &self.ledger.created,
            fleet: &self.fleet,
            stale: STALE,
            now: self.clock(now),
        };
        let outlook = self.looked.then_some(&self.outlook);
        let (mut converged, mut claims, mut unexplained) = (Vec::new(), None, None);
        for name in plan.splits.keys() {
            let Some(split) = standing::split(sight, outlook, name) else {
                continue;
            };
            claims = claims.or_else(|| selfcheck::whole(&split));
            unexplained = unexplained.or_else(|| selfcheck::unexplained(&split));
            if split.standing == Standing::Converged {
                converged.push(name.clone());
            }
        }
        (converged, [claims, unexplained])
    }

    /// What it shows now of every split in every zone that is converged, and what its own check finds wrong with that.
    pub(crate) fn sight(
        &self,
        plan: &Plan,
        now: Ms,
        mut converged: impl FnMut(&ZoneName, &weir_planner::Item, Option<String>),
    ) {
        let sight = Sight {
            plan,
            created: &self.ledger.created,
            fleet: &self.fleet,
            stale: STALE,
            now: self.clock(now),
        };
        for split in plan.splits.values() {
            for (zone, item) in &split.items {
                let shown = standing::split_in_zone(sight, zone, item);
                if shown.standing == Standing::Converged {
                    converged(zone, item, selfcheck::shown(sight, item, &shown));
                }
            }
        }
    }
}

/// As the ledger keeps agents: nobody is connected, and what they last said is there.
fn recalled(fleet: &Fleet) -> Fleet {
    let mut fleet = fleet.clone();
    for agents in fleet.zones.values_mut() {
        for agent in agents.values_mut() {
            *agent = Agent {
                connected: false,
                looked_at: agent.heard_at,
                unreadable: None,
                fault: None,
                refused: None,
                services: Vec::new(),
                marks: BTreeMap::new(),
                ..agent.clone()
            };
        }
    }
    fleet
}

impl World {
    /// The process ends; all its sessions with it.
    pub(crate) fn kill_coordinator(&mut self, back_in: Ms) {
        if !self.coordinator.up {
            return;
        }
        let now = self.now;
        self.story.tell(now, || "the coordinator is killed".to_owned());
        self.coordinator.up = false;
        self.coordinator.open.clear();
        self.coordinator.sent.clear();
        self.coordinator.seen.clear();
        self.coordinator.doomed = None;
        for a in 0..self.agents.len() {
            if let Some((number, _)) = self.links[a].session {
                if self.links[a].down_cut || self.dice.chance(30) {
                    let notices = self.dice.between(10_000, 25_000);
                    self.at(notices, Event::CoordinatorGone(a, number));
                } else {
                    self.hang_up(a);
                }
            }
        }
        self.at(back_in, Event::CoordinatorStarts);
    }

    pub(crate) fn coordinator_gone(&mut self, a: usize, number: u64) {
        let open = self.links[a].session.is_some_and(|(open, _)| open == number);
        if open && self.coordinator.open.get(&a) != Some(&number) {
            self.hang_up(a);
        }
    }

    pub(crate) fn start_coordinator(&mut self) {
        if self.coordinator.up {
            return;
        }
        let now = self.now;
        let c = &mut self.coordinator;
        c.up = true;
        c.plan = c.ledger.plan.clone();
        c.begin(c.ledger.term.next());
        c.fleet = recalled(&c.ledger.fleet);
        c.seen.clear();
        c.head = None;
        c.heads = Heads::new();
        c.proven = Proven::new();
        c.outlook = BTreeMap::new();
        c.declared = None;
        c.considered = None;
        c.looked = false;
        c.began = c.clock(now);
        let generation = c.generation();
        self.story.tell(now, || {
            format!("the coordinator starts, with plan {generation} in its ledger")
        });
        // What was in force is in the copy.
        let commits = self.coordinator.ledger.commits.clone();
        for (source, commit) in commits {
            if let Some(head) = self.repository.head_of(&commit) {
                self.coordinator.heads.insert(source, head);
            }
        }
        self.fetch();
    }

    /// Looks at Git.
    pub(crate) fn fetch(&mut self) {
        let now = self.now;
        if !self.coordinator.up || !self.coordinator.git {
            return;
        }
        let head = self.repository.newest();
        let news = self
            .coordinator
            .head
            .as_ref()
            .is_none_or(|known| known.commit != head.commit);
        if news {
            self.story.tell(now, || {
                format!("the coordinator fetches commit {}", head.commit.short())
            });
            self.coordinator.head = Some(head);
            self.turn();
        }
    }

    /// One pass over everything that is known now, as the coordinator's planning loop does it.
    pub(crate) fn turn(&mut self) {
        let now = self.now;
        self.coordinator.looks = false;
        let c = &self.coordinator;
        if !c.up {
            return;
        }
        let source = SourceName("main".to_owned());
        let mut heads = Heads::new();
        if let Some(head) = c.head.as_ref().or_else(|| c.heads.get(&source)) {
            heads.insert(source.clone(), Arc::clone(head));
        } else {
            return;
        }
        let mut reverts = BTreeSet::new();
        for (source, head) in &heads {
            let news = c.heads.get(source).is_none_or(|at| at.commit != head.commit);
            if news && head.tree.is_some() && c.ledger.trees.1 == head.tree {
                reverts.insert(source.clone());
            }
        }
        let newest = heads.get(&source).map(|head| head.commit.clone());
        let considered = c.considered == newest;
        let judged = self.judged(!considered);
        self.note_proven();
        let c = &self.coordinator;
        let outgrown = c.fleet.highest(c.generation()) > c.generation();
        if considered && c.declared.is_some() && c.plan.is_some() && !outgrown {
            self.advance(&judged);
            return;
        }
        let federation = federation();
        let decided = {
            let plan = c.plan.clone();
            let senses = plan.as_ref().map(|plan| c.senses(plan, now));
            let transit = senses.as_ref().map(|senses| Transiting {
                senses,
                orders: &judged.orders,
            });
            decide(Question {
                transit,
                federation: &federation,
                in_force: &c.heads,
                heads: &heads,
                reverts: &reverts,
                parent: c.plan.as_deref(),
                highest: c.fleet.highest(c.generation()),
                now: c.clock(now),
            })
        };
        let decision = match decided {
            Ok(decision) => decision,
            Err(unsound) => {
                self.unsound(&unsound.to_string());
                return;
            }
        };
        if self.coordinator.full {
            // What cannot be recorded is not published; it is tried again.
            self.at(1_000, Event::Turn);
            return;
        }
        let doomed = self.coordinator.doomed.take();
        if doomed == Some(Doom::Decided) {
            let back = self.dice.between(300, 20_000);
            self.kill_coordinator(back);
            return;
        }
        for (source, why) in &decision.refused {
            let Some(head) = heads.get(source) else { continue };
            if self.coordinator.ledger.refused.insert(head.commit.clone()) {
                let why = why.first().map(|first| first.message.clone()).unwrap_or_default();
                let commit = head.commit.clone();
                self.story.tell(now, || {
                    format!("the coordinator refuses commit {}: {why}", commit.short())
                });
            }
        }
        let Some(accepted) = decision.accepted else {
            self.coordinator.considered = newest;
            self.read_in_force();
            if self.coordinator.declared.is_some() {
                // The next look, by what is in force, obeys what was ordered and answers it.
                self.at(1_000, Event::Turn);
            } else {
                let plan = self.coordinator.plan.clone();
                let outlook = self.coordinator.outlook.clone();
                self.answer_orders(&judged, plan.as_deref(), &outlook);
            }
            return;
        };
        let ledger = &mut self.coordinator.ledger;
        ledger.commits = commits(&accepted.in_force);
        if let Some(head) = accepted.in_force.get(&source)
            && ledger.trees.0 != head.tree
        {
            ledger.trees = (head.tree.clone(), ledger.trees.0.take());
        }
        let plan = accepted.plan.map(Arc::new);
        if let Some(plan) = &plan {
            ledger.created.insert(plan.generation, plan.created);
            ledger.plan = Some(Arc::clone(plan));
            self.plans += 1;
            let generation = plan.generation;
            let commit = plan.commits.first().map(|of| of.commit.short().to_owned());
            self.story.tell(now, || {
                format!(
                    "the coordinator makes plan {generation} of commit {}",
                    commit.unwrap_or_default()
                )
            });
        }
        self.record_accepted(
            &accepted.in_force,
            (plan.as_deref(), !reverts.is_empty()),
            &judged.orders,
        );
        let (outlook, declared) = (accepted.outlook, Arc::new(accepted.declaration));
        // In one transaction.
        let in_force = plan.clone().or_else(|| self.coordinator.plan.clone());
        self.answer_orders(&judged, in_force.as_deref(), &outlook);
        if doomed == Some(Doom::Recorded) {
            let back = self.dice.between(300, 20_000);
            self.kill_coordinator(back);
            return;
        }
        self.coordinator.heads = accepted.in_force;
        self.coordinator.considered = newest;
        self.coordinator.outlook = outlook;
        self.coordinator.looked = true;
        self.coordinator.declared = Some(declared);
        self.publish(plan);
    }

    fn publish(&mut self, plan: Option<Arc<Plan>>) {
        if let Some(plan) = plan {
            self.coordinator.plan = Some(plan);
            for a in 0..self.agents.len() {
                self.send_plan(a);
            }
        }
        self.look_later();
    }

    fn read_in_force(&mut self) {
        let c = &mut self.coordinator;
        if c.declared.is_none() && c.plan.is_some() && commits(&c.heads) == c.ledger.commits {
            c.declared = declaration(&c.heads).map(Arc::new);
        }
    }
}
