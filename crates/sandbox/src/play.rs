//! The play: everything of a federation started in order, below one directory, and ended without a trace of a process.
//!
//! `repo/` the Git repository, `coordinator/`, `zones/<zone>/`, `logs/`. The coordinator and the agents are the very
//! programs that people install; they do not know who plays Kuma.

pub mod edge;
mod programs;
mod setup;
mod waiting;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cast::{Cast, Stage};
use crate::command::Place;
use crate::coordinator::Viewer;
use crate::process::{Keeper, Process};
use crate::repository::{BACKENDS, CLUSTER, Channel, Edge, Ground, Repository};
use crate::traffic::{Application, Callers, Pace};
use programs::{start_coordinator, write_env};
pub use setup::{Scene, Setup, Stores};

/// How long a start or a change may take before it is called failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two requests of one caller while a change is under way: some hundred a second and zone, as when the losses of
/// bare policies were measured.
pub const GENTLE: Pace = Pace::Gentle(Duration::from_millis(5));

/// The file, in the sandbox's directory, that lets a shell's `weir` ask its coordinator.
pub const ENV: &str = "weir.env";

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
    /// The gateways, with their callers.
    pub gateways: Vec<edge::Gateway>,
    /// The first commit.
    pub first_commit: String,
    keeper: Keeper,
    bare: bool,
    coordinator: Process,
    agents: BTreeMap<String, Process>,
    applications: Applications,
    temporary: Option<tempfile::TempDir>,
}

impl Play {
    /// Starts what a command's line asks for, with agents that write bare policies or not, and tells of it on standard error.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn at(place: Place, bare: bool, gateways: bool) -> anyhow::Result<Self> {
        let setup = Setup {
            bare,
            gateways,
            ..Setup::default()
        };
        Self::with(place, setup).await
    }

    /// Starts what a command's line asks for, and tells of it on standard error.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn with(place: Place, setup: Setup) -> anyhow::Result<Self> {
        let mut say = |text: &str| {
            // Nobody is left to tell if this fails.
            let _ = writeln!(anstream::stderr(), "{text} ...");
        };
        let scene = Scene::choose(place.real, place.universal, &mut say);
        let setup = Setup {
            dir: place.dir,
            real: place.real,
            ..setup
        };
        Self::start_on(scene, setup, &mut say).await
    }

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
        let (channels, definition) = match setup.gateways {
            true => channels(&scene, &mut *say)?,
            false => Default::default(),
        };
        let mut cast = scene.cast(stage, setup)?;
        let zones = cast.calling_zones();
        let applications = start_applications(ground).await?;
        let mut gateways = Vec::new();
        for channel in channels {
            let edge = match channel {
                Channel::WithoutDatabase | Channel::WithDatabase => {
                    edge::declared(channel, BACKENDS[0].1, &applications)
                }
                Channel::Controller => edge::declared(channel, CLUSTER, &applications),
                Channel::InMesh => edge::in_mesh(BACKENDS[0].1)?,
            };
            gateways.push(edge::Gateway::start(edge).await?);
        }
        let declared: Vec<Edge> = gateways.iter().map(|gateway| gateway.edge.clone()).collect();
        let sidecars = declared
            .iter()
            .filter_map(|edge| Some((edge.zone.clone(), edge.sidecar?)));
        let sidecars: Vec<(String, SocketAddr)> = sidecars.collect();
        let (repository, first_commit) = Repository::create(&dir.join("repo"), &zones, ground, declared)?;
        say(&format!(
            "coordinator, and {} of Kuma",
            if real { "the real parts" } else { "the double" }
        ));
        let coordinator = start_coordinator(dir, &keeper, &repository);
        let kuma = start_kuma(cast.as_mut(), &zones, &sidecars, (ground, applications));
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
            gateways,
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
            applications: kuma.applications,
            temporary: None,
        };
        if let Err(error) = play.in_cluster(definition).await {
            return Err(play.failed(error).await);
        }
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
        play.open();
        say("every zone has proven the first commit");
        Ok(play)
    }

    /// What gateways of the cluster need there.
    async fn in_cluster(&mut self, definition: Option<Vec<Value>>) -> anyhow::Result<()> {
        let Some(server) = self.cast.cluster_admin() else {
            return Ok(());
        };
        if let Some(definition) = definition {
            server.define(&definition).await?;
        }
        for gateway in &mut self.gateways {
            if gateway.edge.channel == Channel::Controller {
                gateway.in_cluster(&server).await?;
            }
        }
        Ok(())
    }

    /// Lets callers through the doors that are Weir's own: the split is there.
    pub fn open(&mut self) {
        for gateway in self.gateways.iter_mut().filter(|gateway| !gateway.open) {
            gateway.open = true;
            gateway.pace(GENTLE);
        }
    }

    /// Keeps callers from the doors that go with the split; returns when none is on the way.
    pub async fn close(&mut self) {
        let own = |gateway: &&mut edge::Gateway| !gateway.edge.channel.is_the_sites();
        for gateway in self.gateways.iter_mut().filter(own) {
            gateway.open = false;
            gateway.callers.rest().await;
        }
    }

    /// Ends a backend's application, with all its connections; its proxy lives on.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn end_application(&mut self, backend: &str) -> anyhow::Result<()> {
        let slot = self.applications.get_mut(backend);
        slot.context("no such backend")?.1 = None;
        Ok(())
    }

    /// Starts it again, where it was.
    ///
    /// # Errors
    /// If there is none of that name, or its port is taken.
    pub async fn begin_application(&mut self, backend: &str) -> anyhow::Result<()> {
        let slot = self.applications.get_mut(backend).context("no such backend")?;
        slot.1 = Some(Application::start_at(backend, slot.0).await?);
        Ok(())
    }

    /// From now on a backend's application takes so long for each answer.
    ///
    /// # Errors
    /// If there is none of that name, or it has ended.
    pub fn slow_application(&mut self, backend: &str, time: Duration) -> anyhow::Result<()> {
        let slot = self.applications.get(backend).context("no such backend")?;
        slot.1.as_ref().context("it has ended")?.take(time);
        Ok(())
    }

    /// Sets the pace of all callers.
    pub fn pace(&self, pace: Pace) {
        for callers in self.callers.values() {
            callers.pace(pace);
        }
        for gateway in &self.gateways {
            gateway.pace(pace);
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

/// How the play's gateways are configured, and what a real API server has to be told for that.
fn channels(scene: &Scene, say: &mut impl FnMut(&str)) -> anyhow::Result<(Vec<Channel>, Option<Vec<Value>>)> {
    let mut channels = vec![Channel::WithoutDatabase, Channel::WithDatabase, Channel::InMesh];
    let definition = match scene {
        Scene::Vms => return Ok((channels, None)),
        Scene::WithDoubleCluster => None,
        Scene::WithCluster(_) => match edge::definition()? {
            None => {
                say("no gateway in the cluster: the definitions of Gateway API are not in WEIR_GATEWAY_API");
                return Ok((channels, None));
            }
            some => some,
        },
    };
    channels.push(Channel::Controller);
    Ok((channels, definition))
}

/// What the cast gave.
struct Kuma {
    global: Option<String>,
    parts: BTreeMap<String, crate::ZoneParts>,
    outbounds: BTreeMap<String, Vec<crate::Outbound>>,
    applications: Applications,
}

/// Where each backend's application is, and the application while it is there.
type Applications = BTreeMap<String, (std::net::SocketAddr, Option<Application>)>;

async fn start_applications(ground: Ground) -> anyhow::Result<Applications> {
    let mut applications = Applications::new();
    for (backend, _) in ground.backends() {
        let application = Application::start(backend).await?;
        let slot = (application.address, Some(application));
        applications.insert(backend.to_owned(), slot);
    }
    Ok(applications)
}

async fn start_kuma(
    cast: &mut dyn Cast,
    zones: &[String],
    sidecars: &[(String, SocketAddr)],
    (ground, applications): (Ground, Applications),
) -> anyhow::Result<Kuma> {
    let mut kuma = Kuma {
        global: cast.start_global().await?.api,
        parts: BTreeMap::new(),
        outbounds: BTreeMap::new(),
        applications,
    };
    for zone in zones {
        kuma.parts.insert(zone.clone(), cast.start_zone(zone).await?);
    }
    for (backend, zone) in ground.backends() {
        if let Some((address, _)) = kuma.applications.get(backend) {
            cast.start_backend(zone, *address).await?;
        }
    }
    for zone in zones {
        kuma.outbounds
            .insert(zone.clone(), cast.start_caller(zone).await?);
    }
    for (zone, outbound) in sidecars {
        cast.start_gateway(zone, *outbound).await?;
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
