//! What goes wrong in a store, and what its caller is told.

use std::time::Duration;

use pregon_core::error::{Reason, Refusal};

/// A store that did not do what it was asked. Whether it took effect is unknown only where the
/// variant says so; every write of this crate can be repeated as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or not in time. A write may or may not have taken effect.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It has no room for more; nothing was written.
    #[error("the store has no room: {0}")]
    Full(String),
    /// It is closing down; nothing was written.
    #[error("the store is closed")]
    Closed,
    /// It no longer holds what it held: it was emptied, or another was put in its place. Never to
    /// be taken for a store with nothing in it; nothing was written.
    #[error("the store was emptied: {0}")]
    Emptied(String),
    /// It holds something that cannot be read.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let wait = Duration::from_secs(1);
        match &error {
            StoreError::Unavailable(_) | StoreError::Emptied(_) => {
                Refusal::new(Reason::StoreUnavailable, error.to_string()).retry_after(wait)
            }
            StoreError::Full(_) => {
                Refusal::new(Reason::StoreFull, error.to_string()).retry_after(10 * wait)
            }
            StoreError::Closed => {
                Refusal::new(Reason::Draining, error.to_string()).retry_after(wait)
            }
            StoreError::Corrupt(_) => Refusal::new(Reason::Internal, error.to_string()),
        }
    }
}
