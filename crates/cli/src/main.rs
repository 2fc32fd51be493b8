//! `weir`: reads the command line, runs one command, ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use weir_cli::command::Weir;

fn main() -> ExitCode {
    weir_link::tls::install_provider();
    Weir::parse().run().into()
}
