//! The ceiling: POSTs straight into the sink, nothing in between.
//!
//! A bare hyper client with one request at a time on each of 64 connections sends what a delivery
//! under the default contract looks like: the same headers, the same envelope, the same data. No
//! sender can deliver more on this machine with this sink, and none can spend less CPU on it with
//! this client; so both are the measure that the server is held to, taken in the same minute.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::clock::Moment;
use crate::histogram::{Histogram, Summary};
use crate::proc;
use crate::stamp::{self, DataMaker};

/// Sends requests straight to the sink and prints how many it takes, as JSON.
#[derive(Clone, Debug, Args)]
pub struct DirectArgs {
    /// Where the sink is; loopback only.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::loopback)]
    pub target: SocketAddr,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// Seconds to send for at most.
    #[arg(long, default_value_t = 2.0, value_parser = crate::seconds)]
    pub seconds: f64,
    /// Requests to send at most.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub requests: u64,
    /// Bytes of data of each event.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(stamp::MIN_SIZE as i64..=256 * 1024))]
    pub size: u32,
    /// The phase of the run that the events belong to.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=stamp::MAX_PHASE))]
    pub phase: u64,
}

/// How a run straight against the sink went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DirectReport {
    /// Requests that were answered.
    pub requests: u64,
    /// Answers other than 200.
    pub refused: u64,
    /// When the run began.
    pub start: Moment,
    /// When it ended.
    pub end: Moment,
    /// Answers per second.
    pub requests_per_second: f64,
    /// From request to answer.
    pub latency: Summary,
    /// Seconds of CPU that the client took.
    pub cpu_seconds: f64,
}

struct Direct {
    args: DirectArgs,
    maker: DataMaker,
    next: AtomicU64,
    refused: AtomicU64,
    latency: Histogram,
    until: Moment,
}

/// Runs the requests and prints the report.
///
/// # Errors
/// When the sink cannot be reached or a connection breaks.
pub async fn run(args: DirectArgs) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&send(args).await?)?);
    Ok(())
}

/// Sends as told and says how that went.
///
/// # Errors
/// When the sink cannot be reached or a connection breaks.
pub async fn send(args: DirectArgs) -> anyhow::Result<DirectReport> {
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(connect(args.target).await?);
    }
    let before = proc::own_cpu()?;
    let start = Moment::now();
    let direct = Arc::new(Direct {
        maker: DataMaker::new(args.phase, args.size as usize),
        next: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        latency: Histogram::default(),
        until: start.plus(Duration::from_secs_f64(args.seconds)),
        args,
    });
    let mut callers = tokio::task::JoinSet::new();
    for connection in connections {
        callers.spawn(direct.clone().caller(connection));
    }
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller died")?.context("a connection to the sink broke")?;
    }
    let (end, latency) = (Moment::now(), direct.latency.summary());
    Ok(DirectReport {
        requests: latency.count,
        refused: direct.refused.load(Relaxed),
        start,
        end,
        requests_per_second: crate::per_second(latency.count, end.since(start)),
        latency,
        cpu_seconds: (proc::own_cpu()? - before).as_secs_f64(),
    })
}

/// A connection of our own making, driven by a task.
pub async fn connect(target: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("cannot reach the sink at {target}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

impl Direct {
    async fn caller(
        self: Arc<Self>,
        mut connection: SendRequest<Full<Bytes>>,
    ) -> anyhow::Result<()> {
        loop {
            let sequence = self.next.fetch_add(1, Relaxed);
            let since = Moment::now();
            if sequence >= self.args.requests || since >= self.until {
                return Ok(());
            }
            connection.ready().await?;
            let answer = connection.send_request(self.request(sequence, since)?).await?;
            if answer.status() != hyper::StatusCode::OK {
                self.refused.fetch_add(1, Relaxed);
            }
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
            }
            self.latency.record(Moment::now().since(since));
        }
    }

    fn request(&self, sequence: u64, since: Moment) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut body = String::with_capacity(self.args.size as usize + 128);
        body.push_str(
            "{\"type\":\"bench.event\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"data\":",
        );
        self.maker.write(sequence, since, &mut body);
        body.push('}');
        Ok(Request::post("/r/0")
            .header(header::HOST, self.args.target.to_string())
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header(header::USER_AGENT, "pregon-bench")
            .header("webhook-id", format!("bench-{sequence:010}"))
            .header("webhook-timestamp", "1767225600")
            .header("webhook-signature", "v1,n2vVOj6DHvlrAUWCkMmFQJj7lYW2yfkhhVnHWmKQ7uA=")
            .body(Full::from(body))?)
    }
}
