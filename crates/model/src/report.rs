//! Diagnostics for whoever reads them: people in a terminal, programs, and the two forges' formats for CI.
//!
//! A new format is a new file here and a word in `weir check --format`.

mod github;
mod json;
mod sarif;
mod text;

use std::collections::BTreeMap;

use crate::declaration::{SourceFile, SourceName};
use crate::diagnostic::{Label, Span};

pub use github::github;
pub use json::json;
pub use sarif::sarif;
pub use text::{Style, render_diagnostics};

/// The files that diagnostics point into.
struct Sources<'s> {
    files: BTreeMap<(&'s SourceName, &'s str), &'s SourceFile>,
    /// Whether they are of more than one source.
    several: bool,
}

impl<'s> Sources<'s> {
    fn new(files: &'s [SourceFile]) -> Self {
        let keyed = files
            .iter()
            .map(|file| ((&file.source, file.path.as_str()), file));
        Self {
            files: keyed.collect(),
            several: files.windows(2).any(|two| two[0].source != two[1].source),
        }
    }

    fn bytes(&self, label: &Label) -> Option<&'s [u8]> {
        let file = self.files.get(&(&label.source, label.file.as_str()))?;
        Some(&file.bytes)
    }

    /// The file as people are told: with its source's name where there are several sources.
    fn shown(&self, label: &Label) -> String {
        if self.several {
            format!("{}:{}", label.source, label.file)
        } else {
            label.file.clone()
        }
    }

    /// Line and column after the last character, both from 1.
    fn end(&self, label: &Label) -> (usize, usize) {
        let Span {
            start,
            end,
            line,
            column,
        } = label.span;
        let text = self
            .bytes(label)
            .and_then(|bytes| bytes.get(start..end))
            .unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        match text.rsplit_once('\n') {
            None => (line, column + text.chars().count()),
            Some((before, last)) => (line + 1 + before.matches('\n').count(), 1 + last.chars().count()),
        }
    }
}
