//! The double as the cast: one process for each control plane and for each dataplane, so that each can be killed.

mod places;
mod planes;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use places::{path, short_dir, socket_dir};

use super::cluster_zone::ClusterZone;
use super::dataplane::ADMIN_SOCKET;
use crate::cast::{Carrier, Cast, GATEWAY, GlobalParts, Outbound, Stage, ZoneParts};
use crate::cluster::ApiServer;
use crate::ports::{free_address, free_port};
use crate::process::{Process, Start, find_program};
use crate::restartable::Restartable;
use crate::waiting::until;

/// The double.
#[derive(Debug)]
pub struct Double {
    stage: Stage,
    program: PathBuf,
    drain: Duration,
    global: Option<(SocketAddr, Process)>,
    /// Whether global and VM zones' control planes keep what they hold in files.
    lasting: bool,
    zones: BTreeMap<String, Zone>,
    /// The zone that shall be a cluster.
    cluster_zone: Option<String>,
    /// Zones with a backend, in the order in which they were started.
    backends: Vec<String>,
}

#[derive(Debug)]
struct Zone {
    api: SocketAddr,
    /// Where its ingress is said to be.
    ingress: SocketAddr,
    control_plane: Process,
    dataplanes: BTreeMap<String, Restartable>,
    outbounds: Vec<Outbound>,
    /// Where the zone is one.
    cluster: Option<ClusterZone>,
}

impl Double {
    /// A double that has not started anything.
    ///
    /// # Errors
    /// If its program, `weir-sandbox`, cannot be found.
    pub fn new(stage: Stage) -> anyhow::Result<Self> {
        Ok(Self {
            stage,
            program: find_program("weir-sandbox")?,
            drain: Duration::from_secs(30),
            global: None,
            lasting: false,
            zones: BTreeMap::new(),
            cluster_zone: None,
            backends: Vec::new(),
        })
    }

    /// One of the zones shall be a cluster.
    #[must_use]
    pub fn with_cluster(mut self, zone: &str) -> Self {
        self.cluster_zone = Some(zone.to_owned());
        self
    }

    fn start(&self, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        self.stage.keeper.spawn(self.starting(name, args))
    }

    fn starting(&self, name: &str, args: &[&str]) -> Start {
        Start {
            name: name.to_owned(),
            program: self.program.clone(),
            args: args.iter().map(Into::into).collect(),
            env: Vec::new(),
            log: self.stage.dir.join("logs").join(format!("{name}.log")),
        }
    }

    fn zone(&self, zone: &str) -> anyhow::Result<&Zone> {
        self.zones
            .get(zone)
            .with_context(|| format!("zone {zone} is not started"))
    }

    fn zone_mut(&mut self, zone: &str) -> anyhow::Result<&mut Zone> {
        self.zones
            .get_mut(zone)
            .with_context(|| format!("zone {zone} is not started"))
    }

    fn carrier(&mut self, zone: &str, which: Carrier) -> anyhow::Result<&mut Restartable> {
        match which {
            Carrier::Ingress => {
                bail!(
                    "nothing goes through the double's ingresses: its callers reach other zones' dataplanes"
                )
            }
            Carrier::Dataplane => {
                let name = format!("{}-{zone}", self.stage.service);
                let found = self.zone_mut(zone)?.dataplanes.get_mut(&name);
                found.with_context(|| format!("there is no backend in {zone}"))
            }
        }
    }

    async fn start_dataplane(&mut self, zone: &str, name: &str, networking: Value) -> anyhow::Result<()> {
        let document =
            json!({"type": "Dataplane", "mesh": self.stage.mesh, "name": name, "networking": networking});
        self.start_proxy(zone, name, &document).await
    }

    /// A dataplane that brings its document, or one that the cluster has: then this names it alone.
    async fn start_proxy(&mut self, zone: &str, name: &str, document: &Value) -> anyhow::Result<()> {
        let called = document["name"].as_str().unwrap_or(name);
        let dir = self.stage.dir.join("zones").join(zone).join(name);
        std::fs::create_dir_all(&dir)?;
        let file = dir.join("dataplane.json");
        std::fs::write(&file, document.to_string())?;
        let api = format!("http://{}", self.zone(zone)?.api);
        let drain = self.drain.as_millis().to_string();
        let work = socket_dir(&dir, &self.stage.dir, zone, name)?;
        let start = self.starting(
            &format!("kuma-dp-{zone}-{name}"),
            &[
                "double-dataplane",
                "--api",
                &api,
                "--file",
                &path(&file)?,
                "--work-dir",
                &path(&work)?,
                "--drain",
                &drain,
            ],
        );
        let started = Restartable::start(&self.stage.keeper, start, None)?;
        self.zone_mut(zone)?.dataplanes.insert(name.to_owned(), started);
        let url = format!("{api}/meshes/{}/dataplanes/{called}", self.stage.mesh);
        until(&format!("dataplane {name} of {zone}"), || async {
            answers(&url).await
        })
        .await
    }

    async fn start_caller_proxy(
        &mut self,
        zone: &str,
        name: &str,
        targets: Vec<(String, Value)>,
    ) -> anyhow::Result<Vec<Outbound>> {
        let address = free_address(10001)?;
        let mut outbounds = Vec::new();
        let mut listed = Vec::new();
        for ((target, reference), port) in targets.into_iter().zip(10001_u16..) {
            listed.push(json!({"address": address, "port": port, "backendRef": reference}));
            outbounds.push(Outbound {
                address: SocketAddr::new(address, port),
                target,
            });
        }
        if let Some(cluster) = &self.zone(zone)?.cluster {
            let called = cluster.caller(&self.stage, zone, name, address, &listed).await?;
            let document = json!({"mesh": self.stage.mesh, "name": called});
            self.start_proxy(zone, &format!("{name}-{zone}"), &document)
                .await?;
            return Ok(outbounds);
        }
        // With an inbound: without one no policy would match it.
        let mut networking = json!({"address": address, "outbound": listed, "inbound": [{
            "port": 7070, "servicePort": 7071, "serviceAddress": "127.0.0.1",
            "tags": {"kuma.io/service": "caller", "kuma.io/protocol": "http"},
        }]});
        if self.stage.port_name.is_some() {
            // A section of a policy does not reach a named port that an outbound names by number.
            networking["transparentProxying"] = json!({});
        }
        self.start_dataplane(zone, &format!("{name}-{zone}"), networking)
            .await?;
        Ok(outbounds)
    }

    /// The address of a zone's admin sockets, whatever the sandbox's directory is called.
    fn sockets(&self, zone: &str) -> Vec<String> {
        let dir = self.stage.dir.join("zones").join(zone);
        let short = short_dir(&self.stage.dir).join(zone);
        [dir, short]
            .iter()
            .map(|d| format!("{}/*/{ADMIN_SOCKET}", d.display()))
            .collect()
    }
}

async fn answers(url: &str) -> anyhow::Result<()> {
    let response = crate::http_client().get(url).send().await?;
    if !response.status().is_success() {
        bail!("{url} answers {}", response.status());
    }
    Ok(())
}

impl Cast for Double {
    fn name(&self) -> &'static str {
        "double"
    }

    fn versions(&mut self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, String>>> {
        let says = |what: &str, version: &str| (what.to_owned(), format!("{version} (double)"));
        let all = [
            says("kuma-cp", super::KUMA_VERSION),
            says("envoy", super::ENVOY_VERSION),
        ];
        Box::pin(std::future::ready(Ok(all.into())))
    }

    fn calling_zones(&self) -> Vec<String> {
        let second = self.cluster_zone.as_deref().unwrap_or("ams");
        ["fra", second, "par"].map(str::to_owned).to_vec()
    }

    fn start_global(&mut self) -> BoxFuture<'_, anyhow::Result<GlobalParts>> {
        Box::pin(async move {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            let process = self.start_global_process(listen)?;
            self.global = Some((listen, process));
            let api = format!("http://{listen}");
            until("the global control plane", || answers(&api)).await?;
            self.put_mesh().await?;
            Ok(GlobalParts { api: Some(api) })
        })
    }

    fn start_zone<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<ZoneParts>> {
        Box::pin(async move {
            let api = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            let cluster = match &self.cluster_zone {
                Some(name) if name == zone => Some(ClusterZone::start(&self.stage, zone, api).await?),
                _ => None,
            };
            let kubeconfig = cluster.as_ref().map(ClusterZone::agent);
            let ingress = Self::zone_ingress()?;
            let started = Zone {
                api,
                ingress,
                control_plane: self.start_control_plane(zone, (api, ingress), cluster.as_ref())?,
                dataplanes: BTreeMap::new(),
                outbounds: Vec::new(),
                cluster,
            };
            self.zones.insert(zone.to_owned(), started);
            let mesh = format!("http://{api}/meshes/{}", self.stage.mesh);
            until(&format!("the control plane of {zone}"), || async {
                answers(&mesh).await
            })
            .await?;
            Ok(ZoneParts {
                api: format!("http://{api}"),
                envoy_admin: self.sockets(zone),
                kubeconfig,
            })
        })
    }

    fn start_backend<'a>(&'a mut self, zone: &'a str, app: SocketAddr) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let (service, port) = (self.stage.service.clone(), self.stage.port);
            if let Some(cluster) = &self.zone(zone)?.cluster {
                let called = cluster
                    .backend(&self.stage, zone, free_address(port)?, app)
                    .await?;
                let document = json!({"mesh": self.stage.mesh, "name": called});
                self.start_proxy(zone, &format!("{service}-{zone}"), &document)
                    .await?;
                self.backends.push(zone.to_owned());
                return Ok(());
            }
            let name = self.stage.port_name.clone();
            let mut networking = json!({"address": free_address(port)?, "inbound": [{
                "port": port, "servicePort": app.port(), "serviceAddress": app.ip(),
                "tags": {"kuma.io/service": service, "kuma.io/protocol": "http"},
            }]});
            if let Some(name) = name {
                networking["inbound"][0]["name"] = name.into();
            }
            self.start_dataplane(zone, &format!("{service}-{zone}"), networking)
                .await?;
            self.backends.push(zone.to_owned());
            Ok(())
        })
    }

    fn start_caller<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<Vec<Outbound>>> {
        Box::pin(async move {
            let (service, port) = (self.stage.service.clone(), self.stage.port);
            let display = "kuma.io/display-name";
            let everywhere =
                json!({"kind": "MeshMultiZoneService", "labels": {display: service}, "port": port});
            let all = vec![(format!("MeshMultiZoneService {service}"), everywhere)];
            let each = self.backends.iter().map(|backend| {
                let labels = json!({display: service, "kuma.io/zone": backend});
                let one = json!({"kind": "MeshService", "labels": labels, "port": port});
                (format!("MeshService {service} in {backend}"), one)
            });
            let each = each.collect();
            // Two, as with the real parts: one that has both kinds would keep clusters for the one that the other loses.
            let mut outbounds = self.start_caller_proxy(zone, "caller", all).await?;
            outbounds.extend(self.start_caller_proxy(zone, "caller-direct", each).await?);
            self.zone_mut(zone)?.outbounds.clone_from(&outbounds);
            Ok(outbounds)
        })
    }

    fn start_gateway<'a>(
        &'a mut self,
        zone: &'a str,
        outbound: SocketAddr,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let networking = self.stage.gateway(free_address(outbound.port())?, outbound);
            self.start_dataplane(zone, &format!("{GATEWAY}-{zone}"), networking)
                .await?;
            self.zone_mut(zone)?.outbounds.push(Outbound {
                address: outbound,
                target: format!("gateway {GATEWAY}"),
            });
            Ok(())
        })
    }

    fn settled<'a>(&'a mut self, backends: &'a [String]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let Stage { mesh, service, .. } = &self.stage;
            for (name, zone) in &self.zones {
                let url = format!(
                    "http://{}/meshes/{mesh}/meshservices?filter[labels.kuma.io/display-name]={service}",
                    zone.api
                );
                until(&format!("zone {name}"), || all_there(&url, backends)).await?;
                for outbound in &zone.outbounds {
                    let url = format!("http://{}/", outbound.address);
                    until(&format!("{} for callers in {name}", outbound.target), || {
                        answers(&url)
                    })
                    .await?;
                }
            }
            Ok(())
        })
    }

    fn kill_control_plane<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move { self.zone_mut(zone)?.control_plane.kill().await })
    }

    fn restart_control_plane<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let here = self.zone(zone)?;
            let (api, at) = (here.api, (here.api, here.ingress));
            let process = self.start_control_plane(zone, at, here.cluster.as_ref())?;
            self.zone_mut(zone)?.control_plane = process;
            let mesh = format!("http://{api}/meshes/{}", self.stage.mesh);
            until(&format!("the control plane of {zone}"), || async {
                answers(&mesh).await
            })
            .await
        })
    }

    fn stores_last(&self) -> bool {
        self.lasting
    }

    fn kill_global(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let (_, process) = self.global.as_mut().context("it is not started")?;
            process.kill().await
        })
    }

    fn restart_global(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let (listen, _) = self.global.as_ref().context("it is not started")?;
            let listen = *listen;
            self.global = Some((listen, self.start_global_process(listen)?));
            let api = format!("http://{listen}");
            until("the global control plane", || answers(&api)).await
        })
    }

    fn put_mesh(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let (listen, _) = self.global.as_ref().context("it is not started")?;
            for (at, object) in self.stage.mesh_objects() {
                let request = crate::http_client()
                    .put(format!("http://{listen}{at}"))
                    .json(&object);
                request.send().await?.error_for_status()?;
            }
            Ok(())
        })
    }

    fn has_ingresses(&self) -> bool {
        false
    }

    fn kill_proxy<'a>(&'a mut self, zone: &'a str, which: Carrier) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move { self.carrier(zone, which)?.kill().await })
    }

    fn restart_proxy<'a>(&'a mut self, zone: &'a str, which: Carrier) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move { self.carrier(zone, which)?.again() })
    }

    fn cluster_admin(&self) -> Option<ApiServer> {
        let cluster = self.zones.values().find_map(|z| z.cluster.as_ref());
        cluster.map(|c| c.admin.clone())
    }

    fn casualties(&mut self) -> Vec<String> {
        let proxies = self.zones.values_mut().flat_map(|z| z.dataplanes.values_mut());
        let mut told: Vec<String> = proxies.filter_map(Restartable::casualty).collect();
        let global = self.global.iter_mut().map(|(_, process)| process);
        let zones = self.zones.values_mut();
        let zones = zones.flat_map(|z| {
            let cluster = z.cluster.iter_mut().map(ClusterZone::process);
            std::iter::once(&mut z.control_plane).chain(cluster)
        });
        let ended = |process: &mut Process| {
            let status = process.ended()?;
            Some(format!(
                "{} ended ({status}); its log ends:\n{}",
                process.name(),
                process.tail(10)
            ))
        };
        told.extend(global.chain(zones).filter_map(ended));
        told
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for zone in self.zones.values_mut() {
                // A kill fails only where there is nothing left to kill.
                let _ = zone.control_plane.kill().await;
                if let Some(cluster) = &mut zone.cluster {
                    let _ = cluster.process().kill().await;
                }
            }
            for proxy in self.zones.values_mut().flat_map(|z| z.dataplanes.values_mut()) {
                let _ = proxy.kill().await;
            }
            if let Some((_, process)) = &mut self.global {
                let _ = process.kill().await;
            }
            let short = short_dir(&self.stage.dir);
            if short.exists() {
                let _ = std::fs::remove_dir_all(short);
            }
        })
    }
}

async fn all_there(url: &str, backends: &[String]) -> anyhow::Result<()> {
    let list: Value = crate::http_client()
        .get(url)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    for zone in backends {
        let there = items.iter().any(|item| {
            item["labels"]["kuma.io/zone"] == zone.as_str() && item["spec"]["state"] == "Available"
        });
        if !there {
            bail!("does not resolve the service in {zone} yet");
        }
    }
    Ok(())
}
