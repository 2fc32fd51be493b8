//! Which backend a request comes to at a door, and what it looks like there.

use std::collections::BTreeSet;

use serde_json::json;
use weir_model::{Door, Entry, HeaderMatch, Match, PathMatch, ValueMatch, Via};

use super::asking::{Ask, Target};
use super::stage::{Stage, by_routes, by_service, item, made, plain, route, routing};

fn header(name: &str, value: &str) -> Match {
    let value = ValueMatch::Exact(value.to_owned());
    Match {
        headers: vec![HeaderMatch {
            name: name.to_owned(),
            value,
        }],
        ..Match::ANY
    }
}

fn path(path: PathMatch) -> Match {
    Match {
        path: Some(path),
        ..Match::ANY
    }
}

/// Who answers, and the first line and `Host` of what it was asked.
async fn asked(stage: &Stage, ask: Ask) -> String {
    let answer = ask.to(stage.proxy).await;
    let Some(target) = answer.headers.get("x-target") else {
        return answer.status.to_string();
    };
    let mut lines = answer.body.lines().skip(1);
    let first = lines
        .next()
        .unwrap_or_default()
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    let host = lines.find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("host: ")
            .map(str::to_owned)
    });
    format!("{target} {first} {}", host.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_comes_to_the_route_that_the_mesh_would_choose() {
    let stage = Stage::set().await;
    let (vm, eks) = (
        Target::start("vm").await.address,
        Target::start("eks").await.address,
    );
    let both: [(&str, &[_]); 2] = [("vm", &[vm]), ("eks", &[eks])];
    let checkout = item(
        "checkout",
        1,
        vec![
            route("beta", header("x-beta", "true"), &[("eks", 10_000)]),
            route("default", Match::ANY, &[("vm", 10_000)]),
        ],
    );
    let mut hosted = routing("/checkout");
    hosted.hosts.insert("shop.test".to_owned());
    let paths = item(
        "paths",
        1,
        vec![
            route(
                "health",
                path(PathMatch::Exact("/health.json".to_owned())),
                &[("eks", 10_000)],
            ),
            route(
                "api",
                path(PathMatch::Prefix("/api".to_owned())),
                &[("eks", 10_000)],
            ),
            route("default", Match::ANY, &[("vm", 10_000)]),
        ],
    );
    let mut by_host = routing("/");
    by_host.hosts.insert("api.test".to_owned());
    by_host.preserve_host = true;
    let mut posts = routing("/order");
    posts.methods = BTreeSet::from(["POST".to_owned()]);
    posts.headers.insert(
        "x-tenant".to_owned(),
        BTreeSet::from(["a".to_owned(), "b".to_owned()]),
    );
    posts.strip_path = false;
    let order = plain("order", 1, &[("eks", 10_000)]);
    let (cart, mesh) = (
        plain("cart", 1, &[("eks", 10_000)]),
        plain("mesh", 1, &[("vm", 5_000), ("eks", 5_000)]),
    );
    let sidecar = Door {
        entry: Entry::Routes(routing("/mesh")),
        via: Via::Mesh(weir_model::Address::new(&vm.to_string()).unwrap()),
    };
    let base = json!({"_format_version": "3.0", "services": [
        {"name": "cart", "host": "cart.internal.test", "port": 81, "path": "/v1", "routes": [{"name": "cart", "paths": ["/cart"]}]},
        {"name": "all", "url": format!("http://{vm}/all"), "routes": [{"name": "all", "paths": ["/"]}]}]});
    let doors = [
        by_routes(hosted, &both),
        by_routes(by_host, &both),
        by_routes(posts, &both),
        by_service("cart", &both),
        sidecar,
    ];
    let document = made(
        Some(&base),
        &[
            (&checkout, &doors[0]),
            (&paths, &doors[1]),
            (&order, &doors[2]),
            (&cart, &doors[3]),
            (&mesh, &doors[4]),
        ],
    );
    stage.bring(&document).await;
    let get = |host: &str, path: &str| Ask::new("GET", path).header("Host", host);
    let post = |path: &str| {
        Ask::new("POST", path)
            .header("Host", "x.test")
            .body("text/plain", b"x")
    };
    for (ask, expected) in [
        (get("shop.test", "/checkout/1?a=b"), format!("vm GET /1?a=b {vm}")),
        (
            get("shop.test", "/checkout").header("X-Beta", "true"),
            format!("eks GET / {eks}"),
        ),
        (
            get("shop.test", "/checkout").header("X-Beta", "false"),
            format!("vm GET / {vm}"),
        ),
        // Not this host: the base's.
        (
            get("other.test", "/checkout"),
            format!("vm GET /all/checkout {vm}"),
        ),
        (get("api.test", "/api"), "eks GET /api api.test".to_owned()),
        (get("api.test", "/api/x"), "eks GET /api/x api.test".to_owned()),
        // A prefix of segments is none of characters.
        (get("api.test", "/apix"), "vm GET /apix api.test".to_owned()),
        (
            get("api.test", "/health.json"),
            "eks GET /health.json api.test".to_owned(),
        ),
        (
            get("api.test", "/healthxjson"),
            "vm GET /healthxjson api.test".to_owned(),
        ),
        (
            get("api.test", "/health.json/x"),
            "vm GET /health.json/x api.test".to_owned(),
        ),
        (
            post("/order/1").header("X-Tenant", "b"),
            format!("eks POST /order/1 {eks}"),
        ),
        (
            post("/order/1").header("X-Tenant", "c"),
            format!("vm POST /all/order/1 {vm}"),
        ),
        (
            get("x.test", "/order/1").header("X-Tenant", "b"),
            format!("vm GET /all/order/1 {vm}"),
        ),
        // Taken over: its path and what its backends are called are what they were.
        (
            get("x.test", "/cart/7"),
            format!("eks GET /v1/7 cart.internal.test:{}", eks.port()),
        ),
        (get("x.test", "/mesh/7"), format!("vm GET /7 {vm}")),
    ] {
        assert_eq!(asked(&stage, ask.clone()).await, expected, "{ask:?}");
    }
}
