//! The play: everything of a federation started in order, below one directory, and ended without a trace of a process.
//!
//! `repo/` the Git repository, `coordinator/`, `zones/<zone>/`, `logs/`. The coordinator and the agents are the very
//! programs that people install; they do not know who plays Kuma.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::process::Command;
use tokio::time::Instant;
use weir_wire::api::Standing;

use crate::cast::{Cast, Stage};
use crate::cluster::Binaries;
use crate::coordinator::{SPLIT, Viewer, proven};
use crate::double::cast::{Double, free_port, until};
use crate::process::{Keeper, Process, Start, find_program};
use crate::real::{Parts, Real};
use crate::repository::{CLUSTER, Ground, Repository};
use crate::traffic::{Application, Callers, Pace};

/// How long a start or a change may take before it is called failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two requests of one caller while a change is under way: some hundred a second and zone, as when the losses of
/// bare policies were measured.
pub const GENTLE: Pace = Pace::Gentle(Duration::from_millis(5));

/// The file, in the sandbox's directory, that lets a shell's `weir` ask its coordinator.
pub const ENV: &str = "weir.env";

/// How to set it up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where; none for a new temporary directory.
    pub dir: Option<PathBuf>,
    /// With real Kuma.
    pub real: bool,
    /// With agents that write bare policies.
    pub bare: bool,
    /// The name of the service's port in its MeshServices, if it has one. The first commit does not declare it, and is
    /// therefore not waited for: no zone can prove it.
    pub port_name: Option<String>,
}

/// What the zones are, and what they take.
#[derive(Debug, Clone)]
pub enum Scene {
    /// VMs alone.
    Vms,
    /// One is a cluster, with a real API server: for the real parts.
    WithCluster(Binaries),
    /// One is a cluster, with the double of an API server: for the double.
    WithDoubleCluster,
}

impl Scene {
    /// With a cluster, unless nobody wants one; with real Kuma also unless what it takes is not on this machine. Says so
    /// then.
    pub fn choose(real: bool, universal: bool, mut say: impl FnMut(&str)) -> Self {
        if universal {
            return Self::Vms;
        }
        if !real {
            return Self::WithDoubleCluster;
        }
        let kumactl = Parts::find().is_ok_and(|parts| parts.kumactl.is_some());
        match Binaries::find() {
            Ok(binaries) if kumactl => Self::WithCluster(binaries),
            Ok(_) => {
                say("no cluster zone: kumactl is not beside kuma-cp. All zones are Universal");
                Self::Vms
            }
            Err(absent) => {
                say(&format!("no cluster zone: {absent} All zones are Universal"));
                Self::Vms
            }
        }
    }

    fn ground(&self) -> Ground {
        match self {
            Self::Vms => Ground::Vms,
            Self::WithCluster(_) | Self::WithDoubleCluster => Ground::VmsAndCluster,
        }
    }
}

/// A running federation.
pub struct Play {
    /// Where it is.
    pub dir: PathBuf,
    /// Zones with callers.
    pub zones: Vec<String>,
    /// The repository.
    pub repository: Repository,
    /// Who plays Kuma.
    pub cast: Box<dyn Cast>,
    /// API of the global control plane, if there is one.
    pub global: Option<String>,
    /// What each zone's agent is told of its control plane.
    pub parts: BTreeMap<String, crate::ZoneParts>,
    /// Where the coordinator is: `https://127.0.0.1:...`.
    pub address: String,
    /// A reader of the coordinator's API.
    pub viewer: Viewer,
    /// Callers by zone.
    pub callers: BTreeMap<String, Callers>,
    /// The first commit.
    pub first_commit: String,
    keeper: Keeper,
    bare: bool,
    coordinator: Process,
    agents: BTreeMap<String, Process>,
    _applications: Vec<Application>,
    temporary: Option<tempfile::TempDir>,
}

impl Play {
    /// Starts everything; returns when every zone has proven the first commit. What was started before an error goes
    /// with it, and the error carries the ends of the logs.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn start(setup: Setup, say: impl FnMut(&str)) -> anyhow::Result<Self> {
        Self::start_on(Scene::Vms, setup, say).await
    }

    /// [`Self::start`], with zones that may not all be VMs.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn start_on(scene: Scene, setup: Setup, mut say: impl FnMut(&str)) -> anyhow::Result<Self> {
        let (dir, temporary) = directory(setup.dir.clone())?;
        match Self::start_in(&dir, scene, &setup, &mut say).await {
            Ok(mut play) => {
                play.temporary = temporary;
                Ok(play)
            }
            Err(error) => {
                // What went wrong is in there.
                let empty = std::fs::read_dir(&dir).is_ok_and(|mut all| all.next().is_none());
                if empty {
                    return Err(error.context("the sandbox did not start"));
                }
                let kept = temporary.map_or(dir, tempfile::TempDir::keep);
                Err(error.context(format!(
                    "the sandbox did not start; everything is in {}",
                    kept.display()
                )))
            }
        }
    }

    async fn start_in(
        dir: &Path,
        scene: Scene,
        setup: &Setup,
        say: &mut impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        let Setup { real, bare, .. } = *setup;
        let keeper = Keeper::start()?;
        let stage = Stage {
            dir: dir.to_path_buf(),
            mesh: "default".into(),
            service: "checkout".into(),
            port: 8080,
            port_name: setup.port_name.clone(),
            keeper: keeper.clone(),
        };
        let ground = scene.ground();
        let mut cast: Box<dyn Cast> = if real {
            let zones = ground.backends().map(|(_, zone)| zone.to_owned()).to_vec();
            let real = Real::new(stage, Parts::find()?, zones)?;
            Box::new(match scene {
                Scene::Vms => real,
                Scene::WithCluster(binaries) => real.with_cluster(CLUSTER, binaries),
                Scene::WithDoubleCluster => bail!("real Kuma needs a real API server"),
            })
        } else {
            let double = Double::new(stage)?;
            Box::new(match scene {
                Scene::Vms => double,
                Scene::WithDoubleCluster => double.with_cluster(CLUSTER),
                Scene::WithCluster(_) => bail!("the double of Kuma needs the double of an API server"),
            })
        };
        let zones = cast.calling_zones();
        let (repository, first_commit) = Repository::create(&dir.join("repo"), &zones, ground)?;
        say(&format!(
            "coordinator, and {} of Kuma",
            if real { "the real parts" } else { "the double" }
        ));
        let coordinator = start_coordinator(dir, &keeper, &repository);
        let kuma = start_kuma(cast.as_mut(), &zones, ground);
        let (coordinator, kuma) = tokio::join!(coordinator, kuma);
        let kuma = match kuma {
            Ok(kuma) => kuma,
            Err(error) => return Err(with_casualties(error, cast.as_mut()).await),
        };
        let (coordinator, address, token) = coordinator?;
        write_env(dir, &address, &token)?;
        let viewer = Viewer::new(&address, &dir.join("coordinator/data/ca/ca.pem"), token)?;
        let callers = kuma
            .outbounds
            .iter()
            .map(|(zone, to)| (zone.clone(), Callers::start(to)));
        let mut play = Self {
            callers: callers.collect(),
            dir: dir.to_path_buf(),
            zones,
            repository,
            cast,
            global: kuma.global,
            parts: kuma.parts.clone(),
            address: address.clone(),
            viewer,
            first_commit,
            keeper,
            bare,
            coordinator,
            agents: BTreeMap::new(),
            _applications: kuma.applications,
            temporary: None,
        };
        // The first policy comes while requests are under way, as in every mesh that is in use.
        play.pace(GENTLE);
        say("an agent in each zone");
        for (zone, parts) in &kuma.parts {
            let joined = play.join(zone, &address, parts).await;
            if let Err(error) = joined {
                return Err(play.failed(error).await);
            }
        }
        if setup.port_name.is_some() {
            return Ok(play);
        }
        let first = play.first_commit.clone();
        if let Err(error) = play.proven(&first).await {
            return Err(play.failed(error).await);
        }
        say("every zone has proven the first commit");
        Ok(play)
    }

    /// Writes an agent's configuration, joins it with a token of its own and starts it.
    async fn join(&mut self, zone: &str, coordinator: &str, parts: &crate::ZoneParts) -> anyhow::Result<()> {
        let dir = self.dir.join("zones").join(zone).join("agent");
        std::fs::create_dir_all(&dir)?;
        let admin: Vec<String> = parts.envoy_admin.iter().map(|glob| format!("{glob:?}")).collect();
        let cluster = parts
            .kubeconfig
            .as_ref()
            .map(|file| format!("  kubernetes: {{kubeconfig: {:?}}}\n", file.display().to_string()));
        let config = format!(
            "zone: {zone}\nagent: {zone}-1\ncoordinator: {coordinator}\ndata: {}\nkuma:\n  api: {}\n  envoyAdmin: [{}]\n{}report: 1s\n",
            dir.join("data").display(),
            parts.api,
            admin.join(", "),
            cluster.unwrap_or_default()
        );
        let file = dir.join("agent.yaml");
        std::fs::write(&file, config)?;
        let token = self.dir.join("zones").join(zone).join("agent/token");
        let config = coordinator_config(&self.dir);
        let text = run(
            "weir-coordinator",
            &["token", "create", "--config", &config, "--zone", zone],
        )
        .await?;
        std::fs::write(&token, text)?;
        let (file, token) = (file.display().to_string(), token.display().to_string());
        run("weir-agent", &["join", "--config", &file, "--token-file", &token]).await?;
        self.start_agent(zone)
    }

    /// Starts a zone's agent (again).
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_agent(&mut self, zone: &str) -> anyhow::Result<()> {
        let name = format!("weir-agent-{zone}");
        let file = self.dir.join("zones").join(zone).join("agent/agent.yaml");
        let bare = self
            .bare
            .then(|| ("WEIR_TEST_BARE_POLICIES".to_owned(), OsString::from("1")));
        let program = if self.bare {
            find_program("weir-agent-bare").context(
                "bare policies need an agent of their own: `cargo build -p weir-agent --features bare-policies`",
            )?
        } else {
            find_program("weir-agent")?
        };
        let process = self.keeper.spawn(Start {
            program,
            args: ["run".into(), "--config".into(), file.into()].to_vec(),
            env: bare.into_iter().collect(),
            log: self.dir.join("logs").join(format!("{name}.log")),
            name,
        })?;
        self.agents.insert(zone.to_owned(), process);
        Ok(())
    }

    /// `kill -9` of a zone's agent.
    ///
    /// # Errors
    /// If there is none.
    pub async fn kill_agent(&mut self, zone: &str) -> anyhow::Result<()> {
        let agent = self.agents.get_mut(zone);
        agent
            .with_context(|| format!("there is no agent in {zone}"))?
            .kill()
            .await
    }

    /// `kill -9` of the coordinator.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator.kill().await
    }

    /// Starts the coordinator again, at its old address; returns when it answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn restart_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator = spawn_coordinator(&self.dir, &self.keeper)?;
        let viewer = self.viewer.clone();
        until("the coordinator", || async { viewer.splits().await.map(|_| ()) }).await
    }

    /// Tells the coordinator that there is something new in Git, as a webhook would.
    pub fn look(&self) {
        self.coordinator.hang_up();
    }

    /// Waits until every zone has proven this commit; how long that took.
    ///
    /// # Errors
    /// If it takes too long: with what is still missing.
    pub async fn proven(&self, commit: &str) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        loop {
            let missing = self.missing(commit).await;
            let Some(missing) = missing else {
                return Ok(begin.elapsed());
            };
            if begin.elapsed() > PATIENCE {
                bail!(
                    "commit {commit} is not proven after {} s: {missing}",
                    PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// From `at`, when it was made, to the last zone's proof of a commit: by the clock of the zones' own proofs, which are
    /// older than our seeing them. The ledger writes in batches: a proof that the status shows may not be in it yet.
    ///
    /// # Errors
    /// If the coordinator does not answer, or never writes down when the zones proved it.
    pub async fn commit_to_proof(&self, commit: &str, at: Timestamp) -> anyhow::Result<Duration> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let record = self.viewer.commit(commit).await?;
            let time =
                |zone: &String| -> Option<Timestamp> { record.as_ref()?.proven.get(zone)?.parse().ok() };
            let times: Option<Vec<Timestamp>> = self.zones.iter().map(time).collect();
            if let Some(last) = times.and_then(|all| all.into_iter().max()) {
                return Duration::try_from(last.duration_since(at))
                    .with_context(|| format!("commit {commit} was proven before it was made"));
            }
            if Instant::now() > end {
                bail!("the ledger does not say when every zone proved commit {commit}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the split is gone by this commit, and every zone is converged without it; how long that took.
    ///
    /// # Errors
    /// If it takes too long: with what is still there.
    pub async fn removed(&self, commit: &str) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        loop {
            let list = self.viewer.splits().await?;
            let taken = list.commits.values().next().map(String::as_str) == Some(commit);
            let zones = self.viewer.zones().await?.zones;
            let of = |name: &String| zones.iter().find(|zone| zone.name == *name);
            let left: Vec<String> = self
                .zones
                .iter()
                .filter(|name| {
                    !of(name).is_some_and(|zone| {
                        zone.standing == Standing::Converged && zone.generation == list.generation
                    })
                })
                .map(|name| {
                    let why = of(name).and_then(|zone| zone.reason.clone());
                    format!("{name}: {}", why.unwrap_or_else(|| "silent".into()))
                })
                .collect();
            if taken && list.splits.is_empty() && left.is_empty() {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                bail!(
                    "commit {commit} has not removed the split after {} s: {}",
                    PATIENCE.as_secs(),
                    left.join("; ")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is missing until this commit is proven everywhere; none if nothing is.
    async fn missing(&self, commit: &str) -> Option<String> {
        let list = match self.viewer.splits().await {
            Ok(list) => list,
            Err(error) => return Some(format!("{error:#}")),
        };
        if list.commits.values().next().map(String::as_str) != Some(commit) {
            return Some(
                list.notice
                    .unwrap_or_else(|| "the coordinator has not taken it".into()),
            );
        }
        let Some(split) = list.splits.iter().find(|s| s.name == SPLIT) else {
            return Some(format!("there is no split `{SPLIT}`"));
        };
        let of = |zone: &String| split.zones.iter().find(|z| z.zone == *zone);
        let not = |zone: &&String| !of(zone).is_some_and(|z| proven(split, z));
        let why = |zone: &String| {
            let state = of(zone).map(|z| {
                format!(
                    "{:?} at generation {}: {}",
                    z.standing,
                    z.generation,
                    z.reason.clone().unwrap_or_default()
                )
            });
            format!("{zone} is {}", state.unwrap_or_else(|| "silent".into()))
        };
        let open: Vec<String> = self.zones.iter().filter(not).map(why).collect();
        (!open.is_empty()).then(|| format!("generation {}: {}", split.generation, open.join("; ")))
    }

    /// Sets the pace of all callers.
    pub fn pace(&self, pace: Pace) {
        for callers in self.callers.values() {
            callers.pace(pace);
        }
    }

    /// An error with all that may explain it: who ended, and the ends of the logs. Ends the play, keeps its directory.
    pub async fn failed(mut self, error: anyhow::Error) -> anyhow::Error {
        let mut told = String::new();
        for process in std::iter::once(&mut self.coordinator).chain(self.agents.values_mut()) {
            let state = process
                .ended()
                .map_or("runs".to_owned(), |status| format!("ended ({status})"));
            told += &format!(
                "\n--- {} {state}; its log ends:\n{}\n",
                process.name(),
                process.tail(15)
            );
        }
        for casualty in self.cast.casualties() {
            told += &format!("\n--- {casualty}\n");
        }
        let dir = self.dir.clone();
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
        self.stop().await;
        error.context(format!("{told}\neverything is kept in {}", dir.display()))
    }

    /// Ends everything: callers, agents, coordinator, Kuma; proxies last.
    pub async fn stop(mut self) {
        self.pace(Pace::Stopped);
        let patience = Duration::from_secs(3);
        let ending = self.agents.values_mut().chain([&mut self.coordinator]);
        // One that is gone already is what was wanted.
        futures::future::join_all(ending.map(|p| p.stop(patience))).await;
        self.cast.stop().await;
    }
}

/// What the cast gave.
struct Kuma {
    global: Option<String>,
    parts: BTreeMap<String, crate::ZoneParts>,
    outbounds: BTreeMap<String, Vec<crate::Outbound>>,
    applications: Vec<Application>,
}

async fn start_kuma(cast: &mut dyn Cast, zones: &[String], ground: Ground) -> anyhow::Result<Kuma> {
    let mut kuma = Kuma {
        global: cast.start_global().await?.api,
        parts: BTreeMap::new(),
        outbounds: BTreeMap::new(),
        applications: Vec::new(),
    };
    for zone in zones {
        kuma.parts.insert(zone.clone(), cast.start_zone(zone).await?);
    }
    for (backend, zone) in ground.backends() {
        let application = Application::start(backend).await?;
        cast.start_backend(zone, application.address).await?;
        kuma.applications.push(application);
    }
    for zone in zones {
        kuma.outbounds
            .insert(zone.clone(), cast.start_caller(zone).await?);
    }
    cast.settled(&ground.backends().map(|(_, zone)| zone.to_owned()))
        .await?;
    Ok(kuma)
}

async fn with_casualties(error: anyhow::Error, cast: &mut dyn Cast) -> anyhow::Error {
    let casualties = cast.casualties();
    cast.stop().await;
    if casualties.is_empty() {
        error
    } else {
        error.context(casualties.join("\n"))
    }
}

fn coordinator_config(dir: &Path) -> String {
    dir.join("coordinator/coordinator.yaml").display().to_string()
}

/// Starts the coordinator: process, address, a viewer's token.
async fn start_coordinator(
    dir: &Path,
    keeper: &Keeper,
    repository: &Repository,
) -> anyhow::Result<(Process, String, String)> {
    let home = dir.join("coordinator");
    std::fs::create_dir_all(&home)?;
    let port = free_port()?;
    let config = format!(
        "federation: sandbox\nlisten: 127.0.0.1:{port}\nnames: [localhost, 127.0.0.1]\ndata: {}\nsources:\n  - name: main\n    \
         url: {}\n    branch: {}\n    path: traffic\n    poll: 1s\nstale: 15s\n",
        home.join("data").display(),
        repository.dir().display(),
        crate::repository::BRANCH,
    );
    let file = coordinator_config(dir);
    std::fs::write(&file, config)?;
    let process = spawn_coordinator(dir, keeper)?;
    let address = format!("https://127.0.0.1:{port}");
    let listening = home.join("data/listen");
    let there = until("the coordinator", || async {
        if !listening.exists() {
            bail!("it does not listen");
        }
        Ok(())
    });
    if let Err(error) = there.await {
        return Err(error.context(format!("its log ends:\n{}", process.tail(20))));
    }
    let token = run(
        "weir-coordinator",
        &["token", "create", "--config", &file, "--viewer", "sandbox"],
    )
    .await?;
    Ok((process, address, token.trim().to_owned()))
}

/// What a person's shell needs to ask this coordinator with `weir`: `. weir.env`.
fn write_env(dir: &Path, address: &str, token: &str) -> anyhow::Result<()> {
    let viewer = dir.join("viewer-token");
    std::fs::write(&viewer, token)?;
    let mut text = format!(
        "export WEIR_COORDINATOR='{address}'\nexport WEIR_TOKEN_FILE='{}'\nexport WEIR_CA='{}'\n",
        viewer.display(),
        dir.join("coordinator/data/ca/ca.pem").display()
    );
    // Whoever has `weir` elsewhere finds it there.
    if let Ok(weir) = find_program("weir")
        && let Some(programs) = weir.parent()
    {
        text += &format!("export PATH='{}':\"$PATH\"\n", programs.display());
    }
    std::fs::write(dir.join(ENV), text)?;
    Ok(())
}

fn spawn_coordinator(dir: &Path, keeper: &Keeper) -> anyhow::Result<Process> {
    keeper.spawn(Start {
        name: "weir-coordinator".into(),
        program: find_program("weir-coordinator")?,
        args: ["serve".into(), "--config".into(), coordinator_config(dir).into()].to_vec(),
        env: Vec::new(),
        log: dir.join("logs/weir-coordinator.log"),
    })
}

/// Runs one of Weir's programs to its end; its standard output.
async fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(find_program(program)?);
    let output = command.args(args).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}\n{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn directory(given: Option<PathBuf>) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match given {
        None => {
            let temporary = tempfile::Builder::new().prefix("weir-sandbox-").tempdir()?;
            Ok((temporary.path().to_path_buf(), Some(temporary)))
        }
        Some(dir) => {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            if std::fs::read_dir(&dir)?.next().is_some() {
                bail!(
                    "{} is not empty: name a new directory with --dir, or leave it out",
                    dir.display()
                );
            }
            Ok((std::fs::canonicalize(&dir)?, None))
        }
    }
}
