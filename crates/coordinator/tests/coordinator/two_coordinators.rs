//! Two coordinators by mistake, each with a ledger of its own: the one that began last goes on, the other says so and stops.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_coordinator::ledger::Ledger;
use weir_link::{AgentToken, Connector, IdentityDir};
use weir_planner::PlanId;
use weir_wire::v1::PlanUpdate;
use weir_wire::{Greeting, Held, Holds, Term, assemble};

use crate::federation::{Agent, ask_to_join, greeting};
use crate::program::{Coordinator, configure, printed, run};
use crate::repository::{Repository, declaration};

/// An agent that follows whoever offers it a plan, as far as it may.
struct Follower {
    identity: IdentityDir,
    _dir: TempDir,
    says: Greeting,
    held: Held,
}

impl Follower {
    async fn joins(coordinator: &Coordinator, config: &Path, name: &str) -> Self {
        let words = [
            "token",
            "create",
            "--zone",
            "fra",
            "--config",
            config.to_str().unwrap(),
        ];
        let token: AgentToken = printed(&words).trim().parse().unwrap();
        let joined = weir_link::join(&coordinator.url, "fra", name, token, ask_to_join);
        let dir = TempDir::new().unwrap();
        let identity = IdentityDir::new(dir.path().join("identity"));
        identity.store(&joined.await.unwrap()).unwrap();
        Self {
            identity,
            _dir: dir,
            says: greeting("fra", name),
            held: Held::default(),
        }
    }

    async fn greets(&self, coordinator: &Coordinator) -> Agent {
        let connector = Connector::new(&coordinator.url, self.identity.load().unwrap()).unwrap();
        Agent::greets(&connector, &self.says).await
    }

    /// Opens a session.
    async fn connects(&self, coordinator: &Coordinator) -> Agent {
        let connector = Connector::new(&coordinator.url, self.identity.load().unwrap()).unwrap();
        Agent::connects(&connector, &self.says).await
    }

    /// Takes what it is offered next there; the term of it.
    async fn takes(&mut self, session: &mut Agent) -> u64 {
        let update: PlanUpdate = session.plan().await;
        let plan = assemble(&update, &self.held).unwrap();
        assert!(plan.generation >= self.says.highest, "I7");
        self.held = Held::from(&plan);
        self.says.holds = Holds::from(&plan);
        self.says.plan = Some(PlanId(plan.plan.0));
        self.says.generation = plan.generation;
        self.says.highest = plan.generation;
        self.says.term = Term(update.term);
        update.term
    }

    async fn follows(&mut self, coordinator: &Coordinator) -> u64 {
        let mut session = self.connects(coordinator).await;
        self.takes(&mut session).await
    }
}

fn notice(splits: &Value) -> &str {
    splits["notice"].as_str().unwrap_or_default()
}

async fn told(config: &Path) -> usize {
    let ledger = Ledger::open(&config.with_file_name("data/ledger.sqlite"))
        .await
        .unwrap();
    let events = ledger.events(0, 1_000).await.unwrap();
    events
        .iter()
        .filter(|event| event.kind == "coordinator.superseded")
        .count()
}

#[tokio::test]
async fn of_two_coordinators_the_older_is_refused_and_says_so() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let repo = Repository::with(
        &first.path().join("repo"),
        &[("a.yaml", &declaration("shop", "100", "0"))],
    );
    let configured = |dir: &TempDir| {
        let source = format!("url: {}\npoll: 100ms", repo.dir.display());
        configure(dir.path(), &source, "api: {anonymousRead: true}\n")
    };
    let (of_older, of_newer) = (configured(&first), configured(&second));
    let mut older = Coordinator::start(&of_older).await;
    older.until("/v1/splits", |_, v| v["generation"] == 1).await;
    let mut fra_1 = Follower::joins(&older, &of_older, "fra-1").await;
    let mut fra_2 = Follower::joins(&older, &of_older, "fra-2").await;
    assert_eq!(fra_1.follows(&older).await, 1);
    let mut stays = fra_2.connects(&older).await;
    assert_eq!(fra_2.takes(&mut stays).await, 1);

    // Somebody starts another of the same authority, with an empty ledger.
    fs::create_dir_all(second.path().join("data/ca")).unwrap();
    for file in fs::read_dir(first.path().join("data/ca")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), second.path().join("data/ca").join(file.file_name())).unwrap();
    }
    let newer = Coordinator::start(&of_newer).await;
    newer.until("/v1/splits", |_, v| v["generation"] == 1).await;
    assert_eq!(
        older.get("/readyz").await.0,
        200,
        "nobody has followed the other yet"
    );
    assert_eq!(
        fra_1.follows(&newer).await,
        2,
        "above what agents followed before"
    );

    // Back at the older one, which has known it: nothing is offered, to nobody.
    let (code, why) = fra_1.greets(&older).await.refusal().await;
    assert_eq!(code, tonic::Code::FailedPrecondition);
    assert!(
        why.starts_with(
            "superseded: another weir-coordinator serves this federation. Agent fra-1 of zone fra follows term 2, and this \
             coordinator is of term 1: it makes no more plans"
        ),
        "{why}"
    );
    assert_eq!(stays.goodbye().await, why);
    assert_eq!(fra_2.greets(&older).await.refusal().await.1, why);

    // It stays up, and says so wherever people and machines look.
    let problem = older.until("/readyz", |status, _| status == 503).await;
    assert_eq!(problem["message"], json!(why));
    assert_eq!(
        older.get("/healthz").await.0,
        200,
        "nobody is to start it again by himself"
    );
    assert_eq!(notice(&older.get("/v1/splits").await.1), why);
    let (_, metrics) = older.get("/metrics").await;
    assert!(
        metrics.as_str().unwrap().contains("weir_superseded 1"),
        "{metrics}"
    );
    let words = [
        "split",
        "freeze",
        "--reason",
        "night",
        "--config",
        of_older.to_str().unwrap(),
    ];
    let ordered = run(&words);
    let said = String::from_utf8_lossy(&ordered.stderr).into_owned();
    assert!(!ordered.status.success() && said.contains("superseded"), "{said}");

    // Only one of them plans what comes.
    repo.commit("next", &[("a.yaml", &declaration("shop", "90", "10"))]);
    let commit = repo
        .git
        .refname_to_id(crate::repository::BRANCH)
        .unwrap()
        .to_string();
    newer
        .until("/v1/splits", |_, v| v["commits"]["main"] == json!(commit))
        .await;
    older
        .until("/v1/commits", |_, v| v["sources"][0]["head"] == json!(commit))
        .await;
    let (_, splits) = older.get("/v1/splits").await;
    assert_eq!(
        (&splits["generation"], notice(&splits)),
        (&json!(1), why.as_str())
    );
    let (_, splits) = newer.get("/v1/splits").await;
    assert_eq!(splits["notice"], Value::Null);
    assert_eq!(fra_2.follows(&newer).await, 2);

    // A person decides for the older one: after a restart it is the newer of the two.
    older.signal("TERM");
    assert!(older.ended().await.1, "{}", older.said());
    assert_eq!(told(&of_older).await, 1);
    let older = Coordinator::start(&of_older).await;
    let before = fra_1.says.highest;
    assert_eq!(fra_1.follows(&older).await, 3);
    assert!(
        fra_1.says.highest >= before,
        "nothing older than what the other made"
    );
    let (_, why) = fra_1.greets(&newer).await.refusal().await;
    assert!(
        why.contains("follows term 3, and this coordinator is of term 2"),
        "{why}"
    );
    assert_eq!(older.get("/readyz").await.0, 200);
}
