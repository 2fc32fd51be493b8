//! The program: drains beside commits, other orders and starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::program::{Coordinator, configure, phase, printed, run, told};
use crate::repository::{Repository, declaration, split};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_coordinator::git::{Content, Head, Signature};
use weir_coordinator::ledger::{Answer, Ledger, Order, OrderKind};
use weir_coordinator::planning::Planning;
use weir_coordinator::sources::{SourceState, SourceStates};
use weir_coordinator::state::{InForce, Troubles};
use weir_model::{BackendName, CommitId, FederationName, SourceFile, SourceName, SplitName};

const CHECKOUT: &str = "/v1/splits/checkout";

/// Moves without waiting for requests. No agent was ever heard, so nobody is waited for.
fn at_once(vm: &str, cloud: &str) -> String {
    declaration("shop", vm, cloud).replace(
        "spec: {mesh: default}",
        "spec: {mesh: default, transition: {verify: {requests: 1, within: 1s, insufficient: proceed}}}",
    )
}

/// Such a repository, and the configuration of its coordinator.
fn repository(dir: &Path, text: &str) -> (Repository, PathBuf) {
    let repo = Repository::with(&dir.join("repo"), &[("a.yaml", text)]);
    let file = configure(dir, "url: repo\npoll: 100ms", "api: {anonymousRead: true}\n");
    (repo, file)
}

/// Orders on the host, and says what it was told.
fn order(config: &Path, words: &[&str]) -> String {
    let config = config.to_str().unwrap();
    let rest = ["--config", config, "--reason", "new kernel"];
    printed(&[&["split"], words, &rest].concat())
}

async fn ledger(config: &Path) -> Ledger {
    Ledger::open(&config.with_file_name("data/ledger.sqlite"))
        .await
        .unwrap()
}

fn of_checkout(id: &str, kind: OrderKind) -> Order {
    Order {
        id: id.to_owned(),
        kind,
        split: Some(SplitName::new("checkout").unwrap()),
        reason: "the test says so".to_owned(),
        who: "ada".to_owned(),
    }
}

fn drain(id: &str, to: Option<&str>) -> Order {
    let kind = OrderKind::Drain {
        backend: BackendName::new("vm").unwrap(),
        to: to.map(|to| BackendName::new(to).unwrap()),
    };
    of_checkout(id, kind)
}

/// What became of an order, as soon as something has.
async fn answer(ledger: &Ledger, id: &str) -> Answer {
    let began = Instant::now();
    loop {
        if let Some(answer) = ledger.answered(id).await.unwrap() {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The revert of a commit passes a freeze with what it takes back, and with nothing else that waits.
#[tokio::test]
async fn a_revert_of_another_split_takes_no_drain_along() {
    let dir = TempDir::new().unwrap();
    let both = |search: (&str, &str)| {
        let search = split("search", search.0, search.1);
        format!("{}---\n{search}", at_once("80", "20"))
    };
    let (repo, file) = repository(dir.path(), &both(("100", "0")));
    let coordinator = Coordinator::start(&file).await;
    let search = "/v1/splits/search";
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    repo.commit("search moves", &[("a.yaml", &both(("50", "50")))]);
    coordinator
        .until(search, |_, v| told(v)["vm"] == json!(50) && phase(v) == "none")
        .await;
    order(&file, &["freeze"]);
    order(&file, &["drain", "checkout", "vm"]);
    coordinator.until(CHECKOUT, |_, v| phase(v) == "frozen").await;
    repo.commit("search goes back", &[("a.yaml", &both(("100", "0")))]);
    coordinator
        .until(search, |_, v| told(v)["vm"] == json!(100) && phase(v) == "none")
        .await;
    let (_, split) = coordinator.get(CHECKOUT).await;
    assert_eq!(
        (phase(&split), told(&split)),
        ("frozen", json!({"vm": 80, "cloud": 20})),
        "{split:#}"
    );
}

/// All to the VMs, moved by 20 percentage points and then at rest for longer than any test lasts.
fn slowly(vm: &str, cloud: &str) -> String {
    at_once(vm, cloud).replace("transition: {", "transition: {maxStep: 20, bake: 1h, ")
}

/// What cannot go back stops where it is, and whoever aborted it is told so.
#[tokio::test]
async fn an_abort_under_a_drain_stops_it() {
    let dir = TempDir::new().unwrap();
    let (_repo, file) = repository(dir.path(), &slowly("100", "0"));
    let coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    order(&file, &["drain", "checkout", "vm", "--to", "cloud"]);
    let first = json!({"vm": 80, "cloud": 20});
    coordinator.until(CHECKOUT, |_, v| told(v) == first).await;
    let answer = order(&file, &["abort", "checkout"]);
    assert!(
        answer.starts_with("it is stopped where it is and does not go back"),
        "{answer}"
    );
    let split = coordinator.until(CHECKOUT, |_, v| phase(v) == "held").await;
    assert_eq!(told(&split), first);
    let why = split["reason"].as_str().unwrap();
    assert!(why.contains("it was aborted: \"new kernel\", says "), "{why}");
    order(&file, &["undrain", "checkout", "vm"]);
    coordinator
        .until(CHECKOUT, |_, v| {
            told(v) == json!({"vm": 100, "cloud": 0}) && phase(v) == "none"
        })
        .await;
}

/// Given within one look, an abort goes back from where the split is, and the drain is judged by what that leaves.
#[tokio::test]
async fn a_drain_beside_an_abort_keeps_nothing_from_going_back() {
    let dir = TempDir::new().unwrap();
    let (repo, file) = repository(dir.path(), &slowly("100", "0"));
    let coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    repo.commit("sixty", &[("a.yaml", &slowly("40", "60"))]);
    coordinator
        .until(CHECKOUT, |_, v| told(v) == json!({"vm": 80, "cloud": 20}))
        .await;
    let ledger = ledger(&file).await;
    coordinator.signal("STOP");
    for order in [drain("1", None), of_checkout("2", OrderKind::Abort)] {
        ledger.order(Timestamp::now(), &order).await.unwrap();
    }
    coordinator.signal("CONT");
    coordinator
        .until(CHECKOUT, |_, v| {
            told(v) == json!({"vm": 100, "cloud": 0}) && phase(v) == "quarantined"
        })
        .await;
    let drain = answer(&ledger, "1").await;
    assert!(
        !drain.done && drain.message.contains("is quarantined"),
        "{drain:?}"
    );
    assert!(ledger.answered("2").await.unwrap().unwrap().done);
}

/// Nobody takes a share who is not there, also where there is none yet; and the end of a drain says what comes of it.
#[tokio::test]
async fn orders_are_judged_by_what_git_declares() {
    let dir = TempDir::new().unwrap();
    let (repo, file) = repository(dir.path(), &at_once("0", "100"));
    let coordinator = Coordinator::start(&file).await;
    coordinator.until(CHECKOUT, |status, _| status == 200).await;
    let refused = run(&[
        "split",
        "drain",
        "checkout",
        "vm",
        "--to",
        "nowhere",
        "--config",
        file.to_str().unwrap(),
        "--reason",
        "x",
    ]);
    assert_eq!(refused.status.code(), Some(1));
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("cannot be drained to nowhere"), "{refused}");
    order(&file, &["drain", "checkout", "vm"]);
    let alone = at_once("0", "100")
        .replace("    vm: {zone: fra}\n", "")
        .replace("vm: 0, ", "");
    repo.commit("without vm", &[("a.yaml", &alone)]);
    coordinator
        .until(CHECKOUT, |_, v| {
            v["declared"] == json!({"default": {"cloud": 100}})
        })
        .await;
    let ended = order(&file, &["undrain", "checkout", "vm"]);
    assert!(
        ended.contains("split checkout declares no backend vm now"),
        "{ended}"
    );
}

fn head(commit: u8, text: &str) -> Arc<Head> {
    let file = SourceFile {
        source: SourceName("main".to_owned()),
        path: "a.yaml".to_owned(),
        bytes: text.as_bytes().into(),
    };
    Arc::new(Head {
        commit: CommitId(format!("{commit:02x}").repeat(20)),
        author: "Ada <ada@example.com>".to_owned(),
        committer: "Ada <ada@example.com>".to_owned(),
        signature: Signature::Absent,
        authored_at: Timestamp::UNIX_EPOCH,
        subject: "a commit".to_owned(),
        content: Content::Files(Arc::from(vec![file])),
        tree: None,
    })
}

/// A drain that comes in one look with a commit is judged by that commit.
#[tokio::test]
async fn a_drain_is_judged_by_the_commit_of_its_look() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("ledger");
    let ledger = Ledger::open(&at).await.unwrap();
    let states = |head: Arc<Head>| -> SourceStates {
        let state = SourceState {
            url: "repo".to_owned(),
            branch: "main".to_owned(),
            last: Some(Ok(())),
            head: Some(head),
            lineage: BTreeMap::new(),
            remembered: None,
            checked_at: None,
            recloned: None,
        };
        BTreeMap::from([(SourceName("main".to_owned()), state)])
    };
    let (sources, heads) = watch::channel(states(head(1, &at_once("80", "20"))));
    let (_fleet, fleet) = watch::channel(Arc::default());
    let (in_force, mut plans) = watch::channel(None);
    let troubles = Arc::new(watch::Sender::new(Troubles::default()));
    let federation = FederationName::new("shop").unwrap();
    let stale = Duration::from_secs(15);
    let planning = Planning::new(
        federation,
        ledger.clone(),
        heads,
        fleet,
        in_force,
        (troubles, Arc::default()),
        stale,
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(planning.await.unwrap().run(stop.clone()));
    let first = |known: &Option<InForce>| known.as_ref().is_some_and(|known| known.looked);
    plans.wait_for(first).await.unwrap();
    // Both before planning gets to run again.
    sources.send_replace(states(head(2, &at_once("100", "0"))));
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let ledger = Ledger::open(&at).await.unwrap();
            ledger.order(Timestamp::now(), &drain("1", None)).await.unwrap();
        });
    });
    other.join().unwrap();
    let answer = answer(&ledger, "1").await;
    assert!(
        !answer.done && answer.message.contains("nobody else has a share"),
        "{answer:?}"
    );
    stop.cancel();
    running.await.unwrap();
}
