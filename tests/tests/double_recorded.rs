//! The double held against real Kuma, answer by answer: both were set up alike and asked the same (`record-kuma` made the
//! recordings in `tests/recorded/`). What may differ is listed here, each with its reason, and nothing else may.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::collections::{BTreeMap, BTreeSet};

use weir_sandbox::double::cast::Double;
use weir_tests::programs;
use weir_tests::recorded::differences::{Difference, differences};
use weir_tests::recorded::script::{Ask, script};
use weir_tests::recorded::{Exchange, Stand, all, stage};

/// A difference that the double is allowed: the end of the exchange's name, a path in the answer (`*` is any one step,
/// and what is below the path is not looked at), why.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "-meshmultizoneservices",
        "/body/items/*/status",
        "the double keeps no status of a MeshMultiZoneService; Weir reads none",
    ),
    (
        "-overviews",
        "/body/items/*/dataplaneInsight/mTLS",
        "the double's proxies have no certificates; Weir reads none",
    ),
    (
        "-overview",
        "/body/dataplaneInsight/mTLS",
        "the double's proxies have no certificates; Weir reads none",
    ),
    (
        "-overviews",
        "/body/items/*/dataplaneInsight/subscriptions/*/status/eds",
        "the double sends endpoints with their clusters; Weir reads the counts of listeners alone",
    ),
    (
        "-overview",
        "/body/dataplaneInsight/subscriptions/*/status/eds",
        "the double sends endpoints with their clusters; Weir reads the counts of listeners alone",
    ),
    (
        "-computed-90",
        "",
        "the double has no `_config`: it is asked for by agents that cannot read their Envoys, and in the sandbox all can",
    ),
];

fn allowed(name: &str, difference: &Difference) -> Option<usize> {
    ALLOWED
        .iter()
        .position(|(end, pattern, _)| name.ends_with(end) && difference.is_at(pattern))
}

async fn ask_the_double(asks: &[Ask]) -> anyhow::Result<BTreeMap<String, Exchange>> {
    let dir = tempfile::tempdir()?;
    let stand = Stand::set_up(Box::new(Double::new(stage(dir.path())?)?)).await?;
    let mut answers = BTreeMap::new();
    for ask in asks {
        answers.insert(ask.name.clone(), stand.ask(ask).await?);
    }
    stand.stop().await;
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_double_answers_as_kuma_was_recorded_to() {
    programs().unwrap();
    let (recorded, asks) = (all().unwrap(), script());
    let names: Vec<&String> = asks.iter().map(|ask| &ask.name).collect();
    assert_eq!(
        recorded.keys().collect::<Vec<_>>(),
        names,
        "the recordings are not of this script: run record-kuma"
    );
    let answers = ask_the_double(&asks).await.unwrap();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, kuma) in &recorded {
        let double = &answers[name];
        assert_eq!(
            (&kuma.what, &kuma.request),
            (&double.what, &double.request),
            "{name}: run record-kuma"
        );
        for found in differences(&kuma.response, &double.response) {
            match allowed(name, &found) {
                Some(at) => {
                    used.insert(at);
                }
                None => wrong.push(format!(
                    "{name} {}\n  kuma:   {}\n  double: {}",
                    found.path, found.first, found.second
                )),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let unused: Vec<_> = (0..ALLOWED.len())
        .filter(|at| !used.contains(at))
        .map(|at| ALLOWED[at])
        .collect();
    assert!(
        unused.is_empty(),
        "allowed, but nothing differs there any more: {unused:?}"
    );
    assert!(
        recorded.len() > 100,
        "only {} exchanges are recorded",
        recorded.len()
    );
}
