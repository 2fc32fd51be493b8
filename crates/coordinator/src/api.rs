//! The HTTP API: routes, who may read and order, errors, and the OpenAPI document that is made of them.
//!
//! Shapes are in `weir_wire::api`; everything shown is computed from the newest values at the time of the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_model::SourceName;

use crate::config::Webhook;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::selfcheck::SelfChecks;
use crate::sources::Sources;
use crate::state::{InForce, Troubles};
use crate::webhook;

pub mod access;
mod events;
mod health;
mod history;
mod hooks;
mod orders;
pub mod problem;
mod status;

pub use access::Access;

/// All that answers are made of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Answering {
    /// History.
    pub ledger: Ledger,
    /// Git.
    pub sources: Sources,
    /// The plan.
    pub in_force: watch::Receiver<Option<InForce>>,
    /// The agents.
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// What is wrong.
    pub troubles: watch::Receiver<Troubles>,
    /// What is checked while it runs.
    pub checks: Arc<SelfChecks>,
    /// Silence after which an agent is stale.
    pub stale: Duration,
    /// Who may poke which source.
    pub webhooks: Arc<BTreeMap<SourceName, Webhook>>,
    /// Who may read.
    pub access: Access,
    /// Ends streams.
    pub stop: CancellationToken,
}

#[derive(OpenApi)]
// What the answers that several orders share are made of does not come with them.
#[openapi(
    components(schemas(weir_wire::api::OrderAnswer)),
    info(
        title = "Weir coordinator",
        description = "What is declared, what each zone runs by proof, and who changed what. Reading needs a viewer token \
                   (`Authorization: Bearer weir-v-...`) unless the coordinator allows anonymous reading; orders always need \
                   an operator token (`weir-o-...`), which also reads. \
                   Weights are per cent; times are RFC 3339 UTC; fields are only ever added.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact()
    )
)]
struct Document;

fn routes_with_document() -> OpenApiRouter<Answering> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::splits))
        .routes(routes!(status::split))
        .routes(routes!(status::zones))
        .routes(routes!(status::sources))
        .routes(routes!(history::commits))
        .routes(routes!(history::plan))
        .routes(routes!(history::split))
        .routes(routes!(events::events))
        .routes(routes!(health::metrics))
}

/// Each asks for its token itself.
fn order_routes() -> OpenApiRouter<Answering> {
    OpenApiRouter::new()
        .routes(routes!(orders::abort))
        .routes(routes!(orders::freeze))
        .routes(routes!(orders::resume))
        .routes(routes!(orders::freeze_all))
        .routes(routes!(orders::resume_all))
        .routes(routes!(orders::drain))
        .routes(routes!(orders::undrain))
}

fn open_routes() -> OpenApiRouter<Answering> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(hooks::hook))
}

/// The OpenAPI document, as it stands in `docs/api/openapi.json`.
///
/// # Errors
/// Never in practice: the document is made of our own types.
pub fn document() -> Result<String, serde_json::Error> {
    let all = routes_with_document().merge(order_routes()).merge(open_routes());
    let (_, api) = all.split_for_parts();
    let mut text = api.to_pretty_json()?;
    text.push('\n');
    Ok(text)
}

/// The API, ready to be served.
pub fn router(answering: Answering) -> Router {
    let (read, _) = routes_with_document().split_for_parts();
    let read = read.layer(middleware::from_fn_with_state(answering.clone(), access::demand));
    let (open, _) = open_routes().split_for_parts();
    let (order, _) = order_routes().split_for_parts();
    read.merge(order)
        .merge(open)
        .route("/v1/openapi.json", axum::routing::get(health::openapi))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(webhook::BODY_LIMIT))
        .with_state(answering)
}
