//! Whether the coordinator is well, for machines.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use weir_wire::api::Problem;

use super::Answering;
use super::problem::Refusal;
use crate::metrics::{self, Scrape};
use crate::selfcheck::{self, Checked};
use crate::standing::{self, Sight};

/// The program runs and answers.
#[utoipa::path(get, path = "/healthz", responses((status = OK, body = String)), tag = "health")]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The ledger takes writes, no other coordinator has begun after this one, and there is a plan or every source has been looked at.
#[utoipa::path(
    get,
    path = "/readyz",
    responses((status = OK, body = String), (status = SERVICE_UNAVAILABLE, body = Problem)),
    tag = "health"
)]
pub(super) async fn readyz(State(answering): State<Answering>) -> Result<&'static str, Refusal> {
    let troubles = answering.troubles.borrow().clone();
    if let Some(why) = troubles.superseded {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            why,
            "send agents and people to the other; it does not come back by itself",
        ));
    }
    if let Some(why) = troubles.ledger.or(troubles.observations).or(troubles.unsound) {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            why,
            "traffic stays as it is; the log says more",
        ));
    }
    let planned = answering.in_force.borrow().is_some();
    let looked = answering
        .sources
        .states()
        .borrow()
        .values()
        .all(|state| state.last.is_some());
    if planned || looked {
        Ok("ready\n")
    } else {
        Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no plan yet, and not every source has been looked at",
            "wait; GET /v1/sources says which",
        ))
    }
}

/// Metrics in OpenMetrics text, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = OK, content_type = "application/openmetrics-text", body = String)),
    tag = "health"
)]
pub(super) async fn metrics(State(answering): State<Answering>) -> Result<Response, Refusal> {
    let sources = answering.source_statuses();
    let troubles = answering.troubles.borrow().clone();
    let seen = answering.see(|in_force, sight| {
        (
            in_force.plan.generation.0,
            standing::splits_but(sight, in_force.outlook(), &in_force.detached()),
            standing::zones(sight, &in_force.platforms),
            proof_age(sight),
        )
    });
    let (generation, splits, zones, proof_age) = seen.unwrap_or_default();
    for split in &splits {
        // What each of its zones is shown as is told as an event where that is observed.
        let claims = [
            (Checked::I9, selfcheck::whole(split)),
            (Checked::I11, selfcheck::unexplained(split)),
        ];
        for (what, broken) in claims {
            if let Some(why) = answering.checks.count(what, broken) {
                tracing::error!("a self-check failed, please report it: {why}");
            }
        }
    }
    let text = metrics::text(&Scrape {
        generation,
        splits: &splits,
        zones: &zones,
        sources: &sources,
        proof_age: &proof_age,
        refused: troubles.refused.len(),
        checks: &answering.checks,
        ledger: troubles.ledger.is_none() && troubles.observations.is_none(),
        superseded: troubles.superseded.is_some(),
    })
    .map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("metrics cannot be written: {error}"),
            "please report it",
        )
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Seconds since the oldest proof of each zone.
fn proof_age(sight: Sight<'_>) -> BTreeMap<String, f64> {
    let mut oldest: BTreeMap<String, Timestamp> = BTreeMap::new();
    for (zone, _, agent) in sight.fleet.agents() {
        for proof in agent.items.values().filter_map(|fact| fact.proof.as_ref()) {
            let at = oldest.entry(zone.to_string()).or_insert(proof.at);
            *at = (*at).min(proof.at);
        }
    }
    oldest
        .into_iter()
        .map(|(zone, at)| (zone, sight.now.duration_since(at).as_secs_f64()))
        .collect()
}

/// The OpenAPI document.
pub(super) async fn openapi() -> Result<Response, Refusal> {
    let text = super::document().map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the document cannot be written: {error}"),
            "please report it",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
