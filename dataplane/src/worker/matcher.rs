//! Matching events whose filters take their time, off the loop that keeps leases and starts attempts.
//!
//! One thread of low priority does it, tenant by tenant in turns of [`SLICE`]: a tenant whose filters
//! are costly delays its own events and nobody else's. A turn ends between two filters, and one
//! evaluation has a budget of its own, so a turn is over some ten milliseconds late at worst. Within
//! a turn and an evaluation the thread offers its core to others over and over: where all cores
//! match, whoever is woken would wait for the end of a time slice otherwise.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pregon_core::event::Event;
use pregon_core::expr::{give_way, offer_core};
use pregon_core::id::{LaneNo, NodeId, TenantId};
use tokio::sync::mpsc;

use super::job::Place;
use crate::snapshot::{Matched, Matching, Snapshot};

/// How long one tenant's events are matched before the next tenant has its turn.
const SLICE: Duration = Duration::from_millis(2);
/// How long the thread runs before it offers its core to others.
const STRETCH: Duration = Duration::from_micros(50);
/// Results that wait for the loop.
const RESULTS: usize = 256;
/// Priority of the thread, as `nice` has it: attempts and publishes go before it.
const NICE: i32 = 10;

/// An event to be matched.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) place: Place,
    pub(super) event: Arc<Event>,
    pub(super) snapshot: Arc<Snapshot>,
    /// A large fan-out got this far.
    pub(super) cursor: Option<LaneNo>,
    /// Node after node went down with it as the only suspect in hand.
    pub(super) held_back: bool,
    /// Who had it before and may have sent some of it.
    pub(super) lost_by: Option<NodeId>,
    /// When it was asked.
    pub(super) asked: tokio::time::Instant,
}

/// An event that was matched.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) question: Question,
    /// Which lanes want it; none: matching it panicked.
    pub(super) matched: Option<Matched>,
    /// How long the thread worked on it.
    pub(super) took: Duration,
}

/// The thread, as the loop has it. It ends with its handle, after the turn that it is at.
pub(super) struct Matcher(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    some: Condvar,
}

/// What waits. Its bound is that of the events which the node holds, and of a tenant's among them.
#[derive(Default)]
struct Queues {
    tenants: HashMap<TenantId, VecDeque<Task>>,
    /// Tenants with something that waits, in their turns.
    turns: VecDeque<TenantId>,
    ended: bool,
}

struct Task {
    question: Question,
    matching: Option<Matching>,
    panicked: bool,
    took: Duration,
}

impl Matcher {
    /// Starts the thread; answers come over the channel.
    pub(super) fn start() -> (Self, mpsc::Receiver<Answer>) {
        let shared = Arc::new(Shared::default());
        let (answers, receiver) = mpsc::channel(RESULTS);
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("matcher".to_owned());
        if let Err(error) = thread.spawn(move || its.run(&answers)) {
            // Its events stay in hand until their leases are another node's.
            tracing::error!(%error, "no thread to match events with");
        }
        (Self(shared), receiver)
    }

    /// Asks for an event's lanes.
    pub(super) fn ask(&self, question: Question) {
        let mut queues = self.0.queues();
        let tenant = question.event.tenant.clone();
        let queue = queues.tenants.entry(tenant.clone()).or_default();
        let first = queue.is_empty();
        queue.push_back(Task { question, matching: None, panicked: false, took: Duration::ZERO });
        if first {
            queues.turns.push_back(tenant);
        }
        self.0.some.notify_one();
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        self.0.queues().ended = true;
        self.0.some.notify_one();
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, answers: &mpsc::Sender<Answer>) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "matching has the priority of everything else");
        }
        give_way();
        while let Some((tenant, mut queue)) = self.next_turn() {
            let begun = Instant::now();
            while let Some(mut task) = queue.pop_front() {
                if !task.step(begun) {
                    queue.push_front(task);
                    break;
                }
                // The loop takes answers in whenever it turns; it is gone only with the process.
                if answers.blocking_send(task.answer()).is_err() {
                    return;
                }
                if begun.elapsed() >= SLICE {
                    break;
                }
            }
            self.put_back(tenant, queue);
        }
    }

    /// Waits for the next tenant's turn and takes its events out; none: it is over.
    fn next_turn(&self) -> Option<(TenantId, VecDeque<Task>)> {
        let mut queues = self.queues();
        loop {
            if queues.ended {
                return None;
            }
            if let Some(tenant) = queues.turns.pop_front() {
                let queue = queues.tenants.remove(&tenant).unwrap_or_default();
                return Some((tenant, queue));
            }
            queues = self.some.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is left of a turn waits for the tenant's next, before what came meanwhile.
    fn put_back(&self, tenant: TenantId, mut rest: VecDeque<Task>) {
        let mut queues = self.queues();
        let waiting = queues.tenants.contains_key(&tenant);
        if !waiting && rest.is_empty() {
            return;
        }
        let came = queues.tenants.entry(tenant.clone()).or_default();
        rest.append(came);
        *came = rest;
        if !waiting {
            queues.turns.push_back(tenant);
        }
    }
}

impl Task {
    /// Matches on until the turn that began then is over; whether it came to its end.
    fn step(&mut self, begun: Instant) -> bool {
        let own = Instant::now();
        let Question { event, snapshot, .. } = &self.question;
        let matching = &mut self.matching;
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            if matching.is_none() {
                *matching = snapshot.begin_matching(event);
            }
            let mut stretch = Instant::now();
            let enough = || {
                if stretch.elapsed() >= STRETCH {
                    offer_core();
                    stretch = Instant::now();
                }
                begun.elapsed() >= SLICE
            };
            matching.as_mut().is_none_or(|matching| matching.step(event, enough))
        }));
        self.took += own.elapsed();
        self.panicked = stepped.is_err();
        stepped.unwrap_or(true)
    }

    fn answer(self) -> Answer {
        let found = || self.matching.map(Matching::found).unwrap_or_default();
        let matched = (!self.panicked).then(found);
        Answer { question: self.question, matched, took: self.took }
    }
}
