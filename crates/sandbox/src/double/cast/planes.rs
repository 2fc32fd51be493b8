//! How the double's control planes are started, and where those keep their objects that have no cluster for it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use super::{Double, path};
use crate::double::cluster_zone::ClusterZone;
use crate::ports::free_address;
use crate::process::Process;

/// The port of a zone's ingress.
const INGRESS: u16 = 10_000;

impl Double {
    /// What global and VM zones' control planes hold shall outlive them.
    #[must_use]
    pub fn with_lasting_stores(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// The file of a control plane's store, below the sandbox's directory.
    fn store(&self, below: &Path) -> anyhow::Result<Option<String>> {
        if !self.lasting {
            return Ok(None);
        }
        let dir = self.stage.dir.join(below);
        std::fs::create_dir_all(&dir)?;
        Ok(Some(path(&dir.join("store.json"))?))
    }

    /// Where the ingress of a zone is said to be. Nobody listens there: callers of the double reach other zones' dataplanes.
    pub(super) fn zone_ingress() -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::new(free_address(INGRESS)?, INGRESS))
    }

    pub(super) fn start_global_process(&self, listen: SocketAddr) -> anyhow::Result<Process> {
        let listen = listen.to_string();
        let mut args = vec!["double-global", "--listen", &listen];
        let store = self.store(Path::new("global"))?;
        if let Some(file) = &store {
            args.extend(["--store", file]);
        }
        self.start("kuma-cp-global", &args)
    }

    pub(super) fn start_control_plane(
        &self,
        zone: &str,
        (api, ingress): (SocketAddr, SocketAddr),
        cluster: Option<&ClusterZone>,
    ) -> anyhow::Result<Process> {
        let (global, _) = self
            .global
            .as_ref()
            .context("the global control plane is not started")?;
        let (api, ingress) = (api.to_string(), ingress.to_string());
        let global = format!("http://{global}");
        let mut args = vec![
            "double-zone",
            "--listen",
            &api,
            "--zone",
            zone,
            "--global",
            &global,
            "--ingress",
            &ingress,
        ];
        let file = cluster.map(|c| path(&c.kuma())).transpose()?;
        if let Some(file) = &file {
            args.extend(["--kubeconfig", file]);
        }
        let store = match cluster {
            // It is the API server's.
            Some(_) => None,
            None => self.store(&Path::new("zones").join(zone).join("control-plane"))?,
        };
        if let Some(file) = &store {
            args.extend(["--store", file]);
        }
        self.start(&format!("kuma-cp-{zone}"), &args)
    }
}
