//! One step of a policy at the API server: look, write by [`Hand`], look at what was stored.

use std::time::Duration;

use serde_json::Value;
use weir_model::{DnsLabel, FederationName, MeshName};
use weir_planner::Generation;
use weir_render::{Form, Kind, to_document};

use super::call::ApiServer;
use super::hand::{Hand, stored_otherwise};
use super::objects;
use crate::kuma::apply::{Write, difference, done, foreign, newer};
use crate::kuma::policy::Owner;
use crate::{DriverError, Outcome};

/// Writes policies to one cluster.
pub(crate) struct Writer {
    pub(crate) federation: FederationName,
    pub(crate) namespace: DnsLabel,
    hand: Hand,
}

impl Writer {
    pub(crate) fn new(
        federation: FederationName,
        namespace: DnsLabel,
        take_back: bool,
        timeout: Duration,
    ) -> Self {
        Self {
            federation,
            namespace,
            hand: Hand::new(take_back, timeout),
        }
    }

    fn path(&self, kind: Kind, name: &str) -> String {
        format!(
            "/apis/kuma.io/v1alpha1/namespaces/{}/{}/{name}",
            self.namespace,
            kind.plural()
        )
    }

    /// Kubernetes' form of objects, in the system namespace.
    pub(crate) fn form(&self) -> Form {
        Form::Kubernetes {
            namespace: self.namespace.to_string(),
        }
    }

    fn owner(&self, document: &Value) -> Owner {
        objects::owner(document, &self.federation, &self.form())
    }

    /// The object as it is now; none if there is none.
    async fn live(
        &self,
        server: &ApiServer,
        path: &str,
        kind: Kind,
        name: &str,
    ) -> Result<Option<Value>, DriverError> {
        self.hand
            .live(server, path, (kind.name(), self.namespace.as_str(), name))
            .await
    }

    /// Writes an object, unless somebody newer or somebody else holds its name or its fields.
    pub(crate) async fn put(&self, server: &ApiServer, write: &Write<'_>) -> Result<Outcome, DriverError> {
        let object = write.object;
        let path = self.path(object.kind, &object.name);
        let live = self.live(server, &path, object.kind, &object.name).await?;
        if let Some(live) = &live {
            let owner = self.owner(live);
            if let Some(left) = write.reason_to_leave(&owner) {
                return Ok(left);
            }
            if live.pointer("/metadata/deletionTimestamp").is_none() && difference(object, live).is_none() {
                return Ok(done());
            }
            if let Some(left) = write.reason_to_look_again(&owner) {
                return Ok(left);
            }
        }
        let document = (object.name.as_str(), to_document(object, &self.form()));
        let stored = match self.hand.apply(server, &path, document, live.as_ref()).await? {
            Ok(stored) => stored,
            Err(left) => return Ok(left),
        };
        let outcome = done();
        if let Some(left) = write.reason_to_leave(&self.owner(&stored)) {
            return Ok(left);
        }
        match difference(object, &stored) {
            None => Ok(outcome),
            Some(at) => stored_otherwise((&path, &object.name), &stored, &at),
        }
    }

    /// Removes an object that is ours and that nobody wrote since it was looked at.
    pub(crate) async fn delete(
        &self,
        server: &ApiServer,
        kind: Kind,
        mesh: &MeshName,
        name: &str,
        seen: Option<Generation>,
    ) -> Result<Outcome, DriverError> {
        let path = self.path(kind, name);
        let Some(live) = self.live(server, &path, kind, name).await? else {
            return Ok(done());
        };
        match self.owner(&live) {
            Owner::Foreign(why) => return Ok(foreign(name, &why)),
            Owner::Ours { object, .. } if object.mesh != *mesh => {
                return Ok(foreign(name, &format!("it is of mesh {}", object.mesh)));
            }
            Owner::Ours { generation, .. } => {
                // What was never observed is not known to be unwanted.
                let seen = seen.unwrap_or_default();
                if generation > seen {
                    return Ok(newer(name, generation, seen));
                }
            }
        }
        self.hand.delete(server, &path, &live).await?;
        Ok(done())
    }
}
