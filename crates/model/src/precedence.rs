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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::within;
    use crate::declaration::{HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};
    use crate::pattern::Patterns;

    /// A request as far as matches look at it.
    #[derive(Debug)]
    struct Request {
        path: String,
        method: String,
        headers: BTreeMap<String, String>,
        query: BTreeMap<String, String>,
    }

    fn holds(value: &ValueMatch, found: Option<&String>, patterns: &mut Patterns) -> bool {
        found.is_some_and(|found| match value {
            ValueMatch::Exact(wanted) => wanted == found,
            ValueMatch::Regex(regex) => patterns.matches(regex, found) == Some(true),
        })
    }

    /// What a match means, said a second time: request by request.
    fn takes(matches: &Match, request: &Request) -> bool {
        let mut patterns = Patterns::default();
        let path = match &matches.path {
            None => true,
            Some(PathMatch::Exact(path)) => *path == request.path,
            Some(PathMatch::Prefix(path)) => within(path, &request.path),
            Some(PathMatch::Regex(_)) => unreachable!("not generated"),
        };
        path && matches
            .method
            .as_ref()
            .is_none_or(|method| *method == request.method)
            && matches
                .headers
                .iter()
                .all(|h| holds(&h.value, request.headers.get(&h.name), &mut patterns))
            && matches
                .query
                .iter()
                .all(|q| holds(&q.value, request.query.get(&q.name), &mut patterns))
    }

    fn text(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
        proptest::sample::select(choices).prop_map(str::to_owned)
    }

    const PATHS: &[&str] = &["/", "/a", "/a/b", "/ab"];
    const METHODS: &[&str] = &["GET", "PUT"];
    const NAMES: &[&str] = &["x", "y"];

    fn values() -> impl Strategy<Value = BTreeMap<String, ValueMatch>> {
        let value = prop_oneof![
            text(&["a", "b", "ab"]).prop_map(ValueMatch::Exact),
            text(&["a", "a.*", "b|c", ".+"]).prop_map(ValueMatch::Regex),
        ];
        proptest::collection::btree_map(text(NAMES), value, 0..3)
    }

    fn a_match() -> impl Strategy<Value = Match> {
        let path = prop_oneof![
            text(PATHS).prop_map(PathMatch::Exact),
            text(PATHS).prop_map(PathMatch::Prefix),
        ];
        (
            proptest::option::of(path),
            proptest::option::of(text(METHODS)),
            values(),
            values(),
        )
            .prop_map(|(path, method, headers, query)| Match {
                path,
                method,
                headers: headers
                    .into_iter()
                    .map(|(name, value)| HeaderMatch { name, value })
                    .collect(),
                query: query
                    .into_iter()
                    .map(|(name, value)| QueryMatch { name, value })
                    .collect(),
            })
    }

    fn a_request() -> impl Strategy<Value = Request> {
        let found = || proptest::collection::btree_map(text(NAMES), text(&["a", "b", "ab", "c"]), 0..3);
        (text(PATHS), text(METHODS), found(), found()).prop_map(|(path, method, headers, query)| Request {
            path,
            method,
            headers,
            query,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn covers_and_overlaps_say_what_requests_do(a in a_match(), b in a_match(), request in a_request()) {
            let mut patterns = Patterns::default();
            let (by_a, by_b) = (takes(&a, &request), takes(&b, &request));
            if a.covers(&b, &mut patterns) {
                prop_assert!(by_a || !by_b, "{a:?} was said to cover {b:?}, but not at {request:?}");
            }
            if by_a && by_b {
                prop_assert!(a.overlaps(&b, &mut patterns) && b.overlaps(&a, &mut patterns));
            }
            prop_assert!(a.covers(&a, &mut patterns));
        }

        /// Whatever covers another and is no more specific is not tried before it, unless they rank alike: so that
        /// a route is only ever shadowed by one of its own rank.
        #[test]
        fn the_wider_match_is_never_tried_before_the_narrower(a in a_match(), b in a_match()) {
            let mut patterns = Patterns::default();
            if a.covers(&b, &mut patterns) {
                prop_assert!(a.specificity() >= b.specificity(), "{a:?} {b:?}");
            }
        }
    }
}
