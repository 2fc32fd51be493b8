//! One document's tree, from the parser's events.

use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError};

use super::{Document, Entry, Node, Piece, Problem, Scalar, Value, depth};
use crate::codes;
use crate::diagnostic::{Code, Span};
use crate::limits;

enum Frame {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Entry> },
}

struct Open {
    frame: Frame,
    span: Span,
    anchor: usize,
}

pub(super) struct Builder<'p, 't> {
    piece: &'p Piece<'t>,
    problems: &'p mut Vec<Problem>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
    root: Option<Node>,
}

/// The parser cannot or must not go on.
struct Stop;

impl<'p, 't> Builder<'p, 't> {
    pub(super) fn new(piece: &'p Piece<'t>, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            piece,
            problems,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            aliased: 0,
            root: None,
        }
    }

    pub(super) fn run(mut self) -> Option<Document> {
        let options = granit_parser::options! {
            disallow_directives: true,
            emit_comments: false,
            emit_unresolved_aliases: true,
        };
        let mut whole = true;
        for event in Parser::new_from_str_with_options(self.piece.text, options) {
            let taken = match event {
                Ok((event, span)) => {
                    let span = self.span(&span.start, &span.end);
                    self.take(event, span)
                }
                Err(error) => {
                    self.syntax(&error);
                    Err(Stop)
                }
            };
            if taken.is_err() {
                whole = false;
                break;
            }
        }
        while let Some(open) = self.open.pop() {
            let end = open.span.end;
            self.close(open, end);
        }
        self.root
            .filter(|root| !matches!(root.scalar(), Some(Scalar::Null)))
            .map(|root| Document { root, whole })
    }

    fn span(&self, start: &Marker, end: &Marker) -> Span {
        let length = self.piece.text.len();
        let first = start.byte_offset().unwrap_or(length).min(length);
        let last = end.byte_offset().unwrap_or(first).clamp(first, length);
        // Trailing line breaks belong to the span of block values; nobody wants them underlined.
        let text = self.piece.text.get(first..last).unwrap_or_default();
        Span {
            start: self.piece.start + first,
            end: self.piece.start + first + text.trim_end().len(),
            line: self.piece.line + start.line().saturating_sub(1),
            column: start.col() + 1,
        }
    }

    fn problem(&mut self, code: Code, span: Span, message: impl Into<String>, label: &str, help: &str) {
        self.problems.push(Problem {
            code,
            span,
            message: message.into(),
            label: label.to_owned(),
            help: help.to_owned(),
        });
    }

    fn syntax(&mut self, error: &ScanError) {
        let marker = error.marker();
        let mut span = self.span(marker, marker);
        let rest = self
            .piece
            .text
            .get(span.start - self.piece.start..)
            .unwrap_or_default();
        if let Some(c) = rest.chars().next().filter(|c| !c.is_whitespace()) {
            span.end = span.start + c.len_utf8();
        }
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.too_deep(span),
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabInIndentation => self.tab(span, rest),
            ErrorKind::DirectiveDisallowed => self.problem(
                codes::YAML_FEATURE,
                span,
                "declarations do without YAML directives",
                "a directive",
                "remove the line: declarations are YAML 1.2 without further tags",
            ),
            _ => self.problem(
                codes::SYNTAX,
                span,
                format!("this is not YAML: {}", error.info()),
                "the parser stopped here",
                "mend the syntax here or just above: indentation, a missing `:` or an open quote or bracket; \
                 the rest of this document has not been read",
            ),
        }
    }

    /// The parser names where the value began that the tab broke: the tab itself says more.
    fn tab(&mut self, mut span: Span, rest: &str) {
        if let Some(at) = rest.find('\t') {
            let before = &rest[..at];
            span.line += before.matches('\n').count();
            span.column = match before.rfind('\n') {
                Some(line) => before[line + 1..].chars().count() + 1,
                None => span.column + before.chars().count(),
            };
            span.start += at;
            span.end = span.start + 1;
        }
        self.problem(
            codes::SYNTAX,
            span,
            "this is not YAML: lines are indented with blanks, never with tabs",
            "a tab",
            "replace the tab with blanks; the rest of this document has not been read",
        );
    }

    fn too_deep(&mut self, span: Span) {
        self.problem(
            codes::TOO_DEEP,
            span,
            format!("lists and mappings are nested more than {} deep", limits::DEPTH),
            "one level too many",
            "no field of a declaration is nested that deep: look for stray brackets or indentation",
        );
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        if event.tag().is_some() {
            self.problem(
                codes::YAML_FEATURE,
                span.clone(),
                "declarations do without YAML tags",
                "this value carries a tag",
                "remove the `!...` tag; quote the value if it must be text",
            );
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                self.finish(Node { span, value }, anchor);
            }
            Event::SequenceStart(_, anchor, _) => {
                return self.descend(Frame::Sequence(Vec::new()), span, anchor);
            }
            Event::MappingStart(_, anchor, _) => {
                let frame = Frame::Mapping {
                    entries: Vec::new(),
                    key: None,
                };
                return self.descend(frame, span, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.close(open, span.end);
                }
            }
            Event::Alias(id) => return self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                self.problem(
                    codes::SYNTAX,
                    span.clone(),
                    format!("the alias `*{name}` has no anchor `&{name}` above it in this document"),
                    "nothing to stand for",
                    "define the anchor first, or write the value out; anchors do not reach across documents",
                );
                self.finish_unreadable(span);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish_unreadable(&mut self, span: Span) {
        let value = Value::Unreadable;
        self.finish(Node { span, value }, 0);
    }

    fn descend(&mut self, frame: Frame, span: Span, anchor: usize) -> Result<(), Stop> {
        if self.open.len() >= limits::DEPTH {
            self.too_deep(span);
            return Err(Stop);
        }
        self.open.push(Open { frame, span, anchor });
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&id) else {
            self.problem(
                codes::SYNTAX,
                span.clone(),
                "this alias stands inside the value that it stands for",
                "would never end",
                "write the value out",
            );
            self.finish_unreadable(span);
            return Ok(());
        };
        self.aliased += node.size();
        if self.aliased > limits::ALIASED_VALUES {
            self.problem(
                codes::ALIASES_TOO_LARGE,
                span,
                format!(
                    "the aliases of this document add more than {} values",
                    limits::ALIASED_VALUES
                ),
                "too much from here on",
                "write the values out, or split the document",
            );
            return Err(Stop);
        }
        let node = node.clone();
        if self.open.len() + depth(&node) > limits::DEPTH {
            self.too_deep(span);
            return Err(Stop);
        }
        self.finish(node, 0);
        Ok(())
    }

    fn close(&mut self, open: Open, end: usize) {
        let Open {
            frame,
            mut span,
            anchor,
        } = open;
        // The end of a block collection is where the next thing begins; its last child knows better.
        let (last, value) = match frame {
            Frame::Sequence(items) => (items.last().map(|n| n.span.end), Value::Sequence(items)),
            Frame::Mapping { mut entries, key } => {
                entries.extend(key);
                (entries.last().map(|e| e.value.span.end), Value::Mapping(entries))
            }
        };
        let before = self.piece.text.get(..end.saturating_sub(self.piece.start));
        let flow = before.is_some_and(|text| text.ends_with(['}', ']']));
        let fits = |at: &usize| *at >= span.start;
        let last = last.filter(fits).unwrap_or(span.end);
        span.end = if flow { end.max(last) } else { last };
        self.finish(Node { span, value }, anchor);
    }

    fn finish(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.frame) {
            None => self.root = Some(node),
            Some(Frame::Sequence(items)) => items.push(node),
            Some(Frame::Mapping { entries, key }) => match key.take() {
                Some(key) => entries.push(Entry { value: node, ..key }),
                None => {
                    let key_span = node.span.clone();
                    let name = match node.value {
                        Value::Scalar { text, plain } if !(plain && text == "<<") => Some(text),
                        _ => None,
                    };
                    let hole = name.is_none();
                    *key = Some(Entry {
                        key: name.unwrap_or_default(),
                        key_span: key_span.clone(),
                        value: Node {
                            span: key_span.clone(),
                            value: Value::Unreadable,
                        },
                        hole,
                    });
                    if hole {
                        self.problem(
                            codes::YAML_FEATURE,
                            key_span,
                            "declarations do without merge keys, and every key is plain text",
                            "not a plain key",
                            "write the fields out",
                        );
                    }
                }
            },
        }
    }
}
