//! What waits: one script a partition, at a cost that does not grow with it.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;

use crate::StoreError;
use crate::backlog::{AGE_LIMITS, AGES, Backlog, BacklogReport, LOOK, by_age};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::Result;
use crate::redis::engine::steps::STEPS;
use crate::redis::handle::Handle;

/// A partition's answer: the moment, events, deliveries, the oldest event's time (-1: none), and
/// deliveries older than each age.
type Answer = (i64, u64, u64, i64, [u64; AGES - 1]);

async fn backlog(engine: &Engine) -> Result<BacklogReport> {
    let none = Timestamp::from_millis(0);
    let mut sum = BacklogReport { events: 0, deliveries: [0; AGES], oldest: None, now: none };
    for partition in &engine.partitions {
        let mut args = Args::default().text(LOOK);
        AGE_LIMITS.iter().for_each(|age| args.push_text(age.as_millis()));
        let (now, events, pending, oldest, older): Answer =
            engine.step(partition, &STEPS.backlog, args).await?;
        sum.events += events;
        for (sum, count) in sum.deliveries.iter_mut().zip(by_age(pending, older)) {
            *sum += count;
        }
        let oldest = (oldest >= 0).then(|| Timestamp::from_millis(oldest));
        sum.oldest = [sum.oldest, oldest].into_iter().flatten().min();
        sum.now = sum.now.max(Timestamp::from_millis(now));
    }
    Ok(sum)
}

#[async_trait]
impl Backlog for Handle {
    async fn backlog(&self) -> std::result::Result<BacklogReport, StoreError> {
        Ok(backlog(&self.engine).await?)
    }
}
