//! `weir-coordinator agent list|forget`: the agents that the coordinator waits for, and the end of the wait for one whose
//! host is gone. Only a person can tell that: a host that is merely cut off goes on driving its last plan.

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use weir_model::ZoneName;

use crate::commands::{Configured, Failure, ledger, print, print_json};
use crate::ledger::{AgentRow, Forgotten, Ledger};
use crate::serve::{self, ServeError};

/// How long the coordinator that serves may take for its answer; it looks once a second.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Lists the agents that are waited for.
    List(List),
    /// Forgets an agent whose host is gone. Its zone no longer waits for it; it may join again at any time.
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    configured: Configured,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    configured: Configured,
    /// The agent's zone.
    #[arg(value_name = "ZONE")]
    zone: ZoneName,
    /// The agent's name, as `agent list` shows it.
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Serialize)]
struct Listed {
    zone: String,
    name: String,
    version: String,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    heard: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_expires: Option<String>,
}

pub(crate) async fn run(command: Agent) -> Result<(), Failure> {
    match command {
        Agent::List(of) => list(of).await,
        Agent::Forget(of) => forget(of).await,
    }
}

async fn list(of: List) -> Result<(), Failure> {
    let (_, ledger) = ledger(&of.configured.config).await?;
    let mut agents = ledger.agents().await.map_err(Failure::new)?;
    agents.sort_by(|a, b| (&a.zone, &a.name).cmp(&(&b.zone, &b.name)));
    if of.json {
        let listed = |row: AgentRow| Listed {
            zone: row.zone.to_string(),
            name: row.name,
            version: row.version,
            generation: row.generation.0,
            heard: row.heard_at.map(|at| at.to_string()),
            certificate_expires: row.certificate_expires.map(|at| at.to_string()),
        };
        return print_json(&agents.into_iter().map(listed).collect::<Vec<_>>());
    }
    let now = Timestamp::now();
    let mut text = String::new();
    for agent in agents {
        let heard = agent
            .heard_at
            .map_or_else(|| "never heard".to_owned(), |at| format!("heard {at:.0}"));
        let certificate = match agent.certificate_expires {
            Some(end) if end <= now => format!("certificate ended {end:.0}"),
            Some(end) => format!("certificate until {end:.0}"),
            None => "no certificate seen".to_owned(),
        };
        text.push_str(&format!(
            "{:<20}  {:<20}  plan {:<6}  {heard}  {certificate}\n",
            agent.zone, agent.name, agent.generation.0
        ));
    }
    print(&text)
}

async fn forget(of: Forget) -> Result<(), Failure> {
    let (config, ledger) = ledger(&of.configured.config).await?;
    let became = match serve::lock(&config.data) {
        // Nobody serves, so nobody is connected; and nobody begins to serve before this is done.
        Ok(_alone) => ledger.forget(Timestamp::now(), &of.zone, &of.name).await,
        Err(ServeError::Locked(_)) => return answered(&of, ask(&ledger, &of).await?),
        Err(other) => return Err(Failure::new(other)),
    };
    answered(&of, became.map_err(Failure::new)?)
}

/// Asks the coordinator that serves: it alone knows who is connected.
async fn ask(ledger: &Ledger, of: &Forget) -> Result<Forgotten, Failure> {
    let question = ledger
        .ask_to_forget(Timestamp::now(), &of.zone, &of.name)
        .await
        .map_err(Failure::new)?;
    let until = Instant::now() + ANSWER;
    loop {
        if let Some(answer) = ledger.forgotten(&question).await.map_err(Failure::new)? {
            return Ok(answer);
        }
        if Instant::now() >= until && ledger.withdraw(&question).await.map_err(Failure::new)? {
            return Err(Failure::new(format!(
                "the coordinator that serves has not answered within {} s, and nothing was forgotten; look at its log \
                 and /readyz, then try again",
                ANSWER.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn answered(of: &Forget, became: Forgotten) -> Result<(), Failure> {
    let (zone, name) = (&of.zone, &of.name);
    match became {
        Forgotten::Now => print(&format!("agent {name} of zone {zone} is forgotten\n")),
        Forgotten::Connected => Err(Failure::new(format!(
            "agent {name} of zone {zone} is connected, so it is not forgotten: stop it first"
        ))),
        Forgotten::Unknown => Err(Failure::new(format!(
            "there is no agent {name} in zone {zone}; `weir-coordinator agent list` shows them"
        ))),
    }
}
