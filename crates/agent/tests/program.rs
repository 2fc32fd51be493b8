//! The program itself: what it says and how it ends when something is wrong before it could begin.

#![expect(clippy::unwrap_used, reason = "a test: what is not there ends it")]

use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-agent");

const CONFIG: &str = "\
zone: fra
agent: fra-1
coordinator: https://127.0.0.1:9
data: data
kuma: {api: http://127.0.0.1:9}
";

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = Command::new(PROGRAM)
        .args(arguments)
        .args(["--config", "agent.yaml"])
        .current_dir(dir)
        .env_remove("WEIR_LOG")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), "", "stdout is for answers");
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_wrong_configuration_is_shown_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["run"][..], &["status"], &["join", "--token", "x"]] {
        let missing = run(dir.path(), command);
        assert_eq!(missing.0, Some(2), "{missing:?}");
        assert!(missing.1.contains("agent.yaml"), "{missing:?}");
    }
    std::fs::write(
        dir.path().join("agent.yaml"),
        CONFIG.replace("zone: fra", "zone: Fra"),
    )
    .unwrap();
    let (code, text) = run(dir.path(), &["run"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("agent.yaml:1:7"), "{text}");
    assert!(!dir.path().join("data").exists(), "nothing is made");
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.yaml"), CONFIG).unwrap();
    for (command, words) in [
        (&["run"][..], "weir-agent join"),
        (&["status"], "is it running?"),
        (&["join", "--token", "weir-a-rubbish"], "token"),
        (
            &["join", "--token-file", "none"],
            "cannot read the token file none",
        ),
    ] {
        let (code, text) = run(dir.path(), command);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(words), "{command:?}: {text}");
    }
}

/// As a pod's first container does, at every start.
#[test]
fn joining_once_more_does_nothing_if_so_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.yaml"), CONFIG).unwrap();
    let identity = dir.path().join("data/identity");
    std::fs::create_dir_all(&identity).unwrap();
    std::fs::write(identity.join("cert.pem"), "").unwrap();
    std::fs::write(identity.join("key.pem"), "").unwrap();
    let (code, text) = run(dir.path(), &["join", "--token-file", "none"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("has joined already"), "{text}");
    let (code, text) = run(dir.path(), &["join", "--unless-joined", "--token-file", "none"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn two_agents_never_share_one_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.yaml"), CONFIG).unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let first = std::fs::File::create(dir.path().join("data/lock")).unwrap();
    first.try_lock().unwrap();
    let (code, text) = run(dir.path(), &["run"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("another weir-agent runs with the data directory data: stop that one first"),
        "{text}"
    );
    drop(first);
    assert!(run(dir.path(), &["run"]).1.contains("weir-agent join"));
}

/// Policies without the anchor lose requests: no program that people get can be told to write them.
#[cfg(not(feature = "bare-policies"))]
#[test]
fn the_program_has_no_switch_for_bare_policies() {
    let name = concat!("WEIR_TEST_BARE", "_POLICIES").as_bytes();
    let program = std::fs::read(PROGRAM).unwrap();
    assert!(!program.windows(name.len()).any(|bytes| bytes == name));
}
