//! `weir zones`: zones and their agents.

use weir_wire::api::{AgentStatus, ZoneList, ZoneStatus};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::layout::{Page, Paint};
use crate::output::{Exit, Output};
use crate::status::{aside, paint, stands};

/// Flags of `weir zones`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 answered, 1 the coordinator cannot be asked, 2 asked wrongly.")]
pub struct Args {
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    args.connection.run(output, async |client| {
        let answer = client.get("v1/zones").await?;
        let list: ZoneList = answer.read()?;
        if output.json {
            output.print_json(&answer.value);
        } else {
            output.print(text(&list, answer.clock));
        }
        Ok(Exit::Fine)
    })
}

fn text(list: &ZoneList, clock: Clock) -> String {
    let mut page = Page::new();
    if list.zones.is_empty() {
        page.words(
            0,
            2,
            Paint::Plain,
            "no zones yet: no commit is in force, and no agent has joined",
        );
    }
    for zone in &list.zones {
        page.gap();
        self::zone(&mut page, zone, clock);
    }
    page.text()
}

fn zone(page: &mut Page, zone: &ZoneStatus, clock: Clock) {
    let standing = stands(zone.standing, zone.detached.is_some());
    let head = match &zone.reason {
        Some(why) => format!("{}: {standing}: {why}", zone.name),
        None => format!("{}: {standing}", zone.name),
    };
    let colour = match zone.detached {
        Some(_) => Paint::Yellow,
        None => paint(zone.standing),
    };
    page.words(0, 4, colour, &head);
    if let Some(why) = &zone.detached {
        page.words(2, 2, Paint::Yellow, &aside(why));
    }
    let kuma = match &zone.kuma {
        Some(version) => format!("Kuma {version}"),
        None => "Kuma not heard of".to_owned(),
    };
    let named = match zone.kuma_zone.is_empty() || zone.kuma_zone == zone.name {
        true => String::new(),
        false => format!(", zone {} there", zone.kuma_zone),
    };
    let generation = match zone.generation {
        0 => "no plan".to_owned(),
        n => format!("generation {n}"),
    };
    let text = format!("{}; {kuma}{named}; {generation}", zone.platform);
    page.words(2, 2, Paint::Plain, &text);
    if zone.agents.is_empty() {
        page.words(2, 2, Paint::Plain, "no agents");
    }
    for agent in &zone.agents {
        page.words(2, 2, Paint::Plain, &self::agent(agent, clock));
        for note in &agent.notes {
            page.words(4, 2, Paint::Yellow, &format!("note: {note}"));
        }
    }
}

fn agent(agent: &AgentStatus, clock: Clock) -> String {
    let connected = if agent.connected {
        "connected"
    } else {
        "not connected"
    };
    let heard = match &agent.heard_at {
        Some(at) => format!("heard {}", clock.ago(at)),
        None => "never heard".to_owned(),
    };
    let mut text = format!("agent {}: {connected}, {heard}", agent.name);
    if agent.generation > 0 {
        text.push_str(&format!(", generation {}", agent.generation));
    }
    if !agent.version.is_empty() {
        text.push_str(&format!(", version {}", agent.version));
    }
    if let Some(at) = &agent.certificate_expires {
        text.push_str(&format!(", certificate ends {}", clock.until(at)));
    }
    text
}
