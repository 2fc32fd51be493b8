//! What a gateway is to run, decided from values alone: what is in force in the zone, what was posted before, and addresses.
//! Pure; the same in every agent of a zone that drives it.

mod back;
mod pinned;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{Channel, FederationName, GatewayName, Host, SplitName, Via};
use weir_planner::{GatewayPlan, Item};
use weir_render::kic::{HttpRoute, Routes, http_route, leads_elsewhere};
use weir_render::kong::{
    AtDoor, Conflict, Counted, Counting, Document, Entities, Resolved, counting_document, counting_entities,
    nothing, split_twice,
};

use super::refusals::{Refusal, Refusals};
use super::{Posted, Wanted};
use back::{Stays, back, step_back};
use pinned::{pinned, pins};

/// What is decided of one gateway.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decided {
    /// What one without a database is to run; none if it is left as it is.
    pub document: Option<Document>,
    /// What one with a database is to have of ours; none if it is left as it is.
    pub entities: Option<Entities>,
    /// What the cluster of one under a controller is to have of ours; none if it is left as it is.
    pub routes: Option<Routes>,
    /// The splits that have a door there, with the item that is wanted of each.
    pub wanted: BTreeMap<SplitName, Arc<Item>>,
    /// The item of each split that this is made of: for those that are held the one of before.
    pub items: BTreeMap<SplitName, Arc<Item>>,
    /// Of those, the ones of which somebody pinned the weights, with the pin's label.
    pub pins: BTreeMap<SplitName, String>,
    /// Splits that have a door there by the plan and are not in it: a Kong that has them keeps them.
    pub absent: BTreeSet<SplitName>,
    /// Hashes of what this agent posted before.
    pub own: BTreeSet<String>,
    /// The gateway itself, as the document has it: as declared, or as it was before.
    pub base: Option<Arc<GatewayPlan>>,
    /// Why it is as it was before, if so: then no door is what is declared, whatever its shares are.
    pub base_held: Option<String>,
    /// Why all of it stays as it is, if so.
    pub held: Option<String>,
    /// Why a split stays as it is.
    pub split_held: BTreeMap<SplitName, String>,
    /// Of those, the ones that are left out because Kong and the mesh would both split, and nothing is known to be there of them.
    pub left_out: BTreeSet<SplitName>,
    /// Whether requests are counted, where that is known before anything is brought.
    pub counted: Counted,
    /// What a person should know and that keeps nobody from posting.
    pub notes: Vec<String>,
}

impl Decided {
    /// Whether each split is written by itself, so that one is in nobody else's way.
    pub fn is_by_split(&self) -> bool {
        self.entities.is_some() || self.routes.is_some()
    }

    /// None of its doors is counted, for this reason.
    fn uncounted(&mut self, gateway: &GatewayName, why: &str) {
        let here = self.carried(gateway);
        self.counted = here.map(|split| (split.clone(), Err(why.to_owned()))).collect();
    }

    /// The splits of which Kong carries the weights there, and not the mesh.
    pub(super) fn carried(&self, gateway: &GatewayName) -> impl Iterator<Item = &SplitName> {
        let carries = |item: &Item| {
            let door = item.doors.get(gateway);
            door.is_some_and(|door| matches!(door.via, Via::Addresses(_)))
        };
        let here = self.wanted.iter().filter(move |(_, item)| carries(item));
        here.map(|(split, _)| split)
    }

    /// Whether there is anything to bring.
    pub fn is_nothing(&self) -> bool {
        self.document.is_none() && !self.is_by_split()
    }
}

/// The DNS names that doors of a gateway reach backends by: those that are wanted, and those that were posted, or may have been, and
/// may have to stay.
pub fn names(wanted: &Wanted, gateway: &GatewayName, posted: Option<&Posted>) -> BTreeSet<String> {
    // Those of Services in a cluster are for its controller to know.
    let planned = wanted.plan.gateways.get(gateway);
    if planned.is_some_and(|planned| planned.channel == Channel::Kic) {
        return BTreeSet::new();
    }
    let before = posted
        .into_iter()
        .flat_map(|posted| posted.items.values().chain(posted.coming.values()));
    let doors = wanted
        .items
        .values()
        .chain(before)
        .filter_map(|item| item.doors.get(gateway));
    let addresses = doors.filter_map(|door| match &door.via {
        Via::Addresses(backends) => Some(backends.values().flatten()),
        Via::Mesh(_) => None,
    });
    let hosts = addresses.flatten().filter_map(|address| match &address.host {
        Host::Name(name) => Some(name.clone()),
        Host::Ip(_) => None,
    });
    hosts.collect()
}

/// Decides what one gateway is to run.
///
/// One document carries everything, so that what is wrong with one split must not stop the others: it stays as it was posted
/// last, and the rest goes on. The same holds for what Kong did not accept, of a split or of the base: a revert of another
/// split must not wait for whoever mends that. What is wrong with the base as far as we can tell, or with a split of which
/// nothing was posted yet and that cannot be left out, holds the whole. In a database each split is written by itself: what
/// Kong does not accept of one is in nobody else's way, and its driver tells it. Before anything else that Kong does not accept
/// goes back, requests are not counted.
pub fn decide(
    wanted: &Wanted,
    gateway: &GatewayName,
    posted: Option<&Posted>,
    resolved: &Resolved,
    refusals: &Refusals,
    counting: Option<&Counting>,
) -> Decided {
    let nobody = BTreeMap::new();
    decide_but(wanted, gateway, posted, resolved, refusals, (counting, &nobody))
}

/// The same where these splits stay as they were posted, for these reasons; one of which nothing was posted is left out.
pub(super) fn decide_but(
    wanted: &Wanted,
    gateway: &GatewayName,
    posted: Option<&Posted>,
    resolved: &Resolved,
    refusals: &Refusals,
    (counting, waits): (Option<&Counting>, &BTreeMap<SplitName, String>),
) -> Decided {
    let Some(planned) = wanted.plan.gateways.get(gateway) else {
        return Decided {
            own: posted.map(Posted::own).unwrap_or_default(),
            ..Decided::default()
        };
    };
    let before = posted.and_then(|posted| posted.base.as_ref());
    let before = before.filter(|before| before.digest != planned.digest);
    let mut stays = Stays {
        base: None,
        splits: waits.clone(),
    };
    let mut instead = None;
    let uncounted_for = |refusal: &Refusal| format!("Kong does not accept that ({})", refusal.why);
    // A revert is not posted first with what was refused with other weights.
    let mut uncounted = counting.and(refusals.of_counting()).map(uncounted_for);
    let mut counting = counting.filter(|_| uncounted.is_none());
    loop {
        let base = before.filter(|_| stays.base.is_some()).unwrap_or(planned);
        let mut decided = attempt(wanted, (gateway, base), posted, resolved, &stays.splits, counting);
        if let Some(why) = &uncounted {
            decided.uncounted(gateway, why);
        }
        decided.base_held.clone_from(&stays.base);
        if decided.is_by_split() {
            return decided;
        }
        let Some(made) = &decided.document else {
            // Nothing can be made of the base as it is declared, as far as we can tell.
            if let (Some(why), Some(_), None) = (&decided.held, before, &stays.base) {
                stays.base = Some(format!(
                    "the base of this gateway is not the declared one, and stays as it was: {why}"
                ));
                instead = Some(decided);
                continue;
            }
            return instead.unwrap_or(decided);
        };
        let Some(refusal) = refusals.of(&made.hash) else {
            return decided;
        };
        if counting.is_some() && !made.counted.is_empty() && refusal.what.may_be_counting() {
            uncounted = Some(uncounted_for(refusal));
            counting = None;
            continue;
        }
        // Where nothing could go back it is for those nodes that accept it.
        if !stays.more(refusal, before.is_some(), &decided, posted) {
            return decided;
        }
    }
}

/// What there is to run, with this gateway, where these splits stay as they were.
fn attempt(
    wanted: &Wanted,
    (gateway, planned): (&GatewayName, &Arc<GatewayPlan>),
    posted: Option<&Posted>,
    resolved: &Resolved,
    stays: &BTreeMap<SplitName, String>,
    counting: Option<&Counting>,
) -> Decided {
    let mut decided = Decided {
        own: posted.map(Posted::own).unwrap_or_default(),
        base: Some(Arc::clone(planned)),
        ..Decided::default()
    };
    let here = wanted
        .items
        .iter()
        .filter(|(_, item)| item.doors.contains_key(gateway));
    decided.wanted = here
        .map(|(split, item)| {
            let kept = kept(wanted, posted, (split, item));
            (split.clone(), Arc::clone(kept.unwrap_or(item)))
        })
        .collect();
    let mut items = decided.wanted.clone();
    items.retain(|split, item| {
        match stays
            .get(split)
            .cloned()
            .or_else(|| twice(planned, gateway, item))
        {
            None => true,
            Some(why) => {
                decided.split_held.insert(split.clone(), why);
                false
            }
        }
    });
    // What is declared, not in force here, and there by what was posted: the rest goes on beside it.
    for (split, why) in stays {
        let declared = wanted.plan.items.get(split);
        let declared = declared.is_some_and(|item| item.doors.contains_key(gateway));
        if declared && !decided.wanted.contains_key(split) {
            decided.split_held.insert(split.clone(), why.clone());
        }
    }
    // What is held keeps what it had.
    for split in decided.split_held.keys() {
        if let Some(before) = posted.and_then(|posted| posted.items.get(split)) {
            items.insert(split.clone(), Arc::clone(before));
        }
    }
    keep_until_renamed(wanted, gateway, posted, &mut items);
    let (nothing_known, mut known) = (BTreeSet::new(), None);
    let made = loop {
        let with = (counting, known.as_ref().unwrap_or(&nothing_known));
        decided.pins = pins(wanted, posted, &items);
        let doors: Vec<AtDoor<'_>> = items
            .values()
            .filter_map(|item| {
                Some(AtDoor {
                    item,
                    door: item.doors.get(gateway)?,
                    pin: pinned(wanted, posted, (&decided.pins, item)),
                })
            })
            .collect();
        let federation = &wanted.plan.federation;
        let made = match planned.channel {
            Channel::AdminDb => {
                let at = (&wanted.plan.zone, gateway);
                counting_entities(federation, at, planned, &doors, resolved, with)
                    .map(|made| (None, Some(made), None))
            }
            Channel::AdminDbless => {
                counting_document(federation, planned, &doors, resolved, with).map(|made| {
                    // Of what was posted there the last door went. What the site had there as its base is never taken away.
                    let ours = posted.filter(|posted| {
                        let known = posted.base.as_ref().or(posted.first.as_ref());
                        known.is_some_and(|known| known.base.is_none())
                    });
                    let mut declared = wanted.plan.items.values();
                    // What is declared and not in force yet keeps nobody else there; if it is there all the same, no node gives it up.
                    let ours = ours.filter(|posted| {
                        !declared.any(|item| {
                            item.doors.contains_key(gateway) && posted.items.contains_key(&item.split)
                        })
                    });
                    let gone = || ours.map(|_| nothing(federation, planned));
                    (made.or_else(gone), None, None)
                })
            }
            Channel::Kic => {
                let routes = by_route(wanted, (gateway, planned), &mut items, posted, &mut decided);
                decided.pins = pins(wanted, posted, &items);
                let gateway = gateway.clone();
                break (None, None, Some(Routes { gateway, routes }));
            }
        };
        match made {
            Ok(made) => break made,
            Err(conflicts) => {
                if known.is_none() {
                    let there = in_force_twice(federation, (gateway, planned), posted);
                    if !known.insert(there).is_empty() {
                        continue;
                    }
                }
                let twice = split_twice(federation, planned, &doors);
                let before = items.clone();
                for conflict in &conflicts {
                    step_back(conflict, posted, &mut items, &mut decided);
                }
                let out = conflicts.iter().filter(|conflict| twice.contains(*conflict));
                let out = out.filter_map(|conflict| conflict.split.clone());
                decided
                    .left_out
                    .extend(out.filter(|split| !items.contains_key(split)));
                if items == before && back(posted, &mut items, &mut decided, &conflicts) {
                    continue;
                }
                if items == before {
                    let words: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
                    decided.held = Some(words.join("; "));
                    break (None, None, None);
                }
            }
        }
    };
    (decided.document, decided.entities, decided.routes) = made;
    let notes = decided.document.as_ref().map(|document| &document.notes);
    let notes = notes.or(decided.entities.as_ref().map(|entities| &entities.notes));
    decided.notes = notes.cloned().unwrap_or_default();
    let routes = decided.routes.iter().flat_map(|routes| routes.routes.keys());
    let of_routes = routes.filter_map(|split| {
        let item = items.get(split)?;
        let door = item.doors.get(gateway)?;
        leads_elsewhere(&AtDoor {
            item,
            door,
            pin: None,
        })
    });
    let of_routes: Vec<String> = of_routes.collect();
    decided.notes.extend(of_routes);
    let counted = decided.document.as_ref().map(|document| document.counted.clone());
    decided.counted = counted.unwrap_or_default();
    if counting.is_some() && decided.routes.is_some() {
        decided.uncounted(gateway, "Kong Ingress Controller writes what this gateway runs");
    }
    let belongs = wanted
        .plan
        .items
        .iter()
        .filter(|(_, item)| item.doors.contains_key(gateway));
    let absent = belongs
        .map(|(split, _)| split)
        .filter(|split| !items.contains_key(*split));
    decided.absent = absent.cloned().collect();
    decided.items = items;
    decided
}

/// What is split twice there already, by what was posted last. Whoever mends that has his reverts meanwhile, and the others theirs.
fn in_force_twice(
    federation: &FederationName,
    (gateway, planned): (&GatewayName, &Arc<GatewayPlan>),
    posted: Option<&Posted>,
) -> BTreeSet<Conflict> {
    let Some(posted) = posted else {
        return BTreeSet::new();
    };
    let base = posted.base.as_ref().unwrap_or(planned);
    let items = posted.items.values();
    let doors = items.filter_map(|item| {
        let door = item.doors.get(gateway)?;
        Some(AtDoor {
            item,
            door,
            pin: None,
        })
    });
    split_twice(federation, base, &doors.collect::<Vec<_>>())
}

/// What this gateway was given when it went ahead of the mesh, which has not come after yet: it keeps that, for nothing older is
/// written over it (I7).
fn kept<'a>(
    wanted: &'a Wanted,
    posted: Option<&'a Posted>,
    (split, item): (&SplitName, &Item),
) -> Option<&'a Arc<Item>> {
    let next = wanted.next.get(split)?;
    // What was pinned there went ahead of nothing; what came after that and may be there by now did.
    let pinned = |posted: &&Posted| posted.pins.contains_key(split) && !posted.coming.contains_key(split);
    let before = posted.filter(|posted| !pinned(posted))?.newest(split)?;
    if before.generation <= item.generation {
        return None;
    }
    // As it is driven now.
    let same = (before.generation, before.digest) == (next.generation, next.digest);
    Some(if same { next } else { before })
}

/// A split that the plan is without stays while one of the same service and port that the plan has here is not in force yet: it is
/// the same one by another name, and its requests must not be without either.
fn keep_until_renamed(
    wanted: &Wanted,
    gateway: &GatewayName,
    posted: Option<&Posted>,
    items: &mut BTreeMap<SplitName, Arc<Item>>,
) {
    let comes = |before: &Item| {
        let mut declared = wanted.plan.items.iter();
        declared.any(|(split, item)| {
            item.doors.contains_key(gateway)
                && !items.contains_key(split)
                && (&item.service, item.port) == (&before.service, before.port)
        })
    };
    let before = posted.iter().flat_map(|posted| &posted.items);
    let stays = before.filter(|(split, before)| {
        !wanted.plan.items.contains_key(*split) && before.doors.contains_key(gateway) && comes(before)
    });
    let stays: Vec<_> = stays
        .map(|(split, before)| (split.clone(), Arc::clone(before)))
        .collect();
    items.extend(stays);
}

/// The routes of a gateway under a controller, each by itself: of one that cannot be said what was there before, or nothing.
fn by_route(
    wanted: &Wanted,
    (gateway, planned): (&GatewayName, &GatewayPlan),
    items: &mut BTreeMap<SplitName, Arc<Item>>,
    posted: Option<&Posted>,
    decided: &mut Decided,
) -> BTreeMap<SplitName, HttpRoute> {
    let federation = &wanted.plan.federation;
    let made = |item: &Arc<Item>| {
        let door = item.doors.get(gateway).ok_or("it has no door here")?;
        let one = BTreeMap::from([(item.split.clone(), Arc::clone(item))]);
        let pins = pins(wanted, posted, &one);
        let pin = pinned(wanted, posted, (&pins, item));
        http_route(federation, gateway, planned, &AtDoor { item, door, pin })
    };
    let mut routes = BTreeMap::new();
    let mut gone = Vec::new();
    for (split, item) in items.iter_mut() {
        let why = match made(item) {
            Ok(route) => {
                routes.insert(split.clone(), route);
                continue;
            }
            Err(why) => why,
        };
        decided
            .split_held
            .entry(split.clone())
            .or_insert_with(|| format!("{why}; what is there of it stays"));
        let before = posted.and_then(|posted| posted.items.get(split));
        match before.map(|before| (before, made(before))) {
            Some((before, Ok(route))) => {
                *item = Arc::clone(before);
                routes.insert(split.clone(), route);
            }
            _ => gone.push(split.clone()),
        }
    }
    items.retain(|split, _| !gone.contains(split));
    routes
}

/// Why a door would have Kong and the mesh both split, or neither.
fn twice(planned: &GatewayPlan, gateway: &GatewayName, item: &Item) -> Option<String> {
    let door = item.doors.get(gateway)?;
    match (&door.via, planned.in_mesh) {
        (Via::Mesh(_), true) | (Via::Addresses(_), false) => None,
        (Via::Addresses(_), true) => Some(
            "the gateway is in the mesh, which carries the weights: with Kong's own the shares would multiply; this item is \
             older than that, and waits for its next plan"
                .to_owned(),
        ),
        (Via::Mesh(_), false) => Some(
            "the gateway is not in the mesh any more, and has no addresses of the backends yet; it waits for its next plan"
                .to_owned(),
        ),
    }
}
