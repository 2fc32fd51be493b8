//! `weir check`: declaration files are looked at, offline.

use crate::output::{Exit, Output};

/// Flags of `weir check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir check` is not there yet\n");
    Exit::Failure
}
