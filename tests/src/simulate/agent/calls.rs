//! Calls of an activation on their way to the zone and back, any of which may be the last.

use super::*;

impl World {
    /// A call that took its time is at the zone.
    pub(crate) fn call_arrives(&mut self, a: usize, epoch: u32, call: &Call) {
        if self.agents[a].epoch != epoch {
            // The agent is gone; what it asked for is done all the same, or is not.
            if self.dice.chance(50) && matches!(call, Call::Apply(_)) {
                drop(self.execute(a, call));
            }
            return;
        }
        let answer = self.execute(a, call);
        let travels = self.dice.between(1, 200);
        self.at(travels, Event::AnswerArrives(a, epoch, Box::new(answer)));
    }

    pub(crate) fn answer_arrives(&mut self, a: usize, epoch: u32, answer: Answer) {
        let agent = &mut self.agents[a];
        if agent.epoch != epoch || !agent.up {
            return;
        }
        if let Some(running) = &mut agent.running {
            running.hands.with(|desk| desk.answer = Some(answer));
            self.go_on(a);
        }
    }

    /// A call meets its zone.
    pub(super) fn execute(&mut self, a: usize, call: &Call) -> Answer {
        let now = self.now;
        let z = self.agents[a].zone;
        if let Call::Apply(step) = call {
            return Answer::Applied(self.write(a, step));
        }
        if let Call::Count(items) = call {
            return Answer::Counts(self.count(a, items));
        }
        let answer = self.zones[z].answer(call, &mut self.dice, now);
        if let Some(running) = &mut self.agents[a].running {
            running.failed |= match &answer {
                Answer::Observed(Err(_)) | Answer::Pulse(Err(_)) => true,
                Answer::Proofs(proofs) => proofs.iter().any(|proof| proof.coverage.seen == 0),
                Answer::Sightings(all) => all.iter().any(|one| !one.complete),
                _ => false,
            };
            if let Answer::Observed(Ok(observed)) = &answer {
                let zone = &self.zones[z];
                let resolved = zone.services.keys().filter_map(|(service, of)| {
                    let protocol = protocol_of(service);
                    let so = zone.resolves(service, *of, protocol);
                    so.then(|| (service.clone(), *of, protocol))
                });
                running.resolved = Arc::new(resolved.collect());
                running.seen = observed
                    .ours
                    .iter()
                    .map(|(object, generation)| ((object.kind, object.name.clone()), *generation))
                    .collect();
            }
        }
        answer
    }

    /// A step meets its control plane.
    fn write(&mut self, a: usize, step: &Step) -> Result<Outcome, DriverError> {
        let now = self.now;
        let z = self.agents[a].zone;
        let flaky = self.zones[z].flaky;
        let fails = |world: &mut Self| flaky > 0 && world.dice.chance(flaky);
        if let Some(error) = self.zones[z].refuses_writes() {
            return Err(error);
        }
        let timeout = || crate::simulate::zone::away("PUT", "timeout", weir_drivers::Fault::Away);
        if fails(self) {
            self.failed_call(a);
            self.note_refused(z, step);
            return Err(timeout());
        }
        let (kind, _, name) = step.object();
        let key = (kind, name.to_owned());
        let seen = self.agents[a]
            .running
            .as_ref()
            .and_then(|running| running.seen.get(&key).copied());
        if let Some(left) = self.zones[z].leaves(step, seen) {
            return Ok(left);
        }
        let object = match step {
            Step::Put { object, .. } | Step::Introduce { object, .. } | Step::Withdraw { object, .. } => {
                Some(object)
            }
            Step::Delete { .. } => None,
        };
        let agent = self.agents[a].name.clone();
        let before = self.zones[z].store.get(&key).cloned();
        if object.is_none() && before.is_none() {
            return Ok(Outcome::Done { at: stamp(now) });
        }
        self.zones[z].store(key.clone(), object);
        self.writes += 1;
        self.story.tell(now, || format!("agent {agent} {}", did(step)));
        self.check_write(a, step, before.as_ref());
        self.envoys_look(z);
        if fails(self) {
            self.failed_call(a);
            self.note_refused(z, step);
            return Err(timeout());
        }
        Ok(Outcome::Done { at: stamp(now) })
    }

    fn failed_call(&mut self, a: usize) {
        if let Some(running) = &mut self.agents[a].running {
            running.failed = true;
        }
    }
}
