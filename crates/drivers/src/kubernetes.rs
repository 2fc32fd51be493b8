//! Kuma on Kubernetes: policies through the API server by server-side apply, evidence through the zone's own control plane.
//!
//! `access` and `credential` say which cluster and as whom; `call` speaks to the API server and `meaning` sorts what goes
//! wrong; `watch` keeps what was listed and watched, with its age; `observe` and `apply` give meaning to objects. What the
//! proxies do is for `kuma::witness`, as on VMs. No retry: the next activation is the retry.

pub(crate) mod access;
mod apply;
pub(crate) mod call;
mod config;
mod credential;
pub(crate) mod hand;
pub(crate) mod listing;
pub(crate) mod meaning;
mod metrics;
pub(crate) mod objects;
mod observe;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use weir_model::{DnsLabel, MeshName};
use weir_planner::{Counts, Item, Proof};
use weir_render::{Object, Step};

use crate::kuma::Seen;
use crate::kuma::apply::{Work, of};
use crate::kuma::observe::{is_own, root};
use crate::kuma::rest::Rest;
use crate::kuma::ways::PATIENCE;
use crate::kuma::witness::Witness;
use crate::{DriverError, Fault, Observed, Outcome, Sighting, ZoneDriver};
use access::Access;
pub use access::Cluster;
use apply::Writer;
use call::ApiServer;
pub use config::{KubernetesConfig, KumaRest, Metrics, system_namespace};
use credential::Credential;
use metrics::Scraper;
use objects::{MeshService, MeshZoneAddress, Namespace, Route, ZoneIngress};
use observe::Read;
use watch::{Bell, Watched};

/// How long a connection to the API server may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// So long is waited for more changes after the first.
const SWARM: Duration = Duration::from_millis(100);

/// A process of Kuma's control plane that did not answer for so long is forgotten.
const REPLICA: Duration = Duration::from_secs(3600);

/// Under this name Weir owns fields. It never changes: another name would conflict with all that was written under it.
pub const MANAGER: &str = "weir";

/// One cluster: its API server, its control plane, and the proxies that can be read.
pub struct KumaKubernetes {
    server: Arc<ApiServer>,
    writer: Writer,
    rest: Option<Arc<Rest>>,
    witness: Witness,
    scraper: Option<Scraper>,
    seen: Seen,
    bell: Arc<Bell>,
    watches: OnceLock<Watches>,
    /// The next observation has to ask.
    anew: AtomicBool,
    memory: Mutex<Memory>,
    timeout: Duration,
}

/// What is kept of the cluster.
struct Watches {
    services: Watched<MeshService>,
    http: Watched<Route<false>>,
    tcp: Watched<Route<true>>,
    namespaces: Watched<Namespace>,
    ingresses: Watched<ZoneIngress>,
    addresses: Watched<MeshZoneAddress>,
}

/// A process of a control plane.
#[derive(Debug, Clone, Copy)]
struct Instance {
    heard: Instant,
    /// Whether it is known to be this zone's.
    own: bool,
}

#[derive(Default)]
struct Memory {
    /// What a person should know of the cluster, as of the last observation.
    notes: Vec<String>,
    /// And of what is counted.
    uncounted: Option<String>,
    /// The newest process of Kuma's control plane, as far as any answered.
    instance: String,
    /// The processes that answered lately: several replicas may be behind one address.
    instances: BTreeMap<String, Instance>,
    /// How far the bell had rung when the cluster was last observed.
    heard: u64,
}

impl Memory {
    /// Takes note of who answered. One that answers for the first time may be a control plane that was restarted; another
    /// replica behind the same address is that once, and not each time that it has its turn.
    fn heard(&mut self, instance: &str) {
        let now = Instant::now();
        self.instances
            .retain(|_, known| now.duration_since(known.heard) < REPLICA);
        let is_new = !self.instances.contains_key(instance);
        let known = self.instances.entry(instance.to_owned());
        known
            .or_insert(Instance {
                heard: now,
                own: false,
            })
            .heard = now;
        if is_new {
            instance.clone_into(&mut self.instance);
        }
    }
}

impl KumaKubernetes {
    /// Checks the configuration, and reads the kubeconfig; nothing is dialled. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KubernetesConfig) -> Result<Self, DriverError> {
        let access = Access::open(&config.cluster, CONNECT.min(config.timeout))?;
        let server = ApiServer::new(access.client, access.credential, access.server);
        Self::assemble(config, server)
    }

    /// The same over a client of somebody else's making, which also says who we are.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn over(config: KubernetesConfig, client: kube::Client) -> Result<Self, DriverError> {
        let server = ApiServer::new(client, Credential::Certificate, "the API server".to_owned());
        Self::assemble(config, server)
    }

    fn assemble(config: KubernetesConfig, server: ApiServer) -> Result<Self, DriverError> {
        let rest = match config.rest {
            Some(rest) => Some(Arc::new(Rest::new(&rest.api, rest.token_file, config.timeout)?)),
            None => None,
        };
        Ok(Self {
            server: Arc::new(server),
            writer: Writer::new(
                config.federation,
                config.system_namespace,
                config.take_back,
                config.timeout,
            ),
            witness: Witness::new(&config.envoy_admin, rest.clone(), config.sampled, config.spent)?,
            rest,
            scraper: config.metrics.map(Scraper::new).transpose()?,
            seen: Seen::default(),
            bell: Arc::new(Bell::new()),
            watches: OnceLock::new(),
            anew: AtomicBool::new(false),
            memory: Mutex::default(),
            timeout: config.timeout,
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each field is replaced as a whole.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self) -> &Watches {
        self.watches.get_or_init(|| {
            let server = || Arc::clone(&self.server);
            let bell = || Arc::clone(&self.bell);
            Watches {
                services: Watched::start(
                    server(),
                    "/apis/kuma.io/v1alpha1/meshservices",
                    self.timeout,
                    bell(),
                ),
                http: Watched::start(
                    server(),
                    "/apis/kuma.io/v1alpha1/meshhttproutes",
                    self.timeout,
                    bell(),
                ),
                tcp: Watched::start(
                    server(),
                    "/apis/kuma.io/v1alpha1/meshtcproutes",
                    self.timeout,
                    bell(),
                ),
                namespaces: Watched::start(server(), "/api/v1/namespaces", self.timeout, bell()),
                ingresses: Watched::start(
                    server(),
                    "/apis/kuma.io/v1alpha1/zoneingresses",
                    self.timeout,
                    bell(),
                ),
                addresses: Watched::start(
                    server(),
                    "/apis/kuma.io/v1alpha1/meshzoneaddresses",
                    self.timeout,
                    bell(),
                ),
            }
        })
    }

    async fn beat(&self) -> Result<String, DriverError> {
        let watches = self.watches();
        let is_alive = watches.services.is_fresh() && watches.http.is_fresh() && watches.tcp.is_fresh();
        if !is_alive {
            let version = self.server.get("/version", self.timeout).await?;
            if version.get("gitVersion").is_none() {
                let why = "what answers /version is no API server";
                return Err(meaning::strange("GET /version", self.server.name(), why));
            }
        }
        if let Some(rest) = &self.rest
            && let Ok(root) = root(rest).await
        {
            // While it is away its last name stands: what counts is whether another process comes back.
            self.memory().heard(&root.instance);
        }
        Ok(self.memory().instance.clone())
    }

    async fn look(&self, mesh: &MeshName, items: &[Arc<Item>]) -> Result<Observed, DriverError> {
        let anew = self.anew.swap(false, Ordering::Relaxed);
        // Before anything is read: what changes from here on is a reason to look again.
        let heard = *self.bell.listen().borrow();
        let watches = self.watches();
        let (services, http, tcp, namespaces, ingresses, addresses, kuma) = tokio::join!(
            watches.services.read(anew),
            watches.http.read(anew),
            watches.tcp.read(anew),
            watches.namespaces.read(anew),
            soon(watches.ingresses.read(anew)),
            soon(watches.addresses.read(anew)),
            async {
                match &self.rest {
                    Some(rest) => Some(root(rest).await),
                    None => None,
                }
            },
        );
        let ((services, a), (http, b), (tcp, c)) = (services?, http?, tcp?);
        let ways = [ingresses.as_ref().err(), addresses.as_ref().err()];
        let unknown = ways.into_iter().flatten().next().map(|why| {
            format!(
                "whether other zones can be reached is not known, and nothing is held for it: {why}; rbac.yaml gives the right \
                 to list and watch zoneingresses and meshzoneaddresses of kuma.io"
            )
        });
        let read = Read {
            services,
            http,
            tcp,
            ingresses: ingresses.ok().map(|(all, _)| all),
            addresses: addresses.ok().map(|(all, _)| all),
        };
        if let Some(item) = items.first() {
            let (system, zone) = (&self.writer.namespace, &item.kuma_zone);
            observe::own_cluster(&read, self.server.name(), system, zone)?;
            if let Some(Ok(root)) = &kuma {
                self.own_evidence(mesh, zone, &root.instance).await?;
            }
        }
        let form = self.writer.form();
        let (mut observed, written) = observe::observed(&read, &self.writer.federation, &form, mesh, items);
        observed.age = a.max(b).max(c);
        let mut notes = match namespaces {
            Ok((namespaces, _)) => observe::notes(&namespaces, &self.writer.namespace, items),
            Err(error) => vec![format!("the labels of namespaces are not known: {error}")],
        };
        notes.extend(unknown);
        match kuma {
            Some(Ok(root)) => observed.kuma = root.version,
            Some(Err(error)) => notes.push(format!(
                "Kuma's control plane cannot be asked for evidence: {error}"
            )),
            None => {}
        }
        let watches = [
            watches.services.obstacle(),
            watches.http.obstacle(),
            watches.tcp.obstacle(),
        ];
        if let Some(error) = watches.into_iter().flatten().next() {
            notes.push(format!(
                "the cluster cannot be watched, and is listed each time: {error}"
            ));
        }
        self.witness.observed(items, &written, &observed.services).await;
        self.seen.remember(&observed.ours);
        let mut memory = self.memory();
        for note in notes.iter().filter(|note| !memory.notes.contains(note)) {
            tracing::warn!("{note}");
        }
        memory.notes = notes;
        memory.heard = heard;
        drop(memory);
        Ok(observed)
    }

    /// Refuses evidence of another zone: what its proxies run proves nothing here. Asked once for each process that answers.
    async fn own_evidence(
        &self,
        mesh: &MeshName,
        zone: &DnsLabel,
        instance: &str,
    ) -> Result<(), DriverError> {
        let Some(rest) = &self.rest else { return Ok(()) };
        if self
            .memory()
            .instances
            .get(instance)
            .is_some_and(|known| known.own)
        {
            return Ok(());
        }
        match is_own(rest, mesh, zone).await {
            Ok(true) => {
                let mut memory = self.memory();
                memory.heard(instance);
                if let Some(known) = memory.instances.get_mut(instance) {
                    known.own = true;
                }
            }
            Ok(false) => {}
            Err(error) if error.fault == Fault::Setup => return Err(error),
            // It went away meanwhile; so will its evidence.
            Err(error) => tracing::debug!(%error, "whose control plane it is cannot be told"),
        }
        Ok(())
    }

    async fn tally(&self, items: &[Arc<Item>]) -> Vec<Option<Counts>> {
        let Some(scraper) = &self.scraper else {
            return self.witness.count(items).await;
        };
        let (readings, uncounted) = match self.witness.callers(items).await {
            Some(callers) => {
                let callers = callers.into_iter().map(|caller| (caller.name, caller.address));
                scraper.read(&callers.collect::<Vec<_>>()).await
            }
            None => {
                let why = "nothing is counted: which proxies are callers is not known without Kuma's control plane \
                           (kuma.api)";
                (Vec::new(), Some(why.to_owned()))
            }
        };
        self.memory().uncounted = uncounted;
        self.witness.count_zone(items, &readings)
    }
}

/// What holds nothing up that could do without: what was read, if that does not take long.
async fn soon<T>(read: impl Future<Output = Result<T, DriverError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the API server did not list them within {PATIENCE:?}")),
    }
}

impl ZoneDriver for KumaKubernetes {
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>> {
        self.beat().boxed()
    }

    fn observe<'a>(
        &'a self,
        mesh: &'a MeshName,
        items: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>> {
        self.look(mesh, items).boxed()
    }

    fn look_again(&self) {
        self.anew.store(true, Ordering::Relaxed);
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let heard = self.memory().heard;
        let mut bell = self.bell.listen();
        async move {
            // The bell lives as long as this driver.
            let rang = bell.wait_for(|rung| *rung != heard).await.is_ok();
            if !rang {
                std::future::pending::<()>().await;
            }
            // Changes come in swarms: a rollout is one reason, not a hundred.
            tokio::time::sleep(SWARM).await;
        }
        .boxed()
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        async move {
            match of(step) {
                Work::Write(write) => self.writer.put(&self.server, &write).await,
                Work::Remove { kind, mesh, name } => {
                    let seen = self.seen.of(kind, name);
                    self.writer.delete(&self.server, kind, mesh, name, seen).await
                }
            }
        }
        .boxed()
    }

    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        self.witness.prove(items).boxed()
    }

    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        self.witness.sight(anchors).boxed()
    }

    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        self.tally(items).boxed()
    }

    fn watch_every(&self) -> Duration {
        // A page of metrics is some hundred KB, and there may be a hundred of them.
        if self.scraper.is_some() {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(250)
        }
    }

    fn notes(&self) -> Vec<String> {
        let memory = self.memory();
        let mut notes = memory.notes.clone();
        notes.extend(memory.uncounted.clone());
        drop(memory);
        notes.extend(self.witness.notes());
        notes
    }
}
