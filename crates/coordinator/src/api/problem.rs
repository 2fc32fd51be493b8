//! Errors as `application/problem+json`: RFC 9457's fields, and [`Problem`]'s.

use axum::Json;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weir_wire::api::Problem;

use crate::ledger::LedgerError;

/// An error and its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What people read.
    pub problem: Problem,
}

impl Refusal {
    /// An error that says what to do.
    pub fn new(status: StatusCode, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            status,
            problem: Problem {
                message: message.into(),
                help: Some(help.into()),
            },
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    #[serde(flatten)]
    problem: &'a Problem,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body {
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            problem: &self.problem,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
        }
        response
    }
}

/// The ledger's state is the coordinator's trouble, not the caller's.
impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "a request could not be answered");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "mend the coordinator's data directory; traffic stays as it is meanwhile",
        )
    }
}

/// No such path.
pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
        "/v1/openapi.json names every path",
    )
}

/// The path exists, for other methods.
pub(super) async fn no_such_method(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take this method", uri.path()),
        "/v1/openapi.json names the methods of every path",
    )
}
