//! `weir completions`: a completion script for a shell.

use clap::CommandFactory;

use crate::command::Weir;
use crate::output::{Exit, Output};

/// Flags of `weir completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Runs it.
pub fn run(args: &Args, output: &Output) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Weir::command(), "weir", &mut script);
    output.print(String::from_utf8_lossy(&script));
    Exit::Fine
}
