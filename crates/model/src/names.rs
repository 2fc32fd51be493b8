//! Names: one RFC 1035 label type and a newtype for each thing that has a name.
//!
//! Whoever adds a kind of named thing adds its newtype here, so that a zone's name can never be
//! passed where a backend's is meant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An RFC 1035 label: 1 to 63 characters, `a-z`, `0-9` and `-`, starting with a letter, not ending in `-`.
///
/// Kuma 3 accepts only such names for meshes, zones and services, so Weir accepts nothing wider. A copy shares the text: a plan
/// of ten thousand splits is copied at every step of one of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsLabel(Arc<str>);

/// Why a string is not a [`DnsLabel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// No characters at all.
    Empty,
    /// More than 63 characters; the number found.
    TooLong(usize),
    /// A character outside `a-z0-9-`; the character and its byte offset.
    Character(char, usize),
    /// Does not begin with a letter `a-z`.
    Start,
    /// Ends in `-`.
    End,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a name must not be empty"),
            Self::TooLong(n) => write!(f, "a name has at most 63 characters, this one has {n}"),
            Self::Character(c, _) => write!(f, "`{c}` is not allowed in a name (only a-z, 0-9 and -)"),
            Self::Start => write!(f, "a name begins with a letter a-z"),
            Self::End => write!(f, "a name does not end in `-`"),
        }
    }
}

impl std::error::Error for NameError {}

impl DnsLabel {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// The first rule of RFC 1035 that the string breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if let Some((at, c)) = text
            .char_indices()
            .find(|(_, c)| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
        {
            return Err(NameError::Character(c, at));
        }
        if text.len() > 63 {
            return Err(NameError::TooLong(text.len()));
        }
        if !first.is_ascii_lowercase() {
            return Err(NameError::Start);
        }
        if text.ends_with('-') {
            return Err(NameError::End);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DnsLabel {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl FromStr for DnsLabel {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<DnsLabel> for String {
    fn from(label: DnsLabel) -> Self {
        label.0.as_ref().to_owned()
    }
}

impl fmt::Display for DnsLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DnsLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

macro_rules! named {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(DnsLabel);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// The first rule of RFC 1035 that the string breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                DnsLabel::new(text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl From<DnsLabel> for $name {
            fn from(label: DnsLabel) -> Self {
                Self(label)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

named! {
    /// The federation's name: it stands in every certificate and every plan.
    FederationName;
    /// A Kuma mesh.
    MeshName;
    /// A zone as Weir's declaration names it.
    ZoneName;
    /// A split's name; unique in the federation.
    SplitName;
    /// The name that callers use; the display name of the Kuma MeshServices behind it.
    ServiceName;
    /// One version of a service in one zone; unique in its split.
    BackendName;
    /// A route's name; unique in its split.
    RouteName;
    /// A gateway of a zone; unique in its zone.
    GatewayName;
}

/// The name of a service's port, as Kubernetes and Kuma have it: 1 to 63 characters, `a-z`, `0-9` and `-`, neither
/// starting nor ending in `-` (RFC 1123). It may begin with a digit (`8080-tcp`), which no [`DnsLabel`] may.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName(String);

/// A string is no [`PortName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNameError;

impl fmt::Display for PortNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port's name has 1 to 63 of a-z, 0-9 and `-`, no `-` first or last")
    }
}

impl std::error::Error for PortNameError {}

impl PortName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// If the string is no RFC 1123 label.
    pub fn new(text: impl Into<String>) -> Result<Self, PortNameError> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let sound = (1..=63).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if sound { Ok(Self(text)) } else { Err(PortNameError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PortName {
    type Error = PortNameError;
    fn try_from(text: String) -> Result<Self, PortNameError> {
        Self::new(text)
    }
}

impl FromStr for PortName {
    type Err = PortNameError;
    fn from_str(text: &str) -> Result<Self, PortNameError> {
        Self::new(text)
    }
}

impl From<PortName> for String {
    fn from(name: PortName) -> Self {
        name.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
