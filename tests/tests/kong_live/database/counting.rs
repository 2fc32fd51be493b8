//! The plugin by which requests are counted, in a database: it comes, is put back and goes, and no proof waits for it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_comes_is_put_back_and_goes_beside_the_proof() {
    let stage = Stage::set().await;
    let (vm, eks) = pair().await;
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let item = share(1, 1_000);
    let split = item.split.clone();
    let counting = Counting {
        endpoint: format!("http://{}/", nobody().await),
    };
    let (with, without) = (
        counted_by(&[(&item, &door)], Some(&counting)),
        counted_by(&[(&item, &door)], None),
    );
    let there = async || stage.get("plugins/weir.checkout.default").await;
    stage.proven(&with).await;
    stage
        .until("it is there", async || {
            stage.bring(&with).await.counted[&split].is_ok()
        })
        .await;
    let plugin = there().await;
    assert_eq!(
        (&plugin["name"], &plugin["config"]["http_endpoint"]),
        (&json!("http-log"), &json!(counting.endpoint))
    );
    assert_eq!(
        plugin["service"]["id"],
        stage.get("services/weir.checkout.default").await["id"]
    );
    // There is nothing to write any more, whatever Kong says of it that nobody said.
    let became = stage.bring(&with).await;
    assert!(
        became.nodes.values().all(|node| !matches!(node, Brought::Posted)),
        "{became:?}"
    );
    // Nobody listens there, and requests are answered.
    for proxy in &stage.proxies {
        let all: usize = counted(*proxy, "/checkout", 50).await.into_values().sum();
        assert_eq!(all, 50);
    }

    // What somebody changes is put back, and what Weir does not say stays.
    let path = format!("plugins/{}", plugin["id"].as_str().unwrap());
    let change = json!({"enabled": false, "tags": ["weir-is-not-mine"], "config": {"http_endpoint": "http://127.0.0.1:9/", "headers": {"x-a": "b"}}});
    assert_eq!(stage.ask("PATCH", &path, Some(change)).await.0, 200);
    // Without Weir's tags it is somebody else's, and runs for the same requests: it is named and stays.
    let why = stage.bring(&with).await.counted[&split].clone().unwrap_err();
    assert!(why.contains("same requests"), "{why}");
    assert_eq!(there().await["enabled"], false);
    let tags = json!({"tags": plugin["tags"]});
    assert_eq!(stage.ask("PATCH", &path, Some(tags)).await.0, 200);
    stage.bring(&with).await;
    let again = there().await;
    assert_eq!(
        (&again["enabled"], &again["config"]["http_endpoint"]),
        (&json!(true), &json!(counting.endpoint))
    );
    assert_eq!(again["config"]["headers"], json!({"x-a": "b"}));
    stage.proven(&with).await;

    // One for all of theirs: ours gives way at once, and no proof is another for it.
    let log = json!({"name": "http-log", "config": {"http_endpoint": "http://127.0.0.1:9/"}});
    let (status, theirs) = stage.ask("POST", "plugins", Some(log)).await;
    assert_eq!(status, 201, "{theirs}");
    assert!(stage.bring(&with).await.counted[&split].is_err());
    assert_eq!(there().await["message"], "Not found");
    stage.proven(&with).await;
    let of_theirs = format!("plugins/{}", theirs["id"].as_str().unwrap());
    assert_eq!(stage.get(&of_theirs).await, theirs, "to the last field");
    assert_eq!(stage.ask("DELETE", &of_theirs, None).await.0, 204);
    assert!(stage.bring(&with).await.counted[&split].is_ok());
    assert_eq!(there().await["enabled"], true);

    // Turned off; and with its door, from the top down.
    assert_eq!(stage.bring(&without).await.counted, BTreeMap::new());
    assert_eq!(there().await["message"], "Not found");
    stage.bring(&with).await;
    assert_eq!(there().await["enabled"], true);
    let none = counted_by(&[], Some(&counting));
    stage
        .until("all of it is gone", async || {
            assert_eq!(stage.bring(&none).await.splits, BTreeMap::new());
            stage.get("services/weir.checkout.default").await["message"] == "Not found"
        })
        .await;
    assert_eq!(stage.get("plugins?tags=weir").await["data"], json!([]));
}
