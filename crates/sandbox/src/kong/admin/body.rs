//! What a request brings: JSON, forms, files in forms, queries.

use http::Method;
use serde_json::Value;

use super::super::refusal::{Answer, Refused};
use super::super::schema::Object;
use super::Asked;

/// The fields of a body.
#[derive(Debug, Default)]
pub(super) struct Params {
    /// By name.
    pub(super) fields: Object,
    /// Whether they came as JSON, and have types.
    pub(super) json: bool,
}

/// Refuses bodies of a type that is not read here.
pub(super) fn check_type(asked: &Asked, yaml: bool) -> Result<(), Refused> {
    if !matches!(asked.method, Method::PUT | Method::POST | Method::PATCH) {
        return Ok(());
    }
    let begins = |with: &str| {
        asked
            .content_type
            .as_deref()
            .is_some_and(|kind| kind.starts_with(with))
    };
    let known = match &asked.content_type {
        None => asked.body.is_empty(),
        Some(_) => {
            [
                "application/json",
                "multipart/form-data",
                "application/x-www-form-urlencoded",
            ]
            .into_iter()
            .any(begins)
                || yaml && ["application/yaml", "text/yaml"].into_iter().any(begins)
        }
    };
    if known {
        Ok(())
    } else {
        Err(Answer::page(415, "415 Unsupported Media Type"))
    }
}

impl Params {
    pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Self, Refused> {
        let kind = content_type.unwrap_or_default();
        if kind.starts_with("application/json") {
            let wrong = || Answer::message(400, "Cannot parse JSON body");
            return match serde_json::from_slice(body) {
                Ok(Value::Object(fields)) => Ok(Self { fields, json: true }),
                _ => Err(wrong()),
            };
        }
        let fields = if kind.starts_with("multipart/form-data") {
            let boundary = kind
                .split(';')
                .find_map(|part| part.trim().strip_prefix("boundary="));
            parts(body, boundary.unwrap_or_default().trim_matches('"'))
        } else if kind.starts_with("application/x-www-form-urlencoded") {
            pairs(&String::from_utf8_lossy(body))
        } else {
            Vec::new()
        };
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        Ok(Self { fields, json: false })
    }
}

/// The parts of a `multipart/form-data` body: names and contents, to the byte.
fn parts(body: &[u8], boundary: &str) -> Vec<(String, String)> {
    let mark = format!("--{boundary}");
    let find = |from: usize, what: &[u8]| {
        let rest = body.get(from..)?;
        rest.windows(what.len())
            .position(|window| window == what)
            .map(|at| from + at)
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = find(at, mark.as_bytes()) {
        let begin = begin + mark.len();
        let (Some(head), Some(end)) = (
            find(begin, b"\r\n\r\n"),
            find(begin, format!("\r\n{mark}").as_bytes()),
        ) else {
            break;
        };
        let text = String::from_utf8_lossy(body.get(begin..head).unwrap_or_default());
        let name = text
            .split("name=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let content = body.get(head + 4..end).unwrap_or_default();
        if let Some(name) = name {
            found.push((name.to_owned(), String::from_utf8_lossy(content).into_owned()));
        }
        at = end + 2;
    }
    found
}

/// Names and values of a query or of a form.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let all = text.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (
            decoded(&name.replace('+', " ")),
            decoded(&value.replace('+', " ")),
        )
    };
    all.map(pair).collect()
}

/// Without percent codes.
pub(super) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        rest = match (first, code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                &more[2..]
            }
            (byte, _) => {
                out.push(*byte);
                more
            }
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}
