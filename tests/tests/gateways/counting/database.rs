//! The same where the plugin is a row of a database.

use super::super::database::{ask, scene as with_database_scene};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_database_the_plugin_comes_is_put_back_and_goes() {
    let (dir, _database, kongs, names) = with_database_scene().await;
    let both = [&kongs[0], &kongs[1]];
    let (vm, cloud) = (
        Application::start("vm").await.unwrap(),
        Application::start("cloud").await.unwrap(),
    );
    // Of theirs at a service of theirs: in nobody's way.
    assert_eq!(
        ask(both[0], "PUT", "/services/theirs", json!({"host": "a.test"})).await,
        200
    );
    let log = json!({"name": "http-log", "config": {"http_endpoint": "http://127.0.0.1:9/"}});
    assert_eq!(
        ask(both[0], "POST", "/services/theirs/plugins", log.clone()).await,
        201
    );
    let theirs = plugins(both[0]).await.1;
    let listen = nobody();
    let mut agent = Agent::counting(&both, to(listen), &names, dir.path());
    let splits = [
        own_door("checkout", 90, &backends(vm.address, cloud.address)),
        own_door("basket", 100, BASKET),
    ];
    let first = with_database(&splits, None);
    let part = agent.want(&first);
    agent.exact(&part).await;
    let there = |names: &'static [&'static str]| {
        let kong = both[1];
        async move { plugins(kong).await.0 == names }
    };
    until_so("both plugins", async || {
        there(&["weir.basket.default", "weir.checkout.default"]).await
    })
    .await;
    agent
        .until("to be counted", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("posted nothing"))
        })
        .await;
    // Each node posts what it sends, once it has taken the plugin up with its routes.
    // More lines than the first one sent at all are of the other one as well.
    let mut enough = 0;
    for node in both {
        until_so("a line of this node", async || {
            send(node, "/checkout", 1).await;
            let told = agent.link.told.borrow().clone();
            counted(&told, "checkout").is_some_and(|(counts, _)| total(&counts) > enough)
        })
        .await;
        enough = both[0].sent("weir.checkout.default").values().sum();
    }

    // Changed and removed by somebody: put back, and the door is exact all the while.
    let id = |name: &str| format!("/plugins/{name}");
    for change in [
        json!({"enabled": false}),
        json!({"config": {"http_endpoint": "http://127.0.0.1:1/", "queue": {"max_entries": 5}}}),
    ] {
        assert_eq!(
            ask(both[0], "PATCH", &id("weir.checkout.default"), change.clone()).await,
            200
        );
        until_so("put back", async || {
            let is = asked(both[0], &id("weir.checkout.default")).await;
            is["enabled"] == true
                && is["config"]["queue"]["max_entries"] == 10_000
                && is["config"]["http_endpoint"] == format!("http://{listen}/")
        })
        .await;
    }
    assert_eq!(
        ask(both[0], "DELETE", &id("weir.checkout.default"), json!({})).await,
        204
    );
    until_so("made again", async || {
        there(&["weir.basket.default", "weir.checkout.default"]).await
    })
    .await;
    let told = agent.exact(&part).await;
    assert!(exact(door(&told, &first, "checkout").unwrap()));

    // A log of theirs for everything: ours give way, and come back with it gone.
    assert_eq!(ask(both[0], "POST", "/plugins", log).await, 201);
    until_so("they give way", async || there(&[]).await).await;
    agent
        .until("told", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("same requests"))
        })
        .await;
    let global = plugins(both[0])
        .await
        .1
        .into_iter()
        .find(|one| one["service"].is_null())
        .unwrap();
    let path = id(global["id"].as_str().unwrap());
    assert_eq!(ask(both[0], "DELETE", &path, json!({})).await, 204);
    until_so("they are back", async || {
        there(&["weir.basket.default", "weir.checkout.default"]).await
    })
    .await;

    // A door goes with all that is its.
    let second = with_database(&splits[..1], Some(&first));
    let part = agent.want(&second);
    agent.exact(&part).await;
    until_so("gone", async || {
        there(&["weir.checkout.default"]).await
            && asked(both[0], "/services/weir.basket.default").await["message"] == "Not found"
    })
    .await;
    // Turned off.
    agent.stopped().await;
    let mut agent = Agent::start_at(&both, &names, dir.path());
    agent.want(&second);
    agent.exact(&part).await;
    until_so("off", async || there(&[]).await).await;
    assert_eq!(plugins(both[0]).await.1, theirs, "to the last field");
    agent.stopped().await;
}

/// A Kong does not start on a database with a plugin that it cannot run: where one node cannot, none is given any.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_run_the_plugin_is_spared_it() {
    let database = Database::new();
    let options = |logs: bool| Options {
        db_update_frequency: Duration::from_millis(50),
        worker_state_update_frequency: Duration::from_millis(70),
        logs,
        ..Options::default()
    };
    let able = Kong::on(&database, options(true)).await.unwrap();
    let unable = Kong::on(&database, options(false)).await.unwrap();
    let (dir, names) = (tempfile::tempdir().unwrap(), Arc::new(Known::default()));
    let first = with_database(&[own_door("checkout", 90, BY_ADDRESS)], None);
    // Alone it is given one.
    let mut agent = Agent::counting(&[&able], to(nobody()), &names, dir.path());
    let part = agent.want(&first);
    agent.exact(&part).await;
    until_so("it comes", async || plugins(&able).await.0.len() == 1).await;
    agent.stopped().await;
    let mut agent = Agent::counting(&[&able, &unable], to(nobody()), &names, dir.path());
    agent.want(&first);
    agent
        .until("told", |told| {
            why_not(told, "checkout").is_some_and(|why| why.contains("would not start on a database"))
        })
        .await;
    agent.exact(&part).await;
    assert_eq!(
        plugins(&able).await.0,
        Vec::<String>::new(),
        "and what was there went"
    );
    agent.stopped().await;
}
