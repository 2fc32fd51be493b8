//! What must hold within one split: backends that resolve, routes that can be reached, weights that add up.

use std::collections::BTreeMap;

use super::Check;
use crate::codes;
use crate::declaration::{Backend, Match, Place, Platform, Protocol, Route, Split};
use crate::diagnostic::Diagnostic;
use crate::draft::{BackendDraft, Matches, Namespace, RouteDraft, SplitDraft};
use crate::names::{BackendName, ZoneName};
use crate::nearest::nearest;
use crate::pattern::Patterns;
use crate::reader::At;
use crate::weight::BasisPoints;

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [first @ .., _] if first.len() >= 12 => {
            format!("{}, … ({} in all)", names[..12].join(", "), names.len())
        }
        _ => names.join(", "),
    }
}

impl<'d> Check<'d> {
    /// Checks one split; `None` when something in it is not sound.
    pub(super) fn split(&mut self, draft: &'d SplitDraft) -> Option<Split> {
        let backends = self.backends(draft);
        let routes = self.routes(draft);
        let transition = self.transition(draft);
        let fallback = self.fallbacks(draft);
        let gateways = self.doors(draft);
        self.takes(draft);
        let split = Split {
            name: draft.name.as_ref()?.value.clone(),
            service: draft.service.as_ref()?.value.clone(),
            port: draft.port.as_ref()?.value,
            port_names: draft
                .port_names
                .as_ref()?
                .iter()
                .map(|at| at.value.clone())
                .collect(),
            protocol: draft.protocol.as_ref()?.value,
            backends: backends?,
            routes: routes?,
            transition: transition?,
            streaming: draft.streaming.as_ref()?.as_ref().is_some_and(|at| at.value),
            freeze: draft.freeze.clone()?,
            fallback: fallback?,
            gateways: gateways?,
            place: draft.place.clone(),
        };
        Some(split)
    }

    fn backends(&mut self, draft: &SplitDraft) -> Option<BTreeMap<BackendName, Backend>> {
        let mut sound = draft.backends.complete;
        let mut backends = BTreeMap::new();
        let mut destinations: BTreeMap<_, &At<BackendName>> = BTreeMap::new();
        for found in &draft.backends.found {
            let Some(backend) = self.backend(found) else {
                sound = false;
                continue;
            };
            let destination = (backend.zone.clone(), backend.namespace.clone());
            if let Some(first) = destinations.get(&destination) {
                sound = false;
                let message = format!(
                    "the backends `{}` and `{}` are the same destination",
                    first.value, found.name.value
                );
                self.diagnostics.push(
                    Diagnostic::error(
                        codes::SAME_DESTINATION,
                        message,
                        found.name.place.label("this one"),
                    )
                    .also(first.place.label("and this one"))
                    .help("keep one and give it both weights: the mesh would add them up"),
                );
                continue;
            }
            destinations.insert(destination, &found.name);
            backends.insert(found.name.value.clone(), backend);
        }
        self.unused_backends(draft);
        sound.then_some(backends)
    }

    fn backend(&mut self, found: &BackendDraft) -> Option<Backend> {
        let zone = found.zone.as_ref()?;
        let Some(platform) = self.zones.get(&zone.value).copied() else {
            self.unknown_zone(zone);
            return None;
        };
        let namespace = match (&found.namespace, platform?) {
            (Namespace::Unreadable, _) => return None,
            (Namespace::Named(at), Platform::Vm) => {
                let message = format!("the zone `{}` runs on VMs and has no namespaces", zone.value);
                self.push(
                    Diagnostic::error(
                        codes::NAMESPACE_ON_VM,
                        message,
                        at.place.label("no namespace there"),
                    )
                    .help("remove `namespace`"),
                );
                return None;
            }
            (Namespace::Absent, Platform::Vm) => None,
            (Namespace::Named(at), _) => Some(at.value.clone()),
            (Namespace::Absent, _) => {
                let message = format!("the backend `{}` needs a namespace", found.name.value);
                self.push(
                    Diagnostic::error(
                        codes::NAMESPACE_MISSING,
                        message,
                        zone.place.label("this zone is a Kubernetes cluster"),
                    )
                    .help("add the `namespace` in which the service runs there"),
                );
                return None;
            }
        };
        Some(Backend {
            zone: zone.value.clone(),
            namespace,
            capacity: found.capacity.as_ref()?.as_ref().map(|at| at.value),
        })
    }

    pub(super) fn unknown_zone(&mut self, zone: &At<ZoneName>) {
        let known: Vec<&str> = self.zones.keys().map(ZoneName::as_str).collect();
        let help = match (
            nearest(zone.value.as_str(), known.iter().copied()),
            self.drafts.may_hold("Zone"),
        ) {
            (Some(name), _) => format!("did you mean `{name}`?"),
            (None, Some(file)) => {
                format!(
                    "declare it with `kind: Zone`, or mend {file}, which could not be read and may hold it"
                )
            }
            (None, None) => format!("declare it with `kind: Zone`; declared are: {}", listed(known)),
        };
        let message = format!("there is no zone `{}`", zone.value);
        self.push(
            Diagnostic::error(codes::UNKNOWN_ZONE, message, zone.place.label("not declared")).help(help),
        );
    }

    fn unused_backends(&mut self, draft: &SplitDraft) {
        let routes = &draft.routes;
        // A name that is misspelt in a route, or that could not be read, may be the one that seems unused.
        let known = |name: &BackendName| draft.backends.found.iter().any(|b| b.name.value == *name);
        let readable = |route: &RouteDraft| {
            route.weights.named && route.weights.found.iter().all(|(name, _)| known(&name.value))
        };
        if !routes.complete || !routes.found.iter().all(readable) {
            return;
        }
        for backend in &draft.backends.found {
            let named = |route: &RouteDraft| {
                let mut names = route.weights.found.iter().map(|(name, _)| &name.value);
                names.any(|name| *name == backend.name.value)
            };
            if !routes.found.iter().any(named) {
                let message = format!("no route names the backend `{}`", backend.name.value);
                self.push(
                    Diagnostic::error(
                        codes::UNUSED_BACKEND,
                        message,
                        backend.name.place.label("never used"),
                    )
                    .help("give it a weight (0 is one) in a route, or remove it"),
                );
            }
        }
    }

    fn routes(&mut self, draft: &SplitDraft) -> Option<Vec<Route>> {
        let found = &draft.routes.found;
        let mut sound = draft.routes.complete;
        let mut names: BTreeMap<_, &Place> = BTreeMap::new();
        for route in found {
            let Some(name) = &route.name else { continue };
            if let Some(first) = names.get(&name.value) {
                let (again, first) = (name.place.label("again here"), first.label("first here"));
                let message = format!("this split has two routes named `{}`", name.value);
                self.taken(message, again, first);
                sound = false;
            } else {
                names.insert(&name.value, &name.place);
            }
        }
        sound &= self.defaults(draft);
        sound &= self.tcp(draft);
        sound &= self.reachable(draft);
        let mut routes = Vec::new();
        for route in found {
            let weights = self.weights(route, draft);
            let matches = match &route.matches {
                Matches::Unreadable(_) => None,
                Matches::Absent => Some(Match::ANY),
                Matches::Given(at) => Some(at.value.clone()),
            };
            match (&route.name, matches, weights) {
                (Some(name), Some(matches), Some(weights)) => routes.push(Route {
                    name: name.value.clone(),
                    matches,
                    weights,
                    place: route.place.clone(),
                }),
                _ => sound = false,
            }
        }
        sound.then_some(routes)
    }

    /// Exactly one route without a match, and it is the last.
    fn defaults(&mut self, draft: &SplitDraft) -> bool {
        let routes = &draft.routes;
        let defaults: Vec<&RouteDraft> = routes.found.iter().filter(|route| route.is_default()).collect();
        let Some(first) = defaults.first() else {
            let Some(place) = routes.place.as_ref().filter(|_| routes.complete) else {
                return false;
            };
            self.push(
                Diagnostic::error(
                    codes::NO_DEFAULT,
                    "no route takes the requests that no match takes",
                    place.label("a route without `match` is missing"),
                )
                .help("add a last route without `match`, with the weights of all other requests"),
            );
            return false;
        };
        for again in defaults.iter().skip(1) {
            self.push(
                Diagnostic::error(
                    codes::TWO_DEFAULTS,
                    "more than one route has no match",
                    again.place.label("another one"),
                )
                .also(first.place.label("the first"))
                .help("keep one: it takes all requests that no other route takes"),
            );
        }
        let last = routes.found.last().is_some_and(RouteDraft::is_default);
        if !last && defaults.len() == 1 && routes.complete {
            self.push(
                Diagnostic::error(
                    codes::DEFAULT_NOT_LAST,
                    "the route without a match is not the last",
                    first.place.label("takes what no other route takes"),
                )
                .help("move it to the end of `routes`: it is tried last wherever it stands"),
            );
        }
        last && defaults.len() == 1
    }

    fn tcp(&mut self, draft: &SplitDraft) -> bool {
        let Some(protocol) = &draft.protocol else {
            return false;
        };
        let mut sound = true;
        for route in &draft.routes.found {
            let place = match (&route.matches, protocol.value) {
                (Matches::Given(at), Protocol::Tcp) => &at.place,
                (Matches::Unreadable(place), Protocol::Tcp) => place,
                (Matches::Given(at), Protocol::Grpc) => {
                    let method = at.value.method.as_deref().filter(|method| *method != "POST");
                    if let Some(method) = method {
                        sound = false;
                        let message = format!("no request can match: gRPC calls are POST, never {method}");
                        self.push(
                            Diagnostic::error(codes::NEVER_MATCHES, message, at.place.label("never true"))
                                .also(protocol.place.label("this is gRPC"))
                                .help("remove `method`; match the call by its path: /package.Service/Method"),
                        );
                    }
                    continue;
                }
                _ => continue,
            };
            sound = false;
            self.push(
                Diagnostic::error(
                    codes::MATCH_ON_TCP,
                    "a tcp connection has nothing to match",
                    place.label("a match"),
                )
                .also(protocol.place.label("this is tcp"))
                .help("leave one route without `match`, or declare the protocol that is really spoken"),
            );
        }
        sound
    }

    /// Routes that never take a request because another does, and routes tried in another order than written.
    fn reachable(&mut self, draft: &SplitDraft) -> bool {
        let mut sound = true;
        let mut patterns = Patterns::default();
        // Routes without a match are dealt with by `defaults`.
        let matches: Vec<(&RouteDraft, &At<Match>)> = draft
            .routes
            .found
            .iter()
            .filter_map(|route| match &route.matches {
                Matches::Given(at) if !at.value.is_any() => Some((route, at)),
                _ => None,
            })
            .collect();
        let mut order: Vec<usize> = (0..matches.len()).collect();
        order.sort_by_key(|at| matches.get(*at).map(|(_, m)| m.value.specificity()));
        for (rank, late) in order.iter().enumerate() {
            let Some((route, late_match)) = matches.get(*late) else {
                continue;
            };
            let earlier = order
                .iter()
                .take(rank)
                .filter_map(|at| Some((*at, matches.get(*at)?)));
            let mut warned = false;
            for (at, (other, other_match)) in earlier {
                if other_match.value.covers(&late_match.value, &mut patterns) {
                    sound = false;
                    let message = "no request reaches this route: another takes all of its requests";
                    self.diagnostics.push(
                        Diagnostic::error(codes::SHADOWED, message, route.place.label("never reached"))
                            .also(other.place.label("takes them first"))
                            .help("change one of the two matches, or remove this route"),
                    );
                    break;
                }
                // Tried before this one, though written after it.
                let inverted = at > *late;
                if inverted && !warned && other_match.value.overlaps(&late_match.value, &mut patterns) {
                    warned = true;
                    let message =
                        "a route written later is tried before this one: its match is more specific";
                    self.diagnostics.push(
                        Diagnostic::error(codes::ORDER, message, other.place.label("tried first"))
                            .also(route.place.label("written first"))
                            .help("write the more specific route first, so that the order reads as it works")
                            .warning(),
                    );
                }
            }
        }
        sound
    }

    fn weights(
        &mut self,
        route: &RouteDraft,
        draft: &SplitDraft,
    ) -> Option<BTreeMap<BackendName, BasisPoints>> {
        let weights = &route.weights;
        let mut sound = weights.complete && draft.backends.complete;
        for (name, _) in &weights.found {
            let known = draft
                .backends
                .found
                .iter()
                .any(|backend| backend.name.value == name.value);
            if known || !draft.backends.complete {
                continue;
            }
            sound = false;
            self.unknown_backend(draft, name);
        }
        if !weights.complete {
            return None;
        }
        let mut sum = 0;
        let mut values = BTreeMap::new();
        for (name, weight) in &weights.found {
            let weight = weight.as_ref()?.value;
            sum += weight.get();
            values.insert(name.value.clone(), weight);
        }
        let whole = BasisPoints::WHOLE.get();
        if sum != whole {
            self.sum(route, sum);
            return None;
        }
        sound.then_some(values)
    }

    pub(super) fn unknown_backend(&mut self, draft: &SplitDraft, name: &At<BackendName>) {
        let found = draft.backends.found.iter();
        let known: Vec<&str> = found.map(|b| b.name.value.as_str()).collect();
        let help = match nearest(name.value.as_str(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add it to `backends`; there are: {}", listed(known)),
        };
        let message = format!("this split has no backend `{}`", name.value);
        self.push(
            Diagnostic::error(codes::UNKNOWN_BACKEND, message, name.place.label("not a backend")).help(help),
        );
    }

    fn sum(&mut self, route: &RouteDraft, sum: u32) {
        let percent = |points: u32| match points % 100 {
            0 => format!("{}", points / 100),
            rest if rest % 10 == 0 => format!("{}.{}", points / 100, rest / 10),
            rest => format!("{}.{rest:02}", points / 100),
        };
        let whole = BasisPoints::WHOLE.get();
        let help = if sum < whole {
            format!(
                "{} is missing: raise the weights until they add up to 100",
                percent(whole - sum)
            )
        } else {
            format!(
                "{} is too much: lower the weights until they add up to 100",
                percent(sum - whole)
            )
        };
        let name = route
            .name
            .as_ref()
            .map_or_else(String::new, |name| format!(" `{}`", name.value));
        let message = format!(
            "the weights of the route{name} add up to {}, not 100",
            percent(sum)
        );
        let Some(place) = &route.weights.place else {
            return;
        };
        let last = route
            .weights
            .found
            .iter()
            .filter_map(|(_, weight)| weight.as_ref())
            .next_back();
        let primary = last.map_or_else(
            || place.label("no weight here"),
            |at| at.place.label(percent(at.value.get())),
        );
        let mut diagnostic = Diagnostic::error(codes::WEIGHTS_SUM, message, primary).help(help);
        for (_, weight) in &route.weights.found {
            let Some(weight) = weight
                .as_ref()
                .filter(|weight| last.is_none_or(|l| l.place != weight.place))
            else {
                continue;
            };
            diagnostic = diagnostic.also(weight.place.label(percent(weight.value.get())));
        }
        self.push(diagnostic);
    }
}
