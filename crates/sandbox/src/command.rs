//! The command line of `weir-sandbox`: what people ask for, and the hidden parts that the double plays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::double::{api_server, control_plane, dataplane};
use crate::outage::{Beside, Dies};
use crate::process;
use crate::restarts::Event;

/// A whole Weir federation on this machine: Git repository, coordinator, three zones (two with --real, except to soak) with agents, one of them
/// a cluster, and real requests.
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
    /// VM zones alone, no cluster.
    #[arg(long, global = true)]
    pub universal: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plays a scripted story, counts every request, and says whether each share was right and none was lost.
    ///
    /// Ends with 0 if every share is inside its binomial bound and no request failed, with 1 if not.
    Tour(Tour),
    /// Moves weights at random under constant load, while what moves them is killed with -9: coordinator, agents, and Kuma's
    /// control planes.
    ///
    /// Global and VM zones' control planes keep their objects in PostgreSQL for this (postgres and initdb from
    /// WEIR_POSTGRES_BIN, PATH or /usr/lib/postgresql). With --real and without it they are spared: empty stores lose requests
    /// by themselves.
    ///
    /// Ends with 0 if no request failed, none was answered by a backend with weight 0, and each share is inside its bound.
    Soak(Soak),
    /// Lets a backend die under load, by kill -9 of its application, its dataplane or its zone's ingress, and counts what
    /// fails until its share is elsewhere by the declared fallback.
    ///
    /// The one line that it prints is JSON. Ends with 0 if no request failed when the backend came back.
    Outage(Outage),
    /// Lets Kuma's control planes and their store go and come back under load, with stores that outlive them and without, and
    /// counts what fails until all is right again. The same without Weir with --without.
    ///
    /// Ends with 0 if all was right again after each event, and no request failed where no store was lost; with --without
    /// whatever fails.
    Restarts(Restarts),
    /// Keeps book of process groups and ends them when the sandbox is gone.
    #[command(hide = true)]
    Keeper,
    /// The double of Kuma's global control plane.
    #[command(hide = true)]
    DoubleGlobal {
        /// Where its API listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Keeps what it holds.
        #[arg(long)]
        store: Option<PathBuf>,
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
        /// Lets it into the cluster that the zone is.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        /// Keeps what it holds.
        #[arg(long)]
        store: Option<PathBuf>,
        /// Where the zone's ingress is.
        #[arg(long)]
        ingress: Option<SocketAddr>,
    },
    /// The double of a cluster's API server.
    #[command(hide = true)]
    DoubleCluster {
        /// Where it listens, by HTTPS.
        #[arg(long)]
        listen: SocketAddr,
        /// Its certificate, key and token file.
        #[arg(long)]
        identity: PathBuf,
        /// Base address of Kuma's webhooks.
        #[arg(long)]
        webhooks: Option<String>,
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
    /// After the story, time N changes of weights until every caller's Envoy has them: from a commit, with all zones in one
    /// wave and with one zone in a second, from a PUT on the zones' own control planes, from a PUT on the global one. Adds a
    /// last line.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = changes)]
    pub pace: usize,
}

/// How many changes `--pace` may time.
fn changes(text: &str) -> Result<usize, String> {
    let changes: usize = text.parse().map_err(|error| format!("{error}"))?;
    if changes > crate::pace::MOST {
        return Err(format!("{} at the most", crate::pace::MOST));
    }
    Ok(changes)
}

/// Options of `soak`.
#[derive(Debug, Clone, Args)]
pub struct Soak {
    /// How many changes of weights.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub transitions: usize,
    /// Requests counted in each zone after each of them.
    #[arg(long, value_name = "N", default_value_t = 4_000)]
    pub requests: u64,
    /// Where the dice begin: the same weights, victims and times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Let VM zones' control planes keep their objects in memory, and kill them all the same, to see what that loses. The
    /// global one is spared: without its mesh nothing would ever be proven again.
    #[arg(long)]
    pub memory: bool,
    /// One JSON line a transition instead of text; the last line is JSON either way.
    #[arg(long)]
    pub json: bool,
}

/// Options of `outage`.
#[derive(Debug, Clone, Args)]
pub struct Outage {
    /// What of the backend dies.
    #[arg(long, value_enum, default_value_t = Dies::Application)]
    pub dies: Dies,
    /// Declare no fallback: Weir looks on.
    #[arg(long)]
    pub without: bool,
    /// Nobody looks on: coordinator and agents are gone, and the same policies were put once by hand.
    #[arg(long, conflicts_with_all = ["without", "drain", "slow"])]
    pub bare: bool,
    /// It is stopped on purpose: drained first, with proof.
    #[arg(long, conflicts_with_all = ["without", "dies"])]
    pub drain: bool,
    /// It does not die: its answers take longer, and a step that gives it more is taken back.
    #[arg(long, conflicts_with_all = ["without", "drain", "dies"])]
    pub slow: bool,
}

impl Outage {
    /// Who is there when it dies.
    pub fn beside(&self) -> Beside {
        match (self.bare, self.without) {
            (true, _) => Beside::Nobody,
            (false, true) => Beside::Weir,
            (false, false) => Beside::Fallback,
        }
    }
}

/// Options of `restarts`.
#[derive(Debug, Clone, Args)]
pub struct Restarts {
    /// This event alone; may be given more than once.
    #[arg(long, value_enum)]
    pub event: Vec<Event>,
    /// Nobody is beside Kuma: coordinator and agents are gone, and the same policies were put once by hand.
    #[arg(long)]
    pub without: bool,
    /// Declare that each backend takes the other's share while that is down.
    #[arg(long, conflicts_with = "without")]
    pub fallback: bool,
    /// For how many minutes the global control plane is away in `global-away`; weights change all the while.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub minutes: u32,
    /// One JSON line an event instead of text.
    #[arg(long)]
    pub json: bool,
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
            Some(Command::Soak(soak)) => crate::soak::run(line.place, soak).await,
            Some(Command::Outage(outage)) => crate::outage::run(line.place, outage).await,
            Some(Command::Restarts(restarts)) => crate::restarts::run(line.place, restarts).await,
            Some(part) => {
                tracing_subscriber::fmt()
                    .with_writer(std::io::stderr)
                    .with_ansi(false)
                    .init();
                match part {
                    Command::DoubleGlobal { listen, store } => {
                        let options = control_plane::Options {
                            listen,
                            zone: None,
                            kubeconfig: None,
                            store,
                            ingress: None,
                        };
                        control_plane::run(options).await?;
                    }
                    Command::DoubleZone {
                        listen,
                        zone,
                        global,
                        kubeconfig,
                        store,
                        ingress,
                    } => {
                        let options = control_plane::Options {
                            listen,
                            zone: Some((zone, global)),
                            kubeconfig,
                            store,
                            ingress,
                        };
                        control_plane::run(options).await?;
                    }
                    Command::DoubleCluster {
                        listen,
                        identity,
                        webhooks,
                    } => {
                        api_server::server::run(api_server::server::Options {
                            listen,
                            identity,
                            webhooks,
                        })
                        .await?;
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
                    Command::Keeper
                    | Command::Tour(_)
                    | Command::Soak(_)
                    | Command::Outage(_)
                    | Command::Restarts(_) => {}
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}
