//! What an Envoy must run for an item, in Envoy's terms but as values: the same matches and shares, whatever text the
//! control plane writes them in.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{Match, PathMatch, ValueMatch};
use weir_planner::{Destination, Item};

use crate::policy::ANCHOR_HEADER;

/// One condition on the path, as Envoy has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    Exact(String),
    Prefix(String),
    Regex(String),
}

/// One Envoy route's conditions, in no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) path: Path,
    /// Lower-case name (`:method` for the method) and value.
    pub(crate) headers: BTreeSet<(String, ValueMatch)>,
    pub(crate) query: BTreeSet<(String, ValueMatch)>,
}

impl Conditions {
    /// Whether a request has to carry the anchor's value: then none ever takes this route.
    pub(crate) fn is_anchor(&self, value: &str) -> bool {
        let wanted = (ANCHOR_HEADER.to_owned(), ValueMatch::Exact(value.to_owned()));
        self.headers.contains(&wanted)
    }
}

/// Kuma makes two Envoy routes of a path prefix: the path itself and everything below it.
pub(crate) fn conditions(of: &Match) -> Vec<Conditions> {
    let paths = match &of.path {
        None => vec![Path::Prefix("/".to_owned())],
        Some(PathMatch::Prefix(value)) if value == "/" => vec![Path::Prefix("/".to_owned())],
        Some(PathMatch::Prefix(value)) => {
            let value = value.trim_end_matches('/');
            vec![Path::Exact(value.to_owned()), Path::Prefix(format!("{value}/"))]
        }
        Some(PathMatch::Exact(value)) => vec![Path::Exact(value.clone())],
        Some(PathMatch::Regex(value)) => vec![Path::Regex(value.clone())],
    };
    let mut headers: BTreeSet<_> = of
        .headers
        .iter()
        .map(|header| (header.name.to_lowercase(), header.value.clone()))
        .collect();
    if let Some(method) = &of.method {
        headers.insert((":method".to_owned(), ValueMatch::Exact(method.clone())));
    }
    let query: BTreeSet<_> = of
        .query
        .iter()
        .map(|one| (one.name.clone(), one.value.clone()))
        .collect();
    paths
        .into_iter()
        .map(|path| Conditions {
            path,
            headers: headers.clone(),
            query: query.clone(),
        })
        .collect()
}

/// The names that Envoy clusters of this item's destinations have: today's, and the ones of unified resource naming.
pub(crate) fn clusters(item: &Item) -> BTreeMap<String, &Destination> {
    let mut names = BTreeMap::new();
    for to in item.destinations.values() {
        let namespace = to.namespace.as_ref().map(ToString::to_string).unwrap_or_default();
        let (mesh, zone, service, port) = (&item.mesh, &to.kuma_zone, &to.service, to.port);
        names.insert(format!("{mesh}_{service}_{namespace}_{zone}_msvc_{port}"), to);
        names.insert(format!("kri_msvc_{mesh}_{zone}_{namespace}_{service}_{port}"), to);
    }
    names
}
