//! What the site keeps itself: a document of Kong in Git, read and never changed but where a split takes a service over.
//!
//! Every entity of it goes into the document that is posted as the very text that it was. It is parsed only to be looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use weir_model::Base;

use crate::kong::dashed::{Dashed, dashed};
use crate::kong::entities::{OURS, TAG};
use crate::kong::identity::{Identities, Kept};
use crate::kong::ids;
use crate::kong::live::is_controllers;

/// The formats that Kong 3 reads. Below 3.0 it takes some paths for expressions.
const FORMATS: [&str; 3] = ["1.1", "2.1", "3.0"];

/// A base, read.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    /// Its parts as texts.
    pub(crate) parts: BTreeMap<String, &'a RawValue>,
    /// The same as a value.
    whole: Value,
}

/// An entity of a base.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) kind: &'a str,
    pub(crate) entity: &'a Map<String, Value>,
    /// Where in the list is the one that it is written in: before it.
    pub(crate) inside: Option<usize>,
}

impl Found<'_> {
    /// As people know it.
    pub(crate) fn called(&self) -> String {
        let name = ["name", "username", "id", "target"];
        let name = name
            .into_iter()
            .find_map(|field| self.entity.get(field)?.as_str());
        let kind = singular(self.kind);
        match name {
            Some(name) => format!("{kind} `{name}`"),
            None => format!("a {kind} without a name"),
        }
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.entity.get(field)?.as_str()
    }
}

impl<'a> Reading<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If it is no object.
    pub(crate) fn of(base: &'a Base) -> Result<Self, String> {
        let parts = serde_json::from_str(&base.document);
        let parts = parts.map_err(|error| format!("{} is no Kong document: {error}", base.file))?;
        let whole = serde_json::from_str(&base.document);
        let whole = whole.map_err(|error| format!("{} is no Kong document: {error}", base.file))?;
        Ok(Self { parts, whole })
    }

    /// Its `_format_version`.
    pub(crate) fn format(&self) -> Option<&str> {
        self.whole.get("_format_version")?.as_str()
    }

    /// All entities at any depth.
    pub(crate) fn entities(&self) -> Vec<Found<'_>> {
        let mut all = Vec::new();
        for (kind, list) in self.whole.as_object().into_iter().flatten() {
            if !kind.starts_with('_') {
                walk(kind, list, None, &mut all);
            }
        }
        all
    }

    /// The entities at the top of one kind, as texts.
    ///
    /// # Errors
    /// If what is there is no list.
    pub(crate) fn list(&self, kind: &str) -> Result<Vec<&'a RawValue>, String> {
        let Some(raw) = self.parts.get(kind) else {
            return Ok(Vec::new());
        };
        if matches!(raw.get(), "null" | "{}") {
            return Ok(Vec::new());
        }
        serde_json::from_str(raw.get()).map_err(|error| format!("its {kind} are no list: {error}"))
    }
}

fn walk<'a>(kind: &'a str, list: &'a Value, inside: Option<usize>, all: &mut Vec<Found<'a>>) {
    let entities = list.as_array().into_iter().flatten().filter_map(Value::as_object);
    for entity in entities {
        let here = all.len();
        all.push(Found { kind, entity, inside });
        for (name, value) in entity {
            // A plugin's configuration is its own, a route's sources and destinations are no entities.
            let own = matches!(name.as_str(), "config" | "sources" | "destinations");
            if !own && !name.starts_with('_') {
                walk(name, value, Some(here), all);
            }
        }
    }
}

/// The texts of a list.
pub(crate) fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// What in a base cannot be beside ours, whatever ours are: a format of another Kong, names and tags that are ours.
pub(crate) fn wrong(
    reading: &Reading<'_>,
    found: &[Found<'_>],
    ours: &BTreeSet<String>,
) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    if !reading.format().is_some_and(|format| FORMATS.contains(&format)) {
        wrong.push((
            "its `_format_version` is none that Kong 3 reads".to_owned(),
            "write \"3.0\" (as a text)".to_owned(),
        ));
    }
    // Ids that Kong will make of our names.
    let made: BTreeSet<String> = ours
        .iter()
        .flat_map(|name| ["services", "routes", "upstreams"].map(|kind| ids::derived(kind, name)))
        .collect();
    for one in found {
        if one.text("name").is_some_and(|name| name.starts_with(OURS)) {
            wrong.push((
                format!("{} has a name that begins with `{OURS}`", one.called()),
                "names that begin so are Weir's own: remove it if it comes from an export, else give it another name".to_owned(),
            ));
        }
        if one.text("id").is_some_and(|id| made.contains(id)) {
            wrong.push((
                format!("{} has an id that Kong makes of a name of Weir's", one.called()),
                "remove the id, or the whole entity if it comes from an export".to_owned(),
            ));
        }
        if strings(one.entity.get("tags")).any(is_controllers) {
            wrong.push((
                format!(
                    "{} has a tag by which an ingress controller marks its own",
                    one.called()
                ),
                "remove it, if no controller keeps this Kong: where one does, nothing is posted".to_owned(),
            ));
        }
        if strings(one.entity.get("tags")).any(|tag| tag.starts_with(TAG)) {
            wrong.push((
                format!("{} has a tag that begins with `{TAG}`", one.called()),
                "tags that begin so mark what is Weir's own: remove it".to_owned(),
            ));
        }
    }
    wrong
}

/// What a person should know of a base, and that is theirs to change.
pub(crate) fn notes(found: &[Found<'_>]) -> Vec<String> {
    let told = |one: Dashed<'_>| format!("base: {}; {}", one.why(), one.help());
    dashed(found).into_iter().map(told).collect()
}

/// What of a base is told from what is not there, for [`crate::kong::may_post`].
pub(crate) fn kept(found: &[Found<'_>]) -> Kept {
    let all = found.iter().map(|one| (one.kind, one.entity, one.inside));
    let identities = Identities::of(&all.collect::<Vec<_>>());
    let mut kept = Kept::new();
    for (one, identity) in found.iter().zip(identities.0) {
        let id = one.text("id").map(str::to_owned);
        kept.entry(one.kind.to_owned())
            .or_default()
            .extend(id.into_iter().chain(identity));
    }
    kept
}

pub(crate) fn singular(kind: &str) -> &str {
    kind.strip_suffix('s').unwrap_or(kind)
}

/// A service that a split takes over.
#[derive(Debug)]
pub(crate) struct Taken {
    /// It, with another host.
    pub(crate) text: Box<RawValue>,
    /// The host that it had.
    pub(crate) host: String,
    /// Its protocol.
    pub(crate) protocol: String,
}

/// The service of this text with another host, and another port if there is one; all else of it to the last field.
///
/// # Errors
/// If it does not say its host in a way that can be changed alone.
pub(crate) fn take_over(service: &RawValue, host: &str, port: Option<u16>) -> Result<Taken, String> {
    let fields = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(service.get());
    let mut fields = fields.map_err(|error| format!("it is no service: {error}"))?;
    let text = |fields: &BTreeMap<String, Box<RawValue>>, field: &str| {
        let raw = fields.get(field)?.get().to_owned();
        serde_json::from_str::<Option<String>>(&raw).ok().flatten()
    };
    let raw = |value: Value| RawValue::from_string(value.to_string()).map_err(|error| error.to_string());
    let own = text(&fields, "host");
    if let Some(url) = text(&fields, "url") {
        if fields
            .keys()
            .any(|field| matches!(field.as_str(), "host" | "port" | "protocol" | "path"))
        {
            return Err("it says both `url` and what a `url` stands for".to_owned());
        }
        let (before, had, after) = parts_of_url(&url)
            .ok_or_else(|| format!("its url {url} is not `protocol://host[:port][/path]`"))?;
        let after = match port {
            None => after.to_owned(),
            Some(port) => {
                let path = after.find('/').map_or("", |at| &after[at..]);
                format!(":{port}{path}")
            }
        };
        let protocol = before.strip_suffix("://").unwrap_or(before).to_owned();
        let (host_before, changed) = (had.to_owned(), format!("{before}{host}{after}"));
        fields.insert("url".to_owned(), raw(changed.into())?);
        let host = host_before;
        return Ok(Taken {
            text: written(&fields)?,
            host,
            protocol,
        });
    }
    let had = own.ok_or("it says neither `host` nor `url`")?;
    let protocol = text(&fields, "protocol").unwrap_or_else(|| "http".to_owned());
    fields.insert("host".to_owned(), raw(host.into())?);
    if let Some(port) = port {
        fields.insert("port".to_owned(), raw(port.into())?);
    }
    Ok(Taken {
        text: written(&fields)?,
        host: had,
        protocol,
    })
}

/// The host of a service as it is written.
pub(crate) fn host_of(service: &RawValue) -> Option<String> {
    let fields = serde_json::from_str::<Map<String, Value>>(service.get()).ok()?;
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    let of_url = || parts_of_url(text("url")?).map(|(_, host, _)| host.to_owned());
    text("host").map(str::to_owned).or_else(of_url)
}

fn written(fields: &BTreeMap<String, Box<RawValue>>) -> Result<Box<RawValue>, String> {
    serde_json::value::to_raw_value(fields).map_err(|error| error.to_string())
}

/// `http://`, host, and the rest with its port.
fn parts_of_url(url: &str) -> Option<(&str, &str, &str)> {
    let at = url.find("://")? + 3;
    let (before, rest) = url.split_at(at);
    let known = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let end = if rest.starts_with('[') {
        rest.find(']')? + 1
    } else {
        rest.find([':', '/']).unwrap_or(rest.len())
    };
    let (host, after) = rest.split_at(end);
    let sound = rest.starts_with('[') || (!host.is_empty() && known(host));
    let port = after.split('/').next().unwrap_or_default();
    let port_is_one = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    (sound && port_is_one && before.len() > 3 && !after.contains(['?', '#'])).then_some((before, host, after))
}

/// The path characters that Kong takes for a plain path in formats below 3.0, where all else is an expression.
pub(crate) fn is_plain_before_3(path: &str) -> bool {
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_~/%".contains(&byte))
}
