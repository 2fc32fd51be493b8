//! What must hold between the fields of an entity.

use serde_json::{Value, json};

use super::super::schema::{Object, quoted};

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(all)) => all.is_empty(),
        Some(Value::Object(all)) => all.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

fn entity_error(errors: &mut Object, message: String) {
    let all = errors.entry("@entity").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.push(message.into());
    }
}

fn failed_condition(errors: &mut Object, on: &str, field: &str, message: &str) {
    errors.insert(field.into(), message.into());
    entity_error(
        errors,
        format!("failed conditional validation given value of field '{on}'"),
    );
}

pub(super) fn hashes(object: &Object, errors: &mut Object) {
    let get = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("none");
    let (on, fallback) = (get("hash_on"), get("hash_fallback"));
    let needs: &[(&str, &str, &str)] = &[
        ("hash_on", "header", "hash_on_header"),
        ("hash_fallback", "header", "hash_fallback_header"),
        ("hash_on", "cookie", "hash_on_cookie"),
        ("hash_fallback", "cookie", "hash_on_cookie"),
        ("hash_on", "query_arg", "hash_on_query_arg"),
        ("hash_fallback", "query_arg", "hash_fallback_query_arg"),
        ("hash_on", "uri_capture", "hash_on_uri_capture"),
        ("hash_fallback", "uri_capture", "hash_fallback_uri_capture"),
    ];
    for (field, value, needed) in needs {
        if get(field) == *value && is_empty(object.get(*needed)) {
            failed_condition(errors, field, needed, "required field missing");
        }
    }
    if matches!(on, "none" | "cookie") && fallback != "none" {
        failed_condition(errors, "hash_on", "hash_fallback", "expected one of: none");
    } else if matches!(on, "consumer" | "ip" | "path") && fallback == on {
        let others: &[&str] = match on {
            "consumer" => &[
                "none",
                "ip",
                "header",
                "cookie",
                "path",
                "query_arg",
                "uri_capture",
            ],
            "ip" => &[
                "none",
                "consumer",
                "header",
                "cookie",
                "path",
                "query_arg",
                "uri_capture",
            ],
            _ => &[
                "none",
                "consumer",
                "header",
                "cookie",
                "query_arg",
                "ip",
                "uri_capture",
            ],
        };
        let message = format!("expected one of: {}", others.join(", "));
        failed_condition(errors, "hash_on", "hash_fallback", &message);
    }
    for pair in [
        ["hash_on_header", "hash_fallback_header"],
        ["hash_on_query_arg", "hash_fallback_query_arg"],
        ["hash_on_uri_capture", "hash_fallback_uri_capture"],
    ] {
        let (first, second) = (object.get(pair[0]), object.get(pair[1]));
        if !is_empty(first) && first == second {
            let names = quoted(&pair);
            entity_error(
                errors,
                format!("values of these fields must be distinct: {names}"),
            );
        }
    }
}

pub(super) fn protocol(object: &Object, errors: &mut Object) {
    let protocol = object.get("protocol").and_then(Value::as_str).unwrap_or_default();
    let mut must_be_null: Vec<&str> = Vec::new();
    if matches!(protocol, "tcp" | "tls" | "udp" | "grpc" | "grpcs") {
        must_be_null.push("path");
    }
    if !matches!(protocol, "https" | "tls") {
        must_be_null.extend([
            "client_certificate",
            "tls_verify",
            "tls_verify_depth",
            "ca_certificates",
        ]);
    }
    for name in must_be_null {
        if object.get(name).is_some_and(|value| !value.is_null()) {
            failed_condition(errors, "protocol", name, "value must be null");
        }
    }
}

pub(super) fn route(object: &Object, errors: &mut Object) {
    let protocols: Vec<&str> = match object.get("protocols") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let any = |names: &[&str]| names.iter().any(|name| !is_empty(object.get(*name)));
    let tls = |p: &&str| matches!(*p, "grpcs" | "https" | "tls" | "tls_passthrough");
    if !protocols.iter().any(tls) && any(&["snis"]) {
        errors.insert("snis".into(), "length must be 0".into());
        let message =
            "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'";
        entity_error(errors, message.to_owned());
    }
    let (needs, forbidden, of): (&[&str], &[&str], &str) = match protocols.first().copied() {
        Some("http" | "https") if protocols.contains(&"https") => (
            &["methods", "hosts", "headers", "paths", "snis"],
            &["sources", "destinations"],
            "'https'",
        ),
        Some("http" | "https") => (
            &["methods", "hosts", "headers", "paths"],
            &["sources", "destinations"],
            "'http'",
        ),
        Some("grpc" | "grpcs") if protocols.contains(&"grpcs") => (
            &["hosts", "headers", "paths", "snis"],
            &["methods", "sources", "destinations"],
            "'grpcs'",
        ),
        Some("grpc" | "grpcs") => (
            &["hosts", "headers", "paths"],
            &["methods", "sources", "destinations"],
            "'grpc'",
        ),
        _ => (
            &["sources", "destinations", "snis"],
            &["methods", "hosts", "paths", "headers"],
            "'tcp', 'tls' or 'udp'",
        ),
    };
    let family = match protocols.first().copied() {
        Some("http" | "https") => "'http' or 'https'",
        Some("grpc" | "grpcs") => "'grpc' or 'grpcs'",
        _ => "'tcp', 'tls', 'tls_passthrough' or 'udp'",
    };
    for name in forbidden {
        if object.get(*name).is_some_and(|value| !value.is_null()) {
            let message = format!("cannot set '{name}' when 'protocols' is {family}");
            errors.insert((*name).into(), message.into());
        }
    }
    let is_grpc = matches!(protocols.first(), Some(&("grpc" | "grpcs")));
    if is_grpc && object.get("strip_path") == Some(&Value::Bool(true)) {
        let message = format!("cannot set 'strip_path' when 'protocols' is {family}");
        errors.insert("strip_path".into(), message.into());
    }
    if !any(needs) {
        let message = format!("must set one of {} when 'protocols' is {of}", quoted(needs));
        entity_error(errors, message);
    }
    let headers = object.get("headers").and_then(Value::as_object);
    let empty = |values: &Value| values.as_array().is_some_and(Vec::is_empty);
    if headers.is_some_and(|all| all.values().any(empty)) {
        let message = "Router Expression failed validation: a header without values is no expression";
        entity_error(errors, message.to_owned());
    }
}
