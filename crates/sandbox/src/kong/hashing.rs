//! What a request is hashed by, with Kong's traps: a header with a dash is never found, and what is not found is `""`,
//! which is one key and goes to one target.

use std::net::IpAddr;

use http::request::Parts;
use serde_json::Value;

use crate::random_id;

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The value.
    pub(super) value: String,
    /// The cookie to set, where the key is one and the caller had none.
    pub(super) cookie: Option<String>,
}

/// The key of a request, if its upstream hashes.
pub(super) fn key(upstream: &Value, head: &Parts, from: IpAddr) -> Option<Key> {
    if upstream["algorithm"] != "consistent-hashing" {
        return None;
    }
    let found =
        value(upstream, "hash_on", head, from).or_else(|| value(upstream, "hash_fallback", head, from));
    Some(found.unwrap_or(Key {
        value: String::new(),
        cookie: None,
    }))
}

fn value(upstream: &Value, on: &str, head: &Parts, from: IpAddr) -> Option<Key> {
    let named = |suffix: &str| upstream[format!("{on}_{suffix}")].as_str();
    let plain = |value: &str| Key {
        value: value.to_owned(),
        cookie: None,
    };
    match upstream[on].as_str()? {
        "ip" => Some(plain(&from.to_string())),
        "path" => Some(plain(head.uri.path())),
        "header" => {
            // Kong 3.9 looks for a name that it made of the header's, dashes to underscores: one with a dash is not found.
            let wanted = named("header")?.to_ascii_lowercase();
            let name = |name: &http::HeaderName| name.as_str().replace('-', "_");
            let found = head
                .headers
                .iter()
                .find(|(have, _)| !wanted.contains('-') && name(have) == wanted);
            found.and_then(|(_, value)| value.to_str().ok()).map(plain)
        }
        "query_arg" => {
            let wanted = named("query_arg")?;
            let mut pairs = head
                .uri
                .query()?
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| plain(value))
        }
        "cookie" => {
            let wanted = upstream["hash_on_cookie"].as_str()?;
            let sent = head
                .headers
                .get(http::header::COOKIE)
                .and_then(|cookie| cookie.to_str().ok());
            let mut sent = sent
                .unwrap_or_default()
                .split(';')
                .filter_map(|pair| pair.trim().split_once('='));
            if let Some((_, value)) = sent.find(|(name, _)| *name == wanted) {
                return Some(plain(value));
            }
            let (value, path) = (
                random_id(),
                upstream["hash_on_cookie_path"].as_str().unwrap_or("/"),
            );
            // Not `SameSite`: browsers overlook it.
            let cookie = format!("{wanted}={value}; Path={path}; Same-Site=Lax; HttpOnly");
            Some(Key {
                value,
                cookie: Some(cookie),
            })
        }
        _ => None,
    }
}
