//! The board: a request is pinned to it, taken from it, and answered on it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pregon_core::clock::Timestamp;
use tokio::sync::oneshot;

use crate::StoreError;
use crate::test_send::{self, TAKE_TESTS_MAX, TESTS_MAX, TakenTest, TestSend, Ticket};

/// All test sends under way.
#[derive(Default)]
pub(in crate::embedded) struct Board(Mutex<Requests>);

#[derive(Default)]
struct Requests {
    /// Those that nobody took yet, oldest first; one that is not under way any more is passed over.
    waiting: VecDeque<Ticket>,
    under_way: HashMap<Ticket, Request>,
    closed: bool,
}

pub(in crate::embedded) struct Request {
    pub test: TestSend,
    /// Until when it may be taken, and until when it is waited for.
    pub take_by: Timestamp,
    pub until: Timestamp,
    pub taken: bool,
    /// None: it was answered.
    pub reply: Option<oneshot::Sender<Bytes>>,
}

/// A request that somebody waits for.
pub(in crate::embedded) struct Pinned<'a> {
    board: &'a Board,
    ticket: Ticket,
}

impl Board {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::embedded) fn pin(&self, request: Request) -> Result<Pinned<'_>, StoreError> {
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
    pub(in crate::embedded) fn take(&self, now: Timestamp, want: usize) -> (Vec<TakenTest>, bool) {
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

    pub(in crate::embedded) fn settle(&self, ticket: &Ticket, result: Bytes) {
        let mut requests = self.requests();
        let reply = requests.under_way.get_mut(ticket).and_then(|request| request.reply.take());
        if let Some(reply) = reply {
            let _ = reply.send(result); // who waited may have gone just now
        }
    }

    /// Sends everybody who waits away.
    pub(in crate::embedded) fn close(&self) {
        let mut requests = self.requests();
        requests.closed = true;
        requests.under_way.clear();
    }
}

impl Pinned<'_> {
    /// Whether a node took it; if not, none will.
    pub(in crate::embedded) fn withdraw(&self) -> bool {
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
