//! Slots of rates through Redis: one script a partition for all that is asked for at once.
//!
//! It may be sent again: what a lost reply handed out lapses.

use std::time::Duration;

use async_trait::async_trait;

use crate::StoreError;
use crate::rate::{AHEAD, ASKS_MAX, RateAsk, RateLease, Rates};
use crate::redis::engine::Engine;
use crate::redis::engine::args::Args;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::partition::Partition;
use crate::redis::engine::steps::STEPS;
use crate::redis::handle::Handle;
use crate::redis::layout::keys::home;
/// How many, µs to the first, µs for which it is no use to ask again.
type Answer = (u32, i64, u64);

#[async_trait]
impl Rates for Handle {
    async fn lease_rates(
        &self,
        asks: &[RateAsk],
    ) -> std::result::Result<Vec<RateLease>, StoreError> {
        let asks = &asks[..asks.len().min(ASKS_MAX)];
        let of = u16::try_from(self.engine.partitions.len()).unwrap_or(u16::MAX);
        let homes: Vec<_> = asks.iter().map(|ask| home(&ask.key.to_string(), of)).collect();
        let steps = self.engine.partitions.iter().map(|partition| {
            let of_it = homes.iter().enumerate().filter(|(_, home)| **home == partition.no);
            let places: Vec<usize> = of_it.map(|(place, _)| place).collect();
            lease(&self.engine, partition, asks, places)
        });
        let mut answers = vec![None; asks.len()];
        for (place, lease) in futures::future::try_join_all(steps).await?.into_iter().flatten() {
            answers[place] = Some(lease);
        }
        let all: Option<Vec<_>> = answers.into_iter().collect();
        Ok(all.ok_or_else(|| bad("leases of rates", "too few"))?)
    }
}

/// Asks a partition for those that lie in it; answers with their places.
async fn lease(
    engine: &Engine,
    partition: &Partition,
    asks: &[RateAsk],
    places: Vec<usize>,
) -> Result<Vec<(usize, RateLease)>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = Args::default().text(AHEAD.as_micros());
    for ask in places.iter().map(|place| &asks[*place]) {
        args.push_text(&ask.key);
        args.push_text(ask.rate.micros());
        args.push_text(ask.rate.burst());
        args.push_text(ask.want);
    }
    let answers: Vec<Answer> = engine.step(partition, &STEPS.rate, args).await?;
    if answers.len() != places.len() {
        return Err(bad("leases of rates", answers.len()));
    }
    let lease =
        |(slots, first, again)| RateLease { slots, first, again: Duration::from_micros(again) };
    Ok(places.into_iter().zip(answers.into_iter().map(lease)).collect())
}
