//! `weir status --wait`: for the proof, for a commit, for a coordinator that is not there yet, and until when.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::coordinator::{Answer, Coordinator};
use crate::{COMMIT, changed, commit_record, list, of, proven, split, zone, zone_status};

#[test]
fn waiting_ends_with_the_proof() {
    let moving = changed(
        zone("fra"),
        json!({"standing": "progressing", "reason": "applied, not read back yet"}),
    );
    let coordinator = Coordinator::new().at(
        "/v1/splits",
        &[
            Answer::json(&list(&[split("checkout", "progressing", &[moving])])),
            Answer::problem("503 Service Unavailable", "starting", "wait"),
            Answer::json(&list(&[split("checkout", "converged", &[zone("fra")])])),
        ],
    );
    insta::assert_snapshot!(
        coordinator
            .weir(&["status", "--wait", "--timeout", "60s"])
            .transcript()
    );
}

/// A pipeline that deploys the coordinator asks before it listens.
#[test]
fn waiting_outlasts_a_coordinator_that_does_not_listen_yet() {
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let url = format!("http://{address}");
    let elsewhere = Coordinator::new();
    let asks = |timeout: &str| {
        let mut command = elsewhere.command(
            &["status", "--wait", "--timeout", timeout],
            &[("WEIR_COORDINATOR", &url)],
        );
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // Nobody comes: it ends with the time and not before, and says what it waited for.
    let began = std::time::Instant::now();
    let ran = asks("2s").wait_with_output().unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(began.elapsed() >= std::time::Duration::from_millis(900), "{told}");
    assert!(
        told.starts_with("waiting: the coordinator at http://127.0.0.1:") && told.contains("\nerror: "),
        "{told}"
    );
    // It comes, after it was missed.
    let mut weir = asks("60s");
    let mut said = BufReader::new(weir.stderr.take().unwrap()).lines();
    let missed = said.next().unwrap().unwrap();
    assert!(missed.starts_with("waiting: "), "{missed}");
    let _coordinator = Coordinator::later(&address, "/v1/splits", Answer::json(&proven()));
    let ran = weir.wait_with_output().unwrap();
    assert_eq!(
        ran.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&ran.stdout)
    );
}

#[test]
fn waiting_ends_with_the_time() {
    let held = changed(zone("fra"), json!({"standing": "held", "reason": "not ready"}));
    let ran = of(&list(&[split("checkout", "held", &[held])])).weir(&["status", "--wait", "--timeout", "3s"]);
    assert_eq!(ran.exit, 3);
    assert!(ran.stdout.contains("  fra: held: not ready\n"), "{}", ran.stdout);
}

#[test]
fn waiting_for_a_commit_does_not_take_the_last_one_for_it() {
    let source = |in_force: &str| {
        json!({"name": "main", "url": "/repo", "branch": "main", "reachable": true, "error": null,
               "head": in_force, "inForce": in_force, "checkedAt": null})
    };
    let older = "0".repeat(40);
    let commits = |in_force: &str, commits: Value| {
        Answer::json(&json!({"sources": [source(in_force)], "commits": commits}))
    };
    let coordinator = of(&proven()).at(
        "/v1/commits",
        &[commits(&older, json!([])), commits(COMMIT, json!([]))],
    );
    let ran = coordinator.weir(&["status", "--wait", "--commit", COMMIT]);
    assert_eq!(
        (ran.exit, ran.stderr.as_str()),
        (0, "waiting: commit 3f2a1b9c0d4e has not been seen yet\n")
    );
    let refused = changed(commit_record(), json!({"verdict": "refused", "generation": null}));
    let coordinator = of(&proven()).at("/v1/commits", &[commits(&older, json!([refused]))]);
    insta::assert_snapshot!(
        coordinator
            .weir(&["status", "--wait", "--commit", &COMMIT[..7]])
            .transcript()
    );
}

/// What a commit took away is in no split's status any more, and in its zones for half a minute yet.
#[test]
fn waiting_for_a_removal_ends_when_its_zones_have_proven_it() {
    let source = json!({"name": "main", "url": "/repo", "branch": "main", "reachable": true, "error": null,
                        "head": COMMIT, "inForce": COMMIT, "checkedAt": null});
    let leaving = changed(
        zone_status("fra"),
        json!({"standing": "progressing", "reason": "split checkout is being\u{1b}[2J withdrawn"}),
    );
    let behind = changed(zone_status("fra"), json!({"generation": 6}));
    let empty = changed(
        zone_status("par"),
        json!({"standing": "unknown", "reason": "no agent of this zone was ever heard", "agents": []}),
    );
    let gone = changed(zone_status("old"), json!({"standing": "unknown", "kumaZone": ""}));
    let zones = |fra: Value| Answer::json(&json!({"zones": [zone_status("ams"), fra, empty, gone]}));
    let coordinator = Coordinator::new()
        .at("/v1/splits", &[Answer::json(&list(&[]))])
        .at(
            "/v1/commits",
            &[Answer::json(&json!({"sources": [source], "commits": []}))],
        )
        .at(
            "/v1/zones",
            &[zones(behind), zones(leaving), zones(zone_status("fra"))],
        );
    let ran = coordinator.weir(&["status", "--wait", "--commit", COMMIT]);
    assert_eq!(
        (ran.exit, ran.stderr.as_str()),
        (
            0,
            "waiting: fra holds generation 6, not 7\nwaiting: fra progressing: split checkout is being\u{fffd}[2J withdrawn\n"
        )
    );
}
