//! Where callers get the next event to publish from, and when it is due.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::LoadArgs;
use crate::clock::Moment;

/// Events that may be due and not yet taken by a caller, before the pacing thread waits: 16 bytes
/// each. They keep the moment at which they were due, so waiting hides nothing.
const BACKLOG: usize = 65_536;

/// An event to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its number.
    pub sequence: u64,
    /// The moment from which its latency counts.
    pub due: Moment,
    /// How often it was tried.
    pub tries: u32,
}

/// Hands out the events of one run.
#[derive(Debug)]
pub enum Source {
    /// As fast as callers ask for them.
    Flat {
        /// Number of the next one.
        next: AtomicU64,
        /// Where the numbers end.
        end: u64,
        /// When it is over.
        until: Moment,
    },
    /// When they are due.
    Paced(Mutex<mpsc::Receiver<Work>>),
}

impl Source {
    /// The source for a run from `start` until `until`.
    pub fn start(args: &LoadArgs, start: Moment, until: Moment) -> Self {
        let Some(rate) = args.rate else {
            let next = AtomicU64::new(args.first);
            return Self::Flat { next, end: args.first + args.events, until };
        };
        let (due, receiver) = mpsc::channel(BACKLOG);
        let (first, events) = (args.first, args.events);
        // A thread of its own: the timer of the runtime is a millisecond coarse.
        thread::spawn(move || {
            for number in 0..events {
                let at = start.plus(Duration::from_nanos(
                    number.saturating_mul(1_000_000_000) / u64::from(rate),
                ));
                if at >= until {
                    return;
                }
                thread::sleep(at.since(Moment::now()));
                let work = Work { sequence: first + number, due: at, tries: 0 };
                if due.blocking_send(work).is_err() {
                    return;
                }
            }
        });
        Self::Paced(Mutex::new(receiver))
    }

    /// The next event, when it is due; nothing when the run is over. May be dropped at any time
    /// without losing an event.
    pub async fn next(&self) -> Option<Work> {
        match self {
            Self::Flat { next, end, until } => {
                let due = Moment::now();
                let sequence = (due < *until).then(|| next.fetch_add(1, Relaxed))?;
                (sequence < *end).then_some(Work { sequence, due, tries: 0 })
            }
            Self::Paced(receiver) => receiver.lock().await.recv().await,
        }
    }

    /// Up to `most` further events; fewer only when the run is over.
    pub async fn batch(&self, most: u64) -> Vec<Work> {
        let mut batch = Vec::new();
        match self {
            Self::Flat { next, end, until } => {
                let due = Moment::now();
                if due < *until {
                    let from = next.fetch_add(most, Relaxed);
                    let work = |sequence| Work { sequence, due, tries: 0 };
                    batch.extend((from..(from + most).min(*end)).map(work));
                }
            }
            Self::Paced(receiver) => {
                let most = usize::try_from(most).unwrap_or(1);
                let mut receiver = receiver.lock().await;
                while batch.len() < most && receiver.recv_many(&mut batch, most).await > 0 {}
                drop(receiver);
            }
        }
        batch
    }
}
