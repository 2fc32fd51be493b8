//! Who may read, and who may order.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use weir_link::PersonToken;

use super::Answering;
use super::problem::Refusal;
use crate::tokens::{Person, Refused, Tokens};

/// Who may read.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everybody who reaches the port.
    Anyone,
    /// Whoever brings a viewer's or an operator's token.
    Viewers(Tokens),
}

/// What the answer to somebody without a token that does is made of.
struct Wanted {
    need: &'static str,
    help: &'static str,
}

const TO_READ: Wanted = Wanted {
    need: "reading needs a viewer token",
    help: "make a token with `weir-coordinator token create --viewer NAME`, and send it as `Authorization: Bearer`",
};

const TO_ORDER: Wanted = Wanted {
    need: "an order needs an operator token, also where everybody may read",
    help: "make a token with `weir-coordinator token create --operator NAME`, and send it as `Authorization: Bearer`; or use \
           `weir-coordinator split` on the coordinator's host",
};

/// Lets a request pass, or answers it.
pub(super) async fn demand(State(answering): State<Answering>, request: Request, next: Next) -> Response {
    let Access::Viewers(tokens) = &answering.access else {
        return next.run(request).await;
    };
    match person(tokens, request.headers(), &TO_READ).await {
        Ok(person) => {
            tracing::debug!(person.name, path = request.uri().path(), "read");
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Who orders.
pub(super) struct Operator(pub(super) String);

impl FromRequestParts<Answering> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, answering: &Answering) -> Result<Self, Refusal> {
        let tokens = Tokens::new(answering.ledger.pool().clone());
        let person = person(&tokens, &parts.headers, &TO_ORDER).await?;
        if !person.operator {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "a viewer token may read, not order",
                TO_ORDER.help,
            ));
        }
        Ok(Self(person.name))
    }
}

/// Whose token a request brings.
async fn person(tokens: &Tokens, headers: &HeaderMap, wanted: &Wanted) -> Result<Person, Refusal> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let refuse = |why: String| Refusal::new(StatusCode::UNAUTHORIZED, why, wanted.help);
    let Some(bearer) = bearer else {
        return Err(refuse(wanted.need.to_owned()));
    };
    let token: PersonToken = bearer
        .parse()
        .map_err(|why| refuse(format!("this is not a token that does here: {why}")))?;
    match tokens.person(&token, Timestamp::now()).await {
        Ok(person) => Ok(person),
        Err(Refused::Ledger(why)) => {
            tracing::error!(why, "a person's token cannot be looked up");
            Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the ledger cannot be read: {why}"),
                "mend the coordinator's data directory; traffic stays as it is meanwhile",
            ))
        }
        // Which of the reasons it is helps whoever guesses as much as whoever errs: only times and revocations are told.
        Err(why @ (Refused::Expired { .. } | Refused::Revoked { .. })) => Err(refuse(why.to_string())),
        Err(_) => Err(refuse("this token is not known here".to_owned())),
    }
}
