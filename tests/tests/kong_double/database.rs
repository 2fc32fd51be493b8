//! With a database: one entity after the other, several nodes, and a 412 that means nothing.

use std::time::Duration;

use serde_json::{Value, json};
use weir_sandbox::kong::{Database, Kong, Options};

use super::asking::{Answer, Ask, Target, until};

pub(super) async fn node(database: &Database) -> Kong {
    looking_every(database, Duration::from_millis(20)).await
}

async fn looking_every(database: &Database, db_update_frequency: Duration) -> Kong {
    let options = Options {
        propagation: Duration::ZERO,
        db_update_frequency,
        worker_state_update_frequency: Duration::from_millis(20),
        ..Options::default()
    };
    Kong::on(database, options).await.unwrap()
}

pub(super) async fn ask(kong: &Kong, method: &str, path: &str, body: Value) -> Answer {
    Ask::new(method, path).json(&body).to(kong.admin()).await
}

pub(super) async fn get(kong: &Kong, path: &str) -> Answer {
    Ask::new("GET", path).to(kong.admin()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_one_node_reaches_another_when_it_looks() {
    let (v1, v2) = (Target::start("v1").await, Target::start("v2").await);
    let database = Database::new();
    let one = node(&database).await;
    assert_eq!(
        ask(&one, "PUT", "/upstreams/shop.split", json!({"tags": ["fed"]}))
            .await
            .status,
        200
    );
    let targets = "/upstreams/shop.split/targets";
    for (target, weight) in [(&v1, 100), (&v2, 0)] {
        let body = json!({"target": target.address.to_string(), "weight": weight});
        assert_eq!(ask(&one, "POST", targets, body).await.status, 201);
    }
    assert_eq!(
        ask(&one, "PUT", "/services/shop", json!({"host": "shop.split"}))
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&one, "PUT", "/services/shop/routes/shop", json!({"paths": ["/"]}))
            .await
            .status,
        200
    );
    // One looks soon, one not within this test; both begin with what there is.
    let soon = looking_every(&database, Duration::from_millis(20)).await;
    let mut late = looking_every(&database, Duration::from_secs(3600)).await;
    // Both workers, one after the other.
    let served = async |kong: &Kong| {
        let first = Ask::new("GET", "/").to(kong.proxy()).await;
        let second = Ask::new("GET", "/").to(kong.proxy()).await;
        let name = |answer: &Answer| answer.headers.get("x-target").cloned().unwrap_or_default();
        (name(&first) == name(&second)).then(|| name(&first))
    };
    until("the first node has its routes", async || {
        served(&one).await.as_deref() == Some("v1")
    })
    .await;
    assert_eq!(served(&soon).await.as_deref(), Some("v1"));
    assert_eq!(served(&late).await.as_deref(), Some("v1"));
    for (target, weight) in [(&v2, 100), (&v1, 0)] {
        let path = format!("{targets}/{}", target.address);
        assert_eq!(
            ask(&one, "PATCH", &path, json!({"weight": weight})).await.status,
            200
        );
    }
    assert_eq!(
        served(&one).await.as_deref(),
        Some("v2"),
        "the node that was asked runs it"
    );
    until("who looks runs it", async || {
        served(&soon).await.as_deref() == Some("v2")
    })
    .await;
    // The Admin API of all reads the database; what is run is another matter, and only health tells.
    let read = get(&late, &format!("{targets}/{}", v2.address)).await.json();
    let health = get(&late, "/upstreams/shop.split/health?balancer_health=1")
        .await
        .json();
    let of_v2 = health["data"]["details"]["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|host| host["port"] == v2.address.port());
    assert_eq!(
        (&read["weight"], &of_v2.unwrap()["weight"]["total"]),
        (&json!(100), &json!(0))
    );
    assert_eq!(served(&late).await.as_deref(), Some("v1"), "it has not looked");
    late.restart().await.unwrap();
    assert_eq!(served(&late).await.as_deref(), Some("v2"));
}

#[tokio::test]
async fn if_match_is_answered_with_412_and_applied() {
    let database = Database::new();
    let kong = node(&database).await;
    ask(&kong, "PUT", "/upstreams/shop.split", json!({"slots": 100})).await;
    let patch = Ask::new("PATCH", "/upstreams/shop.split")
        .json(&json!({"slots": 200}))
        .header("If-Match", "\"1\"");
    let answer = patch.to(kong.admin()).await;
    assert_eq!(answer.status, 412, "{answer:?}");
    assert_eq!(
        get(&kong, "/upstreams/shop.split").await.json()["slots"],
        200,
        "and it was done"
    );
}

#[tokio::test]
async fn put_replaces_patch_merges_and_a_target_is_only_updated() {
    let database = Database::new();
    let kong = node(&database).await;
    let first = ask(
        &kong,
        "PUT",
        "/upstreams/shop.split",
        json!({"slots": 100, "tags": ["fed"]}),
    )
    .await
    .json();
    let deep = json!({"healthchecks": {"active": {"healthy": {"interval": 5}}}});
    let patched = ask(&kong, "PATCH", "/upstreams/shop.split", deep).await.json();
    assert_eq!(
        (&patched["slots"], &patched["tags"]),
        (&json!(100), &json!(["fed"]))
    );
    assert_eq!(patched["healthchecks"]["active"]["healthy"]["interval"], 5);
    assert_eq!(patched["healthchecks"]["active"]["timeout"], 1);
    let replaced = ask(&kong, "PUT", "/upstreams/shop.split", json!({})).await.json();
    assert_eq!(
        (&replaced["slots"], &replaced["tags"], &replaced["id"]),
        (&json!(10_000), &json!(null), &first["id"])
    );
    let targets = "/upstreams/shop.split/targets";
    let put = ask(
        &kong,
        "PUT",
        &format!("{targets}/10.0.0.1:80"),
        json!({"weight": 1}),
    )
    .await;
    assert_eq!(put.status, 404, "a target is not made by PUT");
    let id = "11111111-1111-4111-8111-111111111111";
    let made = ask(
        &kong,
        "POST",
        targets,
        json!({"id": id, "target": "10.0.0.1:80", "tags": ["a", "b"]}),
    )
    .await;
    assert_eq!((made.status, &made.json()["id"]), (201, &json!(id)));
    let put = ask(&kong, "PUT", &format!("{targets}/{id}"), json!({"weight": 1})).await;
    assert_eq!(
        (put.status, &put.json()["tags"]),
        (200, &json!(["a", "b"])),
        "PUT is PATCH here"
    );
    let again = ask(&kong, "POST", targets, json!({"target": "10.0.0.1:80"})).await;
    assert_eq!((again.status, &again.json()["code"]), (409, &json!(5)));
    let form = Ask::new("PATCH", &format!("{targets}/10.0.0.1:80"))
        .body("application/x-www-form-urlencoded", b"weight=7");
    assert_eq!(form.to(kong.admin()).await.json()["weight"], 7);
    assert_eq!(
        get(&kong, "/targets").await.status,
        404,
        "only below their upstream"
    );
    assert_eq!(
        get(&kong, &format!("{targets}/all")).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn references_hold_and_what_belongs_to_another_goes_with_it() {
    let database = Database::new();
    let kong = node(&database).await;
    let nobody = json!({"paths": ["/"], "service": {"id": "22222222-2222-4222-8222-222222222222"}});
    let answer = ask(&kong, "POST", "/routes", nobody).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!(4)),
        "{answer:?}"
    );
    assert_eq!(
        ask(
            &kong,
            "POST",
            "/services",
            json!({"name": "shop", "host": "shop.split"})
        )
        .await
        .status,
        201
    );
    let twice = ask(
        &kong,
        "POST",
        "/services",
        json!({"name": "shop", "host": "shop.split"}),
    )
    .await;
    assert_eq!(
        (twice.status, twice.json()["message"].clone()),
        (409, "UNIQUE violation detected on '{name=\"shop\"}'".into())
    );
    let route = ask(
        &kong,
        "POST",
        "/routes",
        json!({"name": "r", "paths": ["/"], "service": {"name": "shop"}}),
    )
    .await;
    assert_eq!(route.status, 201, "{route:?}");
    assert_eq!(get(&kong, "/routes/r/service").await.json()["name"], "shop");
    assert_eq!(
        get(&kong, "/services/shop/routes").await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        Ask::new("DELETE", "/services/shop").to(kong.admin()).await.json()["code"],
        4
    );
    assert_eq!(Ask::new("DELETE", "/routes/r").to(kong.admin()).await.status, 204);
    assert_eq!(
        Ask::new("DELETE", "/services/shop").to(kong.admin()).await.status,
        204
    );
    assert_eq!(
        Ask::new("DELETE", "/services/shop").to(kong.admin()).await.status,
        204,
        "also when it is gone"
    );
    let answer = ask(&kong, "PATCH", "/services/shop", json!({})).await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!(6)));
    ask(&kong, "PUT", "/upstreams/a.split", json!({})).await;
    ask(
        &kong,
        "POST",
        "/upstreams/a.split/targets",
        json!({"target": "10.0.0.1:80"}),
    )
    .await;
    assert_eq!(
        Ask::new("DELETE", "/upstreams/a.split")
            .to(kong.admin())
            .await
            .status,
        204
    );
    ask(&kong, "PUT", "/upstreams/a.split", json!({})).await;
    assert_eq!(
        get(&kong, "/upstreams/a.split/targets").await.json()["data"],
        json!([])
    );
}

#[tokio::test]
async fn lists_come_in_pages_and_by_tags() {
    let database = Database::new();
    let kong = node(&database).await;
    for at in 0..25 {
        let tags = json!(["fed", format!("n{}", at % 5)]);
        ask(
            &kong,
            "PUT",
            &format!("/upstreams/u{at}.split"),
            json!({"tags": tags}),
        )
        .await;
    }
    let walk = async |first: &str| {
        let (mut path, mut sizes) = (first.to_owned(), Vec::new());
        loop {
            let page = get(&kong, &path).await.json();
            sizes.push(page["data"].as_array().unwrap().len());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut path),
                None => return sizes,
            }
        }
    };
    assert_eq!(walk("/upstreams?size=10").await, [10, 10, 5]);
    assert_eq!(walk("/upstreams?tags=fed,n1&size=3").await, [3, 2]);
    assert_eq!(walk("/upstreams?tags=n1/n2").await, [10]);
    assert_eq!(walk("/upstreams?tags=n1,fed,nobody").await, [0]);
    for (path, code) in [
        ("/upstreams?size=0", 9),
        ("/upstreams?size=x", 9),
        ("/upstreams?offset=x", 7),
        ("/upstreams?tags=a,b/c", 11),
    ] {
        let answer = get(&kong, path).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!(code)),
            "{path}"
        );
    }
    assert_eq!(
        get(&kong, "/tags/n1").await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    assert_eq!(get(&kong, "/config").await.status, 400, "there is no document");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_with_what_it_knows_when_its_database_is_gone() {
    let target = Target::start("it").await;
    let database = Database::new();
    let kong = node(&database).await;
    let service = json!({"host": "127.0.0.1", "port": target.address.port()});
    ask(&kong, "PUT", "/services/shop", service).await;
    ask(
        &kong,
        "PUT",
        "/services/shop/routes/shop",
        json!({"paths": ["/"]}),
    )
    .await;
    until("it serves", async || {
        Ask::new("GET", "/").to(kong.proxy()).await.status == 200
    })
    .await;
    database.set_reachable(false);
    assert_eq!(get(&kong, "/services/shop").await.status, 500);
    assert_eq!(get(&kong, "/status").await.json()["database"]["reachable"], false);
    assert_eq!(
        Ask::new("GET", "/status/ready").to(kong.status()).await.status,
        503
    );
    assert_eq!(Ask::new("GET", "/").to(kong.proxy()).await.status, 200);
}

/// What whoever writes entity by entity relies on: nothing is written over by POST, ids are kept, what hangs on an entity goes
/// with it, and a document is taken from nobody.
#[tokio::test]
async fn a_name_or_an_id_is_taken_once_and_a_document_never() {
    let database = Database::new();
    let kong = node(&database).await;
    let id = "33333333-3333-4333-8333-333333333333";
    for (kind, body) in [
        ("upstreams", json!({"name": "shop.split"})),
        ("services", json!({"name": "shop", "host": "shop.split"})),
        (
            "routes",
            json!({"name": "shop", "paths": ["/"], "service": {"name": "shop"}}),
        ),
    ] {
        let path = format!("/{kind}");
        let mut with_id = body.clone();
        with_id["id"] = id.into();
        let made = ask(&kong, "POST", &path, with_id).await;
        assert_eq!((made.status, &made.json()["id"]), (201, &json!(id)), "{made:?}");
        let before = get(&kong, &format!("/{kind}/{id}")).await.json();
        let again = ask(&kong, "POST", &path, body.clone()).await;
        assert_eq!(
            (again.status, &again.json()["code"]),
            (409, &json!(5)),
            "{again:?}"
        );
        let mut other = body;
        other["id"] = id.into();
        other["name"] = "other".into();
        let same_id = ask(&kong, "POST", &path, other).await;
        assert_eq!(
            (same_id.status, &same_id.json()["code"]),
            (400, &json!(3)),
            "{same_id:?}"
        );
        assert_eq!(get(&kong, &format!("/{kind}/{id}")).await.json(), before);
    }
    let plugin = json!({"name": "rate-limiting", "config": {"minute": 5}});
    assert_eq!(
        ask(&kong, "POST", "/routes/shop/plugins", plugin).await.status,
        201
    );
    let list = get(&kong, "/routes/shop/plugins").await.json();
    assert_eq!(list["data"][0]["name"], "rate-limiting");
    assert_eq!(ask(&kong, "DELETE", "/routes/shop", json!({})).await.status, 204);
    assert_eq!(
        get(&kong, "/plugins").await.json()["data"],
        json!([]),
        "it went with its route"
    );
    for method in ["GET", "POST"] {
        let answer = ask(&kong, method, "/config", json!({"_format_version": "3.0"})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(
            answer.json()["message"]
                .as_str()
                .unwrap()
                .contains("not use a database"),
            "{answer:?}"
        );
    }
}
