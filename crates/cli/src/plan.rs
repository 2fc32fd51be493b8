//! `weir plan`: what a change of declaration changes in each zone, offline.

use crate::output::{Exit, Output};

/// Flags of `weir plan`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir plan` is not there yet\n");
    Exit::Failure
}
