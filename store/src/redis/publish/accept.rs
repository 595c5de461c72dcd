//! Publish: events gather into flushes, and each flush is one step on one partition.
//!
//! A call to Redis costs the same whatever it carries, so what comes while a flush is under way
//! waits and goes together. Events without an id may go to any partition: a full flush goes to any
//! that is free, a smaller one only when no other is under way. Events with an id belong to the
//! partition that their id names, so that their repeats are seen.
//!
//! A flush that ran makes room for the next one, and its events wait to be confirmed at the store's
//! level together with those of other flushes. What waits is bounded in bytes. An event whose
//! caller gave up before it was sent is not sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pregon_core::clock::Timestamp;
use pregon_core::event::NewEvent;
use pregon_core::id::{Position, TenantId};
use pregon_core::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::StoreError;
use crate::codec::stored::content_digest;
use crate::intake::Published;
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Fault, Result, bad};
use crate::redis::engine::sure::Proof;
use crate::redis::layout::entry::{self, IdHash};
use crate::redis::layout::stream::Id;

/// Events in one step: 0.7 ms of Redis.
const FLUSH_EVENTS: usize = 100;
/// Bytes in one step, but one event whatever its size.
const FLUSH_BYTES: usize = 1024 * 1024;
/// Publish calls that may wait to be taken up; callers wait above it.
const CALLS: usize = 1024;
/// What may be on its way, in units of a KiB and one for each event; callers wait above it.
const ROOM: u32 = 64 * 1024;

/// A window of ids: half of what history is kept, and no less than ids are remembered. Three are
/// kept, so that an event's id is found as long as the event. The first publish of a partition's
/// life says how long they are.
fn window(history: Duration) -> Duration {
    limits::DEDUPE_WINDOW.max(history / 2)
}

/// An event on its way.
struct Item {
    entry: Vec<u8>,
    tenant: TenantId,
    given: Option<Given>,
    call: Arc<Call>,
    place: usize,
}

/// A given id, and what its repeats are told by.
struct Given {
    hash: IdHash,
    digest: [u8; 16],
    /// What was accepted before this was another tenant's; 0: nothing was.
    since: i64,
    /// When it is to be delivered, if that is said.
    time: Option<Timestamp>,
}

/// A publish call that is being answered.
struct Call {
    state: Mutex<CallState>,
    /// Given back with the last of its events.
    _room: OwnedSemaphorePermit,
}

struct CallState {
    answers: Vec<Option<Published>>,
    left: usize,
    failed: Option<StoreError>,
    done: Option<oneshot::Sender<std::result::Result<Vec<Published>, StoreError>>>,
}

impl Call {
    /// Whether nobody waits for its answer any more.
    fn is_gone(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.done.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Notes what became of one of its events; the last one answers the call.
    fn answer(&self, place: usize, answer: std::result::Result<Published, StoreError>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match answer {
            Ok(published) => state.answers[place] = Some(published),
            Err(error) => state.failed = Some(error),
        }
        state.left -= 1;
        if state.left > 0 {
            return;
        }
        let answers: Option<Vec<Published>> = state.answers.drain(..).collect();
        let result = match (state.failed.take(), answers) {
            (None, Some(answers)) => Ok(answers),
            (Some(error), _) => Err(error),
            (None, None) => Err(StoreError::Unavailable("an event was not answered".to_owned())),
        };
        if let Some(done) = state.done.take() {
            let _ = done.send(result); // the caller may have gone
        }
    }
}

/// Takes publish calls.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Publisher {
    calls: mpsc::Sender<Vec<Item>>,
    room: Arc<Semaphore>,
}

impl Publisher {
    /// Starts one; it ends when its last handle is gone.
    pub fn start(engine: Arc<Engine>) -> Self {
        let (calls, waiting) = mpsc::channel(CALLS);
        tokio::spawn(Flushes::new(engine).run(waiting));
        Self { calls, room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    /// Accepts events; answers in order.
    pub async fn publish(
        &self,
        events: Vec<NewEvent>,
    ) -> std::result::Result<Vec<Published>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let cost = events.iter().map(cost).fold(0, u32::saturating_add).min(ROOM);
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await;
        let (done, answer) = oneshot::channel();
        let call = Arc::new(Call {
            state: Mutex::new(CallState {
                answers: vec![None; events.len()],
                left: events.len(),
                failed: None,
                done: Some(done),
            }),
            _room: room.map_err(|_| StoreError::Closed)?,
        });
        let items =
            events.into_iter().enumerate().map(|(place, event)| Item::new(event, &call, place));
        let items = items.collect::<Result<Vec<Item>>>()?;
        drop(call);
        self.calls.send(items).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Units of room that an event takes.
fn cost(event: &NewEvent) -> u32 {
    1 + u32::try_from(event.size() / 1024).unwrap_or(ROOM)
}

impl Item {
    fn new(event: NewEvent, call: &Arc<Call>, place: usize) -> Result<Self> {
        let given = event.id.as_ref().map(|id| Given {
            hash: IdHash::of(&event.tenant, id.as_str(), event.version),
            digest: content_digest(&event),
            since: event.since.map_or(0, Timestamp::millis),
            time: event.terms.as_ref().and_then(|terms| terms.deliver_time),
        });
        let entry = entry::encode(&event)?;
        Ok(Self { entry, tenant: event.tenant, given, call: Arc::clone(call), place })
    }
}

/// What waits, and what is under way.
struct Flushes {
    engine: Arc<Engine>,
    /// May go anywhere.
    anywhere: VecDeque<Item>,
    /// Must go to this partition.
    bound: Vec<VecDeque<Item>>,
    busy: Vec<bool>,
    /// Flushes under way that carry events without ids.
    roaming: usize,
    /// Where to look first for a free partition.
    next: usize,
    flying: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// What ran and is not confirmed yet.
    confirming: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// A flush that came back.
struct Landed {
    partition: usize,
    roaming: bool,
    ran: Option<Ran>,
}

/// Events that are there, with the answers that their calls have when they are confirmed.
struct Ran {
    items: Vec<Item>,
    answers: Vec<Published>,
    proof: Proof,
}

impl Flushes {
    fn new(engine: Arc<Engine>) -> Self {
        let partitions = engine.partitions.len();
        Self {
            engine,
            anywhere: VecDeque::new(),
            bound: std::iter::repeat_with(VecDeque::new).take(partitions).collect(),
            busy: vec![false; partitions],
            roaming: 0,
            next: 0,
            flying: FuturesUnordered::new(),
            confirming: FuturesUnordered::new(),
        }
    }

    async fn run(mut self, mut calls: mpsc::Receiver<Vec<Item>>) {
        let mut open = true;
        let mut came = Vec::new();
        while open || !self.flying.is_empty() || !self.confirming.is_empty() {
            tokio::select! {
                biased;
                Some(landed) = self.flying.next() => {
                    self.busy[landed.partition] = false;
                    self.roaming -= usize::from(landed.roaming);
                    if let Some(ran) = landed.ran {
                        self.confirming.push(Box::pin(ran.confirm(Arc::clone(&self.engine))));
                    }
                }
                Some(()) = self.confirming.next() => continue,
                count = calls.recv_many(&mut came, CALLS), if open => {
                    open = count > 0;
                    came.drain(..).flatten().for_each(|item| self.enqueue(item));
                }
            }
            self.launch();
        }
    }

    fn enqueue(&mut self, item: Item) {
        match &item.given {
            None => self.anywhere.push_back(item),
            Some(given) => {
                let partition = given.hash.partition(self.bound.len());
                self.bound[partition].push_back(item);
            }
        }
    }

    /// Sends what can go now.
    fn launch(&mut self) {
        let partitions = self.bound.len();
        let first = self.next;
        for step in 0..partitions {
            let partition = (first + step) % partitions;
            if self.busy[partition] {
                continue;
            }
            let mut flush = Flush::default();
            flush.fill(&mut self.bound[partition]);
            let full = self.anywhere.len() >= FLUSH_EVENTS;
            let roams = !self.anywhere.is_empty() && (full || self.roaming == 0);
            if roams {
                flush.fill(&mut self.anywhere);
                self.next = (partition + 1) % partitions;
            }
            if flush.items.is_empty() {
                continue;
            }
            self.busy[partition] = true;
            self.roaming += usize::from(roams);
            let engine = Arc::clone(&self.engine);
            self.flying.push(Box::pin(async move {
                let ran = flush.send(&engine, partition).await;
                Landed { partition, roaming: roams, ran }
            }));
        }
    }
}

/// Events that go together.
#[derive(Default)]
struct Flush {
    items: Vec<Item>,
    bytes: usize,
}

impl Flush {
    /// Takes in what fits, but what nobody waits for.
    fn fill(&mut self, from: &mut VecDeque<Item>) {
        while self.items.len() < FLUSH_EVENTS
            && let Some(item) = from.front()
            && (self.items.is_empty() || self.bytes + item.entry.len() <= FLUSH_BYTES)
            && let Some(item) = from.pop_front()
        {
            if item.call.is_gone() {
                continue;
            }
            self.bytes += item.entry.len();
            self.items.push(item);
        }
    }

    /// Sends it; answers its calls if it did not run.
    async fn send(mut self, engine: &Engine, partition: usize) -> Option<Ran> {
        let result = match engine.partitions.get(partition) {
            Some(partition) => self.ask(engine, partition).await,
            None => Err(bad("partition", partition)),
        };
        match result {
            Ok((answers, proof)) => Some(Ran { items: self.items, answers, proof }),
            Err(fault) => {
                fail(&self.items, fault);
                None
            }
        }
    }

    async fn ask(
        &mut self,
        engine: &Engine,
        partition: &crate::redis::engine::partition::Partition,
    ) -> Result<(Vec<Published>, Proof)> {
        let mut without: Vec<(&str, usize)> = Vec::new();
        for item in self.items.iter().filter(|item| item.given.is_none()) {
            let tenant = item.tenant.as_str();
            match without.iter_mut().find(|(known, _)| *known == tenant) {
                Some((_, count)) => *count += 1,
                None => without.push((tenant, 1)),
            }
        }
        let without: Vec<Val<'_>> = without
            .into_iter()
            .flat_map(|(tenant, count)| [Val::Text(tenant), Val::Count(count)])
            .collect();
        let mut args = Args::default()
            .millis(limits::DEDUPE_WINDOW)
            .millis(window(engine.history.max_age))
            .table(&without)?;
        for item in &mut self.items {
            args.push_bytes(std::mem::take(&mut item.entry));
            match &item.given {
                None => (0..5).for_each(|_| args.push_text("")),
                Some(Given { hash, digest, since, time }) => {
                    args.push_bytes(hash.field.to_vec());
                    match time {
                        None => args.push_text(hash.bucket),
                        Some(time) => {
                            args.push_text(format_args!("{}:{}", hash.bucket, time.millis()));
                        }
                    }
                    args.push_bytes(digest.to_vec());
                    args.push_text(&item.tenant);
                    args.push_text(since);
                }
            }
        }
        let (answer, proof): ((String, String, Vec<String>), Proof) =
            engine.publish(partition, args).await?;
        let (ms, first, marked) = answer;
        let (Ok(ms), Ok(first)) = (ms.parse::<u64>(), first.parse::<u64>()) else {
            return Err(bad("a publish's answer", (ms, first)));
        };
        let accepted = |n| Published::Accepted {
            position: Position { ms, partition: partition.no, n },
            duplicate: false,
        };
        if marked.is_empty() {
            return Ok(((first..).take(self.items.len()).map(accepted).collect(), proof));
        }
        if marked.len() != self.items.len() {
            return Err(bad("a publish's answers", marked.len()));
        }
        let read = |mark: String| match Id::parse(mark.as_bytes()) {
            Some(id) => {
                let position = id.position(partition.no);
                Ok(Published::Accepted { position, duplicate: true })
            }
            None if mark.is_empty() => Ok(Published::IdReused),
            None => mark.parse().map(accepted).map_err(|_| bad("a publish's answer", mark)),
        };
        Ok((marked.into_iter().map(read).collect::<Result<_>>()?, proof))
    }
}

impl Ran {
    /// Answers its calls when it is at its level.
    async fn confirm(self, engine: Arc<Engine>) {
        match engine.confirmer.confirm(self.proof).await {
            Ok(()) => {
                for (item, answer) in self.items.iter().zip(self.answers) {
                    item.call.answer(item.place, Ok(answer));
                }
            }
            Err(fault) => fail(&self.items, fault),
        }
    }
}

/// Answers the calls of these events with what went wrong.
fn fail(items: &[Item], fault: Fault) {
    let error = StoreError::from(fault);
    items.iter().for_each(|item| item.call.answer(item.place, Err(error.clone())));
}

/// A value of a list that Lua reads.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Val<'a> {
    Text(&'a str),
    Count(usize),
}
