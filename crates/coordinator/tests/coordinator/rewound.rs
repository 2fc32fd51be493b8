//! The program: a branch that goes back to what the commit in force was made from, and one whose history was rewritten.

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_coordinator::ledger::Ledger;

use crate::program::{Coordinator, configure};
use crate::repository::{Repository, declaration};

fn has(vm: u64) -> impl Fn(u16, &Value) -> bool {
    move |_, splits| splits["splits"][0]["declared"]["default"]["vm"] == json!(vm)
}

fn notice(splits: &Value) -> &str {
    splits["notice"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_branch_that_goes_back_moves_nothing_and_a_commit_that_goes_back_does() {
    let dir = TempDir::new().unwrap();
    let files = |vm: &str, cloud: &str| [("a.yaml", declaration("shop", vm, cloud))];
    let commit = |repo: &Repository, message: &str, (vm, cloud): (&str, &str)| {
        let [(name, text)] = files(vm, cloud);
        repo.commit(message, &[(name, &text)])
    };
    let repo = Repository::empty(&dir.path().join("repo"));
    let first = commit(&repo, "first", ("100", "0"));
    let config = configure(
        dir.path(),
        "url: repo\npoll: 100ms",
        "api: {anonymousRead: true}\n",
    );
    let mut coordinator = Coordinator::start(&config).await;
    coordinator.until("/v1/splits", has(100)).await;
    let second = commit(&repo, "a tenth", ("90", "10"));
    coordinator.until("/v1/splits", has(90)).await;

    // Forced back, or a mirror that lags: the same to whoever reads it.
    repo.move_to(first);
    let short = |id: git2::Oid| id.to_string()[..12].to_owned();
    let told = format!(
        "source main offers commit {}, from which commit {} in force was made: it is not taken",
        short(first),
        short(second)
    );
    let splits = coordinator
        .until("/v1/splits", |_, v| notice(v).starts_with(&told))
        .await;
    assert!(has(90)(200, &splits), "{splits:#}");
    let (_, sources) = coordinator.get("/v1/sources").await;
    assert_eq!(
        (&sources[0]["head"], &sources[0]["inForce"]),
        (&json!(first.to_string()), &json!(second.to_string()))
    );
    assert!(
        sources[0]["rewound"].as_str().unwrap().contains("git revert"),
        "{sources:#}"
    );
    // Nor does a start take it.
    coordinator.signal("TERM");
    assert!(coordinator.ended().await.1, "{}", coordinator.said());
    let coordinator = Coordinator::start(&config).await;
    let splits = coordinator
        .until("/v1/splits", |_, v| notice(v).starts_with(&told))
        .await;
    assert!(has(90)(200, &splits), "{splits:#}");

    // The mirror has caught up.
    repo.move_to(second);
    coordinator
        .until("/v1/splits", |_, v| v["notice"] == Value::Null)
        .await;
    // Who really takes it back makes a commit of it.
    commit(&repo, "Revert \"a tenth\"", ("100", "0"));
    coordinator.until("/v1/splits", has(100)).await;
    // As who goes on from an older commit does: its history is another one, which is told.
    repo.move_to(first);
    coordinator
        .until("/v1/splits", |_, v| notice(v).contains("it is not taken"))
        .await;
    let rewritten = commit(&repo, "from there on", ("70", "30"));
    let splits = coordinator.until("/v1/splits", has(70)).await;
    assert_eq!(splits["notice"], Value::Null);

    let ledger = Ledger::open(&dir.path().join("data/ledger.sqlite"))
        .await
        .unwrap();
    let events = ledger.events(0, 1_000).await.unwrap();
    let of = |kind: &str| {
        events
            .iter()
            .filter(|event| event.kind == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("source.rewound").len(),
        3,
        "once for each time, and after the start: {events:#?}"
    );
    let [history] = of("source.rewritten")[..] else {
        panic!("{events:#?}");
    };
    assert!(history.message.contains(&short(rewritten)), "{history:?}");
}
