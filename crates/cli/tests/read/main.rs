//! The commands that ask a coordinator, as people and programs meet them: canned answers in, text or JSON and an exit
//! code out. The clock of every answer is 2026-11-24 12:00:00 UTC; every line of text is held to 80 columns.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod coordinator;
mod refusals;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

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

#[test]
fn all_is_proven() {
    let coordinator = of(&proven());
    insta::assert_snapshot!(coordinator.weir(&["status"]).transcript());
    let asked = coordinator.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/v1/splits");
    let token = format!("Bearer {TOKEN}");
    assert_eq!(asked[0].token.as_ref(), Some(&token));
    let unset = [
        ("WEIR_COORDINATOR", coordinator.url.as_str()),
        ("WEIR_CA", ""),
        ("WEIR_TOKEN_FILE", ""),
        ("WEIR_TOKEN", TOKEN),
    ];
    assert_eq!(
        coordinator.run(&["status"], &unset).exit,
        0,
        "a variable set to nothing is not set"
    );
    assert_eq!(coordinator.asked()[1].token.as_ref(), Some(&token));
}

/// Whatever is less than proven, in its own words.
#[test]
fn every_standing_in_words() {
    let zones = [
        changed(
            zone("a-overridden"),
            json!({
                "standing": "overridden", "reason": "MeshHTTPRoute aaa outranks ours",
                "secondWriters": ["MeshHTTPRoute aaa (origin zone), which outranks ours"],
                "weights": {"default": {"cloud": 100}}
            }),
        ),
        changed(
            zone("b-held"),
            json!({
                "standing": "held", "generation": 6, "weights": {"default": {"vm": 100}},
                "reason": "backend cloud is not known here: no MeshService has displayName checkout and zone ams, so its share would go nowhere",
            }),
        ),
        changed(
            zone("c-acknowledged"),
            json!({
                "standing": "progressing", "evidence": "acknowledged", "seen": 0, "weights": null,
                "reason": "acknowledged by the control plane, not read back from a proxy",
            }),
        ),
        changed(
            zone("d-stale"),
            json!({
                "standing": "stale", "reason": "not connected for 2 h; what is shown is old",
                "provenAt": "2026-11-24T09:59:57Z", "heardAt": "2026-11-24T09:59:59Z"
            }),
        ),
        changed(
            zone("e-failed"),
            json!({
                "standing": "failed", "reason": "the control plane answered 500", "failed": {"cloud": 3, "vm": 0},
                "seen": 1, "of": 12, "evidence": "sampled"
            }),
        ),
        changed(
            zone("f-unknown"),
            json!({
                "standing": "unknown", "reason": "no agent of this zone was ever heard", "generation": 0,
                "evidence": "unknown", "provenAt": null, "seen": 0, "of": 0, "weights": null, "counted": {},
                "countedSince": null, "heardAt": null
            }),
        ),
    ];
    let list = list(&[split("checkout", "unknown", &zones)]);
    insta::assert_snapshot!(of(&list).weir(&["status"]).transcript());
}

fn transition(changes: Value) -> Value {
    let of = json!({
        "phase": "shift", "bite": 1, "bites": 2, "wave": 1, "waves": [1, 2], "waits": [],
        "next": "wave 2 follows when the zones so far prove theirs", "since": "2026-11-24T11:59:48Z", "until": null
    });
    changed(of, changes)
}

/// Each phase as people meet it, with what is declared, told, read back and counted.
#[test]
fn a_transition_is_drawn() {
    let half = json!({"default": {"cloud": 50, "vm": 50}});
    let quarter = json!({"default": {"cloud": 30, "vm": 70}});
    let tenth = json!({"default": {"cloud": 10, "vm": 90}});
    let ams = changed(zone("ams"), json!({"told": quarter, "weights": quarter}));
    let fra = changed(zone("fra"), json!({"told": tenth, "weights": tenth}));
    let moving = changed(
        split("a-shift", "progressing", &[ams, fra.clone()]),
        json!({
            "declared": half, "transition": transition(json!({})),
            "reason": "Git declares cloud 50 %, vm 50 %, told is cloud 10 % in fra, cloud 30 % in ams, because it is at bite 1 of 2"
        }),
    );
    let held = changed(
        split("b-held", "held", std::slice::from_ref(&fra)),
        json!({
            "declared": half,
            "transition": transition(json!({
                "phase": "held", "bite": 0, "wave": null, "since": null,
                "waits": [
                    {"zone": "ams", "why": "backend cloud is not known here: no MeshService has displayName checkout"},
                    {"zone": null, "why": "something else"}
                ],
                "next": "nothing has moved; the first step is taken when every zone can follow"
            })),
            "reason": "Git declares cloud 50 %, vm 50 %, told is cloud 10 %, vm 90 %, because held: zone ams: backend cloud is not known here (and 1 more)"
        }),
    );
    let baking = changed(
        split("c-bake", "progressing", std::slice::from_ref(&fra)),
        json!({
            "declared": half,
            "transition": transition(json!({
                "phase": "bake", "wave": 2, "until": "2026-11-24T12:01:30Z",
                "next": "bite 2 of 2 follows 2m after every zone has proven this one"
            }))
        }),
    );
    let quarantined = changed(
        split("d-quarantined", "held", &[fra]),
        json!({
            "declared": half,
            "transition": transition(json!({
                "phase": "quarantined", "bite": 0, "bites": 0, "wave": null, "waves": [],
                "waits": [{"zone": null, "why": "it was aborted: \"eks burns\", says ada"}],
                "next": "what is declared is not gone towards until a commit changes this split, or it is resumed"
            })),
            "reason": "Git declares cloud 50 %, vm 50 %, told is cloud 10 %, vm 90 %, because quarantined: it was aborted: \"eks burns\", says ada"
        }),
    );
    let all = list(&[moving.clone(), held, baking, quarantined]);
    let coordinator = of(&all);
    insta::assert_snapshot!(coordinator.weir(&["status"]).transcript());
    let told: Value =
        serde_json::from_str(&coordinator.weir(&["status", "a-shift", "--json"]).stdout).unwrap();
    assert_eq!(told, moving);
    // A zone that has followed does not make the split converged; nor does the word of the coordinator.
    assert_eq!(coordinator.weir(&["status", "a-shift", "--zone", "ams"]).exit, 3);
    let lie = changed(moving, json!({"standing": "converged"}));
    let ran = of(&list(&[lie])).weir(&["status", "--wait", "--timeout", "3s"]);
    assert_eq!(ran.exit, 3);
    assert!(
        ran.stderr
            .starts_with("waiting: a-shift: shift, bite 1 of 2, wave 1\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn orders_are_given_and_answered() {
    let answer =
        json!({"done": true, "message": "frozen: nothing but reverts and aborts moves until it is resumed"});
    let conflict = Answer::problem(
        "409 Conflict",
        "nothing of checkout is under way",
        "GET /v1/splits says where each split stands",
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

#[test]
fn history_of_a_split() {
    let told = |cloud: u32| json!({"default": {"cloud": cloud, "vm": 100 - cloud}});
    let step = |generation: u64, step: &str, ams: u32, fra: u32| {
        json!({
            "generation": generation, "created": "2026-11-24T11:56:00Z", "step": step,
            "told": {"ams": told(ams), "fra": told(fra)}, "commit": COMMIT, "author": "Ada <ada@example.com>",
            "subject": "Half to the cloud", "proven": {"ams": "2026-11-24T11:56:01.250Z"}
        })
    };
    let first = changed(
        step(3, "first plan of it", 0, 0),
        json!({"author": null, "subject": null, "proven": {}}),
    );
    let history = json!({"name": "checkout", "steps": [
        step(6, "return: it was aborted: \"eks burns\", says ada", 0, 0),
        step(5, "bite 1 of 2, wave 1", 30, 10), first
    ]});
    let coordinator = Coordinator::new().at("/v1/splits/checkout/history", &[Answer::json(&history)]);
    insta::assert_snapshot!(coordinator.weir(&["history", "checkout", "-n", "3"]).transcript());
    assert_eq!(coordinator.asked()[0].path, "/v1/splits/checkout/history?limit=3");
}

/// I9 on this side of the wire: the word alone is not believed.
#[test]
fn converged_without_proof_is_unknown() {
    let bare = changed(zone("fra"), json!({"evidence": "acknowledged", "seen": 0}));
    let coordinator = of(&list(&[split("checkout", "converged", &[bare])]));
    let told: Value = serde_json::from_str(&coordinator.weir(&["status", "--json"]).stdout).unwrap();
    assert_eq!(told["splits"][0]["standing"], "unknown");
    assert_eq!(told["splits"][0]["zones"][0]["standing"], "unknown");
    let ran = coordinator.weir(&["status"]);
    assert_eq!(ran.exit, 4);
    assert!(!ran.stdout.contains(": converged"), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("fra: unknown: called converged, but nothing shows"),
        "{}",
        ran.stdout
    );
}

#[test]
fn long_names_several_routes_and_hostile_words_stay_on_the_page() {
    let (long, longer) = (
        "checkout-in-the-old-data-centre-before-the-move-of-next-year-1",
        "x".repeat(63),
    );
    let weights = json!({"beta": {long: 0.5, "cloud": 99.5}, longer.as_str(): {long: 100}});
    let zone = changed(
        zone(&longer),
        json!({
            "weights": weights, "counted": {long: 1_234_567_890_123_u64, "cloud": 1},
            "standing": "different", "reason": format!("\u{1b}[2J{}\n\u{202e}end", "y".repeat(100)),
        }),
    );
    let split = changed(
        split(&longer, "different", &[zone]),
        json!({"declared": {
        "beta": {long: 1, "cloud": 99}, longer.as_str(): {long: 100}
    }, "service": longer}),
    );
    insta::assert_snapshot!(of(&list(&[split])).weir(&["status"]).transcript());
}

#[test]
fn the_exit_code_is_the_worst_of_what_is_shown() {
    let held = changed(zone("ams"), json!({"standing": "held", "reason": "not ready"}));
    let stale = changed(zone("par"), json!({"standing": "stale", "reason": "silent"}));
    let two = list(&[
        split("checkout", "held", &[held, zone("fra")]),
        split("search", "stale", &[zone("fra"), stale]),
    ]);
    let coordinator = of(&two);
    let exit = |arguments: &[&str]| coordinator.weir(arguments).exit;
    assert_eq!(exit(&["status"]), 4);
    assert_eq!(exit(&["status", "checkout"]), 3);
    assert_eq!(exit(&["status", "--zone", "fra"]), 0);
    assert_eq!(exit(&["status", "search", "--zone", "fra"]), 0);
    assert_eq!(exit(&["status", "checkout", "--zone", "par"]), 0);
    let refused = changed(
        proven(),
        json!({"notice": "commit 9a8b7c6d5e4f of source main is refused: 1 error"}),
    );
    let ran = of(&refused).weir(&["status"]);
    assert_eq!(ran.exit, 3);
    assert!(
        ran.stdout
            .contains("\n! commit 9a8b7c6d5e4f of source main is refused"),
        "{}",
        ran.stdout
    );
    let noted = changed(
        proven(),
        json!({"notes": [{"zone": "fra", "agent": "fra-1", "note": "nobody answers at /tmp/a.sock: its Envoy is gone"}]}),
    );
    let noted = of(&noted);
    let told = "\nnote: zone fra, agent fra-1: nobody answers at /tmp/a.sock";
    for (arguments, shown) in [(&["status"][..], true), (&["status", "--zone", "ams"], false)] {
        let ran = noted.weir(arguments);
        assert_eq!(
            (ran.exit, ran.stdout.contains(told)),
            (0, shown),
            "{}",
            ran.stdout
        );
    }
    let none = json!({"generation": 0, "commits": {}, "notice": "there is no plan yet", "splits": []});
    insta::assert_snapshot!(of(&none).weir(&["status"]).transcript(), @"
    $ weir status
    ! there is no plan yet
    --- exit 4
    ");
}

/// Programs get what the API said, fields of tomorrow included.
#[test]
fn json_is_the_answer_itself() {
    let whole = changed(proven(), json!({"tomorrow": [1, 2]}));
    let coordinator = of(&whole);
    let read =
        |arguments: &[&str]| serde_json::from_str::<Value>(&coordinator.weir(arguments).stdout).unwrap();
    assert_eq!(read(&["status", "--json"]), whole);
    assert_eq!(read(&["status", "checkout", "--json"]), whole["splits"][0]);
    assert_eq!(
        read(&["status", "--zone", "fra", "--json"])["splits"][0]["zones"],
        json!([zone("fra")])
    );
    assert_eq!(read(&["zones", "--json"])["zones"][0], zone_status("ams"));
}

/// While nobody answers, what was last known is shown as old; with the next answer it is as it is.
#[test]
fn watching_calls_silence_stale() {
    let answer = Answer::json(&list(&[split("checkout", "converged", &[zone("fra")])]));
    let gone = Answer::problem("503 Service Unavailable", "starting", "wait");
    let coordinator = Coordinator::new().at("/v1/splits", &[answer.clone(), gone.clone(), gone, answer]);
    let mut weir = coordinator
        .command(&["status", "--watch"], &[("WEIR_COORDINATOR", &coordinator.url)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(weir.stdout.take().unwrap()).lines();
    let said: Vec<String> = lines
        .map(Result::unwrap)
        .filter(|line| line.starts_with("! ") || line.starts_with("checkout: "))
        .take(4)
        .collect();
    weir.kill().unwrap();
    weir.wait().unwrap();
    assert_eq!(
        [0, 2, 3].map(|n| said[n].as_str()),
        ["checkout: converged", "checkout: stale", "checkout: converged"]
    );
    assert!(said[1].contains("answered 503"), "{said:?}");
}

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
    let ran = of(&list(&[split("checkout", "held", &[held])])).weir(&["status", "--wait", "--timeout", "1s"]);
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

fn commit_record() -> Value {
    json!({
        "source": "main", "commit": COMMIT, "author": "Ada <ada@example.com>", "authoredAt": "2026-11-24T11:50:00Z",
        "subject": "A tenth to the cloud", "seenAt": "2026-11-24T11:56:00Z", "verdict": "taken", "generation": 7,
        "diagnostics": [], "proven": {"ams": "2026-11-24T11:56:01.900Z", "fra": "2026-11-24T11:56:01.250Z"}
    })
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
fn history_of_commits() {
    let refused = changed(
        commit_record(),
        json!({
            "commit": "9a8b7c6d5e4f".repeat(3) + "0000", "verdict": "refused", "generation": null, "proven": {},
            "subject": "Half to the cloud, and a subject so long that it does not fit on one line of eighty columns",
            "seenAt": "2026-11-24T11:59:00Z",
            "diagnostics": [{
                "code": 102, "severity": "error", "message": "the weights of route default sum to 99, not to 100",
                "labels": [{"source": "main", "file": "traffic/checkout.yaml",
                            "span": {"start": 1, "end": 2, "line": 12, "column": 16}, "text": "sums to 99"}],
                "help": "add 1 to one of them"
            }]
        }),
    );
    let same = changed(
        commit_record(),
        json!({"commit": "1".repeat(40), "generation": null, "proven": {}, "subject": "Words"}),
    );
    let value = json!({
        "sources": [{"name": "main", "url": "https://git.example.com/shop/traffic.git", "branch": "main",
                     "reachable": false, "error": "the host does not answer", "head": "9a8b7c6d5e4f".repeat(3) + "0000",
                     "inForce": COMMIT, "checkedAt": "2026-11-24T11:59:48Z"}],
        "commits": [refused, commit_record(), same]
    });
    let coordinator = Coordinator::new().at("/v1/commits", &[Answer::json(&value)]);
    insta::assert_snapshot!(coordinator.weir(&["history", "-n", "3"]).transcript());
    assert_eq!(coordinator.asked()[0].path, "/v1/commits?limit=3");
}

fn event(id: u64, kind: &str, message: &str) -> Value {
    json!({"id": id, "at": "2026-11-24T11:56:01.250Z", "kind": kind, "message": message, "zone": "fra",
           "split": null, "generation": 7})
}

#[test]
fn events_that_were() {
    let events = [
        event(41, "plan.made", "generation 7 made of commit 3f2a1b9c0d4e"),
        event(
            42,
            "zone.held",
            &"split checkout in zone fra: backend cloud is not known here, ".repeat(2),
        ),
    ];
    let coordinator = Coordinator::new().at("/v1/events", &[Answer::events(&events)]);
    insta::assert_snapshot!(coordinator.weir(&["events"]).transcript());
    let lines = coordinator.weir(&["events", "--json", "--after", "40"]).stdout;
    let read: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, events);
    assert_eq!(coordinator.asked()[1].after.as_deref(), Some("40"));
}

/// A stream that breaks goes on after the last event that came; a refusal ends it.
#[test]
fn following_goes_on_where_it_broke() {
    let coordinator = Coordinator::new().at(
        "/v1/events",
        &[
            Answer::events(&[event(41, "plan.made", "one"), event(42, "zone.proven", "two")]),
            Answer::problem("503 Service Unavailable", "starting", "wait"),
            Answer::events(&[event(43, "agent.gone", "three")]),
            Answer::problem("401 Unauthorized", "this token is revoked", "make a token"),
        ],
    );
    insta::assert_snapshot!(coordinator.weir(&["events", "--follow"]).transcript());
    let after: Vec<Option<String>> = coordinator.asked().into_iter().map(|asked| asked.after).collect();
    let wanted = [None, Some("42"), Some("42"), Some("43")];
    assert_eq!(after, wanted.map(|id| id.map(str::to_owned)));
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
