//! Answers of the Admin API: what they are made of, and Kong's errors with their codes and words.

use serde_json::{Value, json};

use super::schema::Object;

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// None.
    Empty,
    /// JSON.
    Json(Value),
    /// A page of nginx with this title.
    Page(&'static str),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Status.
    pub(super) status: u16,
    /// Body.
    pub(super) body: Body,
    /// Headers besides those that all have.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// JSON.
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            body: Body::Json(body),
            headers: Vec::new(),
        }
    }

    /// Nothing but a status.
    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            body: Body::Empty,
            headers: Vec::new(),
        }
    }

    /// A page of nginx.
    pub(super) fn page(status: u16, title: &'static str) -> Self {
        Self {
            status,
            body: Body::Page(title),
            headers: Vec::new(),
        }
    }

    /// JSON with one message.
    pub(super) fn message(status: u16, message: &str) -> Self {
        Self::json(status, json!({"message": message}))
    }

    /// With one more header.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What is answered instead of what was asked for.
pub(super) type Refused = Answer;

pub(super) fn not_found() -> Refused {
    Answer::message(404, "Not found")
}

pub(super) fn method_not_allowed() -> Refused {
    Answer::message(405, "Method not allowed")
}

fn coded(status: u16, code: u16, name: &str, message: &str) -> Value {
    json!({"status": status, "code": code, "name": name, "message": message})
}

fn refused(mut body: Value, with: Option<(&str, Value)>) -> Refused {
    let status = body["status"]
        .as_u64()
        .and_then(|s| u16::try_from(s).ok())
        .unwrap_or(500);
    if let Some(object) = body.as_object_mut() {
        object.remove("status");
        if let Some((name, value)) = with {
            object.insert(name.to_owned(), value);
        }
    }
    Answer::json(status, body)
}

/// Code 2: fields and what is wrong with them.
pub(super) fn schema_violation(errors: Object) -> Refused {
    let mut all: Vec<String> = Vec::new();
    if let Some(Value::Array(entity)) = errors.get("@entity") {
        all.extend(entity.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    for (field, error) in errors.iter().filter(|(field, _)| *field != "@entity") {
        match error {
            Value::Object(inner) => {
                all.extend(
                    inner
                        .iter()
                        .map(|(name, error)| format!("{field}.{name}: {}", plain(error))),
                );
            }
            Value::Array(inner) => {
                let found = inner.iter().enumerate().filter(|(_, error)| !error.is_null());
                all.extend(found.map(|(at, error)| format!("{field}.{}: {}", at + 1, plain(error))));
            }
            error => all.push(format!("{field}: {}", plain(error))),
        }
    }
    let what = all.join("; ");
    let message = match all.len() {
        1 => format!("schema violation ({what})"),
        n => format!("{n} schema violations ({what})"),
    };
    refused(
        coded(400, 2, "schema violation", &message),
        Some(("fields", errors.into())),
    )
}

/// Code 3: the id is taken.
pub(super) fn id_is_taken(id: &str) -> Refused {
    let key = json!({"id": id});
    let message = format!("primary key violation on key '{}'", pretty(&key));
    refused(
        coded(400, 3, "primary key violation", &message),
        Some(("fields", key)),
    )
}

/// Code 4: leads nowhere.
pub(super) fn leads_nowhere(field: &str, id: &str, to: &str) -> Refused {
    let key = json!({"id": id});
    let message = format!(
        "the foreign key '{}' does not reference an existing '{to}' entity.",
        pretty(&key)
    );
    refused(
        coded(400, 4, "foreign key violation", &message),
        Some(("fields", json!({field: key}))),
    )
}

/// Code 4: somebody needs it.
pub(super) fn referenced(kind: &str, by: &str) -> Refused {
    let message = format!("an existing '{by}' entity references this '{kind}' entity");
    refused(
        coded(400, 4, "foreign key violation", &message),
        Some(("fields", json!({"@referenced_by": by}))),
    )
}

/// Code 5: there is one like it.
pub(super) fn not_unique(key: Value) -> Refused {
    let message = format!("UNIQUE violation detected on '{}'", pretty(&key));
    refused(
        coded(409, 5, "unique constraint violation", &message),
        Some(("fields", key)),
    )
}

/// Code 6: nothing to change.
pub(super) fn nothing_like(key: Value) -> Refused {
    let message = format!("could not find the entity with '{}'", pretty(&key));
    refused(coded(404, 6, "not found", &message), Some(("fields", key)))
}

/// Code 7: no such page.
pub(super) fn invalid_offset(offset: &str, why: &str) -> Refused {
    let message = format!("'{offset}' is not a valid offset: {why}");
    refused(coded(400, 7, "invalid offset", &message), None)
}

/// Code 9: no such page size.
pub(super) fn invalid_size(why: &str) -> Refused {
    refused(coded(400, 9, "invalid size", why), None)
}

/// Code 11: no such option.
pub(super) fn invalid_option(option: &str, why: &str) -> Refused {
    let message = format!("invalid option ({option}: {why})");
    refused(
        coded(400, 11, "invalid options", &message),
        Some(("options", json!({option: why}))),
    )
}

/// Code 12: not without a database.
pub(super) fn unsupported(operation: &str, kind: &str, by: Option<&str>) -> Refused {
    let by = by.map(|field| format!(" by '{field}'")).unwrap_or_default();
    let message = format!("cannot {operation} '{kind}' entities{by} when not using a database");
    refused(coded(405, 12, "operation unsupported", &message), None)
}

/// Code 13: a name that leads nowhere.
pub(super) fn unresolved(field: &str, name: &str, value: &str, to: &str) -> Refused {
    let why = format!(
        "the foreign key cannot be resolved with '{}' for an existing '{to}' entity",
        pretty(&json!({name: value}))
    );
    let message = format!("foreign key unresolved ({field}.{name}: {why})");
    refused(
        coded(400, 13, "foreign keys unresolved", &message),
        Some(("fields", json!({field: {name: why}}))),
    )
}

/// Code 14: what is wrong with a document.
pub(super) fn invalid_document(errors: Value, flattened: Option<Value>) -> Refused {
    let message = format!("declarative config is invalid: {}", pretty(&errors));
    let mut answer = coded(400, 14, "invalid declarative configuration", &message);
    // Lua knows one empty table, and writes it as an object.
    answer["fields"] = if is_blank(&errors) { json!({}) } else { errors };
    refused(
        answer,
        flattened.map(|all| ("flattened_errors", if is_blank(&all) { json!({}) } else { all })),
    )
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        other => other.is_null(),
    }
}

fn plain(error: &Value) -> String {
    match error {
        Value::String(text) => text.clone(),
        other => pretty(other),
    }
}

/// A value as Kong writes it inside of messages: a Lua table on one line.
pub(super) fn pretty(value: &Value) -> String {
    match value {
        Value::Null => "\"userdata: NULL\"".to_owned(),
        Value::String(text) => {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\\n");
            format!("\"{text}\"")
        }
        Value::Array(all) => {
            // A table begins with what has no gap; what comes after a gap is named by its number.
            let whole = all.iter().position(Value::is_null).unwrap_or(all.len());
            let mut parts: Vec<String> = all[..whole].iter().map(pretty).collect();
            let rest = all
                .iter()
                .enumerate()
                .skip(whole)
                .filter(|(_, value)| !value.is_null());
            parts.extend(rest.map(|(at, value)| format!("[{}]={}", at + 1, pretty(value))));
            format!("{{{}}}", parts.join(","))
        }
        Value::Object(all) => {
            let word = |name: &str| {
                !name.is_empty()
                    && !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            };
            let one = |(name, value): (&String, &Value)| {
                let name = if word(name) {
                    name.clone()
                } else {
                    format!("[\"{name}\"]")
                };
                format!("{name}={}", pretty(value))
            };
            let mut names: Vec<_> = all.iter().collect();
            names.sort_by_key(|(name, _)| name.as_str());
            let parts: Vec<String> = names.into_iter().map(one).collect();
            format!("{{{}}}", parts.join(","))
        }
        other => other.to_string(),
    }
}
