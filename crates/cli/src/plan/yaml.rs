//! A JSON document as the YAML that people know it by: block style, keys in the order in which Kuma documents are written.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Keys that come first, in this order; the others follow as they are.
const FIRST: [&str; 9] = [
    "apiVersion",
    "kind",
    "type",
    "mesh",
    "name",
    "namespace",
    "labels",
    "metadata",
    "targetRef",
];

/// The document, each line ended.
pub(crate) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0, false);
    text
}

/// `inline`: the first line goes on where a `- ` was written.
fn block(text: &mut String, value: &Value, indent: usize, inline: bool) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (key, value)) in ordered(map).into_iter().enumerate() {
                if at > 0 || !inline {
                    pad(text, indent);
                }
                text.push_str(&scalar_text(key));
                text.push(':');
                member(text, value, indent);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (at, value) in list.iter().enumerate() {
                if at > 0 || !inline {
                    pad(text, indent);
                }
                text.push_str("- ");
                block(text, value, indent + 2, true);
            }
        }
        other => {
            if !inline {
                pad(text, indent);
            }
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn member(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            block(text, value, indent + 2, false);
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            block(text, value, indent, false);
        }
        other => {
            text.push(' ');
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn ordered(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    pairs
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => scalar_text(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

/// Plain where that can only be read as this text; else as JSON writes it, which is YAML too.
fn scalar_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if begins_well && text.chars().all(plain) && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => {
                // writing to a String cannot fail
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::document;

    #[test]
    fn a_policy_as_people_write_it() {
        let value = json!({
            "spec": {
                "to": [{"rules": [{"default": {"backendRefs": [{"weight": 10, "labels": {"kuma.io/zone": "fra"}}]}}]}],
                "empty": {}, "none": [], "nested": [[1, 2], ["a"]],
            },
            "name": "weir-checkout",
            "type": "MeshHTTPRoute",
            "labels": {"yes": "no", "n": "12", "weir.dev/text": "a \"b\"\n: c", "plain": "x-y_z/1.2"},
        });
        insta::assert_snapshot!(document(&value), @r#"
        type: MeshHTTPRoute
        name: weir-checkout
        labels:
          "n": "12"
          plain: x-y_z/1.2
          weir.dev/text: "a \"b\"\u000a: c"
          "yes": "no"
        spec:
          empty: {}
          nested:
          - - 1
            - 2
          - - a
          none: []
          to:
          - rules:
            - default:
                backendRefs:
                - labels:
                    kuma.io/zone: fra
                  weight: 10
        "#);
    }
}
