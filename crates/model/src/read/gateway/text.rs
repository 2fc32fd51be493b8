//! Texts that Kong matches requests by, each by its rule: hosts, names that TLS clients ask for, paths, methods and values.

use std::collections::BTreeSet;

use crate::codes;
use crate::gateway::dns_name;
use crate::limits;
use crate::reader::{Reader, shown};
use crate::shape::METHODS;
use crate::yaml::{Entry, Node, Value};

/// A list of texts, each once, each by its rule: its form that is kept, or what is wrong with it.
pub(super) fn texts(
    reader: &mut Reader<'_>,
    entry: Option<&Entry>,
    what: &str,
    rule: fn(&str) -> Result<String, &'static str>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Some(entry) = entry else { return found };
    let Some(items) = reader.list(&entry.value, what, limits::ENTRIES) else {
        return found;
    };
    if items.is_empty() {
        reader.error(
            codes::EMPTY,
            &entry.key_span,
            format!("{what} is empty"),
            "nothing here",
            "remove it, or name at least one",
        );
    }
    for item in items {
        let Some(text) = reader.text(item, &format!("an entry of {what}")) else {
            continue;
        };
        match rule(text) {
            Ok(text) if !found.contains(&text) => {
                found.insert(text);
            }
            Ok(_) => bad(reader, item, "this stands twice"),
            Err(why) => bad(reader, item, why),
        }
    }
    found
}

pub(super) fn bad(reader: &mut Reader<'_>, node: &Node, why: &'static str) {
    let text = node.scalar().map(|_| match &node.value {
        Value::Scalar { text, .. } => shown(text),
        _ => String::new(),
    });
    reader.error(
        codes::BAD_ENTRY,
        &node.span,
        format!("`{}` cannot be matched by Kong", text.unwrap_or_default()),
        why,
        "write it as Kong has it in its routes",
    );
}

/// At most one `*`, as the first or the last label.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "a host is a DNS name; a `*` may stand for its first or its last label";
    let lower = text.to_ascii_lowercase();
    let inner = lower.strip_prefix("*.").or_else(|| lower.strip_suffix(".*"));
    let name = inner.unwrap_or(&lower);
    let sound = dns_name(name).is_some() && !name.ends_with('.') && !name.contains('*');
    if sound { Ok(lower) } else { Err(WRONG) }
}

/// One name: what a client asks for has neither `*` nor a port.
pub(super) fn sni(text: &str) -> Result<String, &'static str> {
    let name = dns_name(text).filter(|_| !text.ends_with('.'));
    name.ok_or("a name that a TLS client asks for is a DNS name, without `*` and without a port")
}

/// A plain prefix in its normal form; Kong's regular expressions (`~/…`) are not ours.
pub(super) fn path(text: &str) -> Result<String, &'static str> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%:@!$&'()*+,;=".contains(&b);
    let escapes = text.match_indices('%').all(|(at, _)| {
        let digits = text.get(at + 1..at + 3);
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // What needs no escape has its normal form without one, and Kong takes no other.
        code.is_some_and(|code| !code.is_ascii_alphanumeric() && !b"-._~".contains(&code))
    });
    if !text.starts_with('/') {
        Err("a path begins with `/`; regular expressions are not taken here")
    } else if text.len() > limits::TEXT || !text.bytes().all(legal) || !escapes {
        Err("a path has letters, digits, -._~/:@!$&'()*+,;= and `%XX` for what is none of them")
    } else if text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        Err("a path is in its normal form: no `//`, no `.` and no `..` between slashes")
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn method(text: &str) -> Result<String, &'static str> {
    if METHODS.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err("a method is GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH")
    }
}

pub(super) fn value(text: &str) -> Result<String, &'static str> {
    let visible = |c: char| !c.is_control();
    if text.starts_with("~*") {
        Err("a value that begins with `~*` is a regular expression to Kong")
    } else if text.is_empty() || text.len() > limits::TEXT || !text.chars().all(visible) {
        Err("a value is text without control characters")
    } else {
        Ok(text.to_owned())
    }
}
