//! One gateway, whichever its channel: an agent's configuration has addresses alone, and the plan says the channel.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::SplitName;
use weir_planner::{Generation, Proof};
use weir_render::kong::{Document, Entities};

use crate::DriverError;
use crate::kong::{Brought, GatewayDriver as _, KongDb, KongDbless, KongDblessConfig, bring};

/// What a gateway is to run, as its channel takes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Configuration {
    /// The one document of a Kong without a database.
    Document(Document),
    /// Our entities in a database.
    Entities(Entities),
}

/// What became of a gateway that was brought to its configuration.
#[derive(Debug, Clone, Default)]
pub struct Became {
    /// By the address of the node.
    pub nodes: BTreeMap<String, Brought>,
    /// Why nothing of a split was touched, or not all of it. Splits that went and cannot go are among them.
    pub splits: BTreeMap<SplitName, String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A gateway.
#[derive(Debug)]
pub struct Kong {
    dbless: KongDbless,
    db: KongDb,
}

impl Kong {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: KongDblessConfig) -> Result<Self, DriverError> {
        Ok(Self {
            dbless: KongDbless::new(config.clone())?,
            db: KongDb::new(config)?,
        })
    }

    /// Brings it there, as far as that goes now: [`bring`] of a document, [`KongDb::bring`] of entities.
    pub async fn bring(
        &self,
        wanted: &Configuration,
        plan: Generation,
        posted: &BTreeSet<String>,
        absent: &BTreeSet<SplitName>,
    ) -> Became {
        match wanted {
            Configuration::Document(document) => Became {
                nodes: bring(&self.dbless, document, plan, posted, absent).await,
                ..Became::default()
            },
            Configuration::Entities(entities) => self.db.bring(entities, plan, absent).await,
        }
    }

    /// Reads back what all nodes run, one proof for each door. Never fails: not knowing is a proof with verdict unknown.
    pub async fn prove(&self, wanted: &Configuration) -> BTreeMap<SplitName, Proof> {
        match wanted {
            Configuration::Document(document) => self.dbless.prove(document).await,
            Configuration::Entities(entities) => self.db.prove(entities).await,
        }
    }
}
