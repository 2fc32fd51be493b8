//! What makes an entity what it is, besides an id: the same for one that is written in a document and for the one that Kong
//! made of it.
//!
//! Kong draws an id by chance for what has no name (most plugins, routes and certificates of a document that is kept by hand),
//! so that ids alone do not tell whether something is still there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::kong::base::singular;

/// Entities of the site that are in a document: by kind, their ids and what else they are told by.
pub type Kept = BTreeMap<String, BTreeSet<String>>;

/// What routes without a name are told by.
const MATCHES: [&str; 7] = [
    "hosts",
    "paths",
    "methods",
    "headers",
    "snis",
    "sources",
    "destinations",
];

/// Whom an entity may belong to.
const OWNERS: [&str; 5] = ["consumer", "consumer_group", "route", "service", "upstream"];

/// Identities in the order of the entities; none for what has nothing to be told by.
#[derive(Debug)]
pub(crate) struct Identities(pub(crate) Vec<Option<String>>);

impl Identities {
    /// Of entities by kind; whoever is written in another has its position, which is before its own.
    pub(crate) fn of(all: &[(&str, &Map<String, Value>, Option<usize>)]) -> Self {
        let mut found: Vec<Option<String>> = vec![None; all.len()];
        let mut by_id: BTreeMap<(&str, &str), String> = BTreeMap::new();
        // Whoever belongs to another comes after it: routes to services, plugins to both.
        for turn in 0..3 {
            for (at, (kind, entity, inside)) in all.iter().enumerate() {
                let own = match *kind {
                    "services" | "upstreams" | "consumers" | "consumer_groups" => 0,
                    "routes" => 1,
                    _ => 2,
                };
                if own != turn {
                    continue;
                }
                let owner = |field: &str| {
                    let parent =
                        inside.filter(|at| all.get(*at).is_some_and(|(kind, ..)| singular(kind) == field));
                    match parent {
                        Some(at) => found.get(at).cloned().flatten(),
                        None => referred(field, entity.get(field)?, &by_id),
                    }
                };
                let identity = identity(kind, entity, &owner);
                let id = entity.get("id").and_then(Value::as_str);
                if let (Some(id), Some(identity)) = (id, &identity) {
                    by_id.insert((singular(kind), id), identity.clone());
                }
                if let Some(place) = found.get_mut(at) {
                    *place = identity;
                }
            }
        }
        Self(found)
    }
}

/// By id or by name, as a text or inside an object.
fn referred(field: &str, reference: &Value, by_id: &BTreeMap<(&str, &str), String>) -> Option<String> {
    let text = match reference {
        Value::Object(object) => object.get("id").or_else(|| object.get("name"))?,
        text => text,
    };
    let text = text.as_str()?;
    Some(
        by_id
            .get(&(field, text))
            .map_or_else(|| text.to_owned(), Clone::clone),
    )
}

fn identity(
    kind: &str,
    entity: &Map<String, Value>,
    owner: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let text = |field: &str| entity.get(field).and_then(Value::as_str).map(str::to_owned);
    let first = |fields: &[&str]| fields.iter().find_map(|field| text(field));
    let own = match kind {
        "services" | "upstreams" | "consumer_groups" | "key_sets" | "snis" => return text("name"),
        "consumers" => return first(&["username", "custom_id"]),
        "vaults" => return text("prefix"),
        "certificates" | "ca_certificates" => {
            let cert = text("cert")?.replace(['\r', '\n', ' '], "");
            return Some(blake3::hash(cert.as_bytes()).to_hex().to_string());
        }
        "keys" => return first(&["name", "kid"]),
        "routes" => match text("name") {
            Some(name) => return Some(name),
            None => matches(entity),
        },
        "targets" => text("target")?,
        "acls" => text("group")?,
        _ => match first(&["name", "username", "client_id", "prefix"]) {
            Some(open) => open,
            // A credential is told by its hash alone: what is found here is shown to people.
            None => format!("#{}", &blake3::hash(text("key")?.as_bytes()).to_hex()[..16]),
        },
    };
    let owners = OWNERS
        .iter()
        .filter_map(|field| Some(format!(" {field}={}", owner(field)?)));
    Some(owners.fold(own, |text, one| text + &one))
}

fn matches(route: &Map<String, Value>) -> String {
    let mut text = String::new();
    for field in MATCHES {
        let part = match route.get(field) {
            Some(Value::Array(all)) if !all.is_empty() => {
                let mut all: Vec<String> = all.iter().map(Value::to_string).collect();
                all.sort_unstable();
                all.join(",")
            }
            Some(Value::Object(all)) if !all.is_empty() => {
                let all: BTreeMap<&String, &Value> = all.iter().collect();
                all.iter()
                    .map(|(name, value)| format!("{name}:{value}"))
                    .collect::<Vec<_>>()
                    .join(",")
            }
            _ => continue,
        };
        text.push_str(&format!("{field}={part} "));
    }
    text
}
