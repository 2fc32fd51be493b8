//! Drafts to a [`Declaration`]: references, sums, and all that can only be seen from several places at once.
//!
//! Whatever was unreadable has been reported; a check that would need it is left out, so that one mistake is one
//! diagnostic.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codes;
use crate::declaration::{
    Backend, Declaration, Federation, Match, Place, Platform, Protocol, Route, Split, Zone,
};
use crate::diagnostic::{Diagnostic, Label};
use crate::draft::{BackendDraft, Drafts, KumaZone, Matches, Namespace, RouteDraft, SplitDraft, ZoneDraft};
use crate::names::{BackendName, DnsLabel, ServiceName, ZoneName};
use crate::nearest::nearest;
use crate::pattern::Patterns;
use crate::reader::At;
use crate::weight::BasisPoints;

/// Checks everything; what is sound becomes the declaration.
pub(crate) fn declaration(drafts: &Drafts, diagnostics: &mut Vec<Diagnostic>) -> Declaration {
    let mut check = Check {
        zones: BTreeMap::new(),
        unreadable: &drafts.unreadable,
        diagnostics,
    };
    let federation = check.federation(drafts);
    let zones = check.zones(&drafts.zones);
    let mut splits = BTreeMap::new();
    check.split_names(&drafts.splits);
    for draft in &drafts.splits {
        if let Some(split) = check.split(draft) {
            splits
                .entry(split.name.clone())
                .or_insert_with(|| Arc::new(split));
        }
    }
    Declaration {
        federation,
        zones,
        splits,
    }
}

struct Check<'d> {
    /// Every zone with a name, however broken; the platform where it is known.
    zones: BTreeMap<ZoneName, Option<Platform>>,
    unreadable: &'d [Place],
    diagnostics: &'d mut Vec<Diagnostic>,
}

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

impl Check<'_> {
    fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// A name that an earlier thing of the same kind has.
    fn taken(&mut self, what: &str, name: &str, again: Label, first: Label) {
        self.push(
            Diagnostic::error(
                codes::DUPLICATE_NAME,
                format!("there are two {what} named `{name}`"),
                again,
            )
            .also(first)
            .help("rename one of them, or remove it if it is a copy"),
        );
    }

    fn federation(&mut self, drafts: &Drafts) -> Option<Federation> {
        let Some(first) = drafts.federations.first() else {
            let help = match self.unreadable.first() {
                None => "add a document with `kind: Federation` and a `metadata.name`".to_owned(),
                Some(place) => format!(
                    "add a document with `kind: Federation`, or mend {}, which could not be read and may hold it",
                    place.file
                ),
            };
            self.diagnostics.push(Diagnostic {
                labels: Vec::new(),
                ..Diagnostic::error(codes::NO_FEDERATION, "there is no Federation", empty_label()).help(help)
            });
            return None;
        };
        for again in drafts.federations.iter().skip(1) {
            self.push(
                Diagnostic::error(
                    codes::TWO_FEDERATIONS,
                    "there is more than one Federation",
                    again.place.label("another one"),
                )
                .also(first.place.label("the first"))
                .help("keep one: all sources together are one declaration"),
            );
        }
        Some(Federation {
            name: first.name.as_ref()?.value.clone(),
            mesh: first.mesh.clone()?,
            place: first.place.clone(),
        })
    }

    fn zones(&mut self, drafts: &[ZoneDraft]) -> BTreeMap<ZoneName, Zone> {
        let mut zones = BTreeMap::new();
        let mut first: BTreeMap<&ZoneName, &Place> = BTreeMap::new();
        let mut kuma: BTreeMap<DnsLabel, (&ZoneName, &Place)> = BTreeMap::new();
        for draft in drafts {
            let Some(At { value: name, place }) = &draft.name else {
                continue;
            };
            if let Some(earlier) = first.get(name) {
                self.taken(
                    "zones",
                    name.as_str(),
                    place.label("again here"),
                    earlier.label("first here"),
                );
                continue;
            }
            first.insert(name, place);
            self.zones.insert(name.clone(), draft.platform);
            let (kuma_zone, shown) = match &draft.kuma_zone {
                None => continue,
                Some(KumaZone::Own) => match DnsLabel::new(name.as_str()) {
                    Ok(label) => (label, place),
                    Err(_) => continue,
                },
                Some(KumaZone::Named(at)) => (at.value.clone(), &at.place),
            };
            if let Some((other, earlier)) = kuma.get(&kuma_zone) {
                self.diagnostics.push(
                    Diagnostic::error(
                        codes::TWO_ZONES,
                        format!("the zones `{other}` and `{name}` are the same Kuma zone `{kuma_zone}`"),
                        shown.label("this one"),
                    )
                    .also(earlier.label("and this one"))
                    .help("declare each Kuma zone once; `kumaZone` is the zone's own name if not given"),
                );
                continue;
            }
            kuma.insert(kuma_zone.clone(), (name, shown));
            if let (Some(platform), Some(wave)) = (draft.platform, draft.wave) {
                zones.insert(
                    name.clone(),
                    Zone {
                        name: name.clone(),
                        platform,
                        kuma_zone,
                        wave,
                        place: draft.place.clone(),
                    },
                );
            }
        }
        zones
    }

    /// Names, and services with their ports, that two splits claim. There is one mesh, so a port of a service
    /// is one thing; another port of the same service is another.
    fn split_names(&mut self, drafts: &[SplitDraft]) {
        let mut names: BTreeMap<_, &Place> = BTreeMap::new();
        let mut ports: BTreeMap<(&ServiceName, u16), &At<ServiceName>> = BTreeMap::new();
        for draft in drafts {
            if let Some(name) = &draft.name {
                if let Some(first) = names.get(&name.value) {
                    self.taken(
                        "splits",
                        name.value.as_str(),
                        name.place.label("again here"),
                        first.label("first here"),
                    );
                    // A copy shares its service as well; that would be the same mistake told twice.
                    continue;
                }
                names.insert(&name.value, &name.place);
            }
            let (Some(service), Some(port)) = (&draft.service, &draft.port) else {
                continue;
            };
            if let Some(first) = ports.get(&(&service.value, port.value)) {
                let message = format!(
                    "two splits for port {} of the service `{}`",
                    port.value, service.value
                );
                self.diagnostics.push(
                    Diagnostic::error(codes::TWO_SPLITS, message, service.place.label("this one"))
                        .also(first.place.label("and this one"))
                        .help("merge their routes into one split: two would overrule each other in the mesh"),
                );
                continue;
            }
            ports.insert((&service.value, port.value), service);
        }
    }

    fn split(&mut self, draft: &SplitDraft) -> Option<Split> {
        let backends = self.backends(draft);
        let routes = self.routes(draft);
        let split = Split {
            name: draft.name.as_ref()?.value.clone(),
            service: draft.service.as_ref()?.value.clone(),
            port: draft.port.as_ref()?.value,
            protocol: draft.protocol.as_ref()?.value,
            backends: backends?,
            routes: routes?,
            place: draft.place.clone(),
        };
        Some(split)
    }

    fn backends(&mut self, draft: &SplitDraft) -> Option<BTreeMap<BackendName, Backend>> {
        let mut sound = draft.backends.complete;
        let mut backends = BTreeMap::new();
        let mut destinations: BTreeMap<Backend, &At<BackendName>> = BTreeMap::new();
        for found in &draft.backends.found {
            let Some(backend) = self.backend(found) else {
                sound = false;
                continue;
            };
            if let Some(first) = destinations.get(&backend) {
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
            destinations.insert(backend.clone(), &found.name);
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
        })
    }

    fn unknown_zone(&mut self, zone: &At<ZoneName>) {
        let known: Vec<&str> = self.zones.keys().map(ZoneName::as_str).collect();
        let help = match (
            nearest(zone.value.as_str(), known.iter().copied()),
            self.unreadable.first(),
        ) {
            (Some(name), _) => format!("did you mean `{name}`?"),
            (None, Some(place)) => format!(
                "declare it with `kind: Zone`, or mend {}, which could not be read and may hold it",
                place.file
            ),
            (None, None) => format!("declare it with `kind: Zone`; declared are: {}", listed(known)),
        };
        let message = format!("there is no zone `{}`", zone.value);
        self.push(
            Diagnostic::error(codes::UNKNOWN_ZONE, message, zone.place.label("not declared")).help(help),
        );
    }

    fn unused_backends(&mut self, draft: &SplitDraft) {
        let routes = &draft.routes;
        if !routes.complete || routes.found.iter().any(|route| route.weights.place.is_none()) {
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
                self.taken("routes of one split", name.value.as_str(), again, first);
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
        let is_default = |route: &&RouteDraft| match &route.matches {
            Matches::Absent => true,
            Matches::Given(at) => at.value.is_any(),
            Matches::Unreadable(_) => false,
        };
        let defaults: Vec<&RouteDraft> = routes.found.iter().filter(is_default).collect();
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
        let last = routes.found.last().is_some_and(|last| is_default(&last));
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
            let known: Vec<&str> = draft
                .backends
                .found
                .iter()
                .map(|b| b.name.value.as_str())
                .collect();
            let help = match nearest(name.value.as_str(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add it to `backends`; there are: {}", listed(known)),
            };
            let message = format!("this split has no backend `{}`", name.value);
            self.push(
                Diagnostic::error(codes::UNKNOWN_BACKEND, message, name.place.label("not a backend"))
                    .help(help),
            );
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

/// Stands in where a diagnostic has no place; it is removed at once.
fn empty_label() -> Label {
    Label {
        source: crate::declaration::SourceName(String::new()),
        file: String::new(),
        span: crate::diagnostic::Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        },
        text: String::new(),
    }
}
