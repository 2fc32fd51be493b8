//! `weir explain`: a diagnostic code's page.

use crate::output::{Exit, Output};

/// Flags of `weir explain`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_args: &Args, output: &Output) -> Exit {
    output.complain("error: `weir explain` is not there yet\n");
    Exit::Failure
}
