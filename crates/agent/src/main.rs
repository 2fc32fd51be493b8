//! `weir-agent`: reads the command line, runs one command, ends with its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use weir_agent::command::Agent;

fn main() -> ExitCode {
    Agent::parse().run()
}
