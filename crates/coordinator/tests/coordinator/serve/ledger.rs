//! The program and its ledger: what cannot be written, what is damaged, and a kill at any time.

use super::*;

async fn ledger(dir: &TempDir) -> SqliteConnection {
    let file = dir.path().join("data/ledger.sqlite");
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file))
        .await
        .unwrap()
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_published() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let coordinator = Coordinator::start(&configure(dir.path(), "url: repo", OPEN)).await;
    coordinator.until("/v1/splits", |_, v| generation(v) == 1).await;
    // Every write of a decision fails, as on a full disk.
    let mut beside = ledger(&dir).await;
    sqlx::query(
        "CREATE TRIGGER full BEFORE INSERT ON commits BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    .execute(&mut beside)
    .await
    .unwrap();
    repo.commit("next", &[("a.yaml", &declaration("shop", "90", "10"))]);
    let problem = coordinator.until("/readyz", |status, _| status == 503).await;
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .contains("database or disk is full"),
        "{problem}"
    );
    let (_, splits) = coordinator.get("/v1/splits").await;
    assert_eq!(generation(&splits), 1);
    assert!(
        splits["notice"].as_str().unwrap().contains("disk is full"),
        "{splits}"
    );
    assert_eq!(coordinator.get("/v1/plans/2").await.0, 404);
    sqlx::query("DROP TRIGGER full")
        .execute(&mut beside)
        .await
        .unwrap();
    let splits = coordinator.until("/v1/splits", |_, v| generation(v) == 2).await;
    assert_eq!(splits["notice"], Value::Null);
    assert_eq!(coordinator.get("/readyz").await.0, 200);
    // Nobody has anything to write, and it is noticed all the same that nothing could be written.
    sqlx::query("CREATE TRIGGER idle BEFORE UPDATE ON in_force BEGIN SELECT RAISE(ABORT, 'read-only'); END")
        .execute(&mut beside)
        .await
        .unwrap();
    coordinator.until("/readyz", |status, _| status == 503).await;
    sqlx::query("DROP TRIGGER idle")
        .execute(&mut beside)
        .await
        .unwrap();
    coordinator.until("/readyz", |status, _| status == 200).await;
}

#[tokio::test]
async fn a_ledger_that_is_damaged_or_anothers_is_named_at_the_start() {
    let dir = TempDir::new().unwrap();
    Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let config = configure(dir.path(), "url: repo", OPEN);
    let mut coordinator = Coordinator::start(&config).await;
    coordinator.until("/v1/splits", |_, v| generation(v) == 1).await;
    coordinator.signal("TERM");
    coordinator.ended().await;
    let told = |config: &std::path::Path| {
        let output = run(&["serve", "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("federation: shop", "federation: bank")).unwrap();
    assert!(told(&config).contains("the ledger holds plans of the federation `shop`"));
    fs::write(&config, text).unwrap();
    let mut beside = ledger(&dir).await;
    sqlx::query("UPDATE plans SET plan = replace(plan, '10000', '9000')")
        .execute(&mut beside)
        .await
        .unwrap();
    beside.close().await.unwrap();
    let words = told(&config);
    assert!(
        words.contains("the ledger is damaged: the plan of generation 1"),
        "{words}"
    );
    fs::write(dir.path().join("data/ledger.sqlite"), "not a database at all").unwrap();
    let words = told(&config);
    assert!(words.contains("data/ledger.sqlite cannot be opened"), "{words}");
}

/// Killed again and again at whatever it was doing: history stays whole, and no generation is ever taken back.
#[tokio::test]
async fn a_kill_at_any_time_leaves_a_whole_history() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let config = configure(dir.path(), "url: repo", OPEN);
    let mut shown = 0;
    for round in 0..12u32 {
        let mut coordinator = Coordinator::start(&config).await;
        let (_, splits) = coordinator.get("/v1/splits").await;
        assert!(generation(&splits) >= shown, "round {round}: {splits}");
        for n in 0..3 {
            let vm = 100 - (round * 3 + n) % 100;
            let text = declaration("shop", &vm.to_string(), &(100 - vm).to_string());
            repo.commit(&format!("{round}.{n}"), &[("a.yaml", &text)]);
            // Another moment of the work in each round: after so many answers of it.
            for _ in 0..round {
                assert_eq!(coordinator.get("/healthz").await.0, 200, "round {round}");
            }
        }
        shown = generation(&coordinator.get("/v1/splits").await.1).max(shown);
        coordinator.child.kill().unwrap();
        coordinator.child.wait().unwrap();
    }
    let coordinator = Coordinator::start(&config).await;
    let last = repo
        .git
        .refname_to_id(crate::repository::BRANCH)
        .unwrap()
        .to_string();
    let splits = coordinator
        .until("/v1/splits", |_, v| v["commits"]["main"] == last.as_str())
        .await;
    let newest = generation(&splits);
    assert!(newest >= shown);
    let mut parent = Value::Null;
    for n in 1..=newest {
        let (status, plan) = coordinator.get(&format!("/v1/plans/{n}")).await;
        assert_eq!((status, &plan["parent"]), (200, &parent), "generation {n}");
        parent = plan["id"].clone();
    }
    let (_, commits) = coordinator.get("/v1/commits?limit=1000").await;
    let mut made: Vec<u64> = field(&commits["commits"], "generation")
        .into_iter()
        .filter_map(Value::as_u64)
        .collect();
    made.reverse();
    assert_eq!(
        made,
        (1..=newest).collect::<Vec<_>>(),
        "each plan has its commit, none twice"
    );
}
