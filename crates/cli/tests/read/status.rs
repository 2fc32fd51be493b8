//! `weir status`: what is shown, in words and as JSON, and with which exit code.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::coordinator::{Answer, Coordinator, TOKEN};
use crate::{changed, list, of, proven, split, zone, zone_status};

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
    let ams = changed(
        zone("ams"),
        json!({"told": quarter, "weights": quarter, "open": 1240}),
    );
    let fra = changed(zone("fra"), json!({"told": tenth, "weights": tenth, "open": 0}));
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
                    {"zone": null, "why": "something else", "since": "2026-11-24T11:59:20Z"}
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
            .starts_with("waiting: a-shift: shift, bite 1 of 2, wave 1 (next: wave 2 follows when the\n"),
        "{}",
        ran.stderr
    );
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
    let frozen = changed(
        proven(),
        json!({"frozen": ["all splits are frozen: \"night\", says ada"]}),
    );
    let ran = of(&frozen).weir(&["status"]);
    let told = "\nall splits are frozen: \"night\", says ada\n";
    assert_eq!((ran.exit, ran.stdout.contains(told)), (0, true), "{}", ran.stdout);
    let none = json!({"generation": 0, "commits": {}, "notice": "there is no plan yet", "splits": []});
    insta::assert_snapshot!(of(&none).weir(&["status"]).transcript(), @"
    $ weir status
    ! there is no plan yet
    --- exit 4
    ");
}

/// All is proven, and requests fail: that is not well, for people and for scripts.
#[test]
fn a_backend_that_is_down_and_keeps_its_share_is_loud() {
    let why = "12 of 12 requests to it within 5.3 s found nobody there; no fallback is declared for it";
    let help = "Take its weight away in Git, or with `weir drain checkout vm`";
    let failing = json!([{"backend": "vm", "share": 90, "why": why, "help": help}]);
    let fra = changed(
        zone("fra"),
        json!({"failing": failing, "reason": format!("backend vm is down and keeps its share of 90 %: {why}. {help}")}),
    );
    let held = changed(
        zone("par"),
        json!({"standing": "held", "reason": "not ready", "failing": failing}),
    );
    let coordinator = of(&list(&[
        split("checkout", "converged", &[zone("ams"), fra.clone()]),
        split("search", "held", &[held]),
    ]));
    insta::assert_snapshot!(coordinator.weir(&["status"]).transcript());
    assert_eq!(coordinator.weir(&["status", "checkout"]).exit, 3);
    assert_eq!(coordinator.weir(&["status", "checkout", "--json"]).exit, 3);
    assert_eq!(coordinator.weir(&["status", "checkout", "--zone", "ams"]).exit, 0);
    // Who waits is told what for, once, though its figures change.
    let later = changed(
        fra.clone(),
        json!({"failing": [{"backend": "vm", "share": 90, "why": "24 of 24", "help": help}]}),
    );
    let answer = |zone: &Value| {
        Answer::json(&list(&[split(
            "checkout",
            "converged",
            std::slice::from_ref(zone),
        )]))
    };
    let waits = Coordinator::new().at(
        "/v1/splits",
        &[answer(&fra), answer(&later), answer(&zone("fra"))],
    );
    let ran = waits.weir(&["status", "--wait", "--timeout", "60s"]);
    assert_eq!(ran.exit, 0);
    assert_eq!(ran.stderr.matches("waiting:").count(), 1, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("checkout: fra converged, but backend vm is down"),
        "{}",
        ran.stderr
    );
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
