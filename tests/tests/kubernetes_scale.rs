//! A large cluster: 5,000 MeshServices and 500 routes of others. Time and memory of a full look, and of each event.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use weir_drivers::ZoneDriver as _;
use weir_tests::kubernetes::SHOP;
use weir_tests::kubernetes::driven::{Driven, apply, done, foreign, item, mesh, service};
use weir_tests::story::say;

const SERVICES: usize = 5_000;
const ROUTES: usize = 500;
const EVENTS: usize = 200;

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Processor time that this process has used. Of the kernel: 100 ticks a second.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = text.rsplit_once(") ").unwrap();
    // After the name: the state is field 3 of all, utime and stime are fields 14 and 15.
    let ticks = |n: usize| -> u64 { rest.split(' ').nth(n - 3).unwrap().parse().unwrap() };
    Duration::from_millis((ticks(14) + ticks(15)) * 10)
}

fn numbered(n: usize) -> Value {
    let mut one = service(&format!("service-{n}"), SHOP, "use1");
    one["metadata"]["annotations"]["kuma.io/display-name"] = json!(format!("service-{n}"));
    one
}

#[tokio::test]
async fn five_thousand_services_and_five_hundred_routes() {
    let Some(mut here) = Driven::start("five_thousand_services").await.unwrap() else {
        return;
    };
    let home = format!("/apis/kuma.io/v1alpha1/namespaces/{SHOP}");
    let services = (0..SERVICES).map(|n| ("meshservices", numbered(n)));
    let routes = (0..ROUTES).map(|n| ("meshhttproutes", foreign(&format!("route-{n}"), SHOP)));
    futures::stream::iter(services.chain(routes))
        .map(|(plural, object)| {
            let (admin, path) = (here.stand.admin.clone(), format!("{home}/{plural}"));
            async move { admin.create(&path, &object).await }
        })
        .buffer_unordered(16)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
    here.begin().await.unwrap();
    let driver = here.driver(false).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    done(apply(&driver, &items[0]).await).unwrap();

    let (before, begin, processor) = (resident(), Instant::now(), used());
    let seen = driver.observe(&mesh(), &items).await.unwrap();
    let (first, first_processor) = (begin.elapsed(), used() - processor);
    let held = resident().saturating_sub(before);
    assert_eq!((seen.services.len(), seen.ours.len()), (2, 1));

    let begin = Instant::now();
    driver.observe(&mesh(), &items).await.unwrap();
    let kept = begin.elapsed();
    driver.look_again();
    let (begin, processor) = (Instant::now(), used());
    driver.observe(&mesh(), &items).await.unwrap();
    let (anew, anew_processor) = (begin.elapsed(), used() - processor);

    // Events of services that no plan names: what a busy cluster is all day.
    let (before, processor) = (resident(), used());
    for n in 0..EVENTS {
        let path = format!("{home}/meshservices/service-{n}");
        let change = json!({"metadata": {"labels": {"version": format!("v{n}")}}});
        here.stand.admin.merge(&path, &change).await.unwrap();
    }
    let events = used() - processor;
    let grown = resident().saturating_sub(before);

    // And of one that it does.
    let mut told = Vec::new();
    for n in 0..20 {
        driver.observe(&mesh(), &items).await.unwrap();
        let change = driver.changed();
        let state = if n % 2 == 0 { "Unavailable" } else { "Available" };
        let begin = Instant::now();
        let spec = json!({"spec": {"state": state}});
        here.stand
            .admin
            .merge(&format!("{home}/meshservices/checkout"), &spec)
            .await
            .unwrap();
        tokio::time::timeout(Duration::from_secs(10), change)
            .await
            .expect("it is told");
        let seen = driver.observe(&mesh(), &items).await.unwrap();
        told.push(begin.elapsed());
        let text = format!("{:?}", seen.services);
        assert_eq!(text.contains("Unavailable"), n % 2 == 0, "{text}");
    }
    told.sort();
    say(&format!(
        "{SERVICES} services, {ROUTES} routes: first look {first:?} ({first_processor:?} of a processor, {} KiB held), \
         from memory {kept:?}, anew {anew:?} ({anew_processor:?}); {EVENTS} events cost {events:?} with the requests that \
         made them, {} KiB; an event that matters is observed after {:?} (median), {:?} (longest)",
        held / 1024,
        grown / 1024,
        told[told.len() / 2],
        told[told.len() - 1],
    ));
    assert!(first < Duration::from_secs(20) && anew < Duration::from_secs(20));
    assert!(kept < Duration::from_millis(250), "{kept:?}");
    assert!(held < 64 * 1024 * 1024, "{held} bytes");
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes");
    assert!(told[told.len() / 2] < Duration::from_secs(2), "{told:?}");
    let hands: Vec<String> = (0..EVENTS)
        .map(|n| format!("{home}/meshservices/service-{n}"))
        .chain([format!("{home}/meshservices/checkout")])
        .collect();
    let hands: Vec<&str> = hands.iter().map(String::as_str).collect();
    here.untouched(&hands).await.unwrap();
}
