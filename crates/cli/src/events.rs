//! `weir events`: what happened, and what happens.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::timeout;
use weir_link::Backoff;
use weir_link::backoff::random;
use weir_wire::api::Event;

use crate::client::Client;
use crate::connection::Connection;
use crate::layout::{Page, Paint, clean, wrapped};
use crate::output::{Exit, Output};
use crate::sse;
use crate::trouble::{Kind, Trouble};

/// Flags of `weir events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --json each event is one line.

Exit codes: 0 answered, 1 the coordinator cannot be asked, 2 asked wrongly.")]
pub struct Args {
    /// Keep showing events as they happen; a lost connection is taken up again where it broke.
    #[arg(short, long)]
    pub follow: bool,
    /// Begin after the event of this number, 0 for the first; without it, with the last 100.
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

/// The coordinator does not say where the past ends: it does where nothing more comes for so long.
const QUIET: Duration = Duration::from_secs(1);

const RESUME: Backoff = Backoff {
    first: Duration::from_millis(500),
    most: Duration::from_secs(5),
};

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    args.connection.run(output, async |client| {
        if args.follow {
            follow(&client, args.after, output).await
        } else {
            past(&client, args.after, output).await
        }
    })
}

async fn past(client: &Client, after: Option<u64>, output: &Output) -> Result<Exit, Trouble> {
    let mut reading = Reading::open(client, after).await?;
    let mut any = false;
    while let Ok(next) = timeout(QUIET, reading.next(client)).await {
        let Some(event) = next? else { break };
        any = true;
        if show(&event, output).is_err() {
            return Ok(Exit::Fine);
        }
    }
    if !any && !output.json {
        output.print("no events\n");
    }
    Ok(Exit::Fine)
}

async fn follow(client: &Client, mut after: Option<u64>, output: &Output) -> Result<Exit, Trouble> {
    let mut reading = Reading::open(client, after).await?;
    loop {
        let lost = loop {
            match reading.next(client).await {
                Ok(Some(event)) => {
                    after = Some(event.event.id);
                    if show(&event, output).is_err() {
                        return Ok(Exit::Fine);
                    }
                }
                Ok(None) => break "the coordinator ended the stream".to_owned(),
                Err(trouble) if trouble.kind == Kind::Silent => break trouble.what,
                Err(trouble) => return Err(trouble),
            }
        };
        let from = after.map(|id| format!(" after event {id}")).unwrap_or_default();
        output.complain(wrapped(&format!("{lost}; going on{from} as soon as it is back")));
        reading = resumed(client, after).await?;
    }
}

/// Takes the stream up again. Who refuses will not think better of it; who is silent may come back.
async fn resumed(client: &Client, after: Option<u64>) -> Result<Reading, Trouble> {
    let mut attempt = 0;
    loop {
        tokio::time::sleep(RESUME.wait(attempt, random())).await;
        match Reading::open(client, after).await {
            Err(trouble) if trouble.kind == Kind::Silent => attempt = attempt.saturating_add(1),
            other => return other,
        }
    }
}

/// One event: as it came, and understood.
struct Shown {
    value: serde_json::Value,
    event: Event,
}

fn show(shown: &Shown, output: &Output) -> std::io::Result<()> {
    if output.json {
        return output.write(format_args!("{}\n", shown.value));
    }
    output.write(text(&shown.event))
}

fn text(event: &Event) -> String {
    let mut page = Page::new();
    let paint = match event.kind.as_str() {
        "commit.refused" | "source.unreachable" | "zone.held" | "zone.overridden" | "zone.pinned"
        | "zone.failed" | "zone.different" | "zone.contested" | "mesh.gone" | "service.vanished"
        | "backend.down" => Paint::Red,
        "zone.proven" | "mesh.back" | "service.back" | "backend.up" => Paint::Green,
        "agent.gone" | "transition.unjudged" => Paint::Yellow,
        _ => Paint::Bold,
    };
    let at: String = event.at.chars().take(19).collect();
    let mut head = format!("{} {}", at.replace('T', " "), event.kind);
    if let Some(generation) = event.generation {
        head.push_str(&format!(", generation {generation}"));
    }
    page.words(0, 2, paint, &format!("{} {}", event.id, clean(&head)));
    page.words(2, 2, Paint::Plain, &event.message);
    page.text()
}

/// A stream that is being read.
struct Reading {
    response: reqwest::Response,
    reader: sse::Reader,
    ready: VecDeque<sse::Sent>,
}

impl Reading {
    async fn open(client: &Client, after: Option<u64>) -> Result<Self, Trouble> {
        let response = client.stream("v1/events", after).await?;
        Ok(Self {
            response,
            reader: sse::Reader::default(),
            ready: VecDeque::new(),
        })
    }

    /// The next event; none when the stream ended.
    async fn next(&mut self, client: &Client) -> Result<Option<Shown>, Trouble> {
        let strange = |why: String| {
            Trouble::new(
                Kind::Refused,
                "an event is not understood",
                "the coordinator may be of another version: compare `weir --version` with the coordinator's",
            )
            .because(why)
        };
        loop {
            if let Some(sent) = self.ready.pop_front() {
                let value: serde_json::Value =
                    serde_json::from_str(&sent.data).map_err(|error| strange(error.to_string()))?;
                let event =
                    serde_json::from_value(value.clone()).map_err(|error| strange(error.to_string()))?;
                return Ok(Some(Shown { value, event }));
            }
            match self.response.chunk().await {
                Ok(None) => return Ok(None),
                Err(error) => return Err(client.trouble(&error)),
                Ok(Some(bytes)) => {
                    let sent = self
                        .reader
                        .take(&bytes)
                        .map_err(|error| strange(error.to_string()))?;
                    self.ready.extend(sent);
                }
            }
        }
    }
}
