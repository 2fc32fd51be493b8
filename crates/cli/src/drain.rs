//! `weir drain` and `weir undrain`: a backend that is to be stopped gives its share away first, everywhere, with proof.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_model::BasisPoints;
use weir_planner::Phase;
use weir_wire::api::{
    DrainRequest, OrderAnswer, OrderRequest, RouteWeights, SplitInZone, SplitStatus, Standing,
};

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
  0  every zone has proven that the backend gets nothing: it may be stopped;
     zones in which nobody calls the service, and those that are detached in
     Git and so are not asked, are named
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
                        // A program reads it in the answer; a person beside it has not.
                        if let Some(unasked) = unasked(&split, &args.backend) {
                            output.complain(wrapped(&format!("note: {unasked}")));
                        }
                    } else {
                        output.print(wrapped(&done(&split, args)));
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

/// That it may be stopped, with who was not asked.
fn done(split: &SplitStatus, args: &Args) -> String {
    let (name, backend) = (&args.split, &args.backend);
    match unasked(split, backend) {
        None => format!("{name}: every zone has proven 0 % for {backend}: it may be stopped"),
        Some(unasked) => format!(
            "{name}: every zone that is asked has proven 0 % for {backend}: it may be stopped. Not proven, for want of anybody \
             to ask: {unasked}"
        ),
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

/// Where the backend may still get requests, and why that is not known better; none if nowhere, as far as zones are asked.
fn left(split: &SplitStatus, backend: &str) -> Option<String> {
    let zones: Vec<String> = split
        .zones
        .iter()
        .filter_map(|zone| Some(format!("zone {} {}", zone.zone, may_send(zone, backend)?)))
        .collect();
    let held = split
        .transition
        .as_ref()
        .and_then(|transition| transition.waits.first());
    let held = held
        .map(|wait| format!("; {}", clean(&wait.why)))
        .unwrap_or_default();
    if !zones.is_empty() {
        return Some(format!("{}{held}", zones.join(", ")));
    }
    if split.zones.iter().all(|zone| zone.detached.is_some()) {
        let none = split.zones.is_empty();
        return Some(if none {
            "no zone is known".to_owned()
        } else {
            "every zone is detached, so nobody is asked".to_owned()
        });
    }
    // On its way it may still turn, and what takes a dead backend's share is taken up only at rest.
    match &split.transition {
        Some(transition) if transition.phase == Phase::Drained => None,
        Some(transition) => Some(format!(
            "every zone has proven it, and the split is not at rest yet ({}){held}",
            transition.phase.word()
        )),
        None if split.standing <= Standing::Idle => None,
        None => Some("the coordinator has not compared it with what Git declares yet".to_owned()),
    }
}

/// Why a zone may send requests to the backend, if so.
fn may_send(zone: &SplitInZone, backend: &str) -> Option<String> {
    if gets(&zone.told, backend) {
        return Some("is still told to send there".to_owned());
    }
    let read = zone.weights.as_ref();
    if zone.detached.is_some() {
        // It is not waited for; but what is known to send is.
        let sends = zone.standing < Standing::Stale && read.is_some_and(|read| gets(read, backend));
        return sends.then(|| "is detached, and sends there".to_owned());
    }
    match zone.standing {
        Standing::Converged if read.is_none_or(|read| gets(read, backend)) => {
            Some("has not proven it".to_owned())
        }
        // Nobody is there who could send anything, and whoever comes is told the same.
        Standing::Converged | Standing::Idle => None,
        standing => Some(match &zone.reason {
            Some(why) => format!("{} ({})", word(standing), clean(why)),
            None => word(standing).to_owned(),
        }),
    }
}

fn gets(of: &RouteWeights, backend: &str) -> bool {
    let mut routes = of.values();
    routes.any(|route| {
        route
            .get(backend)
            .is_some_and(|weight| weight.0 > BasisPoints::ZERO)
    })
}

/// Zones of which no proof was asked, and why: what whoever stops the backend has to know besides; nothing if all proved it.
fn unasked(split: &SplitStatus, backend: &str) -> Option<String> {
    let told: Vec<String> = split
        .zones
        .iter()
        .filter_map(|zone| {
            let name = &zone.zone;
            let read = zone.weights.as_ref();
            match (&zone.detached, zone.standing) {
                (Some(_), _) if read.is_some_and(|read| gets(read, backend)) => Some(format!(
                    "zone {name} is detached and was not asked, and when it was last read it sent to {backend}"
                )),
                (Some(_), _) => Some(format!("zone {name} is detached and was not asked")),
                (None, Standing::Idle) => Some(format!("nobody calls {} in zone {name}", clean(&split.service))),
                (None, _) => None,
            }
        })
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}
