//! Whether a live policy says what a wanted one says: compared over the fields that Weir sets, and over those that would
//! change what they mean.
//!
//! A control plane or an API server gives back more than was written: defaults, and fields of newer versions. Taken for a
//! difference, each of them would be written over for ever, and each write that reaches a listener closes connections. Left
//! out of the comparison without limit, a field that somebody adds could take requests from a route and not be put right.
//! So what is added counts only where it is known to choose requests or to send them elsewhere. Whatever is added, the
//! proof is the proxies' own configuration and not this comparison.

use serde_json::Value;

/// Fields of route policies that choose whom a rule is for, which requests it takes, or what becomes of them.
const TELLING: [&str; 14] = [
    "filters",
    "headers",
    "hostnames",
    "labels",
    "matches",
    "mesh",
    "method",
    "name",
    "namespace",
    "path",
    "proxyTypes",
    "queryParams",
    "sectionName",
    "tags",
];

/// Maps whose every entry narrows a choice.
const CHOICES: [&str; 2] = ["labels", "tags"];

/// Where a live value first differs from the wanted one, as a path that begins with `at`; none if it says the same.
///
/// Maps are compared by the wanted one's fields, lists by length and position, everything else by value. A field that only
/// the live one has is a difference if it is known to change what the others mean, and not empty.
pub fn difference(wanted: &Value, live: &Value, at: &str) -> Option<String> {
    within(wanted, live, false).map(|path| format!("{at}{path}"))
}

/// The path from here on, which is made only where something differs: hardly ever. `choice`: these maps are labels, of which one
/// more is another choice.
fn within(wanted: &Value, live: &Value, choice: bool) -> Option<String> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let ours = wanted.iter().find_map(|(key, value)| match live.get(key) {
                Some(found) => {
                    let path = within(value, found, CHOICES.contains(&key.as_str()))?;
                    Some(format!(".{key}{path}"))
                }
                None => Some(format!(".{key}")),
            });
            let added = || {
                live.iter().find_map(|(key, value)| {
                    let tells = choice || TELLING.contains(&key.as_str());
                    (tells && !wanted.contains_key(key) && !is_empty(value)).then(|| format!(".{key}"))
                })
            };
            ours.or_else(added)
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => wanted
            .iter()
            .zip(live)
            .enumerate()
            .find_map(|(n, (wanted, live))| {
                let path = within(wanted, live, false)?;
                Some(format!("[{n}]{path}"))
            }),
        _ => (wanted != live).then(String::new),
    }
}

/// Says nothing, wherever it stands.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
