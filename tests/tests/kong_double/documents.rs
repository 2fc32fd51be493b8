//! Without a database: one document, its hash, restarts, and what a load may come to. `refused` has what is wrong in one.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use weir_sandbox::kong::{Kong, LoadFailure, Options};

use super::asking::{Answer, Ask};

pub(super) const ZEROS: &str = "00000000000000000000000000000000";
/// A document, and its md5 as `md5sum` has it.
const DOCUMENT: &[u8] = b"_format_version: '3.0'\nservices:\n- {name: shop, host: shop.split, tags: [fed]}\n";
const MD5: &str = "4d12b466e1b4bef8f297e30ffd40eacc";

pub(super) async fn alone() -> Kong {
    let options = Options {
        propagation: Duration::ZERO,
        ..Options::default()
    };
    Kong::without_database(options).await.unwrap()
}

pub(super) async fn hash(kong: &Kong) -> String {
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

pub(super) async fn post(kong: &Kong, query: &str, content: &[u8]) -> Answer {
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
