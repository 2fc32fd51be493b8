//! For people: what is wrong, the lines concerned with the spans underlined, what to do.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::Sources;
use crate::declaration::SourceFile;
use crate::diagnostic::{Diagnostic, Label, Severity};

/// How it may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours; not on a pipe.
    pub color: bool,
    /// Columns to stay within.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            color: false,
            width: 80,
        }
    }
}

/// Lines longer than this are named, not shown.
const LONGEST_LINE: usize = 4_096;

/// Renders diagnostics one after the other, an empty line between them. Files that are not among `sources`
/// are named without their lines.
pub fn render_diagnostics(diagnostics: &[Diagnostic], sources: &[SourceFile], style: Style) -> String {
    let sources = Sources::new(sources);
    let renderer = if style.color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(style.width).decor_style(DecorStyle::Ascii);
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(diagnostic, &sources, style.width)]));
        out.push('\n');
    }
    out
}

fn group<'d>(diagnostic: &'d Diagnostic, sources: &Sources<'d>, width: usize) -> Group<'d> {
    let (level, word) = match diagnostic.severity {
        Severity::Error => (Level::ERROR, "error"),
        Severity::Warning => (Level::WARNING, "warning"),
    };
    let code = diagnostic.code.to_string();
    let taken = word.len() + code.len() + "[]: ".len();
    let title = wrapped(&diagnostic.message, width.saturating_sub(taken));
    let mut group = level
        .primary_title(title)
        .id(code)
        .elements(elements(diagnostic, sources));
    let highest = diagnostic.labels.iter().map(|label| label.span.line).max();
    let margin = highest.map_or(1, |line| line.to_string().len());
    if let Some(help) = &diagnostic.help {
        let taken = margin + " = help: ".len();
        group = group.element(Level::HELP.message(wrapped(help, width.saturating_sub(taken))));
    }
    group
}

/// The files concerned, the primary one first; each with all of its labels.
fn elements<'d>(diagnostic: &'d Diagnostic, sources: &Sources<'d>) -> Vec<Element<'d>> {
    let mut files: Vec<(&Label, Vec<&Label>)> = Vec::new();
    for label in &diagnostic.labels {
        let same = |(first, _): &&mut (&Label, Vec<&Label>)| {
            (&first.source, &first.file) == (&label.source, &label.file)
        };
        match files.iter_mut().find(same) {
            Some((_, labels)) => labels.push(label),
            None => files.push((label, vec![label])),
        }
    }
    let primary = diagnostic.labels.first();
    files
        .into_iter()
        .map(|(first, labels)| {
            excerpt(first, &labels, primary, sources).map_or_else(
                || {
                    let origin = Origin::path(visible(&sources.shown(first))).line(first.span.line);
                    Element::from(origin.char_column(first.span.column))
                },
                Element::from,
            )
        })
        .collect()
}

/// The lines from the first label to the last. Only they are handed over, so that the cost does not grow with
/// the file.
fn excerpt<'d>(
    first: &'d Label,
    labels: &[&'d Label],
    primary: Option<&Label>,
    sources: &Sources<'d>,
) -> Option<Snippet<'d, annotate_snippets::Annotation<'d>>> {
    let bytes = sources.bytes(first)?;
    let top = labels.iter().min_by_key(|label| label.span.start)?;
    let last = labels
        .iter()
        .map(|label| label.span.end.max(label.span.start))
        .max()?;
    let from = bytes
        .get(..top.span.start)?
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let rest = bytes.get(last..)?;
    let to = last + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let lines = bytes.get(from..to)?;
    if lines.split(|b| *b == b'\n').any(|line| line.len() > LONGEST_LINE) {
        return None;
    }
    let text = String::from_utf8_lossy(lines);
    let mut snippet = Snippet::source(text.clone())
        .path(visible(&sources.shown(first)))
        .line_start(top.span.line)
        .fold(true);
    for label in labels {
        let kind = if primary.is_some_and(|primary| std::ptr::eq(primary, *label)) {
            AnnotationKind::Primary
        } else {
            AnnotationKind::Context
        };
        let start = boundary(&text, label.span.start - from);
        let end = boundary(&text, label.span.end.max(label.span.start) - from);
        snippet = snippet.annotation(kind.span(start..end).label(visible(&label.text)));
    }
    Some(snippet)
}

/// The next place at or after `at` where a character begins.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len())
}

/// Text of others, made harmless for a terminal.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Breaks at blanks, so that no line is longer than `width` unless a word is.
fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in visible(text).split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        } else if !out.is_empty() {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}
