//! What `weir plan` says: to people, in colour and 80 columns; to programs, as JSON whose fields are only ever added.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};
use weir_model::{ServiceName, ZoneName};
use weir_planner::Explanation;
use weir_planner::explain::{Effect, Reason};
use weir_wire::api::SplitList;

use super::objects::{Action, BOOKKEEPING, ObjectChange};
use super::unified::{self, Line};
use super::{Side, yaml};

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";
const COLUMNS: usize = 80;

/// Everything about a change that is not refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report<'a> {
    refused: bool,
    from: At<'a>,
    to: At<'a>,
    /// Whether anything changes in any zone.
    changes: bool,
    #[serde(flatten)]
    explanation: Explanation,
    objects: Vec<ObjectChange>,
    /// Listeners that are replaced: connections open on them are closed 30 s later.
    closes: Vec<Closes>,
    diagnostics: Value,
}

#[derive(Debug, Serialize)]
struct At<'a> {
    revision: &'a str,
    commit: &'a str,
}

#[derive(Debug, Serialize)]
struct Closes {
    service: ServiceName,
    port: u16,
    zones: Vec<ZoneName>,
    /// What callers have open now, by zone: requests, for tcp connections. Only where a coordinator was asked, and its agents
    /// count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<ZoneName, u64>,
}

/// A side that cannot be planned, for programs.
pub(crate) fn refused(side: &Side, reasons: &[String]) -> Value {
    json!({
        "refused": true,
        "revision": side.name,
        "commit": side.commit.commit,
        "reasons": reasons,
        "diagnostics": diagnostics(side),
    })
}

/// In the form of `weir check --json`.
fn diagnostics(side: &Side) -> Value {
    let mut told = weir_model::report::json(&side.diagnostics, &side.files);
    told["diagnostics"].take()
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        from: &'a Side,
        to: &'a Side,
        explanation: Explanation,
        objects: Vec<ObjectChange>,
    ) -> Self {
        let at = |side: &'a Side| At {
            revision: &side.name,
            commit: &side.commit.commit.0,
        };
        Self {
            refused: false,
            from: at(from),
            to: at(to),
            changes: !explanation.diff.is_empty(),
            closes: closes(&explanation.reasons),
            explanation,
            objects,
            diagnostics: diagnostics(to),
        }
    }

    /// Takes in what callers have open now.
    pub(crate) fn live(&mut self, list: &SplitList) {
        for closes in &mut self.closes {
            let mut splits = list.splits.iter();
            let Some(split) =
                splits.find(|split| split.service == closes.service.as_str() && split.port == closes.port)
            else {
                continue;
            };
            let open = closes.zones.iter().filter_map(|name| {
                let zone = split.zones.iter().find(|zone| zone.zone == name.as_str())?;
                Some((name.clone(), zone.open?))
            });
            closes.open = open.collect();
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        put(
            &mut text,
            BOLD,
            &format!("{} -> {}", self.from.revision, self.to.revision),
        );
        if !self.changes {
            put(&mut text, "", "nothing changes in any zone");
            return text;
        }
        text.push('\n');
        for line in self.explanation.to_string().lines() {
            let color = if line.starts_with(' ') { "" } else { BOLD };
            put(&mut text, color, line);
        }
        for object in &self.objects {
            text.push('\n');
            self.object(&mut text, object);
        }
        text.push('\n');
        self.summary(&mut text);
        text
    }

    fn object(&self, text: &mut String, object: &ObjectChange) {
        let verb = match object.action {
            Action::Create => "create",
            Action::Change => "change",
            Action::Remove => "remove",
        };
        let zones: Vec<String> = object.zones.iter().map(ToString::to_string).collect();
        let head = format!(
            "{}: {verb} {} {} in mesh {}",
            zones.join(", "),
            object.kind.name(),
            object.name,
            object.mesh
        );
        put(text, BOLD, &head);
        if object.action == Action::Remove {
            return; // what goes is known, and long
        }
        let side = |document: &Option<Value>| document.as_ref().map(yaml::document).unwrap_or_default();
        let (before, after) = (side(&object.before), side(&object.after));
        put(text, RED, &format!("--- {}", self.from.revision));
        put(text, GREEN, &format!("+++ {}", self.to.revision));
        for line in unified::diff(&before, &after) {
            match line {
                Line::Hunk { was, is } => {
                    put(
                        text,
                        CYAN,
                        &format!("@@ -{},{} +{},{} @@", was.0, was.1, is.0, is.1),
                    );
                }
                Line::Same(line) => cut(text, "", ' ', line),
                Line::Gone(line) => cut(text, RED, '-', line),
                Line::New(line) => cut(text, GREEN, '+', line),
            }
        }
    }

    fn summary(&self, text: &mut String) {
        let count = |action| {
            let objects = self.objects.iter().filter(|object| object.action == action);
            objects.map(|object| object.zones.len()).sum::<usize>()
        };
        put(
            text,
            BOLD,
            &format!(
                "{} to create, {} to change, {} to remove.",
                count(Action::Create),
                count(Action::Change),
                count(Action::Remove)
            ),
        );
        if self.closes.is_empty() {
            put(text, "", "Price: none, no listener is replaced.");
        } else {
            put(
                text,
                "",
                "Price: 30 s after the change, open connections are closed on",
            );
            for closes in &self.closes {
                let zone = |name: &ZoneName| match closes.open.get(name) {
                    Some(open) => format!("{name} ({open} open now)"),
                    None => name.to_string(),
                };
                let zones: Vec<String> = closes.zones.iter().map(zone).collect();
                put(
                    text,
                    "",
                    &format!(
                        "  {} port {} in {}",
                        closes.service,
                        closes.port,
                        zones.join(", ")
                    ),
                );
            }
        }
        if !self.objects.is_empty() {
            put(
                text,
                "",
                &format!("Not shown: the labels {}.", BOOKKEEPING.join(", ")),
            );
        }
    }
}

fn closes(reasons: &[Reason]) -> Vec<Closes> {
    let mut all: Vec<Closes> = Vec::new();
    for reason in reasons {
        for effect in &reason.effects {
            let (Effect::ClosesConnections { service, port } | Effect::FallsToKuma { service, port, .. }) =
                effect
            else {
                continue;
            };
            match all
                .iter_mut()
                .find(|closes| closes.service == *service && closes.port == *port)
            {
                Some(closes) => closes.zones.extend(reason.zones.iter().cloned()),
                None => all.push(Closes {
                    service: service.clone(),
                    port: *port,
                    zones: reason.zones.clone(),
                    open: BTreeMap::new(),
                }),
            }
        }
    }
    for closes in &mut all {
        closes.zones.sort();
        closes.zones.dedup();
    }
    all
}

/// A line of words for standard error, broken where it is longer than 80 columns.
pub(crate) fn wrapped(line: &str) -> String {
    let mut text = String::new();
    put(&mut text, "", line);
    text
}

/// A line of words, broken between words where it is longer than 80 columns; what goes on is indented.
fn put(text: &mut String, color: &str, line: &str) {
    let words = line.trim_start();
    let indent = line.len() - words.len();
    let mut row = " ".repeat(indent);
    for (at, word) in words.split(' ').enumerate() {
        if at > 0 && row.chars().count() + 1 + word.chars().count() > COLUMNS {
            painted(text, color, &row);
            row = " ".repeat(indent + 2);
        } else if at > 0 {
            row.push(' ');
        }
        row.push_str(word);
    }
    painted(text, color, &row);
}

/// A line of a diff. What is longer than 80 columns goes on below, after the same sign and a `\`.
fn cut(text: &mut String, color: &str, sign: char, line: &str) {
    let characters: Vec<char> = line.chars().collect();
    let mut rest = &characters[..];
    let mut first = true;
    while first || !rest.is_empty() {
        let mark = if first { String::new() } else { "\\ ".to_owned() };
        let room = COLUMNS - 1 - mark.len();
        let (now, later) = rest.split_at(rest.len().min(room));
        painted(
            text,
            color,
            &format!("{sign}{mark}{}", now.iter().collect::<String>()),
        );
        (rest, first) = (later, false);
    }
}

fn painted(text: &mut String, color: &str, line: &str) {
    // writing to a String cannot fail
    let _ = if color.is_empty() {
        writeln!(text, "{line}")
    } else {
        writeln!(text, "{color}{line}{PLAIN}")
    };
}
