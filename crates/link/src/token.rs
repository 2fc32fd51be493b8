//! Tokens as text. What they are worth is the coordinator's ledger's to say (`tokens.rs` there).
//!
//! Agent: `weir-a-<id>-<secret>-<fingerprint>`, spent once to join one zone; its last part is the first half of the
//! SHA-256 of the certificate authority, so that a joining agent knows whom it talks to. Viewer: `weir-v-<id>-<secret>`.
//! Operator: `weir-o-<id>-<secret>`; who has it may order as well as read.

use std::fmt;
use std::str::FromStr;

use crate::tls::Fingerprint;

/// Why a text is not a token. Never shows the text: part of it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing.
    #[error("the token is empty")]
    Empty,
    /// Another beginning.
    #[error(
        "this is not a Weir token: one begins with `weir-a-` (to join), `weir-v-` (to read) or `weir-o-` (to order)"
    )]
    Foreign,
    /// A viewer's token where an agent's belongs.
    #[error(
        "this is a viewer's token (`weir-v-`), which cannot join a zone: `weir-coordinator token create --zone <zone>` makes one that can"
    )]
    Viewer,
    /// An agent's token where a viewer's belongs.
    #[error(
        "this is an agent's token (`weir-a-`), which cannot read: `weir-coordinator token create --viewer <name>` makes one that can"
    )]
    Agent,
    /// An operator's token where an agent's belongs.
    #[error(
        "this is an operator's token (`weir-o-`), which cannot join a zone: `weir-coordinator token create --zone <zone>` makes one that can"
    )]
    Operator,
    /// Cut off, or mixed up.
    #[error(
        "the token is damaged (a part is missing, or holds characters that no token has): copy it again, whole"
    )]
    Damaged,
}

/// The id of a token: 8 lower hex digits. No secret.
pub fn is_id(text: &str) -> bool {
    text.len() == 8
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_secret(text: &str) -> bool {
    (32..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

/// Lets an agent join a zone, once. `Display` shows the secret, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentToken {
    id: String,
    secret: String,
    authority: Fingerprint,
}

impl AgentToken {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`TokenError::Damaged`] if a part breaks its form.
    pub fn new(id: &str, secret: &str, authority: Fingerprint) -> Result<Self, TokenError> {
        if !is_id(id) || !is_secret(secret) {
            return Err(TokenError::Damaged);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            authority,
        })
    }

    /// Its id; no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The certificate authority that the coordinator must show.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }
}

impl FromStr for AgentToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.starts_with("weir-v-") {
            return Err(TokenError::Viewer);
        }
        if text.starts_with("weir-o-") {
            return Err(TokenError::Operator);
        }
        let rest = text.strip_prefix("weir-a-").ok_or(TokenError::Foreign)?;
        let parts: Vec<&str> = rest.split('-').collect();
        match parts.as_slice() {
            [id, secret, authority] => {
                Self::new(id, secret, authority.parse().map_err(|_| TokenError::Damaged)?)
            }
            _ => Err(TokenError::Damaged),
        }
    }
}

impl fmt::Display for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir-a-{}-{}-{}", self.id, self.secret, self.authority)
    }
}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir-a-{}-…", self.id)
    }
}

/// Lets a person or a script read the HTTP API. `Display` shows the secret, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct ViewerToken {
    id: String,
    secret: String,
}

impl ViewerToken {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`TokenError::Damaged`] if a part breaks its form.
    pub fn new(id: &str, secret: &str) -> Result<Self, TokenError> {
        if !is_id(id) || !is_secret(secret) {
            return Err(TokenError::Damaged);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// Its id; no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl FromStr for ViewerToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.starts_with("weir-a-") {
            return Err(TokenError::Agent);
        }
        let rest = text.strip_prefix("weir-v-").ok_or(TokenError::Foreign)?;
        match rest.split_once('-') {
            Some((id, secret)) => Self::new(id, secret),
            None => Err(TokenError::Damaged),
        }
    }
}

impl fmt::Display for ViewerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir-v-{}-{}", self.id, self.secret)
    }
}

impl fmt::Debug for ViewerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir-v-{}-…", self.id)
    }
}

/// What a person or a script shows to the HTTP API. `Display` shows the secret, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub enum PersonToken {
    /// It may read.
    Viewer(ViewerToken),
    /// It may read and order.
    Operator(OperatorToken),
}

/// Lets a person or a script order over the HTTP API, and read it. `Display` shows the secret, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken(ViewerToken);

impl OperatorToken {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`TokenError::Damaged`] if a part breaks its form.
    pub fn new(id: &str, secret: &str) -> Result<Self, TokenError> {
        ViewerToken::new(id, secret).map(Self)
    }

    /// Its id; no secret.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Its secret.
    pub fn secret(&self) -> &str {
        self.0.secret()
    }
}

impl fmt::Display for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir-o-{}-{}", self.id(), self.secret())
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir-o-{}-…", self.id())
    }
}

impl FromStr for PersonToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let Some(rest) = text.trim().strip_prefix("weir-o-") else {
            return text.parse().map(Self::Viewer);
        };
        match rest.split_once('-') {
            Some((id, secret)) => OperatorToken::new(id, secret).map(Self::Operator),
            None => Err(TokenError::Damaged),
        }
    }
}

impl fmt::Display for PersonToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Viewer(token) => token.fmt(f),
            Self::Operator(token) => token.fmt(f),
        }
    }
}

impl fmt::Debug for PersonToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Viewer(token) => token.fmt(f),
            Self::Operator(token) => token.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "weir-a-0123abcd-abcdefghijklmnopqrstuvwxyz012345-00112233445566778899aabbccddeeff";

    #[test]
    fn a_token_survives_its_text_and_hides_in_logs() {
        let token: AgentToken = format!(" {AGENT}\n").parse().unwrap();
        assert_eq!(token.to_string(), AGENT);
        assert_eq!(format!("{token:?}"), "weir-a-0123abcd-…");
        let viewer: ViewerToken = "weir-v-0123abcd-abcdefghijklmnopqrstuvwxyz012345"
            .parse()
            .unwrap();
        assert_eq!(format!("{viewer:?}"), "weir-v-0123abcd-…");
        for text in [
            "weir-v-0123abcd-abcdefghijklmnopqrstuvwxyz012345",
            "weir-o-0123abcd-abcdefghijklmnopqrstuvwxyz012345",
        ] {
            let person: PersonToken = format!(" {text}\n").parse().unwrap();
            assert_eq!(person.to_string(), text);
            assert_eq!(format!("{person:?}"), format!("{}-…", &text[..15]));
            assert_eq!(
                matches!(person, PersonToken::Operator(_)),
                text.starts_with("weir-o")
            );
        }
    }

    #[test]
    fn each_wrong_token_says_what_is_wrong_with_it() {
        let agent = |text: &str| text.parse::<AgentToken>().unwrap_err();
        assert_eq!(agent(""), TokenError::Empty);
        assert_eq!(agent("glpat-x"), TokenError::Foreign);
        assert_eq!(agent("weir-v-0123abcd-x"), TokenError::Viewer);
        assert_eq!(agent(&AGENT[..60]), TokenError::Damaged);
        assert_eq!(
            agent(&AGENT.to_uppercase().replace("WEIR-A", "weir-a")),
            TokenError::Damaged
        );
        assert_eq!(AGENT.parse::<ViewerToken>().unwrap_err(), TokenError::Agent);
        assert_eq!(AGENT.parse::<PersonToken>().unwrap_err(), TokenError::Agent);
        assert_eq!(agent("weir-o-0123abcd-x"), TokenError::Operator);
        let operator = "weir-o-0123abcd-abcdefghijklmnopqrstuvwxyz012345";
        assert_eq!(operator.parse::<ViewerToken>().unwrap_err(), TokenError::Foreign);
        for damaged in [
            "weir-o-",
            "weir-o-0123abcd",
            "weir-o-0123abcd-short",
            "weir-o-0123ABCD-abcdefghijklmnopqrstuvwxyz012345",
        ] {
            assert_eq!(
                damaged.parse::<PersonToken>().unwrap_err(),
                TokenError::Damaged,
                "{damaged}"
            );
        }
    }
}
