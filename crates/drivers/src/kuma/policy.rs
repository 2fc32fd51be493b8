//! Policies as the control plane serves them: whose they are, and what they say. The one place that reads our labels back.

use jiff::Timestamp;
use serde_json::Value;
use weir_model::FederationName;
use weir_planner::Generation;
use weir_render::{Form, Object};

/// Whose a live policy is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Owner {
    /// Carries our mark: federation and split.
    Ours {
        object: Object,
        /// 0 if the label cannot be read: anything is newer.
        generation: Generation,
        /// The split of its label.
        split: String,
    },
    /// Somebody else's; with what tells whose.
    Foreign(String),
}

/// A label of a document of either form.
pub(crate) fn label<'a>(document: &'a Value, key: &str) -> Option<&'a str> {
    let labels = document
        .get("labels")
        .or_else(|| document.pointer("/metadata/labels"))?;
    labels.get(key)?.as_str()
}

/// When it was last written, by the control plane's clock. On Universal it moves at every write.
pub(crate) fn modified(document: &Value) -> Option<Timestamp> {
    document.get("modificationTime")?.as_str()?.parse().ok()
}

/// Shadow policies change nothing.
pub(crate) fn is_shadow(document: &Value) -> bool {
    label(document, "kuma.io/effect") == Some("shadow")
}

/// Whose it is.
pub(crate) fn owner(document: &Value, federation: &FederationName, form: &Form) -> Owner {
    let split = match (
        label(document, "weir.dev/federation"),
        label(document, "weir.dev/split"),
    ) {
        (Some(whose), Some(split)) if whose == federation.as_str() => split,
        (Some(whose), _) if whose != federation.as_str() => {
            return Owner::Foreign(format!("it belongs to the Weir federation {whose}"));
        }
        _ => {
            return Owner::Foreign(format!(
                "it does not carry Weir's labels; its origin is {}",
                label(document, "kuma.io/origin").unwrap_or("unknown")
            ));
        }
    };
    // A copy that another zone's or the global control plane sent here is not this zone's object.
    if label(document, "kuma.io/origin") != Some("zone") {
        return Owner::Foreign("it carries Weir's labels but is not of zone origin".to_owned());
    }
    // Labels go along when somebody copies a policy to try something; the name tells whether it is the one that was written.
    let name = document
        .get("name")
        .or_else(|| document.pointer("/metadata/name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.strip_prefix("weir-") != Some(split) {
        return Owner::Foreign(format!(
            "it carries the labels of the split {split}, but not its name weir-{split}: a copy"
        ));
    }
    let generation = label(document, "weir.dev/generation")
        .and_then(|text| text.parse().ok())
        .map_or(Generation(0), Generation);
    match weir_render::from_document(document, form) {
        Ok(object) => Owner::Ours {
            object,
            generation,
            split: split.to_owned(),
        },
        Err(why) => Owner::Foreign(format!("it carries Weir's labels but cannot be read: {why}")),
    }
}
