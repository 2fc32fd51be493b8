//! Where Kong posts its lines: on loopback, bounded in size, time and number. Whatever goes wrong is told, and ends nothing.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Counter;

/// More is no post of what Kong is told to post: a hundred lines, each with the largest headers that nginx takes.
const LARGEST: usize = 16 << 20;
/// So many posts are read at one time: what they hold in memory is bounded by it.
const ABREAST: usize = 4;
/// So many connections: one for each worker of a Kong, kept open, and room for more.
const CONNECTIONS: usize = 256;
/// So long may a post take to come. Kong gives up after two seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long may a connection be idle: longer than Kong keeps one.
const IDLE: Duration = Duration::from_secs(75);
/// So long until it is tried again to listen.
const AGAIN: Duration = Duration::from_secs(2);

/// Takes posts until stopped.
pub(super) async fn listen(counter: &Counter, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match TcpListener::bind(counter.listen).await {
            Ok(listener) => {
                counter.state().deaf = None;
                stop.run_until_cancelled(serve(counter, listener)).await;
            }
            Err(error) => {
                let why = format!("{} cannot be listened at: {error}", counter.listen);
                tracing::warn!(%why, "requests are not counted");
                counter.state().deaf = Some(why);
                stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
            }
        }
    }
}

async fn serve(counter: &Counter, listener: TcpListener) {
    let abreast = Semaphore::new(ABREAST);
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => open.push(connection(counter, &abreast, stream)),
                // Out of descriptors, or hung up already: the next one may do.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

async fn connection(counter: &Counter, abreast: &Semaphore, stream: TcpStream) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let service = service_fn(|request| async move {
        let mut answer = Response::new(Empty::<Bytes>::new());
        *answer.status_mut() = post(counter, abreast, request).await;
        Ok::<_, Infallible>(answer)
    });
    // Whoever posts hung up: there is nobody to tell.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn post(counter: &Counter, abreast: &Semaphore, request: Request<Incoming>) -> StatusCode {
    if request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED;
    }
    // Its turn is a part of the time that it may take.
    let body = async {
        let permit = abreast.acquire().await.ok()?;
        let body = Limited::new(request.into_body(), LARGEST).collect().await;
        Some((permit, body))
    };
    let (_permit, body) = match tokio::time::timeout(PATIENCE, body).await {
        Err(_) => {
            counter.not_taken(format!(
                "a post took longer than {} s to come",
                PATIENCE.as_secs()
            ));
            return StatusCode::REQUEST_TIMEOUT;
        }
        Ok(None) => return StatusCode::SERVICE_UNAVAILABLE,
        Ok(Some(read)) => read,
    };
    let body = match body {
        Err(error) if error.is::<LengthLimitError>() => {
            counter.not_taken(format!("a post of more than {LARGEST} bytes was not taken"));
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        // It ended before its end.
        Err(_) => return StatusCode::BAD_REQUEST,
        Ok(body) => body.to_bytes(),
    };
    match counter.take(&body) {
        Ok(()) => StatusCode::OK,
        Err(why) => {
            tracing::debug!(%why, "not counted");
            StatusCode::BAD_REQUEST
        }
    }
}
