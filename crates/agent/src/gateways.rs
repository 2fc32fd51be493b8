//! The zone's gateways: what each is to run, brought there, read back. A task of its own beside the loop, so that a Kong that
//! does not answer holds up no plan of the mesh.
//!
//! It is told by the loop what is in force in the zone ([`Wanted`]), and tells it how each door stands ([`Told`]). What it
//! decides is in `decide`; what it remembers outlives a restart ([`Memory`]).

mod decide;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_drivers::dns::Names;
use weir_drivers::kong::{Brought, GatewayDriver, bring};
use weir_model::{GatewayName, SplitName};
use weir_planner::{
    Coverage, Digest, DoorFact, Evidence, Generation, Item, ItemState, Proof, Verdict, ZoneFacts, ZonePlan,
};

use crate::store::Store;
use crate::take::Memory as Taken;
pub use decide::{Decided, decide, names};
pub use memory::{Memory, Posted};

/// Right after something changed: whoever committed waits.
const QUICK: Duration = Duration::from_millis(150);
/// After so long without proof, haste helps nobody.
const HASTE: Duration = Duration::from_secs(10);
/// While something is not as it should be.
const SOON: Duration = Duration::from_secs(1);
/// When all is proven.
const CALM: Duration = Duration::from_secs(5);

/// What was read of a gateway longer ago than this is not known any more: a look of all its nodes takes less.
const OLD: SignedDuration = SignedDuration::from_secs(60);

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

/// How the doors stand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// By split.
    pub doors: BTreeMap<SplitName, Doors>,
    /// The content of each gateway's plan that this was read by: a door says nothing of a newer base.
    pub gateways: BTreeMap<GatewayName, Digest>,
    /// What a person should know and no proof says.
    pub notes: Vec<String>,
}

/// The doors of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Doors {
    /// Of which item.
    pub generation: Generation,
    /// Of which content.
    pub digest: Digest,
    /// By gateway.
    pub doors: BTreeMap<GatewayName, DoorFact>,
}

impl Told {
    /// Puts the doors to the facts of the zone. An item is not proven while one of its doors here is not.
    /// What was read too long before `now` is not known any more.
    pub fn complete(
        &self,
        facts: &mut ZoneFacts,
        plan: &ZonePlan,
        drives: &BTreeSet<GatewayName>,
        now: Timestamp,
    ) {
        for fact in &mut facts.items {
            let Some(item) = plan.items.get(&fact.split) else {
                continue;
            };
            let said = self.doors.get(&fact.split);
            let said = said.filter(|said| (said.generation, said.digest) == (fact.generation, fact.digest));
            let here = item.doors.keys().filter(|gateway| drives.contains(*gateway));
            fact.doors = here
                .map(|gateway| {
                    let same = plan.gateways.get(gateway).map(|planned| planned.digest)
                        == self.gateways.get(gateway).copied();
                    let mut told = said
                        .filter(|_| same)
                        .and_then(|said| said.doors.get(gateway))
                        .cloned();
                    if let Some(proof) = told.as_mut().and_then(|told| told.proof.as_mut())
                        && now.duration_since(proof.at) > OLD
                    {
                        proof.verdict =
                            Verdict::Unknown("the gateway was last read some time ago".to_owned());
                    }
                    let nothing = DoorFact {
                        held: None,
                        proof: None,
                    };
                    (gateway.clone(), told.unwrap_or(nothing))
                })
                .collect();
            if fact.state == ItemState::Proven && !fact.doors.values().all(DoorFact::is_exact) {
                fact.state = ItemState::Applied;
            }
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
    pub drivers: BTreeMap<GatewayName, Arc<dyn GatewayDriver>>,
    /// Who looks names up.
    pub names: Arc<dyn Names>,
    /// Where its memory is kept.
    pub store: Store,
    want: watch::Receiver<Option<Arc<Wanted>>>,
    tell: watch::Sender<Arc<Told>>,
    /// The memory as it is on disk.
    on_disk: Option<Memory>,
}

impl Gateways {
    /// The task and the loop's end.
    pub fn new(
        drivers: BTreeMap<GatewayName, Arc<dyn GatewayDriver>>,
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
            want: wanted,
            tell,
            on_disk: None,
        };
        (task, Link { want, told, drives })
    }

    /// Runs until stopped. Stopping changes nothing at any gateway.
    pub async fn run(mut self, mut memory: Memory, stop: CancellationToken) {
        let mut changed = Instant::now();
        loop {
            let wanted = self.want.borrow_and_update().clone();
            let mut settled = true;
            if let Some(wanted) = wanted {
                let before = memory.clone();
                let told = self.turn(&wanted, &mut memory).await;
                let mut doors = told.doors.values().flat_map(|of| of.doors.values());
                settled = doors.all(DoorFact::is_exact);
                if memory != before {
                    changed = Instant::now();
                }
                self.tell.send_replace(Arc::new(told));
            }
            let wait = match settled {
                true => CALM,
                false if changed.elapsed() < HASTE => QUICK,
                false => SOON,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                more = self.want.changed() => {
                    if more.is_err() { return }
                    changed = Instant::now();
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks at each gateway, brings it to what is wanted, and reads it back: all at one time.
    async fn turn(&mut self, wanted: &Wanted, memory: &mut Memory) -> Told {
        let plan = &wanted.plan;
        let gateways = plan.gateways.iter();
        let mut told = Told {
            gateways: gateways
                .map(|(name, planned)| (name.clone(), planned.digest))
                .collect(),
            ..Told::default()
        };
        told.notes.extend(
            self.drivers
                .keys()
                .filter(|name| !plan.gateways.contains_key(*name))
                .map(|name| {
                    format!("gateway {name} of this agent's configuration is not declared in its zone: it is left alone")
                }),
        );
        let names = names(wanted, &memory.posted);
        let answers = self.names.resolve(&names, &memory.resolved).await;
        told.notes
            .extend(answers.troubles.iter().map(|why| format!("gateways: {why}")));
        memory.resolved.retain(|name, _| names.contains(name));
        memory.resolved.extend(answers.addresses.clone());
        let here = self
            .drivers
            .iter()
            .filter(|(name, _)| plan.gateways.contains_key(*name));
        let decided: Vec<(GatewayName, Arc<dyn GatewayDriver>, Decided)> = here
            .map(|(name, driver)| {
                let posted = memory.posted.get(name);
                let decided = decide(wanted, name, posted, &answers.addresses);
                (name.clone(), Arc::clone(driver), decided)
            })
            .collect();
        for (name, _, decided) in &decided {
            if let Some(document) = &decided.document {
                // Before it is posted: whatever happens then, what this agent did is known to be its own.
                memory
                    .posted
                    .entry(name.clone())
                    .or_default()
                    .may_be(&document.hash);
            }
        }
        self.keep(memory);
        let each = decided.iter().map(|(_, driver, decided)| async move {
            match &decided.document {
                None => (BTreeMap::new(), BTreeMap::new()),
                Some(document) => {
                    let brought = bring(
                        &**driver,
                        document,
                        plan.generation,
                        &decided.own,
                        &decided.absent,
                    )
                    .await;
                    (brought, driver.prove(document).await)
                }
            }
        });
        let became = join_all(each).await;
        for ((name, _, decided), (brought, proofs)) in decided.iter().zip(became) {
            conclude(name, decided, &brought, proofs, memory, &mut told);
        }
        self.keep(memory);
        told
    }

    fn keep(&mut self, memory: &Memory) {
        if self.on_disk.as_ref() == Some(memory) {
            return;
        }
        match self.store.keep_gateways(memory) {
            Ok(()) => self.on_disk = Some(memory.clone()),
            Err(error) => tracing::error!(
                %error,
                "what was posted to gateways cannot be kept on disk; make room, or mend the data directory"
            ),
        }
    }
}

/// What became of one gateway, as doors of its splits.
fn conclude(
    name: &GatewayName,
    decided: &Decided,
    brought: &BTreeMap<String, Brought>,
    proofs: BTreeMap<SplitName, Proof>,
    memory: &mut Memory,
    told: &mut Told,
) {
    let mut held = Vec::new();
    for (node, became) in brought {
        match became {
            Brought::There | Brought::Posted => {}
            Brought::Held(why) => held.push(format!("{node}: {why}")),
            Brought::Failed(error) => {
                told.notes
                    .push(format!("gateway {name}, {error}; {}", error.help));
            }
        }
        if matches!(became, Brought::Posted) {
            tracing::info!(gateway = %name, node, "the gateway was given its configuration");
        }
    }
    let somewhere = brought
        .values()
        .any(|became| matches!(became, Brought::There | Brought::Posted));
    if let (true, Some(document)) = (somewhere, &decided.document) {
        let posted = memory.posted.entry(name.clone()).or_default();
        posted.is(&document.hash, decided.items.clone());
    }
    let gone = memory
        .posted
        .get(name)
        .is_some_and(|posted| !posted.items.is_empty());
    if decided.document.is_none() && decided.held.is_none() && decided.wanted.is_empty() && gone {
        told.notes.push(format!(
            "gateway {name}: its last split is gone and it has no base, and an empty document is never posted: it runs on as it \
             was; declare a base, or empty it by hand"
        ));
    }
    told.notes
        .extend(decided.notes.iter().map(|note| format!("gateway {name}: {note}")));
    let all_held = decided
        .held
        .clone()
        .or_else(|| (!held.is_empty()).then(|| held.join("; ")));
    for (split, item) in &decided.wanted {
        let fact = DoorFact {
            held: decided
                .split_held
                .get(split)
                .cloned()
                .or_else(|| all_held.clone()),
            proof: proofs
                .get(split)
                .cloned()
                .or_else(|| decided.document.as_ref().map(|_| unread())),
        };
        let doors = told.doors.entry(split.clone()).or_insert_with(|| Doors {
            generation: item.generation,
            digest: item.digest,
            doors: BTreeMap::new(),
        });
        doors.doors.insert(name.clone(), fact);
    }
}

/// A door of which the gateway said nothing.
fn unread() -> Proof {
    Proof {
        verdict: Verdict::Unknown("the gateway said nothing of it".to_owned()),
        evidence: Evidence::Unknown,
        at: Timestamp::now(),
        coverage: Coverage::default(),
        weights: None,
    }
}
