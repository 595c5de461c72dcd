//! Waiting before answers, on a thread of its own.
//!
//! The runtime's timer counts whole milliseconds and rounds up, and so does what it sleeps in: 20 ms
//! would be 21 to 22, and a sender that keeps all of its slots busy would seem to miss a tenth of
//! what they allow. A thread sleeps to within some 60 µs.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Answers that wait at most: one for each connection that a sink may be told to take.
const MOST: usize = 65_536;
/// The thread sleeps at least this long, so that it wakes up for several answers at once where
/// there are many.
const LEAST_SLEEP: Duration = Duration::from_micros(100);

/// Lets every answer wait equally long, so that the first that came is the first that is due.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    queue: SyncSender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    over: oneshot::Sender<()>,
}

impl Delay {
    /// Starts the thread, unless there is nothing to wait for. It ends with this.
    pub fn start(time: Duration) -> Option<Self> {
        let (queue, waiting) = sync_channel(MOST);
        (!time.is_zero()).then(|| {
            thread::spawn(move || release(&waiting));
            Self { time, queue }
        })
    }

    /// Waits from now on.
    pub async fn wait(&self) {
        let (over, wait) = oneshot::channel();
        let waiting = Waiting { due: Instant::now() + self.time, over };
        if self.queue.try_send(waiting).is_ok() {
            let _ = wait.await;
        }
    }
}

fn release(waiting: &Receiver<Waiting>) {
    while let Ok(Waiting { due, over }) = waiting.recv() {
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            thread::sleep(left.max(LEAST_SLEEP));
        }
        let _ = over.send(());
    }
}
