//! What both watches have in common: how many there may be, when they say that they go on, and how
//! they end.
//!
//! A watch is pulled by its reader: nothing is read from the store before the last message went
//! out, so that one who reads slowly holds his own call and a page of messages, and nobody else. It
//! has no deadline; it ends with its server, with its caller's token, or when it fell too far
//! behind.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use pregon_core::error::{Reason, Refusal};
use pregon_rpc::caller::Caller;
use tokio_util::sync::CancellationToken;

use crate::service::draining;

/// Watches at once on one control plane: each may hold some MB while it reads, and each reads the
/// log for itself.
const WATCHERS: usize = 128;
/// Those of one credential, so that no credential takes all places.
const OF_ONE: usize = 32;
/// After so long without a message there is a heartbeat: well within the idle times of proxies.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Entries of the log that a watcher may be behind: it would not catch up by reading all of them.
pub(crate) const BEHIND: u64 = 10_000;

/// The messages of a watch.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// The places for watches, with how many each caller's name has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<Arc<str>, usize>>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    among: Watchers,
    actor: Arc<str>,
}

impl Watchers {
    /// A place for a caller, for as long as it is held. Where nobody is authenticated, all callers
    /// are one, who may have all places.
    ///
    /// # Errors
    ///
    /// LOAD_SHED, where all are taken, or the caller's share of them.
    pub(crate) fn enter(&self, caller: &Caller) -> Result<Watcher, Refusal> {
        let mut taken = self.taken();
        let actor = caller.actor();
        let (all, own) = (taken.values().sum::<usize>(), taken.get(actor).copied().unwrap_or(0));
        let refused = |text: String| {
            let refusal = Refusal::new(Reason::LoadShed, text);
            Err(refusal.retry_after(Duration::from_secs(10)))
        };
        if all >= WATCHERS {
            return refused(format!("this control plane serves {WATCHERS} watches, all it may"));
        }
        if caller.role().is_some() && own >= OF_ONE {
            return refused(format!("{actor} has {OF_ONE} watches here, all that one caller may"));
        }
        taken.insert(Arc::clone(actor), own + 1);
        Ok(Watcher { among: self.clone(), actor: Arc::clone(actor) })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut taken = self.among.taken();
        if let Some(own) = taken.get_mut(&self.actor) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.actor);
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use pregon_rpc::caller::Role;

    use super::*;

    #[test]
    fn there_are_so_many_places_and_each_comes_free() {
        let (watchers, anyone) = (Watchers::default(), Caller::anyone());
        let mut held: Vec<_> = (0..WATCHERS).map(|_| watchers.enter(&anyone).unwrap()).collect();
        let refused = watchers.enter(&anyone).unwrap_err();
        assert_eq!(refused.reason, Reason::LoadShed);
        held.pop();
        assert!(watchers.enter(&anyone).is_ok());
        drop(held);
        assert!(watchers.taken().is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn no_credential_takes_the_places_of_others() {
        let watchers = Watchers::default();
        let caller = |name| Caller::new(name, Role::Viewer, None);
        let (greedy, modest) = (caller("greedy"), caller("modest"));
        let held: Vec<_> = (0..OF_ONE).map(|_| watchers.enter(&greedy).unwrap()).collect();
        let refused = watchers.enter(&greedy).unwrap_err();
        assert!(refused.message.contains("greedy has 32 watches"), "{}", refused.message);
        let _own = watchers.enter(&modest).unwrap();
        drop(held);
        assert!(watchers.enter(&greedy).is_ok());
    }
}
