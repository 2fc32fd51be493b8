//! What is declared and what zones run.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use weir_model::{SourceName, SplitName};
use weir_wire::api::{Problem, SourceStatus, SplitList, SplitStatus, ZoneList};

use super::Answering;
use super::problem::Refusal;
use crate::sources::{self, SourceState, SourceStates};
use crate::standing::{self, Sight};
use crate::state::{InForce, Troubles};

impl Answering {
    /// Runs `look` over what is known now; none before the first plan.
    pub(super) fn see<T>(&self, look: impl FnOnce(&InForce, Sight<'_>) -> T) -> Option<T> {
        let in_force = self.in_force.borrow().clone()?;
        let fleet = self.fleet.borrow().clone();
        let sight = Sight {
            plan: &in_force.plan,
            created: &in_force.created,
            fleet: &fleet,
            stale: self.stale,
            now: Timestamp::now(),
        };
        Some(look(&in_force, sight))
    }

    pub(super) fn source_statuses(&self) -> Vec<SourceStatus> {
        let in_force = self.in_force.borrow().clone();
        let states = self.sources.states().borrow().clone();
        source_statuses(&states, in_force.as_ref())
    }
}

fn source_statuses(states: &SourceStates, in_force: Option<&InForce>) -> Vec<SourceStatus> {
    states
        .iter()
        .map(|(name, state)| SourceStatus {
            name: name.to_string(),
            url: state.url.clone(),
            branch: state.branch.clone(),
            reachable: matches!(state.last, Some(Ok(()))),
            error: match &state.last {
                Some(Err(error)) => Some(error.to_string()),
                Some(Ok(())) => None,
                None => Some("not looked at yet".to_owned()),
            },
            head: state.head.as_ref().map(|head| head.commit.to_string()),
            in_force: in_force
                .and_then(|known| known.commits.get(name))
                .map(ToString::to_string),
            checked_at: state.checked_at.map(|at| at.to_string()),
            rewound: rewound(name, state, in_force),
        })
        .collect()
}

fn rewound(name: &SourceName, state: &SourceState, in_force: Option<&InForce>) -> Option<String> {
    let stands = in_force.and_then(|known| known.commits.get(name))?;
    let head = state.rewound(Some(stands))?;
    Some(sources::told_of_rewound(name, head, stands))
}

/// Why what is shown may not be the newest; one sentence.
fn notice(
    troubles: &Troubles,
    sources: &[SourceStatus],
    has_plan: bool,
    waiting: Vec<String>,
) -> Option<String> {
    let mut parts = waiting;
    // First: whatever else is said here is not to be relied on.
    parts.splice(0..0, troubles.superseded.clone());
    if let Some(text) = &troubles.ledger {
        parts.push(format!("nothing new is published: {text}"));
    }
    parts.extend(troubles.unsound.clone());
    parts.extend(troubles.unplanned.clone());
    parts.extend(troubles.blind.clone());
    for (source, (commit, why)) in &troubles.refused {
        parts.push(format!(
            "commit {} of source {source} is refused: {why}",
            commit.short()
        ));
    }
    for source in sources {
        parts.extend(source.rewound.clone());
        if let Some(error) = &source.error {
            let stands = match &source.in_force {
                Some(commit) => format!(
                    "; its commit {} stays in force",
                    weir_model::CommitId(commit.clone()).short()
                ),
                None => String::new(),
            };
            parts.push(format!("source {} cannot be read: {error}{stands}", source.name));
        }
    }
    if !has_plan && parts.is_empty() {
        parts.push("there is no plan yet".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Of what is held at a gateway people are told which line declares it, and of all that is waited for since when.
fn placed(in_force: &InForce, splits: Vec<SplitStatus>) -> Vec<SplitStatus> {
    let splits = splits.into_iter();
    let splits: Vec<_> = splits
        .map(|split| standing::waits_since(split, &in_force.waits))
        .collect();
    match &in_force.declared {
        None => splits,
        Some(declared) => splits
            .into_iter()
            .map(|split| standing::with_places(split, declared))
            .collect(),
    }
}

/// All splits, and where each stands in each zone.
#[utoipa::path(get, path = "/v1/splits", responses((status = OK, body = SplitList)), tag = "status")]
pub(super) async fn splits(State(answering): State<Answering>) -> Json<SplitList> {
    let sources = answering.source_statuses();
    let troubles = answering.troubles.borrow().clone();
    let seen = answering.see(|in_force, sight| {
        let commits: BTreeMap<String, String> = in_force
            .commits
            .iter()
            .map(|(source, commit)| (source.to_string(), commit.to_string()))
            .collect();
        let list = (
            in_force.plan.generation.0,
            commits,
            standing::notes(sight),
            placed(
                in_force,
                standing::splits_but(sight, in_force.outlook(), &in_force.detached()),
            ),
        );
        let waiting = standing::waiting(sight, in_force.outlook());
        (list, waiting, in_force.freezes(sight.now))
    });
    let has_plan = seen.is_some();
    let ((generation, commits, notes, splits), waiting, frozen) = seen.unwrap_or_default();
    let notice = notice(&troubles, &sources, has_plan, waiting);
    Json(SplitList {
        generation,
        commits,
        notice,
        frozen,
        notes,
        splits,
    })
}

/// One split.
#[utoipa::path(
    get,
    path = "/v1/splits/{name}",
    params(("name" = String, Path, description = "Name of the split")),
    responses((status = OK, body = SplitStatus), (status = NOT_FOUND, body = Problem)),
    tag = "status"
)]
pub(super) async fn split(
    State(answering): State<Answering>,
    Path(name): Path<String>,
) -> Result<Json<SplitStatus>, Refusal> {
    let found = SplitName::new(name.as_str()).ok().and_then(|name| {
        answering
            .see(|in_force, sight| {
                let found = standing::split_but(sight, in_force.outlook(), &in_force.detached(), &name);
                placed(in_force, found.into_iter().collect()).pop()
            })
            .flatten()
    });
    found.map(Json).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("no split in force is named `{name}`"),
            "`weir status` (GET /v1/splits) lists them",
        )
    })
}

/// All zones and their agents.
#[utoipa::path(get, path = "/v1/zones", responses((status = OK, body = ZoneList)), tag = "status")]
pub(super) async fn zones(State(answering): State<Answering>) -> Json<ZoneList> {
    let zones = answering
        .see(|in_force, sight| standing::zones_but(sight, &in_force.platforms, &in_force.detached()));
    Json(ZoneList {
        zones: zones.unwrap_or_default(),
    })
}

/// All Git sources.
#[utoipa::path(get, path = "/v1/sources", responses((status = OK, body = [SourceStatus])), tag = "status")]
pub(super) async fn sources(State(answering): State<Answering>) -> Json<Vec<SourceStatus>> {
    Json(answering.source_statuses())
}
