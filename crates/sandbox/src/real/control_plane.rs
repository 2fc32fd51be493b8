//! A control plane of Kuma, global or of a zone: its settings, its start, what it is waited for.
//!
//! The REST interface is bound to 127.0.0.1. Kuma binds its other listeners (proxies, zone sync, diagnostics, between
//! control planes) to all interfaces and has no setting for it; the guide says how to give the sandbox a network of its own.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use super::parts::Parts;
use super::place::Place;
use super::postgres::Database;
use super::rest::{Api, Awaited};
use crate::cast::Stage;
use crate::process::{Process, Start, tail};

/// What it is.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// Spans the zones.
    Global,
    /// Of one zone.
    Zone {
        /// Its name.
        name: String,
        /// Where the global one takes zones, `grpcs://127.0.0.1:5685`.
        global: String,
        /// The cluster that the zone is; none for VMs.
        cluster: Option<InCluster>,
        /// The loopback network `127.x.y.0/24` of its virtual addresses; none for Kuma's own, which are on no machine.
        virtual_addresses: Option<[u8; 3]>,
    },
}

/// What a control plane needs to know of the cluster that holds its objects.
#[derive(Debug, Clone)]
pub(crate) struct InCluster {
    /// Lets it in.
    pub(crate) kubeconfig: PathBuf,
    /// Port of the API server on 127.0.0.1.
    pub(crate) api_server: u16,
    /// Where it is installed.
    pub(crate) namespace: String,
    /// Its own user: may write what nobody else may.
    pub(crate) user: String,
    /// Its webhooks listen there, on 127.0.0.1.
    pub(crate) webhooks: u16,
    /// Holds `tls.crt` and `tls.key` of the webhooks.
    pub(crate) certificates: PathBuf,
}

impl InCluster {
    fn settings(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("KUBECONFIG", self.kubeconfig.clone().into()),
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1".into()),
            ("KUBERNETES_SERVICE_PORT", self.api_server.to_string().into()),
            ("KUMA_ENVIRONMENT", "kubernetes".into()),
            ("KUMA_STORE_TYPE", "kubernetes".into()),
            (
                "KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE",
                self.namespace.clone().into(),
            ),
            (
                "KUMA_RUNTIME_KUBERNETES_ADMISSION_SERVER_ADDRESS",
                "127.0.0.1".into(),
            ),
            (
                "KUMA_RUNTIME_KUBERNETES_ADMISSION_SERVER_PORT",
                self.webhooks.to_string().into(),
            ),
            (
                "KUMA_RUNTIME_KUBERNETES_ADMISSION_SERVER_CERT_DIR",
                self.certificates.clone().into(),
            ),
            ("KUMA_RUNTIME_KUBERNETES_ALLOWED_USERS", self.user.clone().into()),
            // As Kuma's own chart has it.
            ("KUMA_API_SERVER_READ_ONLY", "true".into()),
        ]
    }
}

/// Its ports, the same after a restart.
#[derive(Debug, Clone, Copy)]
struct Ports {
    api: u16,
    proxies: u16,
    diagnostics: u16,
    inter: u16,
    sync: u16,
}

/// A control plane.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    name: String,
    role: Role,
    ports: Ports,
    work: PathBuf,
    log: PathBuf,
    api: Api,
    /// Where its objects are; none for memory, or the cluster.
    database: Option<Database>,
    /// None while it is killed on purpose.
    process: Option<Process>,
}

impl ControlPlane {
    /// Starts it, with its objects in a database, in the cluster that it is in, or in memory. Nothing is waited for but
    /// the tables of a database.
    pub(crate) async fn start(
        stage: &Stage,
        parts: &Parts,
        place: &mut Place,
        role: Role,
        database: Option<Database>,
    ) -> anyhow::Result<Self> {
        let (name, work) = match &role {
            Role::Global => ("kuma-cp-global".to_owned(), stage.dir.join("global")),
            Role::Zone { name, .. } => {
                let work = stage.dir.join("zones").join(name).join("control-plane");
                (format!("kuma-cp-{name}"), work)
            }
        };
        std::fs::create_dir_all(&work)?;
        let ports = Ports {
            api: place.port()?,
            proxies: place.port()?,
            diagnostics: place.port()?,
            inter: place.port()?,
            sync: place.port()?,
        };
        let mut plane = Self {
            log: stage.dir.join("logs").join(format!("{name}.log")),
            api: Api::new(format!("http://127.0.0.1:{}", ports.api)),
            name,
            role,
            ports,
            work,
            database,
            process: None,
        };
        if plane.database.is_some() {
            plane.migrate(parts).await?;
        }
        plane.spawn(stage, parts)?;
        Ok(plane)
    }

    /// `/ready` of its diagnostics, which answers when it serves what it has to serve.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let api = Api::new(format!("http://127.0.0.1:{}", self.ports.diagnostics));
        self.succeeds_at(&api, "/ready", "it is ready").await
    }

    /// Makes the tables of its database.
    async fn migrate(&self, parts: &Parts) -> anyhow::Result<()> {
        let output = Command::new(&parts.kuma_cp)
            .args(["migrate", "up"])
            .envs(self.settings())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {} migrate up", parts.kuma_cp.display()))?;
        anyhow::ensure!(
            output.status.success(),
            "`kuma-cp migrate up` ({}): {}\n{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn spawn(&mut self, stage: &Stage, parts: &Parts) -> anyhow::Result<()> {
        let process = stage.keeper.spawn(Start {
            name: self.name.clone(),
            program: parts.kuma_cp.clone(),
            args: ["run", "--log-level", "info"].map(OsString::from).to_vec(),
            env: self.settings(),
            log: self.log.clone(),
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kuma's own settings: defaults, but for the role, the ports, loopback, and what needs a name or a second machine.
    fn settings(&self) -> Vec<(String, OsString)> {
        let mut settings: Vec<(&str, OsString)> = match &self.role {
            Role::Zone {
                cluster: Some(cluster),
                ..
            } => cluster.settings(),
            _ => {
                let memory = || vec![("KUMA_STORE_TYPE", "memory".into())];
                let mut settings = self.database.as_ref().map_or_else(memory, Database::settings);
                settings.push(("KUMA_ENVIRONMENT", "universal".into()));
                settings
            }
        };
        settings.extend([
            ("KUMA_GENERAL_WORK_DIR", self.work.clone().into()),
            ("KUMA_DEFAULTS_SKIP_MESH_CREATION", "true".into()),
            ("KUMA_API_SERVER_HTTP_INTERFACE", "127.0.0.1".into()),
            ("KUMA_API_SERVER_HTTP_PORT", self.ports.api.to_string().into()),
            ("KUMA_API_SERVER_HTTPS_ENABLED", "false".into()),
            ("KUMA_DP_SERVER_PORT", self.ports.proxies.to_string().into()),
            ("KUMA_DP_SERVER_HDS_ENABLED", "false".into()),
            (
                "KUMA_DIAGNOSTICS_SERVER_PORT",
                self.ports.diagnostics.to_string().into(),
            ),
            ("KUMA_INTER_CP_SERVER_PORT", self.ports.inter.to_string().into()),
            ("KUMA_INTER_CP_CATALOG_INSTANCE_ADDRESS", "127.0.0.1".into()),
            ("KUMA_MONITORING_ASSIGNMENT_SERVER_ENABLED", "false".into()),
        ]);
        match &self.role {
            Role::Global => settings.extend([
                ("KUMA_MODE", "global".into()),
                (
                    "KUMA_MULTIZONE_GLOBAL_KDS_GRPC_PORT",
                    self.ports.sync.to_string().into(),
                ),
            ]),
            Role::Zone { name, global, .. } => settings.extend([
                ("KUMA_MODE", "zone".into()),
                ("KUMA_MULTIZONE_ZONE_NAME", name.into()),
                ("KUMA_MULTIZONE_ZONE_GLOBAL_ADDRESS", global.into()),
                // The global one made its certificate itself, a moment ago, on this machine.
                ("KUMA_MULTIZONE_ZONE_KDS_TLS_SKIP_VERIFY", "true".into()),
            ]),
        }
        if let Role::Zone {
            virtual_addresses: Some([a, b, c]),
            ..
        } = self.role
        {
            settings.extend([
                ("KUMA_IPAM_MESH_SERVICE_CIDR", format!("{a}.{b}.{c}.0/25").into()),
                (
                    "KUMA_IPAM_MESH_MULTI_ZONE_SERVICE_CIDR",
                    format!("{a}.{b}.{c}.128/25").into(),
                ),
            ]);
        }
        settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// Its REST interface.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Where it takes zones.
    pub(crate) fn sync_address(&self) -> anyhow::Result<String> {
        anyhow::ensure!(
            matches!(self.role, Role::Global),
            "{} is not the global control plane",
            self.name
        );
        Ok(format!("grpcs://127.0.0.1:{}", self.ports.sync))
    }

    /// Where it takes proxies.
    pub(crate) fn proxy_address(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.proxies)
    }

    /// The certificate that it made itself for [`Self::proxy_address`].
    pub(crate) fn certificate(&self) -> PathBuf {
        self.work.join("kuma-cp.crt")
    }

    /// Waits until its REST interface answers; an end of the process ends the wait.
    pub(crate) async fn answers(&mut self) -> anyhow::Result<()> {
        self.succeeds("/", "its REST interface answers").await
    }

    /// Waits until it knows the mesh, which a zone learns from the global control plane.
    pub(crate) async fn knows_mesh(&mut self, mesh: &str) -> anyhow::Result<()> {
        self.succeeds(&format!("/meshes/{mesh}"), "it knows the mesh")
            .await
    }

    async fn succeeds(&mut self, path: &str, what: &str) -> anyhow::Result<()> {
        let api = self.api.clone();
        self.succeeds_at(&api, path, what).await
    }

    async fn succeeds_at(&mut self, api: &Api, path: &str, what: &str) -> anyhow::Result<()> {
        let mut wait = Awaited::new(format!("{what} ({})", self.name));
        loop {
            if let Some(casualty) = self.casualty() {
                anyhow::bail!(casualty);
            }
            let failure = match api.status(path).await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            wait.again(failure).await?;
        }
    }

    /// A token. The signing key reaches a zone a moment after its mesh: until then this waits.
    pub(crate) async fn token(&self, path: &str, wanted: &Value) -> anyhow::Result<String> {
        let mut wait = Awaited::new(format!("{} issues a token at {path}", self.name));
        loop {
            let answer = self.api.exchange(http::Method::POST, path, Some(wanted)).await?;
            if answer.status.is_success() {
                return Ok(answer.text());
            }
            let refused = anyhow::anyhow!("{} {}", answer.status, answer.text());
            wait.again(Some(refused)).await?;
        }
    }

    /// Stops its time, if it runs.
    pub(crate) fn freeze(&self) {
        if let Some(process) = &self.process {
            process.freeze();
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        if let Some(process) = &self.process {
            process.thaw();
        }
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts it again on its old ports.
    pub(crate) async fn restart(&mut self, stage: &Stage, parts: &Parts) -> anyhow::Result<()> {
        self.kill().await?;
        self.spawn(stage, parts)
    }

    /// In words, if it ended though nobody killed it.
    pub(crate) fn casualty(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.ended()?;
        Some(format!(
            "{} ended ({status}); its log {} ends with:\n{}",
            self.name,
            self.log.display(),
            tail(&self.log, 5)
        ))
    }
}
