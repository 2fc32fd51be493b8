//! How to reach a cluster and its Kuma.

use std::path::PathBuf;
use std::time::Duration;

use weir_model::{DnsLabel, FederationName};

use super::Cluster;
use crate::kuma::Sampled;

/// How to reach a cluster and its Kuma; checked by [`super::KumaKubernetes::new`].
#[derive(Debug, Clone)]
pub struct KubernetesConfig {
    /// Whose objects are ours.
    pub federation: FederationName,
    /// Which cluster, and as whom.
    pub cluster: Cluster,
    /// Where Kuma's control plane is, and where policies of zone origin are written.
    pub system_namespace: DnsLabel,
    /// Whether fields of our policies that another field manager wrote are taken back, after it was named. Otherwise the
    /// split is held and says who holds it.
    pub take_back: bool,
    /// The zone's control plane by REST, for evidence alone. Without it, and without Envoys on this host, nothing is proven.
    pub rest: Option<KumaRest>,
    /// Globs of Envoy admin sockets, or `http://` addresses, on this host; in a cluster most often none.
    pub envoy_admin: Vec<String>,
    /// Where the sidecars of callers tell their counters; none where no MeshMetric is.
    pub metrics: Option<Metrics>,
    /// What may be asked of proxies through the control plane.
    pub sampled: Sampled,
    /// File that remembers what of that was spent.
    pub spent: PathBuf,
    /// How long one call to the API server or the control plane may take.
    pub timeout: Duration,
}

/// A control plane's REST surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KumaRest {
    /// Its address.
    pub api: String,
    /// File with a user token; none where callers are trusted.
    pub token_file: Option<PathBuf>,
}

/// The metrics endpoint that a MeshMetric opens in every sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// `backends[].prometheus.port`.
    pub port: u16,
    /// `backends[].prometheus.path`.
    pub path: String,
}

impl Default for Metrics {
    /// As Kuma has it where a MeshMetric says nothing.
    fn default() -> Self {
        Self {
            port: 5670,
            path: "/metrics".to_owned(),
        }
    }
}

/// Where Kuma is installed unless somebody chose otherwise.
pub fn system_namespace() -> DnsLabel {
    DnsLabel::new("kuma-system").expect("it is a label")
}
