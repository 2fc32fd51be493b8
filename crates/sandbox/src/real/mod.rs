//! The real parts of Kuma as the cast: `kuma-cp`, `kuma-dp` and `envoy` found on this machine.
//!
//! A global control plane and one for each zone, Universal, with memory stores or, where they shall be killed, with a
//! PostgreSQL server (`postgres`); a zone ingress for each zone; a dataplane for each backend and each caller. Everything that Kuma lets us bind to loopback is bound there, each proxy to a
//! loopback address of its own. Nothing here sleeps and hopes: each step waits for a fact that it reads.
//!
//! One zone may be a cluster (`cluster_zone`): a real API server that holds the objects of its control plane.
//!
//! `parts` finds the executables, `rest` speaks to control planes and admin sockets, `place` picks ports and addresses,
//! `control_plane` and `proxy` start the processes, `sidecars` says which proxies a zone has. Changed when Kuma's settings do.

pub mod cluster_zone;
mod control_plane;
mod parts;
pub(crate) mod place;
pub mod postgres;
mod proxy;
pub mod rest;
mod sidecars;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::cast::{Carrier, Cast, GlobalParts, Outbound, Stage, ZoneParts};
use crate::cluster::{ApiServer, Binaries};
use cluster_zone::{ClusterZone, SYSTEM};
use control_plane::{ControlPlane, Role};
pub(crate) use parts::executable;
pub use parts::{Absent, Parts, required};
use place::Place;
use postgres::{GLOBAL, Postgres, Programs};
pub(crate) use proxy::write_private;
use proxy::{Proxy, ProxyType, What};
use rest::{Api, Awaited};
use sidecars::INGRESS;

/// Real Kuma and real Envoys.
#[derive(Debug)]
pub struct Real {
    stage: Stage,
    parts: Parts,
    place: Place,
    zones: Vec<String>,
    global: Option<ControlPlane>,
    control_planes: BTreeMap<String, ControlPlane>,
    /// The zone that shall be a cluster, and what that takes.
    cluster_zone: Option<(String, Binaries)>,
    /// That zone, started.
    cluster: Option<ClusterZone>,
    /// Where VMs' control planes keep their objects, if not in memory.
    programs: Option<Programs>,
    postgres: Option<Postgres>,
    /// By zone and name.
    proxies: BTreeMap<(String, String), Proxy>,
    /// Zones with a backend, in the order in which they were started.
    backends: Vec<String>,
    /// Outbounds of callers, by zone.
    outbounds: BTreeMap<String, Vec<Outbound>>,
    /// Where the proxies' work directories are, if the sandbox's own directory is too deep for a unix socket.
    short: Option<tempfile::TempDir>,
}

impl Real {
    /// Callers in `zones`; nothing is started yet.
    ///
    /// # Errors
    /// If there are no free loopback addresses or ports, or no directory for sockets can be made.
    pub fn new(stage: Stage, parts: Parts, zones: Vec<String>) -> anyhow::Result<Self> {
        let place = Place::pick(stage.port)?;
        // A unix socket's path holds 107 bytes; `kuma-envoy-admin.sock` below `zones/<zone>/proxies/<name>` must fit.
        let deep =
            stage.dir.as_os_str().len() + "/zones//proxies/checkout-backend/kuma-envoy-admin.sock".len() + 16
                > 100;
        let short = deep
            .then(|| tempfile::Builder::new().prefix("weir-").tempdir_in("/tmp"))
            .transpose()
            .context("no directory for the admin sockets of the proxies can be made in /tmp")?;
        Ok(Self {
            stage,
            parts,
            place,
            zones,
            global: None,
            control_planes: BTreeMap::new(),
            cluster_zone: None,
            cluster: None,
            programs: None,
            postgres: None,
            proxies: BTreeMap::new(),
            backends: Vec::new(),
            outbounds: BTreeMap::new(),
            short,
        })
    }

    /// One of the zones shall be a cluster.
    #[must_use]
    pub fn with_cluster(mut self, zone: &str, binaries: Binaries) -> Self {
        self.cluster_zone = Some((zone.to_owned(), binaries));
        self
    }

    fn cluster_of(&self, zone: &str) -> Option<&ClusterZone> {
        let (name, _) = self.cluster_zone.as_ref()?;
        self.cluster.as_ref().filter(|_| name == zone)
    }

    /// Where a zone's proxies have their work directories.
    fn proxies_of(&self, zone: &str) -> PathBuf {
        match &self.short {
            Some(short) => short.path().join(zone),
            None => self.stage.dir.join("zones").join(zone).join("proxies"),
        }
    }

    fn global(&self) -> anyhow::Result<&ControlPlane> {
        self.global
            .as_ref()
            .context("the global control plane was not started")
    }

    fn control_plane(&mut self, zone: &str) -> anyhow::Result<&mut ControlPlane> {
        let found = match &self.cluster_zone {
            Some((name, _)) if name == zone => self.cluster.as_mut().map(|cluster| &mut cluster.plane),
            _ => self.control_planes.get_mut(zone),
        };
        found.with_context(|| format!("zone {zone} was not started"))
    }

    fn plane_of(&self, zone: &str) -> anyhow::Result<&ControlPlane> {
        let found = self.cluster_of(zone).map(|cluster| &cluster.plane);
        found
            .or_else(|| self.control_planes.get(zone))
            .with_context(|| format!("zone {zone} was not started"))
    }

    async fn start_global_parts(&mut self) -> anyhow::Result<GlobalParts> {
        self.start_postgres().await?;
        let database = self.database(GLOBAL);
        let started = ControlPlane::start(&self.stage, &self.parts, &mut self.place, Role::Global, database);
        let mut global = started.await?;
        global.answers().await?;
        let api = global.api();
        put_mesh(&self.stage, api).await?;
        let parts = GlobalParts {
            api: Some(api.base().to_owned()),
        };
        self.global = Some(global);
        Ok(parts)
    }

    async fn start_zone_parts(&mut self, zone: &str) -> anyhow::Result<ZoneParts> {
        if let Some((name, binaries)) = self.cluster_zone.clone()
            && name == zone
        {
            return self.start_cluster_zone(zone, binaries).await;
        }
        let role = Role::Zone {
            name: zone.to_owned(),
            global: self.global()?.sync_address()?,
            cluster: None,
            virtual_addresses: self.stage.port_name.is_some().then(|| self.place.network()),
        };
        let database = self.database(zone);
        let started = ControlPlane::start(&self.stage, &self.parts, &mut self.place, role, database);
        let mut plane = started.await?;
        plane.answers().await?;
        plane.knows_mesh(&self.stage.mesh).await?;
        let api = plane.api().base().to_owned();
        self.control_planes.insert(zone.to_owned(), plane);
        let address = self.place.address()?;
        let document = json!({
            "type": "ZoneIngress", "name": format!("ingress-{zone}"),
            "networking": {
                "address": address.to_string(), "port": 10_000,
                "advertisedAddress": address.to_string(), "advertisedPort": 10_000,
            },
        });
        self.start_proxy(zone, INGRESS, ProxyType::Ingress, &document)
            .await?;
        Ok(ZoneParts {
            api,
            envoy_admin: vec![self.sockets_of(zone)],
            kubeconfig: None,
        })
    }

    /// A glob of the admin sockets of a zone's proxies.
    fn sockets_of(&self, zone: &str) -> String {
        let glob = self.proxies_of(zone).join("*").join("kuma-envoy-admin.sock");
        glob.display().to_string()
    }

    async fn start_cluster_zone(&mut self, zone: &str, binaries: Binaries) -> anyhow::Result<ZoneParts> {
        let global = self.global()?.sync_address()?;
        let started = ClusterZone::start(&self.stage, &self.parts, binaries, &mut self.place, zone, &global);
        let cluster = self.cluster.insert(started.await?);
        let parts = ZoneParts {
            api: cluster.plane.api().base().to_owned(),
            envoy_admin: Vec::new(),
            kubeconfig: Some(cluster.cluster.kubeconfig(&cluster_zone::agent())),
        };
        let address = self.place.address()?;
        let token = cluster.ingress(address).await?;
        let stored = What::Stored {
            name: &format!("kuma-ingress-0.{SYSTEM}"),
            mesh: None,
        };
        self.start_proxy_as(zone, INGRESS, ProxyType::Ingress, stored, &token)?;
        Ok(ZoneParts {
            envoy_admin: vec![self.sockets_of(zone)],
            ..parts
        })
    }

    async fn all_settled(&mut self, backends: &[String]) -> anyhow::Result<()> {
        for zone in self.zones.clone() {
            let Ok(plane) = self.plane_of(&zone) else {
                continue;
            };
            let api = plane.api().clone();
            let outbounds = self.outbounds.get(&zone).cloned().unwrap_or_default();
            self.resolves(&zone, &api, backends).await?;
            for outbound in outbounds {
                self.answers(&zone, &outbound).await?;
            }
        }
        Ok(())
    }

    async fn resolves(&mut self, zone: &str, api: &Api, backends: &[String]) -> anyhow::Result<()> {
        let (mesh, service) = (&self.stage.mesh, &self.stage.service);
        let path = format!("/meshes/{mesh}/meshservices?filter[labels.kuma.io/display-name]={service}");
        let mut wait = Awaited::new(format!(
            "zone {zone} resolves {service} in {}, each Available",
            backends.join(", ")
        ));
        loop {
            let failure = match api.get(&path).await {
                Ok(list) if backends.iter().all(|backend| usable(&list, backend)) => return Ok(()),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            self.unharmed()?;
            wait.again(failure).await?;
        }
    }

    async fn answers(&mut self, zone: &str, outbound: &Outbound) -> anyhow::Result<()> {
        let mut wait = Awaited::new(format!(
            "the caller in {zone} gets an answer from {} at {}",
            outbound.target, outbound.address
        ));
        let api = Api::new(format!("http://{}", outbound.address));
        loop {
            let failure = match api.status("/").await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status) => Some(anyhow::anyhow!("it answered {status}")),
                Err(error) => Some(error),
            };
            self.unharmed()?;
            wait.again(failure).await?;
        }
    }

    /// No process ended that nobody stopped.
    fn unharmed(&mut self) -> anyhow::Result<()> {
        let ended = self.casualties();
        anyhow::ensure!(ended.is_empty(), "{}", ended.join("\n"));
        Ok(())
    }
}

async fn put_mesh(stage: &Stage, global: &Api) -> anyhow::Result<()> {
    for (path, object) in stage.mesh_objects() {
        global.put(&path, &object).await?;
    }
    Ok(())
}

/// Whether a list of MeshServices has exactly one of that zone, and Kuma calls it available.
fn usable(list: &Value, zone: &str) -> bool {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let mut of_zone = items.iter().filter(|item| item["labels"]["kuma.io/zone"] == zone);
    match (of_zone.next(), of_zone.next()) {
        (Some(one), None) => one["spec"]["state"] == "Available",
        _ => false,
    }
}

impl Cast for Real {
    fn name(&self) -> &'static str {
        "real"
    }

    fn versions(&mut self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, String>>> {
        let parts = self.parts.clone();
        async move { parts.versions().await }.boxed()
    }

    fn calling_zones(&self) -> Vec<String> {
        self.zones.clone()
    }

    fn start_global(&mut self) -> BoxFuture<'_, anyhow::Result<GlobalParts>> {
        self.start_global_parts().boxed()
    }

    fn start_zone<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<ZoneParts>> {
        self.start_zone_parts(zone).boxed()
    }

    fn start_backend<'a>(&'a mut self, zone: &'a str, app: SocketAddr) -> BoxFuture<'a, anyhow::Result<()>> {
        self.start_backend_proxy(zone, app).boxed()
    }

    fn start_caller<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<Vec<Outbound>>> {
        self.start_caller_proxies(zone).boxed()
    }

    fn start_gateway<'a>(
        &'a mut self,
        zone: &'a str,
        outbound: SocketAddr,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        self.start_gateway_proxy(zone, outbound).boxed()
    }

    fn settled<'a>(&'a mut self, backends: &'a [String]) -> BoxFuture<'a, anyhow::Result<()>> {
        self.all_settled(backends).boxed()
    }

    fn kill_control_plane<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<()>> {
        async move { self.control_plane(zone)?.kill().await }.boxed()
    }

    fn restart_control_plane<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let mesh = self.stage.mesh.clone();
            let (stage, parts) = (self.stage.clone(), self.parts.clone());
            let plane = self.control_plane(zone)?;
            plane.restart(&stage, &parts).await?;
            plane.answers().await?;
            plane.knows_mesh(&mesh).await
        }
        .boxed()
    }

    fn stores_last(&self) -> bool {
        self.programs.is_some()
    }

    fn kill_global(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        async move {
            let global = self.global.as_mut().context("it was not started")?;
            global.kill().await
        }
        .boxed()
    }

    fn restart_global(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        async move {
            let global = self.global.as_mut().context("it was not started")?;
            global.restart(&self.stage, &self.parts).await?;
            global.answers().await
        }
        .boxed()
    }

    fn put_mesh(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        async move { put_mesh(&self.stage, self.global()?.api()).await }.boxed()
    }

    fn has_ingresses(&self) -> bool {
        true
    }

    fn kill_proxy<'a>(&'a mut self, zone: &'a str, which: Carrier) -> BoxFuture<'a, anyhow::Result<()>> {
        async move { self.carrier(zone, which)?.kill().await }.boxed()
    }

    fn restart_proxy<'a>(&'a mut self, zone: &'a str, which: Carrier) -> BoxFuture<'a, anyhow::Result<()>> {
        async move { self.carrier(zone, which)?.again() }.boxed()
    }

    fn has_store_server(&self) -> bool {
        self.postgres.is_some()
    }

    fn stop_store(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        async move { self.store_server()?.pause().await }.boxed()
    }

    fn start_store(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        async move { self.store_server()?.resume().await }.boxed()
    }

    fn cluster_admin(&self) -> Option<ApiServer> {
        self.cluster.as_ref().map(|cluster| cluster.admin.clone())
    }

    fn cluster(&mut self) -> Option<&mut ClusterZone> {
        self.cluster.as_mut()
    }

    fn casualties(&mut self) -> Vec<String> {
        let mut planes: Vec<&mut ControlPlane> = self.global.iter_mut().collect();
        planes.extend(self.control_planes.values_mut());
        let mut told = Vec::new();
        if let Some(cluster) = &mut self.cluster {
            told.extend(cluster.cluster.casualties());
            planes.push(&mut cluster.plane);
        }
        told.extend(self.postgres.iter_mut().filter_map(Postgres::casualty));
        told.extend(planes.into_iter().filter_map(ControlPlane::casualty));
        told.extend(self.proxies.values_mut().filter_map(Proxy::casualty));
        told
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        async move {
            // Nothing of the sandbox is worth a graceful end: a proxy would drain for half a minute.
            for plane in self.control_planes.values_mut().chain(self.global.iter_mut()) {
                if let Err(error) = plane.kill().await {
                    tracing::warn!("a control plane did not end: {error:#}");
                }
            }
            if let Some(mut cluster) = self.cluster.take() {
                if let Err(error) = cluster.plane.kill().await {
                    tracing::warn!("a control plane did not end: {error:#}");
                }
                cluster.cluster.stop().await;
            }
            if let Some(mut postgres) = self.postgres.take()
                && let Err(error) = postgres.stop().await
            {
                tracing::warn!("PostgreSQL did not end: {error:#}");
            }
            for proxy in self.proxies.values_mut() {
                if let Err(error) = proxy.kill().await {
                    tracing::warn!("a proxy did not end: {error:#}");
                }
            }
            self.control_planes.clear();
            self.global = None;
            self.proxies.clear();
            self.short = None;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_usable_only_if_it_is_one_and_available() {
        let service =
            |zone: &str, state: &str| json!({"labels": {"kuma.io/zone": zone}, "spec": {"state": state}});
        let list = |items: Vec<Value>| json!({"items": items});
        assert!(usable(
            &list(vec![service("fra", "Available"), service("ams", "Unavailable")]),
            "fra"
        ));
        assert!(!usable(
            &list(vec![service("fra", "Available"), service("ams", "Unavailable")]),
            "ams"
        ));
        assert!(!usable(
            &list(vec![service("fra", "Available"), service("fra", "Available")]),
            "fra"
        ));
        assert!(!usable(&list(vec![]), "fra"));
        assert!(!usable(&json!({}), "fra"));
    }
}
