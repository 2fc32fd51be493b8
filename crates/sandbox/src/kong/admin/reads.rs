//! Reading entities: one, lists in pages, by tags.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::kinds::{Foreign, Kind};
use super::super::node::{Node, Source};
use super::super::refusal::{self, Answer, Refused};
use super::super::store::{Entities, Page, Tags};
use super::super::texts;
use super::Asked;

/// What a list is asked for.
pub(super) fn page(asked: &Asked) -> Result<Page, Refused> {
    let size = match asked.query("size") {
        None => None,
        Some(text) => {
            let number: f64 = text
                .parse()
                .map_err(|_| refusal::invalid_size("size must be a number"))?;
            if number.fract() != 0.0 || !(1.0..=1000.0).contains(&number) {
                return Err(refusal::invalid_size(
                    "size must be an integer between 1 and 1000",
                ));
            }
            Some(number as usize)
        }
    };
    Ok(Page {
        size,
        offset: asked.query("offset").map(str::to_owned),
        tags: asked.query("tags").map(tags_of).transpose()?,
    })
}

fn tags_of(text: &str) -> Result<Tags, Refused> {
    if text.is_empty() {
        return Err(refusal::invalid_option("tags", "cannot be null"));
    }
    let split = |by: char| text.split(by).map(str::to_owned).collect::<Vec<_>>();
    let whole = |all: &[String]| {
        all.iter()
            .all(|tag| !tag.is_empty() && tag.bytes().all(texts::is_in_a_tag))
    };
    let (and, or) = (split(','), split('/'));
    let (all, every) = if whole(&and) {
        (and, true)
    } else if whole(&or) {
        (or, false)
    } else {
        return Err(refusal::invalid_option("tags", "invalid filter syntax"));
    };
    if all.len() > 5 {
        return Err(refusal::invalid_option("tags", "cannot query more than 5 tags"));
    }
    Ok(Tags { all, every })
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A page as it is answered.
pub(super) fn paged(path: &str, data: Vec<Value>, offset: Option<String>, rest: &str) -> Value {
    let next = offset
        .as_ref()
        .map(|offset| format!("{path}?offset={}{rest}", escaped(offset)));
    let mut answer = json!({"data": data, "next": next});
    if let Some(offset) = offset {
        answer["offset"] = offset.into();
    }
    answer
}

pub(super) fn has_database(node: &Node) -> bool {
    matches!(node.source, Source::Database(_))
}

/// One by id or name, or 404.
pub(super) fn find<'a>(entities: &'a Entities, kind: &Kind, key: &str) -> Result<&'a Arc<Value>, Refused> {
    entities.find(kind, key).ok_or_else(refusal::not_found)
}

/// The id of an entity.
pub(super) fn id(entity: &Value) -> &str {
    entity["id"].as_str().unwrap_or_default()
}

pub(super) fn list(node: &Node, asked: &Asked, kind: &'static Kind) -> Result<Answer, Refused> {
    let page = page(asked)?;
    let mut rest = String::new();
    if let Some(tags) = asked.query("tags") {
        rest.push_str(&format!("&tags={}", escaped(tags)));
    }
    if let Some(size) = asked.query("size") {
        rest.push_str(&format!("&size={size}"));
    }
    let (data, offset) = node.entities().page(kind, None, &page, has_database(node))?;
    Ok(Answer::json(
        200,
        paged(&format!("/{}", kind.path.0), data, offset, &rest),
    ))
}

pub(super) fn single(node: &Node, kind: &Kind, key: &str) -> Result<Answer, Refused> {
    let entities = node.entities();
    Ok(Answer::json(200, Value::clone(find(&entities, kind, key)?)))
}

pub(super) fn list_below(
    node: &Node,
    asked: &Asked,
    (kind, key): (&'static Kind, &str),
    below: &'static Kind,
    foreign: &Foreign,
) -> Result<Answer, Refused> {
    let entities = node.entities();
    let parent = find(&entities, kind, key)?;
    if below.name == "targets" {
        return targets(asked, &entities, parent, (key, "targets"));
    }
    let page = page(asked)?;
    let here = Some((foreign.field, id(parent)));
    let (data, offset) = entities.page(below, here, &page, has_database(node))?;
    let path = format!("/{}/{key}/{}", kind.path.0, below.path.1);
    Ok(Answer::json(200, paged(&path, data, offset, "")))
}

fn targets(
    asked: &Asked,
    entities: &Entities,
    parent: &Value,
    (key, end): (&str, &str),
) -> Result<Answer, Refused> {
    let (data, offset) = entities.target_page(id(parent), &page(asked)?)?;
    let path = format!("/upstreams/{key}/{end}");
    Ok(Answer::json(200, paged(&path, data, offset, "")))
}

pub(super) fn all_targets(node: &Node, asked: &Asked, upstream: &str) -> Result<Answer, Refused> {
    let entities = node.entities();
    let kind = Kind::named("upstreams").ok_or_else(refusal::not_found)?;
    let parent = find(&entities, kind, upstream)?;
    targets(asked, &entities, parent, (upstream, "targets/all"))
}

/// One below another, by id or by name, or 404.
pub(super) fn find_below<'a>(
    entities: &'a Entities,
    parent: &Value,
    below: &'static Kind,
    foreign: &Foreign,
    key: &str,
) -> Option<&'a Arc<Value>> {
    let here = |entity: &&Arc<Value>| entity[foreign.field]["id"] == parent["id"];
    if below.name == "targets" && !texts::is_id(key) {
        // Targets are not unique by name, but below their upstream they are.
        return entities
            .all("targets")
            .map(|(_, target)| target)
            .filter(here)
            .find(|target| target["target"] == key);
    }
    entities.find(below, key).filter(here)
}

pub(super) fn single_below(
    node: &Node,
    (kind, key): (&'static Kind, &str),
    below: &'static Kind,
    foreign: &Foreign,
    inner: &str,
) -> Result<Answer, Refused> {
    let entities = node.entities();
    let parent = find(&entities, kind, key)?;
    let found = find_below(&entities, parent, below, foreign, inner).ok_or_else(refusal::not_found)?;
    Ok(Answer::json(200, Value::clone(found)))
}

pub(super) fn service_of(node: &Node, route: &str) -> Result<Answer, Refused> {
    let entities = node.entities();
    let kind = Kind::named("routes").ok_or_else(refusal::not_found)?;
    let service = find(&entities, kind, route)?["service"]["id"]
        .as_str()
        .unwrap_or_default();
    let service = entities
        .by_id("services", service)
        .ok_or_else(refusal::not_found)?;
    Ok(Answer::json(200, Value::clone(service)))
}

pub(super) fn tags(node: &Node, only: Option<&str>) -> Result<Answer, Refused> {
    Ok(Answer::json(
        200,
        json!({"data": node.entities().tags(only), "next": null}),
    ))
}
