//! The simulation as a test: two thousand lives in which everything must hold, and every sabotage, which must be found.
//! docs/guarantees.md has the command for a hundred thousand.

use std::path::Path;
use std::process::Command;

use weir_tests::simulate::{self, Report, sabotage};

/// As the program has it: a fifth of a life is spent on memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Figures of a life that lived: a simulation in which nothing happens proves nothing.
fn lived(report: &Report) {
    let checks = &report.checks;
    for (invariant, at_least) in [
        ("I1", 10),
        ("I2", 10),
        ("I3", 5),
        ("I4", 5),
        ("I5", 2),
        ("I6", 5),
        ("I7", 10),
        ("I9", 100),
        ("I10", 5),
    ] {
        let count = checks.get(invariant).copied().unwrap_or_default();
        assert!(
            count >= at_least * report.seeds,
            "{invariant} was checked {count} times only"
        );
    }
    assert!(report.plans > 2 * report.seeds, "only {} plans", report.plans);
    assert!(4 * report.pins > report.seeds, "only {} pins", report.pins);
    assert!(
        4 * report.falls > report.seeds,
        "only {} shares went elsewhere",
        report.falls
    );
    assert!(2 * report.drains > report.seeds, "only {} drains", report.drains);
    assert!(report.writes > 8 * report.seeds, "only {} writes", report.writes);
    for (what, figure) in ["turns", "writes", "exact doors"].into_iter().zip(report.doors) {
        assert!(figure > report.seeds, "only {figure} {what} at gateways");
    }
}

#[test]
fn two_thousand_lives_hold_every_invariant() {
    let seeds = 0..2_000_u64;
    let lives = |of: u64| {
        // Lives with gateways, which are longer, are all of odd seeds.
        let mine = seeds.clone().filter(move |seed| (seed / 4) % 2 == of);
        let mut report = Report::default();
        for seed in mine {
            let life = simulate::live(seed, false);
            if let Some(violation) = &life.violation {
                let story = simulate::live(seed, true).story.join("\n");
                panic!(
                    "{story}\n{} does not hold: {}\nagain: cargo run --release -p weir-tests --bin simulate -- --seeds 1 --seed \
                     {seed}",
                    violation.invariant, violation.what
                );
            }
            report.add(&life);
        }
        report
    };
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|of| scope.spawn(move || lives(of)));
        for half in halves {
            match half.join() {
                Ok(report) => lived(&report),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
}

#[test]
fn a_seed_is_one_story() {
    // The second has gateways.
    for seed in [3, 9, 14] {
        let (one, other) = (simulate::live(seed, true), simulate::live(seed, true));
        assert!(one.story.len() > 50, "{} sentences", one.story.len());
        assert_eq!(one.story, other.story);
        assert_eq!(one.checks, other.checks);
        // Whether it is told changes nothing.
        assert_eq!(one.events, simulate::live(seed, false).events);
    }
}

#[test]
fn there_are_twenty_ways_to_break_it_and_their_names_are_in_the_code() {
    assert!(sabotage::ALL.len() >= 20);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut text = String::new();
    read(&root, &mut text);
    for sabotage in sabotage::ALL {
        let asked = format!("sabotaged(\"{}\")", sabotage.name);
        assert!(text.contains(&asked), "nothing asks for {}", sabotage.name);
    }
    let asked = text.matches("sabotaged(\"").count();
    assert_eq!(
        asked,
        sabotage::ALL.len(),
        "each switch is in the list, and is asked for once"
    );
}

fn read(folder: &Path, into: &mut String) {
    let entries = std::fs::read_dir(folder).expect("a folder of the workspace");
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && path.components().any(|part| part.as_os_str() == "src")
        {
            into.push_str(&std::fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// What is built at a higher level than 1 otherwise, of the crates that have switches.
const OPTIMIZED: [&str; 4] = ["weir-model", "weir-planner", "weir-render", "weir-agent"];

/// Each switch alone, until it is found; by the program, which alone is built with the switches.
#[test]
fn every_sabotage_is_found_and_names_the_invariant_that_it_breaks() {
    let own = std::env::current_exe().expect("this test");
    let target = own.ancestors().nth(3).expect("a target directory");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Of the whole workspace: of one package alone the libraries have other features, and all are built once more.
    cargo
        .args(["build", "--quiet", "--locked", "--workspace"])
        .args(["--features", "weir-tests/sabotage", "--bin", "simulate"])
        // It runs for less than what it takes to optimize it as the others are.
        .args(["--config", "profile.dev.debug=false"])
        .args(OPTIMIZED.iter().flat_map(|of| {
            let level = format!("profile.dev.package.{of}.opt-level=1");
            ["--config".to_owned(), level]
        }))
        .env("CARGO_TARGET_DIR", target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let built = cargo.output().expect("cargo runs, for it runs this test");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let output = Command::new(target.join("debug/simulate"))
        .args(["--sabotage", "all", "--json"])
        .output()
        .expect("the program that was built");
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}\n{said}");
    let last = said.lines().last().unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(last).expect("the last line is JSON");
    assert_eq!(report["missed"], serde_json::json!([]), "{told}");
    let found = report["sabotages"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(found, sabotage::ALL.len());
}
