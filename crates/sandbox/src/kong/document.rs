//! A declarative configuration: one document, entities inside of entities, read to flat entities with ids, or refused.

mod faults;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::entities;
use super::kinds::{KINDS, Kind};
use super::refusal::{self, Refused};
use super::schema::Object;
use super::store::Entities;

/// What is wrong with a document: errors by kind and position, and the document as far as it was read.
#[derive(Debug)]
pub(super) struct Faults {
    errors: Object,
    input: Object,
}

impl Faults {
    /// As Kong answers it.
    pub(super) fn refused(self, flatten: bool) -> Refused {
        if !flatten {
            return refusal::invalid_document(self.errors.into(), None);
        }
        let (errors, all) = faults::flatten(&self.input, self.errors);
        refusal::invalid_document(errors.into(), Some(all.into()))
    }
}

/// Reads JSON, or else YAML.
///
/// # Errors
/// If it is neither, or no object.
pub(super) fn read(text: &[u8]) -> Result<Object, Refused> {
    if let Ok(Value::Object(object)) = serde_json::from_slice(text) {
        return Ok(object);
    }
    let why = match std::str::from_utf8(text) {
        Err(_) => "expected an object".to_owned(),
        Ok(text) => match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Object(object)) => return Ok(object),
            Ok(_) => "expected an object".to_owned(),
            Err(error) => {
                let at = error.location().map(|at| (at.line(), at.column()));
                let (line, column) = at.unwrap_or((1, 1));
                format!("{line}:{column}: did not find expected node content")
            }
        },
    };
    let error = format!("failed parsing declarative configuration: {why}");
    Err(refusal::invalid_document(json!({"error": error}), None))
}

/// Makes flat entities of a document, whole or not at all.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn flatten(
    mut input: Object,
    now: i64,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Entities, Box<Faults>> {
    let errors = check(&input);
    if !errors.is_empty() {
        return Err(Box::new(Faults { errors, input }));
    }
    name(&mut input, None, new_id);
    let mut reader = Reader {
        now,
        ..Reader::default()
    };
    reader.collect(&input, None);
    reader.resolve();
    let errors = reader.errors();
    if !errors.is_empty() {
        return Err(Box::new(Faults { errors, input }));
    }
    let mut found = Entities::default();
    for (kind, id, entity) in reader.found {
        found.put(kind, &id, entity.into());
    }
    Ok(found)
}

fn list<'a>(object: &'a Object, kind: &Kind) -> &'a [Value] {
    object
        .get(kind.name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn check(input: &Object) -> Object {
    let mut errors = Object::new();
    for (name, value) in input {
        let wrong: Option<Value> = match (name.as_str(), value) {
            ("_format_version", Value::String(version)) => (!["1.1", "2.1", "3.0"]
                .contains(&version.as_str()))
            .then(|| "expected one of: 1.1, 2.1, 3.0".into()),
            ("_comment", Value::String(_))
            | ("_transform", Value::Bool(_) | Value::Null)
            | ("_ignore", Value::Array(_)) => None,
            ("_format_version" | "_comment", _) => Some("expected a string".into()),
            ("_transform", _) => Some("expected a boolean".into()),
            ("_ignore", _) => Some("expected an array".into()),
            (name, value) => match Kind::named(name) {
                None => Some("unknown field".into()),
                Some(kind) => check_list(kind, value, None),
            },
        };
        if let Some(wrong) = wrong {
            errors.insert(name.clone(), wrong);
        }
    }
    if input.get("_format_version").is_none_or(Value::is_null) {
        errors.insert("_format_version".into(), "required field missing".into());
    }
    errors
}

fn check_list(kind: &'static Kind, value: &Value, parent: Option<&str>) -> Option<Value> {
    let all = match value {
        Value::Null => return None,
        Value::Object(object) if object.is_empty() => return None,
        Value::Array(all) => all,
        _ => return Some("expected an array".into()),
    };
    let found = all
        .iter()
        .map(|item| check_item(kind, item, parent).unwrap_or_default());
    let mut found: Vec<Value> = found.collect();
    let last = found.iter().rposition(|error| !error.is_null())?;
    found.truncate(last + 1);
    Some(found.into())
}

fn check_item(kind: &'static Kind, item: &Value, parent: Option<&str>) -> Option<Value> {
    let Value::Object(item) = item else {
        return Some("expected a record".into());
    };
    let mut errors = Object::new();
    let mut own = Object::new();
    for (name, value) in item {
        match kind.children().find(|(child, _)| child.name == name) {
            Some((child, foreign)) => {
                if let Some(wrong) = check_list(child, value, Some(foreign.field)) {
                    errors.insert(name.clone(), wrong);
                }
            }
            None if matches!(name.as_str(), "_comment" | "_ignore") => {}
            None => {
                own.insert(name.clone(), value.clone());
            }
        }
    }
    let somebody = json!({"id": "00000000-0000-0000-0000-000000000000"});
    for foreign in kind.foreign {
        let given = own.get(foreign.field);
        if parent == Some(foreign.field) || given.is_some_and(Value::is_string) {
            own.insert(foreign.field.into(), somebody.clone());
        } else if given.is_some_and(|given| !given.is_object() && !given.is_null()) {
            errors.insert(foreign.field.into(), "expected a string".into());
            own.insert(foreign.field.into(), somebody.clone());
        }
    }
    entities::expand(kind, &mut own);
    entities::fill(kind, &mut own);
    entities::settle(kind, &mut own);
    errors.extend(entities::check(kind, &own));
    (!errors.is_empty()).then(|| errors.into())
}

/// An id that comes from a name: the same on each Kong and with each document.
fn derived(kind: &str, name: &str) -> String {
    const ENTITIES: [u8; 16] = [
        0xfd, 0x02, 0x80, 0x1f, 0x09, 0x57, 0x4a, 0x15, 0xa5, 0x5a, 0xc8, 0xd9, 0x60, 0x6f, 0x30, 0xb5,
    ];
    let of = |space: &[u8], name: &str| {
        let hash = Sha1::new().chain_update(space).chain_update(name).finalize();
        let mut id = [0_u8; 16];
        id.copy_from_slice(&hash[..16]);
        id[6] = id[6] & 0x0f | 0x50;
        id[8] = id[8] & 0x3f | 0x80;
        id
    };
    let id = of(&of(&ENTITIES, kind), name);
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The name that an id is derived from, if there is one.
fn name_for_id(kind: &Kind, item: &Object, parent: Option<(&str, &str)>) -> Option<String> {
    if kind.cache_key.is_empty() {
        return item.get(kind.key?)?.as_str().map(str::to_owned);
    }
    let mut parts = vec![kind.name.to_owned(), "*".to_owned()];
    for field in kind.cache_key {
        match (item.get(*field), parent) {
            (Some(Value::String(text)), _) => parts.push(text.clone()),
            (Some(_), _) => {}
            (None, Some((own, id))) if own == *field => parts.push(id.to_owned()),
            (None, _) => {
                let foreign = kind.foreign.iter().find(|foreign| foreign.field == *field);
                if foreign.is_none_or(|foreign| foreign.required) {
                    return None;
                }
                parts.push(String::new());
            }
        }
    }
    Some(parts.join(":"))
}

/// Gives an id to all that have none.
fn name(input: &mut Object, parent: Option<(&'static Kind, String)>, new_id: &mut dyn FnMut() -> String) {
    for kind in &KINDS {
        let foreign = kind
            .foreign
            .iter()
            .find(|f| parent.as_ref().is_some_and(|(p, _)| f.to == p.name));
        if parent.is_some() && foreign.is_none() {
            continue;
        }
        let Some(Value::Array(all)) = input.get_mut(kind.name) else {
            continue;
        };
        for item in all.iter_mut().filter_map(Value::as_object_mut) {
            let above = match (foreign, &parent) {
                (Some(foreign), Some((_, id))) => Some((foreign.field, id.as_str())),
                _ => None,
            };
            let id = match item.get("id").and_then(Value::as_str) {
                Some(id) => id.to_owned(),
                None => match name_for_id(kind, item, above) {
                    Some(name) => derived(kind.name, &name),
                    None => new_id(),
                },
            };
            item.insert("id".into(), id.clone().into());
            name(item, Some((kind, id)), new_id);
        }
    }
}

/// Where an error belongs.
#[derive(Debug, Default)]
struct Place {
    by_position: Vec<Value>,
    by_name: Object,
}

#[derive(Debug, Default)]
struct Reader {
    now: i64,
    found: Vec<(&'static Kind, String, Object)>,
    ids: BTreeMap<(&'static str, String), ()>,
    names: BTreeMap<(&'static str, String), String>,
    wrong: BTreeMap<&'static str, Place>,
}

/// Whose child something is: kind, id, position, and whether it lies at the top itself.
type Parent<'a> = (&'static Kind, &'a str, usize, bool);

impl Reader {
    fn collect(&mut self, input: &Object, parent: Option<Parent<'_>>) {
        for kind in &KINDS {
            let foreign = kind
                .foreign
                .iter()
                .find(|f| parent.is_some_and(|(p, ..)| f.to == p.name));
            if parent.is_some() && foreign.is_none() {
                continue;
            }
            for (at, item) in list(input, kind).iter().enumerate() {
                let Value::Object(item) = item else { continue };
                let id = item
                    .get("id")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                self.collect(item, Some((kind, &id, at, parent.is_none())));
                if !self.is_new(kind, item, &id, at, parent) {
                    continue;
                }
                let mut own = item.clone();
                own.retain(|name, _| {
                    !matches!(name.as_str(), "_comment" | "_ignore")
                        && !kind.children().any(|(child, _)| child.name == name)
                });
                if let (Some(foreign), Some((_, id, ..))) = (foreign, parent) {
                    own.insert(foreign.field.into(), json!({"id": id}));
                }
                entities::expand(kind, &mut own);
                entities::fill(kind, &mut own);
                entities::settle(kind, &mut own);
                stamp(kind, &mut own, self.now);
                self.found.push((kind, id, own));
            }
        }
    }

    fn is_new(
        &mut self,
        kind: &'static Kind,
        item: &Object,
        id: &str,
        at: usize,
        parent: Option<Parent<'_>>,
    ) -> bool {
        let said = |what: &str, value: &str| {
            let kind = kind.name;
            format!("uniqueness violation: '{kind}' entity with {what} set to '{value}' already declared")
        };
        let key = kind.key.filter(|_| kind.key_is_unique);
        if let Some((field, value)) = key.and_then(|field| Some((field, item.get(field)?.as_str()?))) {
            if self.names.contains_key(&(kind.name, value.to_owned())) {
                let message = said(field, value).into();
                put_at(
                    &mut self.wrong.entry(kind.name).or_default().by_position,
                    at,
                    message,
                );
                return false;
            }
            self.names.insert((kind.name, value.to_owned()), id.to_owned());
        }
        if self.ids.insert((kind.name, id.to_owned()), ()).is_none() {
            return true;
        }
        let message = Value::String(said("primary key", id));
        match parent {
            Some((above, _, position, true)) => {
                let place = &mut self.wrong.entry(above.name).or_default().by_position;
                let mut inner = place
                    .get(position)
                    .and_then(|v| v[kind.name].as_array().cloned())
                    .unwrap_or_default();
                put_at(&mut inner, at, message);
                put_at(place, position, json!({kind.name: inner}));
            }
            _ => put_at(
                &mut self.wrong.entry(kind.name).or_default().by_position,
                at,
                message,
            ),
        }
        false
    }

    fn resolve(&mut self) {
        for (kind, id, entity) in &mut self.found {
            for foreign in kind.foreign {
                let given = match entity.get(foreign.field) {
                    None | Some(Value::Null) => continue,
                    Some(Value::String(given)) => given.clone(),
                    Some(other) => other["id"].as_str().unwrap_or_default().to_owned(),
                };
                let by_name = self.names.get(&(foreign.to, given.clone())).cloned();
                let by_id = || {
                    self.ids
                        .contains_key(&(foreign.to, given.clone()))
                        .then(|| given.clone())
                };
                if let Some(found) = by_name.or_else(by_id) {
                    entity.insert(foreign.field.into(), json!({"id": found}));
                    continue;
                }
                let shown = match &entity[foreign.field] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let field = foreign.field;
                let message = format!(
                    "invalid reference '{field}: {shown}' (no such entry in '{}')",
                    foreign.to
                );
                let key = kind.key.filter(|_| kind.key_is_unique);
                let named = key.and_then(|key| entity.get(key)?.as_str());
                let at = named.unwrap_or(id).to_owned();
                let place = self.wrong.entry(kind.name).or_default();
                let all = place.by_name.entry(at).or_insert_with(|| json!([]));
                if let Value::Array(all) = all {
                    all.push(message.into());
                }
            }
        }
    }

    fn errors(&mut self) -> Object {
        let one = |(kind, place): (&str, Place)| {
            let mut all = place.by_name;
            if all.is_empty() {
                return (kind.to_owned(), place.by_position.into());
            }
            for (at, error) in place.by_position.into_iter().enumerate() {
                if !error.is_null() {
                    all.insert((at + 1).to_string(), error);
                }
            }
            (kind.to_owned(), all.into())
        };
        std::mem::take(&mut self.wrong).into_iter().map(one).collect()
    }
}

fn put_at(all: &mut Vec<Value>, at: usize, value: Value) {
    if all.len() <= at {
        all.resize(at + 1, Value::Null);
    }
    all[at] = value;
}

/// Sets the times of an entity that is made now.
pub(super) fn stamp(kind: &Kind, entity: &mut Object, now: i64) {
    let now = time(kind, now);
    let created = entity.get("created_at").is_none_or(Value::is_null);
    if created {
        entity.insert("created_at".into(), now.clone());
    }
    entity.insert("updated_at".into(), now);
}

/// Milliseconds as this kind writes them.
pub(super) fn time(kind: &Kind, now: i64) -> Value {
    if kind.millis && now % 1000 != 0 {
        json!(now as f64 / 1000.0)
    } else {
        json!(now.div_euclid(1000))
    }
}
