//! A zone that answers at once, and an agent's loop in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_agent::conclude::not_seen;
use weir_agent::current::Current;
use weir_agent::gateways::Link;
use weir_agent::run::Loop;
use weir_agent::store::Store;
use weir_drivers::{DriverError, Fault, Observed, Outcome, Sighting, ZoneDriver};
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    Counts, Coverage, Destination, Digest, Evidence, Fallback, Generation, Item, ItemRoute, PlanId, Proof,
    Refuge, ServiceFact, ServiceState, Verdict, ZonePlan, anchor, item_digest,
};
use weir_render::{Held, Object, Options, Step};
use weir_wire::{Offered, Term};

pub(crate) fn federation() -> FederationName {
    FederationName::new("shop").unwrap()
}

pub(crate) fn zone() -> ZoneName {
    ZoneName::new("fra").unwrap()
}

/// A plan of one split, all to one backend in fra or ams.
pub(crate) fn plan(generation: u64, to: &str) -> ZonePlan {
    let split = SplitName::new("checkout").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let backend = |zone: &str| BackendName::new(format!("in-{zone}")).unwrap();
    let mut item = Item {
        anchor: anchor(&federation(), &split),
        split: split.clone(),
        zone: zone(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service: service.clone(),
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        destinations: ["fra", "ams"]
            .map(|at| {
                let destination = Destination {
                    zone: ZoneName::new(at).unwrap(),
                    kuma_zone: DnsLabel::new(at).unwrap(),
                    namespace: None,
                    service: service.clone(),
                    port: 8080,
                };
                (backend(at), destination)
            })
            .into(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BTreeMap::from([(backend(to), BasisPoints::WHOLE)]),
        }],
        fallback: [].into(),
        doors: [].into(),
        generation: Generation(generation),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    item.digest = item_digest(&item);
    let mut id = [0; 32];
    id[0] = u8::try_from(generation).unwrap();
    ZonePlan {
        federation: federation(),
        zone: zone(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        plan: PlanId(id),
        generation: Generation(generation),
        commits: Vec::new(),
        gateways: [].into(),
        items: BTreeMap::from([(split, Arc::new(item))]),
    }
}

/// The same, with a fallback declared for where the requests go.
pub(crate) fn with_fallback(mut plan: ZonePlan) -> ZonePlan {
    for item in plan.items.values_mut() {
        let item = Arc::make_mut(item);
        let [to, other] = ["in-fra", "in-ams"].map(|name| BackendName::new(name).unwrap());
        let refuge = Refuge {
            backend: other,
            capacity: None,
        };
        let fallback = Fallback {
            to: vec![refuge],
            after: SignedDuration::from_secs(1),
            recover: SignedDuration::from_secs(60),
        };
        item.fallback = [(to, fallback)].into();
        item.digest = item_digest(item);
    }
    plan
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) store: Vec<Object>,
    /// Zones whose `checkout` resolves.
    pub(crate) resolves: BTreeSet<&'static str>,
    /// Those of them that Kuma calls Unavailable.
    pub(crate) unavailable: BTreeSet<&'static str>,
    pub(crate) instance: u32,
    pub(crate) away: bool,
    /// The control plane answers, and does not have the mesh.
    pub(crate) mesh_gone: bool,
    /// Whole policies, by generation.
    pub(crate) puts: Vec<(u64, Instant)>,
    /// Every step: what, and when.
    pub(crate) steps: Vec<(&'static str, Instant)>,
    /// What proxies run of a lone anchor.
    pub(crate) sighting: Sighting,
    pub(crate) observed: Vec<Instant>,
    /// Nothing can be removed.
    pub(crate) keeps: bool,
    /// Whether its callers tell nothing of what they counted, and do not say so either; until that ends.
    pub(crate) mute: watch::Sender<bool>,
}

impl Fake {
    fn services(&self) -> Result<Vec<ServiceFact>, DriverError> {
        if self.away {
            return Err(away());
        }
        if self.mesh_gone {
            return Err(DriverError::new(
                "GET meshes/default/meshservices",
                "the control plane does not have this mesh",
                Fault::MeshGone,
                "make it on the global one",
            ));
        }
        let service = |zone: &&str| ServiceFact {
            service: ServiceName::new("checkout").unwrap(),
            kuma_zone: DnsLabel::new(*zone).unwrap(),
            namespace: None,
            ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
            port_names: [].into(),
            state: match self.unavailable.contains(zone) {
                true => ServiceState::Unavailable,
                false => ServiceState::Available,
            },
            way: weir_planner::Way::Unknown,
        };
        Ok(self.resolves.iter().map(service).collect())
    }
}

fn generation_of(object: &Object) -> Generation {
    Generation(object.labels["weir.dev/generation"].parse().unwrap())
}

struct Driver(Arc<Mutex<Fake>>);

pub(crate) fn away() -> DriverError {
    DriverError::new("GET /", "connection refused", Fault::Away, String::new())
}

impl ZoneDriver for Driver {
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>> {
        let fake = self.0.lock().unwrap();
        let answer = if fake.away {
            Err(away())
        } else {
            Ok(fake.instance.to_string())
        };
        async { answer }.boxed()
    }

    fn observe<'a>(
        &'a self,
        _: &'a MeshName,
        _: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>> {
        let mut fake = self.0.lock().unwrap();
        fake.observed.push(Instant::now());
        let answer = fake.services().map(|services| Observed {
            kuma: Some("2.14.3".to_owned()),
            instance: Some(fake.instance.to_string()),
            services,
            ours: fake
                .store
                .iter()
                .map(|object| (object.clone(), generation_of(object)))
                .collect(),
            second_writers: BTreeMap::new(),
            ..Observed::default()
        });
        async { answer }.boxed()
    }

    fn services<'a>(
        &'a self,
        _: &'a MeshName,
        _: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Option<Result<Vec<ServiceFact>, DriverError>>> {
        let answer = self.0.lock().unwrap().services();
        async { Some(answer) }.boxed()
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        let mut fake = self.0.lock().unwrap();
        let what = match step {
            Step::Put { .. } => "put",
            Step::Introduce { .. } => "introduce",
            Step::Withdraw { .. } => "withdraw",
            Step::Delete { .. } => "delete",
        };
        // As a driver: what is newer is left alone, but for a pin.
        if let Step::Put {
            object, generation, ..
        } = step
            && let Some(live) = fake.store.iter().find(|live| live.name == object.name)
            && generation_of(live) > *generation
            && object.pinned().is_none()
        {
            return async { Ok(Outcome::Yielded("newer".to_owned())) }.boxed();
        }
        fake.steps.push((what, Instant::now()));
        match step {
            Step::Put {
                object, generation, ..
            } => {
                fake.store = vec![object.clone()];
                fake.puts.push((generation.0, Instant::now()));
            }
            Step::Introduce { object, .. } | Step::Withdraw { object, .. } => {
                fake.store = vec![object.clone()];
            }
            Step::Delete { .. } if fake.keeps => {
                let refused = DriverError::new("DELETE weir-checkout", "403", Fault::Setup, String::new());
                return async { Err(refused) }.boxed();
            }
            Step::Delete { .. } => fake.store.clear(),
        }
        async { Ok(Outcome::Done { at: Timestamp::now() }) }.boxed()
    }

    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        let proof = Proof {
            verdict: Verdict::Exact,
            evidence: Evidence::Live,
            at: Timestamp::now(),
            coverage: Coverage { seen: 1, of: 1 },
            weights: None,
            unhealthy: BTreeSet::new(),
        };
        let proofs = vec![proof; items.len()];
        async { proofs }.boxed()
    }

    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        let sighting = self.0.lock().unwrap().sighting;
        let all = vec![sighting; anchors.len()];
        async { all }.boxed()
    }

    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        let none = vec![None; items.len()];
        let mut mute = self.0.lock().unwrap().mute.subscribe();
        async move {
            mute.wait_for(|mute| !mute).await.unwrap();
            none
        }
        .boxed()
    }
}

pub(crate) struct Running {
    pub(crate) fake: Arc<Mutex<Fake>>,
    /// Plans of a coordinator without terms.
    pub(crate) offers: mpsc::Sender<ZonePlan>,
    pub(crate) in_terms: mpsc::Sender<Offered>,
    pub(crate) now: mpsc::Sender<()>,
    pub(crate) current: watch::Receiver<Arc<Current>>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

/// Takes plans and offers them in no term.
fn termless(to: mpsc::Sender<Offered>) -> mpsc::Sender<ZonePlan> {
    let (offers, mut plans) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(plan) = plans.recv().await {
            let term = Term::NONE;
            if to.send(Offered { term, plan }).await.is_err() {
                return;
            }
        }
    });
    offers
}

impl Running {
    pub(crate) fn start(dir: &TempDir, fake: &Arc<Mutex<Fake>>) -> Self {
        Self::with_gateways(dir, fake, None)
    }

    /// One that drives gateways as well: what it tells them is at the other end of the link.
    pub(crate) fn with_gateways(dir: &TempDir, fake: &Arc<Mutex<Fake>>, gateways: Option<Link>) -> Self {
        let store = Store::new(dir.path());
        let kept = store.load(&federation(), &zone()).unwrap();
        let (in_terms, receive) = mpsc::channel(4);
        let offers = termless(in_terms.clone());
        let (now, hangups) = mpsc::channel(1);
        let first = Current {
            plan: kept.plan.clone().map(Arc::new),
            facts: not_seen(&zone(), kept.plan.as_ref(), &kept.memory, None, Timestamp::now()),
            notes: Vec::new(),
            refused: None,
            term: kept.memory.term,
        };
        let (tell, current) = watch::channel(Arc::new(first));
        let work = Loop {
            federation: federation(),
            zone: zone(),
            driver: Arc::new(Driver(Arc::clone(fake))),
            store,
            options: Options { anchored: true },
            offers: receive,
            now: hangups,
            tell,
            gateways,
        };
        let stop = CancellationToken::new();
        Self {
            fake: Arc::clone(fake),
            offers,
            in_terms,
            now,
            current,
            task: tokio::spawn(work.run(kept, stop.clone())),
            stop,
        }
    }

    /// Lets the paused clock run: it moves on only when all that is under way waits for it, so that nothing is passed over.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) fn puts(&self) -> Vec<u64> {
        self.fake
            .lock()
            .unwrap()
            .puts
            .iter()
            .map(|(generation, _)| *generation)
            .collect()
    }

    pub(crate) fn steps(&self) -> Vec<&'static str> {
        self.fake
            .lock()
            .unwrap()
            .steps
            .iter()
            .map(|(what, _)| *what)
            .collect()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn fake() -> Arc<Mutex<Fake>> {
    Arc::new(Mutex::new(Fake {
        resolves: BTreeSet::from(["fra", "ams"]),
        unavailable: BTreeSet::new(),
        sighting: Sighting {
            held: Some(Held::Alone),
            complete: true,
        },
        ..Fake::default()
    }))
}
