//! The zone's gateways: what each is to run, brought there, read back. A task of its own beside the loop, and each gateway by
//! itself in it, so that a Kong that does not answer holds up neither a plan of the mesh nor another gateway.
//!
//! It is told by the loop what is in force in the zone ([`Wanted`], in `wanted`), and tells it how each door stands ([`Told`]). What
//! it decides is in `decide`, what it gives before the mesh has it in `ahead`, and what not, for Kong takes it for dead, in `alive`; what it remembers outlives a restart ([`Memory`]),
//! but for what Kong did not accept ([`Refusals`]); what a turn came to is in `concluded`.

mod ahead;
mod alive;
mod concluded;
mod decide;
mod found;
mod memory;
mod naming;
mod pace;
mod refusals;
mod resting;
mod shared;
mod told;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use weir_drivers::dns::Names;
use weir_drivers::kong::{Became, Bringing, GatewayDriver as _, Kong, Pins, bring};
use weir_drivers::{Clock, DriverError};
use weir_link::backoff;
use weir_model::{GatewayName, SplitName};
use weir_planner::{Generation, Proof, Verdict};
use weir_render::kong::Document;

use crate::counting::Counters;
use crate::store::Store;
use concluded::{conclude, concluded, concluded_by_split, failed, note, read_back};
use decide::decide_but;
pub use decide::{Decided, decide, names};
use found::Found;
pub use memory::{Memory, Posted};
pub use pace::Pace;
pub use refusals::{FIRST, Refusal, Refusals};
use resting::Resting;
pub use shared::Shared;
use shared::{All, lock};
use told::Part;
pub use told::{Door, Told};
pub use wanted::{Link, Wanted};

/// How it is decided what a gateway is to run: by what Kong did not accept, by what was found there of which nothing was remembered, and
/// where these splits wait, for these reasons.
type Deciding<'a> = &'a (dyn Fn(&Refusals, Option<&Found>, &BTreeMap<SplitName, String>) -> Decided + Sync);

/// Where what is remembered of gateways outlives a restart: the agent's [`Store`] in every program.
pub trait Keep: Send + Sync {
    /// Keeps it.
    ///
    /// # Errors
    /// What the file system says.
    fn keep(&self, memory: &Memory) -> io::Result<()>;
}

impl Keep for Store {
    fn keep(&self, memory: &Memory) -> io::Result<()> {
        self.keep_gateways(memory)
    }
}

/// The task.
pub struct Gateways {
    /// Hands and eyes, by gateway.
    pub drivers: BTreeMap<GatewayName, Arc<Kong>>,
    /// Who looks names up.
    pub names: Arc<dyn Names>,
    /// Where its memory is kept.
    pub store: Arc<dyn Keep>,
    /// What time it is.
    pub clock: Clock,
    /// How long after it was not accepted something is tried again at first.
    pub again: Duration,
    /// What requests are counted by, of those gateways where that is chosen.
    pub counters: Counters,
    want: watch::Receiver<Option<Arc<Wanted>>>,
    tell: watch::Sender<Arc<Told>>,
}

/// One gateway in one turn.
#[derive(Clone, Copy)]
struct At<'a> {
    name: &'a GatewayName,
    driver: &'a Kong,
    /// Splits that go ahead of the mesh.
    ahead: &'a BTreeSet<SplitName>,
    /// Splits that go back to what the zone had before.
    back: &'a BTreeSet<SplitName>,
    /// What was given there before; none if nothing is remembered.
    posted: Option<&'a Posted>,
    /// The generation of the whole plan.
    plan: Generation,
    /// Nodes that are left alone, and what became of them last.
    left: &'a BTreeMap<String, DriverError>,
    /// What is known of pins.
    pins: &'a Pins,
    /// Something newer is wanted.
    overtaken: &'a CancellationToken,
}

impl<'a> At<'a> {
    fn by(
        self,
        decided: &'a Decided,
        refused: &'a BTreeSet<String>,
        skip: &'a BTreeMap<String, String>,
    ) -> Bringing<'a> {
        Bringing {
            plan: self.plan,
            posted: &decided.own,
            absent: &decided.absent,
            refused,
            skip,
            left: self.left,
            back: self.back,
            pins: self.pins,
            overtaken: self.overtaken,
        }
    }
}

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// All doors of the gateway are as they are wanted.
    pub settled: bool,
    /// What is wanted there, as a text: another text, another configuration.
    pub wants: Option<String>,
    /// The API server of a controller's gateway failed, and asks to be left alone for so long: for no time, if it does not say.
    pub failed: Option<Duration>,
    /// So long until the first may be asked again of those nodes that are left alone because they failed.
    pub due: Option<Duration>,
}

impl Gateways {
    /// The task and the loop's end.
    pub fn new(
        drivers: BTreeMap<GatewayName, Arc<Kong>>,
        names: Arc<dyn Names>,
        store: impl Keep + 'static,
    ) -> (Self, Link) {
        let (want, wanted) = watch::channel(None);
        let (tell, told) = watch::channel(Arc::new(Told::default()));
        let drives = drivers.keys().cloned().collect();
        let task = Self {
            drivers,
            names,
            store: Arc::new(store),
            clock: Instant::now,
            again: refusals::FIRST,
            counters: Counters::new(),
            want: wanted,
            tell,
        };
        (task, Link { want, told, drives })
    }

    /// Runs until stopped. Stopping changes nothing at any gateway.
    pub async fn run(self, memory: Memory, stop: CancellationToken) {
        if self.drivers.is_empty() {
            return stop.cancelled().await;
        }
        let shared = Shared::new(memory);
        let gateways = self.drivers.keys();
        let gateways = gateways.map(|name| self.gateway(name, &shared, &stop));
        // In tasks of their own: to read a large post takes a while, and a revert is not behind it.
        let counting = self.counters.values().cloned().map(|counter| {
            let stop = stop.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { counter.listen(&stop).await }))
        });
        let _counting: Vec<_> = counting.collect();
        join_all(gateways).await;
    }

    /// One gateway, until stopped.
    async fn gateway(&self, name: &GatewayName, shared: &Shared, stop: &CancellationToken) {
        let mut want = self.want.clone();
        let mut refusals = Refusals::new(self.again);
        let mut pace = Pace::new(Instant::now());
        loop {
            let wanted = want.borrow_and_update().clone();
            let mut turned = Turned {
                settled: true,
                wants: None,
                failed: None,
                due: None,
            };
            if let Some(wanted) = wanted {
                let became = self
                    .turn(name, (&wanted, want.clone()), shared, &mut refusals)
                    .await;
                let Some(became) = became else {
                    pace.wanted(Instant::now());
                    continue;
                };
                turned = became;
                self.tell.send_replace(Arc::new(shared.told()));
            }
            let wait = pace.after(turned, Instant::now(), backoff::random());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                more = want.changed() => {
                    if more.is_err() { return }
                    pace.wanted(Instant::now());
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One turn at a gateway that this agent drives: looks at it, brings it to what is wanted, and reads it back. None if something
    /// newer is wanted before it ended, which `newer` tells.
    pub async fn turn(
        &self,
        name: &GatewayName,
        (wanted, newer): (&Wanted, watch::Receiver<Option<Arc<Wanted>>>),
        shared: &Shared,
        refusals: &mut Refusals,
    ) -> Option<Turned> {
        let driver = self.drivers.get(name)?;
        let (part, mut turned) = self
            .looked((name, driver), (wanted, newer), shared, refusals)
            .await?;
        turned.settled = part.is_exact();
        lock(shared).parts.insert(name.clone(), part);
        Some(turned)
    }

    async fn looked(
        &self,
        (name, driver): (&GatewayName, &Kong),
        (wanted, mut newer): (&Wanted, watch::Receiver<Option<Arc<Wanted>>>),
        shared: &Shared,
        refusals: &mut Refusals,
    ) -> Option<(Part, Turned)> {
        let plan = &wanted.plan;
        let Some(planned) = plan.gateways.get(name) else {
            let nothing = Turned {
                settled: false,
                wants: None,
                failed: None,
                due: None,
            };
            return Some((Part::undeclared(name), nothing));
        };
        let mut part = Part {
            gateway: Some(planned.digest),
            ..Part::default()
        };
        let posted = lock(shared).memory.posted.get(name).cloned();
        let answers = self.looked_up(name, (wanted, newer.clone()), shared, posted.as_ref());
        let answers = answers.await?;
        part.notes.extend(
            answers
                .troubles
                .iter()
                .map(|why| format!("gateway {name}: {why}")),
        );
        let counter = self.counters.get(name);
        let what = |refusals: &Refusals, found: Option<&Found>, waits: &BTreeMap<SplitName, String>| {
            let counting = counter.map(|counter| counter.counting());
            let with = found.map(|found| {
                let mut posted = posted.clone().unwrap_or_default();
                posted.items.extend(found.clone());
                posted
            });
            decide_but(
                wanted,
                name,
                with.as_ref().or(posted.as_ref()),
                &answers.addresses,
                refusals,
                (counting, waits),
            )
        };
        let overtaken = CancellationToken::new();
        // A node that does not answer must not hold up what is wanted by now, which may be a revert.
        let newer = async {
            // Without anybody who could want something else this waits for nothing.
            if newer.changed().await.is_ok() {
                overtaken.cancel();
            }
            std::future::pending::<Infallible>().await
        };
        let left = {
            let resting = &mut lock(shared).resting;
            let resting = resting.entry(name.clone()).or_default();
            resting.wanted(wanted.of(name));
            resting.now((self.clock)())
        };
        let followed = posted.as_ref().map(|posted| posted.followed.clone());
        let pins = Pins::new(
            wanted.sight.clone(),
            &lock(shared).pins,
            followed.unwrap_or_default(),
            self.clock,
        );
        let at = At {
            name,
            driver,
            ahead: &wanted.ahead,
            back: &wanted.back,
            posted: posted.as_ref(),
            plan: plan.generation,
            left: &left,
            pins: &pins,
            overtaken: &overtaken,
        };
        // What is newer is heard of first, or which of both is would be a matter of chance.
        let (decided, became, proofs) = tokio::select! {
            biased;
            never = newer => match never {},
            all = self.work(at, &what, shared, refusals) => all,
        };
        let mut shared = lock(shared);
        let resting = shared.resting.entry(name.clone()).or_default();
        resting.note(&became.nodes, &left, (self.clock)());
        let due = resting.next((self.clock)());
        let memory = &mut shared.memory;
        concluded(name, &decided, &became.nodes, memory, (refusals, (self.clock)()));
        concluded_by_split(name, &decided, &became, memory);
        let counting = counter.map(|counter| read_back(name, counter, &decided, &became, &proofs));
        conclude(name, &decided, &became, proofs, &mut part);
        if let (Some(counter), Some(counted)) = (counter, &counting) {
            part.counting(name, counter, (&decided.wanted, counted));
        }
        self.keep(&mut shared);
        if overtaken.is_cancelled() {
            // What was told last is of before, and says so; this is of nothing.
            return None;
        }
        let by_split = decided.is_by_split().then(|| {
            let digests = decided.items.values().map(|item| item.digest);
            format!("{:?}", digests.collect::<Vec<_>>())
        });
        let turned = Turned {
            settled: false,
            failed: decided.routes.as_ref().and_then(|_| failed(&became)),
            wants: decided.document.map(|document| document.hash).or(by_split),
            due,
        };
        Some((part, turned))
    }

    /// Brings a gateway to what is decided, and reads it back.
    async fn work(
        &self,
        at: At<'_>,
        decide: Deciding<'_>,
        shared: &Shared,
        refusals: &mut Refusals,
    ) -> (Decided, Became, BTreeMap<SplitName, Proof>) {
        let standing = refusals.without_due((self.clock)());
        if let Some(standing) = standing {
            let decided = alive::decided(at, decide, &standing).await;
            self.try_again(at, &decided, shared, refusals).await;
        }
        let decided = alive::decided(at, decide, refusals).await;
        self.is_coming(at, &decided, shared);
        if let Some(entities) = &decided.entities {
            let nobody = BTreeMap::new();
            let became = at
                .driver
                .db
                .bring(entities, at.by(&decided, &BTreeSet::new(), &nobody))
                .await;
            let proofs = at
                .overtaken
                .run_until_cancelled(at.driver.db.prove_but(entities, at.left));
            let proofs = proofs.await.unwrap_or_default();
            return (decided, became, proofs);
        }
        if let Some(routes) = &decided.routes {
            let Some(kic) = &at.driver.kic else {
                let why = "Kong Ingress Controller runs this gateway, and this agent's configuration names no cluster \
                           (kuma.kubernetes)";
                let decided = Decided {
                    held: Some(why.to_owned()),
                    routes: None,
                    ..decided
                };
                return (decided, Became::default(), BTreeMap::new());
            };
            let nobody = BTreeMap::new();
            let became = kic
                .bring(routes, at.by(&decided, &BTreeSet::new(), &nobody))
                .await;
            let proofs = at.overtaken.run_until_cancelled(kic.prove(routes));
            let proofs = proofs.await.unwrap_or_default();
            return (decided, became, proofs);
        }
        let Some(document) = &decided.document else {
            return (decided, Became::default(), BTreeMap::new());
        };
        self.is_own(at, &decided, document, shared);
        let skip = refusals.of(&document.hash).map(|refusal| refusal.nodes.clone());
        let (hashes, skip) = (refusals.hashes(), skip.unwrap_or_default());
        let mut became = Became {
            nodes: bring(&at.driver.dbless, document, at.by(&decided, &hashes, &skip)).await,
            ..Became::default()
        };
        let proofs = at
            .overtaken
            .run_until_cancelled(at.driver.dbless.prove_but(document, at.left));
        let proofs = proofs.await.unwrap_or_default();
        // Where shares are still on their way that is not asked: whoever waits for them waits for no more than that.
        let exact = proofs.iter().filter(|(_, proof)| proof.verdict == Verdict::Exact);
        let exact: BTreeSet<SplitName> = exact.map(|(split, _)| split.clone()).collect();
        let dead = at.driver.dbless.dead_in(document, at.left, &exact);
        let dead = at.overtaken.run_until_cancelled(dead).await;
        became.dead = dead.unwrap_or_default();
        (decided, became, proofs)
    }

    /// What it is time to try again is tried where it was not accepted, and nowhere else.
    async fn try_again(&self, at: At<'_>, decided: &Decided, shared: &Shared, refusals: &mut Refusals) {
        let Some(document) = &decided.document else { return };
        let now = (self.clock)();
        if document.counted.values().any(Result::is_ok) {
            refusals.counting_is_in(&document.hash, now);
        }
        refusals.forget_unmade(&document.hash, now);
        let Some(refusal) = refusals.of(&document.hash) else {
            return;
        };
        self.is_coming(at, decided, shared);
        self.is_own(at, decided, document, shared);
        let nodes = at.driver.dbless.nodes().into_iter();
        let others = nodes.filter(|node| !refusal.nodes.contains_key(node));
        let skip = others.map(|node| (node, "it accepted this".to_owned())).collect();
        let hashes = refusals.hashes();
        let tried = bring(&at.driver.dbless, document, at.by(decided, &hashes, &skip)).await;
        note(&tried, &document.hash, refusals, (self.clock)());
    }

    /// Before anything is brought: whoever ends before he hears what became of it must not take back what went ahead of the mesh
    /// by it.
    fn is_coming(&self, at: At<'_>, decided: &Decided, shared: &Shared) {
        let mut shared = lock(shared);
        let posted = shared.memory.posted.get(at.name);
        let given = |split: &SplitName| posted.and_then(|posted| posted.items.get(split));
        let ahead = decided.items.iter();
        let ahead = ahead.filter(|(split, item)| at.ahead.contains(*split) && given(split) != Some(*item));
        let coming: BTreeMap<_, _> = ahead
            .map(|(split, item)| (split.clone(), Arc::clone(item)))
            .collect();
        if !coming.is_empty() {
            let posted = shared.memory.posted.entry(at.name.clone()).or_default();
            posted.coming.extend(coming);
            self.keep(&mut shared);
        }
    }

    /// Before it is posted: whatever happens then, what this agent did is known to be its own.
    fn is_own(&self, at: At<'_>, decided: &Decided, document: &Document, shared: &Shared) {
        let mut shared = lock(shared);
        let posted = shared.memory.posted.entry(at.name.clone()).or_default();
        match decided.pins.values().all(|pin| at.pins.is_own(pin)) {
            true => posted.may_be(&document.hash),
            false => posted.may_be_followed(&document.hash),
        }
        // In one write: of what is known to be this agent's own it is known what it carries, or a full disk could keep the one alone.
        posted.may_carry(decided);
        // Whoever ends before he hears what became of the first one must know whether there is a base to be left in its place.
        if posted.base.is_none() && posted.first.is_none() {
            posted.first.clone_from(&decided.base);
        }
        self.keep(&mut shared);
    }

    fn keep(&self, shared: &mut All) {
        if shared.on_disk.as_ref() == Some(&shared.memory) {
            return;
        }
        match self.store.keep(&shared.memory) {
            Ok(()) => shared.on_disk = Some(shared.memory.clone()),
            Err(error) => tracing::error!(
                %error,
                "what was posted to gateways cannot be kept on disk; make room, or mend the data directory"
            ),
        }
    }
}
