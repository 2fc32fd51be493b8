//! Everything that an API server holds, at one moment, for telling afterwards what was changed.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::api::{ApiServer, Type};

/// Every object of every type that can be listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// By path.
    pub objects: BTreeMap<String, Value>,
}

/// What became of one object between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Path of the object.
    pub path: String,
    /// As it was; none if it was not there.
    pub before: Option<Value>,
    /// As it is; none if it is gone.
    pub after: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (None, _) => write!(f, "{} is new", self.path),
            (_, None) => write!(f, "{} is gone", self.path),
            (Some(before), Some(after)) => {
                write!(f, "{} changed:", self.path)?;
                let mut lines = Vec::new();
                differing("", before, after, &mut lines);
                lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

/// What an API server and nobody else writes: leases by which several of them know of each other, and what happened.
fn own(of: &Type) -> bool {
    matches!(of.plural.as_str(), "events" | "leases" | "componentstatuses")
}

/// And where it is itself, taken out when it ends and put in again when it starts.
const ITSELF: [&str; 2] = [
    "/api/v1/namespaces/default/endpoints/kubernetes",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
];

impl Store {
    /// Reads it, as a user who may.
    ///
    /// # Errors
    /// If something cannot be listed.
    pub async fn read(api: &ApiServer) -> anyhow::Result<Self> {
        let mut objects = BTreeMap::new();
        for one in api.types().await?.all() {
            if !one.listable || own(one) {
                continue;
            }
            for object in api.list(&one.path(None)).await? {
                let metadata = &object["metadata"];
                let home = one.path(metadata["namespace"].as_str());
                let name = metadata["name"].as_str().unwrap_or_default();
                let path = format!("{home}/{name}");
                if !ITSELF.contains(&path.as_str()) {
                    objects.insert(path, object);
                }
            }
        }
        Ok(Self { objects })
    }

    /// What is different in `later`: by content and by resource version, so that a write that changed nothing is not
    /// missed either.
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let paths: std::collections::BTreeSet<&String> =
            self.objects.keys().chain(later.objects.keys()).collect();
        let change = |path: &String| {
            let (before, after) = (self.objects.get(path), later.objects.get(path));
            (before != after).then(|| Change {
                path: path.clone(),
                before: before.cloned(),
                after: after.cloned(),
            })
        };
        paths.into_iter().filter_map(change).collect()
    }
}

fn differing(at: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                differing(&format!("{at}.{key}"), &of(before), &of(after), lines);
            }
        }
        _ => lines.push(format!("{at}: {before} -> {after}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_say_what_came_what_went_and_which_field() {
        let store = |objects: Value| Store {
            objects: serde_json::from_value(objects).expect("objects"),
        };
        let before = store(json!({"/a": {"spec": {"x": 1, "y": 2}}, "/b": {}, "/same": 1}));
        let after = store(json!({"/a": {"spec": {"x": 1, "y": 3}}, "/c": {}, "/same": 1}));
        let told: Vec<String> = before.changes(&after).iter().map(Change::to_string).collect();
        assert_eq!(
            told,
            ["/a changed:\n  .spec.y: 2 -> 3", "/b is gone", "/c is new"]
        );
        assert_eq!(before.changes(&before), []);
    }
}
