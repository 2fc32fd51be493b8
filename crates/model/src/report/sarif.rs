//! For code scanning: SARIF 2.1.0, with each code's page as its rule.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Sources;
use crate::codes;
use crate::declaration::SourceFile;
use crate::diagnostic::{Code, Diagnostic, Label, Severity};

/// One run of one tool.
pub fn sarif(diagnostics: &[Diagnostic], sources: &[SourceFile]) -> Value {
    let sources = Sources::new(sources);
    let used: BTreeSet<Code> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    let used: Vec<&codes::Entry> = used.into_iter().filter_map(codes::entry).collect();
    let rules: Vec<Value> = used.iter().map(|entry| rule(entry)).collect();
    let results: Vec<Value> = diagnostics
        .iter()
        .map(|diagnostic| {
            let index = used.iter().position(|entry| entry.code == diagnostic.code);
            result(diagnostic, index, &sources)
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "weir",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(entry: &codes::Entry) -> Value {
    json!({
        "id": entry.code.to_string(),
        "shortDescription": {"text": entry.title()},
        "help": {"text": entry.title(), "markdown": entry.page},
    })
}

fn result(diagnostic: &Diagnostic, rule: Option<usize>, sources: &Sources<'_>) -> Value {
    let text = match &diagnostic.help {
        Some(help) => format!("{} (help: {help})", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut result = json!({
        "ruleId": diagnostic.code.to_string(),
        "level": level,
        "message": {"text": text},
    });
    if let Some(rule) = rule {
        result["ruleIndex"] = json!(rule);
    }
    let mut labels = diagnostic.labels.iter();
    if let Some(primary) = labels.next() {
        result["locations"] = json!([location(primary, sources)]);
    }
    let related: Vec<Value> = labels.map(|label| location(label, sources)).collect();
    if !related.is_empty() {
        result["relatedLocations"] = Value::Array(related);
    }
    result
}

fn location(label: &Label, sources: &Sources<'_>) -> Value {
    let (end_line, end_column) = sources.end(label);
    json!({
        "physicalLocation": {
            "artifactLocation": {"uri": uri(&label.file)},
            "region": {
                "startLine": label.span.line,
                "startColumn": label.span.column,
                "endLine": end_line,
                "endColumn": end_column,
            },
        },
        "message": {"text": label.text},
    })
}

/// A relative reference: all but the unreserved characters and `/` escaped.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
