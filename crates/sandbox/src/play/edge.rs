//! The second door: a Kong outside the mesh, in the zone of the VMs, with callers of its own. It is the double of Kong, also
//! where Kuma is real.

use anyhow::ensure;

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
    /// Starts it, and gives it the site's own document, as it runs before anybody installs an agent.
    ///
    /// # Errors
    /// If no port can be bound, or it does not take the document.
    pub(super) async fn start(edge: &Edge) -> anyhow::Result<Self> {
        let kong = Kong::without_database(Options::default()).await?;
        let posted = crate::http_client()
            .post(format!("http://{}/config", kong.admin()))
            .header("content-type", "application/yaml")
            .body(edge.base())
            .send()
            .await?;
        ensure!(
            posted.status() == 201,
            "Kong does not take the site's document: {}",
            posted.text().await?
        );
        let to = Outbound {
            address: kong.proxy(),
            target: format!("gateway {GATEWAY}"),
        };
        Ok(Self {
            zone: edge.zone.clone(),
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
