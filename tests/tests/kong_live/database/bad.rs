//! Whatever else answers in the place of a Kong with a database, to every question or to some: a clear error, and nothing is written
//! that was not going to be, nor anything after what failed.

use std::sync::atomic::Ordering;

use super::super::something::{Says, Something, before, json, something, table, with};
use super::*;

/// A driver of what stands before a Kong.
fn by_way_of(something: &Something, patience: Duration) -> KongDb {
    let mut config = config(&format!("http://{}", something.address), None);
    config.timeout = patience;
    KongDb::new(KongConfig {
        nodes: vec![config],
        settle: Duration::from_millis(200),
    })
    .unwrap()
}

/// Whose fault it is and why, of what was brought.
fn told(became: Became) -> (Option<Fault>, String) {
    let node = became.nodes.into_values().next();
    match (node, became.splits.into_values().next()) {
        (Some(Brought::Failed(error)), _) => (Some(error.fault), format!("{error}; {}", error.help)),
        (_, Some(why)) => (None, why),
        (other, None) => panic!("{other:?}"),
    }
}

async fn bring(driver: &KongDb, wanted: &Entities) -> Became {
    let (posted, overtaken) = (BTreeSet::new(), CancellationToken::new());
    driver
        .bring(wanted, by(Generation(100), &posted, &overtaken))
        .await
}

/// How many of a hundred the double has for the canary.
async fn has(kong: &Kong) -> u64 {
    let url = format!("http://{}/upstreams/weir.checkout.default/targets", kong.admin());
    let answer = weir_sandbox::http_client().get(url).send().await.unwrap();
    let targets: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let of = |at: usize| targets["data"][at]["weight"].as_u64().unwrap_or_default();
    of(0).min(of(1)) * 100 / (of(0) + of(1)).max(1)
}

/// What it is called, which questions are of it, and how many there are.
type Place = (&'static str, fn(&str) -> bool, usize);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_of_a_kong_with_a_database_is_told_and_nothing_more_is_written() {
    ready();
    let kong = node(&Database::new()).await;
    let (vm, eks) = ("127.0.0.1:9".parse().unwrap(), "127.0.0.1:10".parse().unwrap());
    let door = by_routes(routing("/checkout"), &[("vm", &[vm]), ("eks", &[eks])]);
    let (ten, thirty) = (
        wanted(&[(&share(1, 1_000), &door)]),
        wanted(&[(&share(2, 3_000), &door)]),
    );
    let straight = driver(&[url(&kong)]);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        bring(&straight, &ten).await;
        let proofs = straight.prove(&ten).await;
        if proofs.values().all(|proof| proof.verdict == Verdict::Exact) {
            break;
        }
        assert!(Instant::now() < end, "{proofs:?}");
    }
    let hangs: (&str, Says, Fault, &str) = ("hang", |_| None, Fault::Away, "no answer in time");
    for (what, says, fault, why) in table().into_iter().chain([hangs]) {
        let patience = Duration::from_millis(if what == "hang" { 300 } else { 5_000 });
        // At every question.
        let all = something(says).await;
        let became = bring(&by_way_of(&all, patience), &thirty).await;
        let (whose, said) = told(became);
        assert!(whose == Some(fault) && said.contains(why), "{what}: {said}");
        assert_eq!(all.writes.load(Ordering::Relaxed), 0, "{what}");
        // At one kind of question alone, after all others were answered as by a Kong.
        let places: [Place; 3] = [
            ("list", |line| !line.starts_with("GET /upstreams?"), 0),
            ("write", |line| !line.starts_with("PATCH "), 1),
            ("health", |line| !line.contains("/health"), 0),
        ];
        for (place, goes_on, writes) in places {
            // Asked of each worker several times at once, which would be a gigabyte of it.
            if (what, place) == ("50 MB", "health") {
                continue;
            }
            let one = before(Some((kong.admin(), goes_on)), says).await;
            let driver = by_way_of(&one, patience);
            match place {
                "health" => {
                    let proof = driver.prove(&ten).await.into_values().next().unwrap();
                    assert_ne!(proof.verdict, Verdict::Exact, "{what} at {place}");
                }
                _ => {
                    let (whose, said) = told(bring(&driver, &thirty).await);
                    let (fault, why) = match (what, place) {
                        ("other JSON", "list") => (Fault::Unknown, "the answer has no list of entities"),
                        ("other JSON", _) => (fault, "is not the entity that was written"),
                        _ => (fault, why),
                    };
                    assert!(
                        whose == Some(fault) && said.contains(why),
                        "{what} at {place}: {whose:?} {said}"
                    );
                }
            }
            assert_eq!(one.writes.load(Ordering::Relaxed), writes, "{what} at {place}");
            assert_eq!(has(&kong).await, 10, "{what} at {place}");
        }
    }
    // Whoever says yes to everything wrote nothing.
    let yes: [(Says, &str); 3] = [
        (
            |_| json("201 Created", r#"{"message":"done"}"#),
            "is not the entity that was written",
        ),
        (
            |_| json("200 OK", r#"{"id":"another"}"#),
            "is not the entity that was written",
        ),
        (
            |_| with("204 No Content", "", b""),
            "is not what Kong says to a write",
        ),
    ];
    for (says, why) in yes {
        let one = before(Some((kong.admin(), |line| !line.starts_with("PATCH "))), says).await;
        let (whose, said) = told(bring(&by_way_of(&one, Duration::from_secs(5)), &thirty).await);
        assert!(
            whose == Some(Fault::Setup) && said.contains(why),
            "{whose:?} {said}"
        );
        assert_eq!(
            (one.writes.load(Ordering::Relaxed), has(&kong).await),
            (1, 10),
            "{why}"
        );
    }
}
