//! `gateways` of the agent's configuration: how it reaches the Admin APIs of the zone's Kongs. Never in Git.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use weir_model::GatewayName;

/// How to reach one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Its nodes, at least one: each is given the whole document, and each must prove it.
    pub nodes: Vec<Node>,
    /// The only authority that is trusted for `https://`, PEM; none for those of the host.
    pub ca_file: Option<PathBuf>,
    /// A header that protects the Admin API.
    pub header: Option<Header>,
    /// That what leaves it is counted; none: it is not.
    pub count: Option<Count>,
}

/// How requests are counted: Kong posts a line of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Where the agent takes them: on loopback, for they say what people asked for.
    pub listen: SocketAddr,
    /// Where Kong posts them: by default to where the agent listens.
    pub url: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its Admin API: `http://` on this host, or `https://`.
    pub admin: String,
    /// Its status listener (`status_listen`), which tells whether it is ready; none: not asked.
    pub status: Option<String>,
}

/// A header with its secret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Such as `apikey`.
    pub name: String,
    /// Read at each call.
    pub file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawGateway {
    #[serde(default)]
    nodes: Vec<RawNode>,
    ca_file: Option<PathBuf>,
    header: Option<RawHeader>,
    count: Option<RawCount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawCount {
    listen: Spanned<String>,
    url: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawNode {
    admin: Spanned<String>,
    status: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHeader {
    name: String,
    file: PathBuf,
}

impl RawGateway {
    /// Checks one gateway; none if it cannot be used, which is told.
    pub(super) fn checked(
        self,
        name: &GatewayName,
        at: Location,
        base: &Path,
        fault: &mut impl FnMut(Location, String, &str),
    ) -> Option<GatewayConfig> {
        let mut sound = true;
        if self.nodes.is_empty() {
            sound = false;
            fault(
                at,
                format!("the gateway {name} has no nodes"),
                "name the Admin API of each: nodes: [{admin: \"http://127.0.0.1:8001\"}]",
            );
        }
        for node in &self.nodes {
            for (key, url) in [("admin", Some(&node.admin)), ("status", node.status.as_ref())] {
                let Some(url) = url else { continue };
                if !(url.value.starts_with("http://") || url.value.starts_with("https://")) {
                    sound = false;
                    fault(
                        url.referenced,
                        format!(
                            "`{key}` of the gateway {name} is `{}`, neither http:// nor https://",
                            url.value
                        ),
                        "give an address such as http://127.0.0.1:8001; off this host it has to be https://",
                    );
                }
            }
        }
        let off_host = self.nodes.iter().find(|node| !is_here(&node.admin.value));
        let count = self.count.map(|count| count.checked(name, off_host, fault));
        sound &= count.as_ref().is_none_or(Option::is_some);
        sound.then(|| GatewayConfig {
            count: count.flatten(),
            nodes: self
                .nodes
                .into_iter()
                .map(|node| Node {
                    admin: node.admin.value,
                    status: node.status.map(|status| status.value),
                })
                .collect(),
            ca_file: self.ca_file.map(|file| base.join(file)),
            header: self.header.map(|header| Header {
                name: header.name,
                file: base.join(header.file),
            }),
        })
    }
}

impl RawCount {
    /// Checks it; none if it cannot be used, which is told.
    fn checked(
        self,
        name: &GatewayName,
        off_host: Option<&RawNode>,
        fault: &mut impl FnMut(Location, String, &str),
    ) -> Option<Count> {
        let listen = self.listen.value.parse::<SocketAddr>().ok();
        let listen = listen.filter(|listen| listen.ip().is_loopback() && listen.port() != 0);
        if listen.is_none() {
            fault(
                self.listen.referenced,
                format!(
                    "`count.listen` of the gateway {name} is `{}`, not an address and port of loopback",
                    self.listen.value
                ),
                "give one that nobody else has, such as 127.0.0.1:8009: what Kong posts there says what people asked for",
            );
        }
        let url = self
            .url
            .as_ref()
            .filter(|url| !url.value.starts_with("http://") || !is_here(&url.value));
        if let Some(url) = url {
            fault(
                url.referenced,
                format!(
                    "`count.url` of the gateway {name} is `{}`, not an http:// address on this host",
                    url.value
                ),
                "leave it out if Kong reaches `listen` itself; else give what leads there, such as http://127.0.0.1:9009/",
            );
        }
        if let Some(node) = off_host {
            fault(
                node.admin.referenced,
                format!(
                    "the gateway {name} is to be counted, and its node `{}` is on another host",
                    node.admin.value
                ),
                "requests are counted where Kong and the agent are on one host: leave `count` out, or drive that Kong by an agent there",
            );
        }
        let listen = listen.filter(|_| url.is_none() && off_host.is_none())?;
        Some(Count {
            listen,
            url: self
                .url
                .map_or_else(|| format!("http://{listen}/"), |url| url.value),
        })
    }
}

/// Whether an address of http or https is on this host.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Whoever writes a user before the host has another host than it seems.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
