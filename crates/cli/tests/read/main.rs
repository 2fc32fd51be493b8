//! The commands that ask a coordinator, as people and programs meet them: canned answers in, text or JSON and an exit
//! code out. The clock of every answer is 2026-11-24 12:00:00 UTC; every line of text is held to 80 columns.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aside;
mod coordinator;
mod history;
mod refusals;
mod status;
mod waiting;

use coordinator::{Answer, Coordinator, TOKEN};
use serde_json::{Value, json};

const COMMIT: &str = "3f2a1b9c0d4e5f60718293a4b5c6d7e8f9012345";

fn zone(name: &str) -> Value {
    json!({
        "zone": name, "standing": "converged", "reason": null, "generation": 7, "evidence": "live",
        "provenAt": "2026-11-24T11:59:57Z", "seen": 2, "of": 2,
        "weights": {"default": {"cloud": 10, "vm": 90}},
        "counted": {"cloud": 988, "vm": 9012}, "failed": {}, "countedSince": "2026-11-24T11:48:00Z",
        "secondWriters": [], "heardAt": "2026-11-24T11:59:59Z"
    })
}

fn changed(mut value: Value, changes: Value) -> Value {
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    value
}

fn split(name: &str, standing: &str, zones: &[Value]) -> Value {
    json!({
        "name": name, "service": name, "port": 8080, "protocol": "http",
        "declared": {"default": {"cloud": 10, "vm": 90}},
        "commit": COMMIT, "generation": 7, "standing": standing, "since": "2026-11-24T11:56:00Z", "zones": zones
    })
}

fn list(splits: &[Value]) -> Value {
    json!({"generation": 7, "commits": {"main": COMMIT}, "notice": null, "splits": splits})
}

fn of(list: &Value) -> Coordinator {
    let zones = json!({"zones": [zone_status("ams"), zone_status("fra"), zone_status("par")]});
    Coordinator::new()
        .at("/v1/splits", &[Answer::json(list)])
        .at("/v1/zones", &[Answer::json(&zones)])
}

fn zone_status(name: &str) -> Value {
    json!({
        "name": name, "platform": "vm", "kumaZone": name, "standing": "converged", "reason": null, "generation": 7,
        "kuma": "2.14.3", "agents": [{
            "name": format!("{name}-1"), "connected": true, "heardAt": "2026-11-24T11:59:59Z", "version": "0.1.0",
            "generation": 7, "certificateExpires": "2026-11-25T03:00:00Z"
        }]
    })
}

fn proven() -> Value {
    list(&[split("checkout", "converged", &[zone("ams"), zone("fra")])])
}

fn commit_record() -> Value {
    json!({
        "source": "main", "commit": COMMIT, "author": "Ada <ada@example.com>", "authoredAt": "2026-11-24T11:50:00Z",
        "subject": "A tenth to the cloud", "seenAt": "2026-11-24T11:56:00Z", "verdict": "taken", "generation": 7,
        "diagnostics": [], "proven": {"ams": "2026-11-24T11:56:01.900Z", "fra": "2026-11-24T11:56:01.250Z"}
    })
}

#[test]
fn orders_are_given_and_answered() {
    let answer =
        json!({"done": true, "message": "frozen: nothing but reverts and aborts moves until it is resumed"});
    let conflict = Answer::problem(
        "409 Conflict",
        "nothing of checkout is under way",
        "`weir status` (GET /v1/splits) says where each split stands",
    );
    let coordinator = Coordinator::new()
        .at("/v1/freeze", &[Answer::json(&answer)])
        .at("/v1/splits/checkout/resume", &[Answer::json(&answer)])
        .at("/v1/splits/checkout/abort", &[conflict]);
    let told = [
        &["freeze", "--reason", "peak"][..],
        &["freeze", "--reason", "peak", "--json"],
        &["resume", "checkout", "--reason", "over"],
        &["abort", "checkout", "--reason", "eks burns"],
        &["abort", "check/out", "--reason", "x"],
    ]
    .map(|arguments| coordinator.weir(arguments).transcript());
    insta::assert_snapshot!(told.join("\n"));
    let asked = coordinator.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.token == Some(format!("Bearer {TOKEN}")))
    );
    for wrong in [
        &["abort", "--reason", "x"][..],
        &["freeze"],
        &["freeze", "--reason", " "],
    ] {
        assert_eq!(coordinator.weir(wrong).exit, 2, "{wrong:?}");
    }
    assert_eq!(
        coordinator.asked().len(),
        asked.len(),
        "nothing is sent that is asked wrongly"
    );
}

fn transition(phase: &str) -> Value {
    json!({
        "phase": phase, "bite": 1, "bites": 1, "wave": null, "waves": [1], "waits": [], "next": "", "since": null, "until": null
    })
}

/// The backend may be stopped when, and only when, every zone has proven that it gets nothing.
#[test]
fn a_drain_is_waited_for() {
    let answer = json!({"done": true, "message": "drained: vm goes to 0 % in every zone"});
    let told = |name: &str, weights: Value, changes: Value| {
        let shares = json!({"default": weights});
        changed(
            changed(zone(name), json!({"told": shares, "weights": shares})),
            changes,
        )
    };
    let (before, after) = (json!({"vm": 80, "cloud": 20}), json!({"vm": 0, "cloud": 100}));
    let looks = [
        [told("ams", before.clone(), json!({})), told("fra", before, json!({}))],
        [
            told("ams", after.clone(), json!({})),
            told(
                "fra",
                after.clone(),
                json!({"standing": "stale", "reason": "agent fra-1: not connected for 5 min; what is shown is old"}),
            ),
        ],
        [
            told("ams", after.clone(), json!({})),
            told("fra", after.clone(), json!({"weights": null})),
        ],
        [told("ams", after.clone(), json!({})), told("fra", after, json!({}))],
    ]
    .map(|zones| split("checkout", "held", &zones));
    // Proven everywhere, it is still judged, and could turn; then it rests.
    let judged = changed(looks[3].clone(), json!({"transition": transition("verify")}));
    let rests = changed(looks[3].clone(), json!({"transition": transition("drained")}));
    let looks = [
        looks[0].clone(),
        looks[1].clone(),
        looks[2].clone(),
        judged,
        rests,
    ]
    .map(|look| Answer::json(&look));
    let order = "/v1/splits/checkout/backends/vm/drain";
    let coordinator = Coordinator::new()
        .at(order, &[Answer::json(&answer)])
        .at("/v1/splits/checkout", &looks)
        .at(
            "/v1/splits/checkout/backends/vm/undrain",
            &[Answer::json(&answer)],
        );
    let drain = [
        "drain",
        "checkout",
        "vm",
        "--reason",
        "new kernel",
        "--linger",
        "1s",
    ];
    let mut transcripts = vec![coordinator.weir(&drain).transcript()];
    let stuck = Coordinator::new()
        .at(order, &[Answer::json(&answer)])
        .at("/v1/splits/checkout", &looks[1..2]);
    let hasty = [&drain[..], &["--timeout", "0s"]].concat();
    let undrain = ["undrain", "checkout", "vm", "--reason", "it is back"];
    // Ordered, and then nobody who could tell: no reason to stop it.
    let mute = Coordinator::new()
        .at(order, &[Answer::json(&answer)])
        .at("/v1/splits/checkout", &[Answer::page()]);
    transcripts.push(mute.weir(&drain).transcript());
    transcripts.push(stuck.weir(&hasty).transcript());
    transcripts.push(coordinator.weir(&undrain).transcript());
    transcripts.push(
        coordinator
            .weir(&["drain", "checkout", "v_m", "--reason", "x"])
            .transcript(),
    );
    insta::assert_snapshot!(transcripts.join("\n"));
}

/// What was not looked at has not held; and who waits for the proof waits as long as it has to hold.
#[test]
fn a_proof_that_nobody_saw_has_not_held() {
    let answer = json!({"done": true, "message": "drained: vm goes to 0 % in every zone"});
    let weights = json!({"default": {"vm": 0, "cloud": 100}});
    let fra = changed(zone("fra"), json!({"told": weights, "weights": weights}));
    let rests = changed(
        split("checkout", "held", &[fra]),
        json!({"transition": transition("drained")}),
    );
    let rests = Answer::json(&rests);
    let away = Answer::problem("503 Service Unavailable", "it starts", "wait");
    let path = "/v1/splits/checkout";
    let coordinator =
        || Coordinator::new().at("/v1/splits/checkout/backends/vm/drain", &[Answer::json(&answer)]);
    let drain = [
        "drain",
        "checkout",
        "vm",
        "--reason",
        "new kernel",
        "--linger",
        "2s",
    ];
    let blinks = coordinator().at(path, &[rests.clone(), away, rests.clone()]);
    let ran = blinks.weir(&drain);
    let looks = blinks.asked().iter().filter(|asked| asked.path == path).count();
    assert!(ran.exit == 0 && looks >= 5, "{looks} looks: {}", ran.transcript());
    let hasty = [&drain[..], &["--timeout", "1s"]].concat();
    let ran = coordinator().at(path, &[rests]).weir(&hasty);
    assert_eq!(ran.exit, 0, "{}", ran.transcript());
}

#[test]
fn zones_and_their_agents() {
    let silent = changed(
        zone_status("fra"),
        json!({
            "standing": "stale", "reason": "agent fra-1: not connected for 5 min; what is shown is old", "kuma": null,
            "kumaZone": "frankfurt",
            "agents": [{"name": "fra-1", "connected": false, "heardAt": "2026-11-24T11:55:00Z", "version": "",
                        "generation": 0, "certificateExpires": "2026-11-24T11:00:00Z"}]
        }),
    );
    let empty = changed(
        zone_status("par"),
        json!({
            "standing": "unknown", "reason": "no agent of this zone was ever heard", "agents": [], "generation": 0, "kuma": null
        }),
    );
    let zones = json!({"zones": [zone_status("ams"), silent, empty]});
    let coordinator = Coordinator::new().at("/v1/zones", &[Answer::json(&zones)]);
    insta::assert_snapshot!(coordinator.weir(&["zones"]).transcript());
}

#[test]
fn help_names_commands_and_exit_codes() {
    let coordinator = Coordinator::new();
    let told: Vec<String> = [&["--help"][..], &["status", "--help"], &["events", "--help"]]
        .iter()
        .map(|arguments| coordinator.run(arguments, &[]).transcript())
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Coordinator::new()
            .command(&["completions", shell], &[])
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("completions") && script.contains("weir"),
            "{shell}"
        );
    }
}
