//! `weir history`: commits and what became of them.

use crate::output::{Exit, Output};

/// Flags of `weir history`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir history` is not there yet\n");
    Exit::Failure
}
