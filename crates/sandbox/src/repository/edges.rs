//! Gateways, as the play declares them: outside the mesh one for each way in which people run Kong, and one inside.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::BACKENDS;

/// What the site keeps by itself in its Kong without a database.
pub const BASE: &str = "traffic/kong/edge.yaml";

/// How a gateway is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// One document, of which the site keeps its own part.
    WithoutDatabase,
    /// A database, which its nodes look at.
    WithDatabase,
    /// An ingress controller, from what the cluster has.
    Controller,
    /// One document, and in the mesh: a delegated gateway, whose sidecar carries the weights.
    InMesh,
}

impl Channel {
    /// The gateway's name.
    pub fn gateway(self) -> &'static str {
        match self {
            Self::WithoutDatabase => "edge",
            Self::WithDatabase => "edge-db",
            Self::Controller => "edge-kic",
            Self::InMesh => "edge-mesh",
        }
    }

    /// As a declaration calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::WithoutDatabase | Self::InMesh => "admin-dbless",
            Self::WithDatabase => "admin-db",
            Self::Controller => "kic",
        }
    }

    /// Whether the site has a way in there without Weir: what is Weir's own is not there before the first plan, and goes with
    /// the split.
    pub fn is_the_sites(self) -> bool {
        self == Self::WithoutDatabase
    }
}

/// A gateway.
#[derive(Debug, Clone)]
pub struct Edge {
    /// How it is configured.
    pub channel: Channel,
    /// The zone that it is in.
    pub zone: String,
    /// Where which backend is; in the mesh nobody, for there is one place for all of them.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// In the mesh: where its sidecar listens for the service.
    pub sidecar: Option<SocketAddr>,
}

impl Edge {
    /// The namespace of its Gateway and of the Services by which it reaches the backends, where it is in a cluster: not one
    /// whose Services Kuma makes its own of.
    pub const NAMESPACE: &'static str = "edge";
    /// Its Gateway, where it is in a cluster.
    pub const GATEWAY: &'static str = "kong";

    /// The Service by which it reaches a backend, where it is in a cluster.
    pub fn service(backend: &str) -> String {
        format!("checkout-{backend}")
    }

    /// The site's own Kong document, where it keeps one: everything to the VMs.
    pub fn base(&self) -> Option<String> {
        if !self.channel.is_the_sites() {
            return None;
        }
        let vm = self.addresses.get(BACKENDS[0].0);
        let (host, port) = vm.map_or_else(Default::default, |at| (at.ip().to_string(), at.port()));
        Some(format!(
            "\
# What this site keeps in its Kong, with or without Weir.
_format_version: \"3.0\"
services:
  - name: checkout
    host: {host}
    port: {port}
    routes:
      - {{name: checkout, paths: [/]}}
"
        ))
    }

    /// Where it reaches a backend.
    fn reached(&self, backend: &str, at: SocketAddr) -> String {
        match self.channel {
            Channel::WithoutDatabase | Channel::WithDatabase | Channel::InMesh => at.to_string(),
            Channel::Controller => {
                format!("{}.{}.svc:{}", Self::service(backend), Self::NAMESPACE, at.port())
            }
        }
    }

    fn declared(&self) -> String {
        let more = match self.channel {
            Channel::WithoutDatabase => {
                let base = BASE.trim_start_matches("traffic/");
                format!(", base: {base}")
            }
            Channel::WithDatabase => String::new(),
            Channel::InMesh => ", inMesh: true".to_owned(),
            Channel::Controller => format!(
                ", parentRef: {{namespace: {}, name: {}}}",
                Self::NAMESPACE,
                Self::GATEWAY
            ),
        };
        format!(
            "    - {{name: {}, channel: {}{more}}}\n",
            self.channel.gateway(),
            self.channel.word()
        )
    }

    /// The split's door there.
    fn door(&self) -> String {
        let to: Vec<String> = self
            .addresses
            .iter()
            .map(|(name, at)| format!("{name}: \"{}\"", self.reached(name, *at)))
            .collect();
        let to = match self.sidecar {
            Some(at) => format!("mesh: \"{at}\"   # its sidecar: the mesh carries the weights"),
            None => format!("backends: {{{}}}", to.join(", ")),
        };
        let entry = match self.channel {
            Channel::WithoutDatabase => {
                "service: checkout      # of kong/edge.yaml: its host becomes Weir's, all else stays"
            }
            Channel::WithDatabase | Channel::Controller | Channel::InMesh => {
                "paths: [/]             # a route of Weir's own"
            }
        };
        format!(
            "    - gateway: {}\n      {entry}\n      {to}\n",
            self.channel.gateway()
        )
    }
}

/// What a zone says of its gateways; nothing if it has none.
pub(super) fn declared(edges: &[Edge], zone: &str) -> String {
    let of: String = edges
        .iter()
        .filter(|edge| edge.zone == zone)
        .map(Edge::declared)
        .collect();
    if of.is_empty() {
        return of;
    }
    format!("  gateways:\n{of}")
}

/// The split's doors; nothing if there are none.
pub(super) fn doors(edges: &[Edge]) -> String {
    if edges.is_empty() {
        return String::new();
    }
    let each: String = edges.iter().map(Edge::door).collect();
    format!("  gateways:                  # the same shares for requests that come through Kong\n{each}")
}
