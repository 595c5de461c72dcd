//! Batches that fill by themselves.
//!
//! Callers put events into a queue and wait for their own answer. A few pipelines take what is
//! there, up to a batch, and make one call to the store of it; while it is under way, the next
//! batch gathers. So an idle node stores an event at once, in a call of its own, and a busy one
//! stores many with each; nothing waits for a batch to fill. A store whose disk is synced once a
//! second confirms many calls with one sync, so there a call that waits for it makes room for the
//! next.
//!
//! What waits is bounded in memory. An event whose caller gave up before it was sent to the store
//! is not sent at all, and a call is given up when all its callers have.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pregon_core::error::{Reason, Refusal};
use pregon_core::event::NewEvent;
use pregon_store::intake::Published;
use pregon_store::work::BATCH_MAX;
use pregon_store::{Intake, StoreError};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// A store that may take longer than this to answer waits for a disk that is synced once a second.
const PROMPT: Duration = Duration::from_secs(2);
/// After how long a call to such a store makes room for the next.
const NEXT_AFTER: Duration = Duration::from_millis(20);
/// A call that takes longer makes room for the next; its callers are gone by then.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// Calls under way at once: while the store works on one, the other is made ready.
const PIPELINES: usize = 2;
/// Data in one call, unless one event alone has more.
const BATCH_BYTES: usize = 1024 * 1024;
/// What may wait, in units of a KiB and one for each event: as many small events as a node stores
/// within the time that callers wait, and 64 MiB at most.
const ROOM: u32 = 64 * 1024;
/// When to come back to a node that has no room: by then most of what waited is stored.
const SHED_WAIT: Duration = Duration::from_secs(1);

/// Puts events into the store's queue. Clones share the pipelines, which end with the last clone.
#[derive(Clone)]
pub struct Publisher {
    intake: Arc<dyn Intake>,
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    /// How long a caller waits for the store's answer.
    answers_within: Duration,
}

/// An event on its way to the store.
struct Waiting {
    event: NewEvent,
    cost: u32,
    reply: oneshot::Sender<Result<Published, StoreError>>,
}

/// The claim on an event's answer.
#[derive(Debug)]
pub(super) struct Ticket {
    reply: oneshot::Receiver<Result<Published, StoreError>>,
    deadline: Instant,
}

/// Where the pipelines take from, one at a time.
struct Arrivals {
    receiver: mpsc::Receiver<Waiting>,
    /// What did not fit into the last batch, last first.
    rest: Vec<Waiting>,
}

impl Publisher {
    /// Starts the pipelines into the store on the present runtime.
    pub fn start(intake: Arc<dyn Intake>) -> Self {
        // Every event takes a unit of room at least, so the channel is never full.
        let (sender, receiver) = mpsc::channel(ROOM as usize);
        let arrivals = Arc::new(Mutex::new(Arrivals { receiver, rest: Vec::new() }));
        let room = Arc::new(Semaphore::new(ROOM as usize));
        for _ in 0..PIPELINES {
            tokio::spawn(pipeline(Arc::clone(&arrivals), Arc::clone(&intake), Arc::clone(&room)));
        }
        let answers_within = intake.answers_within();
        Self { intake, sender, room, answers_within }
    }

    /// Stores one event, together with whatever others there are.
    ///
    /// # Errors
    ///
    /// LOAD_SHED when too much waits; STORE_UNAVAILABLE when the outcome is not known in the time
    /// that the store says; what the store says.
    pub async fn publish(&self, event: NewEvent) -> Result<Published, Refusal> {
        self.enqueue(event)?.answer().await
    }

    /// Puts an event into the queue, unless that is full.
    pub(super) fn enqueue(&self, event: NewEvent) -> Result<Ticket, Refusal> {
        let cost = cost(&event);
        self.room.try_acquire_many(cost).map_err(|_| shed())?.forget();
        self.send(event, cost)
    }

    /// Puts an event into the queue as soon as there is room.
    pub(super) async fn enqueue_in_turn(&self, event: NewEvent) -> Result<Ticket, Refusal> {
        let cost = cost(&event);
        match timeout(self.answers_within, self.room.acquire_many(cost)).await {
            Ok(Ok(permit)) => permit.forget(),
            Ok(Err(_)) | Err(_) => return Err(shed()),
        }
        self.send(event, cost)
    }

    fn send(&self, event: NewEvent, cost: u32) -> Result<Ticket, Refusal> {
        let (reply, answer) = oneshot::channel();
        match self.sender.try_send(Waiting { event, cost, reply }) {
            Ok(()) => Ok(Ticket { reply: answer, deadline: Instant::now() + self.answers_within }),
            Err(_) => {
                self.room.add_permits(cost as usize);
                Err(shed())
            }
        }
    }

    /// Stores events in as few calls as they need, all under way at once; answers in order.
    ///
    /// # Errors
    ///
    /// LOAD_SHED when too much waits, and then nothing was stored.
    pub(super) async fn publish_all(
        &self,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Result<Published, Refusal>>, Refusal> {
        let cost = events.iter().map(cost).fold(0, u32::saturating_add);
        let _room = self.room.try_acquire_many(cost).map_err(|_| shed())?;
        let calls = slices(events).into_iter().map(|slice| async {
            let count = slice.len();
            match timeout(self.answers_within, store(&*self.intake, slice)).await {
                Ok(Ok(answers)) => answers.into_iter().map(Ok).collect(),
                Ok(Err(error)) => vec![Err(said(error)); count],
                Err(_) => vec![Err(unanswered()); count],
            }
        });
        Ok(join_all(calls).await.concat())
    }

    /// Units of room that are free.
    #[cfg(test)]
    pub(super) fn room_left(&self) -> usize {
        self.room.available_permits()
    }

    /// The store behind it.
    pub(super) fn intake(&self) -> &dyn Intake {
        &*self.intake
    }
}

impl Ticket {
    /// Waits for the answer.
    pub(super) async fn answer(self) -> Result<Published, Refusal> {
        match timeout_at(self.deadline, self.reply).await {
            Ok(Ok(answer)) => answer.map_err(said),
            Ok(Err(_)) | Err(_) => Err(unanswered()),
        }
    }

    /// The answer, if there is one already.
    pub(super) fn poll(&mut self) -> Option<Result<Published, Refusal>> {
        match self.reply.try_recv() {
            Ok(answer) => Some(answer.map_err(said)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(unanswered())),
        }
    }
}

impl Arrivals {
    /// The next batch, as soon as there is an event; none when no more can come.
    async fn gather(&mut self) -> Option<Vec<Waiting>> {
        if self.rest.is_empty() {
            let mut batch = Vec::new();
            if self.receiver.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return None;
            }
            // Calls that are ready to publish just now come with it.
            tokio::task::yield_now().await;
            while batch.len() < BATCH_MAX
                && let Ok(next) = self.receiver.try_recv()
            {
                batch.push(next);
            }
            batch.reverse();
            self.rest = batch;
        }
        let (mut batch, mut bytes) = (Vec::with_capacity(self.rest.len()), 0);
        while let Some(next) = self.rest.pop() {
            bytes += next.event.size();
            if bytes > BATCH_BYTES && !batch.is_empty() {
                self.rest.push(next);
                break;
            }
            batch.push(next);
        }
        Some(batch)
    }
}

async fn pipeline(arrivals: Arc<Mutex<Arrivals>>, intake: Arc<dyn Intake>, room: Arc<Semaphore>) {
    loop {
        let gathered = arrivals.lock().await.gather().await;
        let Some(batch) = gathered else { return };
        let cost: usize = batch.iter().map(|waiting| waiting.cost as usize).sum();
        if intake.answers_within() <= PROMPT {
            flush(&*intake, batch).await;
            room.add_permits(cost);
            continue;
        }
        let (intake, room) = (Arc::clone(&intake), Arc::clone(&room));
        let under_way = tokio::spawn(async move {
            flush(&*intake, batch).await;
            room.add_permits(cost);
        });
        // It goes on by itself.
        let _ = timeout(NEXT_AFTER, under_way).await;
    }
}

/// One call, and the answers to all who wait for it.
async fn flush(intake: &dyn Intake, batch: Vec<Waiting>) {
    let waiting = batch.into_iter().filter(|waiting| !waiting.reply.is_closed());
    let (events, mut replies): (Vec<_>, Vec<_>) =
        waiting.map(|waiting| (waiting.event, waiting.reply)).unzip();
    if events.is_empty() {
        return;
    }
    let stored = tokio::select! {
        stored = timeout(CALL_WITHIN, store(intake, events)) => stored,
        _ = join_all(replies.iter_mut().map(oneshot::Sender::closed)) => return,
    };
    // Whoever gave up meanwhile needs no answer: a failed send is nothing.
    match stored {
        Ok(Ok(answers)) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answer));
            }
        }
        Ok(Err(error)) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        Err(_) => {}
    }
}

async fn store(intake: &dyn Intake, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
    let count = events.len();
    let answers = intake.publish(events).await?;
    if answers.len() == count {
        Ok(answers)
    } else {
        Err(StoreError::Corrupt(format!("{} answers to {count} events", answers.len())))
    }
}

/// Cuts events into what one call may take.
fn slices(events: Vec<NewEvent>) -> Vec<Vec<NewEvent>> {
    let mut slices: Vec<Vec<NewEvent>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        bytes += event.size();
        match slices.last_mut() {
            Some(slice) if slice.len() < BATCH_MAX && bytes <= BATCH_BYTES => slice.push(event),
            _ => {
                bytes = event.size();
                slices.push(vec![event]);
            }
        }
    }
    slices
}

fn cost(event: &NewEvent) -> u32 {
    1 + u32::try_from(event.size() / 1024).unwrap_or(ROOM)
}

fn shed() -> Refusal {
    let text = "too many events wait to be stored; none of this call was";
    Refusal::new(Reason::LoadShed, text).retry_after(SHED_WAIT)
}

fn unanswered() -> Refusal {
    said(StoreError::Unavailable("no answer in time".into()))
}

/// What a store's error means for a publish.
fn said(error: StoreError) -> Refusal {
    let unknown = matches!(error, StoreError::Unavailable(_));
    let mut refusal = Refusal::from(error);
    if unknown {
        refusal.message.push_str("; the outcome is unknown: repeat with the same id");
    }
    refusal
}
