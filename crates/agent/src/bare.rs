//! `weir-agent-bare`: the agent of a build with the test-only switch `bare-policies`, under a name of its own.

use std::process::ExitCode;

use clap::Parser as _;
use weir_agent::command::Agent;

fn main() -> ExitCode {
    Agent::parse().run()
}
