//! The driver of a Kong without a database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use weir_model::SplitName;
use weir_planner::Proof;
use weir_render::kong::{Document, Live};

use crate::DriverError;
use crate::kong::admin::{Admin, AdminConfig};
use crate::kong::{GatewayDriver, Posted};

/// How to reach a gateway; checked by [`KongDbless::new`].
#[derive(Debug, Clone)]
pub struct KongDblessConfig {
    /// Its nodes, at least one.
    pub nodes: Vec<AdminConfig>,
    /// How long a proof waits for all workers to take up what was posted.
    pub settle: Duration,
}

/// A gateway without a database.
#[derive(Debug)]
pub struct KongDbless {
    nodes: Vec<Admin>,
}

impl KongDbless {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KongDblessConfig) -> Result<Self, DriverError> {
        let nodes = config
            .nodes
            .into_iter()
            .map(Admin::new)
            .collect::<Result<_, _>>()?;
        Ok(Self { nodes })
    }
}

impl GatewayDriver for KongDbless {
    fn nodes(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url().to_owned()).collect()
    }

    fn observe<'a>(
        &'a self,
        node: &'a str,
        known: &'a BTreeSet<String>,
    ) -> BoxFuture<'a, Result<Live, DriverError>> {
        let _ = (node, known);
        unimplemented!()
    }

    fn post<'a>(
        &'a self,
        node: &'a str,
        document: &'a Document,
    ) -> BoxFuture<'a, Result<Posted, DriverError>> {
        let _ = (node, document);
        unimplemented!()
    }

    fn prove<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, BTreeMap<SplitName, Proof>> {
        let _ = document;
        unimplemented!()
    }
}
