//! What a Kong holds: entities by kind and id, and the pages that the Admin API reads from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::kinds::{KINDS, Kind};
use super::refusal::{self, Refused};
use super::schema::Object;
use super::texts;

/// All entities of one kind, by id.
type Table = BTreeMap<String, Arc<Value>>;

/// Entities. A copy shares what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Entities(BTreeMap<&'static str, Arc<Table>>);

/// What is asked of a list.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    /// At most so many.
    pub(super) size: Option<usize>,
    /// From here on.
    pub(super) offset: Option<String>,
    /// Only those with these tags.
    pub(super) tags: Option<Tags>,
}

/// Tags to filter by.
#[derive(Debug, Clone)]
pub(super) struct Tags {
    /// The tags.
    pub(super) all: Vec<String>,
    /// Whether an entity needs all of them.
    pub(super) every: bool,
}

impl Tags {
    fn takes(&self, entity: &Value) -> bool {
        let has = |tag: &String| {
            let tags = entity["tags"].as_array();
            tags.is_some_and(|tags| tags.iter().any(|have| have == tag))
        };
        if self.every {
            self.all.iter().all(has)
        } else {
            self.all.iter().any(has)
        }
    }
}

impl Entities {
    /// Puts one in, or in the place of the one with its id.
    pub(super) fn put(&mut self, kind: &Kind, id: &str, entity: Value) {
        let Some(known) = Kind::named(kind.name) else {
            return;
        };
        let table = self.0.entry(known.name).or_default();
        Arc::make_mut(table).insert(id.to_owned(), Arc::new(entity));
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, kind: &Kind, id: &str) {
        if let Some(table) = self.0.get_mut(kind.name) {
            Arc::make_mut(table).remove(id);
        }
    }

    /// All of a kind, in the order of their ids.
    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = (&String, &Arc<Value>)> {
        self.0.get(kind).into_iter().flat_map(|table| table.iter())
    }

    /// One by id.
    pub(super) fn by_id(&self, kind: &str, id: &str) -> Option<&Arc<Value>> {
        self.0.get(kind)?.get(id)
    }

    /// One by id or by the name that people gave it.
    pub(super) fn find(&self, kind: &Kind, key: &str) -> Option<&Arc<Value>> {
        if texts::is_id(key) {
            return self.by_id(kind.name, key);
        }
        let field = kind.key?;
        self.all(kind.name)
            .map(|(_, entity)| entity)
            .find(|entity| entity[field] == key)
    }

    /// Those that lead to this id.
    pub(super) fn referring(&self, kind: &str, field: &str, id: &str) -> Vec<Arc<Value>> {
        let here = |entity: &&Arc<Value>| entity[field]["id"] == id;
        self.all(kind)
            .map(|(_, entity)| entity)
            .filter(here)
            .cloned()
            .collect()
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|table| table.is_empty())
    }

    /// The kinds that there are, in the order of an export.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static Kind> {
        KINDS
            .iter()
            .filter(|kind| self.0.get(kind.name).is_some_and(|table| !table.is_empty()))
    }

    /// The targets of an upstream in the order in which they come into its ring.
    pub(super) fn targets(&self, upstream: &str) -> Vec<Arc<Value>> {
        let mut all = self.referring("targets", "upstream", upstream);
        let age = |target: &Value| {
            let id = target["id"].as_str().unwrap_or_default().to_owned();
            (target["created_at"].as_f64().unwrap_or_default(), id)
        };
        all.sort_by(|a, b| {
            let ((a, a_id), (b, b_id)) = (age(a), age(b));
            a.total_cmp(&b).then(a_id.cmp(&b_id))
        });
        all
    }

    /// One page of a list in the order of ids, and where the next begins.
    ///
    /// # Errors
    /// If the offset is none.
    pub(super) fn page(
        &self,
        kind: &Kind,
        below: Option<(&str, &str)>,
        page: &Page,
        database: bool,
    ) -> Result<(Vec<Value>, Option<String>), Refused> {
        let after = match &page.offset {
            Some(offset) => Some(read_offset(offset)?),
            None => None,
        };
        let size = page.size.unwrap_or(100);
        let mut found: Vec<&Arc<Value>> = Vec::new();
        let mut more = None;
        for (id, entity) in self.all(kind.name) {
            let is_here = below.is_none_or(|(field, parent)| entity[field]["id"] == parent);
            if !is_here || after.as_ref().is_some_and(|after| id <= after) {
                continue;
            }
            let takes = page.tags.as_ref().is_none_or(|tags| tags.takes(entity));
            // A database filters and then counts, a document is counted and then filtered.
            if database && !takes {
                continue;
            }
            if found.len() == size {
                more = found.last().and_then(|last| last["id"].as_str());
                break;
            }
            found.push(entity);
        }
        let next = more.map(write_offset);
        let takes = |entity: &&Arc<Value>| page.tags.as_ref().is_none_or(|tags| tags.takes(entity));
        let data = found
            .into_iter()
            .filter(takes)
            .map(|entity| Value::clone(entity))
            .collect();
        Ok((data, next))
    }

    /// One page of the targets of an upstream: the newest first, pages counted.
    ///
    /// # Errors
    /// If the offset is none.
    pub(super) fn target_page(
        &self,
        upstream: &str,
        page: &Page,
    ) -> Result<(Vec<Value>, Option<String>), Refused> {
        let from = match &page.offset {
            Some(offset) => offset
                .parse::<usize>()
                .map_err(|_| refusal::invalid_offset(offset, "bad offset string"))?,
            None => 0,
        };
        let size = page.size.unwrap_or(100).min(1000);
        let mut all = self.targets(upstream);
        all.reverse();
        all.retain(|target| page.tags.as_ref().is_none_or(|tags| tags.takes(target)));
        let next = (all.len() > from + size).then(|| (from + size).to_string());
        let data = all
            .iter()
            .skip(from)
            .take(size)
            .map(|target| Value::clone(target))
            .collect();
        Ok((data, next))
    }

    /// All tags: which entity has which.
    pub(super) fn tags(&self, only: Option<&str>) -> Vec<Value> {
        let mut found = Vec::new();
        for kind in self.kinds() {
            for (id, entity) in self.all(kind.name) {
                for tag in entity["tags"].as_array().into_iter().flatten() {
                    if only.is_none_or(|only| tag == only) {
                        found.push(json!({"tag": tag, "entity_name": kind.name, "entity_id": id}));
                    }
                }
            }
        }
        found
    }

    /// As the answer to a new document has it: kinds, ids, entities.
    pub(super) fn document(&self) -> Value {
        let one = |kind: &'static Kind| {
            let all: Object = self
                .all(kind.name)
                .map(|(id, entity)| (id.clone(), Value::clone(entity)))
                .collect();
            (kind.name.to_owned(), Value::Object(all))
        };
        Value::Object(self.kinds().map(one).collect())
    }
}

fn write_offset(id: &str) -> String {
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(json!([id]).to_string())
}

fn read_offset(offset: &str) -> Result<String, Refused> {
    let wrong = |why| refusal::invalid_offset(offset, why);
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let bytes = engine.decode(offset).map_err(|_| wrong("bad base64 encoding"))?;
    let parts: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| wrong("bad json encoding"))?;
    parts.into_iter().next().ok_or_else(|| wrong("bad offset string"))
}
