//! The commands of `weir-agent`: `join`, `run`, `status`, and those of `break_glass`. Exit codes: 0 done, 1 failed, 2 wrong configuration or usage.

mod drivers;

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use weir_drivers::dns::{Host, Names, Remembered};
use weir_link::{AgentToken, Connector, IdentityDir, LogFormat, keep_fresh, logs, private_file, stop, tls};
use weir_render::Options;

use crate::break_glass;
use crate::conclude;
use crate::config::{Config, ConfigError};
use crate::current::{Current, LinkState};
use crate::gateways::Gateways;
use crate::run::Loop;
use crate::session::{Session, ask_to_join, ask_to_renew, names};
use crate::status::{self, Fixed};
use crate::store::Store;

pub(crate) use drivers::driver;
use drivers::{gateway_drivers, told};

/// How long an activation that is under way may go on after SIGTERM.
const LAST: Duration = Duration::from_secs(10);

/// Makes a zone follow the plan of its coordinator, and proves it.
#[derive(Debug, Parser)]
#[command(name = "weir-agent", version, max_term_width = 80)]
pub struct Agent {
    #[command(subcommand)]
    command: Command,
    /// How logs are written to stderr: text or json (what is logged: WEIR_LOG, default info)
    #[arg(long, global = true, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a coordinator with a one-time token; once for each agent
    Join(Join),
    /// Run the agent until SIGTERM; SIGHUP activates at once. Stopping leaves traffic as it is
    Run(At),
    /// Say what the running agent of this configuration does
    Status(Show),
    /// Break-glass: hold a split at these weights on this host, whatever plan comes, until `unpin`
    Pin(break_glass::Pin),
    /// End a pin: the split follows the newest plan again
    Unpin(break_glass::Unpin),
    /// List what is pinned on this host
    Pins(break_glass::List),
}

#[derive(Debug, Args)]
pub(crate) struct At {
    /// The agent's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
struct Join {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    token: Token,
    /// Do nothing and succeed if this agent has joined already
    #[arg(long)]
    unless_joined: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Token {
    /// File that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token; others on this host may see it in the list of processes
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    at: At,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Agent {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        if let Err(why) = logs::start(self.log_format) {
            complain(&format!("error: {why}"));
            return ExitCode::from(2);
        }
        tls::install_provider();
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(&format!("error: cannot start: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let done = runtime.block_on(async {
            match self.command {
                Command::Join(join) => join.run().await,
                Command::Run(at) => run(&at).await,
                Command::Status(show) => show.run().await,
                Command::Pin(pin) => pin.run().await,
                Command::Unpin(unpin) => unpin.run().await,
                Command::Pins(list) => list.run(),
            }
        });
        // Nothing that still runs is worth waiting for: what matters is on disk or in the control plane.
        runtime.shutdown_background();
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => match error.downcast_ref::<ConfigError>() {
                Some(wrong) => {
                    complain(&wrong.to_string());
                    ExitCode::from(2)
                }
                None => {
                    complain(&format!("error: {error:#}"));
                    ExitCode::FAILURE
                }
            },
        }
    }
}

/// To stderr; if that is gone, there is nobody to tell.
fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

impl Join {
    async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.at.config)?;
        let dir = IdentityDir::new(config.identity_dir());
        if dir.exists() && self.unless_joined {
            tracing::info!(identity = %dir.path().display(), "this agent has joined already");
            return Ok(());
        }
        if dir.exists() {
            bail!(
                "this agent has joined already: its identity is in {}. To join anew, stop the agent and remove that \
                 directory",
                dir.path().display()
            );
        }
        let text = match (self.token.token, self.token.token_file) {
            (Some(token), _) => token,
            (None, Some(file)) => std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read the token file {}", file.display()))?,
            (None, None) => bail!("give a token with --token-file or --token"),
        };
        let token: AgentToken = text.trim().parse()?;
        // What would be written last is tried first: a token is spent once.
        private_file::create_dir(&config.data)?;
        private_file::create_dir(dir.path())?;
        let credentials = weir_link::join(
            &config.coordinator,
            config.zone.as_str(),
            config.agent.as_str(),
            token,
            ask_to_join,
        )
        .await
        .with_context(|| format!("agent {} of zone {} has not joined", config.agent, config.zone))?;
        dir.store(&credentials)?;
        tracing::info!(identity = %credentials.identity(), expires = %credentials.expires(), "joined");
        Ok(())
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.at.config)?;
        let status = status::ask(&config.status_socket()).await?;
        let text = if self.json {
            serde_json::to_string_pretty(&status)? + "\n"
        } else {
            status.text(Timestamp::now())
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

/// How policies are rendered. Bare ones lose requests (`kuma.md` R1): they exist to measure how many, in builds that
/// carry the switch, and nowhere else.
fn options() -> Options {
    #[cfg(feature = "bare-policies")]
    if std::env::var_os("WEIR_TEST_BARE_POLICIES").is_some_and(|value| value == "1") {
        tracing::warn!(
            "WEIR_TEST_BARE_POLICIES=1: policies are written WITHOUT the anchor. Requests WILL BE LOST at shifts to and \
             from 0. For measurements only"
        );
        return Options { anchored: false };
    }
    Options { anchored: true }
}

/// Holds the data directory, if there is one, until dropped: two agents would overwrite each other's plan and memory.
fn alone(data: &Path) -> anyhow::Result<Option<File>> {
    let file = match File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data.join("lock"))
    {
        Ok(file) => file,
        // Then nobody has joined either, which is told with what to do.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "the data directory {} cannot be used; run the agent as the user that owns it",
                    data.display()
                )
            });
        }
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "another weir-agent runs with the data directory {}: stop that one first, or give this one its own `data`",
            data.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("the data directory {} cannot be locked", data.display()))
        }
    }
}

async fn run(at: &At) -> anyhow::Result<()> {
    let config = Config::load(&at.config)?;
    let _alone = alone(&config.data)?;
    let dir = IdentityDir::new(config.identity_dir());
    if !dir.exists() {
        bail!(
            "this agent has not joined: there is no identity in {}. Run `weir-agent join` with a token of zone {}",
            dir.path().display(),
            config.zone
        );
    }
    let credentials = dir.load()?;
    let (federation, zone) = names(credentials.identity())?;
    if zone != config.zone || credentials.identity().agent() != config.agent.as_str() {
        bail!(
            "the identity in {} is that of {}, the configuration is for agent {} of zone {}",
            dir.path().display(),
            credentials.identity(),
            config.agent,
            config.zone
        );
    }
    let driver = driver(&config, &federation).map_err(told)?;
    let socket = status::bind(&config.status_socket()).await?;
    let store = Store::new(&config.data);
    let kept = store.load(&federation, &zone)?;
    let connector = Connector::new(&config.coordinator, credentials)?;
    let stop = stop::on_signals()?;

    let first = Current {
        plan: kept.plan.clone().map(Arc::new),
        facts: conclude::not_seen(&zone, kept.plan.as_ref(), &kept.memory, None, Timestamp::now()),
        notes: Vec::new(),
        refused: None,
        term: kept.memory.term,
    };
    match &kept.plan {
        Some(plan) => tracing::info!(
            generation = plan.generation.0,
            "taking up the last good plan, with or without the coordinator"
        ),
        None => tracing::info!("no plan yet: nothing is touched until the coordinator sends one"),
    }
    let (tell, current) = watch::channel(Arc::new(first));
    let (link, link_state) = watch::channel(LinkState {
        connected: None,
        last_error: None,
    });
    let (offer, offers) = mpsc::channel(4);
    let (hangup, now) = mpsc::channel(1);

    let (gateways, doors) = match config.gateways.is_empty() {
        true => (None, None),
        false => {
            let names: Arc<dyn Names> = Arc::new(Remembered::new(Host::new().map_err(told)?));
            let (mut task, link) =
                Gateways::new(gateway_drivers(&config, &federation)?, names, store.clone());
            task.counters = drivers::counters(&config);
            (Some((task, store.gateways()?)), Some(link))
        }
    };
    let work = Loop {
        federation,
        zone,
        driver,
        store,
        options: options(),
        offers,
        now,
        tell,
        gateways: doors,
    };
    let session = Session {
        connector: connector.clone(),
        report: config.report,
        current: current.clone(),
        offers: offer,
        state: link,
    };
    let fixed = Fixed {
        federation: work.federation.to_string(),
        zone: work.zone.to_string(),
        agent: config.agent.to_string(),
        coordinator: config.coordinator.clone(),
        connector: connector.clone(),
    };
    let work = tokio::spawn(work.run(kept, stop.clone()));
    let others = vec![
        tokio::spawn(session.keep(stop.clone())),
        tokio::spawn(keep_fresh(connector, dir, ask_to_renew, stop.clone())),
        tokio::spawn(hangups(hangup, stop.clone())),
        match gateways {
            Some((task, memory)) => tokio::spawn(task.run(memory, stop.clone())),
            None => tokio::spawn(stop.clone().cancelled_owned()),
        },
        match socket {
            Some(listener) => tokio::spawn(status::serve(listener, fixed, current, link_state, stop.clone())),
            None => tokio::spawn(stop.clone().cancelled_owned()),
        },
    ];
    watch_over(work, others, stop).await
}

/// Waits for the end: of the loop, or of any other task, which must not end before it is told to.
async fn watch_over(
    mut work: JoinHandle<anyhow::Result<()>>,
    others: Vec<JoinHandle<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let others = futures::future::select_all(others);
    tokio::select! {
        done = &mut work => done.map_err(died)??,
        (ended, _, _) = others => {
            ended.map_err(died)?;
            if !stop.is_cancelled() {
                bail!("a part of the agent ended by itself: this is a bug; traffic stays as it is");
            }
            // An activation that is under way comes to its end, if that is soon.
            if let Ok(done) = tokio::time::timeout(LAST, work).await {
                done.map_err(died)??;
            }
        }
    }
    tracing::info!("stopped; traffic stays as it is");
    Ok(())
}

fn died(error: JoinError) -> anyhow::Error {
    anyhow::anyhow!(
        "a part of the agent died ({error}): this is a bug, please report it; traffic stays as it is"
    )
}

async fn hangups(say: mpsc::Sender<()>, stop: CancellationToken) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened to");
            return stop.cancelled().await;
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = hangups.recv() => {
                tracing::info!("SIGHUP: activating");
                // One that waits already is enough.
                let _already_asked = say.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_dies_or_ends_by_itself_ends_the_agent_with_an_error() {
        let forever = || tokio::spawn(std::future::pending::<()>());
        let idle = || tokio::spawn(std::future::pending::<anyhow::Result<()>>());
        let stop = CancellationToken::new();
        let panics = tokio::spawn(async { panic!("a bug") });
        let error = watch_over(idle(), vec![forever(), panics], stop.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("died"), "{error}");
        let ends = tokio::spawn(async {});
        let error = watch_over(idle(), vec![forever(), ends], stop.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("ended by itself"), "{error}");
        let work = tokio::spawn(async { panic!("a bug") });
        let error = watch_over(work, vec![forever()], stop.clone()).await.unwrap_err();
        assert!(error.to_string().contains("died"), "{error}");
        // Told to stop, the end of a part is no fault, and the loop is waited for.
        stop.cancel();
        let last = tokio::spawn(async {
            tokio::task::yield_now().await;
            Ok(())
        });
        watch_over(last, vec![tokio::spawn(async {})], stop)
            .await
            .unwrap();
    }
}
