//! `flatten_errors`: errors by position made to a list of entities with what is wrong with each.

use serde_json::{Value, json};

use super::super::kinds::Kind;
use super::super::schema::Object;
use super::super::texts;

/// What could not be taken apart, and the list.
pub(super) fn flatten(input: &Object, errors: Object) -> (Object, Vec<Value>) {
    let mut left = Object::new();
    let mut all = Vec::new();
    // Kong takes the last first.
    let mut sections: Vec<(String, Value)> = errors.into_iter().collect();
    sections.sort_by(|(a, _), (b, _)| b.cmp(a));
    for (name, section) in sections {
        let known = Kind::named(&name).zip(input.get(&name).and_then(Value::as_array));
        let (Some((kind, entities)), true) = (known, section.is_array() || section.is_object()) else {
            left.insert(name, section);
            continue;
        };
        // An error that has the name of an entity and not its position is lost here, as it is in Kong.
        let Value::Array(section) = section else { continue };
        for (entity, errors) in entities.iter().zip(section).rev() {
            if let Value::Object(entity) = entity {
                add(kind, entity.clone(), errors, &mut all);
            }
        }
    }
    (left, all)
}

fn own_id(entity: &Object) -> Option<Value> {
    let id = entity.get("id")?.as_str().filter(|id| texts::is_id(id))?;
    Some(json!({"id": id}))
}

fn add(kind: &'static Kind, mut entity: Object, errors: Value, all: &mut Vec<Value>) {
    let mut errors = match errors {
        Value::String(message) => Object::from_iter([("@entity".to_owned(), message.into())]),
        other => named(other),
    };
    if errors.is_empty() {
        return;
    }
    for foreign in kind.foreign {
        if let Some(Value::Object(value)) = entity.get(foreign.field).cloned() {
            match own_id(&value) {
                Some(id) => entity.insert(foreign.field.into(), id),
                None => entity.remove(foreign.field),
            };
            if let (Some(error), Some(to)) = (errors.remove(foreign.field), Kind::named(foreign.to)) {
                add(to, value, error, all);
            }
        }
    }
    let id = own_id(&entity);
    for (child, foreign) in kind.children() {
        let Some(Value::Array(items)) = entity.get(child.name).cloned() else {
            continue;
        };
        entity.remove(child.name);
        let Some(Value::Array(errors)) = errors.remove(child.name) else {
            continue;
        };
        for (item, error) in items.into_iter().zip(errors) {
            let Value::Object(mut item) = item else { continue };
            if let (Some(id), false) = (&id, item.contains_key(foreign.field)) {
                item.insert(foreign.field.into(), id.clone());
            }
            add(child, item, error, all);
        }
    }
    let mut found = Vec::new();
    categorize("", errors, &mut found);
    if found.is_empty() {
        return;
    }
    let mut one = json!({"entity_type": kind.singular(), "errors": found});
    let name = entity
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    if let Some(name) = name {
        one["entity_name"] = name.into();
    }
    if let Some(id) = id {
        one["entity_id"] = id["id"].clone();
    }
    let tags = entity.get("tags").and_then(Value::as_array);
    if let Some(tags) = tags.filter(|tags| tags.iter().all(Value::is_string)) {
        one["entity_tags"] = tags.clone().into();
    }
    one["entity"] = entity.into();
    all.push(one);
}

/// Errors by name: positions count from one.
fn named(errors: Value) -> Object {
    match errors {
        Value::Object(errors) => errors,
        Value::Array(errors) => {
            let numbered = errors
                .into_iter()
                .enumerate()
                .filter(|(_, error)| !error.is_null());
            numbered
                .map(|(at, error)| ((at + 1).to_string(), error))
                .collect()
        }
        _ => Object::new(),
    }
}

fn categorize(below: &str, errors: Object, found: &mut Vec<Value>) {
    let mut errors: Vec<(String, Value)> = errors.into_iter().collect();
    errors.sort_by(|(a, _), (b, _)| match (a.parse::<usize>(), b.parse::<usize>()) {
        (Ok(a), Ok(b)) => b.cmp(&a),
        _ => b.cmp(a),
    });
    for (name, error) in errors {
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}.{name}")
        };
        match error {
            error if name == "@entity" => {
                let messages = match error {
                    Value::Array(all) => all,
                    one => vec![one],
                };
                found.extend(
                    messages
                        .into_iter()
                        .map(|m| json!({"type": "entity", "message": m})),
                );
            }
            Value::String(message) => {
                found.push(json!({"type": "field", "field": path, "message": message}));
            }
            inner => categorize(&path, named(inner), found),
        }
    }
}
