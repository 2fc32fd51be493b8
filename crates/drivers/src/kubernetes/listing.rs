//! A page of a list and a line of a watch, as an API server sends them: read whole or not at all. Pure.

use serde_json::Value;

use super::meaning;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// What is kept of an object.
pub(crate) trait Kept: Clone + Send + Sync + 'static {
    /// The kind of one object, as it comes in lists and events.
    const KIND: &'static str;
    /// From the object itself.
    fn of(document: Value) -> Self;
    /// Whether the change from one to the other is worth looking.
    fn matters(&self, before: &Self) -> bool;
}

/// One page of a list.
pub(crate) struct Page<T> {
    pub(crate) objects: Vec<(Key, T)>,
    pub(crate) version: String,
    /// Where the next page begins; none after the last.
    pub(crate) more: Option<String>,
}

impl<T: Kept> Page<T> {
    /// Whole or not at all: an object that cannot be read is no reason to go on without it.
    pub(crate) fn read(mut page: Value) -> Result<Self, String> {
        let kind = page.get("kind").and_then(Value::as_str).unwrap_or_default();
        if kind != format!("{}List", T::KIND) {
            return Err(format!("the answer is a `{kind}` and no list of {}", T::KIND));
        }
        let text = |key: &str| {
            page.pointer(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let version = text("/metadata/resourceVersion")
            .ok_or("the list has no resourceVersion")?
            .to_owned();
        let more = text("/metadata/continue").map(str::to_owned);
        let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
            return Err("the list has no items".to_owned());
        };
        let objects: Option<Vec<_>> = items
            .into_iter()
            .map(|item| Some((key(&item)?, T::of(item))))
            .collect();
        Ok(Self {
            objects: objects.ok_or("the list has an object without a name")?,
            version,
            more,
        })
    }
}

/// A namespaced or a cluster's object by name.
fn key(document: &Value) -> Option<Key> {
    let text = |key: &str| document.pointer(key).and_then(Value::as_str);
    let name = text("/metadata/name").filter(|name| !name.is_empty())?;
    Some((
        text("/metadata/namespace").unwrap_or_default().to_owned(),
        name.to_owned(),
    ))
}

/// One event of a watch.
pub(crate) enum Event<T> {
    Is(Key, T, String),
    Gone(Key, String),
    Bookmark(String),
}

/// Why an event is none.
pub(crate) enum Unreadable {
    Refused(meaning::Refusal),
    Strange(&'static str),
}

impl<T: Kept> Event<T> {
    pub(crate) fn read(line: &[u8]) -> Result<Self, Unreadable> {
        let mut event: Value =
            serde_json::from_slice(line).map_err(|_| Unreadable::Strange("an event that is not JSON"))?;
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "ERROR" {
            return Err(Unreadable::Refused(meaning::Refusal::of_event(&object)));
        }
        let version = object
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .filter(|version| !version.is_empty())
            .ok_or(Unreadable::Strange("an event without a resourceVersion"))?
            .to_owned();
        if kind == "BOOKMARK" {
            return Ok(Self::Bookmark(version));
        }
        if object.get("kind").and_then(Value::as_str) != Some(T::KIND) {
            return Err(Unreadable::Strange("an event of another kind of object"));
        }
        let key = key(&object).ok_or(Unreadable::Strange("an event of an object without a name"))?;
        match kind {
            "ADDED" | "MODIFIED" => Ok(Self::Is(key, T::of(object), version)),
            "DELETED" => Ok(Self::Gone(key, version)),
            _ => Err(Unreadable::Strange("an event of an unknown type")),
        }
    }
}

/// A `continue` token in a query: it is base64, whose `+`, `/` and `=` are not for queries.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
