//! `http-log`, the one plugin that does something: what it may be told, for which requests it runs, and that nobody waits for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use weir_sandbox::kong::{Database, Kong, Options};

use super::asking::{Ask, Target, nobody, until};
use super::database::{ask, get, node};

/// Takes posts; what was in them. Refuses the first so many.
async fn log_server(refuse: usize) -> (String, Arc<Mutex<Vec<Vec<Value>>>>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/lines", socket.local_addr().unwrap());
    let posts: Arc<Mutex<Vec<Vec<Value>>>> = Arc::default();
    let took = Arc::clone(&posts);
    tokio::spawn(async move {
        let mut left = refuse;
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut buffer = Vec::new();
            let body = loop {
                if stream.read_buf(&mut buffer).await.unwrap() == 0 {
                    break None;
                }
                let text = String::from_utf8_lossy(&buffer).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.lines().find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                });
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    break serde_json::from_str::<Value>(body).ok();
                }
            };
            let status = if left > 0 { "503 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if left > 0 {
                left -= 1;
            } else if let Some(body) = body {
                let lines = body.as_array().cloned().unwrap_or_else(|| vec![body]);
                took.lock().unwrap().push(lines);
            }
        }
    });
    (url, posts)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_may_be_told_is_what_kong_3_9_takes() {
    let kong = node(&Database::new()).await;
    let plugin = |config: Value| json!({"name": "http-log", "config": config});
    let made = ask(
        &kong,
        "POST",
        "/plugins",
        plugin(json!({"http_endpoint": "http://127.0.0.1:9"})),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(
        made["config"],
        json!({"http_endpoint": "http://127.0.0.1:9", "method": "POST", "content_type": "application/json", "timeout": 10_000,
            "keepalive": 60_000, "retry_count": null, "queue_size": null, "flush_timeout": null, "headers": null,
            "custom_fields_by_lua": null,
            "queue": {"max_batch_size": 1, "max_coalescing_delay": 1, "max_entries": 10_000, "max_bytes": null,
                "max_retry_time": 60, "initial_retry_delay": 0.01, "max_retry_delay": 60, "concurrency_limit": 1}})
    );
    let again = ask(
        &kong,
        "POST",
        "/plugins",
        plugin(json!({"http_endpoint": "http://127.0.0.1:9"})),
    )
    .await;
    assert_eq!(
        (again.status, &again.json()["code"]),
        (409, &json!(5)),
        "one of a kind in one place"
    );
    // PATCH changes what it names, to any depth; PUT and DELETE are as of any entity.
    let path = format!("/plugins/{}", made["id"].as_str().unwrap());
    let change = json!({"config": {"queue": {"max_entries": 5}}, "instance_name": "log"});
    let changed = ask(&kong, "PATCH", &path, change).await.json();
    assert_eq!(
        (
            &changed["config"]["queue"]["max_entries"],
            &changed["config"]["queue"]["max_retry_time"]
        ),
        (&json!(5), &json!(60))
    );
    assert_eq!(get(&kong, "/plugins/log").await.json()["id"], made["id"]);
    let put = ask(
        &kong,
        "PUT",
        &path,
        plugin(json!({"http_endpoint": "http://127.0.0.1:9"})),
    )
    .await
    .json();
    assert_eq!(put["config"]["queue"]["max_entries"], 10_000);
    for (wrong, at, message) in [
        (json!({}), "/http_endpoint", "required field missing"),
        (
            json!({"http_endpoint": "http:///"}),
            "/http_endpoint",
            "missing host in url",
        ),
        (
            json!({"http_endpoint": "//a.test"}),
            "/http_endpoint",
            "missing scheme in url",
        ),
        (
            json!({"http_endpoint": "http://a.test", "method": "GET"}),
            "/method",
            "expected one of: POST, PUT, PATCH",
        ),
        (
            json!({"http_endpoint": "http://a.test", "speed": 1}),
            "/speed",
            "unknown field",
        ),
        (
            json!({"http_endpoint": "http://a.test", "queue": {"max_batch_size": 0}}),
            "/queue/max_batch_size",
            "value should be between 1 and 1000000",
        ),
        (
            json!({"http_endpoint": "http://a.test", "queue": {"initial_retry_delay": 0}}),
            "/queue/initial_retry_delay",
            "value should be between 0.001 and 1000000",
        ),
        (
            json!({"http_endpoint": "http://a.test", "queue": {"concurrency_limit": 2}}),
            "/queue/concurrency_limit",
            "expected one of: -1, 1",
        ),
    ] {
        let refused = ask(&kong, "POST", "/plugins", plugin(wrong.clone())).await;
        assert_eq!(refused.status, 400, "{wrong}");
        let said = refused.json();
        assert_eq!(
            said["fields"]["config"].pointer(at),
            Some(&json!(message)),
            "{wrong}: {said}"
        );
    }
    assert_eq!(ask(&kong, "DELETE", &path, json!({})).await.status, 204);
    // In a document it is refused with what is wrong with it, by its tags.
    let alone = Kong::without_database(Options::default()).await.unwrap();
    let mut wrong = plugin(json!({"http_endpoint": "http:///"}));
    wrong["tags"] = json!(["mine"]);
    let document =
        json!({"_format_version": "3.0", "services": [{"name": "a", "host": "a.test", "plugins": [wrong]}]});
    let form = Ask::new("POST", "/config?flatten_errors=1").form("config", document.to_string().as_bytes());
    let said = form.to(alone.admin()).await.json();
    let one = &said["flattened_errors"][0];
    assert_eq!(
        (&one["entity_type"], &one["entity_tags"]),
        (&json!("plugin"), &json!(["mine"]))
    );
    assert_eq!(one["errors"][0]["field"], "config.http_endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_one_runs_and_says_where_a_request_went() {
    let (all, to_all) = log_server(0).await;
    let (one, to_one) = log_server(2).await;
    let (vm, dead) = (Target::start("vm").await, nobody().await);
    let quick = json!({"max_batch_size": 10, "max_coalescing_delay": 0.1});
    let document = json!({"_format_version": "3.0",
        "upstreams": [{"name": "a.split", "targets": [{"target": dead.to_string()}]},
            {"name": "b.split", "targets": [{"target": vm.address.to_string()}]}],
        "services": [
            {"name": "a", "host": "a.split", "retries": 0, "routes": [{"name": "a", "paths": ["/a"]}],
                "plugins": [{"name": "http-log", "config": {"http_endpoint": one, "queue": quick}}]},
            {"name": "b", "host": "b.split", "routes": [{"name": "b", "paths": ["/b"]}]},
            {"name": "c", "host": "b.split", "routes": [{"name": "c", "paths": ["/c"]}],
                "plugins": [{"name": "http-log", "enabled": false, "config": {"http_endpoint": one}}]}],
        "plugins": [{"name": "http-log", "config": {"http_endpoint": all, "queue": quick}}]});
    let kong = Kong::without_database(Options {
        propagation: Duration::ZERO,
        ..Options::default()
    })
    .await
    .unwrap();
    let form = Ask::new("POST", "/config").form("config", document.to_string().as_bytes());
    assert_eq!(form.to(kong.admin()).await.status, 201);
    for (path, status) in [("/a", 502), ("/b?x=1", 200), ("/c", 200), ("/nowhere", 404)] {
        assert_eq!(
            Ask::new("GET", path).to(kong.proxy()).await.status,
            status,
            "{path}"
        );
    }
    let lines = |of: &Arc<Mutex<Vec<Vec<Value>>>>| of.lock().unwrap().concat();
    until("all lines", async || {
        tokio::task::yield_now().await;
        lines(&to_one).len() == 1 && lines(&to_all).len() == 2
    })
    .await;
    let failed = &lines(&to_one)[0];
    assert_eq!(
        (&failed["response"]["status"], &failed["upstream_status"]),
        (&json!(502), &json!("502"))
    );
    assert_eq!(failed["tries"][0]["port"], dead.port());
    assert_eq!(failed["service"]["name"], "a");
    let mut answered = lines(&to_all);
    answered.sort_by_key(|line| line["service"]["name"].to_string());
    assert_eq!(
        (&answered[0]["service"]["name"], &answered[1]["service"]["name"]),
        (&json!("b"), &json!("c"))
    );
    assert_eq!(
        (&answered[0]["request"]["uri"], &answered[0]["upstream_status"]),
        (&json!("/b?x=1"), &json!("200"))
    );
    assert_eq!(answered[0]["tries"][0]["port"], vm.address.port());
    assert!(answered[0]["started_at"].as_i64().unwrap() > 1_700_000_000_000);
}
