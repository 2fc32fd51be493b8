//! What a peer sent and why it is not usable. Told by the field, so that the other side can be mended.

use std::fmt;

/// A message that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unusable message: {field}: {why}")]
pub struct WireError {
    field: String,
    why: String,
}

impl WireError {
    pub(crate) fn new(field: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            why: why.to_string(),
        }
    }

    /// The same, seen from the message around it.
    pub(crate) fn within(self, outer: impl fmt::Display) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            why: self.why,
        }
    }

    /// Which field, by its path: `plan.items[checkout].routes[0].weights`.
    pub fn field(&self) -> &str {
        &self.field
    }
}
