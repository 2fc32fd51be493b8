//! `weir check`: declaration files are looked at, offline.
//!
//! Exit codes: 0 nothing wrong (warnings are shown), 1 errors in the declaration, 2 the files cannot be read or
//! the command was asked wrongly.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_model::{Diagnostic, Severity, SourceFile, SourceName, Style, parse, render_diagnostics, report};

use crate::output::{Exit, Output};

/// Flags of `weir check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to show what is wrong. [--json is --format json]
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Files, or directories whose *.yaml and *.yml files are read, all as one declaration; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// How to show what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people, with the lines concerned.
    Text,
    /// One JSON value.
    Json,
    /// Annotations for GitHub Actions.
    Github,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    let files = match read(&args.paths) {
        Ok(files) => files,
        Err(problem) => {
            output.complain(format_args!("error: {problem}\n"));
            return Exit::Usage;
        }
    };
    let mut parsed = parse(&files);
    if !parsed.refused() {
        let found = weir_render::kong::declared(&parsed.declaration);
        parsed.diagnostics.extend(found);
    }
    let diagnostics = &parsed.diagnostics;
    match if output.json { Format::Json } else { args.format } {
        Format::Text => {
            let style = Style {
                color: output.color(),
                width: 80,
            };
            output.print(render_diagnostics(diagnostics, &files, style));
            output.print(summary(diagnostics, files.len()));
        }
        Format::Json => output.print_json(&report::json(diagnostics, &files)),
        Format::Github => output.print(report::github(diagnostics, &files)),
        Format::Sarif => output.print_json(&report::sarif(diagnostics, &files)),
    }
    if parsed.refused() {
        Exit::Failure
    } else {
        Exit::Fine
    }
}

/// The last line for people.
fn summary(diagnostics: &[Diagnostic], files: usize) -> String {
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let files = plural(files, "file");
    let mut line = match (errors, warnings) {
        (0, 0) => return format!("{files}: nothing wrong\n"),
        (errors, 0) => format!("\n{files}: {}", plural(errors, "error")),
        (0, warnings) => format!("\n{files}: {}", plural(warnings, "warning")),
        (errors, warnings) => {
            format!(
                "\n{files}: {}, {}",
                plural(errors, "error"),
                plural(warnings, "warning")
            )
        }
    };
    if let Some(first) = diagnostics.first() {
        line.push_str(&format!("; more about a code: weir explain {}", first.code));
    }
    line.push('\n');
    line
}

fn plural(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Bytes read of one file: one more than a declaration's file may have, so that a longer one is refused as such.
const MOST: u64 = weir_model::limits::FILE_BYTES as u64 + 1;

/// Reads what the paths name, each file once.
fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, String> {
    let mut names = BTreeMap::new();
    let mut files = Vec::new();
    let mut standard_input = false;
    for path in paths {
        if path.as_os_str() == "-" {
            if !std::mem::replace(&mut standard_input, true) {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().take(MOST).read_to_end(&mut bytes);
                read.map_err(|e| format!("standard input cannot be read: {e}"))?;
                files.push(source_file("<stdin>".to_owned(), bytes));
            }
            continue;
        }
        if walk(path, true, &mut names)? == 0 {
            return Err(format!("{} holds no *.yaml or *.yml file", path.display()));
        }
    }
    for name in names.into_values() {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&name).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
        read.map_err(|e| format!("{} cannot be read: {e}", name.display()))?;
        let path = name.strip_prefix("./").unwrap_or(&name);
        files.push(source_file(path.to_string_lossy().replace('\\', "/"), bytes));
    }
    Ok(files)
}

fn source_file(path: String, bytes: Vec<u8>) -> SourceFile {
    SourceFile {
        source: SourceName("local".to_owned()),
        path,
        bytes: Arc::from(bytes),
    }
}

/// A file that is named is read whatever it is called. Below a directory it is as in the coordinator: only YAML,
/// nothing hidden (that is other tools' business), and no symbolic links. Names go by their canonical path:
/// one file by two names is still one file. Returns how many files were found.
fn walk(path: &Path, named: bool, names: &mut BTreeMap<PathBuf, PathBuf>) -> Result<usize, String> {
    let cannot = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    if !path.is_dir() {
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !named && !yaml {
            return Ok(0);
        }
        let one = path.canonicalize().map_err(cannot)?;
        names.entry(one).or_insert_with(|| path.to_owned());
        return Ok(1);
    }
    let mut found = 0;
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let link = entry.file_type().map_err(cannot)?.is_symlink();
        if !hidden && !link {
            found += walk(&entry.path(), false, names)?;
        }
    }
    Ok(found)
}
