//! HTTP/1.1 of the sink: connections within a bound, bodies within a bound.
//!
//! Where there is a certificate, https comes in by the same port: what begins a TLS handshake does
//! not begin a request. Whoever reads the counts needs no certificate then.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Sink;
use super::tls::Tls;
use crate::clock::Moment;
use crate::stamp::{HEAD_LEN, Stamp};

/// The longest body that is read, in bytes: four times the largest event.
const MAX_BODY: usize = 1024 * 1024;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

/// Accepts and serves connections; never returns.
pub async fn accept(listener: TcpListener, sink: Arc<Sink>, tls: Option<Tls>, connections: u16) {
    let places = Arc::new(Semaphore::new(connections.into()));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (sink, tls) = (sink.clone(), tls.clone());
        tokio::spawn(async move {
            // Whatever goes wrong is the sender's to notice.
            let _ = begin(stream, &sink, tls).await;
            drop(place);
        });
    }
}

async fn begin(stream: TcpStream, sink: &Sink, tls: Option<Tls>) -> anyhow::Result<()> {
    let mut first = [0];
    match tls {
        Some(tls) if stream.peek(&mut first).await? == 1 && first == [HANDSHAKE] => {
            serve(tls.accept(stream).await?, sink).await
        }
        Some(_) | None => serve(stream, sink).await,
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, sink: &Sink) -> anyhow::Result<()> {
    let service = service_fn(|request| answer(sink, request));
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    Ok(http.serve_connection(TokioIo::new(stream), service).await?)
}

async fn answer(
    sink: &Sink,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (path, query) = (request.uri().path(), request.uri().query());
    if request.method() == Method::GET {
        let stats = (path == "/stats").then(|| serde_json::to_vec(&sink.tally.report()).ok());
        return Ok(match stats.flatten() {
            Some(stats) => Response::new(Full::from(stats)),
            None => empty(StatusCode::NOT_FOUND),
        });
    }
    match path {
        "/reset" => return Ok(told(value(query, "phase="), |phase| sink.tally.reset(phase))),
        "/answer" => {
            let status = value(query, "status=").and_then(|it| StatusCode::from_u16(it).ok());
            return Ok(told(status, |status| sink.turn_to(status)));
        }
        _ => {}
    }
    let route = path.strip_prefix("/r/").and_then(|route| route.parse().ok()).unwrap_or(0);
    let Some((stamp, bytes)) = read(request.into_body()).await else {
        return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let status = sink.status(route, stamp);
    sink.tally.count(route, stamp, bytes, Moment::now(), status.is_success());
    if sink.manner.hang {
        // hyper drops this when the sender hangs up.
        std::future::pending::<()>().await;
    }
    if let Some(delay) = &sink.delay {
        delay.wait().await;
    }
    Ok(empty(status))
}

/// What the query says after a name.
fn value<T: FromStr>(query: Option<&str>, name: &str) -> Option<T> {
    query?.strip_prefix(name)?.parse().ok()
}

/// Does what was asked for, if it could be read.
fn told<T>(value: Option<T>, act: impl FnOnce(T)) -> Response<Full<Bytes>> {
    match value {
        Some(value) => {
            act(value);
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
