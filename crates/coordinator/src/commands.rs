//! What `weir-coordinator` understands, one function a command. Standard output carries results alone; everything else
//! goes to standard error.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use weir_link::{LogFormat, private_file};
use weir_model::ZoneName;

use crate::agents::{self, Agent};
use crate::ca::Authority;
use crate::config::{self, Config};
use crate::ledger::Ledger;
use crate::serve;
use crate::splits::{self, Split};
use crate::tokens::{Purpose, Revoked, State, TokenRecord, Tokens};

/// Reads declarations from Git, plans, holds agents' sessions, and answers what is declared and what runs.
#[derive(Debug, Parser)]
#[command(name = "weir-coordinator", version, max_term_width = 80)]
pub struct Line {
    /// How logs look on standard error: text or json. WEIR_LOG says how much (default: info).
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM; SIGHUP looks at all Git sources now.
    Serve(Configured),
    /// Makes, lists and revokes tokens; works beside a coordinator that serves.
    #[command(subcommand)]
    Token(Token),
    /// Lists agents, and forgets those whose hosts are gone; works beside a coordinator that serves.
    #[command(subcommand)]
    Agent(Agent),
    /// Orders about splits: abort, freeze, resume, drain, undrain; works beside a coordinator that serves.
    #[command(subcommand)]
    Split(Split),
    /// Checks the configuration and does nothing else.
    CheckConfig(Configured),
}

#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Makes a token and prints it: this is the only time that it is shown.
    Create(Create),
    /// Lists tokens, without their secrets.
    List(List),
    /// Takes a token back. Agents that joined with it stay.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("purpose").required(true).args(["zone", "viewer", "operator"])))]
struct Create {
    #[command(flatten)]
    configured: Configured,
    /// For one agent of this zone to join, once.
    #[arg(long, value_name = "ZONE")]
    zone: Option<ZoneName>,
    /// For reading the API; the name is for people.
    #[arg(long, value_name = "NAME")]
    viewer: Option<String>,
    /// For orders over the API (abort, freeze, resume) and for reading it; orders are recorded under this name.
    #[arg(long, value_name = "NAME", value_parser = person)]
    operator: Option<String>,
    /// How long it may be used (default: 1h for a zone, 90d for a viewer or an operator).
    #[arg(long, value_name = "PERIOD", value_parser = config::period)]
    ttl: Option<Duration>,
    /// Prints id, token and expiry as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    configured: Configured,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Revoke {
    #[command(flatten)]
    configured: Configured,
    /// The token's id, as `token list` shows it.
    #[arg(value_name = "ID")]
    id: String,
}

/// Why a command failed, and with which exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 2 for a wrong configuration, else 1.
    pub code: u8,
    /// For standard error.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(error: impl fmt::Display) -> Self {
        Self {
            code: 1,
            message: format!("error: {error}"),
        }
    }
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        Self {
            code: 2,
            message: error.to_string(),
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// What to say on standard error, and the exit code.
pub async fn run(line: Line) -> Result<(), Failure> {
    match line.command {
        Command::Serve(of) => {
            let config = Config::load(&of.config)?;
            let stop = weir_link::stop::on_signals().map_err(Failure::new)?;
            serve::serve(config, stop).await.map_err(Failure::new)
        }
        Command::CheckConfig(of) => {
            let config = Config::load(&of.config)?;
            let sources: Vec<String> = config
                .sources
                .iter()
                .map(|source| format!("{} ({}, branch {})", source.name, source.remote, source.branch))
                .collect();
            print(&format!(
                "{} is right: federation {}, {} from {}\n",
                of.config.display(),
                config.federation,
                if sources.len() == 1 {
                    "one source,"
                } else {
                    "sources"
                },
                sources.join(", ")
            ))
        }
        Command::Agent(of) => agents::run(of).await,
        Command::Split(of) => splits::run(of).await,
        Command::Token(Token::Create(of)) => create(of).await,
        Command::Token(Token::List(of)) => list(of).await,
        Command::Token(Token::Revoke(of)) => revoke(of).await,
    }
}

async fn tokens(file: &Path) -> Result<(Config, Tokens), Failure> {
    let (config, ledger) = ledger(file).await?;
    let tokens = Tokens::new(ledger.pool().clone());
    Ok((config, tokens))
}

/// The configuration, and the ledger that it names.
pub(crate) async fn ledger(file: &Path) -> Result<(Config, Ledger), Failure> {
    let config = Config::load(file)?;
    private_file::create_dir(&config.data).map_err(|error| {
        Failure::new(format!(
            "the data directory {} cannot be used: {error}; run this as the user of the coordinator",
            config.data.display()
        ))
    })?;
    let ledger = Ledger::open(&config.ledger_file()).await.map_err(Failure::new)?;
    Ok((config, ledger))
}

#[derive(Serialize)]
struct Created {
    id: String,
    token: String,
    expires: String,
}

impl Created {
    fn new(id: &str, token: &impl Display, expires: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            token: token.to_string(),
            expires: expires.to_string(),
        }
    }
}

async fn create(of: Create) -> Result<(), Failure> {
    let (config, ledger) = ledger(&of.configured.config).await?;
    if let Some(zone) = &of.zone {
        let declared = ledger.platforms().await.map_err(Failure::new)?;
        if let Some(warning) = undeclared(zone, declared.keys()) {
            // Whether anybody reads it is their affair: the token is made all the same.
            let _ = writeln!(io::stderr(), "{warning}");
        }
    }
    let tokens = Tokens::new(ledger.pool().clone());
    let now = Timestamp::now();
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let created = match (&of.zone, &of.viewer, &of.operator) {
        (Some(zone), _, _) => {
            let authority =
                Authority::open(&config.data.join("ca"), &config.federation).map_err(Failure::new)?;
            let life = of.ttl.unwrap_or(Duration::from_secs(3_600));
            let new = tokens
                .create_agent(zone, life, authority.fingerprint(), now)
                .await
                .map_err(Failure::new)?;
            Created::new(new.token.id(), &new.token, new.expires)
        }
        (None, Some(viewer), _) => {
            let life = of.ttl.unwrap_or(days(90));
            let new = tokens
                .create_viewer(viewer, life, now)
                .await
                .map_err(Failure::new)?;
            Created::new(new.token.id(), &new.token, new.expires)
        }
        (None, None, Some(operator)) => {
            let life = of.ttl.unwrap_or(days(90));
            let new = tokens
                .create_operator(operator, life, now)
                .await
                .map_err(Failure::new)?;
            Created::new(new.token.id(), &new.token, new.expires)
        }
        (None, None, None) => {
            return Err(Failure::new(
                "say what the token is for: --zone, --viewer or --operator",
            ));
        }
    };
    if of.json {
        print_json(&created)
    } else {
        print(&format!("{}\n", created.token))
    }
}

/// A name that orders are recorded under: whoever reads them must be able to tell whose they are.
fn person(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        1..=100 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("a name has 1 to 100 characters, none of them a control character".to_owned()),
    }
}

/// What to say of a zone that the declaration in force does not have: most often its name is misspelt. An agent may come
/// before its zone, so it is no error; and before the first plan nothing is known.
fn undeclared<'a>(zone: &ZoneName, declared: impl Iterator<Item = &'a ZoneName>) -> Option<String> {
    let declared: Vec<&str> = declared.map(ZoneName::as_str).collect();
    if declared.is_empty() || declared.contains(&zone.as_str()) {
        return None;
    }
    const NAMED: usize = 8;
    let more = match declared.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "warning: the declaration in force has no zone {zone}; its zones are {}{more}. An agent that joins with this token \
         gets nothing to do until that zone is declared",
        declared[..declared.len().min(NAMED)].join(", ")
    ))
}

#[derive(Serialize)]
struct Listed {
    id: String,
    kind: &'static str,
    subject: String,
    state: &'static str,
    created: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spent_by: Option<String>,
}

fn listed(record: TokenRecord) -> Listed {
    let (kind, subject) = match record.purpose {
        Purpose::Join(zone) => ("zone", zone.to_string()),
        Purpose::Read(name) => ("viewer", name),
        Purpose::Operate(name) => ("operator", name),
    };
    let (state, spent_by) = match record.state {
        State::Open => ("open", None),
        State::Spent { by, .. } => ("spent", Some(by)),
        State::Expired => ("expired", None),
        State::Revoked { .. } => ("revoked", None),
    };
    Listed {
        id: record.id,
        kind,
        subject,
        state,
        created: record.created.to_string(),
        expires: record.expires.to_string(),
        used: record.used.map(|at| at.to_string()),
        spent_by,
    }
}

async fn list(of: List) -> Result<(), Failure> {
    let (_, tokens) = tokens(&of.configured.config).await?;
    let records = tokens.list(Timestamp::now()).await.map_err(Failure::new)?;
    let records: Vec<Listed> = records.into_iter().map(listed).collect();
    if of.json {
        return print_json(&records);
    }
    let mut text = String::new();
    for record in &records {
        let by = record
            .spent_by
            .as_ref()
            .map(|by| format!(" by {by}"))
            .unwrap_or_default();
        let seconds = record
            .expires
            .split_once('.')
            .map_or(record.expires.as_str(), |(s, _)| s);
        text.push_str(&format!(
            "{}  {:<8}  {:<20}  {:<8}  until {}Z{by}\n",
            record.id,
            record.kind,
            record.subject,
            record.state,
            seconds.trim_end_matches('Z')
        ));
    }
    print(&text)
}

async fn revoke(of: Revoke) -> Result<(), Failure> {
    let (_, tokens) = tokens(&of.configured.config).await?;
    match tokens
        .revoke(&of.id, Timestamp::now())
        .await
        .map_err(Failure::new)?
    {
        Revoked::Now => print(&format!("token {} is revoked\n", of.id)),
        Revoked::Before(state) => {
            let why = match state {
                State::Spent { by, .. } => {
                    format!("agent {by} joined with it; to keep that agent out, stop it")
                }
                State::Expired => "its time is over".to_owned(),
                State::Revoked { at } => format!("it was revoked at {at}"),
                State::Open => "it was in use at this moment; try again".to_owned(),
            };
            print(&format!(
                "token {} cannot be used any more anyhow: {why}\n",
                of.id
            ))
        }
        Revoked::Unknown => Err(Failure::new(format!(
            "there is no token {}; `weir-coordinator token list` shows them",
            of.id
        ))),
    }
}

pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("standard output cannot be written: {error}")))
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::new)?;
    print(&format!("{text}\n"))
}
