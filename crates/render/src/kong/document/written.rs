//! A document as it is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use serde_json::value::RawValue;
use weir_model::sabotaged;

use super::{FORMAT, Prepared};

impl Prepared<'_> {
    /// Canonical JSON: what the base has as it is there, ours after it.
    pub(super) fn write(&self, mut upstreams: Vec<Value>) -> Result<String, String> {
        upstreams.sort_by_key(|upstream| upstream["name"].to_string());
        let mut parts: BTreeMap<&str, String> = BTreeMap::new();
        if let Some(reading) = &self.reading {
            let theirs = reading.parts.iter();
            parts.extend(theirs.map(|(name, text)| (name.as_str(), text.get().to_owned())));
        }
        parts
            .entry("_format_version")
            .or_insert_with(|| format!("\"{FORMAT}\""));
        let all = [
            ("plugins", &self.plugins),
            ("services", &self.services),
            ("upstreams", &upstreams),
        ];
        for (kind, ours) in all {
            if ours.is_empty() && (kind != "services" || self.taken.is_empty()) {
                continue;
            }
            let theirs = match &self.reading {
                Some(reading) if !sabotaged("lose-the-base") => reading.list(kind)?,
                _ => Vec::new(),
            };
            let mut texts: Vec<String> = Vec::new();
            for text in theirs {
                let other = (kind == "services").then(|| name_of(text)).flatten();
                let other = other.and_then(|name| self.taken.get(&name));
                texts.push(other.map_or(text.get(), |other| other.get()).to_owned());
            }
            texts.extend(ours.iter().map(Value::to_string));
            parts.insert(kind, format!("[{}]", texts.join(",")));
        }
        let mut text = String::new();
        for (name, part) in parts {
            let before = if text.is_empty() { '{' } else { ',' };
            // Writing to a text does not fail.
            let _ = write!(text, "{before}{}:{part}", Value::from(name));
        }
        text.push('}');
        Ok(text)
    }
}

/// The name of an entity.
pub(super) fn name_of(text: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: Option<String>,
    }
    serde_json::from_str::<Named>(text.get()).ok()?.name
}
