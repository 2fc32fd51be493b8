//! One gateway, whichever its channel: an agent's configuration has addresses alone, and the plan says the channel.

use crate::DriverError;
use crate::kong::{KongDb, KongDbless, KongDblessConfig};

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
    pub fn new(config: KongDblessConfig) -> Result<Self, DriverError> {
        Ok(Self {
            dbless: KongDbless::new(config.clone())?,
            db: KongDb::new(config)?,
        })
    }
}
