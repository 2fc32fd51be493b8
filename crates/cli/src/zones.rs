//! `weir zones`: zones and their agents.

use crate::output::{Exit, Output};

/// Flags of `weir zones`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir zones` is not there yet\n");
    Exit::Failure
}
