//! The driver while its API server is away, hangs, or its watches have gone silent without a word: what it hands out is
//! never empty, never older than it says, and never believed for long; and it goes on by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_drivers::{Cluster, Fault, KumaKubernetes, ZoneDriver as _};
use weir_planner::Item;
use weir_sandbox::cluster::End;
use weir_tests::kubernetes::driven::{Driven, OURS, apply, done, item, mesh, told};
use weir_tests::kubernetes::relay::Relay;
use weir_tests::story::say;

/// The oldest that may ever be handed out: what the driver trusts, and the length of a call.
const OLDEST: Duration = Duration::from_secs(45);

/// What was seen of an outage.
#[derive(Debug, Default)]
struct Seen {
    /// The last time at which something was handed out, since the beginning.
    last_good: Duration,
    /// The first time at which it was not.
    first_bad: Option<Duration>,
    oldest: Duration,
    longest_call: Duration,
}

/// Looks all the time, for so long. Two services and one object are there whatever happens: anything else is a lie.
async fn look(driver: &KumaKubernetes, items: &[Arc<Item>], during: Duration) -> Seen {
    let begin = Instant::now();
    let mut seen = Seen::default();
    while begin.elapsed() < during {
        let call = Instant::now();
        match driver.observe(&mesh(), items).await {
            Ok(observed) => {
                assert_eq!(observed.services.len(), 2, "{observed:?}");
                assert_eq!(observed.ours.len(), 1, "{observed:?}");
                assert!(observed.age <= OLDEST, "{:?} old", observed.age);
                seen.oldest = seen.oldest.max(observed.age);
                seen.last_good = begin.elapsed();
            }
            Err(error) => {
                assert_eq!(error.fault, Fault::Away, "{error:?}");
                assert!(!error.help.is_empty(), "{error:?}");
                seen.first_bad.get_or_insert(begin.elapsed());
            }
        }
        seen.longest_call = seen.longest_call.max(call.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    seen
}

/// Waits until the driver hands out what was asked for just now.
async fn back(driver: &KumaKubernetes, items: &[Arc<Item>]) -> Duration {
    let begin = Instant::now();
    loop {
        driver.look_again();
        match driver.observe(&mesh(), items).await {
            Ok(observed) => {
                assert_eq!((observed.services.len(), observed.ours.len()), (2, 1));
                return begin.elapsed();
            }
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A change by somebody else is told by the watch again, without being asked for.
async fn told_again(here: &Driven, driver: &KumaKubernetes, items: &[Arc<Item>], what: &str) -> Duration {
    driver.observe(&mesh(), items).await.unwrap();
    let change = driver.changed();
    let begin = Instant::now();
    let by_hand = json!({"metadata": {"labels": {"weir.dev/commit": what}}});
    here.stand.admin.merge(OURS, &by_hand).await.unwrap();
    told(driver, change, items, |seen| {
        seen.ours[0].0.labels["weir.dev/commit"] == what
    })
    .await;
    begin.elapsed()
}

async fn begun(test: &str) -> Option<(Driven, KumaKubernetes, [Arc<Item>; 1])> {
    let here = Driven::start(test).await.unwrap()?;
    let driver = here.driver(false).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    done(apply(&driver, &items[0]).await).unwrap();
    driver.look_again();
    driver.observe(&mesh(), &items).await.unwrap();
    Some((here, driver, items))
}

#[tokio::test]
async fn three_seconds_without_an_api_server() {
    let Some((mut here, driver, items)) = begun("three_seconds_without_an_api_server").await else {
        return;
    };
    here.stand.cluster.stop_api_server(End::Killed).await.unwrap();
    let seen = look(&driver, &items, Duration::from_secs(3)).await;
    let error = apply(&driver, &item(8, 50, 50).unwrap()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Away, "{error:?}");
    here.stand.cluster.start_api_server().await.unwrap();
    let after = back(&driver, &items).await;
    done(apply(&driver, &items[0]).await).unwrap();
    let told = told_again(&here, &driver, &items, "after-3-s").await;
    say(&format!(
        "API server killed for 3 s: {seen:?}; back {after:?} after it was ready, a change told in {told:?}"
    ));
    here.untouched(&[]).await.unwrap();
}

/// By SIGTERM, as on every upgrade of a control plane: new connections are refused, open watches stay and say nothing.
#[tokio::test]
async fn a_minute_without_an_api_server() {
    let Some((mut here, driver, items)) = begun("a_minute_without_an_api_server").await else {
        return;
    };
    let begin = Instant::now();
    here.stand.cluster.terminate_api_server().unwrap();
    let seen = look(&driver, &items, Duration::from_secs(60)).await;
    let bad = seen
        .first_bad
        .expect("what nobody can confirm is not handed out for a minute");
    assert!(bad < Duration::from_secs(50), "{seen:?}");
    assert!(seen.last_good < Duration::from_secs(50), "{seen:?}");
    let error = apply(&driver, &item(8, 50, 50).unwrap()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Away, "{error:?}");
    here.stand.cluster.stop_api_server(End::Terminated).await.unwrap();
    let away = begin.elapsed();
    here.stand.cluster.start_api_server().await.unwrap();
    let after = back(&driver, &items).await;
    let told = told_again(&here, &driver, &items, "after-60-s").await;
    say(&format!(
        "API server ended by SIGTERM for {away:?}: {seen:?}; back {after:?} after it was ready, a change told in {told:?}"
    ));
    here.untouched(&[]).await.unwrap();
}

/// It takes connections and never answers.
#[tokio::test]
async fn an_api_server_that_hangs() {
    let Some((here, driver, items)) = begun("an_api_server_that_hangs").await else {
        return;
    };
    here.stand.cluster.freeze_api_server().unwrap();
    let write = Instant::now();
    let error = apply(&driver, &item(8, 50, 50).unwrap()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Away, "{error:?}");
    assert!(
        write.elapsed() < Duration::from_secs(15),
        "a write waits for {:?}",
        write.elapsed()
    );
    let seen = look(&driver, &items, Duration::from_secs(50)).await;
    assert!(seen.first_bad.is_some(), "{seen:?}");
    assert!(seen.longest_call < Duration::from_secs(35), "{seen:?}");
    here.stand.cluster.thaw_api_server().unwrap();
    let after = back(&driver, &items).await;
    let told = told_again(&here, &driver, &items, "after-a-hang").await;
    say(&format!(
        "API server hung: {seen:?}; back after {after:?}, a change told in {told:?}"
    ));
    here.untouched(&[]).await.unwrap();
}

/// The network forgets what is open; whoever dials anew gets through. Nobody is told.
#[tokio::test]
async fn a_watch_gone_silent_is_found_out() {
    let Some((here, _, items)) = begun("a_watch_gone_silent").await else {
        return;
    };
    let relay = Relay::start(here.stand.cluster.port()).await.unwrap();
    let mut config = here.config(false);
    let Cluster::Kubeconfig { file, .. } = &config.cluster else {
        panic!("a kubeconfig")
    };
    let text = std::fs::read_to_string(file).unwrap();
    let through = here.stand.dir().join("relay.kubeconfig");
    let server = here.stand.cluster.server();
    std::fs::write(
        &through,
        text.replace(&server, &format!("https://{}", relay.address)),
    )
    .unwrap();
    config.cluster = Cluster::Kubeconfig {
        file: through,
        context: None,
    };
    let driver = KumaKubernetes::new(config).unwrap();
    let quick = told_again(&here, &driver, &items, "before").await;
    relay.forget();
    let slow = told_again(&here, &driver, &items, "silent").await;
    assert!(slow < Duration::from_secs(35), "{slow:?}");
    let again = told_again(&here, &driver, &items, "after").await;
    say(&format!(
        "watch: a change told in {quick:?}; over connections that the network forgot in {slow:?}; then again in {again:?}"
    ));
    here.untouched(&[]).await.unwrap();
}
