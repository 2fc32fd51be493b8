//! `weir drain` and `weir undrain`: a backend that is to be stopped gives its share away first, everywhere, with proof.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_model::BasisPoints;
use weir_planner::Phase;
use weir_wire::api::{DrainRequest, OrderAnswer, OrderRequest, RouteWeights, SplitStatus, Standing};

use crate::client::Client;
use crate::clock::span;
use crate::connection::Connection;
use crate::layout::{clean, wrapped};
use crate::output::{Exit, Output};
use crate::status::{duration, word};
use crate::steer::{self, words};
use crate::trouble::{Kind, Trouble};

/// How often it is looked whether all have proven it.
const LOOK: Duration = Duration::from_secs(1);

/// How long one look may take, however little time is left.
const ANSWER: Duration = Duration::from_secs(5);

/// Flags of `weir drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The share goes to --to, or to the first backend of the declared fallback, or to
the others by their own shares. It moves as every change of weights does, in
the split's waves and steps, judged; a freeze holds it up. It holds, whatever
Git declares, until `weir undrain`. Kuma itself drains nobody: stop the backend
only when this has ended with 0, which is when the split rests and all zones
have proven it for as long as old listeners may still serve (--linger).

An order needs a token of `weir-coordinator token create --operator NAME`; it is
recorded under that name.

Exit codes:
  0  every zone has proven that the backend gets nothing: it may be stopped
  3  ordered, but not proven everywhere (yet): do not stop it
  1  refused, or the coordinator cannot be asked
  2  asked wrongly")]
pub struct Args {
    /// The split.
    #[arg(value_name = "SPLIT")]
    pub split: String,
    /// The backend that is to be stopped.
    #[arg(value_name = "BACKEND")]
    pub backend: String,
    /// Who takes its share.
    #[arg(long, value_name = "BACKEND")]
    pub to: Option<String>,
    /// Why, for whoever reads the history.
    #[arg(long, value_name = "WHY", value_parser = words)]
    pub reason: String,
    /// How long to wait for the proof of all zones, before --linger; the drain goes on after that.
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
    /// How long the proof must have held: `kuma-dp --drain-time` of the callers, after which nothing is open on an old listener.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub linger: Duration,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

/// Flags of `weir undrain`.
#[derive(Debug, clap::Args)]
#[command(after_help = steer::CODES)]
pub struct End {
    /// The split.
    #[arg(value_name = "SPLIT")]
    pub split: String,
    /// The backend.
    #[arg(value_name = "BACKEND")]
    pub backend: String,
    /// Why, for whoever reads the history.
    #[arg(long, value_name = "WHY", value_parser = words)]
    pub reason: String,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs `weir drain`.
pub fn run(args: &Args, output: &Output) -> Exit {
    let Some(path) = path(&args.split, &args.backend, "drain", output) else {
        return Exit::Usage;
    };
    args.connection.run(output, async |client| {
        let body = DrainRequest {
            reason: args.reason.clone(),
            to: args.to.clone(),
        };
        let told = give(&client, &path, &body).await?;
        output.complain(wrapped(&format!("{}: {}", args.split, told.message)));
        // What was ordered goes on, whatever becomes of this program's questions.
        Ok(wait(&client, args, output).await.unwrap_or_else(|trouble| {
            output.complain(trouble.text());
            unproven(args, output, "the coordinator cannot be asked");
            Exit::Differs
        }))
    })
}

/// Runs `weir undrain`.
pub fn end(args: &End, output: &Output) -> Exit {
    let Some(path) = path(&args.split, &args.backend, "undrain", output) else {
        return Exit::Usage;
    };
    args.connection.run(output, async |client| {
        let body = OrderRequest {
            reason: args.reason.clone(),
        };
        let told = give(&client, &path, &body).await?;
        if output.json {
            output.print_json(&told);
        } else {
            output.print(wrapped(&format!("{}: {}", args.split, told.message)));
        }
        Ok(Exit::Fine)
    })
}

/// Where to order; none, with a word of why, if it cannot be named.
fn path(split: &str, backend: &str, verb: &str, output: &Output) -> Option<String> {
    let wrong = weir_model::SplitName::new(split)
        .err()
        .map(|why| format!("error: `{split}` is no name of a split: {why}"))
        .or_else(|| {
            let why = weir_model::BackendName::new(backend).err()?;
            Some(format!("error: `{backend}` is no name of a backend: {why}"))
        });
    match wrong {
        Some(wrong) => {
            output.complain(wrapped(&wrong));
            None
        }
        None => Some(format!("v1/splits/{split}/backends/{backend}/{verb}")),
    }
}

async fn give(client: &Client, path: &str, body: &impl Serialize) -> Result<OrderAnswer, Trouble> {
    client.post(path, body).await?.read()
}

/// Looks until every zone has proven it for long enough, or the time for the proof is over. Who is silent may come back.
async fn wait(client: &Client, args: &Args, output: &Output) -> Result<Exit, Trouble> {
    let end = Instant::now() + args.timeout;
    let path = format!("v1/splits/{}", args.split);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    let mut proven: Option<Instant> = None;
    loop {
        looks.tick().await;
        // Who does not want to wait wants to know all the same.
        let until = end.max(Instant::now() + ANSWER);
        let looked = tokio::time::timeout_at(until, look(client, &path)).await;
        let over = Instant::now() + LOOK > end;
        let now = match looked {
            Ok(Ok((split, value))) => match left(&split, &args.backend) {
                None if proven.get_or_insert_with(Instant::now).elapsed() < args.linger => {
                    format!(
                        "every zone has proven it; what is open on old listeners may go on for {}",
                        length(args.linger)
                    )
                }
                None => {
                    if output.json {
                        output.print_json(&value);
                    } else {
                        output.print(wrapped(&format!(
                            "{}: every zone has proven 0 % for {}: it may be stopped",
                            args.split, args.backend
                        )));
                    }
                    return Ok(Exit::Fine);
                }
                Some(left) => {
                    proven = None;
                    left
                }
            },
            Ok(Err(trouble)) if trouble.kind != Kind::Silent || over => return Err(trouble),
            // What nobody saw has not held.
            Ok(Err(trouble)) => {
                proven = None;
                format!("{}; asking again", trouble.what)
            }
            Err(_) => {
                proven = None;
                "the coordinator does not answer".to_owned()
            }
        };
        if now != said {
            output.complain(wrapped(&format!("waiting: {now}")));
            said = now;
        }
        if over && proven.is_none() {
            unproven(args, output, &said);
            return Ok(Exit::Differs);
        }
    }
}

fn length(time: Duration) -> String {
    span(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX))
}

fn unproven(args: &Args, output: &Output, why: &str) {
    output.complain(wrapped(&format!(
        "error: not proven everywhere (waited for at most {}), do not stop {}: {why}. The drain goes on; `weir status {}` shows how \
         far it is, `weir undrain` ends it",
        length(args.timeout),
        args.backend,
        args.split
    )));
}

async fn look(client: &Client, path: &str) -> Result<(SplitStatus, serde_json::Value), Trouble> {
    let answer = client.get(path).await?;
    Ok((answer.read()?, answer.value))
}

/// Where the backend may still get requests, and why that is not known better; none if nowhere.
fn left(split: &SplitStatus, backend: &str) -> Option<String> {
    let gets = |of: &RouteWeights| {
        let mut routes = of.values();
        routes.any(|route| {
            route
                .get(backend)
                .is_some_and(|weight| weight.0 > BasisPoints::ZERO)
        })
    };
    let zones: Vec<String> = split
        .zones
        .iter()
        .filter_map(|zone| {
            let why = if gets(&zone.told) {
                "is still told to send there".to_owned()
            } else if zone.standing != Standing::Converged {
                match &zone.reason {
                    Some(why) => format!("{} ({})", word(zone.standing), clean(why)),
                    None => word(zone.standing).to_owned(),
                }
            } else if zone.weights.as_ref().is_none_or(gets) {
                "has not proven it".to_owned()
            } else {
                return None;
            };
            Some(format!("zone {} {why}", zone.zone))
        })
        .collect();
    let held = split
        .transition
        .as_ref()
        .and_then(|transition| transition.waits.first());
    let held = held
        .map(|wait| format!("; {}", clean(&wait.why)))
        .unwrap_or_default();
    if zones.is_empty() {
        // On its way it may still turn, and what takes a dead backend's share is taken up only at rest.
        let rests = match &split.transition {
            Some(transition) => transition.phase == Phase::Drained,
            None => split.standing == Standing::Converged,
        };
        return match (&split.transition, split.zones.is_empty()) {
            (_, true) => Some("no zone is known".to_owned()),
            _ if rests => None,
            (Some(transition), _) => Some(format!(
                "every zone has proven it, and the split is not at rest yet ({}){held}",
                transition.phase.word()
            )),
            (None, _) => Some("the coordinator has not compared it with what Git declares yet".to_owned()),
        };
    }
    Some(format!("{}{held}", zones.join(", ")))
}
