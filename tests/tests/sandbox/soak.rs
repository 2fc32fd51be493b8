//! A small soak as a process: everything that moves weights is killed in it, Kuma's control planes included.

use std::collections::BTreeMap;

use serde::Deserialize;
use weir_tests::programs;

use crate::{run, text};

/// One line of `soak --json`: nothing else may be in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    transition: usize,
    commit: String,
    declared: BTreeMap<String, u32>,
    killed: Vec<Death>,
    proven_after_ms: u64,
    zones: BTreeMap<String, Zone>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Death {
    who: String,
    after_ms: u64,
    dead_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Zone {
    requests: u64,
    failed: u64,
    answered: BTreeMap<String, u64>,
    counted: BTreeMap<String, u64>,
}

/// Its last line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    transitions: usize,
    requests: u64,
    failed: u64,
    why: BTreeMap<String, u64>,
    answered_at_zero: u64,
    outside: u64,
    killed: BTreeMap<String, u64>,
    spared: Vec<String>,
    seconds: u64,
    seed: u64,
}

#[test]
fn a_soak_that_kills_every_kind_of_control_plane_loses_nothing() {
    const REQUESTS: u64 = 500;
    // Three transitions are too few for any dice: with these everybody dies whom it has to be shown for, several at a time, and
    // a backend is on the way to and from 0. Another one each time: what one order of deaths hides the next one shows.
    const SEEDS: [u64; 4] = [39, 4_580, 9_646, 18_734];
    let bin = programs().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let drawn = SEEDS[now.unwrap().subsec_nanos() as usize / 1_000 % SEEDS.len()];
    let (requests, seed) = (REQUESTS.to_string(), drawn.to_string());
    let output = run(
        bin,
        "weir-sandbox",
        &[
            "soak",
            "--json",
            "--transitions",
            "3",
            "--requests",
            &requests,
            "--seed",
            &seed,
        ],
        &[],
    );
    let told = text(&output.stderr);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}\n{out}");
    assert!(told.contains(&format!("--seed {drawn}")), "{told}");

    let (lines, end) = out.trim_end().rsplit_once('\n').expect("lines");
    let end: End = serde_json::from_str(end).unwrap_or_else(|e| panic!("{e}: {end}"));
    let mut requests = 0;
    let mut deaths: BTreeMap<String, u64> = BTreeMap::new();
    let mut commits = std::collections::BTreeSet::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let line: Line = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(line.transition, number);
        assert!(commits.insert(line.commit.clone()), "{line:?}");
        assert_eq!(line.declared.values().sum::<u32>(), 100, "{line:?}");
        assert_eq!(
            line.zones.keys().collect::<Vec<_>>(),
            ["fra", "par", "use1"],
            "{line:?}"
        );
        for death in &line.killed {
            assert!(death.after_ms < 1_500 && death.dead_ms >= 200, "{line:?}");
            // Who was dead so long was awaited.
            assert!(line.proven_after_ms >= death.after_ms + death.dead_ms, "{line:?}");
            *deaths.entry(death.who.clone()).or_default() += 1;
        }
        for zone in line.zones.values() {
            requests += zone.requests;
            assert!(zone.failed == 0 && zone.requests >= REQUESTS, "{line:?}");
            assert_eq!(zone.answered.values().sum::<u64>(), zone.requests, "{line:?}");
            assert!(zone.counted.values().sum::<u64>() >= REQUESTS, "{line:?}");
            for (backend, share) in &line.declared {
                let counted = zone.counted.get(backend).copied().unwrap_or(0);
                assert_eq!(counted == 0, *share == 0, "{line:?}");
            }
        }
    }
    assert_eq!(
        (end.transitions, commits.len(), end.seed),
        (3, 3, drawn),
        "{end:?}"
    );
    assert_eq!((end.requests, end.failed), (requests, 0), "{end:?}");
    assert_eq!((end.answered_at_zero, end.outside), (0, 0), "{end:?}");
    assert!(end.why.is_empty() && end.seconds > 0, "{end:?}");
    assert_eq!(end.killed, deaths, "{end:?}");
    assert_eq!(end.spared, Vec::<String>::new(), "{end:?}");
    for who in [
        "control plane of fra",
        "control plane of use1",
        "coordinator",
        "global control plane",
    ] {
        assert!(end.killed.contains_key(who), "{who}: {end:?}");
    }
    let agent = end.killed.keys().any(|who| who.starts_with("agent of "));
    assert!(agent, "{end:?}");
}
