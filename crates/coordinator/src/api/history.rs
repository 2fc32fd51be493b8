//! What was, from the ledger.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use weir_model::SplitName;
use weir_planner::Generation;
use weir_wire::api::{CommitList, PlanDocument, Problem, SplitHistory, SplitStep};

use super::Answering;
use super::problem::Refusal;
use crate::ledger::LedgerError;
use crate::{progress, standing, steps};

/// Plans are read so many at a time.
const AT_A_TIME: u32 = 32;
/// So many plans back a split's steps are looked for.
const BACK: u32 = 2_048;
/// So many events are shown with them.
const EVENTS: u32 = 200;

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

/// What a split went through, newest first: each plan that changed it, with the step that it was, its commit, and when each
/// zone that it changed received, applied and proved it; and when shares went elsewhere because backends were down.
#[utoipa::path(
    get,
    path = "/v1/splits/{name}/history",
    params(
        ("name" = String, Path, description = "Name of the split"),
        ("limit" = Option<u32>, Query, description = "How many steps at most; 20 unless told, 200 at the most")
    ),
    responses((status = OK, body = SplitHistory), (status = NOT_FOUND, body = Problem)),
    tag = "history"
)]
pub(super) async fn split(
    State(answering): State<Answering>,
    Path(name): Path<String>,
    Query(amount): Query<Amount>,
) -> Result<Json<SplitHistory>, Refusal> {
    let missing = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("no plan that is kept has a split named `{name}`"),
            "`weir status` (GET /v1/splits) lists those in force",
        )
    };
    let split = SplitName::new(name.as_str()).map_err(|_| missing())?;
    let limit = amount.limit.unwrap_or(20).clamp(1, 200);
    let steps = recall(&answering, &split, usize::try_from(limit).unwrap_or(200)).await?;
    if steps.is_empty() {
        return Err(missing());
    }
    let oldest = steps.last().and_then(|step| step.created.parse().ok());
    let events = match oldest {
        Some(oldest) => answering.ledger.between_steps(&split, oldest, EVENTS).await?,
        None => Vec::new(),
    };
    Ok(Json(SplitHistory { name, steps, events }))
}

async fn recall(
    answering: &Answering,
    name: &SplitName,
    limit: usize,
) -> Result<Vec<SplitStep>, LedgerError> {
    let ledger = &answering.ledger;
    let first = ledger.first_words(name).await?;
    let mut steps = Vec::new();
    let mut newer: Option<(Generation, steps::Of)> = None;
    let mut before = None;
    let mut looked = 0;
    while looked < BACK && steps.len() < limit {
        let rows = ledger.plans_before(before, AT_A_TIME).await?;
        let whole = rows.len() < usize::try_from(AT_A_TIME).unwrap_or(usize::MAX);
        looked += AT_A_TIME;
        before = rows.last().map(|(generation, _)| *generation);
        let split = name.clone();
        // A large plan takes a while to read: not on a thread that answers others.
        let read = tokio::task::spawn_blocking(move || {
            rows.into_iter()
                .map(|(generation, json)| match steps::read(&json, &split) {
                    Ok(of) => Ok((generation, of)),
                    Err(error) => Err(LedgerError::Damaged {
                        what: format!("plan of generation {generation}"),
                        why: error.to_string(),
                    }),
                })
                .collect::<Result<Vec<_>, _>>()
        });
        let read = read.await.map_err(|panic| LedgerError::Damaged {
            what: "plans".to_owned(),
            why: panic.to_string(),
        })??;
        for (generation, of) in read {
            if let Some((at, now)) = &newer
                && steps.len() < limit
            {
                steps.extend(told(answering, *at, steps::step(Some(&of), now), (name, now, &first)).await?);
            }
            newer = Some((generation, of));
        }
        if whole {
            if let Some((at, now)) = &newer
                && steps.len() < limit
                && now.split.is_some()
            {
                steps.extend(told(answering, *at, steps::step(None, now), (name, now, &first)).await?);
            }
            break;
        }
    }
    Ok(steps)
}

/// One step, with what the ledger has about it.
async fn told(
    answering: &Answering,
    generation: Generation,
    step: Option<String>,
    (name, of, first): (&SplitName, &steps::Of, &BTreeMap<(String, String), Timestamp>),
) -> Result<Option<SplitStep>, LedgerError> {
    let Some(step) = step else { return Ok(None) };
    let items = of.split.iter().flat_map(|split| &split.items);
    let newest = items
        .clone()
        .map(|(_, item)| item)
        .max_by_key(|item| item.generation);
    let authored = match newest {
        Some(item) => answering.ledger.authored(&item.commit).await?,
        None => None,
    };
    let words = answering.ledger.words(name, generation).await?;
    let [mut received, mut applied, mut proven, mut idle] = [const { BTreeMap::new() }; 4];
    for (zone, item) in items.clone().filter(|(_, item)| item.generation == generation) {
        let came = progress::of(item, of.created, first, &words);
        for (at, into) in [
            (came.received, &mut received),
            (came.applied, &mut applied),
            (came.proven, &mut proven),
            (came.idle, &mut idle),
        ] {
            into.extend(at.map(|at| (zone.to_string(), at.to_string())));
        }
    }
    Ok(Some(SplitStep {
        generation: generation.0,
        created: of.created.to_string(),
        step,
        told: items
            .map(|(zone, item)| (zone.to_string(), standing::told(item)))
            .collect(),
        commit: newest.map(|item| item.commit.to_string()).unwrap_or_default(),
        author: authored.as_ref().map(|of| of.author.clone()),
        committer: authored.as_ref().and_then(|of| of.committer.clone()),
        signature: authored.as_ref().and_then(|of| of.signature.clone()),
        subject: authored.map(|of| of.subject),
        received,
        applied,
        proven,
        idle,
    }))
}
