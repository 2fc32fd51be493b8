//! The cast of the play: who plays Kuma. The double (`double/`) and the real parts (`real/`) implement [`Cast`]; the play
//! and everything above it know only this file. Changed when the play needs something new of either.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::anyhow;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::cluster::ApiServer;
use crate::process::Keeper;
use crate::real::cluster_zone::ClusterZone;

/// What the mesh calls its delegated gateway.
pub(crate) const GATEWAY: &str = "edge-mesh";

/// What every cast is told before it starts anything.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The sandbox's directory. A cast writes below `zones/<zone>/` and `global/`, and logs to `logs/`; nowhere else,
    /// except for sockets whose path would be too long there.
    pub dir: PathBuf,
    /// The mesh.
    pub mesh: String,
    /// The service that is split; its MeshServices and its MeshMultiZoneService have this display name.
    pub service: String,
    /// The port of that service.
    pub port: u16,
    /// The name that this port has in the MeshServices, if it has one.
    pub port_name: Option<String>,
    /// Starts processes so that none outlives the sandbox.
    pub keeper: Keeper,
}

impl Stage {
    /// What a gateway in the mesh is to the mesh: its sidecar at `address`, with one outbound.
    pub(crate) fn gateway(&self, address: IpAddr, outbound: SocketAddr) -> Value {
        let Self { service, port, .. } = self;
        json!({
            "address": address,
            "gateway": {"type": "DELEGATED", "tags": {"kuma.io/service": GATEWAY}},
            "outbound": [{
                "address": outbound.ip(), "port": outbound.port(),
                "backendRef": {
                    "kind": "MeshMultiZoneService", "labels": {"kuma.io/display-name": service}, "port": port,
                },
            }],
        })
    }

    /// What spans the zones, each with its path: the mesh with mTLS, a permission for all, and the MeshMultiZoneService.
    pub(crate) fn mesh_objects(&self) -> [(String, Value); 3] {
        let Self {
            mesh, service, port, ..
        } = self;
        [
            (
                format!("/meshes/{mesh}"),
                json!({
                    "type": "Mesh", "name": mesh, "meshServices": {"mode": "Exclusive"},
                    "mtls": {"enabledBackend": "ca-1", "backends": [{"name": "ca-1", "type": "builtin"}]},
                }),
            ),
            (
                format!("/meshes/{mesh}/meshtrafficpermissions/allow-all"),
                json!({
                    "type": "MeshTrafficPermission", "name": "allow-all", "mesh": mesh,
                    "spec": {
                        "targetRef": {"kind": "Mesh"},
                        "from": [{"targetRef": {"kind": "Mesh"}, "default": {"action": "Allow"}}],
                    },
                }),
            ),
            (
                format!("/meshes/{mesh}/meshmultizoneservices/{service}"),
                json!({
                    "type": "MeshMultiZoneService", "name": service, "mesh": mesh,
                    "spec": {
                        "selector": {"meshService": {"matchLabels": {"kuma.io/display-name": service}}},
                        "ports": [{"port": port, "appProtocol": "http"}],
                    },
                }),
            ),
        ]
    }
}

/// A proxy through which a zone's share comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The one beside the backend: its dataplane.
    Dataplane,
    /// The zone's ingress, through which all other zones come.
    Ingress,
}

/// What the zone-spanning part of Kuma gives.
#[derive(Debug, Clone)]
pub struct GlobalParts {
    /// REST API of the global control plane, `http://127.0.0.1:5681`; none if the cast has no such process.
    pub api: Option<String>,
}

/// What one zone's control plane gives: this goes into the configuration of the zone's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneParts {
    /// REST API of the zone's control plane, `http://127.0.0.1:5681`. The same after a restart.
    pub api: String,
    /// Where the admin interfaces of this zone's proxies are or will be: globs of unix sockets, or URLs.
    pub envoy_admin: Vec<String>,
    /// Lets the zone's agent into the API server of the cluster that the zone is; none for VMs.
    pub kubeconfig: Option<PathBuf>,
}

/// Where a caller sends its requests to reach the split service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Address of the outbound listener.
    pub address: SocketAddr,
    /// What it stands for, in words: `MeshMultiZoneService checkout`, `MeshService checkout in fra`.
    pub target: String,
}

/// Who plays Kuma.
///
/// Order of calls: `start_global`, `start_zone` for each zone, then backends and callers of each zone, then `settled`.
/// Nothing is retried above this trait: a method returns when what it started can be used, or says why not.
pub trait Cast: Send {
    /// `double` or `real`.
    fn name(&self) -> &'static str;

    /// What plays, with versions: `kuma-cp` -> `2.14.3`. For logs and for the recordings.
    fn versions(&mut self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, String>>>;

    /// Zones with callers that this cast can afford.
    fn calling_zones(&self) -> Vec<String>;

    /// Starts what spans the zones, with mesh, mTLS, permission and the MeshMultiZoneService of the split service.
    fn start_global(&mut self) -> BoxFuture<'_, anyhow::Result<GlobalParts>>;

    /// Starts a zone's control plane (and its ingress); returns when its API answers and knows the mesh.
    fn start_zone<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<ZoneParts>>;

    /// Puts a dataplane of the split service in front of the application at `app`, so that the zone gets a MeshService.
    fn start_backend<'a>(&'a mut self, zone: &'a str, app: SocketAddr) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Starts a caller's dataplane (with one inbound, or no policy would match it) and returns its outbounds.
    fn start_caller<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<Vec<Outbound>>>;

    /// Starts the sidecar of a delegated gateway, whose one outbound is the MeshMultiZoneService, at this address.
    fn start_gateway<'a>(
        &'a mut self,
        zone: &'a str,
        outbound: SocketAddr,
    ) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Returns when every calling zone resolves the split service in all of `backends` (zones with a backend) and its
    /// callers get answers.
    fn settled<'a>(&'a mut self, backends: &'a [String]) -> BoxFuture<'a, anyhow::Result<()>>;

    /// `kill -9` of a zone's control plane; its proxies stay.
    fn kill_control_plane<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Starts a killed control plane again, at the same address; returns when it answers and knows the mesh. With a memory
    /// store it comes back empty.
    fn restart_control_plane<'a>(&'a mut self, zone: &'a str) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Whether global and VM zones' control planes come back with what they had.
    fn stores_last(&self) -> bool;

    /// `kill -9` of the global control plane.
    fn kill_global(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;

    /// Starts it again, at the same address; returns when it answers. With a memory store it comes back empty, and every
    /// zone loses the mesh.
    fn restart_global(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;

    /// Puts mesh, mTLS, permission and the MeshMultiZoneService on the global control plane, which has lost them.
    fn put_mesh(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;

    /// Whether what goes to another zone goes through that zone's ingress.
    fn has_ingresses(&self) -> bool;

    /// `kill -9` of a proxy in a zone with a backend.
    fn kill_proxy<'a>(&'a mut self, zone: &'a str, which: Carrier) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Starts it again as it was; nothing is waited for.
    fn restart_proxy<'a>(&'a mut self, zone: &'a str, which: Carrier) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Whether objects that outlive control planes are in a server, which can be stopped.
    fn has_store_server(&self) -> bool {
        false
    }

    /// Stops that server.
    fn stop_store(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        std::future::ready(Err(anyhow!("no server keeps the objects"))).boxed()
    }

    /// Starts it again; returns when it takes connections.
    fn start_store(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        std::future::ready(Err(anyhow!("no server keeps the objects"))).boxed()
    }

    /// The API server of the zone that is a cluster, as somebody who may do everything; none if there is none, or it is not
    /// started.
    fn cluster_admin(&self) -> Option<ApiServer>;

    /// The zone that is a cluster with a real API server; none if there is none, or it is not started.
    fn cluster(&mut self) -> Option<&mut ClusterZone> {
        None
    }

    /// Processes of this cast that ended though nobody stopped them, in words. Asked for when something went wrong.
    fn casualties(&mut self) -> Vec<String>;

    /// Ends everything, proxies last. Also called after a failed start.
    fn stop(&mut self) -> BoxFuture<'_, ()>;
}
