//! One gateway, whichever its channel: an agent's configuration has addresses alone, and the plan says the channel.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::kong::{Admin, AdminConfig, KongDb, KongDbless};
use crate::{DriverError, Fault};

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
}

impl Kong {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KongConfig) -> Result<Self, DriverError> {
        let nodes = nodes(config.nodes)?;
        Ok(Self {
            dbless: KongDbless::of(Arc::clone(&nodes), config.settle),
            db: KongDb::of(nodes, config.settle),
        })
    }
}

/// The nodes of one gateway: at least one, each once.
pub(crate) fn nodes(nodes: Vec<AdminConfig>) -> Result<Arc<[Admin]>, DriverError> {
    let nodes = nodes.into_iter().map(Admin::new);
    let nodes: Arc<[Admin]> = nodes.collect::<Result<_, _>>()?;
    let urls: BTreeSet<&str> = nodes.iter().map(Admin::url).collect();
    if nodes.is_empty() || urls.len() < nodes.len() {
        let urls: Vec<&str> = nodes.iter().map(Admin::url).collect();
        return Err(DriverError {
            what: "gateway".to_owned(),
            why: format!("its nodes are [{}]", urls.join(", ")),
            fault: Fault::Setup,
            help: "name the Admin API of each of its nodes, once".to_owned(),
        });
    }
    Ok(nodes)
}
