//! Runs the simulation: so many lives, each with its own seed. The last line of `--json` sums them up.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and their scripts"
)]

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use serde_json::json;
use weir_tests::simulate::sabotage::{self, Sabotage};
use weir_tests::simulate::{self, Life, Report};

/// A life is a hundred thousand small allocations; with the system's allocator it takes more than twice the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After so many lives it is told how far they came.
const SO_MANY: u64 = 1_000;

/// Lives many small federations through hostile schedules, and checks Weir's invariants in each.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many lives, with the seeds from 0 on, or from `--seed` on. With a sabotage: at most so many, until it is found.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed. One life alone tells its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Break Weir in this way, and see that it is found; `list` shows all ways, `all` tries each.
    #[arg(long)]
    sabotage: Option<String>,
    /// The last line is JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.sabotage.as_deref() {
        Some("list") => list(),
        None => lives(&arguments, None),
        // The switches are compiled into this program alone, and only for this.
        Some(_) if !sabotage::turn_on(Some("")) => build_with_switches(),
        Some("all") => all(&arguments),
        Some(name) => match sabotage::ALL.iter().find(|sabotage| sabotage.name == name) {
            Some(sabotage) => lives(&arguments, Some(sabotage)),
            None => {
                eprintln!("there is no sabotage `{name}`; `--sabotage list` shows all");
                ExitCode::FAILURE
            }
        },
    }
}

fn list() -> ExitCode {
    for sabotage in sabotage::ALL {
        println!(
            "{:<26} {:<4} within {:>5} seeds: {}",
            sabotage.name, sabotage.breaks, sabotage.within, sabotage.does
        );
    }
    ExitCode::SUCCESS
}

/// Runs the same command in a program that has the switches.
fn build_with_switches() -> ExitCode {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "run",
        "--quiet",
        "--locked",
        "-p",
        "weir-tests",
        "--bin",
        "simulate",
    ]);
    command.args(["--features", "sabotage"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.arg("--").args(std::env::args_os().skip(1)).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!(
                "sabotages need a program that is built with them, and cargo cannot be started: {error}"
            );
            ExitCode::FAILURE
        }
    }
}

/// Lives these seeds. With a sabotage: until it is found. A life that fails is told, the first of each invariant.
fn run(seeds: impl Iterator<Item = u64>, alone: bool, sabotage: Option<&Sabotage>) -> Report {
    sabotage::turn_on(sabotage.map(|sabotage| sabotage.name));
    let mut report = Report::default();
    for seed in seeds {
        let life = simulate::live(seed, alone);
        report.add(&life);
        if alone {
            tell(&life);
        }
        let Some(violation) = &life.violation else {
            continue;
        };
        let invariant = violation.invariant.to_string();
        let news = report.caught.get(&invariant) == Some(&seed);
        if !alone && sabotage.is_none() && news {
            tell(&simulate::live(seed, true));
        }
        if news || (sabotage.is_none() && report.failed <= 20) {
            let with = sabotage.map_or_else(String::new, |sabotage| format!(" --sabotage {}", sabotage.name));
            println!(
                "{invariant} does not hold: {}\n  again: cargo run --release -p weir-tests --bin simulate -- --seeds 1 --seed \
                 {seed}{with}",
                violation.what
            );
        }
        if sabotage.is_some_and(|sabotage| sabotage.breaks == violation.invariant) {
            break;
        }
    }
    report
}

fn lives(arguments: &Arguments, sabotage: Option<&Sabotage>) -> ExitCode {
    let began = Instant::now();
    let first = arguments.seed.unwrap_or(0);
    let count = arguments
        .seeds
        .unwrap_or(sabotage.map_or(1, |sabotage| sabotage.within));
    let seeds = first..first.saturating_add(count);
    let report = match sabotage {
        None if count > 1 => side_by_side(&seeds),
        _ => run(seeds, count == 1, sabotage),
    };
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let (lives, events) = (report.seeds as f64 / seconds, report.events as f64 / seconds);
    eprintln!(
        "{} lives, {} failed, in {seconds:.1} s: {lives:.0} lives and {events:.0} events a second; {} events, {} activations, \
         {} plans, {} writes, {} pins, {} falls, {} drains; {} turns at gateways, {} writes to them, {} doors exact",
        report.seeds,
        report.failed,
        report.events,
        report.activations,
        report.plans,
        report.writes,
        report.pins,
        report.falls,
        report.drains,
        report.doors[0],
        report.doors[1],
        report.doors[2]
    );
    let found = sabotage.is_none_or(|sabotage| report.caught.contains_key(&sabotage.breaks.to_string()));
    if arguments.json {
        println!(
            "{}",
            json!({
                "seeds": report.seeds,
                "failed": report.failed,
                "checks": report.checks,
                "sabotage": sabotage.map(|sabotage| sabotage.name),
                "caught": report.caught,
            })
        );
    }
    if found && (sabotage.is_some() || report.failed == 0) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// So many at a time as there are processors.
fn side_by_side(seeds: &Range<u64>) -> Report {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let reports = Mutex::new(Report::default());
    // Some lives are longer than others, and which those are goes by their seeds.
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (reports, next) = (&reports, &next);
            let mine = std::iter::from_fn(move || {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                // A hundred thousand take an hour: whoever stops them knows how far they came.
                if seed > seeds.start && (seed - seeds.start).is_multiple_of(SO_MANY) {
                    eprintln!("the first {} are lived or being lived", seed - seeds.start);
                }
                (seed < seeds.end).then_some(seed)
            });
            scope.spawn(move || {
                let report = run(mine, false, None);
                let mut all = reports.lock().unwrap_or_else(PoisonError::into_inner);
                all.join(report);
            });
        }
    });
    reports.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Each in turn, two at a time: a switch is for the thread that turned it on.
fn all(arguments: &Arguments) -> ExitCode {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(sabotage) = sabotage::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let within = arguments.seeds.unwrap_or(sabotage.within);
                    let seeds = std::iter::once(sabotage.hint).chain(0..within);
                    let report = run(seeds, false, Some(sabotage));
                    let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                    reports.insert(sabotage.name, report);
                }
            });
        }
    });
    let mut missed = Vec::new();
    let mut found = serde_json::Map::new();
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    for sabotage in sabotage::ALL {
        let Some(report) = reports.get(sabotage.name) else {
            missed.push(sabotage.name);
            continue;
        };
        let breaks = sabotage.breaks.to_string();
        if report.caught.contains_key(&breaks) {
            eprintln!("{}: {breaks} after {} seeds", sabotage.name, report.seeds);
        } else {
            eprintln!(
                "{}: NOT FOUND within {} seeds: {:?}",
                sabotage.name, report.seeds, report.caught
            );
            missed.push(sabotage.name);
        }
        found.insert(
            sabotage.name.to_owned(),
            json!({ "breaks": breaks, "seeds": report.seeds, "caught": report.caught }),
        );
    }
    if arguments.json {
        println!("{}", json!({ "sabotages": found, "missed": missed }));
    }
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn tell(life: &Life) {
    for line in &life.story {
        println!("{line}");
    }
}
