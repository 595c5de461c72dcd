//! One time limit over all stages of an exchange, with one timer.

use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

/// When the time is up. The timer is set by the first stage that has to wait.
pub(super) struct Deadline<'a>(Pin<&'a mut Sleep>);

impl<'a> Deadline<'a> {
    pub fn new(sleep: Pin<&'a mut Sleep>) -> Self {
        Self(sleep)
    }

    /// What a stage comes to; none if the time is up before. A stage that is over counts, however
    /// late it is.
    pub async fn bound<F: Future>(&mut self, stage: F) -> Option<F::Output> {
        let mut stage = pin!(stage);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = stage.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            // Has no part in tokio's budget: a stage that used it up is late all the same.
            pin!(unconstrained(self.0.as_mut())).poll(cx).map(|()| None)
        })
        .await
    }
}
