//! Measures what questions cost with many events stored: `cargo run --release -p pregon-store
//! --example read_costs [embedded|redis://…] [events]`.
//!
//! The Redis must be empty. A tenth of the events wait for a retry, in 500 lanes; the others went
//! well. Each line is one question, asked 200 times about events spread over all of them: median,
//! 99th percentile and longest time in milliseconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use pregon_core::attempt::{AttemptRecord, End, RecordKind, Timing};
use pregon_core::clock::{SharedClock, SystemClock, Timestamp};
use pregon_core::event::{Environment, Event, NewEvent};
use pregon_core::id::{
    ContractId, DeliveryKey, EventId, EventName, EventTypeId, LaneNo, NodeId, Position, TenantId,
};
use pregon_core::outcome::{AttemptOutcome, DeliveryState};
use pregon_store::Store;
use pregon_store::embedded::{self, EmbeddedOptions, Location, SyncMode};
use pregon_store::intake::Published;
use pregon_store::log::DeliveryQuery;
use pregon_store::redis::{self, RedisOptions};
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settlement, Transition,
};
use pregon_store::work::Claim;

/// Times that each question is asked.
const ASKED: usize = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let engine = arguments.next().unwrap_or_else(|| "embedded".to_owned());
    let count: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let store = match engine.as_str() {
        "embedded" => {
            let clock: SharedClock = Arc::new(SystemClock);
            let location = Location::Directory(dir.path().join("store"));
            let mut options = EmbeddedOptions::new(location, clock);
            options.sync = SyncMode::Memory;
            embedded::open(options)?.store()
        }
        url => {
            let options = RedisOptions::new(url);
            redis::setup(&options, redis::PARTITIONS).await?;
            redis::open(options).await?.store()
        }
    };
    let start = Instant::now();
    let positions = fill(&store, count).await?;
    println!("{count} events of 500 B filled in {:.0} s", start.elapsed().as_secs_f64());
    println!("{:40} {:>8} {:>8} {:>8}", "question", "p50 ms", "p99 ms", "max ms");
    let at = |i: usize| positions[i * (positions.len() - 1) / ASKED.max(1)];
    let log = &store.log;
    let name = |i: usize| event_name(i * (count - 1) / ASKED.max(1));
    measure("find an event by its given id", async |i| {
        log.find(&name(i)?).await?.context("an event").map(drop)
    })
    .await?;
    measure("event and stage", async |i| log.event(at(i)).await?.context("an event").map(drop))
        .await?;
    measure("deliveries by event", async |i| {
        let query = DeliveryQuery { event: Some(at(i)), ..DeliveryQuery::default() };
        let page = log.deliveries(&query, None, 12_000).await?;
        anyhow::ensure!(page.items.len() == 1);
        Ok(())
    })
    .await?;
    measure("attempts of a delivery", async |i| {
        anyhow::ensure!(log.attempts(key(at(i))).await?.len() == 1);
        Ok(())
    })
    .await?;
    measure("attempts by event", async |i| {
        anyhow::ensure!(log.event_attempts(at(i)).await?.len() == 1);
        Ok(())
    })
    .await?;
    measure("lane", async |i| {
        let lane = store.lanes.lane(key(at(i)).lane).await?;
        anyhow::ensure!(lane.waiting > 0);
        Ok(())
    })
    .await?;
    let since = Timestamp::from_millis(0);
    measure("attempts of a lane", async |i| {
        store.lanes.lane_attempts(key(at(i)).lane, since, 2000).await?;
        Ok(())
    })
    .await?;
    measure("backlog", async |_| {
        let report = store.backlog.backlog().await?;
        anyhow::ensure!(report.pending() == (count / 10) as u64, "{report:?}");
        Ok(())
    })
    .await?;
    println!("{:?}", store.backlog.backlog().await?);
    Ok(())
}

async fn measure(name: &str, question: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let mut took = Vec::with_capacity(ASKED);
    for i in 0..ASKED {
        let start = Instant::now();
        question(i).await?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    let (p50, p99, max) = (took[ASKED / 2], took[ASKED * 99 / 100 - 1], took[ASKED - 1]);
    println!("{name:40} {p50:>8.2} {p99:>8.2} {max:>8.2}");
    Ok(())
}

fn tenant() -> Result<TenantId> {
    TenantId::parse("acme").map_err(|wrong| anyhow::anyhow!("{wrong:?}"))
}

fn id(i: usize) -> String {
    format!("order-{i:012}")
}

fn event_name(i: usize) -> Result<EventName> {
    let id = EventId::parse_given(&id(i)).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
    Ok(EventName { tenant: tenant()?, id, version: 0 })
}

/// 500 lanes share the events.
fn key(position: Position) -> DeliveryKey {
    DeliveryKey { position, lane: LaneNo(1 + position.n / 10 % 500), replay: None }
}

/// Publishes and settles everything; answers where the events lie.
async fn fill(store: &Store, count: usize) -> Result<Vec<Position>> {
    let data = Bytes::from(format!("\"{}\"", "x".repeat(498)));
    let mut positions = Vec::with_capacity(count);
    for first in (0..count).step_by(1000) {
        let event = |i: usize| -> Result<NewEvent> {
            Ok(NewEvent {
                tenant: tenant()?,
                id: Some(event_name(i)?.id),
                version: 0,
                event_type: EventTypeId::parse("order.captured").ok().context("a type")?,
                environment: Environment::Live,
                occur_time: None,
                since: None,
                min_revision: 0,
                trace: None,
                terms: None,
                attributes: Default::default(),
                data: data.clone(),
            })
        };
        let events: Result<Vec<_>> = (first..count.min(first + 1000)).map(event).collect();
        for published in store.intake.publish(events?).await? {
            if let Published::Accepted { position, .. } = published {
                positions.push(position);
            }
        }
    }
    let node = NodeId::parse("n1").ok().context("a node")?;
    let claim = Claim { node, lease: Duration::from_secs(60) };
    let mut settled = 0;
    for partition in 0..store.work.partitions() {
        while let Some(batch) = store.work.take(partition, &claim, 200, usize::MAX).await? {
            let mut settlement = Settlement::default();
            let mut events = Vec::new();
            for open in &batch.events {
                settled += 1;
                let to = match settled % 10 {
                    0 => Transition::Retry(Duration::from_secs(3600)),
                    _ => Transition::Succeeded,
                };
                let (position, tenant) = (open.event.position, open.event.tenant.clone());
                settlement
                    .attempts
                    .push((batch.token, attempt(&open.event, &claim.node, to)?.into()));
                let key = key(position);
                let delivery = DeliverySettle {
                    key,
                    tenant: tenant.clone(),
                    attempts: 1,
                    age: Duration::ZERO,
                    to,
                };
                let outcome = EventOutcome::Matched(vec![delivery]);
                events.push(EventSettle::new(position, tenant, outcome));
            }
            let (token, deliveries) = (batch.token, Vec::new());
            settlement.batches.push(BatchSettle { token, events, deliveries });
            store.work.settle(settlement).await?;
        }
    }
    Ok(positions)
}

fn attempt(event: &Event, node: &NodeId, to: Transition) -> Result<AttemptRecord> {
    let good = to == Transition::Succeeded;
    Ok(AttemptRecord {
        key: key(event.position),
        kind: RecordKind::Attempt,
        number: 1,
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        environment: event.environment,
        node: node.clone(),
        start: event.accept_time(),
        timing: Timing { connect: 120, total: 1_100, ..Timing::default() },
        outcome: Some(if good { AttemptOutcome::Succeeded } else { AttemptOutcome::Retry }),
        end: good.then_some(End { state: DeliveryState::Succeeded, reason: None }),
        error_class: None,
        reason: String::new(),
        status: if good { 200 } else { 503 },
        url: Arc::from("https://receiver.example/hook"),
        remote: None,
        next_attempt: None,
        configuration_revision: 7,
        contract: ContractId::parse("standard_webhooks").ok().context("a contract")?,
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    })
}
