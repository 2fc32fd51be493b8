//! The sandbox end to end, as people run it: real processes, real requests, the double in Kuma's place.
//!
//! The tour as a process with its lines held against their schema; its exit code where it must be 1; bad input to a
//! running federation, which is answered and changes nothing; and the whole story of `weir_tests::story`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use serde::Deserialize;
use weir_sandbox::bound::inside;
use weir_sandbox::coordinator::proven;
use weir_sandbox::play::Scene;
use weir_sandbox::repository::{SPLIT as FILE, split_text};
use weir_tests::story::{Story, say};
use weir_tests::{bare_programs, programs, story};

/// One line of `tour --json`: nothing else may be in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    step: String,
    commit: String,
    declared: BTreeMap<String, f64>,
    zones: BTreeMap<String, Zone>,
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

/// Arguments, or what must be in a text.
type Words<'a> = &'a [&'a str];
/// Variables, or files, with their values.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Runs a program to its end with a directory for temporary files of its own, which it must leave empty.
fn run(bin: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let own = tempfile::tempdir().unwrap();
    let mut command = Command::new(bin.join(program));
    command
        .args(args)
        .env("TMPDIR", own.path())
        .env("NO_COLOR", "1")
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    let output = command.output().expect(program);
    if output.status.success() {
        let left: Vec<_> = std::fs::read_dir(own.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{program} left {left:?}");
    }
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

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

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story_on_the_double_loses_no_request() {
    programs().unwrap();
    if let Err(error) = story::tell(false, 1_000).await {
        panic!("{error:#}");
    }
}

/// What runs and what the coordinator remembers, to be compared before and after.
async fn standing(story: &Story) -> (u64, BTreeMap<String, String>, Vec<String>, Vec<String>) {
    let list = story.play.viewer.splits().await.unwrap();
    let zones = story.play.viewer.zones().await.unwrap();
    let agents = zones
        .zones
        .iter()
        .flat_map(|z| z.agents.iter().map(|a| format!("{} {}", z.name, a.name)));
    let weights = list
        .splits
        .iter()
        .flat_map(|s| &s.zones)
        .map(|z| format!("{} {:?} {:?}", z.zone, z.generation, z.weights));
    (
        list.generation,
        list.commits.clone(),
        agents.collect(),
        weights.collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_to_a_running_federation_is_answered_and_changes_nothing() {
    let bin = programs().unwrap();
    let mut story = Story::start(false, 500).await.unwrap();
    let told = bad_input(bin, &mut story).await;
    match told {
        Ok(()) => story.play.stop().await,
        Err(error) => panic!("{:#}", story.play.failed(error).await),
    }
}

async fn bad_input(bin: &Path, story: &mut Story) -> anyhow::Result<()> {
    let good = story.commit(70, 30)?;
    story.play.proven(&good).await?;
    let before = standing(story).await;

    broken_declarations(bin, story, &good).await?;
    spent_tokens(bin, story)?;
    wrong_configurations(bin, story).await?;

    assert_eq!(standing(story).await, before);
    story.shares("after all of that", |_| [70, 30]).await?;
    story.unharmed("bad input")?;
    // And what is right is taken as if nothing had been.
    story.play.repository.commit(
        &[("traffic/zones.yaml", &zones(story))],
        "Take the broken files back",
    )?;
    let right = story.commit(40, 60)?;
    story.play.proven(&right).await?;
    story.shares("a good commit after bad ones", |_| [40, 60]).await?;
    story.unharmed("a good commit after bad ones")
}

fn zones(story: &Story) -> String {
    let zone = |name: &String| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {name}}}\nspec: {{platform: vm}}\n"
        )
    };
    story
        .play
        .zones
        .iter()
        .map(zone)
        .collect::<Vec<_>>()
        .join("---\n")
}

/// The last good commit stays in force, says so everywhere, and every fault has its code and its place.
async fn broken_declarations(bin: &Path, story: &Story, good: &str) -> anyhow::Result<()> {
    let token = tempfile::NamedTempFile::new()?;
    let dir = story.play.dir.display().to_string();
    let config = format!("{dir}/coordinator/coordinator.yaml");
    let made = run(
        bin,
        "weir-coordinator",
        &["token", "create", "--config", &config, "--viewer", "test"],
        &[],
    );
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    std::fs::write(token.path(), made.stdout)?;
    let (ca, token) = (
        format!("{dir}/coordinator/data/ca/ca.pem"),
        token.path().to_str().unwrap().to_owned(),
    );
    let connection = [
        ("WEIR_COORDINATOR", story.play.address.as_str()),
        ("WEIR_TOKEN_FILE", &token),
        ("WEIR_CA", &ca),
    ];

    // A sum, a slip of the pen, no YAML at all in a second file: each is named, none hides another.
    let sum = split_text(60, 60);
    let slip = split_text(70, 30).replace("weights:", "wieghts:");
    let cases: [(&str, Pairs<'_>, Words<'_>); 3] = [
        ("Sum", &[(FILE, &sum)], &["WEIR0102"]),
        ("Slip", &[(FILE, &slip)], &["WEIR0201", "wieghts"]),
        (
            "Both",
            &[(FILE, &sum), ("traffic/zones.yaml", "kind: [Zone\n")],
            &["WEIR0102", "zones.yaml"],
        ),
    ];
    for (message, files, words) in cases {
        let commit = story.play.repository.commit(files, message)?;
        story.play.look();
        let begin = std::time::Instant::now();
        let record = loop {
            if let Some(record) = story.play.viewer.commit(&commit).await? {
                break record;
            }
            assert!(
                begin.elapsed().as_secs() < 30,
                "{message}: the coordinator does not see {commit}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!(
            (record.verdict.as_str(), record.generation),
            ("refused", None),
            "{record:?}"
        );
        let said = |d: &weir_model::Diagnostic| format!("{} {} {:?}", d.code, d.message, d.labels);
        let all = record.diagnostics.iter().map(said).collect::<Vec<_>>().join("\n");
        assert!(words.iter().all(|word| all.contains(word)), "{words:?} in {all}");
        assert!(
            record.diagnostics.iter().all(|d| !d.labels.is_empty()),
            "without a place: {all}"
        );

        let list = story.play.viewer.splits().await?;
        assert_eq!(
            list.commits.values().collect::<Vec<_>>(),
            [good],
            "the last good commit stays in force"
        );
        let notice = list.notice.unwrap_or_default();
        assert!(notice.contains(&commit[..7]), "{notice}");

        // People are told as much by both of their commands.
        let status = run(bin, "weir", &["status"], &connection);
        let shown = text(&status.stdout) + &text(&status.stderr);
        assert!(
            shown.contains(&commit[..7]) && shown.contains("70") && shown.contains("30"),
            "{shown}"
        );
        let repository = story.play.repository.dir().join("traffic");
        let check = run(bin, "weir", &["check", repository.to_str().unwrap()], &[]);
        assert_ne!(check.status.code(), Some(0));
        let shown = text(&check.stdout) + &text(&check.stderr);
        assert!(
            words.iter().all(|word| shown.contains(word)),
            "{words:?} in {shown}"
        );
        story.shares(message, |_| [70, 30]).await?;
    }
    Ok(())
}

/// A token is spent once, by one agent, for one zone.
fn spent_tokens(bin: &Path, story: &Story) -> anyhow::Result<()> {
    let fra = story.play.dir.join("zones/fra/agent");
    let own = tempfile::tempdir()?;
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (data, config) = (own.path().join("data"), own.path().join("agent.yaml"));
    let right = std::fs::read_to_string(fra.join("agent.yaml"))?;
    let second = right
        .replace(&path(&fra.join("data")), &path(&data))
        .replace("fra-1", "fra-2");
    std::fs::write(&config, second)?;
    let identity = fra.join("data/identity");
    let kept = files(&identity);
    assert!(!kept.is_empty());

    let coordinator = path(&story.play.dir.join("coordinator/coordinator.yaml"));
    let ams = run(
        bin,
        "weir-coordinator",
        &["token", "create", "--config", &coordinator, "--zone", "ams"],
        &[],
    );
    let ams_token = own.path().join("ams");
    std::fs::write(&ams_token, &ams.stdout)?;
    let cases: [(&Path, &Path, &[&str]); 4] = [
        (
            &config,
            &fra.join("token"),
            &["spent by agent fra-1", "weir-coordinator token create --zone fra"],
        ),
        (
            &config,
            &ams_token,
            &["joins zone ams", "zone fra", "the token can still be used"],
        ),
        (&config, &config, &["token"]),
        (
            &fra.join("agent.yaml"),
            &fra.join("token"),
            &["has joined already", "identity"],
        ),
    ];
    for (config, token, words) in cases {
        let output = run(
            bin,
            "weir-agent",
            &["join", "--config", &path(config), "--token-file", &path(token)],
            &[],
        );
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            words.iter().all(|word| told.contains(word)),
            "{words:?} in {told}"
        );
        // The lock that keeps a second agent out of the directory is an empty file, made before anything is asked: a
        // token that can be refused without asking leaves not even that.
        let mut left = files(&data);
        let lock = left.remove(&data.join("lock").display().to_string());
        assert!(lock.is_none_or(|lock| lock.is_empty()), "the lock is empty");
        assert_eq!(left, BTreeMap::new(), "a refused agent keeps nothing");
        assert_eq!(files(&identity), kept, "the agent that spent it is who it was");
        // Nor can it run.
        let output = run(
            bin,
            "weir-agent",
            &["run", "--config", &path(&own.path().join("agent.yaml"))],
            &[],
        );
        let told = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && told.contains("has not joined"),
            "{told}"
        );
    }
    // The token of the other zone was not spent by being refused.
    let list = run(
        bin,
        "weir-coordinator",
        &["token", "list", "--config", &coordinator],
        &[],
    );
    let list = text(&list.stdout);
    assert!(
        list.lines().any(|l| l.contains("ams") && l.contains("open")),
        "{list}"
    );
    Ok(())
}

/// Every file below a directory with its content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(
                path.display().to_string(),
                std::fs::read(&path).unwrap_or_default(),
            );
        }
    }
    found
}

/// A coordinator with a wrong configuration does not start, says where it is wrong, and leaves ledger and traffic alone;
/// with the right one again it takes up what was in force.
async fn wrong_configurations(bin: &Path, story: &mut Story) -> anyhow::Result<()> {
    let dir = story.play.dir.join("coordinator");
    let file = dir.join("coordinator.yaml");
    let right = std::fs::read_to_string(&file)?;
    let serve = |text: &str| {
        let wrong = dir.join("wrong.yaml");
        std::fs::write(&wrong, text).unwrap();
        run(
            bin,
            "weir-coordinator",
            &["serve", "--config", wrong.to_str().unwrap()],
            &[],
        )
    };
    // Beside the running one.
    let told = serve(&right);
    assert_eq!(told.status.code(), Some(1));
    let told = text(&told.stderr);
    assert!(told.contains("another weir-coordinator serves"), "{told}");

    story.play.kill_coordinator().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = story.play.address.rsplit(':').next().unwrap();
    let occupied = taken.local_addr()?.port().to_string();
    let cases = [
        (right.replace("poll: 1s", "pol: 1s"), 2, "wrong.yaml:10:", "pol"),
        (
            right.replace("poll: 1s", "poll: often"),
            2,
            "wrong.yaml:10:",
            "often",
        ),
        (
            right.replace("sources:", "sources: []\nother:"),
            2,
            "wrong.yaml:",
            "help",
        ),
        (
            right.replace("federation: sandbox", "federation: other"),
            1,
            "holds plans of the federation `sandbox`",
            "other",
        ),
        (
            right.replace(&format!(":{port}"), &format!(":{occupied}")),
            1,
            &occupied,
            "listen",
        ),
    ];
    for (wrong, code, place, word) in &cases {
        assert_ne!(*wrong, right);
        let output = serve(wrong);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{told}");
        assert!(
            told.contains(place) && told.contains(word),
            "{place} and {word} in {told}"
        );
    }
    story
        .shares("with a coordinator that does not start", |_| [70, 30])
        .await?;
    story.unharmed("with a coordinator that does not start")?;
    story.play.restart_coordinator().await?;
    let patience = std::time::Duration::from_secs(30);
    story
        .play
        .until("the agents are back", patience, |split| {
            let split = split.context("the split is gone")?;
            let all = split.zones.iter().all(|zone| proven(split, zone));
            Ok(all.then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_port_is_split_once_its_name_is_declared() {
    programs().unwrap();
    if let Err(error) = story::tell_of_a_named_port(Scene::Vms, false, 1_000).await {
        panic!("{error:#}");
    }
}
