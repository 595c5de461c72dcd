//! Whose lanes are whose, as far as it is remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pregon_core::id::{LaneNo, SubscriptionName};

/// Lanes that a process remembers; about 100 bytes each. When they are more, it starts afresh.
const REMEMBERED: usize = 100_000;

/// What is remembered of whose lanes are whose.
#[derive(Debug, Default)]
pub(crate) struct LaneNames(Mutex<HashMap<LaneNo, SubscriptionName>>);

impl LaneNames {
    pub(super) fn get(&self, lane: LaneNo) -> Option<SubscriptionName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&lane).cloned()
    }

    pub(super) fn put(&self, lane: LaneNo, name: SubscriptionName) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(lane, name);
    }
}
