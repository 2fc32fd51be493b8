//! Doors at a Kong that Kong Ingress Controller runs: what an HTTPRoute of Gateway API can say, and what the controller makes of
//! it.
//!
//! A backend is a Service of the cluster, and an HTTPRoute reaches those of its own namespace alone. Where two texts mean the
//! same to the controller and not to Kong itself, one of them is refused.

use std::collections::BTreeSet;

use super::Check;
use crate::codes;
use crate::declaration::{Match, Place, Protocol};
use crate::diagnostic::Diagnostic;
use crate::draft::{DoorDraft, EntryDraft, Matches, SplitDraft, ViaDraft};
use crate::gateway::{Address, Gateway, Routing};
use crate::reader::At;

/// Rules in an HTTPRoute, and backends in a rule.
const RULES: usize = 16;
/// Matches in a rule: one for each path, method and value of a header together.
const MATCHES: usize = 64;
/// Matches in an HTTPRoute.
const ALL_MATCHES: usize = 128;
/// Headers in a match.
const HEADERS: usize = 16;
/// Hosts of an HTTPRoute.
const HOSTS: usize = 16;

impl Check<'_> {
    /// Whether an HTTPRoute could say what a door says. Each reason why not is told.
    pub(super) fn by_http_route(&mut self, draft: &SplitDraft, door: &DoorDraft, gateway: &Gateway) -> bool {
        let mut wrong: Vec<(Place, String, &str)> = Vec::new();
        match &door.entry {
            EntryDraft::Routes(routing) => {
                entry(routing, &door.place, &mut wrong);
                sizes(draft, routing, door, &mut wrong);
            }
            // What it takes is its own; how many routes stand behind it is looked at for all that are taken over.
            EntryDraft::HttpRoute(_) => several_backends(draft, door, &mut wrong),
            EntryDraft::Service(at) => wrong.push((
                at.place.clone(),
                "Kong Ingress Controller runs this gateway: it has no base to take a service from".to_owned(),
                "name an HTTPRoute of yours in `httpRoute`, or say which `hosts` and `paths` the split's own takes",
            )),
        }
        services(door, &mut wrong);
        let mut not_yet = false;
        if let Some(protocol) = &draft.protocol
            && protocol.value == Protocol::Grpc
        {
            not_yet = true;
            self.push(
                Diagnostic::error(
                    codes::NOT_YET,
                    format!(
                        "the gateway `{}` is run by Kong Ingress Controller: there grpc is not supported yet",
                        gateway.name
                    ),
                    protocol.place.label("not supported yet"),
                )
                .also(gateway.place.label("the gateway"))
                .help(
                    "leave this split to callers inside the mesh, or to gateways that are configured through their Admin API",
                ),
            );
        }
        let sound = wrong.is_empty() && !not_yet;
        for (place, message, help) in wrong {
            self.no_route(gateway, (&place, message, help));
        }
        sound
    }

    /// What no HTTPRoute of this gateway can say, or what is none.
    pub(super) fn no_route(&mut self, gateway: &Gateway, (place, message, help): (&Place, String, &str)) {
        self.push(
            Diagnostic::error(
                codes::NO_ROUTE,
                message,
                place.label("not as an HTTPRoute has it"),
            )
            .also(gateway.place.label("the gateway"))
            .help(help),
        );
    }
}

/// What is wrong, where, and what to do.
type Wrong = Vec<(Place, String, &'static str)>;

fn entry(routing: &Routing, place: &Place, wrong: &mut Wrong) {
    if let Some(host) = routing.hosts.iter().find(|host| host.ends_with(".*")) {
        wrong.push((
            place.clone(),
            format!("`{host}` ends in `*`"),
            "in an HTTPRoute a `*` stands for the first label alone: name the hosts",
        ));
    }
    if routing.hosts.len() > HOSTS {
        wrong.push((
            place.clone(),
            format!(
                "an HTTPRoute has at most {HOSTS} hosts, and this door {}",
                routing.hosts.len()
            ),
            "use a `*` as the first label, or split the hosts over several splits",
        ));
    }
    // The controller's own expression for such a name has single hyphens, and it drops all names of a route if one does not match.
    if let Some(name) = routing.snis.iter().find(|name| name.contains("--")) {
        wrong.push((
            place.clone(),
            format!("`{name}` of `snis` has two hyphens in a row"),
            "Kong Ingress Controller takes no such name, and would serve this route for every one: leave `snis` out, and say by \
             `hosts` what it takes",
        ));
    }
    let closed = |path: &&String| path.len() > 1 && path.ends_with('/');
    if let Some(path) = routing.paths.iter().find(closed) {
        wrong.push((
            place.clone(),
            format!("`{path}` ends in `/`"),
            "a prefix of an HTTPRoute is whole parts of a path, with or without the last `/`: write it without",
        ));
    }
    // Gateway API refuses an escaped slash.
    let escaped = |path: &&String| path.to_ascii_lowercase().contains("%2f");
    if let Some(path) = routing.paths.iter().find(escaped) {
        wrong.push((
            place.clone(),
            format!("`{path}` has an escaped `/`"),
            "Gateway API takes no `%2f` in a path: match a shorter prefix",
        ));
    }
}

fn services(door: &DoorDraft, wrong: &mut Wrong) {
    const FORM: &str =
        "write the Service as `name.namespace.svc:port`, with a port that the Service itself has";
    let mut namespaces = BTreeSet::new();
    let mut one = |address: &Address, place: &Place, wrong: &mut Wrong| match address.cluster_service() {
        Some(service) => drop(namespaces.insert(service.namespace)),
        None => wrong.push((
            place.clone(),
            format!("`{address}` is no Service of the cluster"),
            FORM,
        )),
    };
    let place = match &door.via {
        ViaDraft::Mesh(At { value, place }) => {
            one(value, place, wrong);
            place
        }
        ViaDraft::Addresses { backends, place } => {
            for (name, addresses) in backends {
                if addresses.len() > 1 {
                    wrong.push((
                        name.place.clone(),
                        format!("the backend `{}` is at {} addresses", name.value, addresses.len()),
                        "name one Service: who stands behind it is for its EndpointSlices",
                    ));
                }
                for address in addresses {
                    one(address, &name.place, wrong);
                }
            }
            place
        }
    };
    if namespaces.len() > 1 {
        let all: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
        wrong.push((
            place.clone(),
            format!("these Services are in several namespaces: {}", all.join(", ")),
            "an HTTPRoute reaches the Services of its own namespace: put a Service without a selector, with EndpointSlices of its own, \
             beside the others",
        ));
    }
}

fn several_backends(draft: &SplitDraft, door: &DoorDraft, wrong: &mut Wrong) {
    let backends = draft.backends.found.len();
    if backends > RULES && matches!(door.via, ViaDraft::Addresses { .. }) {
        wrong.push((
            door.place.clone(),
            format!("a rule of an HTTPRoute has at most {RULES} backends, and this split {backends}"),
            "split it into several",
        ));
    }
}

fn sizes(draft: &SplitDraft, routing: &Routing, door: &DoorDraft, wrong: &mut Wrong) {
    if let ViaDraft::Mesh(_) = &door.via {
        // The mesh tells routes apart, and there is one Service.
        let several = of_one(routing);
        if several > MATCHES || routing.headers.len() > HEADERS {
            wrong.push((
                door.place.clone(),
                too_many(several, routing.headers.len()),
                FEWER,
            ));
        }
        return;
    }
    several_backends(draft, door, wrong);
    if draft.routes.found.len() > RULES {
        wrong.push((
            door.place.clone(),
            format!(
                "an HTTPRoute has at most {RULES} rules, and this split {} routes",
                draft.routes.found.len()
            ),
            "put routes into a split of their own",
        ));
    }
    let mut all = 0_usize;
    for route in &draft.routes.found {
        let any = Match::default();
        let matches = match &route.matches {
            Matches::Given(at) => &at.value,
            _ => &any,
        };
        let names: BTreeSet<String> = matches
            .headers
            .iter()
            .map(|header| header.name.to_ascii_lowercase())
            .chain(routing.headers.keys().cloned())
            .collect();
        let several = of_one(routing);
        all = all.saturating_add(several);
        if several > MATCHES || names.len() > HEADERS {
            wrong.push((route.place.clone(), too_many(several, names.len()), FEWER));
        }
    }
    if all > ALL_MATCHES {
        wrong.push((
            door.place.clone(),
            format!(
                "the routes of this split would be {all} matches of an HTTPRoute, and it has at most {ALL_MATCHES}"
            ),
            FEWER,
        ));
    }
}

const FEWER: &str = "each path, method and value of a header together is one match: name fewer of them";

/// How many matches one route is.
fn of_one(routing: &Routing) -> usize {
    let values = routing.headers.values().map(BTreeSet::len);
    values.fold(
        routing.paths.len().max(1) * routing.methods.len().max(1),
        usize::saturating_mul,
    )
}

fn too_many(several: usize, headers: usize) -> String {
    format!(
        "this route would be {several} matches of an HTTPRoute, of {headers} headers each; it has at most {MATCHES}, of {HEADERS}"
    )
}
