//! A cluster of the double: its API server as a process, with users and kubeconfigs as a real one has them, and the zone
//! in it: namespaces, rights, the objects of applications. The counterpart of `real::cluster_zone`, for machines with
//! neither a kube-apiserver nor Kuma.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cast::Stage;
use crate::cluster::{ApiServer, Identity, Types, User, documents};
use crate::ports::free_port;
use crate::process::{Keeper, Process, Start, find_program};
use crate::real::cluster_zone::{AGENT_NAMESPACE, AGENT_RIGHTS, SHOP, SYSTEM, agent, kuma};
use crate::waiting::until;

/// The field manager of everything that the cluster's people set up here.
const SET_UP: &str = "sandbox";

/// What Kuma's own user may; of the real one's rights those that the double uses.
const KUMA_RIGHTS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kuma-control-plane}
rules:
  - {apiGroups: [kuma.io], resources: ['*'], verbs: ['*']}
  - {apiGroups: [''], resources: [namespaces, services], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kuma-control-plane}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kuma-control-plane}
subjects: [{kind: ServiceAccount, name: kuma-control-plane, namespace: kuma-system}]
";

/// A started API server of the double.
#[derive(Debug)]
pub struct Cluster {
    identity: Identity,
    server: String,
    process: Process,
}

impl Cluster {
    /// Starts one; returns when it answers. What it needs is below `dir`, its log is in `logs`. `webhooks` is the base
    /// address of whom it asks before it lets anything of Kuma's be written.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(
        name: &str,
        dir: &Path,
        logs: &Path,
        keeper: &Keeper,
        users: &[User],
        webhooks: Option<&str>,
    ) -> anyhow::Result<Self> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let server = format!("https://{listen}");
        let home = dir.join("identity");
        let mut all = vec![User::admin()];
        all.extend(users.iter().cloned());
        let identity = Identity::make(&home, &server, &all)?;
        let mut args = vec![
            "double-cluster".into(),
            "--listen".into(),
            listen.to_string().into(),
            "--identity".into(),
            home.into_os_string(),
        ];
        if let Some(webhooks) = webhooks {
            args.extend(["--webhooks".into(), webhooks.into()]);
        }
        let name = format!("kube-apiserver-{name}");
        let process = keeper.spawn(Start {
            log: logs.join(format!("{name}.log")),
            program: find_program("weir-sandbox")?,
            args,
            env: Vec::new(),
            name,
        })?;
        let here = Self {
            identity,
            server,
            process,
        };
        let admin = here.api(&User::admin())?;
        until("the double of an API server", || async {
            let answer = admin.exchange(http::Method::GET, "/readyz", "", None).await?;
            anyhow::ensure!(answer.status.is_success(), "it answers {}", answer.status);
            Ok(())
        })
        .await?;
        Ok(here)
    }

    /// The API server as this user sees it.
    ///
    /// # Errors
    /// If it was not started with this user.
    pub fn api(&self, user: &User) -> anyhow::Result<ApiServer> {
        ApiServer::new(
            &self.server,
            self.identity.authority(),
            self.identity.token(user)?,
        )
    }

    /// A file that lets whoever reads it be this user.
    pub fn kubeconfig(&self, user: &User) -> PathBuf {
        self.identity.kubeconfig(user)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A zone that is a cluster.
#[derive(Debug)]
pub struct ClusterZone {
    cluster: Cluster,
    /// Its API server, as somebody who may do everything.
    pub admin: ApiServer,
    types: Types,
}

impl ClusterZone {
    /// Starts the API server of a zone whose control plane will listen at `api`, and puts into it what is there before that
    /// comes: namespaces and rights.
    pub(super) async fn start(stage: &Stage, zone: &str, api: SocketAddr) -> anyhow::Result<Self> {
        let cluster = Cluster::start(
            zone,
            &stage.dir.join("zones").join(zone).join("cluster"),
            &stage.dir.join("logs"),
            &stage.keeper,
            &[kuma(), agent()],
            Some(&format!("http://{api}")),
        )
        .await?;
        let admin = cluster.api(&User::admin())?;
        let types = admin.types().await?;
        let here = Self {
            cluster,
            admin,
            types,
        };
        for (name, injection) in [
            (SYSTEM, Some("false")),
            (AGENT_NAMESPACE, None),
            (SHOP, Some("enabled")),
        ] {
            let mut namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            if let Some(injection) = injection {
                namespace["metadata"]["labels"] = json!({"kuma.io/sidecar-injection": injection});
            }
            here.apply(&namespace).await?;
        }
        for text in [KUMA_RIGHTS, AGENT_RIGHTS] {
            for object in documents(text)? {
                here.apply(&object).await?;
            }
        }
        Ok(here)
    }

    /// Applies an object.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn apply(&self, object: &Value) -> anyhow::Result<Value> {
        self.admin.apply(&self.types, SET_UP, object).await
    }

    /// Lets the zone's agent in.
    pub(super) fn agent(&self) -> PathBuf {
        self.cluster.kubeconfig(&agent())
    }

    /// Lets the zone's control plane in.
    pub(super) fn kuma(&self) -> PathBuf {
        self.cluster.kubeconfig(&kuma())
    }

    pub(super) fn process(&mut self) -> &mut Process {
        self.cluster.process()
    }

    /// The Service of an application and the Dataplane in front of it; its name to the control plane.
    pub(super) async fn backend(
        &self,
        stage: &Stage,
        zone: &str,
        address: IpAddr,
        app: SocketAddr,
    ) -> anyhow::Result<String> {
        let service = &stage.service;
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service, "namespace": SHOP},
            "spec": {
                "selector": {"app": service},
                "ports": [{"port": stage.port, "targetPort": stage.port, "appProtocol": "http"}],
            },
        }))
        .await?;
        let inbound = json!({
            "port": stage.port, "servicePort": app.port(), "serviceAddress": app.ip(),
            "tags": {
                "app": service, "k8s.kuma.io/namespace": SHOP, "kuma.io/protocol": "http",
                "kuma.io/service": format!("{service}_{SHOP}_svc_{}", stage.port), "kuma.io/zone": zone,
            },
        });
        self.dataplane(
            stage,
            &format!("{service}-0"),
            &json!({"address": address, "inbound": [inbound]}),
        )
        .await
    }

    /// The Dataplane of something that calls; its name to the control plane.
    pub(super) async fn caller(
        &self,
        stage: &Stage,
        zone: &str,
        name: &str,
        address: IpAddr,
        outbound: &[Value],
    ) -> anyhow::Result<String> {
        // With an inbound: without one no policy would match it.
        let inbound = json!({
            "port": 7070, "servicePort": 7071, "serviceAddress": "127.0.0.1",
            "tags": {
                "app": "caller", "k8s.kuma.io/namespace": SHOP, "kuma.io/protocol": "http",
                "kuma.io/service": format!("caller_{SHOP}_svc_7070"), "kuma.io/zone": zone,
            },
        });
        let networking = json!({"address": address, "inbound": [inbound], "outbound": outbound});
        self.dataplane(stage, &format!("{name}-0"), &networking).await
    }

    async fn dataplane(&self, stage: &Stage, name: &str, networking: &Value) -> anyhow::Result<String> {
        self.apply(&json!({
            "apiVersion": "kuma.io/v1alpha1", "kind": "Dataplane", "mesh": stage.mesh,
            "metadata": {"name": name, "namespace": SHOP, "labels": {"kuma.io/mesh": stage.mesh}},
            "spec": {"networking": networking},
        }))
        .await?;
        Ok(format!("{name}.{SHOP}"))
    }
}
