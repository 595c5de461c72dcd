//! What both watches have in common: how many there may be, when they say that they go on, and how
//! they end.
//!
//! A watch is pulled by its reader: nothing is read from the store before the last message went
//! out, so that one who reads slowly holds his own call and a page of messages, and nobody else. It
//! has no deadline; it ends with its server, with its caller's token, or when it fell too far
//! behind.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use pregon_core::error::{Reason, Refusal};
use tokio_util::sync::CancellationToken;

use crate::service::draining;

mod watchers;

pub(crate) use watchers::{Watcher, Watchers};

/// After so long without a message there is a heartbeat: well within the idle times of proxies.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Entries of the log that a watcher may be behind: it would not catch up by reading all of them.
pub(crate) const BEHIND: u64 = 10_000;

/// The messages of a watch.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// What says the next message of a watch.
pub(crate) trait Watch: Send + 'static {
    /// The message.
    type Message: Send;

    /// Waits for the next message; an error ends the watch.
    fn next(&mut self) -> impl Future<Output = Result<Self::Message, Refusal>> + Send;
}

/// A watch as a stream, which ends with an error in any case.
pub(crate) fn stream<W: Watch>(watch: W, drain: CancellationToken) -> Messages<W::Message> {
    Box::pin(try_unfold((watch, drain), |(mut watch, drain)| async move {
        let next = tokio::select! {
            biased;
            () = drain.cancelled() => Err(draining()),
            next = watch.next() => next,
        };
        let message = next.map_err(pregon_rpc::status::status)?;
        Ok(Some((message, (watch, drain))))
    }))
}

/// The refusal of a watch that cannot go on from where it was.
pub(crate) fn expired(why: &str) -> Refusal {
    let text = format!("{why}: list what there is, then watch anew");
    Refusal::new(Reason::ResumeTokenExpired, text)
}
