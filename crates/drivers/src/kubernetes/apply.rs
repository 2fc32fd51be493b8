//! One step at the API server: look, write with guards, look at what was stored.
//!
//! The guards make it a compare-and-set in every case (`kubernetes.md` 4.2): the uid, for otherwise an object that is gone
//! would be made again; the resourceVersion, for nobody shall slip between; and for an object that is absent a
//! resourceVersion that no object has, so that one that appears meanwhile is not written over.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_model::{DnsLabel, FederationName, MeshName};
use weir_planner::Generation;
use weir_render::{Form, Kind, to_document};

use super::MANAGER;
use super::call::{APPLY, ApiServer, JSON};
use super::meaning::{self, Conflict, Refusal};
use super::objects::{self, Manager};
use crate::kuma::apply::{Write, difference, done, foreign, newer};
use crate::kuma::policy::Owner;
use crate::{DriverError, Fault, Outcome};

/// Kuma's webhooks have 10 s in the API server: its own word on why they did not answer is worth the wait.
const WRITE: Duration = Duration::from_secs(12);
/// A manager that takes a field again so soon after it was taken back wants a fight, and gets none.
const FIGHT: Duration = Duration::from_secs(600);
/// The resourceVersion that no object of a cluster has: the store's first revision is its own.
const NOBODY: &str = "1";

/// Writes policies to one cluster.
pub(crate) struct Writer {
    pub(crate) federation: FederationName,
    pub(crate) namespace: DnsLabel,
    take_back: bool,
    timeout: Duration,
    /// What was taken back from whom, and when.
    fights: Mutex<BTreeMap<(String, String), Instant>>,
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
            take_back,
            timeout,
            fights: Mutex::default(),
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
        let what = format!("GET {path}");
        match server.ask(Method::GET, path, None, self.timeout).await? {
            Ok(found) => {
                let is = |at: &str, wanted: &str| found.pointer(at).and_then(Value::as_str) == Some(wanted);
                if is("/kind", kind.name())
                    && is("/metadata/name", name)
                    && is("/metadata/namespace", self.namespace.as_str())
                {
                    Ok(Some(found))
                } else {
                    let why = "the answer is another object than was asked for";
                    Err(meaning::strange(&what, server.name(), why))
                }
            }
            Err(refusal) => {
                let error = refusal.meaning(&what, server.name());
                // Absent is only what a `Status` says is absent.
                if refusal.code == 404 && error.fault == Fault::NotYet {
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// Writes an object, unless somebody newer or somebody else holds its name or its fields.
    pub(crate) async fn put(&self, server: &ApiServer, write: &Write<'_>) -> Result<Outcome, DriverError> {
        let object = write.object;
        let path = self.path(object.kind, &object.name);
        let live = self.live(server, &path, object.kind, &object.name).await?;
        let mut document = to_document(object, &self.form());
        match &live {
            Some(live) => {
                if let Some(left) = write.reason_to_leave(&self.owner(live)) {
                    return Ok(left);
                }
                if live.pointer("/metadata/deletionTimestamp").is_some() {
                    return Err(DriverError {
                        what: format!("PATCH {path}"),
                        why: "somebody is removing the object, and something keeps it".to_owned(),
                        fault: Fault::NotYet,
                        help:
                            "once it is gone, the next activation writes it again; what keeps it is in its \
                               metadata.finalizers"
                                .to_owned(),
                    });
                }
                if difference(object, live).is_none() {
                    return Ok(done());
                }
                let (uid, version) = guards(live).ok_or_else(|| {
                    let why = "the object has no uid or no resourceVersion";
                    meaning::strange(&format!("GET {path}"), server.name(), why)
                })?;
                document["metadata"]["uid"] = json!(uid);
                document["metadata"]["resourceVersion"] = json!(version);
            }
            None => document["metadata"]["resourceVersion"] = json!(NOBODY),
        }
        let stored = match self.send(server, &path, &document, false).await? {
            Ok(stored) => stored,
            Err(refusal) => {
                let what = format!("PATCH {path}");
                let Some(conflicts) = refusal.conflicts() else {
                    return Err(refusal.meaning(&what, server.name()));
                };
                let rivals = named(&conflicts, live.as_ref());
                if let Some(left) = self.reason_not_to_fight(&object.name, &conflicts, &rivals) {
                    return Ok(left);
                }
                tracing::warn!(
                    object = object.name,
                    held_by = rivals,
                    "taking back fields that another field manager wrote (kuma.kubernetes.takeBack)"
                );
                // With the very resourceVersion at which the other was named: whoever came since is not written over.
                let forced = self.send(server, &path, &document, true).await?;
                let stored = forced.map_err(|refusal| refusal.meaning(&what, server.name()))?;
                self.fought(&object.name, &conflicts);
                stored
            }
        };
        let outcome = done();
        if let Some(left) = write.reason_to_leave(&self.owner(&stored)) {
            return Ok(left);
        }
        let Some(at) = difference(object, &stored) else {
            return Ok(outcome);
        };
        let rivals: Vec<_> = objects::managers(&stored)
            .iter()
            .filter(|manager| !manager.is_ours() && manager.holds_spec())
            .map(Manager::told)
            .collect();
        if !rivals.is_empty() {
            return Ok(Outcome::Yielded(format!(
                "{} says more than Weir wrote, at {at}: {} put it there, and Weir removes only what it wrote itself; remove \
                 it, or remove the object and Weir writes it anew",
                object.name,
                rivals.join(", ")
            )));
        }
        Err(DriverError {
            what: format!("PATCH {path}"),
            why: format!("the API server stored something else: it differs at {at}"),
            fault: Fault::Unknown,
            help: "a webhook of this cluster changes what is written, or this version of Kuma drops what Weir writes; if it \
                   stays, please report it with the versions of Kuma and Kubernetes"
                .to_owned(),
        })
    }

    async fn send(
        &self,
        server: &ApiServer,
        path: &str,
        document: &Value,
        force: bool,
    ) -> Result<Result<Value, Refusal>, DriverError> {
        let path = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict&force={force}");
        let limit = WRITE.max(self.timeout);
        server
            .ask(Method::PATCH, &path, Some((APPLY, document)), limit)
            .await
    }

    fn reason_not_to_fight(&self, name: &str, conflicts: &[Conflict], rivals: &str) -> Option<Outcome> {
        if !self.take_back {
            return Some(Outcome::Yielded(format!(
                "{name} is held by another field manager, and Weir does not fight it: {rivals}. Let it go of the object, or \
                 remove the object and Weir writes it anew, or set kuma.kubernetes.takeBack"
            )));
        }
        let mut fights = self.fights.lock().unwrap_or_else(PoisonError::into_inner);
        fights.retain(|_, since| since.elapsed() < FIGHT);
        let again = conflicts
            .iter()
            .any(|conflict| fights.contains_key(&(name.to_owned(), conflict.manager.clone())));
        if again {
            return Some(Outcome::Yielded(format!(
                "{name} was taken back, and another field manager took it again: {rivals}. Two that fight over a weight are \
                 worse than one that is wrong: stop the other, Weir tries again after {} min",
                FIGHT.as_secs() / 60
            )));
        }
        None
    }

    /// Fields were taken back from these: a write that failed is no fight.
    fn fought(&self, name: &str, conflicts: &[Conflict]) {
        let mut fights = self.fights.lock().unwrap_or_else(PoisonError::into_inner);
        for conflict in conflicts {
            fights.insert((name.to_owned(), conflict.manager.clone()), Instant::now());
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
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Err(DriverError {
                what: format!("DELETE {path}"),
                why:
                    "the object is being removed, and something keeps it: until it is gone, requests go by it"
                        .to_owned(),
                fault: Fault::NotYet,
                help: "what keeps it is in its metadata.finalizers".to_owned(),
            });
        }
        let (uid, version) = guards(&live).ok_or_else(|| {
            let why = "the object has no uid or no resourceVersion";
            meaning::strange(&format!("GET {path}"), server.name(), why)
        })?;
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": version},
        });
        let answer = server
            .ask(
                Method::DELETE,
                &path,
                Some((JSON, &options)),
                WRITE.max(self.timeout),
            )
            .await?;
        match answer {
            Ok(_) => Ok(done()),
            Err(refusal) => {
                let error = refusal.meaning(&format!("DELETE {path}"), server.name());
                if refusal.code == 404 && error.fault == Fault::NotYet {
                    return Ok(done());
                }
                Err(error)
            }
        }
    }
}

/// What an object is known by, and in which state.
fn guards(live: &Value) -> Option<(&str, &str)> {
    let text = |at: &str| {
        live.pointer(at)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    Some((text("/metadata/uid")?, text("/metadata/resourceVersion")?))
}

/// The managers of a conflict with what is known of them: who, how, when, which fields.
fn named(conflicts: &[Conflict], live: Option<&Value>) -> String {
    let managers = live.map(objects::managers).unwrap_or_default();
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager
            .entry(&conflict.manager)
            .or_default()
            .push(conflict.field.trim_start_matches('.'));
    }
    let told: Vec<_> = by_manager
        .into_iter()
        .map(|(name, fields)| {
            let newest: Option<&Manager> = managers
                .iter()
                .filter(|manager| manager.name == name && !manager.is_ours())
                .max_by_key(|manager| manager.time.unwrap_or(Timestamp::MIN));
            let who = newest.map_or_else(|| name.to_owned(), Manager::told);
            format!("{who} wrote {}", fields.join(", "))
        })
        .collect();
    told.join("; ")
}
