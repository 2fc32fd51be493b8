//! Without a database: one document, its hash, what is wrong with it, restarts.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use weir_sandbox::kong::{Kong, LoadFailure, Options};

use super::asking::{Answer, Ask};

const ZEROS: &str = "00000000000000000000000000000000";
/// A document, and its md5 as `md5sum` has it.
const DOCUMENT: &[u8] = b"_format_version: '3.0'\nservices:\n- {name: shop, host: shop.split, tags: [fed]}\n";
const MD5: &str = "4d12b466e1b4bef8f297e30ffd40eacc";

async fn alone() -> Kong {
    let options = Options {
        propagation: Duration::ZERO,
        ..Options::default()
    };
    Kong::without_database(options).await.unwrap()
}

async fn hash(kong: &Kong) -> String {
    let status = Ask::new("GET", "/status").to(kong.admin()).await.json();
    status["configuration_hash"].as_str().unwrap().to_owned()
}

async fn ready(kong: &Kong) -> (u16, String) {
    let answer = Ask::new("GET", "/status/ready").to(kong.status()).await;
    (
        answer.status,
        answer.json()["message"].as_str().unwrap().to_owned(),
    )
}

async fn post(kong: &Kong, query: &str, content: &[u8]) -> Answer {
    let path = format!("/config{query}");
    Ask::new("POST", &path)
        .form("config", content)
        .to(kong.admin())
        .await
}

#[tokio::test]
async fn the_hash_is_md5_of_the_bytes_however_they_come() {
    let kong = alone().await;
    assert_eq!(hash(&kong).await, ZEROS);
    let encoded: String = DOCUMENT.iter().map(|byte| format!("%{byte:02x}")).collect();
    let urlencoded = format!("config={encoded}");
    for ask in [
        Ask::new("POST", "/config").form("config", DOCUMENT),
        Ask::new("POST", "/config").body("application/x-www-form-urlencoded", urlencoded.as_bytes()),
        Ask::new("POST", "/config").body("text/yaml", DOCUMENT),
        Ask::new("POST", "/config").body("application/yaml", DOCUMENT),
    ] {
        assert_eq!(post(&kong, "", b"_format_version: '3.0'").await.status, 201);
        assert_eq!(hash(&kong).await, ZEROS, "an empty document has no hash");
        let answer = ask.to(kong.admin()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(hash(&kong).await, MD5);
        assert_eq!(post(&kong, "?check_hash=1", DOCUMENT).await.status, 304);
        assert_eq!(
            post(&kong, "?check_hash=true", DOCUMENT).await.status,
            201,
            "only 1 is yes"
        );
    }
}

#[tokio::test]
async fn a_document_as_json_is_loaded_each_time_and_never_has_the_same_hash() {
    let kong = alone().await;
    let document = json!({"_format_version": "3.0", "services": [{"name": "shop", "host": "shop.split"}]});
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = Ask::new("POST", "/config?check_hash=1")
            .json(&document)
            .to(kong.admin())
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        seen.push(hash(&kong).await);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn an_empty_document_is_taken_and_the_node_is_not_ready() {
    let kong = alone().await;
    let why = "no configuration available (empty configuration present)".to_owned();
    assert_eq!(ready(&kong).await, (503, why.clone()));
    assert_eq!(post(&kong, "", DOCUMENT).await.status, 201);
    assert_eq!(ready(&kong).await, (200, "ready".to_owned()));
    let answer = post(&kong, "", br#"{"_format_version":"3.0"}"#).await;
    assert_eq!((answer.status, answer.json()), (201, json!({})));
    assert_eq!(ready(&kong).await, (503, why));
    assert_eq!(hash(&kong).await, ZEROS);
}

#[tokio::test]
async fn a_restart_keeps_what_was_loaded_or_goes_back_to_what_is_declared() {
    let mut kong = alone().await;
    assert_eq!(post(&kong, "", DOCUMENT).await.status, 201);
    let answer = Ask::new("GET", "/services/shop").to(kong.admin()).await;
    kong.restart().await.unwrap();
    assert_eq!(hash(&kong).await, MD5);
    assert_eq!(ready(&kong).await.0, 200);
    assert_eq!(
        Ask::new("GET", "/services/shop").to(kong.admin()).await.body,
        answer.body
    );

    let dir = tempfile::tempdir().unwrap();
    let declared: PathBuf = dir.path().join("kong.yaml");
    std::fs::write(&declared, DOCUMENT).unwrap();
    let options = Options {
        declarative_config: Some(declared.clone()),
        ..Options::default()
    };
    let mut kong = Kong::without_database(options).await.unwrap();
    assert_eq!(hash(&kong).await, MD5, "it begins with what is declared");
    assert_eq!(
        post(&kong, "", b"_format_version: '3.0'\nupstreams: [{name: a.split}]")
            .await
            .status,
        201
    );
    assert_ne!(hash(&kong).await, MD5);
    kong.restart().await.unwrap();
    assert_eq!(hash(&kong).await, MD5, "and goes back to it");
    assert_eq!(
        Ask::new("GET", "/upstreams/a.split")
            .to(kong.admin())
            .await
            .status,
        404
    );
    std::fs::write(&declared, "nonsense: {{{").unwrap();
    assert!(
        kong.restart().await.is_err(),
        "Kong does not start with a document that is none"
    );
}

#[tokio::test]
async fn ids_come_from_names_as_with_kong() {
    let kong = alone().await;
    let document = json!({
        "_format_version": "3.0",
        "services": [{"name": "shop", "host": "shop.split", "routes": [{"name": "shop", "paths": ["/shop"]}]}],
        "upstreams": [{"name": "shop.split", "targets": [{"target": "127.0.0.1:19001"}]}],
    });
    let answer = post(&kong, "", document.to_string().as_bytes()).await.json();
    for (kind, id) in [
        ("upstreams", "fa86dac7-6df5-567a-8698-7bee24e0c418"),
        ("services", "abfbe39c-075b-5e5e-aec6-a90f2f0adfee"),
        ("routes", "138956a1-08a3-5c2c-bc58-79f477d12f27"),
        ("targets", "57fe4328-42a8-5f57-b045-c71c0ca12265"),
    ] {
        let ids: Vec<&String> = answer[kind].as_object().unwrap().keys().collect();
        assert_eq!(ids, [id], "{kind}");
    }
    // The same entity, written at the top with the name of its parent, has the same id.
    let flat = json!({
        "_format_version": "3.0",
        "upstreams": [{"name": "shop.split"}],
        "targets": [{"target": "127.0.0.1:19001", "upstream": "fa86dac7-6df5-567a-8698-7bee24e0c418"}],
    });
    let answer = post(&kong, "", flat.to_string().as_bytes()).await.json();
    assert!(
        answer["targets"]["57fe4328-42a8-5f57-b045-c71c0ca12265"].is_object(),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_by_place_or_by_entity() {
    let kong = alone().await;
    let wrong = json!({
        "_format_version": 3, "unheard": 1,
        "services": [
            {"name": "good", "host": "h"},
            {"name": "b ad", "tags": ["fed", "weir.shop"], "port": 70000, "routes": [{"name": "r", "paths": ["shop", "/b//c"]}]},
        ],
    });
    let answer = post(&kong, "", wrong.to_string().as_bytes()).await;
    assert_eq!(answer.status, 400);
    let fields = answer.json()["fields"].clone();
    let name = "invalid value 'b ad': the only accepted ascii characters are alphanumerics or ., -, _, and ~";
    let expected = json!({
        "_format_version": "expected a string", "unheard": "unknown field",
        "services": [null, {
            "name": name, "host": "required field missing", "port": "value should be between 0 and 65535",
            "routes": [{"paths": ["should start with: / (fixed path) or ~/ (regex path)", "must not have empty segments"]}],
        }],
    });
    assert_eq!(fields, expected);
    let answer = post(&kong, "?flatten_errors=1", wrong.to_string().as_bytes())
        .await
        .json();
    assert_eq!(
        answer["fields"],
        json!({"_format_version": "expected a string", "unheard": "unknown field"})
    );
    let all = answer["flattened_errors"].as_array().unwrap();
    let of = |kind: &str| all.iter().find(|one| one["entity_type"] == kind).unwrap();
    assert_eq!(of("service")["entity_tags"], json!(["fed", "weir.shop"]));
    assert_eq!(of("service")["errors"].as_array().unwrap().len(), 3);
    assert_eq!(of("route")["entity_name"], "r");
    assert_eq!(
        of("route")["errors"][1]["field"],
        "paths.1",
        "positions count from one"
    );
    assert_eq!(hash(&kong).await, ZEROS, "nothing was loaded");
}

#[tokio::test]
async fn errors_by_name_are_lost_when_they_are_flattened() {
    let kong = alone().await;
    let lost =
        json!({"_format_version": "3.0", "routes": [{"name": "r", "paths": ["/"], "service": "nobody"}]});
    let answer = post(&kong, "", lost.to_string().as_bytes()).await.json();
    let message = "invalid reference 'service: nobody' (no such entry in 'services')";
    assert_eq!(answer["fields"], json!({"routes": {"r": [message]}}));
    let answer = post(&kong, "?flatten_errors=1", lost.to_string().as_bytes())
        .await
        .json();
    assert_eq!(
        (&answer["flattened_errors"], &answer["fields"]),
        (&json!({}), &json!({})),
        "objects, not lists"
    );
    let twice = json!({"_format_version": "3.0", "upstreams": [{"name": "a.split"}, {"name": "a.split"}]});
    let answer = post(&kong, "?flatten_errors=1", twice.to_string().as_bytes())
        .await
        .json();
    let said = &answer["flattened_errors"][0]["errors"][0]["message"];
    assert_eq!(
        said,
        "uniqueness violation: 'upstreams' entity with name set to 'a.split' already declared"
    );
}

/// The checks of the schemas: kind, entity, field, what is said.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (
        "targets",
        r#"{"target":"h:80","weight":1.5}"#,
        "weight",
        "expected an integer",
    ),
    (
        "targets",
        r#"{"target":"h:80","weight":-1}"#,
        "weight",
        "value should be between 0 and 65535",
    ),
    (
        "targets",
        r#"{"target":"h:80"}"#,
        "upstream",
        "required field missing",
    ),
    (
        "targets",
        r#"{"target":"-:x"}"#,
        "target",
        "Invalid target ('-:x'); not a valid hostname or ip address",
    ),
    (
        "upstreams",
        r#"{"name":"10.0.0.1"}"#,
        "name",
        "Invalid name ('10.0.0.1'); no ip addresses allowed",
    ),
    (
        "upstreams",
        r#"{"name":"a:80"}"#,
        "name",
        "Invalid name ('a:80'); no port allowed",
    ),
    (
        "upstreams",
        r#"{"name":"a_/b"}"#,
        "name",
        "Invalid name ('a_/b'); must be a valid hostname",
    ),
    (
        "upstreams",
        r#"{"name":"a","slots":9}"#,
        "slots",
        "value should be between 10 and 65536",
    ),
    (
        "upstreams",
        r#"{"name":"a","algorithm":"sticky-sessions"}"#,
        "algorithm",
        "expected one of: consistent-hashing, least-connections, round-robin, latency",
    ),
    (
        "upstreams",
        r#"{"name":"a","hash_on":"header"}"#,
        "hash_on_header",
        "required field missing",
    ),
    (
        "upstreams",
        r#"{"name":"a","hash_fallback":"ip"}"#,
        "hash_fallback",
        "expected one of: none",
    ),
    (
        "upstreams",
        r#"{"name":"a","tags":["a,b"]}"#,
        "tags",
        "invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences",
    ),
    ("services", r#"{"host":"h:80"}"#, "host", "must not have a port"),
    (
        "services",
        r#"{"host":"h","protocol":"tcp","path":"/"}"#,
        "path",
        "value must be null",
    ),
    (
        "services",
        r#"{"host":"h","retries":32768}"#,
        "retries",
        "value should be between 0 and 32767",
    ),
    (
        "routes",
        r#"{"name":"r"}"#,
        "@entity",
        "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'",
    ),
    (
        "routes",
        r#"{"paths":["/a/../b"]}"#,
        "paths",
        "non-normalized path, consider use '/b' instead",
    ),
    (
        "routes",
        r#"{"paths":["/a%2"]}"#,
        "paths",
        "invalid url-encoded value: '%2'",
    ),
    (
        "routes",
        r#"{"hosts":["a.*.b"]}"#,
        "hosts",
        "invalid wildcard: must be placed at leftmost or rightmost label",
    ),
    (
        "routes",
        r#"{"hosts":["h"],"methods":["get"]}"#,
        "methods",
        "invalid value: get",
    ),
    (
        "routes",
        r#"{"hosts":["h"],"protocols":["http","tcp"]}"#,
        "protocols",
        "these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')",
    ),
    (
        "routes",
        r#"{"headers":{"Host":["a"]}}"#,
        "headers",
        "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
    ),
];

#[tokio::test]
async fn schemas_are_checked_with_kongs_words() {
    let kong = alone().await;
    for (kind, entity, field, message) in REFUSED {
        let path = format!("/schemas/{kind}/validate");
        let answer = Ask::new("POST", &path)
            .body("application/json", entity.as_bytes())
            .to(kong.admin())
            .await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!(2)),
            "{entity}: {answer:?}"
        );
        let said = &answer.json()["fields"][*field];
        let said = if let Value::Array(all) = said {
            &all[0]
        } else {
            said
        };
        assert_eq!(said, message, "{entity}");
    }
    let good =
        json!({"name": "a.split", "hash_on": "header", "hash_on_header": "x_user", "hash_fallback": "ip"});
    let answer = Ask::new("POST", "/schemas/upstreams/validate")
        .json(&good)
        .to(kong.admin())
        .await;
    assert_eq!(
        (answer.status, answer.json()["message"].clone()),
        (200, "schema validation successful".into())
    );
}

#[tokio::test]
async fn hashing_decides_the_algorithm_whatever_was_asked_for() {
    let kong = alone().await;
    for (given, expected) in [
        (
            json!({"algorithm": "consistent-hashing"}),
            ("round-robin", "none"),
        ),
        (json!({"hash_on": "ip"}), ("consistent-hashing", "ip")),
        (
            json!({"algorithm": "round-robin", "hash_on": "ip"}),
            ("consistent-hashing", "ip"),
        ),
        (
            json!({"algorithm": "latency", "hash_on": "ip"}),
            ("latency", "none"),
        ),
        (json!({"slots": null, "hash_on": null}), ("round-robin", "none")),
    ] {
        let mut upstream = given.clone();
        upstream["name"] = "a.split".into();
        let document = json!({"_format_version": "3.0", "upstreams": [upstream]});
        let answer = post(&kong, "", document.to_string().as_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let read = Ask::new("GET", "/upstreams/a.split")
            .to(kong.admin())
            .await
            .json();
        assert_eq!(
            (
                read["algorithm"].as_str().unwrap(),
                read["hash_on"].as_str().unwrap()
            ),
            expected,
            "{given}"
        );
        assert_eq!(read["slots"], 10_000, "null is the default");
    }
}

#[tokio::test]
async fn too_much_is_too_much_and_a_load_fails_when_a_test_says_so() {
    let options = Options {
        admin_body_limit: 1000,
        ..Options::default()
    };
    let kong = Kong::without_database(options).await.unwrap();
    let answer = post(&kong, "", &[b'#'; 2000]).await;
    assert_eq!(
        (answer.status, answer.reason.as_str()),
        (413, "Request Entity Too Large")
    );
    assert!(
        answer.body.contains("<h1>413 Request Entity Too Large</h1>"),
        "{answer:?}"
    );
    for (failure, status) in [
        (LoadFailure::Busy, 429),
        (LoadFailure::Timeout, 504),
        (LoadFailure::Exiting, 503),
        (LoadFailure::StoreFull, 413),
    ] {
        kong.refuse_next_load(failure);
        let answer = post(&kong, "", DOCUMENT).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.headers.contains_key("retry-after"), status == 429);
        assert_eq!(hash(&kong).await, ZEROS);
    }
    assert_eq!(post(&kong, "", DOCUMENT).await.status, 201);
}

#[tokio::test]
async fn an_export_can_be_loaded_again() {
    let kong = alone().await;
    let document = json!({
        "_format_version": "3.0",
        "services": [{"name": "shop", "url": "http://shop.split:8080/base", "tags": ["it's: a #tag", "yes", "12"],
            "routes": [{"name": "r", "paths": ["/a"], "headers": {"x-beta": ["true", "~*a|b"]}}],
            "plugins": [{"name": "key-auth", "config": {"key_names": ["k"], "nested": {"a": [1, {"b": null}]}}}]}],
        "upstreams": [{"name": "shop.split", "targets": [{"target": "10.0.0.1:80", "weight": 0}]}],
        "consumers": [{"username": "me", "keyauth_credentials": [{"key": "secret"}]}],
    });
    let first = post(&kong, "", document.to_string().as_bytes()).await;
    assert_eq!(first.status, 201, "{first:?}");
    let export = Ask::new("GET", "/config").to(kong.admin()).await.json();
    let again = post(&kong, "", export["config"].as_str().unwrap().as_bytes()).await;
    let without_times = |answer: &Answer| {
        let mut all = answer.json();
        for kind in all.as_object_mut().unwrap().values_mut() {
            for entity in kind.as_object_mut().unwrap().values_mut() {
                entity
                    .as_object_mut()
                    .unwrap()
                    .retain(|name, _| !name.ends_with("_at"));
            }
        }
        all
    };
    assert_eq!(
        without_times(&again),
        without_times(&first),
        "{}",
        export["config"].as_str().unwrap()
    );
}
