//! What a door takes, as far as two doors may be in each other's way.

use std::collections::{BTreeMap, BTreeSet};

use crate::draft::{DoorDraft, EntryDraft, ViaDraft};
use crate::gateway::Address;
use crate::names::{GatewayName, ZoneName};

/// What doors take: by zone, gateway, and one host and path (or the service of the base), so that few are compared.
pub(super) type Claims<'d> = BTreeMap<(ZoneName, GatewayName, String), Vec<&'d DoorDraft>>;

/// Each host and path that a door takes, or the service of the base, or the HTTPRoute. A host holds no space, and a path begins with
/// `/`.
pub(super) fn claimed(door: &DoorDraft) -> Vec<String> {
    match &door.entry {
        EntryDraft::Service(at) => vec![format!("service {}", at.value)],
        EntryDraft::HttpRoute(at) => {
            let first = match &door.via {
                ViaDraft::Mesh(at) => Some(&at.value),
                ViaDraft::Addresses { backends, .. } => {
                    backends.iter().flat_map(|(_, addresses)| addresses).next()
                }
            };
            let service = first.and_then(Address::cluster_service);
            let namespace = service.map_or_else(String::new, |service| service.namespace.to_string());
            vec![format!("HTTPRoute {namespace}/{}", at.value)]
        }
        EntryDraft::Routes(routing) => {
            let any = BTreeSet::from([String::new()]);
            let or_any = |set: &BTreeSet<String>| if set.is_empty() { any.clone() } else { set.clone() };
            let paths = or_any(&routing.paths);
            let hosts = or_any(&routing.hosts);
            let with_paths = |host: &String| -> Vec<String> {
                paths.iter().map(|path| format!("{host} {path}")).collect()
            };
            hosts.iter().flat_map(with_paths).collect()
        }
    }
}

/// Whether no rule of Kong's tells requests for two doors of one host and path apart.
pub(super) fn alike(one: &EntryDraft, other: &EntryDraft) -> bool {
    match (one, other) {
        (EntryDraft::Routes(one), EntryDraft::Routes(other)) => {
            let no_methods = one.methods.is_empty() && other.methods.is_empty();
            let same_header = |(name, values): (&String, &BTreeSet<String>)| {
                let theirs = other.headers.get(name);
                theirs.is_some_and(|theirs| !theirs.is_disjoint(values))
            };
            (no_methods || !one.methods.is_disjoint(&other.methods))
                && one.headers.len() == other.headers.len()
                && one.headers.iter().all(same_header)
        }
        _ => true,
    }
}
