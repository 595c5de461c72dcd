//! Test sends within the process: a board that who asks pins a request to, and nodes take it from.
//!
//! Nothing of it is in the database: a test send does not outlive who waits for it. Whoever waits
//! holds a [`Pinned`], and a request goes with it, however the waiting ends.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::id::NodeId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::StoreError;
use crate::embedded::engine::executor::Handle;
use crate::test_send::{
    self, TAKE_TESTS_MAX, TESTS_MAX, TakenTest, TestSend, TestSends, Tested, Ticket,
};

/// All test sends under way.
#[derive(Default)]
pub(super) struct Board(Mutex<Requests>);

#[derive(Default)]
struct Requests {
    /// Those that nobody took yet, oldest first; one that is not under way any more is passed over.
    waiting: VecDeque<Ticket>,
    under_way: HashMap<Ticket, Request>,
    closed: bool,
}

struct Request {
    test: TestSend,
    /// Until when it may be taken, and until when it is waited for.
    take_by: Timestamp,
    until: Timestamp,
    taken: bool,
    /// None: it was answered.
    reply: Option<oneshot::Sender<Bytes>>,
}

/// A request that somebody waits for.
struct Pinned<'a> {
    board: &'a Board,
    ticket: Ticket,
}

impl Board {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pin(&self, request: Request) -> Result<Pinned<'_>, StoreError> {
        let ticket = Ticket::random()?;
        let mut requests = self.requests();
        if requests.closed {
            return Err(StoreError::Closed);
        }
        if requests.under_way.len() >= TESTS_MAX {
            return Err(test_send::too_many());
        }
        requests.waiting.push_back(ticket);
        requests.under_way.insert(ticket, request);
        Ok(Pinned { board: self, ticket })
    }

    /// Takes the oldest, and says whether more wait.
    fn take(&self, now: Timestamp, want: usize) -> (Vec<TakenTest>, bool) {
        let mut requests = self.requests();
        let Requests { waiting, under_way, .. } = &mut *requests;
        let mut taken = Vec::new();
        while taken.len() < want.min(TAKE_TESTS_MAX)
            && let Some(ticket) = waiting.pop_front()
        {
            let Some(request) = under_way.get_mut(&ticket) else { continue };
            if request.take_by <= now {
                continue;
            }
            request.taken = true;
            let waits_for = request.until.since(now);
            taken.push(TakenTest { ticket, test: request.test.clone(), waits_for });
        }
        (taken, !waiting.is_empty())
    }

    fn settle(&self, ticket: &Ticket, result: Bytes) {
        let mut requests = self.requests();
        let reply = requests.under_way.get_mut(ticket).and_then(|request| request.reply.take());
        if let Some(reply) = reply {
            let _ = reply.send(result); // who waited may have gone just now
        }
    }

    /// Sends everybody who waits away.
    pub fn close(&self) {
        let mut requests = self.requests();
        requests.closed = true;
        requests.under_way.clear();
    }
}

impl Pinned<'_> {
    /// Whether a node took it; if not, none will.
    fn withdraw(&self) -> bool {
        let mut requests = self.board.requests();
        let taken = requests.under_way.get(&self.ticket).is_some_and(|request| request.taken);
        if !taken {
            requests.waiting.retain(|ticket| *ticket != self.ticket);
        }
        taken
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        let mut requests = self.board.requests();
        requests.under_way.remove(&self.ticket);
        requests.waiting.retain(|ticket| *ticket != self.ticket);
    }
}

#[async_trait]
impl TestSends for Handle {
    async fn send_test(
        &self,
        test: TestSend,
        take_within: Duration,
        within: Duration,
    ) -> Result<Tested, StoreError> {
        let (take_within, within) = test_send::times(take_within, within);
        let (began, now) = (Instant::now(), self.now());
        let (reply, mut answer) = oneshot::channel();
        let pinned = self.board().pin(Request {
            test,
            take_by: now.plus(take_within),
            until: now.plus(within),
            taken: false,
            reply: Some(reply),
        })?;
        self.bell().notify_one();
        let done = |answer: Result<Bytes, _>| answer.map(Tested::Done).or(Err(StoreError::Closed));
        if let Ok(answer) = timeout_at(began + take_within, &mut answer).await {
            return done(answer);
        }
        if !pinned.withdraw() {
            return Ok(Tested::NotTaken);
        }
        match timeout_at(began + within, answer).await {
            Ok(answer) => done(answer),
            Err(_) => Ok(Tested::NotSettled),
        }
    }

    async fn take_tests(&self, _node: &NodeId, want: usize) -> Result<Vec<TakenTest>, StoreError> {
        let (taken, more) = self.board().take(self.now(), want);
        if more && want > 0 {
            self.bell().notify_one();
        }
        Ok(taken)
    }

    async fn settle_test(&self, ticket: &Ticket, result: Bytes) -> Result<(), StoreError> {
        test_send::check_result(&result)?;
        self.board().settle(ticket, result);
        Ok(())
    }
}
