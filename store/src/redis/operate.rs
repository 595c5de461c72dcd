//! Ending, cancelling, replaying, filling gaps, erasing.

pub(super) mod call_off;
pub(super) mod erase;
mod fill;
pub(super) mod single;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::event::Erasure;
use pregon_core::id::{DeliveryKey, LaneNo, Position, TenantId};
use pregon_core::outcome::EndReason;

use crate::StoreError;
use crate::batch::LaneClose;
use crate::erase::{Erase, ErasePlace, Erased, EventErased, Stripped};
use crate::operate::{
    Cancelled, EventCancelled, Filled, Former, Forwarded, LaneEnd, Missing, Operate, Replay,
    Replayed,
};
use crate::redis::handle::Handle;
use crate::redis::log::books;

#[async_trait]
impl Operate for Handle {
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError> {
        single::cancel(&self.engine, key, reason).await
    }

    async fn cancel_event(&self, position: Position) -> Result<EventCancelled, StoreError> {
        Ok(call_off::cancel(&self.engine, position).await?)
    }

    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError> {
        Ok(single::replay(&self.engine, replays).await?)
    }

    async fn fill(&self, missing: &[Missing], make: bool) -> Result<Vec<Filled>, StoreError> {
        Ok(fill::fill(&self.engine, missing, make).await?)
    }

    async fn bring_forward(&self, keys: &[DeliveryKey]) -> Result<Vec<Forwarded>, StoreError> {
        Ok(single::bring_forward(&self.engine, keys).await?)
    }

    async fn end_lane(&self, end: LaneEnd) -> Result<usize, StoreError> {
        Ok(single::end(&self.engine, &end).await?)
    }

    async fn close_lanes(&self, lanes: &[LaneClose]) -> Result<(), StoreError> {
        Ok(single::close(&self.engine, lanes).await?)
    }

    async fn open_lanes(&self, lanes: &[LaneNo]) -> Result<(), StoreError> {
        Ok(single::open(&self.engine, lanes).await?)
    }

    async fn supersede(&self, tenant: &TenantId) -> Result<Former, StoreError> {
        Ok(books::supersede(&self.engine, tenant).await?)
    }

    async fn erase(&self, what: &Erase, from: ErasePlace) -> Result<Erased, StoreError> {
        Ok(erase::step(&self.engine, what, from).await?)
    }

    async fn erase_event(
        &self,
        position: Position,
        erasure: &Erasure,
    ) -> Result<EventErased, StoreError> {
        Ok(erase::event(&self.engine, position, erasure).await?)
    }

    async fn strip_attempts(&self, position: Position, from: u64) -> Result<Stripped, StoreError> {
        Ok(erase::strip(&self.engine, position, from).await?)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.engine.now().await?)
    }
}
