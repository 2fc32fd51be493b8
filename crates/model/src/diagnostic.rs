//! A problem in a declaration, told so that a person can mend it: code, place, what, what to do.
//!
//! Codes are stable: once published, a code keeps its meaning. Each has a page in `docs/errors`.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::declaration::SourceName;

/// How bad it is. An error anywhere keeps the whole declaration from being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The declaration is not taken.
    Error,
    /// It is taken, but probably does not mean what its author thinks.
    Warning,
}

/// A stable code such as `WEIR0102`; the number only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WEIR{:04}", self.0)
    }
}

/// A place in one file: bytes for machines, line and column (both from 1, column in characters) for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First byte in the file's text.
    pub start: usize,
    /// Byte after the last; equal to `start` for a point.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte, from 1, in characters.
    pub column: usize,
}

impl Span {
    /// The byte range.
    pub fn bytes(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A further place that the diagnostic points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The Git source that the file belongs to.
    pub source: SourceName,
    /// Path inside that source.
    pub file: String,
    /// Where.
    pub span: Span,
    /// What is there, a few words.
    pub text: String,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Its stable code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where: the first label is the primary one. Empty only for problems of the declaration as a whole
    /// (no Federation anywhere).
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
}
