//! The command line of `weir-sandbox`: what people ask for, and the hidden parts that the double plays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::double::{control_plane, dataplane};
use crate::process;

/// A whole Weir federation on this machine: Git repository, coordinator, three zones with agents, and real requests.
///
/// Without a command: starts it and shows, in place, what is declared and what is counted, until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "weir-sandbox", version, max_term_width = 80)]
pub struct Line {
    /// Options of the live picture, which needs no command.
    #[command(flatten)]
    pub place: Place,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where, and with whom.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Where everything goes: repository, configurations, logs. A new temporary directory if not given; kept afterwards
    /// only if given, or if something went wrong.
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Play with the kuma-cp, kuma-dp and envoy of this machine (WEIR_KUMA_BIN, or PATH) instead of the double. One zone is a
    /// cluster if kube-apiserver and etcd (WEIR_KUBERNETES_BIN, or PATH) are here as well.
    #[arg(long, global = true)]
    pub real: bool,
    /// With --real: Universal zones alone, no cluster.
    #[arg(long, global = true, requires = "real")]
    pub universal: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plays a scripted story, counts every request, and says whether each share was right and none was lost.
    ///
    /// Ends with 0 if every share is inside its binomial bound and no request failed, with 1 if not.
    Tour(Tour),
    /// Keeps book of process groups and ends them when the sandbox is gone.
    #[command(hide = true)]
    Keeper,
    /// The double of Kuma's global control plane.
    #[command(hide = true)]
    DoubleGlobal {
        /// Where its API listens.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The double of a zone's control plane.
    #[command(hide = true)]
    DoubleZone {
        /// Where its API listens.
        #[arg(long)]
        listen: SocketAddr,
        /// The zone.
        #[arg(long)]
        zone: String,
        /// API of the global control plane.
        #[arg(long)]
        global: String,
    },
    /// The double of a dataplane.
    #[command(hide = true)]
    DoubleDataplane {
        /// API of the zone's control plane.
        #[arg(long)]
        api: String,
        /// The Dataplane document.
        #[arg(long)]
        file: PathBuf,
        /// Where its admin socket goes.
        #[arg(long)]
        work_dir: PathBuf,
        /// How long replaced listeners drain, in milliseconds.
        #[arg(long, default_value_t = 30_000)]
        drain: u64,
    },
}

/// Options of `tour`.
#[derive(Debug, Clone, Args)]
pub struct Tour {
    /// One JSON line a step instead of text.
    #[arg(long)]
    pub json: bool,
    /// Requests counted in each zone after each step.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub requests: u64,
    /// Have the agents write policies without the anchor, to see what that loses. Needs `weir-agent-bare`: `cargo build
    /// -p weir-agent --features bare-policies`.
    #[arg(long)]
    pub bare: bool,
    /// After the story, time N changes of weights until every caller's Envoy has them: from a commit, from a PUT on the
    /// zones' own control planes, from a PUT on the global one. Adds a last line.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub pace: usize,
}

/// Does what the line says.
///
/// # Errors
/// Whatever stands in the way, in words.
pub fn run(line: Line) -> anyhow::Result<ExitCode> {
    if let Some(Command::Keeper) = line.command {
        process::keeper()?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        match line.command {
            None => crate::live::run(line.place).await,
            Some(Command::Tour(tour)) => crate::tour::run(line.place, tour).await,
            Some(part) => {
                tracing_subscriber::fmt()
                    .with_writer(std::io::stderr)
                    .with_ansi(false)
                    .init();
                match part {
                    Command::DoubleGlobal { listen } => {
                        control_plane::run(control_plane::Options { listen, zone: None }).await?;
                    }
                    Command::DoubleZone { listen, zone, global } => {
                        let zone = Some((zone, global));
                        control_plane::run(control_plane::Options { listen, zone }).await?;
                    }
                    Command::DoubleDataplane {
                        api,
                        file,
                        work_dir,
                        drain,
                    } => {
                        let drain = Duration::from_millis(drain);
                        dataplane::run(dataplane::Options {
                            api,
                            file,
                            work_dir,
                            drain,
                        })
                        .await?;
                    }
                    Command::Keeper | Command::Tour(_) => {}
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}
