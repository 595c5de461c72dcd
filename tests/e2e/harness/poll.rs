//! Waiting for a condition, with a bound.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a condition may take to come true: generous, because test machines are noisy, and never
/// waited for in full unless the test fails. Below the minute after which nodes look at a closed
/// lane once more, so that what works only by that is noticed.
pub const BOUND: Duration = Duration::from_secs(45);

/// How often a condition is looked at. Polling is what a user of the API does; there is nothing to
/// be woken by.
const EVERY: Duration = Duration::from_millis(25);

/// Asks until the answer is good, and gives it; panics with the last bad one after [`BOUND`].
pub async fn eventually<T, E, F>(what: &str, ask: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    within(BOUND, what, ask).await
}

/// As [`eventually`], with a bound of the caller's.
pub async fn within<T, E, F>(bound: Duration, what: &str, mut ask: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + bound;
    loop {
        match ask().await {
            Ok(good) => return good,
            Err(bad) if Instant::now() >= deadline => {
                panic!("not within {bound:?}: {what}; at last: {bad:?}")
            }
            Err(_) => sleep(EVERY).await,
        }
    }
}
