//! Reading and resetting a sink.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use tokio::time::{Instant, sleep};

use crate::direct::connect;
use crate::sink::SinkReport;

/// The longest report that is read, in bytes; 256 routes take a fifth of it.
const MAX_REPORT: usize = 256 * 1024;
/// How often a sink is asked while something is expected of it.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// When nothing new came for this long, nothing will: longer than the first retry takes to be due.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a sink has counted.
///
/// # Errors
/// When it does not answer.
pub async fn stats(sink: SocketAddr) -> anyhow::Result<SinkReport> {
    Ok(serde_json::from_slice(&ask(sink, Method::GET, "/stats").await?)?)
}

/// Makes a sink forget what it has counted, and expect another phase.
///
/// # Errors
/// When it does not answer.
pub async fn reset(sink: SocketAddr, phase: u64) -> anyhow::Result<()> {
    ask(sink, Method::POST, &format!("/reset?phase={phase}")).await.map(drop)
}

/// Makes a sink answer with another status from now on.
///
/// # Errors
/// When it does not answer.
pub async fn turn_to(sink: SocketAddr, status: StatusCode) -> anyhow::Result<()> {
    ask(sink, Method::POST, &format!("/answer?status={}", status.as_u16())).await.map(drop)
}

/// Waits until a sink has received so many different events, or gets nothing new any more.
///
/// # Errors
/// When it does not answer.
pub async fn arrived(sink: SocketAddr, events: u64) -> anyhow::Result<SinkReport> {
    let (mut most, mut since) = (0, Instant::now());
    loop {
        let report = stats(sink).await?;
        if report.unique() > most {
            (most, since) = (report.unique(), Instant::now());
        }
        if most >= events || since.elapsed() > PATIENCE {
            return Ok(report);
        }
        sleep(ASK_EVERY).await;
    }
}

async fn ask(sink: SocketAddr, method: Method, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut connection = connect(sink).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, sink.to_string())
        .body(Full::<Bytes>::default())?;
    let answer = connection.send_request(request).await?;
    ensure!(answer.status().is_success(), "the sink answered {path} with {}", answer.status());
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            ensure!(text.len() + data.len() <= MAX_REPORT, "the sink's report is too long");
            text.extend_from_slice(&data);
        }
    }
    Ok(text)
}
