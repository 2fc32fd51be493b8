//! What the double of an API server holds: objects, and for a while every change to them, from which watches, pages of a
//! list and 410 come. Pure.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::kinds::Type;

/// So many changes are remembered; whoever asks for older ones is told to list again.
const REMEMBERED: usize = 2_000;
/// The first revision. A real store has written some hundred objects of its own before anybody comes.
const FIRST: u64 = 100;

/// Where an object is: type, namespace (empty for none), name.
pub(super) type Key = (&'static Type, String, String);

/// One change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) key: Key,
    pub(super) before: Option<Value>,
    /// As it is; if it is gone, as it last was, with the revision at which it went.
    pub(super) after: Value,
    pub(super) gone: bool,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Value>,
    changes: VecDeque<Change>,
    revision: u64,
    /// Changes up to here are forgotten.
    forgotten: u64,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            revision: FIRST,
            forgotten: FIRST - 1,
            ..Self::default()
        }
    }

    /// Now.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// All of one type, of one namespace or of all.
    pub(super) fn all<'a>(
        &'a self,
        of: &'static Type,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.objects
            .iter()
            .filter(move |((t, n, _), _)| *t == of && namespace.is_none_or(|wanted| wanted == n))
    }

    /// Puts an object in, whatever was there; as it is then.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let before = self.objects.insert(key.clone(), object.clone());
        self.remember(Change {
            revision: self.revision,
            key,
            before,
            after: object.clone(),
            gone: false,
        });
        object
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(before) = self.objects.remove(key) {
            self.revision += 1;
            let mut after = before.clone();
            after["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.remember(Change {
                revision: self.revision,
                key: key.clone(),
                before: Some(before),
                after,
                gone: true,
            });
        }
    }

    fn remember(&mut self, change: Change) {
        self.changes.push_back(change);
        if self.changes.len() > REMEMBERED
            && let Some(old) = self.changes.pop_front()
        {
            self.forgotten = old.revision;
        }
    }

    /// What changed since this revision.
    ///
    /// # Errors
    /// The oldest revision from which that is still known.
    pub(super) fn since(&self, revision: u64) -> Result<impl Iterator<Item = &Change>, u64> {
        if revision < self.forgotten {
            return Err(self.forgotten);
        }
        Ok(self.changes.iter().filter(move |c| c.revision > revision))
    }

    /// All of one type as it was at this revision, in the order of a list.
    ///
    /// # Errors
    /// If that is not known any more.
    pub(super) fn at(
        &self,
        revision: u64,
        of: &'static Type,
        namespace: Option<&str>,
    ) -> Result<BTreeMap<Key, Value>, u64> {
        let mut objects: BTreeMap<Key, Value> = self
            .all(of, namespace)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let later: Vec<&Change> = self.since(revision)?.collect();
        for change in later.into_iter().rev() {
            let (t, n, _) = &change.key;
            if *t != of || namespace.is_some_and(|wanted| wanted != n) {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }
}

/// A label selector: all of its parts must hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector(Vec<(String, Test)>);

#[derive(Debug, Clone)]
enum Test {
    Is(String),
    IsNot(String),
    Exists,
    Absent,
}

impl Selector {
    /// Reads `a=b,c!=d,e,!f`.
    pub(super) fn read(text: &str) -> Self {
        let part = |part: &str| {
            let part = part.trim();
            if let Some((key, value)) = part.split_once("!=") {
                (key.to_owned(), Test::IsNot(value.to_owned()))
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (key.to_owned(), Test::Is(value.to_owned()))
            } else if let Some(key) = part.strip_prefix('!') {
                (key.to_owned(), Test::Absent)
            } else {
                (part.to_owned(), Test::Exists)
            }
        };
        Self(text.split(',').filter(|p| !p.is_empty()).map(part).collect())
    }

    /// Whether it selects nothing less than everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn selects(&self, object: &Value) -> bool {
        self.0.iter().all(|(key, test)| {
            let value = object["metadata"]["labels"].get(key).and_then(Value::as_str);
            match test {
                Test::Is(wanted) => value == Some(wanted),
                Test::IsNot(wanted) => value != Some(wanted),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }

    /// What a watch shows of a change: an object that is not selected any more seems to be gone.
    pub(super) fn event(&self, change: &Change) -> Option<Value> {
        let was = change.before.as_ref().is_some_and(|b| self.selects(b));
        let is = !change.gone && self.selects(&change.after);
        let (kind, object) = match (was, is) {
            (false, true) => ("ADDED", change.after.clone()),
            (true, true) => ("MODIFIED", change.after.clone()),
            (true, false) => {
                let mut last = change.before.clone()?;
                last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                ("DELETED", last)
            }
            (false, false) => return None,
        };
        Some(json!({"type": kind, "object": object}))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::TYPES;
    use super::*;

    fn key(name: &str) -> Key {
        (&TYPES[10], "shop".into(), name.into())
    }

    fn object(label: &str) -> Value {
        json!({"metadata": {"labels": {"weir.dev/split": label}}})
    }

    #[test]
    fn the_past_can_be_listed_until_it_is_forgotten() {
        let mut store = Store::new();
        store.put(key("a"), object("1"));
        let then = store.revision();
        store.put(key("a"), object("2"));
        store.put(key("b"), object("3"));
        store.remove(&key("a"));
        let past = store
            .at(then, &TYPES[10], Some("shop"))
            .expect("it is remembered");
        assert_eq!(past.len(), 1);
        assert_eq!(past[&key("a")]["metadata"]["labels"]["weir.dev/split"], "1");
        for _ in 0..=REMEMBERED {
            store.put(key("b"), object("4"));
        }
        assert!(store.at(then, &TYPES[10], None).is_err());
        assert!(store.since(1).is_err());
    }

    #[test]
    fn an_object_that_loses_its_label_is_gone_from_a_selected_watch() {
        let mut store = Store::new();
        let begin = store.revision();
        store.put(key("a"), object("cart"));
        store.put(key("a"), json!({"metadata": {}}));
        store.put(key("a"), object("cart"));
        store.remove(&key("a"));
        let told = |selector: &str| -> Vec<String> {
            let selector = Selector::read(selector);
            let changes = store.since(begin).expect("it is remembered");
            changes
                .filter_map(|c| Some(selector.event(c)?["type"].as_str()?.to_owned()))
                .collect()
        };
        assert_eq!(told("weir.dev/split"), ["ADDED", "DELETED", "ADDED", "DELETED"]);
        assert_eq!(told(""), ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]);
        assert_eq!(told("weir.dev/split=other"), [""; 0]);
    }
}
