//! Webhooks: whether a Git host really says that there is something new. What it says besides is not read: the source is
//! looked at, that is all.

use std::fs;

use aws_lc_rs::{constant_time, hmac};
use http::HeaderMap;

use crate::config::{Webhook, WebhookKind};

/// Bodies above this are refused unread. GitHub's own limit is 25 MB; what counts here is a signature over it.
pub(crate) const BODY_LIMIT: usize = 25 << 20;

/// Why a call is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Disbelief {
    /// The header is missing.
    #[error("the header {0} is missing: is the webhook of another kind, or set up without a secret?")]
    Missing(&'static str),
    /// It is not what the secret makes of this body.
    #[error("the signature is wrong: the secret here and at the Git host differ")]
    Wrong,
    /// Our own side.
    #[error("the secret cannot be read: {0}")]
    Secret(String),
}

/// Whether a call brings what its secret made, before any of its body is read.
///
/// # Errors
/// The header that is missing.
pub(crate) fn signed(webhook: &Webhook, headers: &HeaderMap) -> Result<(), Disbelief> {
    let name = match webhook.kind {
        WebhookKind::Github => "X-Hub-Signature-256",
        WebhookKind::Gitea => "X-Gitea-Signature",
        WebhookKind::Gitlab => "X-Gitlab-Token",
    };
    headers
        .contains_key(name)
        .then_some(())
        .ok_or(Disbelief::Missing(name))
}

/// Checks a call against the configured secret, in constant time.
///
/// # Errors
/// Why it is not believed.
pub(crate) fn check(webhook: &Webhook, headers: &HeaderMap, body: &[u8]) -> Result<(), Disbelief> {
    let file = &webhook.secret_file;
    let secret = fs::read_to_string(file)
        .map_err(|error| Disbelief::Secret(format!("{}: {error}", file.display())))?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Disbelief::Secret(format!("{} is empty", file.display())));
    }
    verify(webhook.kind, secret.as_bytes(), headers, body)
}

fn verify(kind: WebhookKind, secret: &[u8], headers: &HeaderMap, body: &[u8]) -> Result<(), Disbelief> {
    let header = |name: &'static str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .ok_or(Disbelief::Missing(name))
    };
    let signed = |hex: &str| {
        let tag = unhex(hex).ok_or(Disbelief::Wrong)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, body, &tag).map_err(|_| Disbelief::Wrong)
    };
    match kind {
        WebhookKind::Github => {
            let value = header("X-Hub-Signature-256")?;
            signed(value.strip_prefix("sha256=").ok_or(Disbelief::Wrong)?)
        }
        WebhookKind::Gitea => signed(header("X-Gitea-Signature")?),
        WebhookKind::Gitlab => {
            let value = header("X-Gitlab-Token")?;
            constant_time::verify_slices_are_equal(value.as_bytes(), secret).map_err(|_| Disbelief::Wrong)
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;

    fn call(kind: WebhookKind, header: &'static str, value: &str) -> Result<(), Disbelief> {
        let mut headers = HeaderMap::new();
        headers.insert(header, value.parse().unwrap());
        verify(kind, b"It's a Secret to Everybody", &headers, BODY)
    }

    /// The value that `openssl dgst -sha256 -hmac` gives for this body and secret.
    fn right() -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        hmac::sign(&key, BODY)
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    #[test]
    fn believes_only_the_secrets_own_signature() {
        let right = right();
        let mut wrong = right.clone();
        wrong.replace_range(0..1, if right.starts_with('0') { "1" } else { "0" });
        let github = |value: &str| call(WebhookKind::Github, "X-Hub-Signature-256", value);
        assert_eq!(github(&format!("sha256={right}")), Ok(()));
        assert_eq!(github(&format!("sha256={}", right.to_uppercase())), Ok(()));
        for bad in [
            format!("sha256={wrong}"),
            right.clone(),
            format!("sha1={right}"),
            format!("sha256={}", &right[..62]),
            "sha256=".to_owned(),
            "sha256=zz".to_owned(),
        ] {
            assert_eq!(github(&bad), Err(Disbelief::Wrong), "{bad}");
        }
        let gitea = |value: &str| call(WebhookKind::Gitea, "X-Gitea-Signature", value);
        assert_eq!(gitea(&right), Ok(()));
        assert_eq!(gitea(&wrong), Err(Disbelief::Wrong));
        let gitlab = |value: &str| call(WebhookKind::Gitlab, "X-Gitlab-Token", value);
        assert_eq!(gitlab("It's a Secret to Everybody"), Ok(()));
        assert_eq!(gitlab("It's a Secret to Everybod"), Err(Disbelief::Wrong));
        assert_eq!(gitlab(""), Err(Disbelief::Wrong));
    }

    #[test]
    fn a_signature_of_another_kind_is_a_missing_one() {
        assert_eq!(
            call(
                WebhookKind::Github,
                "X-Gitlab-Token",
                "It's a Secret to Everybody"
            ),
            Err(Disbelief::Missing("X-Hub-Signature-256"))
        );
    }

    /// The example of GitHub's own documentation.
    #[test]
    fn agrees_with_github() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "X-Hub-Signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
                .parse()
                .unwrap(),
        );
        let got = verify(
            WebhookKind::Github,
            b"It's a Secret to Everybody",
            &headers,
            b"Hello, World!",
        );
        assert_eq!(got, Ok(()));
    }
}
