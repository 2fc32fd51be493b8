//! Which route takes a request: the most specific match, of equals the first written.
//!
//! This is Gateway API's order, and the only one that Kuma, Kong and Gateway API all keep: an exact path before a
//! longer prefix before a shorter one; then a method before none; then more headers; then more query parameters.
//! Planning, rendering and explaining all ask here.

use std::cmp::Reverse;

use crate::declaration::{Match, PathMatch, Route, ValueMatch};
use crate::pattern::Patterns;

/// How specific a match is; the smaller comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Specificity {
    path: (PathRank, Reverse<usize>),
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PathRank {
    Exact,
    Prefix,
    Regex,
}

impl Match {
    /// How specific it is. No path counts as the prefix `/`.
    pub fn specificity(&self) -> Specificity {
        // Two different exact paths never take the same request: their length is no rank.
        let path = match &self.path {
            Some(PathMatch::Exact(_)) => (PathRank::Exact, Reverse(0)),
            Some(PathMatch::Prefix(path)) => (PathRank::Prefix, Reverse(path.len())),
            None => (PathRank::Prefix, Reverse(1)),
            Some(PathMatch::Regex(path)) => (PathRank::Regex, Reverse(path.len())),
        };
        Specificity {
            path,
            method: Reverse(self.method.is_some()),
            headers: Reverse(self.headers.len()),
            query: Reverse(self.query.len()),
        }
    }

    /// Whether every request that `other` matches is matched by this one too. Never says yes wrongly; between
    /// two regular expressions it says yes only if they are the same text.
    pub(crate) fn covers(&self, other: &Self, patterns: &mut Patterns) -> bool {
        covers_path(self.path.as_ref(), other.path.as_ref())
            && (self.method.is_none() || self.method == other.method)
            && self.headers.iter().all(|mine| {
                let theirs = other.headers.iter().find(|header| header.name == mine.name);
                theirs.is_some_and(|theirs| covers_value(&mine.value, &theirs.value, patterns))
            })
            && self.query.iter().all(|mine| {
                let theirs = other.query.iter().find(|query| query.name == mine.name);
                theirs.is_some_and(|theirs| covers_value(&mine.value, &theirs.value, patterns))
            })
    }

    /// Whether one request could match both. Never says no wrongly.
    pub(crate) fn overlaps(&self, other: &Self, patterns: &mut Patterns) -> bool {
        let methods = match (&self.method, &other.method) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        let headers = self.headers.iter().all(|mine| {
            let theirs = other.headers.iter().find(|header| header.name == mine.name);
            theirs.is_none_or(|theirs| overlaps_value(&mine.value, &theirs.value, patterns))
        });
        let query = self.query.iter().all(|mine| {
            let theirs = other.query.iter().find(|query| query.name == mine.name);
            theirs.is_none_or(|theirs| overlaps_value(&mine.value, &theirs.value, patterns))
        });
        methods && headers && query && overlaps_path(self.path.as_ref(), other.path.as_ref())
    }
}

/// Indices of routes in the order in which they are tried.
pub fn precedence(routes: &[Route]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..routes.len()).collect();
    order.sort_by_key(|at| routes.get(*at).map(|route| route.matches.specificity()));
    order
}

fn within(prefix: &str, path: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn covers_path(mine: Option<&PathMatch>, theirs: Option<&PathMatch>) -> bool {
    match (mine, theirs) {
        (None, _) => true,
        (Some(PathMatch::Prefix(prefix)), Some(PathMatch::Exact(path) | PathMatch::Prefix(path))) => {
            within(prefix, path)
        }
        (Some(PathMatch::Prefix(prefix)), _) => prefix == "/",
        (Some(mine), theirs) => Some(mine) == theirs,
    }
}

fn overlaps_path(mine: Option<&PathMatch>, theirs: Option<&PathMatch>) -> bool {
    match (mine, theirs) {
        (None, _) | (_, None) | (Some(PathMatch::Regex(_)), _) | (_, Some(PathMatch::Regex(_))) => true,
        (Some(PathMatch::Exact(mine)), Some(PathMatch::Exact(theirs))) => mine == theirs,
        (Some(PathMatch::Prefix(prefix)), Some(PathMatch::Exact(path)))
        | (Some(PathMatch::Exact(path)), Some(PathMatch::Prefix(prefix))) => within(prefix, path),
        (Some(PathMatch::Prefix(mine)), Some(PathMatch::Prefix(theirs))) => {
            within(mine, theirs) || within(theirs, mine)
        }
    }
}

fn covers_value(mine: &ValueMatch, theirs: &ValueMatch, patterns: &mut Patterns) -> bool {
    match (mine, theirs) {
        (ValueMatch::Regex(mine), ValueMatch::Exact(value)) => patterns.matches(mine, value) == Some(true),
        (mine, theirs) => mine == theirs,
    }
}

fn overlaps_value(mine: &ValueMatch, theirs: &ValueMatch, patterns: &mut Patterns) -> bool {
    match (mine, theirs) {
        (ValueMatch::Exact(mine), ValueMatch::Exact(theirs)) => mine == theirs,
        (ValueMatch::Regex(regex), ValueMatch::Exact(value))
        | (ValueMatch::Exact(value), ValueMatch::Regex(regex)) => {
            patterns.matches(regex, value) != Some(false)
        }
        (ValueMatch::Regex(_), ValueMatch::Regex(_)) => true,
    }
}
