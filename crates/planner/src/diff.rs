//! What changes from one plan to the next, as a value.

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, Door, GatewayName, Match, MeshName, PortName, Protocol,
    RouteName, ServiceName, SourceName, SplitName, ZoneName,
};

use crate::plan::{Destination, GatewayPlan, Generation, Item, ItemRoute, Plan, Splits};
use crate::programmed::Programmed;

/// Something that was one thing and is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// Before; none if there was nothing.
    pub was: Option<T>,
    /// Now; none if there is nothing.
    pub is: Option<T>,
}

impl<T: PartialEq + Clone> Change<T> {
    fn between(was: Option<&T>, is: Option<&T>) -> Option<Self> {
        (was != is).then(|| Self {
            was: was.cloned(),
            is: is.cloned(),
        })
    }
}

/// What changes from one plan to the next. Only what changes is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDiff {
    /// The older plan's generation; none if the newer is the first.
    pub from: Option<Generation>,
    /// The newer plan's generation.
    pub to: Generation,
    /// The mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Change<MeshName>>,
    /// Commits, by source.
    pub commits: BTreeMap<SourceName, Change<CommitId>>,
    /// Zones and their names in Kuma.
    pub zones: BTreeMap<ZoneName, Change<DnsLabel>>,
    /// Gateways whose channel, place in the mesh or base changes, by zone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<ZoneName, BTreeMap<GatewayName, GatewayChange>>,
    /// Splits.
    pub splits: BTreeMap<SplitName, Vec<Part>>,
}

/// What changes for some zones of a split, in each of them alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The zones whose callers see it.
    pub zones: Vec<ZoneName>,
    /// What.
    #[serde(flatten)]
    pub change: ItemChange,
}

/// Whether there was an item and whether there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// None before.
    Added,
    /// None now.
    Removed,
    /// None now, and the zone takes part no more: its agents are told nothing, what they hold stays.
    Left,
    /// Both.
    Changed,
    /// The same content under a new generation: agents reported plans that this history does not hold.
    Rewritten,
}

/// What callers address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Service.
    pub service: ServiceName,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// What happens to a gateway of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayChange {
    /// None before.
    Added,
    /// None now: its agents let go of it, what it runs stays.
    Removed,
    /// Its base changes: what the site keeps there itself.
    Base,
    /// Something else of it changes.
    Changed,
}

/// What happens to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It may get requests from now on.
    Added(Destination),
    /// It goes, having had no weight.
    Removed(Destination),
    /// No route names it any more, the anchor still does.
    Retires(Destination),
    /// It had retired and goes now.
    Released(Destination),
}

/// What happens to a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteChange {
    /// Its name.
    pub route: RouteName,
    /// What it takes, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Change<Match>>,
    /// Weights that change; in JSON in per cent.
    #[serde(serialize_with = "in_percent")]
    pub weights: BTreeMap<BackendName, Change<BasisPoints>>,
}

/// As JSON numbers that people know: `90`, `0.5`.
fn in_percent<S: serde::Serializer>(
    weights: &BTreeMap<BackendName, Change<BasisPoints>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let number = |weight: BasisPoints| {
        let basis_points = weight.get();
        if basis_points.is_multiple_of(100) {
            serde_json::Value::from(basis_points / 100)
        } else {
            serde_json::Value::from(f64::from(basis_points) / 100.0)
        }
    };
    to.collect_map(weights.iter().map(|(backend, change)| {
        let change = Change {
            was: change.was.map(number),
            is: change.is.map(number),
        };
        (backend, change)
    }))
}

/// What changes in one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemChange {
    /// Whether it comes, goes or changes.
    pub presence: Presence,
    /// Whether the callers' listener is replaced: then connections that are open on it are closed 30 s later
    /// (`kuma.md` R9).
    pub replaces_listener: bool,
    /// What callers address, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Change<Address>>,
    /// Names of the port, if they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_names: Option<Change<BTreeSet<PortName>>>,
    /// Destinations that come, go or retire.
    pub destinations: BTreeMap<BackendName, Fate>,
    /// Routes in the order of precedence, then those that are gone.
    pub routes: Vec<RouteChange>,
    /// Whether routes that stay change places.
    pub reordered: bool,
    /// Doors at gateways that come, go or change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub doors: BTreeMap<GatewayName, Change<Door>>,
}

/// Compares two plans. Splits that are shared are not read.
pub fn diff(from: Option<&Plan>, to: &Plan) -> PlanDiff {
    let commits = |plan: &Plan| -> BTreeMap<SourceName, CommitId> {
        let pairs = plan
            .commits
            .iter()
            .map(|of| (of.source.clone(), of.commit.clone()));
        pairs.collect()
    };
    let none = Splits::new();
    let old_splits = from.map_or(&none, |from| &from.splits);
    let mut splits = BTreeMap::new();
    let names: BTreeSet<&SplitName> = old_splits.keys().chain(to.splits.keys()).collect();
    for name in names {
        let (was, is) = (old_splits.get(name), to.splits.get(name));
        if let (Some(was), Some(is)) = (was, is)
            && (Arc::ptr_eq(was, is) || was.root == is.root)
        {
            continue;
        }
        let none = BTreeMap::new();
        let parts = parts(
            was.map_or(&none, |was| &was.items),
            is.map_or(&none, |is| &is.items),
            &to.zones,
        );
        if !parts.is_empty() {
            splits.insert(name.clone(), parts);
        }
    }
    let no_gateways = BTreeMap::new();
    PlanDiff {
        from: from.map(|from| from.generation),
        to: to.generation,
        mesh: Change::between(from.map(|from| &from.mesh), Some(&to.mesh)),
        commits: changes(&from.map(commits).unwrap_or_default(), &commits(to)),
        zones: changes(from.map_or(&BTreeMap::new(), |from| &from.zones), &to.zones),
        gateways: both(from.map_or(&no_gateways, |from| &from.gateways), &to.gateways)
            .into_iter()
            .map(|zone| {
                let none = BTreeMap::new();
                let was = from.and_then(|from| from.gateways.get(zone)).unwrap_or(&none);
                (
                    zone.clone(),
                    gateways(was, to.gateways.get(zone).unwrap_or(&none)),
                )
            })
            .filter(|(_, changed)| !changed.is_empty())
            .collect(),
        splits,
    }
}

fn both<'a, K: Ord, A, B>(a: &'a BTreeMap<K, A>, b: &'a BTreeMap<K, B>) -> BTreeSet<&'a K> {
    a.keys().chain(b.keys()).collect()
}

fn changes<K: Ord + Clone, V: PartialEq + Clone>(
    was: &BTreeMap<K, V>,
    is: &BTreeMap<K, V>,
) -> BTreeMap<K, Change<V>> {
    let changed = both(was, is)
        .into_iter()
        .filter_map(|key| Some((key.clone(), Change::between(was.get(key), is.get(key))?)));
    changed.collect()
}

fn parts(
    was: &BTreeMap<ZoneName, Arc<Item>>,
    is: &BTreeMap<ZoneName, Arc<Item>>,
    zones: &BTreeMap<ZoneName, DnsLabel>,
) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for zone in both(was, is) {
        let (was, is) = (was.get(zone).map(Arc::as_ref), is.get(zone).map(Arc::as_ref));
        let Some(mut change) = ItemChange::between(was, is) else {
            continue;
        };
        if change.presence == Presence::Removed && !zones.contains_key(zone) {
            change.presence = Presence::Left;
            change.replaces_listener = false;
        }
        match parts.iter_mut().find(|part| part.change == change) {
            Some(part) => part.zones.push(zone.clone()),
            None => parts.push(Part {
                zones: vec![zone.clone()],
                change,
            }),
        }
    }
    parts
}

impl ItemChange {
    /// What changes from one item to the next; none if nothing does.
    pub fn between(was: Option<&Item>, is: Option<&Item>) -> Option<Self> {
        let presence = match (was, is) {
            (None, None) => return None,
            (None, Some(_)) => Presence::Added,
            (Some(_), None) => Presence::Removed,
            (Some(was), Some(is)) if was.reference() == is.reference() => return None,
            (Some(was), Some(is)) if was.digest == is.digest => Presence::Rewritten,
            (Some(_), Some(_)) => Presence::Changed,
        };
        // of what is gone, no more is worth telling than what it was for
        let told = was.filter(|_| is.is_some());
        let address = |item: &Item| Address {
            service: item.service.clone(),
            port: item.port,
            protocol: item.protocol,
        };
        Some(Self {
            presence,
            replaces_listener: was.map(Programmed::of) != is.map(Programmed::of),
            address: Change::between(was.map(address).as_ref(), is.map(address).as_ref()),
            port_names: port_names(told, is),
            destinations: fates(told, is),
            routes: routes(told, is),
            reordered: reordered(was, is),
            doors: doors(told, is),
        })
    }
}

fn doors(was: Option<&Item>, is: Option<&Item>) -> BTreeMap<GatewayName, Change<Door>> {
    let none = BTreeMap::new();
    changes(
        was.map_or(&none, |was| &was.doors),
        is.map_or(&none, |is| &is.doors),
    )
}

fn gateways(
    was: &BTreeMap<GatewayName, Arc<GatewayPlan>>,
    is: &BTreeMap<GatewayName, Arc<GatewayPlan>>,
) -> BTreeMap<GatewayName, GatewayChange> {
    let change = |name: &GatewayName| match (was.get(name), is.get(name)) {
        (None, _) => Some(GatewayChange::Added),
        (_, None) => Some(GatewayChange::Removed),
        (Some(was), Some(is)) if was.digest == is.digest => None,
        (Some(was), Some(is)) if (was.channel, was.in_mesh) == (is.channel, is.in_mesh) => {
            Some(GatewayChange::Base)
        }
        (Some(_), Some(_)) => Some(GatewayChange::Changed),
    };
    let changed = both(was, is).into_iter();
    changed
        .filter_map(|name| Some((name.clone(), change(name)?)))
        .collect()
}

fn port_names(was: Option<&Item>, is: Option<&Item>) -> Option<Change<BTreeSet<PortName>>> {
    let none = BTreeSet::new();
    let names = |item: Option<&Item>| item.map_or_else(|| none.clone(), |item| item.port_names.clone());
    Change::between(Some(&names(was)), Some(&names(is)))
}

fn fates(was: Option<&Item>, is: Option<&Item>) -> BTreeMap<BackendName, Fate> {
    let mut fates = BTreeMap::new();
    if let Some(is) = is {
        for (name, place) in &is.destinations {
            let before = was.and_then(|was| {
                was.destinations
                    .iter()
                    .find(|(_, before)| before.in_kuma() == place.in_kuma())
            });
            let retired =
                before.is_some_and(|(before, _)| was.is_some_and(|was| was.retiring.contains(before)));
            match (before.is_some(), is.retiring.contains(name)) {
                (true, true) if !retired => fates.insert(name.clone(), Fate::Retires(place.clone())),
                (true, false) if retired => fates.insert(name.clone(), Fate::Added(place.clone())),
                (false, _) => fates.insert(name.clone(), Fate::Added(place.clone())),
                _ => None,
            };
        }
    }
    if let Some(was) = was {
        for (name, place) in &was.destinations {
            if is.is_some_and(|is| {
                is.destinations
                    .values()
                    .any(|now| now.in_kuma() == place.in_kuma())
            }) {
                continue;
            }
            let fate = if was.retiring.contains(name) {
                Fate::Released(place.clone())
            } else {
                Fate::Removed(place.clone())
            };
            // a new destination of that name is the greater news
            fates.entry(name.clone()).or_insert(fate);
        }
    }
    fates
}

fn routes(was: Option<&Item>, is: Option<&Item>) -> Vec<RouteChange> {
    let old = was.map_or(&[][..], |was| &was.routes);
    let new = is.map_or(&[][..], |is| &is.routes);
    let named =
        |routes: &'_ [ItemRoute], name: &RouteName| routes.iter().position(|route| route.name == *name);
    let gone = old.iter().filter(|route| named(new, &route.name).is_none());
    let mut changed = Vec::new();
    for name in new.iter().chain(gone).map(|route| &route.name) {
        let was = named(old, name).map(|at| &old[at]);
        let is = named(new, name).map(|at| &new[at]);
        let none = BTreeMap::new();
        let change = RouteChange {
            route: name.clone(),
            matches: Change::between(was.map(|was| &was.matches), is.map(|is| &is.matches)),
            weights: changes(
                was.map_or(&none, |was| &was.weights),
                is.map_or(&none, |is| &is.weights),
            ),
        };
        if change.matches.is_some() || !change.weights.is_empty() {
            changed.push(change);
        }
    }
    changed
}

fn reordered(was: Option<&Item>, is: Option<&Item>) -> bool {
    let (Some(was), Some(is)) = (was, is) else {
        return false;
    };
    let stays = |of: &'_ Item, other: &'_ Item| -> Vec<RouteName> {
        let names = of.routes.iter().map(|route| &route.name);
        names
            .filter(|name| other.routes.iter().any(|route| route.name == **name))
            .cloned()
            .collect()
    };
    stays(was, is) != stays(is, was)
}

impl PlanDiff {
    /// Whether nothing that a zone runs changes.
    pub fn is_empty(&self) -> bool {
        self.mesh.is_none() && self.zones.is_empty() && self.gateways.is_empty() && self.splits.is_empty()
    }
}
