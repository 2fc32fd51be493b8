//! Documents and entities that are refused: in which words, by which field, and what is lost of that.

use serde_json::{Value, json};

use super::asking::Ask;
use super::documents::{ZEROS, alone, hash, post};

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
