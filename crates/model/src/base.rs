//! A gateway's base: the Kong document that a site keeps itself, from YAML to JSON with nothing of it lost or turned into
//! something else.
//!
//! Kong reads YAML 1.1, declarations are YAML 1.2, and JSON is what Kong is sent. What the two versions read differently
//! (`yes`, `017`, `1:30`) is refused here: a flag must not become a word on its way. Pure, like all of this room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use crate::codes;
use crate::diagnostic::Span;
use crate::reader::{Reader, shown};
use crate::yaml::{Entry, Node, Scalar, Value, documents};

/// The only version that bases are kept in: paths mean something else in older ones.
const VERSION: &str = "3.0";

/// What the names and tags begin with that Weir gives to its own entities.
const OURS: &str = "weir.";

/// A base as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// The document.
    pub(crate) document: Json,
    /// Where its entities stand.
    pub(crate) entities: Arc<Entities>,
}

/// The lines of what a base has of one kind and name, as Kong calls it: `service `shop``.
pub(crate) type Entities = BTreeMap<String, BTreeSet<usize>>;

/// Reads one; none if anything in it is wrong, which is told.
pub(crate) fn read(reader: &mut Reader<'_>, text: &str) -> Option<Read> {
    let before = reader.diagnostics.len();
    let (documents, problems) = documents(text);
    for problem in problems {
        reader.error(
            problem.code,
            &problem.span,
            problem.message,
            &problem.label,
            problem.help,
        );
    }
    let start = Span {
        start: 0,
        end: 0,
        line: 1,
        column: 1,
    };
    let [document] = documents.as_slice() else {
        let place = documents.get(1).map_or(&start, |second| &second.root.span);
        refuse(
            reader,
            place,
            "a base is exactly one document",
            "keep one document in this file",
        );
        return None;
    };
    let root = &document.root;
    let Value::Mapping(entries) = &root.value else {
        refuse(
            reader,
            &root.span,
            "a base is a mapping of Kong's entities",
            "write Kong's declarative configuration, such as `services:` with a list below",
        );
        return None;
    };
    version(reader, root, entries);
    let document = json(reader, root, "the base");
    let mut found = Entities::new();
    entities(root, &mut found);
    (reader.diagnostics.len() == before).then_some(Read {
        document,
        entities: Arc::new(found),
    })
}

/// Entities at any depth, by every field by which Kong may name one. A list of them has the name of their kind, with an `s`.
fn entities(node: &Node, found: &mut Entities) {
    let Value::Mapping(entries) = &node.value else {
        return;
    };
    for entry in entries {
        let Value::Sequence(items) = &entry.value.value else {
            continue;
        };
        let kind = entry.key.strip_suffix('s').unwrap_or(&entry.key);
        for item in items {
            let Value::Mapping(fields) = &item.value else {
                continue;
            };
            let names = fields
                .iter()
                .filter(|field| matches!(field.key.as_str(), "name" | "username" | "id" | "target"));
            for name in names {
                if let Some(Scalar::Text(name)) = name.value.scalar() {
                    let lines = found.entry(format!("{kind} `{name}`")).or_default();
                    lines.insert(item.span.line);
                }
            }
            entities(item, found);
        }
    }
}

fn version(reader: &mut Reader<'_>, root: &Node, entries: &[Entry]) {
    let given = entries.iter().find(|entry| entry.key == "_format_version");
    let is = given.map(|entry| entry.value.scalar());
    if is != Some(Some(Scalar::Text(VERSION))) {
        let span = given.map_or(&root.span, |entry| &entry.value.span);
        refuse(
            reader,
            span,
            "a base has `_format_version: \"3.0\"`, in quotes",
            "set it; `deck file convert` brings an older document to it",
        );
    }
    if let Some(info) = entries.iter().find(|entry| entry.key == "_info") {
        refuse(
            reader,
            &info.key_span,
            "`_info` is decK's own, and Kong refuses it",
            "remove `_info`",
        );
    }
}

fn refuse(reader: &mut Reader<'_>, span: &Span, why: &str, help: &str) {
    reader.error(
        codes::BAD_BASE,
        span,
        why,
        "not a base that Weir can add to",
        help,
    );
}

/// The same value as JSON, keys ascending.
fn json(reader: &mut Reader<'_>, node: &Node, what: &str) -> Json {
    match &node.value {
        Value::Unreadable => Json::Null,
        Value::Sequence(items) => Json::Array(items.iter().map(|item| json(reader, item, what)).collect()),
        Value::Mapping(_) => {
            let mut entries = reader.entries(node, what).unwrap_or_default();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            let mut map = Map::new();
            for entry in entries {
                // A key is text to Weir in any case; to Kong `on:` is a truth value.
                if is_ambiguous(&entry.key) {
                    ambiguous(reader, &entry.key_span, &entry.key);
                }
                ours(reader, entry);
                let value = json(reader, &entry.value, &format!("`{}`", shown(&entry.key)));
                map.insert(entry.key.clone(), value);
            }
            Json::Object(map)
        }
        Value::Scalar { text, plain } => {
            if *plain && is_ambiguous(text) {
                ambiguous(reader, &node.span, text);
                return Json::Null;
            }
            match node.scalar() {
                Some(Scalar::Bool(value)) => Json::Bool(value),
                Some(Scalar::Number(text)) => number(reader, node, text),
                Some(Scalar::Text(text)) => Json::String(text.to_owned()),
                Some(Scalar::Null) | None => Json::Null,
            }
        }
    }
}

fn number(reader: &mut Reader<'_>, node: &Node, text: &str) -> Json {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let whole = match unsigned.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => unsigned.parse::<i64>().ok(),
    };
    let number = match whole {
        Some(whole) => Some(Number::from(whole)),
        None => unsigned.parse::<f64>().ok().and_then(Number::from_f64),
    };
    if let Some(number) = number {
        return Json::Number(number);
    }
    refuse(
        reader,
        &node.span,
        &format!("`{}` is no number that JSON has", shown(text)),
        "write it as a decimal number, or in quotes if it is text",
    );
    Json::Null
}

fn ambiguous(reader: &mut Reader<'_>, span: &Span, text: &str) {
    refuse(
        reader,
        span,
        &format!("`{}` is not the same to every reader of YAML", shown(text)),
        "write `true`, `false` or a decimal number, or put it in quotes if it is text",
    );
}

/// What YAML 1.1, which Kong reads, takes for a truth value or for another number than YAML 1.2 does.
fn is_ambiguous(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "y" | "yes" | "n" | "no" | "on" | "off") {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digit = |b: u8| b.is_ascii_digit();
    let begins_with_digit = unsigned.bytes().next().is_some_and(digit);
    let numeric = |b: u8| digit(b) || b == b'_' || b == b'.';
    let octal = unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.bytes().all(digit);
    let underscored = begins_with_digit && unsigned.contains('_') && unsigned.bytes().all(numeric);
    let prefixed = unsigned.starts_with("0b") || unsigned.starts_with("0o");
    let sexagesimal = begins_with_digit
        && unsigned.contains(':')
        && unsigned
            .split(':')
            .all(|part| !part.is_empty() && part.bytes().all(numeric));
    octal || underscored || (prefixed && unsigned[2..].bytes().all(numeric)) || sexagesimal
}

/// A name or a tag that Weir gives to its own: with it Weir could not tell what is the site's.
fn ours(reader: &mut Reader<'_>, entry: &Entry) {
    let mut claimed = Vec::new();
    let text = |node: &Node| match node.scalar() {
        Some(Scalar::Text(text)) => Some(text.to_owned()),
        _ => None,
    };
    match (entry.key.as_str(), &entry.value.value) {
        ("name", _) => claimed.extend(text(&entry.value).map(|text| (text, entry.value.span.clone()))),
        ("tags", Value::Sequence(tags)) => {
            claimed.extend(tags.iter().filter_map(|tag| Some((text(tag)?, tag.span.clone()))));
        }
        _ => {}
    }
    for (text, span) in claimed {
        if text.starts_with(OURS) || (entry.key == "tags" && text.starts_with("weir")) {
            refuse(
                reader,
                &span,
                &format!(
                    "`{}` is a name or a tag as Weir gives them to its own",
                    shown(&text)
                ),
                "use another one: by these Weir tells what it may change",
            );
        }
    }
}
