//! The Kong side of the render room from outside: shares as targets, what the router can do, the document, and whether a Kong
//! may be given it. `router` is the test's own, independent idea of what Kong's and the mesh's routers do.

mod conflicts;
mod counting;
mod database;
mod dead;
mod documents;
mod kic;
mod noted;
mod ownership;
mod router;
mod shares;
mod tls;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{
    Address, BackendName, Base, BasisPoints, Channel, CommitId, Door, Entry, FederationName, Match, Protocol,
    RouteName, Routing, SourceName, Via,
};
use weir_planner::{Destination, Digest, GatewayPlan, Generation, Item, ItemRoute};

pub(crate) fn federation() -> FederationName {
    "shop".parse().expect("a name")
}

/// Backends and basis points.
pub(crate) type Weights<'a> = &'a [(&'a str, u32)];

pub(crate) fn weights(of: Weights<'_>) -> BTreeMap<BackendName, BasisPoints> {
    let one = |(name, weight): &(&str, u32)| {
        (
            name.parse().expect("a name"),
            BasisPoints::new(*weight).expect("a weight"),
        )
    };
    of.iter().map(one).collect()
}

pub(crate) fn route(name: &str, matches: Match, of: Weights<'_>) -> ItemRoute {
    ItemRoute {
        name: name.parse().expect("a name"),
        matches,
        weights: weights(of),
    }
}

/// A split of this name and these routes.
pub(crate) fn item(split: &str, routes: Vec<ItemRoute>) -> Item {
    Item {
        split: split.parse().expect("a name"),
        zone: "fra-vm".parse().expect("a name"),
        kuma_zone: "fra".parse().expect("a name"),
        mesh: "default".parse().expect("a name"),
        service: split.parse().expect("a name"),
        port: 8080,
        port_names: BTreeSet::new(),
        protocol: Protocol::Http,
        destinations: destinations(&routes),
        retiring: BTreeSet::new(),
        routes,
        anchor: String::new(),
        fallback: BTreeMap::new(),
        doors: BTreeMap::new(),
        generation: Generation(7),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    }
}

/// One for each backend: a zone of its name.
fn destinations(routes: &[ItemRoute]) -> BTreeMap<BackendName, Destination> {
    let backends = routes.iter().flat_map(|route| route.weights.keys());
    let one = |backend: &BackendName| Destination {
        zone: backend.as_str().parse().expect("a name"),
        kuma_zone: backend.as_str().parse().expect("a name"),
        namespace: None,
        service: "service".parse().expect("a name"),
        port: 8080,
    };
    backends.map(|backend| (backend.clone(), one(backend))).collect()
}

pub(crate) fn plain(split: &str, of: Weights<'_>) -> Item {
    item(split, vec![route("default", Match::ANY, of)])
}

pub(crate) fn address(text: &str) -> Address {
    Address::new(text).expect("an address")
}

/// Addresses of backends: `vm=10.0.0.1:80,10.0.0.2:80`.
pub(crate) fn addresses(of: &[&str]) -> Via {
    let one = |text: &&str| {
        let (name, list) = text.split_once('=').expect("name=addresses");
        let list = list.split(',').filter(|text| !text.is_empty()).map(address);
        (name.parse().expect("a name"), list.collect())
    };
    Via::Addresses(of.iter().map(one).collect())
}

pub(crate) fn routing(hosts: &[&str], paths: &[&str]) -> Routing {
    let set = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect();
    Routing {
        hosts: set(hosts),
        paths: set(paths),
        methods: BTreeSet::new(),
        headers: BTreeMap::new(),
        snis: [].into(),
        https_only: false,
        https_redirect: weir_model::Redirect::default(),
        strip_path: true,
        preserve_host: false,
    }
}

pub(crate) fn door(routing: Routing, via: Via) -> Door {
    Door {
        entry: Entry::Routes(routing),
        via,
    }
}

pub(crate) fn takes(service: &str, via: Via) -> Door {
    Door {
        entry: Entry::Service(service.to_owned()),
        via,
    }
}

/// Two backends of which each has one address.
pub(crate) fn pair() -> Via {
    addresses(&["vm=10.0.0.1:8080", "eks=10.0.0.2:8080"])
}

pub(crate) fn gateway(base: Option<serde_json::Value>) -> GatewayPlan {
    GatewayPlan {
        channel: Channel::AdminDbless,
        in_mesh: false,
        base: base.map(|base| Base {
            source: SourceName("main".to_owned()),
            file: "kong.yaml".to_owned(),
            document: base.to_string().into(),
        }),
        parent: None,
        generation: Generation(3),
        digest: Digest([0; 32]),
    }
}

pub(crate) fn name(text: &str) -> RouteName {
    text.parse().expect("a name")
}
