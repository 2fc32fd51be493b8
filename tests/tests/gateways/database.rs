//! An agent's gateway with a database: the stories of the one without, as far as there is one document in them or a database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_model::ZoneName;
use weir_planner::Plan;
use weir_sandbox::kong::{Database, Kong, Options};

use super::asking::*;
use super::stage::*;

/// Two nodes of one database, a directory for an agent, and name servers that know nothing.
pub(crate) async fn scene() -> (tempfile::TempDir, Database, [Kong; 2], Arc<Known>) {
    let database = Database::new();
    let options = || Options {
        db_update_frequency: Duration::from_millis(50),
        worker_state_update_frequency: Duration::from_millis(70),
        ..Options::default()
    };
    let kongs = [
        Kong::on(&database, options()).await.unwrap(),
        Kong::on(&database, options()).await.unwrap(),
    ];
    (
        tempfile::tempdir().unwrap(),
        database,
        kongs,
        Arc::new(Known::default()),
    )
}

pub(super) async fn ask(kong: &Kong, method: &str, path: &str, body: Value) -> u16 {
    let method = method.parse().unwrap();
    let answer = weir_sandbox::http_client()
        .request(method, format!("http://{}{path}", kong.admin()))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    answer.status().as_u16()
}

/// All that is of Weir, by kind: names, or the addresses of targets.
async fn ours(kong: &Kong) -> BTreeMap<&'static str, Vec<String>> {
    let mut all = BTreeMap::new();
    for kind in ["upstreams", "services", "routes"] {
        let list = asked(kong, &format!("/{kind}?tags=weir")).await;
        let names = list["data"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = names
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        all.insert(kind, names);
    }
    all
}

fn of(names: &[&str]) -> BTreeMap<&'static str, Vec<String>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    ["upstreams", "services", "routes"]
        .map(|kind| (kind, names.clone()))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_comes_to_every_node_and_outlives_everybody() {
    let (dir, database, kongs, names) = scene().await;
    let both = [&kongs[0], &kongs[1]];
    // What the site has there is the site's.
    assert_eq!(
        ask(both[0], "PUT", "/services/theirs", json!({"host": "a.test"})).await,
        200
    );
    assert_eq!(
        ask(
            both[0],
            "PUT",
            "/services/theirs/routes/theirs",
            json!({"paths": ["/theirs"]})
        )
        .await,
        200
    );
    let theirs = asked(both[0], "/services/theirs").await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    let first = with_database(
        &[
            own_door("checkout", 90, BY_ADDRESS),
            own_door("basket", 100, BASKET),
        ],
        None,
    );
    let part = agent.want(&first);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    let coverage = told.doors[&name("checkout")][&edge()]
        .fact
        .proof
        .as_ref()
        .unwrap()
        .coverage;
    assert_eq!((coverage.seen, coverage.of), (2, 2));
    // 10 % on three addresses are 10 % all the same.
    let expected = [
        ("10.0.0.1:80", 54_000),
        ("10.0.1.1:80", 2_000),
        ("10.0.1.2:80", 2_000),
        ("10.0.1.3:80", 2_000),
    ];
    let expected: BTreeMap<String, u64> = expected.map(|(at, weight)| (at.to_owned(), weight)).into();
    assert_eq!(targets(both[1], "weir.checkout.default").await, expected);
    assert_eq!(
        ours(both[1]).await,
        of(&["weir.basket.default", "weir.checkout.default"])
    );

    // The agent goes; who comes after finds nothing to do.
    let stamp = async || asked(both[0], "/services/weir.checkout.default").await["updated_at"].clone();
    let written = stamp().await;
    agent.killed().await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    agent.want(&first);
    agent.exact(&part).await;
    assert_eq!(stamp().await, written);

    // Its entities go, by somebody's hand, and a weight is another: all of it is put back.
    for kind in ["routes", "services", "upstreams"] {
        assert_eq!(
            ask(
                both[1],
                "DELETE",
                &format!("/{kind}/weir.basket.default"),
                json!({})
            )
            .await,
            204
        );
    }
    let target = "/upstreams/weir.checkout.default/targets/10.0.0.1:80";
    assert_eq!(ask(both[1], "PATCH", target, json!({"weight": 1})).await, 200);
    let back = async {
        while ours(both[0]).await != of(&["weir.basket.default", "weir.checkout.default"])
            || targets(both[0], "weir.checkout.default").await != expected
        {
            agent.link.told.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, back)
        .await
        .expect("it never came back");
    agent.exact(&part).await;

    // The database is away for a while: nothing is known, and then it is as it was.
    database.set_reachable(false);
    agent
        .until("unknown", |told| {
            told.doors.values().all(|of| !exact(&of[&edge()].fact))
        })
        .await;
    database.set_reachable(true);
    agent.exact(&part).await;

    // A weight moves; a split goes, from the top down, and nothing of the site's with it.
    let second = with_database(&[own_door("basket", 40, BASKET)], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    let gone = async {
        while ours(both[0]).await != of(&["weir.basket.default"]) {
            agent.link.told.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it never went");
    let moved = targets(both[0], "weir.basket.default").await;
    assert_eq!(moved.values().copied().collect::<Vec<_>>(), [24_000, 36_000]);
    // And the last one.
    let third = with_database(&[], Some(&second));
    agent.want(&third);
    let gone = async {
        while ours(both[0]).await != of(&[]) {
            agent.link.told.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("the last one never went");
    assert_eq!(asked(both[0], "/services/theirs").await, theirs);
    assert_eq!(asked(both[0], "/routes/theirs").await["name"], "theirs");
    agent.stopped().await;
}

/// Somebody has a name that Weir needs: that split waits and says who, the other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_somebody_else_holds_its_split_alone() {
    let (dir, _database, kongs, names) = scene().await;
    let both = [&kongs[0], &kongs[1]];
    assert_eq!(
        ask(
            both[0],
            "PUT",
            "/upstreams/weir.checkout.default",
            json!({"tags": ["team-a"]})
        )
        .await,
        200
    );
    let theirs = asked(both[0], "/upstreams/weir.checkout.default").await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    let first = with_database(
        &[
            own_door("checkout", 90, BY_ADDRESS),
            own_door("basket", 70, BASKET),
        ],
        None,
    );
    let part = agent.want(&first);
    let told = agent
        .until("held beside exact", |told| {
            let door = |split| told.doors.get(&name(split)).map(|of| &of[&edge()].fact);
            door("checkout").is_some_and(|door| door.held.is_some()) && door("basket").is_some_and(exact)
        })
        .await;
    let why = told.doors[&name("checkout")][&edge()].fact.held.clone().unwrap();
    assert!(
        why.contains("upstream weir.checkout.default") && why.contains("not Weir's"),
        "{why}"
    );
    assert_eq!(asked(both[0], "/upstreams/weir.checkout.default").await, theirs);
    assert_eq!(ours(both[0]).await, of(&["weir.basket.default"]));
    assert_eq!(
        ask(both[0], "DELETE", "/upstreams/weir.checkout.default", json!({})).await,
        204
    );
    agent.exact(&part).await;
    agent.stopped().await;
}

/// The site has a route for the very requests of a door: the door is not made beside it, and says whose it is. One that comes later
/// is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_somebody_else_for_the_same_requests_holds_the_door() {
    let (dir, _database, kongs, names) = scene().await;
    let both = [&kongs[0], &kongs[1]];
    let theirs = async || {
        let host = json!({"host": "a.test"});
        assert_eq!(ask(both[0], "PUT", "/services/theirs", host).await, 200);
        let route = json!({"paths": ["/checkout", "/x"]});
        assert_eq!(
            ask(both[0], "PUT", "/services/theirs/routes/till", route).await,
            200
        );
        // More than ours asks for, and less: nobody's affair.
        for (name, route) in [
            ("gets", json!({"paths": ["/checkout"], "methods": ["GET"]})),
            ("all", json!({"paths": ["/"]})),
        ] {
            assert_eq!(
                ask(both[0], "PUT", &format!("/services/theirs/routes/{name}"), route).await,
                200
            );
        }
    };
    theirs().await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    let splits = [
        own_door("checkout", 90, BY_ADDRESS),
        own_door("basket", 70, BASKET),
    ];
    let first = with_database(&splits, None);
    let part = agent.want(&first);
    let told = agent
        .until("held beside exact", |told| {
            door(told, &first, "checkout").is_some_and(|door| door.held.is_some())
                && door(told, &first, "basket").is_some_and(exact)
        })
        .await;
    let why = door(&told, &first, "checkout").unwrap().held.clone().unwrap();
    assert!(
        why.contains("are those of route till (id ") && !why.contains("  "),
        "{why}"
    );
    // All but the route is there, so that nothing is waited for when theirs gives way.
    let but_the_route = async || {
        let mut ours = ours(both[0]).await;
        let routes = ours.remove("routes").unwrap();
        routes == ["weir.basket.default"] && ours.values().all(|names| names.len() == 2)
    };
    until_so("all but the route", but_the_route).await;
    // As the reason says: theirs takes more, and goes on serving below ours, until ours is proven.
    let wider = json!({"paths": ["/check", "/x"]});
    assert_eq!(ask(both[0], "PATCH", "/routes/till", wider).await, 200);
    let told = agent.exact(&part).await;
    assert_eq!(told.notes, Vec::<String>::new());
    assert_eq!(ask(both[0], "DELETE", "/routes/till", json!({})).await, 204);
    agent.stopped().await;
    // It comes back while ours is there: that is no proof, and weights go on.
    theirs().await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    agent.want(&first);
    let rivalled = |told: &weir_agent::gateways::Told, plan: &Plan| {
        let found = door(told, plan, "checkout").is_some_and(|door| {
            format!("{:?}", door.proof).contains("weir.checkout.default are those of route till")
        });
        found && door(told, plan, "basket").is_some_and(exact)
    };
    agent.until("no proof", |told| rivalled(told, &first)).await;
    let second = with_database(
        &[
            own_door("checkout", 50, BY_ADDRESS),
            own_door("basket", 70, BASKET),
        ],
        Some(&first),
    );
    let part = agent.want(&second);
    agent
        .until("no proof of others either", |told| rivalled(told, &second))
        .await;
    let weights = targets(both[0], "weir.checkout.default").await;
    assert_eq!(weights.get("10.0.0.1:80"), Some(&30_000));
    assert_eq!(ask(both[0], "DELETE", "/routes/till", json!({})).await, 204);
    agent.exact(&part).await;
    agent.stopped().await;
}

/// The mesh carries a door's weights, and somebody names an upstream like the mesh does: no request goes by both.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_named_like_the_mesh_holds_the_door() {
    let (dir, _database, kongs, names) = scene().await;
    let both = [&kongs[0], &kongs[1]];
    let named = json!({"tags": ["team-a"]});
    assert_eq!(
        ask(both[0], "PUT", "/upstreams/shop.mesh.local", named).await,
        200
    );
    let mut agent = Agent::start_at(&both, &names, dir.path());
    let by_address = format!("backends: {{{BY_ADDRESS}}}");
    let meshed = own_door("checkout", 90, BY_ADDRESS).replace(&by_address, "mesh: \"shop.mesh.local:80\"");
    let gateway = "{name: edge, channel: admin-db, inMesh: true}";
    let first = plan_of(gateway, BASE, &[meshed], None);
    let part = agent.want(&first);
    let told = agent
        .until("held", |told| {
            door(told, &first, "checkout").is_some_and(|door| door.held.is_some())
        })
        .await;
    let why = door(&told, &first, "checkout").unwrap().held.clone().unwrap();
    assert!(
        why.contains("this Kong has an upstream of that very name"),
        "{why}"
    );
    assert_eq!(ours(both[0]).await, of(&[]));
    assert_eq!(
        ask(both[0], "DELETE", "/upstreams/shop.mesh.local", json!({})).await,
        204
    );
    agent.exact(&part).await;
    // It comes while the door is there: what is split twice is not what is declared.
    assert_eq!(
        ask(both[0], "PUT", "/upstreams/shop.mesh.local", json!({})).await,
        200
    );
    agent
        .until("no proof any more", |told| {
            door(told, &first, "checkout").is_some_and(|door| !exact(door) && door.held.is_some())
        })
        .await;
    agent.stopped().await;
}

/// An agent that remembers nothing while its zone's control plane is away takes nobody's routes away; one that knows an older
/// plan writes nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_knows_nothing_or_less_takes_nothing_away() {
    let (dir, _database, kongs, names) = scene().await;
    let other = tempfile::tempdir().unwrap();
    let both = [&kongs[0], &kongs[1]];
    let first = with_database(
        &[
            own_door("checkout", 90, BY_ADDRESS),
            own_door("basket", 70, BASKET),
        ],
        None,
    );
    let second = with_database(
        &[
            own_door("checkout", 90, BY_ADDRESS),
            own_door("basket", 40, BASKET),
        ],
        Some(&first),
    );
    let mut agent = Agent::start_at(&both, &names, dir.path());
    let part = agent.want(&second);
    agent.exact(&part).await;
    agent.stopped().await;
    let all = of(&["weir.basket.default", "weir.checkout.default"]);
    let mut agent = Agent::start_at(&both, &names, other.path());
    let before = agent.link.told.borrow().gateways.clone();
    agent.want_items(&part, BTreeMap::new());
    agent.until("a look", |told| told.gateways != before).await;
    assert_eq!(ours(both[0]).await, all);
    // The older plan: what is newer stays, and is named.
    let older = Arc::new(first.zone_plan(&ZoneName::new("fra").unwrap()).unwrap());
    agent.want_items(&older, older.items.clone());
    let told = agent
        .until("held", |told| {
            told.doors
                .get(&name("basket"))
                .is_some_and(|of| of[&edge()].fact.held.is_some())
        })
        .await;
    let why = told.doors[&name("basket")][&edge()].fact.held.clone().unwrap();
    assert!(why.contains("somebody who knows a newer plan wrote it"), "{why}");
    let stays = targets(both[0], "weir.basket.default").await;
    assert_eq!(stays.values().copied().collect::<Vec<_>>(), [24_000, 36_000]);
    agent.stopped().await;
}
