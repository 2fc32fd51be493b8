//! One gateway, whichever its channel: an agent's configuration has addresses alone, and the plan says the channel.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::kong::{Admin, AdminConfig, KongCluster, KongDb, KongDbless, KongKic};
use crate::{Clock, DriverError, Fault};

/// How to reach a gateway; checked by [`Kong::new`].
#[derive(Debug, Clone)]
pub struct KongConfig {
    /// Its nodes, at least one.
    pub nodes: Vec<AdminConfig>,
    /// How long a proof waits for all workers to take up what was posted.
    pub settle: Duration,
}

/// A gateway, by each channel that is driven through its Admin API.
#[derive(Debug)]
pub struct Kong {
    /// As one without a database.
    pub dbless: KongDbless,
    /// As one with a database.
    pub db: KongDb,
    /// As one that a controller runs; none where no cluster is known.
    pub kic: Option<KongKic>,
    configured: Vec<AdminConfig>,
    settle: Duration,
}

impl Kong {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KongConfig) -> Result<Self, DriverError> {
        let configured = config.nodes.clone();
        let nodes = nodes(config.nodes)?;
        Ok(Self {
            dbless: KongDbless::of(Arc::clone(&nodes), config.settle),
            db: KongDb::of(nodes, config.settle),
            kic: None,
            configured,
            settle: config.settle,
        })
    }

    /// One whose nodes are reached as they say themselves, by this clock; a proof waits for nobody.
    ///
    /// # Errors
    /// If there is no node, or one twice.
    pub fn carried(nodes: Vec<Admin>, clock: Clock) -> Result<Self, DriverError> {
        let nodes = each_once(nodes.into())?;
        Ok(Self {
            dbless: KongDbless::of(Arc::clone(&nodes), Duration::ZERO).by(clock),
            db: KongDb::of(nodes, Duration::ZERO).by(clock),
            kic: None,
            configured: Vec::new(),
            settle: Duration::ZERO,
        })
    }

    /// The same in a cluster, where a controller may run it. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn in_cluster(mut self, cluster: KongCluster) -> Result<Self, DriverError> {
        self.kic = Some(KongKic::new(cluster, &self.configured, self.settle)?);
        Ok(self)
    }
}

/// The nodes of one gateway: at least one, each once.
pub(crate) fn nodes(nodes: Vec<AdminConfig>) -> Result<Arc<[Admin]>, DriverError> {
    let nodes = nodes.into_iter().map(Admin::new);
    each_once(nodes.collect::<Result<_, _>>()?)
}

fn each_once(nodes: Arc<[Admin]>) -> Result<Arc<[Admin]>, DriverError> {
    let urls: BTreeSet<&str> = nodes.iter().map(Admin::url).collect();
    if nodes.is_empty() || urls.len() < nodes.len() {
        let urls: Vec<&str> = nodes.iter().map(Admin::url).collect();
        return Err(DriverError::new(
            "gateway",
            format!("its nodes are [{}]", urls.join(", ")),
            Fault::Setup,
            "name the Admin API of each of its nodes, once",
        ));
    }
    Ok(nodes)
}
