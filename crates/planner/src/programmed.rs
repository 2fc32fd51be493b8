//! What of an item reaches the callers' Envoys: no names of ours, no generation. Two items that are the same here replace no
//! listener, whatever else is different in them (`kuma.md` R9).

use std::collections::BTreeSet;

use weir_model::{BasisPoints, Match, MeshName, PortName, Protocol, ServiceName};

use crate::plan::{Destination, InKuma, Item, ItemRoute};

/// See the head of this file.
#[derive(PartialEq)]
pub(crate) struct Programmed<'a> {
    mesh: &'a MeshName,
    service: &'a ServiceName,
    port: u16,
    port_names: &'a BTreeSet<PortName>,
    /// Which kind of policy: http, http2 and grpc are written alike.
    tcp: bool,
    destinations: Vec<InKuma<'a>>,
    routes: Vec<ProgrammedRoute<'a>>,
}

#[derive(PartialEq)]
struct ProgrammedRoute<'a> {
    matches: &'a Match,
    weights: Vec<(Option<InKuma<'a>>, BasisPoints)>,
}

impl<'a> Programmed<'a> {
    pub(crate) fn of(item: &'a Item) -> Self {
        let route = |route: &'a ItemRoute| {
            let weights = route.weights.iter();
            ProgrammedRoute {
                matches: &route.matches,
                weights: weights
                    .map(|(name, weight)| (item.destinations.get(name).map(Destination::in_kuma), *weight))
                    .collect(),
            }
        };
        Self {
            mesh: &item.mesh,
            service: &item.service,
            port: item.port,
            port_names: &item.port_names,
            tcp: item.protocol == Protocol::Tcp,
            destinations: item.destinations.values().map(Destination::in_kuma).collect(),
            routes: item.routes.iter().map(route).collect(),
        }
    }
}
