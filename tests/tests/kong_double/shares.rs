//! Shares: exact in each worker, whatever changes; what names and records do to them; what a caller never notices.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weir_sandbox::kong::{Kong, NameTable, Options, Service};

use super::asking::{Ask, Connection, Target, nobody, until};

fn document(upstream: Value, targets: &[(String, u16)]) -> Vec<u8> {
    let targets: Vec<Value> = targets
        .iter()
        .map(|(target, weight)| json!({"target": target, "weight": weight}))
        .collect();
    let mut upstream = upstream;
    upstream["name"] = "shop.split".into();
    upstream["targets"] = targets.into();
    let services =
        json!([{"name": "shop", "host": "shop.split", "routes": [{"name": "shop", "paths": ["/"]}]}]);
    json!({"_format_version": "3.0", "services": services, "upstreams": [upstream]})
        .to_string()
        .into_bytes()
}

async fn load(kong: &Kong, document: &[u8]) {
    let answer = Ask::new("POST", "/config")
        .form("config", document)
        .to(kong.admin())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

async fn at_once(names: &Arc<NameTable>) -> Kong {
    let options = Options {
        propagation: Duration::ZERO,
        names: Arc::<NameTable>::clone(names),
        names_again: Duration::from_millis(20),
        ..Options::default()
    };
    Kong::without_database(options).await.unwrap()
}

/// So many requests over each of four connections, two for each worker.
async fn send(kong: &Kong, each: usize) {
    let proxy = kong.proxy();
    let mut callers = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(proxy).await;
        // Open for sure, in this order: the next goes to the other worker.
        assert!(connection.ask(&Ask::new("GET", "/")).await.is_some());
        callers.push(connection);
    }
    kong.forget_counts();
    let callers = callers.into_iter().map(|mut connection| {
        tokio::spawn(async move {
            for _ in 0..each {
                assert_eq!(connection.ask(&Ask::new("GET", "/")).await.unwrap().status, 200);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_and_ten_of_ten_thousand_are_nine_thousand_and_one_thousand() {
    let (v1, v2, none) = (
        Target::start("v1").await,
        Target::start("v2").await,
        Target::start("none").await,
    );
    let [v1, v2, none] = [v1, v2, none].map(|target| target.address.to_string());
    let kong = at_once(&Arc::default()).await;
    // Kong reduces by the greatest common divisor: nine and one thousand is a ring of ten.
    for weights in [(90, 10), (9000, 1000)] {
        let targets = [
            (v1.clone(), weights.0),
            (v2.clone(), weights.1),
            (none.clone(), 0),
        ];
        load(&kong, &document(json!({}), &targets)).await;
        send(&kong, 2500).await;
        let sent = kong.sent("shop.split");
        assert_eq!(sent.get(&v1), Some(&9000), "{sent:?}");
        assert_eq!(sent.get(&v2), Some(&1000), "{sent:?}");
        assert_eq!(sent.len(), 2, "weight 0 gets nothing: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_changes_under_load_lose_no_request() {
    let (v1, v2) = (Target::start("v1").await, Target::start("v2").await);
    let [v1, v2] = [v1, v2].map(|target| target.address.to_string());
    let kong = Kong::without_database(Options::default()).await.unwrap();
    load(&kong, &document(json!({}), &[(v1.clone(), 100), (v2.clone(), 0)])).await;
    until("the first document is taken up", async || {
        let first = Ask::new("GET", "/").to(kong.proxy()).await.status;
        first == 200 && Ask::new("GET", "/").to(kong.proxy()).await.status == 200
    })
    .await;
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (over, proxy) = (Arc::clone(&over), kong.proxy());
        callers.push(tokio::spawn(async move {
            let mut connection = Connection::open(proxy).await;
            let (mut sent, mut failed) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let answer = connection.ask(&Ask::new("GET", "/")).await;
                sent += 1;
                failed += u64::from(answer.is_none_or(|answer| answer.status != 200));
            }
            (sent, failed)
        }));
    }
    for change in 1..=200 {
        let canary = change % 101;
        load(
            &kong,
            &document(json!({}), &[(v1.clone(), 100 - canary), (v2.clone(), canary)]),
        )
        .await;
    }
    over.store(true, Ordering::Relaxed);
    let (mut sent, mut failed) = (0_u64, 0);
    for caller in callers {
        let (one, lost) = caller.await.unwrap();
        (sent, failed) = (sent + one, failed + lost);
    }
    assert_eq!(failed, 0, "of {sent}");
    assert!(sent > 200, "only {sent} requests");
    assert!(kong.sent("shop.split").len() == 2, "both had some");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_weights_are_seen_for_a_moment_after_the_answer_and_not_later() {
    let (v1, v2) = (Target::start("v1").await, Target::start("v2").await);
    let [v1, v2] = [v1, v2].map(|target| target.address.to_string());
    let options = Options {
        propagation: Duration::from_secs(1),
        ..Options::default()
    };
    let kong = Kong::without_database(options).await.unwrap();
    load(&kong, &document(json!({}), &[(v1, 100)])).await;
    let ask = Ask::new("GET", "/");
    let (mut first, mut second) = (
        Connection::open(kong.proxy()).await,
        Connection::open(kong.proxy()).await,
    );
    until("both workers have it", async || {
        first.ask(&ask).await.unwrap().status == 200 && second.ask(&ask).await.unwrap().status == 200
    })
    .await;
    load(&kong, &document(json!({}), &[(v2.clone(), 100)])).await;
    let name = |answer: Option<super::asking::Answer>| answer.unwrap().headers["x-target"].clone();
    assert_eq!(
        [name(first.ask(&ask).await), name(second.ask(&ask).await)],
        ["v1", "v1"],
        "after the 201"
    );
    until("the first worker has it", async || {
        name(first.ask(&ask).await) == "v2"
    })
    .await;
    assert_eq!(name(second.ask(&ask).await), "v1", "the second is later");
    until("the second has it", async || name(second.ask(&ask).await) == "v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_multiply_a_weight_and_records_override_it() {
    let names = Arc::new(NameTable::default());
    let kong = at_once(&names).await;
    let target = Target::start("all").await;
    let port = target.address.port();
    let ip = |last: u8| IpAddr::from([127, 0, 0, last]);
    // One port on every loopback address is one target here: only the ring is asked.
    names.set_addresses("v1.test", &[ip(1)]);
    names.set_addresses("v2.test", &[ip(1), ip(2), ip(3)]);
    let targets = [(format!("v1.test:{port}"), 90), (format!("v2.test:{port}"), 10)];
    load(&kong, &document(json!({}), &targets)).await;
    let health = async |query: &str| {
        let path = format!("/upstreams/shop.split/health{query}");
        Ask::new("GET", &path).to(kong.admin()).await.json()["data"].clone()
    };
    let effective = async || {
        let data = health("?balancer_health=1").await;
        let hosts = data["details"]["hosts"].as_array().unwrap().clone();
        let weight = |name: &str| {
            let host = hosts.iter().find(|host| host["host"] == name).unwrap();
            (
                host["nodeWeight"].as_u64().unwrap(),
                host["weight"]["total"].as_u64().unwrap(),
            )
        };
        (
            weight("v1.test"),
            weight("v2.test"),
            data["details"]["weight"]["total"].as_u64().unwrap(),
        )
    };
    assert_eq!(
        effective().await,
        ((90, 90), (10, 30), 120),
        "75 and 25, not 90 and 10"
    );
    // What names say is asked again without anybody's doing.
    names.set_addresses("v2.test", &[ip(1)]);
    until("the name is asked again", async || {
        effective().await == ((90, 90), (10, 10), 100)
    })
    .await;
    // A record's weight takes the place of the target's; none is still one, also where the target had none.
    names.set_services(
        "v2.test",
        &[Service {
            target: "127.0.0.1".into(),
            port,
            weight: 0,
        }],
    );
    load(
        &kong,
        &document(json!({}), &[targets[0].clone(), (targets[1].0.clone(), 0)]),
    )
    .await;
    assert_eq!(effective().await, ((90, 90), (0, 1), 91));
    // A name that does not resolve drops out, and its share goes to the others.
    names.set_services("v2.test", &[]);
    names.set_addresses("v2.test", &[]);
    load(&kong, &document(json!({}), &targets)).await;
    assert_eq!(effective().await, ((90, 90), (10, 0), 90));
    let data = health("").await;
    let of = |name: &str| {
        data.as_array()
            .unwrap()
            .iter()
            .find(|t| t["target"] == format!("{name}:{port}"))
            .unwrap()
    };
    assert_eq!(
        (&of("v1.test")["health"], &of("v2.test")["health"]),
        (&json!("HEALTHCHECKS_OFF"), &json!("DNS_ERROR"))
    );
    assert_eq!(of("v2.test")["data"]["addresses"], json!({}), "Lua's empty table");
    send(&kong, 10).await;
    assert_eq!(kong.sent("shop.split"), [(format!("v1.test:{port}"), 40)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_go_to_is_a_503_and_a_dead_target_is_not_noticed() {
    let (v1, v2) = (Target::start("v1").await, nobody().await.to_string());
    let kong = at_once(&Arc::default()).await;
    let ask = Ask::new("GET", "/");
    for targets in [vec![], vec![(v1.address.to_string(), 0), (v2.clone(), 0)]] {
        load(&kong, &document(json!({}), &targets)).await;
        let answer = ask.to(kong.proxy()).await;
        assert_eq!(
            (answer.status, answer.json()["message"].clone()),
            (503, "failure to get a peer from the ring-balancer".into())
        );
    }
    // Who refuses is asked no more in this request; who answers badly is not asked twice.
    load(
        &kong,
        &document(json!({}), &[(v1.address.to_string(), 90), (v2.clone(), 10)]),
    )
    .await;
    send(&kong, 50).await;
    assert_eq!(kong.sent("shop.split"), [(v1.address.to_string(), 200)].into());
    assert!(
        kong.refused("shop.split")[&v2] >= 20,
        "{:?}",
        kong.refused("shop.split")
    );
    v1.answer_with(503);
    load(&kong, &document(json!({}), &[(v1.address.to_string(), 90)])).await;
    kong.forget_counts();
    assert_eq!(ask.to(kong.proxy()).await.status, 503);
    assert_eq!(kong.sent("shop.split"), [(v1.address.to_string(), 1)].into());
    // All dead: one try and five more.
    load(&kong, &document(json!({}), &[(v2.clone(), 90)])).await;
    kong.forget_counts();
    assert_eq!(ask.to(kong.proxy()).await.status, 502);
    assert_eq!(kong.refused("shop.split"), [(v2, 6)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dash_in_a_hash_header_sends_everybody_to_one_target() {
    let (v1, v2) = (Target::start("v1").await, Target::start("v2").await);
    let targets = [(v1.address.to_string(), 50), (v2.address.to_string(), 50)];
    let kong = at_once(&Arc::default()).await;
    for (header, both) in [("X-User", false), ("X_User", true)] {
        load(
            &kong,
            &document(json!({"hash_on": "header", "hash_on_header": header}), &targets),
        )
        .await;
        kong.forget_counts();
        let mut connection = Connection::open(kong.proxy()).await;
        let mut first = Vec::new();
        for round in 0..2 {
            for user in 0..40 {
                let ask = Ask::new("GET", "/").header("X-User", &format!("user-{user}"));
                let name = connection.ask(&ask).await.unwrap().headers["x-target"].clone();
                if round == 0 {
                    first.push(name);
                } else {
                    assert_eq!(first[user], name, "a user stays");
                }
            }
        }
        assert_eq!(
            kong.sent("shop.split").len() == 2,
            both,
            "{header}: {:?}",
            kong.sent("shop.split")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_set_by_hand_where_it_is_checked() {
    let (v1, v2) = (Target::start("v1").await, Target::start("v2").await);
    let targets = [(v1.address.to_string(), 50), (v2.address.to_string(), 50)];
    let kong = at_once(&Arc::default()).await;
    load(&kong, &document(json!({}), &targets)).await;
    let ask = Ask::new(
        "PUT",
        &format!("/upstreams/shop.split/targets/{}/unhealthy", v2.address),
    );
    let answer = ask.to(kong.admin()).await;
    assert_eq!(
        (answer.status, answer.json()["message"].clone()),
        (400, "no healthchecker found for shop.split".into())
    );
    let checked = json!({"healthchecks": {"active": {"healthy": {"interval": 1}}}});
    load(&kong, &document(checked, &targets)).await;
    assert_eq!(ask.to(kong.admin()).await.status, 204);
    // Many, at the same time: none of them walks the ring past the place that another took meanwhile.
    send(&kong, 1000).await;
    assert_eq!(kong.sent("shop.split"), [(v1.address.to_string(), 4000)].into());
    let data = Ask::new("GET", "/upstreams/shop.split/health")
        .to(kong.admin())
        .await
        .json();
    let states: Vec<&Value> = data["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| &target["health"])
        .collect();
    assert!(
        states.contains(&&json!("HEALTHY")) && states.contains(&&json!("UNHEALTHY")),
        "{data}"
    );
}
