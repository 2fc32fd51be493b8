//! Zones that prove nothing and hold nothing up: where nobody calls the service, and those that are detached in Git.

use serde_json::{Value, json};

use crate::coordinator::{Answer, Coordinator};
use crate::{COMMIT, changed, commit_record, list, of, split, transition, zone, zone_status};

/// As a coordinator shows a zone in which nobody calls the service.
fn idle(name: &str) -> Value {
    changed(
        zone(name),
        json!({
            "standing": "idle", "evidence": "acknowledged", "seen": 0, "of": 0, "weights": null, "counted": {},
            "countedSince": null,
            "reason": "nobody calls it there: what it was told is written in its control plane, and whoever comes gets that"
        }),
    )
}

/// Without how it is broken into lines.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const DETACHED: &str = "`state: detached` of zone old in Git (main zones.yaml:12)";

/// One that was lost some time ago, and taken out in Git.
fn detached(changes: Value) -> Value {
    let old = json!({
        "standing": "stale", "reason": "not connected for 2 h; what is shown is old", "detached": DETACHED,
        "provenAt": "2026-11-24T09:59:57Z", "heardAt": "2026-11-24T09:59:59Z"
    });
    changed(changed(zone("old"), old), changes)
}

#[test]
fn a_zone_that_nobody_calls_is_shown_as_such_and_waited_for_by_nobody() {
    let beside = of(&list(&[split(
        "checkout",
        "converged",
        &[idle("ams"), zone("fra")],
    )]));
    let ran = beside.weir(&["status"]);
    assert_eq!(ran.exit, 0, "{}", ran.stdout);
    let shown = words(&ran.stdout);
    for told in [
        "checkout: converged http service",
        "ams: idle: nobody calls it there: what it was told is written in its control plane, and whoever comes gets that",
        "evidence acknowledged (by the control plane alone), no proxy known",
        "fra: converged evidence live",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    assert_eq!(beside.weir(&["status", "--wait", "--timeout", "60s"]).exit, 0);
    assert_eq!(beside.weir(&["status", "--zone", "ams"]).exit, 0, "fra proves it");

    // No zone proves it.
    let alone = of(&list(&[split("checkout", "idle", &[idle("ams"), idle("fra")])]));
    let ran = alone.weir(&["status", "--wait", "--timeout", "1s"]);
    assert_eq!(ran.exit, 3, "{}", ran.stdout);
    assert!(ran.stdout.contains("\ncheckout: idle\n"), "{}", ran.stdout);
    assert_eq!(alone.weir(&["status", "--zone", "ams"]).exit, 3);
    // Nor by the word of a coordinator alone.
    let one = |zone: Value| split("checkout", "converged", &[zone, crate::zone("fra")]);
    for (spoilt, exit) in [
        (split("checkout", "converged", &[idle("ams"), idle("fra")]), 3),
        (one(changed(idle("ams"), json!({"evidence": "unknown"}))), 4),
        (one(changed(idle("ams"), json!({"of": 2}))), 4),
    ] {
        let ran = of(&list(&[spoilt])).weir(&["status"]);
        assert_eq!(ran.exit, exit, "{}", ran.stdout);
        assert!(!ran.stdout.contains("checkout: converged"), "{}", ran.stdout);
    }
}

#[test]
fn a_detached_zone_is_never_taken_for_one_that_is_well() {
    let coordinator = of(&list(&[split(
        "checkout",
        "converged",
        &[zone("fra"), detached(json!({}))],
    )]));
    let ran = coordinator.weir(&["status"]);
    assert_eq!(ran.exit, 0, "{}", ran.stdout);
    let shown = words(&ran.stdout);
    for told in [
        "old: detached (last known: stale): not connected for 2 h; what is shown is old".to_owned(),
        format!("nobody waits for this zone: {DETACHED}"),
    ] {
        assert!(shown.contains(&told), "{told}: {shown}");
    }
    assert_eq!(
        coordinator.weir(&["status", "--wait", "--timeout", "60s"]).exit,
        0
    );
    // Who asks for it by name is told how it is.
    assert_eq!(coordinator.weir(&["status", "--zone", "fra"]).exit, 0);
    // Well or not, it is called detached.
    let well = json!({"standing": "converged", "reason": null});
    let ran = of(&list(&[split(
        "checkout",
        "converged",
        &[zone("fra"), detached(well)],
    )]))
    .weir(&["status"]);
    assert!(
        words(&ran.stdout).contains("old: detached (last known: converged) nobody waits"),
        "{}",
        ran.stdout
    );
    // What the coordinator finds wrong with the split stays.
    let gives = changed(
        split("checkout", "progressing", &[zone("fra"), detached(json!({}))]),
        json!({"reason": "backend vm still has weight, and its zone old is detached"}),
    );
    let ran = of(&list(&[gives])).weir(&["status"]);
    assert_eq!(ran.exit, 3);
    assert!(
        words(&ran.stdout).contains("backend vm still has weight, and its zone old is detached"),
        "{}",
        ran.stdout
    );
}

/// After a commit everything has to be gone that it took away: of a zone that is detached, or has no callers, that is not asked.
#[test]
fn a_commit_is_not_waited_for_where_nobody_is_asked() {
    let zones = json!({"zones": [
        zone_status("fra"),
        changed(zone_status("ams"), json!({"standing": "idle", "reason": "split checkout: nobody calls it there"})),
        changed(zone_status("old"), json!({"standing": "stale", "reason": "silent", "generation": 5, "detached": DETACHED})),
    ]});
    let commits = json!({
        "sources": [{"name": "main", "url": "https://git.example.com/t.git", "branch": "main", "reachable": true, "error": null,
                     "head": COMMIT, "inForce": COMMIT, "checkedAt": "2026-11-24T11:59:48Z", "rewound": null}],
        "commits": [commit_record()]
    });
    let splits = list(&[split(
        "checkout",
        "converged",
        &[idle("ams"), zone("fra"), detached(json!({}))],
    )]);
    let coordinator = Coordinator::new()
        .at("/v1/splits", &[Answer::json(&splits)])
        .at("/v1/zones", &[Answer::json(&zones)])
        .at("/v1/commits", &[Answer::json(&commits)]);
    let ran = coordinator.weir(&["status", "--wait", "--commit", &COMMIT[..12], "--timeout", "2s"]);
    assert_eq!(ran.exit, 0, "{}", ran.transcript());
    let ran = coordinator.weir(&["zones"]);
    assert!(
        words(&ran.stdout).contains("old: detached (last known: stale): silent nobody waits for this zone"),
        "{}",
        ran.stdout
    );
}

/// A drain ends without those who cannot be asked, and says so; not without who is known to send.
#[test]
fn a_drain_names_whom_it_did_not_ask() {
    let answer = json!({"done": true, "message": "drained: vm goes to 0 % in every zone"});
    let after = json!({"default": {"vm": 0, "cloud": 100}});
    let before = json!({"default": {"vm": 80, "cloud": 20}});
    let told = |zone: Value, weights: &Value| changed(zone, json!({"told": after, "weights": weights}));
    let drained = |zones: &[Value]| {
        let rests = json!({"transition": transition("drained")});
        changed(split("checkout", "held", zones), rests)
    };
    let drain = |zones: &[Value]| {
        let path = "/v1/splits/checkout";
        let coordinator = Coordinator::new()
            .at("/v1/splits/checkout/backends/vm/drain", &[Answer::json(&answer)])
            .at(path, &[Answer::json(&drained(zones))]);
        let ran = coordinator.weir(&[
            "drain",
            "checkout",
            "vm",
            "--reason",
            "x",
            "--linger",
            "1s",
            "--timeout",
            "1s",
        ]);
        (ran.exit, words(&format!("{} {}", ran.stdout, ran.stderr)))
    };
    let fra = told(zone("fra"), &after);
    let nobody = changed(idle("ams"), json!({"told": after}));
    let old = told(detached(json!({})), &before);

    let (exit, shown) = drain(&[nobody.clone(), fra.clone(), old.clone()]);
    assert_eq!(exit, 0, "{shown}");
    for said in [
        "every zone that is asked has proven 0 % for vm: it may be stopped.",
        "nobody calls checkout in zone ams",
        "zone old is detached and was not asked, and when it was last read it sent to vm",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    // Of all zones nobody calls: nobody sends anything.
    assert_eq!(drain(std::slice::from_ref(&nobody)).0, 0);
    let still = [
        // It speaks, and sends there.
        vec![
            fra.clone(),
            changed(old.clone(), json!({"standing": "different"})),
        ],
        // It would, once it is back.
        vec![fra.clone(), changed(old.clone(), json!({"told": before}))],
        vec![fra.clone(), changed(nobody.clone(), json!({"told": before}))],
        // Nobody is asked at all.
        vec![old.clone()],
        // The others are asked as ever.
        vec![
            told(changed(zone("fra"), json!({"standing": "stale"})), &after),
            old,
        ],
        vec![changed(fra, json!({"weights": null})), nobody],
    ];
    for zones in still {
        let (exit, shown) = drain(&zones);
        assert_eq!(exit, 3, "{shown}");
        assert!(shown.contains("do not stop vm"), "{shown}");
    }
}

#[test]
fn history_tells_of_zones_that_nobody_calls() {
    let step = json!({
        "generation": 6, "created": "2026-11-24T11:56:00Z", "step": "rests", "told": {}, "commit": COMMIT, "author": null,
        "subject": null,
        "received": {"ams": "2026-11-24T11:56:00.150Z", "fra": "2026-11-24T11:56:00.200Z"},
        "applied": {"ams": "2026-11-24T11:56:00.400Z", "fra": "2026-11-24T11:56:00.900Z"},
        "proven": {}, "idle": {"ams": "2026-11-24T11:56:01.250Z"}
    });
    let history = json!({"name": "checkout", "steps": [step], "events": []});
    let coordinator = Coordinator::new().at("/v1/splits/checkout/history", &[Answer::json(&history)]);
    let ran = coordinator.weir(&["history", "checkout"]);
    let shown = words(&ran.stdout);
    for told in [
        "ams received after 0.1 s, applied after 0.4 s, called by nobody, as seen after 1.2 s",
        "fra received after 0.2 s, applied after 0.9 s, not proven",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
}
