//! A Git host says that there is something new.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use weir_model::SourceName;
use weir_wire::api::Problem;

use super::Answering;
use super::problem::Refusal;
use crate::webhook::{self, Disbelief};

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
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let name = SourceName(source);
    let Some(webhook) = answering.webhooks.get(&name) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no webhook for a source `{name}`"),
            "set `webhook` of that source in the coordinator's configuration",
        ));
    };
    match webhook::check(webhook, &headers, &body) {
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
