//! What was, from the ledger.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use weir_planner::Generation;
use weir_wire::api::{CommitList, PlanDocument, Problem};

use super::Answering;
use super::problem::Refusal;
use crate::ledger::LedgerError;

#[derive(Debug, Deserialize)]
pub(super) struct Amount {
    limit: Option<u32>,
}

/// Commits that were seen, newest first, and the state of each source.
#[utoipa::path(
    get,
    path = "/v1/commits",
    params(("limit" = Option<u32>, Query, description = "How many at most; 100 unless told, 1000 at the most")),
    responses((status = OK, body = CommitList)),
    tag = "history"
)]
pub(super) async fn commits(
    State(answering): State<Answering>,
    Query(amount): Query<Amount>,
) -> Result<Json<CommitList>, Refusal> {
    let limit = amount.limit.unwrap_or(100).min(1_000);
    Ok(Json(CommitList {
        sources: answering.source_statuses(),
        commits: answering.ledger.commits(limit).await?,
    }))
}

/// One plan, and what it changed.
#[utoipa::path(
    get,
    path = "/v1/plans/{generation}",
    params(("generation" = String, Path, description = "A generation, or `latest`")),
    responses((status = OK, body = PlanDocument), (status = NOT_FOUND, body = Problem)),
    tag = "history"
)]
pub(super) async fn plan(
    State(answering): State<Answering>,
    Path(which): Path<String>,
) -> Result<Json<PlanDocument>, Refusal> {
    let missing = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no plan `{which}`"),
            "give a generation that GET /v1/commits names, or `latest`",
        )
    };
    let generation = if which == "latest" {
        let in_force = answering.in_force.borrow();
        in_force.as_ref().map(|known| known.plan.generation)
    } else {
        which.parse().ok().map(Generation)
    };
    let row = answering
        .ledger
        .plan(generation.ok_or_else(missing)?)
        .await?
        .ok_or_else(missing)?;
    let parent = answering.ledger.parent_of(&row.plan).await?;
    let plan = serde_json::from_str(&row.json).map_err(|error| LedgerError::Damaged {
        what: format!("plan of generation {which}"),
        why: error.to_string(),
    })?;
    Ok(Json(PlanDocument {
        generation: row.plan.generation.0,
        id: row.plan.id.to_string(),
        parent: row.plan.parent.map(|id| id.to_string()),
        commits: row
            .plan
            .commits
            .iter()
            .map(|of| (of.source.to_string(), of.commit.to_string()))
            .collect(),
        created: row.plan.created.to_string(),
        changes: weir_planner::diff(parent.as_ref(), &row.plan).sentences(),
        plan,
    }))
}
