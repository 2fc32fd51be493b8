//! Plans in words: lists, places, matches, and lines of at most 80 columns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

use weir_model::{BackendName, BasisPoints, Door, Entry, Match, PathMatch, Protocol, ValueMatch, Via};

use crate::facts::ProvenWeights;
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

/// `eks 20 %, vm 80 %`, of several routes each with its name; who has nothing is left out.
pub(crate) fn weights(of: &ProvenWeights) -> String {
    let route = |weights: &BTreeMap<BackendName, BasisPoints>| {
        let weights = weights.iter().filter(|(_, weight)| **weight > BasisPoints::ZERO);
        list(
            &weights
                .map(|(name, weight)| format!("{name} {weight} %"))
                .collect::<Vec<_>>(),
        )
    };
    match of.values().next() {
        Some(only) if of.len() == 1 => route(only),
        _ => {
            let routes = of
                .iter()
                .map(|(name, weights)| format!("{name}: {}", route(weights)));
            routes.collect::<Vec<_>>().join("; ")
        }
    }
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

/// A door: which requests, and who carries the weights.
pub(crate) fn door(door: &Door) -> String {
    let entry = match &door.entry {
        Entry::Service(name) => format!("service {name} of the base"),
        Entry::HttpRoute(name) => format!("HTTPRoute {name}"),
        Entry::Routes(routing) => {
            let or_any = |set: &BTreeSet<String>, any: &str| match set.is_empty() {
                true => any.to_owned(),
                false => set.iter().cloned().collect::<Vec<_>>().join(" "),
            };
            let mut text = format!(
                "{}, {}",
                or_any(&routing.hosts, "any host"),
                or_any(&routing.paths, "any path")
            );
            if !routing.methods.is_empty() {
                let _ = write!(text, ", {}", or_any(&routing.methods, ""));
            }
            for (name, values) in &routing.headers {
                let _ = write!(text, ", {name}: {}", or_any(values, ""));
            }
            text
        }
    };
    match &door.via {
        Via::Mesh(address) => format!("{entry}; the mesh carries the weights, by {address}"),
        Via::Addresses(_) => format!("{entry}; Kong carries the weights"),
    }
}
