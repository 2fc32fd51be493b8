//! Orders: what people want beside Git. Each needs an operator token, is recorded with who gave it and why, and is carried out
//! by planning alone.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use weir_model::{BackendName, SplitName};
use weir_wire::api::{DrainRequest, OrderAnswer, OrderRequest, Problem};

use super::Answering;
use super::access::Operator;
use super::problem::Refusal;
use crate::ledger::OrderKind;
use crate::ordering::{self, OrderError};

type Body = Result<Json<OrderRequest>, JsonRejection>;
type Answered = Result<Json<OrderAnswer>, Refusal>;

/// What an order may be answered with, for the API's document alone.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "nobody makes one")]
enum Answers {
    #[response(status = OK)]
    Done(OrderAnswer),
    #[response(status = BAD_REQUEST)]
    Wrong(Problem),
    #[response(status = UNAUTHORIZED)]
    Unknown(Problem),
    #[response(status = FORBIDDEN)]
    Forbidden(Problem),
    #[response(status = CONFLICT)]
    Refused(Problem),
    #[response(status = SERVICE_UNAVAILABLE)]
    Unavailable(Problem),
}

/// Breaks off the transition of a split: back to where it last rested, everywhere at once. What Git declares is not gone
/// towards until a commit changes the split, or it is resumed.
#[utoipa::path(
    post,
    path = "/v1/splits/{name}/abort",
    params(("name" = String, Path, description = "Name of the split")),
    request_body = OrderRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn abort(
    operator: Operator,
    State(answering): State<Answering>,
    Path(name): Path<String>,
    body: Body,
) -> Answered {
    order(&answering, operator, OrderKind::Abort, Some(name), body).await
}

/// Keeps a split where it is; reverts and aborts pass.
#[utoipa::path(
    post,
    path = "/v1/splits/{name}/freeze",
    params(("name" = String, Path, description = "Name of the split")),
    request_body = OrderRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn freeze(
    operator: Operator,
    State(answering): State<Answering>,
    Path(name): Path<String>,
    body: Body,
) -> Answered {
    order(&answering, operator, OrderKind::Freeze, Some(name), body).await
}

/// Ends the freezes of a split, and its quarantine.
#[utoipa::path(
    post,
    path = "/v1/splits/{name}/resume",
    params(("name" = String, Path, description = "Name of the split")),
    request_body = OrderRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn resume(
    operator: Operator,
    State(answering): State<Answering>,
    Path(name): Path<String>,
    body: Body,
) -> Answered {
    order(&answering, operator, OrderKind::Resume, Some(name), body).await
}

/// Keeps all splits where they are; reverts and aborts pass.
#[utoipa::path(
    post,
    path = "/v1/freeze",
    request_body = OrderRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn freeze_all(
    operator: Operator,
    State(answering): State<Answering>,
    body: Body,
) -> Answered {
    order(&answering, operator, OrderKind::Freeze, None, body).await
}

/// Ends the freezes of all splits together; those of single splits stay.
#[utoipa::path(
    post,
    path = "/v1/resume",
    request_body = OrderRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn resume_all(
    operator: Operator,
    State(answering): State<Answering>,
    body: Body,
) -> Answered {
    order(&answering, operator, OrderKind::Resume, None, body).await
}

/// Takes a backend's share away, for it to be stopped: 0 % in every zone, as any other change of weights, until it is undrained.
#[utoipa::path(
    post,
    path = "/v1/splits/{name}/backends/{backend}/drain",
    params(
        ("name" = String, Path, description = "Name of the split"),
        ("backend" = String, Path, description = "Name of the backend")
    ),
    request_body = DrainRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn drain(
    operator: Operator,
    State(answering): State<Answering>,
    Path((name, backend)): Path<(String, String)>,
    body: Result<Json<DrainRequest>, JsonRejection>,
) -> Answered {
    let Json(DrainRequest { reason, to }) = body.map_err(|error| wrong(error.body_text()))?;
    let kind = OrderKind::Drain {
        backend: named(&backend)?,
        to: to.map(|to| named(&to)).transpose()?,
    };
    let body = Ok(Json(OrderRequest { reason }));
    order(&answering, operator, kind, Some(name), body).await
}

/// Ends the drain of a backend: its split goes to what Git declares.
#[utoipa::path(
    post,
    path = "/v1/splits/{name}/backends/{backend}/undrain",
    params(
        ("name" = String, Path, description = "Name of the split"),
        ("backend" = String, Path, description = "Name of the backend")
    ),
    request_body = OrderRequest,
    responses(Answers),
    tag = "orders"
)]
pub(super) async fn undrain(
    operator: Operator,
    State(answering): State<Answering>,
    Path((name, backend)): Path<(String, String)>,
    body: Body,
) -> Answered {
    let kind = OrderKind::Undrain {
        backend: named(&backend)?,
    };
    order(&answering, operator, kind, Some(name), body).await
}

fn named(backend: &str) -> Result<BackendName, Refusal> {
    BackendName::new(backend).map_err(|_| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("no backend can be named `{backend}`"),
            "`weir status` (GET /v1/splits) lists splits and their backends",
        )
    })
}

fn wrong(why: String) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        why,
        "send `{\"reason\": \"...\"}` as application/json",
    )
}

async fn order(
    answering: &Answering,
    Operator(who): Operator,
    kind: OrderKind,
    split: Option<String>,
    body: Body,
) -> Answered {
    let Json(OrderRequest { reason }) = body.map_err(|error| wrong(error.body_text()))?;
    let reason = ordering::reason(&reason).map_err(wrong)?;
    let split = split
        .map(|name| {
            SplitName::new(name.as_str()).map_err(|_| {
                Refusal::new(
                    StatusCode::NOT_FOUND,
                    format!("no split can be named `{name}`"),
                    "`weir status` (GET /v1/splits) lists them",
                )
            })
        })
        .transpose()?;
    let given = ordering::give(&answering.ledger, kind, split, reason, who).await;
    match given {
        Ok(answer) if answer.done => Ok(Json(OrderAnswer {
            done: true,
            message: answer.message,
        })),
        Ok(answer) => Err(Refusal::new(
            StatusCode::CONFLICT,
            answer.message,
            "`weir status` (GET /v1/splits) says where each split stands",
        )),
        Err(OrderError::Ledger(error)) => Err(error.into()),
        Err(error) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "look at the coordinator's log, /readyz and GET /v1/sources; then try again",
        )),
    }
}
