//! A Git host says that there is something new.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;
use weir_model::SourceName;
use weir_wire::api::Problem;

use super::Answering;
use super::problem::Refusal;
use crate::webhook::{self, Disbelief};

/// So many bodies are read at a time: whoever sends one has not shown yet that it may.
static READING: Semaphore = Semaphore::const_new(4);
/// How long a call may take to send its body, the wait for its turn included.
const READ: Duration = Duration::from_secs(20);

/// Called by GitHub, GitLab or Gitea on a push: the source is looked at now. Needs the configured secret's signature.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{source}",
    params(("source" = String, Path, description = "Name of the source")),
    request_body(content = String, description = "Whatever the host sends; only its signature counts"),
    responses(
        (status = ACCEPTED, description = "The source is being looked at"),
        (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem)
    ),
    tag = "webhooks"
)]
pub(super) async fn hook(
    State(answering): State<Answering>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let name = SourceName(source);
    let Some(webhook) = answering.webhooks.get(&name) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no webhook for a source `{name}`"),
            "set `webhook` of that source in the coordinator's configuration",
        ));
    };
    let signed = webhook::signed(webhook, &headers);
    let body = match &signed {
        Ok(()) => read(body).await?,
        Err(_) => Vec::new(),
    };
    match signed.and_then(|()| webhook::check(webhook, &headers, &body)) {
        Ok(()) => {
            tracing::debug!(source = %name, "webhook: looking now");
            answering.sources.poke(&name);
            Ok(StatusCode::ACCEPTED)
        }
        Err(why) => {
            tracing::warn!(source = %name, %why, "a webhook call is not believed");
            let status = match why {
                Disbelief::Missing(_) | Disbelief::Wrong => StatusCode::FORBIDDEN,
                Disbelief::Secret(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Err(Refusal::new(
                status,
                why.to_string(),
                "compare `webhook` of this source with the settings at the Git host",
            ))
        }
    }
}

/// The body, if it comes in time and is not too long.
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let reading = async {
        let _turn = READING.acquire().await;
        to_bytes(body, webhook::BODY_LIMIT).await
    };
    match tokio::time::timeout(READ, reading).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body cannot be read: {error}"),
            format!("at most {} MiB are read", webhook::BODY_LIMIT >> 20),
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {} s", READ.as_secs()),
            "send it again; the source is looked at now and then anyhow",
        )),
    }
}
