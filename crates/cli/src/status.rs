//! `weir status`: what is declared and what runs, by proof.

mod belief;
mod door;
mod picture;
mod scope;
mod text;
mod transition;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_wire::api::Standing;

use crate::client::Client;
use crate::clock::span;
use crate::connection::Connection;
use crate::output::{Exit, Output};
use crate::trouble::{Kind, Trouble};
use picture::Picture;
use scope::Scope;
pub(crate) use text::{aside, paint, stands, word};

/// Flags of `weir status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A share counts as converged only when it was read back from the live proxies
after the change. A split on its way to what Git declares is not converged,
whatever its zones have proven: it shows where it is and what it waits for.
That a backend is down says nothing of what runs: it is shown beside that.
A zone is idle where nobody calls the service: it holds nothing up that other
zones prove. Nobody waits for a zone that is detached in Git.

Exit codes:
  0  all that is shown is proven
  3  not (yet): on its way, held, overridden, different or failed, or called by
     nobody in any zone, so that nothing proves it; or the newest commit is not
     in force; or a backend is down and keeps its share
  4  stale or unknown, or there is no plan yet
  1  the coordinator cannot be asked
  2  asked wrongly: a flag, a file, or a name that does not exist")]
pub struct Args {
    /// Show only this split.
    #[arg(value_name = "SPLIT")]
    pub split: Option<String>,
    /// Show only this zone.
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Keep showing it until interrupted; with --json a line for each change.
    #[arg(long, conflicts_with = "wait")]
    pub watch: bool,
    /// Wait until all that is asked for is proven, then show it. A coordinator that does not answer (yet) is waited for as
    /// well.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait; then what is known is shown, with its exit code.
    #[arg(long, requires = "wait", default_value = "5m", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
    /// Wait first until this commit (or its beginning) is in force.
    #[arg(long, requires = "wait", value_name = "COMMIT", value_parser = commit)]
    pub commit: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let length: SignedDuration = text
        .parse()
        .map_err(|_| "write it as in 30s, 5m or 1h".to_owned())?;
    Duration::try_from(length).map_err(|_| "it must not be negative".to_owned())
}

fn commit(text: &str) -> Result<String, String> {
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    match hex && (7..=64).contains(&text.len()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a commit is 7 to 64 hexadecimal digits; `git rev-parse HEAD` gives one".to_owned()),
    }
}

/// How often a waiting or watching command looks.
const LOOK: Duration = Duration::from_secs(1);

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    args.connection.run(output, async |client| {
        let scope = Scope {
            split: args.split.clone(),
            zone: args.zone.clone(),
        };
        if args.watch {
            watch(&client, &scope, output).await
        } else if args.wait {
            wait(&client, &scope, args, output).await
        } else {
            let picture = picture::look(&client, &scope).await?;
            show(&picture, output);
            Ok(picture.exit())
        }
    })
}

fn show(picture: &Picture, output: &Output) {
    if output.json {
        output.print_json(&picture.value);
    } else {
        output.print(text::page(&picture.list, picture.clock));
    }
}

/// Looks until all is proven or the time is over. Who is silent may come back; who refuses will not think better of it.
async fn wait(client: &Client, scope: &Scope, args: &Args, output: &Output) -> Result<Exit, Trouble> {
    let end = Instant::now() + args.timeout;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        looks.tick().await;
        let looked = tokio::time::timeout_at(end, asked(client, scope, args)).await;
        let over = Instant::now() + LOOK > end;
        let now = match looked {
            Ok(Ok(Waiting::For(picture))) => {
                if picture.exit() == Exit::Fine || over {
                    show(&picture, output);
                    return Ok(picture.exit());
                }
                text::in_a_line(&picture.list)
            }
            Ok(Ok(Waiting::Commit(what))) => what,
            Ok(Ok(Waiting::Zones(picture, what, exit))) => {
                if over {
                    show(&picture, output);
                    output.complain(crate::layout::wrapped(&format!("error: not proven yet: {what}")));
                    return Ok(exit);
                }
                what
            }
            Ok(Err(trouble)) if trouble.kind != Kind::Silent || over => return Err(trouble),
            Ok(Err(trouble)) => format!("{}; asking again", trouble.what),
            Err(_) => {
                return Err(Trouble::new(
                    Kind::Silent,
                    "the coordinator did not answer before the time was over",
                    "see that it runs; traffic stays as it is meanwhile",
                ));
            }
        };
        if now != said {
            output.complain(crate::layout::wrapped(&format!("waiting: {now}")));
            said = now;
        }
        if over {
            output.complain(crate::layout::wrapped(&format!(
                "error: not proven after {}: {said}",
                span(SignedDuration::try_from(args.timeout).unwrap_or(SignedDuration::MAX))
            )));
            return Ok(Exit::Differs);
        }
    }
}

/// What is waited for.
enum Waiting {
    Commit(String),
    /// For what a commit took away to be gone from its zones: why, and how it ends if the time is over first.
    Zones(Box<Picture>, String, Exit),
    For(Box<Picture>),
}

/// Looks, once the commit that is asked for is in force: before that, a split that it brings need not exist.
async fn asked(client: &Client, scope: &Scope, args: &Args) -> Result<Waiting, Trouble> {
    if let Some(commit) = &args.commit
        && let Some(why) = picture::not_in_force(client, commit).await?
    {
        return Ok(Waiting::Commit(why));
    }
    let picture = picture::look(client, scope).await?;
    // What the commit took away is in no split's status any more, and in its zones for half a minute yet.
    if args.commit.is_some()
        && picture.exit() == Exit::Fine
        && let Some((why, exit)) = picture::left_in_zones(client, scope, &picture).await?
    {
        return Ok(Waiting::Zones(Box::new(picture), why, exit));
    }
    Ok(Waiting::For(Box::new(picture)))
}

/// Shows what is, again and again. What was last known is shown as stale while nobody answers.
async fn watch(client: &Client, scope: &Scope, output: &Output) -> Result<Exit, Trouble> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<(Picture, Timestamp)> = None;
    // What stands there now; none while it is shown as stale.
    let mut shown: Option<serde_json::Value> = None;
    loop {
        looks.tick().await;
        let written = match (picture::look(client, scope).await, &last) {
            (Ok(picture), _) => {
                let written = match shown.as_ref() == Some(&picture.value) && !redraws(output) {
                    true => Ok(()),
                    false => draw(&picture, output),
                };
                shown = Some(picture.value.clone());
                last = Some((picture, Timestamp::now()));
                written
            }
            (Err(trouble), Some((picture, at))) if trouble.kind == Kind::Silent => {
                let silence = Timestamp::now().duration_since(*at);
                let news = shown.take().is_some();
                if output.json {
                    // The API has no words for its own silence: standard output holds only what it said.
                    if news {
                        output.complain(trouble.text());
                    }
                    Ok(())
                } else if news || redraws(output) {
                    draw(&picture.aged(&trouble.what, silence), output)
                } else {
                    Ok(())
                }
            }
            (Err(trouble), _) => return Err(trouble),
        };
        if written.is_err() {
            // Nobody reads on.
            return Ok(Exit::Fine);
        }
    }
}

/// Whether each look replaces the last.
fn redraws(output: &Output) -> bool {
    !output.json && output.terminal() && output.color()
}

fn draw(picture: &Picture, output: &Output) -> std::io::Result<()> {
    if output.json {
        return output.write(format_args!("{}\n", picture.value));
    }
    let text = text::page(&picture.list, picture.clock);
    if redraws(output) {
        output.write(format_args!("\x1b[2J\x1b[H{text}"))
    } else {
        output.write(format_args!("{}\n{text}\n", picture.clock.now))
    }
}

/// How all of it stands: the worst.
fn worst(standings: impl IntoIterator<Item = Standing>) -> Option<Standing> {
    standings.into_iter().max()
}
