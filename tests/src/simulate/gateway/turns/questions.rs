//! Questions of a turn on their way to a node and back, any of which may be the last.

use http::StatusCode;
use weir_drivers::kong::Listener;

use super::*;
use crate::simulate::gateway::carry::away;

impl World {
    pub(super) fn question_arrives(&mut self, a: usize, epoch: u32, number: u64) {
        if self.agents[a].epoch != epoch {
            return;
        }
        let Some(side) = self.side(a) else { return };
        let gate = side.gate;
        let Some(life) = side.life.as_mut() else { return };
        let Some(way) = life.ways.get(&number) else { return };
        let (node, question) = (way.node, way.question.clone());
        let mute = self.gates[gate].nodes[node].reach == Reach::Mute;
        let wanted = self.wanted_of(a);
        let came = self.at_node(a, gate, node, &question, wanted);
        let takes = match mute {
            true => PATIENCE,
            false => self.gate_dice.between(1, 60),
        };
        if let Some(way) = self
            .side(a)
            .and_then(|side| side.life.as_mut()?.ways.get_mut(&number))
        {
            way.came = Some(came);
        }
        self.at(takes, Event::Gate(GateEvent::Answered(a, epoch, number)));
    }

    pub(super) fn question_answered(&mut self, a: usize, epoch: u32, number: u64) {
        if self.agents[a].epoch != epoch || !self.agents[a].up {
            return;
        }
        let Some(life) = self.side(a).and_then(|side| side.life.as_mut()) else {
            return;
        };
        let Some(mut way) = life.ways.remove(&number) else {
            return;
        };
        if let (Some(answer), Some(came)) = (way.answer.take(), way.came.take()) {
            drop(answer.send(came));
        }
        self.go_on_at_gate(a);
    }

    /// A question meets its node.
    pub(super) fn at_node(
        &mut self,
        a: usize,
        gate: usize,
        node: usize,
        question: &Question,
        wanted: Option<Arc<Wanted>>,
    ) -> Result<Answer, Failure> {
        let now = self.now;
        let reach = self.gates[gate].nodes[node].reach;
        let writes = question.method != Method::GET;
        let failed = |world: &mut Self| {
            if let Some(turn) = world.side(a).and_then(|side| side.life.as_mut()?.turn.as_mut()) {
                turn.failed = true;
            }
        };
        let mut cut = false;
        match reach {
            Reach::Open => {}
            Reach::Closed => {
                failed(self);
                return Err(away("connection refused"));
            }
            Reach::Mute => {
                failed(self);
                return Err(away("no answer in time"));
            }
            Reach::Busy if writes => {
                failed(self);
                return Ok(Answer {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    kind: "application/json".to_owned(),
                    hint: None,
                    body: br#"{"message":"Kong currently exiting"}"#.to_vec(),
                });
            }
            Reach::Busy => {}
            Reach::Cut(percent) => {
                if self.gate_dice.chance(percent) {
                    failed(self);
                    cut = self.gate_dice.chance(50);
                    if !cut {
                        return Err(away("the connection was reset"));
                    }
                }
            }
        }
        let status = question.listener == Listener::Status;
        let body = question
            .body
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let said = self.gates[gate].nodes[node]
            .still
            .ask(status, &question.method, &question.path, body);
        if let Some(turn) = self.side(a).and_then(|side| side.life.as_mut()?.turn.as_mut()) {
            turn.wrote |= writes;
        }
        if !writes && !status && question.path == "status" {
            let truth = Arc::clone(&self.gates[gate].nodes[node].truth);
            if let Some(side) = self.side(a) {
                side.looked.insert(node, truth);
            }
        }
        if writes && said.status < 300 && said.status != 304 {
            self.gate_writes += 1;
            let name = self.agents[a].name.clone();
            self.story.tell(now, || {
                format!(
                    "agent {name}: {} {} at node {node} of its gateway",
                    question.method, question.path
                )
            });
            self.gate_written(a, gate, node, wanted.as_deref());
        }
        if cut {
            return Err(away("the connection was reset"));
        }
        Ok(Answer {
            status: StatusCode::from_u16(said.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind: said.kind.to_owned(),
            hint: None,
            body: said.body,
        })
    }
}
