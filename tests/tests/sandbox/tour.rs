//! The tour as a process: its lines held against their schema, and its exit code where it must be 1.

use std::collections::BTreeMap;
use std::process::Output;

use serde::Deserialize;
use weir_sandbox::bound::inside;
use weir_tests::story::say;
use weir_tests::{bare_programs, programs};

use crate::{Pairs, Words, run, text};

/// One line of `tour --json`: nothing else may be in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    step: String,
    commit: String,
    declared: BTreeMap<String, f64>,
    zones: BTreeMap<String, Zone>,
    gateways: BTreeMap<String, Gateway>,
    commit_to_proof_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Zone {
    requests: u64,
    failed: u64,
    counted: BTreeMap<String, u64>,
    weights: String,
    evidence: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    channel: String,
    requests: u64,
    failed: u64,
    counted: BTreeMap<String, u64>,
    proof: String,
}

/// The step after which nothing is declared.
const REMOVED: &str = "removed";
/// Its steps: name, per cent for vm and cloud, whether a commit was proven in it.
const STEPS: [(&str, [u32; 2], bool); 11] = [
    ("vm-100", [100, 0], false),
    ("vm-90", [90, 10], true),
    ("half", [50, 50], true),
    ("refused", [50, 50], false),
    ("cloud-100", [0, 100], true),
    ("revert", [50, 50], true),
    ("coordinator-killed", [50, 50], false),
    ("agents-killed", [50, 50], false),
    ("vm-100-again", [100, 0], true),
    (REMOVED, [0, 0], false),
    ("half-again", [50, 50], true),
];

fn lines(output: &Output) -> Vec<Line> {
    let out = text(&output.stdout);
    let parsed = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    parsed.collect()
}

#[test]
fn the_tour_ends_well_and_each_of_its_lines_is_as_promised() {
    const REQUESTS: u64 = 1_500;
    let bin = programs().unwrap();
    let requests = REQUESTS.to_string();
    // The programs that people install do not know the switch of the measurements.
    let env = [("WEIR_TEST_BARE_POLICIES", "1")];
    let output = run(
        bin,
        "weir-sandbox",
        &["tour", "--json", "--requests", &requests],
        &env,
    );
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("error[WEIR0102]") && told.contains("traffic/checkout.yaml:16:16"),
        "{told}"
    );
    assert!(told.contains(" 0 failed; every share inside its bound"), "{told}");

    let lines = lines(&output);
    let steps: Vec<_> = lines.iter().map(|l| l.step.as_str()).collect();
    assert_eq!(steps, STEPS.map(|(step, _, _)| step));
    let mut commits = std::collections::BTreeSet::new();
    for (line, (_, weights, commits_here)) in lines.iter().zip(STEPS) {
        let mut declared: BTreeMap<String, f64> = [("vm", weights[0]), ("cloud", weights[1])]
            .map(|(b, w)| (b.to_owned(), f64::from(w)))
            .into();
        if line.step == REMOVED {
            declared.clear();
        }
        assert_eq!(line.declared, declared, "{line:?}");
        let hexadecimal = line.commit.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(line.commit.len() == 40 && hexadecimal, "{line:?}");
        let new = commits.insert(line.commit.clone());
        let expected_new = commits_here || matches!(line.step.as_str(), "vm-100" | "refused" | REMOVED);
        assert_eq!(new, expected_new, "{line:?}");
        assert_eq!(line.commit_to_proof_ms.is_some(), commits_here, "{line:?}");
        assert!(
            line.commit_to_proof_ms.is_none_or(|ms| (1..60_000).contains(&ms)),
            "{line:?}"
        );
        assert_eq!(
            line.zones.keys().collect::<Vec<_>>(),
            ["fra", "par", "use1"],
            "{line:?}"
        );
        for zone in line.zones.values() {
            assert!(zone.requests >= REQUESTS && zone.failed == 0, "{line:?}");
            assert_eq!(zone.counted.values().sum::<u64>(), zone.requests, "{line:?}");
            let shown = (zone.weights.as_str(), zone.evidence.as_str());
            if line.step == REMOVED {
                assert_eq!(shown, ("none", "none"), "{line:?}");
                continue;
            }
            assert_eq!(shown, ("exact", "live"), "{line:?}");
            for (backend, percent) in [("vm", weights[0]), ("cloud", weights[1])] {
                let count = zone.counted.get(backend).copied().unwrap_or(0);
                assert!(inside(count, zone.requests, percent * 100), "{backend}: {line:?}");
            }
            assert!(
                zone.counted.keys().all(|name| name == "vm" || name == "cloud"),
                "{line:?}"
            );
        }
        at_the_gateways(line, weights);
    }
}

/// Its gateways, by channel.
const GATEWAYS: [(&str, &str); 4] = [
    ("fra/edge", "admin-dbless"),
    ("fra/edge-db", "admin-db"),
    // In the mesh: a delegated gateway.
    ("fra/edge-mesh", "admin-dbless"),
    ("use1/edge-kic", "kic"),
];

/// The second doors: Kong, however it is run, gives what the mesh gives.
fn at_the_gateways(line: &Line, weights: [u32; 2]) {
    let seen: Vec<_> = line
        .gateways
        .iter()
        .map(|(name, gateway)| (name.as_str(), gateway.channel.as_str()))
        .collect();
    // A route of Weir's own goes with the split, and so do those who came by it.
    let left = if line.step == REMOVED { 1 } else { GATEWAYS.len() };
    assert_eq!(seen, GATEWAYS[..left], "{line:?}");
    for gateway in line.gateways.values() {
        assert!(gateway.requests >= 1_500 && gateway.failed == 0, "{line:?}");
        assert_eq!(
            gateway.counted.values().sum::<u64>(),
            gateway.requests,
            "{line:?}"
        );
        if line.step == REMOVED {
            // What the site keeps itself: the service has its own host again.
            let shown = (gateway.proof.as_str(), gateway.counted.len());
            assert_eq!(shown, ("none", 1), "{line:?}");
            assert!(gateway.counted.contains_key("vm"), "{line:?}");
            continue;
        }
        assert_eq!(gateway.proof, "exact", "{line:?}");
        for (backend, percent) in [("vm", weights[0]), ("cloud", weights[1])] {
            let count = gateway.counted.get(backend).copied().unwrap_or(0);
            assert!(
                inside(count, gateway.requests, percent * 100),
                "{backend}: {line:?}"
            );
        }
    }
}

#[test]
fn bare_policies_lose_requests_and_the_tour_ends_with_1() {
    let bin = bare_programs().unwrap();
    let output = run(
        bin,
        "weir-sandbox",
        &["tour", "--json", "--bare", "--requests", "300"],
        &[],
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let lines = lines(&output);
    assert_eq!(
        lines.len(),
        STEPS.len(),
        "lost requests do not end the tour: {}",
        text(&output.stderr)
    );
    let failed = |step: &str| -> u64 {
        let line = lines.iter().find(|l| l.step == step).unwrap();
        line.zones.values().map(|zone| zone.failed).sum()
    };
    let to_nothing = ["cloud-100", "vm-100-again"].map(failed);
    assert!(
        to_nothing.iter().all(|lost| *lost > 0),
        "a bare shift to nothing lost nothing: {to_nothing:?}"
    );
    let comes_and_goes = ["vm-100", REMOVED, "half-again"].map(failed);
    assert!(
        comes_and_goes.iter().all(|lost| *lost > 0),
        "a bare policy came or went and lost nothing: {comes_and_goes:?}"
    );
    let sent: u64 = lines
        .iter()
        .flat_map(|l| l.zones.values())
        .map(|z| z.failed)
        .sum();
    say(&format!(
        "bare policies on the double: {sent} requests lost, {to_nothing:?} in the shifts to 0, {comes_and_goes:?} where a \
         first policy came, went and came again"
    ));
}

#[test]
fn a_tour_that_cannot_start_says_what_to_do() {
    let bin = programs().unwrap();
    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("a"), "").unwrap();
    let empty = tempfile::tempdir().unwrap();
    let (full, empty) = (full.path().to_str().unwrap(), empty.path().to_str().unwrap());
    let cases: [(Words<'_>, Pairs<'_>, Words<'_>); 3] = [
        (&["--dir", full], &[], &["is not empty", "--dir"]),
        (
            &["--real"],
            &[("WEIR_KUMA_BIN", empty)],
            &["kuma-cp, kuma-dp, envoy not found in WEIR_KUMA_BIN", "--real"],
        ),
        (
            &[],
            &[("WEIR_BIN_DIR", empty)],
            &["weir-sandbox is not in", "cargo build"],
        ),
    ];
    for (args, env, words) in cases {
        let output = run(bin, "weir-sandbox", &[&["tour", "--json"], args].concat(), env);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        assert!(
            words.iter().all(|word| told.contains(word)),
            "{words:?} in {told}"
        );
    }
}
