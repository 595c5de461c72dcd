//! The loop itself: from the first claim to the last settlement.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pregon_core::id::{LaneNo, SubscriptionName};
use pregon_store::Operate;
use pregon_store::StoreError;
use pregon_store::batch::Batch;
use pregon_store::operate::LaneEnd;
use pregon_store::settlement::Settlement;
use pregon_telemetry::Telemetry;
use pregon_telemetry::metrics::ClaimKind;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::Reply;
use super::dispatch::Effect;
use super::gates::persist;
use super::gathering::Gathering;
use super::job::Report;
use super::matcher::Answer;
use super::{CENSUS, Driver, RETRY_STORE, disable};
use crate::snapshot::Snapshot;

/// Reports taken in at once before the loop looks at anything else.
const REPORTS_AT_ONCE: usize = 256;
/// Matched events taken in at once, likewise.
const ANSWERS_AT_ONCE: usize = 64;
/// How long a ring of this node's own takes to come back to it, if it does.
const RING_BACK: Duration = Duration::from_millis(200);
/// How long results may take to settle, and batches to be given back, after the drain limit.
const LAST_CALLS: Duration = Duration::from_secs(5);

impl Driver {
    /// Claims, attempts and settles until it is asked to go.
    pub(super) async fn run(
        mut self,
        (mut inbox, mut matched): (mpsc::Receiver<Report>, mpsc::Receiver<Answer>),
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        drain: CancellationToken,
    ) {
        let mut reports = Vec::with_capacity(REPORTS_AT_ONCE);
        let mut answers = Vec::with_capacity(ANSWERS_AT_ONCE);
        let mut gathering = Gathering::default();
        loop {
            let wake = self.advance();
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.serve(&mut snapshots);
                }
                _ = inbox.recv_many(&mut reports, REPORTS_AT_ONCE) => {
                    self.take_in(&mut reports);
                    self.perform();
                    if gathering.is_worth_it() {
                        tokio::task::yield_now().await;
                        gathering.came(!inbox.is_empty());
                    }
                }
                _ = matched.recv_many(&mut answers, ANSWERS_AT_ONCE), if !matched.is_closed() => {
                    let now = Instant::now();
                    for answer in answers.drain(..) {
                        self.machine.on_matched(answer, now, self.options.clock.now());
                    }
                }
                reply = self.calls.next() => self.answer(reply),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.go(&mut inbox).await;
    }

    /// Does what is due now and says when something will be next.
    fn advance(&mut self) -> Instant {
        let now = Instant::now();
        self.machine.on_tick(now);
        self.perform();
        for partition in self.machine.wanted(now) {
            self.calls.due_by(partition, now);
        }
        self.calls.listen(now, self.machine.room());
        self.calls.take(now, self.machine.room());
        self.calls.take_over(now, self.machine.room(), self.machine.suspects(now));
        self.calls.due(now, |partition| self.machine.due_request(partition, now));
        self.calls.take_tests(!self.machine.lacks_keys(), now);
        self.calls.lease_rates(self.machine.rate_asks(now), now);
        self.calls.extend(self.machine.leases(now), now);
        self.settle(now);
        self.publish_load(now);
        let settle = self.machine.settle_due().filter(|_| self.calls.can_settle());
        let claim = self.calls.next_claim(self.machine.room());
        let rates = self.machine.next_rate_ask();
        [self.machine.next_tick(), self.machine.lease_due(), settle, claim, rates]
            .into_iter()
            .flatten()
            .min()
            // What is due now but cannot be done now is woken by what it waits for.
            .map_or(now + super::IDLE_MAX, |at| at.max(now + Duration::from_millis(1)))
            .min(now + super::IDLE_MAX)
    }

    fn settle(&mut self, now: Instant) {
        if self.calls.can_settle()
            && self.machine.settle_due().is_some_and(|at| at <= now)
            && let Some(settlement) = self.machine.settlement(now)
        {
            self.calls.settle(Arc::new(settlement), Duration::ZERO);
        }
    }

    /// Whose lane it is, for the log; none once the subscription is deleted.
    fn named(&self, lane: LaneNo) -> Option<SubscriptionName> {
        Some(self.options.configuration.current()?.lane(lane)?.name.clone())
    }

    fn perform(&mut self) {
        for effect in self.machine.effects() {
            match effect {
                Effect::Start(job) => self.attempts.start(job),
                Effect::Match(question) => self.matcher.ask(question),
                Effect::EndLane(end) => {
                    let (of, telemetry) = (self.named(end.lane), self.options.telemetry.clone());
                    self.in_background(end_lane(self.operate(), end, of, telemetry));
                }
                Effect::EndLaneOlder(end, age) => {
                    let (operate, telemetry) = (self.operate(), self.options.telemetry.clone());
                    let of = self.named(end.lane);
                    self.in_background(async move {
                        let now = persist("ask for the time", || operate.now()).await;
                        let Some(now) = now else { return };
                        let before = Some(now.plus(Duration::from_millis(1)).minus(age));
                        end_lane(operate, LaneEnd { before, ..end }, of, telemetry).await;
                    });
                }
                Effect::CloseLane(close) => self.gates.close(close),
                Effect::OpenLane(lane) => self.gates.open(lane),
                Effect::Note(name, note) => {
                    let config = Arc::clone(&self.options.config);
                    let (node, now) = (self.options.node.clone(), self.options.clock.now());
                    let telemetry = self.options.telemetry.clone();
                    self.in_background(async move {
                        let (config, node, telemetry) = (&*config, &node, &telemetry);
                        let writer = disable::Writer { config, node, now, telemetry };
                        disable::write(&writer, &name, note).await;
                    });
                }
            }
        }
    }

    fn operate(&self) -> Arc<dyn Operate> {
        Arc::clone(&self.options.operate)
    }

    /// Lane work outside the hot path; bounded by the lanes that change, and each step by itself.
    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(work);
    }

    fn serve(&mut self, snapshots: &mut watch::Receiver<Option<Arc<Snapshot>>>) {
        let snapshot = snapshots.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            self.machine.on_snapshot(&snapshot, Instant::now(), self.options.clock.now());
        }
    }

    fn take_in(&mut self, reports: &mut Vec<Report>) {
        let now = Instant::now();
        for report in reports.drain(..) {
            self.machine.on_report(report, now);
        }
    }

    fn answer(&mut self, reply: Reply) {
        let now = Instant::now();
        match reply {
            Reply::Rang => self.calls.rang(now),
            Reply::Took { partition, want, asked, result } => {
                self.heard(&result);
                self.calls.took(partition, want, &result, now);
                let batch = said("take events", result).flatten();
                self.take_up(batch, ClaimKind::Take, asked, now);
            }
            Reply::Due { partition, asked, request, result } => {
                self.heard(&result);
                self.calls.on_due(partition, &result, now);
                if let Some(due) = said("claim due deliveries", result) {
                    let partition = self.calls.partition(partition);
                    self.machine.on_due(partition, &request, &due, (asked, now));
                    self.take_up(due.batch, ClaimKind::Due, asked, now);
                }
            }
            Reply::TookOver { partition, asked, result } => {
                self.calls.took_over(partition, &result, now);
                for batch in
                    said("take leases over", result).map(|(batches, _)| batches).unwrap_or_default()
                {
                    tracing::info!(
                        token = %batch.token, takes = batch.takes, items = batch.len(),
                        previous = batch.previous.as_ref().map(tracing::field::display),
                        "took a batch over whose lease ran out"
                    );
                    self.take_up(Some(batch), ClaimKind::TakeOver, asked, now);
                }
            }
            Reply::Known { batch, asked } => {
                if let Some(snapshot) = self.options.configuration.current() {
                    self.machine.on_snapshot(&snapshot, now, self.options.clock.now());
                }
                self.machine.on_batch(batch, (asked, now), self.options.clock.now());
            }
            Reply::TookTests { result } => {
                self.calls.took_tests(result.is_err(), now);
                for taken in said("take test sends", result).unwrap_or_default() {
                    self.machine.on_test(taken.test.lane, now);
                    let task = self.attempts.test(taken, self.machine.draining());
                    self.calls.test(task);
                }
            }
            Reply::Tested => self.calls.tested(now),
            Reply::Leased { asks, asked, result } => {
                self.heard(&result);
                match said("ask for a rate", result) {
                    Some(leases) => self.machine.on_leases(&asks, &leases, (asked, now)),
                    None => self.machine.not_leased(&asks, now + RETRY_STORE),
                }
            }
            Reply::Extended { tokens, asked, result } => {
                self.heard(&result);
                self.calls.extended(result.is_err(), now);
                if let Some(lost) = said("extend leases", result) {
                    self.machine.on_extended(&tokens, &lost, asked);
                    self.traced.forget(&lost);
                }
            }
            Reply::Settled { settlement, asked, result } => match said("settle results", result) {
                None => {
                    if let Some(refused) = self.calls.not_settled(settlement) {
                        self.set_aside(&refused);
                    }
                }
                Some(settled) => {
                    self.calls.settled();
                    self.traced.settled(&settlement, &settled, asked);
                    let wall = self.options.clock.now();
                    let due = self.machine.on_settled(&settlement, &settled.lost, (now, wall));
                    for (partition, after) in due {
                        self.calls.due_by(partition, now + after);
                    }
                }
            },
        }
    }

    /// Notes that the store answered.
    fn heard<T>(&mut self, result: &Result<T, StoreError>) {
        if result.is_ok() {
            self.calls.store_answers();
        }
    }

    /// The store does not take this one result, whatever else it takes. Its batch is left to run out:
    /// it is taken over then, and held back if it goes on like this.
    fn set_aside(&mut self, refused: &Settlement) {
        for batch in &refused.batches {
            tracing::error!(
                token = %batch.token, events = ?batch.events, deliveries = ?batch.deliveries,
                "the store does not take a result: it is set aside, and its batch left to run out"
            );
            self.machine.lose(batch.token);
        }
    }

    /// Works on a batch, at once if all its lanes are known.
    fn take_up(&mut self, batch: Option<Batch>, kind: ClaimKind, asked: Instant, now: Instant) {
        let Some(batch) = batch else { return };
        self.traced.claimed(&batch, kind, asked);
        if self.machine.knows_lanes_of(&batch) {
            self.machine.on_batch(batch, (asked, now), self.options.clock.now());
        } else {
            self.calls.learn(batch, asked, &self.options.configuration);
        }
    }

    fn publish_load(&mut self, now: Instant) {
        self.load.turns.fetch_add(1, Ordering::Relaxed);
        self.load.in_flight.store(self.machine.in_flight(), Ordering::Relaxed);
        self.load.claimed.store(self.machine.claimed(), Ordering::Relaxed);
        self.load.lanes.store(self.machine.lanes(), Ordering::Relaxed);
        if now >= self.census {
            self.census = now + CENSUS;
            let census = self.machine.census(now);
            for (count, value) in [
                (&self.load.closed, census.closed),
                (&self.load.paused, census.paused),
                (&self.load.broken, census.broken),
                (&self.load.recovering, census.recovering),
                (&self.load.rated, self.machine.rated()),
            ] {
                count.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Going down: what is under way finishes and is settled, the rest is given back.
    async fn go(&mut self, inbox: &mut mpsc::Receiver<Report>) {
        let limit = self.options.drain_limit.unwrap_or_else(|| self.machine.longest_attempt());
        tracing::debug!(seconds = limit.as_secs(), "attempts under way may take this long");
        let limit = Instant::now() + limit;
        self.machine.drain(Instant::now());
        tracing::info!(in_flight = self.machine.in_flight(), "draining: no new claims");
        let mut reports = Vec::new();
        while self.machine.in_flight() > 0
            || self.calls.settling()
            || self.machine.settle_due().is_some()
            || self.calls.testing()
        {
            let now = Instant::now();
            let attempts = self.machine.in_flight() > 0 || self.calls.testing();
            let last = if attempts { limit } else { limit + LAST_CALLS };
            if now >= last {
                break;
            }
            self.perform();
            self.calls.extend(self.machine.leases(now), now);
            let extend = self.machine.lease_due().unwrap_or(last);
            let wake = last.min(extend.max(now + RETRY_STORE));
            if self.calls.can_settle()
                && let Some(settlement) = self.machine.settlement(now)
            {
                self.calls.settle(Arc::new(settlement), Duration::ZERO);
            }
            tokio::select! {
                _ = inbox.recv_many(&mut reports, REPORTS_AT_ONCE) => self.take_in(&mut reports),
                reply = self.calls.next() => self.answer(reply),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.give_back().await;
        self.publish_load(Instant::now());
    }

    /// Gives every batch back that is still leased, those of claims under way included.
    async fn give_back(&mut self) {
        let until = Instant::now() + LAST_CALLS;
        while self.calls.claiming() || self.calls.testing() {
            match tokio::time::timeout_at(until, self.calls.next()).await {
                Ok(reply) => self.answer(reply),
                Err(_) => break,
            }
        }
        // Claims that came in just now were put back by the machine, which is draining. Of an event with
        // an attempt under way what ended is not to be sent again.
        self.machine.split_all(Instant::now());
        while let Some(settlement) = self.machine.settlement(Instant::now()) {
            let asked = Instant::now();
            let settled = self.options.work.settle(settlement.clone());
            match tokio::time::timeout_at(until, settled).await {
                Ok(Ok(settled)) => self.traced.settled(&settlement, &settled, asked),
                Ok(Err(_)) | Err(_) => break, // what is not settled lapses with its batch
            }
        }
        let tokens = self.machine.tokens();
        let released = tokio::time::timeout_at(until, self.options.work.release(&tokens)).await;
        match released {
            Ok(Ok(())) => {
                tracing::info!(batches = tokens.len(), "gave back what was not done");
                self.pass_the_ring_on().await;
            }
            Ok(Err(error)) => tracing::warn!(%error, "could not give back; leases will run out"),
            Err(_) => tracing::warn!("could not give back in time; leases will run out"),
        }
    }
}

impl Driver {
    /// A ring wakes one node, and that may have been this one, which has nothing to do with it any
    /// more: then it rings again.
    async fn pass_the_ring_on(&mut self) {
        let until = Instant::now() + RING_BACK;
        while self.calls.listening() {
            match tokio::time::timeout_at(until, self.calls.next()).await {
                Ok(reply) => self.answer(reply),
                Err(_) => return,
            }
        }
        if let Err(error) = self.options.work.release(&[]).await {
            tracing::warn!(%error, "could not wake others; they look by themselves");
        }
    }
}

/// Unwraps an answer of the store, or says once a second at most that there was none.
fn said<T>(what: &'static str, result: Result<T, StoreError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, "could not {what}; trying again");
            None
        }
    }
}

/// Ends what waits in a lane, step by step, so that others get their turn in between.
async fn end_lane(
    operate: Arc<dyn Operate>,
    end: LaneEnd,
    of: Option<SubscriptionName>,
    telemetry: Telemetry,
) {
    let mut ended = 0usize;
    loop {
        match persist("end a lane's deliveries", || operate.end_lane(end.clone())).await {
            Some(0) | None => break,
            Some(step) => {
                ended += step;
                telemetry.metrics().ended(end.reason, step as u64);
            }
        }
        tokio::task::yield_now().await;
    }
    if ended > 0 {
        let subscription = of.as_ref().map(tracing::field::display);
        let (state, reason) = (end.state.word(), end.reason.word());
        tracing::info!(subscription, ended, state, reason, "ended waiting deliveries");
    }
}
