//! Waiting before answers, to within a quarter of a millisecond.
//!
//! The runtime's timer counts whole milliseconds and rounds up, and so does what it sleeps in: 20 ms
//! would be 21.4, and a sender that keeps all of its slots busy would seem to miss some of what they
//! allow. So a thread sleeps in its stead. It wakes the runtime once for all answers that are due
//! by then, since to wake it for each would cost more than the rest of the sink.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

/// The thread sleeps at least this long, so that it wakes up for several answers at once where
/// there are many.
const LEAST_SLEEP: Duration = Duration::from_micros(200);

/// Lets every answer wait equally long, so that the first that came is the first that is due.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    queue: Arc<Queue>,
}

/// Answers that wait: one for each connection at most.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<(Instant, oneshot::Sender<()>)>>,
    /// Told when something waits after nothing did, and when the thread has slept.
    look: Notify,
}

impl Delay {
    /// Begins, unless there is nothing to wait for: a thread, and a task on this runtime.
    pub fn start(time: Duration) -> Option<Self> {
        if time.is_zero() {
            return None;
        }
        let queue = Arc::new(Queue::default());
        let (wake_at, asked) = sync_channel(1);
        let sleeper = queue.clone();
        thread::spawn(move || sleep(&asked, &sleeper.look));
        tokio::spawn(release(queue.clone(), wake_at));
        Some(Self { time, queue })
    }

    /// Waits from now on.
    pub async fn wait(&self) {
        let (over, wait) = oneshot::channel();
        let first = self.queue.push(Instant::now() + self.time, over);
        if first {
            self.queue.look.notify_one();
        }
        let _ = wait.await;
    }
}

impl Queue {
    /// Appends an answer; whether it is the only one.
    fn push(&self, due: Instant, over: oneshot::Sender<()>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((due, over));
        waiting.len() == 1
    }

    /// Lets go what is due; when the next one is.
    fn let_go(&self) -> Option<Instant> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some((_, over)) = waiting.pop_front_if(|(due, _)| *due <= now) {
            let _ = over.send(());
        }
        waiting.front().map(|(due, _)| *due)
    }
}

/// Lets answers go when they are due; never returns.
async fn release(queue: Arc<Queue>, wake_at: SyncSender<Instant>) {
    loop {
        if let Some(due) = queue.let_go() {
            // There is room: this task is woken by the thread, which has taken what it was asked,
            // or by an answer before which nothing waited.
            let _ = wake_at.try_send(due);
        }
        // A word that came meanwhile is kept.
        queue.look.notified().await;
    }
}

fn sleep(asked: &Receiver<Instant>, look: &Notify) {
    while let Ok(due) = asked.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()).max(LEAST_SLEEP));
        look.notify_one();
    }
}
