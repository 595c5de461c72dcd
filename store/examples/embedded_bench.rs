//! Measures the embedded engine, step by step: `cargo run --release -p pregon-store --example
//! embedded_bench [memory|fsync|none] [events] [waiting]`.
//!
//! `fsync` (the default) and `none` use a directory under the temporary directory, with and
//! without waiting for the disk; `memory` uses none. Each line is one step: microseconds of wall
//! and of CPU per event or delivery. Steps run one after the other, so that each has the writer
//! to itself; the last line runs publishers and a worker at the same time. With `waiting`, only what
//! many waiting deliveries of one lane cost together.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use pregon_core::attempt::{AttemptRecord, End, RecordKind, Timing};
use pregon_core::clock::{SharedClock, SystemClock};
use pregon_core::event::{Environment, Event, NewEvent};
use pregon_core::id::{ContractId, DeliveryKey, EventId, EventTypeId, LaneNo, NodeId, TenantId};
use pregon_core::outcome::{AttemptOutcome, DeliveryState, EndReason, PendingReason};
use pregon_store::Store;
use pregon_store::batch::{Batch, LaneClose};
use pregon_store::embedded::{EmbeddedOptions, Location, SyncMode, open};
use pregon_store::intake::Published;
use pregon_store::log::Most;
use pregon_store::operate::{END_STEP, LaneEnd};
use pregon_store::settlement::{
    BatchSettle, DeliverySettle, EventOutcome, EventSettle, Settlement, Transition,
};
use pregon_store::work::{Claim, DueRequest};

/// Bytes of event data.
const DATA: usize = 500;
/// Tenants that publish.
const TENANTS: usize = 50;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_else(|| "fsync".to_owned());
    let count: usize = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let location = match mode.as_str() {
        "memory" => Location::Memory,
        _ => Location::Directory(dir.path().join("store")),
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let mut options = EmbeddedOptions::new(location, clock);
    options.sync = if mode == "none" { SyncMode::Memory } else { SyncMode::Fsync };
    let embedded = open(options)?;
    let bench = Bench { store: embedded.store(), tenants: TENANTS };
    println!("{mode}, {count} events of {DATA} B");
    println!("{:44} {:>9} {:>9}", "step", "wall µs", "CPU µs");
    if arguments.next().as_deref() == Some("waiting") {
        Bench { tenants: 1, ..bench }.waiting(count).await?;
        embedded.close();
        return Ok(());
    }
    bench.publishing(count).await?;
    bench.delivering(count).await?;
    bench.retrying(count / 10).await?;
    bench.at_once(count).await?;
    bench.paced(5000).await?;
    embedded.close();
    Ok(())
}

/// Makes the id of an event.
type Ids = fn(usize) -> String;

fn rising(i: usize) -> String {
    format!("order-{i:012}")
}

fn random(i: usize) -> String {
    format!(
        "{:032x}",
        u128::try_from(i).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    )
}

struct Bench {
    store: Store,
    tenants: usize,
}

impl Bench {
    async fn publishing(&self, count: usize) -> Result<()> {
        let call = |range: std::ops::Range<usize>| self.publish(range, None);
        measure("publish, 100 a call, 1 caller", count, async {
            for i in 0..count / 100 {
                call(i * 100..(i + 1) * 100).await?;
            }
            Ok(())
        })
        .await?;
        self.callers("publish, 100 a call, 16 callers", count, 16, 100, None).await?;
        self.callers("publish, 1 a call, 1 caller", count / 100, 1, 1, None).await?;
        self.callers("publish, 1 a call, 64 callers", count / 2, 64, 1, None).await?;
        let (rising, random) = (Some(rising as Ids), Some(random as Ids));
        self.callers("publish, rising ids, 100 a call, 16 callers", count, 16, 100, rising).await?;
        self.callers("publish, random ids, 100 a call, 16 callers", count, 16, 100, random).await?;
        self.callers("the same again: duplicates", count, 16, 100, random).await
    }

    /// Several callers publish at once, each in calls of `size`.
    async fn callers(
        &self,
        name: &str,
        count: usize,
        callers: usize,
        size: usize,
        ids: Option<Ids>,
    ) -> Result<()> {
        let share = count / callers;
        measure(name, share / size * size * callers, async {
            let calls = (0..callers).map(|caller| {
                let bench = Bench { store: self.store.clone(), tenants: self.tenants };
                tokio::spawn(async move {
                    for i in 0..share / size {
                        let first = (i * callers + caller) * size;
                        bench.publish(first..first + size, ids).await?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await??;
            }
            Ok(())
        })
        .await
    }

    async fn publish(&self, range: std::ops::Range<usize>, ids: Option<Ids>) -> Result<()> {
        let events: Result<Vec<_>> = range.map(|i| new_event(i, self.tenants, ids)).collect();
        self.store.intake.publish(events?).await?;
        Ok(())
    }

    /// Takes and settles everything there is, in two passes of whole batches.
    async fn delivering(&self, count: usize) -> Result<()> {
        let mut batches = Vec::new();
        measure("take, 256 a call", count, async {
            while batches.len() * 256 < count {
                batches.push(self.take().await?.context("events left")?);
            }
            Ok(())
        })
        .await?;
        let settlements: Result<Vec<_>> = batches.iter().map(|batch| succeed(batch, 0)).collect();
        let settlements = settlements?;
        measure("settle, 256 successes a call", count, async {
            for settlement in settlements {
                self.store.work.settle(settlement).await?;
            }
            Ok(())
        })
        .await?;
        // The rest, so that the next steps begin with an empty queue.
        while let Some(batch) = self.take().await? {
            self.store.work.settle(succeed(&batch, 0)?).await?;
        }
        let mut first =
            self.store.log.events(&Default::default(), None, Most::items(1000)).await?.items;
        first.truncate(1000);
        measure("delivery by id, from the log", first.len(), async {
            for event in &first {
                let position = event.position;
                let key = DeliveryKey { position, lane: LaneNo(1), replay: None };
                self.store.log.delivery(key).await?.context("a delivery")?;
            }
            Ok(())
        })
        .await
    }

    /// Every event goes into its lane once, is claimed from it and succeeds.
    async fn retrying(&self, count: usize) -> Result<()> {
        for i in 0..count / 100 {
            self.publish(i * 100..(i + 1) * 100, None).await?;
        }
        let mut batches = Vec::new();
        while let Some(batch) = self.take().await? {
            batches.push(batch);
        }
        measure("settle as waiting, 256 a call, 500 lanes", count, async {
            for batch in &batches {
                self.store.work.settle(wait(batch, 10)?).await?;
            }
            Ok(())
        })
        .await?;
        let mut held = Vec::new();
        measure("due, 256 a call", count, async {
            loop {
                let request = DueRequest { want: 256, default_slots: 64, ..Default::default() };
                let due = self.store.work.due(0, &claim()?, request).await?;
                match due.batch {
                    Some(batch) => held.push(batch),
                    None if due.more || due.next.is_some() => {
                        tokio::time::sleep(due.next.unwrap_or_default()).await;
                    }
                    None => return Ok(()),
                }
            }
        })
        .await?;
        measure("settle what was due", count, async {
            for batch in &held {
                self.store.work.settle(succeed(batch, 1)?).await?;
            }
            Ok(())
        })
        .await
    }

    /// Publishers, and a worker that takes and settles what they publish.
    async fn at_once(&self, count: usize) -> Result<()> {
        measure("publish, take and settle at once", count, async {
            let worker = Bench { store: self.store.clone(), tenants: self.tenants };
            let worker = tokio::spawn(async move {
                let mut done = 0;
                while done < count / 16 / 100 * 100 * 16 {
                    match worker.take().await? {
                        None => worker.store.work.wait(Duration::from_millis(100)).await,
                        Some(batch) => {
                            done += batch.len();
                            let store = worker.store.clone();
                            let settlement = succeed(&batch, 0)?;
                            tokio::spawn(async move { store.work.settle(settlement).await });
                        }
                    }
                }
                Ok::<_, anyhow::Error>(())
            });
            let calls = (0..16).map(|caller| {
                let bench = Bench { store: self.store.clone(), tenants: self.tenants };
                tokio::spawn(async move {
                    for i in 0..count / 16 / 100 {
                        let first = caller * (count / 16) + i * 100;
                        bench.publish(first..first + 100, None).await?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await??;
            }
            worker.await?
        })
        .await
    }

    /// What many deliveries of one lane cost together: to close it, to open it, to cancel them all.
    async fn waiting(&self, count: usize) -> Result<()> {
        self.callers("publish for a lane that waits", count, 16, 100, None).await?;
        let mut taken = 0;
        measure("put all into the lane", count, async {
            while let Some(batch) = self.take().await? {
                taken += batch.events.len();
                self.store.work.settle(wait(&batch, 1)?).await?;
            }
            Ok(())
        })
        .await?;
        let operate = &self.store.operate;
        let shut = LaneClose {
            lane: LaneNo(1),
            wait: Duration::from_secs(3600),
            reason: PendingReason::Paused,
        };
        measure("close the lane, once", 1, async { Ok(operate.close_lanes(&[shut]).await?) })
            .await?;
        measure("open the lane, once", 1, async { Ok(operate.open_lanes(&[LaneNo(1)]).await?) })
            .await?;
        let end = LaneEnd {
            lane: LaneNo(1),
            state: DeliveryState::Cancelled,
            reason: EndReason::SubscriptionDeleted,
            before: None,
            limit: END_STEP,
        };
        let mut ended = 0;
        let began = Instant::now();
        measure("cancel all, each", taken, async {
            loop {
                match operate.end_lane(end.clone()).await? {
                    0 => return Ok(()),
                    step => ended += step,
                }
            }
        })
        .await?;
        println!("{ended} of {taken} cancelled in {:?}", began.elapsed());
        Ok(())
    }

    /// One event a millisecond, each in a call of its own, and a worker that takes and settles
    /// them: how long a publish takes, and how long until the worker has the event.
    async fn paced(&self, count: usize) -> Result<()> {
        let start = Instant::now();
        let worker = Bench { store: self.store.clone(), tenants: self.tenants };
        let worker = tokio::spawn(async move {
            let mut taken = HashMap::new();
            while taken.len() < count {
                match worker.take().await? {
                    None => worker.store.work.wait(Duration::from_millis(100)).await,
                    Some(batch) => {
                        let now = start.elapsed();
                        taken.extend(batch.events.iter().map(|open| (open.event.position.n, now)));
                        let store = worker.store.clone();
                        let settlement = succeed(&batch, 0)?;
                        tokio::spawn(async move { store.work.settle(settlement).await });
                    }
                }
            }
            Ok::<_, anyhow::Error>(taken)
        });
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut calls = Vec::new();
        for i in 0..count {
            ticks.tick().await;
            let intake = self.store.intake.clone();
            calls.push(tokio::spawn(async move {
                let began = start.elapsed();
                let published = intake.publish(vec![new_event(i, TENANTS, None)?]).await?;
                let Some(Published::Accepted { position, .. }) = published.first() else {
                    anyhow::bail!("not accepted");
                };
                Ok((position.n, began, start.elapsed() - began))
            }));
        }
        let (mut publish, mut reach) = (Vec::new(), Vec::new());
        let mut began = HashMap::new();
        for call in calls {
            let (n, start, took) = call.await??;
            publish.push(took);
            began.insert(n, start);
        }
        for (n, at) in worker.await?? {
            reach.extend(began.get(&n).map(|start| at.saturating_sub(*start)));
        }
        for (name, mut times) in [("publish", publish), ("publish to taken", reach)] {
            times.sort_unstable();
            let at = |share: usize| times[(times.len() - 1) * share / 1000].as_secs_f64() * 1e3;
            let (p50, p99, p999) = (at(500), at(990), at(999));
            println!("1,000/s, {name:18} p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms");
        }
        Ok(())
    }

    async fn take(&self) -> Result<Option<Batch>> {
        Ok(self.store.work.take(0, &claim()?, 256, usize::MAX).await?)
    }
}

/// Runs a step and prints its cost per event.
async fn measure(name: &str, count: usize, step: impl Future<Output = Result<()>>) -> Result<()> {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    step.await?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let each = |seconds: f64| seconds * 1e6 / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    println!("{name:44} {:9.2} {:9.2}", each(wall), each(cpu));
    Ok(())
}

/// CPU seconds of this process so far, where the system says so.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or("").split(' ').skip(11);
    let ticks: f64 = fields.take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn claim() -> Result<Claim> {
    Ok(Claim { node: NodeId::parse("bench")?, lease: Duration::from_secs(600) })
}

fn new_event(i: usize, tenants: usize, ids: Option<Ids>) -> Result<NewEvent> {
    let mut data = format!("{{\"order\":{i},\"note\":\"");
    data.extend(std::iter::repeat_n('x', DATA.saturating_sub(data.len() + 2)));
    data.push_str("\"}");
    Ok(NewEvent {
        tenant: TenantId::parse(&format!("tenant-{}", i % tenants))?,
        id: ids.map(|ids| EventId::parse(&ids(i))).transpose()?,
        version: 0,
        event_type: EventTypeId::parse("order.captured")?,
        environment: Environment::Live,
        occur_time: None,
        since: None,
        min_revision: 0,
        trace: None,
        terms: None,
        attributes: Default::default(),
        data: Bytes::from(data),
    })
}

/// All of a batch succeeds, in lane 1 or where it was held.
fn succeed(batch: &Batch, attempts: u32) -> Result<Settlement> {
    let mut settlement = Settlement::default();
    let mut result = BatchSettle { token: batch.token, events: Vec::new(), deliveries: Vec::new() };
    for open in &batch.events {
        let key = DeliveryKey { position: open.event.position, lane: LaneNo(1), replay: None };
        settlement.attempts.push((batch.token, record(&open.event, key, 1)?.into()));
        let to = settle(&open.event, key, 1, Transition::Succeeded);
        let outcome = EventOutcome::Matched(vec![to]);
        let tenant = open.event.tenant.clone();
        result.events.push(EventSettle::new(open.event.position, tenant, outcome));
    }
    for held in &batch.deliveries {
        let attempt = record(&held.event, held.key, attempts + 1)?;
        settlement.attempts.push((batch.token, attempt.into()));
        let to = settle(&held.event, held.key, attempts + 1, Transition::Succeeded);
        result.deliveries.push(to);
    }
    settlement.batches.push(result);
    Ok(settlement)
}

/// All of a batch waits, spread over lanes.
/// Puts events of a batch into lanes, so many for each tenant.
fn wait(batch: &Batch, lanes: u64) -> Result<Settlement> {
    let events = batch.events.iter().map(|open| {
        let position = open.event.position;
        let tenant: u64 = open.event.tenant.as_str().trim_start_matches("tenant-").parse()?;
        let lane = LaneNo(tenant * lanes + position.n % lanes + 1);
        let key = DeliveryKey { position, lane, replay: None };
        let to = settle(&open.event, key, 0, Transition::Waiting(PendingReason::LaneFull));
        let outcome = EventOutcome::Matched(vec![to]);
        Ok(EventSettle::new(position, open.event.tenant.clone(), outcome))
    });
    let events = events.collect::<Result<_>>()?;
    let result = BatchSettle { token: batch.token, events, deliveries: Vec::new() };
    Ok(Settlement { batches: vec![result], ..Settlement::default() })
}

fn settle(event: &Event, key: DeliveryKey, attempts: u32, to: Transition) -> DeliverySettle {
    DeliverySettle { key, tenant: event.tenant.clone(), attempts, age: Duration::ZERO, to }
}

fn record(event: &Event, key: DeliveryKey, number: u32) -> Result<AttemptRecord> {
    Ok(AttemptRecord {
        key,
        kind: RecordKind::Attempt,
        number,
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        environment: event.environment,
        node: NodeId::parse("bench")?,
        start: event.accept_time(),
        timing: Timing { first_byte: 4000, total: 5000, ..Timing::default() },
        outcome: Some(AttemptOutcome::Succeeded),
        end: Some(End { state: DeliveryState::Succeeded, reason: None }),
        error_class: None,
        reason: String::new(),
        status: 200,
        url: Arc::from("https://example.com/hooks/orders"),
        remote: Some("192.0.2.1:443".parse()?),
        next_attempt: None,
        configuration_revision: 17,
        contract: ContractId::parse("standard")?,
        contract_revision: 0,
        secrets: Vec::new(),
        response: None,
        late: false,
        resent: false,
        headers: Default::default(),
    })
}
