//! Slots of rates, asked for ahead of their time.

use std::sync::Arc;

use pregon_store::rate::RateAsk;
use tokio::time::Instant;

use super::{Calls, Reply};

impl Calls {
    /// Asks for slots of rates; whoever asks has one call under way at a time.
    pub(in crate::worker) fn lease_rates(&mut self, asks: Vec<RateAsk>, now: Instant) {
        if asks.is_empty() {
            return;
        }
        let rates = Arc::clone(&self.rates);
        self.fly(async move {
            let result = rates.lease_rates(&asks).await;
            Reply::Leased { asks, asked: now, result }
        });
    }
}
