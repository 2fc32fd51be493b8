//! The session with the coordinator: greets, reports, receives plans, comes back after every break. It decides nothing:
//! what it receives it offers to the loop, and without it the loop runs on (I6).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weir_link::{
    Ask, Backoff, Connector, Identity, Issued, MAX_FROM_AGENT, MAX_FROM_COORDINATOR, backoff, explain,
};
use weir_model::{DnsLabel, FederationName, ZoneName};
use weir_planner::Generation;
use weir_wire::v1::agents_client::AgentsClient;
use weir_wire::v1::enrollment_client::EnrollmentClient;
use weir_wire::v1::{self, FromAgent, FromCoordinator, from_agent, from_coordinator};
use weir_wire::{Greeting, Held, Holds, Offered, Welcome};

use crate::current::{Current, LinkState};

/// How long the first answer may take.
const WELCOME: Duration = Duration::from_secs(10);
/// A session that lived so long was a good one: the next try comes soon.
const GOOD: Duration = Duration::from_secs(30);

/// Everything that the session needs.
pub struct Session {
    /// Dials, with the certificate of the moment.
    pub connector: Connector,
    /// How often to report at the least.
    pub report: Duration,
    /// What to report.
    pub current: watch::Receiver<Arc<Current>>,
    /// Where plans go.
    pub offers: mpsc::Sender<Offered>,
    /// How the link stands, for `weir-agent status`.
    pub state: watch::Sender<LinkState>,
}

impl Session {
    /// Holds a session, and another after each that ends, until stopped.
    pub async fn keep(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.once() => ended,
            };
            let why = match ended {
                Ok(why) => why,
                Err(error) => format!("{error:#}"),
            };
            if began.elapsed() > GOOD {
                failures = 0;
            }
            let wait = Backoff::SESSION.wait(failures, backoff::random());
            failures = failures.saturating_add(1);
            if self.state.borrow().last_error.as_ref() != Some(&why) {
                tracing::warn!(%why, "no session with the coordinator; the zone goes on with what it has");
            }
            self.state.send_replace(LinkState {
                connected: None,
                last_error: Some(why),
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One session, to its end; the coordinator's reason if it gave one.
    async fn once(&mut self) -> anyhow::Result<String> {
        let credentials = self
            .connector
            .credentials()
            .context("this agent has not joined")?;
        let identity = credentials.identity();
        let channel = self.connector.channel().await?;
        let mut client = AgentsClient::new(channel)
            .max_decoding_message_size(MAX_FROM_COORDINATOR)
            .max_encoding_message_size(MAX_FROM_AGENT);
        let current = Arc::clone(&self.current.borrow_and_update());
        let plan = current.plan.as_deref();
        let mut held = plan.map(Held::from).unwrap_or_default();
        let greeting = Greeting {
            federation: FederationName::new(identity.federation())?,
            zone: ZoneName::new(identity.zone())?,
            agent: DnsLabel::new(identity.agent())?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            highest: current.facts.highest.max(generation(&current)),
            plan: current.plan.as_ref().map(|plan| plan.plan),
            generation: generation(&current),
            holds: plan.map(Holds::from).unwrap_or_default(),
            term: current.term,
        };
        let (say, heard) = mpsc::channel(4);
        say.send(hello(&greeting)).await?;
        let answers = tokio::time::timeout(WELCOME, client.session(ReceiverStream::new(heard)))
            .await
            .context("the coordinator did not answer in time")?
            .map_err(|status| anyhow::anyhow!(explain(&status)))?;
        let mut answers = answers.into_inner();
        let first = tokio::time::timeout(WELCOME, answers.message())
            .await
            .context("the coordinator did not answer in time")?
            .map_err(|status| anyhow::anyhow!(explain(&status)))?;
        let welcome = match first.and_then(|m| m.message) {
            Some(from_coordinator::Message::Welcome(welcome)) => Welcome::try_from(&welcome)?,
            Some(from_coordinator::Message::Goodbye(goodbye)) => return Ok(goodbye.reason),
            Some(from_coordinator::Message::Plan(_)) => {
                bail!("the coordinator sent a plan before its welcome")
            }
            None => bail!("the coordinator ended the session without a word"),
        };
        tracing::info!(session = welcome.session, "session with the coordinator");
        self.state.send_replace(LinkState {
            connected: Some(Timestamp::now()),
            last_error: None,
        });
        let every = self.report.min(welcome.report_interval);
        let mut said = current;
        say.send(report(&said)).await?;
        let mut due = Instant::now() + every;
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let Some(FromCoordinator { message }) =
                        answer.map_err(|status| anyhow::anyhow!(explain(&status)))?
                    else {
                        return Ok("the coordinator ended the session".to_owned());
                    };
                    match message {
                        Some(from_coordinator::Message::Plan(update)) => {
                            // What is missing or damaged is asked for by greeting anew: the greeting says what is held.
                            let offered = Offered::assemble(&update, &held)
                                .context("the coordinator sent a plan that cannot be used")?;
                            held = Held::from(&offered.plan);
                            if self.offers.send(offered).await.is_err() {
                                return Ok("the agent is stopping".to_owned());
                            }
                        }
                        Some(from_coordinator::Message::Goodbye(goodbye)) => return Ok(goodbye.reason),
                        // A newer coordinator may say more than this agent understands.
                        Some(from_coordinator::Message::Welcome(_)) | None => {}
                    }
                }
                changed = self.current.changed() => {
                    changed.context("the agent is stopping")?;
                    let now = Arc::clone(&self.current.borrow_and_update());
                    if now.differs(&said) || Instant::now() >= due {
                        say.send(report(&now)).await.context("the session broke")?;
                        due = Instant::now() + every;
                        said = now;
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    let now = Arc::clone(&self.current.borrow());
                    say.send(report(&now)).await.context("the session broke")?;
                    due = Instant::now() + every;
                    said = now;
                }
            }
        }
    }
}

fn generation(current: &Current) -> Generation {
    current
        .plan
        .as_ref()
        .map(|plan| plan.generation)
        .unwrap_or_default()
}

fn hello(greeting: &Greeting) -> FromAgent {
    FromAgent {
        message: Some(from_agent::Message::Hello(greeting.into())),
    }
}

fn report(current: &Current) -> FromAgent {
    FromAgent {
        message: Some(from_agent::Message::Report((&current.report()).into())),
    }
}

fn issued(certificate: v1::Certificate) -> Issued {
    Issued {
        chain: certificate.chain,
        roots: certificate.roots,
    }
}

/// The call that joins.
pub async fn ask_to_join(channel: Channel, ask: Ask) -> Result<Issued, tonic::Status> {
    let request = v1::JoinRequest {
        token: ask.token.to_string(),
        agent: ask.agent,
        csr: ask.request,
        zone: ask.zone,
    };
    let answer = EnrollmentClient::new(channel).join(request).await?;
    Ok(issued(answer.into_inner()))
}

/// The call that renews.
pub async fn ask_to_renew(channel: Channel, csr: Vec<u8>) -> Result<Issued, tonic::Status> {
    let answer = EnrollmentClient::new(channel)
        .renew(v1::RenewRequest { csr })
        .await?;
    Ok(issued(answer.into_inner()))
}

/// Who the certificate says that this agent is, as the planner's names.
pub fn names(identity: &Identity) -> anyhow::Result<(FederationName, ZoneName)> {
    Ok((
        FederationName::new(identity.federation())?,
        ZoneName::new(identity.zone())?,
    ))
}
