//! Turns of those who make RSA keys.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// RSA keys in the making at once: half of a small machine.
const RSA_AT_ONCE: usize = 1;

/// Turns of those who make RSA keys.
#[derive(Clone, Debug)]
pub(crate) struct Making(pub(super) Arc<Semaphore>);

impl Default for Making {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(RSA_AT_ONCE)))
    }
}
