//! `weir history`: commits and what became of them; of one split, the steps that it took.

use jiff::Timestamp;
use weir_model::{Diagnostic, Severity, SplitName};
use weir_wire::api::{CommitList, CommitRecord, Event, RouteWeights, SourceStatus, SplitHistory, SplitStep};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::layout::{Page, Paint, short, wrapped};
use crate::output::{Exit, Output};

/// Flags of `weir history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 answered, 1 the coordinator cannot be asked, 2 asked wrongly.")]
pub struct Args {
    /// Show the steps of this split instead of commits.
    #[arg(value_name = "SPLIT")]
    pub split: Option<String>,
    /// How many commits or steps to show, newest first (of a split 200 at the most).
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    if let Some(split) = &args.split {
        return steps(args, split, output);
    }
    args.connection.run(output, async |client| {
        let answer = client.get(&format!("v1/commits?limit={}", args.limit)).await?;
        let list: CommitList = answer.read()?;
        if output.json {
            output.print_json(&answer.value);
        } else {
            output.print(text(&list, answer.clock));
        }
        Ok(Exit::Fine)
    })
}

fn steps(args: &Args, split: &str, output: &Output) -> Exit {
    if let Err(wrong) = SplitName::new(split) {
        output.complain(wrapped(&format!(
            "error: `{split}` is no name of a split: {wrong}"
        )));
        return Exit::Usage;
    }
    args.connection.run(output, async |client| {
        let path = format!("v1/splits/{split}/history?limit={}", args.limit.min(200));
        let answer = client.get(&path).await?;
        let history: SplitHistory = answer.read()?;
        if output.json {
            output.print_json(&answer.value);
        } else {
            output.print(told(&history, answer.clock));
        }
        Ok(Exit::Fine)
    })
}

fn told(history: &SplitHistory, clock: Clock) -> String {
    let mut page = Page::new();
    page.words(0, 2, Paint::Bold, &history.name);
    // Both newest first: what happened after a step stands above it, and so does the order that it obeys.
    let mut events = history.events.iter().peekable();
    let at = |text: &str| text.parse::<Timestamp>().ok();
    for step in &history.steps {
        while let Some(event) = events.next_if(|event| at(&event.at) >= at(&step.created)) {
            between(&mut page, event, clock);
        }
        page.gap();
        self::step(&mut page, step, clock);
    }
    for event in events {
        between(&mut page, event, clock);
    }
    if let Some(note) = &history.note {
        page.gap();
        page.words(0, 2, Paint::Dim, note);
    }
    page.text()
}

fn between(page: &mut Page, event: &Event, clock: Clock) {
    page.gap();
    let text = format!(
        "{}, {}: {}",
        moment(&event.at),
        clock.ago(&event.at),
        event.message
    );
    let paint = match event.kind.as_str() {
        "backend.up" | "zone.unpinned" => Paint::Green,
        "backend.down" | "zone.pinned" => Paint::Red,
        _ => Paint::Yellow,
    };
    page.words(0, 2, paint, &text);
}

fn step(page: &mut Page, step: &SplitStep, clock: Clock) {
    let paint = match step.step.starts_with("return") || step.step.contains("quarantined") {
        true => Paint::Yellow,
        false => Paint::Green,
    };
    let head = format!("generation {}: {}", step.generation, step.step);
    page.words(0, 2, paint, &head);
    let told = shares(&step.told);
    if !told.is_empty() {
        page.words(2, 2, Paint::Plain, &format!("told {told}"));
    }
    let mut of = format!("commit {}", short(&step.commit));
    if let Some(subject) = &step.subject {
        of.push_str(&format!(" \"{subject}\""));
    }
    if let Some(author) = &step.author {
        of.push_str(&format!(" by {author}"));
        of.push_str(&beside(
            author,
            step.committer.as_deref(),
            step.signature.as_deref(),
        ));
    }
    if !step.commit.is_empty() {
        page.words(2, 2, Paint::Dim, &of);
    }
    let made = format!("{}, {}", moment(&step.created), clock.ago(&step.created));
    page.words(2, 2, Paint::Plain, &made);
    // A coordinator of a version before this one says only when zones had proven all of the plan.
    let mut zones: Vec<&String> = step
        .received
        .keys()
        .chain(step.proven.keys())
        .chain(step.idle.keys())
        .collect();
    zones.sort();
    zones.dedup();
    for zone in zones {
        let stages = [
            ("received", &step.received),
            ("applied", &step.applied),
            ("proven", &step.proven),
        ];
        let reached = stages.iter().filter_map(|(what, at)| {
            let at = at.get(zone)?;
            Some(format!("{what} {}", after(&step.created, at)))
        });
        let mut words: Vec<String> = reached.collect();
        match (step.proven.contains_key(zone), step.idle.get(zone)) {
            (true, _) => {}
            (false, Some(at)) => {
                words.push(format!("called by nobody, as seen {}", after(&step.created, at)));
            }
            (false, None) => words.push("not proven".to_owned()),
        }
        page.words(4, 2, Paint::Plain, &format!("{zone} {}", words.join(", ")));
    }
}

/// What there is to say of a commit beside its author: who committed it, if that was somebody else, and its signature.
fn beside(author: &str, committer: Option<&str>, signature: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(committer) = committer.filter(|committer| *committer != author) {
        text.push_str(&format!(", committed by {committer}"));
    }
    match signature {
        Some("present") => text.push_str(", signed (not verified)"),
        Some("none") => text.push_str(", not signed"),
        _ => {}
    }
    text
}

/// `eks 50 %, vm 50 %`; by zone where zones are told different things.
fn shares(told: &std::collections::BTreeMap<String, RouteWeights>) -> String {
    let words = |routes: &RouteWeights| -> String {
        let several = routes.len() > 1;
        let routes = routes.iter().map(|(route, weights)| {
            let weights: Vec<String> = weights
                .iter()
                .map(|(name, w)| format!("{name} {} %", w.0))
                .collect();
            match several {
                true => format!("{route}: {}", weights.join(", ")),
                false => weights.join(", "),
            }
        });
        routes.collect::<Vec<_>>().join("; ")
    };
    let mut places: Vec<(String, Vec<&str>)> = Vec::new();
    for (zone, routes) in told {
        let text = words(routes);
        match places.iter_mut().find(|(known, _)| *known == text) {
            Some((_, zones)) => zones.push(zone),
            None => places.push((text, vec![zone])),
        }
    }
    let alone = places.len() == 1;
    let parts = places.into_iter().map(|(text, zones)| match alone {
        true => text,
        false => format!("{text} in {}", zones.join(", ")),
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn text(list: &CommitList, clock: Clock) -> String {
    let mut page = Page::new();
    for source in &list.sources {
        self::source(&mut page, source, clock);
    }
    for commit in &list.commits {
        page.gap();
        self::commit(&mut page, commit, clock);
    }
    if list.commits.is_empty() {
        page.gap();
        page.words(0, 2, Paint::Plain, "no commits yet");
    }
    page.text()
}

fn source(page: &mut Page, source: &SourceStatus, clock: Clock) {
    let text = format!("source {}: {}, branch {}", source.name, source.url, source.branch);
    page.words(0, 2, Paint::Bold, &text);
    let mut text = match &source.in_force {
        Some(commit) => format!("in force {}", short(commit)),
        None => "nothing in force".to_owned(),
    };
    if source.head != source.in_force
        && let Some(head) = &source.head
    {
        text.push_str(&format!(", newest {}", short(head)));
    }
    if let Some(at) = &source.checked_at {
        text.push_str(&format!(", looked at {}", clock.ago(at)));
    }
    page.words(2, 2, Paint::Plain, &text);
    if let Some(why) = &source.rewound {
        page.words(2, 2, Paint::Yellow, why);
    }
    if let Some(error) = &source.error {
        page.words(2, 2, Paint::Red, &format!("cannot be read: {error}"));
    }
}

fn commit(page: &mut Page, commit: &CommitRecord, clock: Clock) {
    let verdict = match commit.generation {
        Some(generation) => format!("{}, generation {generation}", commit.verdict),
        None if commit.verdict == "taken" => "taken, changed nothing".to_owned(),
        None => commit.verdict.clone(),
    };
    let paint = match commit.verdict.as_str() {
        "taken" => Paint::Green,
        _ => Paint::Red,
    };
    page.words(
        0,
        2,
        paint,
        &format!(
            "{} {verdict}, seen {}",
            short(&commit.commit),
            clock.ago(&commit.seen_at)
        ),
    );
    page.words(2, 2, Paint::Plain, &commit.subject);
    page.words(
        2,
        2,
        Paint::Dim,
        &format!(
            "{}, {}, source {}{}",
            commit.author,
            moment(&commit.authored_at),
            commit.source,
            beside(
                &commit.author,
                commit.committer.as_deref(),
                commit.signature.as_deref()
            )
        ),
    );
    for diagnostic in &commit.diagnostics {
        self::diagnostic(page, diagnostic);
    }
    let proven: Vec<String> = commit
        .proven
        .iter()
        .map(|(zone, at)| format!("{zone} {}", after(&commit.seen_at, at)))
        .collect();
    if !proven.is_empty() {
        page.words(2, 2, Paint::Plain, &format!("proven in {}", proven.join(", ")));
    }
}

fn diagnostic(page: &mut Page, diagnostic: &Diagnostic) {
    let (severity, paint) = match diagnostic.severity {
        Severity::Error => ("error", Paint::Red),
        Severity::Warning => ("warning", Paint::Yellow),
    };
    let place = diagnostic
        .labels
        .first()
        .map(|label| format!(" ({}:{}:{})", label.file, label.span.line, label.span.column));
    let text = format!(
        "{severity}[{}]: {}{}",
        diagnostic.code,
        diagnostic.message,
        place.unwrap_or_default()
    );
    page.words(2, 2, paint, &text);
    if let Some(help) = &diagnostic.help {
        page.words(4, 2, Paint::Plain, &format!("help: {help}"));
    }
}

/// `2026-11-24 11:50:00 UTC`; what is no time, as it is.
fn moment(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// `after 1.2 s`, from when the commit was seen; the time itself where it cannot be said so.
fn after(seen: &str, proven: &str) -> String {
    let (Ok(seen), Ok(at)) = (seen.parse::<Timestamp>(), proven.parse::<Timestamp>()) else {
        return format!("at {proven}");
    };
    let took = at.duration_since(seen);
    match took.as_millis() {
        ..0 => format!("at {proven}"),
        millis @ 0..60_000 => format!("after {}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("after {}", crate::clock::span(took)),
    }
}
