//! Ending, cancelling, replaying, filling gaps, erasing.

pub(super) mod call_off;
pub(super) mod erase;
mod fill;
pub(super) mod lanes;
pub(super) mod single;

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::event::Erasure;
use pregon_core::id::{DeliveryKey, LaneNo, Position, TenantId};
use pregon_core::outcome::EndReason;

use crate::StoreError;
use crate::batch::LaneClose;
use crate::embedded::engine::Class;
use crate::embedded::engine::executor::Handle;
use crate::embedded::publish::accept;
use crate::erase::{Erase, ErasePlace, Erased, EventErased, Stripped};
use crate::operate::{
    Cancelled, EventCancelled, Filled, Former, Forwarded, LaneEnd, Missing, Operate, Replay,
    Replayed,
};

#[async_trait]
impl Operate for Handle {
    async fn cancel(&self, key: DeliveryKey, reason: EndReason) -> Result<Cancelled, StoreError> {
        self.write(Class::Decide, 1, move |tx| single::cancel(tx, &key, reason)).await
    }

    async fn cancel_event(&self, position: Position) -> Result<EventCancelled, StoreError> {
        self.write(Class::Decide, 1, move |tx| call_off::cancel(tx, position)).await
    }

    async fn replay(&self, replays: &[Replay]) -> Result<Vec<Replayed>, StoreError> {
        let (replays, items) = (replays.to_vec(), replays.len());
        self.write(Class::Accept, items, move |tx| single::replay(tx, &replays)).await
    }

    async fn fill(&self, missing: &[Missing], make: bool) -> Result<Vec<Filled>, StoreError> {
        let asked = missing.to_vec();
        let mut answers = self.read(move |db| fill::look(db, &asked)).await?;
        let (open, free): (Vec<usize>, Vec<Missing>) = answers
            .iter()
            .zip(missing)
            .enumerate()
            .filter(|(_, (answer, _))| make && matches!(answer, Filled::Created(_)))
            .map(|(i, (_, missing))| (i, *missing))
            .unzip();
        if free.is_empty() {
            return Ok(answers);
        }
        let items = free.len();
        let made = self.write(Class::Accept, items, move |tx| fill::make(tx, &free)).await?;
        for (i, made) in open.into_iter().zip(made) {
            answers[i] = made;
        }
        Ok(answers)
    }

    async fn bring_forward(&self, keys: &[DeliveryKey]) -> Result<Vec<Forwarded>, StoreError> {
        let (keys, items) = (keys.to_vec(), keys.len());
        self.write(Class::Decide, items, move |tx| single::bring_forward(tx, &keys)).await
    }

    async fn end_lane(&self, end: LaneEnd) -> Result<usize, StoreError> {
        let items = end.limit;
        self.write(Class::Finish, items, move |tx| lanes::end(tx, &end)).await
    }

    async fn close_lanes(&self, lanes: &[LaneClose]) -> Result<(), StoreError> {
        let lanes = lanes.to_vec();
        self.write(Class::Finish, 1, move |tx| lanes::close(tx, &lanes)).await
    }

    async fn open_lanes(&self, lanes: &[LaneNo]) -> Result<(), StoreError> {
        let lanes = lanes.to_vec();
        self.write(Class::Finish, 1, move |tx| lanes::open(tx, &lanes)).await
    }

    async fn supersede(&self, tenant: &TenantId) -> Result<Former, StoreError> {
        let tenant = tenant.clone();
        self.write(Class::Decide, 1, move |tx| accept::supersede(tx, &tenant)).await
    }

    async fn erase(&self, erase: &Erase, from: ErasePlace) -> Result<Erased, StoreError> {
        let erase = erase.clone();
        self.write(Class::Finish, 1, move |tx| erase::step(tx, &erase, from)).await
    }

    async fn erase_event(
        &self,
        position: Position,
        erasure: &Erasure,
    ) -> Result<EventErased, StoreError> {
        let erasure = erasure.clone();
        self.write(Class::Finish, 1, move |tx| erase::event(tx, position, &erasure)).await
    }

    async fn strip_attempts(&self, position: Position, from: u64) -> Result<Stripped, StoreError> {
        self.write(Class::Finish, 1, move |tx| erase::strip(tx, position, from)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Handle::now(self))
    }
}
