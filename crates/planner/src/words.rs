//! Plans in words: lists, places, matches, and lines of at most 80 columns.

use std::fmt::Display;

use weir_model::{Match, PathMatch, Protocol, ValueMatch};

use crate::plan::Destination;

const COLUMNS: usize = 80;

/// Lines of at most 80 columns; longer text goes on below, indented two more.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn put(&mut self, indent: usize, text: &str) {
        let mut column = 0;
        for (at, word) in text.split(' ').enumerate() {
            let width = word.chars().count();
            if at == 0 {
                self.0.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else if column + 1 + width > COLUMNS {
                self.0.push('\n');
                self.0.extend(std::iter::repeat_n(' ', indent + 2));
                column = indent + 2;
            } else {
                self.0.push(' ');
                column += 1;
            }
            self.0.push_str(word);
            column += width;
        }
        self.0.push('\n');
    }

    pub(crate) fn gap(&mut self) {
        self.0.push('\n');
    }

    /// All lines, each ended.
    pub(crate) fn text(self) -> String {
        self.0
    }
}

pub(crate) fn list<T: Display>(of: &[T]) -> String {
    let texts: Vec<String> = of.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

pub(crate) fn place(at: &Destination) -> String {
    let mut text = at.zone.to_string();
    if let Some(namespace) = &at.namespace {
        text = format!("{text}/{namespace}");
    }
    if at.kuma_zone.as_str() != at.zone.as_str() {
        text = format!("{text} ({} in Kuma)", at.kuma_zone);
    }
    text
}

pub(crate) fn protocol(of: Protocol) -> &'static str {
    match of {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    }
}

pub(crate) fn matches(of: &Match) -> String {
    let mut parts = Vec::new();
    match &of.path {
        None => {}
        Some(PathMatch::Exact(path)) => parts.push(format!("path {path}")),
        Some(PathMatch::Prefix(path)) => parts.push(format!("paths below {path}")),
        Some(PathMatch::Regex(path)) => parts.push(format!("paths like {path}")),
    }
    parts.extend(of.method.iter().map(|method| format!("method {method}")));
    let named = |kind: &str, name: &str, value: &ValueMatch| match value {
        ValueMatch::Exact(value) => format!("{kind} {name}={value}"),
        ValueMatch::Regex(value) => format!("{kind} {name} like {value}"),
    };
    parts.extend(
        of.headers
            .iter()
            .map(|header| named("header", &header.name, &header.value)),
    );
    parts.extend(
        of.query
            .iter()
            .map(|query| named("query", &query.name, &query.value)),
    );
    if parts.is_empty() {
        "everything".to_owned()
    } else {
        parts.join(" and ")
    }
}
