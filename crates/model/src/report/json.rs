//! For programs: one JSON value. Fields are added, never renamed.

use serde_json::{Value, json};

use super::Sources;
use crate::declaration::SourceFile;
use crate::diagnostic::{Diagnostic, Label, Severity};

/// `{"errors", "warnings", "diagnostics": [{"code", "severity", "message", "help", "labels": [...]}]}`.
/// The first label is the primary one.
pub fn json(diagnostics: &[Diagnostic], sources: &[SourceFile]) -> Value {
    let sources = Sources::new(sources);
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    json!({
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "diagnostics": diagnostics.iter().map(|d| diagnostic(d, &sources)).collect::<Vec<_>>(),
    })
}

fn diagnostic(diagnostic: &Diagnostic, sources: &Sources<'_>) -> Value {
    json!({
        "code": diagnostic.code.to_string(),
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "help": diagnostic.help,
        "labels": diagnostic.labels.iter().map(|l| label(l, sources)).collect::<Vec<_>>(),
    })
}

fn label(label: &Label, sources: &Sources<'_>) -> Value {
    let (end_line, end_column) = sources.end(label);
    json!({
        "source": label.source,
        "file": label.file,
        "line": label.span.line,
        "column": label.span.column,
        "endLine": end_line,
        "endColumn": end_column,
        "start": label.span.start,
        "end": label.span.end,
        "text": label.text,
    })
}
