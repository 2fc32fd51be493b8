//! Which route a request takes, and how it arrives behind Kong.

use std::time::Duration;

use serde_json::{Value, json};
use weir_sandbox::kong::{Kong, Options};

use super::asking::{Answer, Ask, Target};

async fn with_routes(target: &Target, service: Value, routes: Value) -> Kong {
    let options = Options {
        propagation: Duration::ZERO,
        ..Options::default()
    };
    let kong = Kong::without_database(options).await.unwrap();
    let mut service = service;
    service["name"] = "shop".into();
    service["host"] = "127.0.0.1".into();
    service["port"] = target.address.port().into();
    service["routes"] = routes;
    let document = json!({"_format_version": "3.0", "services": [service]});
    let answer = Ask::new("POST", "/config")
        .form("config", document.to_string().as_bytes())
        .to(kong.admin())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    kong
}

/// The route that was taken: each sends another prefix.
fn prefix(answer: &Answer) -> String {
    let line = answer
        .body
        .lines()
        .find_map(|line| line.strip_prefix("x-route: "));
    line.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[tokio::test]
async fn the_route_that_says_most_is_taken() {
    let target = Target::start("it").await;
    // Without plugins a route can only be told by what it leaves of the path: each has its own service.
    let all = [
        ("short", json!({"paths": ["/a"]})),
        ("long", json!({"paths": ["/a/b"]})),
        ("expression", json!({"paths": ["~/a/[0-9]+"]})),
        ("host", json!({"hosts": ["shop.test"], "paths": ["/a"]})),
        ("wildcard", json!({"hosts": ["*.test"], "paths": ["/a"]})),
        (
            "method",
            json!({"hosts": ["shop.test"], "paths": ["/a"], "methods": ["POST"]}),
        ),
        (
            "header",
            json!({"paths": ["/a/b"], "headers": {"x-beta": ["true", "~*^v[12]$"]}}),
        ),
    ];
    let services: Vec<Value> = all
        .iter()
        .map(|(name, route)| {
            let port = target.address.port();
            json!({"name": name, "host": "127.0.0.1", "port": port, "path": format!("/{name}"), "routes": [route]})
        })
        .collect();
    let options = Options {
        propagation: Duration::ZERO,
        ..Options::default()
    };
    let kong = Kong::without_database(options).await.unwrap();
    let document = json!({"_format_version": "3.0", "services": services});
    let answer = Ask::new("POST", "/config")
        .form("config", document.to_string().as_bytes())
        .to(kong.admin())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    for (ask, expected) in [
        (Ask::new("GET", "/a/c"), "GET /short/c HTTP/1.1"),
        (Ask::new("GET", "/abc?x=1"), "GET /short/bc?x=1 HTTP/1.1"),
        (Ask::new("GET", "/a/b/c"), "GET /long/c HTTP/1.1"),
        (Ask::new("GET", "/a/17/c"), "GET /expression/c HTTP/1.1"),
        (
            Ask::new("GET", "/a/c").header("Host", "SHOP.test:80"),
            "GET /host/c HTTP/1.1",
        ),
        (
            Ask::new("GET", "/a/c").header("Host", "other.test"),
            "GET /wildcard/c HTTP/1.1",
        ),
        (
            Ask::new("POST", "/a/c").header("Host", "shop.test"),
            "POST /method/c HTTP/1.1",
        ),
        (
            Ask::new("GET", "/a/b/").header("X-Beta", "TRUE"),
            "GET /header/ HTTP/1.1",
        ),
        (
            Ask::new("GET", "/a/b").header("X-Beta", "v2"),
            "GET /header HTTP/1.1",
        ),
        (
            Ask::new("GET", "/a/b").header("X-Beta", "v3"),
            "GET /long HTTP/1.1",
        ),
    ] {
        let answer = ask.to(kong.proxy()).await;
        assert_eq!(answer.body.lines().nth(1), Some(expected), "{ask:?}");
    }
    let answer = Ask::new("GET", "/b").to(kong.proxy()).await;
    assert_eq!(
        (answer.status, answer.json()["message"].clone()),
        (404, "no Route matched with those values".into())
    );
    assert_eq!(answer.headers["server"], "kong/3.9.3");
    assert_eq!(kong.own_answers(), [(404, 1)].into());
}

#[tokio::test]
async fn what_arrives_is_what_was_sent_but_for_what_kong_adds() {
    let target = Target::start("it").await;
    let stripped = json!([{"paths": ["/shop"]}]);
    let kong = with_routes(&target, json!({}), stripped).await;
    let body = "x".repeat(100_000);
    let ask = Ask::new("POST", "/shop/cart?a=1")
        .header("Host", "shop.test")
        .header("X-Route", "mine");
    let answer = ask.body("text/plain", body.as_bytes()).to(kong.proxy()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(prefix(&answer), "mine");
    assert!(answer.body.ends_with(&body));
    let has = |line: &str| {
        assert!(
            answer.body.lines().any(|have| have == line),
            "{line}: {}",
            &answer.body[..600]
        );
    };
    has("POST /cart?a=1 HTTP/1.1");
    has(&format!("host: 127.0.0.1:{}", target.address.port()));
    has("x-forwarded-host: shop.test");
    has("x-forwarded-prefix: /shop");
    has("x-forwarded-for: 127.0.0.1");
    assert_eq!(answer.headers["via"], "1.1 kong/3.9.3");
    assert_eq!(answer.headers["x-target"], "it");
    assert!(answer.headers.contains_key("x-kong-upstream-latency"));

    let kept = json!([{"paths": ["/shop"], "strip_path": false, "preserve_host": true}]);
    let kong = with_routes(&target, json!({}), kept).await;
    let answer = Ask::new("GET", "/shop/cart")
        .header("Host", "shop.test")
        .to(kong.proxy())
        .await;
    assert_eq!(answer.body.lines().nth(1), Some("GET /shop/cart HTTP/1.1"));
    assert!(
        answer.body.contains("\nhost: shop.test\n") || answer.body.contains("\nhost: shop.test\r\n"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_disabled_service_has_no_routes_and_https_only_is_told() {
    let target = Target::start("it").await;
    let kong = with_routes(&target, json!({"enabled": false}), json!([{"paths": ["/"]}])).await;
    assert_eq!(Ask::new("GET", "/").to(kong.proxy()).await.status, 404);
    let kong = with_routes(
        &target,
        json!({}),
        json!([{"paths": ["/"], "protocols": ["https"]}]),
    )
    .await;
    let answer = Ask::new("GET", "/").to(kong.proxy()).await;
    assert_eq!(
        (answer.status, answer.json()["message"].clone()),
        (426, "Please use HTTPS protocol".into())
    );
    let elsewhere = json!([{"paths": ["/"], "protocols": ["https"], "https_redirect_status_code": 308, "snis": ["shop.test"]}]);
    let kong = with_routes(&target, json!({}), elsewhere).await;
    let answer = Ask::new("POST", "/shop?a=b")
        .header("Host", "shop.test:8000")
        .to(kong.proxy())
        .await;
    assert_eq!(
        (answer.status, answer.headers.get("location").map(String::as_str)),
        (308, Some("https://shop.test/shop?a=b"))
    );
}
