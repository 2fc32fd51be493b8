//! For GitHub Actions: workflow commands that annotate the lines of a pull request.

use std::fmt::Write as _;

use super::Sources;
use crate::declaration::SourceFile;
use crate::diagnostic::{Diagnostic, Severity};

/// One `::error ...::` or `::warning ...::` line each.
pub fn github(diagnostics: &[Diagnostic], sources: &[SourceFile]) -> String {
    let sources = Sources::new(sources);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let word = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut properties = String::new();
        if let Some(label) = diagnostic.labels.first() {
            let (end_line, end_column) = sources.end(label);
            properties = format!("file={},line={}", property(&label.file), label.span.line);
            // Columns are only shown for spans within one line.
            if end_line == label.span.line {
                let _ = write!(properties, ",col={},endColumn={end_column}", label.span.column);
            } else {
                let _ = write!(properties, ",endLine={end_line}");
            }
            properties.push(',');
        }
        let mut message = diagnostic.message.clone();
        if let Some(help) = &diagnostic.help {
            let _ = write!(message, "\nhelp: {help}");
        }
        let _ = writeln!(
            out,
            "::{word} {properties}title={}::{}",
            diagnostic.code,
            data(&message)
        );
    }
    out
}

/// The message: what would end the line is escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property: what would end the property as well.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
