//! Agents' sessions: who is connected, what each said last, and the newest plan on its way to all of them.
//!
//! Who an agent is, its certificate says, and nothing else: a greeting in another name is refused. A plan is a state and
//! not a message: each session holds the newest one only, so a slow agent skips what is already old. The newest session
//! of an agent replaces the one before. Nothing here touches traffic: without a session a zone stays as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_link::{MAX_FROM_AGENT, MAX_FROM_COORDINATOR, Peer, PeerCertificate};
use weir_model::{FederationName, SplitName, ZoneName, sabotaged};
use weir_planner::{Digest, Generation, Plan, PlanId, ZoneFacts};
use weir_wire::v1::agents_server::{Agents, AgentsServer};
use weir_wire::v1::{FromAgent, FromCoordinator};
use weir_wire::{AgentReport, Greeting, Term};

mod conversation;
mod terms;

pub use terms::{Lead, Superseded, Weighed, weigh};

/// Bounds of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions at a time in one zone.
    pub per_zone: usize,
    /// From the call to the greeting.
    pub greeting: Duration,
    /// How often agents report at the least.
    pub report_interval: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            per_zone: 256,
            greeting: Duration::from_secs(10),
            report_interval: Duration::from_secs(5),
        }
    }
}

/// One agent, as its sessions since the start of this coordinator show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// Since when a session is open; none if none is.
    pub connected: Option<Timestamp>,
    /// Where it calls, or last called, from.
    pub address: SocketAddr,
    /// Version of its program.
    pub version: String,
    /// When the coordinator last heard it, if only its greeting, by the coordinator's clock.
    pub heard: Timestamp,
    /// When its newest certificate ends.
    pub certificate_expires: Timestamp,
    /// Highest plan generation that it ever took; one more if it holds another plan under the number of the newest
    /// one here (two histories of one federation): the next plan is made above this.
    pub highest: Generation,
    /// The plan that it holds; none before the first.
    pub plan: Option<PlanId>,
    /// That plan's generation; 0 before the first.
    pub generation: Generation,
    /// What it saw last; none before the first report of its newest session.
    pub facts: Option<Arc<ZoneFacts>>,
    /// When it last looked at its zone: by its own clock, only good for telling two looks apart, and when the coordinator
    /// was first told of that look, by the coordinator's clock. None before its first report.
    pub looked: Option<(Timestamp, Timestamp)>,
    /// Why it does not take the newest plan that it was sent, if so.
    pub refused: Option<String>,
    /// What a person should know of its zone and no proof says, as it last reported.
    pub notes: Vec<String>,
    /// The term in which it was last offered a plan here; none if it never was.
    pub told: Term,
}

impl AgentView {
    /// An agent of this zone that greets now, from there, with a certificate that ends then. `before` is what was known of it.
    pub fn greeted(
        greeting: &Greeting,
        newest: Option<&Plan>,
        (address, certificate_expires): (SocketAddr, Timestamp),
        before: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        let held = greeting.holds.items.iter();
        Self {
            connected: Some(now),
            address,
            version: greeting.version.clone(),
            heard: now,
            certificate_expires: before.map_or(certificate_expires, |view| {
                view.certificate_expires.max(certificate_expires)
            }),
            highest: spoken_for(
                newest,
                &greeting.zone,
                greeting.highest,
                (greeting.plan, greeting.generation),
                held.map(|item| (&item.split, item.generation, item.digest)),
            ),
            plan: greeting.plan,
            generation: greeting.generation,
            // A greeting says nothing of the zone: what was said before must not look as if it had been said now.
            facts: None,
            looked: before.and_then(|view| view.looked),
            refused: None,
            notes: Vec::new(),
            told: before.map(|view| view.told).unwrap_or_default(),
        }
    }

    /// It reported now.
    pub fn reported(&mut self, report: AgentReport, newest: Option<&Plan>, now: Timestamp) {
        let facts = report.facts;
        let highest = spoken_for(
            newest,
            &facts.zone,
            facts.highest,
            (report.plan, report.generation),
            facts
                .items
                .iter()
                .map(|item| (&item.split, item.generation, item.digest)),
        );
        self.heard = now;
        self.highest = self.highest.max(highest);
        self.plan = report.plan;
        self.generation = report.generation;
        self.refused = report.refused;
        self.notes = report.notes;
        // A report that repeats an old look says that the session lives, and nothing of the zone.
        if self.looked.is_none_or(|(look, _)| look != facts.at) {
            self.looked = Some((facts.at, now));
        }
        self.facts = Some(Arc::new(facts));
    }
}

/// Agents by zone and name.
pub type Seen = BTreeMap<(ZoneName, String), AgentView>;

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    federation: FederationName,
    limits: SessionLimits,
    plan: watch::Sender<Option<Arc<Plan>>>,
    lead: watch::Sender<Lead>,
    agents: Mutex<Known>,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Known {
    seen: Seen,
    open: BTreeMap<(ZoneName, String), Open>,
    next: u64,
}

struct Open {
    number: u64,
    replaced: CancellationToken,
}

impl Sessions {
    /// No session yet, and no plan: what is offered is of this term, which rises above what agents followed before. Sessions end
    /// politely when `stop` is cancelled.
    pub fn new(
        federation: FederationName,
        term: Term,
        limits: SessionLimits,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            federation,
            limits,
            plan: watch::Sender::new(None),
            lead: watch::Sender::new(Lead {
                term,
                superseded: None,
            }),
            agents: Mutex::default(),
            changes: watch::Sender::new(0),
            stop,
        }))
    }

    /// Sends this plan to every agent, now and whenever one connects, until there is a newer one.
    pub fn publish(&self, plan: Arc<Plan>) {
        self.0.plan.send_replace(Some(plan));
    }

    /// Every agent that had a session since the start.
    pub fn snapshot(&self) -> Seen {
        self.0.known().seen.clone()
    }

    /// The term, and whether another coordinator has begun after this one.
    pub fn lead(&self) -> watch::Receiver<Lead> {
        self.0.lead.subscribe()
    }

    /// Rises whenever [`Sessions::snapshot`] changed. Several changes may be told as one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The highest generation that any agent ever took (I7).
    pub fn highest(&self) -> Generation {
        let known = self.0.known();
        known
            .seen
            .values()
            .map(|agent| agent.highest)
            .max()
            .unwrap_or_default()
    }

    /// Where an agent is connected from, if it is.
    pub fn connected(&self, zone: &ZoneName, agent: &str) -> Option<SocketAddr> {
        let known = self.0.known();
        let view = known.seen.get(&(zone.clone(), agent.to_owned()))?;
        view.connected.map(|_| view.address)
    }

    /// Forgets an agent, unless it is connected: then false.
    pub fn forget(&self, zone: &ZoneName, agent: &str) -> bool {
        let key = (zone.clone(), agent.to_owned());
        self.0.change(|known| {
            let connected = known.seen.get(&key).is_some_and(|view| view.connected.is_some());
            if !connected {
                known.seen.remove(&key);
            }
            !connected
        })
    }

    /// An agent's certificate was renewed: its session may go on until then.
    pub fn renewed(&self, certificate: &PeerCertificate) {
        let Ok(zone) = ZoneName::new(certificate.identity.zone()) else {
            return;
        };
        let key = (zone, certificate.identity.agent().to_owned());
        self.0.change(|known| {
            if let Some(view) = known.seen.get_mut(&key) {
                view.certificate_expires = view.certificate_expires.max(certificate.expires);
            }
        });
    }

    /// The gRPC side.
    pub fn grpc(&self) -> AgentsServer<Self> {
        AgentsServer::new(self.clone())
            .max_decoding_message_size(MAX_FROM_AGENT)
            .max_encoding_message_size(MAX_FROM_COORDINATOR)
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves whole values: each change is one assignment.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let result = change(&mut self.known());
        self.changes.send_modify(|n| *n += 1);
        result
    }
}

/// An item that an agent has: split, generation and content.
pub type Held<'a> = (&'a SplitName, Generation, Digest);

/// Below or at which no new plan may be, as far as an agent is concerned that took plans up to `highest`, holds this plan
/// of this generation, and these items.
///
/// More than it took, if it has to do with two histories of one federation, as after a ledger was lost: it holds another
/// plan under the newest one's number, or has something else under the number that an item of the newest plan has. It
/// refuses such a plan, and takes one whose items are all newer.
pub fn spoken_for<'a>(
    newest: Option<&Plan>,
    zone: &ZoneName,
    highest: Generation,
    (plan, taken): (Option<PlanId>, Generation),
    held: impl Iterator<Item = Held<'a>>,
) -> Generation {
    let Some(newest) = newest else {
        return highest;
    };
    let mut held = held;
    // What lies there of a split that its plan does not have yet: another agent of the zone has the plan that brings it.
    let brought = |generation: Generation, digest: Digest| digest == Digest([0; 32]) && taken < generation;
    let forked = (newest.generation == taken && plan.is_some_and(|held| held != newest.id))
        || held.any(|(split, generation, digest)| {
            let item = newest.splits.get(split).and_then(|split| split.items.get(zone));
            item.is_some_and(|item| {
                generation <= newest.generation
                    && (generation > item.generation
                        || (generation == item.generation
                            && digest != item.digest
                            && !brought(generation, digest)))
            })
        });
    if forked && !sabotaged("one-history") {
        highest.max(Generation(newest.generation.0.saturating_add(1)))
    } else {
        highest
    }
}

/// Whose certificate a call came with, still valid and of this federation.
pub(crate) fn caller<T>(
    request: &Request<T>,
    federation: &FederationName,
) -> Result<PeerCertificate, Status> {
    let certificate = request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.certificate.clone())
        .ok_or_else(|| {
            Status::unauthenticated(
                "this call needs an agent's certificate: join first (`weir-agent join`), with a token of \
                 `weir-coordinator token create --zone <zone>`",
            )
        })?;
    if certificate.expires <= Timestamp::now() {
        return Err(Status::unauthenticated(format!(
            "the certificate of {} ended at {}: join again with a new token",
            certificate.identity, certificate.expires
        )));
    }
    if certificate.identity.federation() != federation.as_str() {
        return Err(Status::permission_denied(format!(
            "{} is of another federation than {federation}",
            certificate.identity
        )));
    }
    Ok(certificate)
}

type Answers = Pin<Box<dyn Stream<Item = Result<FromCoordinator, Status>> + Send>>;

#[tonic::async_trait]
impl Agents for Sessions {
    type SessionStream = Answers;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Answers>, Status> {
        let certificate = caller(&request, &self.0.federation)?;
        let address = request.extensions().get::<Peer>().map(|peer| peer.address);
        let address = address.ok_or_else(|| Status::internal("a connection has an address"))?;
        // One message is on its way at most: what comes after it is made when it can be sent.
        let (answers, stream) = mpsc::channel(1);
        let shared = Arc::clone(&self.0);
        let inbound = request.into_inner();
        tokio::spawn(async move {
            let identity = certificate.identity.clone();
            if let Err(status) = conversation::run(&shared, certificate, address, inbound, &answers).await {
                tracing::warn!(agent = %identity, %address, reason = status.message(), "session refused");
                // If the agent has hung up meanwhile, there is nobody left to tell.
                drop(answers.send(Err(status)).await);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
