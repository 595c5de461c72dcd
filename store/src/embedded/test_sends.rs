//! Test sends within the process: a board that who asks pins a request to, and nodes take it from.
//!
//! Nothing of it is in the database: a test send does not outlive who waits for it. Whoever waits
//! holds a [`board::Pinned`], and a request goes with it, however the waiting ends.

pub(super) mod board;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::id::NodeId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::StoreError;
use crate::embedded::engine::executor::Handle;
use crate::embedded::test_sends::board::Request;
use crate::test_send::{self, TakenTest, TestSend, TestSends, Tested, Ticket};

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
