//! The double held against real Kuma, answer by answer: both were set up alike and asked the same (`record-kuma` made the
//! recordings in `tests/recorded/`). What may differ is listed here, each with its reason, and nothing else may.

use std::collections::BTreeMap;

use weir_sandbox::double::cast::Double;
use weir_tests::programs;
use weir_tests::recorded::differences::{Allowed, Held};
use weir_tests::recorded::script::{Ask, script};
use weir_tests::recorded::{Exchange, Stand, all, stage};

/// A difference that the double is allowed: the end of the exchange's name, a path in the answer (`*` is any one step,
/// and what is below the path is not looked at), why.
const ALLOWED: &[Allowed] = &[
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
    let mut held = Held::by(ALLOWED, |end, name| name.ends_with(end));
    for (name, kuma) in &recorded {
        let double = &answers[name];
        assert_eq!(
            (&kuma.what, &kuma.request),
            (&double.what, &double.request),
            "{name}: run record-kuma"
        );
        held.compare(name, &kuma.response, &double.response);
    }
    held.differs_as_allowed();
    assert!(
        recorded.len() > 100,
        "only {} exchanges are recorded",
        recorded.len()
    );
}
