//! The names that a Kong resolves: told by whoever starts it, so that a test decides what DNS says.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where: a name or an address.
    pub target: String,
    /// Its port; 0 leaves the port of whoever asks.
    pub port: u16,
    /// Its weight, which overrides the weight of a Kong target. Kong takes 0 for 1.
    pub weight: u16,
}

/// What names stand for. Kong asks for SRV first and for addresses when there is none.
pub trait Names: Debug + Send + Sync {
    /// SRV records.
    fn services(&self, name: &str) -> Vec<Service>;
    /// Addresses; none is a name that does not exist.
    fn addresses(&self, name: &str) -> Vec<IpAddr>;
}

/// Names in a table that a test can change while Kong runs. `localhost` is known.
#[derive(Debug, Default)]
pub struct NameTable(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    services: BTreeMap<String, Vec<Service>>,
}

impl NameTable {
    /// Gives a name these addresses; none takes the name away.
    pub fn set_addresses(&self, name: &str, addresses: &[IpAddr]) {
        self.records()
            .addresses
            .insert(name.to_owned(), addresses.to_vec());
    }

    /// Gives a name these SRV records.
    pub fn set_services(&self, name: &str, services: &[Service]) {
        self.records().services.insert(name.to_owned(), services.to_vec());
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names for NameTable {
    fn services(&self, name: &str) -> Vec<Service> {
        self.records().services.get(name).cloned().unwrap_or_default()
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        if name == "localhost" {
            return vec![IpAddr::from([127, 0, 0, 1])];
        }
        self.records().addresses.get(name).cloned().unwrap_or_default()
    }
}
