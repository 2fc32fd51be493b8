//! Who may read.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use weir_link::ViewerToken;

use super::Answering;
use super::problem::Refusal;
use crate::tokens::{Refused, Tokens};

/// Who may read.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everybody who reaches the port.
    Anyone,
    /// Whoever brings a viewer token.
    Viewers(Tokens),
}

/// Lets a request pass, or answers it.
pub(super) async fn demand(State(answering): State<Answering>, request: Request, next: Next) -> Response {
    let Access::Viewers(tokens) = &answering.access else {
        return next.run(request).await;
    };
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let refuse = |why: String| {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            why,
            "make a token with `weir-coordinator token create --viewer NAME`, and send it as `Authorization: Bearer`",
        )
        .into_response()
    };
    let Some(bearer) = bearer else {
        return refuse("reading needs a viewer token".to_owned());
    };
    let token: ViewerToken = match bearer.parse() {
        Ok(token) => token,
        Err(why) => return refuse(format!("this is not a viewer token: {why}")),
    };
    match tokens.viewer(&token, Timestamp::now()).await {
        Ok(viewer) => {
            tracing::debug!(viewer, path = request.uri().path(), "read");
            next.run(request).await
        }
        Err(Refused::Ledger(why)) => {
            tracing::error!(why, "a viewer's token cannot be looked up");
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the ledger cannot be read: {why}"),
                "mend the coordinator's data directory; traffic stays as it is meanwhile",
            )
            .into_response()
        }
        // Which of the reasons it is helps whoever guesses as much as whoever errs: only times and revocations are told.
        Err(why @ (Refused::Expired { .. } | Refused::Revoked { .. })) => refuse(why.to_string()),
        Err(_) => refuse("this token is not known here".to_owned()),
    }
}
