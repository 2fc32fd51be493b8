//! The hand that writes objects of a cluster, whatever their kind: by server-side apply under one name, with guards, and without
//! a fight.
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

use super::MANAGER;
use super::call::{APPLY, ApiServer, JSON, MERGE};
use super::meaning::{self, Conflict, Refusal};
use super::objects::{self, Manager};
use crate::{DriverError, Fault, Outcome};

/// Webhooks have 10 s in the API server: its own word on why they did not answer is worth the wait.
const WRITE: Duration = Duration::from_secs(12);
/// A manager that takes a field again so soon after it was taken back wants a fight, and gets none.
const FIGHT: Duration = Duration::from_secs(600);
/// The resourceVersion that no object of a cluster has: the store's first revision is its own.
const NOBODY: &str = "1";

/// See the head of this file.
pub(crate) struct Hand {
    take_back: bool,
    pub(crate) timeout: Duration,
    /// What was taken back from whom, and when.
    fights: Mutex<BTreeMap<(String, String), Instant>>,
}

impl Hand {
    /// `take_back`: whether fields that another manager wrote are taken back, after it was named.
    pub(crate) fn new(take_back: bool, timeout: Duration) -> Self {
        Self {
            take_back,
            timeout,
            fights: Mutex::default(),
        }
    }

    /// The object as it is now; none if there is none.
    pub(crate) async fn live(
        &self,
        server: &ApiServer,
        path: &str,
        (kind, namespace, name): (&str, &str, &str),
    ) -> Result<Option<Value>, DriverError> {
        let what = format!("GET {path}");
        match server.ask(Method::GET, path, None, self.timeout).await? {
            Ok(found) => {
                let is = |at: &str, wanted: &str| found.pointer(at).and_then(Value::as_str) == Some(wanted);
                if is("/kind", kind) && is("/metadata/name", name) && is("/metadata/namespace", namespace) {
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

    /// Writes a document in the place of what was found there, or of nothing: what was stored then, or why it was left alone.
    ///
    /// # Errors
    /// If it could not be written.
    pub(crate) async fn apply(
        &self,
        server: &ApiServer,
        path: &str,
        (name, mut document): (&str, Value),
        live: Option<&Value>,
    ) -> Result<Result<Value, Outcome>, DriverError> {
        let what = format!("PATCH {path}");
        match live {
            Some(live) => {
                if live.pointer("/metadata/deletionTimestamp").is_some() {
                    return Err(DriverError::new(
                        what,
                        "somebody is removing the object, and something keeps it",
                        Fault::NotYet,
                        "once it is gone, the next activation writes it again; what keeps it is in its \
                               metadata.finalizers",
                    ));
                }
                let (uid, version) = guarded(live, path, server)?;
                document["metadata"]["uid"] = json!(uid);
                document["metadata"]["resourceVersion"] = json!(version);
            }
            None => document["metadata"]["resourceVersion"] = json!(NOBODY),
        }
        let refusal = match self.send(server, path, &document, false).await? {
            Ok(stored) => return Ok(Ok(stored)),
            Err(refusal) => refusal,
        };
        let Some(conflicts) = refusal.conflicts() else {
            return Err(refusal.meaning(&what, server.name()));
        };
        const INSTEAD: &str = "Let it go of the object, or remove the object and Weir writes it anew, or set \
                               kuma.kubernetes.takeBack";
        let rivals = named(&conflicts, live);
        if let Some(left) = self.reason_not_to_fight(name, &conflicts, (&rivals, INSTEAD)) {
            return Ok(Err(left));
        }
        tracing::warn!(
            object = name,
            held_by = rivals,
            "taking back fields that another field manager wrote (kuma.kubernetes.takeBack)"
        );
        // With the very resourceVersion at which the other was named: whoever came since is not written over.
        let forced = self.send(server, path, &document, true).await?;
        let stored = forced.map_err(|refusal| refusal.meaning(&what, server.name()))?;
        self.fought(name, &conflicts);
        Ok(Ok(stored))
    }

    /// Changes an object that nobody wrote since it was found so, by a merge patch: what was stored then. The fields become our
    /// manager's, whoever had them.
    ///
    /// # Errors
    /// If it could not be changed.
    pub(crate) async fn change(
        &self,
        server: &ApiServer,
        path: &str,
        mut patch: Value,
        live: &Value,
    ) -> Result<Value, DriverError> {
        let what = format!("PATCH {path}");
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Err(DriverError::new(
                what,
                "somebody is removing the object, and something keeps it",
                Fault::NotYet,
                "what keeps it is in its metadata.finalizers",
            ));
        }
        let (uid, version) = guarded(live, path, server)?;
        patch["metadata"]["uid"] = json!(uid);
        patch["metadata"]["resourceVersion"] = json!(version);
        let url = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict");
        let limit = WRITE.max(self.timeout);
        let answer = server
            .ask(Method::PATCH, &url, Some((MERGE, &patch)), limit)
            .await?;
        answer.map_err(|refusal| refusal.meaning(&what, server.name()))
    }

    /// From whom a field of `spec` would be taken back that others wrote over; why it is left to them, if so. After the write it is
    /// `fought`, by the same words for the object.
    pub(crate) fn take_back(
        &self,
        called: &str,
        live: &Value,
        field: &str,
    ) -> Result<Vec<Conflict>, Outcome> {
        let holders: Vec<Manager> = objects::managers(live)
            .into_iter()
            .filter(|manager| manager.holds(field))
            .collect();
        // By whichever operation: a patch of ours is not an apply of ours.
        let (ours, others): (Vec<_>, Vec<_>) =
            holders.into_iter().partition(|manager| manager.name == MANAGER);
        if others.is_empty() && !ours.is_empty() {
            return Ok(Vec::new());
        }
        let conflict = |manager: String| Conflict {
            manager,
            field: format!("spec.{field}"),
        };
        let mut conflicts: Vec<Conflict> = others.into_iter().map(|other| conflict(other.name)).collect();
        if conflicts.is_empty() {
            conflicts.push(conflict("somebody".to_owned()));
        }
        const INSTEAD: &str = "Tell it to leave that field alone; then take the object out of the split and put it in again, \
                               or set kuma.kubernetes.takeBack";
        let rivals = named(&conflicts, Some(live));
        match self.reason_not_to_fight(called, &conflicts, (&rivals, INSTEAD)) {
            Some(left) => Err(left),
            None => Ok(conflicts),
        }
    }

    /// Removes an object that nobody wrote since it was found so.
    ///
    /// # Errors
    /// If it could not be removed.
    pub(crate) async fn delete(
        &self,
        server: &ApiServer,
        path: &str,
        live: &Value,
    ) -> Result<(), DriverError> {
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Err(DriverError::new(
                format!("DELETE {path}"),
                "the object is being removed, and something keeps it: until it is gone, requests go by it",
                Fault::NotYet,
                "what keeps it is in its metadata.finalizers",
            ));
        }
        let (uid, version) = guarded(live, path, server)?;
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": version},
        });
        let limit = WRITE.max(self.timeout);
        let answer = server
            .ask(Method::DELETE, path, Some((JSON, &options)), limit)
            .await?;
        match answer {
            Ok(_) => Ok(()),
            Err(refusal) => {
                let error = refusal.meaning(&format!("DELETE {path}"), server.name());
                if refusal.code == 404 && error.fault == Fault::NotYet {
                    return Ok(());
                }
                Err(error)
            }
        }
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

    fn reason_not_to_fight(
        &self,
        name: &str,
        conflicts: &[Conflict],
        (rivals, instead): (&str, &str),
    ) -> Option<Outcome> {
        if !self.take_back {
            return Some(Outcome::Yielded(format!(
                "{name} is held by another field manager, and Weir does not fight it: {rivals}. {instead}"
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
    pub(crate) fn fought(&self, name: &str, conflicts: &[Conflict]) {
        let mut fights = self.fights.lock().unwrap_or_else(PoisonError::into_inner);
        for conflict in conflicts {
            fights.insert((name.to_owned(), conflict.manager.clone()), Instant::now());
        }
    }
}

/// What is stored differs from what was written: who put it there, or nobody known.
pub(crate) fn stored_otherwise(
    (path, name): (&str, &str),
    stored: &Value,
    at: &str,
) -> Result<Outcome, DriverError> {
    let rivals: Vec<_> = objects::managers(stored)
        .iter()
        .filter(|manager| !manager.is_ours() && manager.holds_spec())
        .map(Manager::told)
        .collect();
    if !rivals.is_empty() {
        return Ok(Outcome::Yielded(format!(
            "{name} says more than Weir wrote, at {at}: {} put it there, and Weir removes only what it wrote itself; remove \
             it, or remove the object and Weir writes it anew",
            rivals.join(", ")
        )));
    }
    Err(DriverError::new(
        format!("PATCH {path}"),
        format!("the API server stored something else: it differs at {at}"),
        Fault::Unknown,
        "a webhook of this cluster changes what is written, or this version of what serves the type drops what Weir \
               writes; if it stays, please report it with the versions of Kubernetes and of that",
    ))
}

/// What an object is known by, and in which state.
fn guarded<'a>(live: &'a Value, path: &str, server: &ApiServer) -> Result<(&'a str, &'a str), DriverError> {
    guards(live).ok_or_else(|| {
        let why = "the object has no uid or no resourceVersion";
        meaning::strange(&format!("GET {path}"), server.name(), why)
    })
}

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
