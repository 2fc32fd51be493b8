//! What is the same for all splits of one plan, and how items follow from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_model::{
    BackendName, CommitId, Declaration, DnsLabel, Door, FederationName, Gateway, GatewayName, MeshName,
    SourceCommit, SourceName, Split, SplitName, Zone, ZoneName, sabotaged,
};

use super::{DRAIN, Inputs, Work, reverts, routes};
use crate::canonical;
use crate::course::Items;
use crate::freezes::held_by;
use crate::plan::{Destination, Digest, Fallback, GatewayPlan, Generation, Item, Plan, Refuge, SplitPlan};
use crate::precedence;
use crate::programmed::Programmed;
use crate::prune;
use crate::refusal::{Flaw, Refusal};
use crate::retire::{self, Services};
use crate::senses::{Reach, Runs};
use crate::transition::{self, Transit};

/// What the parent has for a split: under its name, and for its service under another name.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    pub(super) split: Option<&'a SplitPlan>,
    pub(super) service: Option<&'a SplitPlan>,
    /// What is known of its zones; none where nobody is asked.
    pub(super) seen: Option<Seen<'a>>,
}

/// What zones say of what the parent has for a split.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) transit: Transit<'a>,
    pub(super) zones: &'a BTreeMap<ZoneName, Zone>,
    /// Of places: whether nobody sends anything there any more. Asked for when it is first needed.
    pub(super) left: &'a RefCell<BTreeMap<Destination, bool>>,
}

impl Past<'_> {
    /// Whether what an item of it gave no weight may leave its zone (I4): the zone has proven the item, and so has every other zone
    /// that has the same place without weight, or nobody is there who could send anything. Who is `detached` keeps nobody else. Where
    /// the split is on its way, that has to be so for [`DRAIN`]; at rest only that it is so is known, and since when not.
    fn has_drained(&self, wanted: &Item, item: &Item, now: Timestamp) -> bool {
        let Some(seen) = self.seen else { return true };
        let senses = seen.transit.senses;
        let moves = |split: &SplitPlan| {
            split
                .course
                .as_ref()
                .is_some_and(|course| course.motion.is_some())
        };
        let rests = !self.split.iter().chain(&self.service).any(|split| moves(split));
        let proven = |item: &Item| match senses.runs(item) {
            Runs::Proven { since } => now.duration_since(since) >= DRAIN || (rests && since >= now),
            Runs::Not(_) => senses.reach(&item.zone) == Reach::Nobody,
        };
        let takes_part = |zone: &ZoneName| seen.zones.get(zone).is_some_and(|zone| !zone.detached);
        let left_by_all = |place: &Destination| {
            let items = self
                .split
                .iter()
                .chain(&self.service)
                .flat_map(|split| &split.items);
            let mut items = items.filter(|(zone, _)| takes_part(zone));
            items.all(|(_, item)| {
                let mut there = item.destinations.iter();
                let there = there.find(|(_, to)| to.in_kuma() == place.in_kuma());
                there.is_none_or(|(name, _)| !item.weighted().contains(name) && proven(item))
            })
        };
        proven(item)
            && retire::drained(wanted, item).all(|place| {
                let known = seen.left.borrow().get(place).copied();
                known.unwrap_or_else(|| {
                    let left = left_by_all(place);
                    seen.left.borrow_mut().insert(place.clone(), left);
                    left
                })
            })
    }

    /// The split that is declared no more, and whose service this one takes over.
    pub(super) fn heir_of(&self, declared: &BTreeMap<SplitName, Arc<Split>>) -> Option<&SplitName> {
        let item = self.service?.items.values().next()?;
        (!declared.contains_key(&item.split)).then_some(&item.split)
    }

    /// Whether it does so with other shares.
    pub(super) fn shifts_to(&self, wanted: &BTreeMap<ZoneName, Item>) -> bool {
        let items = self.service.into_iter().flat_map(|split| &split.items);
        let mut both = items.filter_map(|(zone, was)| Some((was, wanted.get(zone)?)));
        both.any(|(was, is)| transition::shifts(was, is))
    }
}

/// What is the same for all splits of one plan.
pub(super) struct Whole<'a> {
    pub(super) federation: &'a FederationName,
    pub(super) mesh: &'a MeshName,
    pub(super) zones: BTreeMap<ZoneName, DnsLabel>,
    pub(super) zones_digest: Digest,
    pub(super) gateways: Gateways,
    pub(super) commits: BTreeMap<&'a SourceName, &'a CommitId>,
    pub(super) generation: Generation,
    pub(super) parent: Option<&'a Plan>,
    pub(super) past: Services<'a>,
    /// An agent has seen a generation above the parent's.
    pub(super) unknown_history: bool,
    pub(super) now: Timestamp,
}

impl<'a> Whole<'a> {
    /// `known`: the declaration was planned before, so what it takes away was looked at then.
    pub(super) fn new(inputs: Inputs<'a>, known: bool) -> Result<Self, Vec<Refusal>> {
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
            gateways: gateways(
                inputs.declaration,
                inputs.parent,
                generation,
                inputs.highest > known,
            ),
            commits,
            generation,
            parent: inputs.parent,
            past: Services::new(inputs.parent),
            unknown_history: inputs.parent.is_some() && inputs.highest > known,
            now: inputs.now,
        })
    }

    /// Whether something changed that stands in no split.
    pub(super) fn changed(&self) -> bool {
        self.parent.is_none_or(|parent| {
            self.unknown_history
                || parent.mesh != *self.mesh
                || parent.zones != self.zones
                || parent.gateways != self.gateways
        })
    }

    pub(super) fn commits(&self) -> Vec<SourceCommit> {
        let sorted = self.commits.iter();
        sorted
            .map(|(source, commit)| SourceCommit {
                source: (*source).clone(),
                commit: (*commit).clone(),
            })
            .collect()
    }

    /// What is declared, for each zone: not sealed yet.
    pub(super) fn wanted(&self, split: &Split) -> Result<BTreeMap<ZoneName, Item>, Vec<Refusal>> {
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
                routes::check(split, &routes)?;
                Ok(destinations)
            })
            .map_err(|flaws| flaws.into_iter().map(refuse).collect::<Vec<_>>())?;
        let anchor = canonical::anchor(self.federation, &split.name);
        let fallback: BTreeMap<BackendName, Fallback> = split
            .fallback
            .iter()
            .map(|(from, fallback)| {
                let refuge = |backend: &BackendName| Refuge {
                    backend: backend.clone(),
                    capacity: split.backends.get(backend).and_then(|backend| backend.capacity),
                };
                let fallback = Fallback {
                    to: fallback.to.iter().map(refuge).collect(),
                    after: whole_ms(fallback.after),
                    recover: whole_ms(fallback.recover),
                };
                (from.clone(), fallback)
            })
            .collect();
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
                fallback: fallback.clone(),
                doors: doors(split, zone),
                generation: self.generation,
                commit: (*commit).clone(),
                digest: Digest([0; 32]),
            };
            (zone.clone(), item)
        });
        Ok(wanted.collect())
    }

    /// All zones at once: what nothing was in force of, or where nobody moves splits step by step.
    pub(super) fn at_once(
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
    pub(super) fn rewritten(&self, before: &SplitPlan) -> SplitPlan {
        let mut planned = before.clone();
        planned.items.retain(|zone, _| self.zones.contains_key(zone));
        for item in planned.items.values_mut() {
            Arc::make_mut(item).generation = self.generation;
        }
        planned.root = canonical::split_root(&planned);
        planned
    }

    /// What has to wait, without zones that take part no more; under this plan's generation, where agents hold what this
    /// history does not know.
    pub(super) fn as_it_is(&self, before: &Arc<SplitPlan>) -> Arc<SplitPlan> {
        if self.unknown_history {
            return Arc::new(self.rewritten(before));
        }
        if before.items.keys().all(|zone| self.zones.contains_key(zone)) {
            return Arc::clone(before);
        }
        let mut kept = SplitPlan::clone(before);
        kept.items.retain(|zone, _| self.zones.contains_key(zone));
        kept.root = canonical::split_root(&kept);
        Arc::new(kept)
    }

    /// Why a split has to wait that comes or goes in all zones at once, if it has to: by an order, or a freeze of the Federation, of
    /// the split itself where it is declared, or of one of these zones. None where the newest commits take the last ones back.
    pub(super) fn waits<'z>(
        &self,
        declaration: &Declaration,
        (name, split): (&SplitName, Option<&Split>),
        zones: impl Iterator<Item = &'z ZoneName>,
        transit: Transit<'_>,
    ) -> Option<(String, Option<Timestamp>)> {
        if reverts(transit, declaration, name) {
            return None;
        }
        let zones = zones.filter_map(|zone| declaration.zones.get(zone).filter(|zone| !zone.detached));
        held_by(transit.orders, declaration, (name, split), zones, self.now)
    }

    /// The item that follows what the parent has for its zone: that one itself if it already says what is wanted. Of another split
    /// whose service this one takes over it keeps what that had.
    pub(super) fn item_after<'p>(&self, wanted: Item, past: Past<'p>, work: &mut Work) -> Arc<Item> {
        let zone = wanted.zone.clone();
        let of = |split: &'p SplitPlan| split.items.get(&zone);
        let (before, displaced) = (past.split.and_then(of), past.service.and_then(of));
        let mut wanted = wanted;
        wanted.generation = self.generation;
        if let Some(displaced) = displaced {
            wanted = if self.lets_go(&wanted, displaced, past) {
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
        if Programmed::of(&same) != Programmed::of(before) && self.lets_go(&wanted, before, past) {
            Arc::new(sealed(retire::releasing_drained(wanted, before)))
        } else {
            Arc::new(same)
        }
    }

    /// Whether what an item before gave nothing is let go of: every caller has followed that far by now.
    fn lets_go(&self, wanted: &Item, before: &Item, past: Past<'_>) -> bool {
        let old = |parent: &Plan| self.now.duration_since(parent.created) >= DRAIN;
        self.parent.is_some_and(old)
            && retire::drained(wanted, before).next().is_some()
            && past.has_drained(wanted, before, self.now)
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

/// The split's door at each gateway of a zone.
fn doors(split: &Split, zone: &ZoneName) -> BTreeMap<GatewayName, Door> {
    let here = split.gateways.iter().filter(|at| at.zones.contains(zone));
    here.map(|at| (at.gateway.clone(), at.door.clone())).collect()
}

/// What is declared of each zone's gateways: the parent's own where it says the same.
fn gateways(
    declaration: &Declaration,
    parent: Option<&Plan>,
    generation: Generation,
    anew: bool,
) -> Gateways {
    let of_zone = |(zone, declared): (&ZoneName, &Zone)| {
        let gateway = |(name, declared): (&GatewayName, &Gateway)| {
            let mut planned = GatewayPlan {
                channel: declared.channel,
                in_mesh: declared.in_mesh,
                base: declared.base.clone(),
                parent: declared.parent.clone(),
                generation,
                digest: Digest([0; 32]),
            };
            planned.digest = canonical::gateway_digest(&planned);
            let before = parent.and_then(|parent| parent.gateways.get(zone)?.get(name));
            let same = before.filter(|before| before.digest == planned.digest && !anew);
            (name.clone(), same.map_or_else(|| Arc::new(planned), Arc::clone))
        };
        let gateways: BTreeMap<_, _> = declared.gateways.iter().map(gateway).collect();
        (!gateways.is_empty()).then(|| (zone.clone(), gateways))
    };
    declaration.zones.iter().filter_map(of_zone).collect()
}

/// By zone and name.
type Gateways = BTreeMap<ZoneName, BTreeMap<GatewayName, Arc<GatewayPlan>>>;

/// As it travels.
fn whole_ms(duration: SignedDuration) -> SignedDuration {
    i64::try_from(duration.as_millis()).map_or(SignedDuration::MAX, SignedDuration::from_millis)
}

fn sealed(mut item: Item) -> Item {
    item.digest = canonical::item_digest(&item);
    item
}
