//! The program `weir-coordinator`.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use weir_coordinator::commands::{self, Failure, Line};

fn main() -> ExitCode {
    let line = Line::parse();
    let ended = start(line);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn start(line: Line) -> Result<(), Failure> {
    let broken = |message: String| Failure { code: 1, message };
    weir_link::tls::install_provider();
    weir_link::logs::start(line.log_format).map_err(|why| broken(format!("error: {why}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| broken(format!("error: no threads to run on: {error}")))?;
    let ended = runtime.block_on(commands::run(line));
    // A fetch that hangs on a dead host holds a thread; nobody waits for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}
