//! The schemas: services, routes, upstreams and targets to the last field, and the plugin `http-log`. All else is taken as it
//! comes.
//!
//! `fields` says what fields there are, `checks` what must hold between them.

mod checks;
mod fields;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use self::fields::HASHES;
use super::access_log;
use super::kinds::{KINDS, Kind};
use super::schema::{self, Field, Object, Type};

static SCHEMAS: LazyLock<BTreeMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let fields = |kind: &Kind| match kind.name {
        "services" => fields::services(),
        "routes" => fields::routes(),
        "upstreams" => fields::upstreams(),
        "targets" => fields::targets(),
        _ => Vec::new(),
    };
    KINDS.iter().map(|kind| (kind.name, fields(kind))).collect()
});

fn fields_of(kind: &Kind) -> &'static [Field] {
    SCHEMAS.get(kind.name).map_or(&[], Vec::as_slice)
}

/// Whether all fields of this kind are known here.
fn is_known(kind: &Kind) -> bool {
    !fields_of(kind).is_empty()
}

/// What people may write in short: `url` of a service.
pub(super) fn expand(kind: &Kind, object: &mut Object) {
    if kind.name == "services"
        && let Some(Value::String(url)) = object.get("url").cloned()
    {
        object.remove("url");
        expand_url(&url, object);
    }
}

/// How to balance and what to hash by decide each other, whatever was asked for: without a hash there is no
/// consistent hashing, with one there is nothing else.
pub(super) fn settle(kind: &Kind, object: &mut Object) {
    if kind.name != "upstreams" {
        return;
    }
    let text = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("none")
            .to_owned()
    };
    let (algorithm, hash) = (text("algorithm"), text("hash_on"));
    let becomes = match (algorithm.as_str(), hash.as_str()) {
        ("least-connections" | "latency", _) => {
            object.insert("hash_on".into(), "none".into());
            return;
        }
        ("round-robin" | "consistent-hashing", "none") => "round-robin",
        ("round-robin" | "consistent-hashing", hash) if HASHES.contains(&hash) => "consistent-hashing",
        _ => return,
    };
    object.insert("algorithm".into(), becomes.into());
}

fn expand_url(url: &str, object: &mut Object) {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        None => (authority, None),
    };
    let protocol = scheme.unwrap_or(if port == Some(443) { "https" } else { "http" });
    object.insert("protocol".into(), protocol.into());
    object.insert("host".into(), host.into());
    let port = port.unwrap_or(if protocol == "https" { 443 } else { 80 });
    object.insert("port".into(), port.into());
    object.insert("path".into(), path.map_or(Value::Null, Value::from));
}

/// Gives all fields that nobody named what they have then.
pub(super) fn fill(kind: &Kind, object: &mut Object) {
    if is_known(kind) {
        return schema::fill(fields_of(kind), object);
    }
    object.entry("tags").or_insert(Value::Null);
    for foreign in kind.foreign {
        object.entry(foreign.field).or_insert(Value::Null);
    }
    if kind.name == "plugins" {
        object.entry("config").or_insert_with(|| json!({}));
        object.entry("enabled").or_insert(Value::Bool(true));
        object.entry("instance_name").or_insert(Value::Null);
        object
            .entry("protocols")
            .or_insert_with(|| json!(["grpc", "grpcs", "http", "https"]));
    }
    if let Some(config) = logs(kind, object).then(|| object.get_mut("config")).flatten()
        && let Value::Object(config) = config
    {
        schema::fill(&HTTP_LOG, config);
    }
}

/// What the one plugin is told that does something here.
static HTTP_LOG: LazyLock<Vec<Field>> = LazyLock::new(fields::http_log);

fn logs(kind: &Kind, object: &Object) -> bool {
    kind.name == "plugins" && object.get("name").is_some_and(|name| name == access_log::NAME)
}

/// What is wrong with a filled entity, by field, and under `@entity` what is wrong with the whole.
pub(super) fn check(kind: &Kind, object: &Object) -> Object {
    if !is_known(kind) {
        return check_unknown(kind, object);
    }
    let mut errors = schema::check(fields_of(kind), object);
    match kind.name {
        "upstreams" => checks::hashes(object, &mut errors),
        "services" => checks::protocol(object, &mut errors),
        "routes" => checks::route(object, &mut errors),
        _ => {}
    }
    errors
}

/// A text of a form as the type that its field has.
pub(super) fn typed(kind: &Kind, name: &str, text: &str) -> Value {
    let known = fields_of(kind).iter().find(|field| field.name == name);
    let parsed = match known.map(|field| &field.of) {
        Some(Type::Integer | Type::Number | Type::Boolean) => serde_json::from_str(text).ok(),
        Some(Type::Array(_) | Type::Set(_)) => Some(text.split(',').map(str::trim).collect()),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

/// Lays a change over what there is.
pub(super) fn merge(kind: &Kind, mut change: Object, under: &mut Object) {
    if logs(kind, under)
        && let Some(Value::Object(below)) = under.get_mut("config")
        && let Some(Value::Object(top)) = change.remove("config")
    {
        schema::merge(&HTTP_LOG, top, below);
    }
    schema::merge(fields_of(kind), change, under);
}

fn check_unknown(kind: &Kind, object: &Object) -> Object {
    static COMMON: LazyLock<Vec<Field>> = LazyLock::new(|| fields::common(""));
    let mut errors = Object::new();
    for field in COMMON.iter() {
        if let Some(Err(error)) = object.get(field.name).map(|value| field.check(value)) {
            errors.insert(field.name.into(), error);
        }
    }
    let required = kind
        .foreign
        .iter()
        .filter(|foreign| foreign.required)
        .map(|foreign| foreign.field);
    let named = (kind.name == "plugins").then_some("name");
    for name in required.chain(named) {
        if object.get(name).is_none_or(Value::is_null) {
            errors.insert(name.into(), "required field missing".into());
        }
    }
    if logs(kind, object) {
        let wrong = match object.get("config") {
            Some(Value::Object(config)) => Value::Object(schema::check(&HTTP_LOG, config)),
            _ => "expected a record".into(),
        };
        if wrong.as_object().is_none_or(|wrong| !wrong.is_empty()) {
            errors.insert("config".into(), wrong);
        }
    }
    errors
}
