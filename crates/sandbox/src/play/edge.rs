//! The second door: a Kong outside the mesh, in the zone of the VMs, with callers of its own. It is the double of Kong, also
//! where Kuma is real.

use crate::cast::Outbound;
use crate::kong::{Kong, Options};
use crate::repository::{Edge, GATEWAY};
use crate::traffic::Callers;

use super::Applications;

/// A gateway with its callers.
pub struct Gateway {
    /// The zone that it is in.
    pub zone: String,
    /// The Kong.
    pub kong: Kong,
    /// Those who send to it.
    pub callers: Callers,
}

impl Gateway {
    /// Starts it, empty as a Kong begins.
    ///
    /// # Errors
    /// If no port can be bound.
    pub(super) async fn start(zone: &str) -> anyhow::Result<Self> {
        let kong = Kong::without_database(Options::default()).await?;
        let to = Outbound {
            address: kong.proxy(),
            target: format!("gateway {GATEWAY}"),
        };
        Ok(Self {
            zone: zone.to_owned(),
            callers: Callers::start(&[to]),
            kong,
        })
    }

    /// What its agent is told of it.
    pub(super) fn config(&self) -> String {
        format!(
            "gateways:\n  {GATEWAY}: {{nodes: [{{admin: \"http://{}\", status: \"http://{}\"}}]}}\n",
            self.kong.admin(),
            self.kong.status()
        )
    }
}

/// What is declared of it: where it reaches the backends.
pub(super) fn declared(zone: &str, applications: &Applications) -> Edge {
    let addresses = applications.iter();
    Edge {
        zone: zone.to_owned(),
        addresses: addresses
            .map(|(backend, (address, _))| (backend.clone(), *address))
            .collect(),
    }
}
