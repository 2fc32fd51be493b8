//! Who wrote which field of an object: server-side apply and its `managedFields`. Pure.
//!
//! Every map is granular, every list one field (as `spec.to` and `spec.rules` are in Kuma's definitions). Changed when a
//! measurement on a real API server says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A field: the names on the way to it. The last may be `.`: the map itself, apart from what is in it.
pub(super) type Path = Vec<String>;

/// How somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// One manager with its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    manager: String,
    operation: Operation,
    version: String,
    time: String,
    /// By which part of the object it writes: `status`; none for the object itself.
    subresource: Option<String>,
    fields: BTreeSet<Path>,
}

/// A field that somebody else holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// Who, as it is told: `"kubectl-edit" using kuma.io/v1alpha1`.
    pub(super) who: String,
    /// `.spec.to`.
    pub(super) field: String,
}

/// Whoever writes, when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    /// Its manager's name.
    pub(super) manager: &'a str,
    /// Now, in whole seconds.
    pub(super) now: &'a str,
    /// The part of the object that it writes by itself: `status`; none for the object.
    pub(super) subresource: Option<&'a str>,
}

/// Server-side apply of `wanted` to what is there, if there is anything; the object with its `managedFields`, and with all
/// else of its metadata as it was.
///
/// # Errors
/// What others hold, unless `force`.
pub(super) fn apply(
    live: Option<&Value>,
    wanted: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, Vec<Conflict>> {
    let version = wanted["apiVersion"].as_str().unwrap_or_default();
    let mut entries = live.map(entries).unwrap_or_default();
    let fields = leaves(wanted, false);
    let mut conflicts = Vec::new();
    let is_own = |e: &Entry| writer.is(e, Operation::Apply);
    for entry in entries.iter_mut().filter(|e| !is_own(e)) {
        let lost: Vec<Path> = entry
            .fields
            .intersection(&fields)
            .filter(|path| live.and_then(|l| get(l, path)) != get(wanted, path))
            .cloned()
            .collect();
        for path in lost {
            conflicts.push(Conflict {
                who: entry.told(),
                field: told(&path),
            });
            entry.fields.remove(&path);
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let mut object = live.cloned().unwrap_or_else(|| json!({}));
    for key in ["apiVersion", "kind"] {
        object[key] = wanted[key].clone();
    }
    for path in &fields {
        if let Some(value) = get(wanted, path) {
            // An empty map says that there is one, not that there is nothing in it.
            let kept = value.as_object().is_some_and(Map::is_empty)
                && get(&object, path).is_some_and(Value::is_object);
            if !kept {
                set(&mut object, path, value.clone());
            }
        }
    }
    let before = entries.iter().position(is_own).map(|at| entries.remove(at));
    let held: BTreeSet<&Path> = entries.iter().flat_map(|e| &e.fields).collect();
    let given_up = before.iter().flat_map(|b| b.fields.difference(&fields));
    for path in given_up {
        let under = |other: &Path| other.starts_with(path) || path.starts_with(other.as_slice());
        if !held.contains(path) && !fields.iter().any(under) {
            remove(&mut object, path);
        }
    }
    let same = before
        .as_ref()
        .is_some_and(|b| b.fields == fields && live.is_some_and(|l| content(l) == content(&object)));
    entries.push(Entry {
        manager: writer.manager.to_owned(),
        operation: Operation::Apply,
        version: version.to_owned(),
        time: before
            .filter(|_| same)
            .map_or_else(|| writer.now.to_owned(), |b| b.time),
        subresource: writer.subresource.map(str::to_owned),
        fields,
    });
    write(&mut object, entries);
    Ok(object)
}

/// What was written in another way than by apply: whoever wrote it holds what it changed, and nobody else does any more.
pub(super) fn update(live: Option<&Value>, object: &mut Value, writer: Writer<'_>) {
    let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let empty = json!({});
    let before = live.unwrap_or(&empty);
    let (was, is) = (leaves(before, true), leaves(object, true));
    let changed: BTreeSet<Path> = is
        .iter()
        .filter(|path| match path.split_last() {
            Some((last, map)) if last == "." => get(before, map).is_none(),
            _ => get(before, path) != get(object, path),
        })
        .cloned()
        .collect();
    let gone: BTreeSet<Path> = was.difference(&is).cloned().collect();
    let mut entries = live.map(entries).unwrap_or_default();
    for entry in &mut entries {
        entry.fields.retain(|f| !changed.contains(f) && !gone.contains(f));
    }
    if !changed.is_empty() {
        let own = |e: &Entry| writer.is(e, Operation::Update);
        let mut mine = entries
            .iter()
            .position(own)
            .map(|at| entries.remove(at))
            .unwrap_or_else(|| Entry {
                manager: writer.manager.to_owned(),
                operation: Operation::Update,
                version,
                time: String::new(),
                subresource: writer.subresource.map(str::to_owned),
                fields: BTreeSet::new(),
            });
        writer.now.clone_into(&mut mine.time);
        mine.fields.extend(changed);
        entries.push(mine);
    }
    write(object, entries);
}

/// All of an object but what the API server keeps for itself.
pub(super) fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(key);
        }
    }
    object
}

impl Writer<'_> {
    fn is(&self, entry: &Entry, operation: Operation) -> bool {
        entry.manager == self.manager
            && entry.operation == operation
            && entry.subresource.as_deref() == self.subresource
    }
}

impl Entry {
    fn told(&self) -> String {
        match self.operation {
            Operation::Apply => format!("\"{}\"", self.manager),
            Operation::Update => format!("\"{}\" using {}", self.manager, self.version),
        }
    }
}

fn told(path: &Path) -> String {
    path.iter().map(|name| format!(".{name}")).collect()
}

/// The fields of an object that somebody can hold; with `maps`, also the maps themselves.
fn leaves(object: &Value, maps: bool) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for key in ["labels", "annotations"] {
                    if let Some(value) = value.get(key) {
                        descend(value, vec!["metadata".into(), key.into()], maps, &mut found);
                    }
                }
            }
            _ => descend(value, vec![key.clone()], maps, &mut found),
        }
    }
    found
}

fn descend(value: &Value, path: Path, maps: bool, found: &mut BTreeSet<Path>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            if maps {
                found.insert([path.as_slice(), &[".".to_owned()]].concat());
            }
            for (key, value) in map {
                descend(
                    value,
                    [path.as_slice(), std::slice::from_ref(key)].concat(),
                    maps,
                    found,
                );
            }
        }
        _ => {
            found.insert(path);
        }
    }
}

fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn set(object: &mut Value, path: &[String], new: Value) {
    let mut at = object;
    for name in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name.as_str()];
    }
    *at = new;
}

/// Takes a field out, and every map on the way to it that is empty then.
fn remove(object: &mut Value, path: &[String]) {
    let (Some(name), Some(map)) = (path.first(), object.as_object_mut()) else {
        return;
    };
    if path.len() > 1 {
        if let Some(below) = map.get_mut(name) {
            remove(below, &path[1..]);
            if below.as_object().is_some_and(Map::is_empty) {
                map.remove(name);
            }
        }
    } else {
        map.remove(name);
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let list = object["metadata"]["managedFields"].as_array();
    let entry = |value: &Value| {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let mut fields = BTreeSet::new();
        paths(&value["fieldsV1"], &mut Vec::new(), &mut fields);
        Entry {
            manager: text("manager"),
            operation: if value["operation"] == "Apply" {
                Operation::Apply
            } else {
                Operation::Update
            },
            version: text("apiVersion"),
            time: text("time"),
            subresource: value["subresource"].as_str().map(str::to_owned),
            fields,
        }
    };
    list.into_iter().flatten().map(entry).collect()
}

fn paths(tree: &Value, at: &mut Path, found: &mut BTreeSet<Path>) {
    for (key, below) in tree.as_object().into_iter().flatten() {
        at.push(key.strip_prefix("f:").unwrap_or(key).to_owned());
        if below.as_object().is_some_and(|b| !b.is_empty()) {
            paths(below, at, found);
        } else {
            found.insert(at.clone());
        }
        at.pop();
    }
}

fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|e| !e.fields.is_empty());
    entries.sort_by(|a, b| (a.operation, &a.time, &a.manager).cmp(&(b.operation, &b.time, &b.manager)));
    let told: Vec<Value> = entries.iter().map(Entry::document).collect();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        if !told.is_empty() {
            metadata.insert("managedFields".into(), told.into());
        }
    }
}

impl Entry {
    fn document(&self) -> Value {
        let mut tree = json!({});
        for path in &self.fields {
            let mut at = &mut tree;
            for name in path {
                let key = if name == "." {
                    name.clone()
                } else {
                    format!("f:{name}")
                };
                at = &mut at[key];
                if at.is_null() {
                    *at = json!({});
                }
            }
        }
        let mut told = json!({
            "apiVersion": self.version, "fieldsType": "FieldsV1", "fieldsV1": tree, "manager": self.manager,
            "operation": if self.operation == Operation::Apply { "Apply" } else { "Update" }, "time": self.time,
        });
        if let Some(subresource) = &self.subresource {
            told["subresource"] = subresource.clone().into();
        }
        told
    }
}

/// Conflicts in the words of an API server: one on one line, several by manager.
pub(super) fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.who, one.field
        );
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.who).or_default().push(&conflict.field);
    }
    let lines: Vec<String> = by_manager
        .into_iter()
        .map(|(who, fields)| {
            let fields: String = fields.iter().map(|f| format!("\n- {f}")).collect();
            format!("conflicts with {who}:{fields}")
        })
        .collect();
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// A merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(map) = target.as_object_mut() {
                map.remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIR: Writer<'static> = Writer {
        manager: "weir",
        now: "2026-01-01T00:00:00Z",
        subresource: None,
    };

    fn route(weight: u32) -> Value {
        json!({
            "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
            "metadata": {"name": "weir-cart", "labels": {"kuma.io/mesh": "default"}},
            "spec": {"targetRef": {"kind": "Mesh"}, "to": [{"weight": weight}]},
        })
    }

    #[test]
    fn an_equal_apply_changes_nothing_and_what_is_left_out_goes() {
        let first = apply(None, &route(1), WEIR, false).expect("nobody else");
        assert_eq!(
            first["metadata"]["managedFields"][0]["fieldsV1"],
            json!({"f:metadata": {"f:labels": {"f:kuma.io/mesh": {}}}, "f:spec": {"f:targetRef": {"f:kind": {}}, "f:to": {}}})
        );
        let later = Writer {
            now: "2026-01-01T00:00:09Z",
            ..WEIR
        };
        assert_eq!(apply(Some(&first), &route(1), later, false), Ok(first.clone()));
        let mut less = route(1);
        less["metadata"]["labels"] = json!({"other": "x"});
        remove(&mut less, &["spec".into(), "to".into()]);
        let less = apply(Some(&first), &less, later, false).expect("nobody else");
        assert_eq!(
            (&less["spec"], &less["metadata"]["labels"]),
            (&json!({"targetRef": {"kind": "Mesh"}}), &json!({"other": "x"}))
        );
    }

    #[test]
    fn a_list_is_one_field_and_whoever_changed_it_is_named() {
        let first = apply(None, &route(1), WEIR, false).expect("nobody else");
        let mut edited = first.clone();
        edited["spec"]["to"][0]["weight"] = json!(9);
        edited["metadata"]["labels"]["team"] = json!("pay");
        let kubectl = Writer {
            manager: "kubectl-edit",
            ..WEIR
        };
        update(Some(&first), &mut edited, kubectl);
        assert_eq!(
            edited["metadata"]["managedFields"][1]["fieldsV1"],
            json!({"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": {"f:to": {}}})
        );
        let conflicts = apply(Some(&edited), &route(1), WEIR, false).expect_err("a conflict");
        assert_eq!(
            conflict_text(&conflicts),
            "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using kuma.io/v1alpha1: .spec.to"
        );
        let shared = apply(Some(&edited), &route(9), WEIR, false).expect("the same value");
        let holders = shared["metadata"]["managedFields"]
            .to_string()
            .matches("f:to")
            .count();
        assert_eq!(holders, 2, "{shared}");
        let forced = apply(Some(&edited), &route(1), WEIR, true).expect("by force");
        assert_eq!(
            forced["metadata"]["labels"]["team"], "pay",
            "not ours, so it stays"
        );
        assert_eq!(
            forced["metadata"]["managedFields"][1]["fieldsV1"],
            json!({"f:metadata": {"f:labels": {"f:team": {}}}})
        );
    }

    #[test]
    fn an_empty_map_is_a_map_and_takes_nothing_away() {
        let mut labelled = route(1);
        labelled["metadata"]["annotations"] = json!({"note": "x"});
        let live = apply(None, &labelled, WEIR, false).expect("nobody else");
        let mut other = json!({"apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute", "metadata": {"annotations": {}}});
        other["spec"] = json!({});
        let argo = Writer {
            manager: "argocd",
            ..WEIR
        };
        let live = apply(Some(&live), &other, argo, false).expect("nothing is changed");
        assert_eq!(live["metadata"]["annotations"]["note"], "x");
    }
}
