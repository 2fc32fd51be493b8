//! Writing entities one by one: into a database, or refused where there is none, after all that is wrong was said.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::super::balancer::host_and_port;
use super::super::document::{stamp, time};
use super::super::entities;
use super::super::kinds::{Foreign, KINDS, Kind};
use super::super::node::{Node, Source};
use super::super::refusal::{self, Answer, Refused};
use super::super::schema::Object;
use super::super::store::Entities;
use super::super::texts;
use super::{Asked, reads};
use crate::random_id;

/// The parent of what is made: its kind, its key, and the reference to it.
type Parent<'a> = (&'static Kind, &'a str, &'static Foreign);

/// Reads the body as fields of this kind: what came as a form gets types.
fn object(asked: &Asked, kind: &Kind) -> Result<Object, Refused> {
    let params = asked.params()?;
    if params.json {
        return Ok(params.fields);
    }
    let mut object = Object::new();
    for (name, value) in params.fields {
        let text = value.as_str().unwrap_or_default();
        match name.split_once('.') {
            Some((outer, inner)) => {
                let entry = object.entry(outer).or_insert_with(|| json!({}));
                entry[inner] = entities::typed(kind, inner, text);
            }
            None => {
                let name = name.trim_end_matches("[]");
                object.insert(name.to_owned(), entities::typed(kind, name, text));
            }
        }
    }
    Ok(object)
}

pub(super) fn validate(asked: &Asked, kind: &str) -> Result<Answer, Refused> {
    if asked.method != Method::POST {
        return Err(refusal::method_not_allowed());
    }
    let unknown = || Answer::message(404, &format!("No entity named '{kind}'"));
    let kind = Kind::named(kind).ok_or_else(unknown)?;
    let mut given = object(asked, kind)?;
    entities::expand(kind, &mut given);
    entities::fill(kind, &mut given);
    entities::settle(kind, &mut given);
    let errors = entities::check(kind, &given);
    if errors.is_empty() {
        return Ok(Answer::message(200, "schema validation successful"));
    }
    Err(refusal::schema_violation(errors))
}

/// Makes an entity whole and checks it.
fn whole(node: &Node, kind: &'static Kind, mut given: Object, all: &Entities) -> Result<Object, Refused> {
    if kind.name == "targets"
        && let Some(Value::String(target)) = given.get("target").cloned()
    {
        let wrong = || json!({"target": "Invalid target; not a valid hostname or ip address"});
        let found = host_and_port(&target).ok_or_else(|| match wrong() {
            Value::Object(errors) => refusal::schema_violation(errors),
            _ => refusal::not_found(),
        })?;
        given.insert("target".into(), format!("{}:{}", found.0, found.1).into());
    }
    entities::expand(kind, &mut given);
    entities::fill(kind, &mut given);
    entities::settle(kind, &mut given);
    stamp(kind, &mut given, node.now());
    name_references(kind, &mut given, all)?;
    let errors = entities::check(kind, &given);
    if errors.is_empty() {
        Ok(given)
    } else {
        Err(refusal::schema_violation(errors))
    }
}

/// References by name become references by id.
fn name_references(kind: &'static Kind, given: &mut Object, all: &Entities) -> Result<(), Refused> {
    for foreign in kind.foreign {
        let Some(Value::Object(reference)) = given.get(foreign.field) else {
            continue;
        };
        let to = Kind::named(foreign.to);
        let key = to.and_then(|to| to.key);
        let name = key.and_then(|key| reference.get(key)?.as_str());
        if let (Some(to), Some(key), Some(name), false) = (to, key, name, reference.contains_key("id")) {
            let found = all
                .find(to, name)
                .ok_or_else(|| refusal::unresolved(foreign.field, key, name, foreign.to))?;
            let id = json!({"id": found["id"]});
            given.insert(foreign.field.into(), id);
        }
    }
    Ok(())
}

/// Keeps an entity that fits; as it is kept.
fn put(kind: &'static Kind, entity: Object, id: &str, all: &mut Entities) -> Result<Value, Refused> {
    fits(kind, &entity, id, all)?;
    let entity = Value::Object(entity);
    all.put(kind, id, entity.clone());
    Ok(entity)
}

/// What a database refuses: references that lead nowhere, and what is there already.
fn fits(kind: &'static Kind, entity: &Object, id: &str, all: &Entities) -> Result<(), Refused> {
    for foreign in kind.foreign {
        let to = entity
            .get(foreign.field)
            .and_then(|reference| reference["id"].as_str());
        if let Some(to) = to.filter(|to| all.by_id(foreign.to, to).is_none()) {
            return Err(refusal::leads_nowhere(foreign.field, to, foreign.to));
        }
    }
    let others = || {
        all.all(kind.name)
            .filter(|(other, _)| *other != id)
            .map(|(_, entity)| entity)
    };
    let key = kind.key.filter(|_| kind.key_is_unique);
    if let Some((key, value)) = key
        .and_then(|key| Some((key, entity.get(key)?)))
        .filter(|(_, v)| !v.is_null())
        && others().any(|other| other[key] == *value)
    {
        return Err(refusal::not_unique(json!({key: value})));
    }
    let same = |other: &Arc<Value>| {
        kind.cache_key
            .iter()
            .all(|field| entity.get(*field) == other.get(*field))
    };
    if !kind.cache_key.is_empty() && others().any(same) {
        let fields = kind
            .cache_key
            .iter()
            .map(|f| ((*f).to_owned(), entity.get(*f).cloned().unwrap_or_default()));
        return Err(refusal::not_unique(Value::Object(fields.collect())));
    }
    Ok(())
}

/// Writes to the database, or says that there is none. What a target is written, its upstream is told, also where nothing of it is
/// another.
fn write<T>(
    node: &Arc<Node>,
    without: impl FnOnce() -> Refused,
    tells: Option<&Value>,
    change: impl FnOnce(&mut Entities) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let Source::Database(database) = &node.source else {
        return Err(without());
    };
    let done = {
        let mut held = database.held();
        let mut next = held.entities.clone();
        let done = change(&mut next)?;
        held.entities = next;
        held.version += 1;
        if let Some(upstream) = tells.and_then(|target| target["upstream"]["id"].as_str()) {
            let version = held.version;
            held.told.insert(upstream.to_owned(), version);
        }
        done
    };
    node.wrote();
    Ok(done)
}

/// The field of a key that is a name.
fn by<'a>(kind: &'a Kind, key: &str) -> Option<&'a str> {
    kind.key.filter(|_| !texts::is_id(key))
}

pub(super) fn create(
    node: &Arc<Node>,
    asked: &Asked,
    kind: &'static Kind,
    parent: Option<Parent<'_>>,
) -> Result<Answer, Refused> {
    let all = node.entities();
    let mut given = object(asked, kind)?;
    if let Some((above, key, foreign)) = parent {
        let parent = reads::find(&all, above, key)?;
        given.insert(foreign.field.into(), json!({"id": parent["id"]}));
    }
    let id = given
        .get("id")
        .and_then(Value::as_str)
        .map_or_else(random_id, str::to_owned);
    given.insert("id".into(), id.clone().into());
    let entity = whole(node, kind, given, &all)?;
    let entity = write(
        node,
        || refusal::unsupported("create", kind.name, None),
        None,
        |all| {
            if all.by_id(kind.name, &id).is_some() {
                return Err(refusal::id_is_taken(&id));
            }
            put(kind, entity, &id, all)
        },
    )?;
    Ok(Answer::json(201, entity))
}

/// PUT: what is not given goes back to its default.
fn replace(
    node: &Arc<Node>,
    asked: &Asked,
    kind: &'static Kind,
    key: &str,
    parent: Option<(&str, Value)>,
) -> Result<Answer, Refused> {
    let all = node.entities();
    let mut given = object(asked, kind)?;
    if let Some((field, value)) = parent {
        given.insert(field.to_owned(), value);
    }
    let id = match by(kind, key) {
        None => key.to_owned(),
        Some(field) => {
            given.insert(field.to_owned(), key.into());
            all.find(kind, key)
                .map_or_else(random_id, |entity| reads::id(entity).to_owned())
        }
    };
    given.insert("id".into(), id.clone().into());
    let entity = whole(node, kind, given, &all)?;
    let entity = write(
        node,
        || refusal::unsupported("create or update", kind.name, by(kind, key)),
        None,
        |all| put(kind, entity, &id, all),
    )?;
    Ok(Answer::json(200, entity))
}

/// PATCH: what is not given stays.
fn update(
    node: &Arc<Node>,
    asked: &Asked,
    kind: &'static Kind,
    before: &Value,
    by: Option<&str>,
) -> Result<Answer, Refused> {
    let mut given = object(asked, kind)?;
    given.remove("id");
    entities::expand(kind, &mut given);
    let id = reads::id(before).to_owned();
    let merged = |all: &Entities| {
        let mut entity = all
            .by_id(kind.name, &id)
            .and_then(|entity| entity.as_object().cloned())
            .unwrap_or_default();
        entities::merge(kind, given, &mut entity);
        entity.insert("updated_at".into(), time(kind, node.now()));
        let created = entity.get("created_at").cloned();
        let mut entity = whole(node, kind, entity, all)?;
        entity.insert("created_at".into(), created.unwrap_or_default());
        Ok(entity)
    };
    if !reads::has_database(node) {
        merged(&node.entities())?;
        return Err(refusal::unsupported("update", kind.name, by));
    }
    let tells = (kind.name == "targets").then_some(before);
    let entity = write(node, refusal::not_found, tells, |all| {
        let entity = merged(all)?;
        put(kind, entity, &id, all)
    })?;
    Ok(Answer::json(200, entity))
}

fn delete(
    node: &Arc<Node>,
    kind: &'static Kind,
    before: &Value,
    by: Option<&str>,
) -> Result<Answer, Refused> {
    let id = reads::id(before).to_owned();
    write(
        node,
        || refusal::unsupported("remove", kind.name, by),
        None,
        |all| remove(all, kind, &id),
    )?;
    Ok(Answer::empty(204))
}

/// Takes an entity out with all that goes with it, unless somebody needs it.
fn remove(all: &mut Entities, kind: &'static Kind, id: &str) -> Result<(), Refused> {
    for other in &KINDS {
        for foreign in other.foreign.iter().filter(|foreign| foreign.to == kind.name) {
            let referring = all.referring(other.name, foreign.field, id);
            if !referring.is_empty() && !foreign.cascades {
                return Err(refusal::referenced(kind.name, other.name));
            }
            for entity in referring {
                remove(all, other, reads::id(&entity))?;
            }
        }
    }
    all.remove(kind, id);
    Ok(())
}

pub(super) fn single(
    node: &Arc<Node>,
    asked: &Asked,
    kind: &'static Kind,
    key: &str,
) -> Result<Answer, Refused> {
    let all = node.entities();
    match asked.method {
        Method::PUT => replace(node, asked, kind, key, None),
        Method::PATCH => {
            let named = by(kind, key).map_or_else(|| json!({"id": key}), |field| json!({field: key}));
            let before = all.find(kind, key).ok_or_else(|| refusal::nothing_like(named))?;
            update(node, asked, kind, before, by(kind, key))
        }
        Method::DELETE => match all.find(kind, key) {
            None => Ok(Answer::empty(204)),
            Some(before) => delete(node, kind, before, by(kind, key)),
        },
        _ => Err(refusal::method_not_allowed()),
    }
}

pub(super) fn single_below(
    node: &Arc<Node>,
    asked: &Asked,
    (kind, key): (&'static Kind, &str),
    below: &'static Kind,
    foreign: &'static Foreign,
    inner: &str,
) -> Result<Answer, Refused> {
    let all = node.entities();
    let parent = reads::find(&all, kind, key)?;
    let found = reads::find_below(&all, parent, below, foreign, inner);
    let target = below.name == "targets";
    match (&asked.method, found) {
        // A target is never made so: PUT is PATCH.
        (&(Method::PUT | Method::PATCH | Method::DELETE), None) if target => Err(refusal::not_found()),
        (&Method::PUT, Some(before)) if target => update(node, asked, below, before, None),
        (&Method::PATCH, Some(before)) => {
            let by = by(below, inner).filter(|_| !target);
            update(node, asked, below, before, by)
        }
        (&Method::PATCH, None) => Err(refusal::not_found()),
        (&Method::PUT, _) => {
            let reference = json!({"id": parent["id"]});
            replace(node, asked, below, inner, Some((foreign.field, reference)))
        }
        (&Method::DELETE, Some(before)) => {
            let by = by(below, inner).filter(|_| !target);
            delete(node, below, before, by)
        }
        (&Method::DELETE, None) => Ok(Answer::empty(204)),
        _ => Err(refusal::method_not_allowed()),
    }
}
