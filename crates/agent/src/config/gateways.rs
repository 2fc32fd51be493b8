//! `gateways` of the agent's configuration: how it reaches the Admin APIs of the zone's Kongs. Never in Git.

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
        sound.then(|| GatewayConfig {
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
