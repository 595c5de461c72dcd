//! HTTP/1.1 of the sink: connections within a bound, bodies within a bound.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Manner, Tally};
use crate::clock::Moment;
use crate::stamp::{HEAD_LEN, Stamp};

/// The longest body that is read, in bytes: four times the largest event.
const MAX_BODY: usize = 1024 * 1024;

/// Accepts and serves connections; never returns.
pub async fn accept(listener: TcpListener, tally: Tally, manner: Manner, connections: u16) {
    let places = Arc::new(Semaphore::new(connections.into()));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let tally = tally.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&tally, manner, request));
            let served = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service);
            // Whatever goes wrong is the sender's to notice.
            let _ = served.await;
            drop(place);
        });
    }
}

async fn answer(
    tally: &Tally,
    manner: Manner,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if request.method() == Method::GET {
        let stats = (path == "/stats").then(|| serde_json::to_vec(&tally.report()).ok());
        return Ok(match stats.flatten() {
            Some(stats) => Response::new(Full::from(stats)),
            None => empty(StatusCode::NOT_FOUND),
        });
    }
    if path == "/reset" {
        return Ok(reset(tally, request.uri().query()));
    }
    let route = path.strip_prefix("/r/").and_then(|route| route.parse().ok()).unwrap_or(0);
    let Some((stamp, bytes)) = read(request.into_body()).await else {
        return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE));
    };
    tally.count(route, stamp, bytes, Moment::now());
    if manner.hang {
        // hyper drops this when the sender hangs up.
        std::future::pending::<()>().await;
    }
    if !manner.delay.is_zero() {
        tokio::time::sleep(manner.delay).await;
    }
    Ok(empty(manner.status))
}

fn reset(tally: &Tally, query: Option<&str>) -> Response<Full<Bytes>> {
    let phase = query.and_then(|query| query.strip_prefix("phase=")?.parse().ok());
    match phase {
        Some(phase) => {
            tally.reset(phase);
            empty(StatusCode::NO_CONTENT)
        }
        None => empty(StatusCode::BAD_REQUEST),
    }
}

/// Reads a body to its end; its stamp and length, or nothing if it is too long or broken off.
async fn read(mut body: Incoming) -> Option<(Option<Stamp>, u64)> {
    let mut head = Bytes::new();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        len += data.len();
        if len > MAX_BODY {
            return None;
        }
        if head.is_empty() {
            head = data;
        } else if head.len() < HEAD_LEN {
            head = [head.as_ref(), data.as_ref()].concat().into();
        }
    }
    Some((Stamp::find(&head), len as u64))
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
