//! A route's match: paths, methods, headers, query parameters, and what no request can ever have.
//!
//! Changed with `shape.rs`, and when it is found out that a mesh or gateway reads a match differently.

use std::collections::BTreeMap;

use crate::codes;
use crate::declaration::{HeaderMatch, Match, PathMatch, Place, QueryMatch, ValueMatch};
use crate::diagnostic::Diagnostic;
use crate::limits;
use crate::nearest::nearest;
use crate::pattern;
use crate::reader::{Fields, Reader, shown};
use crate::shape::{self, Shape};
use crate::yaml::{Entry, Node, Value};

/// The header of the anchor rule that keeps all backends of a split referenced: no request may carry it.
pub const ANCHOR_HEADER: &str = "x-weir-anchor";

/// Reads a match; `None` when a part of it could not be read (all problems are reported).
pub(crate) fn read_match(reader: &mut Reader<'_>, entry: &Entry) -> Option<Match> {
    let fields = reader.fields(&entry.value, &shape::MATCH, &entry.key_span)?;
    let path = optional(&fields, "path", |entry| path(reader, entry));
    let method = optional(&fields, "method", |entry| method(reader, entry));
    let headers = optional(&fields, "headers", |entry| {
        let named = named(reader, entry, &shape::HEADER, |reader, name, node| {
            header_name(reader, name, node)
        })?;
        Some(
            named
                .into_iter()
                .map(|(name, value)| HeaderMatch { name, value })
                .collect::<Vec<_>>(),
        )
    });
    let query = optional(&fields, "query", |entry| {
        let named = named(reader, entry, &shape::QUERY, |reader, name, node| {
            query_name(reader, name, node)
        })?;
        Some(
            named
                .into_iter()
                .map(|(name, value)| QueryMatch { name, value })
                .collect::<Vec<_>>(),
        )
    });
    let known = |entry: &&Entry| shape::MATCH.fields.iter().any(|field| field.name == entry.key);
    let all_known = matches!(&entry.value.value, Value::Mapping(all) if all.iter().all(|e| known(&e)));
    if !all_known {
        return None;
    }
    Some(Match {
        path: path?,
        method: method?,
        headers: headers?.unwrap_or_default(),
        query: query?.unwrap_or_default(),
    })
}

/// A field that need not be there: the outer `None` is a field that could not be read.
fn optional<'n, T>(
    fields: &Fields<'n>,
    name: &str,
    read: impl FnOnce(&'n Entry) -> Option<T>,
) -> Option<Option<T>> {
    match fields.get(name) {
        None => Some(None),
        Some(entry) => read(entry).map(Some),
    }
}

fn method(reader: &mut Reader<'_>, entry: &Entry) -> Option<String> {
    let text = reader.text(&entry.value, "`method`")?;
    if shape::METHODS.contains(&text) {
        return Some(text.to_owned());
    }
    let help = match nearest(text, shape::METHODS.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Methods are upper case"),
        None => format!("a method is one of: {}", shape::METHODS.join(", ")),
    };
    let message = format!("there is no method `{}`", shown(text));
    reader.error(
        codes::UNKNOWN_METHOD,
        &entry.value.span,
        message,
        "unknown method",
        help,
    );
    None
}

fn path(reader: &mut Reader<'_>, entry: &Entry) -> Option<PathMatch> {
    let fields = reader.fields(&entry.value, &shape::PATH, &entry.key_span)?;
    if let Some(regex) = fields.get("regex") {
        reader.text(&regex.value, "`regex`")?;
        reader.error(
            codes::PATH_REGEX,
            &regex.key_span,
            "a route cannot match its path by a regular expression",
            "never reached",
            "use `prefix` or `exact`, or match a header by `regex`; the mesh tries regular expressions over the \
             path after every prefix, and Kong before: no order fits both",
        );
        return None;
    }
    if !fields.complete {
        return None;
    }
    let (field, exact) = match fields.get("exact") {
        Some(field) => (field, true),
        None => (fields.get("prefix")?, false),
    };
    let text = reader.text(&field.value, "a path")?;
    if let Some((problem, help)) = path_problem(text, exact) {
        let message = format!("`{}` is not a path: {problem}", shown(text));
        reader.error(codes::BAD_PATH, &field.value.span, message, "not a path", help);
        return None;
    }
    Some(if exact {
        PathMatch::Exact(text.to_owned())
    } else {
        PathMatch::Prefix(text.to_owned())
    })
}

/// What is wrong with a path, and what to do.
fn path_problem(text: &str, exact: bool) -> Option<(&'static str, &'static str)> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(c);
    let escapes_whole = text.split('%').skip(1).all(|rest| {
        let mut digits = rest.chars();
        let mut digit = || digits.next().is_some_and(|c| c.is_ascii_hexdigit());
        digit() && digit()
    });
    if !text.starts_with('/') {
        Some((
            "it does not begin with `/`",
            "write the whole path from the root: /shop/cart",
        ))
    } else if text.len() > limits::TEXT {
        Some(("it has more than 1024 characters", "match a shorter prefix"))
    } else if text.contains(['?', '#']) {
        Some((
            "`?` and `#` end a path",
            "match query parameters with `query`; what follows `#` is never sent",
        ))
    } else if !text.chars().all(legal) {
        Some((
            "it has a character that no path has",
            "write such characters as percent escapes: %20",
        ))
    } else if !escapes_whole {
        Some((
            "`%` is not followed by two hexadecimal digits",
            "write a percent sign as %25",
        ))
    } else if text.contains("//") || text.split('/').any(|segment| matches!(segment, "." | "..")) {
        Some((
            "proxies rewrite `//`, `/./` and `/../` before they match",
            "write the path as it is after that: one `/` between segments, no dots",
        ))
    } else if !exact && text.len() > 1 && text.ends_with('/') {
        Some((
            "a prefix does not end in `/`",
            "leave the last `/` out: the prefix /shop matches /shop and /shop/cart, but not /shopping",
        ))
    } else {
        None
    }
}

/// Header or query matches: each name once, sorted by name.
fn named(
    reader: &mut Reader<'_>,
    entry: &Entry,
    shape: &Shape,
    read_name: impl Fn(&mut Reader<'_>, &str, &Node) -> Option<String>,
) -> Option<Vec<(String, ValueMatch)>> {
    let items = reader.list(&entry.value, &format!("`{}`", entry.key), limits::MATCHES)?;
    let mut found: BTreeMap<String, (ValueMatch, Place)> = BTreeMap::new();
    let mut whole = true;
    for item in items {
        let owner = match &item.value {
            Value::Mapping(entries) => entries.first().map_or(&item.span, |entry| &entry.key_span),
            _ => &item.span,
        };
        let Some(fields) = reader.fields(item, shape, owner) else {
            whole = false;
            continue;
        };
        let name = fields.get("name").and_then(|entry| {
            let text = reader.text(&entry.value, "`name`")?;
            let name = read_name(reader, text, &entry.value)?;
            Some((name, reader.place(&entry.value.span)))
        });
        let value = value(reader, &fields);
        let (Some((name, place)), Some(value)) = (name, value) else {
            whole = false;
            continue;
        };
        if let Some((earlier, first)) = found.get(&name) {
            whole = false;
            let message = if *earlier == value {
                format!("`{name}` is matched twice in one route")
            } else {
                format!("no request can match: `{name}` would need two values at once")
            };
            let diagnostic = Diagnostic::error(codes::NEVER_MATCHES, message, place.label("again here"))
                .also(first.label("first here"))
                .help("a route's matches must all hold: keep one, or make two routes for either value");
            reader.diagnostics.push(diagnostic);
        } else {
            found.insert(name, (value, place));
        }
    }
    whole.then(|| {
        found
            .into_iter()
            .map(|(name, (value, _))| (name, value))
            .collect()
    })
}

fn value(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ValueMatch> {
    if !fields.complete {
        return None;
    }
    let entry = ["exact", "regex"].into_iter().find_map(|name| fields.get(name))?;
    let text = reader.text(&entry.value, &format!("`{}`", entry.key))?;
    if entry.key == "regex" {
        return match pattern::check(text) {
            Ok(()) => Some(ValueMatch::Regex(text.to_owned())),
            Err(problem) => {
                let message = format!("the mesh cannot run this regular expression: {problem}");
                let help = "write it in RE2 syntax: no look-around, no back references, no class operators";
                reader.error(codes::BAD_REGEX, &entry.value.span, message, "not RE2", help);
                None
            }
        };
    }
    let problem = if text.is_empty() {
        Some("it is empty")
    } else if text.len() > limits::TEXT {
        Some("it has more than 1024 characters")
    } else if text.chars().any(char::is_control) {
        Some("it has a control character")
    } else if text.trim() != text {
        Some("it begins or ends in a blank, which is cut off on the way")
    } else {
        None
    };
    if let Some(problem) = problem {
        let message = format!("no request carries this value: {problem}");
        let help = "write the value as the request carries it";
        reader.error(codes::BAD_HEADER, &entry.value.span, message, "never sent", help);
        return None;
    }
    Some(ValueMatch::Exact(text.to_owned()))
}

fn header_name(reader: &mut Reader<'_>, name: &str, node: &Node) -> Option<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > limits::TEXT || !name.bytes().all(token) {
        let message = format!("`{}` is not the name of a header", shown(name));
        let help = "use letters, digits and `-`; match path, method and host with their own fields";
        reader.error(codes::BAD_HEADER, &node.span, message, "not a header name", help);
        None
    } else if lower == ANCHOR_HEADER {
        reader.error(
            codes::RESERVED_HEADER,
            &node.span,
            format!("the header `{ANCHOR_HEADER}` belongs to Weir"),
            "reserved",
            "match another header: this one keeps backends connected while weights move",
        );
        None
    } else {
        Some(lower)
    }
}

fn query_name(reader: &mut Reader<'_>, name: &str, node: &Node) -> Option<String> {
    if name.is_empty()
        || name.len() > limits::TEXT
        || name.chars().any(|c| c.is_control() || "&=#".contains(c))
    {
        let message = format!("`{}` is not the name of a query parameter", shown(name));
        let help = "write the name as it stands in the URL before `=`";
        reader.error(
            codes::BAD_HEADER,
            &node.span,
            message,
            "not a parameter name",
            help,
        );
        return None;
    }
    Some(name.to_owned())
}
