//! A zone that is a cluster: an API server, Kuma's zone control plane in Kubernetes mode with its webhooks, and pods that
//! nobody runs, whose dataplanes are real.
//!
//! Kuma's own installer prints what Kuma needs in a cluster; of that, everything is applied as it is but the Deployments,
//! which nobody would run, and the webhooks, which are called at loopback addresses. A pod is an object that carries the
//! ServiceAccount by which its dataplane is let in; its Dataplane is written by hand, because the sidecar that Kuma would
//! inject needs a kubelet and iptables.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::process::Command;

use super::control_plane::{ControlPlane, InCluster, Role};
use super::parts::Parts;
use super::place::Place;
use super::rest::Awaited;
use crate::cast::Stage;
use crate::cluster::{ApiServer, Authority, Binaries, Cluster, Types, User, documents};

/// Where Kuma is.
pub const SYSTEM: &str = "kuma-system";
/// Where the agent would be, if it were in the cluster.
pub const AGENT_NAMESPACE: &str = "weir-system";
/// Where the applications are.
pub const SHOP: &str = "shop";
/// The port of a zone ingress in a cluster.
pub(crate) const INGRESS_PORT: u16 = 10_001;
/// What the field manager of everything is that a cluster's people set up here.
const SET_UP: &str = "sandbox";

/// ServiceAccount and rights of the zone's agent.
pub const AGENT_RIGHTS: &str = include_str!("../../../../deploy/kubernetes/rbac.yaml");

/// What it may do besides where an ingress controller runs a gateway.
pub const AGENT_RIGHTS_KIC: &str = include_str!("../../../../deploy/kubernetes/rbac-kic.yaml");

/// Kuma's own user.
pub(crate) fn kuma() -> User {
    User::service_account(SYSTEM, "kuma-control-plane")
}

/// The agent's user.
pub fn agent() -> User {
    User::service_account(AGENT_NAMESPACE, "weir-agent")
}

/// A started cluster zone.
#[derive(Debug)]
pub struct ClusterZone {
    zone: String,
    /// The cluster.
    pub cluster: Cluster,
    /// Its API server, as somebody who may do everything.
    pub admin: ApiServer,
    types: Types,
    pub(crate) plane: ControlPlane,
}

/// A pod to make.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    pub(crate) labels: Value,
    pub(crate) annotations: Value,
    pub(crate) address: Ipv4Addr,
}

impl ClusterZone {
    /// Starts API server and control plane; returns when the webhooks are in force and the zone knows the mesh.
    pub(crate) async fn start(
        stage: &Stage,
        parts: &Parts,
        binaries: Binaries,
        place: &mut Place,
        zone: &str,
        global: &str,
    ) -> anyhow::Result<Self> {
        let home = stage.dir.join("zones").join(zone);
        let cluster = Cluster::start_at(
            place,
            zone,
            &home.join("cluster"),
            &stage.dir.join("logs"),
            stage.keeper.clone(),
            binaries,
            &[kuma(), agent()],
        )
        .await?;
        let admin = cluster.api(&User::admin())?;
        let mut printed = Printed::read(parts, zone, global).await?;
        let types = admin.define(&printed.definitions).await?;
        for object in &printed.objects {
            admin.apply(&types, SET_UP, object).await?;
        }
        for namespace in [SYSTEM, AGENT_NAMESPACE, SHOP] {
            let labels = match namespace {
                SHOP => json!({"kuma.io/sidecar-injection": "enabled"}),
                // The installer's own.
                SYSTEM => json!({"kuma.io/sidecar-injection": "false"}),
                _ => json!({}),
            };
            let made = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": labels},
            });
            admin.apply(&types, SET_UP, &made).await?;
            // A cluster's controllers make it; pods are refused without.
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": namespace},
            });
            admin.apply(&types, SET_UP, &account).await?;
        }
        for object in documents(AGENT_RIGHTS)? {
            admin.apply(&types, SET_UP, &object).await?;
        }
        let certificates = home.join("webhooks");
        std::fs::create_dir_all(&certificates)?;
        let authority = Authority::new("kuma-ca")?;
        authority.serve(&certificates.join("tls.crt"), &certificates.join("tls.key"))?;
        let webhooks = place.port()?;
        let role = Role::Zone {
            name: zone.to_owned(),
            global: global.to_owned(),
            cluster: Some(InCluster {
                kubeconfig: cluster.kubeconfig(&kuma()),
                api_server: cluster.port(),
                namespace: SYSTEM.to_owned(),
                user: kuma().name,
                webhooks,
                certificates,
            }),
            virtual_addresses: None,
        };
        let mut plane = ControlPlane::start(stage, parts, place, role, None).await?;
        plane.answers().await?;
        plane.ready().await?;
        // Not earlier: its own first writes would wait for it.
        for hooks in &mut printed.webhooks {
            at_loopback(hooks, webhooks, &authority.pem());
            admin.apply(&types, SET_UP, hooks).await?;
        }
        let mut here = Self {
            zone: zone.to_owned(),
            cluster,
            admin,
            types,
            plane,
        };
        here.plane.knows_mesh(&stage.mesh).await?;
        here.webhooks_in_force().await?;
        Ok(here)
    }

    /// The API server learns of webhooks a moment after they are written.
    async fn webhooks_in_force(&self) -> anyhow::Result<()> {
        let mut wait = Awaited::new("Kuma's webhooks are asked");
        let probe = json!({
            "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
            "metadata": {"name": "webhooks", "namespace": SYSTEM, "labels": {"kuma.io/mesh": "default"}},
            "spec": {"targetRef": {"kind": "Mesh"}, "to": []},
        });
        let path = self.types.path_of(&probe)?;
        loop {
            // Without `kuma.io/origin` they refuse it; nothing else would.
            let answer = self.admin.apply_at(&path, SET_UP, "&dryRun=All", &probe).await?;
            if answer.status == http::StatusCode::FORBIDDEN {
                return Ok(());
            }
            let seen = anyhow::anyhow!("{} {}", answer.status, answer.text());
            wait.again(Some(seen)).await?;
        }
    }

    /// Stops the time of Kuma's control plane: its webhooks take calls and never answer.
    pub fn freeze_control_plane(&self) {
        self.plane.freeze();
    }

    /// Lets it go on.
    pub fn thaw_control_plane(&self) {
        self.plane.thaw();
    }

    /// Whether Kuma's control plane ended by itself: it does when it cannot keep its lease. In words.
    pub fn control_plane_ended(&mut self) -> Option<String> {
        self.plane.casualty()
    }

    /// Applies an object.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn apply(&self, object: &Value) -> anyhow::Result<Value> {
        self.admin.apply(&self.types, SET_UP, object).await
    }

    /// Makes a pod as if a kubelet ran it; the token of its ServiceAccount.
    pub(crate) async fn pod(&self, pod: &Pod<'_>) -> anyhow::Result<String> {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": pod.name, "namespace": pod.namespace,
                "labels": pod.labels, "annotations": pod.annotations,
            },
            "spec": {
                "serviceAccountName": pod.account,
                "containers": [{"name": "application", "image": "example.com/application"}],
            },
        }))
        .await?;
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        let status = json!({"status": {
            "phase": "Running", "podIP": pod.address, "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
            "containerStatuses": [{
                "name": "application", "ready": true, "started": true, "restartCount": 0,
                "image": "example.com/application", "imageID": "none",
                "state": {"running": {"startedAt": jiff::Timestamp::now().to_string()}},
            }],
        }});
        self.admin.merge(&format!("{path}/status"), &status).await?;
        self.admin.account_token(pod.namespace, pod.account).await
    }

    /// The pod of the zone's ingress, from which Kuma makes the ZoneIngress; its token.
    pub(crate) async fn ingress(&self, address: Ipv4Addr) -> anyhow::Result<String> {
        let pod = Pod {
            namespace: SYSTEM,
            name: "kuma-ingress-0",
            account: "kuma-ingress",
            // Of the Service `kuma-ingress`.
            labels: json!({
                "app": "kuma-ingress", "app.kubernetes.io/name": "kuma", "app.kubernetes.io/instance": "kuma",
            }),
            annotations: json!({
                "kuma.io/ingress": "enabled", "kuma.io/ingress-public-address": address,
                "kuma.io/ingress-public-port": INGRESS_PORT.to_string(),
            }),
            address,
        };
        let token = self.pod(&pod).await?;
        let path = format!(
            "/apis/kuma.io/v1alpha1/namespaces/{SYSTEM}/zoneingresses/{}",
            pod.name
        );
        let mut wait = Awaited::new("Kuma has made the ZoneIngress of the ingress' pod");
        while self.admin.find(&path).await?.is_none() {
            wait.again(None).await?;
        }
        Ok(token)
    }

    /// The Service, the pod and the Dataplane of an application; its token.
    pub(crate) async fn backend(
        &self,
        stage: &Stage,
        name: &str,
        address: Ipv4Addr,
        app: SocketAddr,
    ) -> anyhow::Result<String> {
        let service = &stage.service;
        let mut port = json!({"port": stage.port, "targetPort": stage.port, "appProtocol": "http"});
        if let Some(name) = &stage.port_name {
            port["name"] = json!(name);
        }
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service, "namespace": SHOP},
            "spec": {"selector": {"app": service}, "ports": [port]},
        }))
        .await?;
        let inbound = json!({
            "port": stage.port, "servicePort": app.port(), "serviceAddress": app.ip().to_string(),
            "tags": {
                "app": service, "k8s.kuma.io/namespace": SHOP, "kuma.io/protocol": "http",
                "kuma.io/service": format!("{service}_{SHOP}_svc_{}", stage.port), "kuma.io/zone": self.zone,
            },
        });
        self.dataplane(
            stage,
            name,
            service,
            address,
            &json!({"address": address, "inbound": [inbound]}),
        )
        .await
    }

    /// The pod and the Dataplane of something that calls; its token.
    pub(crate) async fn caller(
        &self,
        stage: &Stage,
        name: &str,
        address: Ipv4Addr,
        outbound: &[Value],
    ) -> anyhow::Result<String> {
        // Nothing listens there: a dataplane without an inbound is matched by no policy.
        let inbound = json!({
            "port": 7070, "servicePort": 7071, "serviceAddress": "127.0.0.1",
            "tags": {
                "app": "caller", "k8s.kuma.io/namespace": SHOP, "kuma.io/protocol": "http",
                "kuma.io/service": format!("caller_{SHOP}_svc_7070"), "kuma.io/zone": self.zone,
            },
        });
        let networking = json!({"address": address, "inbound": [inbound], "outbound": outbound});
        self.dataplane(stage, name, "caller", address, &networking).await
    }

    async fn dataplane(
        &self,
        stage: &Stage,
        name: &str,
        app: &str,
        address: Ipv4Addr,
        networking: &Value,
    ) -> anyhow::Result<String> {
        let pod = Pod {
            namespace: SHOP,
            name,
            account: "default",
            // So that Kuma neither injects a sidecar nor looks after the Dataplane.
            labels: json!({"app": app, "kuma.io/sidecar-injection": "disabled"}),
            annotations: json!({}),
            address,
        };
        let token = self.pod(&pod).await?;
        self.apply(&json!({
            "apiVersion": "kuma.io/v1alpha1", "kind": "Dataplane", "mesh": stage.mesh,
            "metadata": {"name": name, "namespace": SHOP, "labels": {"kuma.io/mesh": stage.mesh}},
            "spec": {"networking": networking},
        }))
        .await?;
        Ok(token)
    }
}

/// What Kuma's installer prints.
struct Printed {
    definitions: Vec<Value>,
    /// All that can be applied as it is.
    objects: Vec<Value>,
    webhooks: Vec<Value>,
}

impl Printed {
    async fn read(parts: &Parts, zone: &str, global: &str) -> anyhow::Result<Self> {
        let kumactl = parts.kumactl.as_deref().context(
            "kumactl is not beside kuma-cp: a cluster zone takes Kuma's definitions and rights from what it prints",
        )?;
        let text = run(
            kumactl,
            &[
                "install",
                "control-plane",
                "--without-kubernetes-connection",
                "--mode=zone",
                "--ingress-enabled",
                &format!("--zone={zone}"),
                &format!("--kds-global-address={global}"),
            ],
        )
        .await?;
        let mut printed = Self {
            definitions: Vec::new(),
            objects: Vec::new(),
            webhooks: Vec::new(),
        };
        for object in documents(&text).context("what kumactl printed")? {
            match object["kind"].as_str().unwrap_or_default() {
                "CustomResourceDefinition" => printed.definitions.push(object),
                "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
                    printed.webhooks.push(object);
                }
                // Nobody here would run it.
                "Deployment" => {}
                _ => printed.objects.push(object),
            }
        }
        Ok(printed)
    }
}

/// Calls webhooks by address instead of by Service.
fn at_loopback(hooks: &mut Value, port: u16, authority: &str) {
    let bundle = base64::engine::general_purpose::STANDARD.encode(authority);
    for hook in hooks["webhooks"].as_array_mut().into_iter().flatten() {
        let path = hook["clientConfig"]["service"]["path"].as_str().unwrap_or("/");
        let url = format!("https://127.0.0.1:{port}{path}");
        hook["clientConfig"] = json!({"url": url, "caBundle": bundle});
    }
}

async fn run(program: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        // It would write one below the home directory.
        .arg("--no-config")
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} {}: {}\n{}",
        program.display(),
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
