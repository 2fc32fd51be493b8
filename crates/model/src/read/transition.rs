//! How weights move, as it is written: `transition`, `fallback`, durations and shares.
//!
//! Changed together with the table in `shape.rs`.

use jiff::SignedDuration;

use super::split::weight_text;
use super::word;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{FallbackDraft, Fallbacks, TransitionDraft};
use crate::duration;
use crate::limits;
use crate::names::BackendName;
use crate::reader::{At, Reader, shown};
use crate::shape::{self, Form, Shape};
use crate::transition::{Fallback, Insufficient};
use crate::weight::{BasisPoints, WeightError};
use crate::yaml::{Entry, Node, Scalar, Value};

/// Reads a `transition`.
pub(super) fn transition(reader: &mut Reader<'_>, entry: &Entry) -> TransitionDraft {
    let mut draft = TransitionDraft::default();
    let Some(fields) = reader.fields(&entry.value, &shape::TRANSITION, &entry.key_span) else {
        draft.unreadable = true;
        return draft;
    };
    if let Some(entry) = fields.get("maxStep") {
        draft.max_step = share(reader, &entry.value, "`maxStep`", false);
        draft.unreadable |= draft.max_step.is_none();
    }
    if let Some(entry) = fields.get("bake") {
        draft.bake = bounded(reader, entry, &shape::TRANSITION);
        draft.unreadable |= draft.bake.is_none();
    }
    if let Some(entry) = fields.get("verify") {
        verify(reader, entry, &mut draft);
    }
    draft
}

fn verify(reader: &mut Reader<'_>, entry: &Entry, draft: &mut TransitionDraft) {
    let Some(fields) = reader.fields(&entry.value, &shape::VERIFY, &entry.key_span) else {
        draft.unreadable = true;
        return;
    };
    if let Some(entry) = fields.get("requests") {
        let requests = reader.whole(&entry.value, "`requests`", 1, 1_000_000_000);
        draft.requests = requests.map(u64::from);
        draft.unreadable |= draft.requests.is_none();
    }
    if let Some(entry) = fields.get("within") {
        draft.within = bounded(reader, entry, &shape::VERIFY);
        draft.unreadable |= draft.within.is_none();
    }
    if let Some(entry) = fields.get("insufficient") {
        let found = word(
            reader,
            entry,
            "`insufficient`",
            codes::WRONG_TYPE,
            shape::INSUFFICIENT,
            |text| format!("`insufficient` cannot be `{text}`"),
            |text| match text {
                "proceed" => Some(Insufficient::Proceed),
                "hold" => Some(Insufficient::Hold),
                _ => None,
            },
        );
        draft.insufficient = found.map(|at| at.value);
        draft.unreadable |= draft.insufficient.is_none();
    }
    if let Some(entry) = fields.get("latency") {
        let found = word(
            reader,
            entry,
            "`latency`",
            codes::WRONG_TYPE,
            shape::LATENCIES,
            |text| format!("`latency` cannot be `{text}`"),
            |text| {
                let found = crate::LATENCIES.iter().find(|(word, _)| *word == text);
                found.map(|(_, latency)| *latency)
            },
        );
        draft.latency = found.map(|at| at.value);
        draft.unreadable |= draft.latency.is_none();
    }
}

/// Reads a `fallback`.
pub(super) fn fallbacks(reader: &mut Reader<'_>, entry: &Entry) -> Fallbacks {
    let mut fallbacks = Fallbacks::default();
    let Some(entries) = reader.entries(&entry.value, "`spec.fallback`") else {
        fallbacks.unreadable = true;
        return fallbacks;
    };
    if !reader.count(&entry.value, entries.len(), "`spec.fallback`", limits::BACKENDS) {
        fallbacks.unreadable = true;
        return fallbacks;
    }
    fallbacks.unreadable = !matches!(&entry.value.value, Value::Mapping(all) if all.len() == entries.len());
    for entry in entries {
        let from = reader.name(&entry.key, &entry.key_span, "this backend's key");
        let found = fallback(reader, entry);
        match (from, found) {
            (Some(from), Some((to, after, recover))) => fallbacks.found.push(FallbackDraft {
                from: from.map(BackendName::from),
                to,
                after,
                recover,
            }),
            _ => fallbacks.unreadable = true,
        }
    }
    fallbacks
}

type Read = (Vec<At<BackendName>>, SignedDuration, SignedDuration);

/// One backend's fallback: a name, a list of names or a mapping.
fn fallback(reader: &mut Reader<'_>, entry: &Entry) -> Option<Read> {
    match &entry.value.value {
        Value::Unreadable => None,
        Value::Scalar { .. } => {
            let name = reader.label(&entry.value, "a fallback")?;
            Some((
                vec![name.map(BackendName::from)],
                Fallback::AFTER,
                Fallback::RECOVER,
            ))
        }
        Value::Sequence(_) => {
            let to = order(reader, entry)?;
            Some((to, Fallback::AFTER, Fallback::RECOVER))
        }
        Value::Mapping(_) => {
            let fields = reader.fields(&entry.value, &shape::FALLBACK, &entry.key_span)?;
            let to = fields.get("to").and_then(|entry| match &entry.value.value {
                Value::Scalar { .. } => {
                    let name = reader.label(&entry.value, "`to`")?;
                    Some(vec![name.map(BackendName::from)])
                }
                _ => order(reader, entry),
            });
            let after = match fields.get("after") {
                None => Some(Fallback::AFTER),
                Some(entry) => bounded(reader, entry, &shape::FALLBACK),
            };
            let recover = match fields.get("recover") {
                None => Some(Fallback::RECOVER),
                Some(entry) => bounded(reader, entry, &shape::FALLBACK),
            };
            Some((to?, after?, recover?))
        }
    }
}

/// Names of backends, at least one.
fn order(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<At<BackendName>>> {
    let items = reader.list(&entry.value, "a fallback", limits::BACKENDS)?;
    if items.is_empty() {
        reader.error(
            codes::EMPTY,
            &entry.key_span,
            "a fallback needs at least one backend to go to",
            "no backend here",
            "name one, or leave the fallback out",
        );
        return None;
    }
    let mut sound = true;
    let mut names = Vec::new();
    for item in items {
        match reader.label(item, "a fallback") {
            Some(name) => names.push(name.map(BackendName::from)),
            None => sound = false,
        }
    }
    sound.then_some(names)
}

/// The duration of a field, within the bounds that the shape gives it.
fn bounded(reader: &mut Reader<'_>, entry: &Entry, shape: &Shape) -> Option<SignedDuration> {
    let field = shape.fields.iter().find(|field| field.name == entry.key)?;
    let Form::Duration(least, most) = field.form else {
        return None;
    };
    let what = format!("`{}`", field.name);
    let found = duration(reader, &entry.value, &what)?;
    let within = duration::read(least)? <= found && found <= duration::read(most)?;
    if !within {
        reader.error(
            codes::DURATION_RANGE,
            &entry.value.span,
            format!(
                "{what} is from {least} to {most}, but here is {}",
                duration::written(found)
            ),
            "out of range",
            format!("write a duration between {least} and {most}"),
        );
    }
    within.then_some(found)
}

fn duration(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<SignedDuration> {
    let (message, help) = match node.scalar() {
        Some(Scalar::Number(number)) => {
            let number = shown(number);
            let plain = number.bytes().all(|b| b.is_ascii_digit());
            let help = if plain {
                format!("write the unit: `{number}s` for seconds, `{number}m` for minutes")
            } else {
                "write whole numbers with their units: 500ms, 30s, 5m, 1h30m".to_owned()
            };
            (format!("{what} is a duration, and `{number}` has no unit"), help)
        }
        Some(Scalar::Text(text)) => match duration::read(text) {
            Some(found) => return Some(found),
            None => (
                format!("{what} is a duration, and `{}` is none", shown(text)),
                "write whole numbers with the units d, h, m, s, ms, the longest first: 500ms, 30s, 5m, 1h30m"
                    .to_owned(),
            ),
        },
        _ => {
            reader.wrong_type(
                node,
                what,
                "a duration",
                "write a number with its unit: 30s, 5m, 1h30m",
            );
            return None;
        }
    };
    reader.error(codes::BAD_DURATION, &node.span, message, "not a duration", help);
    None
}

/// Per cent of a whole.
pub(super) fn share(reader: &mut Reader<'_>, node: &Node, what: &str, zero: bool) -> Option<At<BasisPoints>> {
    let least = if zero { "0 to 100" } else { "above 0, up to 100" };
    let (found, rule) = match weight_text(node)? {
        Err(found) => (found, "a plain number"),
        Ok(text) => match BasisPoints::from_percent_text(text) {
            Ok(share) if zero || share > BasisPoints::ZERO => return Some(reader.at(share, &node.span)),
            Ok(_) | Err(WeightError::Range) => (format!("`{}`", shown(text)), least),
            Err(WeightError::Precision) => (format!("`{}`", shown(text)), "given with at most two decimals"),
            Err(WeightError::NotANumber) => (format!("`{}`", shown(text)), "a plain number"),
        },
    };
    let label = reader.place(&node.span).label("not such a number");
    reader.diagnostics.push(
        Diagnostic::error(
            codes::BAD_SHARE,
            format!("{what} is per cent, {rule}, but here is {found}"),
            label,
        )
        .help(format!(
            "write a number such as 20 or 12.5 ({least}), without quotes and `%`"
        )),
    );
    None
}
