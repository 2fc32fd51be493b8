//! The drivers that the configuration names: of the zone, and of its gateways. Nothing is dialled here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_drivers::dns::{Host, Remembered};
use weir_drivers::kong::{AdminConfig, Kong, KongCluster, KongConfig, Secret};
use weir_drivers::{DriverError, KubernetesConfig, KumaConfig, KumaKubernetes, KumaUniversal, ZoneDriver};
use weir_model::{FederationName, GatewayName};

use crate::config::{Config, Plane};
use crate::counting::{Counter, Counters};

/// How long one call to the zone's control plane may take.
const KUMA_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one call to an Admin API may take: a document of 10,000 routes takes Kong 2 s.
const KONG_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a proof waits for all workers of a Kong to take up what was posted.
const KONG_SETTLES: Duration = Duration::from_secs(2);

/// Hands and eyes for the zone that the configuration names.
pub(crate) fn driver(
    config: &Config,
    federation: &FederationName,
) -> Result<Arc<dyn ZoneDriver>, DriverError> {
    let spent = config.data.join("sampled.json");
    let envoy_admin = config.kuma.envoy_admin.clone();
    Ok(match &config.kuma.plane {
        Plane::Universal(rest) => Arc::new(KumaUniversal::new(KumaConfig {
            federation: federation.clone(),
            api: rest.api.clone(),
            token_file: rest.token_file.clone(),
            envoy_admin,
            sampled: config.kuma.sampled,
            spent,
            timeout: KUMA_TIMEOUT,
        })?),
        Plane::Kubernetes(zone) => Arc::new(KumaKubernetes::new(KubernetesConfig {
            federation: federation.clone(),
            cluster: zone.cluster.clone(),
            system_namespace: zone.system_namespace.clone(),
            take_back: zone.take_back,
            rest: zone.rest.clone(),
            envoy_admin,
            metrics: zone.metrics.clone(),
            sampled: config.kuma.sampled,
            spent,
            timeout: KUMA_TIMEOUT,
        })?),
    })
}

/// What is wrong with a setting, with what to do.
pub(super) fn told(error: DriverError) -> anyhow::Error {
    anyhow::anyhow!("{error}\nhelp: {}", error.help)
}

/// A driver for each gateway of the configuration; nothing is dialled.
pub(super) fn gateway_drivers(
    config: &Config,
    federation: &FederationName,
) -> anyhow::Result<BTreeMap<GatewayName, Arc<Kong>>> {
    let mut drivers: BTreeMap<GatewayName, Arc<Kong>> = BTreeMap::new();
    for (name, gateway) in &config.gateways {
        let nodes = gateway.nodes.iter().map(|node| AdminConfig {
            url: node.admin.clone(),
            status: node.status.clone(),
            ca: gateway.ca_file.clone(),
            header: gateway.header.as_ref().map(|header| Secret {
                name: header.name.clone(),
                file: header.file.clone(),
            }),
            timeout: KONG_TIMEOUT,
        });
        let driver = Kong::new(KongConfig {
            nodes: nodes.collect(),
            settle: KONG_SETTLES,
        });
        let driver = driver.and_then(|driver| match &config.kuma.plane {
            Plane::Universal(_) => Ok(driver),
            Plane::Kubernetes(zone) => driver.in_cluster(KongCluster {
                federation: federation.clone(),
                cluster: zone.cluster.clone(),
                take_back: zone.take_back,
                timeout: KUMA_TIMEOUT,
                names: Arc::new(Remembered::new(Host::new()?)),
            }),
        });
        let driver = driver.map_err(|error| told(error).context(format!("gateway {name}")))?;
        drivers.insert(name.clone(), Arc::new(driver));
    }
    Ok(drivers)
}

/// What counts requests at the gateways where that is chosen. Nothing is listened to here.
pub(super) fn counters(config: &Config) -> Counters {
    let counted = config.gateways.iter().filter_map(|(name, gateway)| {
        let count = gateway.count.as_ref()?;
        Some((
            name.clone(),
            Arc::new(Counter::new(count.listen, count.url.clone())),
        ))
    });
    counted.collect()
}
