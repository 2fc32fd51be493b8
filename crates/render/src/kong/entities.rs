//! Our own entities: their names, their tags, and how they are written.
//!
//! A route of a split is an upstream, a service and a route of one name. They declare no ids: Kong makes them of names.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_model::{Address, Entry, FederationName, Host, Protocol, RouteName, Routing, SplitName, Via};
use weir_planner::{Generation, Item};

use crate::kong::document::AtDoor;
use crate::kong::fits::{self, Shape};
use crate::kong::targets::Targets;

/// The first of our tags, which every entity of ours has and no other may have.
pub const TAG: &str = "weir";
/// How names of ours begin, and our other tags.
pub const OURS: &str = "weir.";

/// How the tag begins that says which pin the weights of an upstream and its targets are of. Absent where nobody pinned it. It outranks generations: other
/// agents that drive the same gateway leave the split to whoever pinned it.
pub const PIN: &str = "weir.pin.";

/// How often Kong tries another target if one takes no connection. Its default, 5, hides a dead backend altogether: its share
/// goes to the others and nobody sees an error (fact 14). Not 0: a target may close a kept connection while it is taken.
pub const RETRIES: u32 = 1;

/// Kong's default for connecting, reading and writing, in milliseconds.
const TIMEOUT: u32 = 60_000;

/// The name of what carries one route of a split.
pub fn name(split: &SplitName, route: &RouteName) -> String {
    format!("{OURS}{split}.{route}")
}

/// The name of the service and route of a door at which the mesh carries the weights.
pub fn mesh_name(split: &SplitName) -> String {
    format!("{OURS}{split}")
}

/// What a tag of ours says after its name, `weir.split.` or so.
pub(crate) fn said<'a>(tags: &'a BTreeSet<String>, what: &str) -> Option<&'a str> {
    let mut tags = tags.iter();
    tags.find_map(|tag| tag.strip_prefix(OURS)?.strip_prefix(what)?.strip_prefix('.'))
}

/// The split that a tag of ours names.
pub(crate) fn split_of_tag(tag: &str) -> Option<SplitName> {
    tag.strip_prefix(OURS)?.strip_prefix("split.")?.parse().ok()
}

/// Whose entities, and made from what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark<'a> {
    pub(crate) federation: &'a FederationName,
    /// The generation in which the gateway itself, its base included, last changed.
    pub(crate) gateway: Generation,
    pub(crate) item: &'a Item,
    /// Which pin its weights are of, if any.
    pub(crate) pin: Option<&'a str>,
}

/// The tags of what is of no split.
pub(crate) fn nothings(federation: &FederationName, gateway: Generation) -> Vec<String> {
    vec![
        TAG.to_owned(),
        format!("{OURS}federation.{federation}"),
        format!("{OURS}gateway.{gateway}"),
        format!("{OURS}generation.{gateway}"),
    ]
}

impl Mark<'_> {
    pub(crate) fn tags(&self, route: Option<&RouteName>) -> Vec<String> {
        let mut tags = vec![
            TAG.to_owned(),
            format!("{OURS}commit.{}", self.item.commit.short()),
            format!("{OURS}federation.{}", self.federation),
            format!("{OURS}gateway.{}", self.gateway),
            format!("{OURS}generation.{}", self.item.generation),
        ];
        tags.extend(route.map(|route| format!("{OURS}route.{route}")));
        tags.push(format!("{OURS}split.{}", self.item.split));
        tags
    }

    /// The upstream of a route.
    pub(crate) fn upstream(&self, route: &RouteName, targets: &Targets, host: Option<&str>) -> Value {
        // A pin is of weights: who has none is not pinned.
        let mut tags = self.tags(Some(route));
        tags.extend(self.pin.map(|pin| format!("{PIN}{pin}")));
        tags.sort_unstable();
        let targets: Vec<Value> = targets
            .iter()
            .map(|(address, target)| {
                json!({ "target": address.to_string(), "weight": target.weight, "tags": tags })
            })
            .collect();
        let mut upstream = json!({
            "name": name(&self.item.split, route),
            "algorithm": "round-robin",
            "tags": tags,
            "targets": targets,
        });
        if let Some(host) = host {
            upstream["host_header"] = host.into();
        }
        upstream
    }

    /// The services of a door that has routes of its own, each with its one route.
    pub(crate) fn services(&self, at: &AtDoor<'_>, routing: &Routing) -> Result<Vec<Value>, Vec<String>> {
        let split = &self.item.split;
        match &at.door.via {
            Via::Mesh(address) => {
                let name = mesh_name(split);
                let (host, port) = host_and_port(address);
                let route = self.route(&name, None, routing, &fits::plain(routing));
                Ok(vec![self.service(&name, None, &host, port, route)])
            }
            Via::Addresses(_) => {
                let routes: Vec<_> = self.item.routes.iter().map(|r| (&r.name, &r.matches)).collect();
                let shapes = fits::shapes(&routes, routing)?;
                let services = routes.iter().zip(&shapes).map(|((route, _), shape)| {
                    let name = name(split, route);
                    let one = self.route(&name, Some(route), routing, shape);
                    // The port of a service that has an upstream means nothing: targets have their own.
                    self.service(&name, Some(route), &name, 80, one)
                });
                Ok(services.collect())
            }
        }
    }

    fn service(&self, name: &str, of: Option<&RouteName>, host: &str, port: u16, route: Value) -> Value {
        json!({
            "name": name,
            "protocol": if self.item.protocol == Protocol::Grpc { "grpc" } else { "http" },
            "host": host,
            "port": port,
            "retries": RETRIES,
            "connect_timeout": TIMEOUT,
            "read_timeout": TIMEOUT,
            "write_timeout": TIMEOUT,
            "tags": self.tags(of),
            "routes": [route],
        })
    }

    fn route(&self, name: &str, of: Option<&RouteName>, routing: &Routing, shape: &Shape) -> Value {
        let grpc = self.item.protocol == Protocol::Grpc;
        let protocols: &[&str] = match (grpc, routing.https_only) {
            (false, false) => &["http", "https"],
            (false, true) => &["https"],
            (true, false) => &["grpc", "grpcs"],
            (true, true) => &["grpcs"],
        };
        let mut route = json!({
            "name": name,
            "protocols": protocols,
            // Kong refuses to strip anything of a gRPC call.
            "strip_path": shape.strip_path && !grpc,
            "preserve_host": routing.preserve_host,
            "tags": self.tags(of),
        });
        if !routing.https_redirect.is_default() {
            route["https_redirect_status_code"] = routing.https_redirect.code().into();
        }
        if !routing.snis.is_empty() {
            route["snis"] = json!(routing.snis);
        }
        if !routing.hosts.is_empty() {
            route["hosts"] = json!(routing.hosts);
        }
        if !shape.paths.is_empty() {
            route["paths"] = json!(shape.paths);
        }
        if !shape.methods.is_empty() {
            route["methods"] = json!(shape.methods);
        }
        if !shape.headers.is_empty() {
            route["headers"] = json!(shape.headers);
        }
        route
    }
}

/// As a service has them.
pub(crate) fn host_and_port(address: &Address) -> (String, u16) {
    (address.host.to_string(), address.port)
}

/// Whether Kong can speak to a split's backends, and take requests for them at this door.
pub(crate) fn speaks(at: &AtDoor<'_>) -> Result<(), String> {
    let protocol = at.item.protocol;
    match protocol {
        Protocol::Http => Ok(()),
        Protocol::Grpc => {
            let of_door = matches!(&at.door.entry, Entry::Routes(routing) if !routing.methods.is_empty());
            let of_routes = at.item.routes.iter().any(|route| route.matches.method.is_some())
                && matches!(at.door.via, Via::Addresses(_));
            if of_door || of_routes {
                return Err("Kong takes no condition on the method of a gRPC call".to_owned());
            }
            Ok(())
        }
        Protocol::Http2 | Protocol::Tcp => Err(format!(
            "its protocol is {protocol}, and what is behind a door speaks http (HTTP/1.1) or grpc"
        )),
    }
}

/// The one DNS name that all backends of a door have, if they have one: what Kong calls them by in `Host`, as it would if
/// their targets were names. With several names no upstream can do that.
pub(crate) fn one_name(via: &Via) -> Names<'_> {
    let Via::Addresses(backends) = via else {
        return Names::None;
    };
    let hosts: BTreeSet<&Host> = backends.values().flatten().map(|address| &address.host).collect();
    let mut hosts = hosts.into_iter();
    match (hosts.next(), hosts.next()) {
        (Some(Host::Name(name)), None) => Names::One(name),
        (Some(Host::Ip(_)), None) | (None, _) => Names::None,
        (first, second) => {
            let named = first.into_iter().chain(second).chain(hosts);
            let mut names = named.filter(|host| matches!(host, Host::Name(_)));
            if names.next().is_some() {
                Names::Several
            } else {
                Names::None
            }
        }
    }
}

/// See [`one_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names<'a> {
    /// Addresses alone.
    None,
    /// All are of this name.
    One(&'a str),
    /// Several names, or names and addresses.
    Several,
}
