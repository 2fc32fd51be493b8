//! The proxies of a zone: its ingress, one beside each backend, and those through which callers send.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Real;
use super::cluster_zone::SHOP;
use super::proxy::{Proxy, ProxyType, Wanted, What};
use super::rest::Awaited;
use crate::cast::{Carrier, GATEWAY, Outbound};

/// The first port of a caller's outbounds, at the caller's own loopback address.
const FIRST_OUTBOUND: u16 = 10_001;
/// The proxy of callers that address one zone's service.
const DIRECT: &str = "caller-direct";
/// The proxy of a backend.
const BACKEND: &str = "backend";
/// A zone's ingress.
pub(super) const INGRESS: &str = "ingress";

impl Real {
    /// One through which a zone's share comes to it.
    pub(super) fn carrier(&mut self, zone: &str, which: Carrier) -> anyhow::Result<&mut Proxy> {
        let name = match which {
            Carrier::Dataplane => BACKEND,
            Carrier::Ingress => INGRESS,
        };
        let found = self.proxies.get_mut(&(zone.to_owned(), name.to_owned()));
        found.with_context(|| format!("there is no {name} in {zone}"))
    }

    pub(super) async fn start_proxy(
        &mut self,
        zone: &str,
        name: &str,
        kind: ProxyType,
        document: &Value,
    ) -> anyhow::Result<()> {
        let token = match kind {
            ProxyType::Ingress => {
                let wanted = json!({"zone": zone, "scope": ["ingress"], "validFor": "24h"});
                self.global()?.token("/tokens/zone", &wanted).await?
            }
            ProxyType::Dataplane => {
                let wanted = json!({"name": document["name"], "mesh": self.stage.mesh, "validFor": "24h"});
                self.control_plane(zone)?
                    .token("/tokens/dataplane", &wanted)
                    .await?
            }
        };
        self.start_proxy_as(zone, name, kind, What::Brought(document), &token)
    }

    pub(super) fn start_proxy_as(
        &mut self,
        zone: &str,
        name: &str,
        kind: ProxyType,
        what: What<'_>,
        token: &str,
    ) -> anyhow::Result<()> {
        let work = self.proxies_of(zone).join(name);
        let readiness = self.place.port()?;
        let plane = self.plane_of(zone)?;
        let proxy = Proxy::start(
            &self.stage,
            &self.parts,
            plane,
            &Wanted {
                zone,
                name,
                kind,
                what,
                token,
                binds_virtual_addresses: name == DIRECT && self.calls_virtual_addresses(zone),
                work,
                readiness,
            },
        )?;
        self.proxies.insert((zone.to_owned(), name.to_owned()), proxy);
        Ok(())
    }

    pub(super) async fn start_backend_proxy(&mut self, zone: &str, app: SocketAddr) -> anyhow::Result<()> {
        if self.cluster_of(zone).is_some() {
            let (name, address) = (format!("{}-0", self.stage.service), self.place.address()?);
            let cluster = self.cluster_of(zone).context("a cluster")?;
            let token = cluster.backend(&self.stage, &name, address, app).await?;
            self.start_pod_proxy(zone, BACKEND, &name, &token)?;
            self.backends.push(zone.to_owned());
            return Ok(());
        }
        let mut document = json!({
            "type": "Dataplane", "mesh": self.stage.mesh, "name": format!("{}-{zone}", self.stage.service),
            "networking": {
                "address": self.place.address()?.to_string(),
                "inbound": [{
                    "port": self.stage.port, "servicePort": app.port(), "serviceAddress": app.ip().to_string(),
                    "tags": {"kuma.io/service": self.stage.service, "kuma.io/protocol": "http"},
                }],
            },
        });
        if let Some(name) = &self.stage.port_name {
            document["networking"]["inbound"][0]["name"] = json!(name);
        }
        self.start_proxy(zone, BACKEND, ProxyType::Dataplane, &document)
            .await?;
        self.backends.push(zone.to_owned());
        Ok(())
    }

    /// A dataplane whose pod and Dataplane are in the cluster.
    fn start_pod_proxy(&mut self, zone: &str, name: &str, pod: &str, token: &str) -> anyhow::Result<()> {
        let (stored, mesh) = (format!("{pod}.{SHOP}"), self.stage.mesh.clone());
        let what = What::Stored {
            name: &stored,
            mesh: Some(&mesh),
        };
        self.start_proxy_as(zone, name, ProxyType::Dataplane, what, token)
    }

    /// Whether callers of a zone call MeshServices by their virtual addresses, as a transparent proxy does. Outbounds that are
    /// written into a Dataplane name a port by number, and then no policy reaches one that has a name.
    fn calls_virtual_addresses(&self, zone: &str) -> bool {
        self.stage.port_name.is_some() && self.cluster_of(zone).is_none()
    }

    /// The virtual addresses that a zone gave to the MeshServices, once it has given them all.
    async fn virtual_addresses(&mut self, zone: &str) -> anyhow::Result<Vec<Outbound>> {
        let (mesh, service) = (self.stage.mesh.clone(), self.stage.service.clone());
        let mut wait = Awaited::new(format!("zone {zone} gives {service} its virtual addresses"));
        let path = format!("/meshes/{mesh}/meshservices?filter[labels.kuma.io/display-name]={service}");
        loop {
            let answer = self.plane_of(zone)?.api().get(&path).await?;
            let items = answer["items"].as_array().into_iter().flatten();
            let found: Vec<Outbound> = items
                .filter_map(|item| {
                    let address = item["status"]["vips"][0]["ip"].as_str()?.parse().ok()?;
                    let at = item["labels"]["kuma.io/zone"].as_str()?;
                    Some(Outbound {
                        address: SocketAddr::new(address, self.stage.port),
                        target: format!("MeshService {service} in {at}"),
                    })
                })
                .collect();
            if found.len() == self.backends.len() {
                return Ok(found);
            }
            wait.again(None).await?;
        }
    }

    /// Two dataplanes: one whose only outbound is the MeshMultiZoneService, one that has a MeshService of each backend and
    /// nothing else. An Envoy that has both would keep clusters for the one that the other loses.
    pub(super) async fn start_caller_proxies(&mut self, zone: &str) -> anyhow::Result<Vec<Outbound>> {
        let service = self.stage.service.clone();
        let port = self.stage.port;
        let all = vec![(
            format!("MeshMultiZoneService {service}"),
            json!({"kind": "MeshMultiZoneService", "labels": {"kuma.io/display-name": service}, "port": port}),
        )];
        let each = self.backends.iter().map(|backend| {
            (
                format!("MeshService {service} in {backend}"),
                json!({
                    "kind": "MeshService", "port": port,
                    "labels": {"kuma.io/display-name": service, "kuma.io/zone": backend},
                }),
            )
        });
        let each = each.collect();
        let mut outbounds = self.start_caller_proxy(zone, "caller", all).await?;
        // In a cluster nothing binds virtual addresses here.
        if self.stage.port_name.is_none() || self.calls_virtual_addresses(zone) {
            outbounds.extend(self.start_caller_proxy(zone, DIRECT, each).await?);
        }
        self.outbounds.insert(zone.to_owned(), outbounds.clone());
        Ok(outbounds)
    }

    /// The sidecar of a delegated gateway: no inbound, and policies match it all the same.
    pub(super) async fn start_gateway_proxy(
        &mut self,
        zone: &str,
        outbound: SocketAddr,
    ) -> anyhow::Result<()> {
        let address = self.place.address()?;
        let document = json!({
            "type": "Dataplane", "mesh": self.stage.mesh, "name": format!("{GATEWAY}-{zone}"),
            "networking": self.stage.gateway(address.into(), outbound),
        });
        self.start_proxy(zone, GATEWAY, ProxyType::Dataplane, &document)
            .await?;
        self.outbounds.entry(zone.to_owned()).or_default().push(Outbound {
            address: outbound,
            target: format!("gateway {GATEWAY}"),
        });
        Ok(())
    }

    async fn start_caller_proxy(
        &mut self,
        zone: &str,
        name: &str,
        targets: Vec<(String, Value)>,
    ) -> anyhow::Result<Vec<Outbound>> {
        let address = self.place.address()?;
        let mut outbounds = Vec::new();
        let mut documents = Vec::new();
        for (port, (target, reference)) in (FIRST_OUTBOUND..).zip(targets) {
            documents.push(json!({"address": address.to_string(), "port": port, "backendRef": reference}));
            outbounds.push(Outbound {
                address: SocketAddr::new(address.into(), port),
                target,
            });
        }
        if let Some(cluster) = self.cluster_of(zone) {
            let pod = format!("{name}-0");
            let token = cluster.caller(&self.stage, &pod, address, &documents).await?;
            self.start_pod_proxy(zone, name, &pod, &token)?;
            return Ok(outbounds);
        }
        let document = json!({
            "type": "Dataplane", "mesh": self.stage.mesh, "name": format!("{name}-{zone}"),
            "networking": {
                "address": address.to_string(),
                // Nothing listens there: a dataplane without an inbound is matched by no policy.
                "inbound": [{
                    "port": 7070, "servicePort": 7071, "serviceAddress": "127.0.0.1",
                    "tags": {"kuma.io/service": "caller", "kuma.io/protocol": "http"},
                }],
                "outbound": documents,
            },
        });
        self.start_proxy(zone, name, ProxyType::Dataplane, &document)
            .await?;
        if name == DIRECT && self.calls_virtual_addresses(zone) {
            return self.virtual_addresses(zone).await;
        }
        Ok(outbounds)
    }
}
