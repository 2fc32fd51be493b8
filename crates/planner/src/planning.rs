//! The one function that makes plans.
//!
//! Its cost follows the change: for a split whose inputs have the digest that they had in the parent, the parent's items
//! are taken over as they are, unread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{
    BackendName, BasisPoints, CommitId, Declaration, DnsLabel, FederationName, MeshName, Protocol,
    ServiceName, SourceCommit, SourceName, Split, SplitName, ZoneName, sabotaged,
};

use crate::canonical;
use crate::course::Items;
use crate::facts::ProvenWeights;
use crate::outlook::{Outlook, Phase, Wait};
use crate::plan::{Destination, Digest, Generation, Item, ItemRoute, Plan, PlanId, SplitPlan};
use crate::precedence;
use crate::programmed::Programmed;
use crate::prune;
use crate::refusal::{Flaw, Refusal};
use crate::retire::{self, Services};
use crate::transition::{self, Transit};

/// A backend that was taken out of a split stays behind the anchor at least this long after the plan that took it out,
/// whatever else is committed meanwhile. Twice Kuma's drain time (`kuma.md` R9), so that quick commits one after the
/// other never take a cluster from under requests that still go there.
pub const DRAIN: SignedDuration = SignedDuration::from_secs(60);

/// All that a plan depends on. Equal inputs give equal bytes.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What is declared; without error diagnostics.
    pub declaration: &'a Declaration,
    /// The accepted commit of each source, in any order.
    pub commits: &'a [SourceCommit],
    /// The highest generation that any agent ever reported; 0 if none did.
    pub highest: Generation,
    /// The plan in force; none before the first.
    pub parent: Option<&'a Plan>,
    /// The time, which becomes [`Plan::created`].
    pub now: Timestamp,
}

/// What came of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// The parent says it all. New commits that change nothing make no plan.
    Nothing,
    /// A new plan.
    New(Plan),
    /// Nothing moves; why, at least one reason.
    Refused(Vec<Refusal>),
}

/// What planning had to do: a measure of its cost that is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Splits whose inputs were digested and compared.
    pub splits_compared: usize,
    /// Splits that were planned because their inputs differ.
    pub splits_planned: usize,
    /// Items that were made anew.
    pub items_made: usize,
    /// Items of planned splits that turned out as they were.
    pub items_kept: usize,
}

/// Makes the plan that follows `parent`, if anything has to change.
///
/// The generation is one above the parent's and above every generation that an agent reported. An agent that reports
/// more than the parent's generation has seen plans that this history does not hold (a ledger restored from a backup, a
/// coordinator that was replaced): then every item is written anew under the new generation, so that no zone stays with
/// what the lost plans told it.
pub fn plan(inputs: Inputs<'_>) -> Planned {
    plan_with_work(inputs).0
}

/// [`plan`], and what it had to do.
pub fn plan_with_work(inputs: Inputs<'_>) -> (Planned, Work) {
    let look = look(inputs, None);
    (look.planned, look.work)
}

/// One look of a coordinator that moves splits step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The next plan, if a step may be taken now.
    pub planned: Planned,
    /// Every split that was looked at and is not at rest where it is declared.
    pub outlook: BTreeMap<SplitName, Outlook>,
    /// What it had to do.
    pub work: Work,
}

/// Makes the plan that follows `parent`, as [`plan`] does, but moves splits that are in force step by step: see
/// [`crate::transition`]. Nothing is planned of what has to wait; it is in the outlook.
pub fn step(inputs: Inputs<'_>, transit: Transit<'_>) -> Look {
    look(inputs, Some(transit))
}

fn look(inputs: Inputs<'_>, transit: Option<Transit<'_>>) -> Look {
    let mut work = Work::default();
    let mut outlook = BTreeMap::new();
    let planned = match make(inputs, transit, &mut work, &mut outlook) {
        Ok(Some(plan)) => Planned::New(plan),
        Ok(None) => Planned::Nothing,
        Err(reasons) => Planned::Refused(reasons),
    };
    Look {
        planned,
        outlook,
        work,
    }
}

fn make(
    inputs: Inputs<'_>,
    transit: Option<Transit<'_>>,
    work: &mut Work,
    outlook: &mut BTreeMap<SplitName, Outlook>,
) -> Result<Option<Plan>, Vec<Refusal>> {
    let known = transit.is_some_and(|transit| transit.only.is_some());
    let whole = Whole::new(inputs, known)?;
    let mut reasons = Vec::new();
    // What is looked at again is all that may change: the rest is the parent's.
    let only = transit
        .and_then(|transit| transit.only)
        .filter(|_| !whole.unknown_history);
    let mut splits = match (only, whole.parent) {
        (Some(_), Some(parent)) => parent.splits.clone(),
        _ => BTreeMap::new(),
    };
    let mut services: BTreeMap<(&ServiceName, u16), &SplitName> = BTreeMap::new();
    let mut changed = whole.changed();
    let frozen = transit.and_then(|transit| whole.frozen(inputs.declaration, transit));

    let all = &inputs.declaration.splits;
    let looked_at: Vec<_> = match only {
        Some(only) => only.iter().filter_map(|name| all.get_key_value(name)).collect(),
        None => all.iter().collect(),
    };
    for (name, split) in looked_at {
        if let Some(first) = services.insert((&split.service, split.port), name) {
            reasons.push(Refusal::SameService {
                service: split.service.clone(),
                port: split.port,
                first: first.clone(),
                second: name.clone(),
            });
        }
        work.splits_compared += 1;
        let digest = canonical::split_inputs(whole.federation, whole.mesh, &whole.zones_digest, split);
        let before = whole.parent.and_then(|parent| parent.splits.get(name));
        if let Some(before) = before
            && before.digest == digest
            && !whole.unknown_history
            && (transit.is_none() || before.course.is_none())
        {
            splits.insert(name.clone(), Arc::clone(before));
            continue;
        }
        let past = Past {
            split: before.map(Arc::as_ref),
            service: whole.past.of_service(name, &split.service, split.port),
        };
        let wanted = match whole.wanted(split) {
            Ok(wanted) => wanted,
            Err(mut found) => {
                reasons.append(&mut found);
                continue;
            }
        };
        let planned = match (transit, before) {
            (Some(_), Some(before)) if whole.unknown_history => {
                // Agents hold what this history does not: they are told anew what it has, and go on from there.
                work.splits_planned += 1;
                if before.digest != digest {
                    // Not to be forgotten: what is declared is gone towards as soon as all run what they are told anew.
                    let mut stands = told_anew();
                    stands.declared = weights(&wanted);
                    outlook.insert(name.clone(), stands);
                }
                Some(whole.rewritten(before))
            }
            (Some(transit), Some(before)) => {
                let turn = transition::Turn {
                    split,
                    digest,
                    wanted,
                    before,
                    zones: &inputs.declaration.zones,
                    transit,
                    frozen: frozen.clone(),
                    now: inputs.now,
                };
                let (next, stands) =
                    transition::advance(&turn, &mut |item| whole.item_after(item, past, work));
                if let Some(mut stands) = stands {
                    stands.declared = weights(&turn.wanted);
                    outlook.insert(name.clone(), stands);
                }
                if next.is_some() {
                    work.splits_planned += 1;
                } else {
                    splits.insert(name.clone(), whole.within_zones(before));
                }
                next
            }
            (Some(transit), None) if whole.waits(&frozen, split, transit, inputs.now, outlook) => None,
            (_, _) => {
                work.splits_planned += 1;
                Some(whole.at_once(digest, wanted, past, work))
            }
        };
        if let Some(planned) = planned {
            changed = true;
            splits.insert(name.clone(), Arc::new(planned));
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let mut gone = BTreeSet::new();
    if let Some(parent) = whole.parent {
        let before: Vec<_> = match only {
            Some(only) => only
                .iter()
                .filter_map(|name| parent.splits.get_key_value(name))
                .collect(),
            None => parent.splits.iter().collect(),
        };
        let undeclared = |(name, _): &(&SplitName, &Arc<SplitPlan>)| !all.contains_key(*name);
        for (name, before) in before.into_iter().filter(undeclared) {
            match &frozen {
                Some((why, until)) if !transit.is_some_and(|transit| transit.reverts) => {
                    splits.insert(name.clone(), whole.within_zones(before));
                    outlook.insert(name.clone(), waiting(why, *until, "it is removed after that"));
                }
                _ => {
                    gone.insert(name);
                    changed = true;
                }
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    if let (Some(_), Some(parent)) = (only, whole.parent) {
        // Shared, not looked at: a parent's worth of pointers.
        let mut all = parent.splits.clone();
        for name in &gone {
            all.remove(*name);
        }
        all.append(&mut splits);
        splits = all;
    }
    let mut plan = Plan {
        federation: whole.federation.clone(),
        mesh: whole.mesh.clone(),
        id: PlanId([0; 32]),
        parent: whole.parent.map(|parent| parent.id),
        generation: whole.generation,
        commits: whole.commits(),
        created: inputs.now,
        zones: whole.zones,
        splits,
    };
    plan.id = canonical::plan_id(&plan);
    Ok(Some(plan))
}

/// The declared weights, which are the same for every zone.
fn weights(wanted: &BTreeMap<ZoneName, Item>) -> ProvenWeights {
    let routes = wanted.values().next().into_iter().flat_map(|item| &item.routes);
    routes
        .map(|route| (route.name.clone(), route.weights.clone()))
        .collect()
}

/// What is declared and waits until agents with another history of plans follow this one.
fn told_anew() -> Outlook {
    Outlook {
        declared: BTreeMap::new(),
        phase: Phase::Shift,
        bite: 0,
        bites: 1,
        wave: None,
        waves: Vec::new(),
        waits: Vec::new(),
        next: "agents hold plans that this history does not know: they are told anew what it has, and what is declared is gone \
               towards when they run that"
            .to_owned(),
        since: None,
        until: None,
    }
}

/// What may not come or go now.
fn waiting(why: &str, until: Option<Timestamp>, next: &str) -> Outlook {
    Outlook {
        declared: BTreeMap::new(),
        phase: Phase::Frozen,
        bite: 0,
        bites: 1,
        wave: None,
        waves: Vec::new(),
        waits: vec![Wait {
            zone: None,
            why: why.to_owned(),
        }],
        next: next.to_owned(),
        since: None,
        until,
    }
}

/// What the parent has for a split: under its name, and for its service under another name.
#[derive(Clone, Copy)]
struct Past<'a> {
    split: Option<&'a SplitPlan>,
    service: Option<&'a SplitPlan>,
}

/// What is the same for all splits of one plan.
struct Whole<'a> {
    federation: &'a FederationName,
    mesh: &'a MeshName,
    zones: BTreeMap<ZoneName, DnsLabel>,
    zones_digest: Digest,
    commits: BTreeMap<&'a SourceName, &'a CommitId>,
    generation: Generation,
    parent: Option<&'a Plan>,
    past: Services<'a>,
    /// An agent has seen a generation above the parent's.
    unknown_history: bool,
    now: Timestamp,
}

impl<'a> Whole<'a> {
    /// `known`: the declaration was planned before, so what it takes away was looked at then.
    fn new(inputs: Inputs<'a>, known: bool) -> Result<Self, Vec<Refusal>> {
        let Some(federation) = &inputs.declaration.federation else {
            return Err(vec![Refusal::NoFederation]);
        };
        let mut reasons = Vec::new();
        if let Some(parent) = inputs.parent
            && parent.federation != federation.name
        {
            reasons.push(Refusal::FederationRenamed {
                was: parent.federation.clone(),
                is: federation.name.clone(),
            });
        }
        if let Some(parent) = inputs.parent
            && parent.mesh != federation.mesh
            && !parent.splits.is_empty()
        {
            reasons.push(Refusal::MeshChanged {
                was: parent.mesh.clone(),
                is: federation.mesh.clone(),
                splits: parent.splits.len(),
            });
        }
        reasons.extend(
            inputs
                .parent
                // Agents run plans that came after this one and that are lost: what they took away is not taken away now.
                .filter(|parent| !known && inputs.highest <= parent.generation)
                .and_then(|parent| prune::of_plan(parent, inputs.declaration)),
        );
        let mut commits = BTreeMap::new();
        for of in inputs.commits {
            let other = commits.insert(&of.source, &of.commit);
            if other.is_some_and(|other| *other != of.commit) {
                reasons.push(Refusal::TwoCommits(of.source.clone()));
            }
        }
        let mut zones = BTreeMap::new();
        let mut in_kuma: BTreeMap<&DnsLabel, &ZoneName> = BTreeMap::new();
        for (name, zone) in &inputs.declaration.zones {
            if let Some(first) = in_kuma.insert(&zone.kuma_zone, name) {
                reasons.push(Refusal::SameKumaZone {
                    kuma_zone: zone.kuma_zone.clone(),
                    first: first.clone(),
                    second: name.clone(),
                });
            }
            zones.insert(name.clone(), zone.kuma_zone.clone());
        }
        let known = inputs.parent.map_or(Generation(0), |parent| parent.generation);
        let last = known.max(inputs.highest);
        let generation = last.0.checked_add(1).map(Generation);
        let Some(generation) = generation.filter(|_| reasons.is_empty()) else {
            if generation.is_none() {
                reasons.push(Refusal::NoGenerationLeft(last));
            }
            return Err(reasons);
        };
        Ok(Self {
            federation: &federation.name,
            mesh: &federation.mesh,
            zones_digest: canonical::zones_digest(&zones),
            zones,
            commits,
            generation,
            parent: inputs.parent,
            past: Services::new(inputs.parent),
            unknown_history: inputs.parent.is_some() && inputs.highest > known,
            now: inputs.now,
        })
    }

    /// Whether something changed that stands in no split.
    fn changed(&self) -> bool {
        self.parent.is_none_or(|parent| {
            self.unknown_history || parent.mesh != *self.mesh || parent.zones != self.zones
        })
    }

    fn commits(&self) -> Vec<SourceCommit> {
        let sorted = self.commits.iter();
        sorted
            .map(|(source, commit)| SourceCommit {
                source: (*source).clone(),
                commit: (*commit).clone(),
            })
            .collect()
    }

    /// What is declared, for each zone: not sealed yet.
    fn wanted(&self, split: &Split) -> Result<BTreeMap<ZoneName, Item>, Vec<Refusal>> {
        let refuse = |flaw| Refusal::Flaw {
            split: split.name.clone(),
            flaw,
        };
        let Some(commit) = self.commits.get(&split.place.source) else {
            return Err(vec![Refusal::NoCommit {
                split: split.name.clone(),
                origin: split.place.source.clone(),
            }]);
        };
        let routes = precedence::routes(split);
        let destinations = self
            .destinations(split)
            .and_then(|destinations| {
                check_routes(split, &routes)?;
                Ok(destinations)
            })
            .map_err(|flaws| flaws.into_iter().map(refuse).collect::<Vec<_>>())?;
        let anchor = canonical::anchor(self.federation, &split.name);
        let wanted = self.zones.iter().map(|(zone, kuma_zone)| {
            let item = Item {
                split: split.name.clone(),
                zone: zone.clone(),
                kuma_zone: kuma_zone.clone(),
                mesh: self.mesh.clone(),
                service: split.service.clone(),
                port: split.port,
                port_names: split.port_names.clone(),
                protocol: split.protocol,
                destinations: destinations.clone(),
                retiring: [].into(),
                routes: routes.clone(),
                anchor: anchor.clone(),
                generation: self.generation,
                commit: (*commit).clone(),
                digest: Digest([0; 32]),
            };
            (zone.clone(), item)
        });
        Ok(wanted.collect())
    }

    /// All zones at once: what nothing was in force of, or where nobody moves splits step by step.
    fn at_once(
        &self,
        digest: Digest,
        wanted: BTreeMap<ZoneName, Item>,
        past: Past<'_>,
        work: &mut Work,
    ) -> SplitPlan {
        let items: Items = wanted
            .into_iter()
            .map(|(zone, wanted)| (zone, self.item_after(wanted, past, work)))
            .collect();
        let mut planned = SplitPlan {
            digest,
            root: Digest([0; 32]),
            items,
            course: None,
        };
        planned.root = canonical::split_root(&planned);
        planned
    }

    /// The same content under this plan's generation.
    fn rewritten(&self, before: &SplitPlan) -> SplitPlan {
        let mut planned = before.clone();
        planned.items.retain(|zone, _| self.zones.contains_key(zone));
        for item in planned.items.values_mut() {
            Arc::make_mut(item).generation = self.generation;
        }
        planned.root = canonical::split_root(&planned);
        planned
    }

    /// What has to wait, without zones that take part no more.
    fn within_zones(&self, before: &Arc<SplitPlan>) -> Arc<SplitPlan> {
        if before.items.keys().all(|zone| self.zones.contains_key(zone)) {
            return Arc::clone(before);
        }
        let mut kept = SplitPlan::clone(before);
        kept.items.retain(|zone, _| self.zones.contains_key(zone));
        kept.root = canonical::split_root(&kept);
        Arc::new(kept)
    }

    /// Why nothing of the federation moves now.
    fn frozen(&self, declaration: &Declaration, transit: Transit<'_>) -> Option<(String, Option<Timestamp>)> {
        if let Some(why) = &transit.orders.all_frozen {
            return Some((format!("all splits are frozen: {why}"), None));
        }
        let federation = declaration.federation.as_ref()?;
        transition::frozen("the federation", federation.freeze.at(self.now))
    }

    /// Whether a split of which nothing is in force has to wait.
    fn waits(
        &self,
        frozen: &Option<(String, Option<Timestamp>)>,
        split: &Split,
        transit: Transit<'_>,
        now: Timestamp,
        outlook: &mut BTreeMap<SplitName, Outlook>,
    ) -> bool {
        let order = transit.orders.frozen.get(&split.name);
        let order = order.map(|why| (format!("split {} is frozen: {why}", split.name), None));
        let own = || transition::frozen(&format!("split {}", split.name), split.freeze.at(now));
        let Some((why, until)) = frozen.clone().or(order).or_else(own) else {
            return false;
        };
        if transit.reverts {
            return false;
        }
        outlook.insert(
            split.name.clone(),
            waiting(&why, until, "it comes into force after that"),
        );
        true
    }

    /// The item that follows what the parent has for its zone.
    fn item_after(&self, wanted: Item, past: Past<'_>, work: &mut Work) -> Arc<Item> {
        let zone = wanted.zone.clone();
        self.item(
            wanted,
            past.split.and_then(|split| split.items.get(&zone)),
            past.service.and_then(|split| split.items.get(&zone)),
            work,
        )
    }

    /// The item that follows `before`: that one itself if it already says what is wanted. `displaced` is another split's
    /// item for the same service, which this one takes over from.
    fn item(
        &self,
        mut wanted: Item,
        before: Option<&Arc<Item>>,
        displaced: Option<&Arc<Item>>,
        work: &mut Work,
    ) -> Arc<Item> {
        wanted.generation = self.generation;
        if let Some(displaced) = displaced {
            wanted = if self.drained() {
                retire::releasing_drained(wanted, displaced)
            } else {
                retire::keeping_all(wanted, displaced)
            };
        }
        let Some(before) = before else {
            work.items_made += 1;
            return Arc::new(sealed(wanted));
        };
        let same = sealed(retire::keeping_all(wanted.clone(), before));
        if (same.digest == before.digest && !self.unknown_history) || sabotaged("keep-old-items") {
            work.items_kept += 1;
            return Arc::clone(before);
        }
        work.items_made += 1;
        // letting go of a cluster is a change of the listener, so it waits for one that happens anyway
        if self.drained() && Programmed::of(&same) != Programmed::of(before) {
            Arc::new(sealed(retire::releasing_drained(wanted, before)))
        } else {
            Arc::new(same)
        }
    }

    /// Whether every caller that follows the parent has followed it by now.
    fn drained(&self) -> bool {
        self.parent
            .is_some_and(|parent| self.now.duration_since(parent.created) >= DRAIN)
    }

    fn destinations(&self, split: &Split) -> Result<BTreeMap<BackendName, Destination>, Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut destinations = BTreeMap::new();
        let mut places: BTreeMap<Destination, &BackendName> = BTreeMap::new();
        for (name, backend) in &split.backends {
            let Some(kuma_zone) = self.zones.get(&backend.zone) else {
                flaws.push(Flaw::UnknownZone {
                    backend: name.clone(),
                    zone: backend.zone.clone(),
                });
                continue;
            };
            let destination = Destination {
                zone: backend.zone.clone(),
                kuma_zone: kuma_zone.clone(),
                namespace: backend.namespace.clone(),
                service: split.service.clone(),
                port: split.port,
            };
            if let Some(first) = places.insert(destination.clone(), name) {
                flaws.push(Flaw::SameDestination {
                    first: first.clone(),
                    second: name.clone(),
                });
            }
            destinations.insert(name.clone(), destination);
        }
        if flaws.is_empty() {
            Ok(destinations)
        } else {
            Err(flaws)
        }
    }
}

fn sealed(mut item: Item) -> Item {
    item.digest = canonical::item_digest(&item);
    item
}

/// What every set of routes must be, in the order of precedence.
fn check_routes(split: &Split, routes: &[ItemRoute]) -> Result<(), Vec<Flaw>> {
    let mut flaws = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let name = || route.name.clone();
        if routes[..at].iter().any(|earlier| earlier.name == route.name) {
            flaws.push(Flaw::SameRoute(name()));
        }
        if at > 0 && routes[at - 1].matches.is_any() {
            flaws.push(Flaw::Unreachable(name()));
        }
        let same = routes[..at]
            .iter()
            .find(|earlier| earlier.matches == route.matches);
        if let Some(first) = same.filter(|_| !route.matches.is_any()) {
            flaws.push(Flaw::SameMatch {
                first: first.name.clone(),
                again: name(),
            });
        }
        if split.protocol == Protocol::Tcp && !route.matches.is_any() {
            flaws.push(Flaw::MatchOnTcp(name()));
        }
        for backend in route.weights.keys().filter(|b| !split.backends.contains_key(*b)) {
            flaws.push(Flaw::UnknownBackend {
                route: name(),
                backend: backend.clone(),
            });
        }
        let sum: u64 = route.weights.values().map(|weight| u64::from(weight.get())).sum();
        if sum != u64::from(BasisPoints::WHOLE.get()) {
            flaws.push(Flaw::Sum {
                route: name(),
                basis_points: sum,
            });
        }
    }
    if !routes.last().is_some_and(|last| last.matches.is_any()) && flaws.is_empty() {
        flaws.push(Flaw::NoDefault);
    }
    if flaws.is_empty() { Ok(()) } else { Err(flaws) }
}
