//! `GET /config`: what is loaded, as YAML with ids and times. Never the bytes that were sent.

use serde_json::Value;

use super::kinds::Kind;
use super::store::Entities;

/// The document.
pub(super) fn yaml(entities: &Entities) -> String {
    let mut out = String::from("_format_version: '3.0'\n_transform: false\n");
    for kind in entities.kinds() {
        out.push_str(kind.name);
        out.push_str(":\n");
        for (_, entity) in entities.all(kind.name) {
            let Value::Object(fields) = entity.as_ref() else {
                continue;
            };
            for (at, (name, value)) in fields.iter().enumerate() {
                out.push_str(if at == 0 { "- " } else { "  " });
                field(&mut out, name, &bare(kind, name, value), 2);
            }
        }
    }
    out
}

/// A reference is written as the id alone.
fn bare(kind: &Kind, name: &str, value: &Value) -> Value {
    let is_reference = kind.foreign.iter().any(|foreign| foreign.field == name);
    let id = value.get("id").filter(|_| is_reference);
    id.unwrap_or(value).clone()
}

fn field(out: &mut String, name: &str, value: &Value, depth: usize) {
    out.push_str(name);
    out.push(':');
    block(out, value, depth);
}

/// A value after a name.
fn block(out: &mut String, value: &Value, depth: usize) {
    let indent = " ".repeat(depth);
    match value {
        Value::Array(all) if !all.is_empty() => {
            out.push('\n');
            for one in all {
                out.push_str(&indent);
                out.push('-');
                match one {
                    Value::Object(fields) if !fields.is_empty() => {
                        out.push(' ');
                        object(out, fields, depth + 2, false);
                    }
                    other => block(out, other, depth + 2),
                }
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            object(out, fields, depth + 2, true);
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn object(out: &mut String, fields: &serde_json::Map<String, Value>, depth: usize, first: bool) {
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 || first {
            out.push_str(&" ".repeat(depth));
        }
        field(out, name, value, depth);
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "~".to_owned(),
        Value::String(text) => text_of(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// Plain where a reader takes it for the same text, quoted where not.
fn text_of(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@".contains(c);
    let ambiguous = matches!(
        text,
        "" | "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "~" | "y" | "n"
    );
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let address = text.starts_with(|c: char| c.is_ascii_digit())
        && (text.matches('.').count() > 2 || text.matches('-').count() > 3);
    if !ambiguous && text.chars().all(plain) && !text.ends_with(':') && (begins || address) {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        return Value::from(text).to_string();
    }
    format!("'{}'", text.replace('\'', "''"))
}
