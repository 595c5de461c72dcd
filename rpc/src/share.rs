//! Shares: what one caller's name may have of what all callers have together.
//!
//! A name has calls under way, room for answers and requests, and connections of its own, all out of what
//! everybody shares, so that one credential cannot use up what others need. Where nobody is
//! authenticated all callers are one, and there is nothing to share out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::caller::{Caller, Role};
use crate::unsent::{Room, Rooms};

/// Of everything, the part of one name.
const PART: usize = 4;
/// The part that one publisher's name may have: many processes may publish under one.
const PART_PUBLISHING: usize = 2;
/// Names, with their roles, that are remembered at once: twice as many as a tokens file has. Those
/// that have nothing under way are forgotten first.
const NAMES: usize = 8192;

/// Who has how much.
#[derive(Debug)]
pub(crate) struct Shares {
    calls: usize,
    unsent: usize,
    arriving: usize,
    names: Mutex<HashMap<(Arc<str>, Role), Share>>,
}

/// What one name has.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    calls: Arc<Semaphore>,
    calls_max: usize,
    /// Of everything it may have one part in so many.
    pub(crate) part: usize,
    /// Room for its answers.
    pub(crate) rooms: Rooms,
    /// Room for its requests.
    pub(crate) arriving: Room,
}

impl Shares {
    /// Shares of so many calls, bytes of answers and bytes of requests.
    pub(crate) fn new(calls: usize, unsent: usize, arriving: usize) -> Self {
        Self { calls, unsent, arriving, names: Mutex::default() }
    }

    /// The share of a caller; none where nobody is authenticated.
    pub(crate) fn of(&self, caller: &Caller) -> Option<Share> {
        let role = caller.role()?;
        let part = match role {
            Role::Publisher => PART_PUBLISHING,
            Role::Admin | Role::Operator | Role::TenantManager | Role::Viewer | Role::Auditor => {
                PART
            }
        };
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(caller.actor()), role);
        if let Some(share) = names.get(&key) {
            return Some(share.clone());
        }
        if names.len() >= NAMES {
            names.retain(|_, share| share.is_used());
        }
        let calls_max = self.calls.div_ceil(part);
        let share = Share {
            calls: Arc::new(Semaphore::new(calls_max)),
            calls_max,
            part,
            rooms: Rooms::new(self.unsent / part),
            arriving: Room::new(self.arriving / part),
        };
        names.insert(key, share.clone());
        Some(share)
    }
}

impl Share {
    /// One more call under way, or how many there are, which is as many as there may be.
    pub(crate) fn call(&self) -> Result<OwnedSemaphorePermit, usize> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| self.calls_max)
    }

    fn is_used(&self) -> bool {
        // Whoever holds a permit holds the semaphore.
        Arc::strong_count(&self.calls) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_part_and_leaves_the_rest() {
        let shares = Shares::new(16, 1 << 20, 1 << 20);
        let of = |name: &str, role| shares.of(&Caller::new(name, role, None)).unwrap();
        let viewer = of("viewer", Role::Viewer);
        let held: Vec<_> = (0..4).map(|_| viewer.call().unwrap()).collect();
        assert_eq!(of("viewer", Role::Viewer).call().unwrap_err(), 4);
        assert!(of("shop", Role::Publisher).call().is_ok());
        drop(held);
        assert!(viewer.call().is_ok());
        assert!(shares.of(&Caller::anyone()).is_none());
    }

    #[test]
    fn names_with_nothing_under_way_are_forgotten() {
        let shares = Shares::new(16, 1 << 20, 1 << 20);
        let caller = |n: usize| Caller::new(&n.to_string(), Role::Viewer, None);
        let kept = shares.of(&caller(0)).unwrap().call().unwrap();
        for n in 1..=NAMES {
            shares.of(&caller(n));
        }
        let names = shares.names.lock().unwrap();
        assert!(
            names.len() <= 2 && names.keys().any(|(name, _)| **name == *"0"),
            "{}",
            names.len()
        );
        drop(kept);
    }
}
