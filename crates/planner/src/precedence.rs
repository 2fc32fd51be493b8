//! A split's routes in the one order and the one form that all who execute them keep.
//!
//! The order is the model's: the most specific match first, ties as written. A plan carries routes in that order, so that
//! two ways to write the same declaration are the same plan.

use std::collections::BTreeMap;

use weir_model::{BackendName, BasisPoints, Match, PathMatch, Split, precedence, sabotaged};

use crate::plan::ItemRoute;

/// The routes of a split, most specific first, ties as written, each match in its one form.
pub fn routes(split: &Split) -> Vec<ItemRoute> {
    let order = precedence(&split.routes);
    let routes = order.into_iter().filter_map(|at| split.routes.get(at));
    routes
        .map(|route| ItemRoute {
            name: route.name.clone(),
            matches: normal(&route.matches),
            weights: shaved(&route.weights),
        })
        .collect()
}

/// The weights as they are declared.
fn shaved(weights: &BTreeMap<BackendName, BasisPoints>) -> BTreeMap<BackendName, BasisPoints> {
    let mut weights = weights.clone();
    if sabotaged("shave-weights") {
        let mut all: Vec<u32> = weights.values().map(|weight| weight.get()).collect();
        all.rotate_left(1);
        for (weight, other) in weights.values_mut().zip(all) {
            *weight = BasisPoints::new(other).unwrap_or(*weight);
        }
    }
    weights
}

/// Prefix `/` is no condition; conditions that are all required have no order.
fn normal(matches: &Match) -> Match {
    let mut matches = matches.clone();
    if matches.path == Some(PathMatch::Prefix("/".to_owned())) {
        matches.path = None;
    }
    matches.headers.sort();
    matches.query.sort();
    matches
}
