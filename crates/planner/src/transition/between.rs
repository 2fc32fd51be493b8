//! The weights between two sets of weights.

use std::borrow::Cow;

use weir_model::{BasisPoints, Protocol};

use crate::plan::{Destination, Item, ItemRoute};
use crate::programmed::Programmed;

/// Whether callers see any difference between the two.
pub(super) fn moves(from: &Item, to: &Item) -> bool {
    Programmed::of(from) != Programmed::of(to)
}

/// Whether what changes is the share of requests: not only what stands ready for them.
pub(crate) fn shifts(from: &Item, to: &Item) -> bool {
    let shares = |item: &Item| -> Vec<_> {
        let route = |route: &ItemRoute| {
            let weights = route.weights.iter().filter(|(_, w)| **w > BasisPoints::ZERO);
            let mut weights: Vec<_> = weights
                .map(|(name, w)| {
                    let to = item.destinations.get(name);
                    (to.cloned(), *w)
                })
                .collect();
            weights.sort();
            (route.matches.clone(), weights)
        };
        item.routes.iter().map(route).collect()
    };
    shares(from) != shares(to)
}

/// Whether a backend has more of some requests in `to`.
pub(crate) fn gives_more(from: &Item, to: &Item, backend: &weir_model::BackendName) -> bool {
    shares_of(from, to, backend).any(|(has, gets)| has < gets)
}

/// Whether a backend has less of all requests of which it has anything in `from`.
pub(super) fn gives_less(from: &Item, to: &Item, backend: &weir_model::BackendName) -> bool {
    shares_of(from, to, backend).all(|(has, gets)| has == 0 || gets < has)
}

/// What a backend has and gets of the requests of each route, whatever that is called. What one of the two has no such route for
/// goes by its last one, which takes all.
fn shares_of<'a>(
    from: &'a Item,
    to: &'a Item,
    backend: &'a weir_model::BackendName,
) -> impl Iterator<Item = (u32, u32)> + 'a {
    let share = |of: &Item, route: &ItemRoute| {
        let by = route_for(of, route);
        by.map_or(0, |route| weight(route, backend))
    };
    let routes = from.routes.iter().chain(&to.routes);
    routes.map(move |route| (share(from, route), share(to, route)))
}

/// The route of an item that takes the same requests as one of another item. By what it matches: a name says nothing to callers.
pub(super) fn same_route<'a>(of: &'a Item, route: &ItemRoute) -> Option<&'a ItemRoute> {
    of.routes.iter().find(|other| other.matches == route.matches)
}

/// What takes the requests of a route in an item: the same route, or its last one, which takes all.
fn route_for<'a>(of: &'a Item, route: &ItemRoute) -> Option<&'a ItemRoute> {
    same_route(of, route).or(of.routes.last())
}

/// The routes that both have, as they are in each.
fn in_both<'a>(from: &'a Item, to: &'a Item) -> impl Iterator<Item = (&'a ItemRoute, &'a ItemRoute)> {
    let routes = to.routes.iter();
    routes.filter_map(|to| Some((same_route(from, to)?, to)))
}

/// How many bites it takes from one item to the other, if no weight of a route that both have may change by more than `most` in one
/// of them. A route that comes has its own weights from the first bite on, for nothing was declared of its requests before, and one
/// that goes is gone with it. One bite where the two have no weights in between: a backend that keeps its name and moves.
pub(super) fn bites(from: &Item, to: &Item, most: Option<BasisPoints>) -> u32 {
    if !comparable(from, to) {
        return 1;
    }
    let pairs = || {
        in_both(from, to).flat_map(|(from, to)| {
            let names = from.weights.keys().chain(to.weights.keys());
            names.map(|name| (weight(from, name), weight(to, name)))
        })
    };
    let largest = pairs().map(|(from, to)| from.abs_diff(to)).max().unwrap_or(0);
    let bites = match most.map(BasisPoints::get).filter(|most| *most > 0) {
        Some(most) => largest.div_ceil(most).max(1),
        None => 1,
    };
    // tcp has no anchor: the smallest weight first, then none, and no new connection meets a cluster that is gone (`kuma.md`
    // R1). From half or less to none nothing was lost, but nothing says that it never is.
    let ends = pairs().any(|(from, to)| from > 1 && to == 0);
    if to.protocol == Protocol::Tcp && ends {
        bites.saturating_add(1)
    } else {
        bites
    }
}

/// `to`, with the weights of the `bite`th of `bites`; `to` itself at the last one.
pub(super) fn between<'a>(from: &Item, to: &'a Item, bite: u32, bites: u32) -> Cow<'a, Item> {
    if bite >= bites || !comparable(from, to) {
        return Cow::Borrowed(to);
    }
    let mut item = to.clone();
    let tcp_ends = to.protocol == Protocol::Tcp
        && in_both(from, to).any(|(from, to)| {
            let mut names = from.weights.keys();
            names.any(|name| weight(from, name) > 1 && weight(to, name) == 0)
        });
    // the last bite of tcp only takes away the smallest weights
    let of = if tcp_ends { bites - 1 } else { bites };
    for route in &mut item.routes {
        if let Some(from) = same_route(from, route) {
            route.weights = weights(from, route, bite.min(of), of, tcp_ends);
        }
    }
    // A backend that is declared no more is a destination for as long as it has weight.
    for route in &item.routes {
        for name in route.weights.keys() {
            if let Some(there) = from
                .destinations
                .get(name)
                .filter(|_| !from.retiring.contains(name))
            {
                item.destinations
                    .entry(name.clone())
                    .or_insert_with(|| there.clone());
            }
        }
    }
    crate::doors::give(&mut item, &to.doors, &from.doors);
    Cow::Owned(item)
}

/// `there`, with the routes that go and stay until the last bite: of which somebody who is drained has less than of the one that
/// takes their requests then. To him no step gives more than he has, and in that one he has some way to go.
///
/// What zones whose leg has `begun` have of them stays, in those as in the ones that follow, whoever is drained by then: or two would
/// be more than a bite apart. What these have no more does not come again. A route whose name another one has by now goes.
pub(super) fn keeping<'a>(
    there: Cow<'a, Item>,
    (from, has, to): (&Item, &Item, &Item),
    begun: &[&Item],
    drained: impl Iterator<Item = &'a weir_model::BackendName> + Clone,
) -> Cow<'a, Item> {
    if !comparable(from, to) {
        return there; // all of it is another place by now
    }
    let Some(last) = there.routes.last() else {
        return there;
    };
    let goes = |route: &&ItemRoute| {
        let named = there.routes.iter().any(|other| other.name == route.name);
        !named && same_route(&there, route).is_none()
    };
    let stays = |route: &&ItemRoute| {
        if !begun.is_empty() {
            return begun.iter().any(|has| same_route(has, route).is_some());
        }
        let mut drained = drained.clone();
        drained.any(|drained| weight(last, drained) > weight(route, drained))
    };
    let kept: Vec<ItemRoute> = has
        .routes
        .iter()
        .filter(goes)
        .filter(|route| stays(route))
        .cloned()
        .collect();
    if kept.is_empty() {
        return there;
    }
    let mut item = there.into_owned();
    for mut route in kept {
        let declared = &item.destinations;
        route
            .weights
            .retain(|name, weight| *weight > BasisPoints::ZERO || declared.contains_key(name));
        for name in route.weights.keys() {
            if let Some(there) = has.destinations.get(name) {
                item.destinations
                    .entry(name.clone())
                    .or_insert_with(|| there.clone());
            }
        }
        item.routes.push(route);
    }
    item.routes.sort_by_key(|route| route.matches.specificity());
    crate::doors::give(&mut item, &to.doors, &from.doors);
    Cow::Owned(item)
}

/// Of each route's requests what that of the two items does with them by which none of these backends has more than by the other; what
/// `one` does where both do alike. None where by both somebody has more of some requests, or where the two cannot be put together.
pub(super) fn least<'a>(
    one: &Item,
    other: &Item,
    barred: impl Iterator<Item = &'a weir_model::BackendName> + Clone,
) -> Option<Item> {
    if !comparable(one, other) || !comparable(other, one) {
        return None;
    }
    let no_more = |by: &ItemRoute, than: &ItemRoute| {
        barred
            .clone()
            .all(|barred| weight(by, barred) <= weight(than, barred))
    };
    let mut item = one.clone();
    let retiring = std::mem::take(&mut item.retiring);
    item.destinations.retain(|name, _| !retiring.contains(name));
    item.routes.clear();
    let only_there = other
        .routes
        .iter()
        .filter(|route| same_route(one, route).is_none());
    for route in one.routes.iter().chain(only_there) {
        let (here, there) = (route_for(one, route)?, route_for(other, route)?);
        let (of, by) = if no_more(here, there) {
            (one, here)
        } else if no_more(there, here) {
            (other, there)
        } else {
            return None;
        };
        // One name may be that of two routes by now.
        if item.routes.iter().any(|earlier| earlier.name == route.name) {
            return None;
        }
        let mut weights = by.weights.clone();
        weights.retain(|name, weight| *weight > BasisPoints::ZERO || item.destinations.contains_key(name));
        for name in weights.keys() {
            if let Some(place) = of.destinations.get(name) {
                item.destinations
                    .entry(name.clone())
                    .or_insert_with(|| place.clone());
            }
        }
        item.routes.push(ItemRoute {
            weights,
            ..route.clone()
        });
    }
    item.routes.sort_by_key(|route| route.matches.specificity());
    crate::doors::give(&mut item, &other.doors, &one.doors);
    Some(item)
}

/// Parts of the way, in whole basis points. From bite to bite each weight only rises or only falls: who has nothing any more on
/// his way to nothing, and may have been stopped, gets not even one basis point again because of how the others are rounded.
fn weights(
    from: &ItemRoute,
    to: &ItemRoute,
    bite: u32,
    of: u32,
    keep_smallest: bool,
) -> std::collections::BTreeMap<weir_model::BackendName, BasisPoints> {
    let names: std::collections::BTreeSet<_> = from.weights.keys().chain(to.weights.keys()).collect();
    let (falls, rises): (Vec<u32>, Vec<u32>) = names
        .iter()
        .map(|name| (weight(from, name), weight(to, name)))
        .map(|(f, t)| (f.saturating_sub(t), t.saturating_sub(f)))
        .unzip();
    let all: u64 = falls.iter().copied().map(u64::from).sum();
    let (bite, of) = (u64::from(bite), u64::from(of));
    // The nearest; a half stays where it is.
    let moved = u32::try_from((2 * all * bite + of - 1) / (2 * of)).unwrap_or(u32::MAX);
    let (falls, rises) = (one_by_one(&falls, moved), one_by_one(&rises, moved));
    let mut parts: Vec<(&weir_model::BackendName, u32)> = names
        .into_iter()
        .zip(falls.into_iter().zip(rises))
        .map(|(name, (fall, rise))| (name, (weight(from, name) + rise).saturating_sub(fall)))
        .collect();
    if keep_smallest {
        // one basis point for each that ends, from the largest
        let ending: Vec<usize> = (0..parts.len())
            .filter(|at| {
                let name = parts[*at].0;
                weight(from, name) > 1 && weight(to, name) == 0 && parts[*at].1 == 0
            })
            .collect();
        for at in ending {
            let largest = (0..parts.len()).max_by_key(|at| (parts[*at].1, std::cmp::Reverse(*at)));
            if let Some(largest) = largest.filter(|largest| parts[*largest].1 > 1) {
                parts[largest].1 -= 1;
                parts[at].1 = 1;
            }
        }
    }
    parts
        .into_iter()
        .filter(|(name, part)| *part > 0 || to.weights.contains_key(*name))
        .map(|(name, part)| (name.clone(), BasisPoints::new(part).unwrap_or(BasisPoints::ZERO)))
        .collect()
}

/// The first so many of some amounts, in proportion: each one to where most is missing, of equals to the first. More of them take
/// nothing back of what fewer were, and all of them are the amounts.
fn one_by_one(amounts: &[u32], so_many: u32) -> Vec<u32> {
    let some: Vec<usize> = (0..amounts.len()).filter(|at| amounts[*at] > 0).collect();
    let all: u32 = amounts.iter().sum();
    let so_many = so_many.min(all);
    let mut given = vec![0; amounts.len()];
    match some[..] {
        [] => given,
        [one] => {
            given[one] = so_many;
            given
        }
        // Of two the first one has the nearest whole, and a half.
        [one, other] => {
            let (all, so_many_of) = (u64::from(all), u64::from(so_many) * u64::from(amounts[one]));
            let first = u32::try_from((2 * so_many_of + all) / (2 * all)).unwrap_or(so_many);
            (given[one], given[other]) = (first, so_many - first);
            given
        }
        _ => in_turn(amounts, so_many),
    }
}

/// The same of any number of amounts.
fn in_turn(amounts: &[u32], so_many: u32) -> Vec<u32> {
    let all: i64 = amounts.iter().copied().map(i64::from).sum();
    let mut given = vec![0; amounts.len()];
    for number in 1..=i64::from(so_many) {
        let missing = |at: usize| i64::from(amounts[at]) * number - i64::from(given[at]) * all;
        let open = (0..amounts.len()).filter(|at| given[*at] < amounts[*at]);
        let Some(next) = open.max_by_key(|at| (missing(*at), std::cmp::Reverse(*at))) else {
            break;
        };
        given[next] += 1;
    }
    given
}

fn weight(route: &ItemRoute, name: &weir_model::BackendName) -> u32 {
    route.weights.get(name).copied().unwrap_or_default().get()
}

/// Whether there is anything in between: every name means the same place in both.
fn comparable(from: &Item, to: &Item) -> bool {
    // A name that means another place, or a place under another name, has nothing in between.
    let same_place = |(name, place): (&weir_model::BackendName, &Destination)| {
        let mut there = to.destinations.iter().filter(|(other, at)| {
            let (same_name, same_place) = (*other == name, at.in_kuma() == place.in_kuma());
            same_name != same_place
        });
        there.next().is_none()
    };
    let mut stays = from
        .destinations
        .iter()
        .filter(|(name, _)| !from.retiring.contains(*name));
    (from.protocol == Protocol::Tcp) == (to.protocol == Protocol::Tcp)
        && from.service == to.service
        && from.port == to.port
        && stays.all(same_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done at once of one amount and of two is what each in turn comes to.
    #[test]
    fn at_once_is_what_each_in_turn_comes_to() {
        for first in 0..24 {
            for second in 0..24 {
                for so_many in 0..=first + second + 2 {
                    let amounts = [0, first, 0, second];
                    assert_eq!(
                        one_by_one(&amounts, so_many),
                        in_turn(&amounts, so_many),
                        "{amounts:?} {so_many}"
                    );
                }
            }
        }
        for so_many in (0..=10_000).step_by(7) {
            let amounts = [3_333, 6_667];
            assert_eq!(
                one_by_one(&amounts, so_many),
                in_turn(&amounts, so_many),
                "{so_many}"
            );
        }
    }
}
