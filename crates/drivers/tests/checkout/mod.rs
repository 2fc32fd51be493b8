//! The split `checkout` of mesh `default` in federation `shop`, as a zone's plan has it.

use std::collections::BTreeSet;

use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{Destination, Digest, Generation, Item, ItemRoute, anchor, item_digest};
use weir_render::{Object, Step};

pub(crate) fn federation() -> FederationName {
    FederationName::new("shop").unwrap()
}

pub(crate) fn mesh() -> MeshName {
    MeshName::new("default").unwrap()
}

/// A backend: its name, its zone, its namespace there.
pub(crate) type Backend = (&'static str, &'static str, Option<&'static str>);

/// In this zone, between these backends.
pub(crate) fn item(here: &str, backends: [Backend; 2], weights: [u32; 2], generation: u64) -> Item {
    let split = SplitName::new("checkout").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let names = backends.map(|(name, ..)| BackendName::new(name).unwrap());
    let destinations = backends.map(|(_, zone, namespace)| Destination {
        zone: ZoneName::new(zone).unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: namespace.map(|name| DnsLabel::new(name).unwrap()),
        service: service.clone(),
        port: 8080,
    });
    let weights = weights.map(|w| BasisPoints::new(w).unwrap());
    let mut item = Item {
        anchor: anchor(&federation(), &split),
        split,
        zone: ZoneName::new(here).unwrap(),
        kuma_zone: DnsLabel::new(here).unwrap(),
        mesh: mesh(),
        service,
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        destinations: names.clone().into_iter().zip(destinations).collect(),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: names.into_iter().zip(weights).collect(),
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

/// The step that writes it where nothing is.
pub(crate) fn put(item: &Item, object: Object) -> Step {
    Step::Put {
        object,
        reason: "absent".to_owned(),
        split: item.split.clone(),
        generation: item.generation,
        digest: item.digest,
    }
}
