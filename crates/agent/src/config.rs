//! The agent's configuration: one YAML file, checked whole before anything starts.
//!
//! Whoever holds a [`Config`] may rely on it: names are names, periods are within their limits, relative paths are
//! relative to the file. Changed together with `docs/guide`.

mod gateways;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use weir_drivers::{Cluster, KumaRest, Metrics, Sampled};
use weir_model::{DnsLabel, GatewayName, ZoneName};

use gateways::RawGateway;
pub use gateways::{Count, GatewayConfig, Header, Node};

/// The agent's name, where the file gives none: so that pods can share one file.
const AGENT: &str = "WEIR_AGENT";

/// Everything that the agent needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The zone, as the declaration names it.
    pub zone: ZoneName,
    /// The agent's own name, unique in its zone.
    pub agent: DnsLabel,
    /// `https://host:port`.
    pub coordinator: String,
    /// Directory of identity, last good plan and status socket.
    pub data: PathBuf,
    /// The zone's Kuma.
    pub kuma: Kuma,
    /// The zone's gateways that this agent drives, by the names that the declaration gives them.
    pub gateways: BTreeMap<GatewayName, GatewayConfig>,
    /// How often to report at the least.
    pub report: Duration,
}

/// How to reach the zone's Kuma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kuma {
    /// Where policies are written, and how.
    pub plane: Plane,
    /// Globs of Envoy admin sockets, or `http://` addresses.
    pub envoy_admin: Vec<String>,
    /// What may be asked of proxies on other hosts.
    pub sampled: Sampled,
}

/// The two kinds of zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plane {
    /// VMs: Kuma's own store, written by REST.
    Universal(KumaRest),
    /// A cluster: Kuma's store is the cluster's, written through its API server.
    Kubernetes(Kubernetes),
}

/// A cluster as a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Which, and as whom.
    pub cluster: Cluster,
    /// Where Kuma's control plane is installed, and policies of zone origin are.
    pub system_namespace: DnsLabel,
    /// Whether fields that somebody else wrote in our own policies are taken back.
    pub take_back: bool,
    /// Where sidecars answer for their metrics, if they do (MeshMetric).
    pub metrics: Option<Metrics>,
    /// REST of the zone's control plane, for evidence only; nothing is proven without it or `envoyAdmin`.
    pub rest: Option<KumaRest>,
}

/// What is wrong with a configuration file, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line and column, from 1; none if the file as a whole is meant.
    pub at: Option<(u64, u64)>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            let file = self.file.display();
            let place = match fault.at {
                Some((line, column)) => format!("{file}:{line}:{column}"),
                None => file.to_string(),
            };
            writeln!(f, "error: {}\n  --> {place}", fault.message)?;
            write!(f, "   = help: {}", fault.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    zone: ZoneName,
    agent: Option<DnsLabel>,
    coordinator: Spanned<String>,
    data: Spanned<PathBuf>,
    kuma: RawKuma,
    #[serde(default)]
    gateways: BTreeMap<GatewayName, Spanned<RawGateway>>,
    report: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKuma {
    api: Option<Spanned<String>>,
    kubernetes: Option<Spanned<RawKubernetes>>,
    token_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    envoy_admin: Vec<Spanned<String>>,
    #[serde(default)]
    sampled: RawSampled,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKubernetes {
    kubeconfig: Option<PathBuf>,
    context: Option<Spanned<String>>,
    system_namespace: Option<DnsLabel>,
    #[serde(default)]
    take_back: bool,
    metrics: Option<Spanned<RawMetrics>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMetrics {
    port: Option<u16>,
    path: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawSampled {
    calls_per_hour: u32,
    per_change: u32,
}

impl Default for RawSampled {
    fn default() -> Self {
        Self {
            calls_per_hour: 60,
            per_change: 3,
        }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let wrong = |faults| ConfigError {
            file: file.to_owned(),
            faults,
        };
        let text = std::fs::read_to_string(file).map_err(|error| {
            wrong(vec![Fault {
                at: None,
                message: format!("the configuration cannot be read: {error}"),
                help: "give the path of a readable YAML file with --config".to_owned(),
            }])
        })?;
        let name = std::env::var(AGENT).ok();
        Self::parse(&text, file.parent().unwrap_or(Path::new("")), name.as_deref()).map_err(wrong)
    }

    /// Checks a configuration; relative paths in it are relative to `base`, and an agent that it does not name has the name
    /// given.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, base: &Path, name: Option<&str>) -> Result<Self, Vec<Fault>> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let raw: Raw = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            vec![Fault {
                at: error.location().map(|at| (at.line(), at.column())),
                message: bare_message(&error),
                help: "an agent needs zone, agent, coordinator, data and kuma; docs/guide names every key"
                    .to_owned(),
            }]
        })?;
        let mut faults = Vec::new();
        let mut fault = |at: Location, message: String, help: &str| {
            faults.push(Fault {
                at: Some((at.line(), at.column())),
                message,
                help: help.to_owned(),
            });
        };
        if !raw.coordinator.value.starts_with("https://") {
            fault(
                raw.coordinator.referenced,
                format!(
                    "`coordinator` is `{}`, not an https:// address",
                    raw.coordinator.value
                ),
                "give the coordinator's address and port, such as https://weir.example.com:8443",
            );
        }
        if raw.data.value.as_os_str().is_empty() {
            fault(
                raw.data.referenced,
                "`data` is empty".to_owned(),
                "name the directory that holds the agent's state, such as /var/lib/weir-agent",
            );
        }
        if let Some(api) = &raw.kuma.api
            && !(api.value.starts_with("http://") || api.value.starts_with("https://"))
        {
            fault(
                api.referenced,
                format!("`kuma.api` is `{}`, neither http:// nor https://", api.value),
                "give the REST address of the zone's own control plane, such as http://127.0.0.1:5681",
            );
        }
        if let (Some(file), None) = (&raw.kuma.token_file, &raw.kuma.api) {
            fault(
                file.referenced,
                "`kuma.tokenFile` without `kuma.api`".to_owned(),
                "the token is for the REST address of the zone's control plane: give kuma.api as well, or leave the file out",
            );
        }
        if let Some(Spanned { value: cluster, .. }) = &raw.kuma.kubernetes {
            if let (None, Some(context)) = (&cluster.kubeconfig, &cluster.context) {
                fault(
                    context.referenced,
                    "`kuma.kubernetes.context` without a kubeconfig that has it".to_owned(),
                    "name the file with kuma.kubernetes.kubeconfig, or leave both out for an agent inside the cluster",
                );
            }
            if let (Some(metrics), None) = (&cluster.metrics, &raw.kuma.api) {
                fault(
                    metrics.referenced,
                    "`kuma.kubernetes.metrics` without `kuma.api`".to_owned(),
                    "give kuma.api as well: only the zone's control plane tells which pods call a service, and without it \
                     nothing is counted; or leave the metrics out",
                );
            }
            if let Some(path) = cluster
                .metrics
                .as_ref()
                .and_then(|metrics| metrics.value.path.as_ref())
                && !path.value.starts_with('/')
            {
                fault(
                    path.referenced,
                    format!("`kuma.kubernetes.metrics.path` is `{}`, not a path", path.value),
                    "give what the zone's MeshMetric says, such as /metrics",
                );
            }
        }
        for admin in raw.kuma.envoy_admin.iter().filter(|a| a.value.is_empty()) {
            fault(
                admin.referenced,
                "an empty entry in `kuma.envoyAdmin`".to_owned(),
                "give a glob of admin sockets, such as /tmp/kuma-*/kuma-envoy-admin.sock, or an http:// address",
            );
        }
        let mut report = Duration::from_secs(5);
        if let Some(given) = &raw.report {
            match period(&given.value) {
                Some(period) if period >= Duration::from_millis(100) => report = period,
                Some(_) => fault(
                    given.referenced,
                    format!("`report` is {}, too short to be kept", given.value),
                    "give at least 100ms",
                ),
                None => fault(
                    given.referenced,
                    format!("`report` is `{}`, not a period", given.value),
                    "give a number with its unit, such as 5s or 500ms",
                ),
            }
        }
        let mut gateways = BTreeMap::new();
        let mut listening: BTreeMap<SocketAddr, GatewayName> = BTreeMap::new();
        for (name, gateway) in raw.gateways {
            let Some(checked) = gateway.value.checked(&name, gateway.referenced, base, &mut fault) else {
                continue;
            };
            if let Some(count) = &checked.count
                && let Some(other) = listening.insert(count.listen, name.clone())
            {
                fault(
                    gateway.referenced,
                    format!(
                        "the gateways {other} and {name} are both counted at {}",
                        count.listen
                    ),
                    "give each of them a port of its own",
                );
            }
            gateways.insert(name, checked);
        }
        let agent = raw.agent.map_or_else(
            || {
                let name = name.filter(|name| !name.is_empty());
                let name =
                    name.ok_or_else(|| format!("the agent has no name: neither `agent` nor {AGENT} is set"))?;
                DnsLabel::new(name).map_err(|why| format!("{AGENT} is `{name}`, no name for an agent: {why}"))
            },
            Ok,
        );
        let agent = agent.map_err(|message| {
            faults.push(Fault {
                at: None,
                message,
                help: format!(
                    "give `agent` in the file, a name that is unique in the zone; where several agents share one file, as \
                     pods do, leave it out and set {AGENT} for each"
                ),
            });
        });
        let rest = raw.kuma.api.map(|api| KumaRest {
            api: api.value,
            token_file: raw.kuma.token_file.map(|file| base.join(file.value)),
        });
        let plane = match (raw.kuma.kubernetes, rest) {
            (Some(cluster), rest) => Some(Plane::Kubernetes(cluster.value.checked(base, rest))),
            (None, Some(rest)) => Some(Plane::Universal(rest)),
            (None, None) => {
                faults.push(Fault {
                    at: None,
                    message: "`kuma` names no control plane".to_owned(),
                    help: "give kuma.api, the REST address of the zone's own control plane; in a cluster kuma.kubernetes, \
                           which may be `{}`"
                        .to_owned(),
                });
                None
            }
        };
        let (Some(plane), Ok(agent), true) = (plane, agent, faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Self {
            zone: raw.zone,
            agent,
            coordinator: raw.coordinator.value,
            data: base.join(raw.data.value),
            kuma: Kuma {
                plane,
                envoy_admin: raw
                    .kuma
                    .envoy_admin
                    .into_iter()
                    .map(|admin| relative(base, admin.value))
                    .collect(),
                sampled: Sampled {
                    calls_per_hour: raw.kuma.sampled.calls_per_hour,
                    per_change: raw.kuma.sampled.per_change,
                },
            },
            gateways,
            report,
        })
    }

    /// Where the certificate, its key and the certificate authority are.
    pub fn identity_dir(&self) -> PathBuf {
        self.data.join("identity")
    }

    /// The status socket.
    pub fn status_socket(&self) -> PathBuf {
        self.data.join("status.sock")
    }
}

impl RawKubernetes {
    fn checked(self, base: &Path, rest: Option<KumaRest>) -> Kubernetes {
        let standard = Metrics::default();
        Kubernetes {
            cluster: match self.kubeconfig {
                Some(file) => Cluster::Kubeconfig {
                    file: base.join(file),
                    context: self.context.map(|context| context.value),
                },
                None => Cluster::InCluster,
            },
            system_namespace: self
                .system_namespace
                .unwrap_or_else(weir_drivers::kubernetes::system_namespace),
            take_back: self.take_back,
            metrics: self.metrics.map(|given| Metrics {
                port: given.value.port.unwrap_or(standard.port),
                path: given.value.path.map_or(standard.path, |path| path.value),
            }),
            rest,
        }
    }
}

fn relative(base: &Path, admin: String) -> String {
    if admin.contains("://") {
        admin
    } else {
        base.join(admin).display().to_string()
    }
}

fn period(text: &str) -> Option<Duration> {
    let signed: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(signed).ok()
}

/// The parser's words without the place, which [`ConfigError`] shows by itself.
fn bare_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or("not valid YAML");
    match first.find(" at line ") {
        Some(end) => first[..end].to_owned(),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
