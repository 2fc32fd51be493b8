//! Plans that an agent is offered, and what it keeps on its disk.

use super::*;
use weir_agent::pin;

impl World {
    pub(super) fn remember(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        if !agent.disk.full {
            agent.disk.memory = agent.memory.clone();
        }
    }

    /// A plan is offered, as the session hands it on.
    pub(crate) fn offer(&mut self, a: usize, offered: Offered) {
        if !self.agents[a].up {
            return;
        }
        if self.agents[a].running.is_some() {
            self.agents[a].offers.push_back(offered);
        } else if self.take(a, offered) {
            self.activate(a);
        }
    }

    pub(super) fn take(&mut self, a: usize, offered: Offered) -> bool {
        let now = self.now;
        let z = self.agents[a].zone;
        let zone = self.zones[z].name.clone();
        let agent = &mut self.agents[a];
        match judge(
            &federation(),
            &zone,
            agent.plan.as_deref(),
            &agent.memory,
            &offered,
        ) {
            Ok(Offer::Held) => {
                agent.memory.term = agent.memory.term.max(offered.term);
                if agent.waiting.is_none() {
                    agent.refused = None;
                }
                false
            }
            Ok(Offer::Newer) => {
                let before = agent.took;
                agent.memory.highest = agent.memory.highest.max(offered.plan.generation);
                agent.memory.term = agent.memory.term.max(offered.term);
                self.remember(a);
                let agent = &mut self.agents[a];
                if agent.disk.full {
                    agent.refused = Some("the plan cannot be kept on disk".to_owned());
                    agent.waiting = Some(offered);
                    return false;
                }
                let plan = Arc::new(offered.plan);
                agent.disk.plan = Some(Arc::clone(&plan));
                agent.plan = Some(Arc::clone(&plan));
                agent.refused = None;
                agent.waiting = None;
                agent.changed = now;
                agent.calm = None;
                agent.took = agent.took.max(plan.generation);
                let name = agent.name.clone();
                self.story
                    .tell(now, || format!("agent {name} takes plan {}", plan.generation));
                self.check_taken(a, before, &plan);
                true
            }
            Err(why) => {
                let name = agent.name.clone();
                agent.refused = Some(why.to_string());
                self.story
                    .tell(now, || format!("agent {name} does not take a plan: {why}"));
                false
            }
        }
    }
}

impl World {
    /// Looks at the file of pins, as the loop does every second and before each activation; true if that changed anything.
    pub(super) fn pins(&mut self, a: usize) -> bool {
        let agent = &mut self.agents[a];
        let bytes = agent.disk.pins.clone();
        if agent.pins.as_ref() == Some(&bytes) {
            return false;
        }
        agent.pins = Some(bytes.clone());
        let Ok(pins) = pin::read(Ok(bytes), &agent.memory.pins) else {
            return false;
        };
        let pins = pins.within(&federation(), &self.zones[agent.zone].name);
        if pins == agent.memory.pins {
            return false;
        }
        agent.memory.pins = pins;
        agent.changed = self.now;
        agent.calm = None;
        self.remember(a);
        true
    }

    /// Somebody wrote the file of pins a moment ago.
    pub(crate) fn pins_looked(&mut self, a: usize) {
        if self.agents[a].up && self.agents[a].running.is_none() && self.pins(a) {
            self.activate(a);
        }
    }
}
