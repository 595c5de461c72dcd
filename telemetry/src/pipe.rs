//! A bounded way from whoever tells something to the task that exports it.
//!
//! To push never waits: what finds the queue full is dropped and counted. So the most that a
//! signal holds in memory is the queue and the batch that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use pregon_core::words;

words! {
    /// What telemetry is made of.
    Signal {
        /// Spans.
        Traces = "traces",
        /// Counters, histograms and gauges.
        Metrics = "metrics",
        /// Records of attempts.
        Logs = "logs",
    }
}

words! {
    /// Why something never reached the collector.
    Loss {
        /// The queue was full: the collector takes less than there is.
        QueueFull = "QUEUE_FULL",
        /// The collector would not have it.
        Refused = "REFUSED",
        /// The collector did not answer in time.
        Timeout = "TIMEOUT",
        /// The collector cannot be reached.
        Unavailable = "UNAVAILABLE",
        /// The process ended before it was exported.
        Shutdown = "SHUTDOWN",
    }
}

/// What became of what was pushed; read by the metrics.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Taken by the collector.
    exported: AtomicU64,
    /// Dropped, by [`Loss`].
    dropped: [AtomicU64; Loss::ALL.len()],
    /// Waiting.
    queued: AtomicU64,
}

impl Tally {
    pub(crate) fn export(&self, count: usize) {
        self.exported.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, why: Loss, count: usize) {
        self.dropped[why as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self, why: Loss) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

/// What became of each signal.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) traces: Arc<Tally>,
    pub(crate) metrics: Arc<Tally>,
    pub(crate) logs: Arc<Tally>,
}

impl Tallies {
    pub(crate) fn each(&self) -> impl Iterator<Item = (Signal, &Tally)> {
        [
            (Signal::Traces, &*self.traces),
            (Signal::Metrics, &*self.metrics),
            (Signal::Logs, &*self.logs),
        ]
        .into_iter()
    }
}

/// Where things are pushed; clones share the queue.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    sender: mpsc::Sender<T>,
    tally: Arc<Tally>,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    receiver: mpsc::Receiver<T>,
    /// What came out and waits for company: whoever stops asking for it loses nothing.
    waiting: Vec<T>,
    tally: Arc<Tally>,
}

/// A queue for `len` things at most.
pub(crate) fn pipe<T>(len: usize, tally: Arc<Tally>) -> (Pipe<T>, Outlet<T>) {
    let (sender, receiver) = mpsc::channel(len.max(1));
    (Pipe { sender, tally: Arc::clone(&tally) }, Outlet { receiver, waiting: Vec::new(), tally })
}

impl<T> Pipe<T> {
    /// Puts something into the queue, or counts it as dropped; then it is not even made, so that a
    /// collector that hangs costs no copies.
    pub(crate) fn push_with(&self, make: impl FnOnce() -> T) {
        // Counted before it is sent: whoever takes it out must find it counted.
        self.tally.queued.fetch_add(1, Ordering::Relaxed);
        let why = match self.sender.try_reserve() {
            Ok(place) => return place.send(make()),
            Err(mpsc::error::TrySendError::Full(())) => Loss::QueueFull,
            Err(mpsc::error::TrySendError::Closed(())) => Loss::Shutdown,
        };
        self.tally.queued.fetch_sub(1, Ordering::Relaxed);
        self.tally.lose(why, 1);
    }

    /// The same of what is there already.
    pub(crate) fn push(&self, thing: T) {
        self.push_with(|| thing);
    }
}

impl<T> Outlet<T> {
    /// The next batch: as soon as `most` are there, or `delay` after the first. Empty: nobody can
    /// push any more and all is out. May be given up at any time; the next call goes on.
    pub(crate) async fn batch(&mut self, most: usize, delay: Duration) -> Vec<T> {
        let most = most.max(1);
        if self.waiting.is_empty() && self.receiver.recv_many(&mut self.waiting, most).await == 0 {
            return Vec::new();
        }
        let until = Instant::now() + delay;
        while self.waiting.len() < most {
            let room = most - self.waiting.len();
            match timeout_at(until, self.receiver.recv_many(&mut self.waiting, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let batch = std::mem::take(&mut self.waiting);
        self.tally.queued.fetch_sub(batch.len() as u64, Ordering::Relaxed);
        batch
    }

    /// Takes no more; what is in the queue still comes out.
    pub(crate) fn close(&mut self) {
        self.receiver.close();
    }

    /// Drops what is left, and counts it.
    pub(crate) fn discard(&mut self) {
        self.receiver.close();
        let mut count = std::mem::take(&mut self.waiting).len();
        while self.receiver.try_recv().is_ok() {
            count += 1;
        }
        self.tally.queued.fetch_sub(count as u64, Ordering::Relaxed);
        self.tally.lose(Loss::Shutdown, count);
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_counted() {
        let tally = Arc::new(Tally::default());
        let (pipe, mut outlet) = pipe(3, Arc::clone(&tally));
        for n in 0..5 {
            pipe.push(n);
        }
        assert_eq!((tally.queued(), tally.dropped(Loss::QueueFull)), (3, 2));
        pipe.push_with(|| panic!("what does not fit is not made"));
        assert_eq!((tally.queued(), tally.dropped(Loss::QueueFull)), (3, 3));
        assert_eq!(outlet.batch(2, Duration::from_secs(1)).await, [0, 1]);
        assert_eq!(outlet.batch(2, Duration::from_secs(1)).await, [2]);
        assert_eq!(tally.queued(), 0);
        pipe.push(9);
        outlet.discard();
        pipe.push(10);
        assert_eq!((tally.queued(), tally.dropped(Loss::Shutdown)), (0, 2));
        assert!(outlet.batch(2, Duration::from_secs(1)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_for_company_loses_nothing() {
        let tally = Arc::new(Tally::default());
        let (pipe, mut outlet) = pipe(100, Arc::clone(&tally));
        pipe.push(1);
        let given_up = outlet.batch(2, Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::from_secs(1), given_up).await.is_err());
        assert_eq!(tally.queued(), 1);
        outlet.close();
        assert_eq!(outlet.batch(2, Duration::ZERO).await, [1]);
        assert_eq!(tally.queued(), 0);
        assert!(outlet.batch(2, Duration::ZERO).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_company_but_not_for_ever() {
        let (pipe, mut outlet) = pipe(100, Arc::default());
        let begun = Instant::now();
        pipe.push(1);
        let batch = tokio::join!(outlet.batch(2, Duration::from_secs(5)), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pipe.push(2);
        });
        assert_eq!((batch.0, begun.elapsed()), (vec![1, 2], Duration::from_secs(1)));
        pipe.push(3);
        assert_eq!(outlet.batch(2, Duration::from_secs(5)).await, [3]);
        assert_eq!(begun.elapsed(), Duration::from_secs(6));
    }
}
