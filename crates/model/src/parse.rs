//! Files to [`Parsed`]: the one entrance of this room.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::base;
use crate::check;
use crate::codes;
use crate::declaration::{Declaration, Place, SourceFile, SourceName};
use crate::diagnostic::{Diagnostic, Label, Severity, Span};
use crate::draft::{Drafts, Unreadable};
use crate::limits;
use crate::read;
use crate::reader::Reader;
use crate::yaml;

/// What files declare, and everything that is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// All that is sound. To be used only if nothing is refused: a declaration is taken as a whole or not at all.
    pub declaration: Declaration,
    /// Every problem of every file, in the order of sources, files and lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether the declaration is refused: any error anywhere.
    pub fn refused(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads files of all sources as one declaration. The order of files makes no difference; a broken file or
/// document hides nothing in the others. Never fails and never panics: whatever is wrong is a diagnostic.
pub fn parse(files: &[SourceFile]) -> Parsed {
    let mut files: Vec<&SourceFile> = files.iter().collect();
    files.sort_by(|a, b| (&a.source, &a.path, &a.bytes).cmp(&(&b.source, &b.path, &b.bytes)));
    let mut diagnostics = Vec::new();
    let mut drafts = Drafts::default();
    let mut read = Vec::new();
    for (number, file) in files.into_iter().enumerate() {
        let place = start(file);
        if number >= limits::FILES {
            diagnostics.push(
                Diagnostic::error(
                    codes::TOO_MANY_FILES,
                    format!("there are more than {} files", limits::FILES),
                    place.label("this file and those after it are not read"),
                )
                .help("point the source at a path that holds declarations only"),
            );
            drafts.unreadable.push(Unreadable { place, kind: None });
            break;
        }
        let mut of_file = (Drafts::default(), Vec::new());
        read_file(file, &place, &mut of_file.0, &mut of_file.1);
        read.push((file, of_file));
    }
    // Which of them are no declarations but bases of gateways stands in the others.
    let named: BTreeSet<(SourceName, String)> =
        read.iter().flat_map(|(_, (drafts, _))| drafts.bases()).collect();
    for (file, (of_file, told)) in read {
        let key = (file.source.clone(), file.path.clone());
        if named.contains(&key) && of_file.declares_nothing() {
            let place = start(file);
            let base = text(file, &place, &mut diagnostics)
                .and_then(|text| base::read(&mut Reader::new(&place, &mut diagnostics), text));
            drafts.bases.insert(key, base);
        } else {
            drafts.append(of_file);
            diagnostics.extend(told);
        }
    }
    let declaration = check::declaration(&drafts, &mut diagnostics);
    diagnostics.sort_by(order);
    diagnostics.dedup();
    Parsed {
        declaration,
        diagnostics: bounded(diagnostics),
    }
}

/// By place; what has none comes last. Of the same place, by code.
fn order(a: &Diagnostic, b: &Diagnostic) -> Ordering {
    match (a.labels.first(), b.labels.first()) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => (&a.source, &a.file, &a.span).cmp(&(&b.source, &b.file, &b.span)),
    }
    .then_with(|| (a.code, &a.message).cmp(&(b.code, &b.message)))
}

/// Of sorted diagnostics, only so many for each file and in all: whoever mends a file with hundreds of problems looks again
/// anyway, and no input may make an answer of any size.
fn bounded(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kept: Vec<Diagnostic> = Vec::new();
    let mut file: Option<(SourceName, String)> = None;
    let mut told = 0;
    for diagnostic in diagnostics {
        let label = diagnostic.labels.first();
        let same = match (label, &file) {
            (Some(label), Some((source, path))) => label.source == *source && label.file == *path,
            _ => false,
        };
        if !same {
            file = label.map(|label| (label.source.clone(), label.file.clone()));
            told = 0;
        }
        told += 1;
        if kept.len() >= limits::PROBLEMS_IN_ALL
            && let Some(label) = label
        {
            let message = format!("there are more than {} problems", limits::PROBLEMS_IN_ALL);
            kept.push(untold(message, label));
            break;
        }
        match (told.cmp(&(limits::PROBLEMS + 1)), label) {
            (Ordering::Equal, Some(label)) => {
                let message = format!("this file has more than {} problems", limits::PROBLEMS);
                kept.push(untold(message, label));
            }
            (Ordering::Greater, Some(_)) => {}
            _ => kept.push(diagnostic),
        }
    }
    kept
}

/// In the place of those that are left out from here on.
fn untold(message: String, at: &Label) -> Diagnostic {
    let label = Label {
        text: "the rest is not told".to_owned(),
        ..at.clone()
    };
    Diagnostic::error(codes::TOO_MANY_PROBLEMS, message, label).help("mend those above, then check again")
}

/// Where a file begins.
fn start(file: &SourceFile) -> Place {
    Place {
        source: file.source.clone(),
        file: file.path.clone(),
        span: Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        },
    }
}

fn read_file(file: &SourceFile, place: &Place, drafts: &mut Drafts, diagnostics: &mut Vec<Diagnostic>) {
    let before = diagnostics.len();
    let Some(text) = text(file, place, diagnostics) else {
        let told = diagnostics.get(before).and_then(|told| told.labels.first());
        let place = told.map_or_else(
            || place.clone(),
            |label| Place {
                span: label.span.clone(),
                ..place.clone()
            },
        );
        drafts.unreadable.push(Unreadable { place, kind: None });
        return;
    };
    let (documents, problems) = yaml::documents(text);
    let mut reader = Reader::new(place, diagnostics);
    for problem in problems {
        reader.error(
            problem.code,
            &problem.span,
            problem.message,
            &problem.label,
            problem.help,
        );
    }
    for document in &documents {
        read::document(&mut reader, document, drafts);
    }
}

/// The text of a file, if it is text that can be read.
fn text<'f>(file: &'f SourceFile, place: &Place, diagnostics: &mut Vec<Diagnostic>) -> Option<&'f str> {
    if file.bytes.len() > limits::FILE_BYTES {
        diagnostics.push(
            Diagnostic::error(
                codes::FILE_TOO_LARGE,
                format!("this file has more than {} bytes", limits::FILE_BYTES),
                place.label("not read"),
            )
            .help("spread its documents over several files"),
        );
        return None;
    }
    let text = match std::str::from_utf8(&file.bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = file.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let good = std::str::from_utf8(good).unwrap_or_default();
            let place = after(good, place);
            diagnostics.push(
                Diagnostic::error(
                    codes::NOT_UTF8,
                    "this file is not UTF-8 text",
                    place.label("not UTF-8 from here"),
                )
                .help("save it as UTF-8; keep binary files out of this path"),
            );
            return None;
        }
    };
    // YAML ends a line there as well, but nothing else does: a person sees one line, and marks between documents drown.
    let lone = |(at, _): &(usize, &str)| !text[at + 1..].starts_with('\n');
    if let Some((at, _)) = text.match_indices('\r').find(lone) {
        let place = after(&text[..at], place);
        diagnostics.push(
            Diagnostic::error(
                codes::SYNTAX,
                "a carriage return stands here without a line feed",
                place.label("ends no line"),
            )
            .help("save the file with line feeds (or both, as on Windows) at the ends of its lines"),
        );
        return None;
    }
    Some(text)
}

/// The point where this much of the file's text ends.
fn after(text: &str, file: &Place) -> Place {
    let line_start = text.rfind('\n').map_or(0, |at| at + 1);
    Place {
        span: Span {
            start: text.len(),
            end: text.len(),
            line: text.matches('\n').count() + 1,
            column: text.get(line_start..).unwrap_or_default().chars().count() + 1,
        },
        ..file.clone()
    }
}
