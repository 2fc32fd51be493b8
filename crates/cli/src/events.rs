//! `weir events`: what happened, and what happens.

use crate::output::{Exit, Output};

/// Flags of `weir events`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir events` is not there yet\n");
    Exit::Failure
}
