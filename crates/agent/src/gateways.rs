//! The zone's gateways: what each is to run, brought there, read back. A task of its own beside the loop, and each gateway by
//! itself in it, so that a Kong that does not answer holds up neither a plan of the mesh nor another gateway.
//!
//! It is told by the loop what is in force in the zone ([`Wanted`]), and tells it how each door stands ([`Told`]). What it
//! decides is in `decide`; what it remembers outlives a restart ([`Memory`]), but for what Kong did not accept ([`Refusals`]).

mod decide;
mod memory;
mod refusals;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_drivers::dns::Names;
use weir_drivers::kong::{Became, Bringing, Brought, GatewayDriver as _, Kong, bring};
use weir_model::{GatewayName, SplitName};
use weir_planner::{Generation, Item, Proof, ZonePlan};
use weir_render::kong::Document;

use crate::store::Store;
use crate::take::Memory as Taken;
pub use decide::{Decided, decide, names};
pub use memory::{Memory, Posted};
pub use refusals::{Refusal, Refusals};
use told::Part;
pub use told::{Door, Told};

/// Right after something changed: whoever committed waits.
const QUICK: Duration = Duration::from_millis(150);
/// After so long without proof, haste helps nobody.
const HASTE: Duration = Duration::from_secs(10);
/// While something is not as it should be.
const SOON: Duration = Duration::from_secs(1);
/// When all is proven.
const CALM: Duration = Duration::from_secs(5);

/// What the zone's gateways are to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The plan that is held.
    pub plan: Arc<ZonePlan>,
    /// What is in force of each split, as it is driven: with pins and fallbacks. The mesh has it already: a split that the
    /// zone's control plane holds back is held at its gateways as well, so that both doors give the same share.
    pub items: BTreeMap<SplitName, Arc<Item>>,
}

impl Wanted {
    /// From a plan and what was taken of it.
    pub fn new(plan: &Arc<ZonePlan>, memory: &Taken) -> Self {
        let in_force = plan.items.keys().filter_map(|split| memory.applied.get(split));
        let items = in_force.map(|item| (item.split.clone(), crate::fallback::driven(item, memory)));
        Self {
            plan: Arc::clone(plan),
            items: items.collect(),
        }
    }
}

/// The loop's end of it.
#[derive(Debug)]
pub struct Link {
    /// What is wanted; none before the first plan.
    pub want: watch::Sender<Option<Arc<Wanted>>>,
    /// How it stands.
    pub told: watch::Receiver<Arc<Told>>,
    /// The gateways that this agent drives.
    pub drives: BTreeSet<GatewayName>,
}

/// The task.
pub struct Gateways {
    /// Hands and eyes, by gateway.
    pub drivers: BTreeMap<GatewayName, Arc<Kong>>,
    /// Who looks names up.
    pub names: Arc<dyn Names>,
    /// Where its memory is kept.
    pub store: Store,
    /// How long after it was not accepted something is tried again at first.
    pub again: Duration,
    want: watch::Receiver<Option<Arc<Wanted>>>,
    tell: watch::Sender<Arc<Told>>,
}

/// One gateway in one turn.
#[derive(Clone, Copy)]
struct At<'a> {
    name: &'a GatewayName,
    driver: &'a Kong,
    /// The generation of the whole plan.
    plan: Generation,
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
            overtaken: self.overtaken,
        }
    }
}

/// What the gateways of one agent share.
struct Shared {
    memory: Memory,
    /// The memory as it is on disk.
    on_disk: Option<Memory>,
    parts: BTreeMap<GatewayName, Part>,
}

impl Gateways {
    /// The task and the loop's end.
    pub fn new(
        drivers: BTreeMap<GatewayName, Arc<Kong>>,
        names: Arc<dyn Names>,
        store: Store,
    ) -> (Self, Link) {
        let (want, wanted) = watch::channel(None);
        let (tell, told) = watch::channel(Arc::new(Told::default()));
        let drives = drivers.keys().cloned().collect();
        let task = Self {
            drivers,
            names,
            store,
            again: refusals::FIRST,
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
        let shared = Mutex::new(Shared {
            memory,
            on_disk: None,
            parts: BTreeMap::new(),
        });
        let gateways = self.drivers.iter();
        let gateways = gateways.map(|(name, driver)| self.gateway(name, driver, &shared, &stop));
        join_all(gateways).await;
    }

    /// One gateway, until stopped.
    async fn gateway(
        &self,
        name: &GatewayName,
        driver: &Kong,
        shared: &Mutex<Shared>,
        stop: &CancellationToken,
    ) {
        let mut want = self.want.clone();
        let mut refusals = Refusals::new(self.again);
        let mut changed = Instant::now();
        let mut was = None;
        loop {
            let wanted = want.borrow_and_update().clone();
            let mut settled = true;
            if let Some(wanted) = wanted {
                let turned = self
                    .turn((name, driver), (&wanted, want.clone()), shared, &mut refusals)
                    .await;
                let Some((part, wants)) = turned else {
                    continue;
                };
                settled = part.is_exact();
                if wants != was {
                    changed = Instant::now();
                    was = wants;
                }
                let mut shared = lock(shared);
                shared.parts.insert(name.clone(), part);
                self.tell.send_replace(Arc::new(Told::of(&shared.parts)));
            }
            let wait = match settled {
                true => CALM,
                false if changed.elapsed() < HASTE => QUICK,
                false => SOON,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                more = want.changed() => {
                    if more.is_err() { return }
                    changed = Instant::now();
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks at a gateway, brings it to what is wanted, and reads it back. Also the hash of what is wanted. None if
    /// something newer is wanted before it ended.
    async fn turn(
        &self,
        (name, driver): (&GatewayName, &Kong),
        (wanted, mut newer): (&Wanted, watch::Receiver<Option<Arc<Wanted>>>),
        shared: &Mutex<Shared>,
        refusals: &mut Refusals,
    ) -> Option<(Part, Option<String>)> {
        let plan = &wanted.plan;
        let Some(planned) = plan.gateways.get(name) else {
            return Some((Part::undeclared(name), None));
        };
        let mut part = Part {
            gateway: Some(planned.digest),
            ..Part::default()
        };
        let (posted, before, all) = {
            let memory = &lock(shared).memory;
            // Those of all gateways: whoever looks names up forgets what nobody asks for.
            let all = self.drivers.keys();
            let all = all.flat_map(|gateway| names(wanted, gateway, memory.posted.get(gateway)));
            let all: BTreeSet<String> = all.collect();
            (memory.posted.get(name).cloned(), memory.resolved.clone(), all)
        };
        let answers = self.names.resolve(&all, &before).await;
        part.notes.extend(
            answers
                .troubles
                .iter()
                .map(|why| format!("gateway {name}: {why}")),
        );
        {
            let memory = &mut lock(shared).memory;
            memory.resolved.retain(|name, _| all.contains(name));
            memory.resolved.extend(answers.addresses.clone());
        }
        let what = |refusals: &Refusals| decide(wanted, name, posted.as_ref(), &answers.addresses, refusals);
        let overtaken = CancellationToken::new();
        // A node that does not answer must not hold up what is wanted by now, which may be a revert.
        let newer = async {
            // Without anybody who could want something else this waits for nothing.
            if newer.changed().await.is_ok() {
                overtaken.cancel();
            }
            std::future::pending::<Infallible>().await
        };
        let at = At {
            name,
            driver,
            plan: plan.generation,
            overtaken: &overtaken,
        };
        let (decided, became, proofs) = tokio::select! {
            all = self.work(at, &what, shared, refusals) => all,
            never = newer => match never {},
        };
        let mut shared = lock(shared);
        let memory = &mut shared.memory;
        concluded(name, &decided, &became.nodes, memory, (refusals, Instant::now()));
        concluded_in_database(name, &decided, &became, memory);
        conclude(name, &decided, &became, proofs, memory, &mut part);
        self.keep(&mut shared);
        if overtaken.is_cancelled() {
            // What was told last is of before, and says so; this is of nothing.
            return None;
        }
        let in_database = decided.entities.is_some().then(|| {
            let digests = decided.items.values().map(|item| item.digest);
            format!("{:?}", digests.collect::<Vec<_>>())
        });
        let wants = decided.document.map(|document| document.hash).or(in_database);
        Some((part, wants))
    }

    /// Brings a gateway to what is decided, and reads it back.
    async fn work(
        &self,
        at: At<'_>,
        decide: &(dyn Fn(&Refusals) -> Decided + Sync),
        shared: &Mutex<Shared>,
        refusals: &mut Refusals,
    ) -> (Decided, Became, BTreeMap<SplitName, Proof>) {
        let standing = refusals.without_due(Instant::now());
        if let Some(standing) = standing {
            self.try_again(at, &decide(&standing), shared, refusals).await;
        }
        let decided = decide(refusals);
        if let Some(entities) = &decided.entities {
            let nobody = BTreeMap::new();
            let became = at
                .driver
                .db
                .bring(entities, at.by(&decided, &BTreeSet::new(), &nobody))
                .await;
            let proofs = at.overtaken.run_until_cancelled(at.driver.db.prove(entities));
            let proofs = proofs.await.unwrap_or_default();
            return (decided, became, proofs);
        }
        let Some(document) = &decided.document else {
            return (decided, Became::default(), BTreeMap::new());
        };
        self.is_own(at.name, document, shared);
        let skip = refusals.of(&document.hash).map(|refusal| refusal.nodes.clone());
        let (hashes, skip) = (refusals.hashes(), skip.unwrap_or_default());
        let became = Became {
            nodes: bring(&at.driver.dbless, document, at.by(&decided, &hashes, &skip)).await,
            ..Became::default()
        };
        let proofs = at.overtaken.run_until_cancelled(at.driver.dbless.prove(document));
        let proofs = proofs.await.unwrap_or_default();
        (decided, became, proofs)
    }

    /// What it is time to try again is tried where it was not accepted, and nowhere else.
    async fn try_again(
        &self,
        at: At<'_>,
        decided: &Decided,
        shared: &Mutex<Shared>,
        refusals: &mut Refusals,
    ) {
        let Some(document) = &decided.document else { return };
        let Some(refusal) = refusals.of(&document.hash) else {
            return;
        };
        self.is_own(at.name, document, shared);
        let nodes = at.driver.dbless.nodes().into_iter();
        let others = nodes.filter(|node| !refusal.nodes.contains_key(node));
        let skip = others.map(|node| (node, "it accepted this".to_owned())).collect();
        let hashes = refusals.hashes();
        let tried = bring(&at.driver.dbless, document, at.by(decided, &hashes, &skip)).await;
        note(&tried, &document.hash, refusals, Instant::now());
    }

    /// Before it is posted: whatever happens then, what this agent did is known to be its own.
    fn is_own(&self, name: &GatewayName, document: &Document, shared: &Mutex<Shared>) {
        let mut shared = lock(shared);
        let posted = shared.memory.posted.entry(name.clone()).or_default();
        posted.may_be(&document.hash);
        self.keep(&mut shared);
    }

    fn keep(&self, shared: &mut Shared) {
        if shared.on_disk.as_ref() == Some(&shared.memory) {
            return;
        }
        match self.store.keep_gateways(&shared.memory) {
            Ok(()) => shared.on_disk = Some(shared.memory.clone()),
            Err(error) => tracing::error!(
                %error,
                "what was posted to gateways cannot be kept on disk; make room, or mend the data directory"
            ),
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who accepted a document, and who did not.
fn note(brought: &BTreeMap<String, Brought>, hash: &str, refusals: &mut Refusals, now: Instant) {
    for (node, became) in brought {
        match became {
            Brought::Refused(error, what) => refusals.note(node, hash, &error.why, what, now),
            Brought::There | Brought::Posted => refusals.accepted(node, hash),
            Brought::Held(_) | Brought::Failed(_) => {}
        }
    }
}

/// What is remembered of what became of one gateway.
fn concluded(
    name: &GatewayName,
    decided: &Decided,
    brought: &BTreeMap<String, Brought>,
    memory: &mut Memory,
    (refusals, now): (&mut Refusals, Instant),
) {
    let (Some(document), Some(base)) = (&decided.document, &decided.base) else {
        return;
    };
    let mut refused = false;
    note(brought, &document.hash, refusals, now);
    for (node, became) in brought {
        match became {
            Brought::Refused(error, _) => {
                refused = true;
                tracing::warn!(gateway = %name, node, %error, "the gateway does not accept its configuration");
            }
            Brought::Posted => {
                tracing::info!(gateway = %name, node, "the gateway was given its configuration");
            }
            _ => {}
        }
    }
    let runs = |became: &Brought| matches!(became, Brought::There | Brought::Posted);
    // What one node does not accept is nothing to go back to, though another one did.
    if !refused && brought.values().any(runs) {
        let posted = memory.posted.entry(name.clone()).or_default();
        posted.is(&document.hash, decided.items.clone(), base);
    }
}

/// What is remembered of what became of one gateway with a database: what was not touched of a split is what it was before.
fn concluded_in_database(name: &GatewayName, decided: &Decided, became: &Became, memory: &mut Memory) {
    let (Some(_), Some(base)) = (&decided.entities, &decided.base) else {
        return;
    };
    let mut any = false;
    for (node, became) in &became.nodes {
        any |= matches!(became, Brought::There | Brought::Posted);
        if matches!(became, Brought::Posted) {
            tracing::info!(gateway = %name, node, "the gateway's database was written to");
        }
    }
    if !any {
        return;
    }
    let posted = memory.posted.entry(name.clone()).or_default();
    let mut items = decided.items.clone();
    for split in became.splits.keys() {
        match posted.items.get(split) {
            Some(before) => drop(items.insert(split.clone(), Arc::clone(before))),
            None => drop(items.remove(split)),
        }
    }
    posted.items = items;
    posted.base = Some(Arc::clone(base));
}

/// What became of one gateway, as doors of its splits.
fn conclude(
    name: &GatewayName,
    decided: &Decided,
    became: &Became,
    mut proofs: BTreeMap<SplitName, Proof>,
    memory: &Memory,
    part: &mut Part,
) {
    let mut held = Vec::new();
    for (node, became) in &became.nodes {
        match became {
            Brought::There | Brought::Posted => {}
            Brought::Held(why) => held.push(format!("{node}: {why}")),
            Brought::Failed(error) | Brought::Refused(error, _) => {
                part.notes
                    .push(format!("gateway {name}, {error}; {}", error.help));
            }
        }
    }
    for (split, why) in &became.splits {
        if !decided.wanted.contains_key(split) {
            part.notes.push(format!("gateway {name}: split {split}: {why}"));
        }
    }
    part.notes
        .extend(became.notes.iter().map(|note| format!("gateway {name}: {note}")));
    let gone = memory
        .posted
        .get(name)
        .is_some_and(|posted| !posted.items.is_empty());
    let nothing = decided.document.is_none() && decided.entities.is_none();
    if nothing && decided.held.is_none() && decided.wanted.is_empty() && gone {
        part.notes.push(format!(
            "gateway {name}: its last split is gone and it has no base, and an empty document is never posted: it runs on as it \
             was; declare a base, or empty it by hand"
        ));
    }
    let notes = decided.notes.iter().chain(&decided.base_held);
    part.notes
        .extend(notes.map(|note| format!("gateway {name}: {note}")));
    let all_held = (decided.held.clone())
        .or_else(|| (!held.is_empty()).then(|| held.join("; ")))
        .or_else(|| decided.base_held.clone());
    for (split, item) in &decided.wanted {
        let held = decided.split_held.get(split).or(became.splits.get(split));
        let held = held.or(all_held.as_ref()).cloned();
        let read = proofs.remove(split);
        let proof = read.or_else(|| (!nothing).then(told::unread));
        part.doors.insert(split.clone(), Door::of(item, held, proof));
    }
}
