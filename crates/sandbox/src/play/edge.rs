//! The second doors: Kongs outside the mesh, one for each way in which people run them, and one in the mesh, with callers of their own.
//! They are the double of Kong, also where Kuma is real; the sidecar of the one in the mesh is Kuma's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::Applications;
use crate::cast::Outbound;
use crate::cluster::{ApiServer, documents};
use crate::kic::{Controller, Options as Controlling};
use crate::kong::{Database, Kong, NameTable, Options};
use crate::ports::free_port;
use crate::real::cluster_zone::AGENT_RIGHTS_KIC;
use crate::repository::{Channel, Edge};
use crate::traffic::{Callers, Pace};

/// So many nodes stand on the database.
const NODES: usize = 2;
/// How often the ingress controller looks and posts: `--proxy-sync-seconds` of a controller that is in a hurry.
const SYNC: Duration = Duration::from_millis(500);
/// The field manager of what the site has in its cluster.
const SITE: &str = "site";
/// The definition of an HTTPRoute, in the folder that `WEIR_GATEWAY_API` names.
const DEFINITION: &str = "gateway.networking.k8s.io_httproutes.yaml";

/// A gateway with its callers.
pub struct Gateway {
    /// What is declared of it.
    pub edge: Edge,
    /// Its nodes.
    pub kongs: Vec<Kong>,
    /// Those who send to it.
    pub callers: Callers,
    /// Whether requests find a way there: one that is Weir's own comes with the split and goes with it.
    pub open: bool,
    controller: Option<Controller>,
}

impl Gateway {
    /// Starts it as it runs before anybody installs an agent: with the site's own document, if there is one.
    ///
    /// # Errors
    /// If no port can be bound, or it does not take the document.
    pub(super) async fn start(edge: Edge) -> anyhow::Result<Self> {
        let mut kongs = Vec::new();
        match edge.channel {
            Channel::WithoutDatabase | Channel::InMesh => {
                kongs.push(Kong::without_database(Options::default()).await?);
            }
            Channel::WithDatabase => {
                let database = Database::new();
                for seed in 0..NODES {
                    let options = Options {
                        seed: u64::try_from(seed)?,
                        ..Options::default()
                    };
                    kongs.push(Kong::on(&database, options).await?);
                }
            }
            Channel::Controller => {
                // The cluster's own names, as its DNS would say them.
                let names = NameTable::default();
                for backend in edge.addresses.keys() {
                    let name = format!("{}.{}.svc", Edge::service(backend), Edge::NAMESPACE);
                    names.set_addresses(&name, &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
                }
                let options = Options {
                    names: Arc::new(names),
                    ..Options::default()
                };
                kongs.push(Kong::without_database(options).await?);
            }
        }
        if let (Some(base), Some(kong)) = (edge.base(), kongs.first()) {
            let posted = crate::http_client()
                .post(format!("http://{}/config", kong.admin()))
                .header("content-type", "application/yaml")
                .body(base)
                .send()
                .await?;
            ensure!(
                posted.status() == 201,
                "Kong does not take the site's document: {}",
                posted.text().await?
            );
        }
        let to: Vec<Outbound> = kongs
            .iter()
            .map(|kong| Outbound {
                address: kong.proxy(),
                target: format!("gateway {}", edge.channel.gateway()),
            })
            .collect();
        Ok(Self {
            callers: Callers::start(&to),
            open: edge.channel.is_the_sites(),
            kongs,
            controller: None,
            edge,
        })
    }

    /// What the site has in its cluster: the Services by which Kong reaches the backends, the agent's rights to routes, and
    /// the controller.
    ///
    /// # Errors
    /// If the cluster does not take it.
    pub(super) async fn in_cluster(&mut self, server: &ApiServer) -> anyhow::Result<()> {
        let types = server.types().await?;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": Edge::NAMESPACE}});
        server.apply(&types, SITE, &namespace).await?;
        let rights = AGENT_RIGHTS_KIC.replace("namespace: shop", &format!("namespace: {}", Edge::NAMESPACE));
        for object in documents(&rights)? {
            server.apply(&types, SITE, &object).await?;
        }
        for (backend, at) in &self.edge.addresses {
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": Edge::service(backend), "namespace": Edge::NAMESPACE,
                    // Kong goes by the Service's name, and knows nothing of endpoints.
                    "annotations": {"ingress.kubernetes.io/service-upstream": "true"},
                },
                "spec": {"ports": [{"name": "http", "port": at.port()}]},
            });
            server.apply(&types, SITE, &service).await?;
        }
        self.controller = Some(Controller::start(
            server.clone(),
            Controlling {
                gateway: (Edge::NAMESPACE.to_owned(), Edge::GATEWAY.to_owned()),
                kongs: self
                    .kongs
                    .iter()
                    .map(|kong| format!("http://{}", kong.admin()))
                    .collect(),
                sync: SYNC,
            },
        )?);
        Ok(())
    }

    /// Why the mesh and this gateway would both split, by what Kong itself has; none where the mesh does not carry the weights. Kong goes
    /// by an upstream wherever the host of a service is the name of one.
    ///
    /// # Errors
    /// If Kong does not answer.
    pub async fn splits_too(&self) -> anyhow::Result<Option<String>> {
        let (Some(sidecar), Some(kong)) = (self.edge.sidecar, self.kongs.first()) else {
            return Ok(None);
        };
        let list = async |of: &str| -> anyhow::Result<Vec<serde_json::Value>> {
            let url = format!("http://{}/{of}", kong.admin());
            let answer = crate::http_client().get(url).send().await?.error_for_status()?;
            let answer: serde_json::Value = answer.json().await?;
            Ok(answer["data"].as_array().cloned().unwrap_or_default())
        };
        for service in list("services").await? {
            let to = format!(
                "{}:{}",
                service["host"].as_str().unwrap_or_default(),
                service["port"]
            );
            if to != sidecar.to_string() {
                return Ok(Some(format!(
                    "service {} leads to {to}, and not to the sidecar",
                    service["name"]
                )));
            }
        }
        let upstreams = list("upstreams").await?;
        let named = |of: &&serde_json::Value| of["name"] == sidecar.ip().to_string();
        Ok(upstreams
            .iter()
            .find(named)
            .map(|_| "an upstream has the sidecar's name".to_owned()))
    }

    /// Its name among the doors: the zone's and its own.
    pub fn door(&self) -> String {
        format!("{}/{}", self.edge.zone, self.edge.channel.gateway())
    }

    /// Sets the pace of its callers, if there is a way in for them.
    pub(super) fn pace(&self, pace: Pace) {
        if self.open {
            self.callers.pace(pace);
        }
    }

    /// What its agent is told of it, below `gateways`.
    pub(super) fn config(&self) -> String {
        let node = |kong: &Kong| {
            format!(
                "{{admin: \"http://{}\", status: \"http://{}\"}}",
                kong.admin(),
                kong.status()
            )
        };
        let nodes: Vec<String> = self.kongs.iter().map(node).collect();
        format!(
            "  {}: {{nodes: [{}]}}\n",
            self.edge.channel.gateway(),
            nodes.join(", ")
        )
    }
}

/// What is declared of a zone's gateway: where it reaches the backends.
pub(super) fn declared(channel: Channel, zone: &str, applications: &Applications) -> Edge {
    let addresses = applications.iter();
    Edge {
        channel,
        zone: zone.to_owned(),
        addresses: addresses
            .map(|(backend, (address, _))| (backend.clone(), *address))
            .collect(),
        sidecar: None,
    }
}

/// What is declared of a zone's gateway in the mesh: where its sidecar is going to listen.
///
/// # Errors
/// If no port is free.
pub(super) fn in_mesh(zone: &str) -> anyhow::Result<Edge> {
    Ok(Edge {
        channel: Channel::InMesh,
        zone: zone.to_owned(),
        addresses: Default::default(),
        sidecar: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?))),
    })
}

/// The definition of an HTTPRoute, for a real API server; none if it is not on this machine.
///
/// # Errors
/// If it is there and cannot be read.
pub fn definition() -> anyhow::Result<Option<Vec<serde_json::Value>>> {
    let dir = std::env::var_os("WEIR_GATEWAY_API").filter(|dir| !dir.is_empty());
    let file = dir.map(|dir| std::path::PathBuf::from(dir).join(DEFINITION));
    match file.filter(|file| file.is_file()) {
        Some(file) => Ok(Some(documents(&std::fs::read_to_string(file)?)?)),
        None => Ok(None),
    }
}
