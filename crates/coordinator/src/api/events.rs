//! Events as they happen, from the ledger, so that a reader who was away misses none.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt as _};
use serde::Deserialize;
use weir_wire::api::{Event, Problem};

use super::Answering;
use super::problem::Refusal;

/// Events of one read.
const PAGE: u32 = 256;
/// Events that a reader gets who does not say where to begin.
const LAST: u64 = 100;
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
pub(super) struct From {
    after: Option<u64>,
}

/// Events as server-sent events: first those after the given one, then each as it happens.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(
        ("after" = Option<u64>, Query, description = "Begin after this event; 0 for all. Without it: the last 100"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same, as browsers send it")
    ),
    responses(
        (status = OK, content_type = "text/event-stream", body = Event),
        (status = BAD_REQUEST, body = Problem)
    ),
    tag = "history"
)]
pub(super) async fn events(
    State(answering): State<Answering>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Refusal> {
    let resumed = match headers.get("last-event-id") {
        None => None,
        Some(value) => {
            let id = value
                .to_str()
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok());
            Some(id.ok_or_else(|| {
                Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "Last-Event-ID is not a number",
                    "send the id of the last event that was received",
                )
            })?)
        }
    };
    let newest = *answering.ledger.newest_event().borrow();
    let after = resumed.or(from.after).unwrap_or(newest.saturating_sub(LAST));
    let stop = answering.stop.clone();
    let pages = stream::unfold((answering, after), |(answering, after)| async move {
        let page = next_page(&answering, after).await?;
        let last = page.last().map_or(after, |event| event.id);
        Some((stream::iter(page), (answering, last)))
    });
    let sent = pages.flatten().map(|event| Ok(send(&event)));
    Ok(Sse::new(sent.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// Waits until there are events after the given one; none when the ledger cannot be read: the reader comes back.
async fn next_page(answering: &Answering, after: u64) -> Option<Vec<Event>> {
    let mut newest = answering.ledger.newest_event();
    loop {
        newest.wait_for(|newest| *newest > after).await.ok()?;
        match answering.ledger.events(after, PAGE).await {
            Ok(page) if page.is_empty() => {
                // The number is announced after the write, so this does not happen; do not spin if it did.
                newest.changed().await.ok()?;
            }
            Ok(page) => return Some(page),
            Err(error) => {
                tracing::error!(%error, "events cannot be read");
                return None;
            }
        }
    }
}

fn send(event: &Event) -> Sent {
    Sent::default()
        .id(event.id.to_string())
        .event(&event.kind)
        .json_data(event)
        .unwrap_or_default()
}
