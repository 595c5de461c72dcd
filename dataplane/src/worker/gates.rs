//! Closing and opening lanes in the store: the last word about a lane is the one that holds.
//!
//! One task carries the words out, one after the other. A word that comes while an earlier one of the
//! same lane waits takes its place, so at most one a lane waits.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pregon_core::id::LaneNo;
use pregon_store::Operate;
use pregon_store::StoreError;
use pregon_store::batch::LaneClose;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::RETRY_STORE;

/// What is to become of a lane.
#[derive(Clone, Copy, Debug)]
enum Word {
    Close(LaneClose),
    Open,
}

/// The words about lanes that the store has not heard yet.
pub(super) struct Gates {
    words: Arc<Words>,
    task: AbortHandle,
}

#[derive(Default)]
struct Words {
    waiting: Mutex<BTreeMap<LaneNo, Word>>,
    some: Notify,
}

impl Gates {
    /// Starts the task that carries words out.
    pub(super) fn start(operate: Arc<dyn Operate>) -> Self {
        let words = Arc::new(Words::default());
        let task = tokio::spawn(carry_out(operate, Arc::clone(&words))).abort_handle();
        Self { words, task }
    }

    /// Closes a lane.
    pub(super) fn close(&self, close: LaneClose) {
        self.say(close.lane, Word::Close(close));
    }

    /// Opens a lane.
    pub(super) fn open(&self, lane: LaneNo) {
        self.say(lane, Word::Open);
    }

    fn say(&self, lane: LaneNo, word: Word) {
        self.words.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, word);
        self.words.some.notify_one();
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Words {
    fn next(&self) -> Option<(LaneNo, Word)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}

async fn carry_out(operate: Arc<dyn Operate>, words: Arc<Words>) {
    loop {
        while let Some((lane, word)) = words.next() {
            match word {
                Word::Close(close) => {
                    persist("close a lane", || operate.close_lanes(std::slice::from_ref(&close)))
                        .await;
                }
                Word::Open => {
                    persist("open a lane", || operate.open_lanes(std::slice::from_ref(&lane)))
                        .await;
                }
            }
        }
        words.some.notified().await;
    }
}

/// Repeats a small store call until it is taken, a minute at most: what it would have done is
/// found out again by the next claim of the lane.
pub(super) async fn persist<T, F>(what: &'static str, call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match call().await {
            Ok(value) => return Some(value),
            Err(StoreError::Closed) => return None,
            Err(error) if Instant::now() >= until => {
                tracing::warn!(%error, "could not {what}; the lane's next claim finds out");
                return None;
            }
            Err(_) => tokio::time::sleep(RETRY_STORE).await,
        }
    }
}
