//! What is said when there is no answer: each time what, why, and what to do.

use serde_json::json;

use crate::coordinator::{Answer, Coordinator, Ran};
use crate::{of, proven};

/// A name that does not exist, no coordinator, no token, a wrong one, a stranger, nobody: what, why, and what to do.
#[test]
fn what_is_wrong_is_said() {
    let coordinator = of(&proven());
    let mut told = Vec::new();
    let mut tell = |ran: Ran| told.push(ran.transcript());
    tell(coordinator.weir(&["status", "chekcout"]));
    tell(coordinator.weir(&["status", "payments"]));
    tell(coordinator.weir(&["status", "--zone", "fraa"]));
    tell(coordinator.weir(&["status", "--wait", "--timeout", "soon"]));
    tell(coordinator.run(&["status"], &[]));
    tell(coordinator.run(&["status", "--coordinator", "coordinator:8443"], &[]));
    tell(coordinator.run(&["status", "--coordinator", "http://example.com"], &[]));
    tell(coordinator.weir(&["status", "--token-file", "missing"]));
    coordinator.write("agent-token", "weir-a-0123abcd-abc\n");
    tell(coordinator.weir(&["status", "--token-file", "agent-token"]));
    tell(coordinator.weir(&["status", "--ca", "token"]));
    let refusing = |message| {
        Coordinator::new().at(
            "/v1/splits",
            &[Answer::problem("401 Unauthorized", message, "help")],
        )
    };
    let closed = refusing("reading needs a viewer token");
    tell(closed.run(&["status"], &[("WEIR_COORDINATOR", &closed.url)]));
    tell(refusing("this token is not known here").weir(&["status"]));
    tell(
        Coordinator::new()
            .at("/v1/splits", &[Answer::page()])
            .weir(&["status"]),
    );
    tell(
        Coordinator::new()
            .at("/v1/splits", &[Answer::json(&json!({"splits": 3}))])
            .weir(&["status"]),
    );
    tell(Coordinator::new().weir(&["zones"]));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn nobody_there_is_said() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", gone.local_addr().unwrap());
    drop(gone);
    let ran = Coordinator::new().run(&["status", "--coordinator", &url], &[]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (1, ""));
    for part in [
        "cannot be reached",
        "why: Connection refused",
        "help: see that it runs",
    ] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

/// Over TLS: the right authority lets read, every other one is refused before the token is sent.
#[test]
fn only_the_right_authority_is_told_the_token() {
    let answers = |coordinator: Coordinator| coordinator.at("/v1/splits", &[Answer::json(&proven())]);
    let right = answers(Coordinator::with_tls(&["localhost", "127.0.0.1"]));
    assert_eq!(right.weir(&["status", "--ca", "ca.pem"]).exit, 0);
    assert_eq!(right.asked().len(), 1);
    right.write(
        "other.pem",
        &std::fs::read_to_string(Coordinator::with_tls(&["x"]).directory.path().join("ca.pem")).unwrap(),
    );
    let elsewhere = answers(Coordinator::with_tls(&["coordinator.example.com"]));
    let told = [
        right.weir(&["status", "--ca", "other.pem"]).transcript(),
        right.weir(&["status"]).transcript(),
        elsewhere.weir(&["status", "--ca", "ca.pem"]).transcript(),
    ];
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(right.asked().len(), 1);
    assert_eq!(elsewhere.asked().len(), 0);
}
