//! Store calls of the worker loop: which is under way, and when the next is due.
//!
//! One call of a kind and partition is under way at a time. That bounds what a slow store is asked
//! at once, and it is what makes batches: what comes up while a call is under way goes with the
//! next.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pregon_core::id::PartitionNo;
use pregon_store::Work;
use pregon_store::batch::{Batch, Token};
use pregon_store::rate::{RateAsk, RateLease};
use pregon_store::settlement::{Settled, Settlement};
use pregon_store::test_send::TakenTest;
use pregon_store::work::{BATCH_MAX, Claim, Due, DueRequest};
use pregon_store::{Rates, StoreError, TestSends};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::test_send::AT_ONCE;
use super::{DEAF_TESTS, IDLE_MAX, RETRY_STORE, RING_DUE, RING_OVER, RING_TESTS, WorkerOptions};
use crate::snapshot::Configuration;

mod rates;
mod refused;

/// Bodies that one take brings into memory, about.
const TAKE_BYTES: usize = 8 * 1024 * 1024;
/// Takes under way at once: the store answers one a commit, and while many publish, commits are
/// long.
const TAKES_MAX: usize = 2;
/// Lapsed leases that one call takes over.
const TAKE_OVER_MAX: usize = 4;

/// What a store call came back with.
pub(super) enum Reply {
    /// The store rang, or the longest sleep is over.
    Rang,
    Took {
        partition: usize,
        /// How many were asked for at most.
        want: usize,
        asked: Instant,
        result: Result<Option<Batch>, StoreError>,
    },
    Due {
        partition: usize,
        asked: Instant,
        request: DueRequest,
        result: Result<Due, StoreError>,
    },
    TookOver {
        partition: usize,
        asked: Instant,
        result: Result<(Vec<Batch>, Option<Duration>), StoreError>,
    },
    /// A batch whose lanes are known now, as far as they exist.
    Known {
        batch: Batch,
        asked: Instant,
    },
    Extended {
        tokens: Vec<Token>,
        asked: Instant,
        result: Result<Vec<Token>, StoreError>,
    },
    TookTests {
        result: Result<Vec<TakenTest>, StoreError>,
    },
    /// A test send came to its end.
    Tested,
    Leased {
        asks: Vec<RateAsk>,
        asked: Instant,
        result: Result<Vec<RateLease>, StoreError>,
    },
    Settled {
        settlement: Arc<Settlement>,
        asked: Instant,
        result: Result<Settled, StoreError>,
    },
}

/// When a kind of call is to be made again, and whether it is under way.
#[derive(Clone, Copy, Debug)]
struct Slot {
    busy: bool,
    /// None: when something else makes it due.
    at: Option<Instant>,
}

impl Slot {
    fn due(at: Instant) -> Self {
        Self { busy: false, at: Some(at) }
    }

    fn ready(&self, now: Instant) -> bool {
        !self.busy && self.at.is_some_and(|at| at <= now)
    }

    fn by(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }

    fn next(&self) -> Option<Instant> {
        self.at.filter(|_| !self.busy)
    }
}

#[derive(Debug)]
struct Partition {
    no: PartitionNo,
    /// When to take next; `busy` while as many takes as may be are under way.
    take: Slot,
    takes: usize,
    /// The last take brought a full batch.
    eager: bool,
    due: Slot,
    over: Slot,
    last_due: Instant,
    last_over: Instant,
}

/// The calls of one node.
pub(super) struct Calls {
    work: Arc<dyn Work>,
    test_sends: Arc<dyn TestSends>,
    rates: Arc<dyn Rates>,
    claim: Claim,
    partitions: Vec<Partition>,
    /// Events that takes under way may bring.
    asked: usize,
    extend: Slot,
    settle: Slot,
    /// Parts of a settlement that the store did not take, the next one last.
    parts: Vec<Arc<Settlement>>,
    /// How often the present settlement failed in a row, and whether another call has gone well since.
    refused: (u32, bool),
    tests: Slot,
    /// Whether test sends are taken: not without a master key that the store needs.
    takes_tests: bool,
    last_tests: Instant,
    /// Test sends under way.
    testing: usize,
    waiting: bool,
    /// There was no room, and so nobody listened.
    deaf: bool,
    flying: FuturesUnordered<BoxFuture<'static, Reply>>,
}

impl Calls {
    pub(super) fn new(options: &WorkerOptions) -> Self {
        let now = Instant::now();
        let partition = |no| Partition {
            no,
            take: Slot::due(now),
            takes: 0,
            eager: false,
            due: Slot::due(now),
            over: Slot::due(now),
            last_due: now,
            last_over: now,
        };
        Self {
            work: Arc::clone(&options.work),
            test_sends: Arc::clone(&options.tests),
            rates: Arc::clone(&options.rates),
            claim: Claim { node: options.node.clone(), lease: options.lease },
            partitions: (0..options.work.partitions()).map(partition).collect(),
            asked: 0,
            extend: Slot { busy: false, at: None },
            settle: Slot { busy: false, at: None },
            parts: Vec::new(),
            refused: (0, false),
            tests: Slot::due(now),
            takes_tests: true,
            last_tests: now,
            testing: 0,
            waiting: false,
            deaf: false,
            flying: FuturesUnordered::new(),
        }
    }

    /// The next call that came back; never, while none is under way.
    pub(super) async fn next(&mut self) -> Reply {
        match self.flying.next().await {
            Some(reply) => reply,
            None => std::future::pending().await,
        }
    }

    /// The store rang: there may be new events, due deliveries, batches that were given back, and test
    /// sends.
    pub(super) fn rang(&mut self, now: Instant) {
        self.waiting = false;
        self.look_everywhere(now);
    }

    fn look_everywhere(&mut self, now: Instant) {
        for partition in &mut self.partitions {
            partition.take.by(now);
            partition.due.by(now.max(partition.last_due + RING_DUE));
            partition.over.by(now.max(partition.last_over + RING_OVER));
        }
        self.tests.by(now.max(self.last_tests + RING_TESTS));
    }

    /// Something in a partition is due by then: this node stored it, and no ring tells of it.
    pub(super) fn due_by(&mut self, partition: PartitionNo, at: Instant) {
        if let Some(known) = self.partitions.iter_mut().find(|known| known.no == partition) {
            known.due.by(at.max(known.last_due + Duration::from_millis(1)));
        }
    }

    /// Listens for the store's ring, while there is room for what it announces: a ring may wake one
    /// node only, and should wake one that can do something about it.
    pub(super) fn listen(&mut self, now: Instant, room: usize) {
        if room == 0 {
            self.deaf = true;
            // Whoever asks for a test send of a receiver that hangs should not be told by its hanging
            // that there is no node.
            self.tests.by(now + DEAF_TESTS);
            return;
        }
        if std::mem::take(&mut self.deaf) {
            self.look_everywhere(now);
        }
        if self.waiting {
            return;
        }
        self.waiting = true;
        let work = Arc::clone(&self.work);
        self.fly(async move {
            work.wait(IDLE_MAX).await;
            Reply::Rang
        });
    }

    /// Takes new events wherever that is due: `room` at most, those of takes under way included.
    pub(super) fn take(&mut self, now: Instant, room: usize) {
        for index in 0..self.partitions.len() {
            let want = room.saturating_sub(self.asked).min(BATCH_MAX);
            let partition = &mut self.partitions[index];
            if want == 0 || !partition.take.ready(now) {
                continue;
            }
            partition.takes += 1;
            self.asked += want;
            // While takes bring full batches, more of them go out together.
            let more = partition.eager && partition.takes < TAKES_MAX;
            partition.take = Slot { busy: !more, at: more.then_some(now) };
            let (work, claim, no) = (Arc::clone(&self.work), self.claim.clone(), partition.no);
            self.fly(async move {
                let result = work.take(no, &claim, want, TAKE_BYTES).await;
                Reply::Took { partition: index, want, asked: now, result }
            });
        }
    }

    /// A take came back: with events, so more may be there; with none, the ring tells; or failed.
    pub(super) fn took(
        &mut self,
        index: usize,
        want: usize,
        result: &Result<Option<Batch>, StoreError>,
        now: Instant,
    ) {
        self.asked = self.asked.saturating_sub(want);
        let partition = &mut self.partitions[index];
        partition.takes = partition.takes.saturating_sub(1);
        partition.take.busy = false;
        partition.eager = matches!(result, Ok(Some(batch)) if batch.len() >= BATCH_MAX);
        match result {
            Ok(Some(_)) => partition.take.by(now),
            Ok(None) => {}
            Err(_) => partition.take.by(now + RETRY_STORE),
        }
    }

    /// The number of the partition at an index.
    pub(super) fn partition(&self, index: usize) -> PartitionNo {
        self.partitions[index].no
    }

    /// Claims due deliveries wherever that is due.
    pub(super) fn due(&mut self, now: Instant, mut request: impl FnMut(PartitionNo) -> DueRequest) {
        for index in 0..self.partitions.len() {
            if !self.partitions[index].due.ready(now) {
                continue;
            }
            let request = request(self.partitions[index].no);
            if request.want == 0 {
                continue;
            }
            let partition = &mut self.partitions[index];
            partition.due = Slot { busy: true, at: None };
            partition.last_due = now;
            let (work, claim, no) = (Arc::clone(&self.work), self.claim.clone(), partition.no);
            self.fly(async move {
                let result = work.due(no, &claim, request.clone()).await;
                Reply::Due { partition: index, asked: now, request, result }
            });
        }
    }

    /// A due call came back.
    pub(super) fn on_due(&mut self, index: usize, result: &Result<Due, StoreError>, now: Instant) {
        let slot = &mut self.partitions[index].due;
        slot.busy = false;
        match result {
            Ok(due) if due.more => slot.by(now),
            Ok(due) => slot.by(now + due.next.unwrap_or(IDLE_MAX).min(IDLE_MAX)),
            Err(_) => slot.by(now + RETRY_STORE),
        }
    }

    /// Takes lapsed leases over wherever that is due.
    /// Of suspects it asks in one partition only, for as many as may be.
    pub(super) fn take_over(&mut self, now: Instant, room: usize, suspects: usize) {
        let asking = self.partitions.iter().any(|partition| partition.over.busy);
        let mut suspects = if asking { 0 } else { suspects };
        for index in 0..self.partitions.len() {
            let partition = &mut self.partitions[index];
            if room == 0 || !partition.over.ready(now) {
                continue;
            }
            partition.over = Slot { busy: true, at: None };
            partition.last_over = now;
            let (work, claim, no) = (Arc::clone(&self.work), self.claim.clone(), partition.no);
            let asked = std::mem::take(&mut suspects);
            self.fly(async move {
                let result = work.take_over(no, &claim, TAKE_OVER_MAX, asked).await;
                Reply::TookOver { partition: index, asked: now, result }
            });
        }
    }

    /// A takeover call came back.
    pub(super) fn took_over(
        &mut self,
        index: usize,
        result: &Result<(Vec<Batch>, Option<Duration>), StoreError>,
        now: Instant,
    ) {
        let slot = &mut self.partitions[index].over;
        slot.busy = false;
        slot.by(match result {
            Ok((batches, _)) if !batches.is_empty() => now,
            Ok((_, next)) => now + next.unwrap_or(IDLE_MAX).min(IDLE_MAX).max(RING_DUE),
            Err(_) => now + RETRY_STORE,
        });
    }

    /// Takes test sends where that is due, the node may and there is room for them.
    pub(super) fn take_tests(&mut self, may: bool, now: Instant) {
        self.takes_tests = may;
        let want = AT_ONCE.saturating_sub(self.testing);
        if want == 0 || !may || !self.tests.ready(now) {
            return;
        }
        self.tests = Slot { busy: true, at: None };
        self.last_tests = now;
        let (store, node) = (Arc::clone(&self.test_sends), self.claim.node.clone());
        self.fly(async move { Reply::TookTests { result: store.take_tests(&node, want).await } });
    }

    /// A take of test sends came back. Where more are left, the store rings.
    pub(super) fn took_tests(&mut self, failed: bool, now: Instant) {
        self.tests.busy = false;
        if failed {
            self.tests.by(now + RETRY_STORE);
        }
    }

    /// A test send is under way.
    pub(super) fn test(&mut self, task: JoinHandle<()>) {
        self.testing += 1;
        self.fly(async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "a test send ended badly");
            }
            Reply::Tested
        });
    }

    /// A test send came to its end: there is room for another.
    pub(super) fn tested(&mut self, now: Instant) {
        self.testing = self.testing.saturating_sub(1);
        self.tests.by(now);
    }

    /// Whether test sends are under way.
    pub(super) fn testing(&self) -> bool {
        self.testing > 0
    }

    /// Brings a batch back once the node serves all that was committed before: a lane that is not
    /// there then is gone, and not merely unheard of. Should that take longer than the lease, the
    /// batch is somebody else's.
    pub(super) fn learn(&mut self, batch: Batch, asked: Instant, configuration: &Configuration) {
        let configuration = configuration.clone();
        let until = Instant::now() + self.claim.lease / 2;
        self.fly(async move {
            while configuration.catch_up().await.is_err() && Instant::now() < until {
                tokio::time::sleep(RETRY_STORE).await;
            }
            Reply::Known { batch, asked }
        });
    }

    /// Extends leases.
    pub(super) fn extend(&mut self, tokens: Vec<Token>, now: Instant) {
        if tokens.is_empty() || self.extend.busy || self.extend.at.is_some_and(|at| now < at) {
            return;
        }
        self.extend = Slot { busy: true, at: None };
        let (work, lease) = (Arc::clone(&self.work), self.claim.lease);
        self.fly(async move {
            let result = work.extend(&tokens, lease).await;
            Reply::Extended { tokens, asked: now, result }
        });
    }

    /// An extension came back.
    pub(super) fn extended(&mut self, failed: bool, now: Instant) {
        self.extend = Slot { busy: false, at: failed.then(|| now + RETRY_STORE) };
    }

    /// Whether a settlement may go out.
    pub(super) fn can_settle(&self) -> bool {
        !self.settle.busy
    }

    /// Settles, now or a little later. A task of its own does it: a store packs the log first, which
    /// takes its time.
    pub(super) fn settle(&mut self, settlement: Arc<Settlement>, after: Duration) {
        self.settle.busy = true;
        let (work, its) = (Arc::clone(&self.work), Arc::clone(&settlement));
        let task = tokio::spawn(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            (Instant::now(), work.settle((*its).clone()).await)
        });
        self.fly(async move {
            let (asked, result) = task.await.unwrap_or_else(|error| {
                let why = format!("settling ended badly: {error}");
                (Instant::now(), Err(StoreError::Unavailable(why)))
            });
            Reply::Settled { settlement, asked, result }
        });
    }

    /// Whether a ring would come to this node.
    pub(super) fn listening(&self) -> bool {
        self.waiting
    }

    /// Whether a settlement is under way.
    pub(super) fn settling(&self) -> bool {
        self.settle.busy
    }

    /// Whether a claim is under way.
    pub(super) fn claiming(&self) -> bool {
        self.tests.busy || self.partitions.iter().any(|p| p.takes > 0 || p.due.busy || p.over.busy)
    }

    /// A settlement was taken by the store.
    pub(super) fn settled(&mut self) {
        self.next_part();
    }

    /// When the next claim is to be made by itself. Without room for what it would bring there is none
    /// but of test sends: room comes with a result, which turns the loop.
    pub(super) fn next_claim(&self, room: usize) -> Option<Instant> {
        let claims = self.partitions.iter().filter(|_| room > 0);
        let take = |p: &Partition| p.take.next().filter(|_| room > self.asked);
        claims
            .flat_map(|p| [take(p), p.due.next(), p.over.next()])
            .chain([self.tests.next().filter(|_| self.takes_tests && self.testing < AT_ONCE)])
            .flatten()
            .min()
    }

    fn fly(&mut self, call: impl Future<Output = Reply> + Send + 'static) {
        self.flying.push(Box::pin(call));
    }
}
