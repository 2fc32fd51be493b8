//! Doors of splits at gateways: who takes which requests, who carries the weights, and whether it can be said to Kong. The
//! rule behind most of it: Kong and the mesh never both split one path, for the shares would multiply.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::claims::{alike, claimed};
use crate::codes;
use crate::declaration::{Match, Place, Protocol, ValueMatch};
use crate::diagnostic::Diagnostic;
use crate::draft::{DoorDraft, EntryDraft, Matches, SplitDraft, ViaDraft};
use crate::gateway::{AtGateway, Channel, Door, Entry, Via};
use crate::names::{BackendName, GatewayName, ZoneName};
use crate::nearest::nearest;
use crate::reader::At;

impl<'d> Check<'d> {
    /// The doors of one split; `None` if one of them is not sound.
    pub(super) fn doors(&mut self, draft: &'d SplitDraft) -> Option<Vec<AtGateway>> {
        let mut sound = true;
        let mut doors = Vec::new();
        let mut taken: BTreeMap<(ZoneName, GatewayName), &Place> = BTreeMap::new();
        for found in draft.gateways.as_ref()? {
            let Some(zones) = self.zones_of(found) else {
                sound = false;
                continue;
            };
            for zone in &zones {
                let key = (zone.clone(), found.gateway.value.clone());
                if let Some(earlier) = taken.insert(key, &found.gateway.place) {
                    sound = false;
                    let message = format!(
                        "this split has two doors at the gateway `{}` of the zone `{zone}`",
                        found.gateway.value
                    );
                    self.claimed_twice(message, &found.gateway.place, earlier);
                }
                sound &= self.at_zone(draft, found, zone);
            }
            sound &= self.carried(draft, found);
            let Some(via) = self.via(draft, found) else {
                sound = false;
                continue;
            };
            let entry = match &found.entry {
                EntryDraft::Routes(routing) => Entry::Routes(routing.clone()),
                EntryDraft::Service(at) => Entry::Service(at.value.clone()),
                EntryDraft::HttpRoute(at) => Entry::HttpRoute(at.value.clone()),
            };
            doors.push(AtGateway {
                gateway: found.gateway.value.clone(),
                zones,
                door: Door { entry, via },
                place: found.place.clone(),
            });
        }
        sound.then_some(doors)
    }

    fn claimed_twice(&mut self, message: String, here: &Place, there: &Place) {
        self.push(
            Diagnostic::error(codes::CLAIMED_TWICE, message, here.label("this one"))
                .also(there.label("and this one"))
                .help("a request can go one way only: keep one, or make them differ in a host, a path or a header"),
        );
    }

    /// The zones that a door is for.
    fn zones_of(&mut self, door: &DoorDraft) -> Option<BTreeSet<ZoneName>> {
        let name = &door.gateway;
        let having: BTreeSet<ZoneName> = self
            .gateways
            .iter()
            .filter(|(_, gateways)| gateways.contains_key(&name.value))
            .map(|(zone, _)| zone.clone())
            .collect();
        let Some(named) = &door.zones else {
            if having.is_empty() {
                self.unknown_gateway(name, None);
                return None;
            }
            return Some(having);
        };
        let mut zones = BTreeSet::new();
        let mut sound = true;
        for zone in named {
            if !self.zones.contains_key(&zone.value) {
                self.unknown_zone(zone);
                sound = false;
            } else if !self.gateways.contains_key(&zone.value) {
                sound = false; // its gateways could not be read
            } else if !having.contains(&zone.value) {
                self.unknown_gateway(name, Some(zone));
                sound = false;
            } else {
                zones.insert(zone.value.clone());
            }
        }
        sound.then_some(zones)
    }

    fn unknown_gateway(&mut self, name: &At<GatewayName>, zone: Option<&At<ZoneName>>) {
        let unread = self.drafts.zones.iter().any(|zone| zone.gateways.is_none());
        if unread {
            return; // it may be one of those
        }
        let of_zone = |all: &ZoneName| zone.is_none_or(|zone| zone.value == *all);
        let known: BTreeSet<&str> = self
            .gateways
            .iter()
            .filter(|(of, _)| of_zone(of))
            .flat_map(|(_, gateways)| gateways.keys().map(GatewayName::as_str))
            .collect();
        let help = match nearest(name.value.as_str(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "declare it in the `gateways` of its Zone".to_owned(),
        };
        let (message, place) = match zone {
            Some(zone) => (
                format!("the zone `{}` has no gateway `{}`", zone.value, name.value),
                &zone.place,
            ),
            None => (format!("no zone has a gateway `{}`", name.value), &name.place),
        };
        self.push(Diagnostic::error(codes::UNKNOWN_GATEWAY, message, place.label("not declared")).help(help));
    }

    /// What a door must be to stand at the gateway of one zone.
    fn at_zone(&mut self, draft: &'d SplitDraft, door: &'d DoorDraft, zone: &ZoneName) -> bool {
        let gateway = self
            .gateways
            .get(zone)
            .and_then(|all| all.get(&door.gateway.value));
        let Some(gateway) = gateway.cloned().flatten() else {
            return false; // told already
        };
        let mut sound = true;
        let (mesh, place) = match &door.via {
            ViaDraft::Mesh(at) => (true, &at.place),
            ViaDraft::Addresses { place, .. } => (false, place),
        };
        if mesh != gateway.in_mesh {
            sound = false;
            let (message, help) = if mesh {
                (
                    format!(
                        "the gateway `{}` of the zone `{zone}` is not in the mesh",
                        gateway.name
                    ),
                    "give each backend's addresses in `backends`: then Kong carries the weights; or set `inMesh: true` on \
                     the gateway if it has a sidecar",
                )
            } else {
                (
                    format!(
                        "the gateway `{}` of the zone `{zone}` is in the mesh, which splits already: with a second split in \
                         Kong the shares would multiply",
                        gateway.name
                    ),
                    "give one address in `mesh`, where the gateway's sidecar listens for the service: the mesh carries the \
                     weights",
                )
            };
            self.push(
                Diagnostic::error(codes::SPLIT_TWICE, message, place.label("not this way"))
                    .also(gateway.place.label("the gateway"))
                    .help(help),
            );
        }
        match &door.entry {
            _ if gateway.channel == Channel::Kic => sound &= self.by_http_route(draft, door, &gateway),
            EntryDraft::Service(service) => sound &= self.base_service(draft, service, &gateway, zone),
            EntryDraft::HttpRoute(route) => {
                sound = false;
                let message = format!(
                    "the gateway `{}` of the zone `{zone}` is not run by Kong Ingress Controller: it has no HTTPRoutes",
                    gateway.name
                );
                let help = "say which `service` of its base the split takes over, or which `hosts` and `paths` its own route takes";
                self.no_route(&gateway, (&route.place, message, help));
            }
            EntryDraft::Routes(_) => {}
        }
        // Two doors of one split are told of as such.
        let own = |other: &DoorDraft| {
            draft
                .gateways
                .iter()
                .flatten()
                .any(|door| std::ptr::eq(door, other))
        };
        let mut other = None;
        for what in claimed(door) {
            let claims = self
                .claims
                .entry((zone.clone(), gateway.name.clone(), what))
                .or_default();
            let mut others = claims
                .iter()
                .filter(|other| !own(other) && alike(&other.entry, &door.entry));
            other = other.or(others.next().copied());
            claims.push(door);
        }
        if let Some(other) = other {
            sound = false;
            let message = format!(
                "two splits take the same requests at the gateway `{}` of the zone `{zone}`",
                gateway.name
            );
            self.claimed_twice(message, &door.place, &other.place);
        }
        sound
    }

    /// Whether what the split says can be said to Kong.
    fn carried(&mut self, draft: &SplitDraft, door: &DoorDraft) -> bool {
        let mut sound = true;
        if let Some(protocol) = &draft.protocol
            && matches!(protocol.value, Protocol::Tcp | Protocol::Http2)
        {
            sound = false;
            self.push(
                Diagnostic::error(
                    codes::GATEWAY_PROTOCOL,
                    format!("a gateway does not carry {}", protocol.value),
                    door.gateway.place.label("this gateway"),
                )
                .also(protocol.place.label("the split's protocol"))
                .help(
                    "Kong speaks http and grpc to its upstreams: leave this split to callers inside the mesh",
                ),
            );
        }
        if let (Some(protocol), EntryDraft::Routes(routing)) = (&draft.protocol, &door.entry)
            && protocol.value == Protocol::Grpc
            && !routing.https_redirect.is_default()
        {
            sound = false;
            let message = format!(
                "a gRPC client is not led elsewhere by the `httpsRedirect` of the gateway `{}`",
                door.gateway.value
            );
            self.push(
                Diagnostic::error(codes::TLS, message, door.gateway.place.label("this gateway"))
                    .also(protocol.place.label("the split's protocol"))
                    .help("remove `httpsRedirect`: a call without TLS is refused then"),
            );
        }
        if matches!(door.via, ViaDraft::Mesh(_)) {
            return sound; // the mesh tells routes apart
        }
        let taken_over = match &door.entry {
            EntryDraft::Routes(_) => None,
            EntryDraft::Service(_) => Some("a service of the base"),
            EntryDraft::HttpRoute(_) => Some("an HTTPRoute"),
        };
        let mut told: Vec<(&Match, &Place)> = Vec::new();
        for route in &draft.routes.found {
            let Matches::Given(at) = &route.matches else {
                continue;
            };
            if at.value.is_any() {
                continue;
            }
            let why = if let Some(what) = taken_over {
                Some(format!(
                    "{what} that is taken over has one way for all of its requests"
                ))
            } else {
                not_kongs(&at.value).map(str::to_owned).or_else(|| {
                    let mut both = told.iter().filter(|(other, _)| unordered(other, &at.value));
                    both.next().map(|_| {
                        "another route has as many headers and may match the same request: Kong does not say which is first"
                            .to_owned()
                    })
                })
            };
            if let Some(why) = why {
                sound = false;
                self.push(
                    Diagnostic::error(
                        codes::NOT_AT_GATEWAY,
                        format!("the gateway `{}` cannot tell the requests of this route apart", door.gateway.value),
                        at.place.label(why),
                    )
                    .also(door.gateway.place.label("this gateway"))
                    .help(
                        "at a gateway outside the mesh routes are told apart by exact values of headers; put the gateway into \
                         the mesh, or the route into a split of its own",
                    ),
                );
            }
            told.push((&at.value, &at.place));
        }
        sound
    }

    fn via(&mut self, draft: &SplitDraft, door: &DoorDraft) -> Option<Via> {
        let (backends, place) = match &door.via {
            ViaDraft::Mesh(at) => return Some(Via::Mesh(at.value.clone())),
            ViaDraft::Addresses { backends, place } => (backends, place),
        };
        let mut sound = true;
        let declared = || draft.backends.found.iter().map(|backend| &backend.name.value);
        for (name, _) in backends {
            if draft.backends.complete && !declared().any(|declared| *declared == name.value) {
                sound = false;
                let help = match nearest(name.value.as_str(), declared().map(BackendName::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "use a name from the split's `backends`".to_owned(),
                };
                let message = format!("the split has no backend `{}`", name.value);
                self.push(
                    Diagnostic::error(codes::UNKNOWN_BACKEND, message, name.place.label("not declared"))
                        .help(help),
                );
            }
        }
        for backend in
            declared().filter(|declared| !backends.iter().any(|(name, _)| name.value == **declared))
        {
            sound = false;
            let message = format!(
                "the gateway `{}` cannot reach the backend `{backend}`",
                door.gateway.value
            );
            self.push(
                Diagnostic::error(codes::NO_ADDRESS, message, place.label("no address of it here"))
                    .help("give its `host:port`, or a list of them; for a backend in another zone that zone's gateway"),
            );
        }
        let mut seen = BTreeMap::new();
        for (name, addresses) in backends {
            for address in addresses {
                if let Some(other) = seen.insert(address, name) {
                    sound = false;
                    let message = format!("`{address}` is an address of two backends");
                    self.push(
                        Diagnostic::error(codes::SAME_DESTINATION, message, name.place.label("this one"))
                            .also(other.place.label("and this one"))
                            .help("each backend has addresses of its own: Kong would add the weights up"),
                    );
                }
            }
        }
        let addresses = backends.iter();
        let addresses = addresses.map(|(name, addresses)| (name.value.clone(), addresses.clone()));
        sound.then(|| Via::Addresses(addresses.collect()))
    }
}

/// What of a match Kong cannot do, or orders in another way than the mesh does.
fn not_kongs(matches: &Match) -> Option<&'static str> {
    if matches.path.is_some() {
        Some("the mesh sees the path that Kong leaves of it")
    } else if !matches.query.is_empty() {
        Some("Kong's routes do not see query parameters")
    } else if matches.method.is_some() {
        Some("Kong puts headers before methods, the mesh methods before headers")
    } else if matches
        .headers
        .iter()
        .any(|header| !matches!(header.value, ValueMatch::Exact(_)))
    {
        Some("a regular expression over a header is another one to Kong")
    } else {
        None
    }
}

/// Whether a request may match both, and nothing says which comes first.
fn unordered(one: &Match, other: &Match) -> bool {
    let disjoint = one.headers.iter().any(|header| {
        let mut same = other.headers.iter().filter(|other| other.name == header.name);
        same.any(|other| other.value != header.value)
    });
    one.headers.len() == other.headers.len() && !disjoint
}
