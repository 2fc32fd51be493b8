//! What Kuma finds wrong with an object that is written, but for its spec (`validate`): its shape, its name and its labels.

use serde_json::Value;

use crate::double::store::{Kind, Mode, ORIGIN, Store, ZONE};
use crate::double::validate::{Fault, fault, type_name};

pub(super) fn labels(given: &Value) -> Vec<(String, String)> {
    let all = given["labels"].as_object().into_iter().flatten();
    all.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

pub(super) fn shape(given: &Value, kind: Kind) -> Vec<Fault> {
    let mut faults = Vec::new();
    let required: &[&str] = if kind.in_mesh() && kind != Kind::Dataplane {
        &["type", "name", "spec"]
    } else {
        &["type", "name"]
    };
    for key in required {
        match given.get(*key) {
            None => faults.push(fault("", format!(".{key} in body is required"))),
            Some(Value::Null) => {
                let wanted = if *key == "spec" { "object" } else { "string" };
                faults.push(fault(
                    "",
                    format!("{key} in body must be of type {wanted}: \"null\""),
                ));
            }
            Some(_) => {}
        }
    }
    if given.get("type").is_some_and(|t| *t != kind.name()) {
        let reason = format!("type in body should be one of [{}]", kind.name());
        faults.push(fault("", reason));
    }
    for (key, value) in given["labels"].as_object().into_iter().flatten() {
        if !value.is_string() {
            let reason = format!(
                "labels.{key} in body must be of type string: \"{}\"",
                type_name(value)
            );
            faults.push(fault("", reason));
        }
    }
    faults
}

pub(super) fn meaning(store: &Store, given: &Value, kind: Kind, mesh: &str, name: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let same = |key: &str, url: &str| given[key].as_str().is_none_or(|body| body == url);
    for (key, url) in [("name", name), ("mesh", mesh)] {
        if !same(key, url) {
            faults.push(fault(
                key,
                format!("{key} from the URL has to be the same as in body"),
            ));
        }
    }
    if !faults.is_empty() {
        origin(store, &labels(given), kind, &mut faults);
        return faults;
    }
    let own = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let word =
        |part: &str| part.starts_with(own) && part.ends_with(own) && part.chars().all(|c| own(c) || c == '-');
    if let Mode::Zone(zone) = &store.mode
        && zone.len() + 1 + name.len() >= 253
    {
        faults.push(fault("name", "the length of the name must be shorter"));
    }
    if name.len() > 253 {
        faults.push(fault("name", "value length must less or equal 253"));
    } else if !name.split('.').all(word) {
        let reason = "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                      characters, '-' or '.', and must start and end with an alphanumeric character";
        faults.push(fault("name", reason));
    }
    let labels = labels(given);
    for (key, value) in &labels {
        let at = format!("labels[\"{key}\"]");
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.ends_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(inner)
        };
        let key_name = key.rsplit('/').next().unwrap_or(key);
        if !fits(key_name) {
            let reason = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                          with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                          validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
            faults.push(fault(&at, reason));
        }
        if value.len() > 63 {
            faults.push(fault(at, "must be no more than 63 bytes"));
        } else if !value.is_empty() && !fits(value) {
            let reason = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                          '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value', \
                          \x20or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
            faults.push(fault(at, reason));
        }
    }
    let label = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    origin(store, &labels, kind, &mut faults);
    if let (Mode::Zone(zone), Some(given)) = (&store.mode, label(ZONE))
        && given != zone
    {
        let reason = format!("{ZONE} label should have {zone} value");
        faults.push(fault(format!("labels[\"{ZONE}\"]"), reason));
    }
    if label("kuma.io/mesh").is_some_and(|m| m != mesh) {
        let reason = "kuma.io/mesh label must not differ from mesh set on resource";
        faults.push(fault("labels[\"kuma.io/mesh\"]", reason));
    }
    faults
}

/// What is wrong with the label that says where an object was written.
fn origin(store: &Store, labels: &[(String, String)], kind: Kind, faults: &mut Vec<Fault>) {
    let origin = labels
        .iter()
        .find(|(key, _)| key == ORIGIN)
        .map(|(_, value)| value.as_str());
    let at = format!("labels[\"{ORIGIN}\"]");
    if let Some(origin) = origin.filter(|o| !matches!(*o, "zone" | "global")) {
        faults.push(fault(&at, format!("unknown resource origin \"{origin}\"")));
    }
    let wanted = wanted_origin(store);
    if kind.is_policy() && origin != Some(wanted) && (wanted == "zone" || origin.is_some()) {
        faults.push(fault(&at, format!("the origin label must be set to '{wanted}'")));
    }
}

pub(super) fn wanted_origin(store: &Store) -> &'static str {
    if store.mode == Mode::Global {
        "global"
    } else {
        "zone"
    }
}
