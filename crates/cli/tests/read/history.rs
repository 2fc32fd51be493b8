//! What was: `weir history` and `weir events`.

use serde_json::{Value, json};

use crate::coordinator::{Answer, Coordinator};
use crate::{COMMIT, changed, commit_record};

#[test]
fn history_of_a_split() {
    let told = |cloud: u32| json!({"default": {"cloud": cloud, "vm": 100 - cloud}});
    let step = |generation: u64, step: &str, ams: u32, fra: u32| {
        json!({
            "generation": generation, "created": "2026-11-24T11:56:00Z", "step": step,
            "told": {"ams": told(ams), "fra": told(fra)}, "commit": COMMIT, "author": "Ada <ada@example.com>",
            "subject": "Half to the cloud", "committer": "Merge bot <bot@example.com>", "signature": "present",
            "received": {"ams": "2026-11-24T11:56:00.150Z", "fra": "2026-11-24T11:56:00.200Z"},
            "applied": {"ams": "2026-11-24T11:56:00.400Z", "fra": "2026-11-24T11:56:00.900Z"},
            "proven": {"ams": "2026-11-24T11:56:01.250Z"}
        })
    };
    // As a coordinator of the version before has it.
    let older = changed(
        step(5, "bite 1 of 2, wave 1", 30, 10),
        json!({"committer": null, "signature": null, "received": {}, "applied": {}}),
    );
    let first = changed(
        step(3, "first plan of it", 0, 0),
        json!({"author": null, "subject": null, "committer": null, "signature": null,
               "created": "2026-11-24T11:50:00Z", "received": {}, "applied": {}, "proven": {}}),
    );
    let fell = |at: &str| {
        let message = "split checkout in zone fra: cloud is down: its share goes to vm";
        changed(event(44, "zone.fallback", message), json!({"at": at}))
    };
    let history = json!({"name": "checkout", "steps": [
        step(6, "return: it was aborted: \"eks burns\", says ada", 0, 0), older, first
    ], "events": [fell("2026-11-24T11:57:00Z"), fell("2026-11-24T11:52:00Z")]});
    let coordinator = Coordinator::new().at("/v1/splits/checkout/history", &[Answer::json(&history)]);
    insta::assert_snapshot!(coordinator.weir(&["history", "checkout", "-n", "3"]).transcript());
    assert_eq!(coordinator.asked()[0].path, "/v1/splits/checkout/history?limit=3");
}

#[test]
fn history_says_who_ordered_what_and_why() {
    let step = |generation: u64, created: &str, step: &str, vm: u32| {
        json!({
            "generation": generation, "created": created, "step": step,
            "told": {"fra": {"default": {"cloud": 100 - vm, "vm": vm}}}, "commit": COMMIT, "author": "Ada <ada@example.com>",
            "subject": "Half to the cloud", "proven": {}
        })
    };
    let happened = |at: &str, kind: &str, message: &str| changed(event(44, kind, message), json!({"at": at}));
    let history = json!({
        "name": "checkout",
        "steps": [
            step(2301, "2026-11-24T11:57:00Z", "bite 1 of 1, all waves", 0),
            step(3, "2026-11-24T11:50:00Z", "bite 2 of 2, wave 1", 50)
        ],
        "events": [
            happened("2026-11-24T11:58:00Z", "backend.up", "backend vm of split checkout was down: it answers again"),
            happened(
                "2026-11-24T11:57:00.004Z",
                "order.drain",
                "drain of backend vm of split checkout: \"new kernel\", says ada; drained: vm goes to 0 % in every zone"
            ),
            happened("2026-11-24T11:52:00Z", "order.freeze", "freeze of all splits: \"peak hour\", says bob; frozen")
        ],
        "note": "the newest 2048 plans were read, back to generation 254; older steps are not told"
    });
    let coordinator = Coordinator::new().at("/v1/splits/checkout/history", &[Answer::json(&history)]);
    insta::assert_snapshot!(coordinator.weir(&["history", "checkout"]).transcript());

    // Of one that is in force and changed before all plans that were read there is what is known.
    let history = json!({"name": "checkout", "steps": [], "note": history["note"],
        "events": [happened("2026-11-24T11:52:00Z", "zone.pinned", "split checkout in zone fra was pinned by ada")]});
    let coordinator = Coordinator::new().at("/v1/splits/checkout/history", &[Answer::json(&history)]);
    insta::assert_snapshot!(coordinator.weir(&["history", "checkout"]).transcript());
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
        json!({"commit": "1".repeat(40), "generation": null, "proven": {}, "subject": "Words", "committer": "Ada <ada@example.com>",
               "signature": "none"}),
    );
    let value = json!({
        "sources": [{"name": "main", "url": "https://git.example.com/shop/traffic.git", "branch": "main",
                     "reachable": false, "error": "the host does not answer", "head": "9a8b7c6d5e4f".repeat(3) + "0000",
                     "inForce": COMMIT, "checkedAt": "2026-11-24T11:59:48Z",
                     "rewound": "source main offers an older commit: it is not taken"}],
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
