//! The plans of a life: three splits between three backends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{
    Destination, Digest, Generation, Item, ItemRoute, PlanId, ServiceFact, ServiceState, ZonePlan, anchor,
    item_digest,
};

use super::Dice;

pub(crate) fn federation() -> FederationName {
    FederationName::new("shop").unwrap()
}

pub(crate) fn zone() -> ZoneName {
    ZoneName::new("fra").unwrap()
}

pub(crate) const BACKENDS: [(&str, &str); 3] = [("vm", "fra"), ("cloud", "ams"), ("lab", "par")];

pub(crate) fn service_fact(split: &str, zone: &str) -> ServiceFact {
    ServiceFact {
        service: ServiceName::new(split).unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: None,
        ports: BTreeMap::from([(8080, Some(Protocol::Http))]),
        port_names: [].into(),
        state: ServiceState::Available,
        way: weir_planner::Way::Unknown,
    }
}

pub(crate) fn item(split: &str, weights: [u32; 3], generation: u64) -> Item {
    let name = SplitName::new(split).unwrap();
    let mut item = Item {
        anchor: anchor(&federation(), &name),
        split: name,
        zone: zone(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service: ServiceName::new(split).unwrap(),
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        destinations: BACKENDS
            .iter()
            .map(|(backend, zone)| {
                (
                    BackendName::new(*backend).unwrap(),
                    Destination {
                        zone: ZoneName::new(*zone).unwrap(),
                        kuma_zone: DnsLabel::new(*zone).unwrap(),
                        namespace: None,
                        service: ServiceName::new(split).unwrap(),
                        port: 8080,
                    },
                )
            })
            .collect(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BACKENDS
                .iter()
                .zip(weights)
                .map(|((backend, _), w)| (BackendName::new(*backend).unwrap(), BasisPoints::new(w).unwrap()))
                .collect(),
        }],
        fallback: [].into(),
        doors: [].into(),
        generation: Generation(generation),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    item.digest = item_digest(&item);
    item
}

pub(crate) fn plan(generation: u64, items: impl IntoIterator<Item = Arc<Item>>) -> ZonePlan {
    let items: BTreeMap<_, _> = items.into_iter().map(|item| (item.split.clone(), item)).collect();
    let mut id = [0; 32];
    id[..8].copy_from_slice(&generation.to_le_bytes());
    ZonePlan {
        federation: federation(),
        zone: zone(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        plan: PlanId(id),
        generation: Generation(generation),
        commits: Vec::new(),
        gateways: [].into(),
        items,
    }
}

/// The next plan: some split changes, comes or goes.
pub(crate) fn next_plan(before: &ZonePlan, dice: &mut Dice) -> ZonePlan {
    let generation = before.generation.0 + 1 + dice.below(3);
    let mut items = before.items.clone();
    let split = ["checkout", "cart", "search"][usize::try_from(dice.below(3)).unwrap()];
    let name = SplitName::new(split).unwrap();
    if dice.chance(15) {
        items.remove(&name);
    } else {
        let a = u32::try_from(dice.below(11)).unwrap() * 1000;
        let b = if dice.chance(30) {
            (10_000 - a) / 2
        } else {
            10_000 - a
        };
        let fresh = item(split, [a, b, 10_000 - a - b], generation);
        // Nothing that changes nothing: an item keeps its generation as long as its content.
        if items.get(&name).is_none_or(|old| old.digest != fresh.digest) {
            items.insert(name, Arc::new(fresh));
        }
    }
    plan(generation, items.into_values())
}
