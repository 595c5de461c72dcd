//! Rates of the embedded store.

use async_trait::async_trait;

use crate::StoreError;
use crate::embedded::engine::executor::Handle;
use crate::rate::{RateAsk, RateLease, Rates};

#[async_trait]
impl Rates for Handle {
    async fn lease_rates(&self, asks: &[RateAsk]) -> Result<Vec<RateLease>, StoreError> {
        Ok(self.slots().lease(asks, self.now()))
    }
}
