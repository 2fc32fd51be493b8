//! A split's routes in the one order and the one form that all who execute them keep.
//!
//! Gateway API, Kuma and Kong order routes by how specific they are; ties go to the first written. A plan carries routes
//! in that order, so that two ways to write the same declaration are the same plan.

use std::cmp::Reverse;

use weir_model::{Match, PathMatch, Split};

use crate::plan::ItemRoute;

/// The routes of a split, most specific first, ties as written, each match in its one form.
pub fn routes(split: &Split) -> Vec<ItemRoute> {
    let mut routes: Vec<ItemRoute> = split
        .routes
        .iter()
        .map(|route| ItemRoute {
            name: route.name.clone(),
            matches: normal(&route.matches),
            weights: route.weights.clone(),
        })
        .collect();
    routes.sort_by_cached_key(|route| rank(&route.matches));
    routes
}

/// Where a match stands: less is earlier. Kind of path, then its length, then method, number of headers, number of
/// query parameters. A match without a path stands where prefix `/` does, for so it is written to every mesh.
pub fn rank(matches: &Match) -> (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>) {
    let (kind, length) = match &matches.path {
        Some(PathMatch::Exact(path)) => (0, path.len()),
        Some(PathMatch::Prefix(path)) => (1, path.len()),
        None => (1, "/".len()),
        Some(PathMatch::Regex(path)) => (2, path.len()),
    };
    (
        kind,
        Reverse(length),
        matches.method.is_none(),
        Reverse(matches.headers.len()),
        Reverse(matches.query.len()),
    )
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
