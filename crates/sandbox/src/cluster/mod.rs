//! A Kubernetes API server with its store, on loopback: the face of a cluster, with nothing behind it.
//!
//! No kubelet runs pods, no controller makes EndpointSlices or collects garbage: whoever needs those objects writes them.
//! What clients meet is real: discovery, schemas and CEL, server-side apply, RBAC, watches, webhooks, outages.
//!
//! `binaries` finds the programs, `identity` makes keys, users and kubeconfigs, `api` speaks to the server, `definitions`
//! are the types of Kuma, `store` tells what was changed. Changed when Kubernetes' flags do.

pub mod api;
mod binaries;
mod definitions;
mod identity;
mod store;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use http::Method;

use crate::process::{Keeper, Process, Start, tail};
use crate::real::place::Place;
use crate::real::rest::{Api, Awaited};
pub use api::{ApiServer, Type, Types, documents, documents_in};
pub use binaries::{Absent, Binaries};
pub use definitions::{Definitions, Source};
pub(crate) use identity::Identity;
pub use identity::{Authority, User};
pub use store::{Change, Store};

/// An API server and its store.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    logs: PathBuf,
    name: String,
    keeper: Keeper,
    binaries: Binaries,
    ports: Ports,
    identity: Identity,
    /// None while it is stopped on purpose.
    etcd: Option<Process>,
    /// None while it is stopped on purpose.
    api_server: Option<Process>,
}

/// The same after a restart.
#[derive(Debug, Clone, Copy)]
struct Ports {
    etcd: u16,
    peers: u16,
    api: u16,
}

/// How an API server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM: new connections are refused at once, open watches stay, silent, for up to 60 s.
    Terminated,
    /// `kill -9`: every connection ends at once.
    Killed,
}

impl Cluster {
    /// Starts both; returns when the API server is ready. What it holds is below `dir`, logs are in `logs`.
    ///
    /// # Errors
    /// If one does not start; its log's end is in the error.
    pub async fn start(
        name: &str,
        dir: &Path,
        logs: &Path,
        keeper: Keeper,
        binaries: Binaries,
        users: &[User],
    ) -> anyhow::Result<Self> {
        let mut place = Place::pick(8080)?;
        Self::start_at(&mut place, name, dir, logs, keeper, binaries, users).await
    }

    /// [`Self::start`], on ports of somebody's own part of loopback.
    pub(crate) async fn start_at(
        place: &mut Place,
        name: &str,
        dir: &Path,
        logs: &Path,
        keeper: Keeper,
        binaries: Binaries,
        users: &[User],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let ports = Ports {
            etcd: place.port()?,
            peers: place.port()?,
            api: place.port()?,
        };
        let server = format!("https://127.0.0.1:{}", ports.api);
        let mut all = vec![User::admin()];
        all.extend(users.iter().cloned());
        let mut cluster = Self {
            identity: Identity::make(&dir.join("identity"), &server, &all)?,
            dir: dir.to_path_buf(),
            logs: logs.to_path_buf(),
            name: name.to_owned(),
            keeper,
            binaries,
            ports,
            etcd: None,
            api_server: None,
        };
        cluster.start_store().await?;
        cluster.start_api_server().await?;
        Ok(cluster)
    }

    /// `https://127.0.0.1:6443`; the same after a restart.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports.api
    }

    /// A file that lets whoever reads it be this user.
    pub fn kubeconfig(&self, user: &User) -> PathBuf {
        self.identity.kubeconfig(user)
    }

    /// The certificate by which its server is known.
    pub fn authority(&self) -> PathBuf {
        self.identity.file("ca.crt")
    }

    /// A user's token.
    ///
    /// # Errors
    /// If it was not started with this user.
    pub fn token(&self, user: &User) -> anyhow::Result<&str> {
        self.identity.token(user)
    }

    /// The API server as this user sees it.
    ///
    /// # Errors
    /// If it was not started with this user.
    pub fn api(&self, user: &User) -> anyhow::Result<ApiServer> {
        ApiServer::new(
            &self.server(),
            self.identity.authority(),
            self.identity.token(user)?,
        )
    }

    async fn start_store(&mut self) -> anyhow::Result<()> {
        let clients = format!("http://127.0.0.1:{}", self.ports.etcd);
        let args = [
            ("--data-dir", self.dir.join("etcd").into()),
            ("--listen-client-urls", OsString::from(&clients)),
            ("--advertise-client-urls", OsString::from(&clients)),
            (
                "--listen-peer-urls",
                format!("http://127.0.0.1:{}", self.ports.peers).into(),
            ),
            ("--log-level", "warn".into()),
        ];
        let mut args = flags(args);
        // What is in there is worth nothing after the sandbox.
        args.push("--unsafe-no-fsync".into());
        let process = self.spawn("etcd", self.binaries.etcd.clone(), args)?;
        self.etcd = Some(process);
        let api = Api::new(clients);
        let mut wait = Awaited::new("etcd is healthy");
        loop {
            let failure = match api.status("/health").await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status) => Some(anyhow::anyhow!("it answers {status}")),
                Err(error) => Some(error),
            };
            self.unharmed()?;
            wait.again(failure).await?;
        }
    }

    /// Starts the API server (again); returns when it is ready.
    ///
    /// # Errors
    /// If it does not become ready; its log's end is in the error.
    pub async fn start_api_server(&mut self) -> anyhow::Result<()> {
        let file = |name: &str| OsString::from(self.identity.file(name));
        let args = [
            (
                "--etcd-servers",
                format!("http://127.0.0.1:{}", self.ports.etcd).into(),
            ),
            ("--bind-address", "127.0.0.1".into()),
            ("--secure-port", self.ports.api.to_string().into()),
            // For machines without a default route; an address of documentation, to which nothing is ever sent.
            ("--advertise-address", "192.0.2.1".into()),
            ("--tls-cert-file", file("server.crt")),
            ("--tls-private-key-file", file("server.key")),
            // It puts what it makes itself there, though it makes nothing.
            ("--cert-dir", self.dir.join("certificates").into()),
            (
                "--service-account-issuer",
                "https://kubernetes.default.svc".into(),
            ),
            ("--service-account-key-file", file("accounts.pub")),
            ("--service-account-signing-key-file", file("accounts.key")),
            ("--service-cluster-ip-range", "10.0.0.0/16".into()),
            // Without it everybody may do everything.
            ("--authorization-mode", "RBAC".into()),
            ("--token-auth-file", file("tokens.csv")),
        ];
        let process = self.spawn("kube-apiserver", self.binaries.api_server.clone(), flags(args))?;
        self.api_server = Some(process);
        let api = self.api(&User::admin())?;
        let mut wait = Awaited::new(format!("the API server of {} is ready", self.name));
        loop {
            let failure = match api.exchange(Method::GET, "/readyz", "", None).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => Some(anyhow::anyhow!("it answers {} {}", answer.status, answer.text())),
                Err(error) => Some(error),
            };
            self.unharmed()?;
            wait.again(failure).await?;
        }
    }

    /// Ends the API server; what it held stays in the store. Returns when the process is gone.
    ///
    /// # Errors
    /// If it is not running, or cannot be waited for.
    pub async fn stop_api_server(&mut self, end: End) -> anyhow::Result<()> {
        let mut process = self.api_server.take().context("the API server is not running")?;
        match end {
            // Longer than it lets open watches live.
            End::Terminated => process.stop(Duration::from_secs(90)).await,
            End::Killed => process.kill().await,
        }
    }

    /// Sends the API server SIGTERM and returns at once: what its clients see then is worth a look. It is still to be
    /// ended with [`Self::stop_api_server`].
    ///
    /// # Errors
    /// If it is not running.
    pub fn terminate_api_server(&self) -> anyhow::Result<()> {
        self.running()?.terminate();
        Ok(())
    }

    /// Stops the API server's time: connections stay open and are taken, and nothing ever answers.
    ///
    /// # Errors
    /// If it is not running.
    pub fn freeze_api_server(&self) -> anyhow::Result<()> {
        self.running()?.freeze();
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it is not running.
    pub fn thaw_api_server(&self) -> anyhow::Result<()> {
        self.running()?.thaw();
        Ok(())
    }

    fn running(&self) -> anyhow::Result<&Process> {
        self.api_server.as_ref().context("the API server is not running")
    }

    /// The process of the API server, while it runs.
    pub fn api_server_id(&self) -> Option<u32> {
        self.api_server.as_ref().map(Process::id)
    }

    fn spawn(&self, name: &str, program: PathBuf, args: Vec<OsString>) -> anyhow::Result<Process> {
        let name = format!("{name}-{}", self.name);
        self.keeper.spawn(Start {
            log: self.logs.join(format!("{name}.log")),
            name,
            program,
            args,
            env: Vec::new(),
        })
    }

    fn unharmed(&mut self) -> anyhow::Result<()> {
        let ended = self.casualties();
        anyhow::ensure!(ended.is_empty(), "{}", ended.join("\n"));
        Ok(())
    }

    /// In words, each that ended though nobody stopped it.
    pub fn casualties(&mut self) -> Vec<String> {
        let both = self.etcd.iter_mut().chain(self.api_server.iter_mut());
        let told = |process: &mut Process| {
            let status = process.ended()?;
            Some(format!(
                "{} ended ({status}); its log {} ends with:\n{}",
                process.name(),
                process.log().display(),
                tail(process.log(), 5)
            ))
        };
        both.filter_map(told).collect()
    }

    /// Ends both. Nothing in there is worth a graceful end.
    pub async fn stop(&mut self) {
        for mut process in self.api_server.take().into_iter().chain(self.etcd.take()) {
            if let Err(error) = process.kill().await {
                tracing::warn!("{} did not end: {error:#}", process.name());
            }
        }
    }
}

fn flags<const N: usize>(named: [(&str, OsString); N]) -> Vec<OsString> {
    let flag = |(name, value): (&str, OsString)| {
        let mut flag = OsString::from(name);
        flag.push("=");
        flag.push(value);
        flag
    };
    named.into_iter().map(flag).collect()
}
