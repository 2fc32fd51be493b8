//! Whatever else answers at the address of an Admin API: a clear error, and nothing is posted. No Kong is needed here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_drivers::{Admin, AdminConfig, Brought, DriverError, Fault, GatewayDriver as _, Secret};
use weir_planner::{Evidence, Verdict};
use weir_render::kong::Document;

use super::something::{Says, Something, json, something, table, with};
use super::stage::{by_routes, config, driver, first, made, plain, routing};

fn document() -> Document {
    let vm = "127.0.0.1:9".parse().unwrap();
    made(
        None,
        &[(
            &plain("checkout", 1, &[("vm", 10_000)]),
            &by_routes(routing("/checkout"), &[("vm", &[vm])]),
        )],
    )
}

async fn failed(something: &Something) -> DriverError {
    let mut config = config(&format!("http://{}", something.address), None);
    config.timeout = Duration::from_secs(2);
    let driver = driver(vec![config]);
    let brought = first(&driver, &document(), 1).await;
    let proof = driver.prove(&document()).await.into_values().next().unwrap();
    assert_ne!(proof.verdict, Verdict::Exact);
    match brought.into_values().next().unwrap() {
        Brought::Failed(error) | Brought::Refused(error, _) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_admin_api_is_never_written_to() {
    super::stage::ready();
    for (what, says, fault, why) in table() {
        let something = something(says).await;
        let error = failed(&something).await;
        assert_eq!(error.fault, fault, "{what}: {error}");
        assert!(error.why.contains(why), "{what}: {error}");
        assert!(
            !error.help.is_empty() && error.what.contains(&something.address.to_string()),
            "{what}: {error}"
        );
        assert_eq!(something.writes.load(Ordering::Relaxed), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_is_given_up() {
    super::stage::ready();
    let something = something(|_| None).await;
    let begun = Instant::now();
    let error = failed(&something).await;
    assert!(
        error.why.contains("no answer in time") && error.fault == Fault::Away,
        "{error}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "once for looking and once for the proof"
    );
    assert_eq!(something.writes.load(Ordering::Relaxed), 0);
}

const ROOT: &str = r#"{"version":"3.9.3","configuration":{"database":"off","role":"traditional","router_flavor":"traditional_compatible"},"pids":{"workers":[1,2]}}"#;

/// A Kong that has nothing, until it is posted to.
fn empty(line: &str, post: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match line {
        line if line.starts_with("GET / ") => json("200 OK", ROOT),
        line if line.starts_with("GET /status ") => json(
            "200 OK",
            r#"{"configuration_hash":"00000000000000000000000000000000"}"#,
        ),
        line if line.starts_with("POST /config?check_hash=1&flatten_errors=1 ") => post,
        _ => json("404 Not Found", r#"{"message":"Not found"}"#),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_a_document_has_its_meaning() {
    super::stage::ready();
    let table: [(&str, Says, Fault, &str, &str); 12] = [
        (
            "HTML",
            |l| empty(l, with("201 Created", "Content-Type: text/html\r\n", b"x")),
            Fault::Setup,
            "no JSON",
            "Admin API",
        ),
        (
            "200",
            |l| empty(l, json("200 OK", "{}")),
            Fault::Unknown,
            "200 OK is no answer to this",
            "",
        ),
        (
            "401",
            |l| empty(l, json("401 Unauthorized", r#"{"message":"no"}"#)),
            Fault::Setup,
            "401 Unauthorized: no",
            "protected",
        ),
        (
            "redirect",
            |l| empty(l, with("307 Temporary Redirect", "Location: /x\r\n", b"")),
            Fault::Setup,
            "sends us to /x",
            "",
        ),
        (
            "405",
            |l| empty(l, json("405 Not Allowed", r#"{"message":"Method not allowed"}"#)),
            Fault::Setup,
            "Method not allowed",
            "",
        ),
        (
            "413 of nginx",
            |l| {
                empty(
                    l,
                    with("413 Payload Too Large", "Content-Type: text/html\r\n", b"<html>"),
                )
            },
            Fault::Refused,
            "413",
            "nginx_admin_client_max_body_size",
        ),
        (
            "413 of LMDB",
            |l| empty(l, json("413 Payload Too Large", r#"{"message":"map full"}"#)),
            Fault::Refused,
            "map full",
            "lmdb_map_size",
        ),
        (
            "415",
            |l| empty(l, json("415 Unsupported Media Type", "{}")),
            Fault::Refused,
            "415",
            "no form",
        ),
        (
            "429",
            |l| {
                empty(
                    l,
                    with(
                        "429 Too Many Requests",
                        "Retry-After: 60\r\nContent-Type: application/json\r\n",
                        br#"{"message":"Currently loading previous configuration"}"#,
                    ),
                )
            },
            Fault::NotYet,
            "it asks for 60 s",
            "next activation",
        ),
        (
            "503",
            |l| {
                empty(
                    l,
                    json(
                        "503 Service Unavailable",
                        r#"{"message":"Kong currently exiting"}"#,
                    ),
                )
            },
            Fault::Away,
            "currently exiting",
            "",
        ),
        (
            "504",
            |l| {
                empty(
                    l,
                    json(
                        "504 Gateway Timeout",
                        r#"{"message":"Timed out while loading configuration"}"#,
                    ),
                )
            },
            Fault::Away,
            "Timed out",
            "did not say in time whether",
        ),
        (
            "hang",
            |l| empty(l, None),
            Fault::Away,
            "no answer in time",
            "Traffic stays",
        ),
    ];
    for (what, says, fault, why, help) in table {
        let something = something(says).await;
        let error = failed(&something).await;
        assert_eq!(error.fault, fault, "{what}: {error}");
        assert!(
            error.why.contains(why) && error.help.contains(help),
            "{what}: {error} {}",
            error.help
        );
        assert_eq!(
            something.writes.load(Ordering::Relaxed),
            1,
            "{what}: asked once, and nothing is repeated inside"
        );
    }
    // Said to be loaded, and not there: no proof.
    let something = something(|l| empty(l, json("201 Created", "{}"))).await;
    let driver = driver(vec![config(&format!("http://{}", something.address), None)]);
    let brought = first(&driver, &document(), 1).await;
    assert!(matches!(brought.into_values().next(), Some(Brought::Posted)));
    let proof = driver.prove(&document()).await.into_values().next().unwrap();
    assert!(
        matches!(&proof.verdict, Verdict::Different(why) if why.contains("runs another configuration")),
        "{proof:?}"
    );
    assert_eq!(proof.evidence, Evidence::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_it_is_read_is_not_judged() {
    super::stage::ready();
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    // Another hash each time, and lists that have no end.
    let something = something(|line| match line {
        line if line.starts_with("GET / ") => json("200 OK", ROOT),
        line if line.starts_with("GET /status ") => json(
            "200 OK",
            &format!(
                r#"{{"configuration_hash":"{:032x}"}}"#,
                ASKED.fetch_add(1, Ordering::Relaxed) + 7
            ),
        ),
        _ => json("200 OK", r#"{"data":{},"next":null}"#),
    })
    .await;
    let error = failed(&something).await;
    assert!(
        error
            .why
            .contains("given another configuration while it was read")
            && error.fault == Fault::NotYet,
        "{error}"
    );
    let endless = |line: &str| match line {
        line if line.starts_with("GET /services") => {
            json("200 OK", r#"{"data":[],"next":"/x","offset":"a=="}"#)
        }
        line if line.starts_with("GET /status ") => json(
            "200 OK",
            r#"{"configuration_hash":"11111111111111111111111111111111"}"#,
        ),
        line if line.starts_with("GET /tags") => json("200 OK", r#"{"data":{},"next":null}"#),
        _ => json("200 OK", ROOT),
    };
    let something = super::something::something(endless).await;
    let error = failed(&something).await;
    assert!(error.why.contains("the next page is this page"), "{error}");
    assert_eq!(something.writes.load(Ordering::Relaxed), 0);
}

/// It starts anew while it is read, and somebody gives it the very same again: one hash before and after, and lists of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_while_it_is_read_is_not_written_over() {
    super::stage::ready();
    static READ: AtomicUsize = AtomicUsize::new(0);
    const NEWER: &str = r#"{"data":[{"id":"7a2e9bc3-0ba5-5a6c-8b0e-6f1c3f5f9b11","name":"weir.checkout.default","tags":["weir","weir.federation.shop","weir.gateway.1","weir.split.checkout","weir.route.default","weir.generation.9"]}],"next":null}"#;
    let something = something(|line| match line {
        line if line.starts_with("GET / ") => json("200 OK", ROOT),
        line if line.starts_with("GET /status ") => json(
            "200 OK",
            r#"{"configuration_hash":"11111111111111111111111111111111"}"#,
        ),
        line if line.starts_with("GET /services") && READ.fetch_add(1, Ordering::Relaxed) > 0 => {
            json("200 OK", NEWER)
        }
        line if line.starts_with("GET ") => json("200 OK", r#"{"data":[],"next":null}"#),
        _ => json("201 Created", "{}"),
    })
    .await;
    let driver = driver(vec![config(&format!("http://{}", something.address), None)]);
    for why in [
        "something else than what was read of it a moment before",
        "has generation 9 of split checkout, and this agent knows generation 1",
    ] {
        match first(&driver, &document(), 1).await.into_values().next().unwrap() {
            Brought::Held(said) => assert!(said.contains(why), "{said}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    assert_eq!(something.writes.load(Ordering::Relaxed), 0);
}

#[test]
fn addresses_and_secrets_are_checked_before_anything_is_dialled() {
    super::stage::ready();
    for (url, why) in [
        ("127.0.0.1:8001", "Kong's Admin API"),
        ("ftp://127.0.0.1", "is not http://"),
        ("http://kong.internal:8001", "not encrypted"),
        ("http://10.0.0.1:8001", "not encrypted"),
        ("https://ann:secret@kong.internal:8444", "a user or a password"),
        ("http://127.0.0.1:8001/?x", "is not http://"),
    ] {
        let error = Admin::new(config(url, None)).expect_err(url);
        assert!(
            error.to_string().contains(why) && error.fault == Fault::Setup,
            "{error}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(
            Admin::new(config("http://127.0.0.1:8001", Some(url))).is_err(),
            "{url}"
        );
    }
    for url in [
        "http://127.0.0.1:8001/",
        "http://localhost:8001",
        "http://[::1]:8001",
        "https://kong.internal:8444/kong",
    ] {
        assert_eq!(
            Admin::new(config(url, None)).expect(url).url(),
            url.trim_end_matches('/')
        );
    }
    let nothing = AdminConfig {
        ca: Some("/nowhere/ca.pem".into()),
        ..config("https://kong.internal:8444", None)
    };
    assert!(
        Admin::new(nothing)
            .expect_err("no file")
            .why
            .contains("/nowhere/ca.pem")
    );
    let header = Secret {
        name: "a b".to_owned(),
        file: "/nowhere/key".into(),
    };
    let odd = AdminConfig {
        header: Some(header),
        ..config("http://127.0.0.1:8001", None)
    };
    assert!(
        Admin::new(odd)
            .expect_err("no name")
            .why
            .contains("no name of a header")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_protects_and_its_file_is_read_each_time() {
    super::stage::ready();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let something = something(|_| json("401 Unauthorized", r#"{"message":"no"}"#)).await;
    let url = format!("http://{}", something.address);
    let header = Some(Secret {
        name: "apikey".to_owned(),
        file: file.clone(),
    });
    let driver = driver(vec![AdminConfig {
        header,
        ..config(&url, None)
    }]);
    let error = driver.observe(&url, &BTreeSet::new()).await.expect_err("no file");
    assert!(
        error.fault == Fault::Setup && error.why.contains("key"),
        "{error}"
    );
    std::fs::write(&file, "s3cret\n").unwrap();
    let error = driver.observe(&url, &BTreeSet::new()).await.expect_err("401");
    assert!(
        error.why.contains("401") && !format!("{error:?}").contains("s3cret"),
        "{error:?}"
    );
}
