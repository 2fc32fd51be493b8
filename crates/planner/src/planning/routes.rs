//! Routes as a plan must have them.

use weir_model::{BasisPoints, Protocol, Split};

use crate::plan::ItemRoute;
use crate::refusal::Flaw;

/// What every set of routes must be, in the order of precedence.
pub(super) fn check(split: &Split, routes: &[ItemRoute]) -> Result<(), Vec<Flaw>> {
    let mut flaws = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let name = || route.name.clone();
        if routes[..at].iter().any(|earlier| earlier.name == route.name) {
            flaws.push(Flaw::SameRoute(name()));
        }
        if at > 0 && routes[at - 1].matches.is_any() {
            flaws.push(Flaw::Unreachable(name()));
        }
        let same = routes[..at]
            .iter()
            .find(|earlier| earlier.matches == route.matches);
        if let Some(first) = same.filter(|_| !route.matches.is_any()) {
            flaws.push(Flaw::SameMatch {
                first: first.name.clone(),
                again: name(),
            });
        }
        if split.protocol == Protocol::Tcp && !route.matches.is_any() {
            flaws.push(Flaw::MatchOnTcp(name()));
        }
        for backend in route.weights.keys().filter(|b| !split.backends.contains_key(*b)) {
            flaws.push(Flaw::UnknownBackend {
                route: name(),
                backend: backend.clone(),
            });
        }
        let sum: u64 = route.weights.values().map(|weight| u64::from(weight.get())).sum();
        if sum != u64::from(BasisPoints::WHOLE.get()) {
            flaws.push(Flaw::Sum {
                route: name(),
                basis_points: sum,
            });
        }
    }
    if !routes.last().is_some_and(|last| last.matches.is_any()) && flaws.is_empty() {
        flaws.push(Flaw::NoDefault);
    }
    if flaws.is_empty() { Ok(()) } else { Err(flaws) }
}
