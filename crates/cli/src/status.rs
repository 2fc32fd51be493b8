//! `weir status`: what is declared and what runs.

use crate::output::{Exit, Output};

/// Flags of `weir status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir status` is not there yet\n");
    Exit::Failure
}
