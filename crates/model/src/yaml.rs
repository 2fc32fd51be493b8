//! YAML text to a tree in which each value knows its place.
//!
//! Built on parser events rather than on typed deserialising, because that stops at the first problem and
//! knows neither a key that stands twice nor how a number was written. Documents are cut apart before they are
//! parsed (`---` at the start of a line ends a document whatever stands above it), so that a broken one hides
//! nothing in the next. What follows a syntax error in the same document is not read.

mod builder;

use crate::codes;
use crate::diagnostic::{Code, Span};
use crate::limits;
use builder::Builder;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What a value is. Scalars keep their text: what type it has is decided where it is read.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Already reported (an alias without its anchor, the rest of a broken document).
    Unreadable,
}

/// A key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
    /// Reported already: a merge key, or no text. What it stands for is not known.
    pub(crate) hole: bool,
}

/// A scalar by the core schema of YAML 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// Any number, also hexadecimal, infinite or with an exponent.
    Number(&'a str),
    Text(&'a str),
}

impl Node {
    /// The scalar that it is, if it is one.
    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        let Value::Scalar { text, plain } = &self.value else {
            return None;
        };
        Some(if !plain {
            Scalar::Text(text)
        } else if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
            Scalar::Null
        } else if matches!(text.as_str(), "true" | "True" | "TRUE") {
            Scalar::Bool(true)
        } else if matches!(text.as_str(), "false" | "False" | "FALSE") {
            Scalar::Bool(false)
        } else if is_number(text) {
            Scalar::Number(text)
        } else {
            Scalar::Text(text)
        })
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Sequence(items) => items.iter().map(Self::size).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| 1 + entry.value.size()).sum(),
            Value::Scalar { .. } | Value::Unreadable => 0,
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = |s: &str, legal: fn(u8) -> bool| !s.is_empty() && s.bytes().all(legal);
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, |b| matches!(b, b'0'..=b'7'));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, |b| b.is_ascii_hexdigit());
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let decimal = |b: u8| b.is_ascii_digit();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_is_one = match (whole, fraction) {
        ("", "") => false,
        ("", fraction) => digits(fraction, decimal),
        (whole, "") => digits(whole, decimal),
        (whole, fraction) => digits(whole, decimal) && digits(fraction, decimal),
    };
    mantissa_is_one && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e), decimal))
}

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// False when the parser gave up inside it: the root is what stood before.
    pub(crate) whole: bool,
}

/// Something wrong with the text itself.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) help: String,
}

/// Every document of the text, the broken ones as far as they go, and what is wrong with them.
pub(crate) fn documents(text: &str) -> (Vec<Document>, Vec<Problem>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    // A byte order mark is no content; it only moves the offsets.
    let (text, offset) = match text.strip_prefix('\u{feff}') {
        Some(rest) => (rest, '\u{feff}'.len_utf8()),
        None => (text, 0),
    };
    for (number, piece) in pieces(text, offset).into_iter().enumerate() {
        if number >= limits::DOCUMENTS {
            problems.push(Problem {
                code: codes::TOO_MANY_DOCUMENTS,
                span: Span {
                    start: piece.start,
                    end: piece.start + piece.text.lines().next().map_or(0, str::len),
                    line: piece.line,
                    column: 1,
                },
                message: format!("this file holds more than {} documents", limits::DOCUMENTS),
                label: format!("document {}", number + 1),
                help: "spread the documents over several files: any layout below the path is read".to_owned(),
            });
            break;
        }
        found.extend(Builder::new(&piece, &mut problems).run());
    }
    (found, problems)
}

/// A document's text and where it begins in the file.
struct Piece<'t> {
    text: &'t str,
    start: usize,
    line: usize,
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn pieces(text: &str, offset: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut at = 0;
    let mut cut = |from: &mut usize, line: &mut usize, to: usize, next_line: usize| {
        if text[*from..to]
            .lines()
            .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
        {
            pieces.push(Piece {
                text: &text[*from..to],
                start: offset + *from,
                line: *line,
            });
        }
        (*from, *line) = (to, next_line);
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        if is_marker(line, "---") {
            cut(&mut start, &mut first_line, at, number + 1);
        } else if is_marker(line, "...") {
            cut(&mut start, &mut first_line, end, number + 2);
        }
        at = end;
    }
    cut(&mut start, &mut first_line, text.len(), 0);
    pieces
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Mapping(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        Value::Scalar { .. } | Value::Unreadable => 0,
    }
}
