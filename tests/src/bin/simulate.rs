//! Runs the simulation: so many lives, each with its own seed. The last line of `--json` sums them up.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and their scripts")]

#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use weir_tests::simulate::{self, Life, Report};

/// Lives many small federations through hostile schedules, and checks Weir's invariants in each.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many lives, with the seeds from 0 on, or from `--seed` on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed. With one life alone, its story is told.
    #[arg(long)]
    seed: Option<u64>,
    /// Break Weir in this way; `list` shows all, `all` tries each until it is found.
    #[arg(long)]
    sabotage: Option<String>,
    /// The last line is JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let first = arguments.seed.unwrap_or(0);
    let began = Instant::now();
    let mut report = Report::default();
    let alone = arguments.seeds == 1 && arguments.seed.is_some();
    for seed in first..first.saturating_add(arguments.seeds) {
        let life = simulate::live(seed, alone);
        report.add(&life);
        if alone {
            for line in &life.story {
                println!("{line}");
            }
        }
        if let Some(violation) = &life.violation {
            if !alone && report.failed <= 3 {
                tell(&simulate::live(seed, true));
            }
            if report.failed <= 50 {
                println!("seed {seed}: {}: {}", violation.invariant, violation.what);
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!(
        "{} lives, {} failed, in {seconds:.1} s: {:.0} a second; {} events, {} activations, {} plans, {} writes",
        report.seeds,
        report.failed,
        report.seeds as f64 / seconds,
        report.events,
        report.activations,
        report.plans,
        report.writes
    );
    println!("{:?} {:?}", report.checks, report.caught);
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(life: &Life) {
    for line in &life.story {
        println!("  {line}");
    }
}
