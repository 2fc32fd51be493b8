//! What all commands share: where text goes, whether in colour, and how a command ends.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// How a command ended. The numbers are a promise: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and all is as asked.
    Fine,
    /// 1: could not be done, or what was looked at is wrong.
    Failure,
    /// 2: asked wrongly.
    Usage,
    /// 3: not (yet) converged, or there are changes.
    Differs,
    /// 4: what is known is stale or unknown.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Differs => 3,
            Exit::Unknown => 4,
        })
    }
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where a command writes. Text carries ANSI colours; they are stripped where nobody wants them.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    choice: anstream::ColorChoice,
}

impl Output {
    /// From the global flags.
    pub fn new(json: bool, color: Color) -> Self {
        let choice = match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::AlwaysAnsi,
            Color::Never => anstream::ColorChoice::Never,
        };
        Self { json, choice }
    }

    /// Whether text on standard output will keep its colours.
    pub fn color(&self) -> bool {
        let stdout = std::io::stdout();
        match self.choice {
            anstream::ColorChoice::Auto => {
                anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never
            }
            anstream::ColorChoice::Never => false,
            _ => true,
        }
    }

    /// Whether a person looks at standard output.
    pub fn terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints to standard output as it is, without adding a line end. A closed pipe is not an error: nobody reads on.
    pub fn print(&self, text: impl fmt::Display) {
        let mut stream = anstream::AutoStream::new(std::io::stdout(), self.choice);
        let _closed_pipe = write!(stream, "{text}").and_then(|()| stream.flush());
    }

    /// Prints like [`Output::print`], and tells whether anybody still reads: for commands that print without end.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn write(&self, text: impl fmt::Display) -> std::io::Result<()> {
        let mut stream = anstream::AutoStream::new(std::io::stdout(), self.choice);
        write!(stream, "{text}").and_then(|()| stream.flush())
    }

    /// Prints a value as indented JSON to standard output.
    pub fn print_json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.print(format_args!("{text}\n")),
            Err(e) => self.complain(format_args!("error: cannot be written as JSON: {e}\n")),
        }
    }

    /// Prints to standard error as it is, without adding a line end.
    pub fn complain(&self, text: impl fmt::Display) {
        let mut stream = anstream::AutoStream::new(std::io::stderr(), self.choice);
        let _closed_pipe = write!(stream, "{text}").and_then(|()| stream.flush());
    }
}
