//! The places for watches: how many there may be, in all and of one caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pregon_core::error::{Reason, Refusal};
use pregon_rpc::caller::Caller;

/// Watches at once on one control plane: each may hold some MB while it reads, and each reads the
/// log for itself.
const WATCHERS: usize = 128;
/// Those of one credential, so that no credential takes all places.
const OF_ONE: usize = 32;

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
        let actor = caller.share();
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
