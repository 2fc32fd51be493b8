//! One session, from the greeting to the end: what is sent, what is heard, and why it ends.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use weir_link::{Identity, MAX_FROM_AGENT, PeerCertificate};
use weir_model::ZoneName;
use weir_planner::{Plan, PlanId};
use weir_wire::v1::{self, FromAgent, FromCoordinator, from_agent, from_coordinator};
use weir_wire::{Greeting, Holds, Term, Welcome, agent_report, plan_update};

use super::{AgentView, Lead, Open, Shared, Superseded, Weighed, weigh};

fn say(message: from_coordinator::Message) -> Result<FromCoordinator, Status> {
    Ok(FromCoordinator {
        message: Some(message),
    })
}

/// From the greeting to the end. An error is a refusal; an orderly end is none.
pub(super) async fn run(
    shared: &Shared,
    certificate: PeerCertificate,
    address: SocketAddr,
    mut inbound: Streaming<FromAgent>,
    answers: &mpsc::Sender<Result<FromCoordinator, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(shared.limits.greeting, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the session did not begin with a greeting in time"))??;
    let Some(from_agent::Message::Hello(hello)) = first.and_then(|m| m.message) else {
        return Err(Status::invalid_argument(
            "a session begins with a greeting (Hello)",
        ));
    };
    let greeting = Greeting::try_from(&hello).map_err(|e| Status::invalid_argument(e.to_string()))?;
    same_name(&certificate.identity, &greeting)?;
    let key = (greeting.zone.clone(), greeting.agent.to_string());
    let (number, replaced) = open(shared, &key, &greeting, &certificate, address)?;
    let agent = certificate.identity.clone();
    tracing::info!(%agent, %address, version = greeting.version, session = number, "session opened");
    let session = Session {
        shared,
        key: &key,
        answers,
        holds: greeting.holds,
        plan: greeting.plan,
        term: greeting.term,
    };
    let why = session.serve(number, inbound, replaced).await;
    shared.change(|known| {
        if known.open.get(&key).is_some_and(|open| open.number == number) {
            known.open.remove(&key);
            if let Some(view) = known.seen.get_mut(&key) {
                view.connected = None;
            }
        }
    });
    match why {
        End::Gone(why) => tracing::info!(%agent, session = number, why, "session ended"),
        End::Sent(why) => {
            tracing::info!(%agent, session = number, why, "session ended by the coordinator");
            let goodbye = v1::Goodbye { reason: why };
            drop(
                answers
                    .send(say(from_coordinator::Message::Goodbye(goodbye)))
                    .await,
            );
        }
        End::Refused(status) => return Err(status),
    }
    Ok(())
}

/// An agent never speaks for another (I9 would be worth nothing otherwise).
fn same_name(identity: &Identity, greeting: &Greeting) -> Result<(), Status> {
    let says = format!("{}/{}/{}", greeting.federation, greeting.zone, greeting.agent);
    if says == identity.to_string() {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "this certificate is that of {identity} (federation/zone/agent), the greeting says {says}: an agent speaks for \
         itself only; set `zone` and `agent` back, or join again under the new name"
    )))
}

fn open(
    shared: &Shared,
    key: &(ZoneName, String),
    greeting: &Greeting,
    certificate: &PeerCertificate,
    address: SocketAddr,
) -> Result<(u64, CancellationToken), Status> {
    let limit = shared.limits.per_zone;
    shared.change(|known| {
        let others = known
            .open
            .keys()
            .filter(|(zone, agent)| *zone == key.0 && *agent != key.1)
            .count();
        if others >= limit {
            return Err(Status::resource_exhausted(format!(
                "zone {} already has {others} sessions, which is the limit",
                key.0
            )));
        }
        let told = known.seen.get(key).map(|view| view.told).unwrap_or_default();
        if let Some(why) = heard_of(shared, key, told, greeting.term).stopped() {
            return Err(Status::failed_precondition(why));
        }
        let number = known.next;
        known.next += 1;
        let replaced = CancellationToken::new();
        let open = Open {
            number,
            replaced: replaced.clone(),
        };
        if let Some(before) = known.open.insert(key.clone(), open) {
            before.replaced.cancel();
        }
        let now = Timestamp::now();
        let from = (address, certificate.expires);
        let view = AgentView::greeted(
            greeting,
            shared.plan.borrow().as_deref(),
            from,
            known.seen.get(key),
            now,
        );
        known.seen.insert(key.clone(), view);
        Ok((number, replaced))
    })
}

/// What becomes of this coordinator's term by what an agent followed.
fn heard_of(shared: &Shared, (zone, agent): &(ZoneName, String), told: Term, says: Term) -> Lead {
    let own = shared.lead.borrow().clone();
    if own.superseded.is_some() {
        return own;
    }
    let next = match weigh(own.term, told, says) {
        Weighed::Stands => return own,
        Weighed::Rises(term) => {
            tracing::info!(%zone, agent, followed = %says, was = %own.term, %term,
                "an agent has followed as high a term before: this coordinator goes on above it");
            Lead { term, ..own }
        }
        Weighed::Superseded => Lead {
            superseded: Some(Superseded {
                zone: zone.clone(),
                agent: agent.clone(),
                by: says,
            }),
            ..own
        },
    };
    shared.lead.send_replace(next.clone());
    // Whoever has a session is offered the plan once more, in the new term.
    shared.plan.send_modify(|_| {});
    next
}

/// Why this coordinator has stopped, once it has.
async fn stopped(lead: &mut watch::Receiver<Lead>) -> String {
    let why = lead.wait_for(|lead| lead.superseded.is_some()).await;
    let why = why.ok().and_then(|lead| lead.stopped());
    match why {
        Some(why) => why,
        None => std::future::pending().await,
    }
}

/// How a session ended.
enum End {
    /// The agent hung up, or was cut off.
    Gone(String),
    /// The coordinator sends it away, and says why.
    Sent(String),
    /// The agent broke the protocol.
    Refused(Status),
}

/// Why nothing more can be heard: the connection is gone, or what came on it is none of our messages.
fn lost(status: Status) -> End {
    match status.code() {
        Code::OutOfRange => End::Refused(Status::out_of_range(format!(
            "a message of this agent is larger than {} MiB, which is the limit",
            MAX_FROM_AGENT >> 20
        ))),
        Code::Internal if status.source().is_none() => End::Refused(status),
        _ => End::Gone(weir_link::explain(&status)),
    }
}

struct Session<'a> {
    shared: &'a Shared,
    key: &'a (ZoneName, String),
    answers: &'a mpsc::Sender<Result<FromCoordinator, Status>>,
    /// What the agent holds, or will once it has read what is on its way.
    holds: Holds,
    /// The plan that it holds, likewise.
    plan: Option<PlanId>,
    /// The highest term that it followed, likewise.
    term: Term,
}

impl Session<'_> {
    async fn serve(
        mut self,
        number: u64,
        mut inbound: Streaming<FromAgent>,
        replaced: CancellationToken,
    ) -> End {
        let welcome = Welcome {
            session: number.to_string(),
            report_interval: self.shared.limits.report_interval,
        };
        let welcome = say(from_coordinator::Message::Welcome(v1::Welcome::from(&welcome)));
        if self.answers.send(welcome).await.is_err() {
            return End::Gone("the agent hung up".to_owned());
        }
        let mut plans = self.shared.plan.subscribe();
        plans.mark_changed();
        let mut lead = self.shared.lead.subscribe();
        let mut newest = None;
        loop {
            let room = async {
                match &newest {
                    Some(_) => self.answers.reserve().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = replaced.cancelled() => {
                    return End::Sent("a newer session of this agent was opened; if that was not this machine, \
                                      two agents run under one name".to_owned());
                }
                () = self.shared.stop.cancelled() => {
                    return End::Sent("the coordinator stops; traffic stays as it is".to_owned());
                }
                // Before any plan: what it makes is not to be followed.
                why = stopped(&mut lead) => return End::Sent(why),
                () = self.over() => {
                    return End::Sent("the agent's certificate has ended without being renewed".to_owned());
                }
                changed = plans.changed() => {
                    if changed.is_err() {
                        return End::Sent("the coordinator stops; traffic stays as it is".to_owned());
                    }
                    newest.clone_from(&plans.borrow_and_update());
                }
                permit = room => {
                    let (Ok(permit), Some(plan)) = (permit, newest.take()) else {
                        return End::Gone("the agent hung up".to_owned());
                    };
                    if let Some(update) = self.update(&plan) {
                        permit.send(say(from_coordinator::Message::Plan(update)));
                    }
                }
                message = inbound.message() => match message {
                    Ok(Some(message)) => if let Err(status) = self.hear(message) {
                        return End::Refused(status);
                    },
                    Ok(None) => return End::Gone("the agent ended it".to_owned()),
                    Err(status) => return lost(status),
                }
            }
        }
    }

    /// What to send of this plan; nothing if the agent has it and was offered it in this term, has had a newer one, or its zone
    /// takes no part.
    fn update(&mut self, plan: &Plan) -> Option<v1::PlanUpdate> {
        let (zone, agent) = self.key;
        let highest = self
            .shared
            .known()
            .seen
            .get(self.key)
            .map(|view| view.highest)
            .unwrap_or_default();
        if plan.generation < highest {
            tracing::warn!(%zone, agent, generation = %plan.generation, %highest,
                "the agent has had a newer plan than the newest here: it keeps that one until a newer plan is made");
            return None;
        }
        let Some(part) = plan.zone_plan(zone) else {
            tracing::warn!(%zone, agent, "the declaration has no such zone: its agent gets no plan and leaves all as it is");
            return None;
        };
        let wanted = Holds::from(&part);
        let term = self.shared.lead.borrow().term;
        if self.plan == Some(part.plan) && wanted.are_in(&self.holds) && self.term == term {
            return None;
        }
        let update = v1::PlanUpdate {
            term: term.0,
            ..plan_update(&part, &self.holds)
        };
        self.term = term;
        if let Some(view) = self.shared.known().seen.get_mut(self.key) {
            view.told = term;
        }
        self.holds = wanted;
        self.plan = Some(part.plan);
        Some(update)
    }

    fn hear(&self, message: FromAgent) -> Result<(), Status> {
        let report = match message.message {
            Some(from_agent::Message::Report(report)) => report,
            Some(from_agent::Message::Hello(_)) => {
                return Err(Status::invalid_argument(
                    "a session has one greeting, this was the second",
                ));
            }
            // A kind of message that a newer agent knows.
            None => return Ok(()),
        };
        let report =
            agent_report(&self.key.0, &report).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let now = Timestamp::now();
        self.shared.change(|known| {
            if let Some(view) = known.seen.get_mut(self.key) {
                view.reported(report, self.shared.plan.borrow().as_deref(), now);
            }
        });
        Ok(())
    }

    /// Waits until the agent's newest certificate is over.
    async fn over(&self) {
        loop {
            let expires = self
                .shared
                .known()
                .seen
                .get(self.key)
                .map(|view| view.certificate_expires);
            let left = expires.map(|end| Timestamp::now().duration_until(end));
            match left {
                Some(left) if left.is_positive() => {
                    // Looked at again now and then: it may have been renewed, and clocks are set.
                    tokio::time::sleep(left.unsigned_abs().min(Duration::from_secs(30))).await;
                }
                _ => return,
            }
        }
    }
}
