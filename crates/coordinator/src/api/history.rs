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
/// So many plans back the steps of a split are looked for, one after the other.
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
/// zone that it changed received, applied and proved it; and what happened in between: who ordered what and why, pins, backends that
/// were down, what held it up.
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
            format!("no split in force is named `{name}`, and none of the newest {BACK} plans has one"),
            "`weir status` (GET /v1/splits) lists those in force",
        )
    };
    let split = SplitName::new(name.as_str()).map_err(|_| missing())?;
    let limit = amount.limit.unwrap_or(20).clamp(1, 200);
    // Asked first: what is in force by now is in the ledger.
    let stands = {
        let in_force = answering.in_force.borrow();
        in_force
            .as_ref()
            .is_some_and(|known| known.plan.splits.contains_key(&split))
    };
    let Recalled { steps, before } =
        recall(&answering, &split, usize::try_from(limit).unwrap_or(200)).await?;
    if steps.is_empty() && !stands {
        return Err(missing());
    }
    // Without any step: all that is kept of it.
    let oldest = steps.last().and_then(|step| step.created.parse().ok());
    let oldest = oldest.unwrap_or(Timestamp::UNIX_EPOCH);
    let events = answering.ledger.between_steps(&split, oldest, EVENTS).await?;
    let many = u32::try_from(events.len()).is_ok_and(|many| many >= EVENTS);
    let cut = many.then(|| format!("of what happened in between the newest {EVENTS} are told"));
    let notes: Vec<String> = before.into_iter().chain(cut).collect();
    Ok(Json(SplitHistory {
        name,
        steps,
        events,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }))
}

/// What is known of the steps of a split.
struct Recalled {
    /// Newest first.
    steps: Vec<SplitStep>,
    /// What was not read of it, in words.
    before: Option<String>,
}

async fn recall(answering: &Answering, name: &SplitName, limit: usize) -> Result<Recalled, LedgerError> {
    let first = answering.ledger.first_words(name).await?;
    let mut steps = Vec::new();
    let mut newer: Option<(Generation, steps::Of)> = None;
    let mut looked = 0;
    while looked < BACK && steps.len() < limit {
        let read = plans(answering, name, newer.as_ref().map(|(at, _)| *at), AT_A_TIME).await?;
        let whole = read.len() < usize::try_from(AT_A_TIME).unwrap_or(usize::MAX);
        looked += AT_A_TIME;
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
            return Ok(Recalled { steps, before: None });
        }
    }
    let left = newer.filter(|(_, of)| of.split.is_some() && steps.len() < limit);
    let Some((at, of)) = left else {
        return Ok(Recalled { steps, before: None });
    };
    // It changed last before all of these plans. Its items say which plan changed what zones are told.
    let items = of.split.iter().flat_map(|split| split.items.values());
    let wanted = items.map(|item| item.generation).max();
    let mut found = false;
    if let Some(last) = wanted {
        let next = Generation(last.0.saturating_add(1));
        let mut read = plans(answering, name, Some(next), 2).await?.into_iter();
        // It may be kept no more.
        if let Some((generation, now)) = read.next().filter(|(generation, _)| *generation == last) {
            let was = read.next().map(|(_, was)| was);
            let step = steps::step(was.as_ref(), &now);
            steps.extend(told(answering, generation, step, (name, &now, &first)).await?);
            found = true;
        }
    }
    let but = match found {
        true => ", but for the last one that changed what zones are told",
        false => "",
    };
    Ok(Recalled {
        steps,
        before: Some(format!(
            "the newest {BACK} plans were read, back to generation {at}; older steps are not told{but}"
        )),
    })
}

/// One split in plans below a generation, newest first.
async fn plans(
    answering: &Answering,
    name: &SplitName,
    before: Option<Generation>,
    amount: u32,
) -> Result<Vec<(Generation, steps::Of)>, LedgerError> {
    let rows = answering.ledger.plans_before(before, amount).await?;
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
    read.await.map_err(|panic| LedgerError::Damaged {
        what: "plans".to_owned(),
        why: panic.to_string(),
    })?
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
