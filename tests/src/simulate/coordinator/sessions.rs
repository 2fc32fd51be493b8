//! The coordinator's ends of the sessions.

use super::*;

impl World {
    /// What to send of the newest plan to an agent, as a session does it.
    pub(super) fn send_plan(&mut self, a: usize) {
        let Some(plan) = self.coordinator.plan.clone() else {
            return;
        };
        let zone = self.zones[self.agents[a].zone].name.clone();
        let highest = self
            .coordinator
            .seen
            .get(&a)
            .map(|view| view.highest)
            .unwrap_or_default();
        if plan.generation < highest {
            return;
        }
        let (Some(part), Some((holds, held))) = (plan.zone_plan(&zone), self.coordinator.sent.get_mut(&a))
        else {
            return;
        };
        let wanted = Holds::from(&part);
        if *held == Some(part.plan) && wanted.are_in(holds) {
            return;
        }
        let term = self.coordinator.term;
        let mut update = plan_update(&part, holds);
        update.term = term.0;
        *holds = wanted;
        *held = Some(part.plan);
        if let Some(view) = self.coordinator.seen.get_mut(&a) {
            view.told = term;
        }
        self.say_down(a, Message::Plan(Box::new(update)));
    }

    /// An agent says something.
    pub(crate) fn up(&mut self, a: usize, number: u64, message: Message) {
        if !self.coordinator.up {
            return;
        }
        match message {
            Message::Hello(greeting) => self.greeted(a, number, &greeting),
            // A session that was replaced is heard no more.
            Message::Report(report) if self.coordinator.open.get(&a) == Some(&number) => {
                self.heard(a, &report);
            }
            // To whoever speaks in a session that is no more, its end is told.
            Message::Report(_) => self.told_of_the_end(a, number),
            Message::Welcome | Message::Plan(_) => {}
        }
    }

    fn greeted(&mut self, a: usize, number: u64, greeting: &Greeting) {
        let zone = self.zones[self.agents[a].zone].name.clone();
        let name = self.agents[a].name.clone();
        let c = &mut self.coordinator;
        let now = c.clock(self.now);
        let from = (SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), Timestamp::MAX);
        let told = c.seen.get(&a).map(|view| view.told).unwrap_or_default();
        match weigh(c.term, told, greeting.term) {
            Weighed::Stands => {}
            Weighed::Rises(to) => c.begin(to),
            // There is one: whoever takes it for the older of two is wrong, and nothing converges any more.
            Weighed::Superseded => return,
        }
        let view = AgentView::greeted(greeting, c.plan.as_deref(), from, c.seen.get(&a), now);
        c.seen.insert(a, view);
        c.open.insert(a, number);
        c.sent.insert(a, (holds(greeting), greeting.plan));
        c.merge(&name, &zone, a);
        self.say_down(a, Message::Welcome);
        self.send_plan(a);
        self.outgrown();
    }

    fn heard(&mut self, a: usize, report: &v1::Report) {
        let zone = self.zones[self.agents[a].zone].name.clone();
        let name = self.agents[a].name.clone();
        let Ok(report) = agent_report(&zone, report) else {
            return;
        };
        let c = &mut self.coordinator;
        let now = c.clock(self.now);
        c.heard.insert(a, (self.now, now));
        if let Some(view) = c.seen.get_mut(&a) {
            view.reported(report, c.plan.as_deref(), now);
        }
        c.merge(&name, &zone, a);
        self.outgrown();
        self.look_soon();
        self.check_shown();
    }

    /// Plans anew if an agent knows of a generation above the newest plan.
    fn outgrown(&mut self) {
        let known = self.coordinator.generation();
        if known > Generation(0) && self.coordinator.fleet.highest(known) > known {
            self.turn();
        }
    }
}
