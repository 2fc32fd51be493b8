//! Reads of the double of an API server: one object, a list page by page, a watch line by line, and what types there are.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kinds::{TYPES, Target, Type};
use super::refusal::{self, Refusal};
use super::server::{Query, Server};
use super::store::{Key, Selector};

/// So long before its end a watch tells how far it has come, if it was asked for bookmarks.
const BEFORE_THE_END: Duration = Duration::from_secs(2);
/// A watch without `timeoutSeconds`.
const WATCH: Duration = Duration::from_secs(1_800);
const CODEC: base64::engine::GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// An object by name.
pub(super) fn one(server: &Server, target: &Target, known: &'static Type) -> Result<Value, Refusal> {
    let (key, name) = server.key(target, known);
    let store = server.store();
    store
        .get(&key)
        .cloned()
        .ok_or_else(|| refusal::not_found(target, &name))
}

/// One page of a list, of one namespace or of all.
pub(super) fn list(
    server: &Server,
    target: &Target,
    known: &'static Type,
    query: &Query,
) -> Result<Value, Refusal> {
    let store = server.store();
    let selector = Selector::read(query.get("labelSelector").unwrap_or_default());
    let (mut revision, mut start) = (store.revision(), None);
    if let Some(token) = query.get("continue").filter(|t| !t.is_empty()) {
        let (at, from) = resume(token)?;
        start = Some(from.clone());
        if at >= 0 {
            revision = at.unsigned_abs();
        }
    }
    let Ok(objects) = store.at(revision, known, target.namespace.as_deref()) else {
        let rest = start.map(|from| token(-1, &from)).unwrap_or_default();
        return Err(too_old(&rest));
    };
    let after = |key: &Key| start.as_ref().is_none_or(|from| place(key) > *from);
    let found: Vec<(&Key, &Value)> = objects
        .iter()
        .filter(|(key, object)| after(key) && selector.selects(object))
        .collect();
    let limit = query.get("limit").and_then(|l| l.parse().ok()).filter(|l| *l > 0);
    let page = found.len().min(limit.unwrap_or(usize::MAX));
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if known.is_custom() {
        metadata["continue"] = json!("");
    }
    if page < found.len()
        && let Some((last, _)) = found[..page].last()
    {
        metadata["continue"] = token(i64::try_from(revision).unwrap_or(i64::MAX), &place(last)).into();
        if selector.is_empty() {
            metadata["remainingItemCount"] = json!(found.len() - page);
        }
    }
    let shown = |object: &Value| {
        let mut object = object.clone();
        // Kubernetes' own types say it once, for the whole list.
        if let Some(fields) = object.as_object_mut().filter(|_| !known.is_custom()) {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        object
    };
    let items: Vec<Value> = found[..page].iter().map(|(_, object)| shown(object)).collect();
    Ok(json!({
        "apiVersion": known.api_version(), "kind": format!("{}List", known.kind), "metadata": metadata, "items": items,
    }))
}

/// Namespace and name, in the order of a list.
fn place(key: &Key) -> String {
    format!("{}/{}\0", key.1, key.2)
}

fn token(revision: i64, start: &str) -> String {
    let inside = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("/{start}")});
    CODEC.encode(inside.to_string())
}

fn resume(token: &str) -> Result<(i64, String), Refusal> {
    let bad = |why: &str| {
        refusal::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let bytes = CODEC.decode(token).map_err(|e| bad(&e.to_string()))?;
    let inside: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
    match (inside["rv"].as_i64(), inside["start"].as_str()) {
        (Some(revision), Some(start)) => Ok((revision, start.trim_start_matches('/').to_owned())),
        _ => Err(bad("without a revision or a start")),
    }
}

fn too_old(rest: &str) -> Refusal {
    let why = "The provided continue parameter is too old to display a consistent list result. You can start a new list \
               without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
               results. Continuing with the provided token results in an inconsistent list - objects that were created, \
               modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    match refusal::expired(why) {
        Refusal::Status(code, mut status) => {
            status["metadata"]["continue"] = rest.into();
            Refusal::Status(code, status)
        }
        other => other,
    }
}

/// A watch: lines from a resourceVersion on, until its time is over.
pub(super) fn watch(
    server: Arc<Server>,
    target: &Target,
    known: &'static Type,
    query: &Query,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    let seconds = query.get("timeoutSeconds").and_then(|t| t.parse().ok());
    let lasts = seconds.map_or(WATCH, Duration::from_secs);
    let marks = query.get("allowWatchBookmarks") == Some("true");
    let bookmark = lasts
        .checked_sub(BEFORE_THE_END)
        .filter(|at| marks && !at.is_zero());
    let begin = Instant::now();
    let mut watching = Watching {
        known,
        namespace: target.namespace.clone(),
        selector: Selector::read(query.get("labelSelector").unwrap_or_default()),
        bookmark: bookmark.map(|at| begin + at),
        end: begin + lasts,
        seen: 0,
        first: Vec::new(),
    };
    let from = query.get("resourceVersion").and_then(|v| v.parse().ok());
    match from.filter(|v| *v > 0) {
        Some(revision) => watching.seen = revision,
        None => {
            // Without one: what there is, and then what changes.
            let store = server.store();
            watching.seen = store.revision();
            let all = store.all(known, target.namespace.as_deref());
            let chosen = all.filter(|(_, object)| watching.selector.selects(object));
            watching.first = chosen
                .map(|(_, object)| line(&json!({"type": "ADDED", "object": object})))
                .collect();
        }
    }
    futures::stream::unfold(Some((server, watching)), |state| async move {
        let (server, mut watching) = state?;
        let (lines, goes_on) = watching.next(&server).await;
        Some((Ok(lines), goes_on.then_some((server, watching))))
    })
}

struct Watching {
    known: &'static Type,
    namespace: Option<String>,
    selector: Selector,
    /// When the next bookmark is due; none if there is none any more.
    bookmark: Option<Instant>,
    end: Instant,
    seen: u64,
    first: Vec<Bytes>,
}

impl Watching {
    /// The next lines, and whether there may be more.
    async fn next(&mut self, server: &Server) -> (Bytes, bool) {
        if !self.first.is_empty() {
            return (std::mem::take(&mut self.first).concat().into(), true);
        }
        let mut news = server.news();
        loop {
            let told = {
                let store = server.store();
                match store.since(self.seen) {
                    Err(oldest) => {
                        let why = format!("too old resource version: {} ({oldest})", self.seen);
                        let Refusal::Status(_, status) = refusal::expired(why) else {
                            return (Bytes::new(), false);
                        };
                        return (line(&json!({"type": "ERROR", "object": status})), false);
                    }
                    Ok(changes) => {
                        let of = changes.filter(|c| {
                            let (known, namespace, _) = &c.key;
                            *known == self.known && self.namespace.as_ref().is_none_or(|n| n == namespace)
                        });
                        let told: Vec<Bytes> =
                            of.filter_map(|c| Some(line(&self.selector.event(c)?))).collect();
                        // Of a revision of the future nothing is told until it has come.
                        self.seen = self.seen.max(store.revision());
                        told
                    }
                }
            };
            if !told.is_empty() {
                return (told.concat().into(), true);
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() {
                    return (Bytes::new(), false);
                },
                () = tokio::time::sleep_until(self.bookmark.unwrap_or(self.end)) => {
                    if self.bookmark.take().is_none() {
                        return (Bytes::new(), false);
                    }
                    let mark = json!({"type": "BOOKMARK", "object": {
                        "apiVersion": self.known.api_version(), "kind": self.known.kind,
                        "metadata": {"resourceVersion": self.seen.to_string()},
                    }});
                    return (line(&mark), true);
                }
            }
        }
    }
}

fn line(event: &Value) -> Bytes {
    format!("{event}\n").into()
}

/// What types there are; none for a path that says nothing of that.
pub(super) fn discovery(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let group_of = |group: &str| {
        let version = TYPES.iter().find(|t| t.group == group)?.version;
        let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
        Some(json!({"name": group, "versions": [version], "preferredVersion": version}))
    };
    match parts.as_slice() {
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["api", "v1"] => resources("", "v1"),
        ["apis"] => {
            let mut groups: Vec<&str> = TYPES.iter().map(|t| t.group).filter(|g| !g.is_empty()).collect();
            groups.dedup();
            let groups: Vec<Value> = groups.into_iter().filter_map(group_of).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", group] => {
            let mut found = group_of(group)?;
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            Some(found)
        }
        ["apis", group, version] => resources(group, version),
        _ => None,
    }
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let of = TYPES.iter().filter(|t| t.group == group && t.version == version);
    let all: Vec<Value> = of
        .map(|t| {
            json!({
                "name": t.plural, "singularName": t.kind.to_lowercase(), "namespaced": t.namespaced, "kind": t.kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": all});
    (!all.is_empty()).then_some(list)
}
