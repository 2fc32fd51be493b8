//! The program `weir-sandbox`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use weir_sandbox::command::{Line, run};

fn main() -> ExitCode {
    let line = Line::parse();
    match run(line) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
