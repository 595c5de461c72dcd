//! How much of Redis's memory things take that are counted in millions.
//!
//! Each is brought about in a Redis of its own, with the same events: memory used before, then
//! events until the server's books say that all of them are where they should be, then memory used
//! after, both without buffers. The difference by their number is what one takes.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::bench::Bench;
use super::child::{self, Part};
use super::deployment::Deployment;
use super::scenario::{Store, Sync, Telemetry};
use super::setup::{self, Books, Server};
use super::sink_client;
use crate::load::{Ids, LoadReport};

/// Its name on the command line.
pub const KEY: &str = "redis-sizing";
/// Events of each case at most.
const MAX_EVENTS: u64 = 50_000;
/// How long the events may take to get where they should be.
const ARRIVE_TIME: Duration = Duration::from_secs(60);
/// Buffers, and what is kept of connections, have gone down after this: Redis looks each second.
const CALM_TIME: Duration = Duration::from_secs(3);
/// How long a load may take.
const LOAD_TIME: Duration = Duration::from_secs(180);
/// A node that does one attempt at a time, and does not wait for it when it is ended.
const ONE_ATTEMPT: &[&str] = &["--max-in-flight", "1", "--drain-limit", "0s"];

/// Where events are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Accepted, taken by no node: the only one has no attempt free, since its receiver hangs.
    Pending,
    /// Matched, the delivery waits: its subscription is paused.
    Paused,
    /// Attempted or held back, the delivery waits: its receiver answers 503.
    Retry,
    /// Delivered at once.
    Finished,
}

/// One thing that takes memory.
struct Case {
    title: &'static str,
    state: State,
    ids: Ids,
}

const CASES: &[Case] = &[
    Case { title: "event that no node has taken yet", state: State::Pending, ids: Ids::Assigned },
    Case { title: "the same with a given id", state: State::Pending, ids: Ids::Given },
    Case {
        title: "event with a delivery that waits, subscription paused",
        state: State::Paused,
        ids: Ids::Assigned,
    },
    Case {
        title: "event with a delivery that waits, receiver answers 503",
        state: State::Retry,
        ids: Ids::Assigned,
    },
    Case { title: "delivered event in history", state: State::Finished, ids: Ids::Assigned },
    Case { title: "the same with a given id", state: State::Finished, ids: Ids::Given },
];

/// What one thing takes.
#[derive(Clone, Debug, Serialize)]
pub struct Sizing {
    /// What it is.
    pub title: &'static str,
    /// How many of them there were.
    pub events: u64,
    /// Bytes of Redis's memory for each.
    pub bytes: f64,
    /// Requests that the receiver got.
    pub attempts: u64,
    /// Whatever was not as it should be.
    pub faults: Vec<String>,
}

/// Measures all of them, each in a directory below the bench's.
///
/// # Errors
/// When a part cannot be started, or ends before its time.
pub async fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Sizing>> {
    let mut sizings = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let directory = bench.directory.join(number.to_string());
        std::fs::create_dir(&directory)?;
        let sizing = case.measure(&Bench { directory: &directory, ..*bench }).await?;
        eprintln!("  {}: {:.0} B", sizing.title, sizing.bytes);
        sizings.push(sizing);
    }
    Ok(sizings)
}

impl Case {
    async fn measure(&self, bench: &Bench<'_>) -> anyhow::Result<Sizing> {
        let (sink_args, node_args): (&[&str], &[&str]) = match self.state {
            State::Pending => (&["--hang"], ONE_ATTEMPT),
            State::Retry => (&["--status", "503"], &["--drain-limit", "0s"]),
            State::Paused | State::Finished => (&[], &[]),
        };
        let sink = Part::sink(bench.directory, "sink", sink_args).await?;
        let store = Store::Redis { sync: Sync::EverySecond, nodes: 1 };
        let deployment = Deployment::start(bench, store, Telemetry::Off, node_args).await?;
        let redis = deployment.redis.as_ref().context("a deployment without Redis")?;
        let api = Server::connect(deployment.api, 1).await?;
        api.create_tenants().await?;
        let url = format!("http://{}/r/0", sink.address);
        let names = api.subscribe(setup::CONTRACT, |_| vec![url.clone()]).await?;
        match self.state {
            State::Paused => api.pause(&names).await?,
            // The one attempt is taken before anything is counted.
            State::Pending => {
                self.publish(bench, &deployment, "primer-", 1).await?;
                let primed = sink_client::arrived(sink.address, 1).await?;
                ensure!(primed.received == 1, "the receiver that hangs got no request");
            }
            // A receiver that is known to be fast: what has to wait for a new one leaves more.
            State::Finished => {
                let warm = self.publish(bench, &deployment, "warm-", bench.size.warm_up).await?;
                sink_client::arrived(sink.address, warm.acked).await?;
                sink_client::reset(sink.address, 0).await?;
            }
            State::Retry => {}
        }

        sleep(CALM_TIME).await;
        let there = self.there(&api.report().await?);
        let before = redis.info().await?.memory;
        let events = bench.size.events.min(MAX_EVENTS);
        let load = self.publish(bench, &deployment, "sizing-", events).await?;
        let expected = there + i64::try_from(load.acked)?;
        let books = self.arrive(&api, expected).await?;
        sleep(CALM_TIME).await;
        let after = redis.info().await?.memory;
        let requests = sink_client::stats(sink.address).await?;
        let mut sizing = Sizing {
            title: self.title,
            events: load.acked,
            bytes: (after as f64 - before as f64) / load.acked.max(1) as f64,
            attempts: requests.received + requests.refused,
            faults: Vec::new(),
        };
        if load.acked != events || self.there(&books) != expected {
            let title = self.title;
            sizing.faults.push(format!("{title}: of {events} {} published; {books:?}", load.acked));
        }
        sizing.faults.extend(deployment.stop().await);
        sink.stop().await?;
        Ok(sizing)
    }

    async fn publish(
        &self,
        bench: &Bench<'_>,
        deployment: &Deployment,
        prefix: &str,
        events: u64,
    ) -> anyhow::Result<LoadReport> {
        let target = deployment.targets[0].to_string();
        let (events, size) = (events.to_string(), bench.size.data.to_string());
        let args = ["load", "--target", &target, "--ids", self.ids.word(), "--id-prefix", prefix];
        let args = args.into_iter().chain(["--events", &events, "--size", &size]);
        child::report(&args.map(str::to_owned).collect::<Vec<_>>(), LOAD_TIME).await
    }

    /// Events that are where they should be.
    fn there(&self, books: &Books) -> i64 {
        match self.state {
            State::Pending => books.awaiting_match,
            State::Paused | State::Retry => books.pending,
            State::Finished => books.succeeded,
        }
    }

    /// Waits until so many events are where they should be, but not for long.
    async fn arrive(&self, api: &Server, events: i64) -> anyhow::Result<Books> {
        let until = Instant::now() + ARRIVE_TIME;
        loop {
            let books = api.report().await?;
            if self.there(&books) >= events || Instant::now() > until {
                return Ok(books);
            }
            sleep(Duration::from_millis(250)).await;
        }
    }
}
