//! What a KongUpstreamPolicy makes of an upstream: its fields are Kong's, by other names, and are given on as they are.

use serde_json::{Map, Value};

/// The ways to hash that are named, with the field of Kong's that has the name.
const NAMED: [(&str, &str); 4] = [
    ("header", "header"),
    ("cookie", "cookie"),
    ("queryArg", "query_arg"),
    ("uriCapture", "uri_capture"),
];

/// Puts what a policy's `spec` says into an upstream; what it does not say stays as it is.
pub(super) fn put(spec: &Value, upstream: &mut Value) {
    for field in ["algorithm", "slots"] {
        if let Some(value) = spec.get(field) {
            upstream[field] = value.clone();
        }
    }
    for (on, field) in [("hashOn", "hash_on"), ("hashOnFallback", "hash_fallback")] {
        if let Some(hash) = spec.get(on) {
            hashed(hash, field, upstream);
        }
    }
    if let Some(checks) = spec.get("healthchecks") {
        upstream["healthchecks"] = in_kongs_words(checks);
    }
}

fn hashed(hash: &Value, on: &str, upstream: &mut Value) {
    if let Some(input) = hash.get("input") {
        upstream[on] = input.clone();
    }
    for (theirs, field) in NAMED {
        if let Some(name) = hash.get(theirs) {
            upstream[on] = field.into();
            upstream[format!("{on}_{field}")] = name.clone();
        }
    }
    if let Some(path) = hash.get("cookiePath") {
        upstream[format!("{on}_cookie_path")] = path.clone();
    }
}

/// `httpStatuses` is `http_statuses` to Kong; names of headers are names.
fn in_kongs_words(of: &Value) -> Value {
    let Value::Object(fields) = of else {
        return of.clone();
    };
    let mut found = Map::new();
    for (name, value) in fields {
        let value = match name.as_str() {
            "headers" => value.clone(),
            _ => in_kongs_words(value),
        };
        found.insert(in_snake_case(name), value);
    }
    found.into()
}

fn in_snake_case(name: &str) -> String {
    let mut made = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            made.push('_');
        }
        made.push(letter.to_ascii_lowercase());
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_policy_says_is_the_upstreams_and_the_rest_stays() {
        let made = |spec: Value| {
            let mut upstream = json!({"name": "a", "algorithm": "round-robin"});
            put(&spec, &mut upstream);
            upstream
        };
        assert_eq!(made(json!({})), json!({"name": "a", "algorithm": "round-robin"}));
        assert_eq!(
            made(json!({
                "algorithm": "consistent-hashing", "slots": 100, "hashOn": {"header": "X-User"}, "hashOnFallback": {"input": "ip"},
            })),
            json!({
                "name": "a", "algorithm": "consistent-hashing", "slots": 100, "hash_on": "header", "hash_on_header": "X-User",
                "hash_fallback": "ip",
            })
        );
        assert_eq!(
            made(json!({"algorithm": "consistent-hashing", "hashOn": {"cookie": "c", "cookiePath": "/"}})),
            json!({
                "name": "a", "algorithm": "consistent-hashing", "hash_on": "cookie", "hash_on_cookie": "c", "hash_on_cookie_path": "/",
            })
        );
        assert_eq!(
            made(json!({"healthchecks": {
                "threshold": 10,
                "active": {"httpsSni": "a", "headers": {"X-Probe": ["a"]}, "unhealthy": {"tcpFailures": 1, "httpStatuses": [500]}},
                "passive": {"healthy": {"successes": 2}},
            }})),
            json!({"name": "a", "algorithm": "round-robin", "healthchecks": {
                "threshold": 10,
                "active": {"https_sni": "a", "headers": {"X-Probe": ["a"]}, "unhealthy": {"tcp_failures": 1, "http_statuses": [500]}},
                "passive": {"healthy": {"successes": 2}},
            }})
        );
    }
}
